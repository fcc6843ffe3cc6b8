//! The typed world: what records say, decoded once, kept up to date change by change, read-only to everybody outside.
//!
//! Only meaning lives here, no decision. A record that cannot be decoded leaves the world as it was; the engine tells.
//! What a stack's manifest names takes force only once every named service is held with its stamp or a later one.

mod apply;
mod cron;
mod job;
mod node;
mod orders;
mod rollout;
mod wave;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::face::MemberState;
use dunlin_gossip::hash::hash64;
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{
    AllocId, Allocation, Epoch, Mode, NodeOrders, RefusalReason, ReplicaKey, RevisionId, Service, ServiceKey,
    ServiceName, Slot, StackManifest, StackName, Token, TokenId,
};
use dunlin_gossip::paged::Paged;
use dunlin_gossip::time::Instant;
use dunlin_gossip::wire::{RecordId, codec};

pub use job::Tally;
pub use node::{NodeView, held, offered};

pub(crate) use apply::{Change, ServiceChange, manifests};
pub(crate) use orders::Custody;

use self::rollout::Rollouts;
use crate::face::NodeConfig;
use crate::place::{Candidate, Mix, rank};
use crate::skip::{AtHand, Skip};

/// A service as it should be now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InForce {
    /// How many of what.
    pub service: Arc<Service>,
    /// The hash of its specification.
    pub revision: RevisionId,
    /// The stamp of the record.
    pub hlc: Hlc,
    /// The record's hash.
    pub record: u64,
}

/// A refusal, with its end on our own clock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefusalView {
    /// Which revision is refused.
    pub revision: RevisionId,
    /// Why.
    pub reason: RefusalReason,
    /// Until when.
    pub until: Instant,
}

#[derive(Clone, Debug)]
struct Register {
    hlc: Hlc,
    value: Option<Arc<Service>>,
    revision: RevisionId,
    record: u64,
}

/// An allocation of a replica: whose, and what it is.
type Claim = (NodeId, AllocId, Arc<Allocation>);

/// Everything that a node knows, typed.
#[derive(Clone, Debug)]
pub struct View {
    me: NodeId,
    /// True during the first seconds of a boot, in which a node that was not heard yet is not taken for down.
    pub(crate) grace: bool,
    stacks: BTreeMap<StackName, (Hlc, StackManifest)>,
    /// What only some of the manifests name that were written at the same time: in force once it is held.
    added: BTreeMap<StackName, BTreeMap<ServiceName, Hlc>>,
    registers: BTreeMap<ServiceKey, Register>,
    waves: wave::Waves,
    services: BTreeMap<ServiceKey, InForce>,
    nodes: Paged<NodeId, Arc<NodeView>>,
    /// By service, so that a replica is found by its slot rather than by comparing names at every step.
    replicas: BTreeMap<ServiceKey, Paged<Slot, Vec<Claim>>>,
    refusals: BTreeMap<ReplicaKey, BTreeMap<NodeId, RefusalView>>,
    rollouts: Rollouts,
    ledgers: job::Ledgers,
    crons: cron::Crons,
    tokens: BTreeMap<TokenId, Token>,
    /// Of nodes of which anything is ordered.
    orders: BTreeMap<NodeId, Arc<NodeOrders>>,
    /// Those of them that are drained.
    drained: BTreeSet<NodeId>,
    stamps: BTreeSet<Hlc>,
    pub(crate) skip: Skip,
    at_hand: AtHand,
}

impl View {
    pub(crate) fn new(me: NodeId) -> Self {
        let mut view = Self::empty(me);
        view.set_member(me, MemberState::Alive);
        view
    }

