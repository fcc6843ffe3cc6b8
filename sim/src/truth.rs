//! What really happened, kept at the moment it happens. The checkers judge by this, never by a node's opinion.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dunlin_gossip::model::{AllocId, ReplicaKey, Resources, ServiceKey, Slot};

use crate::measure::{Samples, seconds};
use crate::net::HostNo;
use crate::queue::Nanos;
use crate::recording::Stays;

/// How many events about a replica a violation can show.
const HISTORY: usize = 12;

/// One process that runs now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    pub(crate) host: HostNo,
    pub(crate) alloc: AllocId,
    pub(crate) version: u64,
    pub(crate) reserve: Resources,
    /// The start of its host's agent under which it came up.
    pub(crate) boot: u32,
    pub(crate) ready: bool,
    /// One at most may run.
    pub(crate) is_lone: bool,
}

/// Everything that is measured.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) membership_converge: Samples,
    pub(crate) detect: Samples,
    pub(crate) failover: Samples,
    pub(crate) state_converge: Samples,
    pub(crate) deploy: Samples,
    pub(crate) dns_stale: Samples,
    pub(crate) duplicate: Samples,
    pub(crate) dark: Samples,
    pub(crate) false_positives: u64,
    pub(crate) moves: u64,
    pub(crate) moves_minimum: u64,
    pub(crate) abandoned: u64,
    pub(crate) outages: u64,
    pub(crate) drain_losses: u64,
    pub(crate) early_signals: u64,
    pub(crate) shares: u64,
    pub(crate) hurried: u64,
    pub(crate) gaps: u64,
    pub(crate) reruns: u64,
    pub(crate) crowded: u64,
    pub(crate) overlaps: u64,
    /// The last slot that was begun though it had finished, and what happened to it.
    pub(crate) rerun: String,
}

/// A replica of a service on a host.
pub(crate) type Instance = (Slot, HostNo);

/// An instance that is dead but still answered with.
#[derive(Debug)]
struct Stale {
    since: Nanos,
    answering: BTreeSet<HostNo>,
}

/// A deploy whose replicas do not all run yet.
#[derive(Debug)]
struct Deploying {
    since: Nanos,
    version: u64,
    missing: BTreeSet<ReplicaKey>,
}

/// The truth.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(crate) runs: BTreeMap<ReplicaKey, Vec<Run>>,
    pub(crate) figures: Figures,
    /// Hosts that came back, or take work again, and when they took what for their share.
    pub(crate) came: BTreeMap<HostNo, Vec<Nanos>>,
    used: BTreeMap<HostNo, Resources>,
    double: BTreeMap<(ReplicaKey, u64), Nanos>,
    lost: BTreeMap<ReplicaKey, Nanos>,
    /// Services of which nothing is ready any more, and since when.
    dark: BTreeMap<ServiceKey, Nanos>,
    last_host: BTreeMap<ReplicaKey, HostNo>,
    history: BTreeMap<ReplicaKey, VecDeque<String>>,
    stale: BTreeMap<ServiceKey, BTreeMap<Instance, Stale>>,
    deploying: Vec<Deploying>,
    /// Slots of jobs that did what they should, at which version, where and when.
    finished: BTreeMap<(ReplicaKey, u64), (HostNo, Nanos)>,
    /// Runs of cron services that were begun: when they were due, and when a process of them came up last.
    pub(crate) begun: BTreeMap<(ServiceKey, u64), Nanos>,
    /// Where everything ran, while somebody wants a report.
    pub(crate) stays: Option<Stays>,
}

impl Truth {
    /// What really runs on a host reserves so much.
    pub(crate) fn used(&self, host: HostNo) -> Resources {
        self.used.get(&host).copied().unwrap_or_default()
    }

    /// Remembers something about a replica, for the report of a violation.
    pub(crate) fn note(&mut self, at: Nanos, replica: &ReplicaKey, text: &str) {
        let history = self.history.entry(replica.clone()).or_default();
        if history.len() == HISTORY {
            history.pop_front();
        }
        history.push_back(format!("{:.3}s {text}", seconds(at)));
    }

    /// The last events about a replica.
    pub(crate) fn last_events(&self, replica: &ReplicaKey) -> String {
        let events = self.history.get(replica);
        events.map_or_else(String::new, |list| list.iter().cloned().collect::<Vec<_>>().join("; "))
    }

    /// A process runs.
    pub(crate) fn started(&mut self, at: Nanos, replica: &ReplicaKey, run: Run) {
        self.note(at, replica, &format!("host {} starts {:?} (version {})", run.host, run.alloc, run.version));
        if let Some(stays) = &mut self.stays {
            stays.started(at, replica, run.host, run.alloc);
        }
        let used = self.used.entry(run.host).or_default();
        *used = used.plus(&run.reserve);
        if self.last_host.insert(replica.clone(), run.host).is_some_and(|before| before != run.host) {
            self.figures.moves += 1;
        }
        let runs = self.runs.entry(replica.clone()).or_default();
        runs.push(run);
        if runs.iter().filter(|r| r.version == run.version).count() == 2 {
            self.double.insert((replica.clone(), run.version), at);
        }
    }

