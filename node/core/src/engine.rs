//! The node: composes gossip, the typed world, placement, own allocations, requests and names; it has no rule of its own.
//!
//! One call is: the input goes where it belongs, events of the gossip engine change the world, and a bounded slice of what
//! that made necessary is done. What is left is done at an immediate deadline. A packet that changed nothing costs nothing
//! beyond gossip.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use dunlin_gossip::engine::{Gossip, GossipConfig};
use dunlin_gossip::face::{
    Boot, GossipEvent, GossipInput, GossipOutput, GossipOutputs, MemberReason, MemberState, NoticeLevel, PeerChange,
    PersistSeq,
};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{Allocation, ReplicaKey, Slot};
use dunlin_gossip::rng::Seed;
use dunlin_gossip::time::{Instant, Wall};
use dunlin_gossip::wire::RecordId;

use crate::ack::Acks;
use crate::allocation::{Owned, earliest};
use crate::boot::{Base, Start};
use crate::counts::Counts;
use crate::cron::Crons;
use crate::drain::Draining;
use crate::face::{EventKind, Input, NodeConfig, Output, Outputs};
use crate::holddown::HoldDown;
use crate::isolation::Isolation;
use crate::job::Jobs;
use crate::leave::Leaving;
use crate::log::Log;
use crate::majority::Majority;
use crate::names::Names;
use crate::schedule::Schedule;
use crate::share::Share;
use crate::tokens::Tokens;
use crate::view::{Change, ServiceChange, View};
use crate::wave::Waves;

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
    pub(crate) hold_down: HoldDown,
    pub(crate) owned: Owned,
    pub(crate) start: Start,
    pub(crate) acks: Acks,
    pub(crate) names: Names,
    pub(crate) log: Log,
    counts: Counts,
    pub(crate) gouts: GossipOutputs,
    /// The newest persist request that is on disk.
    pub(crate) durable: Option<PersistSeq>,
    /// True once the disk failed or is old: nothing is accepted or claimed any more.
    pub(crate) failed: bool,
    /// We go, and stop what runs first.
    pub(crate) leaving: Option<Leaving>,
    pub(crate) left: bool,
    /// When to look whether our own records are still true.
    pub(crate) own_at: Option<Instant>,
    /// When to look for orders of nodes that are gone.
    pub(crate) orders_at: Option<Instant>,
    pub(crate) draining: Draining,
    pub(crate) share: Share,
    pub(crate) jobs: Jobs,
    pub(crate) crons: Crons,
    pub(crate) tokens: Tokens,
    pub(crate) waves: Waves,
    pub(crate) majority: Majority,
    /// Our own next deadline, gossip's left out.
    wake: Option<Instant>,
}

impl Node {
    /// Starts from what the disk holds. Nothing is started and nothing claimed until the driver has told what it found.
    #[must_use]
    pub fn new(config: NodeConfig, boot: Boot, seed: Seed, now: Instant, wall: Wall, out: &mut Outputs) -> Self {
        let mut gouts = GossipOutputs::default();
        let gossip = Gossip::new(gossip_config(&config), boot, seed, now, wall, &mut gouts);
        let mut view = View::new(config.me).guarded(&config);
        let unreadable = view.load(gossip.state(), now, wall);
        let mut node = Self::put_together(config, gossip, view, gouts, now);
        node.look_at_all();
        node.begin(&unreadable, now, wall, out);
        node
    }

    /// Like [`Node::new`], from what others began with as well and what lies on the own disk besides.
    #[must_use]
    pub fn upon(
        base: &Base,
        config: NodeConfig,
        boot: Boot,
        seed: Seed,
        now: Instant,
        wall: Wall,
        out: &mut Outputs,
    ) -> Self {
        let mut view = base.view.seen_by(config.me).guarded(&config);
        let ids: Vec<RecordId> = boot.records.iter().map(|record| record.id().clone()).collect();
        let boot = Boot { base: Some(base.gossip.clone()), ..boot };
        let mut gouts = GossipOutputs::default();
        let gossip = Gossip::new(gossip_config(&config), boot, seed, now, wall, &mut gouts);
        let is_more = !ids.is_empty();
        let unreadable = view.load_some(gossip.state(), ids, now, wall);
        let mut node = Self::put_together(config, gossip, view, gouts, now);
        if is_more {
            node.look_at_all();
        } else {
            node.begin_upon(base);
        }
        node.begin(&unreadable, now, wall, out);
        node
    }

