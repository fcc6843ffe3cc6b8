//! From a failing run to a small one that breaks the same promise: fewer faults, fewer hosts, fewer replicas, a plainer
//! network, earlier moments. Delta debugging (Zeller and Hildebrandt, 2002) over the lines of the script, then one simpler
//! thing after the other, until nothing can be left out any more.
//!
//! A candidate is kept if it breaks the same promise with the seed or with one of a few others: leaving something out moves
//! everything that comes after it, and a rare moment with it. Shrinking must never demand more than the run did: the time to
//! settle stays, whatever ends a fault stays (best of all a calm, which ends all of them), and a fault that meets nothing is
//! not a failure here.

use std::sync::Arc;

use dunlin_gossip::rng::Seed;

use crate::invariant::Violation;
use crate::net::{Conditions, HostNo};
use crate::queue::{MS, Nanos, SECOND};
use crate::scenario::{Action, Count, Cut, Recorded, Scenario, Spoil, Start, Step, Target, Zones};
use crate::world::World;

/// Seeds that are tried in addition to the last that failed.
const OTHER_SEEDS: u64 = 4;
/// What lies between two lines once gaps are closed.
const GAPS: &[Nanos] = &[100 * MS, SECOND, 5 * SECOND];
/// A world goes on for so long after it must have settled, so that what does not last is seen.
const AFTER: Nanos = 10 * SECOND;

/// What shrinking has come to.
#[derive(Clone, PartialEq, Debug)]
pub struct Shrunk {
    /// The small scenario, with what a run of it shows.
    pub scenario: Scenario,
    /// The promise that it breaks.
    pub violation: Violation,
    /// How many runs it took.
    pub runs: u64,
}

/// Where shrinking is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Runs so far.
    pub runs: u64,
    /// Lines of the smallest script so far.
    pub lines: usize,
    /// Hosts of it.
    pub hosts: u32,
}

/// Makes a failing run small. After `budget` runs it stops where it is.
///
/// # Errors
/// The run does not break a promise.
pub fn shrink(
    scenario: &Scenario,
    seed: u64,
    budget: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<Shrunk, String> {
    let mut world = World::new(Arc::new(scenario.clone()), Seed(seed));
    world.run();
    let Some(violation) = world.checks.violations.first().cloned() else {
        return Err(format!("seed {seed} of {} keeps every promise: there is nothing to make smaller", scenario.name));
    };
    let mut first = with_script(scenario, &world);
    first.may_miss = violation.invariant != "fault";
    let mut search = Search { invariant: violation.invariant.clone(), budget, runs: 1, seed, best: None, progress };
    let as_it_was = Scenario { may_miss: first.may_miss, ..scenario.clone() };
    if !search.keep(with_calm(first.clone())) && !search.keep(first) && !search.keep(as_it_was) {
        // The choices alone do not bring it about again: the run as it was is the smallest that is known.
        let recorded = Some(recorded(&world, seed));
        return Ok(Shrunk { scenario: Scenario { recorded, ..scenario.clone() }, violation, runs: search.runs });
    }
    search.until_nothing_helps();
    let Some(best) = search.best.take() else { return Err("nothing was tried".to_owned()) };
    Ok(Shrunk { scenario: best.scenario, violation: best.violation, runs: search.runs })
}

/// What a run has shown, to be kept with its scenario.
pub(crate) fn recorded(world: &World, seed: u64) -> Recorded {
    let mut breaks: Vec<String> = world.checks.violations.iter().map(|v| v.invariant.clone()).collect();
    breaks.sort();
    breaks.dedup();
    Recorded { seed, trace_hash: format!("{:016x}", world.trace), breaks }
}

/// The scenario with every choice made as a run of it made it.
fn with_script(scenario: &Scenario, world: &World) -> Scenario {
    let hosts = scenario.hosts;
    let mut scripted = Scenario { timeline: world.faults.script.clone(), churn: None, ..scenario.clone() };
    for service in &mut scripted.services {
        service.replicas = Count::Fixed(service.replicas.among(hosts));
    }
    for step in &mut scripted.timeline {
        if let Action::Scale { replicas, .. } = &mut step.action {
            *replicas = Count::Fixed(replicas.among(hosts));
        }
    }
    scripted
}

/// The scenario with a calm of all at its end, if it has none.
fn with_calm(mut scenario: Scenario) -> Scenario {
    let has_calm = scenario.timeline.iter().any(|step| matches!(step.action, Action::Calm { .. }));
    let all = (0..scenario.hosts).collect();
    let at = scenario.quiet_from();
    if !has_calm {
        scenario.timeline.push(Step { at, action: Action::Calm { core: Target::Hosts(all) } });
    }
    scenario
}

/// True if a line ends what others began: without it promises could be out of reach.
const fn is_needed(action: &Action, has_calm: bool) -> bool {
    match action {
        Action::Calm { .. } => true,
        Action::Heal(_) | Action::Restart { .. } | Action::Spoil { how: Spoil::FreeDisk, .. } => !has_calm,
        _ => false,
    }
}

struct Kept {
    scenario: Scenario,
    violation: Violation,
}

struct Search<'a> {
    invariant: String,
    budget: u64,
    runs: u64,
    /// The last that failed.
    seed: u64,
    best: Option<Kept>,
    progress: &'a mut dyn FnMut(Progress),
}

