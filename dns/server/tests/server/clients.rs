//! Real clients, each with the configuration that its how-to page shows. One that is not installed is left out, and says so.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dunlin_names::NameChange;
use dunlin_test_host::left_out;
use dunlin_test_host::wait::until_async;

use crate::wire::*;

/// True if a program is there; else the test is noted as left out.
pub(crate) fn has(test: &str, program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    let places = path.split(':').chain(["/usr/sbin", "/sbin"]);
    let there = places.map(|place| Path::new(place).join(program)).any(|file| file.is_file());
    if !there {
        left_out(test, &format!("no {program} here"));
    }
    there
}

/// Runs a command to its end, off the test's runtime, and gives what it printed.
pub(crate) async fn run(program: &str, args: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// A server of another program; killed when dropped.
pub(crate) struct Daemon(Child);

impl Daemon {
    pub(crate) fn start(program: &str, args: &[&str]) -> Self {
        let child =
            Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(child.expect("it starts"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _waited = self.0.wait();
    }
}

/// A directory of its own for one test; removed when dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("dunlin-dns-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let file = self.0.join(name);
        std::fs::write(&file, text).expect("a file");
        file.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

/// A port that nobody has now.
pub(crate) fn free_port() -> u16 {
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn port(at: SocketAddr) -> String {
    at.port().to_string()
}

fn lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect();
    lines.sort();
    lines
}

/// Asks again until an answer holds what is expected.
pub(crate) async fn until(what: &str, mut look: impl AsyncFnMut() -> String, fits: impl Fn(&str) -> bool) {
    let probe = async || {
        let seen = look().await;
        if fits(&seen) { Ok(()) } else { Err(seen) }
    };
    until_async(what, Duration::from_secs(30), probe).await;
}

/// The first block of a kind in a how-to page, with what stands here in the place of what stands there: the page and the test
/// cannot part.
pub(crate) fn block(page: &str, kind: &str, instead: &[(&str, &str)]) -> String {
    let rest = page.split_once(&format!("```{kind}\n")).expect("a block of that kind").1;
    let mut text = rest.split_once("```").expect("its end").0.to_owned();
    for (there, here) in instead {
        assert!(text.contains(there), "{there} does not stand in the page: {text}");
        text = text.replace(there, here);
    }
    text
}

/// The port of the server in all pages.
pub(crate) const PORT: &str = "7453";

#[tokio::test]
async fn dig_kdig_drill_and_delv_read_the_answers() {
    let (server, at) = server().await;
    let (p, both) = (port(at), ["10.0.0.1", "10.0.0.2"]);
    let lines_of_page = block(include_str!("../../../../docs/src/howto/dns/dig.md"), "sh", &[(PORT, &p)]);
    assert_eq!(lines_of_page.lines().count(), 6, "{lines_of_page}");
    for line in lines_of_page.lines() {
        let program = line.split(' ').next().unwrap_or_default();
        if has("dig_kdig_drill_and_delv_read_the_answers", program) {
            let told = run("sh", &["-ec", line]).await;
            assert!(both.iter().all(|ip| told.contains(ip)), "{line}: {told}");
        }
    }
    if has("dig reads the answers", "dig") {
        let dig = async |more: &[&str]| run("dig", &[&["@127.0.0.1", "-p", &p, "+tries=1"][..], more].concat()).await;
        let full = dig(&[WEB, "A"]).await;
        assert!(full.contains("status: NOERROR") && full.contains("(good)"), "with a cookie: {full}");
        assert!(!full.to_lowercase().contains("malformed") && !full.contains("extra bytes"), "{full}");
        for how in
            ["+notcp", "+tcp", "+noedns", "+nocookie", "+bufsize=512", "+cdflag", "+dnssec", "+nsid", "+subnet=0/0"]
        {
            assert_eq!(lines(&dig(&[WEB, "A", "+short", how]).await), both, "{how}");
        }
        let https = dig(&[&format!("_http._tcp.{WEB}"), "TYPE64", "+short"]).await;
        assert_eq!(lines(&https).len(), 2, "{https}");
        assert_eq!(lines(&dig(&["-x", "10.0.0.1", "+short"]).await), ["n1.node.dunlin.internal."]);
    }
    if has("kdig reads the answers", "kdig") {
        for how in ["+notcp", "+tcp", "+cookie", "+noedns", "+keepopen"] {
            let told = run("kdig", &["@127.0.0.1", "-p", &p, "+short", how, WEB, "A", WEB, "A"]).await;
            assert_eq!(lines(&told), ["10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.2"], "{how}");
        }
    }
    if has("drill reads the answers", "drill") {
        let told = run("drill", &["-p", &p, "@127.0.0.1", WEB, "SRV"]).await;
        assert!(told.contains("rcode: NOERROR") && told.contains("8002 2.web.shop.dunlin.internal."), "{told}");
    }
    if has("delv reads the answers", "delv") {
        let told = run("delv", &["-i", "@127.0.0.1", "-p", &p, WEB, "A", "+short"]).await;
        assert_eq!(lines(&told), both);
    }
    assert!(server.answers().with_code("formerr") == 0, "{:?}", server.answers());
}

#[tokio::test]
async fn dnspython_resolves_and_tells_a_no_from_nothing() {
    if !has("dnspython resolves", "python3") {
        return;
    }
    let (_server, at) = server().await;
    let program = block(include_str!("../../../../docs/src/howto/dns/dnspython.md"), "python", &[(PORT, &port(at))]);
    let probe = "try:\n    import dns.resolver\nexcept ImportError:\n    print('absent'); raise SystemExit\n";
    let script = format!("{probe}{program}");
    // A distribution's package is for the distribution's python, which need not be the first in the path.
    let mut told = run("python3", &["-c", &script]).await;
    if told.trim() == "absent" && has("dnspython resolves", "/usr/bin/python3") {
        told = run("/usr/bin/python3", &["-c", &script]).await;
    }
    if told.trim() == "absent" {
        return left_out("dnspython resolves", "no python3-dnspython here");
    }
    assert_eq!(told.trim(), "['10.0.0.1', '10.0.0.2']\n[8001, 8002]\nNXDOMAIN\nNoAnswer");
}

#[tokio::test]
async fn getaddrinfo_resolves_short_names_through_resolv_conf() {
    let test = "getaddrinfo_resolves_short_names_through_resolv_conf";
    if !has(test, "unshare") || !has(test, "getent") {
        return;
    }
    // Port 53 of an address of this host that nobody else has: resolv.conf has no ports.
    let address = format!("127.{}.53.1", std::process::id() % 200 + 10);
    let mut config = config();
    config.listen = vec![format!("{address}:53").parse().unwrap()];
    let Ok(server) = dunlin_dns::DnsServer::start(config) else {
        return left_out(test, "port 53 cannot be opened: not root?");
    };
    server.apply(&[NameChange::Service { service: service(), instances: instances(2) }]);
    let folder = Folder::new("resolv");
    let page = include_str!("../../../../docs/src/howto/dns/resolv-conf.md");
    let resolv = folder.write("resolv.conf", &block(page, "text", &[("127.0.0.53", &address)]));
    let ask = |name: &str| {
        format!("mount --bind {resolv} /etc/resolv.conf && getent ahostsv4 {name} | cut -d' ' -f1 | sort -u")
    };
    if run(
        "sh",
        &["-c", &format!("unshare --mount sh -c 'mount --bind {resolv} /etc/resolv.conf' && echo yes || true")],
    )
    .await
    .trim()
        != "yes"
    {
        return left_out(test, "no mount namespace can be made");
    }
    for name in ["web", "WEB", "web.shop.dunlin.internal", "1.web", "nearest.web"] {
        let told = run("unshare", &["--mount", "sh", "-c", &ask(name)]).await;
        let expected: &[&str] = if name == "1.web" { &["10.0.0.1"] } else { &["10.0.0.1", "10.0.0.2"] };
        assert_eq!(lines(&told), expected, "{name}");
    }
    assert_eq!(run("unshare", &["--mount", "sh", "-c", &ask("none")]).await.trim(), "");
}

#[tokio::test]
async fn dnsmasq_and_unbound_pass_the_zone_on() {
    let test = "dnsmasq_and_unbound_pass_the_zone_on";
    if !has(test, "dig") {
        return;
    }
    let (_server, at) = server().await;
    let p = port(at);
    let both = |seen: &str| lines(seen) == ["10.0.0.1", "10.0.0.2"];
    let folder = Folder::new("forward");
    let ask = async |port: u16| {
        let port = port.to_string();
        let asked = ["@127.0.0.1", "-p", &port, WEB, "A", "+short", "+tries=1", "+time=2"];
        let asked: Vec<String> = asked.iter().map(|word| (*word).to_owned()).collect();
        let output = tokio::task::spawn_blocking(move || Command::new("dig").args(asked).output()).await;
        String::from_utf8_lossy(&output.unwrap().unwrap().stdout).into_owned()
    };
    if has(test, "dnsmasq") {
        let listen = free_port();
        let page = include_str!("../../../../docs/src/howto/dns/dnsmasq.md");
        let own = format!(
            "port={listen}\nno-resolv\nno-hosts\nlisten-address=127.0.0.1\nbind-interfaces\npid-file=\nstop-dns-rebind\n{}",
            block(page, "text", &[(PORT, &p)])
        );
        let file = format!("--conf-file={}", folder.write("dnsmasq.conf", &own));
        let _dnsmasq = Daemon::start("dnsmasq", &["--keep-in-foreground", &file]);
        until("dnsmasq", async || ask(listen).await, both).await;
    }
    if has(test, "unbound") {
        let listen = free_port();
        let page = include_str!("../../../../docs/src/howto/dns/unbound.md");
        // With the root's key it validates, and with this private network it drops such addresses, but for what the page says.
        let own = format!(
            "server:\n  interface: 127.0.0.1@{listen}\n  do-daemonize: no\n  username: \"\"\n  chroot: \"\"\n  use-syslog: no\n  \
             pidfile: \"\"\n  module-config: \"validator iterator\"\n  trust-anchor: \"{ROOT}\"\n  private-address: 10.0.0.0/8\n\
             remote-control:\n  control-enable: no\n{}",
            block(page, "text", &[(PORT, &p)])
        );
        let _unbound = Daemon::start("unbound", &["-d", "-c", &folder.write("unbound.conf", &own)]);
        until("unbound", async || ask(listen).await, both).await;
    }
}

/// The root's key of 2017.
const ROOT: &str = ". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D";
