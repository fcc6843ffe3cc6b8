//! P5 and P9, the other side: what is stopped is surplus. Who stops a process of a replica that it wants itself leaves it to
//! somebody who holds himself for its owner; and a service of several replicas is never stopped as a whole to be changed.
//!
//! Counted at each end of a process that its agent stopped; a scenario's limits say whether any is too many.

use dunlin_gossip::model::{Mode, ReplicaKey};

use crate::host::Host;
use crate::inside;
use crate::net::HostNo;
use crate::workload::Behaviour;
use crate::world::World;

/// A process of this version ended, as its agent wanted.
pub(crate) fn note(world: &mut World, no: HostNo, replica: &ReplicaKey, version: u64) {
    let Some(node) = world.hosts[no as usize].node.as_ref() else { return };
    let Some((_, service)) = inside::service(node, &replica.service) else { return };
    let ready = |runs: &[crate::truth::Run]| runs.iter().any(|run| run.ready);
    let mut of_service = world.truth.runs.iter().filter(|(other, _)| other.service == replica.service);
    let several = !matches!(service.mode, Mode::Replicated(0 | 1)) && service.mode.job().is_none();
    if several && !of_service.any(|(_, runs)| ready(runs)) {
        world.truth.figures.outages += 1;
        world.truth.note(world.now, replica, "nothing of its service is ready");
    }
    let wants = inside::wants(node, replica) && Behaviour::of(&service.spec.workload).version == version;
    let owns = |host: &Host| host.node.as_ref().is_some_and(|node| inside::owns(node, replica, host.id));
    // A slot of a job that has begun anew may be waiting for its turn.
    if wants && service.mode.job().is_none() && !world.hosts.iter().any(owns) {
        world.truth.figures.abandoned += 1;
        world.truth.note(world.now, replica, "nobody holds himself for its owner");
    }
}
