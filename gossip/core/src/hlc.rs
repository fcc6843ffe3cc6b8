//! The hybrid logical clock (Kulkarni et al., 2014): 48 bits of wall milliseconds and 16 of a counter, in one integer.
//!
//! It decides only between concurrent writes; causality decides the rest. Time never blocks a merge: a clock follows what
//! it sees up to [`MAX_AHEAD`](crate::limits::MAX_CLOCK_AHEAD) past its own wall clock and no further.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::MAX_CLOCK_AHEAD;
use crate::time::Wall;

/// One stamp of a hybrid logical clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The smallest stamp of a wall-clock millisecond.
    #[must_use]
    pub const fn from_wall(wall: Wall) -> Self {
        Self(wall.0 << 16)
    }

    /// The wall-clock part.
    #[must_use]
    pub const fn wall(self) -> Wall {
        Wall(self.0 >> 16)
    }

    /// The hour since the Unix epoch in which this stamp lies (the unit of collection).
    #[must_use]
    pub const fn hour(self) -> u64 {
        (self.0 >> 16) / 3_600_000
    }
}

impl fmt::Debug for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> 16, self.0 & 0xffff)
    }
}

/// A node's clock: hands out stamps that only grow.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    last: Hlc,
}

impl Clock {
    /// A clock that will only hand out stamps after `last`.
    #[must_use]
    pub const fn starting_after(last: Hlc) -> Self {
        Self { last }
    }

    /// The next stamp, after every stamp handed out or observed before.
    pub fn tick(&mut self, wall: Wall) -> Hlc {
        self.last = Hlc((self.last.0 + 1).max(Hlc::from_wall(wall).0));
        self.last
    }

    /// The next stamp, not below `floor` (used to stay out of an hour whose digest was published).
    pub fn tick_at_least(&mut self, wall: Wall, floor: Hlc) -> Hlc {
        self.last = self.last.max(Hlc(floor.0.saturating_sub(1)));
        self.tick(wall)
    }

    /// Learns of another's stamp; a stamp too far ahead of our wall clock moves us only as far as the bound.
    pub fn observe(&mut self, seen: Hlc, wall: Wall) {
        let bound = Hlc::from_wall(wall.plus(MAX_CLOCK_AHEAD));
        self.last = self.last.max(seen.min(bound));
    }

    /// The last stamp handed out or observed.
    #[must_use]
    pub const fn last(&self) -> Hlc {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_grow_even_when_the_wall_goes_back() {
        let mut clock = Clock::default();
        let a = clock.tick(Wall(1000));
        let b = clock.tick(Wall(10));
        assert!(b > a);
    }

    #[test]
    fn the_far_future_moves_us_only_to_the_bound() {
        let mut clock = Clock::default();
        clock.observe(Hlc::from_wall(Wall(u64::MAX >> 16)), Wall(1000));
        assert_eq!(clock.last().wall(), Wall(1000).plus(MAX_CLOCK_AHEAD));
    }
}
