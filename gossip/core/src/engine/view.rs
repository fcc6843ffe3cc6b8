//! What the engine tells those who build on it: state, roster, members, links. Reading only: nothing here changes anything.

use super::{Catching, Gossip};
use crate::face::{LinkId, MemberState};
use crate::id::{Generation, NodeId};
use crate::state::State;
use crate::time::{Duration, Instant};
use crate::trust::Roster;

impl Gossip {
    /// The replicated state.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Who may be talked to.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// A rostered node's state as we see it; we are alive. None for anybody else.
    #[must_use]
    pub fn member_state(&self, node: NodeId) -> Option<MemberState> {
        self.membership.state(node)
    }

    /// The newest boot of another node of which membership knows, whatever became of it.
    #[must_use]
    pub fn member_generation(&self, node: NodeId) -> Option<Generation> {
        self.membership.generation_of(node)
    }

    /// Rostered nodes that were not removed, ourselves included.
    #[must_use]
    pub fn roster_size(&self) -> usize {
        self.membership.size()
    }

    /// When the last authentic word of anybody came; at first, when this boot began.
    #[must_use]
    pub const fn last_heard(&self) -> Instant {
        self.heard
    }

    /// How often this node probes a member.
    #[must_use]
    pub const fn probe_period(&self) -> Duration {
        self.config.timing.probe_period
    }

    /// Every rostered node that was not removed, ourselves included, in order. A node of which this boot has heard nothing
    /// yet is suspect.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, MemberState)> {
        let me = self.config.me;
        let lower = self.membership.others().take_while(move |(node, _)| *node < me);
        let higher = self.membership.others().skip_while(move |(node, _)| *node < me);
        lower.chain(core::iter::once((me, MemberState::Alive))).chain(higher)
    }

    /// True once a packet or frame of the node came in this boot.
    #[must_use]
    pub fn is_heard(&self, node: NodeId) -> bool {
        node == self.config.me || self.membership.is_heard(node)
    }

    /// True once the full copy or first sync of this boot is done, or there was nobody for long enough.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.catching == Catching::Done
    }

    /// This boot's generation.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// A peer's wall clock minus ours, in milliseconds, as of its last packet (transit included).
    #[must_use]
    pub fn peer_clock_offset(&self, node: NodeId) -> Option<i64> {
        self.membership.offset_of(node)
    }

    /// The links that stand and whose peers greeted.
    pub fn links(&self) -> impl Iterator<Item = (LinkId, NodeId)> {
        self.links.greeted().map(|(id, link)| (id, link.peer))
    }

    /// How often this boot had to renew its identity because others held it for dead.
    #[must_use]
    pub fn renewals(&self) -> u64 {
        self.membership.renewals
    }

    /// How many syncs this boot has begun.
    #[must_use]
    pub const fn syncs(&self) -> u64 {
        self.syncs
    }

    /// Packets, frames and records that could not be read.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }
}
