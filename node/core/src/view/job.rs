//! What is known of work that runs to completion: which slots are finished, and which may begin.
//!
//! Both are functions of facts that only grow: a slot is finished once anybody said so, and slots go in their order, so many
//! at a time. A node that knows less is more careful than the others, never less.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::model::{Allocation, Finish, Job, Mode, Phase, ReplicaKey, RevisionId, ServiceKey, Slot};
use dunlin_gossip::state::State;
use dunlin_gossip::time::Wall;
use dunlin_gossip::wire::{Record, RecordId};

use super::apply::Change;
use super::cron::Ended;
use super::{InForce, View};

/// Of all services.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledgers(BTreeMap<ServiceKey, Ledger>);

/// Of one service: the ends that are held, and what they come to for what is in force.
#[derive(Clone, Debug, Default)]
struct Ledger {
    /// With the stamp of the record.
    ends: BTreeMap<Slot, (Hlc, Finish)>,
    /// What of them counts: of which revision, from which claims on.
    counts: Option<(RevisionId, Mode)>,
    /// All slots up to this number are finished.
    front: u32,
    succeeded: usize,
    failed: usize,
}

impl Ledger {
    fn is_valid(&self, finish: &Finish) -> bool {
        self.counts.is_some_and(|(revision, mode)| match mode.job() {
            // A run is one, whatever was deployed since.
            Some(_) if mode.cron().is_some() => matches!(finish.replica.slot, Slot::Run(..)),
            Some(job) => finish.revision == revision && job.counts(finish.epoch, finish.succeeded),
            None => false,
        })
    }

    fn valid(&self, slot: Slot) -> Option<&Finish> {
        self.ends.get(&slot).map(|(_, finish)| finish).filter(|finish| self.is_valid(finish))
    }

    fn count(&mut self, counts: Option<(RevisionId, Mode)>) {
        self.counts = counts;
        let ended = |succeeded| {
            let valid = self.ends.values().filter(|(_, finish)| self.is_valid(finish));
            valid.filter(|(_, finish)| finish.succeeded == succeeded).count()
        };
        (self.succeeded, self.failed, self.front) = (ended(true), ended(false), 0);
        self.advance();
    }

    fn advance(&mut self) {
        while self.valid(Slot::Number(self.front + 1)).is_some() {
            self.front += 1;
        }
    }

    fn set(&mut self, slot: Slot, end: Option<(Hlc, Finish)>) {
        let is_first = !self.ends.contains_key(&slot);
        match end {
            Some(end) if is_first && self.is_valid(&end.1) => {
                let sum = if end.1.succeeded { &mut self.succeeded } else { &mut self.failed };
                *sum += 1;
                self.ends.insert(slot, end);
                self.advance();
            }
            Some(end) => {
                self.ends.insert(slot, end);
                self.count(self.counts);
            }
            None => {
                self.ends.remove(&slot);
                self.count(self.counts);
            }
        }
    }

    /// True if a slot of a run may be under way: so many as may be at a time of those below are not finished, and none failed.
    fn opens_in_run(&self, due: u64, slot: u32, job: &Job) -> bool {
        let below = self.ends.range(Slot::Run(due, 0)..=Slot::Run(due, u32::MAX));
        let has_failed = below.clone().any(|(_, (_, finish))| !finish.succeeded);
        let done = below.filter(|(other, _)| **other < Slot::Run(due, slot)).count();
        let waiting = (slot - 1).saturating_sub(u32::try_from(done).unwrap_or(u32::MAX));
        !has_failed && (job.parallelism == 0 || waiting < job.parallelism)
    }

    /// The last slot that may be under way: so many as may be at a time are not finished, and all below; none once one failed.
    fn last_open(&self, job: &Job) -> u32 {
        if self.failed > 0 {
            return 0;
        }
        if job.parallelism == 0 || planted(Bug::JobAllAtOnce) {
            return job.completions;
        }
        let (mut last, mut places) = (self.front, job.parallelism);
        while last < job.completions && places > 0 {
            last += 1;
            places -= u32::from(self.valid(Slot::Number(last)).is_none());
        }
        last
    }
}

