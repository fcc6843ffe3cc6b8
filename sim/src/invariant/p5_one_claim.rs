//! P5: with a stable view exactly one process runs a replica and revision, and none runs what is no longer wanted. While
//! a failover or a rollout is under way there can be more; `duplicate_s` says for how long. What runs on a host without an agent
//! nobody can stop: it is judged once one is back.
//!
//! A rollout goes slot by slot. Where a lower slot has no room anywhere (P3 has judged that before), the slots above it keep
//! what they run, until there is room again. So does a drained host, where no other has room, and a slot that starts the new
//! version first, where there is no room for both. What a host takes for its share runs twice until it is ready there.

use std::collections::BTreeMap;
use std::sync::Arc;

use dunlin_gossip::model::{ReplicaKey, Service, ServiceKey, Slot};

use super::{Broken, p3_crons, p3_drain, p3_progress, p5_jobs, p5_rollouts, p7_share};
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
        let is_job = service.is_some_and(|(service, _)| service.mode.job().is_some());
        let waits = || !is_job && version.is_some_and(|version| waits_for_lower(world, replica, version));
        let leaves = |run: &Run| p3_drain::is_drained(world, run.host);
        let starts_first = || p5_rollouts::starts_first(world, &replica.service);
        // What an earlier deploy began goes on.
        let is_run = service.is_some_and(|(service, _)| p3_crons::is_cron(service.mode));
        let may_run = |run: &&Run| is_run || Some(run.version) == version || waits() || starts_first() || leaves(run);
        let is_held_up = is_wanted && p5_rollouts::is_held_up(world, &replica.service);
        let is_alone = |runs: &[&Run]| runs.len() == 1 || p7_share::is_moving(world, replica, runs, version);
        let is_right = match is_held_up {
            true => p5_rollouts::may_run(world, replica, &runs),
            false => is_wanted && is_alone(&runs) && runs.iter().all(may_run) && !p5_jobs::is_over(world, replica),
        };
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
pub(super) fn waits_for_lower(world: &World, replica: &ReplicaKey, version: u64) -> bool {
    let Slot::Number(slot) = replica.slot else { return false };
    let is_ready = |run: &Run| run.ready && run.version == version && world.faults.is_judged(run.host);
    (1..slot).any(|lower| {
        let lower = ReplicaKey { service: replica.service.clone(), slot: Slot::Number(lower) };
        !world.truth.runs.get(&lower).into_iter().flatten().any(is_ready)
    })
}
