//! From a changed register to a changed world, and to what exactly changed in it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use dunlin_gossip::hash::hash64;
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{
    Allocation, Refusal, ReplicaKey, RevisionId, Service, ServiceKey, ServiceName, StackManifest, StackName, Token,
    TokenId,
};
use dunlin_gossip::state::State;
use dunlin_gossip::time::{Duration, Instant, Wall};
use dunlin_gossip::wire::{Class, Kind, Record, RecordId, codec};

use super::{InForce, RefusalView, Register, View};
use crate::single::merged;
use crate::{claim, skip};

/// Stamps remembered for readers of their own writes.
const MAX_STAMPS: usize = 4_096;

/// A service that came into force, changed, or went.
#[derive(Clone, Debug)]
pub(crate) struct ServiceChange {
    pub(crate) service: ServiceKey,
    pub(crate) before: Option<InForce>,
}

/// What a record changed in the world.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Nothing that means anything here.
    Nothing,
    /// Services in force changed.
    Services(Vec<ServiceChange>),
    /// Something of a service's rollout changed, and with it perhaps what is in force.
    Rollout {
        /// Whose.
        service: ServiceKey,
        /// What came into force, changed or went.
        services: Vec<ServiceChange>,
    },
    /// An allocation of another node changed.
    Allocation {
        /// Whose.
        node: NodeId,
        /// What it was.
        before: Option<Arc<Allocation>>,
        /// What it is.
        after: Option<Arc<Allocation>>,
    },
    /// A node's header came, changed or went.
    Header(NodeId),
    /// Somebody refuses a replica, or no longer.
    Refusal(ReplicaKey),
    /// A slot of a job is finished, or that is no longer held.
    Finish(ReplicaKey),
    /// A stack's wave began, or a node said something of it.
    Wave(StackName, Option<NodeId>),
    /// A token came or went.
    Token(TokenId),
    /// Something else is ordered of a node.
    Orders(NodeId),
    /// The record's meaning could not be read.
    Unreadable,
    /// The record's meaning is left out.
    LeftOut,
}

/// The revision of a specification: the hash of its bytes as its author wrote them, which follow the mode. Fields that this
/// version does not know are part of it, so that all nodes name a revision alike.
pub(super) fn revision(record: &Record, service: &Service) -> RevisionId {
    let mode = codec::encode(&service.mode).len();
    RevisionId(hash64(record.payload().and_then(|payload| payload.get(mode..)).unwrap_or_default()))
}

impl View {
    /// Everything that a state holds, at boot. Returns the records whose meaning could not be read.
    pub(crate) fn load(&mut self, state: &State, now: Instant, wall: Wall) -> Vec<RecordId> {
        let kinds = [
            // First, so that nothing is in force for a moment that failed long ago.
            (Class::ManyWriters, Kind::REVISION),
            (Class::ManyWriters, Kind::FAILURE),
            (Class::ManyWriters, Kind::FINISH),
            (Class::ManyWriters, Kind::ROLLOUT),
            (Class::ManyWriters, Kind::SERVICE),
            (Class::ManyWriters, Kind::STACK),
            (Class::ManyWriters, Kind::STAGED),
            (Class::ManyWriters, Kind::WAVE),
            (Class::ManyWriters, Kind::TOKEN),
            (Class::OneWriter, Kind::VERDICT),
            (Class::ManyWriters, Kind::NODE_ORDERS),
            (Class::OneWriter, Kind::HEADER),
            (Class::OneWriter, Kind::ALLOCATION),
            (Class::OneWriter, Kind::REFUSAL),
        ];
        let of_kind = |(class, kind)| state.of_kind(class, kind).map(|(id, _)| id.clone());
        self.load_some(state, kinds.into_iter().flat_map(of_kind), now, wall)
    }

    /// Some registers of a state, at boot. Returns those whose meaning could not be read.
    pub(crate) fn load_some(
        &mut self,
        state: &State,
        ids: impl IntoIterator<Item = RecordId>,
        now: Instant,
        wall: Wall,
    ) -> Vec<RecordId> {
        let me = self.me;
        let others = ids.into_iter().filter(|id| id.writer() != Some(me));
        others.filter(|id| matches!(self.apply(state, id, now, wall), Change::Unreadable)).collect()
    }

