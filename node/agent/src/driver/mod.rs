//! The drivers: what really starts and stops allocations on this node, behind the core's contract
//! ([`DriverCommand`] in, [`DriverEvent`] out).
//!
//! [`Drivers`] hands each command to its allocation's own task; no command waits for another allocation's. Processes run
//! under keepers ([`crate::keep`], [`exec`](self)), containers under an engine. Everything that runs belongs to one node
//! of one cluster and says so (in its specification, its labels, its control group): nothing else is ever touched.
//!
//! Never here: decisions. What to restart, when, with which back-off, and what a failed probe means is the core's.

mod books;
pub(crate) mod cgroup;
mod container;
mod docker;
mod exec;
mod inside;
mod link;
mod logs;
mod place;
mod ports;
mod probe;
mod runner;
mod signal;
mod usage;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use std::{fmt, io};

use bytes::Bytes;
use dunlin_core::face::{Adopted, DriverCommand, DriverEvent, ProbeOutcome, StartFailure, StartSpec};
use dunlin_gossip::id::{ClusterId, NodeId};
use dunlin_gossip::model::{AllocId, DriverKind, Probe, StopPolicy};
use futures_util::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};

use books::{Books, New};
use container::Container;
use docker::Engine;
use exec::Exec;
use place::Place;
use runner::{Runner, Taken};
use usage::Meter;

use crate::gpus::Gpu;
use crate::resolvers::Resolvers;

/// Probes that run at a time; more wait for their turn.
const MAX_PROBES: usize = 64;
/// How often the engine is looked for.
const LOOK_FOR_ENGINE: Duration = Duration::from_secs(5);
/// How often it is looked at what allocations use.
const MEASURE: Duration = Duration::from_secs(15);
/// At each so manieth look containers that nobody claims are removed (such as could not be when they were forgotten).
const LOOKS_PER_SWEEP: u32 = 12;
/// How often an engine that answers is asked for what earlier agents left.
const ADOPT_TRIES: u32 = 3;
/// Allocations that are adopted at a time.
const MAX_ADOPTING: usize = 32;
/// Pieces of a log on their way to a reader that is slow.
const LOG_QUEUE: usize = 16;

/// What the drivers need to know.
#[derive(Clone, Debug)]
pub struct DriversConfig {
    /// Files are kept below `allocs` in this directory.
    pub data_dir: PathBuf,
    /// Whose workloads these are.
    pub cluster: ClusterId,
    /// Whose workloads these are.
    pub node: NodeId,
    /// The program that has the hidden `keep` subcommand: this one (`std::env::current_exe`).
    pub keeper: PathBuf,
    /// The GPUs of this host, by number; none if they were declared instead of found.
    pub gpus: Vec<Gpu>,
    /// What workloads are told to ask for names.
    pub resolvers: Arc<Resolvers>,
}

/// What an allocation's task is told.
#[derive(Debug)]
enum Order {
    Start(Box<StartSpec>),
    Stop(StopPolicy),
    Extend(dunlin_gossip::time::Instant),
    Forget,
}

struct Shared {
    exec: Arc<Exec>,
    engine: Arc<Engine>,
    engine_answers: AtomicBool,
    resolvers: Arc<Resolvers>,
    books: Mutex<Books>,
    probes: Semaphore,
    events: mpsc::Sender<DriverEvent>,
    runtime: Handle,
}

/// The drivers of one node. Dropping them ends their tasks and leaves everything running, for the next to adopt.
pub struct Drivers {
    shared: Arc<Shared>,
}

impl fmt::Debug for Drivers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drivers").field("kinds", &self.kinds()).finish_non_exhaustive()
    }
}

impl Drivers {
    /// Starts them and begins to look for what earlier agents left; `events` gets [`DriverEvent::Adopted`] exactly once,
    /// before anything else.
    ///
    /// # Errors
    /// If the directory for the allocations' files cannot be made.
    pub async fn start(config: DriversConfig, events: mpsc::Sender<DriverEvent>) -> io::Result<Self> {
        Self::start_with_engine(config, docker::host_from_environment(), events).await
    }

