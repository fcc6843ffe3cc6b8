//! What should run: a service's specification, and the manifest that makes a deploy one thing.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::{Attached, Cron, Demand, Job, Placing, Resources, ServiceName, Tail};
use crate::hlc::Hlc;
use crate::time::Duration;

/// A revision: the hash of a specification's canonical bytes. Scaling makes no new revision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RevisionId(pub u64);

impl RevisionId {
    /// Parses 16 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_whole = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        is_whole.then(|| u64::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

impl fmt::Display for RevisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for RevisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{:08x}", self.0 >> 32)
    }
}

/// The value of a service's register: how many, and of what.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Service {
    /// How many replicas, where.
    pub mode: Mode,
    /// What each replica is; its hash is the revision.
    pub spec: ServiceSpec,
}

/// How many replicas a service has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Mode {
    /// So many, numbered from 1.
    Replicated(u32),
    /// One on each node that its constraints allow.
    Global,
    /// Work to be done: numbered slots, each of which is run until it is finished.
    Job(Job),
    /// Work to be done once on each node that its constraints allow.
    GlobalJob(Job),
    /// Work to be done again and again by the calendar. A version that does not know this cannot read the specification, and
    /// runs nothing of it.
    Cron(Cron),
}

/// What one replica is. Everything here is part of the revision.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// What to run.
    pub workload: Workload,
    /// Environment set by the author, before dunlin's own variables.
    pub environment: BTreeMap<String, String>,
    /// Ports it listens on.
    pub ports: Vec<PortSpec>,
    /// How to tell that it is well; none means: running is ready.
    pub health: Option<HealthCheck>,
    /// What to do when it ends.
    pub restart: RestartPolicy,
    /// How to stop it.
    pub stop: StopPolicy,
    /// What it reserves on its node.
    pub reservation: Resources,
    /// Upper bounds for the driver to enforce; zero in a field means none.
    pub limits: Resources,
    /// Where it may run.
    pub constraints: Vec<Constraint>,
    /// Higher goes first.
    pub priority: i32,
    /// Which of two equal claims stays after a partition.
    pub prefer: Prefer,
    /// What it asks of its place besides.
    #[serde(default)]
    pub placing: Tail<Placing>,
}

impl ServiceSpec {
    /// What runs, and nothing else said of it: everywhere, always again, with the default request. What a test, a bench or a
    /// simulated service wants otherwise it says itself; what a Compose file leaves unsaid is decided where that is read.
    #[must_use]
    pub fn bare(workload: Workload) -> Self {
        Self {
            workload,
            environment: BTreeMap::new(),
            ports: Vec::new(),
            health: None,
            restart: RestartPolicy {
                condition: RestartCondition::Any,
                delay: Duration::from_secs(5),
                max_attempts: None,
                window: Duration::from_secs(30),
            },
            stop: StopPolicy { signal: "SIGTERM".to_string(), grace: Duration::from_secs(10) },
            reservation: Resources::DEFAULT_REQUEST,
            limits: Resources::default(),
            constraints: Vec::new(),
            priority: 0,
            prefer: Prefer::Ready,
            placing: Tail::default(),
        }
    }
}

/// What runs a replica.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Workload {
    /// A process of the host.
    Exec(Exec),
    /// A container.
    Docker(Image),
}

impl Workload {
    /// A process of this program, without arguments, in its allocation's own directory.
    #[must_use]
    pub fn program(name: &str) -> Self {
        Self::Exec(Exec { argv: Vec::from([name.to_string()]), working_dir: None })
    }
}

/// A process: never a shell unless the author wrote one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Exec {
    /// Program and arguments, at least one element.
    pub argv: Vec<String>,
    /// Working directory; none means the allocation's own directory.
    pub working_dir: Option<String>,
}

/// A container image and how to start it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Image {
    /// Reference as written.
    pub image: String,
    /// Replaces the image's entry point.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    /// Replaces the image's working directory.
    pub working_dir: Option<String>,
}

/// Transport protocol of a port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// `tcp` or `udp`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A port that a replica listens on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PortSpec {
    /// Name in SRV and in `PORT_<name>`; by default the target's number as text, or `http` when nothing else is known.
    pub name: String,
    /// Inside the workload; none for an exec service that takes whatever `PORT` says.
    pub target: Option<u16>,
    /// On the host; none means that the node chooses. A fixed one is a placement constraint.
    pub published: Option<u16>,
    /// Protocol.
    pub protocol: Protocol,
}

