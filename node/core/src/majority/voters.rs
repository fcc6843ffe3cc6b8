//! Who votes: this node's part in keeping the list.
//!
//! The first node of a cluster writes the first list, with itself. After that a voter who sees that the list ought to change asks
//! the others, the first of those that are alive before the rest. Everybody learns a new list from the replicated state; a node
//! grants under it once it has it on disk.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::face::{MemberState, NoticeLevel, PersistSeq};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{Accepted, Asker, Ballot, RosterEntry, VoterList};
use dunlin_gossip::time::{Instant, Wall};
use dunlin_gossip::wire::{Class, Kind, RecordId, codec};

use super::list::{Fitness, next_change};
use super::terms::{DOWN_LONG, RENEW, TURN};
use super::word::{Why, Word};
use super::{Accepting, newest};
use crate::engine::Node;
use crate::face::EventKind;

impl Node {
    /// A member's state changed.
    pub(crate) fn majority_member(&mut self, node: NodeId, state: MemberState, now: Instant) {
        match state {
            MemberState::Down => drop(self.majority.down_since.entry(node).or_insert(now)),
            MemberState::Alive => drop(self.majority.down_since.remove(&node)),
            MemberState::Suspect | MemberState::Left => {}
        }
        self.majority.look(now);
    }

    /// The register of the voters changed.
    pub(crate) fn on_voter_list(&mut self, now: Instant, wall: Wall) {
        let list = newest(self.gossip.state());
        if list.version <= self.majority.list.version {
            return;
        }
        if self.majority.acceptor.learn(list.version) {
            self.majority.accepting = None;
            self.owned.staged.insert(RecordId::accepted(self.me), None);
        }
        let text = alloc::format!("the voters are {} nodes since version {}", list.voters.len(), list.version);
        self.log.node(NoticeLevel::Info, EventKind::Node, self.me, text);
        // Everything merged so far is on disk once a request after it is.
        let seq = self.gossip.publish(now, wall, Vec::new(), &mut self.gouts);
        self.majority.barrier = Some((list.version, seq));
        self.majority.list = list;
        self.majority.wanting = None;
        self.majority.begun = None;
        self.majority.proposer.stop();
        self.majority.look(now);
        self.majority.leases.values_mut().for_each(|lease| lease.hurry(now));
    }

    /// The disk has this much.
    pub(crate) fn majority_durable(&mut self, upto: PersistSeq) {
        if let Some((version, _)) = self.majority.barrier.take_if(|(_, seq)| *seq <= upto) {
            self.majority.on_disk = version;
        }
        let is_there = |accepting: &mut Accepting| accepting.seq.is_some_and(|seq| seq <= upto);
        if let Some(Accepting { ballot, version, .. }) = self.majority.accepting.take_if(is_there) {
            self.majority.say(ballot.node, Word::ListAccept { ballot, version });
        }
    }

    pub(super) fn on_list_prepare(&mut self, from: NodeId, version: u64, ballot: Ballot, now: Instant) {
        let known = self.majority.on_disk;
        let vote = match known {
            // Who is asked under a list that it does not know has nothing to promise yet.
            _ if known != version => Ok(None),
            _ if now < self.majority.voter.free_from() => Err(Why::Booted),
            _ => self.majority.acceptor.prepare(ballot, now).map(|accepted| accepted.cloned()),
        };
        let word = match vote {
            Ok(accepted) => Word::ListPromise { ballot, known, accepted },
            Err(why) => Word::ListRefuse { ballot, known, why },
        };
        self.majority.say(from, word);
    }

    pub(super) fn on_list_propose(&mut self, from: NodeId, ballot: Ballot, list: &VoterList, now: Instant) {
        let known = self.majority.on_disk;
        let follows = list.version == known + 1 && list.previous == self.majority.list.voters && list.is_sound();
        let is_known = known == self.majority.list.version;
        if follows && is_known && self.majority.acceptor.propose(ballot, list, now) {
            let accepted = codec::encode(&Accepted { ballot, list: list.clone() });
            self.owned.staged.insert(RecordId::accepted(self.me), Some(accepted));
            self.majority.accepting = Some(Accepting { ballot, version: list.version, seq: None });
        } else {
            self.majority.say(from, Word::ListRefuse { ballot, known, why: Why::List(known) });
        }
    }

    pub(super) fn on_list_promise(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        known: u64,
        accepted: Option<Accepted>,
        now: Instant,
        wall: Wall,
    ) {
        let next = self.next_list(now);
        let list = self.majority.list.clone();
        if let Some(accepted) = accepted.as_ref().filter(|accepted| accepted.list.version == list.version + 1) {
            self.majority.begun = Some(accepted.list.clone());
        }
        let step = self.majority.proposer.promised(&list, (from, ballot), known, accepted, || next, now);
        step.into_iter().for_each(|step| self.list_step(step, now, wall));
    }