impl Search<'_> {
    fn scenario(&self) -> Option<Scenario> {
        self.best.as_ref().map(|best| best.scenario.clone())
    }

    /// Tries a candidate; true, and it is the best from now on, if it breaks the same promise.
    fn keep(&mut self, mut candidate: Scenario) -> bool {
        if self.best.as_ref().is_some_and(|best| best.scenario == candidate) {
            return false;
        }
        candidate.end = candidate.quiet_from() + candidate.settle + AFTER;
        let candidate = Arc::new(candidate);
        for seed in [self.seed].into_iter().chain(1..=OTHER_SEEDS) {
            if self.runs >= self.budget {
                return false;
            }
            self.runs += 1;
            let mut world = World::new(Arc::clone(&candidate), Seed(seed));
            world.run();
            let broken = world.checks.violations.iter().find(|v| v.invariant == self.invariant).cloned();
            if let Some(violation) = broken {
                let recorded = Some(recorded(&world, seed));
                let scenario = Scenario { recorded, ..candidate.as_ref().clone() };
                (self.progress)(Progress { runs: self.runs, lines: scenario.timeline.len(), hosts: scenario.hosts });
                self.best = Some(Kept { scenario, violation });
                self.seed = seed;
                return true;
            }
        }
        false
    }

    /// Tries what a change makes of the best; a change that does not apply answers none.
    fn change(&mut self, change: impl FnOnce(&mut Scenario) -> Option<()>) -> bool {
        let Some(mut candidate) = self.scenario() else { return false };
        candidate.recorded = None;
        let before = candidate.clone();
        change(&mut candidate).is_some() && candidate != before && self.keep(candidate)
    }

    fn until_nothing_helps(&mut self) {
        loop {
            let mut helped = self.fewer_lines();
            helped |= self.fewer_hosts();
            helped |= self.smaller_lines();
            helped |= self.smaller_services();
            helped |= self.plainer_world();
            helped |= self.closer_moments();
            if !helped || self.runs >= self.budget {
                return;
            }
        }
    }

    /// Leaves out runs of lines, long ones first, and then single ones.
    fn fewer_lines(&mut self) -> bool {
        let mut helped = false;
        let mut length = self.lines().div_ceil(2);
        while length > 0 {
            let mut from = 0;
            while from < self.lines() {
                let left_out = self.change(|scenario| {
                    let has_calm = scenario.timeline.iter().any(|step| matches!(step.action, Action::Calm { .. }));
                    let mut line = 0;
                    scenario.timeline.retain(|step| {
                        line += 1;
                        !(from + 1..=from + length).contains(&line) || is_needed(&step.action, has_calm)
                    });
                    Some(())
                });
                helped |= left_out;
                // What is needed stays in the way: go past it.
                from += if left_out { 0 } else { length };
            }
            length /= 2;
        }
        helped
    }

    fn lines(&self) -> usize {
        self.best.as_ref().map_or(0, |best| best.scenario.timeline.len())
    }

    /// Half of the hosts, then one after the other.
    fn fewer_hosts(&mut self) -> bool {
        let mut helped = false;
        while self.change(|scenario| {
            let keep = scenario.hosts.div_ceil(2);
            (keep..scenario.hosts).rev().try_for_each(|host| without_host(scenario, host))
        }) {
            helped = true;
        }
        let mut host = self.best.as_ref().map_or(0, |best| best.scenario.hosts);
        while host > 0 {
            host -= 1;
            helped |= self.change(|scenario| without_host(scenario, host));
        }
        helped
    }

    /// Lines about fewer hosts.
    fn smaller_lines(&mut self) -> bool {
        let mut helped = false;
        for line in 0..self.lines() {
            let mut index = 0;
            loop {
                let mut is_there = false;
                let smaller = self.change(|scenario| {
                    let Some(Target::Hosts(hosts)) = scenario.timeline.get_mut(line)?.action.target() else {
                        return None;
                    };
                    is_there = index < hosts.len();
                    if !is_there || hosts.len() < 2 {
                        return None;
                    }
                    hosts.remove(index);
                    Some(())
                });
                helped |= smaller;
                if !is_there {
                    break;
                }
                if !smaller {
                    index += 1;
                }
            }
        }
        helped
    }

    fn smaller_services(&mut self) -> bool {
        let mut helped = false;
        let mut service = self.best.as_ref().map_or(0, |best| best.scenario.services.len());
        while service > 0 {
            service -= 1;
            let left_out = self.change(|scenario| {
                let name = scenario.services.get(service)?.name.clone();
                let is_scaled = |action: &Action| {
                    matches!(action, Action::Scale { service, .. } | Action::Rollout { service, .. } if *service == name)
                };
                scenario.timeline.retain(|step| !is_scaled(&step.action));
                scenario.services.remove(service);
                Some(())
            });
            helped |= left_out;
            if left_out {
                continue;
            }
            helped |= self.change(|scenario| {
                let line = scenario.services.get_mut(service)?;
                line.behaviour = line.usual();
                Some(())
            });
            for divide in [|_: u32| 1, |n: u32| n / 2, |n: u32| n.saturating_sub(1)] {
                while self.change(|scenario| {
                    let Count::Fixed(n) = &mut scenario.services.get_mut(service)?.replicas else { return None };
                    *n = divide(*n).max(1);
                    Some(())
                }) {
                    helped = true;
                }
            }
        }
        helped
    }

    /// One property of the world after the other becomes the ordinary one.
    fn plainer_world(&mut self) -> bool {
        type Change = fn(&mut Scenario);
        let changes: &[Change] = &[
            |s| s.network = Conditions::default(),
            |s| s.network.loss = Conditions::default().loss,
            |s| s.network.duplicate = Conditions::default().duplicate,
            |s| s.network.reorder = Conditions::default().reorder,
            |s| s.network.jitter = 0,
            |s| s.network.bandwidth = 0,
            |s| (s.network.latency, s.network.pairs) = (Conditions::default().latency, None),
            |s| s.zones = Zones::default(),
            |s| (s.skew_ms, s.drift_ppm) = (0, 0),
        ];
        let mut helped = false;
        for change in changes {
            helped |= self.change(|scenario| {
                change(scenario);
                Some(())
            });
        }
        // A flock that begins cold is the least plain; of the other two none is plainer.
        for start in [Start::Warm, Start::Joined] {
            helped |= self.change(|scenario| {
                let is_cold = matches!(scenario.start, Start::Cold { .. });
                scenario.start = start;
                is_cold.then_some(())
            });
        }
        helped
    }

    /// Gaps between lines become short, all at once or one by one, and moments round.
    fn closer_moments(&mut self) -> bool {
        let mut helped = self.change(|scenario| {
            scenario.timeline.iter_mut().for_each(|step| step.at -= step.at % SECOND);
            Some(())
        });
        for line in 0..self.lines() {
            for gap in GAPS {
                let closed = self.change(|scenario| {
                    let before = line.checked_sub(1).map_or(0, |before| scenario.timeline[before].at);
                    let surplus = scenario.timeline.get(line)?.at.checked_sub(before + gap).filter(|by| *by > 0)?;
                    scenario.timeline.iter_mut().skip(line).for_each(|step| step.at -= surplus);
                    Some(())
                });
                helped |= closed;
                if closed {
                    break;
                }
            }
        }
        helped
    }
}

