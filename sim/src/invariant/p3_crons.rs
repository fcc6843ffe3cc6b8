//! P3 and P5 of work that is done again and again, by the world's own clock: a run that comes due in the calm is worked on or done,
//! unless its author's policy skips or replaces it; and what must not overlap does not.
//!
//! At least once is what is promised. How often a run was begun again, ran beside another, or was given up after it had been
//! begun is counted, and judged where a scenario says so.

use dunlin_gossip::model::{Cron, Mode, Overlap, ReplicaKey, Service, ServiceKey, Slot};

use super::{Broken, p3_progress};
use crate::clock::Clock;
use crate::queue::{Nanos, SECOND};
use crate::truth::Run;
use crate::workload::Behaviour;
use crate::world::World;

/// So long after it was due a run is under way where there is room, whatever the ladder says, in seconds.
const BOUND_S: u64 = 50;
/// Between the end of a slot and the next one's start.
const PAUSE: Nanos = 20 * SECOND;

/// What a wall clock shows that is not off, in seconds.
fn wall_s(at: Nanos) -> u64 {
    Clock::default().wall(at).0 / 1_000
}

fn due_of(slot: Slot) -> Option<u64> {
    match slot {
        Slot::Run(due, _) => Some(due),
        Slot::Number(_) | Slot::Node(_) => None,
    }
}

/// The runs of a service that are under way, by what runs on hosts that are the flock's to judge.
fn under_way(world: &World, service: &ServiceKey, is_meant: impl Fn(&Run) -> bool) -> Vec<u64> {
    let first = ReplicaKey { service: service.clone(), slot: Slot::Number(0) };
    let of_service = world.truth.runs.range(first..).take_while(|(replica, _)| replica.service == *service);
    let meant = of_service.filter(|(_, runs)| runs.iter().any(&is_meant));
    let mut all: Vec<u64> = meant.filter_map(|(replica, _)| due_of(replica.slot)).collect();
    all.dedup();
    all
}

/// A process of a run has come up: is it alone, where it must be?
pub(super) fn note(world: &mut World, replica: &ReplicaKey) {
    let Some(due) = due_of(replica.slot) else { return };
    let others = under_way(world, &replica.service, |_| true).into_iter().filter(|other| *other != due).count();
    let is_of = |line: &&crate::scenario::ServiceLine| line.name == replica.service.service.as_str();
    let line = world.scenario.services.iter().find(is_of);
    let model = line.and_then(|line| line.model.as_ref()?.mode.cron().copied());
    let cron = line.and_then(|line| line.cron).or(model);
    let is_forbidden = cron.is_some_and(|cron| cron.overlap == Overlap::Forbid);
    if others > 0 && is_forbidden {
        world.truth.figures.overlaps += 1;
        world.truth.note(world.now, replica, "it begins beside another run");
    }
    world.truth.begun.insert((replica.service.clone(), due), world.now);
}

/// The cron services that are wanted.
fn wanted(world: &World) -> Vec<(ServiceKey, Cron, std::sync::Arc<Service>)> {
    let all = p3_progress::wanted(world).into_iter();
    all.filter_map(|(key, service)| Some((key, *service.mode.cron()?, service))).collect()
}

/// True if so many slots of a run are done, or one has just ended, so that the next follows.
fn is_done_or_going_on(world: &World, key: &ServiceKey, due: u64, slots: u32) -> bool {
    let finish = |n| world.truth.run_finish(&ReplicaKey { service: key.clone(), slot: Slot::Run(due, n) });
    let ends: Vec<Nanos> = (1..=slots).filter_map(finish).collect();
    ends.len() as u64 >= u64::from(slots) || ends.iter().any(|at| at + PAUSE > world.now)
}

