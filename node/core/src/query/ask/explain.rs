//! Why a replica is where it is: each node's rank and score, or the rule that keeps it off.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::face::MemberState;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{AllocId, Prefer, ReplicaKey, Resources, ServiceKey, ServiceSpec};
use dunlin_gossip::time::Instant;
use serde::Serialize;

use super::{index_of, name, replica_text, scene, untaken};
use crate::allocation::learn::{first, learns};
use crate::place::preempt::price;
use crate::place::{Candidate, Misfit, Room, Score, Terms, Waiting, attribute, request_text};
use crate::query::miss::{bytes, cpus, miss};
use crate::view::{InForce, NodeView, View};

/// Why a replica is where it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Explained {
    /// `stack/service.slot`.
    pub replica: String,
    /// The revision that should run.
    pub revision: String,
    /// Its priority.
    pub priority: i32,
    /// What it asks for.
    pub asks: Vec<String>,
    /// The nodes that hold a live claim on it, newest first; empty while it waits.
    pub on: Vec<String>,
    /// It is where it is since a node that came took it for its share.
    pub taken: Option<Taken>,
    /// How many nodes compete by score.
    pub k: usize,
    /// Every node: first its ladder as it would be were it placed now, then those on which it cannot run.
    pub nodes: Vec<CandidateRow>,
}

/// A move that nothing forced: a node that came, or was let take work again, took its share of what runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Taken {
    /// Who took it.
    pub by: String,
    /// From whom.
    pub from: String,
    /// How full the one was then, in percent.
    pub full_pct: u8,
    /// How full those that suit it were in the mean, in percent.
    pub mean_pct: u8,
}

/// A node, to a replica.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CandidateRow {
    /// Its name.
    pub node: String,
    /// Its id.
    pub node_id: String,
    /// Its place on the ladder, from 0; none if the replica cannot run there.
    pub place: Option<usize>,
    /// Its place in the replica's rendezvous order: smaller is earlier.
    pub rank: Option<u64>,
    /// What it has to show against the other candidates; none beyond the first of the order on which it fits.
    pub score: Option<Score>,
    /// The rule that keeps it off.
    pub refused: Option<String>,
    /// What is left there: thousandths of a cpu.
    pub cpu_left_milli: u64,
    /// What is left there: bytes of memory.
    pub memory_left_bytes: u64,
    /// What is left of each device, in thousandths.
    pub devices_left: Vec<u32>,
    /// True if it is there.
    pub here: bool,
}

