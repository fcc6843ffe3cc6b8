//! Deploys whose first wave is on: who acts on which, and what the first nodes say of it.
//!
//! A stack has two sides while a wave is on: what is in force, and what is staged. A node of the first wave acts on what is
//! staged as soon as it holds all of it, everybody else on what is in force.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{
    Outcome, ReplicaKey, Service, ServiceKey, ServiceName, StackManifest, StackName, Verdict, Wave,
};
use dunlin_gossip::state::State;
use dunlin_gossip::wire::{Record, RecordId};

use super::apply::{Change, reading, service_key};
use super::{InForce, Register, View};
use crate::skip;

/// All that is known of waves.
#[derive(Clone, Debug, Default)]
pub(super) struct Waves {
    /// Each with the stamp of its record.
    open: BTreeMap<StackName, (Hlc, Wave)>,
    staged: BTreeMap<ServiceKey, Register>,
    verdicts: BTreeMap<StackName, BTreeMap<NodeId, Verdict>>,
    /// Of which deploy the staged services are acted on here.
    acting: BTreeMap<StackName, Hlc>,
}

impl View {
    pub(super) fn apply_wave(&mut self, state: &State, id: &RecordId) -> Change {
        let Some(name) = stack_of(&id.key) else { return Change::Unreadable };
        let live = state.siblings(id).iter().filter(|record| record.payload().is_some());
        let read: Option<Vec<(Hlc, Wave)>> = live.map(|record| Some((record.hlc(), record.read_as()?))).collect();
        let Some(read) = read else { return Change::Unreadable };
        match read.into_iter().max_by_key(|(_, wave)| wave.deployed) {
            Some(wave) => drop(self.waves.open.insert(name.clone(), wave)),
            None => drop(self.waves.open.remove(&name)),
        }
        match self.settle(&name) {
            Change::Nothing => Change::Wave(name, None),
            change => change,
        }
    }

    pub(super) fn apply_staged(&mut self, id: &RecordId, record: Option<&Record>) -> Change {
        let Some(key) = service_key(&id.key) else { return Change::Unreadable };
        let stack = key.stack.clone();
        match record {
            Some(record) => {
                let Some(service) = record.read_as::<Service>() else { return Change::Unreadable };
                skip::taste(&service, "read");
                self.waves.staged.insert(key, reading(record, service));
            }
            None => drop(self.waves.staged.remove(&key)),
        }
        self.settle(&stack)
    }

    pub(super) fn apply_verdict(&mut self, id: &RecordId, record: Option<&Record>) -> Change {
        let (Some(node), Some(name)) = (id.writer(), id.key.get(16..).and_then(stack_of)) else {
            return Change::Unreadable;
        };
        match record {
            Some(record) => {
                let Some(verdict) = record.read_as::<Verdict>() else { return Change::Unreadable };
                self.waves.verdicts.entry(name.clone()).or_default().insert(node, verdict);
            }
            None => {
                if let Some(of_stack) = self.waves.verdicts.get_mut(&name) {
                    of_stack.remove(&node);
                    if of_stack.is_empty() {
                        self.waves.verdicts.remove(&name);
                    }
                }
            }
        }
        Change::Wave(name, Some(node))
    }

    /// Waves that are on.
    pub fn waves(&self) -> impl Iterator<Item = (&StackName, &Wave)> {
        self.waves.open.keys().filter_map(|stack| Some((stack, self.wave(stack)?)))
    }

    /// A stack's wave, if one is on: its deploy is newer than what is in force.
    #[must_use]
    pub fn wave(&self, stack: &StackName) -> Option<&Wave> {
        let in_force = self.stacks.get(stack).map(|(_, manifest)| manifest.deployed);
        self.waves.open.get(stack).map(|(_, wave)| wave).filter(|wave| in_force.is_none_or(|at| wave.deployed > at))
    }

    /// The newest deploy of a stack that was ever staged, on or over.
    pub(crate) fn last_wave(&self, stack: &StackName) -> Option<&Wave> {
        self.waves.open.get(stack).map(|(_, wave)| wave)
    }

    /// The wave of a stack, if this node acts on it.
    #[must_use]
    pub fn acted_wave(&self, stack: &StackName) -> Option<&Wave> {
        self.wave(stack).filter(|wave| self.waves.acting.get(stack) == Some(&wave.deployed))
    }

