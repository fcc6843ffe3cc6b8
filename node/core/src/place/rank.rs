//! Weighted rendezvous hashing (Thaler and Ravishankar, 1998; weights after Schindelhauer and Schomaker, 2005).
//!
//! Each (node, replica) pair gets `-log2(u) / weight` for a hash `u`; smaller is better. Integers only: two platforms must
//! never rank two nodes differently. The hash covers the node's id and the replica's key, never the specification or the
//! generation, so that an edit or a restart reshuffles nothing.

use core::fmt::{self, Write};

use dunlin_gossip::hash::hash64;
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
    let mut text = Text { bytes: [0; TEXT], len: 0 };
    match write!(text, "{replica}") {
        Ok(()) => hash64(text.bytes.get(..text.len).unwrap_or_default()),
        Err(fmt::Error) => hash64(alloc::format!("{replica}").as_bytes()),
    }
}

/// Room for the name of any replica: stack, service and slot.
const TEXT: usize = 192;

/// A text that is written without asking for memory.
struct Text {
    bytes: [u8; TEXT],
    len: usize,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let place = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

/// The hash of a pair. Both halves are good hashes already, and there is one for each node and decision: one multiplication, the
/// halves of its product folded, is as uniform as more of them and several times as fast. The constants (of the fractions of pi)
/// keep small numbers apart.
pub(super) fn pair(replica_hash: u64, node_hash: u64) -> u64 {
    let product = u128::from(replica_hash ^ 0x243f_6a88_85a3_08d3) * u128::from(node_hash ^ 0x1319_8a2e_0370_7344);
    #[allow(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    let low = product as u64;
    (product >> 64) as u64 ^ low
}

/// A node's weight: its size, a CPU counting as much as 4 GiB.
#[must_use]
pub fn weight(allocatable: &Resources) -> u64 {
    (allocatable.cpu_milli + (allocatable.memory_bytes >> 22)).max(1)
}

/// The rank of a node for a replica.
#[must_use]
pub fn rank(replica_hash: u64, node_hash: u64, weight: u64) -> Rank {
    rank_of(pair(replica_hash, node_hash), weight)
}

/// The rank of a node whose hash with the replica is this.
pub(super) fn rank_of(hash: u64, weight: u64) -> Rank {
    // At most 64 in units of 2^-32, hence below 2^62 after the shift.
    Rank((neg_log2(hash) << 24) / weight.max(1))
}

/// The least hash of which the rank lies below (before) this one; all greater hashes do as well. The greatest hash where even
/// that is not below: the caller then compares one hash in vain.
pub(super) fn first_below(rank: Rank, weight: u64) -> u64 {
    // The rank is below where the logarithm is below `rank * weight / 2^24`, rounded up.
    let bound = (u128::from(rank.0) * u128::from(weight.max(1))).div_ceil(1 << 24);
    match u64::try_from(bound) {
        Ok(0) => u64::MAX,
        Ok(bound) if bound <= 64 << FRACTION => least_within(bound - 1),
        Ok(_) | Err(_) => 0,
    }
}

/// The least hash whose logarithm is not above this: the table read backwards.
fn least_within(most: u64) -> u64 {
    // One zero in front counts for the whole range of the fraction.
    let zeros = most.div_ceil(1 << FRACTION);
    let Some(shift) = zeros.checked_sub(1) else { return u64::MAX };
    let fraction = (zeros << FRACTION) - most;
    let index = TABLE.partition_point(|low| *low <= fraction) - 1;
    let low = TABLE.get(index).copied().unwrap_or(0);
    let high = TABLE.get(index + 1).copied().unwrap_or(low + 1);
    let rest = ((fraction - low) << FRACTION).div_ceil(high - low);
    // Of a number with its highest bit at 2^64, what stands above that many zeros, rounded up.
    let mantissa = (u128::from(index as u64) << (64 - INDEX_BITS)) + (u128::from(rest) << (64 - INDEX_BITS - FRACTION));
    let number = ((1 << 64) + mantissa).div_ceil(1 << (shift + 1));
    u64::try_from(number - 1).unwrap_or(u64::MAX)
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
    use dunlin_gossip::model::{ServiceKey, ServiceName, Slot, StackName};
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
    fn a_lost_node_leaves_its_replicas_to_all_others_alike() {
        let mut rng = Seed(4).rng();
        let nodes: alloc::vec::Vec<u64> = (0..20).map(|n: u8| node_hash(NodeId([n; 16]))).collect();
        let mut heirs = [0_u32; 20];
        for n in 0..100_000_u32 {
            let replica = if n % 2 == 0 { rng.next_u64() } else { hash64(&n.to_le_bytes()) };
            let mut order: alloc::vec::Vec<usize> = (0..20).collect();
            order.sort_by_key(|node| rank(replica, nodes[*node], 1_000));
            if order[0] == 7 {
                heirs[order[1]] += 1;
            }
        }
        // 5,000 replicas, 263 for each other node; five times the root of that is 81.
        let others = heirs.iter().enumerate().filter(|(node, _)| *node != 7);
        assert!(others.clone().all(|(_, count)| (182..=344).contains(count)), "{heirs:?}");
        assert_eq!(heirs[7], 0);
    }

    #[test]
    fn a_replica_is_hashed_by_its_name() {
        let (stack, service) = (StackName::new(&"s".repeat(63)), ServiceName::new(&"w".repeat(63)));
        let service = ServiceKey { stack: stack.expect("a name"), service: service.expect("a name") };
        for slot in [Slot::Number(u32::MAX), Slot::Node(NodeId([7; 16])), Slot::Run(u64::MAX, u32::MAX)] {
            let replica = ReplicaKey { service: service.clone(), slot };
            assert_eq!(replica_hash(&replica), hash64(alloc::format!("{replica}").as_bytes()));
        }
    }

    #[test]
    fn golden_ranks_never_change() {
        let replica = 0x0123_4567_89ab_cdef;
        assert_eq!([rank(replica, 1, 1_000).0, rank(replica, 2, 1_000).0, rank(replica, 3, 4_000).0], GOLDEN);
    }

    /// Looks for the hash that `first_below` works out.
    fn searched(rank: Rank, weight: u64) -> u64 {
        let (mut low, mut high) = (0, u64::MAX);
        while low < high {
            let middle = low + (high - low) / 2;
            if rank_of(middle, weight) < rank { high = middle } else { low = middle + 1 }
        }
        low
    }

    #[test]
    fn what_hashes_alone_decide_is_what_ranks_decide() {
        let mut rng = Seed(3).rng();
        for round in 0..20_000 {
            let (hash, weight) = (rng.next_u64() >> rng.below(64), 1 + (rng.below(1 << 30) >> rng.below(30)));
            let other = if round % 3 == 0 { weight } else { 1 + (rng.below(1 << 30) >> rng.below(30)) };
            let rank = Rank((rank_of(hash, weight).0 + rng.below(3)).saturating_sub(1));
            let edge = first_below(rank, other);
            assert_eq!(edge, searched(rank, other), "{rank:?} at a weight of {other}");
        }
        for rank in [0, 1, u64::MAX] {
            assert_eq!(first_below(Rank(rank), 1), searched(Rank(rank), 1), "{rank}");
        }
    }

    const GOLDEN: [u64; 3] = [355_878_014_287_872, 179_614_164_539_408, 28_330_886_554_451];
}
