//! An owner's side of a lease: what it asks the voters, and until when it holds their grants.
//!
//! The lease counts from the *sending* of a request: each grant is held from then for [`HELD`], and the lease until the moment up
//! to which a majority of one version of the list is held. Nothing here ever makes it longer than that; another version of the
//! list begins to count from nothing, beside what is still held under the one before.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::hash::mix;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{Ballot, VoterList};
use dunlin_gossip::time::{Duration, Instant};

use super::terms::{HELD, PATIENCE, RENEW, STOP_AHEAD};
use super::word::{Key, Why};

/// Requests that an answer may still come to.
const MAX_OPEN: usize = 8;

/// What to ask the voters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ask {
    /// A promise.
    Prepare(Ballot),
    /// A grant, or a longer one.
    Propose(Ballot, u64),
}

#[derive(Clone, Copy, Debug)]
struct Proposed {
    ballot: Ballot,
    sent: Instant,
    bound: u64,
}

#[derive(Clone, Copy, Debug)]
struct Accept {
    until: Instant,
    bound: u64,
}

/// A lease that this node holds or wants.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) key: Key,
    /// Of which version of the list the votes below are.
    list: u64,
    prepared: Option<Ballot>,
    promises: BTreeMap<NodeId, u64>,
    proposed: VecDeque<Proposed>,
    accepts: BTreeMap<NodeId, Accept>,
    until: Option<Instant>,
    /// The highest epoch that a majority granted.
    bound: u64,
    /// The highest epoch that another may have been granted.
    known: u64,
    next: Instant,
    tries: u64,
    /// Why a voter refused last.
    pub(crate) refused: Option<Why>,
    /// Since when it is asked for.
    pub(crate) since: Instant,
    /// Without a claim it is given back then.
    pub(crate) wanted: Instant,
}

impl Lease {
    pub(crate) fn new(key: Key, now: Instant) -> Self {
        Self {
            key,
            list: 0,
            prepared: None,
            promises: BTreeMap::new(),
            proposed: VecDeque::new(),
            accepts: BTreeMap::new(),
            until: None,
            bound: 0,
            known: 0,
            next: now,
            tries: 0,
            refused: None,
            since: now,
            wanted: now,
        }
    }

    /// Until when it is held, or was.
    pub(crate) const fn until(&self) -> Option<Instant> {
        self.until
    }

