//! Threads that answer datagrams: each has its own socket on the same address, its own counters and buckets, and takes no
//! lock. A thread that waits in the kernel costs less for a question than a task that is woken by a reactor.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use dunlin_gossip::rng::{Rng, Seed};
use dunlin_names::Zone;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::forward::Way;
use crate::gate::{Buckets, Verdict};
use crate::mmsg::{Batch, tell_where, wake};
use crate::reply::{Client, Reply, Shared, is_proved, reply, slip};
use crate::tally::{Tally, add};

/// Bytes of questions that may wait in the kernel; it may give less.
const WAITING: usize = 1 << 20;
/// After an error that is not about one datagram.
const AFTER_ERROR: Duration = Duration::from_millis(50);

/// Threads of one address.
pub(crate) struct Udp {
    sockets: Vec<Arc<UdpSocket>>,
    threads: Vec<JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
}

/// Opens a socket. Several may share an address if they all say so.
pub(crate) fn open(address: SocketAddr, is_shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if is_shared {
        setsockopt(&socket, sockopt::ReusePort, &true)?;
    }
    let _as_much_as_allowed = socket.set_recv_buffer_size(WAITING);
    socket.bind(&address.into())?;
    let socket = UdpSocket::from(socket);
    if address.ip().is_unspecified() {
        tell_where(&socket, address)?;
    }
    Ok(socket)
}

/// What a thread needs.
pub(crate) struct Work {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) buckets: Buckets,
    pub(crate) rng: Rng,
}

impl Udp {
    /// Begins to answer on sockets of one address.
    pub(crate) fn start(sockets: Vec<UdpSocket>, mut work: impl FnMut(Seed) -> Work, seed: Seed) -> io::Result<Self> {
        let mut udp = Self { sockets: Vec::new(), threads: Vec::new(), is_over: Arc::default() };
        for (at, socket) in sockets.into_iter().enumerate() {
            let socket = Arc::new(socket);
            let mut work = work(seed.nth(at as u64));
            let (own, is_over) = (Arc::clone(&socket), Arc::clone(&udp.is_over));
            udp.sockets.push(socket);
            let thread = Builder::new().name("dunlin-dns".to_owned());
            udp.threads.push(thread.spawn(move || work.run(&own, &is_over))?);
        }
        Ok(udp)
    }

    /// Ends the threads; none answers any more once this returns.
    pub(crate) fn stop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        self.sockets.iter().for_each(|socket| wake(socket));
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a DNS thread had panicked; please report this");
            }
        }
    }
}

impl Drop for Udp {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Work {
    fn run(&mut self, socket: &Arc<UdpSocket>, is_over: &AtomicBool) {
        let tells_where = socket.local_addr().is_ok_and(|bound| bound.ip().is_unspecified());
        let mut batch = Batch::new();
        while !is_over.load(Ordering::Acquire) {
            let count = match batch.receive(socket, tells_where) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::warn!(%error, "questions cannot be received");
                    std::thread::sleep(AFTER_ERROR);
                    continue;
                }
            };
            let now = Instant::now();
            // One snapshot for the batch, read from beginning to end.
            let zone = self.shared.knows_zone.load(Ordering::Acquire).then(|| self.shared.zone.load_full());
            let mut answered = 0;
            for at in 0..count {
                let filled = self.answer(zone.as_deref(), &mut batch, at, socket, now);
                batch.fill(at, filled);
                answered += u64::from(filled > 0);
            }
            for _ in 0..batch.send(socket, count) {
                add(&self.tally.ignored);
            }
            // One look at the clock for all of them.
            if answered > 0 {
                self.tally.udp_times.add(now.elapsed(), answered);
            }
        }
    }

    /// Answers one question and says how long the answer is; 0 for none. Without a zone the full path says why.
    fn answer(
        &mut self,
        zone: Option<&Zone>,
        batch: &mut Batch,
        at: usize,
        socket: &Arc<UdpSocket>,
        now: Instant,
    ) -> usize {
        let (question, peer, room) = batch.pair(at);
        let address = peer.ip();
        let copy = |bytes: &[u8], room: &mut [u8]| match room.get_mut(..bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                bytes.len()
            }
            None => 0,
        };
        let verdict = self.buckets.take(address, now);
        if verdict != Verdict::Answer && !is_proved(&self.shared, question, address) {
            add(&self.tally.limited);
            let slip = slip(question).filter(|_| verdict == Verdict::Slip);
            return slip.map_or(0, |bytes| copy(&bytes, room));
        }
        let offers_recursion = self.shared.forwarder.get().is_some();
        if let Some(zone) = zone.filter(|_| self.shared.allows(address))
            && let Some(quick) = zone.quick(question, offers_recursion, &mut self.rng, room)
        {
            add(&self.tally.quick);
            self.tally.count(if quick.is_v6 { 28 } else { 1 }, 0);
            return quick.len;
        }
        let client = Client { address, is_tcp: false };
        match reply(&self.shared, question, client, &mut self.rng, &self.tally) {
            Reply::Send(bytes) => copy(&bytes, room),
            Reply::Ask(asker) => {
                if let Some(forwarder) = self.shared.forwarder.get() {
                    forwarder.ask(*asker, Way::Udp(Arc::clone(socket), Box::new(*peer)));
                }
                0
            }
            Reply::Nothing => 0,
        }
    }
}
