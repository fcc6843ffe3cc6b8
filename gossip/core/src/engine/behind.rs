//! Who stays away for too long, and who comes back after that: counting, forgetting, and telling the late that they are late.
//!
//! A node that was left behind holds what others have deleted and forgotten. It is told so with a record that proves it,
//! drops everything that was replicated, and begins anew; a forgotten one is then admitted again by its key.
//!
//! Never: a forgetting by less than a majority, an admission of somebody who still holds what it held.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Catching, Gossip, Origin};
use crate::face::{FrameClass, GossipEvent, GossipOutputs, LinkId, MemberState, NoticeLevel};
use crate::id::NodeId;
use crate::model::RosterEntry;
use crate::state::away::away_id;
use crate::state::{Away, Collected, State};
use crate::time::{Duration, Instant, Wall};
use crate::wire::message::{Head, Hello, frame};
use crate::wire::{Class, Kind, Record, RecordId, codec};

/// Counts are told when they have grown by so much, and at the end of the term.
const TOLD: Duration = Duration::from_secs(3_600);

/// For how long others have been down while this node ran.
#[derive(Debug)]
pub(super) struct Missing {
    counted: BTreeMap<NodeId, Duration>,
    last: Instant,
    told: Away,
}

impl Missing {
    /// As the disk remembers.
    pub(super) fn new(me: NodeId, state: &State, now: Instant) -> Self {
        let away = state.away(me);
        let counted = away.nodes.iter().map(|(node, seconds)| (*node, Duration::from_secs(*seconds))).collect();
        // What was told in an earlier boot is void with it.
        Self { counted, last: now, told: Away::default() }
    }

    /// Counts on; who is heard again begins anew.
    fn count(&mut self, now: Instant, longest: Duration, states: &BTreeMap<NodeId, MemberState>) {
        // A node that stood still was not running.
        let passed = now.since(self.last).min(longest);
        self.last = now;
        self.counted.retain(|node, _| states.get(node).is_some_and(|state| *state != MemberState::Alive));
        for (node, state) in states {
            if matches!(state, MemberState::Down | MemberState::Left) {
                *self.counted.entry(*node).or_default() += passed;
            }
        }
    }

    /// What to tell now, if it is worth it.
    fn news(&mut self, term: Duration) -> Option<Away> {
        let nodes: Vec<(NodeId, u64)> = self.counted.iter().map(|(node, time)| (*node, time.as_secs())).collect();
        let told: BTreeMap<NodeId, u64> = self.told.nodes.iter().copied().collect();
        let has_gone = told.keys().any(|node| !self.counted.contains_key(node));
        let step = TOLD.min(term / 8).as_secs();
        let has_grown = nodes.iter().any(|(node, seconds)| {
            let before = told.get(node).copied().unwrap_or(0);
            *seconds >= before + step || (*seconds >= term.as_secs() && before < term.as_secs())
        });
        if !has_gone && !has_grown {
            return None;
        }
        self.told = Away { nodes };
        Some(self.told.clone())
    }
}

impl Gossip {
    /// Counts who is down, tells it, and forgets whom a majority has missed for the whole term.
    pub(super) fn miss(&mut self, wall: Wall, out: &mut GossipOutputs) {
        let term = self.config.timing.forget;
        let states: BTreeMap<NodeId, MemberState> = self.membership.others().collect();
        self.missing.count(self.now, self.config.timing.hours_period * 2, &states);
        if let Some(away) = self.missing.news(term) {
            let payload = (!away.nodes.is_empty()).then(|| codec::encode(&away));
            let record = self.state.stage_actual(wall, away_id(self.config.me), payload.as_deref());
            self.persist_own(Vec::from([record]), None, out);
        }
        for node in self.state.overdue(term) {
            if matches!(states.get(&node), Some(MemberState::Down | MemberState::Left)) {
                let days = term.as_secs() / 86_400;
                let text =
                    alloc::format!("node {node} has been down for {days} days of most nodes' time; it is forgotten");
                Self::notice(NoticeLevel::Warn, text, out);
                let record = self.state.stage_forgetting(wall, node);
                self.persist_own(Vec::from([record]), None, out);
            }
        }
    }

    /// What the state let go of goes from the disk as well, and who knew of it hears of it.
    pub(super) fn let_go(&mut self, collected: Collected, out: &mut GossipOutputs) {
        self.persist_soon(collected.persist, self.now);
        for id in collected.ids {
            self.follow_roster(&id, out);
            out.event(GossipEvent::Changed(id));
        }
    }

