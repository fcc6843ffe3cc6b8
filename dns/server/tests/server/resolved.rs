//! systemd-resolved, without a systemd that starts it: in a mount namespace of its own, since its package and it itself would take
//! over how this host resolves names. `DUNLIN_RESOLVED` names a folder into which the packages `systemd-resolved` and
//! `libsystemd-shared` were unpacked; else the program of this host is taken, if it is there.

use std::path::PathBuf;

use dunlin_names::NameChange;
use dunlin_test_host::left_out;

use crate::clients::{Daemon, Folder, PORT, block, has, run, until};
use crate::wire::*;

/// The program, and where its library lies if that is not of this host.
fn program() -> Option<(PathBuf, String)> {
    let folder = std::env::var_os("DUNLIN_RESOLVED").map(PathBuf::from);
    let root = folder.clone().unwrap_or_else(|| PathBuf::from("/"));
    let file = ["lib", "usr/lib"].map(|lib| root.join(lib).join("systemd/systemd-resolved"));
    let file = file.into_iter().find(|file| file.is_file())?;
    let libraries = folder.and_then(|folder| {
        let found = std::fs::read_dir(folder.join("usr/lib")).ok()?.flatten();
        found.map(|entry| entry.path().join("systemd")).find(|path| path.is_dir())
    });
    let libraries = libraries.map_or_else(String::new, |path| path.display().to_string());
    Some((file, libraries))
}

#[tokio::test]
async fn systemd_resolved_passes_the_zone_on_and_follows() {
    let test = "systemd_resolved_passes_the_zone_on_and_follows";
    if !has(test, "dig") || !has(test, "unshare") {
        return;
    }
    let Some((program, libraries)) = program() else {
        return left_out(test, "no systemd-resolved here, and DUNLIN_RESOLVED names none");
    };
    if !run("id", &["-u"]).await.starts_with("0\n") {
        return left_out(test, "a mount namespace needs root");
    }
    let (server, at) = server().await;
    let folder = Folder::new("resolved");
    let own = format!("127.{}.53.3", std::process::id() % 200 + 10);
    let page = include_str!("../../../../docs/src/howto/dns/systemd-resolved.md");
    let shown = folder.write("dunlin.conf", &block(page, "ini", &[(PORT, &at.port().to_string())]));
    let stub = format!("[Resolve]\nDNSStubListener=no\nDNSStubListenerExtra={own}\nLLMNR=no\nMulticastDNS=no\n");
    let stub = folder.write("stub.conf", &stub);
    let (script, passwd) = (folder.write("start", ""), folder.write("passwd", ""));
    // It wants a user of its own, and a folder to write to.
    let text = format!(
        "set -e\nmount -t tmpfs tmpfs /run\nmkdir -p /run/systemd/resolve /run/systemd/resolved.conf.d\n\
         cp {shown} {stub} /run/systemd/resolved.conf.d/\n\
         (grep -v '^systemd-resolve:' /etc/passwd; echo systemd-resolve:x:0:0::/:/bin/false) > {passwd}\n\
         mount --bind {passwd} /etc/passwd\nexport LD_LIBRARY_PATH={libraries}\nexec {}\n",
        program.display()
    );
    assert_eq!(folder.write("start", &text), script);
    let _resolved = Daemon::start("unshare", &["--mount", "sh", &script]);
    let server_word = format!("@{own}");
    let ask = async || {
        let script = format!("dig {server_word} +short +tries=1 +time=2 {WEB} A | sort || true");
        run("sh", &["-c", &script]).await
    };
    until("systemd-resolved", ask, |seen| seen == "10.0.0.1\n10.0.0.2\n").await;
    server.apply(&[NameChange::Service { service: service(), instances: instances(3).split_off(1) }]);
    until("systemd-resolved", ask, |seen| seen == "10.0.0.2\n10.0.0.3\n").await;
}
