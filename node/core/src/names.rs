//! What names may answer, told change by change.
//!
//! Instances are ready allocations with an endpoint, on nodes that are alive; on suspect nodes only where no others remain;
//! on nodes that are down never. A change of a service is told whole, so large services are told less often: the pause
//! grows with their size.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use dunlin_gossip::face::MemberState;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{Reach, ServiceKey};
use dunlin_gossip::time::{Duration, Instant};
use dunlin_names::{Instance, NameChange};

use crate::face::{Output, Outputs};
use crate::view::{AllocView, View};

/// Services with at most so many instances are told at once.
const SMALL: usize = 32;
/// Beyond that, at least this long passes between two statements, per instance.
const PAUSE: Duration = Duration::from_micros(100);

/// What has changed since names were last told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    services: BTreeSet<ServiceKey>,
    nodes: BTreeSet<NodeId>,
    /// When a large service may be told again.
    not_before: BTreeMap<ServiceKey, Instant>,
}

impl Names {
    pub(crate) fn service(&mut self, service: &ServiceKey) {
        if !self.services.contains(service) {
            self.services.insert(service.clone());
        }
    }

    pub(crate) fn node(&mut self, node: NodeId) {
        self.nodes.insert(node);
    }

    /// Notes an allocation's change if it matters to names.
    pub(crate) fn allocation(&mut self, before: Option<&AllocView>, after: Option<&AllocView>) {
        let shown = |alloc: Option<&AllocView>| alloc.filter(|a| a.ready).and_then(|a| a.endpoint.clone());
        if shown(before) != shown(after)
            && let Some(alloc) = before.or(after)
        {
            self.service(&alloc.replica.service);
        }
    }

    /// When the next statement is due.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        if !self.nodes.is_empty() {
            return Some(now);
        }
        self.services.iter().map(|s| self.not_before.get(s).copied().unwrap_or(now)).min()
    }

    /// Tells what has changed.
    pub(crate) fn flush(&mut self, view: &View, now: Instant, out: &mut Outputs) {
        for node in core::mem::take(&mut self.nodes) {
            out.push(Output::Names(node_change(view, node)));
        }
        if self.services.is_empty() {
            return;
        }
        let not_before = &mut self.not_before;
        self.services.retain(|service| {
            if not_before.get(service).is_some_and(|at| *at > now) {
                return true;
            }
            let change = service_change(view, service);
            not_before.remove(service);
            if let NameChange::Service { instances, .. } = &change {
                out.cost += instances.len() as u64 / 4;
                if instances.len() > SMALL {
                    let size = u32::try_from(instances.len()).unwrap_or(u32::MAX);
                    not_before.insert(service.clone(), now + PAUSE.saturating_mul(size));
                }
            }
            out.push(Output::Names(change));
            false
        });
    }
}

fn node_change(view: &View, node: NodeId) -> NameChange {
    let known = view.nodes().get(&node).filter(|n| n.state != Some(MemberState::Left));
    match known.and_then(|n| Some((n, n.header.as_ref()?))) {
        Some((known, header)) => NameChange::Node {
            node,
            name: header.name.clone(),
            address: (known.state != Some(MemberState::Down)).then_some(header.service_address),
            labels: header.labels.clone(),
        },
        None => NameChange::NodeGone(node),
    }
}

fn service_change(view: &View, service: &ServiceKey) -> NameChange {
    if !view.services().contains_key(service) {
        return NameChange::ServiceGone(service.clone());
    }
    let mut alive = Vec::new();
    let mut suspect = Vec::new();
    for (node, _, alloc) in view.of_service(service).filter(|(_, _, a)| a.ready && a.phase.is_live()) {
        let Some(endpoint) = &alloc.endpoint else { continue };
        let instance = Instance {
            slot: alloc.replica.slot,
            node,
            address: endpoint.instance.unwrap_or(endpoint.node),
            ports: endpoint.ports.iter().filter(|p| p.reach == Reach::Flock).cloned().collect(),
        };
        match view.nodes().get(&node).and_then(|n| n.state) {
            Some(MemberState::Alive) => alive.push(instance),
            Some(MemberState::Suspect) => suspect.push(instance),
            Some(MemberState::Down | MemberState::Left) | None => {}
        }
    }
    let instances = if alive.is_empty() { suspect } else { alive };
    NameChange::Service { service: service.clone(), instances }
}
