//! The handle that the agent holds: starts the network, sends, dials, asks, and keeps the tables of connections and links.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use dunlin_gossip::face::{FrameClass, LinkId, PeerChange};
use dunlin_gossip::id::{Generation, NodeId};
use quinn::{Endpoint, EndpointConfig};
use quinn_proto::HashedConnectionIdGenerator;
use tokio::sync::{Semaphore, broadcast, mpsc};
use tokio::task::AbortHandle;

use crate::authority::Credentials;
use crate::book::Book;
use crate::conn::{Closing, Conn, explain, says_removed};
use crate::error::NetError;
use crate::event::NetEvent;
use crate::gate::{PerAddress, Rate};
use crate::keys::NodeKeys;
use crate::link::Link;
use crate::meter::Traffic;
use crate::packets::Packets;
use crate::paths::Paths;
use crate::request::{Guard, RecvHalf, SendHalf, halves};
use crate::seal::Sealer;
use crate::serve;
use crate::socket::Socket;
use crate::tls::{self, Anchor, Shown};

/// For a dial, over all addresses.
pub(crate) const DIAL: Duration = Duration::from_secs(3);
/// For one address of several.
const DIAL_ONE: Duration = Duration::from_secs(1);
/// For saying goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
/// Handshakes of strangers at once.
const MAX_HANDSHAKES: usize = 256;
/// Newcomers at once.
const MAX_JOINS: usize = 8;
/// Attempts to join from one address.
const JOIN_RATE: Rate = Rate { burst: 30, every: Duration::from_secs(1) };
/// Largest header of a request.
pub(crate) const MAX_HEADER: usize = 64 * 1024;

/// What a network needs to start.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// Where to listen; port 0 takes any.
    pub bind: SocketAddr,
    /// The node's keys. Stateless-reset and connection-id keys derive from them, so that peers notice a restart at once.
    pub keys: NodeKeys,
    /// The cluster and the node's certificate.
    pub credentials: Credentials,
    /// This boot; it must be on disk before the network starts.
    pub generation: Generation,
}

/// Counters since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NetStats {
    /// Sealed packets: membership, and anything else that is not QUIC.
    pub sealed: Traffic,
    /// QUIC: links, requests and joins.
    pub quic: Traffic,
    /// Authentic packets received.
    pub packets: u64,
    /// Datagrams that were no acceptable packets.
    pub unopened: u64,
    /// Refusals by peers' hosts.
    pub refusals: u64,
    /// Packets and refusals lost since the agent did not keep up, or the kernel had no room.
    pub lost: u64,
    /// Open QUIC connections.
    pub connections: usize,
    /// Standing links.
    pub links: usize,
}

/// The network. Cheap to clone; all clones are one. End it with [`Net::close`].
#[derive(Clone)]
pub struct Net {
    pub(crate) inner: Arc<Inner>,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net").field("at", &self.inner.local).finish_non_exhaustive()
    }
}

pub(crate) struct Inner {
    pub(crate) me: NodeId,
    pub(crate) generation: Generation,
    keys: NodeKeys,
    credentials: RwLock<Credentials>,
    shown: Arc<Shown>,
    pub(crate) book: Arc<Book>,
    pub(crate) packets: Arc<Packets>,
    pub(crate) events: mpsc::Sender<NetEvent>,
    pub(crate) endpoint: Endpoint,
    pub(crate) handshakes: Arc<Semaphore>,
    pub(crate) joins: Arc<Semaphore>,
    pub(crate) join_rate: PerAddress,
    pub(crate) handover_rate: PerAddress,
    socket: Arc<Socket>,
    local: SocketAddr,
    client: quinn::ClientConfig,
    pub(crate) heir: quinn::ClientConfig,
    tables: Mutex<Tables>,
    next_id: AtomicU64,
    tasks: Mutex<Vec<AbortHandle>>,
}

