//! The only user of sockets, quinn and rustls: moves bytes between members, and lets newcomers in.
//!
//! One UDP port carries two planes. *Packets* are single sealed datagrams for the membership protocol: no handshake, no
//! retransmission, and a refusal by the peer's host is an event. *Links* and *requests* are QUIC streams under mutual TLS:
//! frames of replicated state with back-pressure, and streams for logs and the like. The socket parts the two by the
//! first byte.
//!
//! Trust comes from outside: the agent tells whom the roster admits ([`Net::peer`]), and a peer is served if and only if its
//! certificate is the cluster authority's *and* the book admits its key. Removing a peer drops its connections and keys at
//! once.
//!
//! Reading order: [`Net`], [`NetEvent`], then the modules `seal`, `socket`, `tls`, `endpoint`, `link`, `join`.
//!
//! This crate must never interpret what it carries, decide who belongs, or log a secret.

mod authority;
mod book;
mod conn;
mod endpoint;
mod error;
mod errqueue;
mod event;
mod gate;
mod handover;
mod join;
mod keys;
mod link;
mod meter;
mod packets;
mod paths;
mod request;
mod seal;
mod serve;
mod socket;
mod tls;
mod token;

pub use authority::{Authority, CERTIFICATE_LIFETIME, Credentials, certificate_end};
pub use endpoint::{Net, NetConfig, NetStats};
pub use error::NetError;
pub use event::NetEvent;
pub use handover::{Handed, HandoverAsked};
pub use join::{JoinAttempt, JoinError, JoinRefusal, Joined, join, join_message_reads};
pub use keys::{KeyError, NodeKeys, certificate_key, node_id};
pub use meter::Traffic;
pub use paths::{Paths, Ways};
pub use request::{RecvHalf, SendHalf};
pub use seal::{Opened, SealError, Sealer};
pub use token::{JoinToken, TokenError};
