//! What happens by the clock alone: dialling, syncing, giving up waiting, publishing hours and collecting.

use alloc::vec::Vec;

use super::{Catching, FULL_MESH, Gossip};
use crate::face::{GossipOutputs, LinkId, MemberState};
use crate::hash::hash64;
use crate::id::NodeId;
use crate::spread::links::Link;
use crate::time::{Duration, Instant, Wall};

/// Links that a node keeps by dialling, in a cluster too large for a full mesh: one to its successor on the ring of
/// hashes, so that the graph is connected, the others random, so that its diameter is small.
pub(super) const OUTGOING: usize = 4;
/// How long a booted node without a link tries others before its seeds.
const SEED_PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks at the hours. Collection moves by hours, so that this is soon enough; each node looks at a moment of
/// its own, so that a large flock's publications do not come all at once.
pub(super) const HOURS_PERIOD: Duration = Duration::from_secs(600);
/// Upkeep comes at least this often.
const UPKEEP_PERIOD: Duration = Duration::from_secs(2);
/// A push that nobody acknowledged for so long says nothing about the way.
const UNANSWERED: Duration = Duration::from_secs(10);
/// Between two looks for somebody to catch up with.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(250);
/// A walk or copy of which nothing was heard for so long is given up.
const GIVE_UP: Duration = Duration::from_secs(15);

impl Gossip {
    pub(super) fn upkeep(&mut self, wall: Wall, out: &mut GossipOutputs) {
        self.upkeep_at = self.now + UPKEEP_PERIOD;
        self.links.expire(self.now);
        self.trim_tree();
        self.pushed.retain(|_, at| *at + UNANSWERED > self.now);
        if !self.leaving {
            self.dial(out);
        }
        self.wait_no_longer(out);
        self.sync();
        if self.hours_at <= self.now {
            self.hours_at = self.now + HOURS_PERIOD;
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
        }
        let wanted = |node| self.membership.state(node).is_some_and(|state| self.is_worth_a_dial(state));
        if let Some(at) = self.links.next_dial(now, wanted) {
            self.remind(at);
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
            self.links.trim(successor, OUTGOING, busy, out);
            self.trim_tree();
        } else if !self.links.is_settled(self.now, successor) {
            self.links.start_dial(self.now, successor, out);
        }
    }

    /// The next one alive on the ring of hashes; the distance wraps, which is what makes it a ring.
    fn successor(&self) -> Option<NodeId> {
        let place = |node: NodeId| hash64(&node.0);
        let own = place(self.config.me);
        let alive = self.membership.others().filter(|(_, state)| self.is_worth_a_dial(*state));
        alive.map(|(node, _)| node).min_by_key(|node| place(*node).wrapping_sub(own))
    }

    /// Suspects are tried while we know of nobody better; the down announce themselves when they are back.
    fn is_worth_a_dial(&self, state: MemberState) -> bool {
        match state {
            MemberState::Alive => true,
            MemberState::Suspect => self.catching != Catching::Done,
            MemberState::Down | MemberState::Left => false,
        }
    }

    fn next_neighbour(&mut self) -> Option<NodeId> {
        let now = self.now;
        let successor = self.successor()?;
        if !self.links.is_settled(now, successor) {
            return Some(successor);
        }
        let open = |(node, state): (NodeId, MemberState)| {
            (self.is_worth_a_dial(state) && !self.links.is_settled(now, node)).then_some(node)
        };
        let mut open: Vec<NodeId> = self.membership.others().filter_map(open).collect();
        // Seeds would drown if everybody began with them; they are for when nobody else answers.
        if self.links.is_empty() && self.booted + SEED_PATIENCE <= now {
            let seeds: Vec<NodeId> = open.iter().copied().filter(|node| self.config.seeds.contains(node)).collect();
            open = if seeds.is_empty() { open } else { seeds };
        }
        self.rng.pick(&open).copied()
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
                    None => {}
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
        let ops = self.state.collect(self.now);
        self.persist_soon(ops, self.now);
    }
}
