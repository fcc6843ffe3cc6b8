//! From settings to a running agent, and back to nothing.
//!
//! Order matters: the directory's lock, then who we are, then the disk with this boot's generation durable, and only then
//! the first socket. The API opens last, so that whoever reaches it reaches a node.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use dunlin_core::Node;
use dunlin_core::face::{DriverEvent, EventKind, NodeConfig, Output, Outputs};
use dunlin_core::skip::AtHand;
use dunlin_dns::DnsError;
use dunlin_gossip::engine::Timing;
use dunlin_gossip::face::{Boot, GossipEvent, GossipOutput, NoticeLevel, PeerChange};
use dunlin_gossip::id::{ClusterId, NodeId};
use dunlin_gossip::model::{NodeHeader, NodeName, RosterEntry, Tail};
use dunlin_gossip::rng::Seed;
use dunlin_gossip::wire::{Record, RecordId, WireVersion};
use dunlin_net::{Net, NetConfig, NetError};
use tokio::net::lookup_host;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::api::call::Door;
use crate::api::{Api, ApiError};
use crate::custody::{self, Custody};
use crate::disk::{self, Disk, DiskError, Loaded};
use crate::driver::{Drivers, DriversConfig};
use crate::lock::{DataLock, LockError};
use crate::names::Names;
use crate::resolvers::{self, Resolvers};
use crate::run::{Agent, End, Parts, Sources, poison};
use crate::seeds;
use crate::settings::Settings;
use crate::setup::{self, Membership, SetupError};
use crate::watchdog::{self, Pulse};
use crate::{clock, host, read};

/// Events of the network that wait for the loop.
const NET_QUEUE: usize = 4_096;
/// Events of drivers that wait for the loop.
const DRIVER_QUEUE: usize = 1_024;
/// For blocking work that is still under way at the end.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Why the agent does not run (any more). What it started runs on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The data directory.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Who we are.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The state.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The port.
    #[error(transparent)]
    Net(#[from] NetError),
    /// DNS.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// The API's socket.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The system refuses something elementary.
    #[error("the system refuses {what}: {source}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// Two agents run on copies of one data directory.
    #[error("an agent with the keys of this node runs at {at}, so that {} is a copy of its data directory; stop that agent for good, or join this host as a node of its own with an empty --data-dir", .data.display())]
    Clone {
        /// Where the other one answers.
        at: SocketAddr,
        /// The data directory here.
        data: std::path::PathBuf,
    },
    /// The core panics, whatever is left out.
    #[error(
        "the agent's core panics ({why}), also without the records at which it did; this is a fault in dunlin: report it with the log, and try another version"
    )]
    Panicked {
        /// What the panic said.
        why: String,
    },
    /// The core says that this agent must not go on.
    #[error("the agent stops: {0}")]
    Fatal(String),
}

/// How an agent ended well.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Ended {
    /// It was asked to.
    Stopped,
    /// Its disk was older than what peers know of it: once more from the beginning, now.
    StartAnew,
    /// It panicked over a record: the same, without that record's meaning.
    Poisoned {
        /// Its hash.
        record: u64,
        /// What the panic said.
        why: String,
    },
}

impl Ended {
    fn poisoned((record, why): (u64, String)) -> Self {
        Self::Poisoned { record, why }
    }
}

/// Records that one process leaves out at most: a fault that is none of a record's would otherwise go on for ever.
const MAX_LEFT_OUT: usize = 64;

/// Runs an agent until SIGTERM or SIGINT. One thread suffices: nothing on it ever waits or computes for long.
///
/// # Errors
/// [`AgentError`], in one line with the remedy.
pub fn run(settings: Settings) -> Result<(), AgentError> {
    let _lock = DataLock::take(&settings.data_dir)?;
    let pulse = Pulse::watched().map_err(|source| AgentError::System { what: "a thread", source })?;
    let mut stuck = watchdog::was_stuck();
    let mut left_out = BTreeSet::new();
    loop {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| AgentError::System { what: "a runtime", source })?;
        let ended = runtime.block_on(agent(&settings, &pulse, stuck.take(), &left_out))?;
        // Whatever still hangs on a file or a child must not hold the agent up.
        runtime.shutdown_timeout(LAST_WORDS);
        match ended {
            Ended::Stopped => return Ok(()),
            Ended::StartAnew => {}
            Ended::Poisoned { record, why } => {
                let is_new = left_out.insert(record);
                if !is_new || left_out.len() > MAX_LEFT_OUT {
                    return Err(AgentError::Panicked { why });
                }
                tracing::error!("the agent panicked over a record ({why}); it begins anew and leaves its meaning out");
            }
        }
    }
}

