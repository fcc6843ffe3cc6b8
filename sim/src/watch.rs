//! How far runs have come, for whoever shows it to people while they go on. Nothing in a world reads it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::queue::{MS, Nanos};

/// Shared by all threads that run seeds and the one that looks.
#[derive(Debug, Default)]
pub struct Watch {
    done: AtomicU64,
    broken: AtomicU64,
    at_ms: AtomicU64,
    end_ms: AtomicU64,
}

impl Watch {
    /// How many seeds have come to their end.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// How many of these broke a promise.
    #[must_use]
    pub fn broken(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }

    /// Virtual milliseconds that the seed has come to that was last heard of, and those at which it ends.
    #[must_use]
    pub fn time_ms(&self) -> (u64, u64) {
        (self.at_ms.load(Ordering::Relaxed), self.end_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn begins(&self, end: Nanos) {
        self.at_ms.store(0, Ordering::Relaxed);
        self.end_ms.store(end / MS, Ordering::Relaxed);
    }

    pub(crate) fn reaches(&self, now: Nanos) {
        self.at_ms.store(now / MS, Ordering::Relaxed);
    }

    pub(crate) fn ends(&self, is_broken: bool) {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.broken.fetch_add(u64::from(is_broken), Ordering::Relaxed);
    }
}
