//! What is known of ways from one revision to the next, and what of it decides which revision is in force.
//!
//! Only meaning, as everywhere in the view: a service whose rollout failed, and whose author asked for the way back, is in
//! force at the revision that it came from, for every node that holds the same records. Nobody orders that.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::model::{
    Failure, FailureAction, Prefer, RevisionId, Rollout, RolloutPolicy, Service, ServiceKey, Slot, StackName,
    UpdateOrder, UpdatePolicy,
};
use dunlin_gossip::wire::{Record, RecordId};

use super::apply::{Change, revision, service_key};
use super::{InForce, Register, View};

/// A revision that may be gone back to.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) service: Arc<Service>,
    /// When it was put aside.
    pub(crate) hlc: Hlc,
}

/// Everything about rollouts.
#[derive(Clone, Debug, Default)]
pub(super) struct Rollouts {
    orders: BTreeMap<ServiceKey, (Hlc, Rollout)>,
    kept: BTreeMap<ServiceKey, BTreeMap<RevisionId, Kept>>,
    /// By service and register.
    failed: BTreeMap<ServiceKey, BTreeMap<RecordId, Failure>>,
}

impl View {
    /// A service's rollout, and the stamp of its register.
    #[must_use]
    pub fn rollout(&self, service: &ServiceKey) -> Option<&(Hlc, Rollout)> {
        self.rollouts.orders.get(service)
    }

    /// Services of a stack about whose rollouts anything is held.
    pub(crate) fn rollouts_of<'a>(&'a self, stack: &'a StackName) -> impl Iterator<Item = &'a ServiceKey> {
        let Rollouts { orders, kept, failed } = &self.rollouts;
        let all: BTreeSet<&ServiceKey> = orders.keys().chain(kept.keys()).chain(failed.keys()).collect();
        all.into_iter().filter(move |key| key.stack == *stack)
    }

    /// Revisions of a service that are kept, by id.
    pub(crate) fn kept(&self, service: &ServiceKey) -> impl Iterator<Item = (RevisionId, &Kept)> {
        self.rollouts.kept.get(service).into_iter().flatten().map(|(revision, kept)| (*revision, kept))
    }

    /// A service's specification at a revision, if that is wanted or kept.
    pub(crate) fn at_revision(&self, service: &ServiceKey, revision: RevisionId) -> Option<Arc<Service>> {
        let wanted = self.registers.get(service).filter(|register| register.revision == revision);
        let kept = || self.rollouts.kept.get(service)?.get(&revision).map(|kept| Arc::clone(&kept.service));
        wanted.and_then(|register| register.value.clone()).or_else(kept)
    }

    /// All failures at a service's revisions, with their registers.
    pub(crate) fn failed(&self, service: &ServiceKey) -> impl Iterator<Item = (&RecordId, &Failure)> {
        self.rollouts.failed.get(service).into_iter().flatten()
    }

