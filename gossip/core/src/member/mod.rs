//! Who is alive: stock foca 2.0.0, wrapped.
//!
//! The wrapper adds what foca lacks and guards what it does wrong, and leaves the protocol alone:
//! - **Roster.** Only rostered nodes are members. Updates about others are cut out of a packet before foca sees it, since
//!   their packets could not be answered and foca would take that for death.
//! - **Suspicion** is told (foca has no such notification): whatever may have changed a member is looked up in foca, the
//!   only truth, and compared with what was told last.
//! - **Refusal.** A refusing host makes its member suspect at once and down after the restart window.
//! - **The guard.** foca sends `TurnUndead` to members that have refuted already, which makes healthy nodes renew their
//!   identity under loss. It goes out only to an identity that is down in foca's own book.
//! - **Buddy.** Each packet to a suspect tells it so; foca alone leaves that to the luck of the update queue.
//! - **Healing.** Members that are not heard are tried again at a low rate, for ever.
//!
//! Never: a clock, an address, a decision about records.

mod identity;
mod runtime;
mod swim;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use foca::{Foca, Member, NoCustomBroadcast, State};
use rand_chacha::ChaCha8Rng;

pub(crate) use identity::SwimId;
use identity::{BOOT_LEN, ID_LEN, MEMBER_LEN, SwimCodec, TAG_AT, state_byte, state_of, tag, tail_len};
use runtime::{Due, Effects, Note, Timers};
pub(crate) use swim::MemberLine;

use crate::engine::Timing;
use crate::face::{MemberReason, MemberState};
use crate::id::{Generation, NodeId};
use crate::rng::{Rng, Seed};
use crate::time::{Duration, Instant};

/// The incarnation under which a member that left is down; foca never lets a living one reach it.
const LEFT: u16 = u16::MAX;

/// A packet to send, without trailer.
#[derive(Debug)]
pub(crate) struct Send {
    pub(crate) to: NodeId,
    /// The incarnation under which we suspect the receiver, so that it can refute.
    pub(crate) suspect: Option<u16>,
    pub(crate) range: Range<usize>,
}

/// What membership wants done and told; drained by the engine.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) bytes: Vec<u8>,
    pub(crate) sends: Vec<Send>,
    pub(crate) events: Vec<(NodeId, MemberState, MemberReason)>,
}

/// What we know of one rostered node.
#[derive(Clone, Debug)]
struct Peer {
    node: NodeId,
    state: MemberState,
    /// None until first heard of.
    id: Option<SwimId>,
    incarnation: u16,
    /// Its last authentic packet or frame in this boot.
    heard: Option<Instant>,
    /// When its host refused; the restart window counts from here.
    refused: Option<Instant>,
    /// Since when it is suspect for no better reason than that somebody called it down.
    doubted: Option<Instant>,
    /// Its wall clock minus ours, in milliseconds, as of its last packet.
    offset: Option<i64>,
}

/// Membership of one node in one boot.
pub(crate) struct Membership {
    me: NodeId,
    foca: Foca<SwimId, SwimCodec, ChaCha8Rng, NoCustomBroadcast>,
    timing: Timing,
    rng: Rng,
    timers: Timers,
    effects: Effects,
    /// By short id, which is how foca knows them.
    peers: BTreeMap<u64, Peer>,
    /// Alive members other than us.
    alive: usize,
    gossip_due: bool,
    touched: Vec<u64>,
    scratch: Vec<u8>,
    transmissions: u8,
    pub(crate) outbox: Outbox,
    /// Times that we had to renew our identity in this boot.
    pub(crate) renewals: u64,
    /// `TurnUndead` messages that the guard held back.
    pub(crate) guarded: u64,
    /// Off only in the test that shows what the guard is for.
    pub(crate) guard: bool,
}

impl core::fmt::Debug for Membership {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Membership").field("me", &self.me).field("peers", &self.peers.len()).finish_non_exhaustive()
    }
}

