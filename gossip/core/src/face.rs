//! What goes into the gossip engine and what comes out of it: one closed enum each way.
//!
//! The drive contract: call `handle` with one input, drain the outputs in order, then sleep until `next_deadline`. Time
//! never goes back. A late deadline is harmless, a repeated one too.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;

use crate::hlc::Hlc;
use crate::id::{Actor, Generation, NodeId};
use crate::model::RosterEntry;
use crate::state::State;
use crate::trust::Roster;
use crate::wire::Record;

/// A link: one established, authenticated, ordered, reliable way to a peer. Numbered by the shell, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u64);

/// A persist request; they are confirmed in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PersistSeq(pub u64);

/// One change of what is on disk. The disk is a map from slot to bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PersistOp {
    /// Write a record under its slot (a slot names one sibling of one register; see `Record::slot`).
    Put {
        /// Where.
        slot: Vec<u8>,
        /// The record's bytes.
        bytes: Arc<[u8]>,
    },
    /// Remove what is under a slot.
    Delete {
        /// Where.
        slot: Vec<u8>,
    },
}

/// What the shell tells the engine.
#[derive(Clone, Debug)]
pub enum GossipInput {
    /// An authentic SWIM packet, opened.
    Packet {
        /// Its sender, as the seal proves.
        from: NodeId,
        /// Its content.
        bytes: Vec<u8>,
    },
    /// The peer's host answered that nobody listens on its port.
    Refused {
        /// Which peer.
        node: NodeId,
    },
    /// A frame from a link.
    Frame {
        /// Which link.
        link: LinkId,
        /// Its content, at most `MAX_FRAME`.
        frame: Frame,
    },
    /// The link took bytes off our hands: so many may be sent in addition.
    Credit {
        /// Which link.
        link: LinkId,
        /// How many bytes.
        bytes: u64,
    },
    /// A link stands. It begins with a credit of `INITIAL_CREDIT` bytes.
    LinkUp {
        /// Its number.
        link: LinkId,
        /// The authenticated peer.
        peer: NodeId,
        /// True if the peer dialled.
        inbound: bool,
    },
    /// A link is gone, or a dial failed (then `link` is none).
    LinkDown {
        /// Its number, if it ever stood.
        link: Option<LinkId>,
        /// The peer that was dialled or linked.
        peer: NodeId,
        /// Why, for people.
        reason: String,
    },
    /// The shell has found a member where it was not known to be.
    Met {
        /// Which member.
        node: NodeId,
    },
    /// A member tells us, over a connection that proves who it is, that we were removed from the cluster.
    Expelled {
        /// Who says so.
        by: NodeId,
    },
    /// Facts about who belongs that a member told us outside a link.
    Facts(Vec<Record>),
    /// `next_deadline` has come.
    Deadline,
    /// Everything up to and including this request is on disk.
    Persisted(PersistSeq),
    /// The disk failed: accept and claim nothing more, tell, exit.
    PersistFailed(String),
}

/// What goes over a link in one piece; cheap to clone, since the same frame goes down many links.
///
/// The bytes are all that a network carries. A sender's frame also remembers the records that it wrote into them, so that
/// a receiver in the same process (as in a simulator) shares these instead of reading each of them again.
#[derive(Clone)]
pub struct Frame {
    bytes: Arc<[u8]>,
    records: Option<Arc<[Record]>>,
}

impl Frame {
    pub(crate) fn new(bytes: Arc<[u8]>, records: Arc<[Record]>) -> Self {
        Self { bytes, records: Some(records) }
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// The records in it, if they were read already.
    pub(crate) fn records(&self) -> Option<&[Record]> {
        self.records.as_deref()
    }
}

impl From<Vec<u8>> for Frame {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes: Arc::from(bytes), records: None }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes.fmt(f)
    }
}

/// The reason of a [`GossipOutput::Hangup`] by which a shell must tell the peer that it was removed; there it becomes a
/// [`GossipInput::Expelled`].
pub const REMOVED: &str = "the peer was removed from the cluster";

/// Bytes that a fresh link may send before the first credit arrives.
pub const INITIAL_CREDIT: u64 = 1024 * 1024;

/// What a link's frame is for; lower goes first, and higher is dropped first when a queue is full.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FrameClass {
    /// Greetings and acknowledgements.
    Control,
    /// Fresh records.
    Push,
    /// Anti-entropy and full copies.
    Sync,
}

/// What the engine wants done.
#[derive(Clone, Debug)]
pub enum GossipOutput {
    /// Seal and send a packet, at most `MAX_PACKET` bytes.
    Packet {
        /// To whom; the shell knows the address.
        to: NodeId,
        /// What.
        bytes: Vec<u8>,
    },
    /// Send a frame.
    Frame {
        /// Over which link.
        link: LinkId,
        /// What.
        frame: Frame,
        /// What for.
        class: FrameClass,
    },
    /// Establish a link; answered by `LinkUp` or `LinkDown`.
    Dial {
        /// To whom.
        peer: NodeId,
    },
    /// Close a link.
    Hangup {
        /// Which.
        link: LinkId,
        /// Why, for the peer's log.
        reason: &'static str,
    },
    /// Put these changes on disk in one atomic commit, then answer `Persisted`. Commits may be grouped, never reordered.
    Persist {
        /// Its number.
        seq: PersistSeq,
        /// The changes.
        ops: Vec<PersistOp>,
    },
    /// Something that the layer above must know.
    Event(GossipEvent),
}