    /// The same with the container engine at this address (`unix:///path`), whatever `DOCKER_HOST` says.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with_engine(
        config: DriversConfig,
        engine: String,
        events: mpsc::Sender<DriverEvent>,
    ) -> io::Result<Self> {
        let DriversConfig { data_dir, cluster, node, keeper, gpus, resolvers } = config;
        let place = Place::new(&data_dir, cluster, node)?;
        let exec = Arc::new(Exec::new(place, cluster, node, keeper, events.clone()));
        let engine = Arc::new(Engine::new(cluster, node, engine, gpus, Arc::clone(&resolvers)));
        let engine_answers = AtomicBool::new(engine.look().await);
        let shared = Arc::new(Shared {
            exec,
            engine,
            engine_answers,
            resolvers,
            books: Mutex::new(Books::new()),
            probes: Semaphore::new(MAX_PROBES),
            events,
            runtime: Handle::current(),
        });
        shared.runtime.spawn(attend(Arc::downgrade(&shared)));
        shared.runtime.spawn(measure(Arc::downgrade(&shared)));
        Ok(Self { shared })
    }

    /// Takes a command; never waits. What it leads to comes as events.
    pub fn command(&self, command: DriverCommand) {
        match command {
            DriverCommand::Start(mut spec) => {
                self.shared.resolvers.tell_process(&mut spec);
                self.shared.order(spec.alloc, Order::Start(spec));
            }
            DriverCommand::Stop { alloc, stop } => self.shared.order(alloc, Order::Stop(stop)),
            DriverCommand::Extend { alloc, until } => self.shared.order(alloc, Order::Extend(until)),
            DriverCommand::Forget { alloc } => self.shared.order(alloc, Order::Forget),
            DriverCommand::Probe { alloc, token, probe, ports, address, timeout } => {
                let target = probe::Target { ports, address, found: None };
                let shared = Arc::clone(&self.shared);
                self.shared.runtime.spawn(async move {
                    let outcome = shared.probe(alloc, &probe, target, timeout).await;
                    shared.tell(DriverEvent::Probed { alloc, token, outcome }).await;
                });
            }
        }
    }

    /// The drivers that answer now.
    #[must_use]
    pub fn kinds(&self) -> Vec<DriverKind> {
        self.shared.kinds()
    }

    /// The address by which containers reach this host; none while no engine says.
    #[must_use]
    pub fn bridge(&self) -> Option<IpAddr> {
        self.shared.engine.bridge()
    }

    /// The output of an allocation, errors in between as they came, over all of its runs as far back as it is kept: all
    /// of it or the last lines. The channel closes at the end; following, when the allocation is forgotten.
    #[must_use]
    pub fn logs(&self, alloc: AllocId, follow: bool, tail: Option<usize>) -> mpsc::Receiver<Bytes> {
        let (to, from) = mpsc::channel(LOG_QUEUE);
        let kind = self.shared.books().kind(alloc);
        match kind {
            Some(DriverKind::Docker) => {
                let engine = Arc::clone(&self.shared.engine);
                self.shared.runtime.spawn(container::send(engine, alloc, follow, tail, to));
            }
            Some(DriverKind::Exec) | None => {
                let place = self.shared.exec.place.clone();
                self.shared.runtime.spawn(logs::send(place, alloc, follow, tail, to));
            }
        }
        from
    }
}

