//! Replicas of which one at most may run: leases from voters, and the voters themselves (P6).
//!
//! A node claims and starts such a replica only while it holds unexpired grants of more than half of the voters; what it runs has
//! the lease's end as its deadline, at which its keeper kills it, agent alive or not. The halves are pure and know nothing of each
//! other: [`voter`] grants, [`lease`] asks and counts, [`list`] decides who votes, [`terms`] is the arithmetic, [`word`] the bytes. Here they
//! meet the node: `owner` for its replicas, `voters` for the list.
//!
//! Never: a grant to two nodes at a time; a lease counted from anything but the sending of its request; a request answered under a
//! list that this node knows to be replaced.

pub(crate) mod admit;
mod lease;
mod list;
mod owner;
pub mod terms;
mod voter;
mod voters;
mod word;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use dunlin_gossip::face::PersistSeq;
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{Ballot, ReplicaKey, VoterList};
use dunlin_gossip::state::State;
use dunlin_gossip::time::{Instant, Wall};
use dunlin_gossip::wire::{Record, RecordId};

use lease::{Ask, Lease};
use list::{Acceptor, Proposer, Step};
use voter::Voter;
use word::{Key, Why, Word};

use crate::allocation::earliest;
use crate::engine::Node;
use crate::face::Outputs;

/// Rounds of words that this node says to itself in one call; it is voter and owner at once.
const MAX_ROUNDS: usize = 8;

/// A list that was accepted and is on its way to the disk.
#[derive(Clone, Copy, Debug)]
struct Accepting {
    ballot: Ballot,
    version: u64,
    seq: Option<PersistSeq>,
}

/// Everything that a node knows and holds of leases.
#[derive(Clone, Debug)]
pub(crate) struct Majority {
    voter: Voter,
    /// The newest list; version 0 while there is none.
    list: VoterList,
    /// The version of the list that is on this disk: under it this node grants, and under no other.
    on_disk: u64,
    /// The newest list is on the disk once this request is.
    barrier: Option<(u64, PersistSeq)>,
    acceptor: Acceptor,
    accepting: Option<Accepting>,
    /// What the boot before had accepted is to be said anew.
    say_again: bool,
    proposer: Proposer,
    /// A list that somebody has begun to make.
    begun: Option<VoterList>,
    /// Since when the list ought to change.
    wanting: Option<Instant>,
    look_at: Option<Instant>,
    down_since: BTreeMap<NodeId, Instant>,
    leases: BTreeMap<ReplicaKey, Lease>,
    ballots: u64,
    outbox: BTreeMap<NodeId, Vec<Word>>,
}

/// The newest list that a state holds.
fn newest(state: &State) -> VoterList {
    let lists = state.siblings(&RecordId::voters()).iter().filter_map(Record::read_as::<VoterList>);
    lists.filter(VoterList::is_sound).max_by_key(|list| list.version).unwrap_or_default()
}

impl Majority {
    pub(crate) fn new(state: &State, me: NodeId, now: Instant) -> Self {
        let list = newest(state);
        let accepted = state.value(&RecordId::accepted(me)).and_then(Record::read_as);
        let mut acceptor = Acceptor::new(accepted);
        acceptor.learn(list.version);
        Self {
            voter: Voter::new(now),
            on_disk: list.version,
            barrier: None,
            say_again: acceptor.accepted().is_some(),
            acceptor,
            accepting: None,
            proposer: Proposer::new(),
            begun: None,
            wanting: None,
            look_at: Some(now),
            down_since: BTreeMap::new(),
            leases: BTreeMap::new(),
            ballots: 0,
            outbox: BTreeMap::new(),
            list,
        }
    }

    /// The voters, as this node knows them.
    pub(crate) const fn list(&self) -> &VoterList {
        &self.list
    }

    /// When something is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        let leases = self.leases.values().map(Lease::next).min();
        earliest(leases, self.look_at)
    }

    /// Something about who is there changed: the list may have to.
    pub(crate) fn look(&mut self, at: Instant) {
        self.look_at = earliest(self.look_at, Some(at));
    }

    fn say(&mut self, to: NodeId, word: Word) {
        self.outbox.entry(to).or_default().push(word);
    }

    /// The batch with what was accepted goes to the disk by this request.
    pub(crate) fn published(&mut self, seq: PersistSeq) {
        if let Some(accepting) = self.accepting.as_mut().filter(|accepting| accepting.seq.is_none()) {
            accepting.seq = Some(seq);
        }
    }
}

impl Node {
    /// The voters, as this node knows them.
    #[must_use]
    pub fn voters(&self) -> &VoterList {
        self.majority.list()
    }

    fn next_ballot(&mut self) -> Ballot {
        self.majority.ballots += 1;
        Ballot { number: self.majority.ballots, node: self.me, generation: self.gossip.generation() }
    }

    /// Another ballot was higher.
    fn outbid(&mut self, number: u64) {
        // Foreign numbers are no reason to run out of them.
        self.majority.ballots = self.majority.ballots.max(number.min(u64::MAX / 2));
    }

    /// How far epochs may go that voters agree to now.
    fn epochs_ahead(&self, wall: Wall) -> u64 {
        let clock = self.gossip.state().clock().max(Hlc::from_wall(wall));
        Hlc::from_wall(clock.wall().plus(terms::EPOCHS_AHEAD)).0
    }

