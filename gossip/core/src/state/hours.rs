//! Collection by causal stability: when a tombstone may be forgotten.
//!
//! Many-writer records are digested by the hour of their HLC. A node publishes the digests of its unsettled hours, and
//! **never again stamps inside an hour whose digest it published**. An hour is settled once every rostered node has
//! published the same digest of it under the same roster. Then every author's records of that hour are in all digests, so
//! all nodes held the same tombstones, and no node can bring back what they deleted; a record stamped in a settled hour
//! that a node does not hold is refused.
//!
//! *Under the same roster*: whoever settles an hour must know everybody whom any publisher knew. A publication counts for a
//! node once that node has had the roster under which it was made, while holding it. So those who went and cannot publish
//! again do not hold everything up each time that somebody else arrives.
//!
//! Settled hours form a prefix of time, so one number says it all: hours *below* it are settled. It is itself a replicated
//! fact that is nobody's opinion: its bytes depend on the number alone, and its stamp is the number, so the highest wins.
//!
//! Digests count tombstones (an hour must not settle while somebody lacks one), unlike P1's hash.
//!
//! What one writer ended is dropped by the same measure and is not digested: it goes with its writer's boot, at other times on
//! other nodes, and digests that changed by it would never agree with those of nodes that went before. Should somebody bring
//! back what was ended, its writer, who is the only one that can know, ends it once more.
//!
//! **Left behind.** No hour settles without a node's own publication of it. So a node that hears of a settled hour which it
//! never published, as far as its disk remembers, has an old disk, or was forgotten meanwhile: what it holds may have been
//! deleted since, and the deletion forgotten. It drops all that and copies everything anew.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::hash::mix;
use crate::hlc::Hlc;
use crate::id::{Actor, Generation, NodeId};
use crate::time::{Instant, Wall};
use crate::wire::{Class, Kind, Record, RecordId, Stamp, codec};

/// How long tombstones of settled hours are kept, for records still on their way.
pub(super) const GRACE: Duration = Duration::from_secs(600);
/// Hours with records that one publication lists at most; the rest waits until these are settled.
pub(super) const MAX_HOURS: usize = 1_024;

const HOUR_MS: u64 = 3_600_000;

/// The payload of a node's hours record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hours {
    /// The hash of the roster under which these count.
    pub roster: u64,
    /// Hours below this one its author had published when its boot began, as far as its disk remembered.
    pub remembers: u64,
    /// The first hour listed; those before it are settled.
    pub from: u64,
    /// The first hour not listed. The author stamps nothing before it any more.
    pub below: u64,
    /// Hour and digest, ascending; an hour in between that is not here has no records.
    pub digests: Vec<(u64, u64)>,
}

/// The payload of the settled fact: all hours below this one are settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Settled {
    /// The first hour that is not settled.
    pub below: u64,
}

/// The register of a node's hours.
pub(super) fn hours_id(node: NodeId) -> RecordId {
    RecordId::new(Class::OneWriter, Kind::HOURS, &node.0)
}

/// The register of the settled fact.
pub(super) fn settled_id() -> RecordId {
    RecordId::new(Class::GrowOnly, Kind::SETTLED, &[])
}

/// The record which says that all hours below this one are settled: the same bytes whoever writes it.
pub(super) fn settled_record(below: u64) -> Record {
    let nobody = Actor { node: NodeId([0; 16]), generation: Generation(0) };
    let payload = codec::encode(&Settled { below });
    Record::write(settled_id(), Stamp::Fact { author: nobody }, start_of(below), Some(&payload))
}

/// The first stamp of an hour.
pub(super) const fn start_of(hour: u64) -> Hlc {
    Hlc::from_wall(Wall(hour.saturating_mul(HOUR_MS)))
}

/// The hash of a roster.
pub(super) fn roster_hash(roster: impl Iterator<Item = NodeId>) -> u64 {
    roster.fold(0, |sum, node| mix(sum, crate::hash::hash64(&node.0)))
}

/// What this node knows of hours.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    /// Sum of the record hashes of each unsettled hour.
    digests: BTreeMap<u64, u64>,
    /// Hours below are settled.
    settled: u64,
    /// Hours below are published, hence closed to our stamps.
    published: u64,
    /// That, as the disk had it when this boot began, or as the first copy told.
    remembers: u64,
    /// What was last published in this boot.
    last: Option<Hours>,
    /// The settled hour that was last scheduled for collection, and those not yet due.
    noted: u64,
    due: Vec<(Instant, u64)>,
}

impl Ledger {
    /// A record came into the state.
    pub(super) fn add(&mut self, record: &Record) {
        self.change(record, u64::wrapping_add);
    }

    /// A record went out of the state.
    pub(super) fn remove(&mut self, record: &Record) {
        self.change(record, u64::wrapping_sub);
    }

