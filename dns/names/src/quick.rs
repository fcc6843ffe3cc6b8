//! The quick path: from a packet to a packet without an allocation, for the questions that make up nearly all traffic: A and
//! AAAA of a service, in a plain message or one with an empty OPT record.
//!
//! It answers wholly right or not at all: whatever is unusual in a question, or does not fit, is left to the full path. That
//! the two agree is a differential test over random packets (`dns/server/src/tests.rs`).

use dunlin_gossip::rng::Rng;

use crate::packed::{A_LEN, AAAA_LEN, Packed};
use crate::zone::Zone;

/// What we accept in one UDP datagram, and the most that we send (RFC 9715 recommends at most 1,400 against fragmentation).
pub const MAX_PAYLOAD: u16 = 1_232;
/// What a client takes that does not say (RFC 1035 section 4.2.1).
pub const MIN_PAYLOAD: u16 = 512;
/// Timers of the SOA: after how many seconds a secondary asks again, retries, gives up. Nobody transfers the zone, but
/// resolvers print them.
pub const SOA_TIMERS: [u32; 3] = [60, 10, 600];
/// How long a "no" may be kept (RFC 2308 section 5): as short as a "yes".
pub const SOA_MINIMUM: u32 = 1;

const HEADER: usize = 12;
const OPT_LEN: usize = 11;
/// A name's most bytes, without the root's zero.
const MAX_NAME: usize = 254;
/// Records that are shuffled on the stack; more do not fit into a datagram.
const MAX_RECORDS: usize = 80;

/// An answer by the quick path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quick {
    /// How many bytes of the buffer it takes.
    pub len: usize,
    /// Asked for AAAA, not A.
    pub is_v6: bool,
}

/// A question that the quick path may answer.
struct Asked {
    /// The name, case-folded, without the root's zero.
    name: [u8; MAX_NAME],
    name_len: usize,
    /// Where the question ends.
    end: usize,
    is_v6: bool,
    /// Of the OPT record: what the client takes, and the flag DO.
    edns: Option<(u16, bool)>,
}

impl Zone {
    /// Answers a datagram into `out` (at least [`MAX_PAYLOAD`] bytes), or leaves it to the full path. `offers_recursion` is
    /// what the flag RA says.
    pub fn quick(&self, query: &[u8], offers_recursion: bool, rng: &mut Rng, out: &mut [u8]) -> Option<Quick> {
        let asked = parse(query)?;
        let name = asked.name.get(..asked.name_len)?;
        let key = name.strip_suffix(&*self.origin_wire)?;
        let held = self.services.get(key)?;
        let room = asked.edns.map_or(MIN_PAYLOAD, |(payload, _)| payload.clamp(MIN_PAYLOAD, MAX_PAYLOAD));
        let mut message = Message { out: out.get_mut(..usize::from(room))?, len: 0 };
        // QR, AA and the client's RD; RA.
        let flags = [0x84 | (query[2] & 1), u8::from(offers_recursion) << 7];
        message.put(query.get(..2)?)?;
        message.put(&flags)?;
        message.put(&[0, 1, 0, 0, 0, 0, 0, 0])?;
        message.put(query.get(HEADER..asked.end)?)?;
        let (answers, authorities) = match message.put_addresses(&held.packed, asked.is_v6, rng)? {
            0 => {
                self.put_soa(HEADER + key.len(), &mut message)?;
                (0, 1)
            }
            answers => (answers, 0),
        };
        message.out[6..8].copy_from_slice(&u16::to_be_bytes(answers));
        message.out[9] = authorities;
        if let Some((_, dnssec_ok)) = asked.edns {
            let [high, low] = MAX_PAYLOAD.to_be_bytes();
            message.put(&[0, 0, 41, high, low, 0, 0, u8::from(dnssec_ok) << 7, 0, 0, 0])?;
            message.out[11] = 1;
        }
        Some(Quick { len: message.len, is_v6: asked.is_v6 })
    }

    /// The SOA of a negative answer; the origin stands in the question at this offset.
    fn put_soa(&self, origin: usize, message: &mut Message<'_>) -> Option<()> {
        let pointer = (0xc000 | u16::try_from(origin).ok()?).to_be_bytes();
        message.put(&pointer)?;
        message.put(&[0, 6, 0, 1])?;
        message.put(&SOA_MINIMUM.to_be_bytes())?;
        message.put(&[0, 38, 2])?;
        message.put(b"ns")?;
        message.put(&pointer)?;
        message.put(&[10])?;
        message.put(b"hostmaster")?;
        message.put(&pointer)?;
        for number in [self.serial, SOA_TIMERS[0], SOA_TIMERS[1], SOA_TIMERS[2], SOA_MINIMUM] {
            message.put(&number.to_be_bytes())?;
        }
        Some(())
    }
}

/// A message under way.
struct Message<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl Message<'_> {
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        self.out.get_mut(self.len..self.len + bytes.len())?.copy_from_slice(bytes);
        self.len += bytes.len();
        Some(())
    }

    /// Puts the records in random order and says how many there are; none if they do not fit.
    fn put_addresses(&mut self, packed: &Packed, is_v6: bool, rng: &mut Rng) -> Option<u16> {
        let (records, size) = if is_v6 { (packed.aaaa(), AAAA_LEN) } else { (packed.a(), A_LEN) };
        let count = records.len() / size;
        let mut order = [0_u8; MAX_RECORDS];
        let order = order.get_mut(..count)?;
        for (at, slot) in order.iter_mut().enumerate() {
            *slot = u8::try_from(at).ok()?;
        }
        rng.shuffle(order);
        for at in order {
            let from = usize::from(*at) * size;
            self.put(records.get(from..from + size)?)?;
        }
        u16::try_from(count).ok()
    }
}

/// Reads a message that is a plain question; none if anything about it is unusual.
fn parse(query: &[u8]) -> Option<Asked> {
    let header = query.get(..HEADER)?;
    // A query, opcode 0, not truncated; AA, RA and Z are not for clients to set: the full path judges them.
    if header[2] & 0xfe != 0 || header[3] & 0xcf != 0 || header[4..10] != [0, 1, 0, 0, 0, 0] || header[10] != 0 {
        return None;
    }
    let mut name = [0; MAX_NAME];
    let mut at = HEADER;
    loop {
        let label = usize::from(*query.get(at)?);
        if label == 0 {
            break;
        }
        if label > 63 {
            return None;
        }
        let (from, to) = (at - HEADER, at + 1 + label);
        name.get_mut(from..to - HEADER)?.copy_from_slice(query.get(at..to)?);
        // The length is no letter: it is below 64.
        name.get_mut(from..to - HEADER)?.make_ascii_lowercase();
        at = to;
    }
    let end = at + 5;
    let is_v6 = match query.get(at + 1..end)? {
        [0, 1, 0, 1] => false,
        [0, 28, 0, 1] => true,
        _ => return None,
    };
    let edns = match (header[11], query.get(end..)?) {
        (0, []) => None,
        // Extended code, version and the flags but DO are zero, and there are no options.
        (1, [0, 0, 41, high, low, 0, 0, dnssec_ok @ (0 | 0x80), 0, 0, 0]) => {
            debug_assert_eq!(query.len(), end + OPT_LEN);
            Some((u16::from_be_bytes([*high, *low]), *dnssec_ok != 0))
        }
        _ => return None,
    };
    Some(Asked { name, name_len: at - HEADER, end, is_v6, edns })
}
