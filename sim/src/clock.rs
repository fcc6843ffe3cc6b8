//! A host's clocks: a monotonic one that drifts and a wall clock that is off besides. Integers only.

use dunlin_gossip::time::{Instant, Wall};

use crate::queue::{MS, Nanos};

/// The wall clock of a world at its beginning: half past midnight on 2026-01-01, in milliseconds. Clocks that are off do not
/// differ about the hour then, and no hour ends in the first half of one.
const EPOCH_MS: u64 = 1_767_227_400_000;

/// The clocks of one host.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    /// How far its wall clock is off.
    pub(crate) skew_ms: i64,
    /// How many millionths its clocks run fast (negative: slow).
    drift_ppm: i64,
    /// Since which moment they have run so, and what the monotonic one showed then.
    since: Nanos,
    shown: Nanos,
}

impl Clock {
    /// Clocks that are off from the beginning.
    pub(crate) const fn new(skew_ms: i64, drift_ppm: i64) -> Self {
        Self { skew_ms, drift_ppm, since: 0, shown: 0 }
    }

    /// From now on they run fast by so many millionths.
    pub(crate) fn drift(&mut self, now: Nanos, ppm: i64) {
        (self.shown, self.since) = (self.local(now).as_nanos(), now);
        self.drift_ppm = ppm;
    }

    /// What the host's monotonic clock shows at a moment of the world.
    pub(crate) fn local(self, at: Nanos) -> Instant {
        let passed = at.cast_signed() - self.since.cast_signed();
        // Millions apart from the rest, so that no product leaves 64 bits: this is asked several times an event.
        let (millions, rest) = (passed / 1_000_000, passed % 1_000_000);
        let gained = millions * self.drift_ppm + rest * self.drift_ppm / 1_000_000;
        Instant::from_nanos(self.shown.saturating_add_signed(passed + gained))
    }

    /// The first moment of the world at which the host's monotonic clock shows `local` or later.
    pub(crate) fn world(self, local: Instant) -> Nanos {
        if self.drift_ppm == 0 {
            let (due, behind) =
                (local.as_nanos().saturating_sub(self.shown), self.shown.saturating_sub(local.as_nanos()));
            return self.since.saturating_add(due).saturating_sub(behind);
        }
        let ahead = i128::from(local.as_nanos()) - i128::from(self.shown);
        let guess = i128::from(self.since) + ahead * 1_000_000 / (1_000_000 + i128::from(self.drift_ppm));
        let mut at = u64::try_from(guess - 2).unwrap_or(0);
        while at < u64::MAX && self.local(at) < local {
            at += 1;
        }
        at
    }

    /// What the host's wall clock shows.
    pub(crate) fn wall(self, at: Nanos) -> Wall {
        Wall((EPOCH_MS + self.local(at).as_nanos() / MS).saturating_add_signed(self.skew_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_never_early_and_at_most_a_nanosecond_late() {
        for drift_ppm in [-9_999, -1, 0, 1, 250, 9_999] {
            let mut clock = Clock::new(0, 77);
            clock.drift(0, drift_ppm);
            for due in [0, 1, 999, 1_000_000, 86_400_000_000_001] {
                let at = clock.world(Instant::from_nanos(due));
                assert!(clock.local(at) >= Instant::from_nanos(due));
                assert!(at == 0 || clock.local(at - 1) < Instant::from_nanos(due));
            }
        }
    }

    #[test]
    fn a_clock_never_jumps_when_its_rate_changes() {
        let mut clock = Clock::new(0, 5_000);
        for (at, ppm) in [(10 * MS, -5_000), (30 * MS, 0), (70 * MS, 9_000)] {
            let before = clock.local(at);
            clock.drift(at, ppm);
            assert_eq!(clock.local(at), before);
            let due = clock.local(at + MS);
            assert!(clock.local(clock.world(due)) >= due);
        }
    }
}
