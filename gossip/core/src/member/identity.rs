//! Who speaks, in 16 bytes, and how foca's headers and members become bytes.
//!
//! Everything here has a fixed size, so that a packet can be cut, filtered and put together again without foca.

use bytes::{Buf, BufMut};
use foca::{Codec, Header, Identity, Member, Message, State};

use crate::id::{Generation, NodeId};
use crate::wire::codec::DecodeError;

/// Bytes of an identity.
pub(super) const ID_LEN: usize = 16;
/// Bytes of an identity without the short node id, which the sealed envelope already proves.
pub(super) const BOOT_LEN: usize = 8;
/// Bytes of a member: identity, incarnation, state.
pub(super) const MEMBER_LEN: usize = ID_LEN + 3;

/// foca's identity: which node, which boot of it, and how often that boot had to renew itself.
///
/// No addresses: a new address is no new identity. A renewal lives in memory only and voids nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct SwimId {
    pub(crate) short: u64,
    pub(crate) generation: Generation,
    pub(crate) renewals: u16,
}

impl SwimId {
    /// Some boot of a node; enough to announce oneself to it.
    pub(crate) fn any_boot(node: NodeId) -> Self {
        Self { short: node.short(), generation: Generation(0), renewals: 0 }
    }

    pub(super) fn put(&self, buf: &mut impl BufMut) {
        buf.put_u64(self.short);
        buf.put_uint(self.generation.0, 6);
        buf.put_u16(self.renewals);
    }

    /// The caller has checked that there are `ID_LEN` bytes.
    pub(super) fn get(buf: &mut impl Buf) -> Self {
        Self { short: buf.get_u64(), generation: Generation(buf.get_uint(6)), renewals: buf.get_u16() }
    }
}

impl Identity for SwimId {
    type Addr = u64;

    fn renew(&self) -> Option<Self> {
        Some(Self { renewals: self.renewals.checked_add(1)?, ..*self })
    }

    fn addr(&self) -> u64 {
        self.short
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.generation, self.renewals) > (adversary.generation, adversary.renewals)
    }
}

/// The message kinds by number, as they stand in a header.
pub(super) mod tag {
    pub(crate) const PING: u8 = 0;
    pub(crate) const ACK: u8 = 1;
    pub(crate) const PING_REQ: u8 = 2;
    pub(crate) const INDIRECT_PING: u8 = 3;
    pub(crate) const INDIRECT_ACK: u8 = 4;
    pub(crate) const FORWARDED_ACK: u8 = 5;
    pub(crate) const ANNOUNCE: u8 = 6;
    pub(crate) const FEED: u8 = 7;
    pub(crate) const GOSSIP: u8 = 8;
    pub(crate) const BROADCAST: u8 = 9;
    pub(crate) const TURN_UNDEAD: u8 = 10;
}

/// Where the message kind stands in an encoded header.
pub(super) const TAG_AT: usize = ID_LEN + 2 + ID_LEN;

/// How many bytes of the header follow the message kind; none for a kind that this build does not know.
pub(super) const fn tail_len(kind: u8) -> Option<usize> {
    match kind {
        tag::PING | tag::ACK => Some(1),
        tag::PING_REQ | tag::INDIRECT_PING | tag::INDIRECT_ACK | tag::FORWARDED_ACK => Some(ID_LEN + 1),
        tag::ANNOUNCE | tag::FEED | tag::GOSSIP | tag::BROADCAST | tag::TURN_UNDEAD => Some(0),
        _ => None,
    }
}

/// foca's codec.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SwimCodec;

fn need(buf: &impl Buf, len: usize) -> Result<(), DecodeError> {
    if buf.remaining() < len { Err(DecodeError) } else { Ok(()) }
}

pub(super) const fn state_byte(state: State) -> u8 {
    match state {
        State::Alive => 0,
        State::Suspect => 1,
        State::Down => 2,
    }
}

pub(super) const fn state_of(byte: u8) -> Option<State> {
    match byte {
        0 => Some(State::Alive),
        1 => Some(State::Suspect),
        2 => Some(State::Down),
        _ => None,
    }
}

impl Codec<SwimId> for SwimCodec {
    type Error = DecodeError;

