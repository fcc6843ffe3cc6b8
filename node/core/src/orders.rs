//! What operators order of nodes: from a request to the register, and from a changed register to what this node does about it.
//!
//! A node's orders are one register that any node may write. An order of a node that is gone means nothing; the first of the
//! members that are alive takes it away, so that state does not grow with what once was.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::face::{MemberState, NoticeLevel};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{Drain, NodeOrders, ReplicaKey, Slot, Taint, TaintEffect};
use dunlin_gossip::time::{Duration, Instant, Wall};
use dunlin_gossip::wire::{Class, Grasp, Kind, RecordId, codec};

use crate::engine::Node;
use crate::face::{EventKind, OrderEdit, Outputs, ProblemKind, Reply};
use crate::request::{Batch, problem};

/// Labels and taints that operators can give one node, each.
const MAX_EACH: usize = 64;
/// Length of a label, a taint's key or a value.
const MAX_TEXT: usize = 253;
/// After a node went, its orders are taken away by then: others who know less would write them back.
const PAUSE: Duration = Duration::from_secs(10);

impl Node {
    /// The batch that changes a node's orders, and what its author should know.
    pub(crate) fn ordering(&self, node: NodeId, edit: &OrderEdit, wall: Wall) -> Result<(Batch, Vec<String>), Reply> {
        if self.gossip.roster().is_removed(node) || self.admission_of(node).is_none() {
            let text = format!("node {node} does not belong to the cluster; `dunlin nodes` lists who does");
            return Err(problem(ProblemKind::NotFound, &text));
        }
        let before = self.view.orders_of(node);
        let mut orders = before.clone();
        let mut warnings = Vec::new();
        match edit {
            OrderEdit::Cordon => orders.cordoned = true,
            OrderEdit::Uncordon => orders.cordoned = false,
            OrderEdit::Drain { deadline } => {
                // Drained again with another deadline, the time counts from now.
                orders.drain = Some(Drain { since: wall, deadline: *deadline });
                warnings.extend(self.nowhere_else(node));
            }
            OrderEdit::Undrain => orders.drain = None,
            OrderEdit::Label { set, remove } => {
                label(&mut orders, set, remove).map_err(|text| problem(ProblemKind::BadRequest, &text))?;
                let stated = self.view.nodes().get(&node).and_then(|known| known.stated());
                let own = |label: &&String| stated.is_some_and(|header| header.labels.contains_key(*label));
                let shown = remove.iter().filter(own);
                warnings.extend(shown.map(|label| {
                    format!("the agent of this node was started with the label {label}, which shows again")
                }));
            }
            OrderEdit::Taint { set, remove } => {
                taint(&mut orders, set, remove).map_err(|text| problem(ProblemKind::BadRequest, &text))?;
            }
        }
        let register = RecordId::node_orders(node);
        // No order that is known here may still be one that is not: only what is known whole may be taken away as empty.
        let siblings = self.gossip.state().siblings(&register);
        let is_known = siblings.iter().all(|record| self.config.wire.grasp(record) == Grasp::Whole);
        let value = (orders != *NodeOrders::none() || !is_known).then(|| codec::encode(&orders));
        Ok((Vec::from([(register, value)]), warnings))
    }

    /// A drain of the last node that takes work is no mistake, but nothing will move.
    fn nowhere_else(&self, node: NodeId) -> Option<String> {
        let takes = |other: &NodeId| {
            let orders = self.view.orders_of(*other);
            *other != node && !orders.cordoned && orders.drain.is_none()
        };
        let others = self.gossip.members().filter(|(_, state)| *state == MemberState::Alive).map(|(other, _)| other);
        let is_last = !others.chain([self.me]).any(|other| takes(&other));
        is_last.then(|| "no other node takes work: what runs there stays until one does, or the deadline".to_string())
    }

