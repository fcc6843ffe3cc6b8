//! The broadcast tree: which links carry records at once, and which merely tell what was carried (Leitao, Pereira and
//! Rodrigues, "Epidemic Broadcast Trees", 2007).
//!
//! Every link starts eager. One that keeps bringing what another eager link brought first becomes lazy, at both ends: it
//! then carries hashes. A hash whose record does not come in time makes the link that told it eager again.
//!
//! The tree is shared by all writers, where the paper has one root: what is superfluous for one writer's record may be the
//! only way for the next one's. So a link is judged by its share of duplicates among many records, one link at a time, and
//! the judgement starts anew after each change. A link that joins two halves brings none, hence always stays.
//!
//! **Invariant**: a node with links has an eager one. Never a record here, never a frame, and never the only way for a
//! record: every table is bounded, and what falls out of it a sync finds.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::face::LinkId;
use crate::time::{Duration, Instant};

/// How long hashes are collected for a digest, by the two ends of a link: the patient one mostly hears first what it would
/// have told.
const TELL: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(150)];
/// Hashes that make a digest at once.
const MAX_DIGEST: usize = 256;
/// Hashes that are told and not here, at most.
const MAX_MISSING: usize = 1_024;
/// Links to ask for a hash, at most.
const MAX_TELLERS: usize = 4;
/// After a change, what is under way by the old edges is no evidence.
const SETTLE: Duration = Duration::from_millis(250);
/// Duplicates that are evidence.
const EVIDENCE: u32 = 8;
/// One record in so many must be a duplicate. On a long loop each link brings few, and stays, as a spare.
const SHARE: u32 = 2;
/// Records after which older evidence counts half.
const WINDOW: u32 = 128;

/// What is to be said over a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Word {
    /// Records with these hashes came of late.
    Digest(Vec<u64>),
    /// Send these, and what comes from now on.
    Graft(Vec<u64>),
}

#[derive(Debug)]
struct Edge {
    lazy: bool,
    patience: Duration,
    duplicates: u32,
    untold: BTreeSet<u64>,
    tell_at: Option<Instant>,
}

/// A record of which we heard only the hash.
#[derive(Debug)]
struct Missing {
    due: Instant,
    tellers: Vec<LinkId>,
}

/// The edges at one node.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    edges: BTreeMap<LinkId, Edge>,
    missing: BTreeMap<u64, Missing>,
    /// First copies that came over links, since the last change.
    firsts: u32,
    changed: Option<Instant>,
    /// Not later than the next thing to do.
    due: Option<Instant>,
}

impl Tree {
    /// A link is up; of its two ends one is `patient`.
    pub(crate) fn up(&mut self, link: LinkId, patient: bool) {
        let patience = TELL[usize::from(patient)];
        let edge = Edge { lazy: false, patience, duplicates: 0, untold: BTreeSet::new(), tell_at: None };
        self.edges.insert(link, edge);
    }

    /// Forgets links that are gone. If no eager one is left, returns the one that is now, to be told so.
    pub(crate) fn keep(&mut self, stands: impl Fn(LinkId) -> bool) -> Option<LinkId> {
        self.edges.retain(|link, _| stands(*link));
        if self.has_eager() {
            return None;
        }
        let (link, edge) = self.edges.iter_mut().next()?;
        edge.lazy = false;
        Some(*link)
    }

    /// True if something is pushed to anybody at once.
    pub(crate) fn has_eager(&self) -> bool {
        self.edges.values().any(|edge| !edge.lazy)
    }

    pub(crate) fn is_lazy(&self, link: LinkId) -> bool {
        self.edges.get(&link).is_some_and(|edge| edge.lazy)
    }

    /// A record came that we did not hold.
    pub(crate) fn first(&mut self, hash: u64, over: Option<LinkId>) {
        self.missing.remove(&hash);
        if over.is_none() {
            return;
        }
        self.firsts += 1;
        if self.firsts >= WINDOW {
            self.firsts /= 2;
            self.edges.values_mut().for_each(|edge| edge.duplicates /= 2);
        }
    }

    /// A record came again, over another link than the first time. True if that link is to be lazy: tell its other end.
    pub(crate) fn again(&mut self, now: Instant, over: LinkId, first: LinkId) -> bool {
        if self.edges.get(&first).is_none_or(|edge| edge.lazy) {
            return false;
        }
        let most = self.edges.values().map(|edge| edge.duplicates).max().unwrap_or(0);
        let settled = self.changed.is_none_or(|at| at + SETTLE <= now);
        let Some(edge) = self.edges.get_mut(&over) else { return false };
        edge.duplicates = edge.duplicates.saturating_add(1);
        let count = edge.duplicates;
        let superfluous = count >= EVIDENCE.max(most) && count.saturating_mul(SHARE) > self.firsts;
        if superfluous && settled {
            edge.lazy = true;
            self.judge_anew(now);
        }
        superfluous && settled
    }

