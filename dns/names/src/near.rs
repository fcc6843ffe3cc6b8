//! How far nodes are, by the round trips that the transport measures.
//!
//! Only links are measured, to some of the nodes. A node without a measurement is held to be as far as the nearest measured
//! node of its zone: what stands in one place is equally far. Round trips count in classes, each twice as wide as the one
//! before, and a node leaves its class only when it is clearly out of it: answers must not change with every packet.

use alloc::collections::BTreeMap;
use core::time::Duration;

use dunlin_gossip::id::NodeId;

/// Classes: below 1 ms, below 2 ms, below 4 ms, and so on; the last has no end.
const LAST: u16 = 13;

/// The classes of the nodes that are measured.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Classes(BTreeMap<NodeId, u16>);

impl Classes {
    /// The classes after a look at all round trips; a node that is not among them is not measured any more.
    pub(crate) fn after(&self, round_trips: &BTreeMap<NodeId, Duration>) -> Self {
        let class = |(node, rtt): (&NodeId, &Duration)| {
            let held = self.0.get(node).copied();
            let stays = held.filter(|held| (class_of(*rtt * 4 / 5)..=class_of(*rtt * 5 / 4)).contains(held));
            (*node, stays.unwrap_or_else(|| class_of(*rtt)))
        };
        Self(round_trips.iter().map(class).collect())
    }

    /// The class of a node, or if it is not measured that of the nearest one that is `like` it, or else one beyond all. Where
    /// nothing is measured, all are alike.
    pub(crate) fn of(&self, node: NodeId, like: impl Fn(NodeId) -> bool) -> u16 {
        if self.0.is_empty() {
            return 0;
        }
        let alike = || self.0.iter().filter(|(other, _)| like(**other)).map(|(_, class)| *class).min();
        self.0.get(&node).copied().or_else(alike).unwrap_or(LAST + 1)
    }
}

fn class_of(rtt: Duration) -> u16 {
    let ms = u64::try_from(rtt.as_millis()).unwrap_or(u64::MAX);
    u16::try_from(u64::BITS - ms.leading_zeros()).map_or(LAST, |class| class.min(LAST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_double_and_are_left_only_when_it_is_clear() {
        let us = Duration::from_micros;
        let class = |rtt| class_of(us(rtt));
        assert_eq!([0, 999, 1_000, 1_999, 2_000, 100_000].map(class), [0, 0, 1, 1, 2, 7]);
        assert_eq!(class_of(Duration::MAX), LAST);
        let node = NodeId([1; 16]);
        let mut held = Classes::default();
        for (rtt, class) in [(900, 0), (1_100, 0), (1_300, 1), (900, 1), (700, 0), (5_000, 3)] {
            held = held.after(&BTreeMap::from([(node, us(rtt))]));
            assert_eq!(held.of(node, |_| false), class, "{rtt} us");
        }
        assert_eq!(held.of(NodeId([2; 16]), |_| false), LAST + 1);
        assert_eq!(held.of(NodeId([2; 16]), |other| other == node), 3);
        assert_eq!(held.after(&BTreeMap::new()).of(node, |_| false), 0, "nothing is measured");
    }
}
