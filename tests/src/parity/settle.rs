//! The untimed way to go through a scenario: each step comes as soon as the flock has settled after the one before. What must
//! be true then is what the simulator's invariants demand in the end.

use std::collections::BTreeSet;

use serde_json::Value;

use super::flock::Flock;
use super::plan::Step;
use crate::cluster::PATIENCE;
use crate::wait::until;

impl Flock {
    /// Goes through the steps in order and demands the promises after each; answers with what was done.
    ///
    /// # Panics
    /// If a promise is broken.
    pub fn play(&mut self, steps: &[Step]) -> Vec<String> {
        let mut done = Vec::new();
        for step in steps {
            done.push(format!("{:?}", self.act(&step.deed).deed));
            self.settle(&done[done.len() - 1]);
        }
        done
    }

    /// Each side of a cut settles by itself: members agree, states are equal, each replica runs once.
    ///
    /// # Panics
    /// With the promise that is broken, if that takes too long.
    pub fn settle(&self, after: &str) {
        for side in self.sides().iter().filter(|side| !side.is_empty()) {
            until(&format!("{side:?} to settle after {after}"), PATIENCE * 2, || self.settled(side));
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
