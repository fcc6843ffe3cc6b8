//! The traffic with foca: packets in, packets out, timers, and the guard between.

use alloc::vec::Vec;
use core::num::{NonZeroU8, NonZeroUsize};

use foca::{Config, Member, State, Timer};
use serde::{Deserialize, Serialize};

use super::{
    BOOT_LEN, Due, ID_LEN, LEFT, MEMBER_LEN, Membership, Note, Send, SwimId, TAG_AT, state_byte, state_of, tag,
    tail_len,
};
use crate::engine::Timing;
use crate::face::{MemberReason, MemberState};
use crate::id::{Generation, NodeId};
use crate::limits::MAX_PACKET;
use crate::time::{Duration, Instant};

/// What the engine adds to a packet without riders, minus the two short ids that are cut out of the header.
pub(crate) const TRAILER: usize = 32;
const SWIM_PACKET: usize = MAX_PACKET - TRAILER;

/// One line of a membership list, as it goes over a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct MemberLine {
    short: u64,
    generation: Generation,
    renewals: u16,
    incarnation: u16,
    state: u8,
}

/// 4 log10(n + 1), the preset's formula, by integers (1.2 log2).
pub(super) fn transmissions(members: usize) -> u8 {
    let log = (members + 1).ilog2() + 1;
    u8::try_from(log * 6 / 5).unwrap_or(u8::MAX).max(3)
}

pub(super) fn config(timing: &Timing, transmissions: u8) -> Config {
    let mut config = Config::simple();
    config.probe_period = timing.probe_period;
    config.probe_rtt = timing.probe_rtt;
    config.num_indirect_probes = NonZeroUsize::new(timing.indirect_probes).unwrap_or(NonZeroUsize::MIN);
    config.max_transmissions = NonZeroU8::new(transmissions).unwrap_or(NonZeroU8::MIN);
    config.suspect_to_down_after = timing.suspicion;
    // A down identity is kept for a day, so that no late update revives it.
    config.remove_down_after = Some(Duration::from_secs(24 * 3_600));
    config.max_packet_size = NonZeroUsize::new(SWIM_PACKET).unwrap_or(NonZeroUsize::MIN);
    config.notify_down_members = true;
    // Ours: they run only when there is something to say.
    config.periodic_announce = None;
    config.periodic_announce_to_down_members = None;
    config.periodic_gossip = None;
    config
}

fn boot_bytes(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let short = bytes.first_chunk::<8>().map(|short| u64::from_be_bytes(*short))?;
    Some((short, bytes.get(8..ID_LEN)?))
}

impl Membership {
    /// The SWIM part of an authentic packet, and what its trailer says about us.
    pub(crate) fn packet(&mut self, now: Instant, from: NodeId, swim: &[u8], suspect: Option<u16>) {
        let Some(peer) = self.peers.get_mut(&from.short()).filter(|peer| peer.node == from) else { return };
        peer.heard = Some(now);
        let mut packet = core::mem::take(&mut self.scratch);
        if self.unpack(now, from, swim, &mut packet).is_some() {
            let to_this_boot = packet.get(ID_LEN + 2 + 8..TAG_AT) == Some(&self.own_boot()[..]);
            if let Some(incarnation) = suspect.filter(|_| to_this_boot) {
                let suspected = Member::new(*self.foca.identity(), incarnation, State::Suspect);
                let _encode = self.foca.apply_many(core::iter::once(suspected), true, &mut self.effects);
            }
            // Errors are the sender's: foca has changed nothing then.
            let _refused = self.foca.handle_data(&packet, &mut self.effects);
            let renewed = self.settle(now, MemberReason::Gossip);
            if renewed {
                // It took us for dead; it shall hear the new identity at once.
                self.announce(now, from);
            }
        }
        self.scratch = packet;
    }

    fn own_boot(&self) -> [u8; BOOT_LEN] {
        let mut id = Vec::with_capacity(ID_LEN);
        self.foca.identity().put(&mut id);
        id.last_chunk().copied().unwrap_or_default()
    }

