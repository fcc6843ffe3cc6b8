//! One machine: its clock, its disk, its processes, and the agent on it, which holds the real core.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use dunlin_core::Node;
use dunlin_core::face::NodeConfig;
use dunlin_gossip::hash::mix;
use dunlin_gossip::id::{ClusterId, NodeId};
use dunlin_gossip::model::{DriverKind, NodeHeader, NodeName, Platform, Resources, RosterEntry};
use dunlin_gossip::rng::{Rng, Seed};
use dunlin_gossip::time::Wall;

use crate::answers::Answers;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::net::HostNo;
use crate::queue::Nanos;
use crate::workload::Processes;

/// One machine.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) no: HostNo,
    pub(crate) id: NodeId,
    pub(crate) name: NodeName,
    pub(crate) address: IpAddr,
    pub(crate) capacity: Resources,
    pub(crate) clock: Clock,
    pub(crate) disk: Disk,
    pub(crate) processes: Processes,
    pub(crate) rng: Rng,
    /// The agent's core while one runs.
    pub(crate) node: Option<Box<Node>>,
    /// Counts starts of the agent; what was meant for an earlier one is dropped.
    pub(crate) boot: u32,
    /// Counts switching the host on; processes of an earlier time are gone.
    pub(crate) power: u32,
    pub(crate) is_on: bool,
    /// True once it has a roster to start with.
    pub(crate) is_admitted: bool,
    /// Where the instances run that its names answer with now.
    pub(crate) names: Answers,
    pub(crate) links: BTreeSet<u64>,
    /// The earliest deadline event in the queue.
    pub(crate) armed: Option<Nanos>,
    pub(crate) paused_until: Nanos,
    pub(crate) bytes_sent: u64,
    pub(crate) messages_sent: u64,
}

impl Host {
    pub(crate) fn new(no: HostNo, seed: Seed, capacity: Resources, clock: Clock) -> Self {
        let own = seed.split("host").nth(u64::from(no));
        let [high, low] = [mix(own.0, 1).to_be_bytes(), mix(own.0, 2).to_be_bytes()];
        let mut id = [0; 16];
        id[..8].copy_from_slice(&high);
        id[8..].copy_from_slice(&low);
        let [_, a, b, c] = (no + 1).to_be_bytes();
        Self {
            no,
            id: NodeId(id),
            name: node_name(no),
            address: IpAddr::V4(Ipv4Addr::new(10, a, b, c)),
            capacity,
            clock,
            disk: Disk::default(),
            processes: Processes::default(),
            rng: own.split("chance").rng(),
            node: None,
            boot: 0,
            power: 0,
            is_on: true,
            is_admitted: false,
            names: Answers::default(),
            links: BTreeSet::new(),
            armed: None,
            paused_until: 0,
            bytes_sent: 0,
            messages_sent: 0,
        }
    }

    /// True if an agent runs here.
    pub(crate) const fn is_up(&self) -> bool {
        self.node.is_some()
    }

    /// What an agent on this host is configured with.
    pub(crate) fn config(&self, cluster: ClusterId) -> NodeConfig {
        NodeConfig {
            me: self.id,
            cluster,
            header: NodeHeader {
                name: self.name.clone(),
                addresses: vec![SocketAddr::new(self.address, 7400)],
                service_address: self.address,
                labels: BTreeMap::new(),
                allocatable: self.capacity,
                drivers: vec![DriverKind::Exec],
                platform: Platform { os: "linux".to_owned(), arch: "amd64".to_owned() },
                version: "0.1.0".to_owned(),
                adopted: Vec::new(),
            },
            port_range: 20_000..=29_999,
        }
    }

    /// Its admission. Keys and certificates are not simulated: nothing in the core looks into them.
    pub(crate) fn roster_entry(&self, admitted_by: Option<NodeId>, at: Wall) -> RosterEntry {
        RosterEntry {
            node: self.id,
            name: self.name.clone(),
            certificate: Vec::new(),
            seal_key: [0; 32],
            addresses: vec![SocketAddr::new(self.address, 7400)],
            admitted_by,
            token: None,
            at,
        }
    }
}

fn node_name(no: HostNo) -> NodeName {
    // A letter and digits are always a name.
    NodeName::new(&format!("n{no}")).unwrap_or_else(|e| unreachable!("n{no} is a name: {e}"))
}
