//! Tells a flock that shrank from a node that was cut off, which must not take over what others still run.
//!
//! A node that loses most of the roster within seconds is probably the one that was lost. To find that out by losing members
//! one by one takes longer the larger the flock is, and until then each of them would be replaced here. Two signs come
//! sooner, whatever its size: nobody at all is heard any more, or nearly all of the last probes failed, which are a sample of
//! the roster. Each makes the node hold back for half a minute at most, so that the smaller side of a lasting cut, and the
//! last node that is left, take over in the end.
//!
//! Never: a judgement about another member; that is membership's.

use alloc::collections::VecDeque;
use alloc::string::ToString;

use dunlin_gossip::face::{MemberReason, MemberState, NoticeLevel};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::time::{Duration, Instant};

use crate::engine::Node;
use crate::face::EventKind;

/// Losing more than half of the roster within this time looks like being cut off oneself.
const WINDOW: Duration = Duration::from_secs(10);
/// Then nothing is taken over for this long.
const HOLD: Duration = Duration::from_secs(30);
/// Hearing nobody for this long looks like it too: each member is probed, and probes, twice a second.
const SILENCE: Duration = Duration::from_secs(2);
/// While nobody is heard, this long passes until the next look.
const LOOK: Duration = Duration::from_millis(500);
/// So many of the last probes are looked at,
const PROBES: u32 = 5;
/// and so many of them must have failed.
const FAILED: usize = 4;
/// Two nodes cannot tell which of them was cut off, and each goes on at once.
const LEAST: usize = 3;

/// What a node knows of its own connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Isolation {
    lost: VecDeque<(Instant, NodeId)>,
    failed: VecDeque<Instant>,
    hold_until: Instant,
}

impl Isolation {
    /// A member went down; true if this looks like isolation from now on.
    pub(crate) fn down(&mut self, node: NodeId, roster: usize, now: Instant) -> bool {
        self.lost.retain(|(at, lost)| now.since(*at) < WINDOW && *lost != node);
        self.lost.push_back((now, node));
        self.lost.len() * 2 > roster && self.hold(now)
    }

    /// A member did not answer our own probe; true if this looks like isolation from now on.
    pub(crate) fn unanswered(&mut self, roster: usize, probe_period: Duration, now: Instant) -> bool {
        let window = probe_period.saturating_mul(PROBES);
        self.failed.retain(|at| now.since(*at) < window);
        self.failed.push_back(now);
        let most = self.failed.len() >= FAILED && roster > FAILED;
        most && self.hold(now)
    }

    fn hold(&mut self, now: Instant) -> bool {
        let is_new = self.hold_until <= now;
        self.hold_until = now + HOLD;
        is_new
    }

    /// A member is back.
    pub(crate) fn back(&mut self, node: NodeId) {
        self.lost.retain(|(_, lost)| *lost != node);
    }

    /// Nothing displaced is taken over before this moment, as far as is known at this one; `heard` is when anybody was.
    pub(crate) fn hold_until(&self, roster: usize, heard: Instant, now: Instant) -> Instant {
        let silence = now.since(heard);
        let is_deaf = roster >= LEAST && (SILENCE..HOLD).contains(&silence);
        if is_deaf { self.hold_until.max(now + LOOK) } else { self.hold_until }
    }
}

impl Node {
    /// A member is something else now.
    pub(crate) fn watch_isolation(&mut self, node: NodeId, state: MemberState, reason: MemberReason, now: Instant) {
        let roster = self.gossip.roster_size();
        let is_new = match state {
            MemberState::Down => self.isolation.down(node, roster, now),
            MemberState::Suspect if reason == MemberReason::Silence => {
                self.isolation.unanswered(roster, self.gossip.probe_period(), now)
            }
            MemberState::Alive => {
                self.isolation.back(node);
                false
            }
            MemberState::Suspect | MemberState::Left => false,
        };
        if is_new {
            let text = "most of the roster is lost at once; nothing is taken over for 30 s".to_string();
            self.log.node(NoticeLevel::Warn, EventKind::Node, self.me, text);
        }
    }

    /// Until when nothing displaced is taken over.
    pub(crate) fn isolated_until(&self, now: Instant) -> Instant {
        self.isolation.hold_until(self.gossip.roster_size(), self.gossip.last_heard(), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId([n; 16])
    }

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn losing_most_of_the_roster_at_once_is_isolation() {
        let mut isolation = Isolation::default();
        assert!(!isolation.down(node(1), 5, at(1_000)));
        assert!(!isolation.down(node(2), 5, at(1_000)));
        assert!(!isolation.down(node(3), 5, at(60_000)));
        assert!(!isolation.down(node(4), 5, at(60_000)));
        assert!(isolation.down(node(5), 5, at(60_000)));
        assert_eq!(isolation.hold_until(5, at(60_000), at(60_000)), at(90_000));
    }

    #[test]
    fn hearing_nobody_is_isolation_for_a_while() {
        let isolation = Isolation::default();
        let hold = |roster, now| isolation.hold_until(roster, at(1_000), at(now));
        assert_eq!(hold(1_000, 2_999), Instant::ZERO);
        assert_eq!(hold(1_000, 3_000), at(3_500));
        assert_eq!(hold(1_000, 30_999), at(31_499));
        assert_eq!(hold(1_000, 31_000), Instant::ZERO, "who is alone for good goes on");
        assert_eq!(hold(2, 3_000), Instant::ZERO, "one of two cannot tell");
    }

    #[test]
    fn failing_most_probes_in_a_row_is_isolation_and_a_third_is_not() {
        let period = Duration::from_millis(500);
        let mut isolation = Isolation::default();
        for third in 0..10 {
            assert!(!isolation.unanswered(20, period, at(third * 1_500)));
        }
        for (n, expected) in [(0, false), (1, false), (2, false), (3, true), (4, false)] {
            assert_eq!(isolation.unanswered(20, period, at(60_000 + n * 500)), expected, "{n}");
        }
        assert_eq!(isolation.hold_until(20, at(62_000), at(62_000)), at(92_000));
    }
}
