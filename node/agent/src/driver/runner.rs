//! One allocation of the exec driver: a task that speaks with the allocation's keeper.
//!
//! The task is the only one that touches its allocation, so commands about it need no further order. It holds nothing
//! that a later agent could not find again: what runs is known by the attempt's directory (`keep`), the lock in it says
//! whether the keeper lives, the socket in it is how to reach it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dunlin_core::face::{DriverEvent, Exit, StartFailure, StartSpec};
use dunlin_gossip::model::AllocId;
use nix::sys::signal::Signal;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use super::exec::Exec;
use super::link::{Link, try_lock};
use super::place::Found;
use super::{Order, cgroup, signal};
use crate::keep::proto::{Ask, Say};
use crate::keep::reap::{end_orphans, signal_group};
use crate::keep::record::{self, EXIT, Ended, KeepSpec, SPEC, STARTED, Started};

/// A keeper says that the workload runs, or why not, within this time.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// How long the end of a keeper that hung up, or of killed orphans, is waited for.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// After the grace and this, a stop is repeated as a kill.
const STOP_MARGIN: Duration = Duration::from_secs(2);
/// Between two attempts to reach a keeper that lives and does not answer.
const RETRY: Duration = Duration::from_millis(20);
/// As good as for ever.
const YEAR: Duration = Duration::from_secs(31_536_000);

/// An attempt whose keeper lives.
#[derive(Debug)]
struct Live {
    attempt: u32,
    dir: PathBuf,
    /// None while the keeper cannot be reached.
    link: Option<Link>,
    /// Until when the end is expected, once it was told to stop.
    stop_by: Option<Instant>,
    /// Told to kill and silent since.
    unanswered: bool,
}

/// One allocation's task.
#[derive(Debug)]
pub(super) struct Runner {
    exec: Arc<Exec>,
    alloc: AllocId,
    live: Option<Live>,
    /// The last attempt that ended.
    last: Option<(u32, Exit)>,
    forget: bool,
}

/// How an adopted allocation stands.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) runner: Runner,
    pub(super) alloc: AllocId,
    pub(super) attempt: u32,
    pub(super) exit: Option<Exit>,
}

/// What became of trying to reach a keeper.
enum Reach {
    Linked(Link),
    /// It lives and does not answer.
    Mute,
    Ended,
}

impl Live {
    /// Connects while the keeper lives; it may be just about to listen.
    async fn reach(&self, until: Instant) -> Reach {
        loop {
            if let Ok(link) = Link::connect(&self.dir).await {
                return Reach::Linked(link);
            }
            match try_lock(&self.dir) {
                // Nobody holds it: there is no keeper.
                Ok(Some(_)) => return Reach::Ended,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Reach::Ended,
                Ok(None) | Err(_) if Instant::now() >= until => return Reach::Mute,
                Ok(None) | Err(_) => sleep(RETRY).await,
            }
        }
    }

    /// True if it could be asked.
    async fn ask(&mut self, ask: Ask) -> bool {
        match self.link.as_mut() {
            Some(link) => link.ask(ask).await.is_ok(),
            None => false,
        }
    }

    /// The keeper's next word; comes back only to say something.
    async fn hear(&mut self) -> Heard {
        if let Some(link) = self.link.as_mut() {
            return match link.next().await {
                Some(word) => Heard::Word(word),
                None => Heard::HungUp,
            };
        }
        match self.reach(Instant::now() + END_PATIENCE).await {
            Reach::Linked(link) => Heard::Back(link),
            Reach::Mute => Heard::Mute,
            Reach::Ended => Heard::HungUp,
        }
    }
}

enum Heard {
    Word(Say),
    HungUp,
    Back(Link),
    Mute,
    /// Nothing, for too long after it was told to stop.
    Late,
}

impl Runner {
    pub(super) fn new(exec: Arc<Exec>, alloc: AllocId) -> Self {
        Self { exec, alloc, live: None, last: None, forget: false }
    }

    /// Takes over what an earlier agent started.
    pub(super) async fn adopt(exec: Arc<Exec>, found: Found) -> Taken {
        let Found { alloc, attempt, .. } = found;
        let dir = exec.place.attempt(alloc, attempt);
        let mut runner = Self::new(exec, alloc);
        let live = Live { attempt, dir, link: None, stop_by: None, unanswered: false };
        let exit = match live.reach(Instant::now() + START_PATIENCE).await {
            Reach::Linked(link) => {
                runner.live = Some(Live { link: Some(link), ..live });
                None
            }
            Reach::Mute => {
                runner.live = Some(live);
                None
            }
            Reach::Ended => {
                let exit = runner.conclude(&live).await;
                runner.last = Some((attempt, exit));
                Some(exit)
            }
        };
        Taken { runner, alloc, attempt, exit }
    }

