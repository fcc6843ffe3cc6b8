//! What can be seen of the engine from outside: depths of its queues, and how peers' clocks differ from ours. For people;
//! nothing may be decided by it.

use super::Gossip;
use crate::spread::pace::TooFast;
use crate::time::Instant;

/// How much waits in the engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Depths {
    /// Received records and frames that were not merged yet.
    pub inbox: usize,
    /// Their bytes.
    pub inbox_bytes: usize,
    /// Merged records that were not pushed on yet.
    pub spread: usize,
    /// Requests at the disk, and who waits for them.
    pub disk: usize,
    /// Bytes of frames for which links have no credit.
    pub links_bytes: usize,
}

impl Gossip {
    /// How much waits.
    #[must_use]
    pub fn depths(&self) -> Depths {
        Depths {
            inbox: self.inbox.len(),
            inbox_bytes: self.inbox_bytes,
            spread: self.spread.len(),
            disk: usize::try_from(self.persist_seq.0 - self.confirmed.0.min(self.persist_seq.0)).unwrap_or(usize::MAX),
            links_bytes: self.links.queued_bytes(),
        }
    }

    /// Frames that were dropped since a link's queue was full, by class: greetings and acknowledgements, fresh records, sync.
    #[must_use]
    pub const fn dropped(&self) -> [u64; 3] {
        self.links.dropped
    }

    /// Who wrote more than its share.
    #[must_use]
    pub fn too_fast(&self) -> TooFast {
        self.paces.too_fast(self.now)
    }

    /// Since when packets have shown another state than ours, if they still do.
    #[must_use]
    pub fn differs_since(&self) -> Option<Instant> {
        self.differs
    }

    /// The median of the clocks of the members alive, minus ours, in milliseconds; none while nobody was heard.
    #[must_use]
    pub fn clock_offset(&self) -> Option<i64> {
        self.membership.median_offset()
    }
}
