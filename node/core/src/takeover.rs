//! What to claim, and what to give up: the decisions of this node, taken replica by replica.
//!
//! A replica is looked at when something about it changed, and again when its wait on the ladder is over. Only own claims
//! are ever written here; what others should do is theirs to decide, by the same rules.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::face::NoticeLevel;
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::model::{AllocId, Allocation, NodeHeader, Phase, Prefer, RefusalReason, ReplicaKey};
use dunlin_gossip::time::{Duration, Instant, Wall};

use crate::allocation::{Claimed, Own, choose_ports};
use crate::claim::{self, ClaimView};
use crate::engine::Node;
use crate::face::{EventKind, Outputs};
use crate::place::{self, Candidate, Misfit, Room, Scene, Waiting, device};
use crate::rollout;
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
enum Judgement {
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
            let unclaimed = self.view.wanted(&replica).is_some_and(|f| !self.view.is_taken(&replica, f.revision));
            if unclaimed {
                self.schedule.unclaimed(&replica, now);
            } else {
                self.schedule.settled(&replica);
            }
        }
    }

    fn judge(&mut self, id: AllocId, now: Instant, wall: Wall, out: &mut Outputs) {
        match self.judgement(id) {
            Judgement::Keep => {}
            Judgement::Stop(why) => self.stop(id, &why, now, out),
            Judgement::Replace(force) => {
                let replica = self.owned.map.get(&id).map(|own| own.record.replica.clone());
                let replaced = replica.is_some_and(|replica| self.claim(&replica, &force, Some(id), now, wall));
                let why =
                    if replaced { "makes way for the new revision" } else { "the new revision does not fit here" };
                self.stop(id, why, now, out);
            }
        }
    }

    fn judgement(&mut self, id: AllocId) -> Judgement {
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
        if ended && record.revision == force.revision {
            return Judgement::Keep;
        }
        if let Some(misfit) = self.cannot_stay(replica, &force) {
            return Judgement::Stop(misfit.to_string());
        }
        // A disk that is a little older than what peers know can bring two claims of our own.
        let standing = |(node, other, alloc): &(dunlin_gossip::id::NodeId, AllocId, &Allocation)| {
            (*node, *other) != (self.me, id) && alloc.phase.is_live() && self.view.stands(*node)
        };
        let others = self.view.of_replica(replica).filter(standing).map(|(node, _, alloc)| (node, alloc));
        let live = planted(Bug::LiveHealthDecides);
        let once = |alloc: &Allocation| if live { alloc.ready } else { alloc.ready_once };
        let mine = ClaimView { epoch: record.epoch, node: self.me, ready_once: once(record) };
        let prefer: Prefer = force.service.spec.prefer;
        let mut elsewhere = None;
        for (node, other) in others {
            let theirs = ClaimView { epoch: other.epoch, node, ready_once: once(other) };
            if other.revision == record.revision && claim::should_yield(&mine, &theirs, prefer) {
                return Judgement::Stop(alloc::format!("{node:?} holds the claim that wins"));
            }
            if other.revision == force.revision && record.revision != force.revision {
                elsewhere = Some(other.ready || elsewhere == Some(true));
            }
        }
        if record.revision == force.revision || elsewhere == Some(true) {
            return match elsewhere {
                Some(true) => Judgement::Stop("the new revision is ready elsewhere".to_string()),
                Some(false) | None => Judgement::Keep,
            };
        }
        let replica = replica.clone();
        if !ended && !rollout::is_turn(&self.view, &mut self.schedule.fronts, &replica, force.revision) {
            return Judgement::Keep;
        }
        match elsewhere {
            Some(_) => Judgement::Stop("the new revision is claimed elsewhere".to_string()),
            None => Judgement::Replace(force),
        }
    }

    /// A constraint that this node does not meet (any more). Room, ports and drivers never end what runs.
    fn cannot_stay(&self, replica: &ReplicaKey, force: &InForce) -> Option<Misfit> {
        let waiting = Waiting { replica, spec: &force.service.spec, refused_by: &[] };
        let free = alloc::collections::BTreeSet::new();
        let candidate = Candidate {
            node: self.me,
            header: &self.config.header,
            room: Room::needed(&force.service.spec),
            units: &[],
            taken: &free,
            services: &[],
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
        let mut open: Vec<(ReplicaKey, InForce, Vec<dunlin_gossip::id::NodeId>)> = Vec::with_capacity(due.len());
        for replica in due {
            let force = self.view.wanted(&replica).filter(|f| !self.view.is_taken(&replica, f.revision)).cloned();
            match force {
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
        let positions = {
            let waiting: Vec<Waiting<'_>> = open.iter().map(waiting_of).collect();
            let candidates = self.view.candidates();
            out.cost += (waiting.len() * candidates.len()) as u64 / 50 + 1;
            let since = |index: usize| open.get(index).and_then(|(replica, ..)| self.schedule.since(replica));
            let old = |index| since(index).is_some_and(|since| since + claim::wait(place::K, step) <= now);
            let held = self.hold_down.held(now);
            place::plan_without(self.me, &waiting, Scene { nodes: &candidates, mix: &self.view.mix() }, &held, old)
        };
        for ((replica, force, _), position) in open.into_iter().zip(positions) {
            let refusal_ends = self.view.refusals(&replica).map(|(_, r)| r.until).filter(|at| *at > now).min();
            let next_look = [refusal_ends, self.hold_down.next_free(now)].into_iter().flatten().min();
            let had_owner = self.view.highest_epoch(&replica).is_some();
            let held = if had_owner { isolated } else { Instant::ZERO };
            let since = self
                .schedule
                .since(&replica)
                .filter(|_| !planted(Bug::LadderRestarted))
                .unwrap_or(now)
                .max(self.start.free_since())
                .max(held);
            match position.map(|p| since + claim::wait(p, step)) {
                Some(at) if at > now => self.schedule.again(&replica, Some(at)),
                Some(_) => {
                    if self.claim(&replica, &force, None, now, wall) {
                        self.schedule.settled(&replica);
                    } else {
                        self.schedule.again(&replica, Some(now + RETRY));
                    }
                }
                None => self.schedule.again(&replica, next_look),
            }
        }
    }

    /// Claims a replica, if it fits; it starts once the claim is on disk. `after` is the allocation that it replaces.
    fn claim(
        &mut self,
        replica: &ReplicaKey,
        force: &InForce,
        after: Option<AllocId>,
        now: Instant,
        wall: Wall,
    ) -> bool {
        self.config.at_hand.take(force.record);
        skip::taste(&force.service, "act");
        let spec = &force.service.spec;
        let replaced = after.and_then(|id| self.view.allocation(self.me, id));
        let freed = replaced.map_or_else(Room::default, held);
        let mine = self.view.nodes().get(&self.me);
        let reserved = mine.map_or_else(Room::default, |n| n.reserved).minus(&freed);
        if !offered(&self.config.header).holds(&reserved.plus(&Room::needed(spec))) {
            return false;
        }
        let mut units = mine.map(|n| n.units().to_vec()).unwrap_or_default();
        device::give(&mut units, replaced.and_then(|a| a.held.as_ref()).map_or(&[], |held| &held.devices));
        let Some(devices) = device::choose(&spec.placing.devices, &self.config.header.supply, &units) else {
            return false;
        };
        let others = self.owned.map.iter().filter(|(id, own)| Some(**id) != after && own.holds());
        let held = others.flat_map(|(_, own)| own.record.ports.iter().map(|p| (p.protocol, p.outer))).collect();
        let (range, avoid) = (&self.config.port_range, alloc::collections::BTreeSet::new());
        let ports: Result<_, RefusalReason> = choose_ports(&spec.ports, replica, self.me, range, &held, &avoid);
        let Ok(ports) = ports else { return false };
        let hlc = self.gossip.state().clock().max(Hlc::from_wall(wall));
        let epoch = claim::next_epoch(hlc, self.view.highest_epoch(replica));
        let (id, record) = claim::first(self.me, replica, force, ports, devices, epoch, wall);
        let claimed = if planted(Bug::StartedBeforeDisk) { Claimed::Durable } else { Claimed::Staged };
        let mut own = Own::new(record, Some(Arc::clone(&force.service)), claimed, now);
        own.after = after;
        self.view.set_allocation(self.me, id, Some(Arc::new(own.record.clone())));
        self.owned.map.insert(id, own);
        self.stage_own(id);
        self.log.replica(
            NoticeLevel::Info,
            EventKind::Claim,
            self.me,
            replica,
            alloc::format!("claimed, epoch {}", epoch.0),
        );
        true
    }

    /// What the host is or can changed.
    pub(crate) fn on_host(&mut self, header: NodeHeader, now: Instant) {
        let adopted = core::mem::take(&mut self.config.header.adopted);
        let header = NodeHeader { adopted, ..header };
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

fn waiting_of<'a>(entry: &'a (ReplicaKey, InForce, Vec<dunlin_gossip::id::NodeId>)) -> Waiting<'a> {
    Waiting { replica: &entry.0, spec: &entry.1.service.spec, refused_by: &entry.2 }
}

impl Own {
    /// True while its ports and room are its own.
    fn holds(&self) -> bool {
        !matches!(self.record.phase, Phase::Exited | Phase::Failed)
    }
}
