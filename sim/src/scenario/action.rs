//! What can happen in a world, in the verbs that stories are told in: deploy, scale, remove, crash, restart, cut, heal, spoil,
//! calm. An action says what, never how: the world's modules do it.

use dunlin_core::face::RolloutOrder;
use dunlin_gossip::rng::Ratio;
use dunlin_gossip::wire::WireVersion;

use super::Count;
use crate::net::{Conditions, HostNo};
use crate::queue::Nanos;

/// Which hosts an action is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// So many, drawn when it happens.
    Count(Count),
    /// These; ones that the world does not have are left out.
    Hosts(Vec<HostNo>),
    /// All of a zone, by its number.
    Zone(u32),
}

impl Target {
    /// One, drawn when it happens.
    pub const ONE: Self = Self::Count(Count::Fixed(1));
}

/// One line of the timeline.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// When.
    pub at: Nanos,
    /// What.
    pub action: Action,
}

/// What happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// All services are deployed, at each of these nodes at the same moment.
    Deploy {
        /// Where. It is one, unless operators collide.
        at: Target,
        /// What several of them deploy.
        files: Files,
    },
    /// A service gets another number of replicas.
    Scale {
        /// Which.
        service: String,
        /// How many.
        replicas: Count,
        /// At which node it is said.
        at: Target,
    },
    /// Something is said about a service's rollout.
    Rollout {
        /// Of which.
        service: String,
        /// What.
        order: RolloutOrder,
        /// At which node it is said.
        at: Target,
    },
    /// The stack is removed.
    Remove {
        /// At which node it is said.
        at: Target,
    },
    /// Operators order something of nodes, each at another one.
    Order {
        /// What.
        how: Order,
        /// Of which nodes.
        hosts: Target,
    },
    /// A program writes in a loop: a new value of one service of a stack of its own, as fast as this, whatever it is answered.
    WriteLoop {
        /// At which nodes.
        at: Target,
        /// For so long.
        time: Nanos,
        /// Between two writes.
        every: Nanos,
        /// How large each is, in KiB.
        kib: u32,
    },
    /// A stack is deployed over which handlers panic, in builds that can swallow poison; in others nothing is.
    Poison {
        /// At which nodes.
        at: Target,
        /// What panics.
        place: Swallowed,
        /// On how many nodes first; none: on all at once.
        first: Option<u32>,
    },
    /// Something dies.
    Crash {
        /// What.
        what: Crash,
        /// Where; of processes, how many.
        hosts: Target,
    },
    /// What is dead starts again.
    Restart {
        /// Which; all if it does not say.
        hosts: Option<Target>,
        /// What it finds on its disk.
        disk: DiskFate,
        /// Of which version its agent is then; of the same if it does not say.
        version: Option<WireVersion>,
    },
    /// The network gets worse for some hosts.
    Cut {
        /// How.
        how: Cut,
        /// For whom.
        hosts: Target,
    },
    /// Cuts end: those around these hosts, or all.
    Heal(Option<Target>),
    /// The network's conditions change for all.
    Network(Conditions),
    /// A host gets worse.
    Spoil {
        /// How.
        how: Spoil,
        /// Which.
        hosts: Target,
    },
    /// Faults come to an end among these hosts, the core, which must then keep every promise by themselves; the others stand
    /// still, out of reach, for good.
    Calm {
        /// The core.
        core: Target,
    },
}

/// What operators order of nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// What runs there goes elsewhere; what is left after so long stops all the same.
    Drain(Option<Nanos>),
    /// It stays, and more may come.
    Undrain,
    /// Nothing new comes.
    Cordon,
    /// New work may come again.
    Uncordon,
}

impl Order {
    const fn word(self) -> &'static str {
        match self {
            Self::Drain(_) => "drain",
            Self::Undrain => "undrain",
            Self::Cordon => "cordon",
            Self::Uncordon => "uncordon",
        }
    }
}

/// What several operators deploy at the same moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Files {
    /// Each a version of its own.
    Different,
    /// All the same one.
    Same,
}

/// What panics over a poison record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Swallowed {
    /// Whoever reads it.
    Read,
    /// Whoever acts on it.
    Act,
}

impl Swallowed {
    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Act => "act",
        }
    }
}

/// What dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    /// Agents; their hosts and workloads live on.
    Agents,
    /// Agents, one after the other, each started again.
    InTurn {
        /// All of them within so long,
        within: Nanos,
        /// each gone for so long,
        down: Nanos,
        /// and then of this version; of the same if it does not say.
        version: Option<WireVersion>,
    },
    /// Hosts, with everything on them.
    Hosts,
    /// So many processes of workloads.
    Processes,
    /// The wits of so many processes: they run on and answer no probe any more.
    Wits,
}

/// What a host finds on its disk when it starts again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskFate {
    /// What was safe.
    Kept,
    /// What was there when the images were taken.
    Old,
    /// The same, and its wall clock is behind by two minutes, as on a restored machine without a time server.
    OldAndSlow,
    /// Nothing: a new node under a new name, which has to join.
    Lost,
}

