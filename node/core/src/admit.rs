//! Checks before a deploy: what no node of the flock could ever run is refused whole, before anything is written.
//!
//! What may become possible by itself (room, a container engine that is down) is a warning, not a refusal.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::limits::{MAX_REPLICAS, MAX_SERVICES};
use dunlin_gossip::model::{
    Constraint, DriverKind, Mode, Resources, Service, ServiceKey, ServiceName, ServiceSpec, Slot, StackName, Workload,
};

use crate::place::{self, Candidate, Misfit, Waiting};

/// Checks a stack. The warnings, or what is wrong with it: every fault, one line each.
pub(crate) fn check(
    stack: &StackName,
    services: &BTreeMap<ServiceName, Service>,
    nodes: &[Candidate<'_>],
) -> Result<Vec<String>, String> {
    let mut faults = Vec::new();
    let mut warnings = Vec::new();
    if services.len() > MAX_SERVICES {
        faults.push(format!("{} services; a stack has at most {MAX_SERVICES}: split it", services.len()));
    }
    for (name, service) in services {
        let key = ServiceKey { stack: stack.clone(), service: name.clone() };
        if let Err(fault) = replicas(&key, service.mode) {
            faults.push(fault);
        }
        shape(&key, &service.spec, &mut faults);
        placeable(&key, &service.spec, nodes, &mut faults, &mut warnings);
    }
    if faults.is_empty() { Ok(warnings) } else { Err(faults.join("\n")) }
}

/// Checks a number of replicas.
pub(crate) fn replicas(key: &ServiceKey, mode: Mode) -> Result<(), String> {
    match mode {
        Mode::Replicated(n) if n > MAX_REPLICAS => {
            Err(format!("{key}: {n} replicas; a service has at most {MAX_REPLICAS}"))
        }
        Mode::Replicated(_) | Mode::Global => Ok(()),
    }
}

fn shape(key: &ServiceKey, spec: &ServiceSpec, faults: &mut Vec<String>) {
    if let Workload::Exec(exec) = &spec.workload
        && exec.argv.is_empty()
    {
        faults.push(format!("{key}: the command is empty; name a program"));
    }
    let (mut fixed, mut names) = (BTreeSet::new(), BTreeSet::new());
    for port in &spec.ports {
        if let Some(number) = port.published
            && !fixed.insert((port.protocol, number))
        {
            faults.push(format!("{key}: port {number}/{} is published twice; remove one", port.protocol.as_str()));
        }
        if !names.insert(port.name.as_str()) {
            faults.push(format!("{key}: two ports are named {:?}; give them different names", port.name));
        }
    }
}

/// What nodes could run it if they were empty.
fn placeable(
    key: &ServiceKey,
    spec: &ServiceSpec,
    nodes: &[Candidate<'_>],
    faults: &mut Vec<String>,
    warnings: &mut Vec<String>,
) {
    let need = &spec.reservation;
    let largest = nodes.iter().fold(Resources::default(), |most, n| Resources {
        cpu_milli: most.cpu_milli.max(n.header.allocatable.cpu_milli),
        memory_bytes: most.memory_bytes.max(n.header.allocatable.memory_bytes),
    });
    if need.cpu_milli > largest.cpu_milli {
        faults.push(format!(
            "{key}: reserves {} cpus, and the largest of {} nodes has {}; reserve less or add a larger node",
            cpus(need.cpu_milli),
            nodes.len(),
            cpus(largest.cpu_milli)
        ));
    }
    if need.memory_bytes > largest.memory_bytes {
        faults.push(format!(
            "{key}: reserves {} MiB of memory, and the largest of {} nodes has {} MiB; reserve less or add a larger node",
            need.memory_bytes >> 20,
            nodes.len(),
            largest.memory_bytes >> 20
        ));
    }
    for constraint in &spec.constraints {
        if !nodes.iter().any(|node| meets(key, spec, constraint, node)) {
            faults.push(format!("{key}: no node meets the constraint {constraint}; {}", offered(constraint, nodes)));
        }
    }
    let driver = match spec.workload {
        Workload::Exec(_) => DriverKind::Exec,
        Workload::Docker(_) => DriverKind::Docker,
    };
    if !nodes.iter().any(|n| n.header.drivers.contains(&driver)) {
        warnings.push(format!("{key}: {}; its replicas wait until some node has one", Misfit::NoDriver(driver)));
    } else if !nodes.iter().any(|n| fits_empty(key, spec, n)) && faults.is_empty() {
        warnings.push(format!("{key}: no single node meets all constraints and is large enough; its replicas wait"));
    }
}

/// The node as if nothing ran on it.
fn empty_node<'a>(node: &Candidate<'a>, free: &'a BTreeSet<(dunlin_gossip::model::Protocol, u16)>) -> Candidate<'a> {
    Candidate { room: node.header.allocatable, taken: free, services: &[], ..*node }
}

fn misfit_on(key: &ServiceKey, spec: &ServiceSpec, node: &Candidate<'_>) -> Option<Misfit> {
    let free = BTreeSet::new();
    let replica = dunlin_gossip::model::ReplicaKey { service: key.clone(), slot: Slot::Node(node.node) };
    let waiting = Waiting { replica: &replica, spec, refused_by: &[] };
    place::misfit(&waiting, &empty_node(node, &free))
}

fn fits_empty(key: &ServiceKey, spec: &ServiceSpec, node: &Candidate<'_>) -> bool {
    misfit_on(key, spec, node).is_none()
}

fn meets(key: &ServiceKey, spec: &ServiceSpec, constraint: &Constraint, node: &Candidate<'_>) -> bool {
    let alone = ServiceSpec { constraints: Vec::from([constraint.clone()]), ..spec.clone() };
    !matches!(misfit_on(key, &alone, node), Some(Misfit::Constraint(_)))
        && !matches!(misfit_on(key, &alone, node), Some(Misfit::NoDriver(_)) if !meets_without_driver(key, &alone, node))
}

/// Constraints are looked at behind drivers; a node without the driver may still meet them.
fn meets_without_driver(key: &ServiceKey, spec: &ServiceSpec, node: &Candidate<'_>) -> bool {
    let mut header = node.header.clone();
    header.drivers = Vec::from([DriverKind::Exec, DriverKind::Docker]);
    let node = Candidate { header: &header, ..*node };
    !matches!(misfit_on(key, spec, &node), Some(Misfit::Constraint(_)))
}

/// What the nodes have instead.
fn offered(constraint: &Constraint, nodes: &[Candidate<'_>]) -> String {
    let values: BTreeSet<String> = nodes
        .iter()
        .filter_map(|n| match constraint.attribute.as_str() {
            "node.hostname" => Some(n.header.name.to_string()),
            "node.id" => Some(n.node.to_string()),
            "node.platform.os" => Some(n.header.platform.os.clone()),
            "node.platform.arch" => Some(n.header.platform.arch.clone()),
            other => n.header.labels.get(other.strip_prefix("node.labels.")?).cloned(),
        })
        .collect();
    if values.is_empty() {
        return format!("no node has {}; start agents with that label", constraint.attribute);
    }
    let shown: Vec<String> = values.iter().take(8).cloned().collect();
    let more = if values.len() > shown.len() { ", ..." } else { "" };
    format!("the nodes have {} = {}{more}", constraint.attribute, shown.join(", "))
}

fn cpus(milli: u64) -> String {
    let text = format!("{}.{:03}", milli / 1_000, milli % 1_000);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}
