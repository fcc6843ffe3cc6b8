//! The beginning: what the disk says was claimed, what the driver found running, and until when to hold back.
//!
//! A boot's first publication is one batch: the header, and every allocation that it takes over from the boot before. Until
//! peers hold all of it, the old claims stand, so nothing is ever unclaimed because an agent restarted.

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::face::{Base as GossipBase, MemberState, NoticeLevel};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{AllocId, Allocation, Endpoint, NodeHeader, Phase, Refusal, ReplicaKey, Slot};
use dunlin_gossip::state::State;
use dunlin_gossip::time::{Duration, Instant, Wall};
use dunlin_gossip::wire::{Kind, Record, RecordId, codec};
use dunlin_names::NameChange;

use crate::allocation::{Claimed, Health, Own};
use crate::engine::Node;
use crate::face::{Adopted, DriverCommand, EventKind, Output, Outputs};
use crate::names::Names;
use crate::view::View;

/// Until a peer is synced with, or this long has passed, a booted node takes nothing over.
pub(crate) const BOOT_HOLD: Duration = Duration::from_secs(10);

/// How far the start has come.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    at: Instant,
    /// What the disk says that we refused; taken by the adoption.
    refused: Vec<Refusal>,
    adopted: bool,
    synced: Option<Instant>,
    grace_over: bool,
}

/// What a state says that a node claims.
fn claims(state: &State, node: NodeId) -> BTreeMap<AllocId, Allocation> {
    let own = state.of_writer(node, Kind::ALLOCATION).filter(|_| !planted(Bug::BootForgetsClaims));
    own.filter_map(|(id, record)| Some((id.alloc_id()?, record.read_as()?))).collect()
}

impl Start {
    pub(crate) fn new(state: &State, me: NodeId, now: Instant) -> Self {
        let own = state.of_writer(me, Kind::REFUSAL);
        let refused = own.filter_map(|(_, record)| record.read_as());
        let refused = refused.collect();
        Self { at: now, refused, adopted: false, synced: None, grace_over: false }
    }

    pub(crate) fn synced(&mut self, now: Instant) {
        self.synced.get_or_insert(now);
    }

    pub(crate) const fn is_adopted(&self) -> bool {
        self.adopted
    }

    /// True once replicas may be taken over.
    pub(crate) fn may_claim(&self, now: Instant) -> bool {
        self.adopted && now >= self.free_since()
    }

    /// When the hold of the boot ends. The steps of ladders count from there: nodes that booted together would otherwise
    /// have waited them all out by then, and claim everything at once.
    pub(crate) fn free_since(&self) -> Instant {
        let end = self.at + BOOT_HOLD;
        self.synced.map_or(end, |at| at.min(end))
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        (!self.grace_over).then_some(self.at + BOOT_HOLD)
    }
}

impl Node {
    /// True once this boot knows what there is: it has synced with a peer, or there was none for long enough, and has found what
    /// it runs itself.
    #[must_use]
    pub fn has_come_up(&self) -> bool {
        self.start.adopted && self.gossip.is_synced()
    }
}

/// What many nodes boot from alike, put together once: see [`gossip::Base`](dunlin_gossip::face::Base).
#[derive(Clone, Debug)]
pub struct Base {
    pub(crate) gossip: GossipBase,
    pub(crate) view: View,
    pub(crate) names: Names,
    told: Arc<[NameChange]>,
    /// Replicas that nobody takes care of.
    pub(crate) untaken: Vec<ReplicaKey>,
}

impl Base {
    /// From a state in anybody's hands, and the members that all hold alive.
    #[must_use]
    pub fn new(state: State, alive: &[NodeId], wall: Wall) -> Self {
        // Nobody's view: no node is left out of it.
        let mut view = View::empty(NodeId([0; 16]));
        for node in alive {
            view.set_member(*node, MemberState::Alive);
        }
        view.load(&state, Instant::ZERO, wall);
        let (names, told) = Names::of(&view);
        // A global service's slots are each node's own business.
        let untaken = view.untaken().into_iter().filter(|replica| !matches!(replica.slot, Slot::Node(_))).collect();
        Self { gossip: GossipBase::new(state), view, names, told: told.into(), untaken }
    }

    /// What the shell knows of names before such a boot. The node itself does not answer for what it claims, until its
    /// driver has found it running.
    #[must_use]
    pub fn told(&self) -> &[NameChange] {
        &self.told
    }

    /// All that it holds.
    #[must_use]
    pub fn state(&self) -> &State {
        self.gossip.state()
    }

    /// The world as it says.
    #[must_use]
    pub const fn view(&self) -> &View {
        &self.view
    }
}

impl Node {
    /// What the boots of others do not tell: names and replicas as the base has them, but for what is ours.
    pub(crate) fn begin_upon(&mut self, base: &Base) {
        self.names = base.names.clone();
        base.untaken.iter().for_each(|replica| self.schedule.mark(replica.clone()));
        let own = base.view.nodes().get(&self.me).into_iter().flat_map(|known| known.allocations.values());
        for alloc in own {
            self.names.place(&alloc.replica, self.me);
            self.schedule.mark(alloc.replica.clone());
        }
        let global = self.view.services().iter().filter(|(_, force)| force.service.mode.is_global());
        let own = global.map(|(service, _)| ReplicaKey { service: service.clone(), slot: Slot::Node(self.me) });
        own.for_each(|replica| self.schedule.mark(replica));
    }

