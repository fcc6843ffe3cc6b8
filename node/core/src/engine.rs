//! The node: composes gossip, the typed world, placement, own allocations, requests and names; it has no rule of its own.
//!
//! One call is: the input goes where it belongs, events of the gossip engine change the world, and a bounded slice of what
//! that made necessary is done. What is left is done at an immediate deadline. A packet that changed nothing costs nothing
//! beyond gossip.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use dunlin_gossip::engine::{Gossip, GossipConfig, Timing};
use dunlin_gossip::face::{
    Boot, GossipEvent, GossipInput, GossipOutput, GossipOutputs, MemberReason, MemberState, NoticeLevel, PeerChange,
    PersistSeq,
};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{Allocation, Mode, ReplicaKey, Slot};
use dunlin_gossip::rng::Seed;
use dunlin_gossip::time::{Instant, Wall};
use dunlin_gossip::wire::RecordId;

use crate::ack::Acks;
use crate::allocation::{Owned, earliest};
use crate::boot::Start;
use crate::face::{EventKind, Input, NodeConfig, Output, Outputs, RequestId};
use crate::log::Log;
use crate::names::Names;
use crate::schedule::{Isolation, Schedule};
use crate::view::{Change, ServiceChange, View};

/// Outputs for which a buffer is kept between calls.
const KEPT_OUTPUTS: usize = 256;

/// One node. After each call drain the outputs in order, then sleep until [`Node::next_deadline`]. Time never goes back; a
/// late or repeated deadline is harmless.
#[derive(Debug)]
pub struct Node {
    pub(crate) config: NodeConfig,
    pub(crate) me: NodeId,
    pub(crate) gossip: Gossip,
    pub(crate) view: View,
    pub(crate) schedule: Schedule,
    pub(crate) isolation: Isolation,
    pub(crate) owned: Owned,
    pub(crate) start: Start,
    pub(crate) acks: Acks,
    pub(crate) names: Names,
    pub(crate) log: Log,
    pub(crate) gouts: GossipOutputs,
    /// The newest persist request that is on disk.
    pub(crate) durable: Option<PersistSeq>,
    /// True once the disk failed or is old: nothing is accepted or claimed any more.
    pub(crate) failed: bool,
    /// Who asked us to leave; we stop what runs first.
    pub(crate) leaving: Option<(RequestId, Instant)>,
    pub(crate) left: bool,
    /// Our own next deadline, gossip's left out.
    wake: Option<Instant>,
}

impl Node {
    /// Starts from what the disk holds. Nothing is started and nothing claimed until the driver has told what it found.
    #[must_use]
    pub fn new(config: NodeConfig, boot: Boot, seed: Seed, now: Instant, wall: Wall, out: &mut Outputs) -> Self {
        Self::with_timing(config, Timing::default(), boot, seed, now, wall, out)
    }

    /// Like [`Node::new`], with other constants of time for the gossip underneath.
    #[must_use]
    pub fn with_timing(
        config: NodeConfig,
        timing: Timing,
        boot: Boot,
        seed: Seed,
        now: Instant,
        wall: Wall,
        out: &mut Outputs,
    ) -> Self {
        let me = config.me;
        let mut gouts = GossipOutputs::default();
        let gossip_config = GossipConfig { me, cluster: config.cluster, timing, seeds: Vec::new() };
        let gossip = Gossip::new(gossip_config, boot, seed, now, wall, &mut gouts);
        let mut view = View::new(me);
        for (node, state) in gossip.members() {
            view.set_member(node, state);
        }
        let unreadable = view.load(gossip.state(), now, wall);
        view.set_header(me, Some(Arc::new(config.header.clone())));
        let start = Start::new(gossip.state(), me, now);
        let mut node = Self {
            config,
            me,
            gossip,
            view,
            schedule: Schedule::default(),
            isolation: Isolation::default(),
            owned: Owned::default(),
            start,
            acks: Acks::new(me),
            names: Names::default(),
            log: Log::default(),
            gouts,
            durable: None,
            failed: false,
            leaving: None,
            left: false,
            wake: Some(now),
        };
        unreadable.iter().for_each(|id| node.unreadable(id));
        node.mark_everything();
        node.drain(now, wall, out);
        node.finish(now, wall, out);
        node
    }

