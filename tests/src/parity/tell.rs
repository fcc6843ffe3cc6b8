//! From what agents told to the figures that the simulator reports: pure, so that it can be tried without agents.
//!
//! Everything is taken from the events of whoever it happened to: a replica runs and is ready when its owner says so, a
//! member is held down when an observer says so. The simulator judges readiness by the process itself; the owner's first
//! probe, which comes at once, lies between the two.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::Deed;
use super::watch::Seen;

/// Something that was done, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Done {
    /// When it took effect.
    pub at_ms: u64,
    /// What.
    pub deed: Deed,
}

/// What is told of one run.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// From a host's death to an observer holding it down.
    pub detect_ms: Vec<u64>,
    /// From a host's death to each of its replicas being ready elsewhere.
    pub failover_ms: Vec<u64>,
    /// From a deploy to all its replicas being ready.
    pub deploy_ms: Vec<u64>,
    /// How often one was held down that was alive and in reach.
    pub false_positives: u64,
    /// Replicas that came to run on another node.
    pub moves: u64,
    /// From the command to a running process, of starts after a fault (of all, if none came after one).
    pub start_ms: Vec<u64>,
    /// From running to ready, of the same.
    pub ready_ms: Vec<u64>,
}

/// A flock's story: who told what, and what was done.
#[derive(Debug)]
pub struct Story<'a> {
    /// In order of time.
    pub seen: &'a [Seen],
    /// In order of time.
    pub done: &'a [Done],
    /// Names of the hosts, by number.
    pub names: &'a [String],
    /// The replicas that a deploy asks for.
    pub replicas: &'a BTreeSet<String>,
    /// When the clock started; what was told before only says where replicas were.
    pub start_ms: u64,
}

