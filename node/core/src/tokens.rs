//! Join tokens: whether one may admit somebody now, how often each was used, and when those that have expired go.
//!
//! **Uses are counted from facts.** Each admission names its token, and a removal keeps that of the admission which it voids; so
//! every node counts by itself, and there is no counter that two could write. What this count cannot know is an admission that
//! has not arrived: nodes that do not hear each other may each admit up to the limit. docs/src/design/trust.md has the bound.
//!
//! An expired token is kept for a day, in which whoever shows it is told that it expired rather than that it is unknown. The
//! issuer removes it; where it is not there, the lowest member that is. Two that do it at once do no harm.

use alloc::string::String;
use alloc::vec::Vec;

use dunlin_gossip::face::{MemberState, PersistSeq};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{Asker, Removal, RosterEntry, Token, TokenId};
use dunlin_gossip::time::{Duration, Instant, Wall};
use dunlin_gossip::wire::{Class, Kind, RecordId};

use crate::engine::Node;
use crate::face::{ProblemKind, Reply};
use crate::request::problem;

/// For so long an expired token is kept.
const KEPT: Duration = Duration::from_secs(24 * 3_600);
/// Between two looks while there are tokens.
const PAUSE: Duration = Duration::from_secs(3_600);
/// A limited token lives no longer: after that time a node that it admitted may have been forgotten, and its use with it.
const MAX_LIMITED: Duration = Duration::from_secs(30 * 24 * 3_600);

/// What a node keeps about tokens beside the replicated state.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    /// When to look for those that have expired.
    pub(crate) look_at: Option<Instant>,
    /// Admissions by token on their way to our disk, which the state does not hold yet.
    admitting: Vec<(PersistSeq, TokenId, NodeId)>,
}

impl Tokens {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { look_at: Some(now), admitting: Vec::new() }
    }

    pub(crate) fn admitting(&mut self, seq: PersistSeq, entry: &RosterEntry) {
        self.admitting.extend(entry.token.map(|token| (seq, token, entry.node)));
    }

    /// Everything up to this request is in the state.
    pub(crate) fn durable(&mut self, upto: PersistSeq) {
        self.admitting.retain(|(seq, ..)| *seq > upto);
    }
}

/// A token that this version can keep the promise of.
pub(crate) fn sound(token: &Token) -> Result<(), Reply> {
    match token.uses {
        Some(0) => Err(problem(ProblemKind::BadRequest, "a token for no use lets nobody in; give at least 1")),
        Some(_) if token.created.plus(MAX_LIMITED) < token.expires => {
            let text = "a token with a limit of uses is good for 720 hours at most; give fewer hours, or no limit";
            Err(problem(ProblemKind::BadRequest, text))
        }
        Some(_) | None => Ok(()),
    }
}

impl Node {
    pub(crate) fn check_token(
        &self,
        id: TokenId,
        secret_hash: &[u8; 32],
        node: NodeId,
        wall: Wall,
    ) -> Result<(), Reply> {
        let Some(token) = self.view.tokens().get(&id) else {
            return Err(problem(
                ProblemKind::Denied,
                "the token is unknown here or was removed; make one with `dunlin token create`",
            ));
        };
        // Every byte is compared, so that the time taken tells nothing.
        let differing = token.secret_hash.iter().zip(secret_hash).fold(0, |sum, (a, b)| sum | (a ^ b));
        if differing != 0 {
            return Err(problem(ProblemKind::Denied, "the token's secret is wrong; copy the whole token"));
        }
        if token.expires <= wall {
            return Err(problem(ProblemKind::Denied, "the token has expired; make one with `dunlin token create`"));
        }
        self.has_uses_left(token, Some(node))
    }

    /// Refuses if a token has admitted as many others as it may, as far as is known here.
    pub(crate) fn has_uses_left(&self, token: &Token, newcomer: Option<NodeId>) -> Result<(), Reply> {
        let Some(limit) = token.uses else { return Ok(()) };
        let used = self.token_users(token.id).into_iter().filter(|node| Some(*node) != newcomer).count();
        if used < usize::try_from(limit).unwrap_or(usize::MAX) {
            return Ok(());
        }
        let times = if limit == 1 { "once" } else { "times" };
        let often = if limit == 1 { String::new() } else { alloc::format!("{limit} ") };
        let text = alloc::format!(
            "the token may be used {often}{times}, and was; make one with `dunlin token create` on any member"
        );
        Err(problem(ProblemKind::TooMany, &text))
    }

    /// Whom a token has admitted, as far as is known here, removed nodes included, in order.
    pub(crate) fn token_users(&self, token: TokenId) -> Vec<NodeId> {
        let state = self.gossip.state();
        let admitted = state.of_kind(Class::GrowOnly, Kind::ROSTER).filter_map(|(_, record)| {
            let entry: RosterEntry = record.read_as()?;
            (entry.token == Some(token)).then_some(entry.node)
        });
        let removed = state.of_kind(Class::GrowOnly, Kind::REMOVAL).filter_map(|(_, record)| {
            let removal: Removal = record.read_as()?;
            (removal.token == Some(token)).then_some(removal.node)
        });
        let coming = self.tokens.admitting.iter().filter(|(_, id, _)| *id == token).map(|(.., node)| *node);
        let mut users: Vec<NodeId> = admitted.chain(removed).chain(coming).collect();
        users.sort_unstable();
        users.dedup();
        users
    }

    /// The token that a node used up a use of, if its uses are counted: what its removal must remember.
    pub(crate) fn limited_token_of(&self, node: NodeId) -> Option<TokenId> {
        let state = self.gossip.state();
        let entry = state.value(&RecordId::roster(node)).and_then(|r| r.read_as::<RosterEntry>());
        let limited = |token: &TokenId| self.view.tokens().get(token).is_some_and(|token| token.uses.is_some());
        let of_entry = entry.and_then(|entry| entry.token).filter(limited);
        of_entry.or_else(|| self.removal_of(node).and_then(|removal| removal.token))
    }

    /// Removes expired tokens, if that is up to this node.
    pub(crate) fn drop_expired_tokens(&mut self, now: Instant, wall: Wall) {
        if self.tokens.look_at.is_none_or(|at| at > now) || self.failed || self.left {
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
        self.tokens.look_at = next.map(|after| now + Duration::from_millis(after).max(PAUSE));
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
