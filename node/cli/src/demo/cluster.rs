//! The demo's flock: real agents in processes of their own, each on its own loopback address.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::guard::{kill_all, processes_in};
use crate::client::Client;
use crate::failure::{Failure, Kind};

/// Pause between two looks at anything.
pub(super) const LOOK: Duration = Duration::from_millis(15);

/// One node of the demo.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) address: IpAddr,
    pub(super) client: Client,
    dir: PathBuf,
    agent: Option<Child>,
}

impl Node {
    /// Where it answers DNS.
    pub(super) const fn dns(&self) -> SocketAddr {
        SocketAddr::new(self.address, 7453)
    }

    /// Its data directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    const fn port(&self) -> SocketAddr {
        SocketAddr::new(self.address, 7400)
    }
}

/// All of them.
pub(super) struct Cluster {
    exe: PathBuf,
    pub(super) nodes: Vec<Node>,
    token: String,
}

impl Cluster {
    /// Makes the cluster and starts every agent; does not wait for them.
    pub(super) fn start(exe: &Path, dir: &Path, count: u8) -> Result<Self, Failure> {
        let nodes = (1..=count).map(|n| node(dir, n)).collect::<Result<Vec<_>, _>>()?;
        let mut cluster = Self { exe: exe.to_owned(), nodes, token: String::new() };
        cluster.token = cluster.init()?;
        for n in 0..cluster.nodes.len() {
            cluster.start_agent(n)?;
            if n == 0 {
                let first = &cluster.nodes[0];
                wait("the first agent to answer", Duration::from_secs(20), || {
                    first.client.get::<Value>("status").map(drop).map_err(|_| cluster.last_words(0))
                })?;
            }
        }
        Ok(cluster)
    }

    fn init(&self) -> Result<String, Failure> {
        let first = &self.nodes[0];
        let output = Command::new(&self.exe)
            .args(["init", "--json", "--name", &first.name, "--advertise", &first.port().to_string(), "--data-dir"])
            .arg(&first.dir)
            .output()
            .map_err(|e| Failure::failed(format!("cannot run dunlin init: {e}")))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let document: Value = serde_json::from_slice(&output.stdout)
            .map_err(|_| Failure::failed(format!("dunlin init failed: {}", said.trim())))?;
        let token = document.get("token").and_then(Value::as_str);
        token.map(str::to_owned).ok_or_else(|| Failure::failed("dunlin init printed no token"))
    }

    /// Starts (or starts again) one agent.
    pub(super) fn start_agent(&mut self, n: usize) -> Result<(), Failure> {
        let seed = self.nodes[0].port().to_string();
        let node = &self.nodes[n];
        let log = File::options().create(true).append(true).open(node.dir.join("agent.log"));
        let log = log.map_err(|e| Failure::failed(format!("{}: {e}", node.dir.display())))?;
        let mut command = Command::new(&self.exe);
        command.arg("agent").arg("--data-dir").arg(&node.dir).args(["--name", &node.name]);
        command.args(["--bind", &node.port().to_string(), "--dns", &node.dns().to_string(), "--workload-dns", "off"]);
        command.args(["--cpus", "1", "--memory", "512M"]);
        // Ranges apart, for workloads that bind all addresses: these nodes share one host.
        let base = 21_000 + 500 * n;
        command.args(["--ports", &format!("{base}-{}", base + 499)]);
        if n > 0 {
            command.args(["--join", &seed]).env("DUNLIN_TOKEN", &self.token);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().map_err(|e| Failure::failed(format!("cannot start an agent: {e}")))?;
        self.nodes[n].agent = Some(child);
        Ok(())
    }

    /// `kill -9` of one node: its agent, its keepers, its workloads, all at once, as when a host loses power (but for the
    /// kernel, which goes on to answer that nobody listens).
    pub(super) fn kill(&mut self, n: usize) -> usize {
        let mut all = BTreeSet::new();
        // Keepers may start something between two looks: look until nothing is left.
        loop {
            let found = processes_in(&self.nodes[n].dir);
            if found.is_empty() {
                break;
            }
            kill_all(&found);
            all.extend(found);
        }
        if let Some(mut agent) = self.nodes[n].agent.take() {
            let _killed = agent.wait();
        }
        all.len()
    }

    /// The last lines of an agent's log, for failures.
    pub(super) fn last_words(&self, n: usize) -> String {
        let text = std::fs::read_to_string(self.nodes[n].dir.join("agent.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(5);
        format!("{}'s log ends with: {}", self.nodes[n].name, lines.get(from..).unwrap_or_default().join(" / "))
    }

    /// True if this node sees all others alive.
    pub(super) fn sees_all_alive(&self, n: usize) -> Result<(), String> {
        let rows: Vec<Value> = self.nodes[n].client.get("nodes").map_err(|_| self.last_words(n))?;
        let field = |r: &Value, key: &str| r.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        // Known by name means that its header has arrived, hence its capacity: only then can it be chosen.
        let alive = rows.iter().filter(|r| field(r, "state") == "alive" && !field(r, "name").is_empty()).count();
        if alive == self.nodes.len() {
            return Ok(());
        }
        Err(format!("{} sees {alive} of {} alive", self.nodes[n].name, self.nodes.len()))
    }
}

fn node(dir: &Path, n: u8) -> Result<Node, Failure> {
    // A block of 127/8 for each demo, so that two can run beside each other.
    let pid = std::process::id();
    let block = u8::try_from(pid % 100).unwrap_or(0);
    let sub = u8::try_from(pid / 100 % 250).unwrap_or(0);
    let dir = dir.join(format!("n{n}"));
    std::fs::create_dir_all(&dir).map_err(|e| Failure::failed(format!("cannot make {}: {e}", dir.display())))?;
    Ok(Node {
        name: format!("n{n}"),
        address: IpAddr::V4(Ipv4Addr::new(127, 100 + block, sub, n)),
        client: Client::new(&dir),
        dir,
        agent: None,
    })
}

/// Looks until the probe is content; its last word is in the failure.
pub(super) fn wait<T>(
    what: &str,
    within: Duration,
    mut probe: impl FnMut() -> Result<T, String>,
) -> Result<T, Failure> {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(missing) if start.elapsed() > within => {
                let text = format!("waited {within:?} for {what}: {missing}");
                return Err(Failure::new(Kind::TimedOut, text, "look with: dunlin demo --hold"));
            }
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}
