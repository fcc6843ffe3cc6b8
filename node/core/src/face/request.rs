//! What may be asked of a node, and how it answers. Reads go through [`query`](crate::query) on the node's view instead.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{
    RevisionId, RolloutPolicy, RosterEntry, Service, ServiceKey, ServiceName, StackName, Taint, TaintEffect, Token,
    TokenId, Waves,
};
use dunlin_gossip::time::Duration;
use dunlin_gossip::wire::RecordId;
use serde::{Deserialize, Serialize};

/// Numbers a request; chosen by the shell, answered once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// How many *other* nodes must have a write on their disks before it is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ack {
    /// One more where there is one alive.
    #[default]
    Default,
    /// So many in sum, the accepting node included.
    Nodes(u32),
    /// Every node that is not down.
    All,
}

/// What people say about a rollout.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RolloutOrder {
    /// No further slot has its turn, in this rollout and in those that follow.
    Pause,
    /// It goes on; after a failure, with a new attempt.
    Resume,
    /// The canaries are good: the other slots follow.
    Promote,
    /// Back to a kept revision, by default to the one before.
    Undo {
        /// To which.
        to: Option<RevisionId>,
    },
}

/// A request.
#[derive(Clone, Debug)]
pub enum Request {
    /// Run this stack; services that it had and this does not name are removed.
    Deploy {
        /// Which stack.
        stack: StackName,
        /// Everything in it.
        services: BTreeMap<ServiceName, Service>,
        /// Whether some nodes act on it before the others; none: all at once.
        waves: Option<Waves>,
        /// How each goes over to a new revision, where that was said.
        policies: BTreeMap<ServiceName, RolloutPolicy>,
        /// When to answer.
        ack: Ack,
        /// After which time to answer with what is known.
        timeout: Duration,
    },
    /// Run this service beside what its stack has already.
    Add {
        /// Which.
        service: ServiceKey,
        /// What it is.
        specification: Box<Service>,
        /// When to answer.
        ack: Ack,
        /// After which time to answer with what is known.
        timeout: Duration,
    },
    /// Stop one service of a stack and forget it; a stack without any is forgotten as well.
    Drop {
        /// Which.
        service: ServiceKey,
        /// When to answer.
        ack: Ack,
        /// After which time to answer with what is known.
        timeout: Duration,
    },
    /// Change the number of replicas.
    Scale {
        /// Of which service.
        service: ServiceKey,
        /// To how many.
        replicas: u32,
        /// When to answer.
        ack: Ack,
        /// After which time to answer with what is known.
        timeout: Duration,
    },
    /// Say something about a rollout.
    Rollout {
        /// Of which service.
        service: ServiceKey,
        /// What.
        order: RolloutOrder,
        /// When to answer.
        ack: Ack,
        /// After which time to answer with what is known.
        timeout: Duration,
    },
    /// Stop a stack and forget it.
    Remove {
        /// Which.
        stack: StackName,
        /// When to answer.
        ack: Ack,
        /// After which time to answer with what is known.
        timeout: Duration,
    },
    /// Settle a conflict: of the versions that are held, one stays for good.
    Resolve {
        /// Of which register.
        register: RecordId,
        /// The hash of the record that stays.
        keep: u64,
        /// When to answer.
        ack: Ack,
        /// After which time to answer with what is known.
        timeout: Duration,
    },
    /// Keep a token that the shell made.
    CreateToken(Token),
    /// A token is good no longer.
    RemoveToken(TokenId),
    /// May this token admit somebody now? Answered by [`Reply::TokenGood`] or a problem.
    CheckToken {
        /// Its id.
        id: TokenId,
        /// SHA-256 of the secret that was shown.
        secret_hash: [u8; 32],
        /// Whom it would admit: who was admitted by it already, and asks again since the answer was lost, uses nothing up.
        node: NodeId,
    },
    /// Admit a node whose token was checked and whose certificate the shell has issued.
    Admit(RosterEntry),
    /// Answer once the write with this stamp is held here (reading one's own writes at any node).
    AtLeast {
        /// The stamp that a write's reply carried.
        hlc: Hlc,
        /// After which time to give up.
        timeout: Duration,
    },
    /// Remove a node for good: it can neither connect nor come back, and what it runs is placed elsewhere.
    RemoveNode {
        /// Which.
        node: NodeId,
        /// When to answer.
        ack: Ack,
        /// After which time to answer with what is known.
        timeout: Duration,
    },
    /// Change what is ordered of a node.
    Order {
        /// Of which.
        node: NodeId,
        /// How.
        edit: OrderEdit,
        /// When to answer.
        ack: Ack,
        /// After which time to answer with what is known.
        timeout: Duration,
    },
    /// Say goodbye to the flock (an orderly shutdown of the node, not of the agent).
    Leave,
}

/// A change of what is ordered of a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderEdit {
    /// Nothing new comes.
    Cordon,
    /// New work may come again.
    Uncordon,
    /// What runs there goes elsewhere.
    Drain {
        /// After this time what is left stops all the same.
        deadline: Option<Duration>,
    },
    /// It may keep what it has, and take more.
    Undrain,
    /// Labels that stand over the agent's own.
    Label {
        /// Given, or changed.
        set: BTreeMap<String, String>,
        /// Taken back.
        remove: Vec<String>,
    },
    /// What keeps work off.
    Taint {
        /// Given, or changed.
        set: Vec<Taint>,
        /// Taken back: a key, with this effect or with any.
        remove: Vec<(String, Option<TaintEffect>)>,
    },
}

/// The answer to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// A write was accepted and is durable where it says.
    Written(Written),
    /// The token is good.
    TokenGood,
    /// Admitted; these are the roster's records, for the newcomer to start with.
    Admitted(Admission),
    /// The write is held here.
    Held,
    /// Refused; nothing has changed.
    Problem(Problem),
}

/// What is known of a write.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Written {
    /// Its stamp, as an integer; `--at-least` takes it at any node.
    pub hlc: u64,
    /// The nodes that have it on disk, the accepting one first.
    pub durable_on: Vec<NodeId>,
    /// How many were asked for, the accepting one included. Fewer than that in `durable_on` means: timed out.
    pub wanted: u32,
    /// What the author should know (a constraint that no node meets now, a request larger than any node).
    pub warnings: Vec<String>,
}

/// What a newcomer starts with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admission {
    /// Bytes of every roster and removal record, its own included.
    pub records: Vec<Vec<u8>>,
}

/// Why a request was refused, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// What kind, which decides exit and status codes.
    pub kind: ProblemKind,
    /// What was wrong and what to do, in one line each.
    pub text: String,
}

/// Kinds of refusals.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// The request itself is wrong.
    BadRequest,
    /// What it names does not exist.
    NotFound,
    /// Not allowed (a bad or expired token).
    Denied,
    /// As much as may be was done already (a token's uses, a node's writes).
    TooMany,
    /// The node cannot do it now (its disk failed, its clock is off).
    Unavailable,
    /// The time given passed.
    TimedOut,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl core::error::Error for Problem {}