    /// A world without anybody.
    pub(crate) fn empty(me: NodeId) -> Self {
        Self {
            me,
            grace: true,
            stacks: BTreeMap::new(),
            added: BTreeMap::new(),
            registers: BTreeMap::new(),
            waves: wave::Waves::default(),
            services: BTreeMap::new(),
            nodes: Paged::new(),
            replicas: BTreeMap::new(),
            refusals: BTreeMap::new(),
            rollouts: Rollouts::default(),
            ledgers: job::Ledgers::default(),
            crons: cron::Crons::default(),
            tokens: BTreeMap::new(),
            orders: BTreeMap::new(),
            drained: BTreeSet::new(),
            stamps: BTreeSet::new(),
            skip: Skip::default(),
            at_hand: AtHand::default(),
        }
    }

    /// The same, leaving records out, and telling its shell which one is at hand.
    pub(crate) fn guarded(self, config: &NodeConfig) -> Self {
        Self { skip: Skip::new(config.skip.clone()), at_hand: config.at_hand.clone(), ..self }
    }

    /// The same world as another node sees it at its boot: what it claims itself it does not take from records.
    pub(crate) fn seen_by(&self, me: NodeId) -> Self {
        let mut view = Self { me, ..self.clone() };
        view.set_member(me, MemberState::Alive);
        let own: Vec<AllocId> = view.nodes.get(&me).into_iter().flat_map(|n| n.allocations.keys().copied()).collect();
        own.into_iter().for_each(|id| drop(view.set_allocation(me, id, None)));
        let waves: Vec<StackName> = view.waves().map(|(stack, _)| stack.clone()).collect();
        waves.iter().for_each(|stack| drop(view.settle(stack)));
        view
    }

    /// This node.
    #[must_use]
    pub const fn me(&self) -> NodeId {
        self.me
    }

    /// Services in force, in order.
    #[must_use]
    pub const fn services(&self) -> &BTreeMap<ServiceKey, InForce> {
        &self.services
    }

    /// Stacks, in order, each with the stamp of its manifest in force.
    #[must_use]
    pub const fn stacks(&self) -> &BTreeMap<StackName, (Hlc, StackManifest)> {
        &self.stacks
    }

    /// Every node of which anything is known.
    #[must_use]
    pub const fn nodes(&self) -> &Paged<NodeId, Arc<NodeView>> {
        &self.nodes
    }

    /// Tokens that were not removed.
    #[must_use]
    pub const fn tokens(&self) -> &BTreeMap<TokenId, Token> {
        &self.tokens
    }

    /// Refusals of a replica, by node.
    pub fn refusals(&self, replica: &ReplicaKey) -> impl Iterator<Item = (NodeId, &RefusalView)> {
        self.refusals.get(replica).into_iter().flatten().map(|(node, refusal)| (*node, refusal))
    }

