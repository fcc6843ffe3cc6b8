//! Questions: pure functions of a node to rows whose field names are stable; `--json` prints them as they are.
//!
//! Rows are computed when asked, from the world and, for what only people read, from the records themselves. Any node
//! answers for the whole cluster. Ids are lower-case hexadecimal; a service is `stack/service`, a replica
//! `stack/service.slot`.

pub mod ask;
mod conflicts;
mod rows;
pub mod trust;

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::face::MemberState;
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{
    AllocId, Allocation, DriverKind, Mode, PublishedPort, ReplicaKey, ServiceKey, Slot, StackManifest, StackName,
    Workload,
};
use dunlin_gossip::time::{Instant, Wall};
use dunlin_gossip::wire::{Kind, RecordId};

pub use conflicts::{ConflictRow, FieldRow, VersionRow, conflict_named, conflicts};
pub use rows::{AllocationRow, MemberCounts, NodeRow, ServiceRow, StackRow, StatusRow, TokenRow};

use crate::engine::Node;
use crate::place::{self, Ground, Misfit, Scene, Waiting};
use crate::view::InForce;

/// All nodes, in the order of their names.
#[must_use]
pub fn nodes(node: &Node) -> Vec<NodeRow> {
    let view = node.view();
    let removed = |id| node.gossip().roster().is_removed(id);
    let known = view.nodes().iter().filter(|(id, n)| (n.header.is_some() || n.state.is_some()) && !removed(**id));
    let mut rows: Vec<NodeRow> = known
        .map(|(id, known)| {
            let header = known.header.as_deref();
            let text = |value: Option<&String>| value.cloned().unwrap_or_default();
            NodeRow {
                id: id.to_string(),
                name: header.map_or_else(String::new, |h| h.name.to_string()),
                state: known.state,
                address: header.and_then(|h| h.addresses.first()).map_or_else(String::new, ToString::to_string),
                zone: text(header.and_then(|h| h.labels.get("zone"))),
                labels: header.map(|h| h.labels.clone()).unwrap_or_default(),
                cpu_milli: header.map_or(0, |h| h.allocatable.cpu_milli),
                memory_bytes: header.map_or(0, |h| h.allocatable.memory_bytes),
                cpu_reserved_milli: known.reserved.base.cpu_milli,
                memory_reserved_bytes: known.reserved.base.memory_bytes,
                allocations: known.allocations.len(),
                drivers: header.map(|h| h.drivers.iter().map(|d| driver_word(*d)).collect()).unwrap_or_default(),
                version: text(header.map(|h| &h.version)),
                me: *id == view.me(),
            }
        })
        .collect();
    rows.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    rows
}

/// All services in force.
#[must_use]
pub fn services(node: &Node) -> Vec<ServiceRow> {
    node.view().services().iter().map(|(key, force)| service_row(node, key, force)).collect()
}

fn service_row(node: &Node, key: &ServiceKey, force: &InForce) -> ServiceRow {
    let view = node.view();
    let live: Vec<&Allocation> = view
        .of_service(key)
        .filter(|(at, _, alloc)| alloc.phase.is_live() && view.stands(*at))
        .map(|(_, _, alloc)| alloc)
        .collect();
    let unclaimed: Vec<ReplicaKey> = unclaimed(node, key, force);
    let wanted = wanted(node, key, force).len();
    let (ready, updated) =
        (live.iter().filter(|a| a.ready).count(), live.iter().filter(|a| a.revision == force.revision).count());
    let state = match () {
        () if !unclaimed.is_empty() => "waiting",
        () if updated < live.len() => "updating",
        () if ready < wanted => "starting",
        () => "ready",
    };
    let waiting = unclaimed.first().map(|replica| reasons(node, replica, force)).unwrap_or_default();
    ServiceRow {
        service: key.to_string(),
        kind: match force.service.mode {
            Mode::Replicated(_) => "service",
            Mode::Global => "global",
        },
        revision: force.revision.to_string(),
        replicas_wanted: wanted,
        running: live.len(),
        ready,
        updated,
        ports: force.service.spec.ports.iter().map(port_text).collect(),
        workload: workload_text(&force.service.spec.workload),
        state,
        waiting,
    }
}

/// All allocations, and the replicas that wait for one, in the order of their names.
#[must_use]
pub fn allocations(node: &Node) -> Vec<AllocationRow> {
    let view = node.view();
    let mut rows: Vec<(ReplicaKey, AllocationRow)> = Vec::new();
    for (at, known) in view.nodes() {
        for (id, alloc) in &known.allocations {
            rows.push((alloc.replica.clone(), allocation_row(node, *at, *id, alloc)));
        }
    }
    for (key, force) in view.services() {
        for replica in unclaimed(node, key, force) {
            let row = waiting_row(node, &replica, force);
            rows.push((replica, row));
        }
    }
    rows.sort_by(|a, b| (&a.0, a.1.epoch).cmp(&(&b.0, b.1.epoch)));
    rows.into_iter().map(|(_, row)| row).collect()
}

