//! Actual state: the node named in the key is the only writer; the highest (generation, sequence) wins.
//!
//! **Voiding.** The records of a node's older generations are void once the first publication of a newer one is complete
//! here: its header, and each allocation that the header says it adopted, at that generation or a later one. Until then
//! the old claims stand. The floor (the newest complete generation) must be a function of what is held, or two nodes that
//! heard of boots in different order would differ for good. So a header register keeps the newest header of *each*
//! generation from the floor upwards: they are the evidence, and anti-entropy carries it.
//!
//! Two records with one marker can only come from a faulty writer; the greater bytes stay, so that even then all agree.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crdts::LWWReg;

use super::canonical;
use crate::canary::{Bug, planted};
use crate::id::{Generation, NodeId};
use crate::limits::MAX_SIBLINGS;
use crate::model::AllocId;
use crate::paged::Paged;
use crate::wire::{Kind, Record, Stamp};

/// Orders a writer's records; the bytes make it total.
type Marker = (Generation, u64, Arc<[u8]>);

fn marker(record: &Record) -> Marker {
    let (generation, sequence, _) = order(record);
    (generation, sequence, record.bytes().clone())
}

/// The marker, borrowed.
fn order(record: &Record) -> (Generation, u64, &[u8]) {
    let sequence = match record.stamp() {
        Stamp::Sequence { sequence, .. } => *sequence,
        Stamp::Context(_) | Stamp::Fact { .. } => 0,
    };
    let generation = if planted(Bug::OlderBootWins) { Generation::default() } else { generation(record) };
    (generation, sequence, record.bytes())
}

/// The boot that wrote a record.
pub(super) fn generation(record: &Record) -> Generation {
    match record.stamp() {
        Stamp::Sequence { generation, .. } => *generation,
        Stamp::Context(_) | Stamp::Fact { .. } => Generation::default(),
    }
}

/// What a register holds after one more record; `None` if that is what it held before.
pub(super) fn merge(held: &[Record], record: &Record) -> Option<Vec<Record>> {
    let evidence = record.id().kind == Kind::HEADER;
    let rival = held.iter().find(|r| !evidence || generation(r) == generation(record));
    if let Some(rival) = rival
        && order(record) <= order(rival)
        && (record == rival || generation(record) < generation(rival) || !planted(Bug::SequenceIgnored))
    {
        return None;
    }
    if planted(Bug::TombstoneForgotten) && record.payload().is_none() {
        return (!held.is_empty()).then(Vec::new);
    }
    if held.len() == usize::from(rival.is_some()) {
        return Some(Vec::from([record.clone()]));
    }
    let mut register = LWWReg { val: rival.unwrap_or(record).clone(), marker: marker(rival.unwrap_or(record)) };
    register.update(record.clone(), marker(record));
    if rival == Some(&register.val) {
        return None;
    }
    let mut records: Vec<Record> = held.iter().filter(|r| Some(*r) != rival).cloned().collect();
    records.push(register.val);
    if records.len() > MAX_SIBLINGS {
        records.sort_unstable_by(|a, b| order(b).cmp(&order(a)));
        records.truncate(MAX_SIBLINGS);
    }
    records.sort_unstable_by(canonical);
    (records != held).then_some(records)
}

/// The register's value: its newest record, unless that is a tombstone.
pub(super) fn winner(siblings: &[Record]) -> Option<&Record> {
    siblings.iter().max_by_key(|r| order(r)).filter(|r| r.payload().is_some())
}

/// What is known of one writer's boots.
#[derive(Clone, Debug, Default)]
struct Writer {
    /// The newest boot of which anything was seen.
    newest: Generation,
    /// The newest boot whose first publication is complete; records of older ones are void.
    floor: Generation,
    /// Boots whose header is here while adopted allocations are not.
    waiting: Vec<Waiting>,
}

#[derive(Clone, Debug)]
struct Waiting {
    generation: Generation,
    missing: BTreeSet<AllocId>,
}

/// All writers.
#[derive(Clone, Debug, Default)]
pub(super) struct Writers(Paged<NodeId, Writer>);

impl Writers {
    /// Notes that a boot exists.
    pub(super) fn seen(&mut self, node: NodeId, generation: Generation) {
        if self.newest(node).is_some_and(|newest| newest >= generation) {
            return;
        }
        let writer = self.0.get_or_insert_with(node, Writer::default);
        writer.newest = writer.newest.max(generation);
    }

    pub(super) fn newest(&self, node: NodeId) -> Option<Generation> {
        self.0.get(&node).map(|w| w.newest)
    }

    /// True for a record of a voided boot.
    pub(super) fn voids(&self, node: NodeId, generation: Generation) -> bool {
        self.0.get(&node).is_some_and(|w| generation < w.floor)
    }

    /// A writer departed: nothing that it wrote is held any more.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.0.remove(&node);
    }

    /// Takes note of a record that was merged. `held` tells of an allocation's newest boot. Returns the new floor if
    /// this record completed a first publication.
    pub(super) fn merged(
        &mut self,
        node: NodeId,
        record: &Record,
        held: impl Fn(AllocId) -> Option<Generation>,
    ) -> Option<Generation> {
        let at = generation(record);
        let writer = self.0.get_or_insert_with(node, Writer::default);
        if record.id().kind == Kind::HEADER && at > writer.floor {
            let adopted = record.header()?.adopted.iter().copied();
            let missing = adopted.filter(|id| held(*id) < Some(at)).collect();
            writer.waiting.retain(|w| w.generation != at);
            writer.waiting.push(Waiting { generation: at, missing });
        } else if let Some(id) = record.id().alloc_id() {
            for waiting in writer.waiting.iter_mut().filter(|w| w.generation <= at) {
                waiting.missing.remove(&id);
            }
        }
        let complete = writer.waiting.iter().filter(|w| w.missing.is_empty()).map(|w| w.generation).max()?;
        writer.floor = complete;
        writer.waiting.retain(|w| w.generation > complete);
        Some(complete)
    }
}
