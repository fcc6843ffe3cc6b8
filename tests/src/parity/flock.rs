//! Real agents to which the deeds of a scenario are done, and what is true of them meanwhile: who is dead, who is cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use dunlin_sim::scenario::{Scenario, Start};

use super::plan::Deed;
use super::tell::Done;
use super::watch::now_ms;
use crate::ask;
use crate::cluster::{Cluster, kill9, processes_in, text};
use crate::netns::Network;

/// A flock and its state.
#[derive(Debug)]
pub struct Flock {
    /// The agents.
    pub cluster: Cluster,
    scenario: Scenario,
    /// Versions written so far, so that each is another one.
    versions: u32,
    /// True while a stack is deployed.
    pub deployed: bool,
    /// Hosts without an agent; true where the whole host is gone.
    dead: BTreeMap<usize, bool>,
    /// Hosts on the far side of a partition, and those that nobody hears.
    cut: BTreeSet<usize>,
    mute: BTreeSet<usize>,
    /// Agents that stand still, and until when.
    paused: Vec<(usize, Instant)>,
    /// The agents' own counts, of boots that were ended here.
    pub past: Vec<serde_json::Value>,
}

impl Flock {
    /// A flock that is up.
    #[must_use]
    pub fn new(cluster: Cluster, scenario: Scenario) -> Self {
        Self {
            cluster,
            scenario,
            versions: 0,
            deployed: false,
            dead: BTreeMap::new(),
            cut: BTreeSet::new(),
            mute: BTreeSet::new(),
            paused: Vec::new(),
            past: Vec::new(),
        }
    }

