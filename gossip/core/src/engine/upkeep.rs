//! What happens by the clock alone: dialling, syncing, giving up waiting, publishing hours and collecting.

use alloc::vec::Vec;

use super::{Catching, FULL_MESH, Gossip};
use crate::face::{GossipOutputs, LinkId, MemberState};
use crate::hlc::Hlc;
use crate::id::NodeId;
use crate::spread::links::Link;
use crate::time::{Duration, Instant, Wall};

/// Links that a node keeps by dialling, in a cluster too large for a full mesh: one to its successor on the ring of
/// ids, so that the graph is connected, the others random, so that its diameter is small.
pub(super) const OUTGOING: usize = 4;
/// How long a booted node without a link tries others before its seeds.
const SEED_PATIENCE: Duration = Duration::from_secs(1);
/// Upkeep comes at least this often.
const UPKEEP_PERIOD: Duration = Duration::from_secs(2);
/// A push that nobody acknowledged for so long says nothing about the way.
const UNANSWERED: Duration = Duration::from_secs(10);
/// Between two looks for somebody to catch up with.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(250);
/// Between two dials of members that are down and never spoke to this boot.
const UNHEARD_PAUSE: Duration = Duration::from_secs(10);
/// In one of so many rounds, members that are down are dialled even though they spoke to this boot.
const HEARD_ROUND: u32 = 6;
/// Dials at once for writers, and the pause before the next ones.
const SOUGHT_AT_ONCE: usize = 32;
const SOUGHT_PAUSE: Duration = Duration::from_millis(50);
/// How long a link to somebody who held nothing is kept by one who looks for a full copy.
const EMPTY_PATIENCE: Duration = Duration::from_secs(1);
/// A walk or copy of which nothing was heard for so long is given up.
const GIVE_UP: Duration = Duration::from_secs(15);

impl Gossip {
    pub(super) fn upkeep(&mut self, wall: Wall, out: &mut GossipOutputs) {
        self.upkeep_at = self.now + UPKEEP_PERIOD;
        self.links.expire(self.now);
        self.paces.expire(self.now);
        self.trim_tree();
        self.pushed.retain(|_, at| *at + UNANSWERED > self.now);
        if !self.leaving {
            self.dial(out);
            self.dial_unheard(out);
        }
        self.wait_no_longer(out);
        self.sync();
        self.tell_overtaken(out);
        self.rehearse();
        if self.hours_at <= self.now {
            self.hours_at = self.now + self.config.timing.hours_period;
            self.hours(wall, out);
        }
    }

    fn remind(&mut self, at: Instant) {
        self.upkeep_at = self.upkeep_at.min(at.max(self.now));
    }

    /// Dials whom we want to be linked with and are not.
    fn dial(&mut self, out: &mut GossipOutputs) {
        let now = self.now;
        if self.membership.size() <= FULL_MESH {
            let open = |(node, state): (NodeId, MemberState)| {
                (self.is_worth_a_dial(state) && !self.links.is_settled(now, node)).then_some(node)
            };
            let wanted: Vec<NodeId> = self.membership.others().filter_map(open).collect();
            wanted.into_iter().for_each(|node| self.links.start_dial(now, node, out));
        } else {
            self.close_the_ring(out);
            for _ in self.links.outgoing(now)..OUTGOING {
                let Some(node) = self.next_neighbour() else { break };
                self.links.start_dial(now, node, out);
            }
            self.dial_sought(out);
        }
        let wanted = |node| self.membership.state(node).is_some_and(|state| self.is_worth_a_dial(state));
        if let Some(at) = self.links.next_dial(now, wanted) {
            self.remind(at);
        }
    }

    /// Wants links to so many peers, alive ones, until it is told otherwise: writers wait for the acknowledgements of as many,
    /// and these come over links alone. What was written of late, and what is awaited since this stamp, goes down a link as it
    /// comes up.
    pub fn await_copies(&mut self, now: Instant, count: usize, oldest: Option<Hlc>) {
        self.awaited = oldest;
        if count == self.sought {
            return;
        }
        if count < self.sought {
            // What is too many then goes with the next look at the ring.
            self.ring_changed = true;
        }
        self.sought = count;
        self.upkeep_at = self.upkeep_at.min(now.max(self.now));
    }