/// What the layer above (the node's core) hears.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GossipEvent {
    /// A register changed in the replicated state (read it there).
    Changed(crate::wire::RecordId),
    /// A member's state changed.
    Member {
        /// Whose.
        node: NodeId,
        /// To what.
        state: MemberState,
        /// Why, for people and for events.
        reason: MemberReason,
    },
    /// Own writes are durable here and from now on visible to others. `hlc` is the batch's, or none for actual state.
    Durable {
        /// The persist request that carried them.
        seq: PersistSeq,
        /// The batch.
        hlc: Option<Hlc>,
    },
    /// A peer has the batch on its disk.
    Stored {
        /// The batch.
        hlc: Hlc,
        /// The peer.
        by: NodeId,
    },
    /// A word from a member's layer above to ours.
    Word {
        /// The member, as the packet's seal proves.
        from: NodeId,
        /// What; no meaning here.
        bytes: Vec<u8>,
    },
    /// The full copy that follows a join or a boot is complete (or there was nobody to copy from).
    Synced {
        /// With whom; none when nobody was there.
        with: Option<NodeId>,
    },
    /// Who may be talked to, and with which keys, changed. The shell keeps its address and key book by this.
    Peer(PeerChange),
    /// Something for the operator.
    Notice(Notice),
    /// This node's disk is older than what peers know of it, or this node was forgotten meanwhile. What was replicated has been
    /// dropped from the disk; the shell writes a generation above this one and starts anew.
    DiskIsOld {
        /// The newest generation of this node that a peer knows.
        newest: Generation,
    },
    /// The agent must stop at once, with this message (disk failed; a clone of this node lives).
    Fatal(String),
}

/// A change of the shell's book of peers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerChange {
    /// Admitted, or its addresses changed.
    Admitted {
        /// The roster's entry.
        entry: RosterEntry,
        /// Current addresses, best first (header, then admission).
        addresses: Vec<SocketAddr>,
    },
    /// No longer admitted: drop links and cached keys at once.
    Removed {
        /// Who.
        node: NodeId,
    },
    /// Away for so long that it was forgotten: drop links and cached keys. The owner of its key may still link, to be told so
    /// and to be admitted anew once it holds nothing.
    Forgotten {
        /// Who.
        node: NodeId,
    },
}

/// A member as membership sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// It answers.
    Alive,
    /// It does not answer, or its host refuses; its work stays for now, its names are left out.
    Suspect,
    /// Dead to us: its work moves.
    Down,
    /// It said goodbye.
    Left,
}

impl fmt::Display for MemberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Left => "left",
        })
    }
}

/// Why a member's state changed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberReason {
    /// It joined or came back.
    Joined,
    /// It answered after all.
    Refuted,
    /// No answer, directly or by way of others.
    Silence,
    /// Its host said that nobody listens.
    Refusal,
    /// Another member said so.
    Gossip,
    /// It left by itself.
    Left,
    /// It was away for too long.
    Forgotten,
    /// An operator removed it.
    Removed,
}

/// Something for the operator, at a level.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// How bad.
    pub level: NoticeLevel,
    /// What, in one line; never holds a secret.
    pub text: String,
}

/// How bad a notice is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoticeLevel {
    /// Good to know.
    Info,
    /// Somebody should look.
    Warn,
    /// Something does not work.
    Error,
}

/// What many boots start from alike: a copy of it costs next to nothing, and what nobody changes is held once. Made for
/// worlds of many nodes in one process; an agent, which boots alone, has no use for it.
#[derive(Clone, Debug)]
pub struct Base {
    state: State,
    roster: Roster,
}

impl Base {
    /// From a state in anybody's hands.
    #[must_use]
    pub fn new(state: State) -> Self {
        let mut roster = Roster::default();
        roster.load(&state, drop);
        Self { state, roster }
    }

    /// Its records.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The same in the hands of one node and boot.
    pub(crate) fn held_by(&self, me: Actor) -> (State, Roster) {
        (self.state.held_by(me), self.roster.clone())
    }
}

/// What a boot starts from.
#[derive(Clone, Debug, Default)]
pub struct Boot {
    /// What others began with as well, put together once for all of them. The shell knows whom it admits.
    pub base: Option<Base>,
    /// Everything that the disk holds, less what is in the base.
    pub records: Vec<Record>,
    /// True if the disk had no record of an earlier generation (a first boot).
    pub first: bool,
    /// The generation of this boot, on disk before anything is sent.
    pub generation: Generation,
    /// Members that an earlier process of this very boot held alive when it handed over to this one; empty after any other
    /// start. With it, what is on disk counts as synced, and nobody needs to be introduced.
    pub alive: Vec<(NodeId, Generation)>,
}

/// Outputs in the order in which they arose; reused between calls.
#[derive(Debug, Default)]
pub struct GossipOutputs {
    /// What is to be done.
    pub list: Vec<GossipOutput>,
    /// What this call cost, in abstract units (one is about a microsecond on a fast core). The simulator makes time of it.
    pub cost: u64,
}

impl GossipOutputs {
    /// Adds an output.
    pub fn push(&mut self, output: GossipOutput) {
        self.list.push(output);
    }

    /// Adds an event.
    pub fn event(&mut self, event: GossipEvent) {
        self.list.push(GossipOutput::Event(event));
    }
}
