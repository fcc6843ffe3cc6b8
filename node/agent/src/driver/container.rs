//! One allocation of the docker driver: a task that starts, watches and stops its container.
//!
//! The engine is the memory: labels say whose a container is, its state says how it ended. The container of the last
//! attempt stays until the allocation is forgotten, that of the one before until the next start, for their output.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dunlin_core::face::{DriverEvent, Exit, StartFailure, StartSpec};
use dunlin_gossip::model::{AllocId, StopPolicy, Workload};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::Order;
use super::docker::{Engine, Found, NotStarted, State};

/// Between two kills of a container that does not end.
const KILL_AGAIN: Duration = Duration::from_secs(5);
/// Before a signal that the engine did not take is sent again.
const SIGNAL_AGAIN: Duration = Duration::from_millis(500);
/// As good as for ever.
const YEAR: Duration = Duration::from_secs(31_536_000);
/// How often a follower of output looks for the next attempt.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug)]
struct Live {
    attempt: u32,
    id: String,
    stop: Option<Stopping>,
}

/// It was told to stop.
#[derive(Debug)]
struct Stopping {
    /// The signal that the engine has not taken yet, and when to try again.
    unsent: Option<(String, Instant)>,
    /// SIGKILL then.
    kill_at: Instant,
}

/// The task.
#[derive(Debug)]
pub(super) struct Container {
    engine: Arc<Engine>,
    events: mpsc::Sender<DriverEvent>,
    alloc: AllocId,
    live: Option<Live>,
    last: Option<(u32, Exit)>,
    forget: bool,
}

enum Wake {
    Ended(Exit),
    Order(Order),
    Late,
}

/// What came of fetching an image.
enum Fetched {
    Done,
    Failed(StartFailure),
    /// It shall not run any more.
    CalledOff,
}

type Orders = mpsc::UnboundedReceiver<Order>;

impl Live {
    /// When something is due, if nothing else happens.
    fn due(&self) -> Instant {
        match &self.stop {
            None => Instant::now() + YEAR,
            Some(Stopping { unsent: Some((_, again)), kill_at }) => (*again).min(*kill_at),
            Some(Stopping { unsent: None, kill_at }) => *kill_at,
        }
    }
}

impl Container {
    pub(super) const fn new(engine: Arc<Engine>, events: mpsc::Sender<DriverEvent>, alloc: AllocId) -> Self {
        Self { engine, events, alloc, live: None, last: None, forget: false }
    }

    /// Takes over a container that an earlier agent started; says how it ended, if it did.
    pub(super) async fn adopt(&mut self, found: Found) -> Option<Exit> {
        let exit = match found.state {
            State::Running => None,
            State::Made | State::Ended => self.engine.ended(&found.id).await,
        };
        match exit {
            Some(exit) => self.last = Some((found.attempt, exit)),
            None => self.live = Some(Live { attempt: found.attempt, id: found.id, stop: None }),
        }
        exit
    }

    /// As an exec allocation's task does: until it is forgotten, or the drivers are dropped.
    pub(super) async fn run(mut self, mut orders: Orders, retire: impl Fn(AllocId, &Orders) -> bool + Send) {
        loop {
            if self.forget && self.live.is_none() {
                self.remove_all().await;
                if retire(self.alloc, &orders) {
                    return;
                }
                (self.forget, self.last) = (false, None);
            }
            let wake = match &self.live {
                None => match orders.recv().await {
                    Some(order) => Wake::Order(order),
                    None => return,
                },
                Some(live) => {
                    tokio::select! {
                        biased;
                        exit = self.engine.end(&live.id) => Wake::Ended(exit),
                        order = orders.recv() => match order {
                            Some(order) => Wake::Order(order),
                            None => return,
                        },
                        () = sleep_until(live.due()) => Wake::Late,
                    }
                }
            };
            match wake {
                Wake::Ended(exit) => self.ended(exit).await,
                Wake::Order(Order::Start(spec)) => self.start(*spec, &mut orders).await,
                Wake::Order(Order::Stop(policy)) => self.stop(&policy).await,
                // Nothing runs here under a lease.
                Wake::Order(Order::Extend(_)) => {}
                Wake::Order(Order::Forget) => self.forget().await,
                Wake::Late => self.late().await,
            }
        }
    }

