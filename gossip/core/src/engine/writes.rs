//! Own writes: staged, persisted as one commit, and only then merged, told and spread.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt;

use super::{Gossip, Origin};
use crate::canary::{Bug, planted};
use crate::face::{FrameClass, GossipEvent, GossipOutputs, LinkId, NoticeLevel, PersistOp, PersistSeq};
use crate::hlc::Hlc;
use crate::limits::{MAX_BATCH, MAX_CLOCK_AHEAD, MAX_KEY, MAX_RECORD, WRITE_RATE};
use crate::model::Asker;
use crate::time::{Duration, Wall};
use crate::wire::message::{Head, frame};
use crate::wire::{Kind, Record, RecordId, rehearsal};

/// Own batches that a link which comes up may still be missing.
const MAX_RECENT: usize = 16;
/// The same of batches for whose acknowledgements somebody waits.
const MAX_AWAITED: usize = 64;
/// How long a batch counts as recent.
const RECENT: Duration = Duration::from_secs(30);
/// What an envelope adds to key and payload at most, a context of a thousand authors included.
const ENVELOPE_ROOM: usize = 32 * 1_024;

/// What happens once a persist request is confirmed.
#[derive(Debug)]
pub(super) enum Waiting {
    /// Our own records become visible.
    Own(Vec<Record>, Option<Hlc>),
    /// A peer is told that we keep its batch.
    Stored(LinkId, Hlc),
    /// The disk was emptied: tell the shell to start anew above this generation.
    Dropped(crate::id::Generation),
}

/// Why a write is not accepted. Nothing has changed then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WriteError {
    /// The disk failed earlier; the agent is about to stop.
    DiskFailed,
    /// More records than a batch may have.
    TooMany {
        /// How many were given.
        given: usize,
    },
    /// A key or value is too large.
    TooLarge {
        /// Whose.
        id: RecordId,
        /// Key and value, in bytes.
        bytes: usize,
    },
    /// Our clock is too far from the median of our peers' clocks.
    ClockOff {
        /// How far.
        by: Duration,
        /// True if ours is ahead.
        ahead: bool,
    },
    /// More than this node may write; a client writes in a loop.
    TooFast {
        /// After which time another write is accepted.
        wait: Duration,
    },
    /// The node is leaving.
    Leaving,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DiskFailed => {
                f.write_str("this node's disk failed; write to another node, then look at this one's log")
            }
            Self::TooMany { given } => {
                write!(f, "{given} records in one batch; at most {MAX_BATCH} can be written at once: split the stack")
            }
            Self::TooLarge { id, bytes } => {
                write!(f, "{id:?} has {bytes} bytes; a record may have {MAX_RECORD} and its key {MAX_KEY}")
            }
            Self::ClockOff { by, ahead } => {
                let side = if *ahead { "ahead of" } else { "behind" };
                write!(
                    f,
                    "this node's clock is {} s {side} its peers'; set it (NTP), or write to another node",
                    by.as_secs()
                )
            }
            Self::TooFast { wait } => {
                let (seconds, share) = (wait.as_secs() + 1, WRITE_RATE / 1_024);
                write!(
                    f,
                    "this node was asked for more writes than the {share} KiB a second that one node may spread; try again in \
                     {seconds} s, put several changes into one deploy, or stop what writes in a loop"
                )
            }
            Self::Leaving => f.write_str("this node is leaving the cluster; write to another node"),
        }
    }
}

impl core::error::Error for WriteError {}

impl Gossip {
    /// Writes a batch of desired state for somebody: one stamp, one commit, one acknowledgement (`Durable`, then `Stored` by peers).
    ///
    /// # Errors
    /// [`WriteError`]; nothing has changed then.
    pub fn write(
        &mut self,
        now: crate::time::Instant,
        wall: Wall,
        asker: &Asker,
        writes: Vec<(RecordId, Option<Vec<u8>>)>,
        out: &mut GossipOutputs,
    ) -> Result<(Hlc, PersistSeq), WriteError> {
        self.now = now.max(self.now);
        self.admissible(&writes)?;
        self.in_pace(&writes, out)?;
        let writes = rehearsal::rewritten(self.config.wire, &self.state, writes);
        let (hlc, records) = self.state.stage_desired(wall, asker, &writes);
        Ok((hlc, self.persist_own(records, Some(hlc), out)))
    }

