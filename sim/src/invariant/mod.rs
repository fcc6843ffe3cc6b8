//! One checker a promise, each reading the world's truth; a node's own opinion counts only where the promise is about it.
//!
//! P4 and P8 hold at every moment. P1, P3, P5 and the wholeness of names are *eventually* promises: once faults and writes
//! have ended, they must hold within the scenario's `settle` and hold at its end. P2 is judged at the end.

mod limits;
pub(crate) mod p1_convergence;
pub(crate) mod p2_disk_first;
pub(crate) mod p2_durability;
mod p2_last_word;
pub(crate) mod p2_unknown_kinds;
pub(crate) mod p3_crons;
pub(crate) mod p3_drain;
pub(crate) mod p3_progress;
pub(crate) mod p4_overcommit;
pub(crate) mod p5_abandoned;
pub(crate) mod p5_jobs;
pub(crate) mod p5_one_claim;
pub(crate) mod p5_rollouts;
pub(crate) mod p6_at_most_one;
pub(crate) mod p7_share;
pub(crate) mod p8_answers;
pub(crate) mod p8_honest_names;

use serde::Serialize;

use crate::event::Event;
use crate::host::Host;
use crate::measure::seconds;
use crate::net::HostNo;
use crate::queue::{MS, Nanos, SECOND};
use crate::scenario::{Scenario, Start};
use crate::world::World;

/// A run stops collecting after so many.
const MAX_VIOLATIONS: usize = 20;
/// At the end the world must have been seen settled within this time (digests and the like may be under way).
const FRESH: Nanos = 5 * SECOND;
/// A world that was settled is asked again after this: to go through all that runs in it costs what all its events do.
const SETTLED_PAUSE: Nanos = 4 * SECOND;

/// A promise that was not kept.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Violation {
    /// Which.
    pub invariant: String,
    /// When, in virtual seconds.
    pub at_s: f64,
    /// What, where, the last events, and how to see it again.
    pub detail: String,
}

/// An eventual promise that does not hold now.
pub(crate) struct Broken {
    pub(crate) invariant: &'static str,
    pub(crate) detail: String,
}

/// The state of all checks.
#[derive(Debug)]
pub(crate) struct Checks {
    pub(crate) violations: Vec<Violation>,
    quiet_from: Nanos,
    calm_from: Nanos,
    settle_by: Nanos,
    membership_since: Option<Nanos>,
    /// Who saw it otherwise when that was asked last.
    doubted: HostNo,
    state_since: Option<Nanos>,
    first_settled: Option<Nanos>,
    last_settled: Option<Nanos>,
    is_late: bool,
    /// The last look.
    looked: Nanos,
    /// Whose names are judged next.
    turn: usize,
}

impl Checks {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let quiet_from = scenario.quiet_from();
        let start = match scenario.start {
            Start::Warm | Start::Joined | Start::Running => 0,
            Start::Cold { within } => within,
        };
        Self {
            violations: Vec::new(),
            quiet_from,
            calm_from: start + 5 * SECOND,
            settle_by: quiet_from + scenario.settle,
            membership_since: Some(0),
            doubted: 0,
            state_since: Some(0),
            first_settled: None,
            last_settled: None,
            is_late: false,
            looked: 0,
            turn: 0,
        }
    }

    /// Who is there has changed: from now on it is measured how long everyone takes to know.
    pub(crate) fn membership_changed(&mut self, now: Nanos) {
        self.membership_since = Some(now);
    }

    /// A write, or the end of a partition: from now on it is measured how long all states take to be equal.
    pub(crate) fn state_changed(&mut self, now: Nanos) {
        self.state_since = Some(now);
    }

    /// True once the start is over, so that a member held down is a misjudgement and not a greeting that is still to come.
    pub(crate) const fn is_calm(&self, now: Nanos) -> bool {
        now >= self.calm_from
    }
}

impl World {
    /// The hosts at which promises are judged: the core, once there is one.
    pub(crate) fn judged(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(|host| self.faults.is_judged(host.no))
    }

    /// True if what runs on a host is the flock's to judge: an agent is there that could stop it, in the core if there is one.
    pub(crate) fn answers_for(&self, no: HostNo) -> bool {
        self.faults.is_judged(no) && self.hosts.get(no as usize).is_some_and(Host::is_up)
    }

