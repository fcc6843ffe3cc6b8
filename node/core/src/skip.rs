//! Records whose meaning is left out on this node, and which record is at hand.
//!
//! A handler that panics over a record would do so again on every start, and on every node that runs the same version. So the
//! shell asks, after a panic, which record was at hand; it drops the whole node, whose inside nobody can trust any more, and
//! makes another one from the disk, which leaves that record's meaning out. The record itself stays in the state: it is kept,
//! hashed and passed on like any other. What runs is never stopped for want of a meaning.
//!
//! The note is an atomic in the shell's hands, not a field: a node that panics while it is made has no fields yet.
//!
//! Never: a decision about what a record means, or a record dropped.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::face::NoticeLevel;
use dunlin_gossip::wire::{Record, RecordId};

use crate::engine::Node;
use crate::face::EventKind;
use crate::query;

/// Nothing.
const NONE: u64 = 0;

/// Which record is acted on: its hash. Shared by a node and its shell.
#[derive(Clone, Debug, Default)]
pub struct AtHand(Arc<AtomicU64>);

impl AtHand {
    /// The record that was at hand last, if any was.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|hash| *hash != NONE)
    }

    pub(crate) fn take(&self, hash: u64) {
        self.0.store(hash, Ordering::Relaxed);
    }

    /// What was at hand was done.
    pub(crate) fn done(&self) {
        self.take(NONE);
    }
}

/// What is left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Skip {
    /// Hashes of records over which this node has panicked.
    hashes: BTreeSet<u64>,
    /// The registers that hold one of them.
    pub(crate) registers: BTreeSet<RecordId>,
}

impl Skip {
    pub(crate) const fn new(hashes: BTreeSet<u64>) -> Self {
        Self { hashes, registers: BTreeSet::new() }
    }

    /// True if a register's record must not be looked into; notes it, or that it is another one now.
    pub(crate) fn leaves_out(&mut self, id: &RecordId, records: &[Record]) -> bool {
        if self.hashes.is_empty() || planted(Bug::LeftOutForgotten) {
            return false;
        }
        let is_left_out = records.iter().any(|record| self.hashes.contains(&record.hash()));
        if is_left_out {
            self.registers.insert(id.clone());
        } else {
            self.registers.remove(id);
        }
        is_left_out
    }
}

impl Node {
    /// A record's meaning is not understood here.
    pub(crate) fn unreadable(&mut self, id: &RecordId) {
        let text = alloc::format!(
            "record {id:?} cannot be read by this version ({}); it is kept and passed on, its meaning is skipped here",
            self.config.header.version
        );
        self.log.node(NoticeLevel::Warn, EventKind::Node, self.me, text);
    }

    /// A record is left out.
    pub(crate) fn left_out(&mut self, id: &RecordId) {
        let text = alloc::format!(
            "{} made this agent ({}) panic; its meaning is left out here, the record is kept and passed on",
            query::register_text(id),
            self.config.header.version
        );
        self.log.node(NoticeLevel::Error, EventKind::Node, self.me, text);
    }
}

/// For tests alone: panics over a service whose environment asks for it at this place, `read` or `act`.
#[cfg(feature = "poison")]
pub(crate) fn taste(service: &dunlin_gossip::model::Service, place: &str) {
    assert!(
        service.spec.environment.get("POISON_FOR_TESTS").is_none_or(|wanted| wanted != place),
        "a poison record was swallowed (as a test asked for)"
    );
}

/// Without the feature there is no poison.
#[cfg(not(feature = "poison"))]
pub(crate) const fn taste(_service: &dunlin_gossip::model::Service, _place: &str) {}
