//! What stands around membership's part of a packet: our root, our wall clock, flags, riders.
//!
//! `{version, flags, root (8), wall (6), [riders' length (2), riders], [incarnation (2)], SWIM part or word}`
//!
//! A word is for the layer above: whoever asks voters something wants an answer soon or none, so it goes by packet, whether or
//! not there is a link, and nobody repeats it here.
//!
//! The next version has one more byte behind the wall clock. A packet bears the version that both ends speak.

use alloc::vec::Vec;

use super::{Gossip, Origin};
use crate::canary::{Bug, planted};
use crate::face::{GossipEvent, GossipOutput, GossipOutputs};
use crate::hash::hash64;
use crate::id::NodeId;
use crate::limits::{MAX_PACKET, MAX_WORD};
use crate::time::{Instant, Wall};
use crate::wire::{Record, WireVersion};

/// The sender leaves on purpose.
const LEAVING: u8 = 1;
/// The sender suspects the receiver, under the incarnation that follows.
const SUSPECT: u8 = 2;
/// Riders follow.
const RIDERS: u8 = 4;
/// Instead of a SWIM part the packet has a word for the layer above.
const WORD: u8 = 8;
const FIXED: usize = 16;
/// What the next version puts behind that.
const REHEARSED: usize = 1;

/// A packet's parts.
struct Opened<'a> {
    flags: u8,
    root: u64,
    wall: Wall,
    riders: &'a [u8],
    suspect: Option<u16>,
    swim: &'a [u8],
}

fn open(bytes: &[u8], most: WireVersion) -> Option<Opened<'_>> {
    let (head, mut rest) = bytes.split_first_chunk::<FIXED>()?;
    let [version, flags, numbers @ ..] = head;
    let version = WireVersion(u16::from(*version));
    if version < WireVersion::FIRST || version > most || flags & !(LEAVING | SUSPECT | RIDERS | WORD) != 0 {
        return None;
    }
    let root = u64::from_be_bytes(*numbers.first_chunk()?);
    let [a, b, c, d, e, f] = *numbers.last_chunk::<6>()?;
    let wall = Wall(u64::from_be_bytes([0, 0, a, b, c, d, e, f]));
    if version >= WireVersion::NEXT {
        (_, rest) = rest.split_at_checked(REHEARSED)?;
    }
    let mut riders: &[u8] = &[];
    if flags & RIDERS != 0 {
        let (length, after) = rest.split_first_chunk::<2>()?;
        (riders, rest) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    }
    let mut suspect = None;
    if flags & SUSPECT != 0 {
        let (incarnation, after) = rest.split_first_chunk::<2>()?;
        suspect = Some(u16::from_be_bytes(*incarnation));
        rest = after;
    }
    Some(Opened { flags: *flags, root, wall, riders, suspect, swim: rest })
}

