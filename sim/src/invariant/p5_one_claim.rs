//! P5: with a stable view exactly one process runs a replica and revision, and none runs what is no longer wanted. While
//! a failover or a rollout is under way there can be more; `duplicate_s` says for how long.

use std::collections::BTreeMap;

use dunlin_gossip::model::{Mode, Slot};

use super::{Broken, p3_progress};
use crate::workload::Behaviour;
use crate::world::World;

/// No surplus runs.
pub(super) fn check(world: &World) -> Result<(), Broken> {
    let wanted: BTreeMap<_, _> = p3_progress::wanted(world).into_iter().collect();
    for (replica, runs) in &world.truth.runs {
        let service = wanted.get(&replica.service);
        let is_wanted = service.is_some_and(|service| match (service.mode, replica.slot) {
            (Mode::Replicated(count), Slot::Number(n)) => n <= count,
            (Mode::Global, Slot::Node(_)) => true,
            _ => false,
        });
        let version = service.map(|service| Behaviour::of(&service.spec.workload).version);
        let is_right = is_wanted && runs.len() == 1 && runs.iter().all(|run| Some(run.version) == version);
        if !is_right {
            let hosts: Vec<_> = runs.iter().map(|run| (run.host, run.version)).collect();
            let events = world.truth.last_events(replica);
            let detail = format!("{replica} runs on (host, version) {hosts:?}, wanted version {version:?}; {events}");
            return Err(Broken { invariant: "p5-one-claim", detail });
        }
    }
    Ok(())
}