    /// A slot of a job did what it should.
    pub(crate) fn finished(&mut self, at: Nanos, replica: &ReplicaKey, host: HostNo, version: u64) {
        self.finished.entry((replica.clone(), version)).or_insert((host, at));
    }

    /// When and where that was, if it ever was.
    pub(crate) fn finish(&self, replica: &ReplicaKey, version: u64) -> Option<(HostNo, Nanos)> {
        self.finished.get(&(replica.clone(), version)).copied()
    }

    /// When a slot of a run did what it should, at whatever version.
    pub(crate) fn run_finish(&self, replica: &ReplicaKey) -> Option<Nanos> {
        let mut all = self.finished.range((replica.clone(), 0)..=(replica.clone(), u64::MAX));
        all.next().map(|(_, (_, at))| *at)
    }

    /// When a slot of a run did what it should for the last time.
    pub(crate) fn last_finish_of_run(&self, service: &ServiceKey, due: u64) -> Option<Nanos> {
        let key = |slot| (ReplicaKey { service: service.clone(), slot }, 0);
        let all = self.finished.range(key(Slot::Run(due, 0))..key(Slot::Run(due, u32::MAX)));
        all.map(|(_, (_, at))| *at).max()
    }

    /// A host died: what finished there just before is perhaps known to nobody.
    pub(crate) fn unspread(&mut self, host: HostNo, after: Nanos) {
        self.finished.retain(|_, (at, when)| *at != host || *when < after);
    }

    /// A process that runs.
    pub(crate) fn run(&self, replica: &ReplicaKey, alloc: AllocId) -> Option<Run> {
        self.runs.get(replica)?.iter().find(|run| run.alloc == alloc).copied()
    }

    /// A process would pass its probe from now on.
    pub(crate) fn ready(&mut self, at: Nanos, replica: &ReplicaKey, alloc: AllocId) {
        self.note(at, replica, &format!("{alloc:?} is ready"));
        if let Some(stays) = &mut self.stays {
            stays.ready(at, replica, alloc);
        }
        let runs = self.runs.get_mut(replica);
        let Some(run) = runs.and_then(|runs| runs.iter_mut().find(|r| r.alloc == alloc)) else { return };
        run.ready = true;
        let (host, version) = (run.host, run.version);
        if let Some(since) = self.lost.remove(replica) {
            self.figures.failover.add(at, at - since);
        }
        if let Some(since) = self.dark.remove(&replica.service) {
            self.figures.dark.add(at, at - since);
        }
        let stale = self.stale.get_mut(&replica.service).and_then(|all| all.remove(&(replica.slot, host)));
        if let Some(stale) = stale {
            // It is back in the same place: the answers are right again.
            stale.answering.iter().for_each(|_| self.figures.dns_stale.add(at, at - stale.since));
        }
        for deploy in self.deploying.iter_mut().filter(|d| d.version == version) {
            if deploy.missing.remove(replica) && deploy.missing.is_empty() {
                self.figures.deploy.add(at, at - deploy.since);
            }
        }
        self.deploying.retain(|d| !d.missing.is_empty());
    }

    /// A process runs and passes no probe any more.
    pub(crate) fn hung(&mut self, at: Nanos, replica: &ReplicaKey, alloc: AllocId) {
        self.note(at, replica, &format!("{alloc:?} hangs"));
        let runs = self.runs.get_mut(replica).into_iter().flatten();
        runs.filter(|run| run.alloc == alloc).for_each(|run| run.ready = false);
    }

    /// A process ended, or its host died with it.
    pub(crate) fn ended(&mut self, at: Nanos, replica: &ReplicaKey, alloc: AllocId, why: &str) {
        self.note(at, replica, &format!("{alloc:?} ends ({why})"));
        if let Some(stays) = &mut self.stays {
            stays.ended(at, replica, alloc);
        }
        let Some(runs) = self.runs.get_mut(replica) else { return };
        let Some(index) = runs.iter().position(|r| r.alloc == alloc) else { return };
        let run = runs.swap_remove(index);
        if runs.iter().filter(|r| r.version == run.version).count() == 1
            && let Some(since) = self.double.remove(&(replica.clone(), run.version))
        {
            self.figures.duplicate.add(at, at - since);
        }
        if runs.is_empty() {
            self.runs.remove(replica);
        }
        let used = self.used.entry(run.host).or_default();
        *used = used.minus(&run.reserve);
    }

    /// A replica has lost its last process to a fault.
    pub(crate) fn bereft(&mut self, at: Nanos, replica: &ReplicaKey) {
        if !self.runs.contains_key(replica) {
            self.lost.entry(replica.clone()).or_insert(at);
        }
    }

