//! P3: each replica that some live node has room for runs, with nobody's help, in bounded time after the last fault.

use std::collections::BTreeSet;
use std::sync::Arc;

use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{Mode, ReplicaKey, Resources, RestartCondition, Service, ServiceKey, ServiceName, Slot};

use super::{Broken, p3_crons, p3_drain, p5_jobs, p5_rollouts, p6_at_most_one};
use crate::host::Host;
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
    mode.has(slot)
}

/// Every wanted replica runs at its version and is ready, or there is no room for it anywhere.
pub(super) fn check(world: &World) -> Result<(), Broken> {
    for (service, specification) in wanted(world) {
        let behaviour = Behaviour::of(&specification.spec.workload);
        let Some(count) = specification.mode.count() else { continue };
        if p3_crons::is_cron(specification.mode)
            || p5_jobs::is_under_way(world, &service, &specification)
            || p5_rollouts::is_held_up(world, &service)
            || (behaviour.lone && !p6_at_most_one::has_voters(world))
            || may_stay_ended(&specification)
        {
            continue;
        }
        let (priority, replica) =
            (specification.spec.priority, |n| ReplicaKey { service: service.clone(), slot: Slot::Number(n) });
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
            if p5_jobs::is_done(world, &replica, &specification) {
                continue;
            }
            // What runs somewhere, at whatever version, ends nothing for its next place.
            let priority = if world.truth.runs.get(&replica).is_none_or(Vec::is_empty) { priority } else { i32::MIN };
            if let Some(host) = with_room(world, &behaviour.reserve, priority, Some((&replica, &specification))) {
                let events = world.truth.last_events(&replica);
                let (version, no) = (behaviour.version, host.no);
                let says = host.node.as_ref().map(|node| inside::opinion(node, &replica)).unwrap_or_default();
                let detail = format!(
                    "{replica} does not run at version {version} though host {no} has room, which says: {says}; {events}"
                );
                return Err(Broken { invariant: "p3-progress", detail });
            }
        }
    }
    Ok(())
}

/// True for a service whose author wants some ends to be final.
fn may_stay_ended(service: &Service) -> bool {
    let restart = &service.spec.restart;
    service.mode.job().is_none() && (restart.condition != RestartCondition::Any || restart.max_attempts.is_some())
}

/// A host that could take one replica more of this size, in the place of less important ones if need be.
pub(super) fn with_room<'a>(
    world: &'a World,
    reserve: &Resources,
    priority: i32,
    of: Option<(&ReplicaKey, &Service)>,
) -> Option<&'a Host> {
    let suits = of.and_then(|(replica, service)| suitable(world, replica, service));
    let room = |host: &Host| room(world, host).plus(&below(world, host, priority));
    world.judged().find(|host| {
        host.is_up()
            && p3_drain::takes_work(world, host)
            && room(host).holds(reserve)
            && suits.as_ref().is_none_or(|suits| suits.contains(&host.id))
    })
}

/// Where a replica can be whose author says more of its place than its size; none: anywhere. What labels, ports and company allow
/// is a question of placement, and answered by its code: whether there is room is still judged by what truly runs.
pub(super) fn suitable(world: &World, replica: &ReplicaKey, service: &Service) -> Option<BTreeSet<NodeId>> {
    world.scenario.services.iter().find(|line| line.name == replica.service.service.as_str())?.model.as_ref()?;
    let node = world.judged().find_map(|host| host.node.as_ref())?;
    Some(inside::suits(node, replica, &service.spec))
}

/// What nothing on a host holds. A version that never runs holds what its claims reserve, between its runs as well.
fn room(world: &World, host: &Host) -> Resources {
    let used = world.truth.used(host.no);
    let has_bad = world.scenario.services.iter().any(|line| line.behaviour.bad_version > 0);
    let claimed =
        host.node.as_ref().filter(|_| has_bad).map(|node| inside::reserved(node, host.id)).unwrap_or_default();
    let used = Resources {
        cpu_milli: used.cpu_milli.max(claimed.cpu_milli),
        memory_bytes: used.memory_bytes.max(claimed.memory_bytes),
    };
    host.capacity.minus(&used)
}

/// What less important replicas hold on a host: that is room, where nothing else is.
fn below(world: &World, host: &Host, priority: i32) -> Resources {
    let lines = world.scenario.services.iter().filter(|line| line.priority < priority);
    let lesser: BTreeSet<ServiceName> = lines.filter_map(|line| ServiceName::new(&line.name).ok()).collect();
    if lesser.is_empty() {
        return Resources::default();
    }
    let runs = world.truth.runs.iter().filter(|(replica, _)| lesser.contains(&replica.service.service));
    let here = runs.flat_map(|(_, runs)| runs).filter(|run| run.host == host.no);
    here.fold(Resources::default(), |sum, run| sum.plus(&run.reserve))
}

/// Wanted replicas of services that go on, counted by number, that are ready nowhere now: nothing has room for them, no host suits,
/// or they crash.
pub(crate) fn unready(world: &World) -> u32 {
    let mut unready = 0;
    for (service, specification) in wanted(world) {
        let Some(count) = specification.mode.count().filter(|_| specification.mode.job().is_none()) else { continue };
        let first = ReplicaKey { service: service.clone(), slot: Slot::Number(0) };
        let of_service = world.truth.runs.range(first..).take_while(|(replica, _)| replica.service == service);
        let is_wanted = |slot: Slot| is_wanted(specification.mode, slot);
        let ready = of_service.filter(|(replica, runs)| is_wanted(replica.slot) && runs.iter().any(|run| run.ready));
        unready += count.saturating_sub(u32::try_from(ready.count()).unwrap_or(u32::MAX));
    }
    unready
}

impl World {
    /// How many replicas the flock has agreed to run.
    pub(crate) fn wanted_replicas(&self) -> u32 {
        let all = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX);
        let count = |mode: Mode| mode.count().unwrap_or(all);
        wanted(self).iter().map(|(_, service)| count(service.mode)).sum()
    }
}