    /// Takes note of a changed register. Own one-writer records never come here: their author knows better.
    pub(crate) fn apply(&mut self, state: &State, id: &RecordId, now: Instant, wall: Wall) -> Change {
        let record = state.value(id);
        if id.class == Class::ManyWriters {
            let newest = state.siblings(id).iter().map(Record::hlc).max();
            self.stamp(newest);
        }
        if self.skip.leaves_out(id, state.siblings(id)) {
            return Change::LeftOut;
        }
        self.at_hand.take(record.map_or(0, Record::hash));
        let change = match (id.class, id.kind) {
            (Class::ManyWriters, Kind::SERVICE) => self.apply_service(state, id, record),
            (Class::ManyWriters, Kind::STACK) => self.apply_stack(state, id),
            (Class::ManyWriters, Kind::ROLLOUT) => self.apply_rollout(id, record),
            (Class::ManyWriters, Kind::REVISION) => self.apply_revision(id, record),
            (Class::ManyWriters, Kind::FAILURE) => self.apply_failure(id, record),
            (Class::ManyWriters, Kind::FINISH) => self.apply_finish(state, id),
            (Class::ManyWriters, Kind::WAVE) => self.apply_wave(state, id),
            (Class::ManyWriters, Kind::STAGED) => self.apply_staged(id, record),
            (Class::OneWriter, Kind::VERDICT) => self.apply_verdict(id, record),
            (Class::ManyWriters, Kind::TOKEN) => self.apply_token(id, record),
            (Class::ManyWriters, Kind::NODE_ORDERS) => self.apply_orders(id, record),
            (Class::OneWriter, Kind::HEADER) => self.apply_header(id, record),
            (Class::OneWriter, Kind::ALLOCATION) => self.apply_allocation(id, record),
            (Class::OneWriter, Kind::REFUSAL) => self.apply_refusal(id, record, now, wall),
            (Class::ManyWriters | Class::OneWriter | Class::GrowOnly, _) => Change::Nothing,
        };
        if let Some(node) = id.writer().filter(|_| record.is_none()) {
            self.drop_if_gone(node);
        }
        change
    }

    fn stamp(&mut self, hlc: Option<Hlc>) {
        self.stamps.extend(hlc);
        if self.stamps.len() > MAX_STAMPS {
            self.stamps.pop_first();
        }
    }

    fn apply_service(&mut self, state: &State, id: &RecordId, record: Option<&Record>) -> Change {
        let Some(key) = service_key(&id.key) else { return Change::Unreadable };
        let register = match record {
            Some(record) => {
                let Some(service) = record.read_as::<Service>() else { return Change::Unreadable };
                skip::taste(&service, "read");
                reading(record, service)
            }
            None => {
                let newest = state.siblings(id).iter().map(Record::hlc).max().unwrap_or_default();
                Register { hlc: newest, value: None, revision: RevisionId(0), record: 0 }
            }
        };
        let stack = key.stack.clone();
        if register.value.is_none() && state.siblings(id).is_empty() {
            self.registers.remove(&key);
        } else {
            self.registers.insert(key, register);
        }
        self.settle(&stack)
    }

    fn apply_stack(&mut self, state: &State, id: &RecordId) -> Change {
        let name = core::str::from_utf8(&id.key).ok().and_then(|text| StackName::new(text).ok());
        let Some(name) = name else { return Change::Unreadable };
        let Some(manifests) = manifests(state.siblings(id)) else { return Change::Unreadable };
        let siblings = manifests.into_iter().map(|(record, manifest)| (record.hlc(), manifest)).collect();
        self.added.remove(&name);
        match merged(siblings) {
            Some((manifest, added)) => {
                self.stacks.insert(name.clone(), manifest);
                if !added.is_empty() {
                    self.added.insert(name.clone(), added);
                }
            }
            None => {
                self.stacks.remove(&name);
            }
        }
        self.settle(&name)
    }

    /// True once every register that a manifest names is held with its stamp or a later one.
    pub(super) fn is_complete(&self, stack: &StackName, manifest: &StackManifest) -> bool {
        let key = |service: &ServiceName| ServiceKey { stack: stack.clone(), service: service.clone() };
        let has_service =
            |(service, stamp): (&ServiceName, &Hlc)| self.registers.get(&key(service)).is_some_and(|r| r.hlc >= *stamp);
        let has_rollout =
            |(service, stamp): (&ServiceName, &Hlc)| self.rollout(&key(service)).is_some_and(|(hlc, _)| hlc >= stamp);
        manifest.services.iter().all(has_service) && manifest.attached.rollouts.iter().all(has_rollout)
    }

    /// Puts a stack's manifest in force, if all of it is here.
    pub(super) fn settle(&mut self, stack: &StackName) -> Change {
        let Some(wanted) = self.due(stack) else { return Change::Nothing };
        let mut changes = Vec::new();
        let had: Vec<ServiceKey> = self.services_of(stack).map(|(key, _)| key.clone()).collect();
        for key in had.into_iter().filter(|key| !wanted.iter().any(|(w, _)| w == key)) {
            let before = self.services.remove(&key);
            changes.push(ServiceChange { service: key, before });
        }
        for (key, force) in wanted {
            let before = self.services.insert(key.clone(), force.clone());
            if before.as_ref().is_none_or(|b| b.revision != force.revision || b.service != force.service) {
                changes.push(ServiceChange { service: key, before });
            }
        }
        changes.iter().for_each(|change| self.recount(&change.service));
        if changes.is_empty() { Change::Nothing } else { Change::Services(changes) }
    }

