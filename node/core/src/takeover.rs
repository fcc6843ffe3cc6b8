//! What to claim, and what to give up: the decisions of this node, taken replica by replica.
//!
//! A replica is looked at when something about it changed, and again when its wait on the ladder is over. Only own claims
//! are ever written here; what others should do is theirs to decide, by the same rules.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::face::NoticeLevel;
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{
    AllocId, Allocation, NodeHeader, NodeOrders, Phase, Prefer, RefusalReason, ReplicaKey, ServiceSpec, Slot,
    TaintEffect, UpdateOrder,
};
use dunlin_gossip::time::{Duration, Instant, Wall};

use crate::allocation::{Claimed, Own, choose_ports, learn};
use crate::claim::{self, ClaimView};
use crate::engine::Node;
use crate::face::{EventKind, Outputs};
use crate::job;
use crate::place::{self, Candidate, Misfit, Room, Scene, Waiting, device};
use crate::preempt::{self, Making};
use crate::skip;
use crate::view::{InForce, held, offered};

/// Changed replicas that one call looks at.
const DIRTY_SLICE: usize = 1_024;
/// Pairs of replica and node that one plan weighs; tens of milliseconds.
const PLAN_PAIRS: usize = 4_000_000;
/// Replicas that one plan is about at least, however many nodes there are.
const PLAN_LEAST: usize = 256;
/// A replica whose claim could not be admitted is looked at again after this.
const RETRY: Duration = Duration::from_secs(1);

/// What to do with an own allocation.
pub(crate) enum Judgement {
    Keep,
    Stop(String),
    /// Give it up and claim the new revision here; it starts once the old one has ended.
    Replace(InForce),
}

impl Node {
    /// True if this node may take over replicas now.
    pub(crate) fn may_claim(&self, now: Instant) -> bool {
        self.start.may_claim(now) && !self.failed && self.leaving.is_none()
    }

    /// Looks at replicas about which something changed.
    pub(crate) fn examine_dirty(&mut self, now: Instant, wall: Wall, out: &mut Outputs) {
        if !self.start.is_adopted() {
            return;
        }
        for replica in self.schedule.take_dirty(DIRTY_SLICE) {
            out.cost += 1;
            for id in self.owned.of_replica(&replica) {
                self.judge(id, now, wall, out);
            }
            let force = self.due_force(&replica, now);
            if force.is_some_and(|force| self.lacks_owner(&replica, &force, now)) {
                self.schedule.unclaimed(&replica, now);
            } else {
                self.schedule.settled(&replica);
            }
        }
        for replica in self.schedule.turns.take_opened() {
            self.schedule.mark(replica);
        }
    }

    fn judge(&mut self, id: AllocId, now: Instant, wall: Wall, out: &mut Outputs) {
        match self.judgement(id, now) {
            Judgement::Keep => {}
            Judgement::Stop(why) => self.stop(id, &why, now, out),
            Judgement::Replace(force) => {
                let replica = self.owned.map.get(&id).map(|own| own.record.replica.clone());
                let replaced = replica.is_some_and(|replica| self.claim(&replica, &force, &[id], now, wall).is_some());
                let why =
                    if replaced { "makes way for the new revision" } else { "the new revision does not fit here" };
                self.stop(id, why, now, out);
            }
        }
    }