async fn agent(
    settings: &Settings,
    pulse: &Arc<Pulse>,
    stuck: Option<String>,
    left_out: &BTreeSet<u64>,
) -> Result<Ended, AgentError> {
    let system = |what| move |source| AgentError::System { what, source };
    let terminate = signal(SignalKind::terminate()).map_err(system("a signal handler"))?;
    let interrupt = signal(SignalKind::interrupt()).map_err(system("a signal handler"))?;
    let membership = custody::freshen(setup::member(settings).await?, settings)?;
    let cluster = membership.credentials.cluster;
    let seed = seed().map_err(system("randomness"))?;
    let chance = seed.split("generation").rng().next_u64();
    let (disk, loaded) = Disk::open(&settings.data_dir, cluster, clock::wall(), chance)?;

    let (net_events, net_queue) = mpsc::channel(NET_QUEUE);
    let config = NetConfig {
        bind: settings.bind,
        keys: membership.keys.clone(),
        credentials: membership.credentials.clone(),
        generation: loaded.generation,
    };
    let net = Net::start(config, net_events).await?;
    let at = settings.reachable_at(net.local_addr(), first_seed(settings).await);
    let (driver_events, driver_queue) = mpsc::channel(DRIVER_QUEUE);
    let resolvers = Arc::new(Resolvers::new(&settings.domain));
    let (names, drivers) = workloads(settings, &membership, seed, &resolvers, driver_events).await?;

    let (door, calls) = Door::new();
    let api = Api::open(settings, membership.keys.id(), net.clone(), door.clone(), at)?;
    let (custody, handed) = Custody::new(membership.keys.clone(), settings, net.clone());
    let mut sources = Sources {
        net: net_queue,
        drivers: driver_queue,
        calls,
        disk: disk.progress(),
        terminate,
        interrupt,
        handed,
        custody_at: tokio::time::Instant::now(),
    };
    let skipped = loaded.skipped.clone();
    let guard = Guard { skip: left_out.clone(), at_hand: AtHand::default() };
    let made = catch_unwind(AssertUnwindSafe(|| core(settings, &membership, &drivers, loaded, at, seed, &guard)));
    let (node, first) = match made {
        Ok(made) => made,
        // Already what the disk holds: nothing was sent and nothing claimed yet.
        Err(panic) => {
            net.close().await;
            names.stop().await;
            return Ok(Ended::poisoned(poison(&guard.at_hand, panic)));
        }
    };
    // Before anything is sent: peers who hear of a newer boot would make the other agent believe that its disk is old.
    let elsewhere = own_addresses(&net, &first, membership.keys.id(), at);
    refuse_clone(settings, &net, &elsewhere).await?;
    let (me, pulse, at_hand) = (membership.keys.id(), Arc::clone(pulse), guard.at_hand);
    let mut agent = Agent::new(Parts { me, custody, net, disk, drivers, names, pulse, at_hand }, node, first);
    first_words(&mut agent, stuck, skipped);
    let api = api.serve(Arc::clone(&agent.drivers));
    tracing::info!(node = %agent.me, name = %read::name(&agent.node, agent.me), %cluster, %at, "the node is up");

    let lookout = tokio::spawn(resolvers::look(door.clone(), resolvers, cluster.to_string()));
    let seeds = tokio::spawn(seeds::tend(settings.join.clone(), door, agent.net.clone()));
    let end = agent.run(&mut sources).await;
    seeds.abort();
    lookout.abort();
    api.stop();
    close(agent, end, settings, cluster, &elsewhere).await
}

/// What runs workloads, and what names them: containers are told of names before the first of them starts.
async fn workloads(
    settings: &Settings,
    membership: &Membership,
    seed: Seed,
    resolvers: &Arc<Resolvers>,
    events: mpsc::Sender<DriverEvent>,
) -> Result<(Names, Drivers), AgentError> {
    let (cluster, me, told) = (membership.credentials.cluster, membership.keys.id(), Arc::clone(resolvers));
    let mut names = Names::start(settings, cluster, me, seed.split("names"), told)?;
    let drivers = Drivers::start(drivers_config(settings, membership, Arc::clone(resolvers)), events).await;
    let drivers = drivers.map_err(|source| AgentError::System { what: "the allocations' directory", source })?;
    names.serve_containers(drivers.bridge());
    Ok((names, drivers))
}

/// Gives back what an agent held, and says how it ended.
async fn close(
    agent: Agent,
    end: End,
    settings: &Settings,
    cluster: ClusterId,
    elsewhere: &[SocketAddr],
) -> Result<Ended, AgentError> {
    let clone = match &end {
        End::DiskIsOld(_) => refuse_clone(settings, &agent.net, elsewhere).await,
        End::Stopped | End::Fatal(_) | End::Poisoned { .. } => Ok(()),
    };
    agent.net.close().await;
    agent.names.stop().await;
    drop(agent.disk);
    clone?;
    match end {
        End::Stopped => Ok(Ended::Stopped),
        End::Fatal(text) => Err(AgentError::Fatal(text)),
        End::DiskIsOld(newest) => {
            tracing::warn!("this node's disk is older than what its peers know of it; starting anew");
            disk::raise(&settings.data_dir, cluster, newest)?;
            Ok(Ended::StartAnew)
        }
        End::Poisoned { record, why } => Ok(Ended::Poisoned { record, why }),
    }
}