#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) connections: HashMap<u64, Arc<Conn>>,
    pub(crate) links: HashMap<LinkId, Arc<Link>>,
    /// What connections that ended had counted.
    pub(crate) ended: Paths,
    dialling: HashSet<NodeId>,
}

impl Net {
    /// Opens the port and starts; everything that happens arrives through `events`, which should be read without pause.
    ///
    /// # Errors
    /// [`NetError`] if the port cannot be had or the keys are unusable.
    pub async fn start(config: NetConfig, events: mpsc::Sender<NetEvent>) -> Result<Self, NetError> {
        let NetConfig { bind, keys, credentials, generation } = config;
        let anchor = Anchor::new(&credentials).map_err(|e| NetError::Keys(e.to_string()))?;
        let shown = Shown::new(&keys, &credentials)?;
        let book = Arc::new(Book::new(anchor));
        let sealer = Sealer::new(keys.id(), keys.seal_secret(), credentials.cluster, generation);
        let packets = Arc::new(Packets::new(sealer, Arc::clone(&book), events.clone()));
        let plane = Arc::clone(&packets);
        let socket = Socket::bind(bind, plane).map_err(|source| NetError::bind(bind, source))?;
        let server = tls::server(&shown, &book)?;
        let client = tls::client(&shown, &book)?;
        let heir = tls::heir(&shown, &book)?;
        let endpoint = Endpoint::new_with_abstract_socket(
            endpoint_config(&keys),
            Some(server),
            Arc::clone(&socket) as Arc<dyn quinn::AsyncUdpSocket>,
            Arc::new(quinn::TokioRuntime),
        )
        .map_err(|source| NetError::Socket { address: bind, source })?;
        let local = endpoint.local_addr().map_err(|source| NetError::Socket { address: bind, source })?;
        let mut tasks = socket.spawn().to_vec();
        let inner = Arc::new(Inner {
            me: keys.id(),
            generation,
            keys,
            credentials: RwLock::new(credentials),
            shown,
            book,
            packets,
            events,
            endpoint,
            handshakes: Arc::new(Semaphore::new(MAX_HANDSHAKES)),
            joins: Arc::new(Semaphore::new(MAX_JOINS)),
            join_rate: PerAddress::new(JOIN_RATE),
            handover_rate: PerAddress::new(JOIN_RATE),
            socket,
            local,
            client,
            heir,
            tables: Mutex::default(),
            next_id: AtomicU64::new(1),
            tasks: Mutex::default(),
        });
        tasks.push(tokio::spawn(serve::accept(Arc::clone(&inner))).abort_handle());
        *inner.tasks.lock().unwrap_or_else(PoisonError::into_inner) = tasks;
        Ok(Self { inner })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.local
    }

    /// What this node shows and trusts now.
    #[must_use]
    pub fn credentials(&self) -> Credentials {
        self.inner.credentials()
    }

    /// Shows and trusts something else from now on. Connections that stand go on.
    ///
    /// # Errors
    /// [`NetError`] if the certificate is not this node's; nothing has changed then.
    pub fn change_credentials(&self, credentials: Credentials) -> Result<(), NetError> {
        let inner = &self.inner;
        let anchor = Anchor::new(&credentials).map_err(|e| NetError::Keys(e.to_string()))?;
        inner.shown.change(&inner.keys, &credentials)?;
        inner.book.trust(anchor);
        *inner.credentials.write().unwrap_or_else(PoisonError::into_inner) = credentials;
        Ok(())
    }

