//! Who is alive: SWIM (Das et al., 2002) with Lifeguard (Dadgar et al., 2018), as a pure state machine.
//!
//! - `identity` and `message`: who speaks, and the bytes of a packet. `book`: what we hold of whom, and which claim is newer.
//! - `judge`: what a claim changes. `suspicion`: how long a suspect has. `rumours`: what is to be told on.
//! - `swim`: packets. `clock`: probes and timers. `probe`, `health`: whether it is we who are not well.
//! - `lines`: whole books.
//!
//! What a member is told of is bounded by the roster: claims about strangers are dropped. A claim costs one look into the
//! table, a probe or a random pick a few; nothing goes through all members but what happens once in a boot or when we hear
//! nobody at all.
//!
//! Never: a clock, an address, a decision about records.

mod book;
mod clock;
mod health;
mod identity;
mod judge;
mod lines;
mod message;
mod probe;
mod rumours;
mod suspicion;
mod swim;
#[cfg(test)]
mod tests;
mod timers;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Range;

use book::{Book, Peer, Strides};
use health::Health;
use identity::{Boot, SwimId};
pub(crate) use lines::MemberLine;
use message::Line;
use probe::{Debts, Probe, Recent};
use rumours::Rumours;
use suspicion::Suspicion;
use timers::{Due, Slot, Timers};

use crate::canary::{Bug, planted};
use crate::engine::Timing;
use crate::face::{MemberReason, MemberState};
use crate::id::{Generation, NodeId};
use crate::rng::{Rng, Seed};
use crate::time::{Duration, Instant};

/// Draws of one member out of all before those that are wanted are counted.
const BLIND_PICKS: usize = 16;

/// The incarnation under which a member that left is down; no living one reaches it.
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

/// Membership of one node in one boot.
pub(crate) struct Membership {
    me: NodeId,
    boot: Boot,
    incarnation: u16,
    timing: Timing,
    rng: Rng,
    timers: Timers,
    book: Book,
    /// Alive members other than us.
    alive: usize,
    /// The others.
    lost: BTreeSet<u64>,
    suspicions: BTreeMap<u64, Suspicion>,
    /// Whose hosts refused, and when; their restart windows count from there.
    refusals: BTreeMap<u64, Instant>,
    rumours: Rumours,
    strides: Strides,
    probe_number: u8,
    /// The probe that is under way.
    probe: Option<Probe>,
    /// The one before, if it failed and witnesses are missing: they may be late.
    unproven: Option<Probe>,
    health: Health,
    debts: Debts,
    recent: Recent,
    /// When anybody spoke last.
    heard_any: Instant,
    /// When we stood still last.
    resumed: Instant,
    /// We said goodbye, or have no identity left.
    left: bool,
    /// Reused.
    lines: Vec<Line>,
    /// Reused.
    names: Vec<(u64, u8)>,
    pub(crate) outbox: Outbox,
    /// Times that we had to renew our identity in this boot.
    pub(crate) renewals: u64,
}

impl core::fmt::Debug for Membership {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Membership").field("me", &self.me).field("peers", &self.book.len()).finish_non_exhaustive()
    }
}

impl Membership {
    pub(crate) fn new(me: NodeId, generation: Generation, timing: Timing, seed: Seed, now: Instant) -> Self {
        let mut timers = Timers::default();
        let mut rng = seed.split("membership").rng();
        timers.set(Slot::Retry, now + timing.retry_period / 10);
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(0);
        let exchange = millis(timing.exchange_period);
        timers.set(Slot::Exchange, now + Duration::from_millis(exchange / 2 + rng.below(exchange)));
        Self {
            me,
            boot: Boot::new(generation, 0),
            incarnation: 0,
            timing,
            rng,
            timers,
            book: Book::default(),
            alive: 0,
            lost: BTreeSet::new(),
            suspicions: BTreeMap::new(),
            refusals: BTreeMap::new(),
            rumours: Rumours::default(),
            strides: Strides::default(),
            probe_number: 0,
            probe: None,
            unproven: None,
            health: Health::default(),
            debts: Debts::default(),
            recent: Recent::default(),
            heard_any: now,
            resumed: now,
            left: false,
            lines: Vec::new(),
            names: Vec::new(),
            outbox: Outbox::default(),
            renewals: 0,
        }
    }

    /// The nodes that belong at the beginning, and those of them that an earlier process of this boot held alive.
    pub(crate) fn begin(&mut self, now: Instant, nodes: impl Iterator<Item = NodeId>, alive: &[(NodeId, Generation)]) {
        let mut alive = alive.to_vec();
        alive.sort_unstable();
        for node in nodes {
            let up_to = alive.partition_point(|(held, _)| *held <= node);
            let held = alive[..up_to].last().filter(|(held, _)| *held == node);
            match held {
                Some((_, generation)) => self.add_alive(now, node, Boot::new(*generation, 0)),
                None => drop(self.admit(now, node)),
            }
        }
    }

    /// A node that belongs, and that an earlier process of this boot held alive.
    fn add_alive(&mut self, now: Instant, node: NodeId, boot: Boot) {
        if node == self.me || self.book.contains(node.short()) {
            return;
        }
        self.book.insert(node.short(), Peer { boot: Some(boot), state: MemberState::Alive, ..Peer::new(node) });
        self.alive += 1;
        self.outbox.events.push((node, MemberState::Alive, MemberReason::Joined));
        self.probe_later(now);
    }

