//! Quantiles and counters. Durations are integer nanoseconds until they are printed.

use serde::Serialize;

use crate::queue::{Nanos, SECOND};

/// Samples of one figure, each with the moment at which it was taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<(Nanos, u64)>);

impl Samples {
    pub(crate) fn add(&mut self, at: Nanos, value: u64) {
        self.0.push((at, value));
    }

    /// All of them, for whoever holds several runs together.
    pub(crate) fn timed(&self) -> Vec<Sample> {
        self.0.iter().map(|(at, value)| Sample { at_s: seconds(*at), value_s: seconds(*value) }).collect()
    }

    /// The smallest sample that is not less than `num` in `den` of all (nearest rank); none without samples.
    pub(crate) fn quantile(&mut self, num: u64, den: u64) -> Option<u64> {
        self.0.sort_unstable_by_key(|(_, value)| *value);
        let rank = (self.0.len() as u64 * num).div_ceil(den).max(1);
        self.0.get(usize::try_from(rank - 1).unwrap_or(usize::MAX)).map(|(_, value)| *value)
    }

    /// In seconds, for the report.
    pub(crate) fn seconds(&mut self) -> Quantiles {
        let mut at = |num| self.quantile(num, 100).map(seconds);
        Quantiles { p50: at(50), p90: at(90), p99: at(99), max: at(100) }
    }

    /// As they are, for the report.
    pub(crate) fn plain(&mut self) -> Spread {
        let mut at = |num| self.quantile(num, 100).unwrap_or(0);
        Spread { p50: at(50), p99: at(99), max: at(100) }
    }
}

/// Nanoseconds as seconds, for people and reports only.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn seconds(nanos: Nanos) -> f64 {
    (nanos / 1_000) as f64 / (SECOND / 1_000) as f64
}

/// A time that was measured, and when.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// When it was over, in virtual seconds.
    pub at_s: f64,
    /// How long it took.
    pub value_s: f64,
}

/// Quantiles in seconds; all none when nothing was measured.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Quantiles {
    /// Half of the samples are at most this.
    pub p50: Option<f64>,
    /// 90 of 100 are.
    pub p90: Option<f64>,
    /// 99 of 100 are.
    pub p99: Option<f64>,
    /// All are.
    pub max: Option<f64>,
}

/// Quantiles of a whole number over the nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Spread {
    /// Half of the nodes are at most at this.
    pub p50: u64,
    /// 99 of 100 are.
    pub p99: u64,
    /// All are.
    pub max: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_gossip::rng::Seed;

    #[test]
    fn quantiles_equal_brute_force() {
        let mut rng = Seed(3).rng();
        for len in 0..60_u64 {
            let values: Vec<u64> = (0..len).map(|_| rng.below(20)).collect();
            let mut samples = Samples(values.iter().map(|value| (0, *value)).collect());
            for num in 1..=100 {
                // By definition: the least value v of the sample such that at least num % of the samples are <= v.
                let brute = values
                    .iter()
                    .copied()
                    .filter(|v| values.iter().filter(|w| *w <= v).count() as u64 * 100 >= len * num);
                assert_eq!(samples.quantile(num, 100), brute.min());
            }
        }
    }
}
