//! Who loses its work again and again gets no new work for a while: a node that was held for dead and came back, a second time and
//! more often, is left out of placement for a time that doubles with each return, as long as others have room.
//!
//! The first return costs nothing, since most nodes that come back stay. Each node judges others by what it saw itself, and itself
//! by how often it had to renew its identity, so that the one that stalls holds back as well; that their counts differ costs at
//! most a step of the claim ladder. What a node runs stays where it is: this is about what is placed anew.
//!
//! Never: a claim taken away, or a replica left waiting that only such a node could run.

use alloc::collections::{BTreeMap, BTreeSet};

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::face::NoticeLevel;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::time::{Duration, Instant};

use crate::engine::Node;
use crate::face::EventKind;

/// After the second return; twice that after the third, and so on.
const FIRST: Duration = Duration::from_secs(60);
/// But no longer than this.
const LONGEST: Duration = Duration::from_secs(3_600);
/// Whoever then stays for as long again, and at least for this, begins anew.
const CALM: Duration = Duration::from_secs(600);

/// How often a node came back, and when it did last.
#[derive(Clone, Copy, Debug)]
struct Flaps {
    count: u32,
    last: Instant,
}

impl Flaps {
    fn hold(self) -> Duration {
        let doublings = self.count.saturating_sub(2).min(16);
        if self.count < 2 { Duration::ZERO } else { FIRST.saturating_mul(1 << doublings).min(LONGEST) }
    }

    fn until(self) -> Instant {
        self.last + self.hold()
    }

    fn forgotten_at(self) -> Instant {
        self.until() + self.hold().max(CALM)
    }
}

/// The nodes that came back of late; bounded by the members.
#[derive(Clone, Debug, Default)]
pub(crate) struct HoldDown {
    flaps: BTreeMap<NodeId, Flaps>,
    /// Own renewals that are counted already.
    renewals: u64,
}

impl HoldDown {
    /// A node is back that was held for dead. The time for which it is held down, if it is.
    pub(crate) fn back(&mut self, node: NodeId, now: Instant) -> Option<(u32, Duration)> {
        self.flaps.retain(|_, flaps| flaps.forgotten_at() > now);
        let flaps = self.flaps.entry(node).or_insert(Flaps { count: 0, last: now });
        *flaps = Flaps { count: flaps.count.saturating_add(1), last: now };
        Some((flaps.count, flaps.hold())).filter(|(_, hold)| !hold.is_zero())
    }

    /// Others have held this node itself for dead so many times in this boot. As [`HoldDown::back`] for what is new in that.
    pub(crate) fn renewed(&mut self, me: NodeId, renewals: u64, now: Instant) -> Option<(u32, Duration)> {
        let is_new = renewals > self.renewals;
        self.renewals = renewals;
        if is_new { self.back(me, now) } else { None }
    }

    /// A node does not belong any more.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.flaps.remove(&node);
    }

    /// Who gets no new work now.
    pub(crate) fn held(&self, now: Instant) -> BTreeSet<NodeId> {
        let held = self.flaps.iter().filter(|(_, flaps)| flaps.until() > now && !planted(Bug::FlapsForgotten));
        held.map(|(node, _)| *node).collect()
    }

    /// When the next of them is free again.
    pub(crate) fn next_free(&self, now: Instant) -> Option<Instant> {
        self.flaps.values().map(|flaps| flaps.until()).filter(|at| *at > now).min()
    }
}

impl Node {
    /// Others held this very node for dead.
    pub(crate) fn watch_renewals(&mut self, now: Instant) {
        let held = self.hold_down.renewed(self.me, self.gossip.renewals(), now);
        self.tell_hold_down(self.me, held);
    }

    pub(crate) fn tell_hold_down(&mut self, node: NodeId, held: Option<(u32, Duration)>) {
        if let Some((count, hold)) = held {
            let text = alloc::format!(
                "was held for dead and came back {count} times; it gets no new work for {} s, where others have room",
                hold.as_secs()
            );
            self.log.node(NoticeLevel::Warn, EventKind::Member, node, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId([7; 16]);

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1_000)
    }

    #[test]
    fn the_first_return_is_free_and_each_later_one_costs_twice_as_much() {
        let mut hold = HoldDown::default();
        assert_eq!(hold.back(NODE, at(100)), None);
        assert!(hold.held(at(100)).is_empty());
        let times: alloc::vec::Vec<u64> =
            (1..9).filter_map(|n| hold.back(NODE, at(100 + 40 * n)).map(|(_, hold)| hold.as_secs())).collect();
        assert_eq!(times, [60, 120, 240, 480, 960, 1_920, 3_600, 3_600]);
        let last = 100 + 40 * 8;
        assert_eq!(hold.next_free(at(last)), Some(at(last + 3_600)));
        assert!(hold.held(at(last + 3_599)).contains(&NODE) && hold.held(at(last + 3_600)).is_empty());
    }

    #[test]
    fn who_stays_begins_anew() {
        let mut hold = HoldDown::default();
        hold.back(NODE, at(0));
        assert_eq!(hold.back(NODE, at(599)).map(|(count, _)| count), Some(2));
        assert_eq!(hold.back(NODE, at(599 + 60 + 600)), None, "a minute held, ten minutes calm");
    }

    #[test]
    fn own_renewals_count_once() {
        let mut hold = HoldDown::default();
        assert_eq!(hold.renewed(NODE, 1, at(0)), None);
        assert_eq!(hold.renewed(NODE, 1, at(1)), None);
        assert_eq!(hold.renewed(NODE, 2, at(2)), Some((2, FIRST)));
        hold.forget(NODE);
        assert!(hold.held(at(3)).is_empty());
    }
}