    /// Takes a change of the roster. A removal drops connections and keys before this returns.
    pub fn peer(&self, change: &PeerChange) {
        let inner = &self.inner;
        match change {
            PeerChange::Admitted { entry, addresses } => match inner.book.admit(entry, addresses) {
                Ok(()) => inner.packets.sealer().admit(entry.node, entry.seal_key),
                Err(why) => {
                    tracing::warn!(node = %entry.node, %why, "the roster's entry is unusable; the node is not served")
                }
            },
            PeerChange::Removed { node } | PeerChange::Forgotten { node } => {
                // Who is told that it was removed ends for good; who was forgotten may come back.
                let closing = if matches!(change, PeerChange::Forgotten { .. }) {
                    inner.book.forget(*node);
                    Closing::Hangup
                } else {
                    inner.book.remove(*node);
                    Closing::Removed
                };
                inner.packets.sealer().remove(*node);
                let theirs: Vec<_> =
                    inner.tables().connections.values().filter(|c| c.peer == *node).map(Arc::clone).collect();
                for conn in theirs {
                    closing.close(&conn.quinn, "no longer a member");
                }
            }
        }
    }

    /// Seals a packet and sends it to where the peer was last heard. Never blocks; a lost packet is lost.
    pub fn send_packet(&self, to: NodeId, bytes: Vec<u8>) {
        let inner = &self.inner;
        let Some(address) = inner.book.packet_address(to) else { return };
        let sealed = inner.packets.sealer().seal(to, &bytes);
        match sealed {
            Ok(datagram) => inner.socket.send_packet(address, datagram),
            Err(why) => tracing::warn!(%to, %why, "a packet was not sent"),
        }
    }

    /// Dials a peer; `LinkUp` or `LinkDown` answers. A dial that is under way already answers for both.
    pub fn dial(&self, peer: NodeId) {
        if self.inner.tables().dialling.insert(peer) {
            tokio::spawn(Arc::clone(&self.inner).dial(peer));
        }
    }

    /// True if another agent with this node's own keys answers at an address: one of the two runs on a copy of the other's
    /// data directory. False as well if nobody answers within a second. The own entry must be in the book here and there.
    pub async fn has_twin_at(&self, address: SocketAddr) -> bool {
        let inner = &self.inner;
        let attempt = async {
            let connection = inner.connect_to(inner.me, address, DIAL_ONE).await?;
            Ok::<_, String>(serve::meets_twin(&connection, inner.generation).await)
        };
        matches!(tokio::time::timeout(DIAL_ONE, attempt).await, Ok(Ok(true)))
    }

    /// Finds out which member answers at an address, notes that it is there, and tells the agent ([`NetEvent::Met`]): how
    /// hosts that have all moved meet again. Nothing comes of an address where no other member answers within a second.
    pub async fn meet(&self, address: SocketAddr) {
        let inner = &self.inner;
        let attempt = async {
            let connecting = inner.endpoint.connect_with(inner.client.clone(), address, tls::ANY_MEMBER).ok()?;
            let connection = connecting.await.ok()?;
            let peer = serve::peer_of(inner, &connection).map(|(peer, _)| peer);
            Closing::Idle.close(&connection, "met");
            peer.filter(|peer| *peer != inner.me)
        };
        if let Ok(Some(peer)) = tokio::time::timeout(DIAL_ONE, attempt).await {
            inner.book.heard(peer, address);
            inner.emit(NetEvent::Met { peer }).await;
        }
    }

    /// Queues a frame. Unknown links are ignored: their `LinkDown` is on its way.
    pub fn send_frame(&self, link: LinkId, bytes: Arc<[u8]>, class: FrameClass) {
        let found = self.inner.tables().links.get(&link).map(Arc::clone);
        if let Some(link) = found {
            link.send(bytes, class);
        }
    }

    /// Ends a link; `LinkDown` follows. Requests on the same connection live on.
    pub fn hangup(&self, link: LinkId, reason: &str) {
        let found = self.inner.tables().links.get(&link).map(Arc::clone);
        if let Some(link) = found {
            link.end(reason);
        }
    }

