//! One machine: its clock, its disk, its processes, and the agent on it, which holds the real core.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use dunlin_core::face::NodeConfig;
use dunlin_core::skip::AtHand;
use dunlin_core::{Counts, Node};
use dunlin_gossip::engine::Timing;
use dunlin_gossip::hash::mix;
use dunlin_gossip::id::{ClusterId, Generation, NodeId};
use dunlin_gossip::model::{DriverKind, NodeHeader, NodeName, Platform, Resources, RosterEntry, Supply, Tail};
use dunlin_gossip::rng::{Rng, Seed};
use dunlin_gossip::time::Wall;
use dunlin_gossip::wire::WireVersion;
use dunlin_names::Zone;

use crate::answers::Answers;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::net::HostNo;
use crate::queue::{Nanos, SECOND};
use crate::scenario::{NodeLine, Scenario};
use crate::workload::Processes;

/// Each end of a link sends one datagram in this time while nothing else goes over it. Measured on two idle agents: 0.47 a
/// second and end, of 37 bytes, and IP and UDP headers.
const KEEP_ALIVE: Nanos = 2 * SECOND;
const KEEP_ALIVE_BYTES: u64 = 37 + 28;

/// One machine.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) no: HostNo,
    pub(crate) id: NodeId,
    pub(crate) name: NodeName,
    pub(crate) address: IpAddr,
    pub(crate) capacity: Resources,
    /// What the scenario says of it besides, if it lists its hosts.
    pub(crate) labels: BTreeMap<String, String>,
    supply: Tail<Supply>,
    /// What it was called at first, if it has a name of its own.
    own_name: Option<NodeName>,
    pub(crate) clock: Clock,
    pub(crate) timing: Timing,
    /// Replicas a minute that it takes for its share.
    pub(crate) rebalance: u32,
    /// The version of the wire that its agent speaks.
    pub(crate) wire: WireVersion,
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
    /// What its DNS server serves, in worlds small enough.
    pub(crate) zone: Option<Box<Zone>>,
    pub(crate) links: BTreeSet<u64>,
    /// Hashes of the records of its own that its agent has asked the disk to keep.
    pub(crate) asked: BTreeSet<u64>,
    /// The earliest deadline event in the queue.
    pub(crate) armed: Option<Nanos>,
    /// The agent takes nothing until then.
    pub(crate) paused_until: Nanos,
    /// The agent is still computing until then.
    pub(crate) busy_until: Nanos,
    /// So many times slower than an ordinary host its agent computes.
    pub(crate) slow: u64,
    /// Its drivers do nothing until then.
    pub(crate) hung_until: Nanos,
    /// Its drivers lose what they are asked until then.
    pub(crate) careless_until: Nanos,
    /// When its disk was replaced by an older or an empty one; 0 for never.
    pub(crate) disk_replaced: Nanos,
    /// How often it was set up anew.
    pub(crate) lives: u32,
    /// What its cores sent, headers included.
    pub(crate) bytes_sent: u64,
    /// How long its links have stood, all together.
    pub(crate) link_time: Nanos,
    pub(crate) messages_sent: u64,
    /// What agents that are gone put out.
    pub(crate) past: Counts,
    /// Records over which its agents have panicked.
    pub(crate) skip: BTreeSet<u64>,
    pub(crate) at_hand: AtHand,
}

