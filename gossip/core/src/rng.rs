//! The one generator (`ChaCha8`) and how it is split by purpose, so that a new draw in one place never shifts another.
//!
//! Probabilities are integer ratios: floats are not reproducible everywhere.

use core::ops::Range;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::hash::{hash64, mix};

/// Decides everything random that follows from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seed(pub u64);

impl Seed {
    /// The seed of a purpose, independent of all others.
    #[must_use]
    pub fn split(self, purpose: &str) -> Self {
        Self(mix(self.0, hash64(purpose.as_bytes())))
    }

    /// The seed of one of many of the same purpose.
    #[must_use]
    pub const fn nth(self, index: u64) -> Self {
        Self(mix(self.0, index))
    }

    /// A generator that starts here.
    #[must_use]
    pub fn rng(self) -> Rng {
        Rng(ChaCha8Rng::seed_from_u64(self.0))
    }
}

/// A probability as `num` in `den`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ratio {
    /// Favourable cases.
    pub num: u32,
    /// All cases; 0 means never.
    pub den: u32,
}

impl Ratio {
    /// Never.
    pub const ZERO: Self = Self { num: 0, den: 1 };

    /// `num` in `den`.
    #[must_use]
    pub const fn new(num: u32, den: u32) -> Self {
        Self { num, den }
    }

    /// So many in a hundred.
    #[must_use]
    pub const fn percent(num: u32) -> Self {
        Self { num, den: 100 }
    }
}

/// The generator.
#[derive(Clone, Debug)]
pub struct Rng(ChaCha8Rng);

impl Rng {
    /// Any 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in `[0, bound)`; 0 when `bound` is 0 (multiply-shift, bias below 2^-32 for bounds below 2^32).
    pub fn below(&mut self, bound: u64) -> u64 {
        u64::try_from((u128::from(self.next_u64()) * u128::from(bound)) >> 64).unwrap_or(0)
    }

    /// Uniform in a range; its start when the range is empty.
    pub fn range(&mut self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end.saturating_sub(range.start))
    }

    /// True with the given probability.
    pub fn chance(&mut self, ratio: Ratio) -> bool {
        ratio.num > 0 && self.below(u64::from(ratio.den)) < u64::from(ratio.num)
    }

    /// One element, `None` of an empty slice.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let index = usize::try_from(self.below(from.len() as u64)).ok()?;
        from.get(index)
    }

    /// Fisher-Yates.
    pub fn shuffle<T>(&mut self, slice: &mut [T]) {
        for i in (1..slice.len()).rev() {
            let j = usize::try_from(self.below(i as u64 + 1)).unwrap_or(i);
            slice.swap(i, j);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_fixed_for_all_releases() {
        let mut rng = Seed(42).split("golden").rng();
        let first = rng.next_u64();
        assert_eq!(first, Seed(42).split("golden").rng().next_u64());
        assert_ne!(first, Seed(42).split("other").rng().next_u64());
    }

    #[test]
    fn below_stays_below() {
        let mut rng = Seed(1).rng();
        assert!((0..1000).all(|_| rng.below(7) < 7));
        assert_eq!(rng.below(0), 0);
        assert!(!rng.chance(Ratio::ZERO));
    }
}
