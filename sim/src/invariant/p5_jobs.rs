//! P3 and P5 of work that runs to completion: each slot is finished, in bounded time after the last fault; what everybody
//! knows to be finished does not run; and no more slots are under way than may be.
//!
//! At least once is what is promised, so a slot that runs again is judged only where a scenario says that none may, and only
//! where its end had time to be known.

use dunlin_gossip::model::{ReplicaKey, Service, ServiceKey, Slot};

use super::p3_crons;
use crate::inside;
use crate::queue::{Nanos, SECOND};
use crate::workload::Behaviour;
use crate::world::World;

/// An end is known by then, where nothing keeps hosts apart.
pub(crate) const SPREADS: Nanos = 2 * SECOND;

/// A process of a job has come up: may it?
pub(crate) fn note(world: &mut World, replica: &ReplicaKey, behaviour: &Behaviour) {
    if behaviour.finish_ms == 0 {
        return;
    }
    p3_crons::note(world, replica);
    let is_run = matches!(replica.slot, Slot::Run(..));
    let finished = world.truth.finish(replica, behaviour.version).map(|(_, at)| at);
    let finished = if is_run { world.truth.run_finish(replica) } else { finished };
    if finished.is_some_and(|at| at + SPREADS < world.now) {
        world.truth.figures.reruns += 1;
        world.truth.note(world.now, replica, "it runs again, though it has finished");
        world.truth.figures.rerun = format!("; {replica}: {}", world.truth.last_events(replica));
    }
    let is_of = |line: &&crate::scenario::ServiceLine| line.name == replica.service.service.as_str();
    let most = world.scenario.services.iter().find(is_of).map_or(0, |line| line.parallelism);
    let first = ReplicaKey { service: replica.service.clone(), slot: Slot::Number(0) };
    let of_service = world.truth.runs.range(first..).take_while(|(other, _)| other.service == replica.service);
    let under_way = of_service.filter(|(_, runs)| runs.iter().any(|run| run.version == behaviour.version)).count();
    if most > 0 && !is_run && under_way > usize::try_from(most).unwrap_or(usize::MAX) {
        world.truth.figures.crowded += 1;
        world.truth.note(world.now, replica, "it begins out of its turn");
    }
}

/// True for a slot of a job that is finished, or never will be since its job has failed.
pub(super) fn is_done(world: &World, replica: &ReplicaKey, service: &Service) -> bool {
    let version = Behaviour::of(&service.spec.workload).version;
    service.mode.job().is_some()
        && (world.truth.finish(replica, version).is_some()
            || world
                .judged()
                .filter_map(|host| host.node.as_ref())
                .any(|node| inside::is_finished(node, replica) || inside::has_failed(node, &replica.service)))
}

/// True while slots of a job run that goes so many at a time: others wait for them.
pub(super) fn is_under_way(world: &World, key: &ServiceKey, service: &Service) -> bool {
    let is_paced = service.mode.job().is_some_and(|job| job.parallelism > 0);
    let version = Behaviour::of(&service.spec.workload).version;
    let mut runs = world.truth.runs.iter().filter(|(replica, _)| replica.service == *key).flat_map(|(_, runs)| runs);
    is_paced && runs.any(|run| run.version == version && world.answers_for(run.host))
}

/// True for a slot of a job of which everybody who is judged knows that it is finished.
pub(super) fn is_over(world: &World, replica: &ReplicaKey) -> bool {
    let mut nodes = world.judged().filter_map(|host| host.node.as_ref()).peekable();
    nodes.peek().is_some() && nodes.all(|node| inside::is_finished(node, replica))
}
