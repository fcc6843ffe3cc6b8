//! Reads of the node's view, answered inside the loop's turn.

use dunlin_core::Node;
use dunlin_core::face::{Problem, ProblemKind};
use dunlin_core::query;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::ServiceKey;
use dunlin_net::{Net, NetStats, Traffic};
use serde::Serialize;

use crate::api::call::{Listing, Located};
use crate::clock;

/// What `status` shows: the core's row, and what passed this agent's port.
#[derive(Serialize)]
struct Status {
    #[serde(flatten)]
    node: query::StatusRow,
    network: Network,
    network_packets: Counted,
    network_quic: Counted,
}

/// The port as a whole, since the agent's start.
#[derive(Serialize)]
struct Network {
    #[serde(flatten)]
    all: Counted,
    /// Datagrams that were neither QUIC nor a packet of a member.
    turned_away: u64,
    /// Refusals by hosts of members.
    refusals: u64,
    /// Lost here, for want of room.
    lost: u64,
    connections: usize,
    links: usize,
}

/// Payload bytes and datagrams of UDP.
#[derive(Serialize)]
struct Counted {
    bytes_sent: u64,
    bytes_received: u64,
    packets_sent: u64,
    packets_received: u64,
}

impl From<Traffic> for Counted {
    fn from(traffic: Traffic) -> Self {
        Self {
            bytes_sent: traffic.sent_bytes,
            bytes_received: traffic.received_bytes,
            packets_sent: traffic.sent_packets,
            packets_received: traffic.received_packets,
        }
    }
}

fn status(node: &Node, net: &Net) -> Status {
    let NetStats { sealed, quic, packets: _, unopened, refusals, lost, connections, links } = net.stats();
    Status {
        node: query::status(node, clock::now(), clock::wall()),
        network: Network { all: sealed.plus(&quic).into(), turned_away: unopened, refusals, lost, connections, links },
        network_packets: sealed.into(),
        network_quic: quic.into(),
    }
}

/// A listing as JSON.
pub(crate) fn list(node: &Node, net: &Net, listing: Listing) -> Vec<u8> {
    match listing {
        Listing::Nodes => json(&query::nodes(node)),
        Listing::Services => json(&query::services(node)),
        Listing::Allocations => json(&query::allocations(node)),
        Listing::Stacks => json(&query::stacks(node)),
        Listing::Status => json(&status(node, net)),
        Listing::Tokens => json(&query::tokens(node)),
    }
}

fn json<T: Serialize>(rows: &T) -> Vec<u8> {
    // Rows are plain data with text keys, which serde_json always expresses.
    serde_json::to_vec(rows).unwrap_or_else(|_| b"null".to_vec())
}

/// A node's name, or its id while its header has not arrived.
pub(crate) fn name(node: &Node, id: NodeId) -> String {
    let header = node.view().nodes().get(&id).and_then(|known| known.header.as_deref());
    header.map_or_else(|| id.to_string(), |h| h.name.to_string())
}

/// The service meant by `stack/service`, or by `service` alone where only one stack has it.
pub(crate) fn service(node: &Node, text: &str) -> Result<ServiceKey, Problem> {
    let means = |key: &&ServiceKey| key.to_string() == text || key.service.as_str() == text;
    let found: Vec<&ServiceKey> = node.view().services().keys().filter(means).collect();
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(not_found(format!("there is no service {text}; `dunlin services` lists them"))),
        many => {
            let names: Vec<String> = many.iter().map(ToString::to_string).collect();
            let text = format!("{text} could be {}; write the stack as well", names.join(" or "));
            Err(Problem { kind: ProblemKind::BadRequest, text })
        }
    }
}

/// The allocation whose output is meant by a replica: a live one before an ended one, then the newest claim.
pub(crate) fn locate(node: &Node, text: &str) -> Result<Located, Problem> {
    let means = |replica: &str| replica == text || replica.split_once('/').is_some_and(|(_, rest)| rest == text);
    let mut best = None;
    for (at, known) in node.view().nodes() {
        for (id, alloc) in &known.allocations {
            let order = (alloc.phase.is_live(), alloc.epoch, *at);
            if means(&alloc.replica.to_string()) && best.is_none_or(|(so_far, _)| so_far < order) {
                best = Some((order, Located { node: *at, alloc: *id }));
            }
        }
    }
    best.map(|(_, located)| located)
        .ok_or_else(|| not_found(format!("nothing runs that is called {text}; `dunlin ps` lists what runs")))
}

fn not_found(text: String) -> Problem {
    Problem { kind: ProblemKind::NotFound, text }
}
