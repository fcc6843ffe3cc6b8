//! Sockets: UDP and TCP on each address, opened before anything is promised.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use dunlin_gossip::rng::Seed;
use dunlin_names::{NameChange, Zone};
use hickory_server::server::Server;
use tokio::net::{TcpListener, UdpSocket};

use crate::handler::{Handler, Tally};

/// How long an idle TCP client is kept (RFC 7766 section 6.2.3 asks for seconds).
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Answers waiting for one slow TCP client before it is cut off.
const TCP_BACKLOG: usize = 32;

/// What the server needs.
#[derive(Clone, Debug)]
pub struct DnsConfig {
    /// Where to listen, UDP and TCP alike. Port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// The zone, for example `dunlin.internal`.
    pub domain: String,
    /// The cluster's id, for the zone's TXT record.
    pub cluster: String,
    /// TTL of all records in seconds.
    pub ttl: u32,
    /// Shuffles answers.
    pub seed: Seed,
}

/// Why the server does not start. Nothing is left listening.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// A socket could not be opened.
    #[error("cannot listen for DNS on {address} ({protocol}): {source}; {}", remedy(.source))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// `udp` or `tcp`.
        protocol: &'static str,
        /// Why.
        source: io::Error,
    },
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program has it: choose another with --dns ADDR:PORT",
        io::ErrorKind::PermissionDenied => "ports below 1024 need root or CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "no interface of this host has that address",
        _ => "check the address given with --dns",
    }
}

/// Answers given, by code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DnsAnswers {
    /// With records, or without any of the type asked for.
    pub no_error: u64,
    /// The name does not exist.
    pub no_name: u64,
    /// Not our zone.
    pub refused: u64,
    /// Malformed or unsupported questions.
    pub other: u64,
}

/// A running server.
pub struct DnsServer {
    zone: Arc<ArcSwap<Zone>>,
    tally: Arc<Tally>,
    server: Server<Handler>,
    addresses: Vec<SocketAddr>,
}

impl std::fmt::Debug for DnsServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DnsServer").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl DnsServer {
    /// Opens all sockets and begins to answer, at first with an empty zone.
    ///
    /// # Errors
    /// [`DnsError::Listen`] if one of them cannot be opened.
    pub async fn start(config: DnsConfig) -> Result<Self, DnsError> {
        let zone = Arc::new(ArcSwap::from_pointee(Zone::new(&config.domain, &config.cluster, config.ttl)));
        let rng = Mutex::new(config.seed.split("dns-shuffle").rng());
        let tally = Arc::new(Tally::default());
        let mut server = Server::new(Handler { zone: Arc::clone(&zone), rng, tally: Arc::clone(&tally) });
        let mut addresses = Vec::new();
        for address in config.listen {
            let udp = UdpSocket::bind(address).await;
            let udp = udp.map_err(|source| DnsError::Listen { address, protocol: "udp", source })?;
            let bound = udp.local_addr().unwrap_or(address);
            let tcp = TcpListener::bind(bound).await;
            let tcp = tcp.map_err(|source| DnsError::Listen { address: bound, protocol: "tcp", source })?;
            server.register_socket(udp);
            server.register_listener(tcp, TCP_IDLE, TCP_BACKLOG);
            addresses.push(bound);
        }
        Ok(Self { zone, tally, server, addresses })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Answers given since the start.
    #[must_use]
    pub fn answers(&self) -> DnsAnswers {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Tally { no_error, no_name, refused, other } = &*self.tally;
        DnsAnswers { no_error: read(no_error), no_name: read(no_name), refused: read(refused), other: read(other) }
    }

    /// Publishes a snapshot with these changes; all of them or, to a query under way, none.
    pub fn apply(&self, changes: &[NameChange]) {
        if changes.is_empty() {
            return;
        }
        let mut next = Zone::clone(&self.zone.load());
        changes.iter().for_each(|change| next.apply(change));
        self.zone.store(Arc::new(next));
    }

    /// Stops listening; answers under way are finished within the time given.
    pub async fn stop(mut self, within: Duration) {
        if tokio::time::timeout(within, self.server.shutdown_gracefully()).await.is_err() {
            tracing::debug!("DNS did not stop in time; its sockets are dropped");
        }
    }
}
