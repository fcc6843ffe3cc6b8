//! Why a service's names answer as they do: each allocation, and what leaves it out.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::face::MemberState;
use dunlin_gossip::model::{Allocation, Reach, ServiceKey};
use serde::Serialize;

use crate::engine::Node;
use crate::view::View;

/// An allocation as names see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct NamedRow {
    /// `stack/service.slot`.
    pub replica: String,
    /// Its node's name.
    pub node: String,
    /// Its address, if it has one.
    pub address: Option<String>,
    /// Its ports that every node reaches, as `name=8080/tcp`.
    pub ports: Vec<String>,
    /// True if names answer with it.
    pub answered: bool,
    /// What leaves it out; empty if nothing does.
    pub why_not: String,
}

/// Every allocation of a service (names in any case), those that are answered with first.
#[must_use]
pub fn named(node: &Node, service: &str, stack: &str) -> Vec<NamedRow> {
    let view = node.view();
    let is_meant = |key: &&ServiceKey| {
        key.service.as_str().eq_ignore_ascii_case(service) && key.stack.as_str().eq_ignore_ascii_case(stack)
    };
    let Some(key) = view.services().keys().find(is_meant) else { return Vec::new() };
    let allocations: Vec<_> = view.of_service(key).collect();
    let state = |id| view.nodes().get(&id).and_then(|known| known.state);
    let can_answer = |alloc: &Allocation| alloc.ready && alloc.phase.is_live() && alloc.endpoint.is_some();
    let has_alive =
        allocations.iter().any(|(id, _, alloc)| state(*id) == Some(MemberState::Alive) && can_answer(alloc));
    let mut rows: Vec<NamedRow> =
        allocations.iter().map(|(id, _, alloc)| row(view, *id, alloc, why_not(state(*id), alloc, has_alive))).collect();
    rows.sort_by(|a, b| (!a.answered, &a.replica, &a.node).cmp(&(!b.answered, &b.replica, &b.node)));
    rows
}

/// What leaves an allocation out, by the rules of `names.rs`.
fn why_not(state: Option<MemberState>, alloc: &Allocation, has_alive: bool) -> &'static str {
    match state {
        Some(MemberState::Down) => return "its node is down",
        Some(MemberState::Left) => return "its node has left",
        None => return "its node was never heard of",
        Some(MemberState::Suspect) if has_alive => return "its node is suspected to be down, and others remain",
        Some(MemberState::Suspect | MemberState::Alive) => {}
    }
    let Some(endpoint) = &alloc.endpoint else { return "it has no endpoint yet" };
    if !alloc.phase.is_live() {
        return "it is stopping or has ended";
    }
    if !alloc.ready {
        return "it is not ready: it starts, or its health check does not pass";
    }
    match endpoint.ports.iter().any(|port| port.reach == Reach::Flock) {
        true => "",
        false => "it has no port that other nodes reach: publish one",
    }
}

fn row(view: &View, id: dunlin_gossip::id::NodeId, alloc: &Allocation, why_not: &str) -> NamedRow {
    let header = view.nodes().get(&id).and_then(|known| known.header.as_ref());
    let endpoint = alloc.endpoint.as_ref();
    let ports = endpoint.into_iter().flat_map(|endpoint| &endpoint.ports).filter(|port| port.reach == Reach::Flock);
    NamedRow {
        replica: alloc.replica.to_string(),
        node: header.map_or_else(|| id.to_string(), |header| header.name.to_string()),
        address: endpoint.map(|endpoint| endpoint.instance.unwrap_or(endpoint.node).to_string()),
        ports: ports.map(|port| alloc::format!("{}={}/{}", port.name, port.outer, port.protocol.as_str())).collect(),
        answered: why_not.is_empty(),
        why_not: why_not.to_string(),
    }
}
