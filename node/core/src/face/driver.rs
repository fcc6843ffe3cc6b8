//! The contract between the core and whatever runs allocations.
//!
//! Commands may be late, repeated, or answered late; `attempt` tells the runs of one allocation apart, so that an answer
//! about an earlier run is recognised and ignored.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{AllocId, DriverKind, Probe, PublishedPort, ReplicaKey, Resources, StopPolicy, Workload};
use dunlin_gossip::time::{Duration, Instant};

/// What a driver shall do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DriverCommand {
    /// Run it. Answered by `Started` or `StartFailed`, later by `Exited`. Repeating a start that already runs is answered
    /// by `Started` again.
    Start(Box<StartSpec>),
    /// Stop what runs under this allocation, whichever attempt: the signal, then SIGKILL after the grace. Answered by
    /// `Exited` (at once when nothing runs).
    Stop {
        /// Which.
        alloc: AllocId,
        /// How.
        stop: StopPolicy,
    },
    /// Its keeper shall kill it then, and no earlier. Not answered; who runs nothing under it ignores this.
    Extend {
        /// Which.
        alloc: AllocId,
        /// The moment, on the host's clock.
        until: Instant,
    },
    /// Try its health once. Answered by `Probed` within the time-out.
    Probe {
        /// Which.
        alloc: AllocId,
        /// Given back in the answer.
        token: u64,
        /// What to try.
        probe: Probe,
        /// Its ports, to find the one that the probe names.
        ports: Vec<PublishedPort>,
        /// Where its ports are.
        address: IpAddr,
        /// How long it may take.
        timeout: Duration,
    },
    /// It is over: files other than its logs may go.
    Forget {
        /// Which.
        alloc: AllocId,
    },
}

/// Everything that a driver needs to run an allocation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StartSpec {
    /// Which allocation.
    pub alloc: AllocId,
    /// Its how-manieth run, from 1.
    pub attempt: u32,
    /// The replica, for labels and logs.
    pub replica: ReplicaKey,
    /// The node, for labels and cgroups.
    pub node: NodeId,
    /// What to run.
    pub workload: Workload,
    /// The whole environment that dunlin gives it.
    pub environment: BTreeMap<String, String>,
    /// Ports, with the numbers on the node.
    pub ports: Vec<PublishedPort>,
    /// The address that its ports are published on.
    pub address: IpAddr,
    /// Bounds to enforce; zero means none.
    pub limits: Resources,
    /// Processes and threads at most; zero means no bound.
    pub pids_limit: u64,
    /// Devices that it got: of which kind, and which of that kind on this node, from 0.
    pub devices: Vec<(String, u32)>,
    /// How it will be stopped, should its keeper have to.
    pub stop: StopPolicy,
    /// At this moment of the host's clock its keeper kills it, unless it hears of a later one before; none: it may run for ever.
    pub lease: Option<Instant>,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Nobody knows: the host or its keeper went down with it.
    Lost,
}

impl Exit {
    /// True for exit code 0.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Code(0))
    }
}

/// Why a start failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StartFailure {
    /// Another process has this port; choose another if it was a dynamic one.
    PortTaken(u16),
    /// This driver does not work here now.
    NoDriver,
    /// The driver's own words (no such program, no such image, permission).
    Other(String),
}

/// What one probe showed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProbeOutcome {
    /// Well.
    Passed,
    /// Not well, in one line.
    Failed(String),
}

/// What a driver says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DriverEvent {
    /// It runs.
    Started {
        /// Which.
        alloc: AllocId,
        /// Which run of it.
        attempt: u32,
        /// Its own address, if it has one that the flock reaches.
        instance: Option<IpAddr>,
    },
    /// It could not be started.
    StartFailed {
        /// Which.
        alloc: AllocId,
        /// Which run of it.
        attempt: u32,
        /// Why.
        failure: StartFailure,
    },
    /// It ended; nothing of it is left running.
    Exited {
        /// Which.
        alloc: AllocId,
        /// Which run of it.
        attempt: u32,
        /// How.
        exit: Exit,
    },
    /// A probe's result.
    Probed {
        /// Which.
        alloc: AllocId,
        /// As in the command.
        token: u64,
        /// What it showed.
        outcome: ProbeOutcome,
    },
    /// What it has used of late: cpu as a mean since the last look, memory as it is. Nobody need ever say this.
    Used {
        /// Which.
        alloc: AllocId,
        /// How much.
        used: Resources,
    },
    /// At boot, once: everything that earlier agents of this node started and that is still known. Until this comes the
    /// core starts nothing; what is found and not claimed is stopped, what is claimed and not found is started again.
    Adopted(Vec<Adopted>),
    /// Which drivers answer now (an engine appeared or went away).
    Drivers(Vec<DriverKind>),
}

/// One thing found at boot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Adopted {
    /// Which allocation.
    pub alloc: AllocId,
    /// Its last run.
    pub attempt: u32,
    /// Its own address, if it has one.
    pub instance: Option<IpAddr>,
    /// How it ended, if it did while no agent watched.
    pub exit: Option<Exit>,
}