    fn put_together(
        mut config: NodeConfig,
        gossip: Gossip,
        mut view: View,
        gouts: GossipOutputs,
        now: Instant,
    ) -> Self {
        let me = config.me;
        let share = Share::new(config.rebalance, &gossip, me, now);
        config.header.supply.came.0 = share.begun();
        for (node, state) in gossip.members() {
            view.set_member(node, state);
        }
        view.set_header(me, Some(Arc::new(config.header.clone())));
        let start = Start::new(gossip.state(), me, now);
        let majority = Majority::new(gossip.state(), me, now);
        Self {
            config,
            me,
            gossip,
            view,
            schedule: Schedule::default(),
            isolation: Isolation::default(),
            hold_down: HoldDown::default(),
            owned: Owned::default(),
            start,
            acks: Acks::new(me),
            names: Names::default(),
            log: Log::default(),
            counts: Counts::default(),
            gouts,
            durable: None,
            failed: false,
            leaving: None,
            left: false,
            own_at: None,
            orders_at: Some(now),
            draining: Draining::default(),
            share,
            jobs: Jobs::new(now),
            crons: Crons::default(),
            tokens: Tokens::new(now),
            waves: Waves::default(),
            majority,
            wake: Some(now),
        }
    }

    fn begin(&mut self, unreadable: &[RecordId], now: Instant, wall: Wall, out: &mut Outputs) {
        let before = out.list.len();
        unreadable.iter().for_each(|id| self.unreadable(id));
        let left_out: Vec<RecordId> = self.view.left_out().cloned().collect();
        left_out.iter().for_each(|id| self.left_out(id));
        self.begin_waves();
        self.look_at_calendar();
        if self.gossip.roster().is_removed(self.me) {
            self.on_removed(self.me, now, out);
        }
        self.drain(now, wall, out);
        self.finish(now, wall, out);
        self.counts.tally(out.list.get(before..).unwrap_or_default());
        self.config.at_hand.done();
    }

    /// Takes one input; what is to be done about it is appended to `out`.
    pub fn handle(&mut self, now: Instant, wall: Wall, input: Input, out: &mut Outputs) {
        let before = out.list.len();
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
            Input::Request(id, asker, request) => self.on_request(id, &asker, request, now, wall, out),
            Input::Driver(event) => self.on_driver(event, now, wall, out),
            Input::Host(header) => {
                self.on_host(header, now);
                self.shed(now, out);
            }
        }
        let heard = self.drain(now, wall, out);
        if busy || heard || self.wake.is_some_and(|at| at <= now) || self.crons.is_due(wall) {
            self.work(now, wall, out);
            self.finish(now, wall, out);
        }
        self.counts.tally(out.list.get(before..).unwrap_or_default());
        self.config.at_hand.done();
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

