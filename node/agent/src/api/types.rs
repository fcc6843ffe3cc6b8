//! The documents of the API that are not rows of `dunlin_core::query`: bodies of writes, results, errors.
//!
//! The CLI uses these same types, so the two cannot drift apart. Paths, all under `/v1`:
//! `GET nodes|services|allocations|stacks|status|tokens|events[?follow=true]|logs?replica=R[&follow=true][&tail=N]`,
//! `POST deploy|scale|remove|tokens`, `DELETE tokens/ID`. Reads take `?at_least=HLC`.

use std::collections::BTreeMap;

use dunlin_core::face::{Ack, Event, EventKind, ProblemKind};
use dunlin_gossip::face::NoticeLevel;
use dunlin_gossip::model::{Service, ServiceName};
use serde::{Deserialize, Serialize};

/// `POST /v1/deploy`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeployBody {
    /// The stack's name.
    pub stack: String,
    /// Everything in it.
    pub services: BTreeMap<ServiceName, Service>,
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

/// `POST /v1/tokens`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenBody {
    /// What it is for, in its maker's words.
    #[serde(default)]
    pub label: String,
    /// After how many seconds it expires.
    pub ttl_s: u64,
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
            text: event.text.clone(),
        }
    }
}
