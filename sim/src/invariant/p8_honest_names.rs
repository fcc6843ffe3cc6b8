//! P8: names never answer with an instance that this node knows to be dead, stopping or failing its health check.
//!
//! Judged at each change of a node's answers. Where a change names places, those are judged and the ones that follow them in
//! order; all of a node's answers are judged in turn while the checkers look, and every node's at the end.
//!
//! Silence is no honesty: once the flock has settled, every node answers with all that is ready, and with nothing else.

use std::collections::BTreeSet;

use dunlin_gossip::face::MemberState;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{ReplicaKey, ServiceKey, Slot};

use super::Broken;
use crate::answers;
use crate::host::Host;
use crate::inside;
use crate::net::HostNo;
use crate::world::World;

/// Places beyond the changed ones that a change has judged.
const NEIGHBOURS: usize = 8;

/// All answers of a node about a service.
pub(crate) fn check(world: &mut World, no: HostNo, service: &ServiceKey) {
    let places = world.hosts[no as usize].names.of(service).cloned().unwrap_or_default();
    judge(world, no, service, places);
}

/// The answers that changed, and some others.
pub(crate) fn check_places(world: &mut World, no: HostNo, service: &ServiceKey, changed: &[(Slot, NodeId)]) {
    let Some(held) = world.hosts[no as usize].names.of(service) else { return };
    let mut places: BTreeSet<_> = changed.iter().copied().filter(|place| held.contains(place)).collect();
    if let Some(last) = changed.last() {
        places.extend(held.range(last..).take(NEIGHBOURS));
    }
    judge(world, no, service, places);
}

/// Everything that a node answers.
pub(crate) fn check_all(world: &mut World, no: HostNo) {
    let services: Vec<ServiceKey> = world.hosts[no as usize].names.services().cloned().collect();
    services.iter().for_each(|service| check(world, no, service));
}

/// Every node that runs answers with exactly the instances that are ready.
pub(super) fn are_whole(world: &World) -> Result<(), Broken> {
    let ready = world.truth.runs.iter().flat_map(|(replica, runs)| {
        runs.iter().filter(|run| run.ready).map(|run| (replica.clone(), world.hosts[run.host as usize].id))
    });
    let expected = answers::digest(ready);
    let Some(host) = world.hosts.iter().find(|host| host.node.is_some() && host.names.digest() != expected) else {
        return Ok(());
    };
    Err(Broken { invariant: "p8-honest-names", detail: difference(world, host) })
}

fn difference(world: &World, host: &Host) -> String {
    for (replica, runs) in &world.truth.runs {
        for run in runs.iter().filter(|run| run.ready) {
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
        for (slot, node) in host.names.of(service).into_iter().flatten() {
            let replica = ReplicaKey { service: service.clone(), slot: *slot };
            let runs = world.truth.runs.get(&replica).into_iter().flatten();
            if !runs.into_iter().any(|run| run.ready && world.hosts[run.host as usize].id == *node) {
                let events = world.truth.last_events(&replica);
                return format!("host {} answers with {replica} on {node}, where it is not ready; {events}", host.no);
            }
        }
    }
    format!("host {} answers with other instances than those that are ready", host.no)
}

fn judge(world: &mut World, no: HostNo, service: &ServiceKey, places: BTreeSet<(Slot, NodeId)>) {
    let host = &world.hosts[no as usize];
    let Some(node) = host.node.as_ref() else { return };
    let lie = places.into_iter().find_map(|(slot, on)| {
        let replica = ReplicaKey { service: service.clone(), slot };
        let state = inside::member(node, on);
        if on != host.id && matches!(state, Some(MemberState::Down | MemberState::Left)) {
            return Some((replica, on, "whose node it holds down"));
        }
        let is_ready = inside::holds_ready(node, &replica, on);
        (!is_ready).then_some((replica, on, "which it knows not to be ready"))
    });
    if let Some((replica, on, why)) = lie {
        let events = world.truth.last_events(&replica);
        world.violation("p8-honest-names", format!("host {no} answers with {replica} on {on:?}, {why}; {events}"));
    }
}
