//! Which hosts a fault hits. Choices look at the world, never into a node.

use dunlin_gossip::rng::Rng;

use crate::net::HostNo;
use crate::scenario::{Order, Target};
use crate::world::World;

impl World {
    /// Those of `from` that a target means; the first so many of them if it is a number.
    pub(super) fn among(&self, target: &Target, mut from: Vec<HostNo>, rng: &mut Rng) -> Vec<HostNo> {
        match target {
            Target::Hosts(hosts) => hosts.iter().copied().filter(|no| from.contains(no)).collect(),
            Target::Zone(zone) => {
                from.retain(|no| self.net.zone_of(*no) == *zone);
                from
            }
            Target::Count(count) => {
                rng.shuffle(&mut from);
                from.truncate(count.among(self.host_count()) as usize);
                from
            }
        }
    }

    /// Hosts whose agent runs: first those whose disks were saved, then any.
    pub(super) fn choose(&self, target: &Target, rng: &mut Rng) -> Vec<HostNo> {
        let Target::Count(count) = target else {
            return self.among(target, (0..self.host_count()).collect(), rng);
        };
        let mut chosen = self.faults.saved.clone();
        chosen.retain(|no| self.hosts[*no as usize].is_up());
        let mut rest: Vec<HostNo> =
            self.hosts.iter().filter(|h| h.is_up() && !chosen.contains(&h.no)).map(|h| h.no).collect();
        rng.shuffle(&mut rest);
        chosen.extend(rest);
        chosen.truncate(count.among(self.host_count()) as usize);
        chosen
    }

    /// Like `choose`, but hosts on which something runs come first: the death of an idle host shows little.
    pub(super) fn choose_busy(&self, target: &Target, rng: &mut Rng) -> Vec<HostNo> {
        let Target::Count(count) = target else { return self.choose(target, rng) };
        let saved = &self.faults.saved;
        let mut all = self.choose(&Target::Count(crate::scenario::Count::PerHost(1)), rng);
        let is_idle = |no: &HostNo| !self.truth.runs.values().flatten().any(|run| run.host == *no);
        all.sort_by_cached_key(|no| (!saved.contains(no), is_idle(no)));
        all.truncate(count.among(self.host_count()) as usize);
        all
    }

    /// Where operators say something: at agents that answer, unless the scenario says where.
    pub(super) fn who_answers(&self, target: &Target, rng: &mut Rng) -> Vec<HostNo> {
        let up = |h: &&crate::host::Host| h.is_up() && h.paused_until <= self.now;
        let up: Vec<HostNo> = self.hosts.iter().filter(up).map(|h| h.no).collect();
        self.among(target, up, rng)
    }

    /// Of which nodes something is ordered: what is taken back was ordered before, and what runs something is drained first.
    pub(super) fn who_is_ordered(&self, how: Order, target: &Target, rng: &mut Rng) -> Vec<HostNo> {
        match how {
            Order::Drain(_) => self.choose_busy(target, rng),
            Order::Cordon => self.choose(target, rng),
            Order::Undrain | Order::Uncordon => {
                self.among(target, self.operator.ordered.iter().copied().collect(), rng)
            }
        }
    }

    /// Pairs, one after the other in one list.
    pub(super) fn pairs(&self, target: &Target, rng: &mut Rng) -> Vec<HostNo> {
        let Target::Count(count) = target else { return self.choose(target, rng) };
        let hosts = u64::from(self.host_count());
        let mut draw = || u32::try_from(rng.below(hosts)).unwrap_or(0);
        let drawn = (0..count.among(self.host_count())).map(|_| [draw(), draw()]);
        drawn.filter(|[a, b]| a != b).flatten().collect()
    }
}