    fn in_pace(&mut self, writes: &[(RecordId, Option<Vec<u8>>)], out: &mut GossipOutputs) -> Result<(), WriteError> {
        let bytes = writes.iter().map(|(id, payload)| id.key.len() + payload.as_ref().map_or(0, Vec::len)).sum();
        self.paces.write(self.now, writes.len(), bytes).map_err(|(wait, is_news)| {
            let error = WriteError::TooFast { wait };
            if is_news {
                Self::notice(NoticeLevel::Warn, alloc::format!("a write was refused: {error}"), out);
            }
            error
        })
    }

    fn admissible(&self, writes: &[(RecordId, Option<Vec<u8>>)]) -> Result<(), WriteError> {
        if self.failed {
            return Err(WriteError::DiskFailed);
        }
        if self.leaving {
            return Err(WriteError::Leaving);
        }
        if writes.len() > MAX_BATCH {
            return Err(WriteError::TooMany { given: writes.len() });
        }
        for (id, payload) in writes {
            let bytes = id.key.len() + payload.as_ref().map_or(0, Vec::len);
            if id.key.len() > MAX_KEY || bytes > MAX_RECORD - ENVELOPE_ROOM {
                return Err(WriteError::TooLarge { id: id.clone(), bytes });
            }
        }
        let median = self.membership.median_offset().unwrap_or(0);
        let by = Duration::from_millis(median.unsigned_abs());
        if by > MAX_CLOCK_AHEAD {
            return Err(WriteError::ClockOff { by, ahead: median < 0 });
        }
        Ok(())
    }

    /// Publishes our own actual state (header, allocations, refusals) as one commit. `None` says that it is over.
    pub fn publish(
        &mut self,
        now: crate::time::Instant,
        wall: Wall,
        records: Vec<(RecordId, Option<Vec<u8>>)>,
        out: &mut GossipOutputs,
    ) -> PersistSeq {
        self.now = now.max(self.now);
        let records = rehearsal::rewritten(self.config.wire, &self.state, records);
        let stage = |(id, payload): (RecordId, Option<Vec<u8>>)| self.state.stage_actual(wall, id, payload.as_deref());
        let records = records.into_iter().map(stage).collect();
        self.persist_own(records, None, out)
    }

    /// States a fact: an admission, a removal.
    pub fn state_fact(
        &mut self,
        now: crate::time::Instant,
        wall: Wall,
        id: RecordId,
        payload: Vec<u8>,
        out: &mut GossipOutputs,
    ) -> (Hlc, PersistSeq) {
        self.now = now.max(self.now);
        let written = rehearsal::rewritten(self.config.wire, &self.state, Vec::from([(id.clone(), Some(payload))]));
        let payload = written.into_iter().find_map(|(_, payload)| payload).unwrap_or_default();
        let record = self.state.stage_fact(wall, id, &payload);
        let hlc = record.hlc();
        (hlc, self.persist_own(Vec::from([record]), Some(hlc), out))
    }

    /// Says goodbye: peers take us for gone at once, instead of after a suspicion. Send what is in `out`, then stop.
    pub fn leave(&mut self, now: crate::time::Instant, wall: Wall, out: &mut GossipOutputs) {
        self.now = now.max(self.now);
        self.leaving = true;
        let goodbye = frame(&Head::Goodbye);
        for id in self.links.ids() {
            self.links.queue(id, FrameClass::Control, goodbye.clone());
        }
        self.membership.leave();
        self.post(wall, out);
        self.links.pump(out);
    }

