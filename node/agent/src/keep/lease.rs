//! The executioner: at the end of its lease it kills what is kept, whatever else the keeper waits for at that moment.
//!
//! A thread of its own, because the keeper's loop writes a log, and a disk that hangs must not make a lease longer: between
//! its sleep and its kill there is no file but those under `/proc` and in control groups. It sleeps on `CLOCK_BOOTTIME`, the
//! clock by which leases are counted, which goes on while the host sleeps.
//!
//! Never: an end that comes earlier than it was told before, or that an agent could take back once it has come.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::reap::kill_descendants;

/// How often it kills again: what is just being born escapes once.
const AGAIN: Duration = Duration::from_millis(10);
/// Enough to go through `/proc`.
const STACK: usize = 256 * 1024;

/// A lease that is being watched.
#[derive(Debug)]
pub(super) struct Executioner {
    /// Nanoseconds of `CLOCK_BOOTTIME`.
    until: Arc<AtomicU64>,
}

impl Executioner {
    /// Begins to watch; everything that descends from this process, or is in these groups, dies at that moment.
    pub(super) fn begin(until: u64, groups: Vec<PathBuf>) -> io::Result<Self> {
        let until = Arc::new(AtomicU64::new(until));
        let watched = Arc::clone(&until);
        std::thread::Builder::new().name("lease".to_owned()).stack_size(STACK).spawn(move || {
            wait(&watched);
            loop {
                kill_descendants(&groups);
                std::thread::sleep(AGAIN);
            }
        })?;
        Ok(Self { until })
    }

    /// The lease ends then; an earlier moment than before means nothing.
    pub(super) fn extend(&self, until: u64) {
        self.until.fetch_max(until, Ordering::SeqCst);
    }

    /// When the lease ends.
    pub(super) fn until(&self) -> u64 {
        self.until.load(Ordering::SeqCst)
    }

    /// True once it has ended.
    pub(super) fn is_over(&self) -> bool {
        self.until() <= now()
    }
}

/// Nanoseconds of `CLOCK_BOOTTIME`.
pub(super) fn now() -> u64 {
    crate::clock::now().as_nanos()
}

/// Until the lease is over, however often it is made longer meanwhile.
fn wait(until: &AtomicU64) {
    loop {
        let end = until.load(Ordering::SeqCst);
        if end <= now() {
            return;
        }
        let time = libc::timespec {
            tv_sec: libc::time_t::try_from(end / 1_000_000_000).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::try_from(end % 1_000_000_000).unwrap_or(0),
        };
        // SAFETY: `time` is a valid timespec that lives for the call, and no remainder is asked for.
        let _woken = unsafe {
            libc::clock_nanosleep(libc::CLOCK_BOOTTIME, libc::TIMER_ABSTIME, &raw const time, std::ptr::null_mut())
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_at_its_moment_and_no_word_makes_it_shorter() {
        let end = now() + 20_000_000;
        let until = AtomicU64::new(end);
        wait(&until);
        assert!(now() >= end);
        let executioner = Executioner { until: Arc::new(AtomicU64::new(end + 3_600_000_000_000)) };
        executioner.extend(end);
        assert!(!executioner.is_over());
        assert!(Executioner { until: Arc::new(until) }.is_over());
    }
}
