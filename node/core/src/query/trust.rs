//! Who belongs and by whose word: the roster as people ask about it.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::face::MemberState;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{RosterEntry, TokenId};
use dunlin_gossip::wire::{Class, Kind};
use serde::Serialize;

use crate::engine::Node;

/// A node that was once admitted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rostered {
    /// Its id.
    pub node: NodeId,
    /// Its name: what it says of itself, or else under which it was admitted.
    pub name: String,
    /// True if it was removed since.
    pub removed: bool,
    /// Its admission.
    pub entry: RosterEntry,
}

/// Everybody who was ever admitted and whose admission this version can read, in the order of their ids.
#[must_use]
pub fn rostered(node: &Node) -> Vec<Rostered> {
    let records = node.gossip().state().of_kind(Class::GrowOnly, Kind::ROSTER);
    let entries = records.filter_map(|(_, record)| record.read_as::<RosterEntry>());
    entries
        .map(|entry| Rostered {
            node: entry.node,
            name: name(node, &entry),
            removed: node.gossip().roster().is_removed(entry.node),
            entry,
        })
        .collect()
}

fn name(node: &Node, entry: &RosterEntry) -> String {
    let header = node.view().nodes().get(&entry.node).and_then(|known| known.header.as_ref());
    header.map_or_else(|| entry.name.to_string(), |header| header.name.to_string())
}

/// A node that another one let in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct AdmittedRow {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The token that it showed.
    pub token: String,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// As membership sees it; none if it was removed.
    pub state: Option<MemberState>,
}

/// Whom a node let in, or a token that it issued.
#[must_use]
pub fn admitted_by(node: &Node, who: NodeId) -> Vec<AdmittedRow> {
    let issued = tokens_of(node, who);
    let by_it = |entry: &RosterEntry| {
        entry.node != who
            && (entry.admitted_by == Some(who) || entry.token.is_some_and(|token| issued.contains(&token)))
    };
    let row = |known: Rostered| AdmittedRow {
        id: known.node.to_string(),
        name: known.name,
        token: known.entry.token.map_or_else(String::new, token_text),
        at_ms: known.entry.at.0,
        state: node.gossip().member_state(known.node),
    };
    rostered(node).into_iter().filter(|known| by_it(&known.entry)).map(row).collect()
}

/// The tokens that a node issued and that are still good for something.
#[must_use]
pub fn tokens_of(node: &Node, issuer: NodeId) -> Vec<TokenId> {
    node.view().tokens().values().filter(|token| token.issuer == issuer).map(|token| token.id).collect()
}

/// A token's id as people see it.
#[must_use]
pub fn token_text(id: TokenId) -> String {
    alloc::format!("{:016x}", id.0)
}
