//! Rollouts as people see them: how far each is, what holds it up, and which revisions there are to go back to.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::model::{Canary, Failure, Promotion, RevisionId, ServiceKey, Slot};
use serde::Serialize;

use super::{node_name, replica_text, wanted, workload_text};
use crate::engine::Node;
use crate::rollout;
use crate::view::InForce;

/// A service's rollout.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RolloutRow {
    /// `stack/service`.
    pub service: String,
    /// `done`, `updating`, `canary` (the first ones wait to be promoted), `paused`, `failed`, `rolling-back` or
    /// `rolled-back`.
    pub state: &'static str,
    /// The revision in force.
    pub revision: String,
    /// The one that was asked for; another one where that failed.
    pub asked: String,
    /// The one before, as far as it is known.
    pub from: Option<String>,
    /// Slots that are ready at the revision in force.
    pub updated: usize,
    /// Slots that there should be.
    pub replicas: usize,
    /// Slots that may be under way at a time; 0 means all.
    pub parallelism: u32,
    /// `stop-first` or `start-first`.
    pub order: &'static str,
    /// `retry`, `pause`, `continue` or `rollback`.
    pub on_failure: &'static str,
    /// How many go first, and wait for the others.
    pub canaries: u32,
    /// What holds it up, and what to do about it; empty if nothing does.
    pub detail: String,
    /// What failed in this attempt.
    pub failures: Vec<FailureRow>,
    /// The revisions that there are, the newest first.
    pub revisions: Vec<RevisionRow>,
}

/// A replica that failed its new revision.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FailureRow {
    /// `stack/service.slot`.
    pub replica: String,
    /// The revision that it failed.
    pub revision: String,
    /// The name of the node on which it failed.
    pub node: String,
    /// How.
    pub reason: String,
    /// When (milliseconds since 1970).
    pub at_ms: u64,
}

/// A revision of a service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RevisionRow {
    /// Its id, which `dunlin rollback --to` takes.
    pub revision: String,
    /// `in-force`, `failed` or `kept`.
    pub state: &'static str,
    /// When it was asked for, or put aside (milliseconds since 1970).
    pub at_ms: u64,
    /// The command or the image.
    pub workload: String,
}

/// The rollouts of all services in force.
#[must_use]
pub fn rollouts(node: &Node) -> Vec<RolloutRow> {
    node.view().services().iter().map(|(key, force)| row(node, key, force)).collect()
}

fn row(node: &Node, key: &ServiceKey, force: &InForce) -> RolloutRow {
    let view = node.view();
    let policy = view.update_policy(key);
    let asked = view.asked(key).map_or(force.revision, |(asked, _)| asked);
    let register = view.rollout(key).map(|(_, rollout)| rollout);
    let order = register.filter(|rollout| rollout.of == asked);
    let new: BTreeSet<Slot> = view
        .of_service(key)
        .filter(|(at, _, alloc)| alloc.revision == force.revision && alloc.ready && view.stands(*at))
        .map(|(_, _, alloc)| alloc.replica.slot)
        .collect();
    let wanted = wanted(node, key, force);
    let updated = wanted.iter().filter(|replica| new.contains(&replica.slot)).count();
    let is_done = updated == wanted.len();
    let is_back = asked != force.revision;
    let halted = rollout::halted_by(node, key);
    let is_paused = register.is_some_and(|rollout| rollout.paused);
    let canary = order.filter(|order| order.from.is_some() && !order.promoted && !order.undo && !is_back);
    let canary = canary.and_then(|order| order.policy.canary).filter(|canary| canaries_wait(canary, updated, &wanted));
    let state = match () {
        () if is_back && is_done => "rolled-back",
        () if is_paused => "paused",
        () if halted.is_some() => "failed",
        () if is_back => "rolling-back",
        () if is_done => "done",
        () if canary.is_some() => "canary",
        () => "updating",
    };
    let failures: Vec<FailureRow> = view.failures(key, asked).map(|failed| failure(node, failed)).collect();
    let detail = detail(key, state, &failures, halted, canary);
    RolloutRow {
        service: key.to_string(),
        state,
        revision: force.revision.to_string(),
        asked: asked.to_string(),
        from: order.and_then(|order| order.from).map(|from| from.to_string()),
        updated,
        replicas: wanted.len(),
        parallelism: policy.parallelism,
        order: policy.order.as_str(),
        on_failure: policy.on_failure.as_str(),
        canaries: register.and_then(|rollout| rollout.policy.canary).map_or(0, |canary| canary.count),
        detail,
        failures,
        revisions: revisions(node, key, force, asked),
    }
}

/// What holds a rollout up, and what to do about it.
fn detail(
    key: &ServiceKey,
    state: &str,
    failures: &[FailureRow],
    halted: Option<String>,
    canary: Option<Canary>,
) -> String {
    let told = failures.first().map(|f| alloc::format!("{} failed on {}: {}", f.replica, f.node, f.reason));
    match state {
        "rolled-back" | "rolling-back" => {
            let why = told.unwrap_or_default();
            alloc::format!("{why}; deploy a better one, or try again with: dunlin rollout resume {key}")
        }
        "paused" => alloc::format!("paused by hand; go on with: dunlin rollout resume {key}"),
        "failed" => {
            let why = halted.unwrap_or_default();
            alloc::format!("{why}; dunlin rollout resume {key} tries again, dunlin rollback {key} goes back")
        }
        "canary" => match canary.map(|canary| canary.promotion) {
            Some(Promotion::ByHealth(wait)) => {
                alloc::format!("the others follow once these were ready for {} s", wait.as_secs())
            }
            Some(Promotion::ByHand) | None => {
                alloc::format!("if they are good: dunlin rollout promote {key}; else: dunlin rollback {key}")
            }
        },
        _ => String::new(),
    }
}

fn canaries_wait(canary: &Canary, updated: usize, wanted: &[dunlin_gossip::model::ReplicaKey]) -> bool {
    let count = usize::try_from(canary.count).unwrap_or(usize::MAX);
    updated >= count && count < wanted.len()
}

fn failure(node: &Node, failure: &Failure) -> FailureRow {
    FailureRow {
        replica: replica_text(node, &failure.replica),
        revision: failure.revision.to_string(),
        node: node_name(node, failure.node),
        reason: failure.reason.clone(),
        at_ms: failure.at.0,
    }
}

fn revisions(node: &Node, key: &ServiceKey, force: &InForce, asked: RevisionId) -> Vec<RevisionRow> {
    let view = node.view();
    let row = |revision: RevisionId, at_ms, workload| RevisionRow {
        revision: revision.to_string(),
        state: match () {
            () if revision == force.revision => "in-force",
            () if view.failures(key, revision).next().is_some() => "failed",
            () => "kept",
        },
        at_ms,
        workload,
    };
    let others = view.kept(key).filter(|(revision, _)| *revision != asked);
    let mut rows: Vec<RevisionRow> = others
        .map(|(revision, kept)| row(revision, kept.hlc.wall().0, workload_text(&kept.service.spec.workload)))
        .collect();
    rows.sort_by_key(|row| core::cmp::Reverse(row.at_ms));
    if let Some((_, service)) = view.asked(key) {
        rows.insert(0, row(asked, force.hlc.wall().0, workload_text(&service.spec.workload)));
    }
    rows
}