impl Membership {
    pub(crate) fn new(me: NodeId, generation: Generation, timing: Timing, seed: Seed, now: Instant) -> Self {
        let id = SwimId { short: me.short(), generation, renewals: 0 };
        let transmissions = swim::transmissions(1);
        let config = swim::config(&timing, transmissions);
        let foca = Foca::new(id, config, seed.split("foca").rng().inner().clone(), SwimCodec);
        let mut timers = Timers::default();
        let mut rng = seed.split("membership").rng();
        timers.add(now + timing.retry_period / 10, Due::Retry);
        let exchange = u64::try_from(timing.exchange_period.as_millis()).unwrap_or(0);
        timers.add(now + Duration::from_millis(exchange / 2 + rng.below(exchange)), Due::Exchange);
        Self {
            me,
            foca,
            timing,
            rng,
            timers,
            effects: Effects::default(),
            peers: BTreeMap::new(),
            alive: 0,
            gossip_due: false,
            touched: Vec::new(),
            scratch: Vec::new(),
            transmissions,
            outbox: Outbox::default(),
            renewals: 0,
            guarded: 0,
            guard: true,
        }
    }

    /// A node belongs from now on. True if that is new.
    pub(crate) fn admit(&mut self, now: Instant, node: NodeId) -> bool {
        let short = node.short();
        if node == self.me || self.peers.contains_key(&short) {
            return false;
        }
        let peer = Peer {
            node,
            state: MemberState::Suspect,
            id: None,
            incarnation: 0,
            heard: None,
            refused: None,
            doubted: None,
            offset: None,
        };
        self.peers.insert(short, peer);
        self.timers.add(now + self.timing.first_contact, Due::NeverHeard(short));
        let transmissions = swim::transmissions(self.peers.len() + 1);
        if transmissions != self.transmissions {
            self.transmissions = transmissions;
            let _unchanged_periods = self.foca.set_config(swim::config(&self.timing, transmissions));
        }
        true
    }

    /// A node does not belong any more.
    pub(crate) fn remove(&mut self, now: Instant, node: NodeId) {
        let Some(peer) = self.peers.remove(&node.short()) else { return };
        if peer.state == MemberState::Alive {
            self.alive -= 1;
        }
        if let Some(id) = peer.id {
            self.apply(now, Member::new(id, peer.incarnation, State::Down), MemberReason::Gossip);
        }
        self.outbox.events.push((node, MemberState::Left, MemberReason::Left));
    }

    pub(crate) fn is_member(&self, node: NodeId) -> bool {
        node == self.me || self.peers.get(&node.short()).is_some_and(|peer| peer.node == node)
    }

    pub(crate) fn state(&self, node: NodeId) -> Option<MemberState> {
        if node == self.me {
            return Some(MemberState::Alive);
        }
        self.peers.get(&node.short()).filter(|peer| peer.node == node).map(|peer| peer.state)
    }

    /// Every rostered node but us, in order (the short id is the node id's beginning, so that its order is the same).
    pub(crate) fn others(&self) -> impl Iterator<Item = (NodeId, MemberState)> {
        self.peers.values().map(|peer| (peer.node, peer.state))
    }

    pub(crate) fn is_heard(&self, node: NodeId) -> bool {
        self.peers.get(&node.short()).is_some_and(|peer| peer.heard.is_some())
    }

    /// Rostered nodes, ourselves included.
    pub(crate) fn size(&self) -> usize {
        self.peers.len() + 1
    }

    /// Alive members, ourselves included.
    pub(crate) fn alive(&self) -> usize {
        self.alive + 1
    }

    /// The newest boot of a node of which membership knows.
    pub(crate) fn generation_of(&self, node: NodeId) -> Option<Generation> {
        self.peers.get(&node.short())?.id.map(|id| id.generation)
    }

    pub(crate) fn offset_of(&self, node: NodeId) -> Option<i64> {
        self.peers.get(&node.short())?.offset
    }

    /// The median of the offsets of the members' clocks to ours, of those alive.
    pub(crate) fn median_offset(&self) -> Option<i64> {
        let alive = self.peers.values().filter(|peer| peer.state == MemberState::Alive);
        let mut offsets: Vec<i64> = alive.filter_map(|peer| peer.offset).collect();
        offsets.sort_unstable();
        offsets.get(offsets.len() / 2).copied()
    }

