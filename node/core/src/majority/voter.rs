//! A voter: grants a replica to one node at a time, and keeps in memory to whom.
//!
//! Two phases, as in `PaxosLease` (Trencseni, Gazso, Reinhardt 2012). A promise keeps lower ballots out, so that of two nodes that
//! ask at the same moment one gets a majority instead of each a half; a grant keeps everybody else out until it expires. Nothing
//! is on disk: a voter that has booted grants nothing for one lease, by which all that it may have granted before is over.

use alloc::collections::BTreeMap;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::Ballot;
use dunlin_gossip::time::Instant;

use super::terms::LEASE;
use super::word::{Key, Why};

/// Grants that one voter keeps.
const MAX_GRANTS: usize = 16_384;

/// What a voter remembers of a replica.
#[derive(Clone, Copy, Debug)]
struct Grant {
    /// The highest ballot that it has answered.
    ballot: Ballot,
    /// To whom it is granted, until when.
    holder: Option<(NodeId, Instant)>,
    /// The highest epoch that was granted.
    bound: u64,
}

/// One voter.
#[derive(Clone, Debug)]
pub(crate) struct Voter {
    free_from: Instant,
    grants: BTreeMap<Key, Grant>,
}

impl Voter {
    /// A voter that boots now.
    pub(crate) fn new(now: Instant) -> Self {
        let free_from = if planted(Bug::BootedVoterGrants) { now } else { now + LEASE };
        Self { free_from, grants: BTreeMap::new() }
    }

    /// From when on it grants anything.
    pub(crate) const fn free_from(&self) -> Instant {
        self.free_from
    }

    /// What keeps a ballot out now, if anything does.
    fn obstacle(&mut self, key: Key, ballot: Ballot, now: Instant) -> Option<Why> {
        if now < self.free_from {
            return Some(Why::Booted);
        }
        let Some(grant) = self.grants.get_mut(&key) else {
            if self.grants.len() >= MAX_GRANTS {
                // What is over need not be remembered but for its epoch, which claims that spread tell as well.
                self.grants.retain(|_, grant| grant.holder.is_some_and(|(_, until)| until > now));
            }
            return (self.grants.len() >= MAX_GRANTS).then_some(Why::Full);
        };
        if grant.holder.is_some_and(|(_, until)| until <= now) {
            grant.holder = None;
        }
        match grant.holder {
            Some((node, _)) if node != ballot.node && !planted(Bug::GrantOverwritten) => Some(Why::Held(node)),
            _ if ballot < grant.ballot => Some(Why::Ballot(grant.ballot.number)),
            _ => None,
        }
    }

    /// Somebody would be next. Gives the highest epoch that was granted.
    pub(crate) fn prepare(&mut self, key: Key, ballot: Ballot, now: Instant) -> Result<u64, Why> {
        if let Some(why) = self.obstacle(key, ballot, now) {
            return Err(why);
        }
        let grant = self.grants.entry(key).or_insert(Grant { ballot, holder: None, bound: 0 });
        grant.ballot = ballot;
        Ok(grant.bound)
    }

    /// Somebody wants it, or wants it for longer, with epochs up to a bound.
    pub(crate) fn propose(&mut self, key: Key, ballot: Ballot, bound: u64, now: Instant) -> Result<(), Why> {
        if let Some(why) = self.obstacle(key, ballot, now) {
            return Err(why);
        }
        let grant = self.grants.entry(key).or_insert(Grant { ballot, holder: None, bound: 0 });
        *grant = Grant { ballot, holder: Some((ballot.node, now + LEASE)), bound: bound.max(grant.bound) };
        Ok(())
    }

    /// Its holder runs it no more.
    pub(crate) fn release(&mut self, key: Key, ballot: Ballot) {
        let Some(grant) = self.grants.get_mut(&key) else { return };
        // An older release has been overtaken by a request.
        if grant.holder.is_some_and(|(node, _)| node == ballot.node) && ballot >= grant.ballot {
            (grant.ballot, grant.holder) = (ballot, None);
        }
    }
}
