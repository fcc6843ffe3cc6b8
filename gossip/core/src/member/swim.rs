//! Packets in and packets out.
//!
//! Never: a judgement; what a packet says of members goes to `judge`.

use alloc::vec::Vec;

use super::identity::Boot;
use super::message::{self, Claim, Header, LINE, Line, Message};
use super::probe::Probe;
use super::timers::Slot;
use super::{LEFT, Membership, Send, SwimId};
use crate::canary::{Bug, planted};
use crate::face::{MemberReason, MemberState};
use crate::id::NodeId;
use crate::limits::MAX_PACKET;
use crate::time::Instant;

/// What the engine adds to a packet without riders.
const TRAILER: usize = 32;
const SWIM_PACKET: usize = MAX_PACKET - TRAILER;
/// To so many members at once goes what there is to tell.
const FANOUT: usize = 5;

/// How often each of so many members tells something: 4 log10(n + 1) by integers (1.2 log2), and where they are few
/// often enough that none is left out by chance.
fn transmissions(members: usize) -> u8 {
    let log = (members + 1).ilog2() + 1;
    u8::try_from(log * 6 / 5).unwrap_or(u8::MAX).max(6)
}

impl Membership {
    /// The SWIM part of an authentic packet, and what its trailer says about us.
    pub(crate) fn packet(&mut self, now: Instant, from: NodeId, swim: &[u8], suspect: Option<u16>) {
        let short = from.short();
        let Some(peer) = self.book.get_mut(short).filter(|peer| peer.node == from) else { return };
        peer.heard = Some(now);
        self.heard_any = now;
        self.recent.spoke(short);
        if self.left {
            return;
        }
        let mut lines = core::mem::take(&mut self.lines);
        if let Some(header) = message::read(swim, &mut lines) {
            self.open(now, short, header, suspect, &lines);
        }
        self.lines = lines;
    }

    fn open(&mut self, now: Instant, short: u64, header: Header, suspect: Option<u16>, lines: &[Line]) {
        let (to_this_boot, sender) = (header.to == Some(self.boot), SwimId { short, boot: header.boot });
        let to_earlier = header.to.is_some_and(|to| to < self.boot);
        if !to_this_boot && !to_earlier && header.message != Message::Announce {
            return;
        }
        if let Some(incarnation) = suspect.filter(|_| to_this_boot) {
            self.refute(now, short, incarnation);
        }
        if !self.takes_word_of(now, sender, header) {
            return;
        }
        if to_earlier && header.message != Message::Announce {
            // It shall hear of our new identity or boot: whom the rumour of it has missed asks the old one, and would give us up
            // for want of an answer. Two that have both renewed themselves would else never take each other's word.
            return self.send(sender, Message::Gossip);
        }
        for line in lines {
            self.told(now, short, *line, true);
        }
        self.correct(sender, lines);
        self.answer(now, sender, header.message);
    }

    /// Who suspects somebody that has contradicted is told so: the contradiction missed it.
    fn correct(&mut self, sender: SwimId, lines: &[Line]) {
        let is_stale = |line: &&Line| {
            let peer = self.book.get(line.id.short).filter(|peer| peer.boot == Some(line.id.boot));
            let is_contradicted =
                peer.is_some_and(|p| p.state == MemberState::Alive && p.incarnation > line.incarnation);
            matches!(line.claim, Claim::Suspect { .. }) && is_contradicted
        };
        let right = |line: &Line| self.line(line.id.short, 0);
        let right: Vec<Line> = lines.iter().filter(is_stale).filter_map(right).collect();
        if right.is_empty() {
            return;
        }
        let start = self.outbox.bytes.len();
        self.put_header(Some(sender.boot), Message::Gossip);
        self.put_lines(&right);
        self.post(sender.short, Some(sender.boot), start);
    }

    /// The sender lives, by its own word. False if that boot of it is over.
    fn takes_word_of(&mut self, now: Instant, sender: SwimId, header: Header) -> bool {
        let Some(peer) = self.book.get(sender.short) else { return false };
        let is_over = matches!(peer.state, MemberState::Down | MemberState::Left) && !peer.alone;
        if peer.boot.is_some_and(|held| held > sender.boot) {
            return false;
        }
        if peer.boot == Some(sender.boot) && is_over {
            if header.message == Message::Undead && header.to == Some(self.boot) {
                self.renew(now);
            }
            self.call_undead(sender.short);
            return false;
        }
        if peer.is_overruled_by(sender.boot, header.incarnation, Claim::Alive) {
            let line = Line { id: sender, incarnation: header.incarnation, claim: Claim::Alive };
            let was_alone = peer.alone;
            self.apply(now, line, MemberReason::Gossip, true);
            if was_alone && header.message != Message::Announce {
                // It can tell us who else is there after all.
                self.send(sender, Message::Announce);
            }
        }
        true
    }

