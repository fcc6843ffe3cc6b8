//! Questions: pure functions of a node to rows whose field names are stable; `--json` prints them as they are.
//!
//! Rows are computed when asked, from the world and, for what only people read, from the records themselves. Any node
//! answers for the whole cluster. Ids are lower-case hexadecimal; a service is `stack/service`, a replica
//! `stack/service.slot`.

pub mod ask;
mod conflicts;
mod flock;
pub(crate) mod miss;
mod named;
mod rollouts;
mod rows;
mod runs;
pub mod trust;
mod waves;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::face::MemberState;
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{
    AllocId, Allocation, DeviceGroup, DriverKind, Finish, Mode, Phase, PortSpec, PublishedPort, ReplicaKey, ServiceKey,
    ServiceSpec, Slot, StackManifest, StackName, Workload,
};
use dunlin_gossip::time::{Instant, Wall};
use dunlin_gossip::wire::{Kind, RecordId};

pub use conflicts::{ConflictRow, FieldRow, VersionRow, conflict_named, conflicts};
pub use flock::{Flock, FlockNode, FlockService, flock};
pub use named::{NamedRow, named};
pub use rollouts::{FailureRow, RevisionRow, RolloutRow, rollouts};
pub use rows::{
    AllocationRow, MemberCounts, NodeRow, RunRow, ServiceRow, StackRow, StatusRow, TokenRow, WaveNodeRow, WaveRow,
};

use miss::Tally;
use waves::{about_to_be, stays, wave_row, wave_text};

use crate::allocation::learn::learns;
use crate::drain;
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
            let orders = view.orders_of(*id);
            NodeRow {
                id: id.to_string(),
                name: header.map_or_else(String::new, |h| h.name.to_string()),
                state: known.state,
                address: header.and_then(|h| h.addresses.first()).map_or_else(String::new, ToString::to_string),
                zone: text(header.and_then(|h| h.labels.get("zone"))),
                cordoned: orders.cordoned,
                drained: orders.drain.is_some(),
                drained_until_ms: orders.drain.and_then(|drain| drain.until()).map(|until| until.0),
                taints: orders.taints.iter().map(ToString::to_string).collect(),
                labels: header.map(|h| h.labels.clone()).unwrap_or_default(),
                cpu_milli: header.map_or(0, |h| h.allocatable.cpu_milli),
                memory_bytes: header.map_or(0, |h| h.allocatable.memory_bytes),
                cpu_reserved_milli: known.reserved.base.cpu_milli,
                memory_reserved_bytes: known.reserved.base.memory_bytes,
                allocations: known.allocations.len(),
                devices: header.map(|h| h.supply.devices.iter().map(device_text).collect()).unwrap_or_default(),
                drivers: header.map(|h| h.drivers.iter().map(|d| driver_word(*d)).collect()).unwrap_or_default(),
                version: text(header.map(|h| &h.version)),
                me: *id == view.me(),
                voter: node.voters().voters.contains(id),
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
        .filter(|(at, _, alloc)| alloc.phase.is_live() && view.stands(*at) && view.finish(&alloc.replica).is_none())
        .map(|(_, _, alloc)| alloc)
        .collect();
    let unclaimed: Vec<ReplicaKey> = unclaimed(node, key, force);
    let wanted = wanted(node, key, force).len();
    let (ready, updated) = (ready_replicas(&live), live.iter().filter(|a| a.revision == force.revision).count());
    let cron = force.service.mode.cron();
    let done = done(node, key, force, wanted).filter(|_| cron.is_none());
    let state = match () {
        () if done.is_some() => done.unwrap_or_default(),
        () if !unclaimed.is_empty() => "waiting",
        () if cron.is_some() && live.is_empty() => {
            if force.service.mode.count() == Some(0) {
                "suspended"
            } else {
                "scheduled"
            }
        }
        () if force.service.mode.job().is_some() => "running",
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
            Mode::Job(_) => "job",
            Mode::GlobalJob(_) => "global-job",
            Mode::Cron(_) => "cron",
        },
        revision: force.revision.to_string(),
        replicas_wanted: wanted,
        running: live.len(),
        ready,
        succeeded: view.tally(key).succeeded,
        failed: view.tally(key).failed,
        updated,
        ports: port_texts(&force.service.spec),
        workload: workload_text(&force.service.spec.workload),
        state,
        waiting,
        schedule: cron.map(runs::schedule),
        next_run_ms: view.next_run(key).map(|at| at.saturating_mul(1_000)).filter(|_| state != "suspended"),
        runs: cron.map(|cron| runs::runs(view, key, cron)).unwrap_or_default(),
    }
}

