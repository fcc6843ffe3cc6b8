//! Everything that a node wants done.

use alloc::string::String;
use alloc::vec::Vec;

use dunlin_gossip::face::{GossipOutput, MemberReason, MemberState, NoticeLevel};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{ReplicaKey, ServiceKey};
use dunlin_gossip::time::Wall;
use dunlin_names::NameChange;
use serde::Serialize;

use super::{DriverCommand, Reply, RequestId};

/// One output; do them in order.
#[derive(Clone, Debug)]
pub enum Output {
    /// For the network, the disk or the book of peers. `GossipOutput::Event` carries only `Peer`, `Fatal` and `DiskIsOld`
    /// here: all other events are the core's own business.
    Gossip(GossipOutput),
    /// The answer to a request.
    Reply(RequestId, Reply),
    /// For a driver.
    Driver(DriverCommand),
    /// For the name table of this node's DNS server.
    Names(NameChange),
    /// For `dunlin events` and the log.
    Event(Event),
}

/// Something that happened, as this node saw it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Event {
    /// When, by this node's wall clock (milliseconds).
    pub at: Wall,
    /// How bad.
    pub level: NoticeLevel,
    /// What kind, for filters.
    pub kind: EventKind,
    /// The node it is about.
    pub node: Option<NodeId>,
    /// The service it is about.
    pub service: Option<ServiceKey>,
    /// The replica it is about.
    pub replica: Option<ReplicaKey>,
    /// Of a member's change: what it is now, and why.
    pub member: Option<(MemberState, MemberReason)>,
    /// In words, one line, never a secret.
    pub text: String,
}

/// Kinds of events.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// A member's state changed.
    Member,
    /// A stack, service or token was written.
    Desired,
    /// A replica was claimed or given up.
    Claim,
    /// An allocation changed its phase.
    Allocation,
    /// A node refused a replica.
    Refusal,
    /// Joins, refused peers, tokens.
    Trust,
    /// The node itself: disk, clock, drivers.
    Node,
}

/// Outputs in the order in which they arose; reused between calls.
#[derive(Debug, Default)]
pub struct Outputs {
    /// What is to be done.
    pub list: Vec<Output>,
    /// What this call cost, in abstract units (one is about a microsecond on a fast core).
    pub cost: u64,
}

impl Outputs {
    /// Adds an output.
    pub fn push(&mut self, output: Output) {
        self.list.push(output);
    }
}
