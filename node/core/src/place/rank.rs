//! Weighted rendezvous hashing (Thaler and Ravishankar, 1998; weights after Schindelhauer and Schomaker, 2005).
//!
//! Each (node, replica) pair gets `-log2(u) / weight` for a hash `u`; smaller is better. Integers only: two platforms must
//! never rank two nodes differently. The hash covers the node's id and the replica's key, never the specification or the
//! generation, so that an edit or a restart reshuffles nothing.

use dunlin_gossip::hash::{hash64, mix};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{ReplicaKey, Resources};

/// A place in a replica's rendezvous order; smaller goes first. Unique for practical purposes; ties break by node id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rank(pub u64);

/// The part of the hash that belongs to the node; worth caching.
#[must_use]
pub fn node_hash(node: NodeId) -> u64 {
    hash64(&node.0)
}

/// The part of the hash that belongs to the replica; worth caching.
#[must_use]
pub fn replica_hash(replica: &ReplicaKey) -> u64 {
    hash64(alloc::format!("{replica}").as_bytes())
}

/// A node's weight: its size, a CPU counting as much as 4 GiB.
#[must_use]
pub fn weight(allocatable: &Resources) -> u64 {
    (allocatable.cpu_milli + (allocatable.memory_bytes >> 22)).max(1)
}

/// The rank of a node for a replica.
#[must_use]
pub fn rank(replica_hash: u64, node_hash: u64, weight: u64) -> Rank {
    rank_of(mix(replica_hash, node_hash), weight)
}

/// The rank of a node whose hash with the replica is this.
pub(super) fn rank_of(hash: u64, weight: u64) -> Rank {
    // At most 64 in units of 2^-32, hence below 2^62 after the shift.
    Rank((neg_log2(hash) << 24) / weight.max(1))
}

/// Two hashes further apart than this never have the same rank: the logarithm's unit is 2^-32, its slope at least 1.44 in
/// units of the whole range.
pub(super) const SLACK: u64 = 1 << 34;

/// The least hash of which the rank lies below (before) this one; all greater hashes do as well.
pub(super) fn first_below(rank: Rank, weight: u64) -> u64 {
    let (mut low, mut high) = (0, u64::MAX);
    // The greatest hash has rank 0; where even that is not below, nothing is, and the caller compares one hash in vain.
    while low < high {
        let middle = low + (high - low) / 2;
        if rank_of(middle, weight) < rank { high = middle } else { low = middle + 1 }
    }
    low
}

/// Fraction bits of the logarithm.
const FRACTION: u32 = 32;
/// Entries of the table are this many bits of the mantissa.
const INDEX_BITS: u32 = 8;

/// `log2(1 + i / 256)` in units of 2^-32, computed by the compiler with integers.
const TABLE: [u64; (1 << INDEX_BITS) + 1] = table();

const fn table() -> [u64; (1 << INDEX_BITS) + 1] {
    let mut out = [0; (1 << INDEX_BITS) + 1];
    let mut i = 0;
    while i < 1 << INDEX_BITS {
        out[i] = log2_mantissa((1 << 62) + ((i as u64) << (62 - INDEX_BITS)));
        i += 1;
    }
    out[1 << INDEX_BITS] = 1 << FRACTION;
    out
}

/// The fraction bits of log2 of a number in `[1, 2)` given in units of 2^-62, by repeated squaring.
const fn log2_mantissa(mut x: u64) -> u64 {
    let mut result = 0;
    let mut bit = 0;
    while bit < FRACTION {
        let square = ((x as u128) * (x as u128)) >> 62;
        result <<= 1;
        if square >= 1 << 63 {
            result |= 1;
            x = (square >> 1) as u64;
        } else {
            x = square as u64;
        }
        bit += 1;
    }
    result
}

/// `-log2((hash + 1) / 2^64)` in units of 2^-32, between 0 and 64.
fn neg_log2(hash: u64) -> u64 {
    let Some(x) = hash.checked_add(1) else { return 0 };
    let zeros = x.leading_zeros();
    let mantissa = if zeros == 63 { 0 } else { x << (zeros + 1) };
    let index = usize::try_from(mantissa >> (64 - INDEX_BITS)).unwrap_or(0);
    let rest = (mantissa << INDEX_BITS) >> (64 - FRACTION);
    let low = TABLE.get(index).copied().unwrap_or(0);
    let high = TABLE.get(index + 1).copied().unwrap_or(low);
    let fraction = low + (((high - low) * rest) >> FRACTION);
    (u64::from(zeros + 1) << FRACTION) - fraction
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_gossip::rng::Seed;

    #[test]
    fn the_logarithm_is_right_at_known_points() {
        assert_eq!(neg_log2(u64::MAX), 0);
        assert_eq!(neg_log2((1 << 63) - 1), 1 << FRACTION);
        assert_eq!(neg_log2(0), 64 << FRACTION);
        // -log2(3/4) = 0.4150374992788...
        let three_quarters = neg_log2((3 << 62) - 1);
        let expected = 1_782_572_487;
        assert!(three_quarters.abs_diff(expected) < 1 << 8, "{three_quarters}");
    }

    #[test]
    fn it_falls_as_the_hash_grows() {
        let mut rng = Seed(1).rng();
        let mut hashes: alloc::vec::Vec<u64> = (0..10_000).map(|_| rng.next_u64()).collect();
        hashes.sort_unstable();
        assert!(hashes.is_sorted_by(|a, b| neg_log2(*a) >= neg_log2(*b)));
    }

    #[test]
    fn a_node_of_twice_the_weight_wins_twice_as_often() {
        let mut rng = Seed(2).rng();
        let wins = (0..30_000)
            .filter(|_| {
                let replica = rng.next_u64();
                rank(replica, 1, 2_000) < rank(replica, 2, 1_000)
            })
            .count();
        assert!((19_600..20_400).contains(&wins), "{wins}");
    }

    #[test]
    fn golden_ranks_never_change() {
        let replica = 0x0123_4567_89ab_cdef;
        assert_eq!([rank(replica, 1, 1_000).0, rank(replica, 2, 1_000).0, rank(replica, 3, 4_000).0], GOLDEN);
    }

    #[test]
    fn what_hashes_alone_decide_is_what_ranks_decide() {
        let mut rng = Seed(3).rng();
        for _ in 0..2_000 {
            let (hash, weight) = (rng.next_u64() >> rng.below(40), 1 + rng.below(1 << 20));
            let other = 1 + rng.below(1 << 20);
            let edge = first_below(rank_of(hash, weight), other);
            assert!(edge == u64::MAX || rank_of(edge, other) < rank_of(hash, weight));
            assert!(edge == 0 || rank_of(edge - 1, other) >= rank_of(hash, weight));
            if let Some(lower) = hash.checked_sub(SLACK) {
                assert!(rank_of(lower, weight) > rank_of(hash, weight));
            }
        }
    }

    const GOLDEN: [u64; 3] = [10_368_717_493_895, 34_031_716_364_451, 21_238_397_460_807];
}