/// Why a replica is where it is: as if it were not there, and were placed now. `stack/web.3`, or `web.3` where that is
/// unambiguous; of a global service, `web.NODE`.
///
/// # Errors
/// What is wrong with the name.
pub fn explain(view: &View, text: &str, now: Instant) -> Result<Explained, String> {
    let (replica, force) = named(view, text)?;
    let standing = |(node, _, alloc): &(NodeId, AllocId, &dunlin_gossip::model::Allocation)| {
        alloc.phase.is_live() && view.stands(*node)
    };
    let mut claims: Vec<_> = view.of_replica(&replica).filter(standing).map(|(n, id, a)| (a.epoch, n, id)).collect();
    claims.sort_unstable();
    claims.reverse();
    let mut without = view.clone();
    for (_, node, id) in &claims {
        without.set_allocation(*node, *id, None);
    }
    let refused_by = view.refused_by(&replica, force.revision, now);
    let spec = &force.service.spec;
    let waiting = Waiting { replica: &replica, spec, refused_by: &refused_by };
    let (candidates, mix) = (without.candidates(), without.mix());
    let mut ground = scene(&candidates, &mix);
    let ladder = ground.ladder(&waiting);
    let places: BTreeMap<NodeId, usize> = ladder.iter().enumerate().map(|(at, (node, ..))| (*node, at)).collect();
    let misfits = ground.misfits(&waiting);
    let has_lesser = view.has_lesser(spec.priority);
    let mut rows: Vec<CandidateRow> = Vec::new();
    for (id, known) in view.nodes() {
        let index = index_of(&candidates, *id);
        let place = places.get(id).copied();
        let found = place.and_then(|place| ladder.get(place));
        let left = without.nodes().get(id).map(|node| node.room()).unwrap_or_default();
        let refused = match (index, known.state) {
            (Some(index), _) => misfits.get(index).and_then(Option::as_ref).map(|why| {
                let text = match why {
                    // What it says of itself is the figure to a rule about that.
                    Misfit::Constraint(_) => alloc::format!("{why}; {}", has(*id, known, spec)),
                    other => miss(other, spec, &left),
                };
                let candidate = candidates.get(index).filter(|_| has_lesser && why.is_room());
                let names = candidate.map(|c| making_way(view, &without, &waiting, c)).unwrap_or_default();
                if names.is_empty() { text } else { alloc::format!("{text}; {names} would make way") }
            }),
            (None, Some(MemberState::Left)) => continue,
            (None, Some(MemberState::Down)) => Some("it is down".to_string()),
            (None, Some(MemberState::Suspect)) => Some("it does not answer right now".to_string()),
            (None, Some(MemberState::Alive) | None) => Some("it was not heard of yet".to_string()),
        };
        rows.push(CandidateRow {
            node: name(view, *id),
            node_id: id.to_string(),
            place,
            rank: found.map(|(_, rank, _)| rank.0),
            score: found.and_then(|(.., score)| *score),
            refused,
            cpu_left_milli: left.base.cpu_milli,
            memory_left_bytes: left.base.memory_bytes,
            devices_left: without.nodes().get(id).map(|node| node.units().to_vec()).unwrap_or_default(),
            here: claims.iter().any(|(_, on, _)| on == id),
        });
    }
    rows.sort_by(|a, b| {
        (a.place.is_none(), a.place, &a.node, &a.node_id).cmp(&(b.place.is_none(), b.place, &b.node, &b.node_id))
    });
    Ok(Explained {
        replica: replica_text(view, &replica),
        revision: force.revision.to_string(),
        priority: spec.priority,
        asks: asks(&force, learnt(view, &replica, spec)),
        on: claims.iter().map(|(_, node, _)| name(view, *node)).collect(),
        taken: claims.first().and_then(|(_, node, id)| taken(view, *node, *id)),
        k: crate::place::K,
        nodes: rows,
    })
}

/// From whom a node took this for its share, if it did.
fn taken(view: &View, node: NodeId, id: AllocId) -> Option<Taken> {
    let relieved = view.allocation(node, id)?.relieved()?;
    let (by, from) = (name(view, node), name(view, relieved.node));
    Some(Taken { by, from, full_pct: relieved.full, mean_pct: relieved.mean })
}

/// What would have to end on a node, so that a replica fits there; empty if nothing may.
fn making_way(view: &View, without: &View, waiting: &Waiting<'_>, candidate: &Candidate<'_>) -> String {
    let price = price(waiting, candidate, &without.tenants(candidate.node), &Room::default());
    let victims = price.map(|price| price.victims).unwrap_or_default();
    let names: Vec<String> = victims.iter().map(|(_, other)| replica_text(view, other)).collect();
    names.join(", ")
}

/// What a node has instead of what the first constraint that it does not meet asks for.
fn has(id: NodeId, known: &NodeView, spec: &ServiceSpec) -> String {
    let header = known.header.as_deref();
    let violated = header.and_then(|header| Terms::of(spec).violated(id, header));
    let Some((header, constraint)) = header.zip(violated) else { return String::from("it is not known") };
    let value = attribute(&constraint.attribute, Some(&id.to_string()), header).map(ToString::to_string);
    value.map_or_else(|| String::from("it has none"), |value| alloc::format!("it has {value}"))
}

/// What the claims of a service have come to reserve, whose author states nothing.
fn learnt(view: &View, replica: &ReplicaKey, spec: &ServiceSpec) -> Option<Resources> {
    let left = Resources { cpu_milli: u64::MAX, memory_bytes: u64::MAX };
    learns(spec).then(|| first(view, &replica.service, spec, left))
}

