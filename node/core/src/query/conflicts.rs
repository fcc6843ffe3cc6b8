//! Conflicts: registers that hold more than one value, and how the values differ, field by field.
//!
//! Equal values are no conflict, nor are manifests that name the same services. The same rows come out on every node that
//! holds the same records. What cannot be read by this version is shown without its fields, never left out.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::id::hex;
use dunlin_gossip::model::{NodeOrders, Rollout, Service, StackManifest};
use dunlin_gossip::wire::{Kind, Record, RecordId, codec};
use serde::Serialize;
use serde_json::Value;

use super::node_name;
use crate::engine::Node;

/// A register with more than one value.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ConflictRow {
    /// `stack/service`, or the stack, or `rollout:stack/service`; of other kinds the register's key.
    pub what: String,
    /// `service`, `stack`, `rollout`, `token`, `node` (what is ordered of it) or `other`.
    pub kind: &'static str,
    /// The one in force first, then the newest first.
    pub versions: Vec<VersionRow>,
}

/// One of the values.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct VersionRow {
    /// Names it: the hash of its record.
    pub version: String,
    /// True for the one that every node acts upon.
    pub in_force: bool,
    /// True for a removal.
    pub removed: bool,
    /// Who asked for it, as its node knew them; empty if that is not known.
    pub author: String,
    /// The name of the node that wrote it.
    pub node: String,
    /// That node's id.
    pub node_id: String,
    /// Its stamp.
    pub hlc: u64,
    /// When, by that node's clock (milliseconds since 1970).
    pub at_ms: u64,
    /// Where it differs from the one in force.
    pub difference: Vec<FieldRow>,
}

/// A field in which two versions differ.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FieldRow {
    /// Its path, as `spec.environment.VERSION`.
    pub field: String,
    /// What the version in force says; none if it lacks the field.
    pub in_force: Option<String>,
    /// What this version says; none if it lacks the field.
    pub here: Option<String>,
}

/// All conflicts, in the order of their registers.
#[must_use]
pub fn conflicts(node: &Node) -> Vec<ConflictRow> {
    node.gossip().state().conflicts().filter_map(|(winner, siblings)| row(node, winner, siblings)).collect()
}

/// The register of a conflict by its name in [`ConflictRow::what`], or without the stack where that is unambiguous.
#[must_use]
pub fn conflict_named(node: &Node, text: &str) -> Vec<(String, RecordId)> {
    let named = |winner: &Record| (what(winner.id()), winner.id().clone());
    let state = node.gossip().state();
    let real = state.conflicts().filter(|(winner, siblings)| row(node, winner, siblings).is_some());
    let all: Vec<(String, RecordId)> = real.map(|(winner, _)| named(winner)).collect();
    let exact: Vec<_> = all.iter().filter(|(name, _)| name == text).cloned().collect();
    if !exact.is_empty() {
        return exact;
    }
    all.into_iter().filter(|(name, _)| name.split_once('/').is_some_and(|(_, service)| service == text)).collect()
}

/// The versions of a register: of equal values the newest only.
fn row(node: &Node, winner: &Record, siblings: &[Record]) -> Option<ConflictRow> {
    let in_force = match winner.id().kind {
        Kind::STACK => in_force_manifest(siblings).unwrap_or(winner),
        _ => winner,
    };
    // What is added to one deploy at the same time is all in force.
    let deploy = |record: &Record| record.read_as::<StackManifest>().map(|manifest| manifest.deployed);
    let is_merged = |record: &&Record| winner.id().kind == Kind::STACK && deploy(record) == deploy(in_force);
    let others = siblings.iter().rev().filter(|record| record.payload().is_none() || !is_merged(record));
    let mut newest_first: Vec<&Record> = core::iter::once(in_force).chain(others).collect();
    let mut seen = BTreeSet::new();
    newest_first.retain(|record| seen.insert(meaning(record)));
    if newest_first.len() < 2 {
        return None;
    }
    let force = fields(in_force);
    let versions = newest_first.iter().map(|record| version(node, record, *record == in_force, &force)).collect();
    Some(ConflictRow { what: what(winner.id()), kind: kind(winner.id().kind), versions })
}

fn in_force_manifest(siblings: &[Record]) -> Option<&Record> {
    let manifests = crate::view::manifests(siblings)?;
    manifests.into_iter().max_by_key(|(_, manifest)| manifest.deployed).map(|(record, _)| record)
}

/// What makes two records of one register the same to people: manifests by the names in them, others by their value.
fn meaning(record: &Record) -> Option<Vec<u8>> {
    let payload = record.payload()?;
    match record.id().kind {
        // What is kept, and what failed, is the same whoever says it first.
        Kind::REVISION | Kind::FAILURE | Kind::FINISH => return Some(Vec::new()),
        // Two deploys of one service are in conflict about the service; here only about how it goes over.
        Kind::ROLLOUT => {
            let said = record.read_as::<Rollout>().map(|r| codec::encode(&(r.policy, r.paused, r.promoted, r.undo)));
            return Some(said.unwrap_or_else(|| payload.to_vec()));
        }
        // When each of two deploys said so makes no difference to anybody.
        Kind::SERVICE | Kind::STAGED => {
            if let Some(mut service) = record.read_as::<Service>().filter(|service| service.mode.job().is_some()) {
                service.mode.job_mut().into_iter().for_each(|job| (job.since, job.again) = (Hlc(0), Hlc(0)));
                return Some(codec::encode(&service));
            }
        }
        _ => {}
    }
    if record.id().kind == Kind::STACK
        && let Some(manifest) = record.read_as::<StackManifest>()
    {
        return Some(codec::encode(&manifest.services.keys().collect::<Vec<_>>()));
    }
    Some(payload.to_vec())
}