    /// Puts a packet together as foca wants it: the short ids of both ends back in, updates about strangers out. Notes
    /// whom it may change.
    fn unpack(&mut self, now: Instant, from: NodeId, swim: &[u8], packet: &mut Vec<u8>) -> Option<()> {
        packet.clear();
        packet.extend_from_slice(&from.short().to_be_bytes());
        packet.extend_from_slice(swim.get(..BOOT_LEN + 2)?);
        packet.extend_from_slice(&self.me.short().to_be_bytes());
        let rest = swim.get(BOOT_LEN + 2..)?;
        let kind = *rest.get(BOOT_LEN)?;
        let header = BOOT_LEN + 1 + tail_len(kind)?;
        packet.extend_from_slice(rest.get(..header)?);
        let body = rest.get(header..)?;
        self.touched.clear();
        self.note_sender(from, swim);
        let Some((count, members)) = body.split_first_chunk::<2>() else {
            return body.is_empty().then_some(());
        };
        if kind == tag::BROADCAST || members.len() != usize::from(u16::from_be_bytes(*count)) * MEMBER_LEN {
            return None;
        }
        let tally_at = packet.len();
        packet.extend_from_slice(&[0, 0]);
        let mut kept = 0_u16;
        for member in members.chunks_exact(MEMBER_LEN) {
            let Some(state) = self.note_update(now, member)? else { continue };
            packet.extend_from_slice(member);
            if let Some(last) = packet.last_mut() {
                *last = state_byte(state);
            }
            kept += 1;
        }
        packet.get_mut(tally_at..tally_at + 2)?.copy_from_slice(&kept.to_be_bytes());
        Some(())
    }

    /// A sender that we do not hold for alive may be so now.
    fn note_sender(&mut self, from: NodeId, swim: &[u8]) {
        let Some(peer) = self.peers.get(&from.short()) else { return };
        let same = peer.id.is_some_and(|id| {
            let generation = id.generation.0.to_be_bytes();
            swim.get(..6) == generation.get(2..) && swim.get(6..8) == Some(&id.renewals.to_be_bytes()[..])
        });
        if peer.state != MemberState::Alive || !same {
            self.touched.push(from.short());
        }
    }

    /// True if foca could learn nothing from this: what it holds of the member is this, or follows it.
    fn is_known(&self, id: SwimId, incarnation: u16, state: State) -> bool {
        let Some(peer) = self.peers.get(&id.short).filter(|peer| peer.id == Some(id)) else { return false };
        match (peer.state, state) {
            (MemberState::Down | MemberState::Left, _) => true,
            (MemberState::Alive, State::Alive) | (MemberState::Suspect, State::Alive | State::Suspect) => {
                incarnation <= peer.incarnation
            }
            (MemberState::Alive | MemberState::Suspect, _) => false,
        }
    }

    /// As what an update about a member (or us) is to be taken, if it says something; notes it if it contradicts what we told.
    fn note_update(&mut self, now: Instant, member: &[u8]) -> Option<Option<State>> {
        let (short, _) = boot_bytes(member)?;
        let state = state_of(*member.last()?)?;
        if short == self.me.short() {
            return Some(Some(state));
        }
        let mut bytes = member;
        let id = SwimId::get(&mut bytes);
        let incarnation = u16::from_be_bytes(*bytes.first_chunk()?);
        if self.is_known(id, incarnation, state) {
            return Some(None);
        }
        let Some(peer) = self.peers.get(&short) else { return Some(None) };
        let told = match peer.state {
            MemberState::Alive => State::Alive,
            MemberState::Suspect => State::Suspect,
            MemberState::Down | MemberState::Left => State::Down,
        };
        if told != state || peer.id.is_none() {
            self.touched.push(short);
        }
        Some(Some(self.hearsay(now, id, incarnation, state)))
    }

    /// That somebody is down who was not even suspect here is hearsay from beyond a partition, or we missed the suspicion:
    /// it begins one, in which the living can refute however many repeat the tale. A farewell (the incarnation says so) is
    /// the member's own word.
    fn hearsay(&mut self, now: Instant, id: SwimId, incarnation: u16, state: State) -> State {
        let Some(peer) = self.peers.get_mut(&id.short).filter(|peer| peer.id == Some(id)) else { return state };
        if state != State::Down || incarnation == LEFT {
            return state;
        }
        if peer.state == MemberState::Alive {
            peer.doubted = Some(now);
        }
        let is_young = |since: Instant| now < since + self.timing.suspicion;
        if peer.doubted.is_some_and(is_young) { State::Suspect } else { state }
    }

