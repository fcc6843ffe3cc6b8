//! Whole books: from a peer over a link, and from an earlier process of this boot.
//!
//! Never: spread any further; whoever wants to know asks as we did.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::identity::{Boot, SwimId};
use super::message::{Claim, Line};
use super::{LEFT, Membership};
use crate::canary::{Bug, planted};
use crate::face::MemberState;
use crate::id::{Generation, NodeId};
use crate::time::Instant;

/// One line of a membership list, as it goes over a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct MemberLine {
    short: u64,
    generation: Generation,
    renewals: u16,
    incarnation: u16,
    state: u8,
}

const ALIVE: u8 = 0;
const SUSPECT: u8 = 1;
const DOWN: u8 = 2;

impl Membership {
    /// The whole book, for a peer that knows less.
    pub(crate) fn lines(&self) -> Vec<MemberLine> {
        let line = |short, boot: Boot, incarnation, state| MemberLine {
            short,
            generation: boot.generation(),
            renewals: boot.renewals(),
            incarnation,
            state,
        };
        let others = self.book.iter().filter(|peer| !peer.alone).filter_map(|peer| {
            let (incarnation, state) = match peer.state {
                MemberState::Alive => (peer.incarnation, ALIVE),
                MemberState::Suspect => (peer.incarnation, SUSPECT),
                MemberState::Down => (peer.incarnation, DOWN),
                MemberState::Left => (LEFT, DOWN),
            };
            Some(line(peer.node.short(), peer.boot?, incarnation, state))
        });
        core::iter::once(line(self.me.short(), self.boot, self.incarnation, ALIVE)).chain(others).collect()
    }

    /// A peer's whole book.
    pub(crate) fn learn(&mut self, now: Instant, from: NodeId, lines: &[MemberLine]) {
        let from = from.short();
        for line in lines {
            let claim = match line.state {
                ALIVE => Claim::Alive,
                SUSPECT => Claim::Suspect { by: from },
                DOWN => Claim::Down,
                _ => continue,
            };
            let id = SwimId { short: line.short, boot: Boot::new(line.generation, line.renewals) };
            let is_us = id.short == self.me.short() && id.boot == self.boot;
            if is_us && claim == Claim::Down && !planted(Bug::RefutationDropped) {
                // It holds us down for good, or it would not write it into its book.
                self.renew(now);
                continue;
            }
            self.told(now, from, Line { id, incarnation: line.incarnation, claim }, false);
        }
    }
}
