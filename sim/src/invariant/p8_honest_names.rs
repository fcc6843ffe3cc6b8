//! P8: names never answer with an instance that this node knows to be dead, stopping or failing its health check.

use dunlin_gossip::face::MemberState;
use dunlin_gossip::model::{ReplicaKey, ServiceKey};

use crate::inside;
use crate::net::HostNo;
use crate::world::World;

/// After each change of a node's answers about a service, and at the end of each call that changed them.
pub(crate) fn check(world: &mut World, no: HostNo, service: &ServiceKey) {
    let host = &world.hosts[no as usize];
    let (Some(node), Some(instances)) = (host.node.as_ref(), host.names.get(service)) else { return };
    let lie = instances.iter().find_map(|instance| {
        let replica = ReplicaKey { service: service.clone(), slot: instance.slot };
        let state = inside::member(node, instance.node);
        if instance.node != host.id && matches!(state, Some(MemberState::Down | MemberState::Left)) {
            return Some((replica, instance.node, "whose node it holds down"));
        }
        let is_ready = inside::holds_ready(node, &replica, instance.node);
        (!is_ready).then_some((replica, instance.node, "which it knows not to be ready"))
    });
    if let Some((replica, on, why)) = lie {
        let events = world.truth.last_events(&replica);
        world.violation("p8-honest-names", format!("host {no} answers with {replica} on {on:?}, {why}; {events}"));
    }
}
