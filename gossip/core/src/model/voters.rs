//! Who votes about replicas of which one at most may run, and what a voter has accepted about who shall vote next.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::id::{Generation, NodeId};

/// More voters make a majority no safer, only slower.
pub const MAX_VOTERS: usize = 7;

/// The voters, as one version of the list says. Each version adds or removes one node of the version before, so that
/// majorities of the two always share a voter.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct VoterList {
    /// Grows by one with each change; the first is 1.
    pub version: u64,
    /// Who votes, in order of node id.
    pub voters: Vec<NodeId>,
    /// Who voted before.
    pub previous: Vec<NodeId>,
}

impl VoterList {
    /// The list with which a cluster begins.
    #[must_use]
    pub fn first(node: NodeId) -> Self {
        Self { version: 1, voters: Vec::from([node]), previous: Vec::new() }
    }

    /// The list after it, with one more voter, or with one less if that one votes already.
    #[must_use]
    pub fn toggled(&self, node: NodeId) -> Self {
        let mut voters = self.voters.clone();
        match voters.binary_search(&node) {
            Ok(at) => drop(voters.remove(at)),
            Err(at) => voters.insert(at, node),
        }
        Self { version: self.version + 1, voters, previous: self.voters.clone() }
    }

    /// How many of so many voters are a majority.
    #[must_use]
    pub const fn majority(voters: usize) -> usize {
        voters / 2 + 1
    }

    /// True for what [`VoterList::toggled`] and [`VoterList::first`] can make.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let is_in = |list: &[NodeId], node: &NodeId| list.binary_search(node).is_ok();
        let more = self.voters.iter().filter(|node| !is_in(&self.previous, node)).count();
        let fewer = self.previous.iter().filter(|node| !is_in(&self.voters, node)).count();
        let is_ordered = |list: &[NodeId]| list.len() <= MAX_VOTERS && list.is_sorted_by(|a, b| a < b);
        let is_lone = self.version == 1 && self.previous.is_empty();
        is_ordered(&self.voters)
            && is_ordered(&self.previous)
            && !self.voters.is_empty()
            && (is_lone || (more + fewer == 1 && self.version > 1))
    }
}

/// A number under which something is asked of voters: of two the higher counts. No two requests have one number, not even of two
/// boots of one node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Ballot {
    /// Grows with each request.
    pub number: u64,
    /// Who asks.
    pub node: NodeId,
    /// In which boot.
    pub generation: Generation,
}

/// What a node has accepted as the next list of voters and must not forget: the last of its own records that says so.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Accepted {
    /// Under which ballot.
    pub ballot: Ballot,
    /// Which list.
    pub list: VoterList,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId([n; 16])
    }

    #[test]
    fn a_list_changes_by_one_node_and_majorities_of_two_versions_share_a_voter() {
        let mut list = VoterList::first(node(1));
        assert!(list.is_sound());
        for n in [5, 3, 7, 2, 6, 4] {
            let next = list.toggled(node(n));
            assert!(next.is_sound(), "{next:?}");
            let both = next.voters.len().max(list.voters.len());
            assert!(VoterList::majority(list.voters.len()) + VoterList::majority(next.voters.len()) > both);
            list = next;
        }
        assert_eq!(list.voters.len(), MAX_VOTERS);
        assert!(!list.toggled(node(9)).is_sound(), "one too many");
        assert!(list.toggled(node(4)).is_sound());
        let two = VoterList { previous: Vec::from([node(1), node(9)]), ..list.clone() };
        assert!(!two.is_sound());
        assert!(!VoterList { voters: Vec::new(), ..list }.is_sound());
    }
}