    /// Runs what is due.
    pub(crate) fn tick(&mut self, now: Instant) {
        while let Some(due) = self.timers.pop(now) {
            match due {
                Due::Foca(timer) => {
                    if let Timer::ChangeSuspectToDown { member_id, .. } = &timer {
                        self.touched.push(member_id.short);
                    }
                    // Late and stale timers are foca's to recognise; an incomplete probe cycle repairs itself.
                    let _stale = self.foca.handle_timer(timer, &mut self.effects);
                    self.settle(now, MemberReason::Silence);
                }
                Due::Gossip => {
                    self.gossip_due = false;
                    self.gossip(now);
                }
                Due::Retry => self.retry(now),
                Due::Exchange => {
                    self.timers.add(now + self.timing.exchange_period, Due::Exchange);
                    let alive: Vec<NodeId> = self.in_state(|state| state == MemberState::Alive);
                    if let Some(node) = self.rng.pick(&alive).copied() {
                        self.announce(now, node);
                    }
                }
                Due::WindowEnds(short) => self.window_ends(now, short),
                Due::NeverHeard(short) => self.never_heard(short),
            }
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    fn in_state(&self, wanted: impl Fn(MemberState) -> bool) -> Vec<NodeId> {
        self.peers.values().filter(|peer| wanted(peer.state)).map(|peer| peer.node).collect()
    }

    /// Tries one member that is not heard; faster while there are some of which we know nothing at all.
    fn retry(&mut self, now: Instant) {
        if self.alive == self.peers.len() {
            self.timers.add(now + self.timing.retry_period, Due::Retry);
            return;
        }
        let unknown = |peer: &&super::Peer| peer.id.is_none() && peer.state == MemberState::Suspect;
        let unheard: Vec<NodeId> = self.peers.values().filter(unknown).map(|peer| peer.node).collect();
        let (from, pause) = if unheard.is_empty() {
            (self.in_state(|state| state != MemberState::Alive), self.timing.retry_period)
        } else {
            (unheard, self.timing.retry_period / 10)
        };
        if let Some(node) = self.rng.pick(&from).copied() {
            self.announce(now, node);
        }
        self.timers.add(now + pause, Due::Retry);
    }

    /// Says that we are here and asks for a view; answered by whoever is there, or refused.
    pub(crate) fn announce(&mut self, now: Instant, node: NodeId) {
        let known = self.peers.get(&node.short()).and_then(|peer| peer.id);
        let _too_large = self.foca.announce(known.unwrap_or_else(|| SwimId::any_boot(node)), &mut self.effects);
        self.settle(now, MemberReason::Gossip);
    }

    /// Says goodbye to some members; foca is deaf afterwards.
    pub(crate) fn leave(&mut self, now: Instant) {
        let _too_large = self.foca.leave_cluster(&mut self.effects);
        self.settle(now, MemberReason::Left);
    }

    pub(super) fn gossip(&mut self, now: Instant) {
        let _too_large = self.foca.gossip(&mut self.effects);
        self.settle(now, MemberReason::Gossip);
    }

    pub(super) fn apply(&mut self, now: Instant, member: Member<SwimId>, cause: MemberReason) {
        self.touched.push(member.id().short);
        let _encode = self.foca.apply_many(core::iter::once(member), true, &mut self.effects);
        self.settle(now, cause);
    }

    /// The whole book, for a peer that knows less.
    pub(crate) fn lines(&self) -> Vec<MemberLine> {
        let own = self.foca.identity();
        let line = |id: &SwimId, incarnation, state| MemberLine {
            short: id.short,
            generation: id.generation,
            renewals: id.renewals,
            incarnation,
            state: state_byte(state),
        };
        let others = self.foca.iter_membership_state();
        core::iter::once(line(own, 0, State::Alive))
            .chain(others.map(|member| line(member.id(), member.incarnation(), member.state())))
            .collect()
    }

    /// A peer's whole book. Not spread any further: whoever wants to know asks as we did.
    pub(crate) fn learn(&mut self, now: Instant, lines: &[MemberLine]) {
        let mut members = Vec::with_capacity(lines.len());
        for line in lines {
            let known = line.short == self.me.short() || self.peers.contains_key(&line.short);
            let Some(state) = state_of(line.state).filter(|_| known) else { continue };
            let id = SwimId { short: line.short, generation: line.generation, renewals: line.renewals };
            if self.is_known(id, line.incarnation, state) {
                continue;
            }
            self.touched.push(line.short);
            members.push(Member::new(id, line.incarnation, self.hearsay(now, id, line.incarnation, state)));
        }
        let _encode = self.foca.apply_many(members.into_iter(), false, &mut self.effects);
        self.settle(now, MemberReason::Gossip);
    }

    /// The book of an earlier process of this boot. Foca's own book is empty, so that all of it is taken as it is.
    pub(crate) fn take_over(&mut self, now: Instant, alive: &[(NodeId, Generation)]) {
        let known = alive.iter().filter(|(node, _)| self.peers.contains_key(&node.short()));
        let ids: Vec<SwimId> =
            known.map(|(node, generation)| SwimId { generation: *generation, ..SwimId::any_boot(*node) }).collect();
        let members = ids.iter().map(|id| Member::new(*id, 0, State::Alive));
        let _encode = self.foca.apply_many(members, false, &mut self.effects);
        self.effects.notes.clear();
        for id in ids {
            if let Some(peer) = self.peers.get_mut(&id.short) {
                peer.id = Some(id);
            }
            self.tell(id.short, MemberState::Alive, MemberReason::Joined);
        }
        self.settle(now, MemberReason::Joined);
    }

    /// Carries out what foca wanted, and tells what changed. True if we had to renew our identity.
    pub(super) fn settle(&mut self, now: Instant, cause: MemberReason) -> bool {
        let mut renewed = false;
        for (timer, after) in self.effects.timers.drain(..) {
            if let Timer::ChangeSuspectToDown { member_id, .. } = &timer {
                self.touched.push(member_id.short);
            }
            self.timers.add(now + after, Due::Foca(timer));
        }
        for note in self.effects.notes.drain(..) {
            match note {
                Note::Touched(id) => self.touched.push(id.short),
                Note::Rejoined => renewed = true,
            }
        }
        self.renewals += u64::from(renewed);
        if !self.touched.is_empty() {
            let mut touched = core::mem::take(&mut self.touched);
            touched.sort_unstable();
            touched.dedup();
            touched.drain(..).for_each(|short| self.refresh(short, cause));
            self.touched = touched;
        }
        self.post();
        if !self.gossip_due && self.foca.updates_backlog() > 0 && self.alive > 0 {
            self.gossip_due = true;
            self.timers.add(now + self.timing.gossip_period, Due::Gossip);
        }
        renewed
    }

    /// Moves foca's packets to the outbox, past the guard, without the two short ids.
    fn post(&mut self) {
        for index in 0..self.effects.sends.len() {
            let Some((to, range)) = self.effects.sends.get(index).cloned() else { break };
            let Some(peer) = self.peers.get(&to.short) else { continue };
            let Some(data) = self.effects.bytes.get(range) else { continue };
            if self.guard && data.get(TAG_AT) == Some(&tag::TURN_UNDEAD) {
                let mut book = self.foca.iter_membership_state();
                if !book.any(|member| *member.id() == to && member.state() == State::Down) {
                    self.guarded += 1;
                    continue;
                }
            }
            let (Some(boot), Some(rest)) = (data.get(8..ID_LEN + 2), data.get(ID_LEN + 2 + 8..)) else { continue };
            let start = self.outbox.bytes.len();
            self.outbox.bytes.extend_from_slice(boot);
            self.outbox.bytes.extend_from_slice(rest);
            let suspect = (peer.state == MemberState::Suspect && peer.id == Some(to)).then_some(peer.incarnation);
            self.outbox.sends.push(Send { to: peer.node, suspect, range: start..self.outbox.bytes.len() });
        }
        self.effects.sends.clear();
        self.effects.bytes.clear();
    }
}
