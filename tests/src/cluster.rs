//! A cluster of real agents, each on a loopback address of its own, driven through the command line as a user would.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::env::dunlin;
use crate::netns::Network;
use crate::wait::until;

/// Longest wait for anything that should take seconds.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// CPUs and memory of a node, unless told otherwise.
const CAPACITY: [&str; 2] = ["2", "1G"];

/// Keeps the clusters of one test process apart.
static CLUSTERS: AtomicU8 = AtomicU8::new(0);

/// One node.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its data directory.
    pub dir: PathBuf,
    agent: Option<Child>,
    /// The program that its agents and its commands are.
    binary: PathBuf,
    /// What runs a program on its host; empty where all share this one.
    prefix: Vec<String>,
}

impl Node {
    /// A program on this node's host.
    fn command(&self, program: &str) -> Command {
        let mut words = self.prefix.iter().map(String::as_str).chain([program]);
        let mut command = Command::new(words.next().unwrap_or(program));
        command.args(words);
        command
    }

    /// Runs the command line against this node.
    ///
    /// # Panics
    /// If the binary cannot be started.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Output {
        let output =
            Command::new(&self.binary).arg("--data-dir").arg(&self.dir).args(args).stdin(Stdio::null()).output();
        output.expect("the dunlin binary starts")
    }

    /// Runs a listing and reads its document.
    ///
    /// # Errors
    /// What the command said.
    pub fn json(&self, args: &[&str]) -> Result<Value, String> {
        let mut args = args.to_vec();
        args.push("--json");
        let output = self.run(&args);
        serde_json::from_slice(&output.stdout)
            .map_err(|_| format!("{args:?}: {} {}", text(&output.stdout), text(&output.stderr)))
    }

    /// What the agent logged, its last lines.
    #[must_use]
    pub fn log(&self) -> String {
        let all = std::fs::read_to_string(self.dir.join("agent.log")).unwrap_or_default();
        let lines: Vec<&str> = all.lines().collect();
        lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n")
    }

    /// The agent's process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.agent.as_ref().map(Child::id)
    }
}

/// The cluster. Dropping it ends every process of it.
#[derive(Debug)]
pub struct Cluster {
    /// Its nodes.
    pub nodes: Vec<Node>,
    token: String,
    root: TempDir,
    /// The network of its own, where it has one.
    pub network: Option<Network>,
    /// What each agent says that its host has: CPUs, memory.
    capacity: [String; 2],
    /// Further options of each agent.
    options: Vec<String>,
}

impl Cluster {
    /// A cluster whose nodes all see each other.
    ///
    /// # Panics
    /// If it does not come up in time.
    #[must_use]
    pub fn start(count: u8) -> Self {
        Self::with(count, None, CAPACITY)
    }

    /// The same on hosts that are network namespaces (needs root).
    ///
    /// # Panics
    /// If it does not come up in time.
    #[must_use]
    pub fn start_on_network(count: u8) -> Self {
        Self::with(count, Some(Network::new(count)), CAPACITY)
    }

    /// The same on such a network, or on loopback addresses without one, each node with so many CPUs and so much memory.
    ///
    /// # Panics
    /// If it does not come up in time.
    #[must_use]
    pub fn with(count: u8, network: Option<Network>, capacity: [&str; 2]) -> Self {
        Self::build(count, network, capacity, &[])
    }

    /// The same on loopback addresses, with these options for each agent.
    ///
    /// # Panics
    /// If it does not come up in time.
    #[must_use]
    pub fn with_options(count: u8, options: &[&str]) -> Self {
        Self::build(count, None, CAPACITY, options)
    }

    /// The same on hosts that are network namespaces (needs root).
    ///
    /// # Panics
    /// If it does not come up in time.
    #[must_use]
    pub fn on_network_with_options(count: u8, options: &[&str]) -> Self {
        Self::build(count, Some(Network::new(count)), CAPACITY, options)
    }

    /// Nodes on loopback addresses, one of each of these programs.
    ///
    /// # Panics
    /// If it does not come up in time.
    #[must_use]
    pub fn of_programs(programs: &[&Path]) -> Self {
        Self::built_of(programs, None, CAPACITY, &[])
    }

    fn build(count: u8, network: Option<Network>, capacity: [&str; 2], options: &[&str]) -> Self {
        Self::built_of(&vec![dunlin(); usize::from(count)], network, capacity, options)
    }

