//! A registry with one image, as much of the distribution API as an engine's pull needs.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use dunlin_test_host::engine::busybox_tree;

/// It serves until the test program ends.
pub(crate) struct Registry {
    pub(crate) address: SocketAddr,
}

type Blobs = BTreeMap<String, (&'static str, Vec<u8>)>;

fn digest(bytes: &[u8]) -> String {
    use std::process::{Command, Stdio};
    let mut sum = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    sum.stdin.take().unwrap().write_all(bytes).unwrap();
    let said = sum.wait_with_output().unwrap();
    format!("sha256:{}", String::from_utf8_lossy(&said.stdout).split(' ').next().unwrap())
}

/// Every blob by its digest, and the manifest by its own as well as by its tag.
fn blobs() -> Blobs {
    const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    let layer = busybox_tree().expect("an image was made of it");
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    });
    let config = config.to_string().into_bytes();
    let part = |kind: &str, bytes: &[u8]| {
        serde_json::json!({
            "mediaType": format!("application/vnd.docker.{kind}"), "size": bytes.len(), "digest": digest(bytes),
        })
    };
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": part("container.image.v1+json", &config),
        "layers": [part("image.rootfs.diff.tar", &layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    let any = "application/octet-stream";
    BTreeMap::from([
        (digest(&layer), (any, layer)),
        (digest(&config), (any, config)),
        ("1".to_owned(), (MANIFEST, manifest.clone())),
        (digest(&manifest), (MANIFEST, manifest)),
    ])
}

impl Registry {
    pub(crate) fn serve() -> Self {
        let blobs = Arc::new(blobs());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let blobs = Arc::clone(&blobs);
                std::thread::spawn(move || answer(stream, &blobs));
            }
        });
        Self { address }
    }
}

/// One request a connection.
fn answer(mut stream: TcpStream, blobs: &Blobs) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let empty: (&str, Vec<u8>) = ("application/json", b"{}".to_vec());
    let name = path.rsplit('/').next().unwrap_or_default();
    let (status, (kind, body)) = match blobs.get(name) {
        _ if path == "/v2/" => ("200 OK", &empty),
        Some(found) => ("200 OK", found),
        None => ("404 Not Found", &empty),
    };
    let digest = if name.starts_with("sha256:") { name.to_owned() } else { digest(body) };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nDocker-Content-Digest: {digest}\r\n\
         Docker-Distribution-Api-Version: registry/2.0\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    if method == "HEAD" { Ok(()) } else { stream.write_all(body) }
}
