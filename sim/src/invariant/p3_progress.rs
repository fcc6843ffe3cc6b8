//! P3: each replica that some live node has room for runs, with nobody's help, in bounded time after the last fault.

use std::sync::Arc;

use dunlin_gossip::model::{Mode, ReplicaKey, Service, ServiceKey, ServiceName, Slot};

use super::Broken;
use crate::inside;
use crate::operator::stack;
use crate::truth::Run;
use crate::workload::Behaviour;
use crate::world::World;

/// What the flock has agreed to run (P1 says that any node's word is everyone's).
pub(crate) fn wanted(world: &World) -> Vec<(ServiceKey, Arc<Service>)> {
    let Some(node) = world.judged().find_map(|host| host.node.as_ref()) else { return Vec::new() };
    let names = world.scenario.services.iter().filter_map(|line| ServiceName::new(&line.name).ok());
    let keys = names.map(|service| ServiceKey { stack: stack(), service });
    keys.filter_map(|key| inside::service(node, &key).map(|(_, service)| (key, service))).collect()
}

/// True if a service of this mode has this slot.
pub(crate) const fn is_wanted(mode: Mode, slot: Slot) -> bool {
    match (mode, slot) {
        (Mode::Replicated(count), Slot::Number(n)) => n <= count,
        (Mode::Global, Slot::Node(_)) => true,
        _ => false,
    }
}

/// Every wanted replica runs at its version and is ready, or there is no room for it anywhere.
pub(super) fn check(world: &World) -> Result<(), Broken> {
    for (service, specification) in wanted(world) {
        let behaviour = Behaviour::of(&specification.spec.workload);
        let Mode::Replicated(count) = specification.mode else { continue };
        let replica = |n| ReplicaKey { service: service.clone(), slot: Slot::Number(n) };
        let is_right = |run: &Run| run.version == behaviour.version && run.ready && world.answers_for(run.host);
        // What runs is in the order of slots.
        let running = world.truth.runs.range(replica(1)..).filter(|(_, runs)| runs.iter().any(is_right));
        let mut running =
            running.map(|(replica, _)| replica).take_while(|replica| replica.service == service).peekable();
        for n in 1..=count {
            while running.next_if(|other| other.slot < Slot::Number(n)).is_some() {}
            if running.peek().is_some_and(|other| other.slot == Slot::Number(n)) {
                continue;
            }
            let replica = replica(n);
            let has_room = |host: &&crate::host::Host| {
                host.is_up() && host.capacity.minus(&world.truth.used(host.no)).holds(&behaviour.reserve)
            };
            if let Some(host) = world.judged().find(has_room) {
                let events = world.truth.last_events(&replica);
                let version = behaviour.version;
                let detail =
                    format!("{replica} does not run at version {version} though host {} has room; {events}", host.no);
                return Err(Broken { invariant: "p3-progress", detail });
            }
        }
    }
    Ok(())
}

impl World {
    /// How many replicas the flock has agreed to run.
    pub(crate) fn wanted_replicas(&self) -> u32 {
        let count = |mode| match mode {
            Mode::Replicated(count) => count,
            Mode::Global => u32::try_from(self.hosts.len()).unwrap_or(u32::MAX),
        };
        wanted(self).iter().map(|(_, service)| count(service.mode)).sum()
    }
}
