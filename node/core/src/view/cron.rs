//! What is known of work that is done again and again: which runs may be worked on now.
//!
//! That is a function of the deploy, of a wall clock, of ends (which only grow), and of which runs are known to have been begun.
//! Every node comes to its own answer by its own clock, and nobody leads; who knows less of ends or beginnings has other runs
//! open for a while, hence at least once. Never again: a run whose end is known, and none that is older than the last
//! ones of which it is kept how they ended, since the ends of those are gone.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::model::{Cron, Finish, Missed, Overlap, ReplicaKey, ServiceKey, Slot};
use dunlin_gossip::time::Wall;

use super::View;
use crate::cron::Dates;

/// So many runs are under way at most, where they may overlap: what never ends must not pile up for ever.
pub(crate) const MOST_RUNS: usize = 64;

/// Of all services.
#[derive(Clone, Debug, Default)]
pub(super) struct Crons(BTreeMap<ServiceKey, Runs>);

/// Of one service.
#[derive(Clone, Debug)]
struct Runs {
    cron: Cron,
    /// None where this version knows no such time zone: nothing is ever due here then.
    dates: Option<Dates>,
    /// Runs that somebody has begun, as far as we know, and that are not over: they go on, however late it is.
    begun: BTreeSet<u64>,
    /// Runs that may be worked on, as last judged.
    open: BTreeSet<u64>,
    /// Runs that were due earlier than this have been replaced.
    replaced: u64,
    /// Runs that were due earlier than this are over, whatever is known of them.
    floor: u64,
    /// When the next one is due, as last judged.
    next: Option<u64>,
}

/// A run that is over.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Ended {
    /// When it was due (seconds since 1970).
    pub(super) due: u64,
    /// When the last of its slots ended.
    pub(super) at: Wall,
    /// When the last of them was told of.
    pub(super) told: Hlc,
}

/// What a look at the calendar came to.
pub(crate) struct Judged {
    /// The runs that may be worked on from now on, and those that may not any more.
    pub(crate) touched: BTreeSet<u64>,
    /// When to look again (seconds since 1970).
    pub(crate) again: Option<u64>,
}

impl Runs {
    /// Judges by a clock, by the runs that somebody claims, and by those that are over, the newest first.
    fn judge(&mut self, now: u64, claimed: impl Iterator<Item = u64>, ended: &[Ended]) -> Judged {
        let since = self.cron.job.since.wall().0 / 1_000;
        self.floor = ended.get(self.cron.kept() - 1).map_or(0, |ended| ended.due);
        let floor = if planted(Bug::CronFloorForgotten) { since } else { self.floor.max(since) };
        let is_over = |run: u64| ended.iter().any(|ended| ended.due == run);
        self.begun.extend(claimed);
        self.begun.retain(|run| *run > floor && !is_over(*run) && !planted(Bug::BegunForgotten));
        let (mut open, latest, next) = match &self.dates {
            None => (BTreeSet::new(), None, None),
            Some(dates) => (self.begun.clone(), dates.upto(now, floor), dates.after(now)),
        };
        let window = self.cron.window_s();
        let is_fresh = |run: u64| window.is_none_or(|window| now < run.saturating_add(window));
        let may_begin = |run: u64| is_fresh(run) && !is_over(run);
        match self.cron.overlap {
            Overlap::Allow => {
                let places = MOST_RUNS.saturating_sub(open.len());
                open.extend(
                    self.due(latest, floor).take_while(|run| is_fresh(*run)).filter(|run| !is_over(*run)).take(places),
                );
            }
            // What came due before the one before it had ended is skipped.
            Overlap::Forbid if open.is_empty() || planted(Bug::OverlapAllowed) => {
                let has_waited = |run: &u64| ended.iter().all(|ended| ended.due >= *run || ended.at.0 <= *run * 1_000);
                open.extend(latest.filter(|run| may_begin(*run) && has_waited(run)));
            }
            Overlap::Forbid => {}
            Overlap::Replace => {
                let newest = latest.max(open.last().copied());
                self.replaced = newest.unwrap_or(0);
                open.retain(|run| Some(*run) == newest);
                open.extend(latest.filter(|run| Some(*run) == newest && may_begin(*run)));
            }
        }
        let ends = open.iter().filter(|run| !self.begun.contains(run)).filter_map(|run| Some(run + window?));
        let again = ends.filter(|at| *at > now).chain(next).min();
        self.next = next;
        let old = core::mem::replace(&mut self.open, open.clone());
        Judged { touched: &old ^ &open, again }
    }

    /// The runs that were due, the last one first; only that one where what was missed is made up for.
    fn due(&self, latest: Option<u64>, floor: u64) -> impl Iterator<Item = u64> {
        let earlier = move |run: &u64| match self.cron.missed {
            Missed::RunOnce => None,
            Missed::Skip => self.dates.as_ref()?.upto(run - 1, floor),
        };
        core::iter::successors(latest, earlier).take(MOST_RUNS)
    }
}

