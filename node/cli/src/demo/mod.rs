//! `dunlin demo`: a real cluster on this machine, told as a story.
//!
//! Real agents, a real Compose file, a real server, real DNS; one node is killed with `kill -9` and what follows is timed.
//! Nothing stays behind: see [`guard`].

mod cluster;
mod dns;
pub(crate) mod guard;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dunlin_agent::api::types::{DeployBody, WrittenBody};
use serde::Serialize;
use serde_json::Value;

use crate::args::Demo;
use crate::command::{Done, deploy};
use crate::failure::Failure;
use crate::render;
use cluster::{Cluster, LOOK, wait};
use guard::Guard;

/// The workload.
const COMPOSE: &str = include_str!("../../../../examples/web.compose.yaml");
/// Its name in DNS.
const NAME: &str = "web.shop.dunlin.internal";
/// Its replicas.
const REPLICAS: usize = 3;
/// Longest wait for any one thing.
const PATIENCE: Duration = Duration::from_secs(60);

/// The document of `--json`.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    nodes: usize,
    replicas: usize,
    deploy_s: f64,
    failover_s: f64,
    dns_dead_s: f64,
    dns_full_s: f64,
    killed: usize,
    moved: usize,
}

/// Tells the story, or keeps silent for `--json`.
struct Teller {
    start: Instant,
    silent: bool,
}

impl Teller {
    fn say(&self, text: &str) {
        if !self.silent {
            // A reader who has gone away ends the story, not the demo.
            let _gone = render::print_line(&format!("{:6.2} s  {text}", self.start.elapsed().as_secs_f64()));
        }
    }
}

pub(crate) fn run(args: &Demo) -> Done {
    guard::die_on_signals()?;
    let exe = std::env::current_exe().map_err(|e| Failure::failed(format!("cannot find this binary: {e}")))?;
    let dir = std::env::temp_dir().join(format!("dunlin-demo-{}", std::process::id()));
    // Not there before, and nobody else's: keys lie in it.
    let made = std::fs::DirBuilder::new().mode(0o700).create(&dir);
    made.map_err(|e| Failure::failed(format!("cannot make {}: {e}", dir.display())))?;
    let teller = Teller { start: Instant::now(), silent: args.json };
    let guard = Guard::start(&exe, &dir)?;
    let report = story(args, &exe, &dir, &teller);
    drop(guard);
    let report = report?;
    if args.json {
        render::json(&report)?;
    } else {
        teller.say("stopped everything; nothing is left behind");
    }
    Ok(ExitCode::SUCCESS)
}

fn story(args: &Demo, exe: &Path, dir: &Path, teller: &Teller) -> Result<Report, Failure> {
    teller.say(&format!("starting {} agents, each on an address of its own", args.nodes));
    let mut cluster = Cluster::start(exe, dir, args.nodes)?;
    for n in 0..cluster.nodes.len() {
        wait("all nodes to see each other", PATIENCE, || cluster.sees_all_alive(n))?;
    }
    teller.say("every node sees every other; there is no master");

    let deploy_s = deploy_web(&cluster, exe)?;
    let before = placement(&cluster, 0)?;
    teller.say(&format!("deployed {REPLICAS} replicas in {deploy_s:.2} s: {}", list(&before)));
    let answer = wait("DNS to know all replicas", PATIENCE, || full_everywhere(&cluster, None))?;
    teller.say(&format!("every node's DNS answers {NAME} with {}", addresses(&answer.addresses)));
    teller.say(&format!("GET / says: {}", fetch(&cluster)?));

    let report = failure(args, &mut cluster, teller, deploy_s, &before)?;
    if args.hold {
        hold(&cluster, teller);
    }
    Ok(report)
}

