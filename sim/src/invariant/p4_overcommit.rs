//! P4: a node never runs allocations whose reservations exceed its capacity, whatever its peers believe.

use dunlin_gossip::model::ReplicaKey;

use crate::net::HostNo;
use crate::world::World;

/// At each start of a process.
pub(crate) fn check(world: &mut World, no: HostNo, replica: &ReplicaKey) {
    let (used, capacity) = (world.truth.used(no), world.hosts[no as usize].capacity);
    if !capacity.holds(&used) {
        let events = world.truth.last_events(replica);
        world.violation("p4-overcommit", format!("host {no} runs {used:?} on {capacity:?}; {replica}: {events}"));
    }
}
