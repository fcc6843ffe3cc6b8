//! The simulator's scenario files against real agents: the same services, the same steps in the same order.
//!
//! Divergences from the simulated run, on purpose: a step comes as soon as the flock has settled after the one before (the
//! file's moments only order the steps), hosts are processes or network namespaces of one machine, and a service's `ready`
//! delay is whatever the real server takes.

use std::collections::BTreeSet;

use dunlin_sim::scenario::{Action, Count, DiskFate, Scenario};
use serde_json::Value;

use crate::cluster::{Cluster, PATIENCE, text};
use crate::wait::until;

/// A run of one scenario.
#[derive(Debug)]
pub struct Run {
    cluster: Cluster,
    scenario: Scenario,
    deployed: bool,
    dead: BTreeSet<usize>,
    cut: BTreeSet<usize>,
    /// What was done, for failures and for the proof that each fault bit.
    pub done: Vec<String>,
}

impl Run {
    /// Loads a scenario by name; the cluster is up already.
    ///
    /// # Panics
    /// If there is no such scenario.
    #[must_use]
    pub fn new(scenario: &str, cluster: Cluster) -> Self {
        let scenario = dunlin_sim::cli::load(scenario).expect("a built-in scenario");
        Self { cluster, scenario, deployed: false, dead: BTreeSet::new(), cut: BTreeSet::new(), done: Vec::new() }
    }

    /// Goes through the timeline and demands, after each step, what the simulator's invariants demand in the end.
    ///
    /// # Panics
    /// If a promise is broken, or the scenario has a step that real agents are not driven through.
    pub fn play(&mut self) {
        for step in self.scenario.timeline.clone() {
            self.act(&step.action);
            self.done.push(format!("{:?}", step.action));
            self.settle();
        }
    }

    fn hosts(&self) -> u32 {
        u32::try_from(self.cluster.nodes.len()).expect("few hosts")
    }

    /// The last so many hosts: never the first, at which the harness asks.
    fn last(&self, count: Count) -> Vec<usize> {
        let all = self.cluster.nodes.len();
        let n = usize::try_from(count.among(self.hosts())).expect("few hosts").min(all - 1);
        (all - n..all).collect()
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Deploy => self.deploy(0, "plain"),
            Action::Conflict { writers } => {
                let writers = usize::try_from(*writers).expect("few writers");
                let all = self.cluster.nodes.len();
                // From the first and from the last hosts, so that both sides of a cut write.
                for w in 0..writers {
                    let at = if w % 2 == 0 { w / 2 } else { all - 1 - w / 2 };
                    self.deploy(at, &format!("writer-{w}"));
                }
            }
            Action::CrashHosts(count) => {
                for n in self.last(*count) {
                    self.cluster.kill_node(n);
                    self.dead.insert(n);
                }
                assert!(!self.dead.is_empty(), "the fault did not bite");
            }
            Action::Restart(DiskFate::Kept) => {
                for n in std::mem::take(&mut self.dead) {
                    self.cluster.start_agent(n);
                }
            }
            Action::Partition(count) => {
                let cut = self.last(*count);
                let rest: Vec<usize> = (0..self.cluster.nodes.len()).filter(|n| !cut.contains(n)).collect();
                self.cluster.network.as_ref().expect("a network of its own").cut(&rest, &cut);
                self.cut = cut.into_iter().collect();
                assert!(!self.cut.is_empty(), "the fault did not bite");
            }
            Action::Heal => {
                self.cluster.network.as_ref().expect("a network of its own").heal();
                self.cut.clear();
            }
            other => panic!("real agents are not driven through {other:?}"),
        }
    }

    fn deploy(&mut self, n: usize, greeting: &str) {
        let mut compose = "services:\n".to_owned();
        for line in &self.scenario.services {
            let replicas = line.replicas.among(self.hosts()).min(12);
            compose.push_str(&format!(
                "  {}:\n    command: ${{DUNLIN}} hello\n    environment: {{GREETING: {greeting}}}\n    \
                 ports: [{{target: 8080, name: http}}]\n    stop_grace_period: 1s\n    deploy:\n      replicas: {replicas}\n      \
                 resources: {{reservations: {{cpus: '0.05', memory: 8M}}}}\n    x-dunlin:\n      healthcheck:\n        \
                 http: {{port: http, path: /health}}\n        interval: 500ms\n",
                line.name
            ));
        }
        let output = self.cluster.deploy(n, &compose, &["--ack", "1"]);
        assert!(output.status.success(), "{} {}", text(&output.stdout), text(&output.stderr));
        self.deployed = true;
    }

    /// Each side of a cut settles by itself: members agree, states are equal, each replica runs once.
    fn settle(&self) {
        let all: BTreeSet<usize> = (0..self.cluster.nodes.len()).filter(|n| !self.dead.contains(n)).collect();
        let rest: BTreeSet<usize> = all.difference(&self.cut).copied().collect();
        for side in [&rest, &self.cut] {
            if !side.is_empty() {
                until(&format!("{side:?} to settle after {:?}", self.done.last()), PATIENCE * 2, || self.settled(side));
            }
        }
    }

    fn settled(&self, side: &BTreeSet<usize>) -> Result<(), String> {
        let mut hashes = BTreeSet::new();
        for n in side {
            let node = &self.cluster.nodes[*n];
            let status = node.json(&["status"])?;
            let alive = status["members"]["alive"].as_u64().unwrap_or(0);
            if usize::try_from(alive) != Ok(side.len()) {
                return Err(format!("{} sees {} alive of {}", node.name, alive, side.len()));
            }
            hashes.insert(status["state_hash"].to_string());
            if self.deployed {
                self.replicas_settled(*n)?;
            }
        }
        if hashes.len() == 1 { Ok(()) } else { Err(format!("P1: states differ: {hashes:?}")) }
    }

    fn replicas_settled(&self, n: usize) -> Result<(), String> {
        let services = self.cluster.nodes[n].json(&["services"])?;
        let rows = self.cluster.ps(n)?;
        for service in services.as_array().into_iter().flatten() {
            let wanted = service["replicas_wanted"].as_u64().unwrap_or(0);
            let (ready, updated) = (service["ready"].as_u64().unwrap_or(0), service["updated"].as_u64().unwrap_or(0));
            let live: Vec<&Value> =
                rows.iter().filter(|r| r["service"] == service["service"] && r["phase"] != "lost").collect();
            let distinct: BTreeSet<String> = live.iter().map(|r| r["replica"].to_string()).collect();
            if ready != wanted || updated != wanted {
                return Err(format!("P3: {service}\n{}", Value::from(rows.clone())));
            }
            if live.len() != distinct.len() {
                return Err(format!("P5: a replica has two claims: {live:?}"));
            }
        }
        Ok(())
    }
}
