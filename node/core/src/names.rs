//! What names may answer, told change by change.
//!
//! Instances are ready allocations with an endpoint, on nodes that are alive; on suspect nodes only where no others remain;
//! on nodes that are down never. A service is told whole when it comes, changes, or has nobody alive (large ones less
//! often: the pause grows with their size); otherwise only the places where something changed are told, at once.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use dunlin_gossip::face::MemberState;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{Allocation, Reach, ReplicaKey, ServiceKey, Slot};
use dunlin_gossip::time::{Duration, Instant};
use dunlin_names::{Instance, NameChange};

use crate::face::{Output, Outputs};
use crate::view::View;

/// Services with at most so many instances are told at once.
const SMALL: usize = 32;
/// Beyond that, at least this long passes between two statements, per instance.
const PAUSE: Duration = Duration::from_micros(100);

/// What has changed since names were last told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    /// To be told whole.
    services: BTreeSet<ServiceKey>,
    /// Of services that were told whole: where something changed since.
    places: BTreeMap<ServiceKey, BTreeSet<(Slot, NodeId)>>,
    nodes: BTreeSet<NodeId>,
    /// When a large service may be told whole again.
    not_before: BTreeMap<ServiceKey, Instant>,
    told: BTreeMap<ServiceKey, Told>,
}

/// What was told of a service.
#[derive(Clone, Debug, Default)]
struct Told {
    /// Places with an instance on a node that is alive.
    alive: BTreeSet<(Slot, NodeId)>,
}

impl Names {
    /// A service is to be told whole.
    pub(crate) fn service(&mut self, service: &ServiceKey) {
        if !self.services.contains(service) {
            self.services.insert(service.clone());
        }
    }

    /// Something changed about a replica on a node.
    pub(crate) fn place(&mut self, replica: &ReplicaKey, node: NodeId) {
        match self.places.get_mut(&replica.service) {
            Some(places) => {
                places.insert((replica.slot, node));
            }
            None => {
                self.places.insert(replica.service.clone(), BTreeSet::from([(replica.slot, node)]));
            }
        }
    }

    pub(crate) fn node(&mut self, node: NodeId) {
        self.nodes.insert(node);
    }

    /// Notes an allocation's change if it matters to names.
    pub(crate) fn allocation(&mut self, node: NodeId, before: Option<&Allocation>, after: Option<&Allocation>) {
        let shown = |alloc: Option<&Allocation>| alloc.filter(|a| a.ready).and_then(|a| a.endpoint.clone());
        if shown(before) != shown(after)
            && let Some(alloc) = before.or(after)
        {
            self.place(&alloc.replica, node);
        }
    }

    /// When the next statement is due.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        if !self.nodes.is_empty() || !self.places.is_empty() {
            return Some(now);
        }
        self.services.iter().map(|s| self.not_before.get(s).copied().unwrap_or(now)).min()
    }

    /// Tells what has changed.
    pub(crate) fn flush(&mut self, view: &View, now: Instant, out: &mut Outputs) {
        for node in core::mem::take(&mut self.nodes) {
            out.push(Output::Names(node_change(view, node)));
        }
        for (service, places) in core::mem::take(&mut self.places) {
            self.tell_places(view, service, places, out);
        }
        if !self.services.is_empty() {
            self.tell_services(view, now, out);
        }
    }

    fn tell_services(&mut self, view: &View, now: Instant, out: &mut Outputs) {
        let Self { services, not_before, told, .. } = self;
        services.retain(|service| {
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
                let places = instances.iter().filter(|i| is_alive(view, i.node)).map(|i| (i.slot, i.node));
                told.insert(service.clone(), Told { alive: places.collect() });
            } else {
                told.remove(service);
            }
            out.push(Output::Names(change));
            false
        });
    }

    /// Tells some places of a service; all of it if it was never told, or if only suspects would remain.
    fn tell_places(&mut self, view: &View, service: ServiceKey, places: BTreeSet<(Slot, NodeId)>, out: &mut Outputs) {
        let told = self.told.get_mut(&service).filter(|told| !told.alive.is_empty());
        let Some(told) = told.filter(|_| view.services().contains_key(&service)) else {
            return self.service(&service);
        };
        let mut instances = Vec::new();
        for (slot, node) in &places {
            let before = instances.len();
            if is_alive(view, *node) {
                let replica = ReplicaKey { service: service.clone(), slot: *slot };
                let here = view.of_replica(&replica).filter(|(at, ..)| at == node);
                instances.extend(here.filter_map(|(node, _, alloc)| instance(node, alloc)));
            }
            if instances.len() > before {
                told.alive.insert((*slot, *node));
            } else {
                told.alive.remove(&(*slot, *node));
            }
        }
        if told.alive.is_empty() {
            return self.service(&service);
        }
        out.cost += places.len() as u64;
        let places = places.into_iter().collect();
        out.push(Output::Names(NameChange::Places { service, places, instances }));
    }
}

fn is_alive(view: &View, node: NodeId) -> bool {
    view.nodes().get(&node).is_some_and(|n| n.state == Some(MemberState::Alive))
}

/// What an allocation may be answered with, if at all.
fn instance(node: NodeId, alloc: &Allocation) -> Option<Instance> {
    let endpoint = alloc.endpoint.as_ref().filter(|_| alloc.ready && alloc.phase.is_live())?;
    Some(Instance {
        slot: alloc.replica.slot,
        node,
        address: endpoint.instance.unwrap_or(endpoint.node),
        ports: endpoint.ports.iter().filter(|p| p.reach == Reach::Flock).cloned().collect(),
    })
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
    for (node, _, alloc) in view.of_service(service) {
        let Some(instance) = instance(node, alloc) else { continue };
        match view.nodes().get(&node).and_then(|n| n.state) {
            Some(MemberState::Alive) => alive.push(instance),
            Some(MemberState::Suspect) => suspect.push(instance),
            Some(MemberState::Down | MemberState::Left) | None => {}
        }
    }
    let instances = if alive.is_empty() { suspect } else { alive };
    NameChange::Service { service: service.clone(), instances }
}