    fn judge_anew(&mut self, now: Instant) {
        self.changed = Some(now);
        self.firsts = 0;
        self.edges.values_mut().for_each(|edge| edge.duplicates = 0);
    }

    /// The other end finds the link superfluous. False if it is our last eager one: graft it.
    pub(crate) fn pruned(&mut self, now: Instant, link: LinkId) -> bool {
        let others = self.edges.iter().any(|(id, edge)| *id != link && !edge.lazy);
        if let Some(edge) = self.edges.get_mut(&link) {
            edge.lazy = others;
            self.judge_anew(now);
        }
        others
    }

    /// The other end wants the link eager.
    pub(crate) fn grafted(&mut self, now: Instant, link: LinkId) {
        if let Some(edge) = self.edges.get_mut(&link).filter(|edge| edge.lazy) {
            edge.lazy = false;
            self.judge_anew(now);
        }
    }

    /// Has a lazy link told that a record came.
    pub(crate) fn tell(&mut self, now: Instant, link: LinkId, hash: u64) {
        let Some(edge) = self.edges.get_mut(&link) else { return };
        edge.untold.insert(hash);
        let full = edge.untold.len() >= MAX_DIGEST;
        let at = if full { now } else { edge.tell_at.unwrap_or(now + edge.patience) };
        edge.tell_at = Some(at);
        self.wake(at);
    }

    /// The other end of a link holds a record; `here` if we do as well. What is not here within `wait` is asked for.
    pub(crate) fn told(&mut self, now: Instant, wait: Duration, link: LinkId, hash: u64, here: bool) {
        let Some(edge) = self.edges.get_mut(&link) else { return };
        edge.untold.remove(&hash);
        if here || (self.missing.len() >= MAX_MISSING && !self.missing.contains_key(&hash)) {
            return;
        }
        let due = now + wait;
        let missing = self.missing.entry(hash).or_insert(Missing { due, tellers: Vec::new() });
        if missing.tellers.len() < MAX_TELLERS && !missing.tellers.contains(&link) {
            missing.tellers.push(link);
        }
        self.wake(due);
    }

    fn wake(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.due
    }

    /// What is due: digests, and grafts of what did not come. What is asked for is waited for again, `wait` long.
    pub(crate) fn tick(&mut self, now: Instant, wait: Duration) -> Vec<(LinkId, Word)> {
        let mut words = Vec::new();
        if self.due.is_none_or(|at| at > now) {
            return words;
        }
        for (link, edge) in &mut self.edges {
            if edge.tell_at.is_some_and(|at| at <= now) {
                edge.tell_at = None;
                let hashes: Vec<u64> = core::mem::take(&mut edge.untold).into_iter().collect();
                if !hashes.is_empty() {
                    words.push((*link, Word::Digest(hashes)));
                }
            }
        }
        let asked = self.ask(now, wait);
        for link in asked.keys() {
            self.grafted(now, *link);
        }
        words.extend(asked.into_iter().map(|(link, hashes)| (link, Word::Graft(hashes))));
        let tells = self.edges.values().filter_map(|edge| edge.tell_at);
        self.due = tells.chain(self.missing.values().map(|missing| missing.due)).min();
        words
    }

