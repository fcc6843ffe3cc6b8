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
        /// All that may be answered with, in order of slot and node.
        instances: Vec<Instance>,
    },
    /// At these places (slot and node) a service that was told whole may be answered with these instances now, and with
    /// no others; all its other places stay as they were. So one replica of a thousand costs one line.
    Places {
        /// Which service.
        service: ServiceKey,
        /// The places, sorted.
        places: Vec<(Slot, NodeId)>,
        /// All that may be answered with there, in the order of the places.
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

/// Puts what may be answered with at some places (sorted) in place of what a list in the order of places has there.
pub fn restate(list: &mut Vec<Instance>, places: &[(Slot, NodeId)], instances: &[Instance]) {
    list.retain(|held| places.binary_search(&(held.slot, held.node)).is_err());
    for instance in instances {
        let place = (instance.slot, instance.node);
        let at = list.partition_point(|held| (held.slot, held.node) <= place);
        list.insert(at, instance.clone());
    }
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
