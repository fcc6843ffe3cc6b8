//! The engine's constants of time, each with its reason.

use alloc::vec::Vec;

use crate::id::{ClusterId, NodeId};
use crate::time::Duration;
use crate::wire::WireVersion;

/// What a gossip engine is told at its start.
#[derive(Clone, Debug)]
pub struct GossipConfig {
    /// Who we are.
    pub me: NodeId,
    /// Which cluster this is.
    pub cluster: ClusterId,
    /// The newest version of the wire that this node speaks.
    pub wire: WireVersion,
    /// How fast.
    pub timing: Timing,
    /// Rostered members to contact first.
    pub seeds: Vec<NodeId>,
}

/// How long things take. The defaults are for hosts within 100 ms of each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// One probe of a random member per period. Detection needs about one period for the probe to start, one to fail.
    pub probe_period: Duration,
    /// How long the direct probe has before others are asked; must exceed the worst usual round trip, and be shorter than
    /// the period.
    pub probe_rtt: Duration,
    /// How many members are asked to probe. Measured: five cost less traffic under loss than three, since fewer suspicions
    /// are needless.
    pub indirect_probes: usize,
    /// From suspicion to down once enough members found the same; with no confirmation six times as long.
    pub suspicion: Duration,
    /// From a refusal to down: an agent that restarts within it keeps its work.
    pub restart_window: Duration,
    /// Between two sends of queued membership updates.
    pub gossip_period: Duration,
    /// Between two attempts at a member that we do not hear; with this any partition heals.
    pub retry_period: Duration,
    /// Between two exchanges of views with a random member; repairs updates that every transmission missed.
    pub exchange_period: Duration,
    /// How long a rostered member has to be heard after our boot or its admission before it counts as down, and how long a
    /// booted node waits for a peer that was up before it.
    pub first_contact: Duration,
    /// Least time between two syncs that we start.
    pub sync_period: Duration,
    /// Differences younger than this are left alone: their records are likely on their way already.
    pub settle: Duration,
    /// First pause before a peer is dialled again; doubles.
    pub dial_backoff: Duration,
    /// Longest pause before a peer is dialled again, and how long a dial may remain unanswered.
    pub dial_backoff_max: Duration,
    /// Between two looks at the hours. Collection moves by hours, so that this is soon enough; each node looks at a moment of
    /// its own, so that a large flock's publications do not come all at once.
    pub hours_period: Duration,
    /// A node that more than half of the roster has missed for so long of their own running time is forgotten.
    pub forget: Duration,
    /// Bytes per second of records that may ride on SWIM packets.
    pub rider_rate: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            probe_period: Duration::from_millis(500),
            probe_rtt: Duration::from_millis(250),
            indirect_probes: 5,
            suspicion: Duration::from_millis(1_500),
            restart_window: Duration::from_secs(1),
            gossip_period: Duration::from_millis(200),
            retry_period: Duration::from_secs(2),
            exchange_period: Duration::from_secs(30),
            first_contact: Duration::from_secs(10),
            sync_period: Duration::from_secs(5),
            settle: Duration::from_secs(2),
            dial_backoff: Duration::from_millis(200),
            dial_backoff_max: Duration::from_secs(10),
            hours_period: Duration::from_secs(600),
            forget: Duration::from_secs(30 * 24 * 3_600),
            rider_rate: 2_000,
        }
    }
}
