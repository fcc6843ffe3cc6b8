//! A DNS server of many names under load, beside NSD and Knot: processor for each question, latency at half the load, memory.
//!
//! The server has one core and dnsperf the other. dnsperf saturates first, so what a question costs the server is compared, not
//! how many it answers. All servers take turns, so that what else the machine does meets each of them.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dunlin_gossip::rng::Seed;
use dunlin_tests::cluster::{PATIENCE, kill9, processes_in, text};
use dunlin_tests::env::{dunlin, has_program};
use dunlin_tests::wait::until;
use tempfile::TempDir;

use crate::calm;
use crate::idle::{TICKS, status_line, ticks};
use crate::report::Figure;

/// Seconds under load, each time.
const SPAN: u32 = 6;
/// Questions in dnsperf's file.
const QUESTIONS: usize = 50_000;
const FEW: u32 = 1_000;
const MANY: u32 = 100_000;
const CHANGES: u32 = 50;

/// Who is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Dunlin { names: u32, changes: u32 },
    Nsd,
    Knot,
}

/// A server on the first core; killed when dropped.
struct Server {
    folder: TempDir,
    child: Child,
    at: SocketAddr,
    names: u32,
}

impl Drop for Server {
    fn drop(&mut self) {
        processes_in(self.folder.path()).into_iter().for_each(kill9);
        let _ended = self.child.wait();
    }
}

impl Server {
    fn start(kind: Kind) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port =
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr()).expect("a port").port();
        let (at, dir) = (SocketAddr::from((Ipv4Addr::LOCALHOST, port)), folder.path());
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]);
        let names = match kind {
            Kind::Dunlin { names, changes } => {
                command.arg(dunlin()).args(["dns", "bench-server", "--listen", &at.to_string()]);
                command.args(["--names", &names.to_string(), "--changes-per-s", &changes.to_string()]);
                names
            }
            Kind::Nsd => {
                command.args(["nsd", "-d", "-c", &nsd(dir, port)]);
                FEW
            }
            Kind::Knot => {
                command.args(["knotd", "-c", &knot(dir, port)]);
                FEW
            }
        };
        // Its processes are known by where they work.
        let child = command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = Self { child: child.expect("taskset"), at, names, folder };
        until("the server to answer for its last name", PATIENCE, || is_up(at, names));
        server
    }

    /// User and system time of all its processes, in seconds.
    fn spent(&self) -> f64 {
        processes_in(self.folder.path()).into_iter().map(ticks).sum::<f64>() / TICKS
    }

    fn resident_mib(&self) -> f64 {
        let of = |pid| status_line(pid, "VmRSS") / 1_024.0;
        processes_in(self.folder.path()).into_iter().map(of).sum()
    }

    /// Puts it under load, as much as dnsperf can or so many questions a second, and gives what dnsperf says.
    fn load(&self, more: &[&str]) -> String {
        let questions = self.folder.path().join("questions");
        let mut rng = Seed(1).rng();
        let mut lines = String::new();
        for _ in 0..QUESTIONS {
            let _infallible = writeln!(lines, "s{}.default.dunlin.internal A", rng.below(self.names.into()));
        }
        std::fs::write(&questions, lines).expect("a file");
        let mut command = Command::new("taskset");
        command.args(["-c", "1", "dnsperf", "-s", "127.0.0.1", "-p", &self.at.port().to_string(), "-c", "4", "-d"]);
        command.arg(&questions).args(["-l", &SPAN.to_string()]).args(more);
        let output = command.stdin(Stdio::null()).output().expect("dnsperf");
        assert!(output.status.success(), "dnsperf: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Microseconds of the processor for a question, and questions a second.
    fn cost(&self) -> (f64, f64) {
        let before = self.spent();
        let said = self.load(&[]);
        let completed = number(&said, "Queries completed:");
        assert!(number(&said, "Queries lost:") <= completed / 1_000.0, "{said}");
        ((self.spent() - before) / completed * 1e6, number(&said, "Queries per second:"))
    }

    /// Milliseconds within which 99 of 100 answers came, at so many questions a second.
    fn p99(&self, per_second: f64) -> f64 {
        let said = self.load(&["-v", "-Q", &format!("{per_second:.0}")]);
        let answers = said.lines().filter(|line| line.starts_with("> "));
        let mut times: Vec<f64> = answers.filter_map(|line| line.split(' ').next_back()?.parse().ok()).collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len() * 99 / 100).map_or(f64::INFINITY, |seconds| seconds * 1e3)
    }
}

/// The number after a word of dnsperf's.
fn number(said: &str, word: &str) -> f64 {
    let line = said.lines().find_map(|line| line.trim().strip_prefix(word));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(f64::NAN)
}

