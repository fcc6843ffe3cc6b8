//! Everything that can happen in a world, as one closed enum.

use dunlin_core::face::DriverEvent;
use dunlin_gossip::face::Frame;
use dunlin_gossip::hash::{hash64, mix};
use dunlin_gossip::model::AllocId;

use crate::net::HostNo;
use crate::queue::Nanos;
use crate::workload::ProcessStep;

/// One happening.
#[derive(Debug)]
pub(crate) enum Event {
    /// A node's next deadline may have come.
    Deadline { host: HostNo },
    /// A packet arrives, sealed with the keys that both ends had when it was sent.
    Packet { from: HostNo, to: HostNo, lives: (u32, u32), bytes: Vec<u8> },
    /// The answer "nobody listens there" arrives.
    Refused { to: HostNo, about: HostNo },
    /// A frame arrives.
    Frame { link: u64, to: HostNo, frame: Frame },
    /// The other end has taken bytes off.
    Credit { link: u64, to: HostNo, bytes: u64 },
    /// A handshake ends, well if the other end is there.
    DialEnds { from: HostNo, boot: u32, to: HostNo, in_time: bool },
    /// An end learns that its link is gone.
    LinkLost { link: u64, to: HostNo, reason: &'static str },
    /// A link has been cut for the idle time-out.
    LinkIdle { link: u64, cut: u32 },
    /// An fsync is done.
    Synced { host: HostNo, sync: u64 },
    /// Something happens to a process.
    Process { host: HostNo, power: u32, alloc: AllocId, attempt: u32, step: ProcessStep },
    /// A driver answers its agent.
    Tell { host: HostNo, boot: u32, event: DriverEvent },
    /// The driver has looked around after the agent's start.
    Adopt { host: HostNo, boot: u32 },
    /// An agent starts.
    AgentStarts { host: HostNo, power: u32 },
    /// A program that writes in a loop writes again.
    WriteAgain { host: HostNo, again: crate::operator::Loop },
    /// The next line of the scenario.
    Step(usize),
    /// An input that had to wait for the end of a call.
    Inbox,
    /// The checkers look.
    Look,
}

impl Event {
    /// The host whose agent takes it (which a pause delays).
    pub(crate) const fn agent(&self) -> Option<HostNo> {
        match self {
            Self::Deadline { host }
            | Self::Synced { host, .. }
            | Self::Tell { host, .. }
            | Self::Adopt { host, .. } => Some(*host),
            Self::Packet { to, .. }
            | Self::Refused { to, .. }
            | Self::Frame { to, .. }
            | Self::Credit { to, .. }
            | Self::LinkLost { to, .. } => Some(*to),
            Self::DialEnds { from, .. } => Some(*from),
            Self::LinkIdle { .. }
            | Self::Process { .. }
            | Self::AgentStarts { .. }
            | Self::WriteAgain { .. }
            | Self::Step(_)
            | Self::Inbox
            | Self::Look => None,
        }
    }

    /// A hash of what happens, for the trace.
    pub(crate) fn hash(&self, at: Nanos) -> u64 {
        let (kind, a, b) = match self {
            Self::Deadline { host } => (1, u64::from(*host), 0),
            Self::Packet { from, to, bytes, .. } => (2, pair(*from, *to), hash64(bytes)),
            Self::Refused { to, about } => (3, pair(*to, *about), 0),
            Self::Frame { link, to, frame } => (4, mix(*link, u64::from(*to)), hash64(frame.bytes())),
            Self::Credit { link, to, bytes } => (5, mix(*link, u64::from(*to)), *bytes),
            Self::DialEnds { from, to, in_time, .. } => (6, pair(*from, *to), u64::from(*in_time)),
            Self::LinkLost { link, to, .. } => (7, *link, u64::from(*to)),
            Self::LinkIdle { link, cut } => (8, *link, u64::from(*cut)),
            Self::Synced { host, sync } => (9, u64::from(*host), *sync),
            Self::Process { host, alloc, attempt, .. } => (10, pair(*host, *attempt), alloc.0),
            Self::Tell { host, event, .. } => (11, u64::from(*host), told(event)),
            Self::Adopt { host, boot } => (12, pair(*host, *boot), 0),
            Self::AgentStarts { host, power } => (13, pair(*host, *power), 0),
            Self::Step(index) => (14, *index as u64, 0),
            Self::Look => (15, 0, 0),
            Self::Inbox => (16, 0, 0),
            Self::WriteAgain { host, .. } => (17, u64::from(*host), 0),
        };
        mix(mix(at, kind), mix(a, b))
    }
}

fn pair(a: u32, b: u32) -> u64 {
    u64::from(a) << 32 | u64::from(b)
}

fn told(event: &DriverEvent) -> u64 {
    match event {
        DriverEvent::Started { alloc, attempt, .. } => mix(alloc.0, u64::from(*attempt)),
        DriverEvent::StartFailed { alloc, attempt, .. } => mix(alloc.0, u64::from(*attempt) + 1_000),
        DriverEvent::Exited { alloc, attempt, .. } => mix(alloc.0, u64::from(*attempt) + 2_000),
        DriverEvent::Probed { alloc, token, .. } => mix(alloc.0, *token),
        DriverEvent::Used { alloc, used } => mix(alloc.0, mix(used.cpu_milli, used.memory_bytes)),
        DriverEvent::Adopted(list) => list.len() as u64,
        DriverEvent::Drivers(list) => list.len() as u64,
    }
}