    /// What this boot has put out.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts { syncs: self.gossip.syncs(), ..self.counts }
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
        self.watch_renewals(now);
        self.own_timers(now, wall, out);
        self.rollout_timers(now);
        self.tend_crons(wall);
        self.schedule.run_sweep(now);
        self.watch_drain(now, wall);
        self.watch_share_orders(now, wall);
        self.examine_dirty(now, wall, out);
        self.claim_due(now, wall, out);
        self.tend_share(now, wall, out);
        self.tend_majority(now, wall, out);
        self.tend_jobs(now, wall);
        self.tend_waves(now, wall);
        self.drop_expired_tokens(now, wall);
        self.drop_old_orders(now, wall);
        self.end_what_came_back(now);
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
        let leaving = self.leaving.as_ref().filter(|_| !self.left).map(|leaving| leaving.deadline);
        let deadlines = [
            work_left,
            waiting,
            self.schedule.next_sweep(),
            self.schedule.turns.next_due(),
            if self.failed { None } else { self.owned.deadline() },
            self.start.next(),
            self.acks.next(),
            self.names.next(now),
            self.tokens.look_at.filter(|_| !self.failed && !self.left),
            self.waves.next(),
            self.majority.next().filter(|_| self.start.is_adopted() && !self.left),
            self.orders_at.filter(|_| !self.failed && self.leaving.is_none()),
            self.draining.look_at,
            self.share.look_at.filter(|_| self.start.is_adopted() && !self.failed && self.leaving.is_none()),
            self.jobs.next().filter(|_| self.start.is_adopted() && !self.failed && self.leaving.is_none()),
            self.crons.next(now, wall),
            self.own_at.filter(|_| self.start.is_adopted() && !self.failed && !self.left),
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
                self.tokens.durable(seq);
                self.majority_durable(seq);
                self.claims_durable(seq, now, out);
            }
            GossipEvent::Stored { hlc, by } => self.acks.stored(by, hlc),
            GossipEvent::Word { from, bytes } => self.on_word(from, &bytes, now, wall, out),
            GossipEvent::Synced { .. } => self.start.synced(now),
            GossipEvent::Peer(change) => {
                match &change {
                    PeerChange::Removed { node } => self.on_removed(*node, now, out),
                    PeerChange::Forgotten { node } => {
                        self.on_member(*node, MemberState::Left, MemberReason::Forgotten, now, out);
                    }
                    PeerChange::Admitted { .. } => {}
                }
                self.look_at_orders(now);
                self.majority.look(now);
                out.push(Output::Gossip(GossipOutput::Event(GossipEvent::Peer(change))));
            }
            GossipEvent::Notice(notice) => self.log.node(notice.level, EventKind::Node, self.me, notice.text),
            GossipEvent::DiskIsOld { newest } => {
                self.fail("what this node holds is out of date; it starts anew", out);
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
            self.look_after_own(now);
            return;
        }
        if *id == RecordId::voters() {
            self.on_voter_list(now, wall);
        }
        match self.view.apply(self.gossip.state(), id, now, wall) {
            Change::Nothing => {}
            Change::Services(changes) => changes.iter().for_each(|change| self.on_service(change, now)),
            Change::Rollout { service, services } => self.on_rollout(&service, &services, now),
            Change::Allocation { node, before, after } => {
                self.on_allocation(node, before.as_deref(), after.as_deref(), now);
            }
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
                self.tokens.look_at = Some(now);
            }
            Change::Finish(replica) => self.on_finish(&replica, now),
            Change::Wave(stack, by) => self.on_wave(&stack, by),
            Change::Orders(node) => self.on_orders(node, now, out),
            Change::Unreadable => self.unreadable(id),
            Change::LeftOut => self.left_out(id),
        }
        self.tell_of_foreign_fields(id);
    }

    pub(crate) fn on_service(&mut self, change: &ServiceChange, now: Instant) {
        let ServiceChange { service, before } = change;
        let after = self.view.services().get(service).cloned();
        let count = |force: Option<&crate::view::InForce>| force.and_then(|f| f.service.mode.count()).unwrap_or(0);
        self.schedule.mark_all(service, count(before.as_ref()).max(count(after.as_ref())), self.me);
        self.mark_own(|record| record.service == *service);
        self.crons.look(service);
        let runs: Vec<Slot> = self.view.open_runs(service).collect();
        runs.into_iter().for_each(|slot| self.schedule.mark(ReplicaKey { service: service.clone(), slot }));
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

    fn on_allocation(&mut self, node: NodeId, before: Option<&Allocation>, after: Option<&Allocation>, now: Instant) {
        self.names.allocation(node, before, after);
        let Some(alloc) = after.or(before) else { return };
        let replica = self.view.shared(&alloc.replica);
        if matches!(replica.slot, Slot::Run(..)) {
            self.crons.look(&replica.service);
        }
        self.watch_rollout(&replica.service, now);
        self.mark_turns(&replica.service);
        self.mark_leaving(&replica.service);
        self.schedule.mark(replica);
        let word = after.map_or("gone", |a| a.phase.as_str());
        if before.map(|b| b.phase) != after.map(|a| a.phase) {
            let text = word.to_string();
            self.log.replica(NoticeLevel::Info, EventKind::Allocation, node, &alloc.replica, text);
        }
    }

    pub(crate) fn mark_own(&mut self, which: impl Fn(&ReplicaKey) -> bool) {
        let own = self.owned.map.values().map(|own| &own.record.replica);
        own.filter(|replica| which(replica)).for_each(|replica| self.schedule.mark(replica.clone()));
    }

    pub(crate) fn mark_all_own(&mut self) {
        self.mark_own(|_| true);
    }

    pub(crate) fn on_member(
        &mut self,
        node: NodeId,
        state: MemberState,
        reason: MemberReason,
        now: Instant,
        out: &mut Outputs,
    ) {
        let before = self.view.nodes().get(&node).and_then(|known| known.state);
        if node == self.me || !self.view.set_member(node, state) {
            return;
        }
        self.log.member(node, state, reason);
        match (before, state) {
            (Some(MemberState::Down), MemberState::Alive) => {
                let held = self.hold_down.back(node, now);
                self.tell_hold_down(node, held);
            }
            (_, MemberState::Left) => self.hold_down.forget(node),
            _ => {}
        }
        self.watch_isolation(node, state, reason, now);
        self.share.disturbed(self.view.nodes().len(), now);
        self.majority_member(node, state, now);
        self.names.node(node);
        self.mark_node(node, out);
        self.schedule.sweep(now);
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

fn gossip_config(config: &NodeConfig) -> GossipConfig {
    GossipConfig { me: config.me, cluster: config.cluster, wire: config.wire, timing: config.timing, seeds: Vec::new() }
}
