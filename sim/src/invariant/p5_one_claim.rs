//! P5: with a stable view exactly one process runs a replica and revision, and none runs what is no longer wanted. While
//! a failover or a rollout is under way there can be more; `duplicate_s` says for how long. What runs on a host without an agent
//! nobody can stop: it is judged once one is back.
//!
//! A rollout goes slot by slot. Where a lower slot has no room anywhere (P3 has judged that before), the slots above it keep
//! what they run, until there is room again.

use std::collections::BTreeMap;
use std::sync::Arc;

use dunlin_gossip::model::{ReplicaKey, Service, ServiceKey, Slot};

use super::{Broken, p3_progress};
use crate::truth::Run;
use crate::workload::Behaviour;
use crate::world::World;

/// No surplus runs.
pub(super) fn check(world: &World) -> Result<(), Broken> {
    let versioned = |(key, service): (ServiceKey, Arc<Service>)| {
        let version = Behaviour::of(&service.spec.workload).version;
        (key, (service, version))
    };
    let wanted: BTreeMap<_, _> = p3_progress::wanted(world).into_iter().map(versioned).collect();
    for (replica, all) in &world.truth.runs {
        let runs: Vec<_> = all.iter().filter(|run| world.answers_for(run.host)).collect();
        if runs.is_empty() {
            continue;
        }
        let service = wanted.get(&replica.service);
        let is_wanted = service.is_some_and(|(service, _)| p3_progress::is_wanted(service.mode, replica.slot));
        let version = service.map(|(_, version)| *version);
        let waits = || version.is_some_and(|version| waits_for_lower(world, replica, version));
        let is_right = is_wanted && runs.len() == 1 && runs.iter().all(|run| Some(run.version) == version || waits());
        if !is_right {
            let hosts: Vec<_> = runs.iter().map(|run| (run.host, run.version)).collect();
            let events = world.truth.last_events(replica);
            let detail = format!("{replica} runs on (host, version) {hosts:?}, wanted version {version:?}; {events}");
            return Err(Broken { invariant: "p5-one-claim", detail });
        }
    }
    Ok(())
}

/// True if a lower slot of its service is not ready at this version anywhere.
fn waits_for_lower(world: &World, replica: &ReplicaKey, version: u64) -> bool {
    let Slot::Number(slot) = replica.slot else { return false };
    let is_ready = |run: &Run| run.ready && run.version == version && world.faults.is_judged(run.host);
    (1..slot).any(|lower| {
        let lower = ReplicaKey { service: replica.service.clone(), slot: Slot::Number(lower) };
        !world.truth.runs.get(&lower).into_iter().flatten().any(is_ready)
    })
}
