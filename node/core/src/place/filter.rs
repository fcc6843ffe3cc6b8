//! Where a replica may run at all. Each refusal is a named reason, the same for placement and for people.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use core::fmt;

use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{
    DeviceRequest, DriverKind, NodeHeader, NodeOrders, PortRange, Protocol, ServiceKey, ServiceSpec, Slot, WHOLE,
    Workload,
};

use super::Waiting;
use super::device::{self, Units};
use super::room::Room;
use super::terms::Terms;

/// A node that is not down, as placement sees it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Who.
    pub node: NodeId,
    /// What it says of itself.
    pub header: &'a NodeHeader,
    /// Allocatable less the reservations of all its claims, stopping ones included.
    pub room: Room,
    /// What is left of each of its devices.
    pub units: &'a Units,
    /// Ports that its claims hold.
    pub taken: &'a BTreeSet<(Protocol, u16)>,
    /// How many live claims of each service it holds, in the order of the services.
    pub services: &'a [(ServiceKey, u32)],
    /// What operators order of it.
    pub orders: &'a NodeOrders,
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
    /// The node is drained.
    Drained,
    /// The node is cordoned.
    Cordoned,
    /// The node has a taint that is not tolerated (as written).
    Tainted(String),
    /// The node refused it lately.
    Refused,
    /// A fixed port is held there.
    PortTaken(u16),
    /// Not enough ports of a range are left there.
    PortsTaken(u16, u16),
    /// Not enough cpu or memory left.
    NoRoom,
    /// Not enough processes or disk left.
    NoFurther,
    /// Not enough of these devices left (as asked for).
    NoDevice(String),
    /// It has as many of the service as may be on one node.
    NodeHasEnough(u32),
    /// It has no such label, and the service is to lie evenly over its values.
    NoLabel(String),
    /// One more at its value of a label would be too many.
    TooUneven(String, String),
    /// A service is there from which it must keep away.
    TooNear(ServiceKey),
    /// A service is not there to which it must be near.
    TooFar(ServiceKey),
}

impl Candidate<'_> {
    /// How many live claims of a service it holds.
    #[must_use]
    pub fn has_of(&self, service: &ServiceKey) -> u32 {
        let at = self.services.binary_search_by(|(known, _)| known.cmp(service)).ok();
        at.and_then(|at| self.services.get(at)).map_or(0, |(_, count)| *count)
    }
}

impl Misfit {
    /// True if it would be so on an empty node of an empty flock too.
    #[must_use]
    pub const fn is_lasting(&self) -> bool {
        match self {
            Self::NotThisNode
            | Self::NoDriver(_)
            | Self::Constraint(_)
            | Self::Drained
            | Self::Cordoned
            | Self::Tainted(_)
            | Self::NoLabel(_) => true,
            Self::Refused
            | Self::PortTaken(_)
            | Self::PortsTaken(..)
            | Self::NoRoom
            | Self::NoFurther
            | Self::NoDevice(_)
            | Self::NodeHasEnough(_)
            | Self::TooUneven(..)
            | Self::TooNear(_)
            | Self::TooFar(_) => false,
        }
    }
}

impl Misfit {
    /// True if more room would end it.
    #[must_use]
    pub const fn is_room(&self) -> bool {
        matches!(self, Self::PortTaken(_) | Self::PortsTaken(..) | Self::NoRoom | Self::NoFurther | Self::NoDevice(_))
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotThisNode => f.write_str("another node's slot"),
            Self::NoDriver(DriverKind::Exec) => f.write_str("no exec driver"),
            Self::NoDriver(DriverKind::Docker) => f.write_str("no container engine"),
            Self::Constraint(text) => write!(f, "constraint {text}"),
            Self::Drained => f.write_str("the node is drained"),
            Self::Cordoned => f.write_str("the node is cordoned"),
            Self::Tainted(taint) => write!(f, "the node is tainted {taint}"),
            Self::Refused => f.write_str("refused it lately"),
            Self::PortTaken(port) => write!(f, "port {port} is taken"),
            Self::PortsTaken(first, last) => write!(f, "the ports {first}-{last} are taken"),
            Self::NoRoom => f.write_str("not enough cpu or memory"),
            Self::NoFurther => f.write_str("not enough processes or disk"),
            Self::NoDevice(asked) => write!(f, "not enough devices: {asked}"),
            Self::NodeHasEnough(most) => write!(f, "max_replicas_per_node {most}"),
            Self::NoLabel(label) => write!(f, "no label {label} to lie evenly over"),
            Self::TooUneven(label, value) => write!(f, "too many at {label}={value} already"),
            Self::TooNear(service) => write!(f, "must keep away from {service}"),
            Self::TooFar(service) => write!(f, "must be near {service}"),
        }
    }
}

/// Why a replica cannot run on a node, other than for what runs elsewhere; none if it can.
#[must_use]
pub fn misfit(waiting: &Waiting<'_>, candidate: &Candidate<'_>) -> Option<Misfit> {
    misfit_by(&Terms::of(waiting.spec), waiting, candidate)
}