    pub(crate) fn is_held(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until > now)
    }

    /// The highest epoch that anybody may have had: a new claim is above it.
    pub(crate) const fn known(&self) -> u64 {
        self.known
    }

    /// The highest epoch that a claim under it may have.
    pub(crate) const fn bound(&self) -> u64 {
        self.bound
    }

    /// When it is to be asked for again.
    pub(crate) const fn next(&self) -> Instant {
        self.next
    }

    /// There is nobody to ask before then.
    pub(crate) const fn put_off(&mut self, at: Instant) {
        self.next = at;
    }

    /// Asks at once.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.next = self.next.min(now);
    }

    /// The voters who hold it for us.
    pub(crate) fn granted_by(&self, now: Instant) -> Vec<NodeId> {
        self.accepts.iter().filter(|(_, accept)| accept.until > now).map(|(node, _)| *node).collect()
    }

    /// What to ask now, under the next ballot; `ahead` is how far epochs may go.
    pub(crate) fn ask(&mut self, list: &VoterList, ballot: Ballot, ahead: u64, now: Instant) -> Ask {
        self.follow(list);
        let stop = self.until.map(|until| until - STOP_AHEAD).filter(|stop| *stop > now).unwrap_or(Instant::MAX);
        if self.is_held(now) {
            self.next = stop.min(now + RENEW);
            return self.propose(ballot, ahead, now);
        }
        self.promises.clear();
        self.prepared = Some(ballot);
        // Two nodes that ask in step would keep each other out for good.
        let step = PATIENCE.saturating_mul(1 + u32::try_from(self.tries.min(3)).unwrap_or(0));
        let chance = mix(mix(ballot.node.short(), ballot.number), self.tries) % ms(step);
        self.next = stop.min(now + PATIENCE + Duration::from_millis(chance));
        self.tries += 1;
        Ask::Prepare(ballot)
    }

    fn propose(&mut self, ballot: Ballot, ahead: u64, now: Instant) -> Ask {
        let bound = ahead.max(self.known.saturating_add(1)).max(self.bound);
        if self.proposed.len() == MAX_OPEN {
            self.proposed.pop_front();
        }
        self.proposed.push_back(Proposed { ballot, sent: now, bound });
        Ask::Propose(ballot, bound)
    }

    fn follow(&mut self, list: &VoterList) {
        if self.list != list.version {
            self.list = list.version;
            self.prepared = None;
            self.promises.clear();
            self.accepts.clear();
            // Grants under another list do not count for this one.
            self.proposed.clear();
        }
    }

    /// A voter promises. What to ask next, once a majority has.
    pub(crate) fn promised(
        &mut self,
        list: &VoterList,
        (from, ballot): (NodeId, Ballot),
        bound: u64,
        ahead: u64,
        now: Instant,
    ) -> Option<Ask> {
        if self.list != list.version || self.prepared != Some(ballot) || !list.voters.contains(&from) {
            return None;
        }
        self.promises.insert(from, bound);
        if self.promises.len() < VoterList::majority(list.voters.len()) {
            return None;
        }
        self.prepared = None;
        self.known = self.known.max(self.promises.values().copied().max().unwrap_or(0));
        Some(self.propose(ballot, ahead, now))
    }

    /// A voter grants. True if it is held for longer now.
    pub(crate) fn accepted(&mut self, list: &VoterList, from: NodeId, ballot: Ballot, now: Instant) -> bool {
        if self.list != list.version || !list.voters.contains(&from) {
            return false;
        }
        let Some(proposed) = self.proposed.iter().find(|proposed| proposed.ballot == ballot) else { return false };
        let since = if planted(Bug::LeaseFromReply) { now } else { proposed.sent };
        let accept = self.accepts.entry(from).or_insert(Accept { until: Instant::ZERO, bound: 0 });
        accept.until = accept.until.max(since + HELD);
        accept.bound = accept.bound.max(proposed.bound);
        let nth = VoterList::majority(list.voters.len()) - 1;
        let of_majority = |mut all: Vec<u64>| {
            all.sort_unstable_by(|a, b| b.cmp(a));
            all.get(nth).copied()
        };
        let until = of_majority(self.accepts.values().map(|accept| accept.until.as_nanos()).collect());
        let bound = of_majority(self.accepts.values().map(|accept| accept.bound).collect());
        self.bound = self.bound.max(bound.unwrap_or(0));
        let until = until.map(Instant::from_nanos).filter(|until| Some(*until) > self.until);
        if until.is_none_or(|until| until <= now) {
            return false;
        }
        if !self.is_held(now) {
            self.next = self.next.min(now + RENEW);
        }
        (self.until, self.tries, self.refused) = (until, 0, None);
        true
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::super::voter::Voter;
    use super::*;
    use dunlin_gossip::id::Generation;

    fn node(n: u8) -> NodeId {
        NodeId([n; 16])
    }

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn ballot(number: u64, n: u8) -> Ballot {
        Ballot { number, node: node(n), generation: Generation(1) }
    }

    fn list() -> VoterList {
        VoterList { version: 1, voters: Vec::from([node(1), node(2), node(3)]), previous: Vec::new() }
    }

    #[test]
    fn a_lease_counts_from_its_request_and_needs_a_majority() {
        let (list, mut lease) = (list(), Lease::new(Key(7), at(1_000)));
        let Ask::Prepare(first) = lease.ask(&list, ballot(1, 9), 50, at(1_000)) else {
            panic!("a promise comes first")
        };
        assert_eq!(lease.promised(&list, (node(1), first), 90, 50, at(1_100)), None);
        assert_eq!(lease.promised(&list, (node(8), first), 0, 50, at(1_100)), None, "no voter");
        let asked = lease.promised(&list, (node(3), first), 10, 50, at(1_200));
        assert_eq!(asked, Some(Ask::Propose(first, 91)), "above what anybody was granted");
        assert!(!lease.accepted(&list, node(1), first, at(4_000)));
        assert!(!lease.accepted(&list, node(1), first, at(4_000)), "one voter counts once");
        assert!(!lease.is_held(at(4_000)));
        assert!(lease.accepted(&list, node(2), first, at(5_000)));
        assert_eq!((lease.until(), lease.bound(), lease.known()), (Some(at(1_200) + HELD), 91, 90));
        let Ask::Propose(second, _) = lease.ask(&list, ballot(2, 9), 99, at(6_000)) else { panic!("a renewal") };
        assert!(!lease.accepted(&list, node(3), second, at(6_100)), "another majority is the old one");
        assert!(lease.accepted(&list, node(2), second, at(6_200)));
        assert_eq!(lease.until(), Some(at(6_000) + HELD));
        let next = list.toggled(node(4));
        let _renewal = lease.ask(&next, ballot(3, 9), 99, at(7_000));
        assert!(!lease.accepted(&list, node(1), second, at(7_100)), "that was another list");
        assert!(lease.is_held(at(7_100)), "what was granted under it still holds");
    }

    #[test]
    fn a_voter_grants_to_one_and_forgets_only_by_booting() {
        let mut voter = Voter::new(at(0));
        assert_eq!(voter.prepare(Key(1), ballot(1, 1), at(9_999)), Err(Why::Booted));
        assert_eq!(voter.prepare(Key(1), ballot(1, 1), at(10_000)), Ok(0));
        assert_eq!(voter.prepare(Key(1), ballot(2, 2), at(10_000)), Ok(0));
        assert_eq!(voter.propose(Key(1), ballot(1, 1), 5, at(10_001)), Err(Why::Ballot(2)));
        assert_eq!(voter.propose(Key(1), ballot(2, 2), 5, at(10_002)), Ok(()));
        assert_eq!(voter.prepare(Key(1), ballot(9, 1), at(20_001)), Err(Why::Held(node(2))));
        assert_eq!(voter.propose(Key(2), ballot(9, 1), 5, at(20_001)), Ok(()), "another replica");
        voter.release(Key(1), ballot(1, 2));
        assert_eq!(voter.prepare(Key(1), ballot(9, 1), at(20_001)), Err(Why::Held(node(2))), "an old release");
        assert_eq!(voter.prepare(Key(1), ballot(9, 1), at(20_002)), Ok(5), "expired; its epochs are remembered");
        assert_eq!(voter.propose(Key(1), ballot(3, 2), 6, at(20_003)), Err(Why::Ballot(9)));
        assert_eq!(voter.propose(Key(1), ballot(9, 1), 7, at(20_003)), Ok(()));
        voter.release(Key(1), ballot(10, 1));
        assert_eq!(voter.prepare(Key(1), ballot(11, 2), at(20_004)), Ok(7));
    }
}