/// What a replica asks for, in words.
fn asks(force: &InForce, learnt: Option<Resources>) -> Vec<String> {
    let spec = &force.service.spec;
    let kept = |default: u64, kept: Option<u64>, text: fn(u64) -> String| match kept {
        Some(kept) if kept != default => alloc::format!(" by default ({} learnt)", text(kept)),
        Some(_) | None => String::new(),
    };
    let (cpu, memory) = (spec.reservation.cpu_milli, spec.reservation.memory_bytes);
    let mut words = Vec::from([
        alloc::format!("{} cpu{}", cpus(cpu), kept(cpu, learnt.map(|l| l.cpu_milli), cpus)),
        alloc::format!("{} of memory{}", bytes(memory), kept(memory, learnt.map(|l| l.memory_bytes), bytes)),
    ]);
    if let Some(cron) = force.service.mode.cron() {
        let (calendar, zone) = (cron.calendar, cron.zone);
        let (overlap, missed) = (cron.overlap.as_str(), cron.missed.as_str());
        words.push(alloc::format!("to be run at '{calendar}' {zone} (overlap {overlap}, missed {missed})"));
    }
    let is_lone = spec.prefer == Prefer::Majority;
    words
        .extend(is_lone.then(|| "a lease from more than half of the voters (`dunlin status` on its node)".to_string()));
    let further = &spec.placing.further;
    words.extend((further.pids > 0).then(|| alloc::format!("{} processes", further.pids)));
    words.extend((further.disk_bytes > 0).then(|| alloc::format!("{} of disk", bytes(further.disk_bytes))));
    words.extend(spec.placing.devices.iter().map(request_text));
    words.extend(spec.constraints.iter().map(|c| alloc::format!("constraint {c}")));
    words.extend(spec.placing.max_per_node.map(|n| alloc::format!("at most {n} on a node")));
    words.extend(spec.placing.spread.iter().map(|label| alloc::format!("spread over {label}")));
    words.extend(spec.placing.skews.iter().map(|skew| alloc::format!("max_skew {}={}", skew.label, skew.most)));
    for affinity in &spec.placing.affinities {
        let which = if affinity.anti { "away from" } else { "near" };
        let weight = affinity.weight.map_or_else(String::new, |weight| alloc::format!(" (weight {weight})"));
        words.push(alloc::format!("{which} {}{weight}", affinity.service));
    }
    words
}

/// There is nothing of that name to explain, which a cron service may well have none of.
fn no_replica(view: &View, text: &str) -> String {
    let is_meant = |key: &ServiceKey| key.service.as_str() == text || key.to_string() == text;
    let meant = view.services().iter().find(|(key, force)| is_meant(key) && force.service.mode.cron().is_some());
    match meant.and_then(|(key, force)| Some((key, force.service.mode.cron()?))) {
        Some((key, cron)) => {
            let (calendar, zone) = (cron.calendar, cron.zone);
            alloc::format!(
                "{key} is run at '{calendar}' {zone}, and no run waits for a node; `dunlin services` tells the next and the last ones"
            )
        }
        None => alloc::format!("there is no replica {text}; `dunlin ps` lists them, as in shop/web.1"),
    }
}

/// The replica that is meant, whether it runs or waits.
fn named(view: &View, text: &str) -> Result<(ReplicaKey, InForce), String> {
    let means = |replica: &ReplicaKey| {
        let full = replica_text(view, replica);
        full == text || full.split_once('/').is_some_and(|(_, rest)| rest == text)
    };
    let running = view.services().iter().flat_map(|(key, force)| {
        let wanted = |(_, _, alloc): &(NodeId, AllocId, &dunlin_gossip::model::Allocation)| {
            view.wanted(&alloc.replica).is_some()
        };
        view.of_service(key).filter(wanted).map(move |(_, _, alloc)| (alloc.replica.clone(), force.clone()))
    });
    let mut found: Vec<(ReplicaKey, InForce)> =
        running.chain(untaken(view)).filter(|(replica, _)| means(replica)).collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found.dedup_by(|a, b| a.0 == b.0);
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(no_replica(view, text)),
        many => {
            let names: Vec<String> = many.iter().map(|(replica, _)| replica.to_string()).collect();
            Err(alloc::format!("{text} could be {}; write the stack as well", names.join(" or ")))
        }
    }
}
