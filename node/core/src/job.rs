//! Work that runs to completion: when an own slot has ended for good, what is said of it, and what that opens for others.
//!
//! A slot's end is a fact that its owner writes once and that outlives it: a node that dies takes nothing back that was done.
//! Until the fact is known, the claim's own record says the same. So a slot is run at least once, and after its end is
//! known not again; two nodes that could not hear each other may both run it, and then either end counts.
//!
//! Never: an end that nobody saw, a slot that begins out of its turn.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::face::{MemberState, NoticeLevel};
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::model::{
    AllocId, Allocation, Asker, Finish, Job, Mode, Phase, Prefer, ReplicaKey, Service, ServiceKey, ServiceName, Slot,
    StackName,
};
use dunlin_gossip::time::{Duration, Instant, Wall};
use dunlin_gossip::wire::{RecordId, codec};

use crate::allocation::state::Cue;
use crate::allocation::{Own, Verdict, earliest};
use crate::engine::Node;
use crate::face::{EventKind, Exit, Outputs};
use crate::request::Batch;
use crate::takeover::Judgement;
use crate::view::InForce;

/// Ends that one batch tells of, or takes away.
const SLICE: usize = 128;
/// An end that could not be written is written after this.
const AGAIN: Duration = Duration::from_secs(1);
/// Between an end and the next slot's turn, as long as it takes to spread, within these bounds: until others hold the end of
/// the claim as well, each has a plan of its own for that slot, and several would begin it.
const OPENING: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Ends that count no more are looked for after this, and taken away once they are as old: what makes them void may have come
/// to us before it came to others.
const SWEEP: Duration = Duration::from_secs(60);

/// What is to be done about jobs.
#[derive(Clone, Debug)]
pub(crate) struct Jobs {
    /// Own claims of whose end we have told.
    told: BTreeSet<AllocId>,
    /// Jobs of which a slot has ended, and when the next may begin for it.
    opening: BTreeMap<ServiceKey, Instant>,
    look_at: Option<Instant>,
    sweep_at: Option<Instant>,
}

impl Jobs {
    pub(crate) fn new(now: Instant) -> Self {
        Self { told: BTreeSet::new(), opening: BTreeMap::new(), look_at: None, sweep_at: Some(now + SWEEP) }
    }

    /// Something of ours may have ended.
    pub(crate) fn look(&mut self, now: Instant) {
        self.look_at = earliest(self.look_at, Some(now));
    }

    /// Ends may count no more.
    pub(crate) fn sweep(&mut self, now: Instant) {
        self.sweep_at = self.sweep_at.or(Some(now + SWEEP));
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        earliest(earliest(self.look_at, self.sweep_at), self.opening.values().min().copied())
    }
}

impl Node {
    /// What only jobs ask of an own allocation; none if the ordinary rules decide.
    pub(crate) fn judge_job(&self, record: &Allocation, force: &InForce) -> Option<Judgement> {
        force.service.mode.job()?;
        if let Slot::Run(due, _) = record.replica.slot {
            return self.judge_run(record, force, due);
        }
        if record.revision != force.revision || !self.view.is_of_this_run(record) {
            return Some(Judgement::Stop("its job has begun anew".to_string()));
        }
        if matches!(record.phase, Phase::Exited | Phase::Failed) {
            return Some(Judgement::Keep);
        }
        let finish = self.view.finish(&record.replica)?;
        Some(Judgement::Stop(format!("{:?} has finished it", finish.node)))
    }

    /// The same for a slot of a run. What an earlier deploy began goes on as it is.
    fn judge_run(&self, record: &Allocation, force: &InForce, due: u64) -> Option<Judgement> {
        let service = &record.replica.service;
        if matches!(record.phase, Phase::Exited | Phase::Failed) {
            let is_past = self.view.is_past(service, due) && !self.view.is_open_run(service, due);
            return Some(if is_past { Judgement::Stop("later runs have ended".to_string()) } else { Judgement::Keep });
        }
        if let Some(finish) = self.view.finish(&record.replica) {
            return Some(Judgement::Stop(format!("{:?} has finished it", finish.node)));
        }
        if self.view.is_replaced(service, due) {
            return Some(Judgement::Stop("a later run has come due".to_string()));
        }
        let goes_on = record.revision != force.revision && !self.view.is_drained(self.me);
        goes_on.then_some(Judgement::Keep)
    }

    /// What is wanted of a slot, if it is a job's and not to be run now: nothing.
    pub(crate) fn open_force(&self, replica: &ReplicaKey, force: InForce) -> Option<InForce> {
        self.view.opens(replica, &force).then_some(force)
    }

