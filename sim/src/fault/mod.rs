//! Faults: what the timeline does to the world, and the proof that each of them did something.
//!
//! Whatever is drawn for a line of the timeline (which hosts, when they are clogged) is drawn from a generator of that line,
//! so that leaving out another line changes nothing of it. What was drawn goes into the script: the same run with every
//! choice made. Faults act on hosts and network alone; they never touch a node.

mod choose;
mod crash;
mod network;
mod spoil;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dunlin_core::face::{Exit, Input};
use dunlin_gossip::rng::Rng;
use dunlin_gossip::wire::WireVersion;

use crate::event::Event;
use crate::net::HostNo;
use crate::queue::Nanos;
use crate::scenario::{Action, Crash, Cut, DiskFate, Spoil, Step, Target};
use crate::workload::ProcessStep;
use crate::world::World;

/// What faults have done so far.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// What bit, by the word that scenario files use, and how often.
    pub(crate) bites: BTreeMap<&'static str, u64>,
    /// The timeline as it happened, with every choice made.
    pub(crate) script: Vec<Step>,
    /// Inputs that had to wait for the end of the call that caused them.
    pub(crate) inbox: VecDeque<(HostNo, u32, Input)>,
    /// Hosts whose disks were saved, in order: the next to crash.
    saved: Vec<HostNo>,
    /// Hosts that died with everything, when, and who already knows.
    dead: BTreeMap<HostNo, (Nanos, BTreeSet<HostNo>)>,
    /// The hosts that must keep all promises by themselves; all, as long as there is no core.
    core: Option<BTreeSet<HostNo>>,
}

impl Faults {
    /// Something has had an effect.
    pub(crate) fn bite(&mut self, word: &'static str) {
        *self.bites.entry(word).or_default() += 1;
    }

    /// An observer holds a host down: the time since its death, if it is dead and this is news.
    pub(crate) fn detected(&mut self, by: HostNo, about: HostNo, now: Nanos) -> Option<Nanos> {
        let (since, known) = self.dead.get_mut(&about)?;
        known.insert(by).then(|| now - *since)
    }

    /// True if promises are judged at this host: it is not one of those that stand still for good.
    pub(crate) fn is_judged(&self, host: HostNo) -> bool {
        self.core.as_ref().is_none_or(|core| core.contains(&host))
    }
}

impl World {
    /// Does the next line of the timeline. In the calm, what cuts that take turns had still in store is void.
    pub(crate) fn step(&mut self, index: usize) {
        let Some(step) = self.timeline.get(index).filter(|_| self.faults.core.is_none()) else { return };
        let mut rng = self.seed.split("step").nth(index as u64).rng();
        let action = self.decide(step.action.clone(), &mut rng);
        let turns = matches!(
            action,
            Action::Cut { how: Cut::FlipFlop { .. } | Cut::Swizzle { .. }, .. }
                | Action::Crash { what: Crash::InTurn { .. }, .. }
        );
        if !turns {
            self.faults.script.push(Step { at: self.now, action: action.clone() });
        }
        self.act(action, &mut rng);
    }

    /// Makes the choices that an action leaves open.
    fn decide(&mut self, mut action: Action, rng: &mut Rng) -> Action {
        let is_about_busy = matches!(
            action,
            Action::Crash { what: Crash::Hosts, .. }
                | Action::Spoil { how: Spoil::SaveDisk | Spoil::HangDrivers(_) | Spoil::LoseCommands(_), .. }
        );
        match &mut action {
            // How many processes is not which hosts.
            Action::Crash { what: Crash::Processes | Crash::Wits, hosts: Target::Count(_) } => {}
            Action::Deploy { at, .. }
            | Action::Scale { at, .. }
            | Action::Rollout { at, .. }
            | Action::Remove { at }
            | Action::WriteLoop { at, .. }
            | Action::Poison { at, .. } => {
                *at = Target::Hosts(self.who_answers(at, rng));
            }
            Action::Restart { hosts, .. } => {
                let dead =
                    self.hosts.iter().filter(|host| !host.is_up() && host.is_admitted).map(|host| host.no).collect();
                *hosts = Some(Target::Hosts(match hosts {
                    None => dead,
                    Some(target) => self.among(target, dead, rng),
                }));
            }
            Action::Order { how, hosts } => *hosts = Target::Hosts(self.who_is_ordered(*how, hosts, rng)),
            Action::Cut { how: Cut::Pairs | Cut::HalfPairs, hosts } => *hosts = Target::Hosts(self.pairs(hosts, rng)),
            action => {
                if let Some(target) = action.target() {
                    let wanted = target.clone();
                    *target = Target::Hosts(if is_about_busy {
                        self.choose_busy(&wanted, rng)
                    } else {
                        self.choose(&wanted, rng)
                    });
                }
            }
        }
        action
    }

