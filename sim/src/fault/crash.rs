//! Deaths and returns, and the calm in which a core must come to terms without the rest.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{AllocId, ReplicaKey, Slot};
use dunlin_gossip::rng::Rng;
use dunlin_gossip::wire::WireVersion;

use crate::event::Event;
use crate::invariant::p5_jobs;
use crate::net::HostNo;
use crate::queue::{MS, Nanos};
use crate::scenario::{Action, Crash, Cut, DiskFate, Target};
use crate::workload::ProcessStep;
use crate::world::World;

/// How far a clock is behind after `restart: old-disk-and-clock`. More than the time since the disk was saved, so that the
/// next boot's generation is one that the flock has seen already.
const SET_BACK_MS: i64 = 120_000;

impl World {
    pub(super) fn host_dies(&mut self, no: HostNo) {
        if !self.hosts[no as usize].is_on {
            return;
        }
        self.faults.bite("crash-hosts");
        self.faults.dead.insert(no, (self.now, BTreeSet::new()));
        self.truth.unspread(no, self.now.saturating_sub(p5_jobs::SPREADS));
        let host = &mut self.hosts[no as usize];
        host.is_on = false;
        host.power += 1;
        self.agent_ends(no);
        let host = &mut self.hosts[no as usize];
        let processes = std::mem::take(&mut host.processes.all);
        let running: Vec<(AllocId, ReplicaKey, bool)> = processes
            .into_iter()
            .filter(|(_, p)| p.runs())
            .map(|(alloc, p)| (alloc, p.replica, p.behaviour.finish_ms == 0))
            .collect();
        for (alloc, replica, goes_on) in running {
            self.process_ended(no, &replica, alloc, "its host dies");
            if goes_on {
                self.truth.dims(self.now, &replica.service);
            }
            // What is on each host has nowhere else to go.
            if !matches!(replica.slot, Slot::Node(_)) {
                self.truth.bereft(self.now, &replica);
                let now = self.now;
                self.chronicle.iter_mut().for_each(|chronicle| chronicle.died(now, &replica, no));
                self.truth.figures.moves_minimum += 1;
            }
        }
    }

    /// One agent after the other ends and is started again, as by an upgrade of the package all over the flock.
    pub(super) fn roll(&mut self, hosts: &[HostNo], within: Nanos, down: Nanos, version: Option<WireVersion>) {
        let count = hosts.len() as u64;
        for (turn, host) in (0..).zip(hosts) {
            let (at, hosts) = (within * turn / count, Target::Hosts(vec![*host]));
            self.later(at, Action::Crash { what: Crash::Agents, hosts: hosts.clone() });
            self.later(at + down, Action::Restart { hosts: Some(hosts), disk: DiskFate::Kept, version });
        }
    }

    pub(super) fn restart(&mut self, hosts: Vec<HostNo>, fate: DiskFate, version: Option<WireVersion>) {
        for no in hosts {
            self.faults.dead.remove(&no);
            if self.hosts[no as usize].is_up() {
                continue;
            }
            self.faults.bite("restart");
            if !self.hosts[no as usize].is_on || fate == DiskFate::Lost {
                self.truth.came.entry(no).or_default();
            }
            self.disk_after(no, fate);
            let host = &mut self.hosts[no as usize];
            let wire = version.unwrap_or(host.wire);
            let changed = wire.cmp(&std::mem::replace(&mut host.wire, wire));
            host.is_on = true;
            let at = self.now + host.rng.range(10 * MS..100 * MS);
            self.queue.push(at, Event::AgentStarts { host: no, power: host.power });
            match changed {
                Ordering::Greater => self.faults.bite("upgrade"),
                Ordering::Less => self.faults.bite("downgrade"),
                Ordering::Equal => {}
            }
        }
    }

    fn disk_after(&mut self, no: HostNo, fate: DiskFate) {
        let host = &mut self.hosts[no as usize];
        match fate {
            DiskFate::Kept => {}
            DiskFate::Old | DiskFate::OldAndSlow => {
                if fate == DiskFate::OldAndSlow {
                    host.clock.skew_ms -= SET_BACK_MS;
                }
                let Some(mut image) = host.disk.saved.take() else { return };
                let differs = host.disk.image.differs(&mut image);
                host.disk.image = image;
                if differs {
                    self.faults.bite("old-disk");
                    self.disk_replaced(no);
                }
            }
            DiskFate::Lost => {
                host.power += 1;
                let processes = std::mem::take(&mut host.processes.all);
                let running: Vec<(AllocId, ReplicaKey)> =
                    processes.into_iter().filter(|(_, p)| p.runs()).map(|(alloc, p)| (alloc, p.replica)).collect();
                for (alloc, replica) in running {
                    self.process_ended(no, &replica, alloc, "its host is set up anew");
                }
                let host = &mut self.hosts[no as usize];
                let before = host.id;
                host.set_up_anew(self.seed);
                self.by_id.remove(&before);
                self.by_id.insert(host.id, no);
                self.faults.bite("lost-disk");
                self.disk_replaced(no);
            }
        }
    }