    /// A service that goes on has lost a ready process to a fault: is any other ready?
    pub(crate) fn dims(&mut self, at: Nanos, service: &ServiceKey) {
        let first = ReplicaKey { service: service.clone(), slot: Slot::Number(0) };
        let of_service = self.runs.range(first..).take_while(|(replica, _)| replica.service == *service);
        if !of_service.flat_map(|(_, runs)| runs).any(|run| run.ready) {
            self.dark.entry(service.clone()).or_insert(at);
        }
    }

    /// Since when a replica runs twice at a version.
    pub(crate) fn double_since(&self, replica: &ReplicaKey, version: u64) -> Option<Nanos> {
        self.double.get(&(replica.clone(), version)).copied()
    }

    /// A replica is no longer wanted: nobody waits for it.
    pub(crate) fn forget_losses(&mut self) {
        self.lost.clear();
        self.dark.clear();
        self.deploying.clear();
    }

    /// A deploy was submitted: these replicas shall run at this version.
    pub(crate) fn deploying(&mut self, at: Nanos, version: u64, missing: BTreeSet<ReplicaKey>) {
        if !missing.is_empty() {
            self.deploying.push(Deploying { since: at, version, missing });
        }
    }

    /// An instance died while these nodes answered with it.
    pub(crate) fn stale_names(&mut self, at: Nanos, replica: &ReplicaKey, host: HostNo, answering: BTreeSet<HostNo>) {
        if !answering.is_empty() {
            let of_service = self.stale.entry(replica.service.clone()).or_default();
            of_service.entry((replica.slot, host)).or_insert(Stale { since: at, answering });
        }
    }

    /// A node's answer about a service changed, at some instances or at any; `answers` tells whether it has one now.
    pub(crate) fn names_changed(
        &mut self,
        at: Nanos,
        by: HostNo,
        service: &ServiceKey,
        changed: Option<&[Instance]>,
        answers: impl Fn(Instance) -> bool,
    ) {
        let Some(of_service) = self.stale.get_mut(service) else { return };
        let all: Vec<Instance>;
        let changed = match changed {
            Some(some) => some,
            None => {
                all = of_service.keys().copied().collect();
                &all
            }
        };
        for instance in changed.iter().copied() {
            let Some(entry) = of_service.get_mut(&instance).filter(|_| !answers(instance)) else { continue };
            if entry.answering.remove(&by) {
                self.figures.dns_stale.add(at, at - entry.since);
            }
            if entry.answering.is_empty() {
                of_service.remove(&instance);
            }
        }
        if of_service.is_empty() {
            self.stale.remove(service);
        }
    }

    /// A node answers nobody any more.
    pub(crate) fn stops_answering(&mut self, host: HostNo) {
        self.stale.retain(|_, of_service| {
            of_service.retain(|_, entry| {
                entry.answering.remove(&host);
                !entry.answering.is_empty()
            });
            !of_service.is_empty()
        });
    }

    /// Duplicates and outages that never ended count up to the end.
    pub(crate) fn close(&mut self, at: Nanos) {
        for since in std::mem::take(&mut self.dark).into_values() {
            self.figures.dark.add(at, at - since);
        }
        for since in std::mem::take(&mut self.double).into_values() {
            self.figures.duplicate.add(at, at - since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_gossip::model::{ServiceName, StackName};

    fn replica() -> Result<ReplicaKey, dunlin_gossip::model::NameError> {
        let service = ServiceKey { stack: StackName::new("s")?, service: ServiceName::new("web")? };
        Ok(ReplicaKey { service, slot: Slot::Number(1) })
    }

    #[test]
    fn duplicates_moves_and_failovers_are_measured_from_what_ran() -> Result<(), Box<dyn std::error::Error>> {
        let replica = replica()?;
        let run = |host, alloc| Run {
            host,
            alloc: AllocId(alloc),
            version: 1,
            reserve: Resources { cpu_milli: 5, memory_bytes: 5 },
            boot: 1,
            ready: false,
            is_lone: false,
        };
        let mut truth = Truth::default();
        truth.started(10, &replica, run(0, 1));
        truth.started(20, &replica, run(1, 2));
        assert_eq!(truth.used(1).cpu_milli, 5);
        truth.ended(50, &replica, AllocId(1), "killed");
        assert_eq!(truth.figures.duplicate.quantile(1, 1), Some(30));
        truth.ended(60, &replica, AllocId(2), "killed");
        truth.bereft(60, &replica);
        truth.started(70, &replica, run(1, 3));
        truth.ready(75, &replica, AllocId(3));
        assert_eq!(truth.figures.failover.quantile(1, 1), Some(15));
        assert_eq!((truth.figures.moves, truth.used(0)), (1, Resources::default()));
        Ok(())
    }
}