/// How the network gets worse for some hosts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// They are cut off from the others, not from each other.
    Apart,
    /// Nothing gets out of any of them.
    Mute,
    /// Nothing gets in to any of them.
    Deaf,
    /// Nothing gets in or out of any of them.
    Clog,
    /// Pairs of them, the first and the second, the third and the fourth, lose each other, both ways; everybody else still
    /// reaches both. Of a number: so many pairs.
    Pairs,
    /// Of each such pair the second no longer hears the first, which hears the second as before.
    HalfPairs,
    /// A firewall answers for them: whoever sends there is refused, though the agent lives.
    Refuse,
    /// So much of what comes and goes is lost.
    Lossy(Ratio),
    /// Clogged and unclogged in turns.
    FlipFlop {
        /// Clogged for so long,
        on: Nanos,
        /// then free for so long,
        off: Nanos,
        /// so many times.
        times: u32,
    },
    /// Clogged one after the other at moments of their own, and unclogged in another order (FoundationDB's "swizzle").
    Swizzle {
        /// From the first clogging to the last unclogging.
        within: Nanos,
    },
}

/// How a host gets worse.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spoil {
    /// An image of the disk is taken, for `restart: old-disk`; the host is among the first to crash.
    SaveDisk,
    /// The next fsync fails, and what it was to make safe is lost.
    FailSync,
    /// No commit succeeds until the disk is freed.
    FillDisk,
    /// There is room again.
    FreeDisk,
    /// Each fsync takes so much longer.
    SlowDisk(Nanos),
    /// Its wall clock jumps by so many milliseconds.
    JumpClock(i64),
    /// Its clocks run fast by so many millionths (negative: slow).
    DriftClock(i64),
    /// Its agent stands still for so long.
    Pause(Nanos),
    /// Its agent computes so many times slower.
    Slow(u64),
    /// Its drivers do nothing for so long, and then what they were asked in the meantime.
    HangDrivers(Nanos),
    /// Its drivers lose what they are asked for so long.
    LoseCommands(Nanos),
}

impl Action {
    /// Its key in a scenario file.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Deploy { files: Files::Different, at: Target::Count(Count::Fixed(1)) } => "deploy",
            Self::Deploy { files: Files::Different, at: Target::Hosts(hosts) } if hosts.len() == 1 => "deploy",
            Self::Deploy { files: Files::Different, .. } => "conflict",
            Self::Deploy { files: Files::Same, .. } => "double-deploy",
            Self::Scale { .. } => "scale",
            Self::Rollout { .. } => "rollout",
            Self::Remove { .. } => "remove",
            Self::Order { how, .. } => how.word(),
            Self::WriteLoop { .. } => "write-loop",
            Self::Poison { .. } => "poison",
            Self::Crash { what: Crash::Agents, .. } => "crash-agents",
            Self::Crash { what: Crash::InTurn { .. }, .. } => "roll",
            Self::Crash { what: Crash::Hosts, .. } => "crash-hosts",
            Self::Crash { what: Crash::Processes, .. } => "kill-processes",
            Self::Crash { what: Crash::Wits, .. } => "hang-processes",
            Self::Restart { .. } => "restart",
            Self::Cut { how, .. } => how.word(),
            Self::Heal(_) => "heal",
            Self::Network(_) => "network",
            Self::Spoil { how, .. } => how.word(),
            Self::Calm { .. } => "calm",
        }
    }

    /// How long it goes on disturbing after its moment.
    #[must_use]
    pub const fn lasts(&self) -> Nanos {
        match self {
            Self::Spoil { how: Spoil::Pause(time) | Spoil::HangDrivers(time) | Spoil::LoseCommands(time), .. } => *time,
            Self::WriteLoop { time, .. } | Self::Order { how: Order::Drain(Some(time)), .. } => *time,
            Self::Crash { what: Crash::InTurn { within, down, .. }, .. } => *within + *down,
            Self::Cut { how: Cut::Swizzle { within }, .. } => *within,
            Self::Cut { how: Cut::FlipFlop { on, off, times }, .. } => (*on + *off) * *times as u64,
            _ => 0,
        }
    }

    /// The hosts that it names or draws.
    pub fn target(&mut self) -> Option<&mut Target> {
        match self {
            Self::Deploy { at: target, .. }
            | Self::Scale { at: target, .. }
            | Self::Rollout { at: target, .. }
            | Self::Remove { at: target }
            | Self::Order { hosts: target, .. }
            | Self::WriteLoop { at: target, .. }
            | Self::Poison { at: target, .. }
            | Self::Crash { hosts: target, .. }
            | Self::Restart { hosts: Some(target), .. }
            | Self::Cut { hosts: target, .. }
            | Self::Heal(Some(target))
            | Self::Spoil { hosts: target, .. }
            | Self::Calm { core: target } => Some(target),
            Self::Restart { hosts: None, .. } | Self::Heal(None) | Self::Network(_) => None,
        }
    }
}

impl Cut {
    const fn word(self) -> &'static str {
        match self {
            Self::Apart => "partition",
            Self::Mute => "mute",
            Self::Deaf => "deafen",
            Self::Clog => "clog",
            Self::Pairs => "sever",
            Self::HalfPairs => "half-sever",
            Self::Refuse => "refuse",
            Self::Lossy(_) => "lossy",
            Self::FlipFlop { .. } => "flip-flop",
            Self::Swizzle { .. } => "swizzle",
        }
    }
}

impl Spoil {
    const fn word(self) -> &'static str {
        match self {
            Self::SaveDisk => "save-disks",
            Self::FailSync => "fail-syncs",
            Self::FillDisk => "fill-disks",
            Self::FreeDisk => "free-disks",
            Self::SlowDisk(_) => "slow-disks",
            Self::JumpClock(_) => "jump-clocks",
            Self::DriftClock(_) => "drift-clocks",
            Self::Pause(_) => "pause",
            Self::Slow(_) => "slow",
            Self::HangDrivers(_) => "hang-drivers",
            Self::LoseCommands(_) => "lose-commands",
        }
    }
}