    fn change(&mut self, record: &Record, change: fn(u64, u64) -> u64) {
        let hour = record.hlc().hour();
        if hour < self.settled || record.id().class != Class::ManyWriters {
            return;
        }
        let sum = change(self.digests.get(&hour).copied().unwrap_or(0), record.hash());
        if sum == 0 {
            self.digests.remove(&hour);
        } else {
            self.digests.insert(hour, sum);
        }
    }

    /// True for a stamp in a settled hour.
    pub(super) const fn is_settled(&self, hlc: Hlc) -> bool {
        hlc.hour() < self.settled
    }

    /// Hours below have been published and are closed to our stamps for good.
    pub(super) const fn closed(&self) -> u64 {
        self.published
    }

    /// What is published by now is what this boot began with.
    pub(super) fn begin(&mut self) {
        self.remembers = self.published;
    }

    /// True for a publication of an earlier boot of ours that the disk did not remember.
    pub(super) fn is_unremembered(&self, record: &Record) -> bool {
        read(record).is_some_and(|hours| hours.below > self.remembers)
    }

    /// Hours below are settled.
    pub(super) const fn settled(&self) -> u64 {
        self.settled
    }

    /// The lowest stamp that this node may still hand out.
    pub(super) fn floor(&self) -> Hlc {
        start_of(self.settled.max(self.published))
    }

    /// Takes note of the settled fact.
    pub(super) fn settle(&mut self, record: &Record) {
        let Some(Settled { below }) = record.read_as() else { return };
        if below > self.settled {
            self.settled = below;
            self.digests = self.digests.split_off(&below);
        }
    }

    /// Takes note of what this node itself published, in this boot or an earlier one.
    pub(super) fn published(&mut self, record: &Record) {
        let Some(hours) = read(record) else { return };
        self.published = self.published.max(hours.below);
    }

    /// Forgets what the holder of these records published: they are in other hands now.
    pub(super) fn forget_own(&mut self) {
        (self.published, self.remembers, self.last) = (0, 0, None);
    }

    /// What to publish now, if it differs from what was. Hours from `open` on stay open. The hours listed are closed to
    /// our stamps from here on, whatever becomes of the record.
    pub(super) fn publish(&mut self, roster: u64, open: u64) -> Option<Hours> {
        let from = self.settled;
        let mut digests: Vec<(u64, u64)> = self.digests.range(..open).map(|(h, d)| (*h, *d)).collect();
        let below = digests.get(MAX_HOURS).map_or(open, |(hour, _)| *hour);
        digests.truncate(MAX_HOURS);
        let hours = Hours { roster, remembers: self.remembers, from, below, digests };
        if below <= from || self.last.as_ref() == Some(&hours) {
            return None;
        }
        self.published = self.published.max(below);
        self.last = Some(hours.clone());
        Some(hours)
    }

    /// True if a publication lists hours that are not settled. One that does not holds up all others.
    pub(super) const fn is_beyond(&self, hours: &Hours) -> bool {
        hours.below > self.settled
    }

    /// The first hour that cannot be settled by these publications, if it is beyond what is settled.
    pub(super) fn agreed(&self, published: &[Hours]) -> Option<u64> {
        let fits = |h: &Hours| h.from <= self.settled;
        let reference = published.first()?;
        if !published.iter().all(fits) {
            return None;
        }
        let common = published.iter().map(|h| h.below).min()?;
        let range = self.settled..common;
        let listed = |h: &Hours| -> BTreeMap<u64, u64> {
            h.digests.iter().copied().filter(|(hour, _)| range.contains(hour)).collect()
        };
        let ours = listed(reference);
        let differs = published.iter().skip(1).filter_map(|h| first_difference(&ours, &listed(h))).min();
        Some(differs.unwrap_or(common)).filter(|below| *below > self.settled)
    }

    /// The hour below which tombstones may be dropped now, if a new one is due.
    pub(super) fn collectable(&mut self, now: Instant) -> Option<u64> {
        if self.settled > self.noted {
            self.noted = self.settled;
            self.due.push((now + GRACE, self.settled));
        }
        let below = self.due.iter().filter(|(due, _)| *due <= now).map(|(_, below)| *below).max()?;
        self.due.retain(|(due, _)| *due > now);
        Some(below)
    }
}

fn read(record: &Record) -> Option<Hours> {
    record.read_as()
}

/// True if a publication of a later boot shows that its author no longer knew of an earlier one: its disk is old.
pub(super) fn is_forgetful(earlier: &Record, later: &Record) -> bool {
    let (Some(earlier), Some(later)) = (read(earlier), read(later)) else { return false };
    earlier.below > later.remembers
}

/// The first hour for which two publications say different things.
fn first_difference(a: &BTreeMap<u64, u64>, b: &BTreeMap<u64, u64>) -> Option<u64> {
    a.keys().chain(b.keys()).copied().filter(|hour| a.get(hour) != b.get(hour)).min()
}