    fn dial_sought(&mut self, out: &mut GossipOutputs) {
        let lacking = self.sought.saturating_sub(self.links.reaching(self.now));
        for _ in 0..lacking.min(SOUGHT_AT_ONCE) {
            let Some(node) = self.next_neighbour() else { return };
            self.links.start_dial(self.now, node, out);
        }
        if lacking > 0 {
            self.remind(self.now + SOUGHT_PAUSE);
        }
    }

    /// Dials a member that is down and never spoke to this boot, one after the other; several at once if we are alone. It may
    /// not know that we belong: who admitted us may be gone, and the record of it with him. Then it takes no packet of ours,
    /// and only a greeting tells it. Now and then those that did speak are dialled too: they may have forgotten us meanwhile.
    fn dial_unheard(&mut self, out: &mut GossipOutputs) {
        if self.unheard_at > self.now || self.catching != Catching::Done {
            return;
        }
        let (pause, most) = if self.membership.alive() == 1 { (UPKEEP_PERIOD, OUTGOING) } else { (UNHEARD_PAUSE, 1) };
        self.unheard_at = self.now + pause;
        self.unheard_round = self.unheard_round.wrapping_add(1);
        let all = self.unheard_round.is_multiple_of(HEARD_ROUND);
        let open = |(node, state): (NodeId, MemberState)| {
            let is_silent = state == MemberState::Down && (all || !self.membership.is_heard(node));
            (is_silent && !self.links.is_settled(self.now, node)).then_some(node)
        };
        let mut open: Vec<NodeId> = self.membership.lost().filter_map(open).collect();
        let begin = open.partition_point(|node| *node <= self.unheard);
        open.rotate_left(begin);
        for node in open.into_iter().take(most) {
            self.unheard = node;
            self.links.start_dial(self.now, node, out);
        }
    }

    /// Sees to the link to our successor, which may be another one since members came or went: two halves of a flock that
    /// was cut in two each have all the links that they want, and only the ring says that they are one.
    fn close_the_ring(&mut self, out: &mut GossipOutputs) {
        if !self.ring_changed {
            return;
        }
        let Some(successor) = self.successor() else { return };
        if self.links.has(successor) {
            self.ring_changed = false;
            let busy = self.walk.map(|walk| walk.link);
            self.links.trim(successor, OUTGOING.max(self.sought), busy, out);
            self.trim_tree();
        } else if !self.links.is_settled(self.now, successor) {
            self.links.start_dial(self.now, successor, out);
        }
    }

    /// The next one alive on the ring.
    fn successor(&self) -> Option<NodeId> {
        self.membership.successor(|state| self.is_worth_a_dial(state))
    }

    fn is_worth_a_dial(&self, state: MemberState) -> bool {
        is_worth_a_dial(state, self.catching == Catching::Done)
    }

    fn next_neighbour(&mut self) -> Option<NodeId> {
        let now = self.now;
        let successor = self.successor()?;
        if !self.links.is_settled(now, successor) {
            return Some(successor);
        }
        let is_caught_up = self.catching == Catching::Done;
        let Self { membership, links, config, .. } = self;
        let is_open = |node, state| is_worth_a_dial(state, is_caught_up) && !links.is_settled(now, node);
        // Seeds would drown if everybody began with them; they are for when nobody else answers.
        if links.is_empty() && self.booted + SEED_PATIENCE <= now {
            let is_open = |seed: &NodeId| membership.state(*seed).is_some_and(|state| is_open(*seed, state));
            let seeds: Vec<NodeId> =
                config.seeds.iter().copied().filter(|seed| *seed != config.me).filter(is_open).collect();
            if let Some(seed) = self.rng.pick(&seeds) {
                return Some(*seed);
            }
        }
        membership.any_other(is_open)
    }