fn counts(force: &InForce) -> Option<(RevisionId, Mode)> {
    force.service.mode.job().map(|_| (force.revision, force.service.mode))
}

impl Ledgers {
    /// The runs of a service that are over, the newest first: each slot is finished, or one has failed for good.
    pub(super) fn ended(&self, service: &ServiceKey, completions: u32) -> Vec<Ended> {
        let Some(ledger) = self.0.get(service) else { return Vec::new() };
        let mut runs: BTreeMap<u64, (u32, bool, Wall, Hlc)> = BTreeMap::new();
        for (slot, (hlc, finish)) in &ledger.ends {
            let Slot::Run(due, _) = slot else { continue };
            let (done, failed, at, told) = runs.entry(*due).or_default();
            *done += 1;
            *failed |= !finish.succeeded;
            *at = (*at).max(finish.at);
            *told = (*told).max(*hlc);
        }
        let over = runs.into_iter().filter(|(_, (done, failed, ..))| *failed || *done >= completions);
        over.rev().map(|(due, (.., at, told))| Ended { due, at, told }).collect()
    }
}

/// How far a job has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Slots that did what they should.
    pub succeeded: usize,
    /// Slots that failed for good.
    pub failed: usize,
}

impl View {
    /// How a slot of a job ended, if it is finished as it is wanted now.
    #[must_use]
    pub fn finish(&self, replica: &ReplicaKey) -> Option<&Finish> {
        self.ledgers.0.get(&replica.service)?.valid(replica.slot)
    }

    /// The slots of a job that are finished, in their order.
    pub fn finished(&self, service: &ServiceKey) -> impl Iterator<Item = &Finish> {
        let ledger = self.ledgers.0.get(service);
        ledger
            .into_iter()
            .flat_map(|ledger| ledger.ends.values().map(|(_, finish)| finish).filter(|f| ledger.is_valid(f)))
    }

    /// How far a job has come.
    #[must_use]
    pub fn tally(&self, service: &ServiceKey) -> Tally {
        let ledger = self.ledgers.0.get(service);
        ledger.map_or_else(Tally::default, |l| Tally { succeeded: l.succeeded, failed: l.failed })
    }

    /// True if a slot of a job is finished at a revision, which is the one in force.
    pub(super) fn is_finished(&self, replica: &ReplicaKey, revision: RevisionId) -> bool {
        let is_run = matches!(replica.slot, Slot::Run(..));
        self.finish(replica).is_some_and(|finish| is_run || finish.revision == revision)
    }

    /// True unless a claim on a slot of a job is an earlier deploy's.
    pub(crate) fn is_of_this_run(&self, alloc: &Allocation) -> bool {
        let force = self.services.get(&alloc.replica.service);
        let job = force.and_then(|force| force.service.mode.job());
        job.is_none_or(|job| job.counts(alloc.epoch, alloc.phase != Phase::Failed))
    }

    /// True if a slot of a job is to be run, now or still.
    #[must_use]
    pub fn opens(&self, replica: &ReplicaKey, force: &InForce) -> bool {
        match (force.service.mode, replica.slot) {
            (Mode::Job(_), Slot::Number(n)) => {
                self.finish(replica).is_none() && n <= self.last_open(&replica.service, force)
            }
            (Mode::GlobalJob(_), Slot::Node(_)) => self.finish(replica).is_none(),
            (Mode::Cron(cron), Slot::Run(due, n)) => {
                let ledger = self.ledgers.0.get(&replica.service);
                self.is_open_run(&replica.service, due)
                    && self.finish(replica).is_none()
                    && ledger.is_some_and(|ledger| n >= 1 && ledger.opens_in_run(due, n, &cron.job))
            }
            _ => force.service.mode.job().is_none(),
        }
    }

