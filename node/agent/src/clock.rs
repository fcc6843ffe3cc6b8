//! The host's two clocks as the core wants them.
//!
//! `Instant` comes from `CLOCK_BOOTTIME`, which goes on while the host sleeps: a lease must not outlive a suspended laptop.

use std::time::{SystemTime, UNIX_EPOCH};

use dunlin_gossip::time::{Instant, Wall};

/// Nanoseconds since the host's boot, sleep included.
#[must_use]
pub fn now() -> Instant {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the kernel to fill; CLOCK_BOOTTIME exists since Linux 2.6.39.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    assert_eq!(result, 0, "CLOCK_BOOTTIME cannot fail on Linux");
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Instant::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0)))
}

/// Milliseconds since the Unix epoch; zero if the host believes to live before it.
#[must_use]
pub fn wall() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_moves_forward() {
        let before = now();
        assert!(before > Instant::ZERO);
        assert!(now() >= before);
        assert!(wall() > Wall(1_700_000_000_000), "the test host's clock is before 2023");
    }
}