    fn act(&mut self, action: Action, rng: &mut Rng) {
        let word = action.word();
        match action {
            Action::Deploy { at, files } => self.deploy(&named(at), files),
            Action::Scale { service, replicas, at } => self.scale(&service, replicas, &named(at)),
            Action::Rollout { service, order, at } => self.say_rollout(&service, order, &named(at)),
            Action::Remove { at } => self.remove(&named(at)),
            Action::Order { how, hosts } => named(hosts).into_iter().for_each(|host| self.order(how, host)),
            Action::Poison { at, place, first } => {
                named(at).into_iter().for_each(|host| self.poison(host, place, first));
            }
            Action::WriteLoop { at, time, every, kib } => {
                let until = self.now + time;
                named(at)
                    .into_iter()
                    .for_each(|host| self.write_again(host, crate::operator::Loop { until, every, kib }));
            }
            Action::Crash { what: Crash::Processes, hosts } => {
                self.strike_processes(&hosts, word, ProcessStep::End(Exit::Signal(9)), rng);
            }
            Action::Crash { what: Crash::Wits, hosts } => self.strike_processes(&hosts, word, ProcessStep::Hang, rng),
            Action::Crash { what: Crash::Agents, hosts } => {
                for no in named(hosts) {
                    self.faults.bite(word);
                    self.agent_ends(no);
                }
            }
            Action::Crash { what: Crash::InTurn { within, down, version }, hosts } => {
                self.roll(&named(hosts), within, down, version);
            }
            Action::Crash { what: Crash::Hosts, hosts } => named(hosts).into_iter().for_each(|no| self.host_dies(no)),
            Action::Restart { hosts, disk, version } => {
                self.restart(hosts.map_or_else(Vec::new, named), disk, version);
            }
            Action::Cut { how, hosts } => self.cut(how, named(hosts), rng),
            Action::Heal(None) => {
                self.net.heal();
                self.cuts_changed();
            }
            Action::Heal(Some(hosts)) => {
                self.net.heal_around(&named(hosts));
                self.cuts_changed();
            }
            Action::Network(conditions) => self.net.conditions = conditions,
            Action::Spoil { how, hosts } => named(hosts).into_iter().for_each(|no| self.spoil(word, how, no)),
            Action::Calm { core } => self.calm(named(core)),
        }
    }

    /// What the timeline asked for and did not happen: a fault that does not bite proves nothing.
    pub(crate) fn toothless(&self) -> Vec<String> {
        if self.scenario.may_miss {
            return Vec::new();
        }
        let mut words: BTreeSet<&'static str> = BTreeSet::new();
        for step in &self.timeline {
            match &step.action {
                Action::Restart { disk: DiskFate::Kept | DiskFate::Lost, .. } => drop(words.insert("restart")),
                Action::Restart { disk: DiskFate::Old, .. } => drop(words.insert("old-disk")),
                Action::Restart { disk: DiskFate::OldAndSlow, .. } => words.extend(["old-disk", "old-disk-noticed"]),
                Action::Spoil { how: Spoil::SaveDisk | Spoil::FreeDisk, .. } | Action::Heal(_) | Action::Network(_) => {
                }
                // This is made of single deaths and returns, and those after it of cloggings.
                Action::Crash { what: Crash::InTurn { version, .. }, .. } => {
                    words.extend(["crash-agents", "restart"]);
                    words.extend(version.map(|to| if to == WireVersion::NEXT { "upgrade" } else { "downgrade" }));
                }
                Action::Cut { how: Cut::FlipFlop { .. } | Cut::Swizzle { .. }, .. } => drop(words.insert("clog")),
                action => drop(words.insert(action.word())),
            }
        }
        if words.contains("upgrade") {
            words.extend(["unknown-kinds", "next-frames"]);
        }
        let network = &self.scenario.network;
        let needs = [
            (network.loss.num, "loss"),
            (network.duplicate.num, "duplicate"),
            (network.reorder.num, "reorder"),
            (u32::from(network.bandwidth > 0), "bandwidth"),
        ];
        words.extend(needs.iter().filter(|(num, _)| *num > 0).map(|(_, word)| *word));
        let bites = self.bites();
        let missed = words.into_iter().filter(|word| !bites.contains_key(word));
        missed.map(|word| format!("`{word}` has had no effect; the scenario proves nothing of it")).collect()
    }

    /// What has had an effect, and how often; the network's own counters included.
    pub(crate) fn bites(&self) -> BTreeMap<&'static str, u64> {
        let net = &self.net.counters;
        let mut bites = self.faults.bites.clone();
        bites.extend(self.net.bites.iter().map(|(word, count)| (*word, *count)));
        let rehearsed = self.hosts.iter().filter_map(|host| host.node.as_ref()).map(|n| n.gossip().rehearsed()).sum();
        let of_net = [
            ("next-frames", rehearsed),
            ("loss", net.lost),
            ("duplicate", net.doubled),
            ("reorder", net.held_back),
            ("bandwidth", net.queued),
            ("refused", net.refused),
            ("black-holed", net.black_holed),
            ("syncs-lost", self.hosts.iter().map(|host| host.disk.lost).sum()),
            ("deploys-refused", self.operator.refused.len() as u64),
            (
                "clocks-refused",
                self.operator.refused.iter().filter(|text| text.starts_with("this node's clock is")).count() as u64,
            ),
        ];
        bites.extend(of_net.into_iter().filter(|(_, count)| *count > 0));
        bites
    }

    /// Appends a line to the timeline while it runs.
    fn later(&mut self, after: Nanos, action: Action) {
        let at = self.now + after;
        self.timeline.push(Step { at, action });
        self.queue.push(at, Event::Step(self.timeline.len() - 1));
    }
}

/// The hosts of a target after the choice.
fn named(target: Target) -> Vec<HostNo> {
    match target {
        Target::Hosts(hosts) => hosts,
        Target::Count(_) | Target::Zone(_) => Vec::new(),
    }
}