    /// The last of a job's numbered slots that may be under way.
    pub(crate) fn last_open(&self, service: &ServiceKey, force: &InForce) -> u32 {
        let Some(job) = force.service.mode.job() else { return 0 };
        match self.ledgers.0.get(service) {
            Some(ledger) => ledger.last_open(job),
            None => Ledger::default().last_open(job),
        }
    }

    /// The registers of ends that count no more, or of what is no job any more; with the stamps of their records. A run's do so
    /// only by later ones of which all know: who heard of the removal first would take it for one that is still to be done.
    pub(crate) fn void_ends(
        &self,
        is_gone: impl Fn(Slot) -> bool,
        known_before: Hlc,
    ) -> impl Iterator<Item = (RecordId, Hlc)> {
        let all = self.ledgers.0.iter().filter(|(service, _)| self.understands(&service.stack));
        let ends = all.flat_map(move |(service, ledger)| {
            let mode = self.services.get(service).map(|force| force.service.mode);
            let floor = self.floor_before(service, known_before);
            let is_past = move |slot: Slot| matches!(slot, Slot::Run(due, _) if due < floor);
            ledger.ends.iter().map(move |(slot, (hlc, finish))| {
                // Of a run that had more slots all ends are kept.
                let is_one = mode.is_some_and(|mode| mode.has(*slot) || (mode.cron().is_some() && !is_past(*slot)));
                let is_void = !ledger.is_valid(finish) || !is_one || is_past(*slot);
                (is_void, *slot, *hlc, finish)
            })
        });
        let void = ends.filter(move |(is_void, slot, ..)| *is_void || is_gone(*slot));
        void.map(|(_, _, hlc, finish)| (RecordId::finish(&finish.replica), hlc))
    }

    /// Other work is wanted of a service: what counts of the ends that are held?
    pub(super) fn recount(&mut self, service: &ServiceKey) {
        let counts = self.services.get(service).and_then(counts);
        self.set_cron(service, counts.and_then(|(_, mode)| mode.cron().copied()));
        match self.ledgers.0.get_mut(service) {
            Some(ledger) => ledger.count(counts),
            None if counts.is_some() => {
                self.ledgers.0.insert(service.clone(), Ledger { counts, ..Ledger::default() });
            }
            None => {}
        }
        self.drop_if_blank(service);
    }

    fn drop_if_blank(&mut self, service: &ServiceKey) {
        if self.ledgers.0.get(service).is_some_and(|l| l.ends.is_empty() && l.counts.is_none()) {
            self.ledgers.0.remove(service);
        }
    }

    pub(super) fn apply_finish(&mut self, state: &State, id: &RecordId) -> Change {
        let live = state.siblings(id).iter().filter(|record| record.payload().is_some());
        let read: Option<Vec<(Hlc, Finish)>> = live.map(|record| Some((record.hlc(), read(record, id)?))).collect();
        let Some(read) = read else { return Change::Unreadable };
        // Of two who finished it, one who did what he should is enough.
        let end = read.into_iter().max_by_key(|(hlc, finish)| (finish.succeeded, *hlc));
        let replica = match &end {
            Some((_, finish)) => finish.replica.clone(),
            None => {
                let text = core::str::from_utf8(&id.key).unwrap_or_default();
                let is_named = |replica: &ReplicaKey| alloc::format!("{replica}") == text;
                let held = self.ledgers.0.values().flat_map(|ledger| ledger.ends.values());
                match held.map(|(_, finish)| &finish.replica).find(|replica| is_named(replica)) {
                    Some(replica) => replica.clone(),
                    None => return Change::Nothing,
                }
            }
        };
        let counts = self.services.get(&replica.service).and_then(counts);
        let ledger =
            self.ledgers.0.entry(replica.service.clone()).or_insert_with(|| Ledger { counts, ..Ledger::default() });
        ledger.set(replica.slot, end);
        self.drop_if_blank(&replica.service);
        Change::Finish(replica)
    }
}

/// An end that says of which slot it is as its register does.
fn read(record: &Record, id: &RecordId) -> Option<Finish> {
    record.read_as::<Finish>().filter(|finish| RecordId::finish(&finish.replica) == *id)
}
