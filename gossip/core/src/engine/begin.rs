//! How a boot begins: what the disk holds, and the first words to the others. Never: anything that comes later in a boot.

use alloc::vec::Vec;

use super::{FULL_MESH, Gossip};
use crate::face::{Boot, GossipEvent, GossipOutputs};
use crate::id::{Actor, NodeId};
use crate::state::State;
use crate::trust::Roster;
use crate::wire::{Class, Record, RecordId};

impl Gossip {
    /// State and roster as the disk has them; tells the shell whom it may talk to.
    pub(super) fn restore(me: NodeId, boot: &mut Boot, out: &mut GossipOutputs) -> (State, Roster) {
        let actor = Actor { node: me, generation: boot.generation };
        let records = core::mem::take(&mut boot.records);
        let Some(base) = &boot.base else {
            let (mut state, mut roster) = (State::new(actor), Roster::default());
            records.into_iter().for_each(|record| state.restore(record));
            state.end_restore();
            roster.load(&state, |change| out.event(GossipEvent::Peer(change)));
            return (state, roster);
        };
        let (mut state, mut roster) = base.held_by(actor);
        let ids: Vec<RecordId> = records.iter().map(|record| record.id().clone()).collect();
        records.into_iter().for_each(|record| state.restore(record));
        state.end_restore();
        let changes = ids.iter().filter_map(|id| roster.follow(&state, id));
        changes.for_each(|change| out.event(GossipEvent::Peer(change)));
        (state, roster)
    }

    /// True if nothing is held but who belongs and what this node wrote itself: a first boot, or a disk whose replicated state
    /// was dropped.
    pub(super) fn holds_nothing(&self) -> bool {
        let all = self.state.snapshot();
        let is_own = |record: &Record| record.author().is_some_and(|author| author.node == self.config.me);
        !all.records().any(|record| record.id().class != Class::GrowOnly && !is_own(record))
    }

    /// The first words of this boot; none if it takes over from an earlier process.
    pub(super) fn begin(&mut self, is_new: bool, out: &mut GossipOutputs) {
        if is_new { self.introduce(out) } else { self.caught_up(None, out) }
    }

    /// Announces us to some members (all, where they are few).
    pub(super) fn introduce(&mut self, out: &mut GossipOutputs) {
        if self.membership.size() == 1 {
            self.caught_up(None, out);
            return;
        }
        let mut nodes: Vec<NodeId> = self.membership.others().map(|(node, _)| node).collect();
        self.rng.shuffle(&mut nodes);
        let known = |node: &NodeId| self.membership.is_member(*node) && *node != self.config.me;
        let seeds: Vec<NodeId> = self.config.seeds.iter().copied().filter(known).collect();
        nodes.truncate(FULL_MESH);
        for node in seeds.into_iter().chain(nodes) {
            self.membership.announce(node);
        }
    }
}