impl Host {
    pub(crate) fn new(no: HostNo, seed: Seed, scenario: &Scenario, clock: Clock) -> Self {
        let own = seed.split("host").nth(u64::from(no));
        let [_, a, b, c] = (no + 1).to_be_bytes();
        let listed = scenario.node(no);
        let own_name = listed.filter(|(_, is_first)| *is_first).and_then(|(line, _)| line.name.clone());
        let line = listed.map(|(line, _)| line);
        Self {
            no,
            id: node_id(own),
            name: node_name(no, 0, own_name.as_ref()),
            address: IpAddr::V4(Ipv4Addr::new(10, a, b, c)),
            capacity: line.map_or(scenario.capacity, |line| line.capacity),
            labels: line.map_or_else(BTreeMap::new, |line| line.labels_in(scenario.zone_of(no))),
            supply: line.map(NodeLine::supply).unwrap_or_default(),
            own_name,
            clock,
            timing: scenario.timing(),
            rebalance: scenario.rebalance,
            wire: WireVersion::CURRENT,
            disk: Disk::default(),
            processes: Processes::default(),
            rng: own.split("chance").rng(),
            node: None,
            boot: 0,
            power: 0,
            is_on: true,
            is_admitted: false,
            names: Answers::default(),
            zone: None,
            links: BTreeSet::new(),
            asked: BTreeSet::new(),
            armed: None,
            paused_until: 0,
            busy_until: 0,
            slow: 1,
            hung_until: 0,
            careless_until: 0,
            disk_replaced: 0,
            lives: 0,
            bytes_sent: 0,
            link_time: 0,
            messages_sent: 0,
            past: Counts::default(),
            skip: BTreeSet::new(),
            at_hand: AtHand::default(),
        }
    }

    /// True if an agent runs here.
    pub(crate) const fn is_up(&self) -> bool {
        self.node.is_some()
    }

    /// The boot of the agent that runs.
    pub(crate) fn running(&self) -> Option<Generation> {
        self.node.as_ref().map(|node| node.gossip().generation())
    }

    /// Everything that has left it: what its cores sent, and what its links cost at rest.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes_sent + self.link_time / KEEP_ALIVE * KEEP_ALIVE_BYTES
    }

    /// What all its agents have put out.
    pub(crate) fn counts(&self) -> Counts {
        self.node.as_ref().map_or(self.past, |node| self.past.plus(&node.counts()))
    }

    /// It is set up from nothing: another key, hence another node; the operator gives it another name.
    pub(crate) fn set_up_anew(&mut self, seed: Seed) {
        self.lives += 1;
        self.id = node_id(seed.split("host").nth(u64::from(self.no)).nth(u64::from(self.lives)));
        self.name = node_name(self.no, self.lives, self.own_name.as_ref());
        self.disk = Disk::default();
        self.is_admitted = false;
    }

    /// Whatever was wrong with it is over.
    pub(crate) fn recover(&mut self, now: Nanos) {
        self.paused_until = self.paused_until.min(now);
        self.hung_until = self.hung_until.min(now);
        self.careless_until = self.careless_until.min(now);
        self.slow = 1;
        (self.disk.full, self.disk.fails, self.disk.slower) = (false, false, 0);
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
                labels: self.labels.clone(),
                allocatable: self.capacity,
                drivers: vec![DriverKind::Exec],
                platform: Platform { os: "linux".to_owned(), arch: "amd64".to_owned() },
                version: format!("0.{}.0", self.wire.0),
                certificate: Default::default(),
                adopted: Vec::new(),
                supply: self.supply.clone(),
            },
            wire: self.wire,
            timing: self.timing,
            port_range: 20_000..=29_999,
            rebalance: self.rebalance,
            skip: self.skip.clone(),
            at_hand: self.at_hand.clone(),
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

fn node_id(own: Seed) -> NodeId {
    let [high, low] = [mix(own.0, 1).to_be_bytes(), mix(own.0, 2).to_be_bytes()];
    let mut id = [0; 16];
    id[..8].copy_from_slice(&high);
    id[8..].copy_from_slice(&low);
    NodeId(id)
}

/// What the operator calls a host in one of its lives.
fn node_name(no: HostNo, lives: u32, own: Option<&NodeName>) -> NodeName {
    let first = own.map_or_else(|| format!("n{no}"), ToString::to_string);
    let name = if lives == 0 { first } else { format!("{first}-{lives}") };
    // A letter, digits and perhaps a dash between digits are always a name; a long one of its own may leave no room for more.
    let plain = || NodeName::new(&format!("n{no}-{lives}")).unwrap_or_else(|e| unreachable!("a number is a name: {e}"));
    NodeName::new(&name).unwrap_or_else(|_| plain())
}
