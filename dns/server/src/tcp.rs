//! Connections (RFC 7766): many questions one after another, answered as they are ready, each connection and all of them
//! bounded in number, time and memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dunlin_gossip::rng::{Rng, Seed};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::forward::Way;
use crate::reply::{Client, Reply, Shared, reply};
use crate::tally::{Tally, add};

/// Connections of all clients, and of one.
const MOST: usize = 256;
const MOST_OF_ONE: usize = 32;
/// Answers that wait for one slow client.
const BACKLOG: usize = 32;
/// Bytes of a question; who sends more is cut off.
const LONGEST: u16 = 4_096;
/// For a client to take an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// After an accept that failed for want of descriptors or memory.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// What every connection needs.
pub(crate) struct Tcp {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tally: Arc<Tally>,
    /// How long a client may be silent (RFC 7766 section 6.2.3 asks for seconds).
    pub(crate) idle: Duration,
    pub(crate) seed: Seed,
}

/// Connections by client; shared by all listeners would be fairer, one map a listener is enough.
type Held = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// Counts a connection for as long as it lives.
struct Place(Held, IpAddr);

impl Place {
    fn take(held: &Held, client: IpAddr) -> Option<Self> {
        let mut map = held.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = map.values().sum();
        let own = map.get(&client).copied().unwrap_or(0);
        if all >= MOST || own >= MOST_OF_ONE {
            return None;
        }
        map.insert(client, own + 1);
        Some(Self(Arc::clone(held), client))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match map.get_mut(&self.1) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => drop(map.remove(&self.1)),
        }
    }
}

/// Takes connections until it is dropped; then they are gone too.
pub(crate) async fn listen(listener: TcpListener, tcp: Arc<Tcp>) {
    let held = Held::default();
    let mut connections = JoinSet::new();
    let mut serial = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, from)) => {
                let client = from.ip().to_canonical();
                serial += 1;
                let rng = tcp.seed.nth(serial).rng();
                match Place::take(&held, client) {
                    Some(place) => drop(connections.spawn(connection(stream, client, Arc::clone(&tcp), rng, place))),
                    None => add(&tcp.tally.turned_away),
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a DNS connection could not be taken");
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, address: IpAddr, tcp: Arc<Tcp>, rng: Rng, place: Place) {
    let (read, write) = stream.into_split();
    let (answers, waiting) = mpsc::channel(BACKLOG);
    // The writer ends once nobody can answer any more: a client that is done asking still hears what is under way.
    tokio::join!(questions(read, address, &tcp, rng, answers), deliver(write, waiting));
    drop(place);
}

async fn questions(mut read: OwnedReadHalf, address: IpAddr, tcp: &Tcp, mut rng: Rng, answers: mpsc::Sender<Vec<u8>>) {
    let mut question = Vec::new();
    while let Ok(Ok(length)) = timeout(tcp.idle, read.read_u16()).await {
        if length > LONGEST {
            return;
        }
        question.resize(length.into(), 0);
        let Ok(Ok(_)) = timeout(tcp.idle, read.read_exact(&mut question)).await else { return };
        let client = Client { address, is_tcp: true };
        let since = Instant::now();
        let sent = match reply(&tcp.shared, &question, client, &mut rng, &tcp.tally) {
            Reply::Send(bytes) => {
                let sent = matches!(timeout(PATIENCE, answers.send(bytes)).await, Ok(Ok(())));
                tcp.tally.tcp_times.add(since.elapsed(), u64::from(sent));
                sent
            }
            Reply::Ask(asker) => {
                if let Some(forwarder) = tcp.shared.forwarder.get() {
                    forwarder.ask(*asker, Way::Tcp(answers.clone()));
                }
                true
            }
            Reply::Nothing => false,
        };
        if !sent {
            return;
        }
    }
}

async fn deliver(mut write: OwnedWriteHalf, mut waiting: mpsc::Receiver<Vec<u8>>) {
    while let Some(bytes) = waiting.recv().await {
        let Ok(length) = u16::try_from(bytes.len()) else { continue };
        // In one write: a length alone in a segment confuses some clients (RFC 7766 section 8).
        let mut message = length.to_be_bytes().to_vec();
        message.extend_from_slice(&bytes);
        if !matches!(timeout(PATIENCE, write.write_all(&message)).await, Ok(Ok(()))) {
            return;
        }
    }
}
