//! Faults: what the timeline does to the world, and the proof that each of them did something.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dunlin_core::face::{Exit, Input};
use dunlin_gossip::model::{AllocId, ReplicaKey};

use crate::event::Event;
use crate::net::{HostNo, IDLE_TIMEOUT};
use crate::queue::{MS, Nanos};
use crate::scenario::{Action, Count, DiskFate};
use crate::workload::ProcessStep;
use crate::world::World;

/// How far a clock is behind after `restart: old-disk-and-clock`. More than the time since the disk was saved, so that the
/// next boot's generation is one that the flock has seen already.
const SET_BACK_MS: i64 = 120_000;

/// What faults have done so far.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) agents_crashed: u64,
    pub(crate) hosts_crashed: u64,
    pub(crate) restarted: u64,
    pub(crate) old_disks: u64,
    pub(crate) old_disks_noticed: u64,
    pub(crate) processes_killed: u64,
    pub(crate) delayed: u64,
    pub(crate) full: u64,
    /// Inputs that had to wait for the end of the call that caused them.
    pub(crate) inbox: VecDeque<(HostNo, u32, Input)>,
    /// Hosts whose disks were saved, in order: the next to crash.
    saved: Vec<HostNo>,
    /// Hosts that died with everything, when, and who already knows.
    dead: BTreeMap<HostNo, (Nanos, BTreeSet<HostNo>)>,
}

impl Faults {
    /// An observer holds a host down: the time since its death, if it is dead and this is news.
    pub(crate) fn detected(&mut self, by: HostNo, about: HostNo, now: Nanos) -> Option<Nanos> {
        let (since, known) = self.dead.get_mut(&about)?;
        known.insert(by).then(|| now - *since)
    }
}

impl World {
    /// Does the next line of the timeline.
    pub(crate) fn step(&mut self, index: usize) {
        let Some(step) = self.scenario.timeline.get(index) else { return };
        match step.action.clone() {
            Action::Deploy => self.deploy(1),
            Action::Conflict { writers } => self.deploy(writers),
            Action::Scale { service, replicas } => self.scale(&service, replicas),
            Action::Remove => self.remove(),
            Action::CrashAgents(count) => {
                for no in self.choose(count) {
                    self.faults.agents_crashed += 1;
                    self.agent_ends(no);
                }
            }
            Action::CrashHosts(count) => {
                for no in self.choose_busy(count) {
                    self.host_dies(no);
                }
            }
            Action::Restart(fate) => self.restart(fate),
            Action::SaveDisks(count) => {
                for no in self.choose_busy(count) {
                    let disk = &mut self.hosts[no as usize].disk;
                    disk.saved = Some(disk.image.clone());
                    self.faults.saved.push(no);
                }
            }
            Action::Pause { hosts, time } => {
                for no in self.choose(hosts) {
                    self.hosts[no as usize].paused_until = self.now + time;
                }
            }
            Action::Partition(count) => {
                let far = self.choose(count);
                self.net.part(&far);
                self.cut_links();
            }
            Action::Mute(count) => {
                let from = self.choose(count);
                self.net.mute(&from);
                self.cut_links();
            }
            Action::Heal => self.heal(),
            Action::Network(conditions) => self.net.conditions = conditions,
            Action::KillProcesses(count) => self.kill_processes(count),
        }
    }

    /// Hosts whose agent runs: first those whose disks were saved, then any.
    fn choose(&mut self, count: Count) -> Vec<HostNo> {
        let wanted = count.among(u32::try_from(self.hosts.len()).unwrap_or(u32::MAX)) as usize;
        let mut chosen = self.faults.saved.clone();
        chosen.retain(|no| self.hosts[*no as usize].is_up());
        let mut rest: Vec<HostNo> =
            self.hosts.iter().filter(|h| h.is_up() && !chosen.contains(&h.no)).map(|h| h.no).collect();
        self.chance.shuffle(&mut rest);
        chosen.extend(rest);
        chosen.truncate(wanted);
        chosen
    }

    /// Like `choose`, but hosts on which something runs come first: the death of an idle host shows little.
    fn choose_busy(&mut self, count: Count) -> Vec<HostNo> {
        let saved = self.faults.saved.clone();
        let wanted = self.choose(count).len();
        let mut all = self.choose(Count::PerHost(1));
        let is_idle = |no: &HostNo| !self.truth.runs.values().flatten().any(|run| run.host == *no);
        all.sort_by_key(|no| (!saved.contains(no), is_idle(no)));
        all.truncate(wanted);
        all
    }

    fn host_dies(&mut self, no: HostNo) {
        self.faults.hosts_crashed += 1;
        self.faults.dead.insert(no, (self.now, BTreeSet::new()));
        let host = &mut self.hosts[no as usize];
        host.is_on = false;
        host.power += 1;
        self.agent_ends(no);
        let host = &mut self.hosts[no as usize];
        let processes = std::mem::take(&mut host.processes.all);
        let running: Vec<(AllocId, ReplicaKey)> =
            processes.into_iter().filter(|(_, p)| p.runs()).map(|(alloc, p)| (alloc, p.replica)).collect();
        for (alloc, replica) in running {
            self.process_ended(no, &replica, alloc, "its host dies");
            self.truth.bereft(self.now, &replica);
            self.truth.figures.moves_minimum += 1;
        }
    }