impl View {
    /// Work is due by the calendar from now on, or otherwise, or not any more.
    pub(super) fn set_cron(&mut self, service: &ServiceKey, cron: Option<Cron>) {
        let Some(cron) = cron else { return drop(self.crons.0.remove(service)) };
        match self.crons.0.get_mut(service) {
            Some(runs) if runs.cron.keeps_time_with(&cron) => runs.cron = cron,
            Some(runs) => (runs.cron, runs.dates) = (cron, Dates::of(&cron)),
            None => {
                let (begun, open) = (BTreeSet::new(), BTreeSet::new());
                let runs = Runs { cron, dates: Dates::of(&cron), begun, open, replaced: 0, floor: 0, next: None };
                self.crons.0.insert(service.clone(), runs);
            }
        }
    }

    /// Which runs may be worked on, by a clock.
    pub(crate) fn judge_runs(&mut self, service: &ServiceKey, wall: Wall) -> Option<Judged> {
        let runs = self.crons.0.get_mut(service)?;
        let ended = self.ledgers.ended(service, runs.cron.job.completions);
        let slots = self.replicas.get(service).into_iter().flat_map(|slots| slots.keys());
        let claimed = slots.filter_map(|slot| match slot {
            Slot::Run(due, _) => Some(*due),
            Slot::Number(_) | Slot::Node(_) => None,
        });
        Some(runs.judge(wall.0 / 1_000, claimed, &ended))
    }

    /// The services that are due by the calendar.
    pub(crate) fn scheduled(&self) -> impl Iterator<Item = &ServiceKey> {
        self.crons.0.keys()
    }

    /// The slots of the runs of a service that may be worked on, in order.
    pub(crate) fn open_runs(&self, service: &ServiceKey) -> impl Iterator<Item = Slot> + use<> {
        let runs = self.crons.0.get(service).map(|runs| (runs.open.clone(), runs.cron.job.completions));
        let (open, count) = runs.unwrap_or_default();
        open.into_iter().flat_map(move |due| (1..=count).map(move |n| Slot::Run(due, n)))
    }

    /// All slots of some runs of a service.
    pub(crate) fn slots_of_runs(&self, service: &ServiceKey, runs: &BTreeSet<u64>) -> Vec<Slot> {
        let count = self.crons.0.get(service).map_or(0, |runs| runs.cron.job.completions);
        runs.iter().flat_map(|due| (1..=count).map(|n| Slot::Run(*due, n))).collect()
    }

    /// When the next run of a service is due (seconds since 1970), as of the last look at the calendar.
    #[must_use]
    pub fn next_run(&self, service: &ServiceKey) -> Option<u64> {
        self.crons.0.get(service)?.next
    }

    /// True while a run may be worked on.
    pub(crate) fn is_open_run(&self, service: &ServiceKey, due: u64) -> bool {
        self.crons.0.get(service).is_some_and(|runs| runs.open.contains(&due))
    }

    /// True if a later run takes the place of this one.
    pub(crate) fn is_replaced(&self, service: &ServiceKey, due: u64) -> bool {
        self.crons.0.get(service).is_some_and(|runs| runs.cron.overlap == Overlap::Replace && due < runs.replaced)
    }

    /// Runs that were due earlier than this are over by ends that had been told of before a moment, hence as others see it too.
    pub(super) fn floor_before(&self, service: &ServiceKey, moment: Hlc) -> u64 {
        let Some(runs) = self.crons.0.get(service) else { return 0 };
        let ended = self.ledgers.ended(service, runs.cron.job.completions);
        let mut old = ended.iter().filter(|ended| ended.told < moment);
        old.nth(runs.cron.kept() - 1).map_or(0, |ended| ended.due)
    }

    /// True if so many later runs have ended that it is not kept how this one did.
    pub(crate) fn is_past(&self, service: &ServiceKey, due: u64) -> bool {
        self.crons.0.get(service).is_some_and(|runs| due < runs.floor)
    }

    /// What is known of the last runs of a service, the newest first: when each was due, and the ends of its slots.
    #[must_use]
    pub fn last_runs(&self, service: &ServiceKey) -> Vec<(u64, Vec<&Finish>)> {
        let mut runs: BTreeMap<u64, Vec<&Finish>> = BTreeMap::new();
        for finish in self.finished(service) {
            if let ReplicaKey { slot: Slot::Run(due, _), .. } = finish.replica {
                runs.entry(due).or_default().push(finish);
            }
        }
        runs.into_iter().rev().collect()
    }
}

#[cfg(test)]
mod tests {
    use dunlin_gossip::model::Job;
    use dunlin_gossip::time::Duration;

    use super::*;
    use crate::cron::parse;

    const HOUR: u64 = 3_600;

    fn runs(cron: Cron) -> Runs {
        let (begun, open) = (BTreeSet::new(), BTreeSet::new());
        Runs { cron, dates: Dates::of(&cron), begun, open, replaced: 0, floor: 0, next: None }
    }

