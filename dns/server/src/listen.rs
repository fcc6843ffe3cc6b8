//! Sockets: UDP and TCP on each address, opened before anything is promised.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::rng::Seed;
use dunlin_names::{NameChange, Zone};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

use crate::cookie::Cookies;
use crate::forward::Forwarder;
use crate::gate::{Buckets, Network};
use crate::reply::Shared;
use crate::resolver::Upstream;
use crate::tally::{DnsAnswers, Tally};
use crate::tcp::{self, Tcp};
use crate::udp::{self, Udp, Work};

/// Sockets of one address at most: beyond, the kernel's own locks cost more than a core gives.
const MOST_THREADS: usize = 4;
/// How long a silent TCP client is kept (RFC 7766 section 6.2.3 asks for seconds).
pub(crate) const TCP_IDLE: Duration = Duration::from_secs(10);

/// TCP clients that wait to be taken.
const TCP_WAITING: u32 = 1_024;

/// What the server needs.
#[derive(Clone, Debug)]
pub struct DnsConfig {
    /// Where to listen, UDP and TCP alike. Port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// The zone, for example `dunlin.internal`.
    pub domain: String,
    /// The cluster's id, for the zone's TXT record.
    pub cluster: String,
    /// The node that answers; what is near is seen from it.
    pub here: Option<NodeId>,
    /// The zone's names are answered from the start. If not, they are SERVFAIL until [`DnsServer::knows_zone`].
    pub knows_zone: bool,
    /// Who may ask; everybody else is REFUSED.
    pub allow: Vec<Network>,
    /// Datagrams a second that one client may send to one thread; none: no limit.
    pub rate: Option<u32>,
    /// Whom to ask for names of other zones; nobody: they are REFUSED.
    pub forward: Vec<Upstream>,
    /// How long a silent TCP client is kept.
    pub tcp_idle: Duration,
    /// Everything random, cookies among it: it must not be guessed.
    pub seed: Seed,
}

impl DnsConfig {
    /// A server of a zone with nothing but defaults: private networks may ask, nothing is forwarded.
    #[must_use]
    pub fn new(listen: Vec<SocketAddr>, domain: &str, cluster: &str, seed: Seed) -> Self {
        Self {
            listen,
            domain: domain.to_owned(),
            cluster: cluster.to_owned(),
            here: None,
            knows_zone: true,
            allow: Network::private(),
            rate: None,
            forward: Vec::new(),
            tcp_idle: TCP_IDLE,
            seed,
        }
    }
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
    /// It would ask itself.
    #[error("--dns-forward {0} is this server itself: name a resolver of the network instead")]
    AsksItself(SocketAddr),
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program has it: choose another with --dns ADDR:PORT",
        io::ErrorKind::PermissionDenied => "ports below 1024 need root or CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "no interface of this host has that address",
        _ => "check the address given with --dns",
    }
}

/// A running server.
pub struct DnsServer {
    config: DnsConfig,
    shared: Arc<Shared>,
    tallies: Vec<Arc<Tally>>,
    udp: Vec<Udp>,
    tcp: Vec<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
}

