//! What the node's core tells the name table: complete statements, each replacing the last one about its subject.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{NodeName, PublishedPort, ServiceKey, Slot};

/// One change of what names answer. Idempotent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NameChange {
    /// A service exists; these of its instances may be answered with now (ready, on nodes that are not down, and suspect
    /// nodes left out while others remain). An empty list is NODATA, not NXDOMAIN.
    Service {
        /// Which.
        service: ServiceKey,
        /// All that may be answered with, in slot order.
        instances: Vec<Instance>,
    },
    /// A service is no more: NXDOMAIN.
    ServiceGone(ServiceKey),
    /// A node exists, at this address.
    Node {
        /// Its id.
        node: NodeId,
        /// Its name.
        name: NodeName,
        /// Its service address; none while it is down.
        address: Option<IpAddr>,
        /// Its labels.
        labels: BTreeMap<String, String>,
    },
    /// A node is no more.
    NodeGone(NodeId),
}

/// One instance of a service that may be answered with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instance {
    /// Its replica's slot.
    pub slot: Slot,
    /// Its node.
    pub node: NodeId,
    /// Where it is reached: its own address, else its node's.
    pub address: IpAddr,
    /// Ports that can be reached from every node, with the numbers on that address.
    pub ports: Vec<PublishedPort>,
}