/// Adopts, then watches whether the engine comes or goes.
async fn attend(drivers: Weak<Shared>) {
    let Some((exec, engine)) = drivers.upgrade().map(|shared| (Arc::clone(&shared.exec), Arc::clone(&shared.engine)))
    else {
        return;
    };
    let (processes, containers) = tokio::join!(find_processes(exec), find_containers(&engine));
    let Some(shared) = drivers.upgrade() else { return };
    shared.take_over(processes, containers).await;
    drop(shared);
    let mut looks = 0_u32;
    loop {
        tokio::time::sleep(LOOK_FOR_ENGINE).await;
        let answers = engine.look().await;
        let Some(shared) = drivers.upgrade() else { return };
        let changed = shared.engine_answers.swap(answers, Ordering::Relaxed) != answers;
        looks = looks.wrapping_add(1);
        if answers && (changed || looks.is_multiple_of(LOOKS_PER_SWEEP)) {
            shared.remove_unknown().await;
        }
        if changed {
            if answers {
                tracing::info!("the container engine answers");
            } else {
                tracing::warn!("the container engine does not answer: this node takes no containers");
            }
            shared.tell(DriverEvent::Drivers(shared.kinds())).await;
        }
    }
}

/// Tells what allocations use, as long as the drivers are there.
async fn measure(drivers: Weak<Shared>) {
    let mut meter = Meter::default();
    loop {
        tokio::time::sleep(MEASURE).await;
        let Some(shared) = drivers.upgrade() else { return };
        let known = shared.books().all();
        let of = |kind| known.iter().filter(move |(_, is)| *is == kind).map(|(alloc, _)| *alloc);
        let (place, processes) = (shared.exec.place.clone(), of(DriverKind::Exec).collect());
        let looked = tokio::task::spawn_blocking(move || usage::of_processes(&place, processes)).await;
        let mut seen = looked.unwrap_or_default();
        for alloc in of(DriverKind::Docker) {
            seen.extend(shared.engine.used(alloc).await.map(|used| (alloc, used)));
        }
        let now = Instant::now();
        for (alloc, seen) in seen {
            if let Some(used) = meter.used(alloc, seen, now) {
                shared.tell(DriverEvent::Used { alloc, used }).await;
            }
        }
        meter.keep(&known.into_iter().map(|(alloc, _)| alloc).collect());
    }
}

async fn find_processes(exec: Arc<Exec>) -> Vec<Taken> {
    let place = exec.place.clone();
    let found = tokio::task::spawn_blocking(move || place.scan()).await.unwrap_or_default();
    let taken = futures_util::stream::iter(found).map(|found| Runner::adopt(Arc::clone(&exec), found));
    taken.buffer_unordered(MAX_ADOPTING).collect().await
}

/// The last container of each allocation.
async fn find_containers(engine: &Engine) -> Vec<docker::Found> {
    for _ in 0..ADOPT_TRIES {
        match engine.list(None).await {
            Ok(found) => {
                // By allocation and attempt: the last one stays.
                let last: BTreeMap<AllocId, docker::Found> =
                    found.into_iter().map(|found| (found.alloc, found)).collect();
                return last.into_values().collect();
            }
            Err(StartFailure::NoDriver) => return Vec::new(),
            Err(failure) => tracing::warn!(?failure, "the containers of an earlier agent are not told"),
        }
    }
    Vec::new()
}

/// Takes a task off the books, unless an order waits for it.
fn retire(shared: &Arc<Shared>) -> impl Fn(AllocId, &mpsc::UnboundedReceiver<Order>) -> bool + Send + use<> {
    let shared = Arc::downgrade(shared);
    move |alloc, orders| shared.upgrade().is_none_or(|shared| shared.books().retire(alloc, orders))
}