    fn encode_header(&mut self, header: &Header<SwimId>, mut buf: impl BufMut) -> Result<(), DecodeError> {
        if buf.remaining_mut() < TAG_AT + 2 + ID_LEN {
            return Err(DecodeError);
        }
        header.src.put(&mut buf);
        buf.put_u16(header.src_incarnation);
        header.dst.put(&mut buf);
        let (kind, other, number) = match &header.message {
            Message::Ping(n) => (tag::PING, None, Some(*n)),
            Message::Ack(n) => (tag::ACK, None, Some(*n)),
            Message::PingReq { target, probe_number } => (tag::PING_REQ, Some(target), Some(*probe_number)),
            Message::IndirectPing { origin, probe_number } => (tag::INDIRECT_PING, Some(origin), Some(*probe_number)),
            Message::IndirectAck { target, probe_number } => (tag::INDIRECT_ACK, Some(target), Some(*probe_number)),
            Message::ForwardedAck { origin, probe_number } => (tag::FORWARDED_ACK, Some(origin), Some(*probe_number)),
            Message::Announce => (tag::ANNOUNCE, None, None),
            Message::Feed => (tag::FEED, None, None),
            Message::Gossip => (tag::GOSSIP, None, None),
            Message::Broadcast => (tag::BROADCAST, None, None),
            Message::TurnUndead => (tag::TURN_UNDEAD, None, None),
        };
        buf.put_u8(kind);
        if let Some(other) = other {
            other.put(&mut buf);
        }
        if let Some(number) = number {
            buf.put_u8(number);
        }
        Ok(())
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<SwimId>, DecodeError> {
        need(&buf, TAG_AT + 1)?;
        let src = SwimId::get(&mut buf);
        let src_incarnation = buf.get_u16();
        let dst = SwimId::get(&mut buf);
        let kind = buf.get_u8();
        let tail = tail_len(kind).ok_or(DecodeError)?;
        need(&buf, tail)?;
        let message = match kind {
            tag::PING => Message::Ping(buf.get_u8()),
            tag::ACK => Message::Ack(buf.get_u8()),
            tag::PING_REQ => Message::PingReq { target: SwimId::get(&mut buf), probe_number: buf.get_u8() },
            tag::INDIRECT_PING => Message::IndirectPing { origin: SwimId::get(&mut buf), probe_number: buf.get_u8() },
            tag::INDIRECT_ACK => Message::IndirectAck { target: SwimId::get(&mut buf), probe_number: buf.get_u8() },
            tag::FORWARDED_ACK => Message::ForwardedAck { origin: SwimId::get(&mut buf), probe_number: buf.get_u8() },
            tag::ANNOUNCE => Message::Announce,
            tag::FEED => Message::Feed,
            tag::GOSSIP => Message::Gossip,
            tag::BROADCAST => Message::Broadcast,
            _ => Message::TurnUndead,
        };
        Ok(Header { src, src_incarnation, dst, message })
    }

    fn encode_member(&mut self, member: &Member<SwimId>, mut buf: impl BufMut) -> Result<(), DecodeError> {
        if buf.remaining_mut() < MEMBER_LEN {
            return Err(DecodeError);
        }
        member.id().put(&mut buf);
        buf.put_u16(member.incarnation());
        buf.put_u8(state_byte(member.state()));
        Ok(())
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<SwimId>, DecodeError> {
        need(&buf, MEMBER_LEN)?;
        let id = SwimId::get(&mut buf);
        let incarnation = buf.get_u16();
        let state = state_of(buf.get_u8()).ok_or(DecodeError)?;
        Ok(Member::new(id, incarnation, state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn id(short: u64, renewals: u16) -> SwimId {
        SwimId { short, generation: Generation(7), renewals }
    }

    #[test]
    fn headers_and_members_read_back() {
        let messages = [
            Message::Ping(3),
            Message::Ack(4),
            Message::PingReq { target: id(9, 1), probe_number: 5 },
            Message::IndirectPing { origin: id(9, 1), probe_number: 5 },
            Message::IndirectAck { target: id(9, 1), probe_number: 5 },
            Message::ForwardedAck { origin: id(9, 1), probe_number: 5 },
            Message::Announce,
            Message::Feed,
            Message::Gossip,
            Message::Broadcast,
            Message::TurnUndead,
        ];
        for message in messages {
            let header = Header { src: id(1, 2), src_incarnation: 3, dst: id(4, 5), message };
            let mut bytes = Vec::new();
            assert!(SwimCodec.encode_header(&header, &mut bytes).is_ok());
            assert_eq!(SwimCodec.decode_header(&bytes[..]), Ok(header));
            assert_eq!(bytes.len(), TAG_AT + 1 + tail_len(bytes[TAG_AT]).unwrap_or(99));
            for cut in 0..bytes.len() {
                assert!(SwimCodec.decode_header(&bytes[..cut]).is_err());
            }
        }
        let member = Member::new(id(1, 2), 3, State::Suspect);
        let mut bytes = Vec::new();
        assert!(SwimCodec.encode_member(&member, &mut bytes).is_ok());
        assert_eq!(bytes.len(), MEMBER_LEN);
        assert_eq!(SwimCodec.decode_member(&bytes[..]), Ok(member));
    }

    #[test]
    fn a_renewal_wins_and_a_generation_wins_over_any_renewal() {
        let old = id(1, u16::MAX);
        assert_eq!(old.renew(), None);
        assert!(id(1, 1).win_addr_conflict(&id(1, 0)));
        assert!(SwimId { generation: Generation(8), ..id(1, 0) }.win_addr_conflict(&old));
    }
}