    /// Opens a stream for a request, over a standing connection or a new one.
    ///
    /// # Errors
    /// [`NetError`] if the peer is unknown or cannot be reached within 3 s.
    pub async fn request(&self, peer: NodeId, header: Vec<u8>) -> Result<(SendHalf, RecvHalf), NetError> {
        if header.len() > MAX_HEADER {
            return Err(NetError::HeaderTooLarge { max: MAX_HEADER, found: header.len() });
        }
        let unreachable = |why: String| NetError::Unreachable { node: peer, why };
        let attempt = async {
            if let Some(conn) = self.inner.standing(peer)
                && let Ok(halves) = open_request(&conn, &header).await
            {
                return Ok(halves);
            }
            let conn = self.inner.connect(peer).await?;
            open_request(&conn, &header).await.map_err(unreachable)
        };
        tokio::time::timeout(DIAL, attempt).await.unwrap_or_else(|_| Err(unreachable("no answer in time".into())))
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> NetStats {
        let counters = &self.inner.packets.counters;
        let (sealed, quic) = self.inner.socket.traffic();
        let tables = self.inner.tables();
        NetStats {
            sealed,
            quic,
            packets: counters.received.load(Ordering::Relaxed),
            unopened: counters.unopened.load(Ordering::Relaxed),
            refusals: counters.refused.load(Ordering::Relaxed),
            lost: self.inner.socket.lost() + counters.overrun.load(Ordering::Relaxed),
            connections: tables.connections.len(),
            links: tables.links.len(),
        }
    }

    /// Says goodbye to all peers and stops. The port is free once all clones of the handle are dropped.
    pub async fn close(&self) {
        self.inner.endpoint.close(Closing::Stopping.code(), b"the agent stops");
        // A peer that does not confirm notices by itself.
        let _best_effort = tokio::time::timeout(GOODBYE, self.inner.endpoint.wait_idle()).await;
        let tasks = std::mem::take(&mut *self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.iter().for_each(AbortHandle::abort);
    }
}

fn endpoint_config(keys: &NodeKeys) -> EndpointConfig {
    let reset = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, keys.derive::<32>("stateless reset").as_slice());
    let ids = u64::from_be_bytes(*keys.derive::<8>("connection ids"));
    let mut config = EndpointConfig::new(Arc::new(reset));
    // Greased packets could look like sealed ones.
    config.grease_quic_bit(false);
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    config
}

async fn open_request(conn: &Arc<Conn>, header: &[u8]) -> Result<(SendHalf, RecvHalf), String> {
    let guard = Guard::new(conn);
    let (mut send, recv) = conn.quinn.open_bi().await.map_err(|e| explain(&e))?;
    let length = u32::try_from(header.len()).unwrap_or(u32::MAX);
    let head = [&[serve::REQUEST][..], &length.to_be_bytes(), header].concat();
    send.write_all(&head).await.map_err(|e| e.to_string())?;
    Ok(halves(send, recv, guard))
}

impl Inner {
    pub(crate) fn credentials(&self) -> Credentials {
        self.credentials.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn emit(&self, event: NetEvent) {
        if self.events.send(event).await.is_err() {
            tracing::trace!("nobody listens to the network any more");
        }
    }

    fn standing(&self, peer: NodeId) -> Option<Arc<Conn>> {
        let tables = self.tables();
        let mut theirs = tables.connections.values().filter(|c| c.peer == peer && c.quinn.close_reason().is_none());
        theirs.find(|c| c.linked.load(Ordering::Relaxed)).map(Arc::clone)
    }

    /// Enters a connection and attends to it; none if the peer was removed meanwhile.
    pub(crate) fn enter(self: &Arc<Self>, quinn: quinn::Connection, peer: NodeId) -> Option<Arc<Conn>> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let conn = Arc::new(Conn::new(id, quinn, peer));
        self.tables().connections.insert(id, Arc::clone(&conn));
        // After the insertion: a removal either sees the connection in the table, or is seen here.
        if !self.book.may_link(peer) {
            self.tables().connections.remove(&id);
            Closing::Removed.close(&conn.quinn, "no longer a member");
            return None;
        }
        let remote = conn.quinn.remote_address();
        self.book.heard(peer, SocketAddr::new(remote.ip().to_canonical(), remote.port()));
        tokio::spawn(serve::attend(Arc::clone(self), Arc::clone(&conn)));
        Some(conn)
    }