    async fn tell(&self, event: DriverEvent) {
        // Without a listener the agent is ending; the next one asks the engine.
        let _ending = self.events.send(event).await;
    }

    async fn start(&mut self, spec: StartSpec, orders: &mut Orders) {
        let (alloc, attempt) = (self.alloc, spec.attempt);
        self.forget = false;
        let event = match (&self.live, self.last) {
            (Some(live), _) if live.attempt == attempt => DriverEvent::Started { alloc, attempt, instance: None },
            (Some(live), _) => {
                let text = format!("run {} of this allocation has not ended yet", live.attempt);
                DriverEvent::StartFailed { alloc, attempt, failure: StartFailure::Other(text) }
            }
            (None, Some((last, exit))) if last == attempt => DriverEvent::Exited { alloc, attempt, exit },
            (None, _) => match self.launch(&spec, orders).await {
                Ok(Some(id)) => {
                    self.live = Some(Live { attempt, id, stop: None });
                    DriverEvent::Started { alloc, attempt, instance: None }
                }
                Ok(None) => {
                    self.last = Some((attempt, Exit::Lost));
                    DriverEvent::Exited { alloc, attempt, exit: Exit::Lost }
                }
                Err(failure) => DriverEvent::StartFailed { alloc, attempt, failure },
            },
        };
        self.tell(event).await;
    }

    /// The container's id; none if the start was called off before there was one.
    async fn launch(&mut self, spec: &StartSpec, orders: &mut Orders) -> Result<Option<String>, StartFailure> {
        if spec.lease.is_some() {
            let text = "a container has no keeper that could kill it at the end of its lease".to_owned();
            return Err(StartFailure::Other(text));
        }
        if let Some(running) = self.clear(spec.attempt).await? {
            return Ok(Some(running));
        }
        match self.engine.start(spec).await {
            Ok(id) => return Ok(Some(id)),
            Err(NotStarted::Failed(failure)) => return Err(failure),
            Err(NotStarted::NoImage) => {}
        }
        let Workload::Docker(image) = &spec.workload else { return Err(StartFailure::NoDriver) };
        match self.fetch(&image.image, spec.attempt, orders).await {
            Fetched::Done => {}
            Fetched::Failed(failure) => return Err(failure),
            Fetched::CalledOff => return Ok(None),
        }
        match self.engine.start(spec).await {
            Ok(id) => Ok(Some(id)),
            Err(NotStarted::Failed(failure)) => Err(failure),
            Err(NotStarted::NoImage) => Err(StartFailure::Other(format!(
                "image {} was pulled and is not there: does it exist for this platform?",
                image.image
            ))),
        }
    }

    /// Fetches an image, for minutes if need be, without being deaf to a stop meanwhile.
    async fn fetch(&mut self, image: &str, attempt: u32, orders: &mut Orders) -> Fetched {
        let engine = Arc::clone(&self.engine);
        let mut pull = std::pin::pin!(engine.pull(image));
        loop {
            let order = tokio::select! {
                pulled = &mut pull => return pulled.map_or_else(Fetched::Failed, |()| Fetched::Done),
                order = orders.recv() => order,
            };
            match order {
                Some(Order::Start(again)) if again.attempt == attempt => {}
                Some(Order::Extend(_)) => {}
                Some(Order::Start(other)) => {
                    let failure = StartFailure::Other(format!("run {attempt} of this allocation has not ended yet"));
                    self.tell(DriverEvent::StartFailed { alloc: self.alloc, attempt: other.attempt, failure }).await;
                }
                Some(Order::Forget) => {
                    self.forget = true;
                    return Fetched::CalledOff;
                }
                Some(Order::Stop(_)) | None => return Fetched::CalledOff,
            }
        }
    }