    /// Whom to ask for what is overdue: as few links as possible, each hash of one after the other.
    fn ask(&mut self, now: Instant, wait: Duration) -> BTreeMap<LinkId, Vec<u64>> {
        let mut asked: BTreeMap<LinkId, Vec<u64>> = BTreeMap::new();
        let edges = &self.edges;
        self.missing.retain(|hash, missing| {
            if missing.due > now {
                return true;
            }
            missing.tellers.retain(|link| edges.contains_key(link));
            let known = missing.tellers.iter().position(|link| asked.contains_key(link)).unwrap_or(0);
            if missing.tellers.is_empty() {
                return false;
            }
            asked.entry(missing.tellers.remove(known)).or_default().push(*hash);
            missing.due = now + wait;
            true
        });
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_millis(200);

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn tree(links: u64) -> Tree {
        let mut tree = Tree::default();
        (1..=links).for_each(|link| tree.up(LinkId(link), false));
        tree
    }

    /// Records that come over link 1 first and then over those; the links that are to be lazy, in order.
    fn flood(tree: &mut Tree, now: Instant, count: u64, then: &[u64]) -> Vec<u64> {
        let mut pruned = Vec::new();
        for hash in 0..count {
            tree.first(hash, Some(LinkId(1)));
            pruned.extend(then.iter().copied().filter(|link| tree.again(now, LinkId(*link), LinkId(1))));
        }
        pruned
    }

    #[test]
    fn superfluous_links_go_one_at_a_time_and_the_useful_one_stays() {
        let mut tree = tree(3);
        assert_eq!(flood(&mut tree, at(1_000), 7, &[2, 3]), [0; 0]);
        assert_eq!(flood(&mut tree, at(1_000), 100, &[2, 3]), [2]);
        assert!(tree.is_lazy(LinkId(2)) && !tree.is_lazy(LinkId(3)));
        assert_eq!(flood(&mut tree, at(1_249), 100, &[3]), [0; 0]);
        assert_eq!(flood(&mut tree, at(1_250), 100, &[3]), [3]);
        assert!(!tree.is_lazy(LinkId(1)));
    }

    #[test]
    fn a_link_with_few_duplicates_stays() {
        let mut tree = tree(2);
        for round in 0..500 {
            let now = at(1_000 + round);
            assert_eq!(flood(&mut tree, now, 7, &[]), [0; 0]);
            assert_eq!(flood(&mut tree, now, 1, &[2]), [0; 0], "one in eight");
        }
    }

    #[test]
    fn what_a_lazy_link_brought_is_no_evidence() {
        let mut tree = tree(3);
        assert!(tree.pruned(at(0), LinkId(1)));
        assert_eq!(flood(&mut tree, at(1_000), 100, &[2, 3]), [0; 0]);
    }

    #[test]
    fn the_last_eager_link_is_kept_and_a_lost_one_replaced() {
        let mut tree = tree(3);
        assert!(tree.pruned(at(0), LinkId(1)));
        assert!(tree.pruned(at(0), LinkId(2)));
        assert!(!tree.pruned(at(0), LinkId(3)));
        assert!(!tree.is_lazy(LinkId(3)));
        assert_eq!(tree.keep(|_| true), None);
        assert_eq!(tree.keep(|link| link != LinkId(3)), Some(LinkId(1)));
        assert!(!tree.is_lazy(LinkId(1)) && tree.is_lazy(LinkId(2)));
        assert_eq!(tree.keep(|_| false), None);
    }

    #[test]
    fn a_digest_collects_and_leaves_out_what_the_other_end_told() {
        let mut tree = tree(1);
        (1..=3).for_each(|hash| tree.tell(at(hash), LinkId(1), hash));
        tree.told(at(40), WAIT, LinkId(1), 2, true);
        assert_eq!(tree.next_deadline(), Some(at(51)));
        assert_eq!(tree.tick(at(50), WAIT), []);
        assert_eq!(tree.tick(at(51), WAIT), [(LinkId(1), Word::Digest(alloc::vec![1, 3]))]);
        assert_eq!(tree.next_deadline(), None);
        (0..256).for_each(|hash| tree.tell(at(200), LinkId(1), hash));
        assert_eq!(tree.next_deadline(), Some(at(200)), "a full one waits no longer");
    }

    #[test]
    fn what_does_not_come_is_asked_for_from_one_after_the_other() {
        let mut tree = tree(4);
        (2..=4).for_each(|link| assert!(tree.pruned(at(0), LinkId(link))));
        for (link, hash) in [(2, 7), (3, 7), (3, 8), (4, 9), (4, 10)] {
            tree.told(at(1_000), WAIT, LinkId(link), hash, hash == 10);
        }
        tree.first(9, Some(LinkId(1)));
        assert_eq!(tree.tick(at(1_199), WAIT), []);
        let grafts = tree.tick(at(1_200), WAIT);
        assert_eq!(grafts, [(LinkId(2), Word::Graft(alloc::vec![7])), (LinkId(3), Word::Graft(alloc::vec![8]))]);
        assert!(!tree.is_lazy(LinkId(2)) && !tree.is_lazy(LinkId(3)) && tree.is_lazy(LinkId(4)));
        assert_eq!(tree.tick(at(1_400), WAIT), [(LinkId(3), Word::Graft(alloc::vec![7]))]);
        assert_eq!(tree.tick(at(1_600), WAIT), []);
        assert_eq!(tree.next_deadline(), None, "nobody is left to ask");
    }

    #[test]
    fn whom_nobody_can_ask_is_passed_over() {
        let mut tree = tree(3);
        tree.told(at(0), WAIT, LinkId(2), 7, false);
        tree.told(at(0), WAIT, LinkId(3), 7, false);
        assert_eq!(tree.keep(|link| link != LinkId(2)), None);
        assert_eq!(tree.tick(at(200), WAIT), [(LinkId(3), Word::Graft(alloc::vec![7]))]);
    }

    #[test]
    fn tables_are_bounded() {
        let mut tree = tree(9);
        for hash in 0..100_000 {
            (1..=9).for_each(|link| tree.told(at(0), WAIT, LinkId(link), hash, false));
        }
        assert_eq!(tree.missing.len(), MAX_MISSING);
        assert!(tree.missing.values().all(|missing| missing.tellers.len() == MAX_TELLERS));
    }
}