    /// What a node says of a stack's wave.
    #[must_use]
    pub fn verdict(&self, stack: &StackName, wave: &Wave, node: NodeId) -> Option<Outcome> {
        let verdict = self.waves.verdicts.get(stack)?.get(&node)?;
        (verdict.deployed == wave.deployed).then_some(verdict.outcome)
    }

    /// The staged services of a stack, whatever becomes of them.
    pub(crate) fn staged<'a>(&'a self, stack: &'a StackName) -> impl Iterator<Item = &'a ServiceKey> {
        self.waves.staged.keys().filter(move |key| key.stack == *stack)
    }

    /// True if a batch of this stamp staged a deploy of which something is missing here.
    pub(super) fn misses_staged(&self, hlc: Hlc) -> bool {
        self.waves.open.iter().any(|(stack, (at, wave))| *at == hlc && !self.is_staged(stack, &wave.services))
    }

    fn is_staged(&self, stack: &StackName, services: &BTreeMap<ServiceName, Hlc>) -> bool {
        services.iter().all(|(service, stamp)| {
            let key = ServiceKey { stack: stack.clone(), service: service.clone() };
            self.waves.staged.get(&key).is_some_and(|register| register.hlc >= *stamp)
        })
    }

    /// True if the manifest in force wants a replica, whatever is staged.
    pub(crate) fn was_wanted(&self, replica: &ReplicaKey) -> bool {
        let service = &replica.service;
        let is_named = self
            .stacks
            .get(&service.stack)
            .is_some_and(|(_, manifest)| manifest.services.contains_key(&service.service));
        let value = self.registers.get(service).and_then(|register| register.value.as_ref()).filter(|_| is_named);
        value.is_some_and(|service| service.mode.has(replica.slot))
    }

    /// What of a stack is to be in force here; none while that cannot be told.
    pub(super) fn due(&mut self, stack: &StackName) -> Option<Vec<(ServiceKey, InForce)>> {
        let acted = self.waves.acting.get(stack).copied();
        let wave = self.wave(stack);
        if let Some(wave) = wave.filter(|wave| wave.nodes.contains(&self.me) || planted(Bug::WavesIgnored)) {
            if self.is_staged(stack, &wave.services) {
                let (deployed, due) = (wave.deployed, of(stack, wave.services.keys(), &self.waves.staged));
                self.waves.acting.insert(stack.clone(), deployed);
                return Some(due);
            }
            if acted.is_some() {
                return None;
            }
        }
        let empty = StackManifest::default();
        let in_force = self.stacks.get(stack).map(|(_, manifest)| manifest);
        // The wave is gone, and what it came to is on its way.
        if wave.is_none() && in_force.is_some_and(|manifest| acted.is_some_and(|acted| manifest.deployed < acted)) {
            return None;
        }
        let manifest = in_force.unwrap_or(&empty);
        if !self.is_complete(stack, manifest) {
            return None;
        }
        let force = |service: &ServiceName| {
            let key = ServiceKey { stack: stack.clone(), service: service.clone() };
            let force = self.registers.get(&key).and_then(|register| self.in_force(&key, register))?;
            Some((key, force))
        };
        let added: Vec<ServiceName> = self.added(stack).map(|(name, _)| name).collect();
        let due = manifest.services.keys().chain(&added).filter_map(force).collect();
        self.waves.acting.remove(stack);
        Some(due)
    }
}

/// These services of a stack as registers have them.
fn of<'a>(
    stack: &StackName,
    names: impl Iterator<Item = &'a ServiceName>,
    registers: &BTreeMap<ServiceKey, Register>,
) -> Vec<(ServiceKey, InForce)> {
    let force = |service: &ServiceName| {
        let key = ServiceKey { stack: stack.clone(), service: service.clone() };
        let Register { hlc, value, revision, record } = registers.get(&key)?;
        let force = InForce { service: Arc::clone(value.as_ref()?), revision: *revision, hlc: *hlc, record: *record };
        Some((key, force))
    };
    names.filter_map(force).collect()
}

fn stack_of(key: &[u8]) -> Option<StackName> {
    core::str::from_utf8(key).ok().and_then(|text| StackName::new(text).ok())
}
