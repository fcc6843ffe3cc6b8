//! Membership's part of a packet as bytes.
//!
//! `{boot (8), incarnation (2), the receiver's boot (8), kind (1), what the kind needs, [count (2), lines]}`, and a line is
//! `{short id (8), boot (8), incarnation (2), state (1), [accuser (8)]}`; only a suspicion names an accuser. The short ids of
//! both ends are left out: the seal proves them. Never: a decision about what a packet says.

use alloc::vec::Vec;

use super::identity::{Boot, SwimId};

/// Bytes of the longest line.
pub(super) const LINE: usize = 27;

/// What is wanted of the receiver, or told to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Message {
    /// Do you live?
    Ping(u8),
    /// I do.
    Ack(u8),
    /// Ask him whether he lives.
    PingReq { target: SwimId, number: u8 },
    /// Do you live? Somebody else wants to know.
    IndirectPing { origin: SwimId, number: u8 },
    /// Tell him that I do.
    IndirectAck { origin: SwimId, number: u8 },
    /// He told me that he lives.
    ForwardedAck { target: SwimId, number: u8 },
    /// He did not answer me in time, but here I am (Lifeguard).
    Nack { target: SwimId, number: u8 },
    /// Here I am; whom do you know?
    Announce,
    /// These.
    Feed,
    /// Nothing but what it carries.
    Gossip,
    /// I hold you down.
    Undead,
}

impl Message {
    /// True if what is to be spread rides on it.
    pub(super) const fn carries_rumours(self) -> bool {
        !matches!(self, Self::Announce | Self::Feed | Self::Undead)
    }
}

/// What is said of a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Claim {
    Alive,
    /// Suspect, as this member (by its short id) found.
    Suspect {
        by: u64,
    },
    Down,
}

/// What is said of whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Line {
    pub(super) id: SwimId,
    pub(super) incarnation: u16,
    pub(super) claim: Claim,
}

/// What stands before the lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    /// The sender's.
    pub(super) boot: Boot,
    pub(super) incarnation: u16,
    /// The receiver's, if the sender knows it.
    pub(super) to: Option<Boot>,
    pub(super) message: Message,
}

impl Header {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.boot.to_wire().to_be_bytes());
        out.extend_from_slice(&self.incarnation.to_be_bytes());
        out.extend_from_slice(&self.to.map_or(0, Boot::to_wire).to_be_bytes());
        let (kind, other, number) = match self.message {
            Message::Ping(number) => (0, None, Some(number)),
            Message::Ack(number) => (1, None, Some(number)),
            Message::PingReq { target, number } => (2, Some(target), Some(number)),
            Message::IndirectPing { origin, number } => (3, Some(origin), Some(number)),
            Message::IndirectAck { origin, number } => (4, Some(origin), Some(number)),
            Message::ForwardedAck { target, number } => (5, Some(target), Some(number)),
            Message::Announce => (6, None, None),
            Message::Feed => (7, None, None),
            Message::Gossip => (8, None, None),
            Message::Nack { target, number } => (9, Some(target), Some(number)),
            Message::Undead => (10, None, None),
        };
        out.push(kind);
        if let Some(other) = other {
            put_id(other, out);
        }
        out.extend(number);
    }
}

fn put_id(id: SwimId, out: &mut Vec<u8>) {
    out.extend_from_slice(&id.short.to_be_bytes());
    out.extend_from_slice(&id.boot.to_wire().to_be_bytes());
}

impl Line {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_id(self.id, out);
        out.extend_from_slice(&self.incarnation.to_be_bytes());
        match self.claim {
            Claim::Alive => out.push(0),
            Claim::Suspect { by } => {
                out.push(1);
                out.extend_from_slice(&by.to_be_bytes());
            }
            Claim::Down => out.push(2),
        }
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn short(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn number(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn id(&mut self) -> Option<SwimId> {
        Some(SwimId { short: self.short()?, boot: Boot::from_wire(self.short()?)? })
    }

    fn line(&mut self) -> Option<Line> {
        let (id, incarnation) = (self.id()?, self.number()?);
        let claim = match self.byte()? {
            0 => Claim::Alive,
            1 => Claim::Suspect { by: self.short()? },
            2 => Claim::Down,
            _ => return None,
        };
        Some(Line { id, incarnation, claim })
    }

    fn message(&mut self) -> Option<Message> {
        Some(match self.byte()? {
            0 => Message::Ping(self.byte()?),
            1 => Message::Ack(self.byte()?),
            2 => Message::PingReq { target: self.id()?, number: self.byte()? },
            3 => Message::IndirectPing { origin: self.id()?, number: self.byte()? },
            4 => Message::IndirectAck { origin: self.id()?, number: self.byte()? },
            5 => Message::ForwardedAck { target: self.id()?, number: self.byte()? },
            6 => Message::Announce,
            7 => Message::Feed,
            8 => Message::Gossip,
            9 => Message::Nack { target: self.id()?, number: self.byte()? },
            10 => Message::Undead,
            _ => return None,
        })
    }
}

/// Reads a packet's part whole, or not at all; the lines go where the caller keeps them.
pub(super) fn read(bytes: &[u8], lines: &mut Vec<Line>) -> Option<Header> {
    lines.clear();
    let mut reader = Reader(bytes);
    let header = Header {
        boot: Boot::from_wire(reader.short()?)?,
        incarnation: reader.number()?,
        to: Boot::from_wire(reader.short()?),
        message: reader.message()?,
    };
    if !reader.0.is_empty() {
        for _ in 0..reader.number()? {
            lines.push(reader.line()?);
        }
    }
    reader.0.is_empty().then_some(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Generation;

    fn id(short: u64) -> SwimId {
        SwimId { short, boot: Boot::new(Generation(7), 1) }
    }

    #[test]
    fn packets_read_back_and_no_cut_of_one_is_read() {
        let (target, origin) = (id(9), id(8));
        let messages = [
            Message::Ping(3),
            Message::Ack(4),
            Message::PingReq { target, number: 5 },
            Message::IndirectPing { origin, number: 5 },
            Message::IndirectAck { origin, number: 5 },
            Message::ForwardedAck { target, number: 5 },
            Message::Nack { target, number: 5 },
            Message::Announce,
            Message::Feed,
            Message::Gossip,
            Message::Undead,
        ];
        let said = [Claim::Alive, Claim::Suspect { by: 77 }, Claim::Down].map(|claim| Line {
            id: id(5),
            incarnation: 6,
            claim,
        });
        for message in messages {
            let header = Header { boot: id(1).boot, incarnation: 3, to: Some(id(2).boot), message };
            let (mut bytes, mut lines) = (Vec::new(), Vec::new());
            header.put(&mut bytes);
            assert_eq!(read(&bytes, &mut lines), Some(header));
            let bare = bytes.len();
            bytes.extend_from_slice(&[0, 3]);
            said.iter().for_each(|line| line.put(&mut bytes));
            assert_eq!((read(&bytes, &mut lines), &lines[..]), (Some(header), &said[..]));
            assert!((0..bytes.len()).filter(|cut| *cut != bare).all(|cut| read(&bytes[..cut], &mut lines).is_none()));
        }
    }
}