    /// A slot is finished, or its end is no longer held.
    pub(crate) fn on_finish(&mut self, replica: &ReplicaKey, now: Instant) {
        self.jobs.sweep(now);
        self.schedule.mark(replica.clone());
        let service = &replica.service;
        self.crons.look(service);
        let Some(force) = self.view.services().get(service).cloned() else { return };
        let Some(job) = force.service.mode.job() else { return };
        if job.parallelism > 0 {
            let pause = self.gossip.spread_time().clamp(OPENING.0, OPENING.1);
            self.jobs.opening.entry(service.clone()).or_insert(now + pause);
        }
        let Some(finish) = self.view.finish(replica) else { return };
        let (level, word) =
            if finish.succeeded { (NoticeLevel::Info, "finished") } else { (NoticeLevel::Warn, "failed for good") };
        let (node, text) = (finish.node, format!("{word}: {}", finish.detail));
        self.log.replica(level, EventKind::Allocation, node, replica, text);
        if matches!(replica.slot, Slot::Run(..)) {
            self.schedule.sweep(now);
            return;
        }
        let tally = self.view.tally(service);
        let all = force.service.mode.count().and_then(|count| usize::try_from(count).ok());
        if all == Some(tally.succeeded) {
            self.log.service(service, format!("complete: {} of {} finished", tally.succeeded, tally.succeeded));
        } else if tally.failed == 1 && !finish.succeeded {
            self.log.service(service, "failed: no further slot begins".to_string());
        }
        // What waits may have no turn any more.
        self.schedule.sweep(now);
    }

    /// The next slots of jobs, for those that have ended.
    fn open_slots(&mut self, now: Instant) {
        let due = self.jobs.opening.iter().filter(|(_, at)| **at <= now);
        let due: Vec<ServiceKey> = due.map(|(service, _)| service.clone()).collect();
        for service in due {
            self.jobs.opening.remove(&service);
            let Some(force) = self.view.services().get(&service) else { continue };
            let Some(job) = force.service.mode.job() else { continue };
            let runs = self.view.open_runs(&service).map(|slot| ReplicaKey { service: service.clone(), slot });
            runs.for_each(|replica| self.schedule.mark(replica));
            let last = self.view.last_open(&service, force);
            let opened = (last.saturating_sub(job.parallelism) + 1..=last).map(Slot::Number);
            let opened = opened.map(|slot| ReplicaKey { service: service.clone(), slot });
            opened.for_each(|replica| self.schedule.mark(replica));
        }
    }

    /// The moment at which an own slot of a job has had its time; counted from its first start here.
    pub(crate) fn job_overdue(&mut self, id: AllocId, now: Instant, out: &mut Outputs) {
        let Some(own) = self.owned.map.get_mut(&id) else { return };
        if own.overdue || own.killing || own.expires.is_none_or(|at| at > now) {
            return;
        }
        match own.record.phase {
            Phase::Running | Phase::Healthy | Phase::Unhealthy => {
                (own.overdue, own.killing) = (true, true);
                self.send_stop(id, now, out);
            }
            Phase::Pending if own.attempt > 0 => {
                own.overdue = true;
                own.record.detail = format!("{}{}", own.late_text(), own.record.detail);
                own.step(Cue::EndBadly);
                self.touched(id, now, true);
                self.jobs.look(now);
            }
            Phase::Pending | Phase::Starting | Phase::Stopping | Phase::Exited | Phase::Failed => {}
        }
    }

    /// Tells of own slots that have ended, and takes away what counts no more.
    pub(crate) fn tend_jobs(&mut self, now: Instant, wall: Wall) {
        if self.failed || self.leaving.is_some() || !self.start.is_adopted() {
            return;
        }
        self.open_slots(now);
        if self.jobs.look_at.is_some_and(|at| at <= now) {
            self.jobs.look_at = None;
            self.tell_ends(now, wall);
        }
        if self.jobs.sweep_at.is_some_and(|at| at <= now) {
            self.jobs.sweep_at = None;
            self.drop_void_ends(now, wall);
        }
    }

    fn tell_ends(&mut self, now: Instant, wall: Wall) {
        let owned = &self.owned.map;
        self.jobs.told.retain(|id| owned.contains_key(id));
        let ended = owned.iter().filter(|(id, own)| {
            matches!(own.record.phase, Phase::Exited | Phase::Failed) && !self.jobs.told.contains(*id)
        });
        let due: Vec<(AllocId, Finish)> =
            ended.filter_map(|(id, own)| Some((*id, self.end_of(own, wall)?))).take(SLICE).collect();
        if due.is_empty() || planted(Bug::EndUntold) {
            return;
        }
        let batch = due.iter().map(|(_, finish)| (RecordId::finish(&finish.replica), Some(codec::encode(finish))));
        let written = self.gossip.write(now, wall, &Asker::default(), batch.collect(), &mut self.gouts);
        if written.is_ok() {
            let is_more = due.len() == SLICE;
            self.jobs.told.extend(due.into_iter().map(|(id, _)| id));
            if is_more {
                self.jobs.look(now);
            }
        } else {
            self.jobs.look(now + AGAIN);
        }
    }