impl Shared {
    fn books(&self) -> MutexGuard<'_, Books> {
        // The books are whole between any two statements that hold the lock.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kinds(&self) -> Vec<DriverKind> {
        let docker = self.engine_answers.load(Ordering::Relaxed).then_some(DriverKind::Docker);
        [DriverKind::Exec].into_iter().chain(docker).collect()
    }

    /// Every task is on the books before these are opened, and the core hears of it before the task says anything.
    async fn take_over(self: &Arc<Self>, processes: Vec<Taken>, containers: Vec<docker::Found>) {
        let mut adopted = Vec::new();
        let mut runners = Vec::new();
        let mut tasks = Vec::new();
        for Taken { runner, alloc, attempt, exit } in processes {
            adopted.push(Adopted { alloc, attempt, instance: None, exit });
            runners.push((runner, self.books().enlist(alloc, DriverKind::Exec)));
        }
        for found in containers {
            let (alloc, attempt) = (found.alloc, found.attempt);
            let mut task = self.container(alloc);
            let exit = task.adopt(found).await;
            adopted.push(Adopted { alloc, attempt, instance: None, exit });
            tasks.push((task, self.books().enlist(alloc, DriverKind::Docker)));
        }
        adopted.sort_by_key(|adopted| adopted.alloc);
        self.tell(DriverEvent::Adopted(adopted)).await;
        for (runner, inbox) in runners {
            self.runtime.spawn(runner.run(inbox, retire(self)));
        }
        for (task, inbox) in tasks {
            self.runtime.spawn(task.run(inbox, retire(self)));
        }
        let new = self.books().open();
        new.into_iter().for_each(|new| self.employ(new));
    }

    /// Containers that could not be seen when the list was told, or not be removed when they were forgotten: nobody
    /// claims them. A container's task is on the books before there is a container, so none is taken for unknown.
    async fn remove_unknown(&self) {
        let found = match self.engine.list(None).await {
            Ok(found) => found,
            Err(failure) => {
                tracing::warn!(?failure, "containers that nobody claims are not told");
                return;
            }
        };
        for found in found {
            let known = self.books().kind(found.alloc) == Some(DriverKind::Docker);
            if !known && self.engine.remove(&found.id).await {
                tracing::warn!(alloc = %found.alloc, "a container that nobody claims was removed");
            }
        }
    }

    fn container(&self, alloc: AllocId) -> Container {
        Container::new(Arc::clone(&self.engine), self.events.clone(), alloc)
    }

    async fn tell(&self, event: DriverEvent) {
        // Without a listener the agent is ending.
        let _ending = self.events.send(event).await;
    }

    fn order(self: &Arc<Self>, alloc: AllocId, order: Order) {
        let new = self.books().order(alloc, order);
        new.into_iter().for_each(|new| self.employ(new));
    }

    fn employ(self: &Arc<Self>, New { alloc, kind, inbox }: New) {
        match kind {
            DriverKind::Exec => {
                self.runtime.spawn(Runner::new(Arc::clone(&self.exec), alloc).run(inbox, retire(self)));
            }
            DriverKind::Docker => {
                self.runtime.spawn(self.container(alloc).run(inbox, retire(self)));
            }
        }
    }

    async fn probe(
        &self,
        alloc: AllocId,
        probe: &Probe,
        mut target: probe::Target,
        patience: Duration,
    ) -> ProbeOutcome {
        let tried = tokio::time::timeout(patience, async {
            let turn = self.probes.acquire().await;
            let kind = self.books().kind(alloc);
            if let (Probe::Command(argv), Some(DriverKind::Docker)) = (probe, kind) {
                // A part of the time is left for ending what takes too long.
                let tried = self.engine.try_inside(alloc, argv, patience - patience / 8).await;
                return tried.map_or_else(|why| ProbeOutcome::Failed(probe::one_line(&why)), |()| ProbeOutcome::Passed);
            }
            if matches!(probe, Probe::Command(_)) {
                let place = self.exec.place.clone();
                target.found = tokio::task::spawn_blocking(move || place.find(alloc)).await.ok().flatten();
            }
            let outcome = probe::run(probe, &target, patience).await;
            drop(turn);
            outcome
        });
        tried.await.unwrap_or_else(|_| ProbeOutcome::Failed(format!("no answer within {patience:?}")))
    }
}
