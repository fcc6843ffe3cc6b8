//! The receiving end: strangers' handshakes, newcomers, and the streams that peers open.
//!
//! A stream begins with its kind. A link's stream goes on with version and generation, answered by a welcome: in TLS 1.3 a
//! dialler is done before its own certificate was judged, so only the welcome tells it that it was accepted. A node that
//! was forgotten may link, which is how it learns of it, and request nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dunlin_gossip::id::{Generation, NodeId};
use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, ConnectionError, Incoming, RecvStream, SendStream};
use rustls_pki_types::CertificateDer;
use tokio::sync::OwnedSemaphorePermit;

use crate::conn::{Closing, Conn, explain, says_removed, says_stale};
use crate::endpoint::{Inner, MAX_HEADER};
use crate::event::NetEvent;
use crate::handover;
use crate::join;
use crate::keys::certificate_key;
use crate::request::{Guard, halves};
use crate::tls;

/// First byte of a stream: it carries a link.
const LINK: u8 = 1;
/// First byte of a stream: it carries a request.
pub(crate) const REQUEST: u8 = 2;
/// Version of the frames' stream.
const VERSION: u8 = 1;
/// For a stranger's handshake and for the head of a stream.
const PATIENCE: Duration = Duration::from_secs(3);

/// Accepts connections until the endpoint closes.
pub(crate) async fn accept(inner: Arc<Inner>) {
    while let Some(incoming) = inner.endpoint.accept().await {
        match Arc::clone(&inner.handshakes).try_acquire_owned() {
            Ok(permit) => drop(tokio::spawn(receive(Arc::clone(&inner), incoming, permit))),
            Err(_) => incoming.refuse(),
        }
    }
}

async fn receive(inner: Arc<Inner>, incoming: Incoming, permit: OwnedSemaphorePermit) {
    let from = incoming.remote_address();
    let from = SocketAddr::new(from.ip().to_canonical(), from.port());
    let Ok(connecting) = incoming.accept() else { return };
    let connection = match tokio::time::timeout(PATIENCE, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error @ ConnectionError::TransportError(_))) => {
            return inner.packets.reporter.rejected(from, &explain(&error));
        }
        // The stranger went away, or does not trust us: its own affair.
        Ok(Err(_)) | Err(_) => return,
    };
    drop(permit);
    let protocol =
        connection.handshake_data().and_then(|d| d.downcast::<HandshakeData>().ok()).and_then(|d| d.protocol);
    if protocol.as_deref() == Some(tls::JOIN) {
        return receive_newcomer(&inner, &connection, from).await;
    }
    if protocol.as_deref() == Some(tls::HANDOVER) {
        return receive_heir(&inner, &connection, from).await;
    }
    match peer_of(&inner, &connection) {
        Some((peer, Err(why))) => {
            let text = format!("the certificate is out of date, or this node is ({why})");
            Closing::Stale.close(&connection, &text);
            inner.packets.reporter.rejected(from, &format!("node {peer}: {text}"));
            inner.emit(NetEvent::Stale { peer }).await;
        }
        // The connection lives on in the table.
        Some((peer, Ok(()))) => drop(inner.enter(connection, peer)),
        None => {
            Closing::Refused.close(&connection, "members show a certificate that the roster admits");
            inner.packets.reporter.rejected(from, "a connection without a certificate that the roster admits");
        }
    }
}

/// The member at the other end, and whether an authority that is trusted made its certificate, and for today.
pub(crate) fn peer_of(inner: &Inner, connection: &Connection) -> Option<(NodeId, Result<(), rustls::Error>)> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    let certificate = chain.first()?;
    let peer = inner.book.lets_in(&certificate_key(certificate).ok()?)?;
    Some((peer, inner.book.anchor().verify(certificate)))
}

async fn receive_heir(inner: &Inner, connection: &Connection, from: SocketAddr) {
    let slot = inner.joins.try_acquire();
    let allowed = inner.handover_rate.pass(from.ip(), std::time::Instant::now());
    let (Some((peer, _)), Ok(_slot), true) = (peer_of(inner, connection), slot, allowed) else {
        Closing::Refused.close(connection, "members alone, and not so often");
        return inner.packets.reporter.rejected(from, "a request for the authority: of no member, or too many");
    };
    let decide = async |asked| inner.emit(NetEvent::Handover(asked)).await;
    // Asked for only once the agent has answered: whoever was removed by then gets nothing.
    let credentials = || peer_of(inner, connection).map(|_| inner.credentials());
    if let Err(why) = handover::serve(connection, peer, credentials, decide).await {
        inner.packets.reporter.rejected(from, &why);
    }
    Closing::Idle.close(connection, "done");
}

async fn receive_newcomer(inner: &Inner, connection: &Connection, from: SocketAddr) {
    let slot = inner.joins.try_acquire();
    let allowed = inner.join_rate.pass(from.ip(), std::time::Instant::now());
    let (Ok(_slot), true) = (slot, allowed) else {
        Closing::Refused.close(connection, "too many attempts to join at once; try again in a moment");
        return inner.packets.reporter.rejected(from, "too many attempts to join");
    };
    let decide = async |attempt| inner.emit(NetEvent::Join(attempt)).await;
    if let Err(why) = join::serve(connection, from, &inner.credentials(), decide).await {
        inner.packets.reporter.rejected(from, &why);
    }
    Closing::Idle.close(connection, "done");
}

