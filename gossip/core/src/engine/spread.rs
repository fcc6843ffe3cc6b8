//! How what was merged goes on: at once down the tree's eager links, as hashes down the others.
//!
//! Up to [`FULL_MESH`] members every link is eager, whatever the tree says: a second copy costs less there than a hop.

use alloc::vec::Vec;

use super::{FULL_MESH, Gossip, Origin};
use crate::face::{FrameClass, LinkId};
use crate::hlc::Hlc;
use crate::limits::MAX_FRAME;
use crate::spread::tree::Word;
use crate::time::Duration;
use crate::wire::Record;
use crate::wire::message::{Head, chunks, frame, with_records};

/// Pause between two pushes down the links of a cluster too large for a full mesh. The first change goes at once; what
/// arrives within the pause goes together, so that a storm of records costs a frame per link and pause, not one a record.
const SPREAD_PAUSE: Duration = Duration::from_millis(10);
/// Records that wait for a push at most.
const MAX_SPREAD: usize = 2_048;
/// Records that one graft is given; the rest a sync finds.
const MAX_GRAFT: usize = 1_024;
/// How long a record may take longer than its hash, in hops, and the bounds of that.
const WAIT_HOPS: u32 = 3;
const WAIT_MIN: Duration = Duration::from_millis(200);
const WAIT_MAX: Duration = Duration::from_secs(1);

impl Gossip {
    /// Has a record pushed on: at once what a writer waits for or a small flock needs, else together with what else comes.
    pub(super) fn spread_soon(&mut self, record: Record, origin: Origin) {
        let hurry = matches!(origin, Origin::Own(Some(_)))
            || self.membership.size() <= FULL_MESH
            || self.spread.len() >= MAX_SPREAD;
        let due = if hurry { self.now } else { self.now.max(self.spread_last + SPREAD_PAUSE) };
        self.spread_due = Some(self.spread_due.map_or(due, |at| at.min(due)));
        self.spread.push((record, origin));
    }

    /// How long a change takes to reach every node, as estimated: the measured time of a push until it is acknowledged,
    /// times the hops that it needs.
    #[must_use]
    pub fn spread_time(&self) -> Duration {
        let alive = self.membership.alive();
        if alive <= FULL_MESH {
            return self.hop;
        }
        // The tree is taken to be 4/3 log2 hops deep; each goes one way and waits for no disk, half of what is measured at most.
        (self.hop + SPREAD_PAUSE) * (alive.ilog2() * 2 / 3 + 1)
    }

    fn has_tree(&self) -> bool {
        self.membership.size() > FULL_MESH
    }

    /// Sends what was merged since the last push down every eager link but the one it came from, and tells the others. What
    /// its writer wants acknowledged goes down all links, in frames of its own, batch by batch.
    pub(super) fn push_spread(&mut self) {
        self.spread_due = None;
        self.spread_last = self.now;
        // Links whose peer has yet to greet as well: our own greeting went first, with a root that lacks these records,
        // and a walk takes what arrives while a link stands for sent. Without them a newcomer's header was late by the
        // wait for the next sync.
        let links = self.links.ids();
        let is_awaited = |(_, origin): &(Record, Origin)| matches!(origin, Origin::Own(Some(_)));
        let (awaited, mut mixed): (Vec<_>, Vec<_>) =
            core::mem::take(&mut self.spread).into_iter().partition(is_awaited);
        for batch in awaited.chunk_by(|(_, a), (_, b)| a == b) {
            let Some((_, Origin::Own(want))) = batch.first() else { continue };
            let records: Vec<Record> = batch.iter().map(|(record, _)| record.clone()).collect();
            self.push_to(&links, &records, *want);
        }
        let tree = self.has_tree();
        let (lazy, eager): (Vec<LinkId>, Vec<LinkId>) =
            links.into_iter().partition(|link| tree && self.tree.is_lazy(*link));
        self.push_mixed(&eager, &mixed);
        lazy.into_iter().for_each(|link| self.tell_lazy(link, &mixed));
        mixed.clear();
        self.spread = mixed;
    }