    /// Something happens to running processes.
    pub(super) fn strike_processes(&mut self, target: &Target, word: &'static str, step: ProcessStep, rng: &mut Rng) {
        let mut running: Vec<(HostNo, ReplicaKey, AllocId)> = self
            .truth
            .runs
            .iter()
            .flat_map(|(replica, runs)| runs.iter().map(|run| (run.host, replica.clone(), run.alloc)))
            .collect();
        match target {
            Target::Count(count) => {
                rng.shuffle(&mut running);
                running.truncate(count.among(u32::try_from(self.hosts.len()).unwrap_or(u32::MAX)) as usize);
            }
            Target::Hosts(hosts) => running.retain(|(host, _, _)| hosts.contains(host)),
            Target::Zone(zone) => running.retain(|(host, _, _)| self.net.zone_of(*host) == *zone),
        }
        for (host, replica, alloc) in running {
            self.faults.bite(word);
            self.truth.note(self.now, &replica, &format!("{word} hits {alloc:?}"));
            let Some(process) = self.hosts[host as usize].processes.all.get(&alloc) else { continue };
            let (power, attempt) = (self.hosts[host as usize].power, process.attempt);
            self.queue.push(self.now, Event::Process { host, power, alloc, attempt, step });
        }
    }

    /// Of these hosts the largest part that can come to know of each other: one's disk must say that the other belongs. An
    /// admission that was on no other disk than those that were lost is not known to anybody but who was admitted.
    fn acquainted(&mut self, mut hosts: BTreeSet<HostNo>) -> BTreeSet<HostNo> {
        let newcomers: BTreeSet<HostNo> =
            hosts.iter().copied().filter(|no| !self.hosts[*no as usize].is_admitted).collect();
        hosts.retain(|no| !newcomers.contains(no));
        let ids: BTreeMap<HostNo, NodeId> = hosts.iter().map(|no| (*no, self.hosts[*no as usize].id)).collect();
        let knows: BTreeMap<HostNo, BTreeSet<NodeId>> =
            hosts.iter().map(|no| (*no, self.hosts[*no as usize].disk.image.roster())).collect();
        let acquainted = |a: &HostNo, b: &HostNo| knows[a].contains(&ids[b]) || knows[b].contains(&ids[a]);
        let mut largest = BTreeSet::new();
        while let Some(first) = hosts.pop_first() {
            let (mut part, mut next) = (BTreeSet::from([first]), vec![first]);
            while let Some(known) = next.pop() {
                let more: Vec<HostNo> = hosts.iter().copied().filter(|other| acquainted(&known, other)).collect();
                hosts.retain(|other| !more.contains(other));
                part.extend(more.iter().copied());
                next.extend(more);
            }
            if part.len() > largest.len() {
                largest = part;
            }
        }
        largest.extend(newcomers);
        largest
    }

    /// Faults end among the core; all others stand still out of its reach, from now on and for good (TigerBeetle's liveness
    /// mode: what is left must come to terms, and nobody else may help).
    pub(super) fn calm(&mut self, core: Vec<HostNo>) {
        let core = self.acquainted(core.into_iter().collect());
        let rest: Vec<HostNo> = self.hosts.iter().map(|host| host.no).filter(|no| !core.contains(no)).collect();
        self.net.heal();
        self.net.conditions = crate::net::Conditions::default();
        self.net.cut(Cut::Apart, &rest);
        self.cuts_changed();
        for no in rest {
            self.hosts[no as usize].paused_until = Nanos::MAX;
            self.truth.stops_answering(no);
        }
        self.faults.bite("calm");
        for no in &core {
            let host = &mut self.hosts[*no as usize];
            host.recover(self.now);
            if !host.is_up() {
                host.is_on = true;
                self.queue.push(self.now + MS, Event::AgentStarts { host: *no, power: host.power });
            }
        }
        self.faults.core = Some(core);
        self.count_holders();
        self.truth.forget_losses();
        self.checks.membership_changed(self.now);
    }
}
