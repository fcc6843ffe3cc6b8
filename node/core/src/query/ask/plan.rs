//! Where a file's replicas would go, were it deployed now.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{AllocId, Mode, ReplicaKey, Service, ServiceKey, ServiceName, StackName};
use dunlin_gossip::time::Instant;
use serde::Serialize;

use super::{Headroom, Move, headroom, index_of, name, placed, refusals, replica_text, scene, untaken, waiting};
use crate::admit;
use crate::place::Waiting;
use crate::view::View;

/// What a deploy would do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Planned {
    /// Replicas that stay as they are.
    pub keep: usize,
    /// What would happen to the others.
    pub changes: Vec<Move>,
    /// How many of these would wait because no node can run them.
    pub waiting: usize,
    /// What would be left.
    pub headroom: Headroom,
    /// What `dunlin deploy` would warn about.
    pub warnings: Vec<String>,
}

/// What a deploy would do. A new revision replaces the old one on its node where it fits there, as a rollout does.
///
/// # Errors
/// Why the deploy would be refused: every fault, one a line.
pub fn plan(
    view: &View,
    stack: &StackName,
    services: &BTreeMap<ServiceName, Service>,
    now: Instant,
) -> Result<Planned, String> {
    let mut warnings = admit::check(stack, services, &view.candidates())?;
    let mut after = view.clone();
    let mut changes = Vec::new();
    let old: Vec<ServiceKey> = view.services_of(stack).map(|(key, _)| key.clone()).collect();
    let new = services.iter().map(|(name, service)| {
        let key = ServiceKey { stack: stack.clone(), service: name.clone() };
        (key, Some(service.clone()))
    });
    let new: BTreeMap<ServiceKey, Option<Service>> = old.into_iter().map(|key| (key, None)).chain(new).collect();
    for (key, service) in &new {
        after.suppose(key, service.clone());
    }
    // Whatever is not wanted as it is ends; what is wanted otherwise tries its old place first.
    let mut before: BTreeMap<ReplicaKey, NodeId> = BTreeMap::new();
    let mut keep = 0;
    for key in new.keys() {
        let claims: Vec<(NodeId, AllocId, ReplicaKey, _, bool)> = view
            .of_service(key)
            .filter(|(node, _, alloc)| alloc.phase.is_live() && view.stands(*node))
            .map(|(node, id, alloc)| (node, id, alloc.replica.clone(), alloc.revision, alloc.phase.is_live()))
            .collect();
        for (node, id, replica, revision, _) in claims {
            match after.wanted(&replica) {
                Some(force) if force.revision == revision => keep += 1,
                Some(_) => {
                    after.set_allocation(node, id, None);
                    before.insert(replica, node);
                }
                None => {
                    after.set_allocation(node, id, None);
                    let (replica, from) = (replica_text(view, &replica), name(view, node));
                    changes.push(Move { replica, action: "stop", from, to: String::new(), why: Vec::new() });
                }
            }
        }
    }
    let open: BTreeMap<_, _> =
        untaken(&after).into_iter().filter(|(replica, _)| new.contains_key(&replica.service)).collect();
    let refused = refusals(&after, &open, now);
    let all = waiting(&open, &refused);
    let (candidates, mix) = (after.candidates(), after.mix());
    let mut ground = scene(&candidates, &mix);
    let mut rest: Vec<Waiting<'_>> = Vec::new();
    for entry in all {
        let place = before.get(entry.replica).copied();
        let index = place.and_then(|node| index_of(&candidates, node));
        match index.filter(|index| ground.fits_on(*index, &entry)) {
            Some(index) => {
                ground.take(index, &entry);
                let at = place.map(|node| name(view, node)).unwrap_or_default();
                let replica = replica_text(view, entry.replica);
                changes.push(Move { replica, action: "replace", from: at.clone(), to: at, why: Vec::new() });
            }
            None => rest.push(entry),
        }
    }
    changes.extend(placed(&mut ground, &after, &candidates, &rest, |replica| before.get(replica).copied()));
    changes.sort();
    let waiting = changes.iter().filter(|change| change.action == "wait").count();
    warnings.extend(homeless(&changes, services));
    Ok(Planned { keep, waiting, headroom: headroom(&candidates, &ground), changes, warnings })
}

/// Of each service of which replicas would wait: how many, and the nearest miss of the first of them.
fn homeless(changes: &[Move], services: &BTreeMap<ServiceName, Service>) -> Vec<String> {
    let mut counts: BTreeMap<&str, (usize, &Move)> = BTreeMap::new();
    for change in changes.iter().filter(|change| change.action == "wait") {
        let service = change.replica.rsplit_once('.').map_or(change.replica.as_str(), |(service, _)| service);
        counts.entry(service).or_insert((0, change)).0 += 1;
    }
    let line = |(service, (count, first)): (&str, (usize, &Move))| {
        let name = service.split_once('/').map_or(service, |(_, name)| name);
        let mode = ServiceName::new(name).ok().and_then(|name| services.get(&name)).map(|service| service.mode);
        let of = if let Some(Mode::Replicated(all)) = mode { alloc::format!(" of {all}") } else { String::new() };
        let why = first.why.first().map_or("there is no node that could take work", String::as_str);
        alloc::format!("{service}: {count}{of} replicas have no node now and wait; nearest miss: {why}")
    };
    counts.into_iter().map(line).collect()
}
