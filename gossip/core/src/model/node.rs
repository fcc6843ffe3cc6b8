//! A node's header: what it says of itself.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{AllocId, NodeName, Resources, Supply, Tail};
use crate::time::Wall;

/// What runs an allocation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum DriverKind {
    /// Processes of the host.
    Exec,
    /// Docker Engine API, also Podman's.
    Docker,
}

/// Operating system and processor, in Go's words, as Docker users write them (`linux`, `amd64`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Platform {
    /// Operating system.
    pub os: String,
    /// Processor architecture.
    pub arch: String,
}

/// What a node says of its certificate, so that others know how far a change of authority has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CertificateInfo {
    /// The newest authority that it holds, by its serial number.
    pub holds: u64,
    /// The authority by which the certificate is that it shows.
    pub shows: u64,
    /// Until when that one is good.
    pub until: Wall,
}

/// The payload of a node's header record. Written only by that node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeHeader {
    /// What people call it.
    pub name: NodeName,
    /// Where its port can be reached now.
    pub addresses: Vec<SocketAddr>,
    /// Where its workloads' ports can be reached.
    pub service_address: IpAddr,
    /// Labels, `zone` among them.
    pub labels: BTreeMap<String, String>,
    /// What its allocations may reserve in sum.
    pub allocatable: Resources,
    /// Drivers that answer.
    pub drivers: Vec<DriverKind>,
    /// Where it runs.
    pub platform: Platform,
    /// The agent's version.
    pub version: String,
    /// Its certificate.
    pub certificate: CertificateInfo,
    /// The allocations that this boot adopted. Once a peer holds the header and all of these at this generation, the
    /// records of older generations are void.
    pub adopted: Vec<AllocId>,
    /// What its allocations may reserve besides.
    #[serde(default)]
    pub supply: Tail<Supply>,
}