    /// Hours settled without this node, or it was forgotten: all that it holds may be long gone elsewhere.
    pub(super) fn left_behind(&mut self, out: &mut GossipOutputs) {
        if self.dropped || self.failed {
            return;
        }
        let text = "the flock went on without this node and has forgotten what it deleted meanwhile, so that what this node \
                    holds is worth nothing; it drops that and copies everything anew";
        Self::notice(NoticeLevel::Warn, text.into(), out);
        self.start_anew(self.generation, out);
    }

    /// Somebody greets whom the roster does not admit. It may bring its admission, which has not reached us; or it was
    /// forgotten, and is told so, or admitted again if it holds nothing any more. True if it belongs now.
    pub(super) fn introduced(
        &mut self,
        wall: Wall,
        link: LinkId,
        peer: NodeId,
        hello: &Hello,
        out: &mut GossipOutputs,
    ) -> bool {
        let admission = hello.admission.as_deref().and_then(|bytes| Record::read(bytes).ok());
        let admission = admission.filter(|record| *record.id() == RecordId::roster(peer));
        if let Some(record) = &admission {
            self.take(wall, record.clone(), Origin::Rider, out);
        }
        if self.roster.admits(peer) {
            return true;
        }
        let entry = admission.and_then(|record| record.read_as::<RosterEntry>());
        match (self.state.forgotten(peer).cloned(), entry) {
            (Some(_), Some(entry)) if hello.empty && entry.node == peer => self.admit_again(wall, link, entry, out),
            (Some(proof), _) if !hello.empty => {
                self.say(link, FrameClass::Control, frame(&Head::LeftBehind(proof.bytes().clone())));
            }
            _ => self.links.hang_up(link, "the peer is not in the roster", out),
        }
        false
    }

    fn admit_again(&mut self, wall: Wall, link: LinkId, entry: RosterEntry, out: &mut GossipOutputs) {
        let node = entry.node;
        let others = self.state.of_kind(Class::GrowOnly, Kind::ROSTER);
        let is_namesake = |record: &Record| {
            let other = record.read_as::<RosterEntry>();
            other.is_some_and(|other| other.name == entry.name && other.node != node)
        };
        let is_taken = others.into_iter().any(|(_, record)| is_namesake(record));
        if is_taken {
            self.links.hang_up(
                link,
                "another node has the name of the one that was forgotten; join anew with a token",
                out,
            );
            return;
        }
        let text = alloc::format!(
            "node {} was forgotten and is back with nothing; it is admitted again by its key",
            entry.name
        );
        Self::notice(NoticeLevel::Info, text, out);
        let entry = RosterEntry { admitted_by: Some(self.config.me), token: None, at: wall, ..entry };
        let record = self.state.stage_fact(wall, RecordId::roster(node), &codec::encode(&entry));
        self.persist_own(Vec::from([record]), None, out);
        self.links.hang_up(link, "the peer was admitted again; dial once more", out);
    }

    /// Tells nodes whose publications show that their disks are old.
    pub(super) fn tell_overtaken(&mut self, out: &mut GossipOutputs) {
        for proof in self.state.take_proofs() {
            if let Some(node) = proof.id().writer().filter(|node| *node != self.config.me) {
                self.proofs.insert(node, proof);
            }
        }
        if self.proofs.is_empty() {
            return;
        }
        let linked: BTreeMap<NodeId, LinkId> = self.links.greeted().map(|(id, link)| (link.peer, id)).collect();
        let mut told = Vec::new();
        for (node, proof) in &self.proofs {
            if let Some(link) = linked.get(node) {
                told.push((*node, *link, proof.bytes().clone()));
            }
        }
        for (node, link, proof) in told {
            self.proofs.remove(&node);
            self.say(link, FrameClass::Control, frame(&Head::LeftBehind(proof)));
        }
        let roster = &self.roster;
        self.proofs.retain(|node, _| roster.admits(*node));
        let waiting: Vec<NodeId> = self.proofs.keys().copied().collect();
        for node in waiting {
            let is_up = self.membership.state(node) == Some(MemberState::Alive);
            if is_up && self.catching == Catching::Done && !self.links.is_settled(self.now, node) {
                self.links.start_dial(self.now, node, out);
            }
        }
    }
}
