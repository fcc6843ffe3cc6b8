//! What would move, and what would not fit, if nodes went, came, or were labelled otherwise.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use dunlin_gossip::face::MemberState;
use dunlin_gossip::hash::{hash64, mix};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{AllocId, Drain, NodeName, NodeOrders, ReplicaKey, Slot};
use dunlin_gossip::time::{Instant, Wall};
use serde::{Deserialize, Serialize};

use super::{Headroom, Move, headroom, placed, refusals, scene, untaken, waiting};
use crate::place::Terms;
use crate::share::shares;
use crate::view::View;

/// Nodes that can be supposed to come at once.
const MAX_NEW: u32 = 1_000;

/// A change of the flock that is only thought of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// These nodes die: `node=a,b`, `zone=z`, or any other label.
    Lose(String),
    /// What runs on these nodes goes elsewhere.
    Drain(String),
    /// So many nodes come that are like this one.
    Add {
        /// A node's name or id.
        like: String,
        /// How many.
        count: u32,
    },
    /// A node's label changes; an empty value takes it away.
    Label {
        /// A node's name or id.
        node: String,
        /// Which label.
        label: String,
        /// To what.
        value: String,
    },
}

/// What a change would do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Supposed {
    /// Nodes that would be gone, or drained.
    pub gone: Vec<String>,
    /// What would move, and what would find no place. What waits already is left out unless it could then start.
    pub changes: Vec<Move>,
    /// How many replicas would move or start. Those that nodes which come take for their share move one after the other.
    pub moves: usize,
    /// How many that run now would find no place.
    pub unplaceable: usize,
    /// Services whose names would have no replica left until those elsewhere are ready.
    pub names_empty: Vec<String>,
    /// What would be left.
    pub headroom: Headroom,
}

/// What changes of the flock would do.
///
/// # Errors
/// What is wrong with a change.
pub fn suppose(view: &View, changes: &[Change], now: Instant) -> Result<Supposed, String> {
    let mut after = view.clone();
    let (mut gone, mut drained, mut came) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for change in changes {
        match change {
            Change::Lose(which) => gone.extend(selected(view, which)?),
            Change::Drain(which) => drained.extend(selected(view, which)?),
            Change::Add { like, count } => came.extend(add(&mut after, like, *count)?),
            Change::Label { node, label, value } => set_label(&mut after, node, label, value)?,
        }
    }
    for node in &gone {
        after.set_member(*node, MemberState::Down);
    }
    for node in &drained {
        let drain = Some(Drain { since: Wall(0), deadline: None });
        after.set_orders(*node, Some(NodeOrders { drain, ..view.orders_of(*node).clone() }));
    }
    end_unsuited(&mut after);
    // Drained replicas stay until they are ready elsewhere, so that names lose nothing by it.
    let names_empty = names_empty(view, &after);
    end_leaving(&mut after);
    let waited = untaken(view);
    let open = untaken(&after);
    let refused = refusals(&after, &open, now);
    let (candidates, mix) = (after.candidates(), after.mix());
    let mut ground = scene(&candidates, &mix);
    let from = |replica: &ReplicaKey| owner(view, replica);
    let mut moves = placed(&mut ground, &after, &candidates, &waiting(&open, &refused), from);
    for (relief, to) in shares(&after, &candidates, &mut ground, came.into_iter()) {
        moves.push(Move {
            replica: super::replica_text(view, &relief.replica),
            action: "move",
            from: super::name(&after, relief.from),
            to: super::name(&after, to),
            why: Vec::from(["its share of what runs".to_string()]),
        });
    }
    moves.sort();
    let texts: BTreeSet<String> = waited.keys().map(|replica| super::replica_text(view, replica)).collect();
    moves.retain(|change| change.action != "wait" || !texts.contains(&change.replica));
    let unplaceable = moves.iter().filter(|change| change.action == "wait").count();
    Ok(Supposed {
        gone: gone.iter().chain(&drained).map(|node| super::name(view, *node)).collect(),
        moves: moves.len() - unplaceable,
        unplaceable,
        names_empty,
        headroom: headroom(&candidates, &ground),
        changes: moves,
    })
}

/// The node on which a replica runs.
fn owner(view: &View, replica: &ReplicaKey) -> Option<NodeId> {
    let live = view.of_replica(replica).filter(|(node, _, alloc)| alloc.phase.is_live() && view.stands(*node));
    live.max_by_key(|(node, _, alloc)| (alloc.epoch, *node)).map(|(node, ..)| node)
}

/// Services that have ready replicas in one view and none in the other.
fn names_empty(view: &View, after: &View) -> Vec<String> {
    let ready = |view: &View, key| view.of_service(key).any(|(node, _, alloc)| alloc.ready && view.stands(node));
    let keys = view.services().keys().filter(|key| ready(view, key) && !ready(after, key));
    keys.map(ToString::to_string).collect()
}

