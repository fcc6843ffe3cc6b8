//! The flock as a simulator takes it: what nodes there are, and what should run on them and does.
//!
//! Never: a service's program, image or environment. They say nothing about places, and are nobody's business who may only look.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::face::MemberState;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{
    DeviceGroup, Exec, RolloutPolicy, Service, ServiceKey, ServiceName, Slot, StackName, Workload,
};
use serde::{Deserialize, Serialize};

use crate::engine::Node;

/// Nodes and services.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Flock {
    /// In the order of their names.
    pub nodes: Vec<FlockNode>,
    /// In the order of stacks and names.
    pub services: Vec<FlockService>,
}

/// One node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FlockNode {
    /// Its name.
    pub name: String,
    /// Whether it is alive or suspect.
    pub up: bool,
    /// Its labels, those that operators gave it included.
    pub labels: BTreeMap<String, String>,
    /// What its allocations may reserve, in thousandths of a cpu.
    pub cpu_milli: u64,
    /// In bytes.
    pub memory_bytes: u64,
    /// Processes and threads; 0 where it states none.
    pub pids: u64,
    /// Bytes of disk; 0 where it states none.
    pub disk_bytes: u64,
    /// Devices.
    pub devices: Vec<DeviceGroup>,
    /// Nothing new comes to it.
    pub cordoned: bool,
    /// What runs there goes elsewhere.
    pub drained: bool,
    /// What keeps work off it.
    pub taints: Vec<String>,
}

/// One service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FlockService {
    /// Its stack.
    pub stack: StackName,
    /// Its name there.
    pub name: ServiceName,
    /// As it was deployed, without what it runs.
    pub service: Service,
    /// How it goes over to a new revision.
    pub rollout: RolloutPolicy,
    /// A job that is over.
    pub over: bool,
    /// The node on which each numbered replica runs.
    pub on: BTreeMap<u32, String>,
}

/// The flock, as this node knows it.
#[must_use]
pub fn flock(node: &Node) -> Flock {
    let view = node.view();
    let mut nodes: Vec<FlockNode> = view
        .nodes()
        .keys()
        .filter(|id| !node.gossip().roster().is_removed(**id))
        .filter_map(|id| of_node(node, *id))
        .collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let services = view.services().keys().filter_map(|key| of_service(node, key)).collect();
    Flock { nodes, services }
}

fn of_node(node: &Node, id: NodeId) -> Option<FlockNode> {
    let view = node.view();
    let known = view.nodes().get(&id)?;
    let header = known.header.as_deref()?;
    let orders = view.orders_of(id);
    Some(FlockNode {
        name: header.name.to_string(),
        up: matches!(known.state, Some(MemberState::Alive | MemberState::Suspect)),
        labels: header.labels.clone(),
        cpu_milli: header.allocatable.cpu_milli,
        memory_bytes: header.allocatable.memory_bytes,
        pids: header.supply.further.pids,
        disk_bytes: header.supply.further.disk_bytes,
        devices: header.supply.devices.clone(),
        cordoned: orders.cordoned,
        drained: orders.drain.is_some(),
        taints: orders.taints.iter().map(ToString::to_string).collect(),
    })
}

fn of_service(node: &Node, key: &ServiceKey) -> Option<FlockService> {
    let view = node.view();
    let mut service = Service::clone(&view.services().get(key)?.service);
    service.spec.environment.clear();
    if let Workload::Docker(_) = service.spec.workload {
        // The number is inside the container, which is left out.
        service.spec.ports.iter_mut().for_each(|port| port.target = None);
    }
    service.spec.workload = Workload::Exec(Exec { argv: Vec::new(), working_dir: None });
    let running = view.of_service(key).filter(|(_, _, alloc)| alloc.phase.is_live());
    let place = |owner: NodeId| Some(view.nodes().get(&owner)?.header.as_deref()?.name.to_string());
    let on = running.filter_map(|(owner, _, alloc)| match alloc.replica.slot {
        Slot::Number(number) => Some((number, place(owner)?)),
        _ => None,
    });
    let wanted = service.mode.count().map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX));
    let over = super::done(node, key, view.services().get(key)?, wanted).is_some();
    Some(FlockService {
        stack: key.stack.clone(),
        name: key.service.clone(),
        rollout: view.rollout(key).map(|(_, rollout)| rollout.policy).unwrap_or_default(),
        over,
        on: on.collect(),
        service,
    })
}