impl Gossip {
    pub(super) fn packet_in(&mut self, wall: Wall, from: NodeId, bytes: &[u8], out: &mut GossipOutputs) {
        if from == self.config.me || !self.membership.is_member(from) {
            return;
        }
        let Some(opened) = open(bytes, self.config.wire) else {
            self.unreadable += 1;
            return;
        };
        let offset = i64::try_from(opened.wall.0).ok().zip(i64::try_from(wall.0).ok()).map(|(a, b)| a - b);
        if let Some(offset) = offset {
            self.membership.set_offset(from, offset);
        }
        self.compare_root(opened.root);
        self.heard = self.now;
        if opened.flags & LEAVING != 0 {
            self.membership.goodbye(self.now, from);
            return;
        }
        if opened.flags & WORD != 0 {
            out.event(GossipEvent::Word { from, bytes: opened.swim.to_vec() });
            return;
        }
        self.membership.packet(self.now, from, opened.swim, opened.suspect);
        let mut riders = opened.riders;
        while let Some((length, rest)) = riders.split_first_chunk::<2>() {
            let Some((record, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))) else { break };
            riders = rest;
            if self.fresh.knows(hash64(record)) {
                continue;
            }
            match Record::read(record) {
                Ok(record) => self.take(wall, record, Origin::Rider, out),
                Err(_) => self.unreadable += 1,
            }
        }
    }

    /// Notes whether a peer holds something else than we do.
    fn compare_root(&mut self, root: u64) {
        if planted(Bug::SyncSkipped) {
            return;
        }
        if root == self.state.sync_root() {
            // Who agrees with us says nothing of the others: two halves of a flock can each agree among themselves.
            if self.differed_at + self.config.timing.settle <= self.now {
                self.differs = None;
            }
            return;
        }
        self.differed_at = self.now;
        if self.differs.is_none() {
            self.differs = Some(self.now);
            self.upkeep_at = self.upkeep_at.min(self.next_sync(self.now));
        }
    }

    /// When a difference first seen then may be looked into.
    pub(super) fn next_sync(&self, seen: Instant) -> Instant {
        let timing = &self.config.timing;
        let rested = self.last_sync.map_or(self.now, |last| last + timing.sync_period);
        rested.max(seen + timing.settle)
    }

    /// Sends a word to a member's layer above, at most [`MAX_WORD`] bytes: longer ones, and those to strangers, go nowhere. It may be
    /// lost, doubled or overtaken.
    pub fn send_word(&mut self, wall: Wall, to: NodeId, word: &[u8], out: &mut GossipOutputs) {
        let is_sent = word.len() <= MAX_WORD && self.membership.is_member(to) && !self.dropped && !self.leaving;
        if !is_sent {
            return;
        }
        let mut packet = self.packet_head(wall, to, WORD, word.len());
        packet.extend_from_slice(word);
        out.cost += 3;
        out.push(GossipOutput::Packet { to, bytes: packet });
    }

    /// What every packet begins with, and room for more.
    fn packet_head(&self, wall: Wall, to: NodeId, flags: u8, more: usize) -> Vec<u8> {
        let version = self.speaks_with(to);
        let mut packet = Vec::with_capacity(FIXED + REHEARSED + more);
        packet.extend_from_slice(&[u8::try_from(version.0).unwrap_or(u8::MAX), flags]);
        packet.extend_from_slice(&self.state.sync_root().to_be_bytes());
        packet.extend_from_slice(&wall.0.to_be_bytes()[2..]);
        if version >= WireVersion::NEXT {
            packet.extend_from_slice(&[0; REHEARSED]);
        }
        packet
    }

    /// Sends membership's packets.
    pub(super) fn post(&mut self, wall: Wall, out: &mut GossipOutputs) {
        if self.membership.outbox.sends.is_empty() {
            return;
        }
        let sends = core::mem::take(&mut self.membership.outbox.sends);
        for send in &sends {
            let Some(swim) = self.membership.outbox.bytes.get(send.range.clone()) else { continue };
            let leaving = if self.leaving { LEAVING } else { 0 };
            let suspect = if send.suspect.is_some() { SUSPECT } else { 0 };
            let mut packet = self.packet_head(wall, send.to, leaving | suspect, swim.len() + 4);
            let fixed = packet.len();
            let room = MAX_PACKET.saturating_sub(packet.len() + 4 + swim.len());
            if !self.riders.is_empty() && !self.links.has(send.to) {
                packet.extend_from_slice(&[0, 0]);
                self.riders.board(self.now, room, &mut packet);
                let length = packet.len() - fixed - 2;
                if length == 0 {
                    packet.truncate(fixed);
                } else {
                    packet[1] |= RIDERS;
                    packet[fixed..fixed + 2].copy_from_slice(&u16::try_from(length).unwrap_or(0).to_be_bytes());
                }
            }
            if let Some(incarnation) = send.suspect {
                packet.extend_from_slice(&incarnation.to_be_bytes());
            }
            packet.extend_from_slice(swim);
            out.cost += 3;
            out.push(GossipOutput::Packet { to: send.to, bytes: packet });
        }
        let mut sends = sends;
        sends.clear();
        self.membership.outbox.sends = sends;
        self.membership.outbox.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cut_of_a_packet_panics() {
        let mut bytes = Vec::from([1, SUSPECT | RIDERS]);
        bytes.extend_from_slice(&7_u64.to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 0, 0, 1, 0]);
        let mut next = bytes.clone();
        next[0] = 2;
        next.push(99);
        next.extend_from_slice(&[0, 3, 1, 2, 3, 0, 9, 42]);
        bytes.extend_from_slice(&[0, 3, 1, 2, 3, 0, 9, 42]);
        let opened = open(&bytes, WireVersion::FIRST).expect("own packet");
        assert_eq!((opened.root, opened.wall, opened.suspect), (7, Wall(256), Some(9)));
        assert_eq!((opened.riders, opened.swim), (&[1, 2, 3][..], &[42][..]));
        assert!(open(&next, WireVersion::FIRST).is_none());
        let opened = open(&next, WireVersion::NEXT).expect("a packet of the next version");
        assert_eq!((opened.riders, opened.suspect, opened.swim), (&[1, 2, 3][..], Some(9), &[42][..]));
        for cut in 0..bytes.len() {
            let _maybe = open(&bytes[..cut], WireVersion::FIRST);
            let _maybe = open(&next[..=cut], WireVersion::NEXT);
        }
    }
}
