//! What the network tells the agent.

use std::net::SocketAddr;

use dunlin_gossip::face::LinkId;
use dunlin_gossip::id::NodeId;

use crate::handover::HandoverAsked;
use crate::join::JoinAttempt;
use crate::request::{RecvHalf, SendHalf};

/// Something that happened on the network.
#[derive(Debug)]
pub enum NetEvent {
    /// An authentic packet, opened.
    Packet {
        /// Its sender, as the seal proves.
        from: NodeId,
        /// Its content.
        bytes: Vec<u8>,
    },
    /// The peer's host says that nobody listens on its port.
    Refused {
        /// Which peer.
        node: NodeId,
    },
    /// A frame from a link.
    Frame {
        /// Which link.
        link: LinkId,
        /// Its content.
        bytes: Vec<u8>,
    },
    /// The transport took so many bytes of frames off our hands (or dropped them for good).
    Credit {
        /// Which link.
        link: LinkId,
        /// How many.
        bytes: u64,
    },
    /// A link stands.
    LinkUp {
        /// Its number.
        link: LinkId,
        /// The authenticated peer.
        peer: NodeId,
        /// True if the peer dialled.
        inbound: bool,
    },
    /// A link is gone, or a dial failed (then `link` is none). Each link that stood gets exactly one.
    LinkDown {
        /// Its number, if it ever stood.
        link: Option<LinkId>,
        /// The peer.
        peer: NodeId,
        /// Why, for people.
        reason: String,
    },
    /// A peer asks for something over a stream of its own (logs, exec).
    Request {
        /// Who asks.
        peer: NodeId,
        /// What for; the format is the agents' business.
        header: Vec<u8>,
        /// The answer's way.
        send: SendHalf,
        /// What follows the header.
        recv: RecvHalf,
    },
    /// A member turned us away: the roster there says that we were removed.
    Expelled {
        /// Which member.
        by: NodeId,
    },
    /// A member answered at an address that [`Net::meet`](crate::Net::meet) tried.
    Met {
        /// Which member.
        peer: NodeId,
    },
    /// A member and this node do not accept each other's certificates: one of them is out of date.
    Stale {
        /// Which member.
        peer: NodeId,
    },
    /// A member asks for the authority in force.
    Handover(HandoverAsked),
    /// A newcomer with a token asks to be admitted.
    Join(JoinAttempt),
    /// Somebody was turned away: a wrong token, a certificate that the roster does not admit, garbage. Rate limited.
    Rejected {
        /// From where.
        from: SocketAddr,
        /// Why, in one line, without secrets.
        why: String,
    },
}
