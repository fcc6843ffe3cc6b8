//! Tokens that have expired go: after a day, in which whoever shows one is told that it expired rather than that it is unknown.
//!
//! The issuer removes them; where it is not there, the lowest member that is. Two that do it at once do no harm.

use alloc::vec::Vec;

use dunlin_gossip::face::MemberState;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{Asker, Token, TokenId};
use dunlin_gossip::time::{Duration, Instant, Wall};
use dunlin_gossip::wire::RecordId;

use crate::engine::Node;

/// For so long an expired token is kept.
const KEPT: Duration = Duration::from_secs(24 * 3_600);
/// Between two looks while there are tokens.
const PAUSE: Duration = Duration::from_secs(3_600);

impl Node {
    /// Removes expired tokens, if that is up to this node.
    pub(crate) fn drop_expired_tokens(&mut self, now: Instant, wall: Wall) {
        if self.tokens_at.is_none_or(|at| at > now) || self.failed || self.left {
            return;
        }
        let is_over = |token: &Token| token.expires.plus(KEPT) <= wall;
        let mine = |token: &&Token| self.keeps_house_for(token.issuer);
        let over = self.view.tokens().values().filter(|token| is_over(token)).filter(mine);
        let gone: Vec<TokenId> = over.map(|token| token.id).collect();
        if !gone.is_empty() {
            let batch = gone.into_iter().map(|token| (RecordId::token(token), None)).collect();
            // A node whose clock is off must not judge what has expired; another look follows.
            let _refused = self.gossip.write(now, wall, &Asker::default(), batch, &mut self.gouts);
        }
        let next = self.view.tokens().values().map(|token| token.expires.plus(KEPT).0.saturating_sub(wall.0)).min();
        self.tokens_at = next.map(|after| now + Duration::from_millis(after).max(PAUSE));
    }

    /// True if this node does what another would: it is that one, or that one is not there and this is the lowest that is.
    fn keeps_house_for(&self, node: NodeId) -> bool {
        let is_there = |state| matches!(state, MemberState::Alive | MemberState::Suspect);
        if node == self.me || self.gossip.member_state(node).is_some_and(is_there) {
            return node == self.me;
        }
        let lowest = self.gossip.members().find(|(_, state)| *state == MemberState::Alive);
        lowest.is_some_and(|(node, _)| node == self.me)
    }
}