fn is_up(at: SocketAddr, names: u32) -> Result<(), String> {
    let ask = || -> std::io::Result<bool> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let mut query = vec![1, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in [&format!("s{}", names - 1), "default", "dunlin", "internal"] {
            query.push(u8::try_from(label.len()).unwrap_or(0));
            query.extend_from_slice(label.as_bytes());
        }
        query.extend_from_slice(&[0, 0, 1, 0, 1]);
        socket.send_to(&query, at)?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer)?;
        Ok(length > 12 && answer[3] & 15 == 0 && answer[7] == 1)
    };
    match ask() {
        Ok(true) => Ok(()),
        Ok(false) => Err("another answer".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The names of the others, as a zone file; its path.
fn zone(dir: &Path) -> String {
    let mut lines = "dunlin.internal. 1 IN SOA ns.dunlin.internal. h.dunlin.internal. 1 60 10 600 1\n\
                     dunlin.internal. 1 IN NS ns.dunlin.internal.\nns.dunlin.internal. 1 IN A 127.0.0.1\n"
        .to_owned();
    for n in 0..FEW {
        let [_, _, c, d] = n.to_be_bytes();
        let _infallible = writeln!(lines, "s{n}.default.dunlin.internal. 1 IN A 10.0.{c}.{d}");
    }
    write(dir, "zone", &lines)
}

fn write(dir: &Path, name: &str, lines: &str) -> String {
    let file = dir.join(name);
    std::fs::write(&file, lines).expect("a file");
    file.display().to_string()
}

fn nsd(dir: &Path, port: u16) -> String {
    let (zone, folder) = (zone(dir), dir.display());
    let lines = format!(
        "server:\n  ip-address: 127.0.0.1@{port}\n  server-count: 1\n  username: \"\"\n  chroot: \"\"\n  database: \"\"\n  \
         pidfile: \"{folder}/pid\"\n  xfrdfile: \"{folder}/xfrd\"\n  zonelistfile: \"{folder}/list\"\n  zonesdir: \"{folder}\"\n  \
         xfrdir: \"{folder}\"\n  rrl-ratelimit: 0\nremote-control:\n  control-enable: no\nzone:\n  name: dunlin.internal\n  zonefile: {zone}\n"
    );
    write(dir, "nsd.conf", &lines)
}

fn knot(dir: &Path, port: u16) -> String {
    let (zone, folder) = (zone(dir), dir.display());
    let lines = format!(
        "server:\n  rundir: {folder}\n  listen: 127.0.0.1@{port}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n\
         database:\n  storage: {folder}\nzone:\n  - domain: dunlin.internal\n    file: {zone}\n    zonefile-sync: -1\n    \
         journal-content: none\n"
    );
    write(dir, "knot.conf", &lines)
}

/// All of it; so many rounds.
pub(crate) fn figures(runs: usize) -> Vec<Figure> {
    if !has_program("dnsperf") || !has_program("taskset") {
        eprintln!("left out: dns, which needs dnsperf and taskset");
        return Vec::new();
    }
    let few = Kind::Dunlin { names: FEW, changes: 0 };
    let many = Kind::Dunlin { names: MANY, changes: CHANGES };
    let mut kinds = vec![(few, "1,000 names"), (many, "100,000 names, 50 changes a second")];
    let others = [(Kind::Nsd, "NSD, 1,000 names", "nsd"), (Kind::Knot, "Knot, 1,000 names", "knotd")];
    let sbin = |program: &str| has_program(program) || Path::new("/usr/sbin").join(program).is_file();
    kinds.extend(others.into_iter().filter(|(.., program)| sbin(program)).map(|(kind, what, _)| (kind, what)));
    let servers: Vec<Server> = kinds.iter().map(|(kind, _)| Server::start(*kind)).collect();
    calm(Duration::from_secs(2));
    let mut costs = vec![Vec::new(); servers.len()];
    let mut latencies = vec![Vec::new(); 2];
    let mut ratios = Vec::new();
    for _ in 0..runs {
        let mut load = f64::INFINITY;
        for (server, costs) in servers.iter().zip(&mut costs) {
            let (cost, per_second) = server.cost();
            costs.push(cost);
            load = load.min(per_second);
        }
        ratios.extend(costs[1].last().zip(costs[0].last()).map(|(many, few)| many / few));
        for (server, latencies) in servers.iter().zip(&mut latencies) {
            latencies.push(server.p99(load / 2.0));
        }
    }
    let resident = servers[1].resident_mib();
    let mut figures: Vec<Figure> = kinds
        .iter()
        .zip(costs)
        .map(|((_, what), costs)| {
            Figure::new(&format!("DNS, processor for a question: {what}"), "us", [None, None], costs)
        })
        .collect();
    figures.push(Figure::new("the second of these to the first", "", [Some(1.1), None], ratios));
    for ((_, what), latencies) in kinds.iter().zip(latencies) {
        figures.push(Figure::new(&format!("DNS, p99 at half that load: {what}"), "ms", [Some(1.0), None], latencies));
    }
    // 100 MB.
    figures.push(Figure::new("DNS, 100,000 endpoints: resident", "MiB", [Some(95.3), None], vec![resident]));
    figures
}