    pub(super) fn persist_own(
        &mut self,
        records: Vec<Record>,
        hlc: Option<Hlc>,
        out: &mut GossipOutputs,
    ) -> PersistSeq {
        // What earlier merges left goes first, and with it its waiting acknowledgements.
        self.flush_persist(out);
        out.cost += 5 * records.len() as u64;
        let put = |record: &Record| PersistOp::Put { slot: record.slot(), bytes: record.bytes().clone() };
        let journaled = |r: &&Record| r.id().kind != Kind::ALLOCATION || !planted(Bug::ClaimsUnjournaled);
        let ops = records.iter().filter(journaled).map(put).collect();
        let seq = self.persist(ops, out);
        for record in records.iter().filter(|_| planted(Bug::ToldBeforeDisk)) {
            self.take(Wall(0), record.clone(), Origin::Own(hlc), out);
        }
        self.waiting.push_back((seq, Waiting::Own(records, hlc)));
        seq
    }

    /// One persist request for all that merges left.
    pub(super) fn flush_persist(&mut self, out: &mut GossipOutputs) {
        self.ops_due = None;
        if !self.ops.is_empty() && !self.failed {
            let ops = core::mem::take(&mut self.ops);
            self.persist(ops, out);
        }
    }

    /// A peer shall be told once everything merged so far is on disk.
    pub(super) fn acknowledge(&mut self, link: LinkId, hlc: Hlc, out: &mut GossipOutputs) {
        if planted(Bug::StoredBeforeDisk) {
            return self.tell_stored(link, hlc);
        }
        self.flush_persist(out);
        let pending = self.waiting.back().map(|(seq, _)| *seq);
        if pending.is_none() && self.confirmed >= self.persist_seq {
            self.tell_stored(link, hlc);
        } else {
            self.waiting.push_back((self.persist_seq, Waiting::Stored(link, hlc)));
        }
    }

    fn tell_stored(&mut self, link: LinkId, hlc: Hlc) {
        self.links.queue(link, FrameClass::Control, frame(&Head::Stored(hlc)));
    }

    pub(super) fn persisted(&mut self, wall: Wall, seq: PersistSeq, out: &mut GossipOutputs) {
        self.confirmed = self.confirmed.max(seq);
        while self.waiting.front().is_some_and(|(waits_for, _)| *waits_for <= seq) {
            let Some((own_seq, waiting)) = self.waiting.pop_front() else { break };
            match waiting {
                Waiting::Own(records, hlc) => {
                    for record in &records {
                        self.take(wall, record.clone(), Origin::Own(hlc), out);
                    }
                    out.event(GossipEvent::Durable { seq: own_seq, hlc });
                    if let Some(hlc) = hlc {
                        self.pushed.insert(hlc, self.now);
                        self.recent.push_back((self.now, hlc, records));
                    }
                }
                Waiting::Stored(link, hlc) => self.tell_stored(link, hlc),
                Waiting::Dropped(newest) => out.event(GossipEvent::DiskIsOld { newest }),
            }
        }
        self.forget_recent();
    }

    /// Forgets own batches that are neither of late nor waited for.
    fn forget_recent(&mut self) {
        while let Some((at, hlc, _)) = self.recent.front() {
            let is_old = self.recent.len() > MAX_RECENT || *at + RECENT < self.now;
            let is_awaited = self.awaited.is_some_and(|oldest| *hlc >= oldest) && self.recent.len() <= MAX_AWAITED;
            if !is_old || is_awaited {
                return;
            }
            self.recent.pop_front();
        }
    }

    pub(super) fn persist_failed(&mut self, why: &str, out: &mut GossipOutputs) {
        self.failed = true;
        self.waiting.clear();
        Self::notice(NoticeLevel::Error, alloc::format!("the disk failed: {why}"), out);
        out.event(GossipEvent::Fatal(
            "the disk failed, so that nothing can be accepted or claimed any more: ".to_string() + why,
        ));
    }
}
