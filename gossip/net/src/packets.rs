//! The packet plane: opens what the socket takes out of the stream, and says who was turned away.
//!
//! Everything here runs inside the socket's receive path: it never blocks. When the agent does not keep up, packets are lost,
//! which is what a datagram may be.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, mpsc};

use crate::book::Book;
use crate::event::NetEvent;
use crate::gate::{Limiter, Rate};
use crate::seal::{SealError, Sealer};
use crate::socket::Plane;

/// How often somebody turned away is worth an event.
const REJECTIONS: Rate = Rate { burst: 8, every: Duration::from_secs(5) };
/// Garbage is cheap to send, so it is reported on an allowance of its own.
const GARBAGE: Rate = Rate { burst: 1, every: Duration::from_secs(10) };
/// Refusals that a slow dial may be behind.
const REFUSAL_BACKLOG: usize = 256;

/// Reports who was turned away, at a bounded rate.
#[derive(Debug)]
pub(crate) struct Reporter {
    events: mpsc::Sender<NetEvent>,
    rejections: Limiter,
    garbage: Limiter,
}

impl Reporter {
    fn new(events: mpsc::Sender<NetEvent>) -> Self {
        let now = Instant::now();
        Self { events, rejections: Limiter::new(REJECTIONS, now), garbage: Limiter::new(GARBAGE, now) }
    }

    pub(crate) fn rejected(&self, from: SocketAddr, why: &str) {
        self.report(&self.rejections, from, why);
    }

    fn report(&self, limiter: &Limiter, from: SocketAddr, why: &str) {
        tracing::debug!(%from, why, "rejected");
        let Some(held_back) = limiter.pass(Instant::now()) else { return };
        let more = if held_back > 0 { format!(" (and {held_back} more since the last report)") } else { String::new() };
        // A full channel means that the agent is behind; this is the least of its worries.
        let _dropped = self.events.try_send(NetEvent::Rejected { from, why: format!("{why}{more}") });
    }
}

/// Counters of the packet plane.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) received: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) unopened: AtomicU64,
    pub(crate) overrun: AtomicU64,
}

/// The packet plane.
#[derive(Debug)]
pub(crate) struct Packets {
    sealer: Mutex<Sealer>,
    book: Arc<Book>,
    events: mpsc::Sender<NetEvent>,
    refusals: broadcast::Sender<SocketAddr>,
    pub(crate) reporter: Reporter,
    pub(crate) counters: Counters,
}

impl Packets {
    pub(crate) fn new(sealer: Sealer, book: Arc<Book>, events: mpsc::Sender<NetEvent>) -> Self {
        let reporter = Reporter::new(events.clone());
        let (refusals, _) = broadcast::channel(REFUSAL_BACKLOG);
        Self { sealer: Mutex::new(sealer), book, events, refusals, reporter, counters: Counters::default() }
    }

    pub(crate) fn sealer(&self) -> MutexGuard<'_, Sealer> {
        self.sealer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn refusals(&self) -> broadcast::Receiver<SocketAddr> {
        self.refusals.subscribe()
    }

    fn emit(&self, event: NetEvent) {
        if self.events.try_send(event).is_err() {
            self.counters.overrun.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Plane for Packets {
    fn datagram(&self, from: SocketAddr, bytes: &[u8]) {
        let opened = self.sealer().open(bytes);
        match opened {
            Ok(opened) => {
                self.counters.received.fetch_add(1, Ordering::Relaxed);
                if opened.newest {
                    self.book.heard(opened.from, from);
                }
                self.emit(NetEvent::Packet { from: opened.from, bytes: opened.bytes });
            }
            Err(why) => {
                self.counters.unopened.fetch_add(1, Ordering::Relaxed);
                match why {
                    SealError::Garbage | SealError::Forged => {
                        self.reporter.report(&self.reporter.garbage, from, &format!("a packet was dropped: {why}"));
                    }
                    // All of these happen in a healthy cluster: a record still on its way, a restart, a duplicate.
                    SealError::UnknownPeer
                    | SealError::OldGeneration
                    | SealError::Replayed
                    | SealError::WeakKey
                    | SealError::TooLarge => tracing::trace!(%from, %why, "packet dropped"),
                }
            }
        }
    }

    fn refused(&self, to: SocketAddr) {
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
        // No dial is waiting: nothing to tell.
        let _nobody = self.refusals.send(to);
        for node in self.book.refused(to) {
            self.emit(NetEvent::Refused { node });
        }
    }
}