    /// Authentic contact by a link.
    pub(crate) fn contact(&mut self, now: Instant, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node.short()) {
            peer.heard = Some(now);
        }
    }

    pub(crate) fn set_offset(&mut self, node: NodeId, offset: i64) {
        if let Some(peer) = self.peers.get_mut(&node.short()) {
            peer.offset = Some(offset);
        }
    }

    /// The member says that it goes.
    pub(crate) fn goodbye(&mut self, now: Instant, node: NodeId) {
        let Some(id) = self.peers.get(&node.short()).and_then(|peer| peer.id) else { return };
        self.apply(now, Member::new(id, LEFT, State::Down), MemberReason::Left);
        self.gossip(now);
    }

    /// The peer's host answered that nobody listens.
    pub(crate) fn refused(&mut self, now: Instant, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node.short()) else { return };
        if peer.refused.is_some() || matches!(peer.state, MemberState::Down | MemberState::Left) {
            return;
        }
        peer.refused = Some(now);
        let id = peer.id;
        let was_alive = peer.state == MemberState::Alive;
        let suspect = id.map(|id| Member::new(id, peer.incarnation, State::Suspect));
        self.timers.add(now + self.timing.restart_window, Due::WindowEnds(node.short()));
        if let Some(suspect) = suspect.filter(|_| was_alive) {
            self.apply(now, suspect, MemberReason::Refusal);
            self.gossip(now);
        }
    }

    fn window_ends(&mut self, now: Instant, short: u64) {
        let Some(peer) = self.peers.get_mut(&short) else { return };
        let Some(refused) = peer.refused.take() else { return };
        if peer.state != MemberState::Suspect {
            return;
        }
        if peer.heard.is_some_and(|heard| heard > refused) {
            // It spoke after all; it will refute, or fall silent and be found out by probes, or refuse again.
            return;
        }
        match peer.id {
            Some(id) => {
                let down = Member::new(id, peer.incarnation, State::Down);
                self.apply(now, down, MemberReason::Refusal);
                self.gossip(now);
            }
            None => self.tell(short, MemberState::Down, MemberReason::Refusal),
        }
    }

    fn never_heard(&mut self, short: u64) {
        let unheard = self.peers.get(&short).is_some_and(|p| p.id.is_none() && p.state == MemberState::Suspect);
        if unheard {
            self.tell(short, MemberState::Down, MemberReason::Silence);
        }
    }

    /// Changes what we told of a member, and tells it.
    fn tell(&mut self, short: u64, state: MemberState, reason: MemberReason) {
        let Some(peer) = self.peers.get_mut(&short) else { return };
        match (peer.state == MemberState::Alive, state == MemberState::Alive) {
            (true, false) => self.alive -= 1,
            (false, true) => self.alive += 1,
            (true, true) | (false, false) => {}
        }
        peer.state = state;
        if state != MemberState::Suspect {
            peer.refused = None;
            peer.doubted = None;
        }
        self.outbox.events.push((peer.node, state, reason));
    }

    /// Compares foca's book with what was told.
    fn refresh(&mut self, short: u64, cause: MemberReason) {
        let Some(peer) = self.peers.get_mut(&short) else { return };
        let Some(truth) = self.foca.iter_membership_state().find(|member| member.id().short == short) else { return };
        let id = *truth.id();
        let rebooted = peer.id.is_none_or(|known| known.generation != id.generation);
        peer.id = Some(id);
        peer.incarnation = truth.incarnation();
        let state = match truth.state() {
            State::Alive => MemberState::Alive,
            State::Suspect => MemberState::Suspect,
            State::Down if peer.incarnation == LEFT => MemberState::Left,
            State::Down => MemberState::Down,
        };
        let was = peer.state;
        if state == was && !(rebooted && state == MemberState::Alive) {
            return;
        }
        let reason = match state {
            MemberState::Alive if was == MemberState::Suspect && !rebooted => MemberReason::Refuted,
            MemberState::Alive => MemberReason::Joined,
            MemberState::Left => MemberReason::Left,
            MemberState::Suspect | MemberState::Down => cause,
        };
        self.tell(short, state, reason);
    }
}