/// What came due in the calm is done or under way, and what must be alone is.
pub(super) fn check(world: &World) -> Result<(), Broken> {
    for (key, cron, service) in wanted(world) {
        let running = under_way(world, &key, |run| world.answers_for(run.host));
        let events = |due| {
            let replica = ReplicaKey { service: key.clone(), slot: Slot::Run(due, 1) };
            world.truth.last_events(&replica)
        };
        if cron.overlap != Overlap::Allow && running.len() > 1 {
            let last = events(running.last().copied().unwrap_or_default());
            let detail = format!("{key}: the runs {running:?} are under way at once, which is not allowed; {last}");
            return Err(Broken { invariant: "p5-overlap", detail });
        }
        let Some(due) = latest_due(world, &cron) else { continue };
        let reserve = Behaviour::of(&service.spec.workload).reserve;
        let replica = ReplicaKey { service: key.clone(), slot: Slot::Run(due, 1) };
        let is_excused = running.contains(&due)
            || is_done_or_going_on(world, &key, due, cron.job.completions)
            // It was skipped for one before it, or a later one has taken its place.
            || (cron.overlap != Overlap::Allow && is_crowded_out(world, &key, due))
            || p3_progress::with_room(world, &reserve, service.spec.priority, Some((&replica, &service))).is_none();
        if !is_excused {
            let detail = format!("{key}: the run due at {due} is neither done nor under way; {}", events(due));
            return Err(Broken { invariant: "p3-cron", detail });
        }
    }
    Ok(())
}

/// The last run that came due in the calm, and so long ago that it must have been begun.
fn latest_due(world: &World, cron: &Cron) -> Option<u64> {
    let dates = dunlin_core::cron::Dates::of(cron)?;
    let since = cron.job.since.wall().0 / 1_000;
    let calm = wall_s(world.scenario.quiet_from()) + BOUND_S;
    // By the clock that is furthest behind: one may have been set back with its host's disk.
    let clocks = world.judged().map(|host| host.clock.wall(world.now).0 / 1_000);
    let now = clocks.min().unwrap_or_else(|| wall_s(world.now)).min(wall_s(world.now));
    let skew = world.scenario.skew_ms / 1_000 + 1;
    let due = dates.upto(now.checked_sub(BOUND_S)?, calm.max(since + skew))?;
    (cron.job.completions > 0).then_some(due)
}

/// True if a run of the same service was begun earlier and was not long done when this one came due, or a later one was begun.
fn is_crowded_out(world: &World, key: &ServiceKey, due: u64) -> bool {
    let first = (key.clone(), 0);
    let all = world.truth.begun.range(first..).take_while(|((service, _), _)| service == key);
    let finish = |run: u64| world.truth.last_finish_of_run(key, run);
    all.map(|((_, run), _)| *run).any(|run| {
        run > due || run < due && (finish(run).is_none() || finish(run).is_some_and(|at| wall_s(at) + 2 >= due))
    })
}

/// Runs that were begun, and are neither done nor under way, though nothing has taken their place.
pub(super) fn lost(world: &World) -> Vec<String> {
    let mut lost = Vec::new();
    let now = wall_s(world.now);
    for (key, cron, _) in wanted(world) {
        let since = cron.job.since.wall().0 / 1_000;
        let running = under_way(world, &key, |_| true);
        let dues: Vec<u64> = world
            .truth
            .begun
            .keys()
            .filter(|(service, due)| *service == key && *due > since)
            .map(|(_, due)| *due)
            .collect();
        for due in &dues {
            let later =
                dues.iter().filter(|other| *other > due && world.truth.last_finish_of_run(&key, **other).is_some());
            let is_replaced = cron.overlap == Overlap::Replace && dues.iter().any(|other| other > due);
            let is_past = later.count() >= cron.kept();
            let is_done = is_done_or_going_on(world, &key, *due, cron.job.completions);
            if !is_done && !is_past && !is_replaced && !running.contains(due) && due + BOUND_S < now {
                let replica = ReplicaKey { service: key.clone(), slot: Slot::Run(*due, 1) };
                lost.push(format!("{replica}: {}", world.truth.last_events(&replica)));
            }
        }
    }
    lost
}

/// True for what is due by the calendar.
pub(crate) const fn is_cron(mode: Mode) -> bool {
    mode.cron().is_some()
}