    /// Something else is ordered of a node.
    pub(crate) fn on_orders(&mut self, node: NodeId, now: Instant, out: &mut Outputs) {
        let orders = self.view.orders_of(node);
        let mut words = Vec::new();
        words.extend(orders.drain.map(|drain| match drain.deadline {
            Some(deadline) => format!("drained, for {} s at most", deadline.as_secs()),
            None => "drained".to_string(),
        }));
        words.extend(orders.cordoned.then(|| "cordoned".to_string()));
        words.extend(orders.labels.iter().map(|(label, value)| format!("labelled {label}={value}")));
        words.extend(orders.taints.iter().map(|taint| format!("tainted {taint}")));
        let text = if words.is_empty() { "under no orders any more".to_string() } else { words.join(", ") };
        self.log.node(NoticeLevel::Info, EventKind::Desired, node, text);
        self.names.node(node);
        self.mark_node(node, out);
        if node == self.me {
            let global = self.view.services().iter().filter(|(_, force)| force.service.mode.is_global());
            let own = global.map(|(service, _)| ReplicaKey { service: service.clone(), slot: Slot::Node(self.me) });
            own.for_each(|replica| self.schedule.mark(replica));
            self.mark_all_own();
        }
        self.schedule.sweep(now);
        self.majority.look(now);
        self.look_at_orders(now);
    }

    /// Who belongs, or who is alive, changed: orders of nodes that are gone have to go.
    pub(crate) fn look_at_orders(&mut self, now: Instant) {
        self.orders_at = self.orders_at.or(Some(now + PAUSE));
    }

    /// Takes away the orders of nodes that do not belong any more, if that is ours to do.
    pub(crate) fn drop_old_orders(&mut self, now: Instant, wall: Wall) {
        if self.orders_at.is_none_or(|at| at > now) || self.failed || self.leaving.is_some() {
            return;
        }
        self.orders_at = None;
        let is_before = |(node, state): (NodeId, MemberState)| state == MemberState::Alive && node < self.me;
        if self.gossip.members().any(is_before) {
            return;
        }
        let all = self.gossip.state().of_kind(Class::ManyWriters, Kind::NODE_ORDERS).map(|(id, _)| id);
        let is_over = |id: &&RecordId| {
            let node = id.ordered_node();
            node.is_some_and(|node| self.gossip.roster().is_removed(node) || self.admission_of(node).is_none())
        };
        let gone: Batch = all.filter(is_over).map(|id| (id.clone(), None)).collect();
        if gone.is_empty() {
            return;
        }
        let written = self.gossip.write(now, wall, &dunlin_gossip::model::Asker::default(), gone, &mut self.gouts);
        if written.is_err() {
            self.look_at_orders(now);
        }
    }
}

fn fits(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_TEXT
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'))
}

fn label(orders: &mut NodeOrders, set: &BTreeMap<String, String>, remove: &[String]) -> Result<(), String> {
    for (label, value) in set {
        if !fits(label) || value.len() > MAX_TEXT || value.chars().any(char::is_control) {
            return Err(format!(
                "{label}={value} is no label; write letters, digits, '-', '_', '.' or '/', then '=' and a value"
            ));
        }
        orders.labels.insert(label.clone(), value.clone());
    }
    for label in remove {
        if orders.labels.remove(label).is_none() {
            return Err(format!("no operator gave this node the label {label}; `dunlin nodes --json` shows labels"));
        }
    }
    if orders.labels.len() > MAX_EACH {
        return Err(format!("{} labels; a node can be given {MAX_EACH}", orders.labels.len()));
    }
    Ok(())
}

fn taint(orders: &mut NodeOrders, set: &[Taint], remove: &[(String, Option<TaintEffect>)]) -> Result<(), String> {
    for taint in set {
        if !fits(&taint.key) || !(taint.value.is_empty() || fits(&taint.value)) {
            return Err(format!(
                "{taint} is no taint; write KEY or KEY=VALUE of letters, digits, '-', '_', '.' or '/'"
            ));
        }
        orders.taints.retain(|known| (&known.key, known.effect) != (&taint.key, taint.effect));
        orders.taints.push(taint.clone());
    }
    for (key, effect) in remove {
        let before = orders.taints.len();
        orders.taints.retain(|taint| taint.key != *key || effect.is_some_and(|effect| effect != taint.effect));
        if orders.taints.len() == before {
            return Err(format!("this node has no taint {key}; `dunlin nodes --json` shows taints"));
        }
    }
    orders.taints.sort();
    if orders.taints.len() > MAX_EACH {
        return Err(format!("{} taints; a node can have {MAX_EACH}", orders.taints.len()));
    }
    Ok(())
}
