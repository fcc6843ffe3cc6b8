//! The anti-entropy walk: two states find what one has and the other lacks, at a cost proportional to the difference.
//!
//! Both sides are pure and keep nothing between messages. One sends the hashes of its 16 topmost subtrees; the other
//! answers each that differs with the 16 hashes one level below, until so few leaves are left that listing them is
//! cheaper. From a list, the receiver pushes what the sender lacks and asks for what it lacks itself. Where the two hold
//! different records of one register, both push: merging settles it.
//!
//! Never: trust in a peer's numbers. A prefix that cannot be is skipped; an answer is bounded by its budget and by
//! [`MAX_SUBTREES`], and what was cut off is found by the next walk.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::State;
use super::trie::{FAN_OUT, MAX_DEPTH, Trie, child_prefix};
use crate::wire::Record;

/// Subtrees with at most so many leaves are listed. Guess: a list costs 16 bytes a leaf, a level costs 128 bytes.
pub const LIST_AT_MOST: usize = 16;
/// Subtrees that one answer descends into.
pub const MAX_SUBTREES: usize = 256;
/// Leaves that one message lists or wants.
pub const MAX_LISTED: usize = 4_096;

/// The hashes of the 16 children of a prefix. Fixed width: a varint of a hash is longer than the hash.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Subtree {
    prefix: u64,
    depth: u8,
    hashes: [[u8; 8]; FAN_OUT],
}

/// One leaf: its position and its hash.
type Leaf = ([u8; 8], [u8; 8]);

/// One message of a walk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Walk {
    /// The sender's hashes of these subtrees; compare.
    Hashes(Vec<Subtree>),
    /// All of the sender's leaves under a prefix.
    Leaves {
        /// The prefix.
        prefix: u64,
        /// How many of its nibbles count.
        depth: u8,
        /// Position and hash of each.
        leaves: Vec<Leaf>,
    },
    /// The sender wants what lies at these positions.
    Want(Vec<[u8; 8]>),
}

/// The answer to a message.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WalkReply {
    /// What to say.
    pub messages: Vec<Walk>,
    /// Records that the peer lacks, to be sent as records are.
    pub push: Vec<Record>,
}

/// The first message of a walk.
#[must_use]
pub fn start(state: &State) -> Walk {
    Walk::Hashes(Vec::from([subtree(&state.trie, 0, 0)]))
}

/// The answer to a peer's message. `budget` bounds the bytes of pushed records; records that are `fresh` are left out, as
/// they are likely on their way to the peer already.
pub fn step(state: &State, peer: Walk, budget: usize, fresh: &dyn Fn(&Record) -> bool) -> WalkReply {
    let mut answer =
        Answer { trie: &state.trie, budget, fresh, below: Vec::new(), want: Vec::new(), reply: WalkReply::default() };
    match peer {
        Walk::Hashes(subtrees) => subtrees.iter().take(MAX_SUBTREES).for_each(|theirs| answer.compare(theirs)),
        Walk::Leaves { prefix, depth, leaves } => answer.match_leaves(prefix, depth, &leaves),
        Walk::Want(positions) => {
            for position in positions.iter().take(MAX_LISTED) {
                answer.push(answer.trie.at(u64::from_be_bytes(*position)));
            }
        }
    }
    answer.finish()
}

fn subtree(trie: &Trie, prefix: u64, depth: u8) -> Subtree {
    Subtree { prefix, depth, hashes: trie.children_hashes(prefix, depth).map(u64::to_be_bytes) }
}

struct Answer<'a> {
    trie: &'a Trie,
    budget: usize,
    fresh: &'a dyn Fn(&Record) -> bool,
    below: Vec<Subtree>,
    want: Vec<[u8; 8]>,
    reply: WalkReply,
}

impl<'a> Answer<'a> {
    fn compare(&mut self, theirs: &Subtree) {
        let ours = self.trie.children_hashes(theirs.prefix, theirs.depth);
        for (child, (ours, theirs_hash)) in (0_u8..).zip(ours.into_iter().zip(theirs.hashes)) {
            let theirs_hash = u64::from_be_bytes(theirs_hash);
            let Some(prefix) = child_prefix(theirs.prefix, theirs.depth, child) else { continue };
            let depth = theirs.depth + 1;
            if ours == theirs_hash {
                continue;
            }
            if theirs_hash == 0 {
                self.push_all(prefix, depth);
            } else if depth == MAX_DEPTH || self.trie.count_at(prefix, depth) <= LIST_AT_MOST {
                self.list(prefix, depth);
            } else if self.below.len() < MAX_SUBTREES {
                self.below.push(subtree(self.trie, prefix, depth));
            }
        }
    }

    fn list(&mut self, prefix: u64, depth: u8) {
        if self.reply.messages.len() < MAX_SUBTREES {
            let bytes = |(position, hash, _): (u64, u64, _)| (position.to_be_bytes(), hash.to_be_bytes());
            let leaves = self.trie.leaves(prefix, depth).map(bytes).collect();
            self.reply.messages.push(Walk::Leaves { prefix, depth, leaves });
        }
    }

    fn match_leaves(&mut self, prefix: u64, depth: u8, theirs: &[Leaf]) {
        if depth > MAX_DEPTH || theirs.len() > MAX_LISTED || !theirs.is_sorted() {
            return;
        }
        let trie = self.trie;
        for (position, hash, records) in trie.leaves(prefix, depth) {
            match theirs.binary_search_by_key(&position.to_be_bytes(), |leaf| leaf.0) {
                Ok(at) if theirs.get(at).is_some_and(|leaf| leaf.1 == hash.to_be_bytes()) => {}
                Ok(_) | Err(_) => self.push(records),
            }
            if self.budget == 0 {
                break;
            }
        }
        for (position, hash) in theirs {
            let ours = trie.hash_at(u64::from_be_bytes(*position), MAX_DEPTH);
            if ours.to_be_bytes() != *hash {
                self.want.push(*position);
            }
        }
    }

    fn push_all(&mut self, prefix: u64, depth: u8) {
        let trie = self.trie;
        for (_, _, records) in trie.leaves(prefix, depth) {
            if self.budget == 0 {
                return;
            }
            self.push(records);
        }
    }

    /// Pushes records while the budget lasts; the one that exceeds it ends it, so that a large record cannot starve.
    fn push(&mut self, records: &'a [Record]) {
        for record in records {
            if self.budget == 0 {
                return;
            }
            if !(self.fresh)(record) {
                self.budget = self.budget.saturating_sub(record.bytes().len());
                self.reply.push.push(record.clone());
            }
        }
    }

    fn finish(mut self) -> WalkReply {
        if !self.below.is_empty() {
            self.reply.messages.push(Walk::Hashes(self.below));
        }
        if !self.want.is_empty() {
            self.reply.messages.push(Walk::Want(self.want));
        }
        self.reply
    }
}
