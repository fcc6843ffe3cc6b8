//! One QUIC connection to a peer: it carries at most one link and any number of requests, and ends when it carries nothing.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use dunlin_gossip::id::NodeId;
use quinn::{Connection, ConnectionError, TransportErrorCode, VarInt};
use tokio::sync::Notify;

use crate::tls::REMOVED_ALERT;

/// How long a connection without link and requests stays, so that last bytes arrive.
const LINGER: Duration = Duration::from_secs(5);

/// Why one of us closes a connection; the peer sees number and text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Closing {
    /// The agent stops.
    Stopping,
    /// The engine hung up.
    Hangup,
    /// The peer is no longer a member.
    Removed,
    /// The peer does not keep to the protocol.
    Protocol,
    /// Nothing left to carry.
    Idle,
    /// Turned away.
    Refused,
    /// The peer's certificate has expired, or is by an authority that is not trusted here: it may ask for a handover.
    Stale,
    /// The caller shows the keys of the node that it called: two agents run on copies of one data directory.
    Twin,
}

impl Closing {
    pub(crate) const fn code(self) -> VarInt {
        VarInt::from_u32(match self {
            Self::Stopping => 0,
            Self::Hangup => 1,
            Self::Removed => 2,
            Self::Protocol => 3,
            Self::Idle => 4,
            Self::Refused => 5,
            Self::Twin => 6,
            Self::Stale => 7,
        })
    }

    pub(crate) fn close(self, connection: &Connection, why: &str) {
        connection.close(self.code(), why.as_bytes());
    }
}

/// A connection with an authenticated peer.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) id: u64,
    pub(crate) quinn: Connection,
    pub(crate) peer: NodeId,
    /// It carries a link.
    pub(crate) linked: AtomicBool,
    /// Requests that it carries.
    pub(crate) requests: AtomicUsize,
    /// One of the two above changed.
    pub(crate) change: Notify,
}

impl Conn {
    pub(crate) fn new(id: u64, quinn: Connection, peer: NodeId) -> Self {
        let (linked, requests, change) = (AtomicBool::new(false), AtomicUsize::new(0), Notify::new());
        Self { id, quinn, peer, linked, requests, change }
    }

    fn is_used(&self) -> bool {
        self.linked.load(Ordering::Relaxed) || self.requests.load(Ordering::Relaxed) > 0
    }

    /// The link ended; closes the connection unless requests still use it.
    pub(crate) fn unlink(&self, why: &str) {
        self.linked.store(false, Ordering::Relaxed);
        // What the peer said when it closed stays the reason.
        if self.requests.load(Ordering::Relaxed) == 0 && self.quinn.close_reason().is_none() {
            Closing::Hangup.close(&self.quinn, why);
        }
        self.change.notify_one();
    }

    /// Returns once the connection has carried nothing for a while.
    pub(crate) async fn unused(&self) {
        loop {
            if self.is_used() {
                self.change.notified().await;
            } else if tokio::time::timeout(LINGER, self.change.notified()).await.is_err() && !self.is_used() {
                return;
            }
        }
    }
}

/// True if the peer does not take our certificate: it is out of date, or the peer is.
pub(crate) fn says_stale(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::ApplicationClosed(close) if close.error_code == Closing::Stale.code())
}

/// True if the peer ended the connection since the roster there says that we were removed. A handshake that fails tells it
/// by its alert, a standing connection by how it is closed; either comes from whom the handshake has proved to be there.
pub(crate) fn says_removed(error: &ConnectionError) -> bool {
    match error {
        ConnectionError::ApplicationClosed(close) => close.error_code == Closing::Removed.code(),
        ConnectionError::ConnectionClosed(close) => is_removed_alert(close.error_code),
        _ => false,
    }
}

fn is_removed_alert(code: TransportErrorCode) -> bool {
    code == TransportErrorCode::crypto(u8::from(REMOVED_ALERT))
}

/// A connection's end, for people.
pub(crate) fn explain(error: &ConnectionError) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match error {
        ConnectionError::TimedOut => "silence".into(),
        ConnectionError::Reset => "the peer was restarted".into(),
        ConnectionError::LocallyClosed => "closed here".into(),
        ConnectionError::ApplicationClosed(close) => format!("the peer closed it: {}", text(&close.reason)),
        error @ ConnectionError::ConnectionClosed(_) if says_removed(error) => {
            "the peer refused: the roster there says that this node was removed from the cluster".into()
        }
        ConnectionError::ConnectionClosed(close) => {
            format!("the peer refused: {}", plain(&text(&close.reason)))
        }
        ConnectionError::TransportError(error) if is_removed_alert(error.code) => {
            "the roster here says that this node was removed from the cluster".into()
        }
        ConnectionError::TransportError(error) => plain(&error.reason).to_owned(),
        ConnectionError::VersionMismatch => "the peer speaks another version of QUIC".into(),
        ConnectionError::CidsExhausted => "no connection ids left".into(),
    }
}

/// Our own verifiers' words without the wrapping of the TLS library.
fn plain(reason: &str) -> &str {
    reason.split_once("unexpected error: ").map_or(reason, |(_, ours)| ours)
}
