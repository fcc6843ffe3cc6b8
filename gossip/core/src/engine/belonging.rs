//! What the roster's changes mean at once: whom to greet, whom to drop, and that we ourselves do not belong any more.
//!
//! Nothing here decides who belongs: that is replicated state. A node that was removed learns it from whoever turns it away,
//! and writes it down, so that its next boot knows as well.

use alloc::vec::Vec;

use super::{Gossip, Origin};
use crate::face::{GossipEvent, GossipOutputs, PeerChange, REMOVED};
use crate::id::NodeId;
use crate::model::{Removal, RemovalKind};
use crate::time::Wall;
use crate::wire::{Record, RecordId, codec};

impl Gossip {
    pub(super) fn follow_roster(&mut self, id: &RecordId, out: &mut GossipOutputs) {
        let Some(change) = self.roster.follow(&self.state, id) else { return };
        match &change {
            PeerChange::Admitted { entry, .. } => {
                let node = entry.node;
                // The book comes first: the shell cannot seal to whom it does not know.
                out.event(GossipEvent::Peer(change));
                if self.membership.admit(self.now, node) {
                    self.membership.announce(node);
                    self.upkeep_at = self.now;
                }
            }
            PeerChange::Removed { node } => {
                let node = *node;
                if node == self.config.me {
                    self.leaving = true;
                } else {
                    self.membership.remove(node);
                    self.links.drop_peer(node, REMOVED, out);
                }
                out.event(GossipEvent::Peer(change));
            }
            PeerChange::Forgotten { node } => {
                let node = *node;
                self.membership.remove(node);
                self.links.drop_peer(node, "the peer was away for too long and was forgotten", out);
                out.event(GossipEvent::Peer(change));
            }
        }
    }

    /// A member says that we were removed. It is one of those whom we trust in everything else, too.
    pub(super) fn expelled(&mut self, wall: Wall, by: NodeId, out: &mut GossipOutputs) {
        let me = self.config.me;
        if self.failed || self.roster.is_removed(me) || !self.membership.is_member(by) || by == me {
            return;
        }
        let removal = Removal { node: me, kind: RemovalKind::Revoked, by, at: wall, token: None };
        self.state_fact(self.now, wall, RecordId::removal(me), codec::encode(&removal), out);
    }

    /// Facts about who belongs, from outside a link; anything else is left out.
    pub(super) fn facts_in(&mut self, wall: Wall, facts: Vec<Record>, out: &mut GossipOutputs) {
        for record in facts.into_iter().filter(Record::is_of_roster) {
            self.take(wall, record, Origin::Rider, out);
        }
    }
}
