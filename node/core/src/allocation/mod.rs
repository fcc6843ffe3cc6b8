//! Own allocations: the claims of this node and what runs under them.
//!
//! An [`Own`] is the one authority on an allocation of this node; the world's view of it and its record follow. `drive` turns
//! driver events and timers into steps of the table in `state`.

pub(crate) mod drive;
mod env;
pub(crate) mod learn;
mod port;
mod probe;
mod publish;
mod restart;
pub(crate) mod state;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::face::PersistSeq;
use dunlin_gossip::model::{AllocId, Allocation, Phase, Refusal, ReplicaKey, Service, ServiceSpec, StopPolicy};
use dunlin_gossip::time::{Duration, Instant};
use dunlin_gossip::wire::RecordId;

use crate::place::Room;
use crate::share::Relieves;
use crate::view::held;

pub(crate) use learn::Learning;
pub use port::choose as choose_ports;
pub(crate) use probe::Health;
pub(crate) use restart::{Restarts, Verdict};

/// Changes that nobody waits for are published together after this time.
pub(crate) const LAZY: Duration = Duration::from_secs(1);

/// How far a claim is on its way to disk. Nothing is started before it is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Claimed {
    /// In the batch that is being put together.
    Staged,
    /// In this persist request.
    Asked(PersistSeq),
    /// On disk.
    Durable,
}

/// One allocation of this node.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) record: Allocation,
    /// What it runs; none if it was adopted and its revision is no longer known here.
    pub(crate) service: Option<Arc<Service>>,
    pub(crate) claimed: Claimed,
    /// The allocations that must be gone before this one starts: what it replaces, or what makes way for it.
    pub(crate) after: BTreeSet<AllocId>,
    /// Whose claim it is to relieve, and does not give way to until it was ready.
    pub(crate) relieves: Option<Relieves>,
    /// Runs begun so far.
    pub(crate) attempt: u32,
    pub(crate) start_at: Instant,
    pub(crate) started: Instant,
    /// True if it was ready in this run.
    pub(crate) well: bool,
    /// When it was ready first.
    pub(crate) ready_at: Option<Instant>,
    pub(crate) restarts: Restarts,
    pub(crate) health: Option<Health>,
    pub(crate) unhealthy_since: Option<Instant>,
    /// Being stopped only to be started again, as it was unhealthy for long.
    pub(crate) killing: bool,
    /// When to repeat an unanswered command.
    pub(crate) resend: Option<Instant>,
    pub(crate) resends: u32,
    pub(crate) publish: Option<Instant>,
    /// Of a job: when its time is over.
    pub(crate) expires: Option<Instant>,
    /// Its time was over before it was done.
    pub(crate) overdue: bool,
    /// The exit code of its last run, as far as it is known.
    pub(crate) code: Option<i32>,
    /// Dynamic ports that strangers were found to hold.
    pub(crate) avoid: BTreeSet<u16>,
    /// What was seen of its use.
    pub(crate) learning: Learning,
}

impl Own {
    pub(crate) fn new(record: Allocation, service: Option<Arc<Service>>, claimed: Claimed, now: Instant) -> Self {
        Self {
            record,
            service,
            claimed,
            after: BTreeSet::new(),
            relieves: None,
            attempt: 0,
            start_at: now,
            started: now,
            well: false,
            ready_at: None,
            restarts: Restarts::default(),
            health: None,
            unhealthy_since: None,
            killing: false,
            resend: None,
            resends: 0,
            publish: None,
            expires: None,
            overdue: false,
            code: None,
            avoid: BTreeSet::new(),
            learning: Learning::default(),
        }
    }

    pub(crate) fn spec(&self) -> Option<&ServiceSpec> {
        self.service.as_ref().map(|s| &s.spec)
    }

    pub(crate) fn stop_policy(&self) -> StopPolicy {
        self.spec().map_or_else(Self::default_stop, |spec| spec.stop.clone())
    }

    /// How to stop what is not known here.
    pub(crate) fn default_stop() -> StopPolicy {
        StopPolicy { signal: "SIGTERM".into(), grace: Duration::from_secs(10) }
    }

    /// True while the driver may have something of it running.
    pub(crate) fn may_run(&self) -> bool {
        match self.record.phase {
            Phase::Stopping if planted(Bug::StoppingNotCounted) => false,
            Phase::Starting | Phase::Running | Phase::Healthy | Phase::Unhealthy | Phase::Stopping => true,
            Phase::Pending | Phase::Exited | Phase::Failed => false,
        }
    }

    /// When it next needs attention without anything happening.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let health = self.health.as_ref().map(Health::due).filter(|_| !self.killing);
        let expires = self.expires.filter(|_| !self.overdue && !self.killing);
        let work = match self.record.phase {
            Phase::Pending => {
                let start = (self.claimed == Claimed::Durable && self.after.is_empty()).then_some(self.start_at);
                earliest(start, self.expires.filter(|_| !self.overdue && self.attempt > 0))
            }
            Phase::Starting | Phase::Stopping => self.resend,
            Phase::Running | Phase::Healthy => earliest(earliest(health, self.resend), expires),
            Phase::Unhealthy => {
                let restart = self.unhealthy_since.map(|at| at + self.patience()).filter(|_| !self.killing);
                earliest(earliest(health, restart), earliest(self.resend, expires))
            }
            Phase::Exited | Phase::Failed => None,
        };
        earliest(work, self.publish)
    }

    /// How long an unhealthy replica may stay so before it is started again.
    pub(crate) fn patience(&self) -> Duration {
        let interval = self.spec().and_then(|s| s.health.as_ref()).map_or(Duration::ZERO, |h| h.interval);
        let patience = interval.saturating_mul(3).max(Duration::from_secs(10));
        if planted(Bug::HungLeftAlone) { Duration::MAX } else { patience }
    }
}

pub(crate) fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

/// All allocations of this node, and what of them waits to be published.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owned {
    pub(crate) map: BTreeMap<AllocId, Own>,
    pub(crate) refusals: BTreeMap<ReplicaKey, Refusal>,
    /// One batch: later statements about one register replace earlier ones.
    pub(crate) staged: BTreeMap<RecordId, Option<Vec<u8>>>,
    pub(crate) tokens: u64,
    /// What runs here without a claim, and when its end is asked for again. Nobody knows what it takes: nothing is started
    /// beside it.
    pub(crate) strays: BTreeMap<AllocId, Instant>,
}

impl Owned {
    /// The sum of what may be running now.
    pub(crate) fn running(&self) -> Room {
        let running = self.map.values().filter(|own| own.may_run()).skip(usize::from(planted(Bug::RoomOffByOne)));
        running.fold(Room::default(), |sum, own| sum.plus(&held(&own.record)))
    }

    /// The allocations of a replica, in order.
    pub(crate) fn of_replica(&self, replica: &ReplicaKey) -> Vec<AllocId> {
        let is_of =
            |own: &Own| own.record.replica.slot == replica.slot && own.record.replica.service == replica.service;
        self.map.iter().filter(|(_, own)| is_of(own)).map(|(id, _)| *id).collect()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let strays = self.strays.values().copied();
        self.map.values().filter_map(Own::deadline).chain(strays).min()
    }
}
