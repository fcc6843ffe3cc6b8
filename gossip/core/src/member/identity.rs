//! Who speaks: which node, which boot of it, and how often that boot had to renew itself.
//!
//! Sixteen bytes, no addresses: a new address is no new identity. Never: a meaning beyond "the greater boot is the newer".

use core::num::NonZeroU64;

use crate::id::Generation;

/// A boot of a node: 48 bits of generation, 16 of renewals. A renewal lives in memory only and voids nothing. Ordered: the
/// greater one is the newer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Boot(NonZeroU64);

impl Boot {
    pub(crate) const fn new(generation: Generation, renewals: u16) -> Self {
        // A generation counts milliseconds since 1970: none is 0.
        match NonZeroU64::new(generation.0 << 16 | renewals as u64) {
            Some(number) => Self(number),
            None => Self(NonZeroU64::MIN),
        }
    }

    /// As it stands in a packet; zero stands for no boot in particular.
    pub(super) fn from_wire(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    pub(super) const fn to_wire(self) -> u64 {
        self.0.get()
    }

    pub(crate) const fn generation(self) -> Generation {
        Generation(self.0.get() >> 16)
    }

    pub(super) const fn renewals(self) -> u16 {
        (self.0.get() & 0xffff) as u16
    }

    /// The same boot under a new identity; none once it has had them all.
    pub(super) fn renewed(self) -> Option<Self> {
        self.renewals().checked_add(1).map(|renewals| Self::new(self.generation(), renewals))
    }
}

/// A boot of a certain node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct SwimId {
    /// The first eight bytes of the node id.
    pub(crate) short: u64,
    pub(crate) boot: Boot,
}

#[cfg(test)]
impl SwimId {
    /// A boot that never had to renew itself.
    pub(crate) fn new(node: crate::id::NodeId, generation: Generation) -> Self {
        Self { short: node.short(), boot: Boot::new(generation, 0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_is_newer_and_a_generation_is_newer_than_any_renewal() {
        let old = Boot::new(Generation(7), u16::MAX);
        assert_eq!(old.renewed(), None);
        assert!(Boot::new(Generation(7), 1) > Boot::new(Generation(7), 0));
        assert!(Boot::new(Generation(8), 0) > old);
        assert_eq!((old.generation(), old.renewals()), (Generation(7), u16::MAX));
        assert_eq!(Boot::from_wire(old.to_wire()), Some(old));
    }
}
