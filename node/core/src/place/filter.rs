//! Where a replica may run at all. Each refusal is a named reason, the same for placement and for people.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use core::fmt;

use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{
    Constraint, ConstraintOp, DriverKind, NodeHeader, Protocol, Resources, ServiceKey, ServiceSpec, Slot, Workload,
};

use super::Waiting;

/// A node that is not down, as placement sees it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Who.
    pub node: NodeId,
    /// What it says of itself.
    pub header: &'a NodeHeader,
    /// Allocatable less the reservations of all its claims, stopping ones included.
    pub room: Resources,
    /// Ports that its claims hold.
    pub taken: &'a BTreeSet<(Protocol, u16)>,
    /// How many live claims of each service it holds.
    pub services: &'a [(ServiceKey, u32)],
    /// [`rank::node_hash`](super::rank::node_hash) of it.
    pub hash: u64,
    /// [`rank::weight`](super::rank::weight) of it.
    pub weight: u64,
}

/// Why a replica cannot run on a node.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Misfit {
    /// A global slot of another node.
    NotThisNode,
    /// The node has no such driver.
    NoDriver(DriverKind),
    /// A constraint does not hold (as written).
    Constraint(String),
    /// The node refused it lately.
    Refused,
    /// A fixed port is held there.
    PortTaken(u16),
    /// Not enough cpu or memory left.
    NoRoom,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotThisNode => f.write_str("another node's slot"),
            Self::NoDriver(DriverKind::Exec) => f.write_str("no exec driver"),
            Self::NoDriver(DriverKind::Docker) => f.write_str("no container engine"),
            Self::Constraint(text) => write!(f, "constraint {text}"),
            Self::Refused => f.write_str("refused it lately"),
            Self::PortTaken(port) => write!(f, "port {port} is taken"),
            Self::NoRoom => f.write_str("not enough cpu or memory"),
        }
    }
}

/// Why a replica cannot run on a node; none if it can.
#[must_use]
pub fn misfit(waiting: &Waiting<'_>, candidate: &Candidate<'_>) -> Option<Misfit> {
    fixed_misfit(waiting, candidate).or_else(|| {
        if !candidate.room.holds(&waiting.spec.reservation) {
            return Some(Misfit::NoRoom);
        }
        let fixed = waiting.spec.ports.iter().filter_map(|p| p.published.map(|n| (p.protocol, n)));
        fixed.into_iter().find(|p| candidate.taken.contains(p)).map(|(_, port)| Misfit::PortTaken(port))
    })
}

/// The part that does not depend on what else runs there.
pub(super) fn fixed_misfit(waiting: &Waiting<'_>, candidate: &Candidate<'_>) -> Option<Misfit> {
    if let Slot::Node(node) = waiting.replica.slot
        && node != candidate.node
    {
        return Some(Misfit::NotThisNode);
    }
    let refused = waiting.refused_by.contains(&candidate.node).then_some(Misfit::Refused);
    unsuited(waiting.spec, candidate).or(refused)
}

/// The part that depends on the specification alone.
pub(super) fn unsuited(spec: &ServiceSpec, candidate: &Candidate<'_>) -> Option<Misfit> {
    let driver = match spec.workload {
        Workload::Exec(_) => DriverKind::Exec,
        Workload::Docker(_) => DriverKind::Docker,
    };
    if !candidate.header.drivers.contains(&driver) {
        return Some(Misfit::NoDriver(driver));
    }
    let violated = spec.constraints.iter().find(|c| !meets(c, candidate))?;
    Some(Misfit::Constraint(violated.to_string()))
}

/// True if a node meets a constraint. A label that a node does not have equals nothing.
fn meets(constraint: &Constraint, candidate: &Candidate<'_>) -> bool {
    let header = candidate.header;
    let id;
    let actual = match constraint.attribute.as_str() {
        "node.hostname" => Some(header.name.as_str()),
        "node.id" => {
            id = candidate.node.to_string();
            Some(id.as_str())
        }
        "node.platform.os" => Some(header.platform.os.as_str()),
        "node.platform.arch" => Some(header.platform.arch.as_str()),
        other => other.strip_prefix("node.labels.").and_then(|label| header.labels.get(label)).map(String::as_str),
    };
    match constraint.op {
        ConstraintOp::Equal => actual == Some(constraint.value.as_str()),
        ConstraintOp::NotEqual => actual != Some(constraint.value.as_str()),
    }
}
