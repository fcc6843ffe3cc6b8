//! Reads of the node's view, answered inside the loop's turn.

use dunlin_core::Node;
use dunlin_core::face::{Problem, ProblemKind};
use dunlin_core::query::{self, ask, trust::Rostered};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{RevisionId, ServiceKey};
use dunlin_gossip::time::Instant;
use dunlin_gossip::wire::RecordId;
use serde::Serialize;

use crate::api::call::{Listing, Located, Question};
use crate::metrics;
use crate::run::Agent;

/// The shortest beginning of an id that is taken for one.
const SHORTEST_ID: usize = 4;
/// Names that an error lists.
const MAX_NAMES: usize = 8;

impl Agent {
    /// A listing, as it is served.
    pub(crate) fn list(&self, listing: Listing) -> Vec<u8> {
        let node = &self.node;
        match listing {
            Listing::Nodes => json(&query::nodes(node)),
            Listing::Services => json(&query::services(node)),
            Listing::Allocations => json(&query::allocations(node)),
            Listing::Stacks => json(&query::stacks(node)),
            Listing::Conflicts => json(&query::conflicts(node)),
            Listing::Flock => json(&query::flock(node)),
            Listing::Rollouts => json(&query::rollouts(node)),
            Listing::Tokens => json(&query::tokens(node)),
            Listing::Status => json(&self.sight()),
            Listing::Metrics => metrics::text(&self.sight()).into_bytes(),
        }
    }
}

pub(crate) fn json<T: Serialize>(rows: &T) -> Vec<u8> {
    // Rows are plain data with text keys, which serde_json always expresses.
    serde_json::to_vec(rows).unwrap_or_else(|_| b"null".to_vec())
}

/// The answer to a question about placement, as it is served.
pub(crate) fn question(node: &Node, question: Question, now: Instant) -> Result<Vec<u8>, Problem> {
    let view = node.view();
    let bad = |text| Problem { kind: ProblemKind::BadRequest, text };
    match question {
        Question::Explain(replica) => ask::explain(view, &replica, now).map(|found| json(&found)).map_err(not_found),
        Question::Plan(stack, services) => ask::plan(view, &stack, &services, now).map(|plan| json(&plan)).map_err(bad),
        Question::WhatIf(changes) => ask::suppose(view, &changes, now).map(|supposed| json(&supposed)).map_err(bad),
    }
}

/// A node's name: what it says of itself, else under which it was admitted, else its id.
pub(crate) fn name(node: &Node, id: NodeId) -> String {
    let header = node.view().nodes().get(&id).and_then(|known| known.header.as_deref());
    let admitted = || node.admission_of(id).map_or_else(|| id.to_string(), |entry| entry.name.to_string());
    header.map_or_else(admitted, |h| h.name.to_string())
}

/// The node meant by a name, an id or the beginning of one. Of namesakes the one that was not removed is meant.
pub(crate) fn node(node: &Node, text: &str) -> Result<Rostered, Problem> {
    let begins = |id: NodeId| text.len() >= SHORTEST_ID && id.to_string().starts_with(text);
    let all = query::trust::rostered(node);
    let means = |known: &&Rostered| known.name == text || begins(known.node);
    let (gone, here): (Vec<&Rostered>, Vec<&Rostered>) = all.iter().filter(means).partition(|known| known.removed);
    match (here.as_slice(), gone.as_slice()) {
        ([one], _) | ([], [one]) => Ok((*one).clone()),
        ([], []) => {
            let mut names: Vec<&str> =
                all.iter().filter(|known| !known.removed).map(|known| known.name.as_str()).collect();
            names.sort_unstable();
            let more = if names.len() > MAX_NAMES { ", ..." } else { "" };
            let shown = names.get(..MAX_NAMES).unwrap_or(&names).join(", ");
            Err(not_found(format!("there is no node {text}; the nodes are {shown}{more}")))
        }
        ([], many) | (many, _) => {
            let ids: Vec<String> = many.iter().map(|known| known.node.to_string()).collect();
            let text = format!("{text} could be node {}; use the id", ids.join(" or "));
            Err(Problem { kind: ProblemKind::BadRequest, text })
        }
    }
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

/// The revision of a service that is meant by its id, or the beginning of one.
pub(crate) fn revision(node: &Node, service: &ServiceKey, text: &str) -> Result<RevisionId, Problem> {
    let rows = query::rollouts(node).into_iter().find(|row| row.service == service.to_string());
    let all = rows.map(|row| row.revisions).unwrap_or_default();
    let meant: Vec<String> = all.into_iter().map(|row| row.revision).filter(|id| id.starts_with(text)).collect();
    match meant.as_slice() {
        [one] => RevisionId::parse(one).ok_or_else(|| not_found(format!("{one} is no revision"))),
        [] => {
            let text = format!("{service} has no revision {text}; `dunlin rollout history {service}` lists them");
            Err(not_found(text))
        }
        many => {
            let text = format!("{text} could be {}; write more of it", many.join(" or "));
            Err(Problem { kind: ProblemKind::BadRequest, text })
        }
    }
}

/// The register in conflict that is meant by its name.
pub(crate) fn conflict(node: &Node, text: &str) -> Result<RecordId, Problem> {
    match query::conflict_named(node, text).as_slice() {
        [(_, register)] => Ok(register.clone()),
        [] => Err(not_found(format!("{text} is in no conflict; `dunlin conflicts` lists what is"))),
        many => {
            let names: Vec<&str> = many.iter().map(|(name, _)| name.as_str()).collect();
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