    fn judgement(&mut self, id: AllocId, now: Instant) -> Judgement {
        let Some(own) = self.owned.map.get(&id) else { return Judgement::Keep };
        let (record, replica) = (&own.record, &own.record.replica);
        let ended = matches!(record.phase, Phase::Exited | Phase::Failed);
        if record.phase == Phase::Stopping {
            return Judgement::Keep;
        }
        if let Some(leaving) = &self.leaving {
            return Judgement::Stop(leaving.reason().to_string());
        }
        let Some(force) = self.view.wanted(replica).cloned() else {
            // What is not understood here, or not here as a whole, is no reason to stop anything.
            let is_known = self.view.understands(&replica.service.stack);
            return if is_known { Judgement::Stop("no longer wanted".to_string()) } else { Judgement::Keep };
        };
        self.config.at_hand.take(force.record);
        skip::taste(&force.service, "act");
        if let Some(judgement) = self.judge_job(record, &force) {
            return judgement;
        }
        if ended && record.revision == force.revision {
            return Judgement::Keep;
        }
        if let Some(misfit) = self.cannot_stay(replica, judged_by(own, &force)) {
            return Judgement::Stop(misfit.to_string());
        }
        let is_drained = self.view.is_drained(self.me);
        if is_drained && let Judgement::Stop(why) = self.leave_judgement(record, &force) {
            return Judgement::Stop(why);
        }
        // A disk that is a little older than what peers know can bring two claims of our own.
        let standing = |(node, other, alloc): &(NodeId, AllocId, &Allocation)| {
            (*node, *other) != (self.me, id) && alloc.phase.is_live() && self.view.stands(*node)
        };
        let others = self.view.of_replica(replica).filter(standing);
        let live = planted(Bug::LiveHealthDecides);
        let once = |alloc: &Allocation| if live { alloc.ready } else { alloc.ready_once };
        let mine = ClaimView { epoch: record.epoch, node: self.me, ready_once: once(record) };
        let prefer = job::preferred(&force.service);
        let mut elsewhere = None;
        for (node, other_id, other) in others {
            let theirs = ClaimView { epoch: other.epoch, node, ready_once: once(other) };
            // Of two old revisions none is better: while their rollout waits, one of them runs.
            let both_old = other.revision != force.revision && record.revision != force.revision;
            let is_same = other.revision == record.revision || both_old;
            // Who is drained goes, and not who has it instead: `leave_judgement` says when.
            let is_rival = is_same && (self.view.is_drained(node) == is_drained || planted(Bug::DrainedStays));
            if is_rival && !own.is_to_relieve(node, other_id, now) && claim::should_yield(&mine, &theirs, prefer) {
                return Judgement::Stop(alloc::format!("{node:?} holds the claim that wins"));
            }
            if other.revision == force.revision && record.revision != force.revision {
                elsewhere = Some(other.ready || elsewhere == Some(true));
            }
        }
        if record.revision == force.revision || elsewhere == Some(true) || is_drained {
            return match elsewhere {
                Some(true) => Judgement::Stop("the new revision is ready elsewhere".to_string()),
                Some(false) | None => Judgement::Keep,
            };
        }
        let replica = replica.clone();
        let starts_first = self.view.update_policy(&replica.service).order == UpdateOrder::StartFirst;
        if !ended && (starts_first || !self.has_turn(&replica, &force, now)) {
            return Judgement::Keep;
        }
        match elsewhere {
            Some(_) => Judgement::Stop("the new revision is claimed elsewhere".to_string()),
            None => Judgement::Replace(force),
        }
    }

    /// A constraint that this node does not meet (any more), or a taint that ends what runs. Room, ports and drivers never do.
    fn cannot_stay(&self, replica: &ReplicaKey, spec: &ServiceSpec) -> Option<Misfit> {
        let taints = &spec.placing.tolerance.taints;
        let orders = self.view.orders_of(self.me);
        if let Some(taint) = orders.taint_against(taints, Some(TaintEffect::NoExecute)) {
            return Some(Misfit::Tainted(taint.to_string()));
        }
        let waiting = Waiting { replica, spec, refused_by: &[] };
        let header = self.view.nodes().get(&self.me).and_then(|known| known.header.as_deref());
        let free = alloc::collections::BTreeSet::new();
        let candidate = Candidate {
            node: self.me,
            header: header.unwrap_or(&self.config.header),
            room: Room::needed(spec),
            units: &[],
            taken: &free,
            services: &[],
            orders: NodeOrders::none(),
            hash: 0,
            weight: 1,
        };
        place::misfit(&waiting, &candidate)
            .filter(|misfit| matches!(misfit, Misfit::NotThisNode | Misfit::Constraint(_)))
    }