/// The same with constraints that were read before.
pub(super) fn misfit_by(terms: &Terms<'_>, waiting: &Waiting<'_>, candidate: &Candidate<'_>) -> Option<Misfit> {
    let spec = waiting.spec;
    let is_elsewhere = matches!(waiting.replica.slot, Slot::Node(node) if node != candidate.node);
    is_elsewhere
        .then_some(Misfit::NotThisNode)
        .or_else(|| unsuited(terms, spec, candidate))
        .or_else(|| particular_misfit(waiting, candidate))
        .or_else(|| lacks(spec, candidate, &candidate.room, candidate.units))
        .or_else(|| {
            let fixed = spec.ports.iter().filter_map(|p| p.published.map(|n| (p.protocol, n)));
            fixed.into_iter().find(|p| candidate.taken.contains(p)).map(|(_, port)| Misfit::PortTaken(port))
        })
        .or_else(|| used_up(spec, candidate, 0))
}

/// The range of ports that does not suffice, where so many more replicas will draw from it first.
pub(super) fn used_up(spec: &ServiceSpec, candidate: &Candidate<'_>, before: usize) -> Option<Misfit> {
    let ranges = &spec.demand().ranges;
    let lacking = |range: &&PortRange| {
        let Some(protocol) = protocol(spec, range) else { return false };
        let is_same = |other: &&PortRange| {
            (other.first, other.last) == (range.first, range.last) && self::protocol(spec, other) == Some(protocol)
        };
        let each = ranges.iter().filter(is_same).count();
        let taken = candidate.taken.range((protocol, range.first)..=(protocol, range.last)).count();
        usize::try_from(range.len()).unwrap_or(usize::MAX) < taken + each * (before + 1)
    };
    ranges.iter().find(lacking).map(|range| Misfit::PortsTaken(range.first, range.last))
}

fn protocol(spec: &ServiceSpec, range: &PortRange) -> Option<Protocol> {
    spec.ports.get(usize::try_from(range.port).ok()?).map(|port| port.protocol)
}

/// The part that depends on the very replica.
pub(super) fn particular_misfit(waiting: &Waiting<'_>, candidate: &Candidate<'_>) -> Option<Misfit> {
    if let Slot::Node(node) = waiting.replica.slot
        && node != candidate.node
    {
        return Some(Misfit::NotThisNode);
    }
    waiting.refused_by.contains(&candidate.node).then_some(Misfit::Refused)
}

/// The part that depends on the specification, and on the node's header and orders, alone.
pub(super) fn unsuited(terms: &Terms<'_>, spec: &ServiceSpec, candidate: &Candidate<'_>) -> Option<Misfit> {
    let driver = match spec.workload {
        Workload::Exec(_) => DriverKind::Exec,
        Workload::Docker(_) => DriverKind::Docker,
    };
    if !candidate.header.drivers.contains(&driver) {
        return Some(Misfit::NoDriver(driver));
    }
    if let Some(violated) = terms.violated(candidate.node, candidate.header) {
        return Some(Misfit::Constraint(violated.to_string()));
    }
    ordered_off(spec, candidate.orders)
}

/// What operators order that keeps new work off a node.
fn ordered_off(spec: &ServiceSpec, orders: &NodeOrders) -> Option<Misfit> {
    if orders.drain.is_some() {
        return Some(Misfit::Drained);
    }
    if orders.cordoned {
        return Some(Misfit::Cordoned);
    }
    orders.taint_against(&spec.placing.tolerance.taints, None).map(|taint| Misfit::Tainted(taint.to_string()))
}

/// What of its room a node lacks.
pub(super) fn lacks(spec: &ServiceSpec, candidate: &Candidate<'_>, room: &Room, units: &Units) -> Option<Misfit> {
    if !room.base.holds(&spec.reservation) {
        return Some(Misfit::NoRoom);
    }
    if !room.further.holds(&spec.placing.further) {
        return Some(Misfit::NoFurther);
    }
    let requests = &spec.placing.devices;
    if device::fits(requests, &candidate.header.supply, units) {
        return None;
    }
    let alone =
        |request: &&DeviceRequest| !device::fits(core::slice::from_ref(*request), &candidate.header.supply, units);
    let lacking = requests.iter().find(alone).or_else(|| requests.first())?;
    Some(Misfit::NoDevice(request_text(lacking)))
}

/// A request for devices in words: `2 gpu`, `0.500 gpu (T4 or A10)`.
#[must_use]
pub fn request_text(request: &DeviceRequest) -> String {
    let DeviceRequest { kind, models, count, milli } = request;
    let part = if *milli >= WHOLE { String::new() } else { alloc::format!(" x 0.{milli:03}") };
    let models = if models.is_empty() { String::new() } else { alloc::format!(" ({})", models.join(" or ")) };
    alloc::format!("{count}{part} {kind}{models}")
}
