//! What names may answer, told change by change.
//!
//! Instances are ready allocations with an endpoint, on nodes that are alive; on suspect nodes only where no others remain;
//! on nodes that are down never. A service is told whole when it comes, changes, or has nobody alive (large ones less
//! often: the pause grows with their size); otherwise only the places where something changed are told, at once.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::face::MemberState;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{AllocId, Allocation, Reach, ReplicaKey, ServiceKey, Slot};
use dunlin_gossip::paged::Paged;
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
    alive: Paged<(Slot, NodeId), ()>,
}

impl Names {
    /// A service is to be told whole.
    pub(crate) fn service(&mut self, service: &ServiceKey) {
        if !self.services.contains(service) {
            self.services.insert(service.clone());
        }
    }

    /// Everything as it stands in a view is told: what is told, and by what words.
    pub(crate) fn of(view: &View) -> (Self, Vec<NameChange>) {
        let (mut names, mut out) = (Self::default(), Outputs::default());
        view.services().keys().for_each(|service| names.service(service));
        let named = view.nodes().iter().filter(|(_, known)| known.header.is_some());
        named.for_each(|(node, _)| names.node(*node));
        names.flush(view, Instant::ZERO, &mut out);
        names.not_before.clear();
        let words =
            out.list.into_iter().filter_map(|o| if let Output::Names(change) = o { Some(change) } else { None });
        (names, words.collect())
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
        let shown = |alloc: Option<&Allocation>| {
            alloc.filter(|a| a.ready || planted(Bug::UnreadyAnswered)).and_then(|a| a.endpoint.clone())
        };
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
            self.tell_places(view, service, places, now, out);
        }
        if !self.services.is_empty() {
            self.tell_services(view, now, out);
        }
    }

    fn tell_services(&mut self, view: &View, now: Instant, out: &mut Outputs) {
        let Self { services, not_before, told, .. } = self;
        services.retain(|service| {
            // That it is gone is told at once: nothing of it must be answered with until it is back.
            if view.services().contains_key(service) && must_wait(not_before, view, service, now) {
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
                let places = instances.iter().filter(|i| is_alive(view, i.node)).map(|i| ((i.slot, i.node), ()));
                told.insert(service.clone(), Told { alive: places.collect() });
            } else {
                told.remove(service);
            }
            out.push(Output::Names(change));
            false
        });
    }

    /// Tells some places of a service; all of it if it was never told, or if only suspects would remain.
    fn tell_places(
        &mut self,
        view: &View,
        service: ServiceKey,
        places: BTreeSet<(Slot, NodeId)>,
        now: Instant,
        out: &mut Outputs,
    ) {
        let told = self.told.get_mut(&service).filter(|_| view.services().contains_key(&service));
        let Some(told) = told else { return self.service(&service) };
        let had_alive = !told.alive.is_empty();
        let (mut instances, mut gone) = (Vec::new(), Vec::new());
        for (slot, node) in &places {
            let replica = ReplicaKey { service: service.clone(), slot: *slot };
            let here = view.of_replica(&replica).filter(|(at, ..)| at == node);
            let here: Vec<Instance> = here.filter_map(|(node, _, alloc)| instance(node, alloc)).collect();
            if here.is_empty() || !view.stands(*node) {
                gone.push((*slot, *node));
            }
            if is_alive(view, *node) && !here.is_empty() {
                told.alive.insert((*slot, *node), ());
                instances.extend(here);
            } else {
                told.alive.remove(&(*slot, *node));
            }
        }
        out.cost += places.len() as u64;
        if had_alive && !told.alive.is_empty() {
            if instances.is_empty() && planted(Bug::StaleEndpointKept) {
                return;
            }
            let places = places.into_iter().collect();
            out.push(Output::Names(NameChange::Places { service, places, instances }));
            return;
        }
        if !had_alive {
            // Nothing was told of these: the whole will be.
            told.alive = Paged::new();
        }
        self.service(&service);
        // The whole may have to wait; what is gone must not be answered with until then.
        if !gone.is_empty() && must_wait(&self.not_before, view, &service, now) {
            out.push(Output::Names(NameChange::Places { service, places: gone, instances: Vec::new() }));
        }
    }
}

/// True if names answer with another instance of a service than this, on a node that is alive.
pub(crate) fn has_other(view: &View, service: &ServiceKey, this: (NodeId, AllocId)) -> bool {
    let is_wanted = view.services().contains_key(service);
    is_wanted
        && view
            .of_service(service)
            .any(|(node, id, alloc)| (node, id) != this && is_alive(view, node) && instance(node, alloc).is_some())
}

/// True while a service that is large may not yet be told whole again. One that has become small since need not wait.
fn must_wait(not_before: &BTreeMap<ServiceKey, Instant>, view: &View, service: &ServiceKey, now: Instant) -> bool {
    let is_large = || {
        let instances = view.of_service(service).filter_map(|(node, _, alloc)| instance(node, alloc));
        instances.take(SMALL + 1).count() > SMALL
    };
    not_before.get(service).is_some_and(|at| *at > now) && is_large()
}

fn is_alive(view: &View, node: NodeId) -> bool {
    view.nodes().get(&node).is_some_and(|n| match n.state {
        Some(MemberState::Alive) => true,
        Some(MemberState::Suspect) => planted(Bug::SuspectAnswered) || planted(Bug::DownAnswered),
        Some(MemberState::Down) => planted(Bug::DownAnswered),
        Some(MemberState::Left) | None => false,
    })
}

/// What an allocation may be answered with, if at all.
fn instance(node: NodeId, alloc: &Allocation) -> Option<Instance> {
    let endpoint =
        alloc.endpoint.as_ref().filter(|_| (alloc.ready || planted(Bug::UnreadyAnswered)) && alloc.phase.is_live())?;
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
            Some(MemberState::Suspect) if planted(Bug::SuspectAnswered) => alive.push(instance),
            Some(MemberState::Down) if planted(Bug::DownAnswered) => alive.push(instance),
            Some(MemberState::Suspect) => suspect.push(instance),
            Some(MemberState::Down | MemberState::Left) | None => {}
        }
    }
    let instances = if alive.is_empty() { suspect } else { alive };
    NameChange::Service { service: service.clone(), instances }
}