fn version(node: &Node, record: &Record, in_force: bool, force: &BTreeMap<String, String>) -> VersionRow {
    let author = record.author().map(|actor| actor.node);
    let own = fields(record);
    let names: BTreeSet<&String> = force.keys().chain(own.keys()).filter(|_| record.payload().is_some()).collect();
    let differing = names.into_iter().filter(|name| force.get(*name) != own.get(*name));
    let difference = differing.map(|name| FieldRow {
        field: name.clone(),
        in_force: force.get(name).cloned(),
        here: own.get(name).cloned(),
    });
    VersionRow {
        version: alloc::format!("{:016x}", record.hash()),
        in_force,
        removed: record.payload().is_none(),
        author: record.asker().to_string(),
        node: author.map_or_else(String::new, |id| node_name(node, id)),
        node_id: author.map_or_else(String::new, |id| id.to_string()),
        hlc: record.hlc().0,
        at_ms: record.hlc().wall().0,
        difference: difference.collect(),
    }
}

fn what(id: &RecordId) -> String {
    match id.kind {
        Kind::STACK | Kind::SERVICE | Kind::WAVE | Kind::STAGED => String::from_utf8_lossy(&id.key).into_owned(),
        Kind::ROLLOUT => alloc::format!("rollout:{}", String::from_utf8_lossy(&id.key)),
        _ => hex(&id.key),
    }
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::STACK => "stack",
        Kind::SERVICE => "service",
        Kind::TOKEN => "token",
        Kind::ROLLOUT => "rollout",
        Kind::NODE_ORDERS => "node",
        _ => "other",
    }
}

/// A value's fields by their paths. Only what is no secret: specifications and manifests.
fn fields(record: &Record) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    if record.payload().is_none() {
        return fields;
    }
    match record.id().kind {
        Kind::SERVICE => {
            let service = record.read_as::<Service>();
            let value = service.and_then(|service| serde_json::to_value(service).ok());
            value.iter().for_each(|value| flatten(String::new(), value, &mut fields));
        }
        Kind::ROLLOUT => {
            let rollout = record.read_as::<Rollout>();
            let value = rollout.and_then(|rollout| serde_json::to_value(rollout).ok());
            value.iter().for_each(|value| flatten(String::new(), value, &mut fields));
        }
        Kind::STACK => {
            let manifest = record.read_as::<StackManifest>().unwrap_or_default();
            let names: Vec<&str> = manifest.services.keys().map(|name| name.as_str()).collect();
            fields.insert("services".to_string(), names.join(", "));
        }
        Kind::NODE_ORDERS => {
            let value = record.read_as::<NodeOrders>().and_then(|orders| serde_json::to_value(orders).ok());
            value.iter().for_each(|value| flatten(String::new(), value, &mut fields));
        }
        _ => {}
    }
    fields
}

/// Leaves by path. Lists of plain values, durations and enum variants with one plain value are leaves.
fn flatten(path: String, value: &Value, out: &mut BTreeMap<String, String>) {
    let below = |name: &str| if path.is_empty() { name.to_string() } else { alloc::format!("{path}.{name}") };
    match value {
        Value::Null => {}
        Value::Object(parts) => {
            if let Some(text) = leaf(parts) {
                out.insert(path, text);
                return;
            }
            parts.iter().for_each(|(name, part)| flatten(below(name), part, out));
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            items.iter().enumerate().for_each(|(n, item)| flatten(below(&n.to_string()), item, out));
        }
        Value::Array(_) | Value::Bool(_) | Value::Number(_) => {
            out.insert(path, value.to_string());
        }
        Value::String(text) => {
            out.insert(path, text.clone());
        }
    }
}

fn leaf(parts: &serde_json::Map<String, Value>) -> Option<String> {
    if let (2, Some(secs), Some(nanos)) = (parts.len(), parts.get("secs"), parts.get("nanos")) {
        let millis = secs.as_u64()? * 1_000 + nanos.as_u64()? / 1_000_000;
        let (s, ms) = (millis / 1_000, millis % 1_000);
        return Some(if ms == 0 { alloc::format!("{s} s") } else { alloc::format!("{millis} ms") });
    }
    let mut parts = parts.iter();
    let ((variant, value), None) = (parts.next()?, parts.next()) else { return None };
    let is_variant = variant.starts_with(|c: char| c.is_ascii_uppercase());
    (is_variant && value.is_number()).then(|| alloc::format!("{variant} {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_paths_and_plain_words() {
        let value = serde_json::json!({"mode": {"Replicated": 3}, "spec": {"argv": ["a", "b"], "health": null,
            "grace": {"secs": 1, "nanos": 500_000_000}, "env": {"A": "1"}, "ports": [{"name": "http"}]}});
        let mut fields = BTreeMap::new();
        flatten(String::new(), &value, &mut fields);
        let expected = [
            ("mode", "Replicated 3"),
            ("spec.argv", "[\"a\",\"b\"]"),
            ("spec.env.A", "1"),
            ("spec.grace", "1500 ms"),
            ("spec.ports.0.name", "http"),
        ];
        assert_eq!(fields, expected.map(|(a, b)| (a.to_string(), b.to_string())).into());
    }
}
