//! The book of peers: who is admitted, under which key, and where each was last heard.
//!
//! It follows the roster by [`PeerChange`](dunlin_gossip::face::PeerChange) and decides nothing itself, except which of a
//! peer's addresses to use: the source of its newest authentic packet, else its addresses in turn until one answers.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::RosterEntry;

use crate::keys::{KeyError, certificate_key, node_id};
use crate::tls::Anchor;

/// Packets sent to an address that never answered before the next one is tried.
const PATIENCE: u32 = 4;

/// Why a roster entry was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BookError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("its certificate belongs to another node")]
    OtherNode,
}

#[derive(Debug)]
struct Peer {
    public_key: Vec<u8>,
    seal_key: [u8; 32],
    /// As the roster and the header say.
    known: Vec<SocketAddr>,
    current: Option<SocketAddr>,
    /// Something authentic came from `current`.
    proven: bool,
    unanswered: u32,
    refused: usize,
}

impl Peer {
    fn rotate(&mut self) {
        let at = self.current.and_then(|c| self.known.iter().position(|a| *a == c));
        let next = at.map_or(0, |at| at + 1);
        self.current = self.known.get(next).or_else(|| self.known.first()).copied().or(self.current);
        self.unanswered = 0;
    }
}

/// The book.
#[derive(Debug)]
pub(crate) struct Book {
    anchor: RwLock<Arc<Anchor>>,
    /// Whose certificates were turned away here, until somebody asks.
    stale: Mutex<HashSet<NodeId>>,
    peers: RwLock<HashMap<NodeId, Peer>>,
    /// Who was removed, so that they can be told.
    removed: RwLock<HashSet<NodeId>>,
    /// Who was forgotten: such a node may link, to be told so, and nothing else.
    forgotten: RwLock<HashSet<NodeId>>,
}

/// Whose certificate it is that somebody shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// A member's.
    Admitted(NodeId),
    /// That of a node which was removed.
    Removed(NodeId),
    /// That of a node which was forgotten.
    Forgotten(NodeId),
    /// The roster here does not know it (yet).
    Unknown(NodeId),
}

impl Book {
    pub(crate) fn new(anchor: Anchor) -> Self {
        let (anchor, stale) = (RwLock::new(Arc::new(anchor)), Mutex::default());
        let (peers, removed, forgotten) = (RwLock::default(), RwLock::default(), RwLock::default());
        Self { anchor, stale, peers, removed, forgotten }
    }

