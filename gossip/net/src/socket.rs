//! One UDP socket for two protocols, told apart by the first byte as RFC 9443 does: sealed packets have its two highest bits
//! clear, QUIC packets do not (the endpoint must not grease the QUIC bit).
//!
//! quinn reads through this socket; what is not QUIC is taken out on the way and given to the [`Plane`]. The kernel may join
//! datagrams of one sender (GRO), so each buffer is walked by its stride. Errors never reach quinn, which would end the
//! endpoint over one dead peer: they are drained from the error queue, and refusals go to the plane.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::errqueue::{self, Queued};
use crate::meter::{Meter, Traffic};

/// Sealed packets that wait for room in the kernel; more are lost, as datagrams are.
const MAX_OUTBOX: usize = 512;
/// Batches of nothing but sealed packets taken in one go before others get their turn.
const ROUNDS: usize = 16;
/// Entries of the error queue taken in one go.
const MAX_ERRORS: usize = 64;
/// Attempts of one send: each failure may report the refusal of an earlier datagram.
const SEND_ATTEMPTS: usize = 4;
/// Asked of the kernel for each direction, so that a burst of bulk does not push out packets. It may give less.
const KERNEL_BUFFER: usize = 4 * 1024 * 1024;

/// Who takes what is not QUIC. Called from inside quinn's driver: must not block and must not call quinn.
pub(crate) trait Plane: Send + Sync + fmt::Debug + 'static {
    /// A datagram that is not QUIC.
    fn datagram(&self, from: SocketAddr, bytes: &[u8]);
    /// The host at this address said that nobody listens there.
    fn refused(&self, to: SocketAddr);
}

/// The socket.
pub(crate) struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    plane: Arc<dyn Plane>,
    ipv6: bool,
    outbox: Mutex<VecDeque<(SocketAddr, Vec<u8>)>>,
    filled: Notify,
    lost: AtomicU64,
    sealed: Meter,
    quic: Meter,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("io", &self.io).finish_non_exhaustive()
    }
}