/// Ends what runs on nodes whose labels do not allow it any more, as their agents would.
fn end_unsuited(after: &mut View) {
    let mut ended: Vec<(NodeId, AllocId)> = Vec::new();
    for (key, force) in after.services() {
        let terms = Terms::of(&force.service.spec);
        for (node, id, alloc) in after.of_service(key) {
            let header = after.nodes().get(&node).and_then(|known| known.header.as_deref());
            let is_meant = !matches!(alloc.replica.slot, Slot::Node(slot) if slot != node);
            if header.is_some_and(|header| terms.violated(node, header).is_some()) || !is_meant {
                ended.push((node, id));
            }
        }
    }
    for (node, id) in ended {
        after.set_allocation(node, id, None);
    }
}

/// Takes away what drained nodes run, so that it is placed elsewhere.
fn end_leaving(after: &mut View) {
    let all = |node: &NodeId| after.nodes().get(node).map(|known| (*node, known.allocations.keys().copied().collect()));
    let all: Vec<(NodeId, Vec<AllocId>)> = after.drained().iter().filter_map(all).collect();
    for (node, ids) in all {
        ids.into_iter().for_each(|id| drop(after.set_allocation(node, id, None)));
    }
}

/// The nodes that `node=a,b` or `LABEL=value,...` names; at least one.
fn selected(view: &View, which: &str) -> Result<Vec<NodeId>, String> {
    let (label, values) = which
        .split_once('=')
        .ok_or_else(|| alloc::format!("{which} names no nodes; write node=a,b or zone=z or another label"))?;
    let mut found = Vec::new();
    for value in values.split(',').map(str::trim) {
        if label == "node" {
            found.push(node_named(view, value)?);
            continue;
        }
        let before = found.len();
        let has = view.nodes().iter().filter(|(_, known)| {
            known.state != Some(MemberState::Left)
                && known.header.as_ref().is_some_and(|h| h.labels.get(label).is_some_and(|actual| actual == value))
        });
        found.extend(has.map(|(node, _)| *node));
        if found.len() == before {
            return Err(alloc::format!("no node has the label {label}={value}; `dunlin nodes --json` shows labels"));
        }
    }
    Ok(found)
}

fn node_named(view: &View, text: &str) -> Result<NodeId, String> {
    let means = |(id, known): &(&NodeId, &Arc<crate::view::NodeView>)| {
        known.state != Some(MemberState::Left)
            && (id.to_string() == text || known.header.as_ref().is_some_and(|h| h.name.as_str() == text))
    };
    let found: Vec<NodeId> = view.nodes().iter().filter(means).map(|(id, _)| *id).collect();
    match found.as_slice() {
        [one] => Ok(*one),
        [] => Err(alloc::format!("there is no node {text}; `dunlin nodes` lists them")),
        [_, _, ..] => Err(alloc::format!("{text} is the name of several nodes; write the id")),
    }
}

/// New nodes have names and ids that follow from the node that they are like, so that every node answers the same.
fn add(after: &mut View, like: &str, count: u32) -> Result<Vec<NodeId>, String> {
    if count == 0 || count > MAX_NEW {
        return Err(alloc::format!("{count} new nodes; suppose 1 to {MAX_NEW}"));
    }
    let model = node_named(after, like)?;
    let header = after.nodes().get(&model).and_then(|known| known.header.clone());
    let header = header.ok_or_else(|| alloc::format!("what node {like} has is not known here yet; ask again"))?;
    let mut came = Vec::new();
    for n in 1..=count {
        let text = alloc::format!("new-{n}");
        let mut header = (*header).clone();
        header.name = NodeName::new(&text).map_err(|e| e.to_string())?;
        let seed = hash64(&model.0);
        let id = (u128::from(mix(seed, u64::from(n))) << 64) | u128::from(mix(seed, u64::from(n) + (1 << 32)));
        let id = NodeId(id.to_be_bytes());
        after.set_header(id, Some(Arc::new(header)));
        after.set_member(id, MemberState::Alive);
        came.push(id);
    }
    Ok(came)
}

fn set_label(after: &mut View, node: &str, label: &str, value: &str) -> Result<(), String> {
    let id = node_named(after, node)?;
    let header = after.nodes().get(&id).and_then(|known| known.header.clone());
    let mut header = (*header.ok_or_else(|| alloc::format!("the labels of {node} are not known here yet"))?).clone();
    let mut labels: BTreeMap<String, String> = core::mem::take(&mut header.labels);
    if value.is_empty() {
        labels.remove(label);
    } else {
        labels.insert(label.to_string(), value.to_string());
    }
    header.labels = labels;
    after.set_header(id, Some(Arc::new(header)));
    Ok(())
}