impl std::fmt::Debug for DnsServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DnsServer").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl DnsServer {
    /// Opens all sockets and begins to answer, at first with an empty zone. Needs a runtime.
    ///
    /// # Errors
    /// [`DnsError`] if a socket cannot be opened, or names would be asked of this server itself.
    pub fn start(config: DnsConfig) -> Result<Self, DnsError> {
        if let Some(own) = config.forward.iter().find(|upstream| config.listen.contains(&upstream.address)) {
            return Err(DnsError::AsksItself(own.address));
        }
        let sockets: Result<Vec<Opened>, DnsError> = config.listen.iter().map(|address| open(*address)).collect();
        let sockets = sockets?;
        let (shared, tally) = share(&config);
        let mut server =
            Self { config, shared, tallies: vec![tally], udp: Vec::new(), tcp: Vec::new(), addresses: Vec::new() };
        for opened in sockets {
            server.attend(opened)?;
        }
        Ok(server)
    }

    /// From now on the zone's names are answered by what [`DnsServer::apply`] told. A server that does not know yet what there is
    /// must not say that something does not exist: who is told SERVFAIL asks the next server, who is told "no" does not.
    pub fn knows_zone(&self) {
        self.shared.knows_zone.store(true, Ordering::Release);
    }

    /// Answers at one more address from now on.
    ///
    /// # Errors
    /// [`DnsError`] if a socket cannot be opened; all else goes on.
    pub fn listen(&mut self, address: SocketAddr) -> Result<(), DnsError> {
        self.attend(open(address)?)
    }

    /// Asks these for names of other zones from now on, except addresses of its own. True if somebody is asked now; false if
    /// nobody is left to ask. Whom it asked before stays.
    pub fn forward(&mut self, upstreams: &[Upstream]) -> bool {
        let is_own = |at: &SocketAddr| {
            let mut own = self.addresses.iter();
            own.any(|own| own == at || own.port() == at.port() && own.ip().is_unspecified() && at.ip().is_loopback())
        };
        let others: Vec<Upstream> = upstreams.iter().filter(|upstream| !is_own(&upstream.address)).cloned().collect();
        if others.is_empty() {
            return self.shared.forwarder.get().is_some();
        }
        let start = || forwarder(&others, self.config.seed, self.tallies.first());
        self.shared.forwarder.get_or_init(start);
        true
    }

    fn attend(&mut self, (bound, udp, listener): Opened) -> Result<(), DnsError> {
        let serial = self.addresses.len() as u64 + 1;
        let seed = self.config.seed.split("dns-threads").nth(serial);
        let work = |seed: Seed| {
            let tally = Arc::<Tally>::default();
            self.tallies.push(Arc::clone(&tally));
            let buckets = Buckets::new(self.config.rate, seed.split("buckets").0);
            Work { shared: Arc::clone(&self.shared), tally, buckets, rng: seed.split("shuffle").rng() }
        };
        let udp = Udp::start(udp, work, seed);
        self.udp.push(udp.map_err(|source| DnsError::Listen { address: bound, protocol: "udp", source })?);
        let tally = Arc::<Tally>::default();
        self.tallies.push(Arc::clone(&tally));
        let (shared, idle) = (Arc::clone(&self.shared), self.config.tcp_idle);
        let tcp = Tcp { shared, tally, idle, seed: seed.split("tcp") };
        self.tcp.push(tokio::spawn(tcp::listen(listener, Arc::new(tcp))));
        self.addresses.push(bound);
        Ok(())
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What was answered since the start.
    #[must_use]
    pub fn answers(&self) -> DnsAnswers {
        let mut sum = DnsAnswers::default();
        self.tallies.iter().for_each(|tally| tally.add_to(&mut sum));
        sum.panics = self.shared.panics.load(Ordering::Relaxed);
        sum.ignored += sum.panics;
        sum.forwarded = self.shared.forwarder.get().map(|forwarder| forwarder.sum()).unwrap_or_default();
        sum
    }

    /// The names as they are answered now.
    #[must_use]
    pub fn zone(&self) -> Arc<Zone> {
        self.shared.zone.load_full()
    }

    /// Publishes a snapshot with these changes; all of them or, to a query under way, none.
    pub fn apply(&self, changes: &[NameChange]) {
        if changes.is_empty() {
            return;
        }
        let mut next = Zone::clone(&self.shared.zone.load());
        changes.iter().for_each(|change| next.apply(change));
        self.shared.zone.store(Arc::new(next));
    }

    /// Publishes a snapshot with these round trips from here to other nodes, if that changes an answer.
    pub fn measure(&self, round_trips: &BTreeMap<NodeId, Duration>) {
        let mut next = Zone::clone(&self.shared.zone.load());
        if next.measure(round_trips) {
            self.shared.zone.store(Arc::new(next));
        }
    }

    /// Stops listening; answers under way by TCP are cut off.
    pub async fn stop(mut self, within: Duration) {
        for listener in self.tcp.drain(..) {
            listener.abort();
            // Its socket is closed once it is gone.
            let _aborted = listener.await;
        }
        let mut threads = std::mem::take(&mut self.udp);
        let ended = tokio::task::spawn_blocking(move || threads.iter_mut().for_each(Udp::stop));
        if tokio::time::timeout(within, ended).await.is_err() {
            tracing::debug!("DNS did not stop in time");
        }
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.tcp.iter().for_each(JoinHandle::abort);
    }
}

fn share(config: &DnsConfig) -> (Arc<Shared>, Arc<Tally>) {
    let mut zone =
        Zone::new(&config.domain, &config.cluster, u32::try_from(dunlin_names::TTL.as_secs()).unwrap_or(u32::MAX));
    if let Some(here) = config.here {
        zone = zone.seen_from(here);
    }
    let tally = Arc::<Tally>::default();
    let forwarding = OnceLock::new();
    if !config.forward.is_empty() {
        forwarding.get_or_init(|| forwarder(&config.forward, config.seed, Some(&tally)));
    }
    let shared = Shared {
        zone: ArcSwap::from_pointee(zone),
        knows_zone: AtomicBool::new(config.knows_zone),
        allow: config.allow.clone(),
        cookies: Cookies::new(&mut config.seed.split("dns-cookies").rng()),
        forwarder: forwarding,
        panics: AtomicU64::new(0),
    };
    (Arc::new(shared), tally)
}

fn forwarder(upstreams: &[Upstream], seed: Seed, tally: Option<&Arc<Tally>>) -> Arc<Forwarder> {
    Forwarder::start(upstreams, seed.split("dns-forward"), tally.map(Arc::clone).unwrap_or_default())
}

/// The sockets of one address.
type Opened = (SocketAddr, Vec<UdpSocket>, TcpListener);

/// Opens them. TCP comes first: it is never shared, and so tells whether another program has the address.
fn open(address: SocketAddr) -> Result<Opened, DnsError> {
    let count = std::thread::available_parallelism().map_or(1, usize::from).clamp(1, MOST_THREADS);
    let failed = |protocol, source| DnsError::Listen { address, protocol, source };
    // A free port of TCP may be taken in UDP; another is as good.
    for attempt in 0.. {
        let tcp = listen_tcp(address).map_err(|source| failed("tcp", source))?;
        let bound = tcp.local_addr().map_err(|source| failed("tcp", source))?;
        let udp: io::Result<Vec<UdpSocket>> = (0..count).map(|_| udp::open(bound, count > 1)).collect();
        match udp {
            Ok(udp) => return Ok((bound, udp, tcp)),
            Err(error) if address.port() == 0 && error.kind() == io::ErrorKind::AddrInUse && attempt < 8 => {}
            Err(source) => return Err(failed("udp", source)),
        }
    }
    Err(failed("udp", io::ErrorKind::AddrInUse.into()))
}

/// As [`TcpListener::bind`] does, for an address that needs no looking up.
fn listen_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(TCP_WAITING)
}
