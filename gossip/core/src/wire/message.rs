//! What goes over a link, all on this page: `{version, head length, head, records}`.
//!
//! The head is a [`Head`] through the codec; records follow as `{length, bytes}`, exactly as their authors wrote them, so
//! that forwarding never encodes them again. A frame bears the version that brought its kind; nobody is sent one of a version
//! that it does not speak, and one that comes nevertheless is dropped and counted.

use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::Record;
use super::codec::{self, DecodeError};
use super::version::WireVersion;
use crate::face::{Frame, FrameClass};
use crate::hlc::Hlc;
use crate::id::Generation;
use crate::limits::MAX_FRAME;
use crate::member::MemberLine;
use crate::state::walk::Walk;

const PREFIX: usize = 5;

/// The first frame each way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// The sender's boot.
    pub(crate) generation: Generation,
    /// The newest boot of the receiver that the sender knows.
    pub(crate) known: Option<Generation>,
    /// The sender's hash for comparison.
    pub(crate) root: u64,
    /// The sender has synced since its boot.
    pub(crate) synced: bool,
    /// The sender holds nothing and wants a full copy.
    pub(crate) empty: bool,
    /// Alive members that the sender knows.
    pub(crate) members: u32,
    /// The sender's own admission, for a receiver that has not heard of it.
    pub(crate) admission: Option<Arc<[u8]>>,
}

/// What a frame says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Head {
    /// Greeting.
    Hello(Hello),
    /// Fresh records; with a stamp, the sender wants to be told when they are on disk.
    Push(Option<Hlc>),
    /// The batch is on disk here.
    Stored(Hlc),
    /// One step of the walk that finds the difference.
    Walk(Vec<Walk>),
    /// The walk has found all that it looked for.
    WalkEnd,
    /// The sender wants everything.
    CopyRequest,
    /// A part of everything; true in the last.
    CopyPart(bool),
    /// The sender's book of members.
    Members(Vec<MemberLine>),
    /// The sender leaves on purpose.
    Goodbye,
    /// The sender holds fresh records with these hashes.
    Digest(Vec<u64>),
    /// What comes over this link came over another before: hashes will do.
    Prune,
    /// The sender lacks the records with these hashes, and wants fresh ones over this link from now on.
    Graft(Vec<u64>),
    /// The receiver was left behind, as this record proves.
    LeftBehind(Arc<[u8]>),
    /// A greeting that only the next version knows.
    Rehearsal(u64),
}

impl Head {
    /// The version that brought it.
    const fn version(&self) -> WireVersion {
        match self {
            Self::Rehearsal(_) => WireVersion::NEXT,
            Self::Hello(_) | Self::Push(_) | Self::Stored(_) | Self::Walk(_) | Self::WalkEnd => WireVersion::FIRST,
            Self::CopyRequest | Self::CopyPart(_) | Self::Members(_) | Self::Goodbye => WireVersion::FIRST,
            Self::Digest(_) | Self::Prune | Self::Graft(_) | Self::LeftBehind(_) => WireVersion::FIRST,
        }
    }
}

/// What a received frame is for, to be counted; records that a sync brought come as pushes. None of what cannot be read.
#[must_use]
pub fn frame_class(bytes: &[u8]) -> Option<FrameClass> {
    Some(match open(bytes, WireVersion::NEXT).ok()?.0 {
        Head::Hello(_) | Head::Stored(_) | Head::Members(_) | Head::Goodbye => FrameClass::Control,
        Head::Rehearsal(_) | Head::Prune | Head::Graft(_) | Head::LeftBehind(_) => FrameClass::Control,
        Head::Push(_) | Head::Digest(_) => FrameClass::Push,
        Head::Walk(_) | Head::WalkEnd | Head::CopyRequest | Head::CopyPart(_) => FrameClass::Sync,
    })
}

/// A frame without records.
pub(crate) fn frame(head: &Head) -> Frame {
    with_records(head, &[])
}