    fn restart(&mut self, fate: DiskFate) {
        self.faults.dead.clear();
        for host in self.hosts.iter_mut().filter(|host| !host.is_up() && host.is_admitted) {
            host.is_on = true;
            self.faults.restarted += 1;
            if fate == DiskFate::OldAndSlow {
                host.clock.skew_ms -= SET_BACK_MS;
            }
            if fate != DiskFate::Kept
                && let Some(mut image) = host.disk.saved.take()
            {
                if host.disk.image.differs(&mut image) {
                    self.faults.old_disks += 1;
                }
                host.disk.image = image;
            }
            let at = self.now + host.rng.range(10 * MS..100 * MS);
            self.queue.push(at, Event::AgentStarts { host: host.no, power: host.power });
        }
    }

    fn cut_links(&mut self) {
        let Self { net, queue, now, checks, .. } = self;
        checks.membership_changed(*now);
        let numbers: Vec<u64> = net.links.keys().copied().collect();
        for number in numbers {
            let parted = net.links.get(&number).is_some_and(|link| net.is_parted(link.ends[0], link.ends[1]));
            if let Some(link) = net.links.get_mut(&number).filter(|_| parted) {
                link.cut += 1;
                queue.push(*now + IDLE_TIMEOUT, Event::LinkIdle { link: number, cut: link.cut });
            }
        }
    }

    /// The network is whole again; what waited behind the cut arrives with the next retransmission, in order.
    fn heal(&mut self) {
        self.net.heal();
        self.checks.membership_changed(self.now);
        self.checks.state_changed(self.now);
        let numbers: Vec<u64> = self.net.links.keys().copied().collect();
        for number in numbers {
            let after = self.net.latency() + self.chance.below(1_000) * MS;
            let Some(link) = self.net.links.get_mut(&number) else { continue };
            link.cut += 1;
            for end in [0, 1] {
                let to = link.ends[end];
                for frame in std::mem::take(&mut link.held[end]) {
                    let at = (self.now + after).max(link.last[end]);
                    link.last[end] = at;
                    self.queue.push(at, Event::Frame { link: number, to, frame });
                }
            }
        }
    }

    fn kill_processes(&mut self, count: Count) {
        let wanted = count.among(u32::try_from(self.hosts.len()).unwrap_or(u32::MAX)) as usize;
        let mut running: Vec<(HostNo, ReplicaKey, AllocId)> = self
            .truth
            .runs
            .iter()
            .flat_map(|(replica, runs)| runs.iter().map(|run| (run.host, replica.clone(), run.alloc)))
            .collect();
        self.chance.shuffle(&mut running);
        for (host, replica, alloc) in running.into_iter().take(wanted) {
            self.faults.processes_killed += 1;
            self.truth.note(self.now, &replica, &format!("{alloc:?} is killed"));
            let Some(process) = self.hosts[host as usize].processes.all.get(&alloc) else { continue };
            let (power, attempt) = (self.hosts[host as usize].power, process.attempt);
            let step = ProcessStep::End(Exit::Signal(9));
            self.queue.push(self.now, Event::Process { host, power, alloc, attempt, step });
        }
    }

    /// What the timeline asked for and did not happen: a fault that does not bite proves nothing.
    pub(crate) fn toothless(&self) -> Vec<String> {
        let (faults, net) = (&self.faults, &self.net.counters);
        let mut toothless = Vec::new();
        let mut need = |bit: bool, what: &str| {
            if !bit {
                toothless.push(format!("`{what}` has had no effect; the scenario proves nothing of it"));
            }
        };
        for step in &self.scenario.timeline {
            match &step.action {
                Action::Deploy | Action::Scale { .. } | Action::Remove => {
                    need(self.operator.acknowledged() > 0, "deploy/scale/remove");
                }
                Action::Conflict { .. } => need(self.operator.conflicts > 0, "conflict"),
                Action::CrashAgents(_) => need(faults.agents_crashed > 0, "crash-agents"),
                Action::CrashHosts(_) => {
                    need(self.truth.figures.moves_minimum > 0 || !self.truth.figures.detect.is_empty(), "crash-hosts")
                }
                Action::Restart(DiskFate::Kept) => need(faults.restarted > 0, "restart: kept-disk"),
                Action::Restart(DiskFate::Old) => need(faults.old_disks > 0, "restart: old-disk"),
                Action::Restart(DiskFate::OldAndSlow) => {
                    need(faults.old_disks > 0, "restart: old-disk-and-clock");
                    need(
                        faults.old_disks_noticed > 0,
                        "restart: old-disk-and-clock (nobody noticed the old generation)",
                    );
                }
                Action::Pause { .. } => need(faults.delayed > 0, "pause"),
                Action::Partition(_) | Action::Mute(_) => need(net.cut > 0, "partition/mute"),
                Action::KillProcesses(_) => need(faults.processes_killed > 0, "kill-processes"),
                Action::SaveDisks(_) | Action::Heal | Action::Network(_) => {}
            }
        }
        let conditions = &self.scenario.network;
        need(conditions.loss.num == 0 || net.lost > 0, "network.loss");
        need(conditions.duplicate.num == 0 || net.doubled > 0, "network.duplicate");
        need(conditions.reorder.num == 0 || net.held_back > 0, "network.reorder");
        toothless.dedup();
        toothless
    }
}
