//! Token buckets: how often something may happen.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Addresses remembered by a [`PerAddress`]; beyond it, all begin anew.
const MAX_ADDRESSES: usize = 4_096;

/// A bucket of `burst` uses that gains one per `every`.
#[derive(Clone, Debug)]
struct Bucket {
    left: u32,
    since: Instant,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) burst: u32,
    pub(crate) every: Duration,
}

impl Bucket {
    fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let every = rate.every.as_nanos().max(1);
        let gained = now.saturating_duration_since(self.since).as_nanos() / every;
        if gained > 0 {
            self.left = self.left.saturating_add(u32::try_from(gained).unwrap_or(u32::MAX)).min(rate.burst);
            self.since = now;
        }
        let granted = self.left > 0;
        self.left -= u32::from(granted);
        granted
    }
}

/// A rate for each address.
#[derive(Debug)]
pub(crate) struct PerAddress {
    rate: Rate,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

impl PerAddress {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, buckets: Mutex::new(HashMap::new()) }
    }

    pub(crate) fn pass(&self, address: IpAddr, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_ADDRESSES && !buckets.contains_key(&address) {
            buckets.clear();
        }
        buckets.entry(address).or_insert(Bucket { left: self.rate.burst, since: now }).take(self.rate, now)
    }
}

/// One rate for all, which counts what it held back.
#[derive(Debug)]
pub(crate) struct Limiter {
    rate: Rate,
    state: Mutex<(Bucket, u64)>,
}

impl Limiter {
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, state: Mutex::new((Bucket { left: rate.burst, since: now }, 0)) }
    }

    /// The number held back since the last pass, if this one passes.
    pub(crate) fn pass(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0.take(self.rate, now) {
            Some(std::mem::take(&mut state.1))
        } else {
            state.1 += 1;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_rules() {
        let (start, rate) = (Instant::now(), Rate { burst: 2, every: Duration::from_secs(1) });
        let limiter = Limiter::new(rate, start);
        assert_eq!(limiter.pass(start), Some(0));
        assert_eq!(limiter.pass(start), Some(0));
        assert_eq!(limiter.pass(start), None);
        assert_eq!(limiter.pass(start), None);
        assert_eq!(limiter.pass(start + Duration::from_secs(1)), Some(2));
    }

    #[test]
    fn addresses_do_not_disturb_each_other() {
        let (now, rate) = (Instant::now(), Rate { burst: 1, every: Duration::from_secs(1) });
        let gate = PerAddress::new(rate);
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        assert!(gate.pass(a, now) && !gate.pass(a, now) && gate.pass(b, now));
    }
}