    /// When the grace of the boot is over, owners that nobody has heard of count as down.
    pub(crate) fn start_timers(&mut self, now: Instant) {
        if self.start.grace_over || now < self.start.at + BOOT_HOLD {
            return;
        }
        self.start.grace_over = true;
        self.view.grace = false;
        let unheard = self.view.nodes().values().filter(|n| n.state.is_none());
        let replicas: Vec<_> = unheard.flat_map(|n| n.allocations.values().map(|a| a.replica.clone())).collect();
        replicas.into_iter().for_each(|replica| self.schedule.mark(replica));
    }

    /// The driver has told what earlier agents of this node left behind.
    pub(crate) fn on_adopted(&mut self, found: Vec<Adopted>, now: Instant, wall: Wall, out: &mut Outputs) {
        if self.start.adopted {
            return;
        }
        self.start.adopted = true;
        let mut found: BTreeMap<AllocId, Adopted> = found.into_iter().map(|a| (a.alloc, a)).collect();
        // Peers may know better by now what the boot before said last, if the disk is a little older than they are.
        for (id, record) in claims(self.gossip.state(), self.me) {
            self.take_back(id, record, found.remove(&id), now, wall, out);
        }
        for id in found.into_keys().filter(|_| !planted(Bug::StrayLeftRunning)) {
            // Found and not claimed: the claim was never on disk, or was withdrawn. Its end is answered by `Forget`.
            let text = alloc::format!("allocation {id} was found running without a claim and is stopped");
            self.log.node(NoticeLevel::Warn, EventKind::Node, self.me, text);
            self.stop_stray(id, now, out);
        }
        for refusal in core::mem::take(&mut self.start.refused) {
            self.take_back_refusal(refusal, now, wall);
        }
        self.config.header.adopted = self.owned.map.keys().copied().collect();
        self.stage_header();
        self.mark_all_own();
        self.count_share_before();
        self.resume_rollouts(now);
        self.resume_leases(now);
        self.jobs.look(now);
        self.names.node(self.me);
        self.schedule.sweep(now);
    }

    /// One claim of the boot before, with what became of it.
    fn take_back(
        &mut self,
        id: AllocId,
        record: Allocation,
        found: Option<Adopted>,
        now: Instant,
        wall: Wall,
        out: &mut Outputs,
    ) {
        let service = self.view.at_revision(&record.replica.service, record.revision);
        let stopping = record.phase == Phase::Stopping;
        let ended = matches!(record.phase, Phase::Exited | Phase::Failed);
        let was_ready = record.ready;
        let mut own = Own::new(record, service, Claimed::Staged, now);
        own.attempt = found.as_ref().map_or(own.record.restarts + 1, |f| f.attempt);
        let runs = found.as_ref().is_some_and(|f| f.exit.is_none());
        if stopping && !runs {
            // It ended while nobody watched; the batch leaves it out, and that voids its record.
            out.push(Output::Driver(DriverCommand::Forget { alloc: id }));
            return;
        }
        if !ended && !stopping && runs {
            own.well = was_ready;
            own.time_job(now, Duration::from_millis(wall.0.saturating_sub(own.record.since.0)));
            if own.spec().is_some_and(|s| s.health.is_some()) {
                own.health = Some(Health::begin(now, was_ready));
            } else if own.service.is_some() {
                own.record.ready = true;
                own.record.ready_once = true;
            }
            if !matches!(own.record.phase, Phase::Running | Phase::Healthy) {
                own.record.phase = Phase::Running;
            }
            own.unhealthy_since = None;
            let instance = found.as_ref().and_then(|f| f.instance);
            let node = self.config.header.service_address;
            own.record.endpoint = Some(Endpoint { instance, node, ports: own.record.ports.clone() });
        } else if !ended && !stopping {
            own.record.ready = false;
            own.record.phase = if found.is_some() { Phase::Running } else { Phase::Pending };
            own.well = was_ready;
        }
        self.resume_relief(&mut own, now);
        self.view.set_allocation(self.me, id, Some(Arc::new(own.record.clone())));
        let text = if runs { "found running and adopted" } else { "claimed before this start" };
        self.log.replica(NoticeLevel::Info, EventKind::Claim, self.me, &own.record.replica, text.to_string());
        self.names.place(&own.record.replica, self.me);
        let stop = own.stop_policy();
        let is_said = self
            .has_said(&RecordId::allocation(self.me, id), |said| said.allocation().is_some_and(|a| **a == own.record));
        self.owned.map.insert(id, own);
        if !is_said {
            self.stage_own(id);
        }
        match found.and_then(|f| Some((f.attempt, f.exit?))) {
            Some((attempt, exit)) if !ended => self.on_exited(id, attempt, exit, now, wall, out),
            _ if stopping => out.push(Output::Driver(DriverCommand::Stop { alloc: id, stop })),
            _ => {}
        }
    }

    /// Puts our header into the next batch, unless this boot has said all that before.
    pub(crate) fn stage_header(&mut self) {
        let id = RecordId::header(self.me);
        let header: &NodeHeader = &self.config.header;
        if !self.has_said(&id, |said| said.header().is_some_and(|said| **said == *header)) {
            self.owned.staged.insert(id, Some(codec::encode(header)));
        }
        for (id, payload) in self.gossip.declaration() {
            if !self.has_said(&id, |said| said.payload() == Some(&payload)) {
                self.owned.staged.insert(id, Some(payload));
            }
        }
    }

    /// True if this boot has published a record, and that says what `is_same` looks for.
    fn has_said(&self, id: &RecordId, is_same: impl Fn(&Record) -> bool) -> bool {
        let is_ours = |said: &&Record| said.author().is_some_and(|a| a.generation == self.gossip.generation());
        self.gossip.state().value(id).filter(is_ours).is_some_and(is_same)
    }
}
