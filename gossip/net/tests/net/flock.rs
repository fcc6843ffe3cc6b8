//! A few nodes of one cluster on loopback, driven by hand.

use std::net::SocketAddr;
use std::time::Duration;

use dunlin_gossip::face::{FrameClass, LinkId, PeerChange};
use dunlin_gossip::id::{Generation, NodeId};
use dunlin_gossip::model::{NodeName, RosterEntry};
use dunlin_gossip::time::Wall;
use dunlin_net::{CERTIFICATE_LIFETIME, Credentials, Net, NetConfig, NetEvent, NodeKeys};
use tokio::sync::mpsc;

/// Patience of every wait; only a failing test uses it up.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Node {
    pub(crate) keys: NodeKeys,
    pub(crate) credentials: Credentials,
    pub(crate) net: Net,
    pub(crate) events: mpsc::Receiver<NetEvent>,
}

/// The keys and credentials of a first node.
pub(crate) fn founder() -> (NodeKeys, Credentials) {
    let keys = NodeKeys::generate().unwrap();
    let credentials = Credentials::create_cluster(&keys).unwrap();
    (keys, credentials)
}

/// The same cluster's credentials for other keys.
pub(crate) fn enrol(of: &Credentials, keys: &NodeKeys) -> Credentials {
    let certificate = of.authority.certify(keys.public_key(), CERTIFICATE_LIFETIME).unwrap().into();
    Credentials { certificate, ..of.clone() }
}

pub(crate) fn loopback(last: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], 0))
}

pub(crate) async fn start(keys: NodeKeys, credentials: Credentials, bind: SocketAddr, generation: u64) -> Node {
    let (sender, events) = mpsc::channel(1_024);
    let generation = Generation(generation);
    let config = NetConfig { bind, keys: keys.clone(), credentials: credentials.clone(), generation };
    let net = Net::start(config, sender).await.unwrap();
    Node { keys, credentials, net, events }
}

/// This many nodes of one cluster that know each other.
pub(crate) async fn flock(count: u8) -> Vec<Node> {
    let (keys, credentials) = founder();
    let mut nodes = vec![start(keys, credentials.clone(), loopback(1), 1).await];
    for n in 2..=count {
        let keys = NodeKeys::generate().unwrap();
        let own = enrol(&credentials, &keys);
        nodes.push(start(keys, own, loopback(n), 1).await);
    }
    for a in &nodes {
        for b in &nodes {
            a.net.peer(&b.admitted());
        }
    }
    nodes
}

impl Node {
    pub(crate) fn id(&self) -> NodeId {
        self.keys.id()
    }

    pub(crate) fn admitted(&self) -> PeerChange {
        admitted(&self.keys, &self.credentials, vec![self.net.local_addr()])
    }

    /// The first event that the function takes; others are dropped.
    pub(crate) async fn until<T>(&mut self, what: &str, mut take: impl FnMut(NetEvent) -> Option<T>) -> T {
        let wait = async {
            loop {
                let event = self.events.recv().await.expect("the network lives");
                if let Some(found) = take(event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("no {what}"))
    }

    pub(crate) async fn link_up(&mut self) -> (LinkId, NodeId, bool) {
        self.until("LinkUp", |e| match e {
            NetEvent::LinkUp { link, peer, inbound } => Some((link, peer, inbound)),
            NetEvent::LinkDown { reason, .. } => panic!("the dial failed: {reason}"),
            _ => None,
        })
        .await
    }

    pub(crate) async fn link_down(&mut self) -> (Option<LinkId>, String) {
        self.until("LinkDown", |e| match e {
            NetEvent::LinkDown { link, reason, .. } => Some((link, reason)),
            _ => None,
        })
        .await
    }

    /// Both, in whichever order they come.
    pub(crate) async fn expelled_and_link_down(&mut self) -> (NodeId, (Option<LinkId>, String)) {
        let (mut told, mut down) = (None, None);
        self.until("Expelled and LinkDown", |e| {
            match e {
                NetEvent::Expelled { by } => told = Some(by),
                NetEvent::LinkDown { link, reason, .. } => down = Some((link, reason)),
                _ => {}
            }
            told.zip(down.clone())
        })
        .await
    }

    pub(crate) async fn packet(&mut self) -> (NodeId, Vec<u8>) {
        self.until("Packet", |e| match e {
            NetEvent::Packet { from, bytes } => Some((from, bytes)),
            _ => None,
        })
        .await
    }

    pub(crate) async fn frame(&mut self) -> Vec<u8> {
        self.until("Frame", |e| match e {
            NetEvent::Frame { bytes, .. } => Some(bytes),
            _ => None,
        })
        .await
    }

    pub(crate) async fn rejected(&mut self) -> String {
        self.until("Rejected", |e| match e {
            NetEvent::Rejected { why, .. } => Some(why),
            _ => None,
        })
        .await
    }

    pub(crate) fn send(&self, link: LinkId, bytes: &[u8]) {
        self.net.send_frame(link, bytes.into(), FrameClass::Push);
    }
}

pub(crate) fn admitted(keys: &NodeKeys, credentials: &Credentials, addresses: Vec<SocketAddr>) -> PeerChange {
    let entry = RosterEntry {
        node: keys.id(),
        name: NodeName::new("node").unwrap(),
        certificate: credentials.certificate.to_vec(),
        seal_key: keys.seal_key(),
        addresses: addresses.clone(),
        admitted_by: None,
        token: None,
        at: Wall(0),
    };
    PeerChange::Admitted { entry, addresses }
}

/// Two of a flock, to be used at once.
pub(crate) fn two(nodes: &mut [Node]) -> (&mut Node, &mut Node) {
    let [a, b, ..] = nodes else { panic!("two nodes are needed") };
    (a, b)
}