impl Story<'_> {
    /// All figures.
    #[must_use]
    pub fn told(&self) -> Told {
        let mut told = Told::default();
        self.follow_replicas(&mut told);
        for (index, done) in self.done.iter().enumerate() {
            match &done.deed {
                Deed::CrashHosts(hosts) => {
                    let end = self.end_of(index, |deed| *deed == Deed::Restart);
                    for host in hosts {
                        told.detect_ms.extend(self.detections(*host, done.at_ms, end));
                        told.failover_ms.extend(self.failovers(*host, done.at_ms));
                    }
                }
                Deed::Deploy { at, .. } if at.len() == 1 => {
                    let next = |deed: &Deed| matches!(deed, Deed::Deploy { .. } | Deed::Scale { .. } | Deed::Remove);
                    told.deploy_ms.extend(self.deployed(at[0], done.at_ms, self.end_of(index, next)));
                }
                _ => {}
            }
        }
        let held_down = self.seen.iter().filter(|seen| seen.kind == "member" && seen.text.starts_with("down"));
        let wrongly = held_down.filter(|seen| seen.at_ms >= self.start_ms && self.is_blameless(seen));
        told.false_positives = wrongly.count() as u64;
        told
    }

    fn end_of(&self, index: usize, ends: impl Fn(&Deed) -> bool) -> u64 {
        self.done.iter().skip(index + 1).find(|later| ends(&later.deed)).map_or(u64::MAX, |later| later.at_ms)
    }

    /// What an owner told of its own replicas.
    fn own(&self) -> impl Iterator<Item = &Seen> {
        self.seen.iter().filter(|seen| seen.kind == "allocation" && self.names.get(seen.by) == Some(&seen.node))
    }

    fn detections(&self, host: usize, from: u64, to: u64) -> impl Iterator<Item = u64> {
        let is_it = move |seen: &&Seen| {
            seen.kind == "member"
                && Some(&seen.node) == self.names.get(host)
                && seen.text.starts_with("down")
                && (from..to).contains(&seen.at_ms)
        };
        let mut first = BTreeMap::new();
        self.seen.iter().filter(is_it).for_each(|seen| _ = first.entry(seen.by).or_insert(seen.at_ms));
        first.into_values().map(move |at| at - from)
    }

    /// Where each replica ran last, as of a moment.
    fn places(&self, at_ms: u64) -> BTreeMap<&str, usize> {
        let running = self.own().filter(|seen| seen.text == "running" && seen.at_ms <= at_ms);
        running.map(|seen| (seen.replica.as_str(), seen.by)).collect()
    }

    fn failovers(&self, host: usize, died: u64) -> Vec<u64> {
        let lost = self.places(died).into_iter().filter(|(_, at)| *at == host).map(|(replica, _)| replica);
        let again = |replica: &str| {
            let ready = |seen: &&Seen| seen.replica == replica && seen.text == "healthy" && seen.at_ms > died;
            self.own().filter(|seen| seen.by != host).find(ready).map(|seen| seen.at_ms - died)
        };
        lost.filter_map(again).collect()
    }

    /// The accepting node says when it took the write.
    fn deployed(&self, at: usize, from: u64, to: u64) -> Option<u64> {
        let taken = |seen: &&Seen| seen.by == at && seen.kind == "desired" && (from..to).contains(&seen.at_ms);
        let from = self.seen.iter().find(taken)?.at_ms;
        let mut missing: BTreeSet<&str> = self.replicas.iter().map(String::as_str).collect();
        for seen in self.own().filter(|seen| seen.text == "healthy" && (from..to).contains(&seen.at_ms)) {
            if missing.remove(seen.replica.as_str()) && missing.is_empty() {
                return Some(seen.at_ms - from);
            }
        }
        None
    }

    fn follow_replicas(&self, told: &mut Told) {
        let fault =
            self.done.iter().find(|done| !matches!(done.deed, Deed::Deploy { .. })).map_or(0, |done| done.at_ms);
        let (mut places, mut starting, mut running) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (mut early_starts, mut early_readies) = (Vec::new(), Vec::new());
        for seen in self.own() {
            let key = (seen.by, seen.replica.as_str());
            let late = seen.at_ms >= fault;
            match seen.text.as_str() {
                "starting" => _ = starting.insert(key, seen.at_ms),
                "running" => {
                    let moved = places.insert(seen.replica.as_str(), seen.by).is_some_and(|before| before != seen.by);
                    told.moves += u64::from(moved);
                    running.insert(key, seen.at_ms);
                    let took = starting.remove(&key).map(|since| seen.at_ms - since);
                    if late { &mut told.start_ms } else { &mut early_starts }.extend(took);
                }
                "healthy" => {
                    let took = running.remove(&key).map(|since| seen.at_ms - since);
                    if late { &mut told.ready_ms } else { &mut early_readies }.extend(took);
                }
                _ => {}
            }
        }
        if told.start_ms.is_empty() {
            (told.start_ms, told.ready_ms) = (early_starts, early_readies);
        }
    }

    /// True if the one who was held down was alive, awake and in reach.
    fn is_blameless(&self, seen: &Seen) -> bool {
        let Some(about) = self.names.iter().position(|name| *name == seen.node) else { return false };
        let none = BTreeSet::<usize>::new;
        let (mut dead, mut apart, mut mute, mut asleep) = (none(), none(), none(), none());
        for done in self.done.iter().filter(|done| done.at_ms <= seen.at_ms) {
            match &done.deed {
                Deed::CrashAgents(hosts) | Deed::CrashHosts(hosts) => dead.extend(hosts),
                Deed::Restart => dead.clear(),
                Deed::Partition(hosts) => apart.extend(hosts),
                Deed::Mute(hosts) => mute.extend(hosts),
                Deed::Heal => (apart, mute) = (none(), none()),
                Deed::Pause(hosts, time) if done.at_ms + u64::try_from(time.as_millis()).unwrap_or(0) > seen.at_ms => {
                    asleep.extend(hosts);
                }
                _ => {}
            }
        }
        let parted =
            apart.contains(&about) != apart.contains(&seen.by) || mute.contains(&about) || mute.contains(&seen.by);
        !parted && !dead.contains(&about) && !asleep.contains(&about)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(by: usize, at_ms: u64, kind: &str, node: &str, replica: &str, text: &str) -> Seen {
        let (kind, node) = (kind.to_owned(), node.to_owned());
        Seen { by, at_ms, kind, node, replica: replica.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_death_is_told_by_those_who_saw_it_and_by_who_took_over() {
        let own = |by: usize, at, text| seen(by, at, "allocation", ["n1", "n2", "n3"][by], "shop/web.1", text);
        let member = |by, at, node, text| seen(by, at, "member", node, "", text);
        let all = [
            seen(0, 1_010, "desired", "", "", "wanted, at revision 1"),
            own(2, 1_100, "starting"),
            own(2, 1_120, "running"),
            seen(0, 1_130, "allocation", "n3", "shop/web.1", "healthy"),
            own(2, 1_150, "healthy"),
            member(1, 1_500, "n1", "down (does not answer)"),
            member(0, 3_500, "n3", "suspect (does not answer)"),
            member(0, 4_000, "n3", "down (does not answer)"),
            member(1, 4_100, "n3", "down (heard from others)"),
            own(1, 4_300, "starting"),
            own(1, 4_310, "running"),
            own(1, 4_320, "healthy"),
            member(0, 5_000, "n3", "alive (joined)"),
        ];
        let done = [
            Done { at_ms: 1_000, deed: Deed::Deploy { at: vec![0], same: false } },
            Done { at_ms: 2_000, deed: Deed::CrashHosts(vec![2]) },
            Done { at_ms: 4_900, deed: Deed::Restart },
        ];
        let names = ["n1", "n2", "n3"].map(str::to_owned);
        let replicas = BTreeSet::from(["shop/web.1".to_owned()]);
        let told = Story { seen: &all, done: &done, names: &names, replicas: &replicas, start_ms: 0 }.told();
        assert_eq!((told.detect_ms, told.failover_ms, told.deploy_ms), (vec![2_000, 2_100], vec![2_320], vec![140]));
        assert_eq!((told.false_positives, told.moves), (1, 1), "n1 was held down for nothing");
        assert_eq!((told.start_ms, told.ready_ms), (vec![10], vec![10]), "those after the fault");
    }

    #[test]
    fn those_across_a_cut_are_not_held_down_wrongly() {
        let done = [Done { at_ms: 10, deed: Deed::Partition(vec![1]) }, Done { at_ms: 20, deed: Deed::Heal }];
        let names = ["n1", "n2"].map(str::to_owned);
        let down = |at| seen(0, at, "member", "n2", "", "down (does not answer)");
        let replicas = BTreeSet::new();
        let count = |all: &[Seen]| {
            Story { seen: all, done: &done, names: &names, replicas: &replicas, start_ms: 0 }.told().false_positives
        };
        assert_eq!((count(&[down(15)]), count(&[down(25)]), count(&[down(5)])), (0, 1, 1));
    }
}
