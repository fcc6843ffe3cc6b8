//! The documents of the API that are not rows of `dunlin_core::query`: bodies of writes, results, errors.
//!
//! The CLI uses these same types, so the two cannot drift apart. The routes are in the table from which
//! `GET /v1/openapi.json` is made.

use std::collections::BTreeMap;

use dunlin_core::face::{Ack, Event, EventKind, ProblemKind};
use dunlin_core::query::ask::Change;
use dunlin_gossip::face::{MemberReason, MemberState, NoticeLevel};
use dunlin_gossip::model::{RolloutPolicy, Service, ServiceName, Waves};
use serde::{Deserialize, Serialize};

/// `POST /v1/deploy`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeployBody {
    /// The stack's name.
    pub stack: String,
    /// Everything in it.
    pub services: BTreeMap<ServiceName, Service>,
    /// Whether some nodes act on it before the others; none: all at once.
    #[serde(default)]
    pub waves: Option<Waves>,
    /// How each goes over to a new revision, where that was said.
    #[serde(default)]
    pub policies: BTreeMap<ServiceName, RolloutPolicy>,
    /// When to answer.
    #[serde(default)]
    pub ack: Ack,
    /// After how many milliseconds to answer with what is known.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

/// `POST /v1/plan`: what a deploy would do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlanBody {
    /// The stack's name.
    pub stack: String,
    /// Everything in it.
    pub services: BTreeMap<ServiceName, Service>,
}

/// `POST /v1/whatif`: what changes of the flock would do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WhatIfBody {
    /// Changes, taken together.
    pub changes: Vec<Change>,
}

/// `POST /v1/services`: one service beside what its stack has already.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AddBody {
    /// The stack's name.
    pub stack: String,
    /// The service's name.
    pub name: String,
    /// What it is.
    pub specification: Service,
    /// When to answer.
    #[serde(default)]
    pub ack: Ack,
    /// After how many milliseconds to answer with what is known.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

/// `POST /v1/services/remove`: one service of a stack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DropBody {
    /// `stack/service`, or `service` where that is unambiguous.
    pub service: String,
    /// When to answer.
    #[serde(default)]
    pub ack: Ack,
    /// After how many milliseconds to answer with what is known.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

/// `POST /v1/scale`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScaleBody {
    /// `stack/service`, or `service` where that is unambiguous.
    pub service: String,
    /// How many.
    pub replicas: u32,
    /// When to answer.
    #[serde(default)]
    pub ack: Ack,
    /// After how many milliseconds to answer with what is known.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

/// `POST /v1/rollouts`: says something about one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RolloutBody {
    /// `stack/service`, or `service` where that is unambiguous.
    pub service: String,
    /// `"pause"`, `"resume"`, `"promote"` or `{"undo": {"to": REVISION or null}}`.
    pub order: RolloutWord,
    /// When to answer.
    #[serde(default)]
    pub ack: Ack,
    /// After how many milliseconds to answer with what is known.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

/// What can be said about a rollout.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RolloutWord {
    /// No further slot has its turn.
    Pause,
    /// It goes on; after a failure, with a new attempt.
    Resume,
    /// The canaries are good.
    Promote,
    /// Back to a kept revision.
    Undo {
        /// The revision, or its beginning; none: the one before.
        to: Option<String>,
    },
}

/// `POST /v1/remove`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RemoveBody {
    /// The stack's name.
    pub stack: String,
    /// When to answer.
    #[serde(default)]
    pub ack: Ack,
    /// After how many milliseconds to answer with what is known.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

/// `POST /v1/conflicts`: settles one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResolveBody {
    /// As `GET /v1/conflicts` names it, or without the stack where that is unambiguous.
    pub what: String,
    /// The version that stays, as `GET /v1/conflicts` names it.
    pub keep: String,
    /// When to answer.
    #[serde(default)]
    pub ack: Ack,
    /// After how many milliseconds to answer with what is known.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

/// `POST /v1/nodes/remove`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RemoveNodeBody {
    /// Its name, its id or the beginning of one.
    pub node: String,
    /// Somebody else may hold its keys: tell whom it let in, make its tokens worthless, and change the authority.
    #[serde(default)]
    pub compromised: bool,
    /// When to answer.
    #[serde(default)]
    pub ack: Ack,
    /// After how many milliseconds to answer with what is known.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

/// What can be ordered of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderWord {
    /// Nothing new comes.
    Cordon,
    /// New work may come again.
    Uncordon,
    /// What runs there goes elsewhere.
    Drain,
    /// It may stay, and more may come.
    Undrain,
    /// Labels, over those of the agent.
    Label,
    /// What keeps work off.
    Taint,
}

/// `POST /v1/nodes/order`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OrderNodeBody {
    /// Its name, its id or the beginning of one.
    pub node: String,
    /// What is ordered.
    pub order: OrderWord,
    /// Of a drain: after how many milliseconds what is left stops all the same.
    #[serde(default)]
    pub deadline_ms: Option<u64>,
    /// Labels (`LABEL=VALUE`) or taints (`KEY[=VALUE][:EFFECT]`) to give.
    #[serde(default)]
    pub set: Vec<String>,
    /// Labels, or taints (`KEY[:EFFECT]`), to take back.
    #[serde(default)]
    pub remove: Vec<String>,
    /// When to answer.
    #[serde(default)]
    pub ack: Ack,
    /// After how many milliseconds to answer with what is known.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

/// The answer to `POST /v1/nodes/order`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OrderedNode {
    /// The node.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What is known of the write.
    #[serde(flatten)]
    pub written: WrittenBody,
}

