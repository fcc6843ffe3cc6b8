//! What QUIC noticed of the ways to peers: round trips, losses, and what waits to be written. For people; nothing may be
//! decided by it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dunlin_gossip::id::NodeId;

use crate::endpoint::Net;
use crate::link::Link;

/// Sums over connections since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Paths {
    /// QUIC packets sent.
    pub packets_sent: u64,
    /// Of these, held for lost; what they carried was sent again.
    pub packets_lost: u64,
    /// Bytes in them.
    pub bytes_lost: u64,
    /// How often a connection slowed down for it.
    pub congestion_events: u64,
}

impl Paths {
    pub(crate) fn count(&mut self, connection: &quinn::Connection) {
        let path = connection.stats().path;
        self.packets_sent += path.sent_packets;
        self.packets_lost += path.lost_packets;
        self.bytes_lost += path.lost_bytes;
        self.congestion_events += path.congestion_events;
    }
}

/// The links as QUIC sees them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ways {
    /// All connections, those that ended included.
    pub paths: Paths,
    /// Round trips to linked peers, smoothed.
    pub rtt: BTreeMap<NodeId, Duration>,
    /// Bytes given to links that were not written yet.
    pub queued_bytes: usize,
}

impl Net {
    /// What QUIC noticed so far.
    #[must_use]
    pub fn ways(&self) -> Ways {
        let tables = self.inner.tables();
        let mut paths = tables.ended;
        tables.connections.values().for_each(|conn| paths.count(&conn.quinn));
        let links: Vec<Arc<Link>> = tables.links.values().map(Arc::clone).collect();
        drop(tables);
        let rtt = links.iter().map(|link| (link.conn.peer, link.conn.quinn.rtt())).collect();
        Ways { paths, rtt, queued_bytes: links.iter().map(|link| link.queued_bytes()).sum() }
    }
}