    /// A promise was broken.
    pub(crate) fn violation(&mut self, invariant: &str, detail: String) {
        if self.checks.violations.len() >= MAX_VIOLATIONS {
            return;
        }
        let (seed, at_s) = (self.seed.0, seconds(self.now));
        let (now, number) = (self.now, self.checks.violations.len());
        self.chronicle.iter_mut().for_each(|chronicle| chronicle.broken(now, number, &detail));
        let detail = format!("seed {seed}, {at_s:.3}s: {detail}");
        self.checks.violations.push(Violation { invariant: invariant.to_owned(), at_s, detail });
    }

    /// Looks at what must come true, and measures how long it took.
    pub(crate) fn look(&mut self) {
        let now = self.now;
        let since = now - std::mem::replace(&mut self.checks.looked, now);
        self.hosts.iter_mut().for_each(|host| host.link_time += host.links.len() as u64 * since);
        if let Some(since) = self.checks.membership_since {
            match p1_convergence::members_disagree(self, self.checks.doubted) {
                Some(host) => self.checks.doubted = host,
                None => {
                    self.truth.figures.membership_converge.add(now, now - since);
                    self.checks.membership_since = None;
                }
            }
        }
        if let Some(since) = self.checks.state_since
            && now > since
            && p1_convergence::check(self).is_ok()
        {
            self.truth.figures.state_converge.add(now, now - since);
            self.checks.state_since = None;
        }
        let is_fresh = self.checks.last_settled.is_some_and(|at| at + SETTLED_PAUSE > now);
        if now >= self.checks.quiet_from && !is_fresh {
            match self.settled() {
                Ok(()) => {
                    self.checks.first_settled.get_or_insert(now);
                    self.checks.last_settled = Some(now);
                }
                Err(broken) if now > self.checks.settle_by && self.checks.first_settled.is_none() => {
                    if !std::mem::replace(&mut self.checks.is_late, true) {
                        self.violation(broken.invariant, format!("not settled in time: {}", broken.detail));
                    }
                }
                Err(_) => {}
            }
        }
        self.checks.turn = (self.checks.turn + 1) % self.hosts.len().max(1);
        p8_honest_names::check_all(self, u32::try_from(self.checks.turn).unwrap_or(0));
        let busy = self.checks.membership_since.is_some() || self.checks.state_since.is_some();
        let pause = if busy { 50 * MS } else { 500 * MS };
        // Where everything is off, nothing changes before the next event.
        let next = self.queue.next_at().filter(|_| !self.hosts.iter().any(Host::is_up)).unwrap_or(now);
        // Some events never come: what lies beyond the end is as far as it.
        self.queue.push(next.min(self.scenario.end).max(now) + pause, Event::Look);
    }

    /// Whether everything that must come true has.
    pub(crate) fn settled(&self) -> Result<(), Broken> {
        p1_convergence::check(self)?;
        p3_progress::check(self)?;
        p3_crons::check(self)?;
        p3_drain::check(self)?;
        p5_one_claim::check(self)?;
        p5_rollouts::check(self)?;
        p8_honest_names::are_whole(self)
    }

    /// The last judgement.
    pub(crate) fn finish(&mut self) {
        self.truth.close(self.now);
        let fresh = self.checks.last_settled.is_some_and(|at| at + FRESH >= self.now);
        if !fresh
            && !self.checks.is_late
            && let Err(broken) = self.settled()
        {
            self.violation(broken.invariant, format!("had come true and does not hold at the end: {}", broken.detail));
        }
        if let Err(broken) = p2_last_word::check(self) {
            self.violation(broken.invariant, broken.detail);
        }
        if let Err(broken) = p2_durability::check(self) {
            self.violation(broken.invariant, broken.detail);
        }
        if let Err(broken) = p2_unknown_kinds::check(self) {
            self.violation(broken.invariant, broken.detail);
        }
        for text in limits::check(self) {
            self.violation("limits", text);
        }
        for no in 0..self.hosts.len() {
            p8_honest_names::check_all(self, u32::try_from(no).unwrap_or(u32::MAX));
        }
        for text in self.toothless() {
            self.violation("fault", text);
        }
    }
}
