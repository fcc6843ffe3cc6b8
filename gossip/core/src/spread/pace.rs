//! How fast a writer may go: a bound on what one node's writes cost all others, so that a program that writes in a loop slows
//! down nobody but itself.
//!
//! Two looks at the same thing. A node holds its *own* writes to [`WRITE_RATE`] and tells whoever asked for more to come back
//! later. And it holds what it *passes on* of any other node to several times that: an origin that keeps the bound never notices,
//! and what one that does not keep it writes is merged, but left to anti-entropy, which carries the last of many values alone.
//!
//! Never: a record refused because its origin is fast (a merge is blocked by nothing), or a bound on claims and health.

use alloc::collections::BTreeMap;

use crate::canary::{Bug, planted};
use crate::id::NodeId;
use crate::limits::{WRITE_AHEAD, WRITE_RATE};
use crate::time::{Duration, Instant};

/// What a batch costs besides its records: each disk syncs for it.
const BATCH_COST: u64 = 4 * 1024;
/// What a record costs besides its bytes.
const RECORD_COST: u64 = 256;
/// However large a batch is, the next one may come after so long.
const LONGEST: Duration = Duration::from_secs(60);
/// What is passed on of one origin: far more than it may write, since what it says of its allocations counts as well.
const ORIGIN_RATE: u64 = 4 * WRITE_RATE;
const ORIGIN_AHEAD: Duration = Duration::from_secs(16);
/// Whoever was too fast within this time is worth a word.
const OF_LATE: Duration = Duration::from_secs(60);

/// One writer's pace: the moment up to which it has used up its share.
#[derive(Clone, Copy, Debug)]
struct Pace {
    used_up_to: Instant,
}

impl Pace {
    /// Takes so many bytes, or says how long to wait. What is taken may go beyond the share: then the next one waits.
    fn take(&mut self, now: Instant, bytes: u64, rate: u64, ahead: Duration) -> Result<(), Duration> {
        let from = self.used_up_to.max(now);
        let latest = now + ahead;
        if from > latest && !planted(Bug::PaceIgnored) {
            return Err(from.since(latest));
        }
        let takes = Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / rate).min(LONGEST);
        self.used_up_to = from + takes;
        Ok(())
    }
}

/// What was too fast here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TooFast {
    /// Own writes that were refused.
    pub refused: u64,
    /// True if that was so within the last minute.
    pub refused_of_late: bool,
    /// Records of others that were merged and not passed on.
    pub held_back: u64,
    /// Whose, within the last minute.
    pub origin: Option<NodeId>,
}

/// The paces of all writers.
#[derive(Debug)]
pub(crate) struct Paces {
    own: Pace,
    /// Of those origins that are ahead of their share; bounded by the members.
    others: BTreeMap<NodeId, Pace>,
    refused: u64,
    refused_at: Option<Instant>,
    held_back: u64,
    held_back_at: Option<(Instant, NodeId)>,
}

impl Paces {
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            own: Pace { used_up_to: now },
            others: BTreeMap::new(),
            refused: 0,
            refused_at: None,
            held_back: 0,
            held_back_at: None,
        }
    }

    /// An own batch of so many records with so many bytes. Refused: how long to wait, and whether that is news.
    pub(crate) fn write(&mut self, now: Instant, records: usize, bytes: usize) -> Result<(), (Duration, bool)> {
        let cost = BATCH_COST + RECORD_COST * records as u64 + bytes as u64;
        self.own.take(now, cost, WRITE_RATE, WRITE_AHEAD).map_err(|wait| {
            let is_news = self.refused_at.is_none_or(|at| at + OF_LATE <= now);
            self.refused += 1;
            if is_news {
                self.refused_at = Some(now);
            }
            (wait, is_news)
        })
    }

    /// A record of another node. False: it shall not be passed on, and, if so, whether that is news.
    pub(crate) fn pass_on(&mut self, now: Instant, origin: NodeId, bytes: usize) -> Result<(), bool> {
        let pace = self.others.entry(origin).or_insert(Pace { used_up_to: now });
        let cost = RECORD_COST + bytes as u64;
        pace.take(now, cost, ORIGIN_RATE, ORIGIN_AHEAD).map_err(|_wait| {
            let is_news = self.held_back_at.is_none_or(|(at, who)| at + OF_LATE <= now || who != origin);
            self.held_back += 1;
            if is_news {
                self.held_back_at = Some((now, origin));
            }
            is_news
        })
    }

    /// Forgets those that have not used up anything.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.others.retain(|_, pace| pace.used_up_to > now);
    }

    pub(crate) fn too_fast(&self, now: Instant) -> TooFast {
        let of_late = |at: Instant| at + OF_LATE > now;
        TooFast {
            refused: self.refused,
            refused_of_late: self.refused_at.is_some_and(of_late),
            held_back: self.held_back,
            origin: self.held_back_at.filter(|(at, _)| of_late(*at)).map(|(_, origin)| origin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: NodeId = NodeId([1; 16]);
    const CALM: NodeId = NodeId([2; 16]);

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn a_loop_is_held_to_its_share_and_told_how_long_to_wait() {
        let mut paces = Paces::new(at(0));
        let granted = (0..10_000).filter(|n| paces.write(at(n * 10), 1, 300).is_ok()).count() as u64;
        let cost = BATCH_COST + RECORD_COST + 300;
        let share = WRITE_RATE * (100 + WRITE_AHEAD.as_secs()) / cost;
        assert!(granted.abs_diff(share) <= 2, "{granted} of {share}");
        let (wait, is_news) = (0..9).find_map(|_| paces.write(at(100_000), 1, 300).err()).expect("it is ahead");
        assert!(!wait.is_zero() && wait < Duration::from_secs(1) && !is_news, "{wait:?}");
        assert!(paces.write(at(100_000) + wait, 1, 300).is_ok());
        assert!(paces.too_fast(at(100_000)).refused > 0);
        assert!(!paces.too_fast(at(300_000)).refused_of_late);
    }

    #[test]
    fn the_largest_deploy_is_taken_and_does_not_close_the_door_for_long() {
        let mut paces = Paces::new(at(0));
        assert!(paces.write(at(0), 1_024, 100 << 20).is_ok());
        assert!(paces.write(at(1), 1, 300).is_err());
        assert!(paces.write(at(60_000), 1, 300).is_ok());
    }

    #[test]
    fn one_origin_does_not_use_up_the_share_of_another() {
        let mut paces = Paces::new(at(0));
        let passed = (0..100_000).filter(|n| paces.pass_on(at(n / 10), BUSY, 1_000).is_ok()).count() as u64;
        let share = ORIGIN_RATE * (10 + ORIGIN_AHEAD.as_secs()) / (RECORD_COST + 1_000);
        assert!(passed.abs_diff(share) <= 2, "{passed} of {share}");
        let held_back = (0..9).find_map(|_| paces.pass_on(at(10_000), BUSY, 1_000).err());
        assert_eq!(held_back, Some(false), "it was told at the first");
        assert_eq!(paces.pass_on(at(10_000), CALM, 1_000), Ok(()));
        assert_eq!(paces.too_fast(at(10_000)).origin, Some(BUSY));
        paces.expire(at(100_000));
        assert!(paces.others.is_empty());
    }
}