    pub(super) fn on_list_accept(&mut self, from: NodeId, ballot: Ballot, version: u64, now: Instant, wall: Wall) {
        let step = self.majority.proposer.accepted(from, ballot, version);
        step.into_iter().for_each(|step| self.list_step(step, now, wall));
    }

    /// Tells everybody what was chosen. If this does not reach the disk, the next one who asks finds it accepted.
    pub(super) fn write_list(&mut self, list: &VoterList, now: Instant, wall: Wall) {
        let batch = Vec::from([(RecordId::voters(), Some(codec::encode(list)))]);
        if let Err(error) = self.gossip.write(now, wall, &Asker::default(), batch, &mut self.gouts) {
            self.log.node(NoticeLevel::Warn, EventKind::Node, self.me, alloc::format!("the voters stay: {error}"));
        }
    }

    /// How everybody is doing, as this node sees it.
    fn fitness(&self, now: Instant) -> BTreeMap<NodeId, Fitness> {
        let fitness = |(node, state): (NodeId, MemberState)| {
            let is_long = |since: &Instant| *since + DOWN_LONG <= now || planted(Bug::VotersUnasked);
            let fitness = match state {
                MemberState::Left => Fitness::Gone,
                _ if self.view.is_drained(node) => Fitness::Unfit,
                MemberState::Down if self.majority.down_since.get(&node).is_some_and(is_long) => Fitness::Unfit,
                MemberState::Down | MemberState::Suspect => Fitness::Silent,
                MemberState::Alive => Fitness::Fit,
            };
            (node, fitness)
        };
        self.gossip.members().map(fitness).collect()
    }

    /// The list that ought to follow the present one.
    pub(super) fn next_list(&self, now: Instant) -> Option<VoterList> {
        let list = &self.majority.list;
        if list.version == 0 {
            return None;
        }
        let all = self.fitness(now);
        if planted(Bug::VotersUnasked) {
            let away = |node: &&NodeId| !matches!(all.get(*node), Some(Fitness::Fit | Fitness::Silent));
            let unasked = list.voters.iter().find(away).filter(|_| list.voters.len() > 1);
            return unasked.copied().or_else(|| next_change(list, &all)).map(|node| list.toggled(node));
        }
        next_change(list, &all).map(|node| list.toggled(node))
    }

    /// Whether it is this node that writes the first list: the first of those whom nobody admitted, which is one in a cluster.
    fn is_first(&self) -> bool {
        if self.majority.list.version > 0 {
            return false;
        }
        let all = self.gossip.state().of_kind(Class::GrowOnly, Kind::ROSTER);
        let entries = all.filter_map(|(_, record)| record.read_as::<RosterEntry>());
        let founders = entries.filter(|entry| entry.admitted_by.is_none());
        founders.min_by_key(|entry| (entry.at, entry.node)).is_some_and(|entry| entry.node == self.me)
    }

    /// Voters that are alive and come before this one, which votes as well; none if it does not.
    fn voters_before(&self) -> Option<u32> {
        let voters = &self.majority.list.voters;
        let at = voters.binary_search(&self.me).ok()?;
        let is_alive = |node: &&NodeId| self.gossip.member_state(**node) == Some(MemberState::Alive);
        let before = voters.iter().take(at).filter(is_alive).count();
        u32::try_from(before).ok()
    }

    /// Keeps the list as it ought to be.
    pub(super) fn tend_voters(&mut self, now: Instant, wall: Wall) {
        if core::mem::take(&mut self.majority.say_again)
            && let Some(accepted) = self.majority.acceptor.accepted()
        {
            self.owned.staged.insert(RecordId::accepted(self.me), Some(codec::encode(accepted)));
        }
        if self.majority.look_at.is_none_or(|at| at > now) {
            return;
        }
        self.majority.look_at = None;
        if self.failed || self.leaving.is_some() {
            return;
        }
        if !self.start.may_claim(now) {
            return self.majority.look(self.start.free_since().max(now + RENEW));
        }
        if self.is_first() {
            self.write_list(&VoterList::first(self.me), now, wall);
            return self.majority.look(now + TURN);
        }
        let long = self.majority.down_since.values().map(|since| *since + DOWN_LONG).filter(|at| *at > now).min();
        // Who does not vote has no word in it, and need not look at everybody.
        let before = self.voters_before();
        let next = before.and_then(|_| self.next_list(now));
        let (Some(next), Some(before)) = (next, before) else {
            (self.majority.wanting, self.majority.begun) = (None, None);
            self.majority.proposer.stop();
            long.into_iter().for_each(|at| self.majority.look(at));
            return;
        };
        let since = *self.majority.wanting.get_or_insert(now);
        let turn = since + TURN.saturating_mul(before);
        if turn > now {
            return self.majority.look(turn);
        }
        self.majority.look(now + RENEW);
        if planted(Bug::VotersUnasked) {
            return self.write_list(&next, now, wall);
        }
        let ballot = self.next_ballot();
        let step = self.majority.proposer.prepare(ballot);
        self.list_step(step, now, wall);
    }
}
