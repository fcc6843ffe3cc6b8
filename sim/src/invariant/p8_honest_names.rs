//! P8: names never answer with an instance that this node knows to be dead, stopping or failing its health check.
//!
//! Judged at each change of a node's answers. Where a change names places, those are judged and the ones that follow them in
//! order; all of a node's answers are judged in turn while the checkers look, and every node's at the end.
//!
//! Nor with one on a node that it suspects while it answers with one on a node that is alive.
//!
//! Silence is no honesty: once the flock has settled, every node answers with all that is ready, and with nothing else. An
//! agent does not probe what it found running at a revision that is no longer in force: there its last word stands.

use std::collections::BTreeSet;

use dunlin_gossip::face::MemberState;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{Mode, ReplicaKey, ServiceKey, Slot};

use super::{Broken, p8_answers};
use crate::answers;
use crate::host::Host;
use crate::inside;
use crate::net::HostNo;
use crate::truth::Run;
use crate::workload::Behaviour;
use crate::world::World;

/// Places beyond the changed ones that a change has judged.
const NEIGHBOURS: usize = 8;

/// Services of at most so many replicas are told whole at any time.
const TOLD_AT_ONCE: u32 = 32;

/// All answers of a node about a service.
pub(crate) fn check(world: &mut World, no: HostNo, service: &ServiceKey) {
    let doubtful = doubtful(&world.hosts[no as usize], service);
    judge(world, no, service, doubtful);
}

/// Answers that need a closer look. Those of a service and what is ready of it are in one order: a walk along both finds them.
fn doubtful(host: &Host, service: &ServiceKey) -> BTreeSet<(Slot, NodeId)> {
    let (Some(node), Some(held)) = (host.node.as_ref(), host.names.of(service)) else { return BTreeSet::new() };
    let gone = inside::gone(node);
    let mut ready = inside::ready(node, service).peekable();
    let is_doubtful = |place: &(Slot, NodeId)| {
        while ready.next_if(|other| other < place).is_some() {}
        ready.peek() != Some(place) || gone.contains(&place.1)
    };
    held.keys().copied().filter(is_doubtful).collect()
}

/// The answers that changed, and some others.
pub(crate) fn check_places(world: &mut World, no: HostNo, service: &ServiceKey, changed: &[(Slot, NodeId)]) {
    let Some(held) = world.hosts[no as usize].names.of(service) else { return };
    let mut places: BTreeSet<_> = changed.iter().copied().filter(|place| held.contains_key(place)).collect();
    if let Some(last) = changed.last() {
        places.extend(held.from(last).take(NEIGHBOURS).map(|(place, ())| *place));
    }
    judge(world, no, service, places);
}

/// Everything that a node answers.
pub(crate) fn check_all(world: &mut World, no: HostNo) {
    let services: Vec<ServiceKey> = world.hosts[no as usize].names.services().cloned().collect();
    services.iter().for_each(|service| check(world, no, service));
    p8_answers::check(world, no);
}

/// Every node that runs answers with exactly the instances that are ready.
pub(super) fn are_whole(world: &World) -> Result<(), Broken> {
    let ready = world.truth.runs.iter().flat_map(|(replica, runs)| {
        let counts = |run: &&Run| is_due(world, replica, run);
        runs.iter().filter(counts).map(|run| (replica.clone(), world.hosts[run.host as usize].id))
    });
    let expected = answers::digest(ready);
    let Some(host) = world.judged().find(|host| host.node.is_some() && host.names.digest() != expected) else {
        return Ok(());
    };
    Err(Broken { invariant: "p8-honest-names", detail: difference(world, host) })
}

/// True if everybody should answer with it.
fn is_due(world: &World, replica: &ReplicaKey, run: &Run) -> bool {
    let host = &world.hosts[run.host as usize];
    let Some(node) = host.node.as_ref().filter(|_| world.faults.is_judged(run.host)) else { return false };
    let in_force = inside::service(node, &replica.service)
        .is_some_and(|(_, service)| Behaviour::of(&service.spec.workload).version == run.version);
    let is_probed = run.boot == host.boot || in_force;
    if is_probed { run.ready } else { inside::holds_ready(node, replica, host.id) }
}

fn difference(world: &World, host: &Host) -> String {
    for (replica, runs) in &world.truth.runs {
        for run in runs.iter().filter(|run| is_due(world, replica, run)) {
            if !host.names.has(replica, world.hosts[run.host as usize].id) {
                let events = world.truth.last_events(replica);
                return format!(
                    "host {} does not answer with {replica}, ready on host {}; {events}",
                    host.no, run.host
                );
            }
        }
    }
    for service in host.names.services() {
        for ((slot, node), ()) in host.names.of(service).into_iter().flatten() {
            let replica = ReplicaKey { service: service.clone(), slot: *slot };
            let runs = world.truth.runs.get(&replica).into_iter().flatten();
            let holds = |run: &Run| is_due(world, &replica, run) && world.hosts[run.host as usize].id == *node;
            if !runs.into_iter().any(holds) {
                let events = world.truth.last_events(&replica);
                return format!("host {} answers with {replica} on {node}, where it is not ready; {events}", host.no);
            }
        }
    }
    format!("host {} answers with other instances than those that are ready", host.no)
}

fn judge(world: &mut World, no: HostNo, service: &ServiceKey, places: BTreeSet<(Slot, NodeId)>) {
    let host = &world.hosts[no as usize];
    if !world.faults.is_judged(no) {
        return;
    }
    let Some(node) = host.node.as_ref() else { return };
    let is_alive = |on: NodeId| on == host.id || inside::member(node, on) == Some(MemberState::Alive);
    let answers = host.names.of(service);
    // Large services are told whole with pauses; one that has become small is large as long as more of it is answered with,
    // or is ready as far as the node knows (two revisions beside each other, say).
    let is_small = || {
        let all = answers.into_iter().flatten().count().max(inside::ready(node, service).count());
        all <= TOLD_AT_ONCE as usize
            && inside::service(node, service)
                .is_some_and(|(_, force)| matches!(force.mode, Mode::Replicated(n) if n <= TOLD_AT_ONCE))
    };
    let beside_alive = || is_small() && answers.into_iter().flatten().any(|((_, on), ())| is_alive(*on));
    let lie = places.into_iter().find_map(|(slot, on)| {
        let replica = ReplicaKey { service: service.clone(), slot };
        let state = inside::member(node, on);
        if on != host.id && matches!(state, Some(MemberState::Down | MemberState::Left)) {
            return Some((replica, on, "whose node it holds down"));
        }
        if state == Some(MemberState::Suspect) && beside_alive() {
            return Some((replica, on, "whose node it suspects, beside others"));
        }
        let is_ready = inside::holds_ready(node, &replica, on);
        (!is_ready).then_some((replica, on, "which it knows not to be ready"))
    });
    if let Some((replica, on, why)) = lie {
        let events = world.truth.last_events(&replica);
        world.violation("p8-honest-names", format!("host {no} answers with {replica} on {on:?}, {why}; {events}"));
    }
}