    fn hourly() -> Cron {
        let since = Hlc::from_wall(Wall((9 * HOUR + 1) * 1_000));
        Cron::of(parse("@hourly").expect("a calendar"), Job { since, ..Job::default() })
    }

    /// What is open at an hour and some seconds of it, while these are claimed and those have ended at their times.
    fn open(runs: &mut Runs, (hour, seconds): (u64, u64), claimed: &[u64], ended: &[(u64, u64)]) -> Vec<u64> {
        let end = |(due, at): &(u64, u64)| Ended { due: due * HOUR, at: Wall(at * 1_000), told: Hlc(0) };
        let mut ended: Vec<Ended> = ended.iter().map(end).collect();
        ended.sort_by(|a, b| b.cmp(a));
        runs.judge(hour * HOUR + seconds, claimed.iter().map(|due| due * HOUR), &ended);
        runs.open.iter().map(|due| due / HOUR).collect()
    }

    #[test]
    fn what_was_due_before_the_deploy_is_not_run() {
        let mut runs = runs(hourly());
        assert!(open(&mut runs, (9, 5), &[], &[]).is_empty());
        assert_eq!(runs.next, Some(10 * HOUR));
        assert_eq!(open(&mut runs, (10, 0), &[], &[]), [10]);
        assert!(open(&mut runs, (10, 60), &[], &[(10, 10 * HOUR + 30)]).is_empty());
    }

    #[test]
    fn of_all_that_was_missed_the_last_one_is_made_up_for() {
        let mut every = runs(hourly());
        assert_eq!(open(&mut every, (15, 1_800), &[], &[]), [15]);
        let deadline = Some(Duration::from_secs(600));
        let mut soon = runs(Cron { deadline, ..hourly() });
        assert!(open(&mut soon, (15, 1_800), &[], &[]).is_empty());
        assert_eq!(open(&mut soon, (16, 599), &[], &[]), [16]);
        // What has been begun goes on, its deadline over or not, by all that have heard of it.
        assert_eq!(open(&mut soon, (16, 599), &[16], &[]), [16]);
        assert_eq!(open(&mut soon, (16, 1_800), &[], &[]), [16]);
        assert!(open(&mut soon, (16, 1_801), &[], &[(16, 17 * HOUR)]).is_empty());
    }

    #[test]
    fn what_is_to_be_skipped_is_skipped_each_by_itself() {
        let deadline = Some(Duration::from_secs(2 * HOUR));
        let mut both = runs(Cron { missed: Missed::Skip, deadline, ..hourly() });
        assert_eq!(open(&mut both, (15, 1_800), &[], &[]), [14, 15]);
        let mut grace = runs(Cron { missed: Missed::Skip, ..hourly() });
        assert_eq!(open(&mut grace, (15, 59), &[], &[]), [15]);
        assert!(open(&mut grace, (15, 60), &[], &[]).is_empty());
    }

    #[test]
    fn what_overlaps_runs_or_is_skipped_or_replaces() {
        let mut allow = runs(hourly());
        assert_eq!(open(&mut allow, (11, 0), &[10], &[]), [10, 11]);
        let mut forbid = runs(Cron { overlap: Overlap::Forbid, ..hourly() });
        assert_eq!(open(&mut forbid, (11, 0), &[10], &[]), [10]);
        // It ends at half past eleven: what was due at eleven is skipped, whatever is made up for otherwise.
        let ended = [(10, 11 * HOUR + 1_800)];
        assert!(open(&mut forbid, (11, 1_801), &[], &ended).is_empty());
        assert_eq!(open(&mut forbid, (12, 0), &[], &ended), [12]);
        let mut replace = runs(Cron { overlap: Overlap::Replace, ..hourly() });
        assert_eq!(open(&mut replace, (10, 5), &[10], &[]), [10]);
        assert_eq!(open(&mut replace, (11, 0), &[10], &[]), [11]);
        assert_eq!(replace.replaced, 11 * HOUR);
        // Somebody's clock is ahead: his run counts.
        assert_eq!(open(&mut replace, (11, 3_590), &[12], &[]), [12]);
    }

    #[test]
    fn a_run_whose_end_is_not_kept_any_more_is_not_run_again() {
        let mut runs = runs(Cron { history: 2, ..hourly() });
        assert_eq!(open(&mut runs, (10, 0), &[10], &[]), [10]);
        let ended = [(12, 12 * HOUR + 9), (13, 13 * HOUR + 9)];
        assert!(open(&mut runs, (13, 60), &[10, 11], &ended).is_empty());
        assert_eq!(runs.floor, 12 * HOUR);
    }

    #[test]
    fn what_never_ends_does_not_pile_up() {
        let mut runs = runs(hourly());
        let claimed: Vec<u64> = (10..10 + MOST_RUNS as u64).collect();
        let now = 10 + MOST_RUNS as u64;
        assert_eq!(open(&mut runs, (now, 0), &claimed, &[]).len(), MOST_RUNS);
    }
}