    /// A member says something.
    pub(crate) fn on_word(&mut self, from: NodeId, packet: &[u8], now: Instant, wall: Wall, out: &mut Outputs) {
        for word in word::read(packet) {
            out.cost += 1;
            self.heed(from, word, now, wall, out);
        }
    }

    fn heed(&mut self, from: NodeId, word: Word, now: Instant, wall: Wall, out: &mut Outputs) {
        // A request is its author's own, and an answer is to one of this node's.
        match &word {
            Word::Prepare { ballot, .. }
            | Word::Propose { ballot, .. }
            | Word::Release { ballot, .. }
            | Word::ListPrepare { ballot, .. }
            | Word::ListPropose { ballot, .. }
                if ballot.node != from =>
            {
                return;
            }
            Word::Promise { ballot, .. }
            | Word::Accept { ballot, .. }
            | Word::Refuse { ballot, .. }
            | Word::ListPromise { ballot, .. }
            | Word::ListAccept { ballot, .. }
            | Word::ListRefuse { ballot, .. }
                if ballot.node != self.me || ballot.generation != self.gossip.generation() =>
            {
                return;
            }
            _ => {}
        }
        match word {
            Word::Prepare { list, key, ballot } => {
                let vote = self.serves(list).and_then(|()| self.majority.voter.prepare(key, ballot, now));
                let answer = match vote {
                    Ok(bound) => Word::Promise { key, ballot, bound },
                    Err(why) => Word::Refuse { key, ballot, why },
                };
                self.majority.say(from, answer);
            }
            Word::Propose { list, key, ballot, bound } => {
                let vote = self.serves(list).and_then(|()| self.majority.voter.propose(key, ballot, bound, now));
                let answer = match vote {
                    Ok(()) => Word::Accept { key, ballot },
                    Err(why) => Word::Refuse { key, ballot, why },
                };
                self.majority.say(from, answer);
            }
            Word::Release { key, ballot } => self.majority.voter.release(key, ballot),
            Word::Promise { key, ballot, bound } => self.on_promise(from, key, ballot, bound, now, wall),
            Word::Accept { key, ballot } => self.on_accept(from, key, ballot, now, out),
            Word::Refuse { key, ballot, why } => self.on_refuse(key, ballot, why),
            Word::Yield { key } => self.on_yield(from, key, now, out),
            Word::ListPrepare { version, ballot } => self.on_list_prepare(from, version, ballot, now),
            Word::ListPropose { ballot, list } => self.on_list_propose(from, ballot, &list, now),
            Word::ListPromise { ballot, known, accepted } => {
                self.on_list_promise(from, ballot, known, accepted, now, wall);
            }
            Word::ListAccept { ballot, version } => self.on_list_accept(from, ballot, version, now, wall),
            Word::ListRefuse { ballot: _, known: _, why } => {
                if let Why::Ballot(number) = why {
                    self.outbid(number);
                }
            }
        }
    }

    /// Whether this node votes under a version of the list.
    fn serves(&self, version: u64) -> Result<(), Why> {
        let majority = &self.majority;
        let is_newest = version == majority.list.version && version == majority.on_disk;
        let votes = is_newest && majority.list.voters.contains(&self.me) && !self.failed;
        if votes { Ok(()) } else { Err(Why::List(majority.list.version)) }
    }

    /// Does what is due, and says what has to be said.
    pub(crate) fn tend_majority(&mut self, now: Instant, wall: Wall, out: &mut Outputs) {
        if !self.start.is_adopted() || self.left {
            return;
        }
        self.tend_voters(now, wall);
        self.tend_leases(now, wall, out);
        for _ in 0..MAX_ROUNDS {
            let Some(words) = self.majority.outbox.remove(&self.me) else { break };
            words.into_iter().for_each(|word| self.heed(self.me, word, now, wall, out));
        }
        for (to, words) in core::mem::take(&mut self.majority.outbox) {
            for packet in word::packets(&words) {
                self.gossip.send_word(wall, to, &packet, &mut self.gouts);
            }
        }
    }

    /// Puts a step about the list into words.
    fn list_step(&mut self, step: Step, now: Instant, wall: Wall) {
        match step {
            Step::Prepare(ballot) => {
                let more = self.next_list(now).into_iter().chain(self.majority.begun.clone());
                let more: Vec<NodeId> = more.flat_map(|list| list.voters).collect();
                let version = self.majority.list.version;
                for node in list::concerned(&self.majority.list, more) {
                    self.majority.say(node, Word::ListPrepare { version, ballot });
                }
            }
            Step::Propose(ballot, list) => {
                for node in list::concerned(&list, []) {
                    self.majority.say(node, Word::ListPropose { ballot, list: list.clone() });
                }
                self.majority.begun = Some(list);
            }
            Step::Chosen(list) => self.write_list(&list, now, wall),
        }
    }

    /// Puts what a lease asks into words.
    fn ask_voters(&mut self, key: Key, ask: Ask) {
        let list = self.majority.list.version;
        for node in self.majority.list.voters.clone() {
            let word = match ask {
                Ask::Prepare(ballot) => Word::Prepare { list, key, ballot },
                Ask::Propose(ballot, bound) => Word::Propose { list, key, ballot, bound },
            };
            self.majority.say(node, word);
        }
    }
}