/// A frame with records; the caller keeps to the limit (see [`chunks`]).
pub(crate) fn with_records(head: &Head, records: &[Record]) -> Frame {
    let version = u8::try_from(head.version().0).unwrap_or(u8::MAX);
    let head = codec::encode(head);
    let size: usize = records.iter().map(|record| record.bytes().len() + 4).sum();
    let mut bytes = Vec::with_capacity(PREFIX + head.len() + size);
    bytes.push(version);
    bytes.extend_from_slice(&u32::try_from(head.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(&head);
    for record in records {
        bytes.extend_from_slice(&u32::try_from(record.bytes().len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(record.bytes());
    }
    Frame::new(Arc::from(bytes), Arc::from(records))
}

/// Cuts records into runs, each of which fits a frame of `room` bytes (or is one record).
pub(crate) fn chunks(mut records: &[Record], room: usize) -> Vec<&[Record]> {
    let room = room.min(MAX_FRAME - 1_024);
    let mut runs = Vec::new();
    while !records.is_empty() {
        let mut size = 0;
        let fits = |record: &&Record| {
            size += record.bytes().len() + 4;
            size <= room
        };
        let count = records.iter().take_while(fits).count().max(1);
        let (run, rest) = records.split_at(count);
        runs.push(run);
        records = rest;
    }
    runs
}

/// A received frame's head, and where its records begin, for who speaks so much.
pub(crate) fn open(bytes: &[u8], most: WireVersion) -> Result<(Head, usize), DecodeError> {
    let (prefix, rest) = bytes.split_first_chunk::<PREFIX>().ok_or(DecodeError)?;
    let [version, length @ ..] = *prefix;
    if bytes.len() > MAX_FRAME {
        return Err(DecodeError);
    }
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| DecodeError)?;
    let head: Head = codec::decode(rest.get(..length).ok_or(DecodeError)?)?;
    if head.version() > most || u16::from(version) != head.version().0 {
        return Err(DecodeError);
    }
    Ok((head, PREFIX + length))
}

/// The record at a place in a frame, as bytes, and the next place; none at the end or where the frame is broken.
pub(crate) fn record_at(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let (length, rest) = bytes.get(at..)?.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    Some((rest.get(..length)?, at + 4 + length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;
    use crate::wire::{RecordId, Stamp};

    fn record(n: u8, size: usize) -> Record {
        let stamp = Stamp::Sequence { generation: Generation(3), sequence: 4 };
        Record::write(RecordId::header(NodeId([n; 16])), stamp, Hlc(5), Some(&alloc::vec![n; size]))
    }

    #[test]
    fn frames_read_back_and_no_cut_panics() {
        let records = [record(1, 10), record(2, 300)];
        let bytes = with_records(&Head::Push(Some(Hlc(7))), &records).bytes().clone();
        let (head, mut at) = open(&bytes, WireVersion::FIRST).expect("own frame");
        assert_eq!(head, Head::Push(Some(Hlc(7))));
        for wanted in &records {
            let (found, next) = record_at(&bytes, at).expect("own record");
            assert_eq!(found, &wanted.bytes()[..]);
            at = next;
        }
        assert_eq!(record_at(&bytes, at), None);
        for cut in 0..bytes.len() {
            if let Ok((_, mut at)) = open(&bytes[..cut], WireVersion::FIRST) {
                while let Some((_, next)) = record_at(&bytes[..cut], at) {
                    at = next;
                }
            }
        }
    }

    #[test]
    fn the_bytes_of_a_frame_are_fixed() {
        assert_eq!(frame(&Head::Stored(Hlc(7))).bytes()[..], [1, 0, 0, 0, 2, 2, 7]);
        assert_eq!(frame(&Head::Goodbye).bytes()[..], [1, 0, 0, 0, 1, 8]);
        let digest = [1, 0, 0, 0, 12, 9, 2, 7, 253, 8, 7, 6, 5, 4, 3, 2, 1];
        assert_eq!(frame(&Head::Digest(alloc::vec![7, 0x0102_0304_0506_0708])).bytes()[..], digest);
        assert_eq!(frame(&Head::Prune).bytes()[..], [1, 0, 0, 0, 1, 10]);
        assert_eq!(frame(&Head::Graft(alloc::vec![9])).bytes()[..], [1, 0, 0, 0, 3, 11, 1, 9]);
        assert_eq!(frame(&Head::LeftBehind(Arc::from([5, 6]))).bytes()[..], [1, 0, 0, 0, 4, 12, 2, 5, 6]);
    }

    #[test]
    fn a_frame_of_a_version_that_is_not_spoken_is_refused() {
        let next = frame(&Head::Rehearsal(7));
        assert_eq!(next.bytes()[..], [2, 0, 0, 0, 2, 13, 7]);
        assert!(open(next.bytes(), WireVersion::FIRST).is_err());
        assert_eq!(open(next.bytes(), WireVersion::NEXT), Ok((Head::Rehearsal(7), 7)));
        assert!(open(&[1, 0, 0, 0, 2, 13, 7], WireVersion::NEXT).is_err(), "a kind in a version that lacked it");
        assert!(open(&[2, 0, 0, 0, 1, 8], WireVersion::NEXT).is_err(), "one kind, one encoding");
    }

    #[test]
    fn chunks_fit_and_lose_nothing() {
        let records: Vec<Record> = (0..50).map(|n| record(n, 1_000)).collect();
        let runs = chunks(&records, 4_096);
        assert!(runs.iter().all(|run| run.len() <= 4));
        assert_eq!(runs.concat(), records);
    }
}
