//! Identities: who a node is, which cluster it belongs to, and which boot of it speaks.
//!
//! Newtypes only; nothing here may allocate identities, read a clock or draw randomness.

use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::canary::{Bug, planted};

/// A node's stable identity: the first 16 bytes of the SHA-256 of its public key (subject public key info).
///
/// A new address, a new name or a new generation is no new identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub [u8; 16]);

impl NodeId {
    /// The first 8 bytes, which is what the SWIM identity carries.
    #[must_use]
    pub fn short(self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// Parses 32 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        parse_hex16(text).map(Self)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.short() >> 32)
    }
}

/// A cluster's identity, drawn once by `dunlin init`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 16]);

impl ClusterId {
    /// Parses 32 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        parse_hex16(text).map(Self)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// By so many milliseconds at most a boot goes beyond a disk that the clock is behind. Less than lies between two boots, so that
/// a disk that is older than what peers know is still found out by its number.
const GAP: u64 = 1 << 8;

/// One boot of a node: 48 bits of milliseconds, `max(disk + 1, wall clock)`, on disk before the first packet.
///
/// It marks records, actors and sealing keys. A renewal of the SWIM identity does not change it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Generation(pub u64);

impl Generation {
    /// The largest value that 48 bits hold.
    pub const MAX: Self = Self((1 << 48) - 1);

    /// The generation of the next boot, given the one on disk, the wall clock in milliseconds and a random number. The clock
    /// tells boots apart that begin with the same disk, restored; where it is behind the disk, only chance does.
    #[must_use]
    pub fn next(on_disk: Option<Self>, wall_ms: u64, chance: u64) -> Self {
        let after_disk = on_disk.map_or(0, |g| g.0.saturating_add(1));
        let after_disk = if after_disk > wall_ms { after_disk.saturating_add(chance % GAP) } else { after_disk };
        if let Some(reused) = on_disk.filter(|_| planted(Bug::GenerationReused)) {
            return reused;
        }
        Self(after_disk.max(wall_ms).min(Self::MAX.0))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}", self.0)
    }
}

/// Who wrote a desired record: a node in one of its generations.
///
/// A crash, an old disk or a re-created key can never reuse an actor's dots.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Actor {
    /// The writing node.
    pub node: NodeId,
    /// The boot of it that wrote.
    pub generation: Generation,
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    for byte in bytes {
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

/// Lower-case hexadecimal of any bytes.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _infallible = write!(out, "{byte:02x}");
    }
    out
}

fn parse_hex16(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn hex_round_trips_and_rejects_signs() {
        let id = NodeId([0xab; 16]);
        assert_eq!(NodeId::parse(&id.to_string()), Some(id));
        assert_eq!(NodeId::parse("+babababababababababababababababab"), None);
        assert_eq!(NodeId::parse("ab"), None);
    }

    #[test]
    fn a_generation_never_goes_back() {
        assert_eq!(Generation::next(Some(Generation(10)), 5, 0), Generation(11));
        assert_eq!(Generation::next(Some(Generation(10)), 50, 9), Generation(50));
        assert_eq!(Generation::next(None, 7, 9), Generation(7));
    }

    #[test]
    fn a_disk_that_is_restored_twice_under_a_slow_clock_begins_different_boots() {
        let boot = |chance| Generation::next(Some(Generation(1_000)), 5, chance);
        assert_ne!(boot(3), boot(4));
        assert!(boot(u64::MAX) < Generation(1_001 + GAP));
    }
}