    /// What is to be told of an own claim that has ended; none if it is known, or means nothing now.
    fn end_of(&self, own: &Own, wall: Wall) -> Option<Finish> {
        let record = &own.record;
        let force = self.view.wanted(&record.replica)?;
        force.service.mode.job()?;
        let succeeded = record.phase == Phase::Exited;
        let is_known = self.view.finish(&record.replica).is_some_and(|known| known.succeeded || !succeeded);
        let is_other = record.revision != force.revision || !self.view.is_of_this_run(record);
        if is_known || (is_other && !matches!(record.replica.slot, Slot::Run(..))) {
            return None;
        }
        Some(Finish {
            replica: record.replica.clone(),
            revision: record.revision,
            epoch: record.epoch,
            succeeded,
            node: self.me,
            code: own.code,
            detail: record.detail.clone(),
            began: record.since,
            at: wall,
        })
    }

    /// Takes away ends that count no more, if that is ours to do: of the members that are alive the first does it.
    fn drop_void_ends(&mut self, now: Instant, wall: Wall) {
        let newest = Hlc::from_wall(Wall(wall.0.saturating_sub(SWEEP.as_secs() * 1_000)));
        let is_gone = |slot: Slot| matches!(slot, Slot::Node(node) if self.gossip.roster().is_removed(node));
        let void: Vec<(RecordId, Hlc)> = self.view.void_ends(is_gone, newest).take(SLICE).collect();
        if void.is_empty() {
            return;
        }
        self.jobs.sweep(now);
        let is_before = |(node, state): (_, MemberState)| state == MemberState::Alive && node < self.me;
        if self.gossip.members().any(is_before) {
            return;
        }
        let old: Batch = void.into_iter().filter(|(_, hlc)| *hlc < newest).map(|(id, _)| (id, None)).collect();
        if !old.is_empty() {
            // A node that may not write now does it with the next sweep.
            let _refused = self.gossip.write(now, wall, &Asker::default(), old, &mut self.gouts);
        }
    }

    /// The services of a deploy, with what makes their jobs begin anew or go on. A job that failed is tried again by the same
    /// deploy; what of it has finished stays so.
    pub(crate) fn begin_jobs(
        &self,
        stack: &StackName,
        services: &BTreeMap<ServiceName, Service>,
        stamp: Hlc,
    ) -> BTreeMap<ServiceName, Service> {
        let mut services = services.clone();
        for (name, service) in &mut services {
            let key = ServiceKey { stack: stack.clone(), service: name.clone() };
            let revision = self.revision_of_bytes(&key, &codec::encode(service));
            let cron = service.mode.cron().copied();
            let Some(job) = service.mode.job_mut() else { continue };
            let asked = self.view.asked(&key).filter(|(asked, _)| *asked == revision);
            // Of a run as it was to be before nothing is begun any more.
            let is_same = |held: &&Job| held.completions == job.completions || cron.is_none();
            let keeps_time = |mode: &Mode| match (mode.cron(), &cron) {
                (Some(held), Some(cron)) => held.keeps_time_with(cron),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            let held = asked.filter(|(_, held)| keeps_time(&held.mode)).and_then(|(_, held)| held.mode.job());
            let held = held.filter(is_same);
            job.since = held.map_or(stamp, |held| held.since);
            job.again =
                held.filter(|_| cron.is_some() || self.view.tally(&key).failed == 0).map_or(stamp, |held| held.again);
        }
        services
    }
}

/// Which of two claims stays: of two that work at the same the one that began first has less left to do.
pub(crate) fn preferred(service: &Service) -> Prefer {
    match service.spec.prefer {
        Prefer::Ready if service.mode.job().is_some() => Prefer::Old,
        stated => stated,
    }
}

impl Own {
    fn job(&self) -> Option<&Job> {
        self.service.as_ref()?.mode.job()
    }

    /// What a job makes of the end of a run: it is done, is tried again, or has failed for good.
    pub(crate) fn job_verdict(&mut self, verdict: Verdict, exit: Exit) -> Verdict {
        let Some(job) = self.job() else { return verdict };
        let limit = job.backoff_limit;
        match exit {
            Exit::Code(code) => self.code = Some(code),
            // As shells tell it.
            Exit::Signal(signal) => self.code = Some(signal.saturating_add(128)),
            Exit::Lost => {}
        }
        match verdict {
            _ if exit.is_success() => Verdict::Final(true),
            Verdict::Again(_) if self.overdue || self.record.restarts >= limit => Verdict::Final(false),
            // It is the job's limit that counts, and no other node is a better one.
            Verdict::Exhausted => Verdict::Final(false),
            Verdict::Again(_) | Verdict::Final(_) => verdict,
        }
    }

    /// Stands before how a run ended whose time was over.
    pub(crate) fn late_text(&self) -> String {
        let limit = self.job().and_then(|job| job.timeout).filter(|_| self.overdue);
        limit.map_or_else(String::new, |limit| format!("not done within {} s: ", limit.as_secs()))
    }

    /// It runs, for the first time as far as we know: its time counts from here, or, after another agent's start, from when
    /// it was claimed.
    pub(crate) fn time_job(&mut self, now: Instant, spent: Duration) {
        if let Some(timeout) = self.job().and_then(|job| job.timeout) {
            self.expires.get_or_insert_with(|| now + timeout.saturating_sub(spent));
        }
    }
}
