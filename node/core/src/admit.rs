//! Checks before a deploy: what no flock could ever run is refused whole, before anything is written.
//!
//! What may become possible (a larger node joins, another gets a label or an engine) is a warning, not a refusal: its
//! replicas wait, and say for what.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::limits::{MAX_REPLICAS, MAX_SERVICES};
use dunlin_gossip::model::{
    Constraint, DriverKind, Further, Mode, ReplicaKey, Resources, RestartCondition, RolloutPolicy, Service, ServiceKey,
    ServiceName, ServiceSpec, Slot, StackName, Workload,
};
use dunlin_gossip::time::Duration;

use crate::cron::{Dates, is_ever};
use crate::place::{self, Candidate, Misfit, Waiting, device};
use crate::query::miss::{bytes, cpus};
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
    let never = crate::never::never(Some(stack), services);
    faults.extend(never.iter().map(|fault| format!("{stack}/{}: {}; {}", fault.service, fault.what, fault.remedy)));
    for (name, service) in services {
        let key = ServiceKey { stack: stack.clone(), service: name.clone() };
        if let Err(fault) = replicas(&key, service.mode) {
            faults.push(fault);
        }
        shape(&key, &service.spec, &mut faults);
        job(&key, service, &mut faults, &mut warnings);
        placeable(&key, &service.spec, nodes, &mut warnings);
        nameless(&key, service, &mut warnings);
    }
    if faults.is_empty() { Ok(warnings) } else { Err(faults.join("\n")) }
}