    /// Decides on replicas whose wait may be over.
    pub(crate) fn claim_due(&mut self, now: Instant, wall: Wall, out: &mut Outputs) {
        // A plan is about all that is due: nodes that cut one deploy into pieces have each seen other claims by the second
        // piece, and then each has a plan of its own.
        if !self.may_claim(now) || self.schedule.has_dirty() {
            return;
        }
        let slice = (PLAN_PAIRS / self.view.nodes().len().max(1)).max(PLAN_LEAST);
        let due = self.schedule.take_due(now, slice);
        if due.is_empty() {
            return;
        }
        let isolated = self.isolated_until(now);
        let hold = Some(isolated).filter(|at| *at > now);
        let mut open: Vec<(ReplicaKey, InForce, Vec<NodeId>)> = Vec::with_capacity(due.len());
        for replica in due {
            let force = self.due_force(&replica, now);
            match force.filter(|force| self.lacks_owner(&replica, force, now)) {
                None => self.schedule.settled(&replica),
                Some(_) if hold.is_some() && self.view.highest_epoch(&replica).is_some() => {
                    self.schedule.again(&replica, hold);
                }
                Some(force) => {
                    let refused = self.view.refused_by(&replica, force.revision, now);
                    open.push((replica, force, refused));
                }
            }
        }
        open.sort_by_cached_key(|entry| place::order_key(&waiting_of(entry)));
        let step = claim::step(self.gossip.spread_time());
        let (plan, preempting) = self.plan_open(&open, step, now, out);
        for (index, ((replica, force, refused), position)) in open.into_iter().zip(plan.places).enumerate() {
            let position = self.wave_place(&replica, &force, position);
            let refusal_ends = self.view.refusals(&replica).map(|(_, r)| r.until).filter(|at| *at > now).min();
            let next_look = [refusal_ends, self.hold_down.next_free(now)].into_iter().flatten().min();
            let had_owner = self.view.highest_epoch(&replica).is_some();
            let held = if had_owner { isolated } else { Instant::ZERO };
            let since = self.schedule.since(&replica).filter(|_| !planted(Bug::LadderRestarted));
            let since = since.unwrap_or(now).max(self.start.free_since()).max(held);
            match position.map(|p| since + claim::wait(p, step)) {
                Some(at) if at > now => self.schedule.again(&replica, Some(at)),
                Some(_) if force.service.spec.prefer == Prefer::Majority && !self.seeks_lease(&replica, now) => {
                    self.schedule.again(&replica, Some(now + RETRY));
                }
                Some(_) => {
                    if self.claim(&replica, &force, &[], now, wall).is_some() {
                        self.schedule.settled(&replica);
                    } else {
                        self.schedule.again(&replica, Some(now + RETRY));
                    }
                }
                None => {
                    let turn = preempting.get(&index).map(|making| match making {
                        Making::Place(place) => since + preempt::PATIENCE + claim::wait(*place, step),
                        Making::Unsettled => now + preempt::PATIENCE,
                    });
                    match turn {
                        Some(at) if at > now => self.schedule.again(&replica, Some(at)),
                        Some(_) if self.preempt(&replica, &force, &refused, now, wall, out) => {
                            self.schedule.settled(&replica);
                        }
                        Some(_) => self.schedule.again(&replica, Some(now + RETRY)),
                        None => self.schedule.again(&replica, next_look),
                    }
                }
            }
        }
    }

    /// This node's places on the ladders of replicas that wait for an owner, and what it may do about those that fit nowhere.
    fn plan_open(
        &self,
        open: &[(ReplicaKey, InForce, Vec<NodeId>)],
        step: Duration,
        now: Instant,
        out: &mut Outputs,
    ) -> (place::Plan, BTreeMap<usize, Making>) {
        let waiting: Vec<Waiting<'_>> = open.iter().map(waiting_of).collect();
        let candidates = self.view.candidates();
        out.cost += (waiting.len() * candidates.len()) as u64 / 50 + 1;
        let since = |index: usize| open.get(index).and_then(|(replica, ..)| self.schedule.since(replica));
        let old = |index| since(index).is_some_and(|since| since + claim::wait(place::K, step) <= now);
        let held = self.hold_down.held(now);
        let mix = self.view.mix();
        let scene = Scene { nodes: &candidates, mix: &mix };
        let plan = place::plan_without(self.me, &waiting, scene, &held, old);
        let preempting = self.preempting(&waiting, &plan.nowhere, scene);
        (plan, preempting)
    }