    /// Makes way for an attempt: of this allocation nothing runs then, and only the newest container that ended stays.
    /// What may run here unknown to this task was not seen at the agent's start, since the engine was away: if it is
    /// this very attempt, it is the answer.
    async fn clear(&self, attempt: u32) -> Result<Option<String>, StartFailure> {
        let mut found = self.engine.list(Some(self.alloc)).await?;
        if let Some(newest) = found.pop_if(|newest| newest.attempt == attempt && newest.state == State::Running) {
            return Ok(Some(newest.id));
        }
        let _kept = found.pop_if(|newest| newest.attempt < attempt && newest.state == State::Ended);
        for old in found {
            if !self.engine.remove(&old.id).await {
                let text = format!("run {} of this allocation could not be removed", old.attempt);
                return Err(StartFailure::Other(text));
            }
        }
        Ok(None)
    }

    async fn stop(&mut self, policy: &StopPolicy) {
        let Some(live) = self.live.as_mut() else {
            let (attempt, exit) = self.last.unwrap_or((0, Exit::Lost));
            self.tell(DriverEvent::Exited { alloc: self.alloc, attempt, exit }).await;
            return;
        };
        let by = Instant::now() + policy.grace.min(YEAR);
        let kill_at = live.stop.as_ref().map_or(by, |before| before.kill_at.min(by));
        live.stop = Some(Stopping { unsent: Some((policy.signal.clone(), Instant::now())), kill_at });
        self.late().await;
    }

    /// A signal is due.
    async fn late(&mut self) {
        let Some(Live { id, stop: Some(stop), .. }) = self.live.as_mut() else { return };
        if Instant::now() >= stop.kill_at {
            *stop = Stopping { unsent: None, kill_at: Instant::now() + KILL_AGAIN };
            self.engine.signal(id, "SIGKILL").await;
        } else if let Some((signal, again)) = stop.unsent.as_mut() {
            if self.engine.signal(id, signal).await {
                stop.unsent = None;
            } else {
                *again = Instant::now() + SIGNAL_AGAIN;
            }
        }
    }

    async fn forget(&mut self) {
        self.forget = true;
        if let Some(live) = self.live.as_mut() {
            live.stop = Some(Stopping { unsent: None, kill_at: Instant::now() });
        }
        self.late().await;
    }

    async fn ended(&mut self, exit: Exit) {
        let Some(live) = self.live.take() else { return };
        self.last = Some((live.attempt, exit));
        self.tell(DriverEvent::Exited { alloc: self.alloc, attempt: live.attempt, exit }).await;
    }

    async fn remove_all(&self) {
        match self.engine.list(Some(self.alloc)).await {
            Ok(found) => {
                for old in found {
                    self.engine.remove(&old.id).await;
                }
            }
            Err(failure) => {
                tracing::warn!(alloc = %self.alloc, ?failure, "its containers stay until the engine answers")
            }
        }
    }
}

/// Sends the output of an allocation's containers, in the order of their attempts.
pub(super) async fn send(
    engine: Arc<Engine>,
    alloc: AllocId,
    follow: bool,
    tail: Option<usize>,
    to: mpsc::Sender<Bytes>,
) {
    let mut sent = 0;
    let mut tail = tail;
    loop {
        let mut found = match engine.list(Some(alloc)).await {
            Ok(found) => found,
            Err(failure) => {
                tracing::warn!(%alloc, ?failure, "its output cannot be read");
                return;
            }
        };
        let known = !found.is_empty();
        // What has not begun has said nothing, and its output would end at once.
        found.retain(|found| found.state != State::Made);
        let newest = found.last().map_or(0, |found| found.attempt);
        // The last lines are the last attempt's.
        found.retain(|found| found.attempt > sent && (tail.is_none() || found.attempt == newest));
        for container in found {
            let last = container.attempt == newest;
            let Some(output) = engine.output(&container.id, follow && last, tail.take()) else { return };
            if !pass_on(output, &to).await {
                return;
            }
            sent = container.attempt;
        }
        if !follow || !known {
            return;
        }
        tokio::select! {
            () = to.closed() => return,
            () = sleep(LOOK) => {}
        }
    }
}

/// True once all is sent, false if nobody listens any more.
async fn pass_on(output: impl Stream<Item = Bytes>, to: &mpsc::Sender<Bytes>) -> bool {
    let mut output = std::pin::pin!(output);
    loop {
        tokio::select! {
            piece = output.next() => match piece {
                Some(piece) => {
                    if to.send(piece).await.is_err() {
                        return false;
                    }
                }
                None => return true,
            },
            () = to.closed() => return false,
        }
    }
}