    fn probe_later(&mut self, now: Instant) {
        if !self.timers.is_set(Slot::Probe) {
            self.timers.set(Slot::Probe, now + self.timing.probe_period);
        }
    }

    /// A node belongs from now on. True if that is new.
    pub(crate) fn admit(&mut self, now: Instant, node: NodeId) -> bool {
        let is_new = self.add(now, node);
        if is_new {
            self.expect(now, node.short());
        }
        is_new
    }

    /// A member has so long to be heard of.
    fn expect(&mut self, now: Instant, short: u64) {
        let patience = if planted(Bug::NeverHeardForgotten) { Duration::MAX } else { self.timing.first_contact };
        self.timers.add(now + patience, Due::NeverHeard(short));
    }

    fn add(&mut self, now: Instant, node: NodeId) -> bool {
        let short = node.short();
        if node == self.me || self.book.contains(short) {
            return false;
        }
        self.book.insert(short, Peer::new(node));
        self.lost.insert(short);
        self.retry_later(now);
        self.probe_later(now);
        true
    }

    /// A node does not belong any more.
    pub(crate) fn remove(&mut self, node: NodeId) {
        let short = node.short();
        let Some(peer) = self.book.remove(short) else { return };
        if peer.state == MemberState::Alive {
            self.alive -= 1;
        }
        self.lost.remove(&short);
        self.suspicions.remove(&short);
        self.refusals.remove(&short);
        self.rumours.remove(short);
        self.outbox.events.push((node, MemberState::Left, MemberReason::Left));
    }

    pub(crate) fn is_member(&self, node: NodeId) -> bool {
        node == self.me || self.book.get(node.short()).is_some_and(|peer| peer.node == node)
    }

    pub(crate) fn state(&self, node: NodeId) -> Option<MemberState> {
        if node == self.me {
            return Some(MemberState::Alive);
        }
        self.book.get(node.short()).filter(|peer| peer.node == node).map(|peer| peer.state)
    }

    /// Every rostered node but us, in order (the short id is the node id's beginning, so that its order is the same).
    pub(crate) fn others(&self) -> impl Iterator<Item = (NodeId, MemberState)> {
        self.book.iter().map(|peer| (peer.node, peer.state))
    }

    /// The next node on the ring of ids that is in such a state.
    pub(crate) fn successor(&self, is_wanted: impl Fn(MemberState) -> bool) -> Option<NodeId> {
        self.book.behind(self.me.short()).find(|peer| is_wanted(peer.state)).map(|peer| peer.node)
    }

    /// Any of those that are wanted, each as likely as the others.
    pub(crate) fn any_other(&mut self, is_wanted: impl Fn(NodeId, MemberState) -> bool) -> Option<NodeId> {
        let Self { book, rng, .. } = self;
        let is_open = |peer: &&Peer| is_wanted(peer.node, peer.state);
        for _ in 0..BLIND_PICKS {
            let drawn = book.around(rng).next()?;
            if is_open(&drawn) {
                return Some(drawn.node);
            }
        }
        // Few are wanted: then they are counted.
        let open: Vec<NodeId> = book.iter().filter(is_open).map(|peer| peer.node).collect();
        rng.pick(&open).copied()
    }

    /// Those that are not alive, as far as they belong.
    pub(crate) fn lost(&self) -> impl Iterator<Item = (NodeId, MemberState)> {
        self.lost.iter().filter_map(|short| self.book.get(*short)).map(|peer| (peer.node, peer.state))
    }

    pub(crate) fn is_heard(&self, node: NodeId) -> bool {
        self.book.get(node.short()).is_some_and(|peer| peer.heard.is_some())
    }

    /// Rostered nodes, ourselves included.
    pub(crate) fn size(&self) -> usize {
        self.book.len() + 1
    }

    /// Alive members, ourselves included.
    pub(crate) fn alive(&self) -> usize {
        self.alive + 1
    }

    /// The newest boot of a node of which membership knows.
    pub(crate) fn generation_of(&self, node: NodeId) -> Option<Generation> {
        self.book.get(node.short())?.boot.map(Boot::generation)
    }

    pub(crate) fn offset_of(&self, node: NodeId) -> Option<i64> {
        self.book.get(node.short())?.offset.map(i64::from)
    }

    /// The median of the offsets of the members' clocks to ours, of those alive.
    pub(crate) fn median_offset(&self) -> Option<i64> {
        let alive = self.book.iter().filter(|peer| peer.state == MemberState::Alive);
        let mut offsets: Vec<i32> = alive.filter_map(|peer| peer.offset).collect();
        offsets.sort_unstable();
        offsets.get(offsets.len() / 2).copied().map(i64::from)
    }

    /// Authentic contact by a link.
    pub(crate) fn contact(&mut self, now: Instant, node: NodeId) {
        if let Some(peer) = self.book.get_mut(node.short()) {
            peer.heard = Some(now);
            self.heard_any = now;
        }
    }

    /// A clock that is off by weeks is as wrong as one that is off by years.
    pub(crate) fn set_offset(&mut self, node: NodeId, offset: i64) {
        if let Some(peer) = self.book.get_mut(node.short()) {
            let bounded = offset.clamp(i64::from(i32::MIN), i64::from(i32::MAX));
            peer.offset = i32::try_from(bounded).ok();
        }
    }
}
