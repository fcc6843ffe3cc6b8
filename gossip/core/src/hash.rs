//! The one hash on which nodes must agree: xxh3, 64 bits, specified and stable across platforms.
//!
//! Never use it against an adversary; against accidents it is enough (members are trusted not to lie).

use xxhash_rust::xxh3;

/// xxh3-64 of bytes.
#[must_use]
pub fn hash64(bytes: &[u8]) -> u64 {
    xxh3::xxh3_64(bytes)
}

/// xxh3-64 of bytes under a seed; distinct seeds give independent functions.
#[must_use]
pub fn hash64_with(bytes: &[u8], seed: u64) -> u64 {
    xxh3::xxh3_64_with_seed(bytes, seed)
}

/// Mixes two hashes into one (order matters); the finaliser of `SplitMix64`, two rounds.
#[must_use]
pub const fn mix(a: u64, b: u64) -> u64 {
    let mut x = a ^ b.rotate_left(32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    x = x.wrapping_add(b);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_vectors() {
        assert_eq!(hash64(b""), 0x2d06_8005_38d3_94c2);
        assert_ne!(hash64_with(b"dunlin", 1), hash64_with(b"dunlin", 2));
        assert_ne!(mix(1, 2), mix(2, 1));
    }
}
