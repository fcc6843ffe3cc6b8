//! A service's addresses as they stand in an answer, so that the quick path only copies.
//!
//! Each record begins with a pointer to the question's name, which every message has at the same offset.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::change::Instance;

/// Bytes of an A record whose name is a pointer.
pub(crate) const A_LEN: usize = 16;
/// Bytes of an AAAA record whose name is a pointer.
pub(crate) const AAAA_LEN: usize = 28;
/// The question's name: offset 12 of every message.
const QUESTION: [u8; 2] = [0xc0, 12];

/// The key of a service and its records, sorted by address, each once; in one piece, so that a search that has found the
/// key has the answer at hand: each further place in memory costs more than all that is done there.
///
/// First stands where the A and the AAAA records begin, then the key, then the records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Packed(Arc<[u8]>);

/// Bytes of the two offsets.
const OFFSETS: usize = 8;

impl Packed {
    /// What is answered for these instances: those with a port that can be reached.
    pub(crate) fn of(key: &[u8], instances: &[Instance], ttl: u32) -> Self {
        let reachable = instances.iter().filter(|instance| !instance.ports.is_empty());
        let mut addresses: Vec<IpAddr> = reachable.map(|instance| instance.address).collect();
        // Those of version 4 come first.
        addresses.sort_unstable();
        addresses.dedup();
        let mut bytes = [&[0; OFFSETS][..], key].concat();
        let a = bytes.len();
        let mut aaaa = a;
        for address in addresses {
            match address {
                IpAddr::V4(v4) => {
                    put(&mut bytes, 1, ttl, &v4.octets());
                    aaaa = bytes.len();
                }
                IpAddr::V6(v6) => put(&mut bytes, 28, ttl, &v6.octets()),
            }
        }
        for (slot, place) in bytes.chunks_exact_mut(OFFSETS / 2).zip([a, aaaa]) {
            slot.copy_from_slice(&u32::try_from(place).unwrap_or(u32::MAX).to_ne_bytes());
        }
        Self(bytes.into())
    }

    /// Where the A and the AAAA records begin.
    fn offsets(&self) -> (usize, usize) {
        let Some([a0, a1, a2, a3, b0, b1, b2, b3]) = self.0.first_chunk::<OFFSETS>() else { return (0, 0) };
        let place = |bytes| u32::from_ne_bytes(bytes) as usize;
        (place([*a0, *a1, *a2, *a3]), place([*b0, *b1, *b2, *b3]))
    }

    pub(crate) fn key(&self) -> &[u8] {
        self.0.get(OFFSETS..self.offsets().0).unwrap_or_default()
    }

    pub(crate) fn a(&self) -> &[u8] {
        let (a, aaaa) = self.offsets();
        self.0.get(a..aaaa).unwrap_or_default()
    }

    pub(crate) fn aaaa(&self) -> &[u8] {
        self.0.get(self.offsets().1..).unwrap_or_default()
    }

    /// The two labels of the key.
    pub(crate) fn labels(&self) -> (&str, &str) {
        let text = |bytes| core::str::from_utf8(bytes).unwrap_or_default();
        let first = self.key().first().map_or(0, |length| usize::from(*length)) + 1;
        let label = |range: core::ops::Range<usize>| text(self.key().get(range).unwrap_or_default());
        (label(1..first), label(first + 1..self.key().len()))
    }
}

fn put(out: &mut Vec<u8>, kind: u8, ttl: u32, address: &[u8]) {
    out.extend_from_slice(&QUESTION);
    out.extend_from_slice(&[0, kind, 0, 1]);
    out.extend_from_slice(&ttl.to_be_bytes());
    out.extend_from_slice(&[0, u8::try_from(address.len()).unwrap_or(0)]);
    out.extend_from_slice(address);
}
