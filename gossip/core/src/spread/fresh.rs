//! Which records arrived so recently that they are likely on their way to everybody: a sync leaves them out.

use alloc::collections::{BTreeMap, VecDeque};

use crate::hash::hash64;
use crate::time::{Duration, Instant};
use crate::wire::Record;

/// Beyond it the oldest are forgotten, which costs at most a record sent twice.
const MAX_FRESH: usize = 8_192;

/// Recent arrivals.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    arrived: BTreeMap<u64, Instant>,
    order: VecDeque<(Instant, u64)>,
}

impl Fresh {
    pub(crate) fn note(&mut self, now: Instant, record: &Record) {
        let hash = record.hash();
        self.arrived.insert(hash, now);
        self.order.push_back((now, hash));
        if self.order.len() > MAX_FRESH {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((at, hash)) = self.order.pop_front()
            && self.arrived.get(&hash) == Some(&at)
        {
            self.arrived.remove(&hash);
        }
    }

    pub(crate) fn expire(&mut self, now: Instant, after: Duration) {
        while self.order.front().is_some_and(|(at, _)| *at + after <= now) {
            self.drop_oldest();
        }
    }

    /// True if a record of these bytes arrived of late.
    pub(crate) fn knows(&self, bytes: &[u8]) -> bool {
        !self.arrived.is_empty() && self.arrived.contains_key(&hash64(bytes))
    }

    /// True if the record arrived since, so that a link which stood at that moment has been sent it.
    pub(crate) fn arrived_since(&self, record: &Record, since: Instant) -> bool {
        !self.arrived.is_empty() && self.arrived.get(&record.hash()).is_some_and(|at| *at >= since)
    }
}
