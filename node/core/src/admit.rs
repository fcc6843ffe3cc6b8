//! Checks before a deploy: what no node of the flock could ever run is refused whole, before anything is written.
//!
//! What may become possible by itself (room, a container engine that is down) is a warning, not a refusal.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::limits::{MAX_REPLICAS, MAX_SERVICES};
use dunlin_gossip::model::{
    Constraint, DriverKind, Further, Mode, ReplicaKey, Resources, Service, ServiceKey, ServiceName, ServiceSpec, Slot,
    StackName, Workload,
};

use crate::place::{self, Candidate, Misfit, Waiting, device};
use crate::view;

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
    near_in_circles(stack, services, &mut faults);
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
    further(key, spec, nodes, faults);
    for constraint in &spec.constraints {
        if let Some(why) = place::unreadable(constraint) {
            faults.push(format!("{key}: the constraint {constraint} cannot be read: {why}"));
        } else if !nodes.iter().any(|node| meets(key, spec, constraint, node)) {
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

/// Why it could not run on a node on which nothing else runs.
fn misfit_on(key: &ServiceKey, spec: &ServiceSpec, node: &Candidate<'_>) -> Option<Misfit> {
    let (free, units) = (BTreeSet::new(), device::whole(&node.header.supply));
    let empty = Candidate { room: view::offered(node.header), units: &units, taken: &free, services: &[], ..*node };
    let replica = ReplicaKey { service: key.clone(), slot: Slot::Node(node.node) };
    place::misfit(&Waiting { replica: &replica, spec, refused_by: &[] }, &empty)
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

/// Processes, disk and devices that no node has so much of.
fn further(key: &ServiceKey, spec: &ServiceSpec, nodes: &[Candidate<'_>], faults: &mut Vec<String>) {
    let need = &spec.placing.further;
    let most = nodes.iter().map(|n| n.header.supply.further).fold(Further::default(), |most, f| Further {
        pids: most.pids.max(f.pids),
        disk_bytes: most.disk_bytes.max(f.disk_bytes),
    });
    let amounts = [("processes", need.pids, most.pids), ("bytes of disk", need.disk_bytes, most.disk_bytes)];
    for (what, need, most) in amounts {
        if need > most {
            faults.push(format!("{key}: reserves {need} {what}, and no node gives more than {most}; reserve less"));
        }
    }
    for request in &spec.placing.devices {
        let whole = |n: &Candidate<'_>| {
            let units = device::whole(&n.header.supply);
            device::choose(core::slice::from_ref(request), &n.header.supply, &units).is_some()
        };
        if !nodes.iter().any(whole) {
            let groups = nodes.iter().flat_map(|n| &n.header.supply.devices);
            let have: BTreeSet<String> =
                groups.map(|g| format!("{} {} {}", g.count, g.model, g.kind).replace("  ", " ")).collect();
            let have = have.into_iter().take(8).collect::<Vec<_>>().join(", ");
            let have = if have.is_empty() { "no node has devices".to_string() } else { format!("nodes have {have}") };
            faults.push(format!(
                "{key}: no single node has {}; {have}; ask for less, or start an agent with --device",
                place::request_text(request)
            ));
        }
    }
}

/// Services of which each must be near to one that is not there yet can none of them begin.
fn near_in_circles(stack: &StackName, services: &BTreeMap<ServiceName, Service>, faults: &mut Vec<String>) {
    let near = |name: &ServiceName| -> Vec<&ServiceName> {
        let wishes = services.get(name).map(|s| s.spec.placing.affinities.as_slice()).unwrap_or_default();
        let hard =
            wishes.iter().filter(|a| !a.anti && a.weight.is_none() && a.stack.as_ref().is_none_or(|s| s == stack));
        hard.map(|a| &a.service).filter(|other| *other != name).collect()
    };
    for name in services.keys() {
        let (mut seen, mut open) = (BTreeSet::new(), near(name));
        while let Some(next) = open.pop() {
            if next == name {
                faults.push(format!(
                    "{stack}/{name}: must be near to what must be near to it, so neither can begin; give one of the \
                     affinities a weight"
                ));
                break;
            }
            if seen.insert(next) {
                open.extend(near(next));
            }
        }
    }
}

fn cpus(milli: u64) -> String {
    let text = format!("{}.{:03}", milli / 1_000, milli % 1_000);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}