impl ServiceSpec {
    /// What it says of resources and ports beyond the first format.
    #[must_use]
    pub fn demand(&self) -> &Demand {
        &self.placing.tolerance.demand
    }
}

impl PortSpec {
    /// The variable that tells a workload its port of this name: `PORT_` and the name, with `_` for what a shell would
    /// not accept.
    #[must_use]
    pub fn variable(name: &str) -> String {
        "PORT_".chars().chain(name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })).collect()
    }
}

/// How to tell that a replica is well.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What to try. The first probe comes at once.
    pub probe: Probe,
    /// Time between two probes.
    pub interval: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
    /// Failures in this time after the start do not count.
    pub start_period: Duration,
}

/// One kind of health probe.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Probe {
    /// Runs a program; exit code 0 is well.
    Command(Vec<String>),
    /// GET of a path on a named port; 200 to 399 is well.
    Http {
        /// Name of a port of this service.
        port: String,
        /// Path and query, beginning with `/`.
        path: String,
    },
    /// Connects to a named port.
    Tcp {
        /// Name of a port of this service.
        port: String,
    },
}

/// When to start an ended replica again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RestartCondition {
    /// Never: its end is final.
    None,
    /// Only after a failure.
    OnFailure,
    /// Always.
    Any,
}

/// What to do when a replica ends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// When.
    pub condition: RestartCondition,
    /// Wait before the second and later attempts; the first restart of a replica that ran well is immediate.
    pub delay: Duration,
    /// Attempts on one node within `window` before it withdraws and refuses; none means for ever.
    pub max_attempts: Option<u32>,
    /// A run of this length counts as success and forgets earlier attempts.
    pub window: Duration,
}

/// How to stop a replica.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StopPolicy {
    /// Signal by name, `SIGTERM` unless said otherwise.
    pub signal: String,
    /// Time until SIGKILL.
    pub grace: Duration,
}

/// Which of two equally good claims stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Prefer {
    /// Unstated: a claim that was ready once beats one that was not; then the higher order.
    Ready,
    /// The higher order regardless; makes the epoch a fencing token.
    New,
    /// Like `Ready`, then the lower order.
    Old,
    /// The higher order regardless, and none runs without grants of more than half of the voters
    /// ([`VoterList`](super::VoterList)). A version that does not know this cannot read the specification, and runs nothing of it.
    Majority,
}

/// One line of `deploy.placement.constraints`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Constraint {
    /// `node.labels.X`, `node.hostname`, `node.id`, `node.platform.os` or `node.platform.arch`.
    pub attribute: String,
    /// How it is compared.
    pub op: ConstraintOp,
    /// With what.
    pub value: String,
}

/// How a constraint compares.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ConstraintOp {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`: a regular expression finds something in it.
    Matches,
    /// `!~`
    MatchesNot,
    /// `in`: it is one of the words, which commas part.
    In,
    /// `not in`
    NotIn,
    /// `version <`: it is a version, and a lower one.
    Below,
    /// `version <=`
    AtMost,
    /// `version >`
    Above,
    /// `version >=`
    AtLeast,
}

impl ConstraintOp {
    /// As it is written between attribute and value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Matches => " =~ ",
            Self::MatchesNot => " !~ ",
            Self::In => " in ",
            Self::NotIn => " not in ",
            Self::Below => " version < ",
            Self::AtMost => " version <= ",
            Self::Above => " version > ",
            Self::AtLeast => " version >= ",
        }
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.attribute, self.op.as_str(), self.value)
    }
}

/// The value of a stack's register: what a deploy consists of.
///
/// A node acts on a manifest once it holds each named service's record with this stamp or a later one. Of concurrent ones
/// that of the newest deploy is in force: what changes one service writes the manifest as well, so that the stack outlives a
/// concurrent removal, but says nothing of what else belongs to it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct StackManifest {
    /// The stamp of the deploy that said what belongs to the stack.
    pub deployed: Hlc,
    /// Each service and the stamp of the batch that wrote its record.
    pub services: BTreeMap<ServiceName, Hlc>,
    /// What else belongs to it.
    #[serde(default)]
    pub attached: Tail<Attached>,
}
