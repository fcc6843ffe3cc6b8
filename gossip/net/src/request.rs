//! Request streams: a bidirectional stream of their own for logs, exec and the like, beside a peer's link.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::conn::Conn;

/// Keeps the connection while either half lives.
#[derive(Debug)]
pub(crate) struct Guard(Arc<Conn>);

impl Guard {
    pub(crate) fn new(conn: &Arc<Conn>) -> Arc<Self> {
        conn.requests.fetch_add(1, Ordering::Relaxed);
        conn.change.notify_one();
        Arc::new(Self(Arc::clone(conn)))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
        self.0.change.notify_one();
    }
}

/// The sending half. Dropping or shutting it down ends the stream in order; what was written still arrives.
#[derive(Debug)]
pub struct SendHalf {
    stream: quinn::SendStream,
    _guard: Arc<Guard>,
}

/// The receiving half. Dropping it tells the peer to stop.
#[derive(Debug)]
pub struct RecvHalf {
    stream: quinn::RecvStream,
    _guard: Arc<Guard>,
}

pub(crate) fn halves(send: quinn::SendStream, recv: quinn::RecvStream, guard: Arc<Guard>) -> (SendHalf, RecvHalf) {
    (SendHalf { stream: send, _guard: Arc::clone(&guard) }, RecvHalf { stream: recv, _guard: guard })
}

impl AsyncWrite for SendHalf {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.stream), cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.stream), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.stream), cx)
    }
}

impl AsyncRead for RecvHalf {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.stream), cx, buf)
    }
}
