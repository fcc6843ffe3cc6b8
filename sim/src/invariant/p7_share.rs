//! P7, for hosts that came: one that joined, was set up anew, lost all that it ran, or takes work again, gets its share of what runs,
//! and no more, no faster than it is allowed to, and what it takes is ready there before it stops elsewhere.
//!
//! Counted from what runs where, never from what a node says that it does. A move that gives such a host its share is among those that
//! must be; one beyond that is surplus.

use dunlin_gossip::model::{ReplicaKey, Resources};

use super::p3_drain;
use crate::host::Host;
use crate::inside;
use crate::net::HostNo;
use crate::queue::{Nanos, SECOND};
use crate::truth::Run;
use crate::workload::Behaviour;
use crate::world::World;

/// What a host takes runs twice for no longer than this.
const MOVES: Nanos = 90 * SECOND;
/// The first of those that are counted may have been slow to come up, and the last one quick.
const SLACK: Nanos = 3 * SECOND;

/// Cpu and memory in one number: a cpu counts as much as 4 GiB.
const fn weight(resources: &Resources) -> u64 {
    resources.cpu_milli + (resources.memory_bytes >> 22)
}

/// What a host would run were all alike full; none if it takes no work.
fn share(world: &World, no: HostNo) -> Option<u64> {
    let takes = |host: &&Host| world.answers_for(host.no) && p3_drain::takes_work(world, host);
    let (mut used, mut all) = (0, 0);
    for host in world.judged().filter(takes) {
        used += weight(&world.truth.used(host.no));
        all += weight(&host.capacity);
    }
    let host = world.hosts.get(no as usize).filter(takes)?;
    Some(used * weight(&host.capacity) / all.max(1))
}

/// A process comes up: is it one that its host takes from another?
pub(crate) fn note_start(world: &mut World, replica: &ReplicaKey, run: &Run) {
    let elsewhere = |other: &&Run| {
        other.host != run.host && other.version == run.version && other.ready && world.answers_for(other.host)
    };
    let is_taken = world
        .truth
        .runs
        .get(replica)
        .into_iter()
        .flatten()
        .any(|other| elsewhere(&other) && !p3_drain::is_drained(world, other.host));
    if world.scenario.rebalance == 0 || !is_taken || !world.truth.came.contains_key(&run.host) {
        return;
    }
    let after = weight(&world.truth.used(run.host).plus(&run.reserve));
    let is_due = share(world, run.host).is_some_and(|share| after <= share + share / 50);
    let (now, pause) = (world.now, 60 * SECOND / u64::from(world.scenario.rebalance));
    let taken = world.truth.came.entry(run.host).or_default();
    taken.retain(|at| at + 60 * SECOND > now);
    taken.push(now);
    let since = taken.first().map_or(0, |first| now - first);
    let is_hurried = (taken.len() as u64 - 1) * pause > since + SLACK;
    let figures = &mut world.truth.figures;
    figures.shares += 1;
    figures.moves_minimum += u64::from(is_due);
    figures.hurried += u64::from(is_hurried);
    world.truth.note(now, replica, if is_due { "is taken for a share" } else { "is taken beyond a share" });
}

/// A process ended, as its agent wanted: was it ready elsewhere?
pub(crate) fn note_end(world: &mut World, no: HostNo, replica: &ReplicaKey, ended: Run) {
    let Some(node) = world.hosts[no as usize].node.as_ref().filter(|_| ended.ready && !ended.is_lone) else { return };
    let Some((_, service)) = inside::service(node, &replica.service) else { return };
    let behaviour = Behaviour::of(&service.spec.workload);
    let wants = inside::wants(node, replica) && service.mode.job().is_none() && behaviour.version == ended.version;
    let is_elsewhere = world.truth.runs.get(replica).into_iter().flatten().any(|run| run.ready && run.host != no);
    if wants && !is_elsewhere {
        world.truth.figures.gaps += 1;
        world.truth.note(world.now, replica, "stops where it was ready alone");
    }
}

/// True if a replica runs twice because a host is taking it for its share just now.
pub(super) fn is_moving(world: &World, replica: &ReplicaKey, runs: &[&Run], version: Option<u64>) -> bool {
    let since = version.and_then(|version| world.truth.double_since(replica, version));
    let is_young = since.is_some_and(|since| since + MOVES > world.now);
    let has_come = |run: &&Run| world.truth.came.contains_key(&run.host);
    world.scenario.rebalance > 0 && runs.len() == 2 && is_young && runs.iter().any(has_come)
}

/// Hosts that came and run less than nine tenths of their share, by more than one replica.
pub(super) fn unshared(world: &World) -> u64 {
    let largest = world.truth.runs.values().flatten().map(|run| weight(&run.reserve)).max().unwrap_or(0);
    let lacks = |no: &&HostNo| {
        let used = weight(&world.truth.used(**no));
        share(world, **no).is_some_and(|share| used + largest.max(share / 10) < share)
    };
    world.truth.came.keys().filter(lacks).count() as u64
}