    /// Verdicts on a revision in a rollout's present attempt.
    pub fn failures<'a>(
        &'a self,
        service: &'a ServiceKey,
        revision: RevisionId,
    ) -> impl Iterator<Item = &'a Failure> + use<'a> {
        let attempt = self.rollout(service).map(|(_, rollout)| rollout.attempt);
        let all = self.failed(service).map(|(_, failure)| failure);
        all.filter(move |failure| failure.revision == revision && Some(failure.attempt) == attempt)
    }

    /// The revision that a service's author asked for last, whether it is in force or failed.
    pub(crate) fn asked(&self, service: &ServiceKey) -> Option<(RevisionId, &Arc<Service>)> {
        let register = self.registers.get(service)?;
        Some((register.revision, register.value.as_ref()?))
    }

    /// True if a service's rollout went back of itself.
    #[must_use]
    pub fn is_rolled_back(&self, service: &ServiceKey) -> bool {
        let force = self.services.get(service).map(|force| force.revision);
        force.is_some_and(|force| self.asked(service).is_some_and(|(asked, _)| asked != force))
    }

    /// How a service's slots go over to the revision in force.
    #[must_use]
    pub fn update_policy(&self, service: &ServiceKey) -> UpdatePolicy {
        let Some((_, rollout)) = self.rollout(service) else { return UpdatePolicy::default() };
        let RolloutPolicy { update, rollback, .. } = rollout.policy;
        let asked = self.asked(service).map(|(asked, _)| asked);
        let is_back = self.is_rolled_back(service) || (rollout.undo && asked == Some(rollout.of));
        let policy = if is_back { rollback } else { update };
        // Of what one at most may run, none can start before the other has stopped.
        let is_lone = self.services.get(service).is_some_and(|force| force.service.spec.prefer == Prefer::Majority);
        if is_lone { UpdatePolicy { order: UpdateOrder::StopFirst, ..policy } } else { policy }
    }

    /// True if more slots failed at a revision than are borne.
    #[must_use]
    pub fn has_failed(&self, service: &ServiceKey, revision: RevisionId, policy: &UpdatePolicy) -> bool {
        let slots: BTreeSet<Slot> = self.failures(service, revision).map(|failure| failure.replica.slot).collect();
        let all = match self.asked(service).map(|(_, service)| service.mode) {
            Some(mode) if mode.count().is_some() => mode.count().map_or(0, u64::from),
            Some(_) => self.nodes.values().filter(|node| node.header.is_some()).count() as u64,
            None => return false,
        };
        let borne = all.saturating_mul(u64::from(policy.max_failure_ppm)) / 1_000_000;
        !slots.is_empty() && slots.len() as u64 > borne
    }

    /// What is in force of a register: what it says, or, after a failure, what was before.
    pub(super) fn in_force(&self, key: &ServiceKey, register: &Register) -> Option<InForce> {
        let value = register.value.as_ref()?;
        let (service, revision) = match self.way_back(key, register) {
            Some((revision, kept)) => {
                (Arc::new(Service { mode: value.mode, spec: kept.service.spec.clone() }), revision)
            }
            None => (Arc::clone(value), register.revision),
        };
        Some(InForce { service, revision, hlc: register.hlc, record: register.record })
    }

    /// What was in force before a rollout that leads to what is, if it is kept.
    pub(crate) fn before(&self, key: &ServiceKey) -> Option<InForce> {
        let force = self.services.get(key)?;
        let (_, rollout) = self.rollout(key).filter(|(_, rollout)| rollout.of == force.revision)?;
        let revision = rollout.from?;
        let kept = self.rollouts.kept.get(key)?.get(&revision)?;
        let service = Arc::new(Service { mode: force.service.mode, spec: kept.service.spec.clone() });
        Some(InForce { service, revision, ..force.clone() })
    }

    fn way_back(&self, key: &ServiceKey, register: &Register) -> Option<(RevisionId, &Kept)> {
        let (_, rollout) = self.rollout(key)?;
        let update = &rollout.policy.update;
        let may = rollout.of == register.revision && !rollout.undo && update.on_failure == FailureAction::Rollback;
        if !may || planted(Bug::RollbackForgotten) || !self.has_failed(key, register.revision, update) {
            return None;
        }
        let from = rollout.from?;
        Some((from, self.rollouts.kept.get(key)?.get(&from)?))
    }

    pub(super) fn apply_rollout(&mut self, id: &RecordId, record: Option<&Record>) -> Change {
        let Some(service) = service_key(&id.key) else { return Change::Unreadable };
        match record {
            Some(record) => {
                let Some(rollout) = record.read_as::<Rollout>() else { return Change::Unreadable };
                self.rollouts.orders.insert(service.clone(), (record.hlc(), rollout));
            }
            None => drop(self.rollouts.orders.remove(&service)),
        }
        self.rollout_changed(service)
    }

    pub(super) fn apply_revision(&mut self, id: &RecordId, record: Option<&Record>) -> Change {
        let Some((service, named)) = revision_key(&id.key) else { return Change::Unreadable };
        match record {
            Some(record) => {
                let Some(value) = record.read_as::<Service>() else { return Change::Unreadable };
                if revision(record, &value) != named {
                    return Change::Unreadable;
                }
                let kept = Kept { service: Arc::new(value), hlc: record.hlc() };
                self.rollouts.kept.entry(service.clone()).or_default().insert(named, kept);
            }
            None => drop_from(&mut self.rollouts.kept, &service, &named),
        }
        self.rollout_changed(service)
    }

    pub(super) fn apply_failure(&mut self, id: &RecordId, record: Option<&Record>) -> Change {
        let service = match record {
            Some(record) => {
                let Some(failure) = record.read_as::<Failure>() else { return Change::Unreadable };
                let service = failure.replica.service.clone();
                self.rollouts.failed.entry(service.clone()).or_default().insert(id.clone(), failure);
                service
            }
            None => {
                let of = self.rollouts.failed.iter().find(|(_, all)| all.contains_key(id));
                let Some(service) = of.map(|(service, _)| service.clone()) else { return Change::Nothing };
                drop_from(&mut self.rollouts.failed, &service, id);
                service
            }
        };
        self.rollout_changed(service)
    }

    fn rollout_changed(&mut self, service: ServiceKey) -> Change {
        let services = match self.settle(&service.stack) {
            Change::Services(services) => services,
            _ => Vec::new(),
        };
        Change::Rollout { service, services }
    }
}

fn drop_from<K: Ord, V>(all: &mut BTreeMap<ServiceKey, BTreeMap<K, V>>, service: &ServiceKey, key: &K) {
    if let Some(of) = all.get_mut(service) {
        of.remove(key);
        if of.is_empty() {
            all.remove(service);
        }
    }
}

/// `stack/service/` and 16 hexadecimal digits.
fn revision_key(key: &[u8]) -> Option<(ServiceKey, RevisionId)> {
    let (service, revision) = core::str::from_utf8(key).ok()?.rsplit_once('/')?;
    Some((service_key(service.as_bytes())?, RevisionId::parse(revision)?))
}
