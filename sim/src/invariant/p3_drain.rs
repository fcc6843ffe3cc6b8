//! What a drain promises. In the end a drained host runs nothing that another has room for (P3); and on the way there nothing
//! that was ready is stopped before it is ready elsewhere. The latter is counted at each end of a process, and judged where a
//! scenario's limits say so: where other faults strike at the same time, what was ready elsewhere may have died since.

use dunlin_gossip::model::ReplicaKey;

use super::{Broken, p3_progress, p5_rollouts, p6_at_most_one};
use crate::host::Host;
use crate::inside;
use crate::net::HostNo;
use crate::truth::Run;
use crate::workload::Behaviour;
use crate::world::World;

/// Hosts on which nothing new comes, by the word of any node (P1 says that it is everyone's).
pub(crate) fn takes_work(world: &World, host: &Host) -> bool {
    let node = world.judged().find_map(|host| host.node.as_ref());
    node.is_none_or(|node| !inside::is_cordoned(node, host.id) && !inside::is_drained(node, host.id))
}

/// True if a host is drained, by the word of any node.
pub(super) fn is_drained(world: &World, no: HostNo) -> bool {
    let node = world.judged().find_map(|host| host.node.as_ref());
    node.is_some_and(|node| inside::is_drained(node, world.hosts[no as usize].id))
}

/// Drained hosts are empty, as far as there is room elsewhere.
pub(super) fn check(world: &World) -> Result<(), Broken> {
    let Some(node) = world.judged().find_map(|host| host.node.as_ref()) else { return Ok(()) };
    if !inside::has_drained(node) {
        return Ok(());
    }
    let wanted = p3_progress::wanted(world);
    for (replica, runs) in &world.truth.runs {
        let on_drained = |run: &&Run| {
            let host = &world.hosts[run.host as usize];
            world.answers_for(run.host) && inside::is_drained(node, host.id)
        };
        let Some(run) = runs.iter().find(on_drained) else { continue };
        let host = &world.hosts[run.host as usize];
        if inside::drained_until(node, host.id).is_some_and(|until| until <= host.clock.wall(world.now)) {
            let events = world.truth.last_events(replica);
            let detail = format!("{replica} runs on host {} beyond the deadline of its drain; {events}", run.host);
            return Err(Broken { invariant: "p3-drain", detail });
        }
        let service = wanted.iter().find(|(key, _)| *key == replica.service);
        // What ends by itself is let end.
        if service.is_some_and(|(_, service)| service.mode.job().is_some()) {
            continue;
        }
        let version = service.map(|(_, service)| Behaviour::of(&service.spec.workload).version);
        // What has an older version waits for its turn in the rollout first, and with it while it is held up.
        if version.is_some_and(|version| {
            let waits = super::p5_one_claim::waits_for_lower(world, replica, version);
            version != run.version && (waits || p5_rollouts::is_held_up(world, &replica.service))
        }) {
            continue;
        }
        if run.is_lone && !p6_at_most_one::has_voters(world) {
            continue;
        }
        let suits = service.and_then(|(_, service)| p3_progress::suitable(world, replica, service));
        let has_room = |host: &&Host| {
            host.is_up()
                && suits.as_ref().is_none_or(|suits| suits.contains(&host.id))
                && takes_work(world, host)
                && host.capacity.minus(&world.truth.used(host.no)).holds(&run.reserve)
        };
        if let Some(other) = world.judged().find(has_room) {
            let events = world.truth.last_events(replica);
            let says = other.node.as_ref().map(|node| inside::opinion(node, replica)).unwrap_or_default();
            let detail = format!(
                "{replica} runs on host {}, which is drained, though host {} has room, which says: {says}; {events}",
                run.host, other.no
            );
            return Err(Broken { invariant: "p3-drain", detail });
        }
    }
    Ok(())
}

/// A process ended that was ready, as its agent wanted: was it ready elsewhere, if its host is drained?
pub(crate) fn note(world: &mut World, no: HostNo, replica: &ReplicaKey, ended: Run) {
    let host = &world.hosts[no as usize];
    let Some(node) = host.node.as_ref().filter(|node| ended.ready && inside::is_drained(node, host.id)) else { return };
    let wall = host.clock.wall(world.now);
    let is_over = inside::drained_until(node, host.id).is_some_and(|until| until <= wall);
    let is_job = inside::service(node, &replica.service).is_some_and(|(_, service)| service.mode.job().is_some());
    let wants = inside::wants(node, replica) && !is_over && !is_job;
    let is_elsewhere = world.truth.runs.get(replica).into_iter().flatten().any(|run| run.ready && run.host != no);
    // Of what one at most may run, none is ready elsewhere before.
    if wants && !is_elsewhere && !ended.is_lone {
        world.truth.figures.drain_losses += 1;
        world.truth.note(world.now, replica, "a drain stops what is ready nowhere else");
    }
}