    /// Takes one input; what is to be done about it is appended to `out`.
    pub fn handle(&mut self, now: Instant, wall: Wall, input: Input, out: &mut Outputs) {
        let mut busy = true;
        match input {
            Input::Gossip(input) => {
                if let GossipInput::PersistFailed(why) = &input {
                    self.fail(&alloc::format!("this node's disk failed: {why}"), out);
                }
                self.gossip.handle(now, wall, input, &mut self.gouts);
                busy = false;
            }
            Input::Deadline => {
                if self.gossip.next_deadline().is_some_and(|at| at <= now) {
                    self.gossip.handle(now, wall, GossipInput::Deadline, &mut self.gouts);
                }
                busy = false;
            }
            Input::Request(id, request) => self.on_request(id, request, now, wall, out),
            Input::Driver(event) => self.on_driver(event, now, wall, out),
            Input::Host(header) => {
                self.on_host(header, now);
                self.shed(now, out);
            }
        }
        let heard = self.drain(now, wall, out);
        if busy || heard || self.wake.is_some_and(|at| at <= now) {
            self.work(now, wall, out);
            self.finish(now, wall, out);
        }
    }

    /// When `handle` wants to be called with a deadline, if nothing else comes before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        earliest(self.gossip.next_deadline(), self.wake)
    }

    /// The typed world; read-only.
    #[must_use]
    pub const fn view(&self) -> &View {
        &self.view
    }

    /// The gossip engine underneath; read-only.
    #[must_use]
    pub const fn gossip(&self) -> &Gossip {
        &self.gossip
    }

    /// Gives gossip's outputs on and takes its events; true if there was one.
    pub(crate) fn drain(&mut self, now: Instant, wall: Wall, out: &mut Outputs) -> bool {
        let mut heard = false;
        out.cost += core::mem::take(&mut self.gouts.cost);
        let mut list = core::mem::take(&mut self.gouts.list);
        for output in list.drain(..) {
            if let GossipOutput::Event(event) = output {
                heard = true;
                self.on_event(event, now, wall, out);
            } else {
                out.push(Output::Gossip(output));
            }
        }
        // What the events caused comes in the next call; the buffer is kept for it, unless a start or a storm made it large.
        if self.gouts.list.is_empty() && list.capacity() <= KEPT_OUTPUTS {
            self.gouts.list = list;
        }
        heard
    }

    /// One slice of everything that is due.
    fn work(&mut self, now: Instant, wall: Wall, out: &mut Outputs) {
        self.start_timers(now);
        self.own_timers(now, wall, out);
        self.schedule.run_sweep(now);
        self.examine_dirty(now, wall, out);
        self.claim_due(now, wall, out);
        self.leave_when_empty(now, wall, out);
        self.flush_staged(now, wall);
        self.drain(now, wall, out);
    }

    fn finish(&mut self, now: Instant, wall: Wall, out: &mut Outputs) {
        self.answer(now, out);
        self.names.flush(&self.view, now, out);
        self.log.flush(self.me, wall, out);
        // Only what this node can do anything about may ask for an immediate deadline.
        let unpublished = !self.owned.staged.is_empty() && !self.failed && !self.left;
        let work_left = (self.start.is_adopted() && (self.schedule.has_dirty() || unpublished)).then_some(now);
        let waiting = if self.may_claim(now) { self.schedule.next_due() } else { None };
        let leaving = self.leaving.filter(|_| !self.left).map(|(_, deadline)| deadline);
        let deadlines = [
            work_left,
            waiting,
            self.schedule.next_sweep(),
            if self.failed { None } else { self.owned.deadline() },
            self.start.next(),
            self.acks.next(),
            self.names.next(now),
            leaving,
        ];
        self.wake = deadlines.into_iter().fold(None, earliest);
    }

    fn on_event(&mut self, event: GossipEvent, now: Instant, wall: Wall, out: &mut Outputs) {
        match event {
            GossipEvent::Changed(id) => self.on_changed(&id, now, wall, out),
            GossipEvent::Member { node, state, reason } => self.on_member(node, state, reason, now, out),
            GossipEvent::Durable { seq, .. } => {
                self.durable = self.durable.max(Some(seq));
                self.acks.durable(seq);
                self.claims_durable(seq, now, out);
            }
            GossipEvent::Stored { hlc, by } => self.acks.stored(by, hlc),
            GossipEvent::Synced { .. } => self.start.synced(now),
            GossipEvent::Peer(change) => {
                if let PeerChange::Removed { node } = &change {
                    self.on_member(*node, MemberState::Left, MemberReason::Left, now, out);
                }
                out.push(Output::Gossip(GossipOutput::Event(GossipEvent::Peer(change))));
            }
            GossipEvent::Notice(notice) => self.log.node(notice.level, EventKind::Node, self.me, notice.text),
            GossipEvent::DiskIsOld { newest } => {
                self.fail("this node's disk is older than what its peers know of it; it starts anew", out);
                out.push(Output::Gossip(GossipOutput::Event(GossipEvent::DiskIsOld { newest })));
            }
            GossipEvent::Fatal(text) => {
                self.fail(&text, out);
                out.push(Output::Gossip(GossipOutput::Event(GossipEvent::Fatal(text))));
            }
        }
    }

    fn on_changed(&mut self, id: &RecordId, now: Instant, wall: Wall, out: &mut Outputs) {
        out.cost += 1;
        if id.writer() == Some(self.me) {
            return;
        }
        match self.view.apply(self.gossip.state(), id, now, wall) {
            Change::Nothing => {}
            Change::Services(changes) => changes.iter().for_each(|change| self.on_service(change, now)),
            Change::Allocation { node, before, after } => self.on_allocation(node, before.as_deref(), after.as_deref()),
            Change::Header(node) => {
                self.names.node(node);
                self.schedule.sweep(now);
            }
            Change::Refusal(replica) => {
                self.schedule.mark(replica);
                self.schedule.sweep(now);
            }
            Change::Token(token) => {
                let word = if self.view.tokens().contains_key(&token) { "created" } else { "removed" };
                let text = alloc::format!("token {:016x} {word}", token.0);
                self.log.node(NoticeLevel::Info, EventKind::Trust, self.me, text);
            }
            Change::Unreadable => self.unreadable(id),
        }
    }

    fn unreadable(&mut self, id: &RecordId) {
        let text = alloc::format!(
            "record {id:?} cannot be read by this version ({}); it is kept and passed on, its meaning is skipped here",
            self.config.header.version
        );
        self.log.node(NoticeLevel::Warn, EventKind::Node, self.me, text);
    }

    fn on_service(&mut self, change: &ServiceChange, now: Instant) {
        let ServiceChange { service, before } = change;
        let after = self.view.services().get(service).cloned();
        let count = |force: Option<&crate::view::InForce>| match force.map(|f| f.service.mode) {
            Some(Mode::Replicated(n)) => n,
            Some(Mode::Global) | None => 0,
        };
        let most = count(before.as_ref()).max(count(after.as_ref()));
        let mark = |slot| ReplicaKey { service: service.clone(), slot };
        (1..=most).for_each(|n| self.schedule.mark(mark(Slot::Number(n))));
        self.schedule.mark(mark(Slot::Node(self.me)));
        self.mark_own(|record| record.service == *service);
        let text = match (before, &after) {
            (None, Some(force)) => alloc::format!("wanted, at revision {}", force.revision),
            (Some(_), None) => "no longer wanted".to_string(),
            (Some(old), Some(new)) if old.revision != new.revision => {
                alloc::format!("wanted at revision {} instead of {}", new.revision, old.revision)
            }
            (_, Some(_)) => {
                alloc::format!("wanted {} times instead of {}", count(after.as_ref()), count(before.as_ref()))
            }
            (None, None) => return,
        };
        self.log.service(service, text);
        self.names.service(service);
        self.schedule.sweep(now);
    }

    fn on_allocation(&mut self, node: NodeId, before: Option<&Allocation>, after: Option<&Allocation>) {
        self.names.allocation(node, before, after);
        let Some(alloc) = after.or(before) else { return };
        let replica = self.view.shared(&alloc.replica);
        self.mark_turns(&replica);
        self.schedule.mark(replica);
        let word = after.map_or("gone", |a| a.phase.as_str());
        if before.map(|b| b.phase) != after.map(|a| a.phase) {
            let text = word.to_string();
            self.log.replica(NoticeLevel::Info, EventKind::Allocation, node, &alloc.replica, text);
        }
    }

    /// Own allocations of an older revision may have their turn, now that something of their service changed.
    pub(crate) fn mark_turns(&mut self, replica: &ReplicaKey) {
        let Some(force) = self.view.services().get(&replica.service) else { return };
        let old = self
            .owned
            .map
            .values()
            .filter(|own| own.record.replica.service == replica.service && own.record.revision != force.revision);
        old.for_each(|own| self.schedule.mark(own.record.replica.clone()));
    }

    fn mark_own(&mut self, which: impl Fn(&ReplicaKey) -> bool) {
        let own = self.owned.map.values().map(|own| &own.record.replica);
        own.filter(|replica| which(replica)).for_each(|replica| self.schedule.mark(replica.clone()));
    }

    pub(crate) fn mark_all_own(&mut self) {
        self.mark_own(|_| true);
    }

    fn on_member(&mut self, node: NodeId, state: MemberState, reason: MemberReason, now: Instant, out: &mut Outputs) {
        if node == self.me || !self.view.set_member(node, state) {
            return;
        }
        let (level, why) = match state {
            MemberState::Alive | MemberState::Left => (NoticeLevel::Info, reason),
            MemberState::Suspect | MemberState::Down => (NoticeLevel::Warn, reason),
        };
        let text = alloc::format!("{state} ({})", reason_word(why));
        self.log.node(level, EventKind::Member, node, text);
        match state {
            MemberState::Down => {
                let roster = self.gossip.members().count();
                if self.isolation.down(node, roster, now) {
                    let text = "most of the roster is lost at once; nothing is taken over for 30 s".to_string();
                    self.log.node(NoticeLevel::Warn, EventKind::Node, self.me, text);
                }
            }
            MemberState::Alive => self.isolation.back(node),
            MemberState::Suspect | MemberState::Left => {}
        }
        self.names.node(node);
        self.mark_node(node, out);
        self.schedule.sweep(now);
    }

    /// Looks again at everything that a node claims.
    pub(crate) fn mark_node(&mut self, node: NodeId, out: &mut Outputs) {
        let Some(known) = self.view.nodes().get(&node) else { return };
        out.cost += known.allocations.len() as u64;
        for alloc in known.allocations.values() {
            self.schedule.mark(alloc.replica.clone());
            if alloc.ready {
                self.names.place(&alloc.replica, node);
            }
        }
    }

    /// Everything that the disk told: names, and replicas that may need an owner.
    fn mark_everything(&mut self) {
        for (service, force) in self.view.services() {
            self.names.service(service);
            let mark = |slot| ReplicaKey { service: service.clone(), slot };
            match force.service.mode {
                Mode::Replicated(n) => (1..=n).for_each(|n| self.schedule.mark(mark(Slot::Number(n)))),
                Mode::Global => self.schedule.mark(mark(Slot::Node(self.me))),
            }
        }
        for (node, known) in self.view.nodes() {
            if known.header.is_some() {
                self.names.node(*node);
            }
        }
    }

    /// Accepts and claims nothing more, and says so to everybody who waits.
    pub(crate) fn fail(&mut self, text: &str, out: &mut Outputs) {
        if self.failed {
            return;
        }
        self.failed = true;
        for (id, reply) in self.acks.give_up(text) {
            out.push(Output::Reply(id, reply));
        }
        self.log.node(NoticeLevel::Error, EventKind::Node, self.me, text.to_string());
    }
}

const fn reason_word(reason: MemberReason) -> &'static str {
    match reason {
        MemberReason::Joined => "joined",
        MemberReason::Refuted => "answered after all",
        MemberReason::Silence => "does not answer",
        MemberReason::Refusal => "its host says that no agent listens",
        MemberReason::Gossip => "heard from others",
        MemberReason::Left => "said goodbye",
    }
}