/// Checks who goes first in rollouts.
pub(crate) fn canaries(
    stack: &StackName,
    services: &BTreeMap<ServiceName, Service>,
    policies: &BTreeMap<ServiceName, RolloutPolicy>,
) -> Result<(), String> {
    let fault = |(name, policy): (&ServiceName, &RolloutPolicy)| {
        let key = ServiceKey { stack: stack.clone(), service: name.clone() };
        let count = policy.canary.map(|canary| canary.count)?;
        match services.get(name).map(|service| service.mode) {
            None => Some(format!("{key}: a policy of rollouts, and no such service; remove it")),
            Some(Mode::Global) => Some(format!("{key}: a global service has no canaries; remove them")),
            Some(Mode::Job(_) | Mode::GlobalJob(_) | Mode::Cron(_)) => {
                Some(format!("{key}: a job has no canaries; remove them"))
            }
            Some(Mode::Replicated(n)) if count > n => {
                Some(format!("{key}: {count} canaries of {n} replicas; have fewer canaries or more replicas"))
            }
            Some(Mode::Replicated(_)) => None,
        }
    };
    let faults: Vec<String> = policies.iter().filter_map(fault).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

/// Checks a number of replicas.
pub(crate) fn replicas(key: &ServiceKey, mode: Mode) -> Result<(), String> {
    match mode.count() {
        Some(n) if n > MAX_REPLICAS => Err(format!("{key}: {n} replicas; a service has at most {MAX_REPLICAS}")),
        Some(_) | None => Ok(()),
    }
}

/// Checks what is to run to completion.
fn job(key: &ServiceKey, service: &Service, faults: &mut Vec<String>, warnings: &mut Vec<String>) {
    let Some(job) = service.mode.job() else { return };
    if service.spec.restart.condition == RestartCondition::Any {
        faults.push(format!("{key}: a job is not run again once it has finished; let it restart on-failure, or never"));
    }
    if job.timeout == Some(Duration::ZERO) {
        faults.push(format!("{key}: a timeout of nothing; leave it out for none"));
    }
    if service.mode.is_global() && job.parallelism > 0 {
        faults.push(format!("{key}: the slots of a global job have no order; leave 'parallelism' out"));
    }
    match (service.mode.count(), service.mode.cron()) {
        (Some(0), None) => warnings.push(format!("{key}: a job of no slots is complete at once")),
        (Some(0), Some(_)) => {
            warnings.push(format!("{key}: no run begins while it has no replicas; scale it to go on"))
        }
        (Some(_) | None, _) => {}
    }
    let Some(cron) = service.mode.cron() else { return };
    if Dates::of(cron).is_none() {
        faults.push(format!("{key}: there is no time zone '{}'; write a name of the IANA database", cron.zone));
    } else if !is_ever(&cron.calendar) {
        faults.push(format!("{key}: '{}' never comes due; name a day that there is", cron.calendar));
    }
}

/// Checks a deploy on which only some nodes act at first.
pub(crate) fn staged(stack: &StackName, services: &BTreeMap<ServiceName, Service>) -> Result<(), String> {
    let jobs = services.iter().filter(|(_, service)| service.mode.job().is_some());
    let faults: Vec<String> = jobs
        .map(|(name, _)| {
            format!("{stack}/{name}: a job cannot be tried on the nodes of a first wave, since what it did stays; move it to a stack of its own, or leave 'waves' out")
        })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
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

/// A name that leads nowhere, since no port is reached from other nodes.
fn nameless(key: &ServiceKey, service: &Service, warnings: &mut Vec<String>) {
    let spec = &service.spec;
    let all_local = (0..spec.ports.len()).all(|port| spec.demand().is_local(port));
    if !all_local || service.mode.job().is_some() {
        return;
    }
    let why = if spec.ports.is_empty() { "it publishes no port" } else { "only its own host reaches its ports" };
    warnings
        .push(format!("{key}: {why}, so its name has no addresses; publish one under 'ports' if others ask for it"));
}

/// What nodes could run it if they were empty.
fn placeable(key: &ServiceKey, spec: &ServiceSpec, nodes: &[Candidate<'_>], warnings: &mut Vec<String>) {
    let need = &spec.reservation;
    let largest = nodes.iter().fold(Resources::default(), |most, n| Resources {
        cpu_milli: most.cpu_milli.max(n.header.allocatable.cpu_milli),
        memory_bytes: most.memory_bytes.max(n.header.allocatable.memory_bytes),
    });
    let known = warnings.len();
    if need.cpu_milli > largest.cpu_milli {
        warnings.push(format!(
            "{key}: reserves {} cpus, and the largest of {} nodes has {}; reserve less or add a larger node",
            cpus(need.cpu_milli),
            nodes.len(),
            cpus(largest.cpu_milli)
        ));
    }
    if need.memory_bytes > largest.memory_bytes {
        warnings.push(format!(
            "{key}: reserves {} of memory, and the largest of {} nodes has {}; reserve less or add a larger node",
            bytes(need.memory_bytes),
            nodes.len(),
            bytes(largest.memory_bytes)
        ));
    }
    further(key, spec, nodes, warnings);
    for constraint in &spec.constraints {
        if !nodes.iter().any(|node| meets(key, spec, constraint, node)) {
            warnings.push(format!("{key}: no node meets the constraint {constraint}; {}", offered(constraint, nodes)));
        }
    }
    let driver = match spec.workload {
        Workload::Exec(_) => DriverKind::Exec,
        Workload::Docker(_) => DriverKind::Docker,
    };
    if !nodes.iter().any(|n| n.header.drivers.contains(&driver)) {
        warnings.push(format!("{key}: {}; its replicas wait until some node has one", Misfit::NoDriver(driver)));
    } else if !nodes.iter().any(|n| fits_empty(key, spec, n)) && warnings.len() == known {
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
        .filter_map(|n| {
            let id = n.node.to_string();
            place::attribute(&constraint.attribute, Some(&id), n.header).map(ToString::to_string)
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
fn further(key: &ServiceKey, spec: &ServiceSpec, nodes: &[Candidate<'_>], warnings: &mut Vec<String>) {
    let need = &spec.placing.further;
    let most = nodes.iter().map(|n| n.header.supply.further).fold(Further::default(), |most, f| Further {
        pids: most.pids.max(f.pids),
        disk_bytes: most.disk_bytes.max(f.disk_bytes),
    });
    let amounts = [("processes", need.pids, most.pids), ("bytes of disk", need.disk_bytes, most.disk_bytes)];
    for (what, need, most) in amounts {
        if need > most {
            warnings.push(format!("{key}: reserves {need} {what}, and no node gives more than {most}; reserve less"));
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
            warnings.push(format!(
                "{key}: no single node has {}; {have}; ask for less, or start an agent with --device",
                place::request_text(request)
            ));
        }
    }
}