    fn built_of(programs: &[&Path], network: Option<Network>, capacity: [&str; 2], options: &[&str]) -> Self {
        let root = TempDir::with_prefix("dunlin-test-").expect("a temporary directory");
        let serial = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let block = 100 + u8::try_from(pid % 100).expect("below 100");
        let sub = u8::try_from((pid / 100 + u32::from(serial) * 17) % 250).expect("below 250");
        let nodes = (1_u8..)
            .zip(programs)
            .map(|(n, program)| Node {
                name: format!("n{n}"),
                address: network
                    .as_ref()
                    .map_or_else(|| Ipv4Addr::new(127, block, sub, n), |w| w.address(usize::from(n) - 1)),
                dir: root.path().join(format!("n{n}")),
                agent: None,
                binary: program.to_path_buf(),
                prefix: network.as_ref().map_or_else(Vec::new, |w| w.prefix(usize::from(n) - 1)),
            })
            .collect();
        let capacity = capacity.map(str::to_owned);
        let options = options.iter().map(ToString::to_string).collect();
        let mut cluster = Self { nodes, token: String::new(), root, network, capacity, options };
        for node in &cluster.nodes {
            std::fs::create_dir_all(&node.dir).expect("a data directory");
        }
        let advertise = format!("{}:7400", cluster.nodes[0].address);
        let init = cluster.nodes[0].json(&["init", "--name", "n1", "--advertise", &advertise]).expect("init");
        init["token"].as_str().expect("a token").clone_into(&mut cluster.token);
        for n in 0..cluster.nodes.len() {
            cluster.start_agent(n);
            if n == 0 {
                until("the first agent", PATIENCE, || cluster.nodes[0].json(&["status"]));
            }
        }
        cluster.wait_for_all_alive();
        cluster
    }

    /// Nodes that join from now on show this token.
    pub fn set_token(&mut self, token: &str) {
        token.clone_into(&mut self.token);
    }