/// `complete` or `failed`, if that can be said of a job.
fn done(node: &Node, key: &ServiceKey, force: &InForce, wanted: usize) -> Option<&'static str> {
    force.service.mode.job()?;
    let tally = node.view().tally(key);
    match () {
        () if tally.failed > 0 => Some("failed"),
        () if tally.succeeded >= wanted => Some("complete"),
        () => None,
    }
}

/// What moves to another node runs twice for a while, and is one replica.
fn ready_replicas(live: &[&Allocation]) -> usize {
    live.iter().filter(|a| a.ready).map(|a| a.replica.slot).collect::<BTreeSet<_>>().len()
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
        // Those whose nodes are gone.
        let ends = view.finished(key).filter(|end| view.of_replica(&end.replica).all(|(.., a)| a.epoch != end.epoch));
        rows.extend(ends.map(|end| (end.replica.clone(), finished_row(node, end))));
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
    let end = view.finish(&alloc.replica).filter(|end| end.epoch == alloc.epoch);
    AllocationRow {
        id: id.to_string(),
        replica: replica_text(node, &alloc.replica),
        service: alloc.replica.service.to_string(),
        node: node_name(node, at),
        node_id: at.to_string(),
        phase: if view.stands(at) || !alloc.holds_room() { alloc.phase.as_str() } else { "lost" },
        ready: alloc.ready && view.stands(at),
        revision: alloc.revision.to_string(),
        epoch: alloc.epoch.0,
        endpoint: endpoint.unwrap_or_default(),
        cpu_reserved_milli: alloc.reservation.cpu_milli,
        memory_reserved_bytes: alloc.reservation.memory_bytes,
        learnt: view.wanted(&alloc.replica).is_some_and(|force| {
            let spec = &force.service.spec;
            learns(spec) && force.revision == alloc.revision && alloc.reservation != spec.reservation
        }),
        restarts: record.as_ref().map_or(0, |r| r.restarts),
        since_ms: record.as_ref().map_or(0, |r| r.since.0),
        ended_ms: end.map(|end| end.at.0),
        exit_code: end.and_then(|end| end.code),
        detail: record
            .map(|r| r.detail)
            .filter(|detail| !detail.is_empty())
            .or_else(|| leaves(node, at, alloc))
            .unwrap_or_else(|| stays(node, at, alloc)),
    }
}

/// A slot of a job that ended on a node of which nothing is left.
fn finished_row(node: &Node, end: &Finish) -> AllocationRow {
    let phase = if end.succeeded { Phase::Exited } else { Phase::Failed };
    AllocationRow {
        id: AllocId::of(&end.replica, end.epoch, end.node).to_string(),
        replica: replica_text(node, &end.replica),
        service: end.replica.service.to_string(),
        node: node_name(node, end.node),
        node_id: end.node.to_string(),
        phase: phase.as_str(),
        ready: false,
        revision: end.revision.to_string(),
        epoch: end.epoch.0,
        endpoint: Vec::new(),
        cpu_reserved_milli: 0,
        memory_reserved_bytes: 0,
        learnt: false,
        restarts: 0,
        since_ms: end.began.0,
        ended_ms: Some(end.at.0),
        exit_code: end.code,
        detail: end.detail.clone(),
    }
}

/// Why a replica is still on a node that is drained.
fn leaves(node: &Node, at: NodeId, alloc: &Allocation) -> Option<String> {
    let view = node.view();
    let force = view.wanted(&alloc.replica).filter(|_| view.is_drained(at) && alloc.phase.is_live())?;
    if let Some((successor, _)) = drain::successors(view, &alloc.replica).next() {
        return Some(alloc::format!("goes once it is ready on {}", node_name(node, successor)));
    }
    if !drain::may_move(view, &alloc.replica) {
        return Some("goes after others of its service".to_string());
    }
    let reasons = reasons(node, &alloc.replica, force);
    let why = if reasons.is_empty() { "about to be claimed elsewhere".to_string() } else { reasons.join("; ") };
    Some(alloc::format!("has to go: {why}"))
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
        cpu_reserved_milli: force.service.spec.reservation.cpu_milli,
        memory_reserved_bytes: force.service.spec.reservation.memory_bytes,
        learnt: false,
        restarts: 0,
        since_ms: 0,
        ended_ms: None,
        exit_code: None,
        detail: match node.lease_trouble(replica) {
            _ if !reasons.is_empty() => reasons.join("; "),
            Some(trouble) => trouble,
            None => about_to_be(node, replica),
        },
    }
}

