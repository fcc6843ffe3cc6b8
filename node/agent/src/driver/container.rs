//! One allocation of the docker driver: a task that starts, watches and stops its container.
//!
//! The engine is the memory: labels say whose a container is, its state says how it ended. The container of the last
//! attempt stays until the allocation is forgotten, that of the one before until the next start, for their output.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dunlin_core::face::{DriverEvent, Exit, StartFailure, StartSpec};
use dunlin_gossip::model::{AllocId, StopPolicy};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::Order;
use super::docker::{Engine, Found};

/// Between two kills of a container that does not end.
const KILL_AGAIN: Duration = Duration::from_secs(5);
/// As good as for ever.
const YEAR: Duration = Duration::from_secs(31_536_000);
/// How often a follower of output looks for the next attempt.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug)]
struct Live {
    attempt: u32,
    id: String,
    /// SIGKILL then, once it was told to stop.
    kill_at: Option<Instant>,
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

impl Container {
    pub(super) const fn new(engine: Arc<Engine>, events: mpsc::Sender<DriverEvent>, alloc: AllocId) -> Self {
        Self { engine, events, alloc, live: None, last: None, forget: false }
    }

    /// Takes over a container that an earlier agent started; says how it ended, if it did.
    pub(super) async fn adopt(&mut self, found: Found) -> Option<Exit> {
        let exit = self.engine.ended(&found.id).await;
        match exit {
            Some(exit) => self.last = Some((found.attempt, exit)),
            None => self.live = Some(Live { attempt: found.attempt, id: found.id, kill_at: None }),
        }
        exit
    }

    /// As an exec allocation's task does: until it is forgotten, or the drivers are dropped.
    pub(super) async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        retire: impl Fn(AllocId, &mpsc::UnboundedReceiver<Order>) -> bool + Send,
    ) {
        loop {
            if self.forget && self.live.is_none() {
                self.remove(0).await;
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
                    let late = live.kill_at.unwrap_or_else(|| Instant::now() + YEAR);
                    tokio::select! {
                        biased;
                        exit = self.engine.end(&live.id) => Wake::Ended(exit),
                        order = orders.recv() => match order {
                            Some(order) => Wake::Order(order),
                            None => return,
                        },
                        () = sleep_until(late) => Wake::Late,
                    }
                }
            };
            match wake {
                Wake::Ended(exit) => self.ended(exit).await,
                Wake::Order(Order::Start(spec)) => self.start(*spec).await,
                Wake::Order(Order::Stop(policy)) => self.stop(&policy).await,
                Wake::Order(Order::Forget) => self.forget().await,
                Wake::Late => self.kill().await,
            }
        }
    }

    async fn tell(&self, event: DriverEvent) {
        // Without a listener the agent is ending; the next one asks the engine.
        let _ending = self.events.send(event).await;
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
            (None, _) => {
                self.remove(1).await;
                match self.engine.start(&spec).await {
                    Ok(id) => {
                        self.live = Some(Live { attempt, id, kill_at: None });
                        DriverEvent::Started { alloc, attempt, instance: None }
                    }
                    Err(failure) => DriverEvent::StartFailed { alloc, attempt, failure },
                }
            }
        };
        self.tell(event).await;
    }

    async fn stop(&mut self, policy: &StopPolicy) {
        let Some(live) = self.live.as_mut() else {
            let (attempt, exit) = self.last.unwrap_or((0, Exit::Lost));
            self.tell(DriverEvent::Exited { alloc: self.alloc, attempt, exit }).await;
            return;
        };
        let by = Instant::now() + policy.grace.min(YEAR);
        live.kill_at = Some(live.kill_at.map_or(by, |before| before.min(by)));
        self.engine.signal(&live.id, &policy.signal).await;
    }

    async fn kill(&mut self) {
        let Some(live) = self.live.as_mut() else { return };
        live.kill_at = Some(Instant::now() + KILL_AGAIN);
        self.engine.signal(&live.id, "SIGKILL").await;
    }

    async fn forget(&mut self) {
        self.forget = true;
        self.kill().await;
    }

    async fn ended(&mut self, exit: Exit) {
        let Some(live) = self.live.take() else { return };
        self.last = Some((live.attempt, exit));
        self.tell(DriverEvent::Exited { alloc: self.alloc, attempt: live.attempt, exit }).await;
    }

    /// Removes the allocation's containers but the newest so many.
    async fn remove(&self, keep: usize) {
        let found = self.engine.list(Some(self.alloc)).await.unwrap_or_default();
        for old in found.iter().rev().skip(keep) {
            self.engine.remove(&old.id).await;
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
        let mut found = engine.list(Some(alloc)).await.unwrap_or_default();
        let Some(newest) = found.last().map(|found| found.attempt) else { return };
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
        if !follow {
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
