//! From probe results to healthy or not. The first probe is immediate; until the first pass they come quickly, so that a
//! service with a long interval is not unready for long; only failures an interval apart count.

use dunlin_gossip::model::HealthCheck;
use dunlin_gossip::time::{Duration, Instant};

/// First pause between probes while a run has not passed yet; doubles up to the interval.
const QUICK: Duration = Duration::from_millis(50);
/// An answer may be late by this much beyond its time-out before it counts as a failure.
const SLACK: Duration = Duration::from_millis(500);
/// Passes in a row that make an unhealthy replica healthy again: leaving ready is immediate, return is damped.
const PASSES: u32 = 2;
/// Shortest interval: a zero from a foreign record must not spin.
const MIN_INTERVAL: Duration = Duration::from_millis(50);

/// What a result changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Opinion {
    /// Nothing.
    Same,
    /// It is well now.
    Healthy,
    /// It is not well now.
    Unhealthy,
}

/// The health of one run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Health {
    started: Instant,
    next: Instant,
    asked: Option<(u64, Instant)>,
    pause: Duration,
    well: Option<bool>,
    failures: u32,
    passes: u32,
    counted: Instant,
}

impl Health {
    /// A run begins; `well` if it is adopted and was healthy.
    pub(crate) const fn begin(now: Instant, well: bool) -> Self {
        let known = if well { Some(true) } else { None };
        Self { started: now, next: now, asked: None, pause: QUICK, well: known, failures: 0, passes: 0, counted: now }
    }

    /// When to look again.
    pub(crate) fn due(&self) -> Instant {
        self.asked.map_or(self.next, |(_, deadline)| deadline)
    }

    /// True if a probe should be sent now; it is noted under the token.
    pub(crate) fn ask(&mut self, token: u64, check: &HealthCheck, now: Instant) -> bool {
        if self.asked.is_some() || now < self.next {
            return false;
        }
        self.asked = Some((token, now + check.timeout + SLACK));
        true
    }

    /// The token of a probe that was never answered in time.
    pub(crate) fn overdue(&self, now: Instant) -> Option<u64> {
        self.asked.filter(|(_, deadline)| now >= *deadline).map(|(token, _)| token)
    }

    /// A result came.
    pub(crate) fn answer(&mut self, token: u64, passed: bool, check: &HealthCheck, now: Instant) -> Opinion {
        if self.asked.is_none_or(|(asked, _)| asked != token) {
            return Opinion::Same;
        }
        self.asked = None;
        let interval = check.interval.max(MIN_INTERVAL);
        let quick = self.well != Some(true);
        self.next = now + if quick { self.pause.min(interval) } else { interval };
        self.pause = self.pause.saturating_mul(2).min(interval);
        if passed { self.pass(now + interval) } else { self.fail(check, interval, now) }
    }

    fn pass(&mut self, next: Instant) -> Opinion {
        self.failures = 0;
        self.passes = self.passes.saturating_add(1);
        match self.well {
            Some(true) => Opinion::Same,
            Some(false) if self.passes < PASSES => Opinion::Same,
            Some(false) | None => {
                (self.well, self.next) = (Some(true), next);
                Opinion::Healthy
            }
        }
    }

    fn fail(&mut self, check: &HealthCheck, interval: Duration, now: Instant) -> Opinion {
        self.passes = 0;
        let starting = self.well.is_none() && now.since(self.started) < check.start_period;
        let counts = self.well == Some(true) || now.since(self.counted) >= interval;
        if starting || !counts {
            return Opinion::Same;
        }
        (self.failures, self.counted) = (self.failures.saturating_add(1), now);
        if self.failures < check.retries.max(1) || self.well == Some(false) {
            return Opinion::Same;
        }
        (self.well, self.pause) = (Some(false), interval.min(Duration::from_secs(1)));
        self.next = now + self.pause;
        Opinion::Unhealthy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use dunlin_gossip::model::Probe;

    fn check() -> HealthCheck {
        HealthCheck {
            probe: Probe::Command(Vec::new()),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            retries: 2,
            start_period: Duration::ZERO,
        }
    }

    fn probe(health: &mut Health, passed: bool) -> (Opinion, Instant) {
        let at = health.due();
        assert!(health.ask(at.as_nanos(), &check(), at));
        (health.answer(at.as_nanos(), passed, &check(), at), at)
    }

    #[test]
    fn the_first_probe_is_immediate_and_the_next_ones_come_quickly() {
        let mut health = Health::begin(Instant::ZERO, false);
        assert_eq!(probe(&mut health, false), (Opinion::Same, Instant::ZERO));
        assert_eq!(probe(&mut health, true), (Opinion::Healthy, Instant::from_millis(50)));
        assert_eq!(health.due(), Instant::from_millis(10_050));
    }

    #[test]
    fn quick_failures_do_not_use_up_the_retries() {
        let mut health = Health::begin(Instant::ZERO, false);
        let at = loop {
            if let (Opinion::Unhealthy, at) = probe(&mut health, false) {
                break at;
            }
        };
        assert!(at >= Instant::from_millis(20_000), "{at:?}");
    }

    #[test]
    fn leaving_is_immediate_after_the_retries_and_return_is_damped() {
        let mut health = Health::begin(Instant::ZERO, true);
        assert_eq!(probe(&mut health, false).0, Opinion::Same);
        assert_eq!(probe(&mut health, false).0, Opinion::Unhealthy);
        assert_eq!(probe(&mut health, true).0, Opinion::Same);
        assert_eq!(probe(&mut health, true).0, Opinion::Healthy);
    }

    #[test]
    fn an_answer_to_another_question_is_ignored() {
        let mut health = Health::begin(Instant::ZERO, false);
        assert!(health.ask(1, &check(), Instant::ZERO));
        assert_eq!(health.answer(2, true, &check(), Instant::ZERO), Opinion::Same);
        assert_eq!(health.overdue(Instant::from_millis(1_500)), Some(1));
    }
}
