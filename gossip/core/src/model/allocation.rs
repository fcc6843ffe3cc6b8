//! What runs: one record an allocation (claim and state together), endpoints, refusals.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Held, PortSpec, Protocol, Relieved, ReplicaKey, Resources, RevisionId, Tail};
use crate::canary::{Bug, planted};
use crate::hash::{hash64, mix};
use crate::id::NodeId;
use crate::time::Wall;

/// Orders the claims of a replica: `max(HLC, highest known epoch of that replica + 1)`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// One allocation on one node: the hash of its replica, epoch and node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AllocId(pub u64);

impl AllocId {
    /// The id of a claim.
    #[must_use]
    pub fn of(replica: &ReplicaKey, epoch: Epoch, node: NodeId) -> Self {
        let mut text = String::new();
        let _infallible = fmt::Write::write_fmt(&mut text, format_args!("{replica}"));
        Self(mix(mix(hash64(text.as_bytes()), epoch.0), hash64(&node.0)))
    }

    /// Parses 16 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 16 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for AllocId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for AllocId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a{:08x}", self.0 >> 32)
    }
}

/// Where an allocation is in its life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Phase {
    /// Claimed, not yet given to the driver.
    Pending,
    /// The driver was told to start it.
    Starting,
    /// It runs; it has no health check, or the check has not yet passed.
    Running,
    /// Its health check passes.
    Healthy,
    /// Its health check fails.
    Unhealthy,
    /// It was told to stop.
    Stopping,
    /// It ended well and stays ended.
    Exited,
    /// It ended badly and stays ended.
    Failed,
}

impl Phase {
    /// Every phase, in the order of a life.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Starting,
        Self::Running,
        Self::Healthy,
        Self::Unhealthy,
        Self::Stopping,
        Self::Exited,
        Self::Failed,
    ];

    /// True while the claim stands: the replica is taken care of here.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Pending | Self::Starting | Self::Running | Self::Healthy | Self::Unhealthy)
    }

    /// The word used everywhere people see it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Stopping => "stopping",
            Self::Exited => "exited",
            Self::Failed => "failed",
        }
    }
}

/// From where a port can be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reach {
    /// Only from the same node.
    Node,
    /// From every node.
    Flock,
}

/// A port as it really is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The port's name in its specification.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Inside the workload.
    pub inner: u16,
    /// On the node's service address.
    pub outer: u16,
    /// From where.
    pub reach: Reach,
}

impl PublishedPort {
    /// A port of a specification, at the number that its node chose.
    #[must_use]
    pub fn new(spec: &PortSpec, outer: u16, is_local: bool) -> Self {
        Self {
            name: spec.name.clone(),
            protocol: spec.protocol,
            inner: spec.target.unwrap_or(outer),
            outer,
            reach: if is_local { Reach::Node } else { Reach::Flock },
        }
    }
}

/// Where a running allocation can be reached.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Endpoint {
    /// The instance's own address, where it has one.
    pub instance: Option<IpAddr>,
    /// The node's service address.
    pub node: IpAddr,
    /// Its ports.
    pub ports: Vec<PublishedPort>,
}

/// The payload of an allocation's record: the claim and what became of it. Written only by its node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Allocation {
    /// Which replica.
    pub replica: ReplicaKey,
    /// At which revision.
    pub revision: RevisionId,
    /// The claim's order, with the node id; also `DUNLIN_EPOCH`.
    pub epoch: Epoch,
    /// What counts against the node until the driver confirms the end.
    pub reservation: Resources,
    /// Ports held.
    pub ports: Vec<PublishedPort>,
    /// Set at the first ready, never cleared.
    pub ready_once: bool,
    /// Where in its life.
    pub phase: Phase,
    /// Whether names may point here now.
    pub ready: bool,
    /// Where to reach it, once started.
    pub endpoint: Option<Endpoint>,
    /// Restarts on this node so far.
    pub restarts: u32,
    /// Claimed when.
    pub since: Wall,
    /// The last thing worth telling a person (exit code, probe failure), empty when all is well.
    pub detail: String,
    /// What counts against the node besides `reservation`.
    #[serde(default)]
    pub held: Tail<Option<Box<Held>>>,
}

impl Allocation {
    /// True while its reservation counts: everything that has not ended for good.
    #[must_use]
    pub fn holds_room(&self) -> bool {
        match self.phase {
            Phase::Stopping => !planted(Bug::StoppingNotCounted),
            Phase::Pending | Phase::Starting | Phase::Running | Phase::Healthy | Phase::Unhealthy => true,
            Phase::Exited | Phase::Failed => false,
        }
    }

    /// Whom its node relieves by it, if it was taken for that node's share.
    #[must_use]
    pub fn relieved(&self) -> Option<&Relieved> {
        self.held.as_ref().and_then(|held| held.relieves.as_deref())
    }

    /// True if two records of one allocation differ in nothing but what only people read.
    #[must_use]
    pub fn acts_like(&self, other: &Self) -> bool {
        self.replica == other.replica
            && self.revision == other.revision
            && self.epoch == other.epoch
            && self.reservation == other.reservation
            && self.held == other.held
            && self.ports == other.ports
            && self.phase == other.phase
            && (self.ready, self.ready_once) == (other.ready, other.ready_once)
            && self.endpoint == other.endpoint
    }
}

/// Why a node does not take a replica: named, so that people and placement read the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum RefusalReason {
    /// It did not start (driver's words).
    StartFailed(String),
    /// It ended more often than its restart policy allows.
    RestartsExhausted,
    /// It was not ready in time.
    NeverReady,
    /// The reservation does not fit next to what runs here.
    NoRoom,
    /// A fixed port is taken on this node.
    PortTaken(u16),
    /// No such driver here.
    NoDriver,
    /// Something more important has its room.
    Preempted(ReplicaKey),
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartFailed(why) => write!(f, "did not start: {why}"),
            Self::RestartsExhausted => f.write_str("ended more often than its restart policy allows"),
            Self::NeverReady => f.write_str("was not ready in time"),
            Self::NoRoom => f.write_str("does not fit next to what runs there"),
            Self::PortTaken(port) => write!(f, "port {port} is taken there"),
            Self::NoDriver => f.write_str("no such driver there"),
            Self::Preempted(by) => write!(f, "pre-empted by {by}"),
        }
    }
}

/// The payload of a refusal's record, keyed by (node, replica): takes the node out of the candidates for a while.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// What it refuses.
    pub replica: ReplicaKey,
    /// At which revision.
    pub revision: RevisionId,
    /// Why.
    pub reason: RefusalReason,
    /// Refusals in a row; the wait doubles with each from 10 s to 10 min.
    pub count: u32,
    /// Until when (the refuser's wall clock; observers count the rest on their own monotonic clock).
    pub until: Wall,
}