    /// The services of a stack that are in force.
    pub fn services_of<'a>(&'a self, stack: &'a StackName) -> impl Iterator<Item = (&'a ServiceKey, &'a InForce)> {
        self.services.iter().filter(move |(key, _)| key.stack == *stack)
    }

    /// What was added to a stack at the same time as something else, as far as it is held.
    pub(crate) fn added<'a>(&'a self, stack: &'a StackName) -> impl Iterator<Item = (ServiceName, Hlc)> + use<'a> {
        let is_held = |name: &ServiceName| {
            let key = ServiceKey { stack: stack.clone(), service: name.clone() };
            self.registers.get(&key).is_some_and(|register| register.value.is_some())
        };
        let all = self.added.get(stack).into_iter().flatten();
        all.filter(move |(name, _)| is_held(name)).map(|(name, stamp)| (name.clone(), *stamp))
    }

    /// The current registers of a stack's services: value and stamp, removed ones left out.
    pub(crate) fn held<'a>(
        &'a self,
        stack: &'a StackName,
    ) -> impl Iterator<Item = (&'a ServiceKey, &'a Arc<Service>, Hlc)> {
        let of_stack = self.registers.iter().filter(move |(key, _)| key.stack == *stack);
        of_stack.filter_map(|(key, r)| Some((key, r.value.as_ref()?, r.hlc)))
    }

    fn apply_token(&mut self, id: &RecordId, record: Option<&Record>) -> Change {
        let Some(bytes) = id.key.first_chunk::<8>() else { return Change::Unreadable };
        let token_id = TokenId(u64::from_be_bytes(*bytes));
        match record {
            Some(record) => {
                let Some(token) = record.read_as::<Token>() else { return Change::Unreadable };
                self.tokens.insert(token_id, token);
            }
            None => {
                self.tokens.remove(&token_id);
            }
        }
        Change::Token(token_id)
    }

    fn apply_header(&mut self, id: &RecordId, record: Option<&Record>) -> Change {
        let Some(node) = id.writer() else { return Change::Unreadable };
        let header = match record {
            Some(record) => {
                let Some(header) = record.header() else { return Change::Unreadable };
                Some(Arc::clone(header))
            }
            None => None,
        };
        if self.set_header(node, header) { Change::Header(node) } else { Change::Nothing }
    }

    fn apply_allocation(&mut self, id: &RecordId, record: Option<&Record>) -> Change {
        let (Some(node), Some(alloc)) = (id.writer(), id.alloc_id()) else { return Change::Unreadable };
        let after = match record {
            Some(record) => {
                let Some(allocation) = record.allocation() else { return Change::Unreadable };
                Some(Arc::clone(allocation))
            }
            None => None,
        };
        let before = self.set_allocation(node, alloc, after.clone());
        let same = match (&before, &after) {
            (Some(old), Some(new)) => old.acts_like(new),
            (None, None) => true,
            (None, Some(_)) | (Some(_), None) => false,
        };
        if same { Change::Nothing } else { Change::Allocation { node, before, after } }
    }

    fn apply_refusal(&mut self, id: &RecordId, record: Option<&Record>, now: Instant, wall: Wall) -> Change {
        let Some(node) = id.writer() else { return Change::Unreadable };
        let Some(record) = record else {
            let text = id.key.get(16..).and_then(|text| core::str::from_utf8(text).ok()).unwrap_or_default();
            let gone = self
                .refusals
                .iter()
                .find(|(replica, by)| by.contains_key(&node) && alloc::format!("{replica}") == text);
            let Some(replica) = gone.map(|(replica, _)| replica.clone()) else { return Change::Nothing };
            self.set_refusal(node, &replica, None);
            return Change::Refusal(replica);
        };
        let Some(refusal) = record.read_as::<Refusal>() else { return Change::Unreadable };
        let rest = Duration::from_millis(refusal.until.0.saturating_sub(wall.0));
        let until = now + rest.min(claim::refusal_backoff(refusal.count));
        let view = RefusalView { revision: refusal.revision, reason: refusal.reason, until };
        self.set_refusal(node, &refusal.replica, Some(view));
        Change::Refusal(refusal.replica)
    }
}

/// What a service's record says.
pub(super) fn reading(record: &Record, service: Service) -> Register {
    let revision = revision(record, &service);
    Register { hlc: record.hlc(), value: Some(Arc::new(service)), revision, record: record.hash() }
}

/// The manifests among a stack's records, in canonical order; none if one of them cannot be read.
pub(crate) fn manifests(siblings: &[Record]) -> Option<Vec<(&Record, StackManifest)>> {
    let live = siblings.iter().filter(|record| record.payload().is_some());
    live.map(|record| Some((record, record.read_as()?))).collect()
}

pub(super) fn service_key(key: &[u8]) -> Option<ServiceKey> {
    let (stack, service) = core::str::from_utf8(key).ok()?.split_once('/')?;
    Some(ServiceKey { stack: StackName::new(stack).ok()?, service: ServiceName::new(service).ok()? })
}