/// Takes the streams that a peer opens, until the connection ends or carries nothing any more.
pub(crate) async fn attend(inner: Arc<Inner>, conn: Arc<Conn>) {
    let end = loop {
        tokio::select! {
            stream = conn.quinn.accept_bi() => match stream {
                Ok((send, recv)) => drop(tokio::spawn(stream_head(Arc::clone(&inner), Arc::clone(&conn), send, recv))),
                Err(end) => break end,
            },
            () = conn.unused() => Closing::Idle.close(&conn.quinn, "nothing left to carry"),
        }
    };
    inner.leave(&conn);
    if says_stale(&end) {
        inner.emit(NetEvent::Stale { peer: conn.peer }).await;
    }
    if says_removed(&end) {
        inner.emit(NetEvent::Expelled { by: conn.peer }).await;
    }
}

enum Head {
    Link(Generation),
    Request(Vec<u8>),
}

async fn stream_head(inner: Arc<Inner>, conn: Arc<Conn>, mut send: SendStream, mut recv: RecvStream) {
    let head = match tokio::time::timeout(PATIENCE, read_head(&mut recv)).await {
        Ok(Ok(head)) => head,
        Ok(Err(why)) => return Closing::Protocol.close(&conn.quinn, &why),
        Err(_) => return Closing::Protocol.close(&conn.quinn, "a stream without a head"),
    };
    match head {
        Head::Request(_) if !inner.book.contains(conn.peer) => {
            Closing::Refused.close(&conn.quinn, "this node was forgotten and must be admitted again first");
        }
        Head::Request(header) => {
            let (send, recv) = halves(send, recv, Guard::new(&conn));
            inner.emit(NetEvent::Request { peer: conn.peer, header, send, recv }).await;
        }
        Head::Link(generation) => {
            if conn.peer == inner.me {
                return turn_away_self(&inner, &conn, generation);
            }
            if conn.linked.swap(true, Ordering::Relaxed) {
                return Closing::Protocol.close(&conn.quinn, "a second link on one connection");
            }
            conn.change.notify_one();
            if send.write_all(&greeting(inner.generation)).await.is_ok() {
                inner.run_link(conn, send, recv, true).await;
            }
        }
    }
}

/// Somebody with our own keys dialled us: we ourselves, or an agent on a copy of our data directory, which must not go on.
fn turn_away_self(inner: &Inner, conn: &Conn, generation: Generation) {
    if generation == inner.generation {
        return Closing::Refused.close(&conn.quinn, "you have dialled yourself");
    }
    Closing::Twin.close(&conn.quinn, "an agent with these keys runs here");
    let why = "an agent with this node's keys runs there too, on a copy of this data directory; stop it";
    inner.packets.reporter.rejected(conn.quinn.remote_address(), why);
}

/// True if whom we called runs with our own keys and is not ourselves.
pub(crate) async fn meets_twin(connection: &Connection, mine: Generation) -> bool {
    // What the stream says does not matter: the answer is how the other side closes.
    if let Ok((mut send, _recv)) = connection.open_bi().await
        && send.write_all(&greeting(mine)).await.is_ok()
    {
        let closed = connection.closed().await;
        return matches!(closed, ConnectionError::ApplicationClosed(close) if close.error_code == Closing::Twin.code());
    }
    false
}

fn greeting(generation: Generation) -> [u8; 10] {
    let mut out = [0; 10];
    (out[0], out[1]) = (LINK, VERSION);
    out[2..].copy_from_slice(&generation.0.to_be_bytes());
    out
}

async fn read_head(recv: &mut RecvStream) -> Result<Head, String> {
    let mut kind = [0];
    recv.read_exact(&mut kind).await.map_err(|e| e.to_string())?;
    match kind {
        [LINK] => read_greeting(recv).await.map(Head::Link),
        [REQUEST] => {
            let mut length = [0; 4];
            recv.read_exact(&mut length).await.map_err(|e| e.to_string())?;
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            if length > MAX_HEADER {
                return Err(format!("a request's header of {length} bytes; {MAX_HEADER} are allowed"));
            }
            let mut header = vec![0; length];
            recv.read_exact(&mut header).await.map_err(|e| e.to_string())?;
            Ok(Head::Request(header))
        }
        [other] => Err(format!("a stream of the unknown kind {other}; the peer may be newer")),
    }
}

async fn read_greeting(recv: &mut RecvStream) -> Result<Generation, String> {
    let mut rest = [0; 9];
    recv.read_exact(&mut rest).await.map_err(|e| e.to_string())?;
    let [version, generation @ ..] = rest;
    if version != VERSION {
        return Err(format!("links of version {version}; {VERSION} is understood here"));
    }
    Ok(Generation(u64::from_be_bytes(generation)))
}

/// The dialler's side of a link's beginning: greets, and waits for the welcome.
pub(crate) async fn greet(conn: &Conn, mine: Generation) -> Result<(SendStream, RecvStream), String> {
    let ended = |why: String| conn.quinn.close_reason().as_ref().map_or(why, explain);
    conn.linked.store(true, Ordering::Relaxed);
    conn.change.notify_one();
    let begin = async {
        let (mut send, mut recv) = conn.quinn.open_bi().await.map_err(|e| explain(&e))?;
        send.write_all(&greeting(mine)).await.map_err(|e| ended(e.to_string()))?;
        let mut kind = [0];
        recv.read_exact(&mut kind).await.map_err(|e| ended(e.to_string()))?;
        if kind != [LINK] {
            return Err("the peer answered with something else than a welcome".into());
        }
        read_greeting(&mut recv).await.map_err(ended)?;
        Ok((send, recv))
    };
    begin.await.inspect_err(|why: &String| conn.unlink(why))
}
