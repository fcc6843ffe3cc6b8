//! What can go wrong at the network's door, each with its remedy.

use std::io;
use std::net::SocketAddr;

use dunlin_gossip::id::NodeId;

/// An error of the network.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// Somebody has the port.
    #[error("{0} is in use; is another agent running on this host? choose another port with --bind")]
    AddressInUse(SocketAddr),
    /// The address is not one of this host.
    #[error("{0} is no address of this host; choose one with --bind (0.0.0.0 for all)")]
    NotOurAddress(SocketAddr),
    /// The system refuses the socket.
    #[error("cannot open UDP {address}: {source}")]
    Socket {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The keys or certificates are unusable.
    #[error("the keys of this node are unusable: {0}; restore the data directory's keys folder")]
    Keys(String),
    /// The peer is not in the roster, or has no address.
    #[error("node {0} is not in the roster here")]
    UnknownPeer(NodeId),
    /// No address of the peer answered.
    #[error("node {node} cannot be reached: {why}")]
    Unreachable {
        /// Which.
        node: NodeId,
        /// What each address said.
        why: String,
    },
    /// A header larger than what a request may have.
    #[error("a request's header has at most {max} bytes, not {found}")]
    HeaderTooLarge {
        /// The bound.
        max: usize,
        /// What was given.
        found: usize,
    },
    /// The network was closed.
    #[error("the network is closed")]
    Closed,
}

impl NetError {
    pub(crate) fn bind(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::AddressInUse(address),
            io::ErrorKind::AddrNotAvailable => Self::NotOurAddress(address),
            _ => Self::Socket { address, source },
        }
    }
}