    /// Starts one more node, on loopback, which joins by the token of the moment.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn add_node(&mut self) {
        let n = self.nodes.len();
        let [a, b, c, _] = self.nodes[0].address.octets();
        let name = format!("n{}", n + 1);
        let dir = self.root.path().join(&name);
        std::fs::create_dir_all(&dir).expect("a data directory");
        let last = u8::try_from(n + 1).expect("few nodes");
        let address = Ipv4Addr::new(a, b, c, last);
        let binary = self.nodes[0].binary.clone();
        self.nodes.push(Node { name, address, dir, agent: None, prefix: Vec::new(), binary });
        self.start_agent(n);
    }

    /// Gives a host another address (its last number), to which its next agent binds.
    pub fn move_node(&mut self, n: usize, last: u8) {
        let [a, b, c, _] = self.nodes[n].address.octets();
        self.nodes[n].address = Ipv4Addr::new(a, b, c, last);
    }

    /// A node's next agent, and its commands from now on, are this program.
    pub fn replace_program(&mut self, n: usize, program: &Path) {
        program.clone_into(&mut self.nodes[n].binary);
    }

    /// Starts (or starts again) an agent; does not wait.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start_agent(&mut self, n: usize) {
        self.start_agent_with(n, &[]);
    }

    /// The same, with more in its environment.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start_agent_with(&mut self, n: usize, environment: &[(&str, &str)]) {
        let seed = format!("{}:7400", self.nodes[0].address);
        let node = &mut self.nodes[n];
        let log = File::options().create(true).append(true).open(node.dir.join("agent.log")).expect("a log");
        let mut command = node.command(&node.binary.display().to_string());
        command.arg("agent").arg("--data-dir").arg(&node.dir).args(["--name", &node.name]);
        command.args(["--bind", &format!("{}:7400", node.address), "--dns", &format!("{}:7453", node.address)]);
        let base = 22_000 + 400 * n;
        let [cpus, memory] = &self.capacity;
        command.args(["--cpus", cpus, "--memory", memory, "--ports", &format!("{base}-{}", base + 399)]);
        if n > 0 {
            command.args(["--join", &seed]).env("DUNLIN_TOKEN", &self.token);
        }
        command.args(&self.options).envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        node.agent = Some(command.spawn().expect("an agent"));
    }

    /// Waits for an agent to end by itself; its exit code.
    ///
    /// # Panics
    /// If it does not run, or does not end in time.
    pub fn wait_for_end(&mut self, n: usize) -> Option<i32> {
        let node = &mut self.nodes[n];
        let mut agent = node.agent.take().expect("a running agent");
        let ended = until("the agent to end", PATIENCE, || match agent.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err(node.log()),
            Err(error) => Err(error.to_string()),
        });
        ended.code()
    }

    /// `kill -9` of an agent alone: its workloads go on.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill_agent(&mut self, n: usize) {
        let mut agent = self.nodes[n].agent.take().expect("a running agent");
        agent.kill().expect("SIGKILL");
        agent.wait().expect("its end");
    }

    /// `kill -9` of everything of a node: agent, keepers, workloads.
    pub fn kill_node(&mut self, n: usize) {
        let dir = self.nodes[n].dir.clone();
        until("the node's processes to end", PATIENCE, || {
            let left = processes_in(&dir);
            left.iter().for_each(|pid| kill9(*pid));
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
        if let Some(mut agent) = self.nodes[n].agent.take() {
            agent.wait().expect("its end");
        }
    }

    /// Waits until every running node sees all nodes alive, and knows their names.
    ///
    /// # Panics
    /// If that does not happen in time.
    pub fn wait_for_all_alive(&self) {
        let all = self.nodes.len();
        for node in self.nodes.iter().filter(|n| n.agent.is_some()) {
            until("all nodes alive", PATIENCE, || {
                let rows = node.json(&["nodes"]).map_err(|e| format!("{e}\n{}", node.log()))?;
                // A member without a name is one whose header is still on its way.
                let is_known = |r: &&Value| self.nodes.iter().any(|n| r["name"] == n.name.as_str());
                let alive =
                    rows.as_array().into_iter().flatten().filter(|r| r["state"] == "alive").filter(is_known).count();
                if alive == all { Ok(()) } else { Err(format!("{} sees {alive} of {all}: {rows}", node.name)) }
            });
        }
    }

    /// Writes a Compose file and deploys it at a node; answers with the command's output.
    ///
    /// # Panics
    /// If the file cannot be written.
    #[must_use]
    pub fn deploy(&self, n: usize, compose: &str, more: &[&str]) -> Output {
        let file = self.root.path().join(format!("compose-{n}.yaml"));
        std::fs::write(&file, compose.replace("${DUNLIN}", &dunlin().display().to_string())).expect("a file");
        let file = file.display().to_string();
        let mut args = vec!["deploy", "-f", &file, "--stack", "shop"];
        args.extend_from_slice(more);
        self.nodes[n].run(&args)
    }

    /// Rows of `ps` at a node.
    ///
    /// # Errors
    /// What the command said.
    pub fn ps(&self, n: usize) -> Result<Vec<Value>, String> {
        self.nodes[n].json(&["ps"]).map(|v| v.as_array().cloned().unwrap_or_default())
    }

    /// Waits until so many replicas are ready as a node sees it, and answers with their rows.
    ///
    /// # Panics
    /// If that does not happen in time.
    #[must_use]
    pub fn wait_ready(&self, n: usize, replicas: usize) -> Vec<Value> {
        until(&format!("{replicas} ready replicas"), PATIENCE, || {
            let rows = self.ps(n)?;
            let ready: Vec<Value> = rows.iter().filter(|r| r["ready"] == true).cloned().collect();
            if ready.len() == replicas && rows.len() == replicas {
                Ok(ready)
            } else {
                Err(format!("{} ready: {}\n{}", ready.len(), Value::from(rows), self.nodes[n].log()))
            }
        })
    }

    /// What `dig +short` prints for a name at a node, sorted.
    ///
    /// # Panics
    /// If dig cannot be started.
    #[must_use]
    pub fn dig(&self, n: usize, name: &str, kind: &str) -> Vec<String> {
        let server = format!("@{}", self.nodes[n].address);
        let args = [&server, "-p", "7453", "+short", "+tries=1", "+time=2", name, kind];
        let output = self.nodes[n].command("dig").args(args).output().expect("dig");
        let mut lines: Vec<String> = text(&output.stdout).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for n in 0..self.nodes.len() {
            let dir = self.nodes[n].dir.clone();
            for _ in 0..200 {
                let left = processes_in(&dir);
                if left.is_empty() {
                    break;
                }
                left.iter().for_each(|pid| kill9(*pid));
                std::thread::park_timeout(Duration::from_millis(10));
            }
            if let Some(mut agent) = self.nodes[n].agent.take() {
                let _ended = agent.wait();
            }
        }
    }
}

/// Output as text.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `kill -9`; a process that is gone already is fine.
pub fn kill9(pid: u32) {
    let _gone = Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
}

/// Processes that name a directory on their command line, or work in it.
#[must_use]
pub fn processes_in(dir: &Path) -> Vec<u32> {
    let me = std::process::id();
    let needle = dir.display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let line = text(&std::fs::read(entry.path().join("cmdline")).unwrap_or_default());
        let works_there = std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir));
        if pid != me && !line.is_empty() && (works_there || line.contains(&needle)) {
            found.push(pid);
        }
    }
    found
}