    fn answer(&mut self, now: Instant, sender: SwimId, message: Message) {
        match message {
            Message::Ping(number) => self.send(sender, Message::Ack(number)),
            Message::Ack(number) => self.lives(now, sender, number),
            Message::PingReq { target, number } => {
                // Whom we do not know we cannot ask, and bear no witness.
                if self.book.contains(target.short) {
                    self.send(target, Message::IndirectPing { origin: sender, number });
                    self.owe(now, sender, target, number);
                }
            }
            Message::IndirectPing { origin, number } => self.send(sender, Message::IndirectAck { origin, number }),
            Message::IndirectAck { origin, number } => {
                self.debts.paid(origin, sender.short, number);
                self.send(origin, Message::ForwardedAck { target: sender, number });
            }
            Message::ForwardedAck { target, number } => {
                if let Some(suspicion) = self.suspicions.get_mut(&target.short) {
                    suspicion.vouched = Some(now);
                }
                self.lives(now, target, number);
            }
            Message::Nack { target, number } => self.nacked(now, sender.short, target, number),
            Message::Announce => self.send(sender, Message::Feed),
            Message::Undead => {
                self.renew(now);
                // It shall hear the new identity at once.
                self.send(sender, Message::Announce);
            }
            Message::Feed | Message::Gossip => {}
        }
    }

    /// A probe's target lives.
    fn lives(&mut self, now: Instant, target: SwimId, number: u8) {
        let is_it = |probe: &&mut Probe| probe.number == number && probe.target == target;
        if self.unproven.as_mut().filter(is_it).is_some() {
            self.unproven = None;
        }
        let Some(probe) = self.probe.as_mut().filter(is_it).filter(|probe| !probe.acked) else { return };
        probe.acked = true;
        let next = probe.began + self.health.stretch(self.timing.probe_period);
        self.timers.set(Slot::Probe, next.max(now));
        self.health.better();
    }

    /// A relay answers, and says that the target does not.
    fn nacked(&mut self, now: Instant, by: u64, target: SwimId, number: u8) {
        let probes = self.probe.iter_mut().chain(&mut self.unproven);
        for probe in probes.filter(|probe| probe.number == number && probe.target == target) {
            probe.nacked(by);
        }
        if self.suspicions.get(&target.short).is_some_and(|suspicion| suspicion.asked) {
            self.confirm(now, target.short, by, false);
        }
        // The last witness may have been late.
        if let Some(probe) = self.unproven.take_if(|probe| probe.missing() == 0) {
            self.accuse(now, &probe);
        }
    }

    fn owe(&mut self, now: Instant, origin: SwimId, target: SwimId, number: u8) {
        if planted(Bug::NackForgotten) {
            return;
        }
        let timing = &self.timing;
        let patience = timing.probe_period.saturating_sub(timing.probe_rtt) * 3 / 5;
        self.debts.owe(now, patience, origin, target, number);
        self.timers.set(Slot::Nack, self.debts.next().unwrap_or(Instant::MAX));
    }

    /// Tells those who asked that they will get no better answer.
    pub(super) fn pay(&mut self, now: Instant) {
        while let Some(owed) = self.debts.due(now) {
            self.send(owed.origin, Message::Nack { target: owed.target, number: owed.number });
        }
        self.timers.set(Slot::Nack, self.debts.next().unwrap_or(Instant::MAX));
    }

    /// Says that we are here and asks for a view; answered by whoever is there, or refused.
    pub(crate) fn announce(&mut self, node: NodeId) {
        let known = self.book.get(node.short()).and_then(|peer| peer.boot);
        self.send_to(node.short(), known, Message::Announce);
    }

    /// Says goodbye to some members; we are deaf afterwards.
    pub(crate) fn leave(&mut self) {
        self.gossip();
        self.left = true;
        self.timers = super::Timers::default();
    }

    /// Tells some members what there is to tell; suspects, who are asked besides, only where nobody else is left.
    pub(super) fn gossip(&mut self) {
        let mut chosen = Vec::with_capacity(FANOUT);
        let none_alive = self.alive == 0;
        for _ in 0..FANOUT {
            let is_open = |peer: &&super::Peer| {
                (peer.state == MemberState::Alive || none_alive && peer.active().is_some())
                    && !chosen.contains(&peer.node.short())
            };
            let Some(peer) = self.book.around(&mut self.rng).find(is_open) else { break };
            let (short, boot) = (peer.node.short(), peer.boot);
            chosen.push(short);
            self.send_to(short, boot, Message::Gossip);
        }
    }