fn allocation_row(node: &Node, at: NodeId, id: AllocId, alloc: &Allocation) -> AllocationRow {
    let view = node.view();
    let own = node.owned.map.get(&id).map(|own| own.record.clone());
    let record = own.or_else(|| {
        let record = node.gossip().state().value(&RecordId::allocation(at, id))?;
        record.read_as::<Allocation>()
    });
    let endpoint = alloc.endpoint.as_ref().map(|endpoint| {
        let address = endpoint.instance.unwrap_or(endpoint.node);
        let text = |p: &PublishedPort| {
            alloc::format!("{}/{}", core::net::SocketAddr::new(address, p.outer), p.protocol.as_str())
        };
        endpoint.ports.iter().map(text).collect()
    });
    AllocationRow {
        id: id.to_string(),
        replica: replica_text(node, &alloc.replica),
        service: alloc.replica.service.to_string(),
        node: node_name(node, at),
        node_id: at.to_string(),
        phase: if view.stands(at) { alloc.phase.as_str() } else { "lost" },
        ready: alloc.ready && view.stands(at),
        revision: alloc.revision.to_string(),
        epoch: alloc.epoch.0,
        endpoint: endpoint.unwrap_or_default(),
        restarts: record.as_ref().map_or(0, |r| r.restarts),
        since_ms: record.as_ref().map_or(0, |r| r.since.0),
        detail: record.map(|r| r.detail).unwrap_or_default(),
    }
}

fn waiting_row(node: &Node, replica: &ReplicaKey, force: &InForce) -> AllocationRow {
    let reasons = reasons(node, replica, force);
    AllocationRow {
        id: String::new(),
        replica: replica_text(node, replica),
        service: replica.service.to_string(),
        node: String::new(),
        node_id: String::new(),
        phase: "waiting",
        ready: false,
        revision: force.revision.to_string(),
        epoch: 0,
        endpoint: Vec::new(),
        restarts: 0,
        since_ms: 0,
        detail: if reasons.is_empty() { "about to be claimed".to_string() } else { reasons.join("; ") },
    }
}

/// How the answering node is.
#[must_use]
pub fn status(node: &Node, _now: Instant, wall: Wall) -> StatusRow {
    let gossip = node.gossip();
    let mut members = MemberCounts::default();
    for (_, state) in gossip.members() {
        match state {
            MemberState::Alive => members.alive += 1,
            MemberState::Suspect => members.suspect += 1,
            MemberState::Down => members.down += 1,
            MemberState::Left => members.left += 1,
        }
    }
    StatusRow {
        cluster: node.config.cluster.to_string(),
        node: node.me.to_string(),
        name: node.config.header.name.to_string(),
        generation: gossip.generation().0,
        state_hash: alloc::format!("{:016x}", gossip.state().root()),
        records: gossip.state().len(),
        members,
        links: gossip.links().count(),
        synced: gossip.is_synced(),
        adopted: node.start.is_adopted(),
        waiting: node.schedule.waiting(),
        clock: gossip.state().clock().0,
        wall_ms: wall.0,
        failed: node.failed,
        left_out: node.view().left_out().map(register_text).collect(),
        counts: node.counts(),
    }
}

/// A register as people see it.
pub(crate) fn register_text(id: &RecordId) -> String {
    match id.kind {
        Kind::STACK | Kind::SERVICE => {
            let word = if id.kind == Kind::STACK { "stack" } else { "service" };
            alloc::format!("{word} {}", String::from_utf8_lossy(&id.key))
        }
        Kind::TOKEN => alloc::format!("token {}", dunlin_gossip::id::hex(&id.key)),
        _ => alloc::format!("{id:?}"),
    }
}

/// All tokens that were not removed.
#[must_use]
pub fn tokens(node: &Node) -> Vec<TokenRow> {
    let tokens = node.view().tokens().values();
    tokens
        .map(|token| TokenRow {
            id: alloc::format!("{:016x}", token.id.0),
            label: token.label.clone(),
            issuer: node_name(node, token.issuer),
            created_ms: token.created.0,
            expires_ms: token.expires.0,
            used: node.token_users(token.id).len(),
            uses: token.uses,
        })
        .collect()
}