    /// One frame for all links that gave us nothing of this, and one each for the others, without what they gave.
    fn push_mixed(&mut self, links: &[LinkId], spread: &[(Record, Origin)]) {
        if spread.is_empty() {
            return;
        }
        let gave = |link: LinkId| spread.iter().any(|(_, origin)| *origin == Origin::Link(link));
        let (givers, others): (Vec<LinkId>, Vec<LinkId>) = links.iter().partition(|link| gave(**link));
        if !others.is_empty() {
            let all: Vec<Record> = spread.iter().map(|(record, _)| record.clone()).collect();
            self.push_to(&others, &all, None);
        }
        for link in givers {
            let from_others = spread.iter().filter(|(_, origin)| *origin != Origin::Link(link));
            let records: Vec<Record> = from_others.map(|(record, _)| record.clone()).collect();
            self.push_to(&[link], &records, None);
        }
    }

    pub(super) fn push_to(&mut self, links: &[LinkId], records: &[Record], want: Option<Hlc>) {
        if links.is_empty() {
            return;
        }
        let runs = chunks(records, MAX_FRAME);
        for (index, run) in runs.iter().enumerate() {
            // Links keep the order, so that the last frame's acknowledgement stands for all.
            let want = want.filter(|_| index + 1 == runs.len());
            let frame = with_records(&Head::Push(want), run);
            for link in links {
                self.say(*link, FrameClass::Push, frame.clone());
            }
        }
    }

    /// Has a lazy link tell what it is not sent.
    fn tell_lazy(&mut self, link: LinkId, spread: &[(Record, Origin)]) {
        for (record, _) in spread.iter().filter(|(_, origin)| *origin != Origin::Link(link)) {
            self.tree.tell(self.now, link, record.hash());
        }
    }

    /// A record came of which we hold something newer: nobody need send it again for its hash's sake.
    pub(super) fn came_to_nothing(&mut self, record: &Record) {
        if self.has_tree() {
            self.fresh.note_old(self.now, record.hash());
            self.tree.first(record.hash(), None);
        }
    }

    /// A record came over a link that we held already: should the link be lazy?
    pub(super) fn came_again(&mut self, over: LinkId, hash: u64) {
        let Some(first) = self.fresh.first_over(hash).filter(|first| *first != over) else { return };
        if self.has_tree() && self.tree.again(self.now, over, first) {
            self.say(over, FrameClass::Control, frame(&Head::Prune));
        }
    }

    /// The other end of a link says that its records come twice.
    pub(super) fn pruned(&mut self, link: LinkId) {
        if !self.tree.pruned(self.now, link) {
            self.say(link, FrameClass::Control, frame(&Head::Graft(Vec::new())));
        }
    }

    /// The other end of a link lacks records, and wants more over this link.
    pub(super) fn grafted(&mut self, link: LinkId, hashes: &[u64]) {
        self.tree.grafted(self.now, link);
        let held = hashes.iter().take(MAX_GRAFT).filter_map(|hash| self.fresh.record(*hash)).cloned();
        let records: Vec<Record> = held.collect();
        self.push_to(&[link], &records, None);
    }

    /// The other end of a link holds records with these hashes.
    pub(super) fn told(&mut self, link: LinkId, hashes: &[u64]) {
        let wait = self.graft_wait();
        for hash in hashes {
            let here = self.fresh.heard(*hash);
            self.tree.told(self.now, wait, link, *hash, here);
        }
    }

    fn graft_wait(&self) -> Duration {
        ((self.hop + SPREAD_PAUSE) * WAIT_HOPS).clamp(WAIT_MIN, WAIT_MAX)
    }

    /// Digests and grafts that are due.
    pub(super) fn tend_tree(&mut self) {
        let wait = self.graft_wait();
        for (link, word) in self.tree.tick(self.now, wait) {
            match word {
                Word::Digest(hashes) => self.say(link, FrameClass::Push, frame(&Head::Digest(hashes))),
                Word::Graft(hashes) => self.say(link, FrameClass::Control, frame(&Head::Graft(hashes))),
            }
        }
    }

    /// Links went: the tree goes on without them.
    pub(super) fn trim_tree(&mut self) {
        if !self.links.has_shrunk() && self.tree.has_eager() {
            return;
        }
        let links = &self.links;
        if let Some(link) = self.tree.keep(|link| links.get(link).is_some()) {
            self.say(link, FrameClass::Control, frame(&Head::Graft(Vec::new())));
        }
    }
}