/// How the answering node is.
#[must_use]
pub fn status(node: &Node, now: Instant, wall: Wall) -> StatusRow {
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
        waves: node.view().waves().map(|(stack, _)| wave_text(node, stack)).collect(),
        voters: node.voters().voters.iter().map(|id| node_name(node, *id)).collect(),
        voters_version: node.voters().version,
        leases: node.lease_texts(now),
        counts: node.counts(),
    }
}

/// A register as people see it.
pub(crate) fn register_text(id: &RecordId) -> String {
    match id.kind {
        Kind::STACK | Kind::SERVICE | Kind::WAVE | Kind::STAGED => {
            let word = if matches!(id.kind, Kind::STACK | Kind::WAVE) { "stack" } else { "service" };
            alloc::format!("{word} {}", String::from_utf8_lossy(&id.key))
        }
        Kind::ROLLOUT => alloc::format!("rollout of {}", String::from_utf8_lossy(&id.key)),
        Kind::REVISION => alloc::format!("kept revision {}", String::from_utf8_lossy(&id.key)),
        Kind::FAILURE => alloc::format!("failure {}", String::from_utf8_lossy(&id.key)),
        Kind::VOTERS => "the list of voters".to_string(),
        Kind::FINISH => alloc::format!("end of {}", String::from_utf8_lossy(&id.key)),
        Kind::TOKEN => alloc::format!("token {}", dunlin_gossip::id::hex(&id.key)),
        Kind::NODE_ORDERS => alloc::format!("orders of node {}", dunlin_gossip::id::hex(&id.key)),
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
            wave: wave_row(node, name),
        }
    };
    // A stack of which nothing is in force yet exists as well.
    let empty = (Hlc::default(), StackManifest::default());
    let held = view.stacks();
    let new = view.waves().map(|(name, _)| name).filter(|name| !held.contains_key(*name));
    let mut all: Vec<_> = held.iter().chain(new.map(|name| (name, &empty))).collect();
    all.sort_by_key(|(name, _)| (*name).clone());
    all.into_iter().map(row).collect()
}

/// The replicas that a service should have; of a global one, on each node where it could run.
fn wanted(node: &Node, key: &ServiceKey, force: &InForce) -> Vec<ReplicaKey> {
    let replica = |slot| ReplicaKey { service: key.clone(), slot };
    match force.service.mode.count() {
        Some(_) if force.service.mode.cron().is_some() => node.view().open_runs(key).map(replica).collect(),
        Some(n) => (1..=n).map(|n| replica(Slot::Number(n))).collect(),
        None => {
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
    let view = node.view();
    wanted.retain(|replica| !view.is_taken(replica, force.revision) && view.opens(replica, force));
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
    let mut tally = Tally::new(&force.service.spec);
    let (candidates, mix) = (view.candidates(), view.mix());
    let mut ground = Ground::new(Scene { nodes: &candidates, mix: &mix });
    for (candidate, misfit) in candidates.iter().zip(ground.misfits(&waiting)) {
        let Some(misfit) = misfit else { return Vec::new() };
        let words = refusals.get(&candidate.node).filter(|_| misfit == Misfit::Refused);
        if misfit != Misfit::NotThisNode {
            tally.add(misfit, words, candidate.room);
        }
    }
    tally.lines()
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

fn device_text(group: &DeviceGroup) -> String {
    alloc::format!("{} {} {}", group.count, group.kind, group.model).trim_end().to_string()
}

fn port_texts(spec: &ServiceSpec) -> Vec<String> {
    let outer = |index: usize, published: Option<u16>| match (published, spec.demand().range_of(index)) {
        (Some(number), _) => number.to_string(),
        (None, Some(range)) => alloc::format!("{}-{}", range.first, range.last),
        (None, None) => "dynamic".to_string(),
    };
    let text = |(index, port): (usize, &PortSpec)| {
        let target = port.target.map_or_else(|| "PORT".to_string(), |n| n.to_string());
        alloc::format!("{}:{}->{target}/{}", port.name, outer(index, port.published), port.protocol.as_str())
    };
    spec.ports.iter().enumerate().map(text).collect()
}

fn workload_text(workload: &Workload) -> String {
    match workload {
        Workload::Exec(exec) => exec.argv.join(" "),
        Workload::Docker(image) => image.image.clone(),
    }
}