    /// Gives up waiting for a peer that was up before us, and for walks and copies that fell silent.
    fn wait_no_longer(&mut self, out: &mut GossipOutputs) {
        let gone = |link| self.links.get(link).is_none();
        if self.walk.is_some_and(|walk| walk.since + GIVE_UP <= self.now || gone(walk.link)) {
            self.walk = None;
        }
        if let Catching::Copy { from: Some((link, since)) } = self.catching
            && (since + GIVE_UP <= self.now || gone(link))
        {
            self.catching = Catching::Copy { from: None };
            self.links.hang_up(link, "the full copy stood still", out);
        }
        let patience = self.booted + self.config.timing.first_contact;
        match self.catching {
            Catching::Done => return,
            Catching::Copy { from: Some(_) } => {}
            Catching::Copy { from: None } => {
                let full = self.links.greeted().find(|(_, link)| !link.empty).map(|(id, _)| id);
                match full {
                    Some(link) => self.request_copy(link),
                    None if patience <= self.now => return self.caught_up(None, out),
                    None => self.look_elsewhere(out),
                }
            }
            Catching::Sync if patience <= self.now => return self.caught_up(None, out),
            Catching::Sync => {
                // The lower of the two has had its time to begin.
                let ready = |link: &Link| link.synced && link.up + CATCH_UP_PAUSE <= self.now;
                let ready = self.links.greeted().find(|(_, link)| ready(link)).map(|(id, _)| id);
                if let Some(link) = ready.filter(|_| self.walk.is_none()) {
                    self.start_walk(link);
                }
            }
        }
        self.remind(self.now + CATCH_UP_PAUSE);
    }

    /// Gives up a link to a peer that held nothing itself when it greeted, in favour of one that is dialled anew: in a flock that
    /// starts as a whole all our neighbours can have been as empty as we were, and would never be asked again.
    fn look_elsewhere(&mut self, out: &mut GossipOutputs) {
        let was_empty = |link: &Link| link.empty && link.up + EMPTY_PATIENCE <= self.now;
        let stale = self.links.greeted().find(|(_, link)| was_empty(link)).map(|(id, _)| id);
        if let Some(id) = stale {
            self.links.hang_up(id, "it held nothing when it greeted", out);
            self.trim_tree();
        }
    }

    /// Starts a sync if roots have differed for long enough.
    fn sync(&mut self) {
        let Some(seen) = self.differs else { return };
        if self.walk.is_some() || matches!(self.catching, Catching::Copy { .. }) {
            return;
        }
        let timing = &self.config.timing;
        // While records keep arriving, a difference proves nothing; but not for ever.
        let quiet = self.changed_at + timing.settle;
        let due = self.next_sync(seen).max(quiet.min(seen + timing.sync_period * 2));
        if due > self.now {
            self.remind(due);
            return;
        }
        // What differed for a moment only has come on its way since.
        if self.differed_at < seen + timing.settle / 2 {
            self.differs = None;
            return;
        }
        let links: Vec<LinkId> = self.links.greeted().map(|(id, _)| id).collect();
        if let Some(link) = self.rng.pick(&links).copied() {
            self.differs = None;
            self.start_walk(link);
        }
    }

    /// Publishes our digests of the hours that are over, settles hours on which all agree, and drops old tombstones.
    fn hours(&mut self, wall: Wall, out: &mut GossipOutputs) {
        if self.catching != Catching::Done || self.failed || self.leaving {
            return;
        }
        if let Some(record) = self.state.publish_hours(wall) {
            self.persist_own(Vec::from([record]), None, out);
        }
        if let Some(record) = self.state.settle() {
            self.persist_own(Vec::from([record]), None, out);
        }
        self.miss(wall, out);
        let collected = self.state.collect(self.now);
        self.let_go(collected, out);
    }
}

/// Suspects are tried while we know of nobody better; the down announce themselves when they are back.
const fn is_worth_a_dial(state: MemberState, is_caught_up: bool) -> bool {
    match state {
        MemberState::Alive => true,
        MemberState::Suspect => !is_caught_up,
        MemberState::Down | MemberState::Left => false,
    }
}