/// The answer to `POST /v1/nodes/remove`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RemovedNode {
    /// The removed node.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What is known of the write.
    #[serde(flatten)]
    pub written: WrittenBody,
    /// What a compromise means; only if it was said to be one.
    pub compromised: Option<Aftermath>,
}

/// What was done about a compromised node, and what is left to look at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Aftermath {
    /// Whom it let in, or a token that it issued: each may be somebody else's.
    pub admitted: Vec<Admitted>,
    /// Tokens that are worthless now, by their ids: its own, and all that name the old authority.
    pub tokens_revoked: Vec<String>,
    /// The new authority.
    pub authority: Rotation,
}

/// The answer to `POST /v1/ca/rotate`: a change of authority that has begun.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rotation {
    /// SHA-256 of the old authority's certificate.
    pub from: String,
    /// SHA-256 of the new one's.
    pub to: String,
    /// Tokens that are worthless now, by their ids: they name the old authority.
    pub tokens_revoked: Vec<String>,
}

/// A node that a compromised one let in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Admitted {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The id of the token that it showed.
    pub token: String,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// As membership sees it; none if it was removed.
    pub state: Option<String>,
}

/// `POST /v1/tokens`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenBody {
    /// What it is for, in its maker's words.
    #[serde(default)]
    pub label: String,
    /// After how many seconds it expires.
    pub ttl_s: u64,
    /// How many nodes it may admit; none means as many as there are.
    #[serde(default)]
    pub uses: Option<u32>,
}

/// The answer to `POST /v1/tokens`: the only time that the token is shown.
#[derive(Clone, Serialize, Deserialize)]
pub struct NewToken {
    /// Its public id, hexadecimal.
    pub id: String,
    /// The token itself; a secret.
    pub token: String,
    /// When it expires, milliseconds since the Unix epoch.
    pub expires_ms: u64,
    /// The command that joins a node with it.
    pub join: String,
}

impl std::fmt::Debug for NewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewToken").field("id", &self.id).field("token", &"***").finish_non_exhaustive()
    }
}

/// The answer to a write.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WrittenBody {
    /// Its stamp; `at_least` takes it at any node.
    pub hlc: u64,
    /// Names of the nodes that have it on disk, the accepting one first.
    pub durable_on: Vec<String>,
    /// How many were asked for, the accepting one included.
    pub wanted: u32,
    /// What the author should know.
    pub warnings: Vec<String>,
}

/// What a check of `GET /v1/doctor` came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Well.
    Ok,
    /// Somebody should look.
    Warn,
    /// Something does not work.
    Fail,
}

/// One row of `GET /v1/doctor`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CheckRow {
    /// What was looked at.
    pub check: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// What to do; empty if all is well.
    pub remedy: String,
}

/// Any error's document.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What was wrong.
    pub error: String,
    /// What kind: `bad-request`, `not-found`, `denied`, `unavailable`, `timed-out`.
    pub kind: String,
    /// What to do about it; empty if the error says it all.
    #[serde(default)]
    pub remedy: String,
}

/// The HTTP status of a refusal.
#[must_use]
pub const fn status_of(kind: ProblemKind) -> u16 {
    match kind {
        ProblemKind::BadRequest => 400,
        ProblemKind::NotFound => 404,
        ProblemKind::Denied => 403,
        ProblemKind::TooMany => 429,
        ProblemKind::Unavailable => 503,
        ProblemKind::TimedOut => 504,
    }
}

const fn default_timeout_ms() -> u64 {
    10_000
}

/// One row of `GET /v1/events`, and one `data:` line of its stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EventRow {
    /// When, by the node's wall clock (milliseconds since 1970).
    pub at: u64,
    /// `info`, `warn` or `error`.
    pub level: String,
    /// `member`, `desired`, `claim`, `allocation`, `refusal`, `trust` or `node`.
    pub kind: String,
    /// The name of the node it is about, or its id while its name is unknown.
    pub node: Option<String>,
    /// `stack/service`.
    pub service: Option<String>,
    /// `stack/service.slot`.
    pub replica: Option<String>,
    /// Of a member's change, what it is now: `alive`, `suspect`, `down` or `left`.
    pub state: Option<MemberState>,
    /// And why: `joined`, `refuted`, `silence`, `refusal`, `gossip`, `left`, `removed` or `forgotten`.
    pub reason: Option<MemberReason>,
    /// In words.
    pub text: String,
}

impl EventRow {
    /// The row of an event about a node of this name.
    #[must_use]
    pub fn new(event: &Event, node: Option<String>) -> Self {
        let level = match event.level {
            NoticeLevel::Info => "info",
            NoticeLevel::Warn => "warn",
            NoticeLevel::Error => "error",
        };
        let kind = match event.kind {
            EventKind::Member => "member",
            EventKind::Desired => "desired",
            EventKind::Claim => "claim",
            EventKind::Allocation => "allocation",
            EventKind::Refusal => "refusal",
            EventKind::Trust => "trust",
            EventKind::Node => "node",
        };
        Self {
            at: event.at.0,
            level: level.into(),
            kind: kind.into(),
            node: node.or_else(|| event.node.map(|n| n.to_string())),
            service: event.service.as_ref().map(ToString::to_string),
            replica: event.replica.as_ref().map(ToString::to_string),
            state: event.member.map(|(state, _)| state),
            reason: event.member.map(|(_, reason)| reason),
            text: event.text.clone(),
        }
    }
}
