//! Everything that can happen to a node.

use dunlin_gossip::engine::Timing;
use dunlin_gossip::face::GossipInput;
use dunlin_gossip::id::{ClusterId, NodeId};
use dunlin_gossip::model::{Asker, NodeHeader};
use dunlin_gossip::wire::WireVersion;

use super::{DriverEvent, Request, RequestId};
use crate::skip::AtHand;

/// What a node is told once, at its start.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Who it is.
    pub me: NodeId,
    /// Which cluster it belongs to.
    pub cluster: ClusterId,
    /// What it says of itself (`adopted` is filled by the core).
    pub header: NodeHeader,
    /// The newest version of the wire that it speaks.
    pub wire: WireVersion,
    /// How long things take.
    pub timing: Timing,
    /// Dynamic ports are taken from here.
    pub port_range: core::ops::RangeInclusive<u16>,
    /// Replicas a minute that it takes from fuller nodes after it came, until it has its share; 0: none.
    pub rebalance: u32,
    /// Hashes of records over which this node has panicked: their meaning is left out.
    pub skip: alloc::collections::BTreeSet<u64>,
    /// Where the node notes which record it acts on, for the shell to see after a panic.
    pub at_hand: AtHand,
}

/// One input. After each, drain the outputs, then sleep until `next_deadline`.
#[derive(Clone, Debug)]
pub enum Input {
    /// From the network or the disk (a passed deadline comes as [`Input::Deadline`]).
    Gossip(GossipInput),
    /// `next_deadline` has come.
    Deadline,
    /// Somebody asks for something; exactly one [`Output::Reply`](super::Output::Reply) answers it, unless the node stops.
    Request(RequestId, Asker, Request),
    /// A driver has something to say.
    Driver(DriverEvent),
    /// What the node says of itself changed (capacity, addresses, drivers, labels).
    Host(NodeHeader),
}
