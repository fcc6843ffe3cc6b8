//! How a node writes: records are made here, and enter the state by `merge` once they are on disk.
//!
//! Two writes of one key may be staged before the first is durable. The second still supersedes the first, since what is
//! staged counts as seen. No stamp ever lies in an hour that was published or settled.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::hours::{self, Hours};
use super::{State, desired};
use crate::canary::{Bug, planted};
use crate::hlc::Hlc;
use crate::id::NodeId;
use crate::model::Asker;
use crate::time::Wall;
use crate::wire::{Record, RecordId, Stamp, codec};

impl State {
    /// Makes the records of a batch: one stamp for all. `None` deletes. Of several writes of one key the last counts.
    pub fn stage_desired(
        &mut self,
        wall: Wall,
        asker: &Asker,
        writes: &[(RecordId, Option<Vec<u8>>)],
    ) -> (Hlc, Vec<Record>) {
        let hlc = self.tick(wall);
        let writes: BTreeMap<&RecordId, Option<&[u8]>> =
            writes.iter().map(|(id, payload)| (id, payload.as_deref())).collect();
        let mut records = Vec::with_capacity(writes.len());
        for (id, payload) in writes {
            let staged = self.staged.get(id).map(Vec::as_slice).unwrap_or_default();
            let superseded = self.siblings(id).iter().chain(staged);
            let stamp = desired::stamp(self.me, asker.clone(), hlc, superseded, self.ledger.settled());
            let record = Record::write(id.clone(), stamp, hlc, payload);
            self.staged.entry(id.clone()).or_default().push(record.clone());
            records.push(record);
        }
        (hlc, records)
    }

    /// Makes a record of our own actual state. `None` says that it is over.
    pub fn stage_actual(&mut self, wall: Wall, id: RecordId, payload: Option<&[u8]>) -> Record {
        debug_assert_eq!(id.writer(), Some(self.me.node), "a node writes its own actual state only");
        let hlc = self.tick(wall);
        self.sequence += 1;
        let stamp = Stamp::Sequence { generation: self.me.generation, sequence: self.sequence };
        Record::write(id, stamp, hlc, payload)
    }

    /// Makes a fact.
    pub fn stage_fact(&mut self, wall: Wall, id: RecordId, payload: &[u8]) -> Record {
        self.stage_grow_only(wall, id, Some(payload))
    }

    /// Makes the tombstone of a node's admission: it is forgotten.
    pub fn stage_forgetting(&mut self, wall: Wall, node: NodeId) -> Record {
        self.stage_grow_only(wall, RecordId::roster(node), None)
    }

    fn stage_grow_only(&mut self, wall: Wall, id: RecordId, payload: Option<&[u8]>) -> Record {
        let hlc = self.tick(wall);
        let record = Record::write(id.clone(), Stamp::Fact { author: self.me }, hlc, payload);
        self.staged.entry(id).or_default().push(record.clone());
        record
    }

    /// Makes our publication of the digests of the hours that are over, if it differs from the last one. From here on
    /// nothing is stamped in these hours, whatever becomes of the record.
    ///
    /// Hours from the first that holds a staged record on stay open: a digest must not miss what is on its way to disk.
    pub fn publish_hours(&mut self, wall: Wall) -> Option<Record> {
        if self.copying {
            return None;
        }
        let staged = self.staged.values().flatten().map(|r| r.hlc().hour()).min();
        let open = Hlc::from_wall(wall).hour().min(staged.unwrap_or(u64::MAX)).max(self.ledger.closed());
        let roster = hours::roster_hash(self.rostered());
        let payload = codec::encode(&self.ledger.publish(roster, open)?);
        Some(self.stage_actual(wall, hours::hours_id(self.me.node), Some(&payload)))
    }

    /// Makes the fact that more hours are settled, if every rostered node published the same digests for them.
    #[must_use]
    pub fn settle(&mut self) -> Option<Record> {
        if self.copying {
            return None;
        }
        let nodes: Vec<NodeId> = self.rostered().collect();
        let roster = hours::roster_hash(nodes.iter().copied());
        self.vouched.retain(|node, _| nodes.binary_search(node).is_ok());
        for node in &nodes {
            let Some(record) = self.value(&hours::hours_id(*node)) else { continue };
            let hash = record.hash();
            // Most have said nothing new since the last look.
            if self.vouched.get(node) != Some(&hash)
                && record.read_as::<Hours>().is_some_and(|hours| hours.roster == roster)
            {
                self.vouched.insert(*node, hash);
            }
        }
        // Our own first: it says most often that no hour is over yet.
        let is_own = |node: &NodeId| *node == self.me.node;
        let own = nodes.iter().copied().filter(is_own);
        let all = own
            .chain(nodes.iter().copied().filter(|node| !is_own(node)))
            .take(if planted(Bug::HourSettledEarly) { 1 } else { usize::MAX });
        let published = all.map(|node| {
            let record = self.value(&hours::hours_id(node))?;
            let hours = record.read_as::<Hours>().filter(|hours| self.ledger.is_beyond(hours))?;
            (self.vouched.get(&node) == Some(&record.hash())).then_some(hours)
        });
        let published: Vec<Hours> = published.collect::<Option<_>>()?;
        let below = self.ledger.agreed(&published)?;
        Some(hours::settled_record(below))
    }

    fn tick(&mut self, wall: Wall) -> Hlc {
        self.clock.tick_at_least(wall, self.ledger.floor())
    }

    /// Forgets that a record is staged; true if it was.
    pub(super) fn unstage(&mut self, record: &Record) -> bool {
        let Some(staged) = self.staged.get_mut(record.id()) else { return false };
        let before = staged.len();
        staged.retain(|r| r != record);
        let found = staged.len() < before;
        if staged.is_empty() {
            self.staged.remove(record.id());
        }
        found
    }
}
