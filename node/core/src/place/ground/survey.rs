//! What a ledger says of many candidates at once: whole ladders, every misfit, who would suit but for room. For people who ask
//! and for what is rare; none of it is on the way of an ordinary decision.

use alloc::vec::Vec;

use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::Slot;

use super::super::Waiting;
use super::super::filter::{Misfit, lacks, particular_misfit, unsuited};
use super::super::fit::{Fitted, Score};
use super::super::rank::Rank;
use super::super::terms::Terms;
use super::{Asking, Ground};

impl<'a> Ground<'a> {
    /// True if a replica that left one candidate could be on another, and would do there no worse by its author's wishes and
    /// by how many of its service are beside it; nor would devices stand idle beside it that do not now.
    pub(crate) fn is_no_worse(&mut self, waiting: &Waiting<'a>, from: usize, to: usize) -> bool {
        let asking = self.asks(waiting);
        let (Some(old), Some(new)) = (self.scene.nodes.get(from), self.scene.nodes.get(to)) else { return false };
        let beside = |at: usize, node| self.here(at, node, &waiting.replica.service, Some(asking.service));
        let would_idle = waiting.spec.placing.devices.is_empty() && old.units.is_empty() && !new.units.is_empty();
        let is_welcome = match (self.welcome(&asking, to, new), self.welcome(&asking, from, old)) {
            (Ok(there), Ok(here)) => there <= here,
            // Where it was it could not be placed any more.
            (Ok(_), Err(_)) => true,
            (Err(_), _) => false,
        };
        is_welcome && !would_idle && beside(to, new) <= beside(from, old) && self.admits(&asking, to)
    }

    /// The candidates on which a replica could be but for their room, in its rendezvous order.
    pub(in crate::place) fn would_suit(&mut self, waiting: &Waiting<'a>) -> Vec<(Rank, usize)> {
        let asking = self.asks(waiting);
        let suits = |index: usize| {
            let candidate = self.scene.nodes.get(index);
            candidate.is_some_and(|candidate| {
                particular_misfit(waiting, candidate).is_none() && self.welcome(&asking, index, candidate).is_ok()
            })
        };
        let ranks = self.field(&asking).into_iter().flat_map(|field| field.rows.ranks(asking.hash));
        let mut all: Vec<(Rank, usize)> =
            ranks.filter(|(index, _)| suits(*index)).map(|(index, rank)| (rank, index)).collect();
        all.sort_unstable();
        all
    }

    /// The whole ladder of a replica, with each node's rank, and of those that compete by score their score.
    pub fn ladder(&mut self, waiting: &Waiting<'a>) -> Vec<(NodeId, Rank, Option<Score>)> {
        let asking = self.asks(waiting);
        let best = self.best_k(&asking);
        let rest = self.rest(&asking, &best);
        let scored = best.iter().map(|fitted| (fitted.node, fitted.rank, Some(fitted.score)));
        scored.chain(rest.into_iter().map(|(rank, node)| (node, rank, None))).collect()
    }

    /// Why a replica does not fit on each candidate, what was given away included; none where it does.
    pub fn misfits(&mut self, waiting: &Waiting<'a>) -> Vec<Option<Misfit>> {
        let asking = self.asks(waiting);
        let terms = Terms::of(waiting.spec);
        let all = self.scene.nodes.iter().zip(&self.room).enumerate();
        all.map(|(index, (candidate, room))| {
            if let Slot::Node(node) = waiting.replica.slot
                && node != candidate.node
            {
                return Some(Misfit::NotThisNode);
            }
            unsuited(&terms, waiting.spec, candidate)
                .or_else(|| self.special_misfit(&asking, index))
                .or_else(|| lacks(waiting.spec, candidate, room, self.units(index, candidate)))
        })
        .collect()
    }

    /// The candidates behind the first [`K`](crate::place::K), by rank.
    fn rest(&self, asking: &Asking<'_>, best: &[Fitted]) -> Vec<(Rank, NodeId)> {
        let ranks = self.rows(asking).into_iter().flat_map(|rows| rows.ranks(asking.hash));
        let behind = ranks.filter(|(index, _)| best.iter().all(|b| b.index != *index) && self.admits(asking, *index));
        let mut rest: Vec<(Rank, NodeId)> =
            behind.filter_map(|(index, rank)| Some((rank, self.node(index)?))).collect();
        rest.sort_unstable();
        rest
    }
}