impl Socket {
    /// Binds; a wildcard IPv6 address takes IPv4 as well.
    pub(crate) fn bind(address: SocketAddr, plane: Arc<dyn Plane>) -> io::Result<Arc<Self>> {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(address),
            socket2::Type::DGRAM,
            Some(socket2::Protocol::UDP),
        )?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        // Best effort: a small buffer costs speed, not correctness.
        let _less = socket.set_recv_buffer_size(KERNEL_BUFFER);
        let _less = socket.set_send_buffer_size(KERNEL_BUFFER);
        socket.bind(&address.into())?;
        errqueue::enable(socket.as_raw_fd(), address.is_ipv6())?;
        let io: std::net::UdpSocket = socket.into();
        let state = UdpSocketState::new((&io).into())?;
        Ok(Arc::new(Self {
            io: UdpSocket::from_std(io)?,
            state,
            plane,
            ipv6: address.is_ipv6(),
            outbox: Mutex::new(VecDeque::new()),
            filled: Notify::new(),
            lost: AtomicU64::new(0),
            sealed: Meter::default(),
            quic: Meter::default(),
        }))
    }

    /// Starts what the socket needs in the background: prompt errors, and the sending of what had to wait.
    pub(crate) fn spawn(self: &Arc<Self>) -> [AbortHandle; 2] {
        let (errors, outbox) = (Arc::clone(self), Arc::clone(self));
        [tokio::spawn(errors.watch_errors()).abort_handle(), tokio::spawn(outbox.flush_outbox()).abort_handle()]
    }

    /// Sends a sealed packet without ever blocking; if the kernel has no room it waits in a short queue.
    ///
    /// quinn's own way (`try_send` by tokio's readiness) loses the first packets, since a fresh socket is not yet known to
    /// be writable.
    pub(crate) fn send_packet(&self, to: SocketAddr, bytes: Vec<u8>) {
        match self.transmit(&transmit(self.reach(to), &bytes), &self.sealed) {
            Ok(()) => {}
            Err(_would_block) => {
                let mut outbox = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
                if outbox.len() < MAX_OUTBOX {
                    outbox.push_back((to, bytes));
                    self.filled.notify_one();
                } else {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Sealed packets given up for want of room.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// What passed: sealed packets (anything that is not QUIC), and QUIC.
    pub(crate) fn traffic(&self) -> (Traffic, Traffic) {
        (self.sealed.read(), self.quic.read())
    }

    fn reach(&self, to: SocketAddr) -> SocketAddr {
        match to {
            SocketAddr::V4(v4) if self.ipv6 => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
            other => other,
        }
    }

    /// One send. The only error that leaves is `WouldBlock`; a pending error of an earlier datagram is drained and the send
    /// tried again, any other loss is for retransmission above.
    fn transmit(&self, transmit: &Transmit<'_>, meter: &Meter) -> io::Result<()> {
        for _ in 0..SEND_ATTEMPTS {
            match self.state.try_send((&self.io).into(), transmit) {
                Ok(()) => {
                    meter.sent(transmit.contents.len(), transmit.segment_size);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(error) => {
                    tracing::trace!(%error, to = %transmit.destination, "send failed");
                    self.drain_errors();
                }
            }
        }
        Ok(())
    }

    fn drain_errors(&self) {
        for _ in 0..MAX_ERRORS {
            match errqueue::take(self.io.as_raw_fd()) {
                Queued::Refused(to) => self.plane.refused(to),
                Queued::Other => {}
                Queued::Empty => return,
            }
        }
    }

    async fn watch_errors(self: Arc<Self>) {
        while let Ok(_ready) = self.io.ready(Interest::ERROR).await {
            let cleared: io::Result<()> = self.io.try_io(Interest::ERROR, || {
                self.drain_errors();
                Err(io::ErrorKind::WouldBlock.into())
            });
            debug_assert!(cleared.is_err(), "the readiness was cleared on purpose");
            // An error that comes again and again (an unusual socket state) must not take the core.
            tokio::task::yield_now().await;
        }
    }

    async fn flush_outbox(self: Arc<Self>) {
        loop {
            self.filled.notified().await;
            loop {
                let first = self.outbox.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some((to, bytes)) = first else { break };
                let datagram = transmit(self.reach(to), &bytes);
                loop {
                    if self.io.writable().await.is_err() {
                        return;
                    }
                    if self.io.try_io(Interest::WRITABLE, || self.transmit(&datagram, &self.sealed)).is_ok() {
                        break;
                    }
                }
            }
        }
    }

    /// Takes what is not QUIC out of a received batch; true if anything is left for quinn.
    fn sort(&self, bufs: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> bool {
        let mut left = false;
        for (buf, meta) in bufs.iter_mut().zip(metas) {
            let from = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
            let data = buf.get_mut(..meta.len).unwrap_or_default();
            meta.len = take_out(data, meta.stride, |datagram| {
                self.sealed.received(datagram.len(), datagram.len());
                self.plane.datagram(from, datagram);
            });
            self.quic.received(meta.len, meta.stride.min(meta.len));
            left |= meta.len > 0;
        }
        left
    }
}

fn transmit(destination: SocketAddr, contents: &[u8]) -> Transmit<'_> {
    Transmit { destination, ecn: None, contents, segment_size: None, src_ip: None }
}

/// Gives every joined datagram that is not QUIC to `other` and closes the gaps; returns what is left in front.
fn take_out(data: &mut [u8], stride: usize, mut other: impl FnMut(&[u8])) -> usize {
    let stride = if stride == 0 { data.len() } else { stride };
    let (mut read, mut kept) = (0, 0);
    while read < data.len() {
        let end = (read + stride).min(data.len());
        if data[read] & 0xc0 == 0 {
            other(&data[read..end]);
        } else {
            data.copy_within(read..end, kept);
            kept += end - read;
        }
        read = end;
    }
    kept
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.io.try_io(Interest::WRITABLE, || self.transmit(transmit, &self.quic))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        for _ in 0..ROUNDS {
            ready!(self.io.poll_recv_ready(cx))?;
            match self.io.try_io(Interest::READABLE, || self.state.recv((&self.io).into(), bufs, meta)) {
                Ok(count) => {
                    let taken = meta.get_mut(..count).unwrap_or_default();
                    if self.sort(bufs, taken) {
                        return Poll::Ready(Ok(count));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_pending) => self.drain_errors(),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

type Waiting = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

struct Poller {
    socket: Arc<Socket>,
    waiting: Option<Waiting>,
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").finish_non_exhaustive()
    }
}

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = Arc::clone(&self.socket);
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(async move { socket.io.writable().await }));
        let result = ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_datagrams_are_told_apart() {
        // Four joined datagrams of stride 4, the last shorter: QUIC, sealed, QUIC, sealed.
        let mut data = *b"\x40aaa\x11bbb\xc0ccc\x11d";
        let mut out = Vec::new();
        let kept = take_out(&mut data, 4, |d| out.push(d.to_vec()));
        assert_eq!(&data[..kept], b"\x40aaa\xc0ccc");
        assert_eq!(out, vec![b"\x11bbb".to_vec(), b"\x11d".to_vec()]);
    }

    #[test]
    fn a_last_short_quic_datagram_is_kept() {
        let mut data = *b"\x11aaa\x11bbb\x40c";
        let mut count = 0;
        assert_eq!(take_out(&mut data, 4, |_| count += 1), 2);
        assert_eq!((count, &data[..2]), (2, &b"\x40c"[..]));
        assert_eq!(take_out(&mut [], 0, |_| count += 1), 0);
    }
}