/// Takes a host away; those after it move up. None if a world would have no host, or a line nobody to be about.
fn without_host(scenario: &mut Scenario, gone: HostNo) -> Option<()> {
    if scenario.hosts <= 1 {
        return None;
    }
    scenario.hosts -= 1;
    for step in &mut scenario.timeline {
        let is_pairs = matches!(step.action, Action::Cut { how: Cut::Pairs | Cut::HalfPairs, .. });
        let Some(Target::Hosts(hosts)) = step.action.target() else { continue };
        if is_pairs {
            let rest = hosts.chunks_exact(2).filter(|pair| !pair.contains(&gone)).flatten().copied().collect();
            *hosts = rest;
        } else {
            hosts.retain(|host| *host != gone);
        }
        hosts.iter_mut().filter(|host| **host > gone).for_each(|host| *host -= 1);
    }
    let calm_of_nobody =
        |step: &mut Step| matches!(&step.action, Action::Calm { core: Target::Hosts(hosts) } if hosts.is_empty());
    if scenario.timeline.iter_mut().any(calm_of_nobody) {
        return None;
    }
    let is_empty = |action: &mut Action| matches!(action.target(), Some(Target::Hosts(hosts)) if hosts.is_empty());
    scenario.timeline.retain_mut(|step| !is_empty(&mut step.action));
    Some(())
}
