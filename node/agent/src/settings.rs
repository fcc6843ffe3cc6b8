//! What an agent is told at its start, validated and complete: the command line's part of it is done.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use dunlin_gossip::model::{NodeName, Resources, Supply};

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
    /// The zone of names.
    pub domain: String,
    /// Labels, `zone` among them.
    pub labels: BTreeMap<String, String>,
    /// What its workloads may reserve in sum.
    pub allocatable: Resources,
    /// What to give besides: processes, disk, devices.
    pub supply: Supply,
    /// How long this node's certificates are good; they are renewed in their last third.
    pub certificate_lifetime: Duration,
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