fn failure(
    args: &Demo,
    cluster: &mut Cluster,
    teller: &Teller,
    deploy_s: f64,
    before: &BTreeMap<String, String>,
) -> Result<Report, Failure> {
    let victim = victim(cluster, before)?;
    let (name, address) = (cluster.nodes[victim].name.clone(), cluster.nodes[victim].address);
    let killed = before.values().filter(|node| **node == name).count();
    let processes = cluster.kill(victim);
    let death = Instant::now();
    teller.say(&format!("kill -9 of {name}: agent, keepers and workloads, {processes} processes, {killed} replica(s)"));

    let (mut dead, mut whole, mut full) = (None, None, None);
    let watcher = usize::from(victim == 0);
    wait("the flock to heal", PATIENCE, || {
        if dead.is_none() && gone_everywhere(cluster, victim, address) {
            dead = Some(death.elapsed());
            teller.say(&format!("{address} is gone from every node's DNS"));
        }
        if whole.is_none() && healthy_elsewhere(cluster, watcher, &name)? {
            whole = Some(death.elapsed());
            teller.say("all replicas are healthy again, elsewhere");
        }
        if whole.is_some() && full.is_none() && full_everywhere(cluster, Some(victim)).is_ok() {
            full = Some(death.elapsed());
        }
        match (dead, whole, full) {
            (Some(_), Some(_), Some(_)) => Ok(()),
            _ => Err(format!("names {dead:?}, replicas {whole:?}, names whole {full:?}")),
        }
    })?;
    let seconds = |d: Option<Duration>| d.map_or(0.0, |d| d.as_secs_f64());
    let (failover_s, dns_dead_s, dns_full_s) = (seconds(whole), seconds(dead), seconds(full));
    teller.say(&format!(
        "failover {failover_s:.2} s; dead address out of DNS {dns_dead_s:.2} s; names whole {dns_full_s:.2} s"
    ));

    cluster.start_agent(victim)?;
    for n in 0..cluster.nodes.len() {
        wait("the killed node to come back", PATIENCE, || cluster.sees_all_alive(n))?;
    }
    let after = placement(cluster, watcher)?;
    let moved = before.iter().filter(|(replica, node)| after.get(*replica) != Some(node)).count();
    teller.say(&format!("{name} is back; {moved} replica(s) moved in all, none without need: {}", list(&after)));
    Ok(Report {
        ok: moved == killed,
        nodes: usize::from(args.nodes),
        replicas: REPLICAS,
        deploy_s,
        failover_s,
        dns_dead_s,
        dns_full_s,
        killed,
        moved,
    })
}

fn deploy_web(cluster: &Cluster, exe: &Path) -> Result<f64, Failure> {
    let binary = exe.display().to_string();
    let variables = |key: &str| (key == "DUNLIN").then(|| binary.clone());
    let project = deploy::parse("examples/web.compose.yaml", COMPOSE, &variables)?;
    let body = DeployBody {
        stack: "shop".to_owned(),
        services: project.services,
        policies: project.policies,
        waves: None,
        ack: dunlin_core::face::Ack::Default,
        timeout_ms: 10_000,
    };
    let start = Instant::now();
    let _: WrittenBody = cluster.nodes[0].client.post("deploy", &body, Duration::from_secs(10))?;
    wait("all replicas to be healthy", PATIENCE, || {
        if healthy_elsewhere(cluster, 0, "")? { Ok(()) } else { Err(describe(cluster, 0)) }
    })?;
    Ok(start.elapsed().as_secs_f64())
}

fn rows(cluster: &Cluster, asked: usize) -> Result<Vec<Value>, String> {
    cluster.nodes[asked].client.get("allocations").map_err(|_| cluster.last_words(asked))
}

fn field<'a>(row: &'a Value, key: &str) -> &'a str {
    row.get(key).and_then(Value::as_str).unwrap_or("")
}

fn ready(row: &Value) -> bool {
    row.get("ready").and_then(Value::as_bool) == Some(true)
}

fn describe(cluster: &Cluster, asked: usize) -> String {
    let rows = rows(cluster, asked).unwrap_or_default();
    let line = |r: &Value| {
        format!("{} {} {} {}", field(r, "replica"), field(r, "node"), field(r, "phase"), field(r, "detail"))
    };
    rows.iter().map(line).collect::<Vec<_>>().join("; ")
}

/// Which node runs each replica that is ready.
fn placement(cluster: &Cluster, asked: usize) -> Result<BTreeMap<String, String>, Failure> {
    let rows = rows(cluster, asked).map_err(Failure::failed)?;
    let pair = |r: &Value| (field(r, "replica").to_owned(), field(r, "node").to_owned());
    Ok(rows.iter().filter(|r| ready(r)).map(pair).collect())
}