    /// Claims a replica, if it fits; it starts once the claim is on disk. `after` are the allocations whose room it
    /// gets. The claim.
    pub(crate) fn claim(
        &mut self,
        replica: &ReplicaKey,
        force: &InForce,
        after: &[AllocId],
        now: Instant,
        wall: Wall,
    ) -> Option<AllocId> {
        self.config.at_hand.take(force.record);
        skip::taste(&force.service, "act");
        let spec = &force.service.spec;
        let replaced = || after.iter().filter_map(|id| self.view.allocation(self.me, *id));
        let freed = replaced().fold(Room::default(), |sum, alloc| sum.plus(&held(alloc)));
        let mine = self.view.nodes().get(&self.me);
        let reserved = mine.map_or_else(Room::default, |n| n.reserved).minus(&freed);
        if !offered(&self.config.header).holds(&reserved.plus(&Room::needed(spec))) {
            return None;
        }
        let mut units = mine.map(|n| n.units().to_vec()).unwrap_or_default();
        replaced().filter_map(|a| a.held.as_ref()).for_each(|held| device::give(&mut units, &held.devices));
        let devices = device::choose(&spec.placing.devices, &self.config.header.supply, &units)?;
        let others = self.owned.map.iter().filter(|(id, own)| !after.contains(id) && own.holds());
        let held = others.flat_map(|(_, own)| own.record.ports.iter().map(|p| (p.protocol, p.outer))).collect();
        let (range, avoid) = (&self.config.port_range, alloc::collections::BTreeSet::new());
        let ports: Result<_, RefusalReason> =
            choose_ports((&spec.ports, spec.demand()), replica, self.me, range, &held, &avoid);
        let ports = ports.ok()?;
        let hlc = self.gossip.state().clock().max(Hlc::from_wall(wall));
        let epoch = claim::next_epoch(hlc, self.view.highest_epoch(replica));
        let epoch = self.leased_epoch(replica, spec.prefer, epoch)?;
        let left = offered(&self.config.header).minus(&reserved).base;
        let (id, mut record) = claim::first(self.me, replica, force, ports, devices, epoch, wall);
        record.reservation = learn::first(&self.view, &replica.service, spec, left);
        let claimed = if planted(Bug::StartedBeforeDisk) { Claimed::Durable } else { Claimed::Staged };
        let mut own = Own::new(record, Some(Arc::clone(&force.service)), claimed, now);
        own.after = after.iter().copied().filter(|id| self.owned.map.contains_key(id)).collect();
        self.view.set_allocation(self.me, id, Some(Arc::new(own.record.clone())));
        self.owned.map.insert(id, own);
        self.stage_own(id);
        if matches!(replica.slot, Slot::Run(..)) {
            self.crons.look(&replica.service);
        }
        self.log.replica(
            NoticeLevel::Info,
            EventKind::Claim,
            self.me,
            replica,
            alloc::format!("claimed, epoch {}", epoch.0),
        );
        Some(id)
    }

    /// What the host is or can changed.
    pub(crate) fn on_host(&mut self, header: NodeHeader, now: Instant) {
        let adopted = core::mem::take(&mut self.config.header.adopted);
        let mut header = NodeHeader { adopted, ..header };
        header.supply.came = self.config.header.supply.came;
        if header == self.config.header {
            self.config.header = header;
            return;
        }
        self.config.header = header;
        self.view.set_header(self.me, Some(Arc::new(self.config.header.clone())));
        if self.start.is_adopted() {
            self.stage_header();
        }
        self.names.node(self.me);
        self.mark_all_own();
        self.schedule.sweep(now);
    }

    /// Stops what no longer fits, the least important and the youngest first. Only a node that shrank has such.
    pub(crate) fn shed(&mut self, now: Instant, out: &mut Outputs) {
        let gives = offered(&self.config.header);
        self.give_back(now);
        loop {
            let running = self.owned.map.iter().filter(|(_, own)| own.may_run() && own.record.phase != Phase::Stopping);
            let sum = running.clone().fold(Room::default(), |sum, (_, own)| sum.plus(&held(&own.record)));
            if gives.holds(&sum) {
                return;
            }
            let key = |own: &Own| (own.spec().map_or(i32::MIN, |s| s.priority), core::cmp::Reverse(own.record.epoch));
            let Some(id) = running.min_by_key(|(_, own)| key(own)).map(|(id, _)| *id) else { return };
            self.stop(id, "the node has less to give than before", now, out);
        }
    }
}

/// By whose constraints an own allocation may stay. An old revision stays where it may by its own until its turn has come: a
/// slip in a constraint of the new one must not stop all of them at once. A slot that is its node's own has no turn where the
/// new one cannot be.
fn judged_by<'a>(own: &'a Own, force: &'a InForce) -> &'a ServiceSpec {
    let is_old = own.record.revision != force.revision && !matches!(own.record.replica.slot, Slot::Node(_));
    own.spec().filter(|_| is_old).unwrap_or(&force.service.spec)
}

fn waiting_of<'a>(entry: &'a (ReplicaKey, InForce, Vec<NodeId>)) -> Waiting<'a> {
    Waiting { replica: &entry.0, spec: &entry.1.service.spec, refused_by: &entry.2 }
}

impl Own {
    /// True while its ports and room are its own.
    fn holds(&self) -> bool {
        !matches!(self.record.phase, Phase::Exited | Phase::Failed)
    }
}
