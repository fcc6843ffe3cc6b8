//! Programs that spread requests, or scrape, over what names lead to: each follows when an instance goes.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use dunlin_dns::DnsServer;
use dunlin_names::{Instance, NameChange};
use dunlin_test_host::left_out;

use crate::clients::{Daemon, Folder, PORT, block, free_port, has, run, until};
use crate::wire::*;

/// What a server at this address says to an HTTP request; empty if it does not.
fn get(at: &str, path: &str) -> String {
    let asked = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(at)?;
        stream.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    asked().unwrap_or_default()
}

/// Two HTTP servers on one port of two addresses of this host; each says its address.
fn backends() -> (u16, [String; 2]) {
    let net = std::process::id() % 200 + 10;
    let addresses = [1, 2].map(|n| format!("127.{net}.80.{n}"));
    let (port, listeners) = loop {
        let port = free_port();
        let listeners: Result<Vec<_>, _> = addresses.iter().map(|ip| TcpListener::bind((ip.as_str(), port))).collect();
        if let Ok(listeners) = listeners {
            break (port, listeners);
        }
    };
    for (listener, ip) in listeners.into_iter().zip(addresses.clone()) {
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut line = String::new();
                let _asked = BufReader::new(&stream).read_line(&mut line);
                let _gone = write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{ip}", ip.len());
            }
        });
    }
    (port, addresses)
}

#[tokio::test]
async fn haproxy_fills_a_backend_from_srv_and_follows() {
    let test = "haproxy_fills_a_backend_from_srv_and_follows";
    if !has(test, "haproxy") {
        return;
    }
    let (server, at) = server().await;
    let folder = Folder::new("haproxy");
    let socket = folder.0.join("stats.sock");
    let page = include_str!("../../../../docs/src/howto/dns/haproxy.md");
    let config = format!(
        "global\n  stats socket {} mode 600\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\n\
         frontend in\n  bind 127.0.0.1:{}\n  default_backend web\n{}",
        socket.display(),
        free_port(),
        block(page, "text", &[(PORT, &at.port().to_string())])
    );
    let _haproxy = Daemon::start("haproxy", &["-db", "-f", &folder.write("haproxy.cfg", &config)]);
    let look = async || {
        let Ok(mut stream) = UnixStream::connect(&socket) else { return String::new() };
        let mut text = String::new();
        let asked = stream.write_all(b"show servers state web\n").and_then(|()| stream.read_to_string(&mut text));
        if asked.is_err() {
            return String::new();
        }
        let mut found = String::new();
        for line in text.lines() {
            // Name, address and port of each server (columns 4, 5 and 19 of version 1).
            let words: Vec<&str> = line.split_whitespace().collect();
            if let [_, _, _, _, address, ..] = words[..]
                && address.starts_with("10.")
            {
                let _infallible = write!(found, "{address}:{} ", words.get(18).unwrap_or(&""));
            }
        }
        found
    };
    until("haproxy", look, |seen| seen.contains("10.0.0.1:8001") && seen.contains("10.0.0.2:8002")).await;
    server.apply(&[NameChange::Service { service: service(), instances: instances(3).split_off(1) }]);
    until("haproxy", look, |seen| seen.contains("10.0.0.3:8003") && !seen.contains("10.0.0.1:")).await;
}

#[tokio::test]
async fn nginx_asks_again_and_follows() {
    let test = "nginx_asks_again_and_follows";
    if !has(test, "nginx") {
        return;
    }
    let (server, at) = server().await;
    let (port, addresses) = backends();
    let place = |mut instance: Instance, ip: &str| {
        instance.address = ip.parse::<IpAddr>().unwrap();
        instance
    };
    let two: Vec<Instance> = instances(2).into_iter().zip(&addresses).map(|(i, ip)| place(i, ip)).collect();
    server.apply(&[NameChange::Service { service: service(), instances: two.clone() }]);
    let (folder, listen) = (Folder::new("nginx"), free_port());
    let f = folder.0.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = temporary.iter().map(|what| format!("  {what}_temp_path {f}/{what};\n")).collect();
    let page = include_str!("../../../../docs/src/howto/dns/nginx.md");
    let (own, there) = (format!("listen 127.0.0.1:{listen}"), format!(":{port}"));
    let shown = block(page, "nginx", &[(PORT, &at.port().to_string()), ("listen 8000", &own), (":8080", &there)]);
    let config = format!(
        "daemon off;\nmaster_process off;\npid {f}/pid;\nerror_log {f}/error.log;\nevents {{}}\nhttp {{\n  access_log off;\n{temporary}{shown}}}\n"
    );
    let _nginx = Daemon::start("nginx", &["-e", &format!("{f}/error.log"), "-c", &folder.write("nginx.conf", &config)]);
    let look = async || {
        let pages: Vec<String> = (0..12).map(|_| get(&format!("127.0.0.1:{listen}"), "/")).collect();
        pages.concat()
    };
    until("nginx", look, |seen| addresses.iter().all(|ip| seen.contains(ip.as_str()))).await;
    server.apply(&[NameChange::Service { service: service(), instances: two[1..].to_vec() }]);
    until("nginx", look, |seen| seen.contains(&addresses[1]) && !seen.contains(&addresses[0])).await;
}

/// The targets that a Prometheus has found.
fn targets(listen: u16) -> String {
    let page = get(&format!("127.0.0.1:{listen}"), "/api/v1/targets?state=active");
    let found = page.split("\"__address__\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    found.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn prometheus_finds_its_targets_and_follows() {
    let test = "prometheus_finds_its_targets_and_follows";
    if !has(test, "prometheus") || !has(test, "unshare") {
        return;
    }
    // It reads resolv.conf, which has no ports: port 53 of an address of this host that nobody else has.
    let address = format!("127.{}.53.2", std::process::id() % 200 + 10);
    let mut config = config();
    config.listen = vec![format!("{address}:53").parse().unwrap()];
    let Ok(server) = DnsServer::start(config) else {
        return left_out(test, "port 53 cannot be opened: not root?");
    };
    server.apply(&[NameChange::Service { service: service(), instances: instances(2) }]);
    let (folder, listen) = (Folder::new("prometheus"), free_port());
    let resolv = folder.write("resolv.conf", &format!("nameserver {address}\n"));
    let page = include_str!("../../../../docs/src/howto/dns/prometheus.md");
    let config = folder.write("prometheus.yml", &block(page, "yaml", &[]));
    let data = folder.0.join("data");
    let bind = format!("mount --bind {resolv} /etc/resolv.conf");
    let tried = run("sh", &["-c", &format!("unshare --mount sh -c '{bind}' && echo yes || true")]).await;
    if tried.trim() != "yes" {
        return left_out(test, "no mount namespace can be made");
    }
    let start = format!(
        "{bind} && exec prometheus --config.file={config} --storage.tsdb.path={} --web.listen-address=127.0.0.1:{listen}",
        data.display()
    );
    let _prometheus = Daemon::start("unshare", &["--mount", "sh", "-c", &start]);
    let look = async || tokio::task::spawn_blocking(move || targets(listen)).await.unwrap();
    until("prometheus", look, |seen| seen.contains("1.web.shop.dunlin.internal:8001") && seen.contains(":8002")).await;
    server.apply(&[NameChange::Service { service: service(), instances: instances(3).split_off(1) }]);
    until("prometheus", look, |seen| seen.contains(":8003") && !seen.contains(":8001")).await;
}
