//! What an agent is told at its start, validated and complete: the command line's part of it is done.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use dunlin_dns::{Network, Upstream};
use dunlin_gossip::model::{NodeName, Resources, Supply};

use crate::gpus::Gpu;
use crate::resolvers::WorkloadDns;

/// The agent's port, UDP.
pub const PORT: u16 = 7400;

/// Everything that an agent is told.
#[derive(Clone)]
pub struct Settings {
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Hosts to join by, when this data directory belongs to no cluster yet.
    pub join: Vec<String>,
    /// The join token's text; a secret.
    pub token: Option<String>,
    /// Its name; none: the one that it has, or the host's for a new node.
    pub name: Option<NodeName>,
    /// Where to listen for other nodes.
    pub bind: SocketAddr,
    /// Where other nodes reach it, if not where it listens.
    pub advertise: Option<SocketAddr>,
    /// Where to answer DNS; may be empty.
    pub dns: Vec<SocketAddr>,
    /// Networks that may ask, besides private ones and those that this host is part of.
    pub dns_allow: Vec<Network>,
    /// Datagrams a second that a client may send to one of the server's threads; none: no limit.
    pub dns_rate: Option<u32>,
    /// Whom to ask for names of other zones; nobody: they are refused.
    pub dns_forward: Vec<Upstream>,
    /// Where containers find this node's DNS.
    pub workload_dns: WorkloadDns,
    /// The zone of names.
    pub domain: String,
    /// Labels, `zone` among them.
    pub labels: BTreeMap<String, String>,
    /// What its workloads may reserve in sum.
    pub allocatable: Resources,
    /// What to give besides: processes, disk, devices.
    pub supply: Supply,
    /// The GPUs that were found, by number; none where they are declared instead.
    pub gpus: Vec<Gpu>,
    /// How long this node's certificates are good; they are renewed in their last third.
    pub certificate_lifetime: Duration,
    /// Replicas a minute that it takes from fuller nodes after it came, until it has its share; 0: none.
    pub rebalance: u32,
    /// Dynamic ports are taken from here.
    pub ports: RangeInclusive<u16>,
    /// The program that has the `keep` command (this one).
    pub keeper: PathBuf,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("data_dir", &self.data_dir).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Settings {
    /// Where other nodes reach this one: as told, else where it listens, else its address towards `seed` or the world.
    #[must_use]
    pub fn reachable_at(&self, bound: SocketAddr, seed: Option<SocketAddr>) -> SocketAddr {
        if let Some(told) = self.advertise {
            return told;
        }
        let ip: IpAddr = if bound.ip().is_unspecified() { crate::host::own_address(seed) } else { bound.ip() };
        SocketAddr::new(ip, bound.port())
    }
}