/// True if every replica is ready on a node other than this one.
fn healthy_elsewhere(cluster: &Cluster, asked: usize, not_on: &str) -> Result<bool, String> {
    let rows = rows(cluster, asked)?;
    let fine: BTreeSet<&str> =
        rows.iter().filter(|r| ready(r) && field(r, "node") != not_on).map(|r| field(r, "replica")).collect();
    Ok(fine.len() == REPLICAS)
}

/// True if no surviving node's DNS answers with the address.
fn gone_everywhere(cluster: &Cluster, victim: usize, address: std::net::IpAddr) -> bool {
    let alive = cluster.nodes.iter().enumerate().filter(|(n, _)| *n != victim);
    let mut answers = alive.map(|(_, node)| dns::a(node.dns(), NAME));
    answers.all(|found| found.is_ok_and(|f| !f.addresses.contains(&address)))
}

/// What a surviving node answers, once all of them answer with every replica.
fn full_everywhere(cluster: &Cluster, victim: Option<usize>) -> Result<dns::Found, String> {
    let mut last = dns::Found::default();
    for (_, node) in cluster.nodes.iter().enumerate().filter(|(n, _)| Some(*n) != victim) {
        last = dns::srv(node.dns(), NAME)?;
        if last.ports.len() != REPLICAS {
            return Err(format!("{} answers with {} of {REPLICAS}", node.name, last.ports.len()));
        }
    }
    Ok(last)
}

/// A node that runs something, and not the one that the demo talks to.
fn victim(cluster: &Cluster, placement: &BTreeMap<String, String>) -> Result<usize, Failure> {
    let busy: BTreeSet<&str> = placement.values().map(String::as_str).collect();
    let found = (1..cluster.nodes.len()).find(|n| busy.contains(cluster.nodes[*n].name.as_str()));
    found
        .or(Some(0))
        .filter(|n| busy.contains(cluster.nodes[*n].name.as_str()))
        .ok_or_else(|| Failure::failed("no node runs anything"))
}

/// The first line and the node that one instance answers with, by way of DNS.
fn fetch(cluster: &Cluster) -> Result<String, Failure> {
    let rows = rows(cluster, 0).map_err(Failure::failed)?;
    let said = |e: std::io::Error| Failure::failed(format!("GET /: {e}"));
    let node = rows.iter().find(|r| ready(r)).map(|r| field(r, "node").to_owned()).unwrap_or_default();
    let host = cluster.nodes.iter().find(|n| n.name == node).ok_or_else(|| Failure::failed("nobody is ready"))?;
    let replica = rows.iter().find(|r| ready(r)).map(|r| field(r, "replica").to_owned()).unwrap_or_default();
    let slot = replica.rsplit('.').next().unwrap_or_default();
    let found = dns::srv(host.dns(), &format!("{slot}.{NAME}")).map_err(Failure::failed)?;
    let (Some(address), Some(port)) = (found.addresses.first(), found.ports.first()) else {
        return Err(Failure::failed(format!("no SRV for {slot}.{NAME}")));
    };
    let mut stream = TcpStream::connect(SocketAddr::new(*address, *port)).map_err(said)?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(said)?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n").map_err(said)?;
    let mut text = String::new();
    stream.take(4_096).read_to_string(&mut text).map_err(said)?;
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok(body.lines().take(3).collect::<Vec<_>>().join(", "))
}

fn hold(cluster: &Cluster, teller: &Teller) {
    teller.say("held until Ctrl-C; from another terminal:");
    for node in &cluster.nodes {
        let at = node.dns();
        teller.say(&format!(
            "  {}: dunlin --data-dir {} ps     dig @{} -p {} {NAME} SRV",
            node.name,
            node.dir().display(),
            at.ip(),
            at.port()
        ));
    }
    loop {
        std::thread::sleep(LOOK * 1_000);
    }
}

fn list(placement: &BTreeMap<String, String>) -> String {
    placement.iter().map(|(replica, node)| format!("{replica} on {node}")).collect::<Vec<_>>().join(", ")
}

fn addresses(list: &[std::net::IpAddr]) -> String {
    let unique: BTreeSet<_> = list.iter().collect();
    unique.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