/// All stacks.
#[must_use]
pub fn stacks(node: &Node) -> Vec<StackRow> {
    let view = node.view();
    let row = |(name, (_, manifest)): (&StackName, &(Hlc, StackManifest))| {
        let rows: Vec<ServiceRow> = view.services_of(name).map(|(key, force)| service_row(node, key, force)).collect();
        StackRow {
            stack: name.to_string(),
            services: manifest.services.keys().map(ToString::to_string).collect(),
            deployed: manifest.deployed.0,
            in_force: view.is_whole(name),
            replicas_wanted: rows.iter().map(|r| r.replicas_wanted).sum(),
            ready: rows.iter().map(|r| r.ready).sum(),
        }
    };
    view.stacks().iter().map(row).collect()
}

/// The replicas that a service should have; of a global one, on each node where it could run.
fn wanted(node: &Node, key: &ServiceKey, force: &InForce) -> Vec<ReplicaKey> {
    let replica = |slot| ReplicaKey { service: key.clone(), slot };
    match force.service.mode {
        Mode::Replicated(n) => (1..=n).map(|n| replica(Slot::Number(n))).collect(),
        Mode::Global => {
            let candidates = node.view().candidates();
            let on = |candidate: &&place::Candidate<'_>| {
                let replica = replica(Slot::Node(candidate.node));
                let waiting = Waiting { replica: &replica, spec: &force.service.spec, refused_by: &[] };
                node.view().is_taken(&replica, force.revision)
                    || !place::misfit(&waiting, candidate).is_some_and(|misfit| misfit.is_lasting())
            };
            candidates.iter().filter(on).map(|c| replica(Slot::Node(c.node))).collect()
        }
    }
}

fn unclaimed(node: &Node, key: &ServiceKey, force: &InForce) -> Vec<ReplicaKey> {
    let mut wanted = wanted(node, key, force);
    wanted.retain(|replica| !node.view().is_taken(replica, force.revision));
    wanted
}

/// Why nodes do not take a replica, and how many for each reason; empty if some node could.
fn reasons(node: &Node, replica: &ReplicaKey, force: &InForce) -> Vec<String> {
    let view = node.view();
    let refusals: BTreeMap<NodeId, String> = view
        .refusals(replica)
        .filter(|(_, refusal)| refusal.revision == force.revision)
        .map(|(node, refusal)| (node, refusal.reason.to_string()))
        .collect();
    let refused: Vec<NodeId> = refusals.keys().copied().collect();
    let waiting = Waiting { replica, spec: &force.service.spec, refused_by: &refused };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let (candidates, mix) = (view.candidates(), view.mix());
    let mut ground = Ground::new(Scene { nodes: &candidates, mix: &mix });
    for (index, candidate) in candidates.iter().enumerate() {
        let Some(misfit) = ground.misfit(index, &waiting) else { return Vec::new() };
        let text = match misfit {
            Misfit::NotThisNode => continue,
            Misfit::Refused => refusals.get(&candidate.node).cloned().unwrap_or_else(|| misfit.to_string()),
            other => other.to_string(),
        };
        *counts.entry(text).or_default() += 1;
    }
    let nodes = |n: usize| if n == 1 { "1 node".to_string() } else { alloc::format!("{n} nodes") };
    counts.into_iter().map(|(reason, count)| alloc::format!("{}: {reason}", nodes(count))).collect()
}

fn node_name(node: &Node, id: NodeId) -> String {
    let known = node.view().nodes().get(&id).and_then(|n| n.header.as_ref());
    known.map_or_else(|| alloc::format!("{id:?}"), |header| header.name.to_string())
}

/// A global service's slot is named by its node.
fn replica_text(node: &Node, replica: &ReplicaKey) -> String {
    match replica.slot {
        Slot::Node(at) => alloc::format!("{}.{}", replica.service, node_name(node, at)),
        Slot::Number(_) | Slot::Run(..) => replica.to_string(),
    }
}

const fn driver_word(driver: DriverKind) -> &'static str {
    match driver {
        DriverKind::Exec => "exec",
        DriverKind::Docker => "docker",
    }
}

fn port_text(port: &dunlin_gossip::model::PortSpec) -> String {
    let number = |n: Option<u16>| n.map_or_else(|| "dynamic".to_string(), |n| n.to_string());
    let target = port.target.map_or_else(|| "PORT".to_string(), |n| n.to_string());
    alloc::format!("{}:{}->{target}/{}", port.name, number(port.published), port.protocol.as_str())
}

fn workload_text(workload: &Workload) -> String {
    match workload {
        Workload::Exec(exec) => exec.argv.join(" "),
        Workload::Docker(image) => image.image.clone(),
    }
}