/// What protects the core from records over which it panics.
struct Guard {
    skip: BTreeSet<u64>,
    at_hand: AtHand,
}

fn drivers_config(settings: &Settings, membership: &Membership, resolvers: Arc<Resolvers>) -> DriversConfig {
    DriversConfig {
        data_dir: settings.data_dir.clone(),
        cluster: membership.credentials.cluster,
        node: membership.keys.id(),
        keeper: settings.keeper.clone(),
        gpus: settings.gpus.clone(),
        resolvers,
    }
}

/// What an operator should know of how this agent came to be.
fn first_words(agent: &mut Agent, stuck: Option<String>, skipped: Vec<String>) {
    if let Some(why) = stuck {
        agent.tell(NoticeLevel::Error, EventKind::Node, why);
    }
    for what in skipped {
        let text = format!("an unreadable entry of the state file was left out: {what}");
        agent.tell(NoticeLevel::Warn, EventKind::Node, text);
    }
}

fn core(
    settings: &Settings,
    membership: &Membership,
    drivers: &Drivers,
    loaded: Loaded,
    at: SocketAddr,
    seed: Seed,
    guard: &Guard,
) -> (Node, Outputs) {
    let me = membership.keys.id();
    let name = settings.name.clone().or_else(|| own_name(&loaded.records, me)).unwrap_or_else(host::name);
    let header = NodeHeader {
        name,
        addresses: vec![at],
        service_address: at.ip(),
        labels: settings.labels.clone(),
        allocatable: settings.allocatable,
        drivers: drivers.kinds(),
        platform: host::platform(),
        version: env!("CARGO_PKG_VERSION").into(),
        certificate: membership.credentials.info(),
        adopted: Vec::new(),
        supply: Tail(settings.supply.clone()),
    };
    let config = NodeConfig {
        me,
        cluster: membership.credentials.cluster,
        header,
        wire: WireVersion::CURRENT,
        timing: Timing::default(),
        port_range: settings.ports.clone(),
        rebalance: settings.rebalance,
        skip: guard.skip.clone(),
        at_hand: guard.at_hand.clone(),
    };
    let boot = Boot {
        base: None,
        records: loaded.records,
        first: loaded.first,
        generation: loaded.generation,
        alive: Vec::new(),
    };
    let mut out = Outputs::default();
    let node = Node::new(config, boot, seed, clock::now(), clock::wall(), &mut out);
    (node, out)
}

/// The name under which this node ran last, or else was admitted.
fn own_name(records: &[Record], me: NodeId) -> Option<NodeName> {
    let of = |id: RecordId| records.iter().filter(move |r| *r.id() == id).max_by_key(|r| r.hlc());
    let header = of(RecordId::header(me)).and_then(|r| r.read_as::<NodeHeader>());
    let entry = || of(RecordId::roster(me)).and_then(|r| r.read_as::<RosterEntry>());
    header.map(|h| h.name).or_else(|| entry().map(|e| e.name))
}

/// Where this node was reached in earlier boots and is not now, as the disk says. Enters the node into its own book, which
/// is what lets two agents with the same keys recognise each other.
fn own_addresses(net: &Net, first: &Outputs, me: NodeId, at: SocketAddr) -> Vec<SocketAddr> {
    let mine =
        first.list.iter().find_map(|output| match output {
            Output::Gossip(GossipOutput::Event(GossipEvent::Peer(
                change @ PeerChange::Admitted { entry, addresses },
            ))) if entry.node == me => Some((change, addresses)),
            _ => None,
        });
    let Some((change, addresses)) = mine else { return Vec::new() };
    net.peer(change);
    addresses.iter().copied().filter(|address| *address != at).collect()
}

async fn refuse_clone(settings: &Settings, net: &Net, elsewhere: &[SocketAddr]) -> Result<(), AgentError> {
    for address in elsewhere {
        if net.has_twin_at(*address).await {
            return Err(AgentError::Clone { at: *address, data: settings.data_dir.clone() });
        }
    }
    Ok(())
}

async fn first_seed(settings: &Settings) -> Option<SocketAddr> {
    for seed in &settings.join {
        if let Ok(mut found) = lookup_host(seed).await
            && let Some(address) = found.next()
        {
            return Some(address);
        }
    }
    None
}

/// The one draw from the system's generator.
fn seed() -> std::io::Result<Seed> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(Seed(u64::from_be_bytes(bytes)))
}