    pub(crate) fn anchor(&self) -> Arc<Anchor> {
        Arc::clone(&self.anchor.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn trust(&self, anchor: Anchor) {
        *self.anchor.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(anchor);
    }

    /// A member's certificate was turned away: it is out of date, or we are.
    pub(crate) fn note_stale(&self, node: NodeId) {
        self.stale.lock().unwrap_or_else(PoisonError::into_inner).insert(node);
    }

    /// True if that happened since this was last asked.
    pub(crate) fn take_stale(&self, node: NodeId) -> bool {
        self.stale.lock().unwrap_or_else(PoisonError::into_inner).remove(&node)
    }

    fn read<T>(&self, f: impl FnOnce(&HashMap<NodeId, Peer>) -> T) -> T {
        f(&self.peers.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, f: impl FnOnce(&mut HashMap<NodeId, Peer>) -> T) -> T {
        f(&mut self.peers.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_forgotten(&self, node: NodeId) -> bool {
        self.forgotten.read().unwrap_or_else(PoisonError::into_inner).contains(&node)
    }

    /// Takes or renews an entry. The certificate in it is the one of the admission, which may have been renewed since and
    /// whose authority may be gone: it says which key is admitted, and no more.
    pub(crate) fn admit(&self, entry: &RosterEntry, addresses: &[SocketAddr]) -> Result<(), BookError> {
        let public_key = certificate_key(&entry.certificate)?;
        if node_id(&public_key) != entry.node {
            return Err(BookError::OtherNode);
        }
        let known: Vec<SocketAddr> = if addresses.is_empty() { &entry.addresses } else { addresses }.to_vec();
        self.forgotten.write().unwrap_or_else(PoisonError::into_inner).remove(&entry.node);
        self.write(|peers| {
            let peer = peers.entry(entry.node).or_insert_with(|| Peer {
                public_key: Vec::new(),
                seal_key: entry.seal_key,
                known: Vec::new(),
                current: None,
                proven: false,
                unanswered: 0,
                refused: 0,
            });
            (peer.public_key, peer.seal_key) = (public_key, entry.seal_key);
            if peer.known != known {
                if peer.current.is_none_or(|c| !known.contains(&c)) {
                    peer.current = known.first().copied();
                    peer.proven = false;
                }
                peer.known = known;
            }
        });
        Ok(())
    }

    pub(crate) fn remove(&self, node: NodeId) {
        self.removed.write().unwrap_or_else(PoisonError::into_inner).insert(node);
        self.write(|peers| peers.remove(&node));
        self.forgotten.write().unwrap_or_else(PoisonError::into_inner).remove(&node);
    }

    /// The node does not belong, and its key is known.
    pub(crate) fn forget(&self, node: NodeId) {
        self.write(|peers| peers.remove(&node));
        self.forgotten.write().unwrap_or_else(PoisonError::into_inner).insert(node);
    }

    /// How the owner of this public key stands.
    pub(crate) fn standing(&self, public_key: &[u8]) -> Standing {
        let node = node_id(public_key);
        if self.read(|peers| peers.get(&node).is_some_and(|p| p.public_key == public_key)) {
            Standing::Admitted(node)
        } else if self.removed.read().unwrap_or_else(PoisonError::into_inner).contains(&node) {
            Standing::Removed(node)
        } else if self.is_forgotten(node) {
            Standing::Forgotten(node)
        } else {
            Standing::Unknown(node)
        }
    }

    /// May the owner of this public key connect? A node that was forgotten may, to be told so.
    pub(crate) fn lets_in(&self, public_key: &[u8]) -> Option<NodeId> {
        match self.standing(public_key) {
            Standing::Admitted(node) | Standing::Forgotten(node) => Some(node),
            Standing::Removed(_) | Standing::Unknown(_) => None,
        }
    }

    /// May this node link?
    pub(crate) fn may_link(&self, node: NodeId) -> bool {
        self.contains(node) || self.is_forgotten(node)
    }

    /// Does the roster admit this node?
    pub(crate) fn contains(&self, node: NodeId) -> bool {
        self.read(|peers| peers.contains_key(&node))
    }

    /// Where to send the next packet; moves on from an address that does not answer.
    pub(crate) fn packet_address(&self, node: NodeId) -> Option<SocketAddr> {
        let (current, settled) = self.read(|peers| {
            let peer = peers.get(&node)?;
            Some((peer.current, peer.proven || peer.known.len() < 2))
        })?;
        if settled {
            return current;
        }
        self.write(|peers| {
            let peer = peers.get_mut(&node)?;
            peer.unanswered += 1;
            if peer.unanswered > PATIENCE {
                peer.rotate();
            }
            peer.current
        })
    }

    /// Where to dial: the address in use first, then the others as listed.
    pub(crate) fn dial_addresses(&self, node: NodeId) -> Option<Vec<SocketAddr>> {
        self.read(|peers| {
            let peer = peers.get(&node)?;
            let others = peer.known.iter().copied().filter(|a| Some(*a) != peer.current);
            Some(peer.current.into_iter().chain(others).collect())
        })
    }

    /// Something authentic and new came from this address.
    pub(crate) fn heard(&self, node: NodeId, from: SocketAddr) {
        let same = |p: &Peer| p.proven && p.current == Some(from) && p.refused == 0;
        if self.read(|peers| peers.get(&node).is_none_or(same)) {
            return;
        }
        self.write(|peers| {
            if let Some(peer) = peers.get_mut(&node) {
                (peer.current, peer.proven, peer.unanswered, peer.refused) = (Some(from), true, 0, 0);
            }
        });
    }

    /// The nodes that this refusal says are not there: those whose address in use it is, unless another remains untried.
    pub(crate) fn refused(&self, at: SocketAddr) -> Vec<NodeId> {
        let concerned: Vec<NodeId> =
            self.read(|peers| peers.iter().filter(|(_, p)| p.current == Some(at)).map(|(n, _)| *n).collect());
        if concerned.is_empty() {
            return concerned;
        }
        self.write(|peers| {
            let mut gone = concerned;
            gone.retain(|node| {
                let Some(peer) = peers.get_mut(node) else { return false };
                peer.refused += 1;
                let nowhere_else = peer.proven || peer.refused >= peer.known.len();
                if !peer.proven {
                    peer.rotate();
                }
                nowhere_else
            });
            gone
        })
    }
}