    /// Lives until its allocation is forgotten, or the drivers are dropped (what runs goes on). `retire` takes the task
    /// off the books, unless another order is waiting already.
    pub(super) async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        retire: impl Fn(AllocId, &mpsc::UnboundedReceiver<Order>) -> bool + Send,
    ) {
        loop {
            if self.forget && self.live.is_none() {
                self.remove().await;
                if retire(self.alloc, &orders) {
                    return;
                }
                (self.forget, self.last) = (false, None);
            }
            let heard = match &mut self.live {
                None => match orders.recv().await {
                    Some(order) => Err(order),
                    None => return,
                },
                Some(live) => {
                    let late = live.stop_by.unwrap_or_else(|| Instant::now() + YEAR);
                    tokio::select! {
                        biased;
                        heard = live.hear() => Ok(heard),
                        order = orders.recv() => match order {
                            Some(order) => Err(order),
                            None => return,
                        },
                        () = tokio::time::sleep_until(late) => Ok(Heard::Late),
                    }
                }
            };
            match heard {
                Ok(heard) => self.on_heard(heard).await,
                Err(order) => self.obey(order).await,
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Start(spec) => self.start(*spec).await,
            Order::Stop(policy) => {
                let grace = policy.grace;
                let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
                let signal = signal::number(&policy.signal).unwrap_or(libc::SIGTERM);
                self.stop(Ask::Stop { signal, grace_ms }, grace).await;
            }
            Order::Extend(until) => {
                // A keeper that cannot be reached kills at the end that it knows.
                if let Some(live) = self.live.as_mut() {
                    let _reached = live.ask(Ask::Extend { until: until.as_nanos() }).await;
                }
            }
            Order::Forget => {
                self.forget = true;
                if self.live.is_some() {
                    self.stop(Ask::Kill, Duration::ZERO).await;
                }
            }
        }
    }

    async fn start(&mut self, spec: StartSpec) {
        let (alloc, attempt) = (self.alloc, spec.attempt);
        self.forget = false;
        let event = match (&self.live, self.last) {
            (Some(live), _) if live.attempt == attempt => DriverEvent::Started { alloc, attempt, instance: None },
            (Some(live), _) => {
                let text = format!("run {} of this allocation has not ended yet", live.attempt);
                DriverEvent::StartFailed { alloc, attempt, failure: StartFailure::Other(text) }
            }
            (None, Some((last, exit))) if last == attempt => DriverEvent::Exited { alloc, attempt, exit },
            (None, _) => match self.launch(spec).await {
                Ok(live) => {
                    self.live = Some(live);
                    DriverEvent::Started { alloc, attempt, instance: None }
                }
                Err(failure) => DriverEvent::StartFailed { alloc, attempt, failure },
            },
        };
        self.exec.tell(event).await;
    }

    async fn launch(&self, spec: StartSpec) -> Result<Live, StartFailure> {
        let _turn = self.exec.starting.acquire().await;
        let (exec, attempt, is_leased) = (Arc::clone(&self.exec), spec.attempt, spec.lease.is_some());
        let (dir, lock) = blocking(move || Ok(exec.prepare(&spec)))
            .await
            .map_err(|error| StartFailure::Other(error.to_string()))
            .flatten()?;
        let keeper = self.exec.keeper.display();
        let mut live = Live { attempt, dir, link: None, stop_by: None, unanswered: false };
        let failure = match self.exec.spawn_keeper(&live.dir, lock) {
            Err(error) => format!("its keeper {keeper} could not be started: {error}"),
            Ok(mut link) => match timeout_at(Instant::now() + START_PATIENCE, link.next()).await {
                // The program may have been replaced by one of an older release.
                Ok(Some(Say::Status(status))) if is_leased && status.lease.is_none() => {
                    let _asked = link.ask(Ask::Kill).await;
                    let _ended = released(&live.dir, END_PATIENCE).await;
                    format!(
                        "its keeper {keeper} knows no leases, so it must not run under partition: majority: start this agent \
                         again, so that both are of one release"
                    )
                }
                Ok(Some(Say::Status(_))) => {
                    live.link = Some(link);
                    return Ok(live);
                }
                Ok(Some(Say::Failed(text))) => return Err(StartFailure::Other(text)),
                Ok(Some(Say::Exited(exit))) => format!("it ended before it was said to run: {exit:?}"),
                Ok(None) => format!("its keeper {keeper} ended at once: see {}/keeper.err", live.dir.display()),
                Err(_) => {
                    signal_keeper(&live.dir, Signal::SIGKILL);
                    format!("its keeper {keeper} did not answer within {START_PATIENCE:?}")
                }
            },
        };
        // Nobody shall find half a start later.
        let _lost = self.conclude(&live).await;
        Err(StartFailure::Other(failure))
    }

    /// Tells the keeper; answers at once if nothing runs.
    async fn stop(&mut self, ask: Ask, grace: Duration) {
        let alloc = self.alloc;
        let Some(live) = self.live.as_mut() else {
            let (attempt, exit) = self.last.unwrap_or((0, Exit::Lost));
            if !self.forget {
                self.exec.tell(DriverEvent::Exited { alloc, attempt, exit }).await;
            }
            return;
        };
        let by = Instant::now() + grace.min(YEAR) + STOP_MARGIN;
        live.stop_by = Some(live.stop_by.map_or(by, |before| before.min(by)));
        let asked = live.ask(ask).await;
        if !asked {
            // The keeper takes a signal as an order to stop, too.
            signal_keeper(&live.dir, Signal::SIGTERM);
        }
    }

    async fn on_heard(&mut self, heard: Heard) {
        let Some(live) = self.live.as_mut() else { return };
        match heard {
            Heard::Word(Say::Status(_)) => live.unanswered = false,
            Heard::Word(Say::Exited(exit)) => self.ended(exit).await,
            Heard::Word(Say::Failed(_)) => self.ended(Exit::Lost).await,
            Heard::Back(link) => live.link = Some(link),
            Heard::Mute => tracing::warn!(alloc = %self.alloc, "its keeper lives and does not answer"),
            Heard::Late => self.on_late().await,
            Heard::HungUp => {
                live.link = None;
                if released(&live.dir, END_PATIENCE).await {
                    let Some(live) = self.live.take() else { return };
                    let exit = self.conclude(&live).await;
                    self.live = Some(live);
                    self.ended(exit).await;
                }
            }
        }
    }

    async fn ended(&mut self, exit: Exit) {
        let Some(live) = self.live.take() else { return };
        self.last = Some((live.attempt, exit));
        self.exec.tell(DriverEvent::Exited { alloc: self.alloc, attempt: live.attempt, exit }).await;
    }

    /// The grace is over and it has not ended: kill. A keeper that does not even answer that is killed itself, upon
    /// which what it kept is ended from here.
    async fn on_late(&mut self) {
        let Some(live) = self.live.as_mut() else { return };
        live.stop_by = Some(Instant::now() + END_PATIENCE);
        if live.unanswered {
            tracing::warn!(alloc = %self.alloc, "its keeper does not answer: killed");
            signal_keeper(&live.dir, Signal::SIGKILL);
            return;
        }
        live.unanswered = true;
        if !live.ask(Ask::Kill).await {
            signal_keeper(&live.dir, Signal::SIGTERM);
        }
    }

    /// How an attempt without a keeper ended; ends what it left running.
    async fn conclude(&self, live: &Live) -> Exit {
        let (dir, alloc) = (live.dir.clone(), self.alloc);
        let concluded = blocking(move || {
            if let Some(Ended { exit, .. }) = record::read(&dir, EXIT)? {
                return Ok(exit);
            }
            let groups = record::read::<KeepSpec>(&dir, SPEC)?.map(|spec| spec.cgroups).unwrap_or_default();
            let started: Option<Started> = record::read(&dir, STARTED)?;
            let main = started.map(|started| started.workload);
            while !end_orphans(&alloc.to_string(), main.as_ref(), &groups, END_PATIENCE) {
                tracing::error!(%alloc, "its keeper is gone and its processes do not end though they were killed: still trying");
            }
            cgroup::remove(&groups);
            record::write(&dir, EXIT, &Ended { version: 1, exit: Exit::Lost, failed: None })?;
            Ok(Exit::Lost)
        });
        concluded.await.unwrap_or_else(|error| {
            tracing::error!(%alloc, %error, "its records cannot be read or written");
            Exit::Lost
        })
    }

    async fn remove(&self) {
        let (place, alloc) = (self.exec.place.clone(), self.alloc);
        if let Err(error) = blocking(move || place.forget(alloc)).await {
            tracing::warn!(alloc = %self.alloc, %error, "its files could not be removed");
        }
    }
}

/// Waits until a keeper has let go of its lock: true if it did.
async fn released(dir: &Path, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    loop {
        match try_lock(dir) {
            Ok(Some(_)) => return true,
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "a keeper's lock cannot be read");
                return false;
            }
            Ok(None) if Instant::now() >= until => return false,
            Ok(None) => sleep(Duration::from_millis(2)).await,
        }
    }
}

fn signal_keeper(dir: &Path, signal: Signal) {
    if let Ok(Some(Started { keeper, .. })) = record::read(dir, STARTED)
        && keeper.is_alive()
    {
        // It leads a group of its own, in which it is alone.
        signal_group(keeper.pid, Some(signal));
    }
}

/// File work that waits for the disk goes to a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}