    /// All allocations of a replica, wherever, in whatever phase.
    pub fn of_replica<'a>(&'a self, replica: &ReplicaKey) -> impl Iterator<Item = (NodeId, AllocId, &'a Allocation)> {
        let of_service = self.replicas.get(&replica.service);
        let claims = of_service.and_then(|slots| slots.get(&replica.slot)).map(Vec::as_slice).unwrap_or_default();
        claims.iter().map(|(node, id, alloc)| (*node, *id, &**alloc))
    }

    /// All allocations of a service, in slot order.
    pub fn of_service<'a>(
        &'a self,
        service: &ServiceKey,
    ) -> impl Iterator<Item = (NodeId, AllocId, &'a Allocation)> + use<'a> {
        let claims = self.replicas.get(service).into_iter().flat_map(Paged::values).flatten();
        claims.map(|(node, id, alloc)| (*node, *id, &**alloc))
    }

    /// One allocation.
    #[must_use]
    pub fn allocation(&self, node: NodeId, id: AllocId) -> Option<&Allocation> {
        self.nodes.get(&node)?.allocations.get(&id).map(|alloc| &**alloc)
    }

    /// The service of a replica, if that replica should exist now.
    #[must_use]
    pub fn wanted(&self, replica: &ReplicaKey) -> Option<&InForce> {
        let force = self.services.get(&replica.service)?;
        let mode = match force.service.mode {
            Mode::Replicated(n) if planted(Bug::ScaleDownLeavesOne) => Mode::Replicated(n + 1),
            mode => mode,
        };
        mode.has(replica.slot).then_some(force)
    }

    /// True if the claims of a node stand: it is not down, or it is too early after our boot to say.
    #[must_use]
    pub fn stands(&self, node: NodeId) -> bool {
        match self.nodes.get(&node).and_then(|n| n.state) {
            Some(MemberState::Alive | MemberState::Suspect) => true,
            Some(MemberState::Down) if planted(Bug::DownOwnerKept) => true,
            Some(MemberState::Down | MemberState::Left) => false,
            None => self.grace,
        }
    }

    /// True if somebody takes care of a replica: a live claim, or an end that is final at the wanted revision.
    #[must_use]
    pub fn is_taken(&self, replica: &ReplicaKey, revision: RevisionId) -> bool {
        self.is_finished(replica, revision)
            || self.of_replica(replica).any(|(node, _, alloc)| self.takes_care(node, alloc, revision))
    }

    fn takes_care(&self, node: NodeId, alloc: &Allocation, revision: RevisionId) -> bool {
        let has_ended = || !alloc.holds_room() && alloc.revision == revision && self.is_of_this_run(alloc);
        (alloc.phase.is_live() && self.stands(node)) || has_ended()
    }

    /// True if nobody takes care of a replica at this revision.
    pub(crate) fn is_superseded(&self, replica: &ReplicaKey, revision: RevisionId) -> bool {
        let mut new = self.of_replica(replica).filter(|(_, _, alloc)| alloc.revision == revision);
        !new.any(|(node, _, alloc)| self.takes_care(node, alloc, revision))
    }

    /// The wanted replicas (of a global service: ours) of which nobody takes care, or only who shall be emptied.
    pub(crate) fn untaken(&self) -> Vec<ReplicaKey> {
        let mut untaken = self.leaving();
        let all_stand = self.nodes.keys().all(|node| self.stands(*node));
        for (service, force) in &self.services {
            let slots = self.untaken_of(service, force, all_stand).into_iter();
            untaken.extend(slots.map(|slot| ReplicaKey { service: service.clone(), slot }));
        }
        untaken
    }

    fn untaken_of(&self, service: &ServiceKey, force: &InForce, all_stand: bool) -> Vec<Slot> {
        let slots = self.replicas.get(service).into_iter().flatten();
        let is_taken = |claims: &[Claim]| {
            claims.iter().any(|(node, _, alloc)| {
                (all_stand && alloc.phase.is_live()) || self.takes_care(*node, alloc, force.revision)
            })
        };
        let mut taken = slots.filter(|(_, claims)| is_taken(claims)).map(|(slot, _)| *slot).peekable();
        let mut is_untaken = |slot: &Slot| {
            while taken.next_if(|other| other < slot).is_some() {}
            taken.peek() != Some(slot)
        };
        match force.service.mode {
            Mode::Replicated(n) => (1..=n).map(Slot::Number).filter(|slot| is_untaken(slot)).collect(),
            Mode::Job(_) => {
                let is_open = |slot: &Slot| self.opens(&ReplicaKey { service: service.clone(), slot: *slot }, force);
                let slots = (1..=self.last_open(service, force)).map(Slot::Number);
                slots.filter(|slot| is_untaken(slot) && is_open(slot)).collect()
            }
            Mode::Cron(_) => {
                let is_open = |slot: &Slot| self.opens(&ReplicaKey { service: service.clone(), slot: *slot }, force);
                self.open_runs(service).filter(|slot| is_untaken(slot) && is_open(slot)).collect()
            }
            Mode::Global | Mode::GlobalJob(_) => {
                let own = ReplicaKey { service: service.clone(), slot: Slot::Node(self.me) };
                let is_open = is_untaken(&own.slot) && self.opens(&own, force);
                is_open.then_some(own.slot).into_iter().collect()
            }
        }
    }

    /// The highest epoch known of a replica.
    #[must_use]
    pub fn highest_epoch(&self, replica: &ReplicaKey) -> Option<Epoch> {
        self.of_replica(replica).map(|(_, _, alloc)| alloc.epoch).max()
    }

    /// Who refuses a revision of a replica now.
    #[must_use]
    pub fn refused_by(&self, replica: &ReplicaKey, revision: RevisionId, now: Instant) -> Vec<NodeId> {
        let refusals = self.refusals.get(replica).into_iter().flatten();
        refusals
            .filter(|(_, r)| r.revision == revision && (r.until > now || planted(Bug::RefusalNeverEnds)))
            .map(|(node, _)| *node)
            .collect()
    }

    /// The nodes that placement may choose from: alive, with a header.
    #[must_use]
    pub fn candidates(&self) -> Vec<Candidate<'_>> {
        let alive = self.nodes.iter().filter(|(_, n)| n.state == Some(MemberState::Alive));
        alive
            .filter_map(|(node, n)| {
                Some(Candidate {
                    node: *node,
                    header: n.header.as_deref()?,
                    room: n.room(),
                    units: &n.units,
                    taken: &n.taken,
                    // What leaves a node is no company any more.
                    services: if self.is_drained(*node) { &[] } else { &n.services },
                    orders: self.orders_of(*node),
                    hash: n.hash,
                    weight: n.weight,
                })
            })
            .collect()
    }

    /// What is usually asked of nodes that have devices; nothing where there are none.
    #[must_use]
    pub fn mix(&self) -> Mix {
        if self.nodes.values().all(|node| node.units.is_empty()) {
            return Mix::default();
        }
        let alive = self.nodes.len();
        let times = |mode: Mode| mode.count().map_or(alive as u64, u64::from);
        Mix::of(self.services.values().map(|force| (&force.service.spec, times(force.service.mode))))
    }

    /// True if a write with this stamp was seen here, and no batch of that stamp is still incomplete.
    #[must_use]
    pub fn holds(&self, hlc: Hlc) -> bool {
        self.stamps.contains(&hlc)
            && !self.misses_staged(hlc)
            && !self.stacks.iter().any(|(stack, (at, manifest))| *at == hlc && !self.is_complete(stack, manifest))
    }

    /// True unless part of a stack's last deploy has not arrived here yet.
    #[must_use]
    pub fn is_whole(&self, stack: &StackName) -> bool {
        self.stacks.get(stack).is_none_or(|(_, manifest)| self.is_complete(stack, manifest))
    }

    /// Supposes that a service should be so, or should not be at all: for questions, never for what is done.
    pub(crate) fn suppose(&mut self, key: &ServiceKey, service: Option<Service>) {
        match service {
            None => drop(self.services.remove(key)),
            Some(service) => {
                let revision = RevisionId(hash64(&codec::encode(&service.spec)));
                let force = InForce { service: Arc::new(service), revision, hlc: Hlc::default(), record: 0 };
                self.services.insert(key.clone(), force);
            }
        }
    }

    /// True if all that was deployed of a stack is understood here. What is not must not stop what runs.
    #[must_use]
    pub fn understands(&self, stack: &StackName) -> bool {
        self.is_whole(stack) && !self.skip.registers.contains(&RecordId::stack(stack))
    }

    /// Registers whose meaning is left out here, since a handler panicked over it.
    pub fn left_out(&self) -> impl Iterator<Item = &RecordId> {
        self.skip.registers.iter()
    }

    /// Remembers what membership says of a node; true if that is new.
    pub(crate) fn set_member(&mut self, node: NodeId, state: MemberState) -> bool {
        let new = self.nodes.get(&node).and_then(|view| view.state) != Some(state);
        if new {
            self.node_mut(node).state = Some(state);
        }
        new
    }

    /// Sets or removes an allocation; what it was.
    pub(crate) fn set_allocation(
        &mut self,
        node: NodeId,
        id: AllocId,
        alloc: Option<Arc<Allocation>>,
    ) -> Option<Arc<Allocation>> {
        let view = self.node_mut(node);
        let before = match &alloc {
            Some(alloc) => view.allocations.insert(id, Arc::clone(alloc)),
            None => view.allocations.remove(&id),
        };
        let counts = |a: &Arc<Allocation>| (a.holds_room(), a.phase.is_live(), a.reservation, a.held.clone());
        let same = match (&before, &alloc) {
            (Some(old), Some(new)) => {
                counts(old) == counts(new) && old.ports == new.ports && old.replica == new.replica
            }
            (None, None) => true,
            (None, Some(_)) | (Some(_), None) => false,
        };
        if !same {
            view.sum_up();
        }
        if let Some(old) = &before
            && alloc.as_ref().is_none_or(|new| new.replica != old.replica)
        {
            self.drop_claim(node, id, &old.replica);
        }
        if let Some(new) = alloc {
            self.put_claim(node, id, new);
        }
        before
    }

    fn drop_claim(&mut self, node: NodeId, id: AllocId, replica: &ReplicaKey) {
        let Some(slots) = self.replicas.get_mut(&replica.service) else { return };
        let Some(claims) = slots.get_mut(&replica.slot) else { return };
        claims.retain(|(owner, other, _)| (*owner, *other) != (node, id));
        if claims.is_empty() {
            slots.remove(&replica.slot);
        }
        if slots.is_empty() {
            self.replicas.remove(&replica.service);
        }
    }

    fn put_claim(&mut self, node: NodeId, id: AllocId, alloc: Arc<Allocation>) {
        let replica = &alloc.replica;
        if !self.replicas.contains_key(&replica.service) {
            self.replicas.insert(replica.service.clone(), Paged::new());
        }
        let Some(slots) = self.replicas.get_mut(&replica.service) else { return };
        let claims = slots.get_or_insert_with(replica.slot, Vec::new);
        match claims.binary_search_by_key(&(node, id), |(node, id, _)| (*node, *id)) {
            Ok(at) => {
                if let Some(claim) = claims.get_mut(at) {
                    claim.2 = alloc;
                }
            }
            Err(at) => {
                claims.reserve_exact(1);
                claims.insert(at, (node, id, alloc));
            }
        }
    }

    /// The same replica under the name by which the rest of the view knows its service: copies of one name share their
    /// text, and are told apart without reading it.
    pub(crate) fn shared(&self, replica: &ReplicaKey) -> ReplicaKey {
        let known = self.services.get_key_value(&replica.service).map_or(&replica.service, |(known, _)| known);
        ReplicaKey { service: known.clone(), slot: replica.slot }
    }

    /// Forgets a node that left, of which nothing is held any more.
    pub(super) fn drop_if_gone(&mut self, node: NodeId) {
        let is_gone = |view: &Arc<NodeView>| {
            view.state == Some(MemberState::Left) && view.header.is_none() && view.allocations.is_empty()
        };
        if self.nodes.get(&node).is_some_and(is_gone) {
            self.nodes.remove(&node);
        }
    }

    /// Sets or removes a refusal.
    pub(crate) fn set_refusal(&mut self, node: NodeId, replica: &ReplicaKey, refusal: Option<RefusalView>) {
        match refusal {
            Some(refusal) => {
                self.refusals.entry(replica.clone()).or_default().insert(node, refusal);
            }
            None => {
                if let Some(by) = self.refusals.get_mut(replica) {
                    by.remove(&node);
                    if by.is_empty() {
                        self.refusals.remove(replica);
                    }
                }
            }
        }
    }

    fn node_mut(&mut self, node: NodeId) -> &mut NodeView {
        Arc::make_mut(self.nodes.get_or_insert_with(node, || Arc::new(NodeView::new(node))))
    }
}