    /// So many there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.cluster.nodes.len()
    }

    /// True while its agent runs.
    #[must_use]
    pub fn is_up(&self, n: usize) -> bool {
        !self.dead.contains_key(&n)
    }

    /// Hosts whose agents run.
    #[must_use]
    pub fn up(&self) -> Vec<usize> {
        (0..self.size()).filter(|n| self.is_up(*n)).collect()
    }

    /// True if neither way between two hosts is cut.
    #[must_use]
    pub fn reach(&self, a: usize, b: usize) -> bool {
        self.cut.contains(&a) == self.cut.contains(&b) && !self.mute.contains(&a) && !self.mute.contains(&b)
    }

    /// True while its agent stands still.
    #[must_use]
    pub fn stands_still(&self, n: usize) -> bool {
        self.paused.iter().any(|(paused, _)| *paused == n)
    }

    fn network(&self) -> &Network {
        self.cluster.network.as_ref().expect("a network of its own")
    }

    /// What the scenario says was before: a stack that has been deployed and is well.
    ///
    /// # Panics
    /// If it does not become so.
    pub fn begin(&mut self) {
        self.settle("the start");
        if self.scenario.start == Start::Running {
            self.deploy(&[0], false);
            self.settle("the first deploy");
        }
    }

    /// Does it; what was done in the end, and the moment at which it took effect.
    ///
    /// # Panics
    /// If it does not bite.
    pub fn act(&mut self, deed: &Deed) -> Done {
        let deed = match deed {
            Deed::CrashBusyHosts(count) => Deed::CrashHosts(self.busy(*count)),
            other => other.clone(),
        };
        let before = now_ms();
        match &deed {
            Deed::Deploy { at, same } => self.deploy(at, *same),
            Deed::Scale { service, replicas } => {
                self.write(&["scale", &format!("{service}={replicas}")]);
            }
            Deed::Remove => {
                self.write(&["rm", "shop"]);
                self.deployed = false;
            }
            Deed::CrashAgents(hosts) => hosts.iter().for_each(|n| self.crash_agent(*n)),
            Deed::CrashHosts(hosts) => return Done { at_ms: self.crash_hosts(hosts), deed },
            Deed::CrashBusyHosts(_) => {}
            Deed::KillProcesses(count) => self.kill_processes(usize::try_from(*count).unwrap_or(usize::MAX)),
            Deed::Restart => self.restart(),
            Deed::Pause(hosts, time) => hosts.iter().for_each(|n| self.pause(*n, *time)),
            Deed::Partition(far) => {
                let near: Vec<usize> = (0..self.size()).filter(|n| !far.contains(n)).collect();
                self.network().cut(&near, far);
                self.cut.extend(far);
            }
            Deed::Mute(hosts) => {
                hosts.iter().for_each(|n| self.network().mute(*n));
                self.mute.extend(hosts);
            }
            Deed::Heal => {
                (0..self.size()).filter(|n| self.is_up(*n)).for_each(|n| self.network().heal_around(n));
                self.cut.clear();
                self.mute.clear();
            }
            Deed::Network(conditions) => self.network().set(conditions.clone()),
        }
        Done { at_ms: before, deed }
    }

    /// The last so many hosts that run something, the first one never.
    fn busy(&self, count: usize) -> Vec<usize> {
        let rows = ask::ready(&self.cluster, self.up()[0], "").expect("the rows of what runs");
        let runs = |n: &usize| rows.iter().any(|row| row["node"] == self.cluster.nodes[*n].name.as_str());
        let busy = self.up().into_iter().filter(|n| *n > 0);
        let mut order: Vec<usize> = busy.rev().collect();
        order.sort_by_key(|n| !runs(n));
        order.truncate(count);
        assert_eq!(order.len(), count, "too few hosts are up");
        order
    }

    fn write(&self, args: &[&str]) {
        let at = self.up().first().copied().expect("a running agent");
        let output = self.cluster.nodes[at].run(args);
        assert!(output.status.success(), "{args:?}: {} {}", text(&output.stdout), text(&output.stderr));
    }

    /// What its agent counted is lost with it.
    fn remember(&mut self, n: usize) {
        if let Ok(status) = ask::agent(&self.cluster, n, "status") {
            self.past.push(status);
        }
    }

    fn crash_agent(&mut self, n: usize) {
        self.remember(n);
        self.cluster.kill_agent(n);
        self.dead.insert(n, false);
    }

    /// Hosts that lose their power say nothing any more, not even that nobody listens.
    fn crash_hosts(&mut self, hosts: &[usize]) -> u64 {
        hosts.iter().for_each(|n| self.remember(*n));
        if let Some(network) = self.cluster.network.as_ref() {
            hosts.iter().for_each(|n| network.silence(*n));
        }
        let silent = now_ms();
        for n in hosts {
            self.cluster.kill_node(*n);
            self.dead.insert(*n, true);
        }
        silent
    }

    fn kill_processes(&self, count: usize) {
        let mut rows = ask::ready(&self.cluster, 0, "").expect("the rows of what runs");
        rows.reverse();
        assert!(rows.len() >= count, "only {} run", rows.len());
        for row in rows.iter().take(count) {
            let node = self.cluster.nodes.iter().find(|node| row["node"] == node.name.as_str()).expect("its node");
            let port = format!("PORT={}", ask::endpoint(row).expect("an endpoint").port());
            let serves = |pid: &u32| {
                let read = |file: &str| text(&std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default());
                read("cmdline").split('\0').nth(1) == Some("hello") && read("environ").split('\0').any(|v| v == port)
            };
            kill9(processes_in(&node.dir).into_iter().find(serves).expect("the workload's process"));
        }
    }

    fn restart(&mut self) {
        assert!(!self.dead.is_empty(), "nothing is dead");
        for (n, whole) in std::mem::take(&mut self.dead) {
            if let Some(network) = self.cluster.network.as_ref().filter(|_| whole) {
                network.heal_around(n);
            }
            self.cluster.start_agent(n);
        }
    }

    fn pause(&mut self, n: usize, time: Duration) {
        self.signal(n, "-STOP");
        self.paused.push((n, Instant::now() + time));
    }

    fn signal(&self, n: usize, signal: &str) {
        let pid = self.cluster.nodes[n].pid().expect("a running agent").to_string();
        let status = std::process::Command::new("kill").args([signal, &pid]).status();
        assert!(status.is_ok_and(|s| s.success()), "kill {signal} {pid}");
    }

    /// Lets those agents go on whose time is over; when the next one's is.
    pub fn wake(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let (over, still): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.paused).into_iter().partition(|(_, until)| *until <= now);
        over.iter().for_each(|(n, _)| self.signal(*n, "-CONT"));
        self.paused = still;
        self.paused.iter().map(|(_, until)| *until).min()
    }

    fn deploy(&mut self, at: &[usize], same: bool) {
        std::thread::scope(|scope| {
            for (index, n) in at.iter().enumerate() {
                self.versions += u32::from(index == 0 || !same);
                let (compose, cluster) = (self.compose(self.versions), &self.cluster);
                scope.spawn(move || {
                    let output = cluster.deploy(*n, &compose, &[]);
                    assert!(output.status.success(), "{} {}", text(&output.stdout), text(&output.stderr));
                });
            }
        });
        self.deployed = true;
    }

    /// The scenario's services, checked as often as simulated ones are.
    fn compose(&self, version: u32) -> String {
        let hosts = u32::try_from(self.size()).unwrap_or(u32::MAX);
        let mut compose = "services:\n".to_owned();
        for line in &self.scenario.services {
            let (replicas, reserve) = (line.replicas.among(hosts), line.behaviour.reserve);
            let cpus = format!("{}.{:03}", reserve.cpu_milli / 1_000, reserve.cpu_milli % 1_000);
            compose.push_str(&format!(
                "  {}:\n    command: ${{DUNLIN}} hello\n    environment: {{GREETING: version-{version}}}\n    \
                 ports: [{{target: 8080, name: http}}]\n    stop_grace_period: 5s\n    deploy:\n      replicas: \
                 {replicas}\n      restart_policy: {{condition: any, delay: 1s, window: 5s}}\n      \
                 resources: {{reservations: {{cpus: '{cpus}', memory: {}}}}}\n    x-dunlin:\n      healthcheck:\n        \
                 http: {{port: http, path: /health}}\n        interval: 2s\n        timeout: 1s\n        retries: 3\n        \
                 start_period: 5s\n",
                line.name, reserve.memory_bytes
            ));
        }
        compose
    }

    /// The names of the scenario's services.
    #[must_use]
    pub fn services(&self) -> Vec<String> {
        self.scenario.services.iter().map(|line| line.name.clone()).collect()
    }

    /// The replicas that a deploy asks for.
    pub fn replicas(&self) -> impl Iterator<Item = String> {
        let hosts = u32::try_from(self.size()).unwrap_or(u32::MAX);
        let lines = self.scenario.services.iter();
        lines.flat_map(move |line| (1..=line.replicas.among(hosts)).map(|n| format!("shop/{}.{n}", line.name)))
    }

    /// Hosts whose agents run, side by side.
    #[must_use]
    pub fn sides(&self) -> [BTreeSet<usize>; 2] {
        let (far, near) = self.up().into_iter().partition(|n| self.cut.contains(n));
        [near, far]
    }
}