    pub(crate) fn leave(&self, conn: &Conn) {
        let mut tables = self.tables();
        if tables.connections.remove(&conn.id).is_some() {
            tables.ended.count(&conn.quinn);
        }
    }

    /// Runs a link on a connection from `LinkUp` to `LinkDown`.
    pub(crate) async fn run_link(
        self: Arc<Self>,
        conn: Arc<Conn>,
        send: quinn::SendStream,
        recv: quinn::RecvStream,
        inbound: bool,
    ) {
        let (id, peer) = (LinkId(self.next_id.fetch_add(1, Ordering::Relaxed)), conn.peer);
        let link = Arc::new(Link::new(id, conn));
        self.tables().links.insert(id, Arc::clone(&link));
        self.emit(NetEvent::LinkUp { link: id, peer, inbound }).await;
        let reason = link.run(send, recv, &self.events).await;
        self.tables().links.remove(&id);
        self.emit(NetEvent::LinkDown { link: Some(id), peer, reason }).await;
    }

    async fn dial(self: Arc<Self>, peer: NodeId) {
        let attempt = async {
            let conn = self.connect(peer).await.map_err(|e| e.to_string())?;
            let (send, recv) = serve::greet(&conn, self.generation).await?;
            Ok::<_, String>((conn, send, recv))
        };
        let result = tokio::time::timeout(DIAL, attempt).await;
        self.tables().dialling.remove(&peer);
        match result.unwrap_or_else(|_| Err("no answer within 3 s".into())) {
            Ok((conn, send, recv)) => self.run_link(conn, send, recv, false).await,
            Err(reason) => self.emit(NetEvent::LinkDown { link: None, peer, reason }).await,
        }
    }

    /// A new connection, by the peer's addresses in order.
    async fn connect(self: &Arc<Self>, peer: NodeId) -> Result<Arc<Conn>, NetError> {
        let addresses = self.book.dial_addresses(peer).ok_or(NetError::UnknownPeer(peer))?;
        let mut reasons = Vec::new();
        let several = addresses.len() > 1;
        for address in addresses {
            match self.connect_to(peer, address, if several { DIAL_ONE } else { DIAL }).await {
                Ok(quinn) => return self.enter(quinn, peer).ok_or(NetError::UnknownPeer(peer)),
                Err(why) => reasons.push(format!("{address}: {why}")),
            }
        }
        let why = if reasons.is_empty() { "it has no address".into() } else { reasons.join(", ") };
        Err(NetError::Unreachable { node: peer, why })
    }

    async fn connect_to(
        &self,
        peer: NodeId,
        address: SocketAddr,
        patience: Duration,
    ) -> Result<quinn::Connection, String> {
        let result = self.connect_as(&self.client, peer, address, patience).await;
        if self.book.take_stale(peer) {
            self.emit(NetEvent::Stale { peer }).await;
        }
        result
    }

    pub(crate) async fn connect_as(
        &self,
        client: &quinn::ClientConfig,
        peer: NodeId,
        address: SocketAddr,
        patience: Duration,
    ) -> Result<quinn::Connection, String> {
        let refusals = self.packets.refusals();
        let name = tls::expected_name(peer);
        let connecting = self.endpoint.connect_with(client.clone(), address, &name).map_err(|e| e.to_string())?;
        let done = tokio::select! {
            done = tokio::time::timeout(patience, connecting) => done,
            () = refusal_of(address, refusals) => return Err("nobody listens there".into()),
        };
        let Ok(done) = done else { return Err("no answer".into()) };
        if done.as_ref().is_err_and(says_removed) {
            self.emit(NetEvent::Expelled { by: peer }).await;
        }
        done.map_err(|e| explain(&e))
    }
}

async fn refusal_of(address: SocketAddr, mut refusals: broadcast::Receiver<SocketAddr>) {
    loop {
        match refusals.recv().await {
            Ok(refused) if refused == address => return,
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}