    /// A word to one member; our incarnation stands in every packet.
    pub(super) fn speak_to(&mut self, short: u64) {
        if let Some(boot) = self.book.get(short).and_then(super::Peer::active) {
            self.send(SwimId { short, boot }, Message::Gossip);
        }
    }

    /// Tells a member that the flock holds that boot of it down.
    pub(super) fn call_undead(&mut self, short: u64) {
        let boot = self.book.get(short).and_then(|peer| peer.boot);
        self.send_to(short, boot, Message::Undead);
    }

    pub(super) fn send(&mut self, to: SwimId, message: Message) {
        self.send_to(to.short, Some(to.boot), message);
    }

    fn send_to(&mut self, short: u64, boot: Option<Boot>, message: Message) {
        if !self.book.contains(short) {
            return;
        }
        let start = self.outbox.bytes.len();
        self.put_header(boot, message);
        if message.carries_rumours() {
            self.put_rumours(start);
        } else if message == Message::Feed {
            self.put_view(start, short);
        }
        self.post(short, boot, start);
    }

    fn put_header(&mut self, to: Option<Boot>, message: Message) {
        Header { boot: self.boot, incarnation: self.incarnation, to, message }.put(&mut self.outbox.bytes);
    }

    /// What was put into the outbox from there on goes to this boot of a member, and if we suspect it, it is told so.
    fn post(&mut self, short: u64, boot: Option<Boot>, start: usize) {
        let Some(peer) = self.book.get(short) else { return };
        let is_suspect = peer.state == MemberState::Suspect && peer.boot.is_some() && peer.boot == boot && !peer.alone;
        let suspect = is_suspect.then_some(peer.incarnation);
        self.outbox.sends.push(Send { to: peer.node, suspect, range: start..self.outbox.bytes.len() });
    }

    /// How many lines still have room in a packet that begins there.
    fn room(&self, start: usize) -> usize {
        SWIM_PACKET.saturating_sub(self.outbox.bytes.len() - start + 2) / LINE
    }

    fn put_rumours(&mut self, start: usize) {
        if self.rumours.is_empty() {
            return;
        }
        let mut names = core::mem::take(&mut self.names);
        self.rumours.draw(self.room(start), transmissions(self.book.len() + 1), &mut names);
        let lines: Vec<Line> = names.iter().filter_map(|(short, told)| self.line(*short, usize::from(*told))).collect();
        self.put_lines(&lines);
        self.names = names;
    }

    /// Some of those who live, for somebody who asked for a view.
    fn put_view(&mut self, start: usize, receiver: u64) {
        let room = self.room(start);
        let Self { book, rng, .. } = self;
        let known = |peer: &&super::Peer| peer.active().is_some() && !peer.alone && peer.node.short() != receiver;
        let names: Vec<u64> = book.around(rng).filter(known).take(room).map(|peer| peer.node.short()).collect();
        let lines: Vec<Line> = names.into_iter().filter_map(|short| self.line(short, 0)).collect();
        self.put_lines(&lines);
    }

    fn put_lines(&mut self, lines: &[Line]) {
        if lines.is_empty() {
            return;
        }
        self.outbox.bytes.extend_from_slice(&u16::try_from(lines.len()).unwrap_or(0).to_be_bytes());
        lines.iter().for_each(|line| line.put(&mut self.outbox.bytes));
    }

    /// What is to be told of somebody, as the book has it now.
    fn line(&self, short: u64, turn: usize) -> Option<Line> {
        if short == self.me.short() {
            let id = SwimId { short, boot: self.boot };
            return Some(Line { id, incarnation: self.incarnation, claim: Claim::Alive });
        }
        let peer = self.book.get(short).filter(|peer| !peer.alone)?;
        let id = SwimId { short, boot: peer.boot? };
        let accuser = || self.suspicions.get(&short)?.accuser(turn);
        let (incarnation, claim) = match peer.state {
            MemberState::Alive => (peer.incarnation, Claim::Alive),
            MemberState::Suspect => {
                (peer.incarnation, Claim::Suspect { by: accuser().unwrap_or_else(|| self.me.short()) })
            }
            MemberState::Down => (peer.incarnation, Claim::Down),
            MemberState::Left => (LEFT, Claim::Down),
        };
        Some(Line { id, incarnation, claim })
    }
}
