//! Who still has an answer with an instance that is on its way out: an instance leaves the names, and is told to end only
//! when no client can have its address from an answer any more. It must never ask a core: it judges by what nodes answered.

use std::collections::{BTreeMap, BTreeSet};

use dunlin_gossip::model::{ReplicaKey, ServiceKey};

use crate::net::HostNo;
use crate::queue::Nanos;
use crate::truth::Instance;

const TTL: Nanos = dunlin_names::TTL.as_secs() * 1_000_000_000;

/// An instance that its own node answers with no more, while it runs on.
#[derive(Debug)]
struct Parting {
    /// Nodes that still answer with it.
    answering: BTreeSet<HostNo>,
    /// When the last one ceased to.
    last: Nanos,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Partings {
    all: BTreeMap<ServiceKey, BTreeMap<Instance, Parting>>,
}

impl Partings {
    /// A node answers no more with what runs on it, while these others do.
    pub(crate) fn begins(&mut self, at: Nanos, service: &ServiceKey, instance: Instance, answering: BTreeSet<HostNo>) {
        self.all.entry(service.clone()).or_default().insert(instance, Parting { answering, last: at });
    }

    /// A node's answers about a service changed.
    pub(crate) fn changed(&mut self, at: Nanos, by: HostNo, service: &ServiceKey, answers: impl Fn(Instance) -> bool) {
        let Some(of_service) = self.all.get_mut(service) else { return };
        for (_, parting) in of_service.iter_mut().filter(|(instance, _)| !answers(**instance)) {
            if parting.answering.remove(&by) {
                parting.last = at;
            }
        }
    }

    /// A node answers nobody any more.
    pub(crate) fn stops_answering(&mut self, host: HostNo) {
        for parting in self.all.values_mut().flat_map(BTreeMap::values_mut) {
            parting.answering.remove(&host);
        }
    }

    /// It is told to end, or has ended: true if somebody may still have an answer with it.
    pub(crate) fn ends(&mut self, at: Nanos, replica: &ReplicaKey, host: HostNo) -> bool {
        let Some(of_service) = self.all.get_mut(&replica.service) else { return false };
        let parting = of_service.remove(&(replica.slot, host));
        if of_service.is_empty() {
            self.all.remove(&replica.service);
        }
        parting.is_some_and(|parting| !parting.answering.is_empty() || at < parting.last + TTL)
    }
}
