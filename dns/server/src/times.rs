//! How long answers took, in a fixed number of buckets. Counting is two additions to counters of the thread's own: no lock, no
//! allocation, whatever is asked.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper ends of the buckets, in microseconds; what took longer has one more bucket.
pub(crate) const BOUNDS_US: [u64; 15] =
    [10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 500_000, 2_000_000];

/// Counters of one thread.
#[derive(Debug, Default)]
pub(crate) struct Times {
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    nanos: AtomicU64,
}

impl Times {
    /// So many answers took so long, each.
    pub(crate) fn add(&self, took: Duration, count: u64) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let at = BOUNDS_US.partition_point(|bound| bound * 1_000 < nanos);
        self.buckets[at].fetch_add(count, Ordering::Relaxed);
        self.nanos.fetch_add(nanos.saturating_mul(count), Ordering::Relaxed);
    }

    /// Adds to a sum.
    pub(crate) fn add_to(&self, sum: &mut AnswerTimes) {
        for (bucket, held) in self.buckets.iter().zip(&mut sum.buckets) {
            *held += bucket.load(Ordering::Relaxed);
        }
        sum.nanos = sum.nanos.wrapping_add(self.nanos.load(Ordering::Relaxed));
    }
}

/// How long answers took.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AnswerTimes {
    buckets: [u64; BOUNDS_US.len() + 1],
    /// The sum of all, in nanoseconds.
    pub nanos: u64,
}

impl AnswerTimes {
    /// Upper ends in microseconds, and how many answers took no longer.
    pub fn within(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut sum = 0;
        BOUNDS_US.iter().zip(&self.buckets).map(move |(bound, count)| {
            sum += count;
            (*bound, sum)
        })
    }

    /// How many answers there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_counted_where_it_belongs_and_sums_add_up() {
        let (times, mut sum) = (Times::default(), AnswerTimes::default());
        for (nanos, count) in [(0, 1), (10_000, 2), (10_001, 4), (2_000_000_000, 8), (2_000_000_001, 16)] {
            times.add(Duration::from_nanos(nanos), count);
        }
        times.add_to(&mut sum);
        times.add_to(&mut sum);
        let within: Vec<(u64, u64)> = sum.within().collect();
        assert_eq!((within[0], within[1], within[14]), ((10, 6), (20, 14), (2_000_000, 30)));
        assert_eq!(sum.count(), 62);
        assert_eq!(sum.nanos, 2 * (2 * 10_000 + 4 * 10_001 + 8 * 2_000_000_000 + 16 * 2_000_000_001));
    }
}
