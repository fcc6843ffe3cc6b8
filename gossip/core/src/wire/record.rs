//! The record: `{envelope version, class, kind, key, stamp, HLC, payload}` as bytes.
//!
//! The class alone says how to merge. The bytes are kept, hashed and forwarded exactly as the author wrote them and never
//! encoded again, so that a node can carry what it does not understand.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use once_cell::race::OnceBox;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::codec;
use super::key::Key;
use super::stamp::{Context, Stamp};
use crate::canary::{Bug, planted};
use crate::hash::hash64;
use crate::hlc::Hlc;
use crate::id::{Actor, NodeId};
use crate::limits::{MAX_KEY, MAX_RECORD};
use crate::model::{AllocId, Allocation, NodeHeader, ReplicaKey, ServiceKey, StackName, TokenId};

/// The envelope that this build writes.
pub(super) const ENVELOPE: u8 = 1;
/// What its version takes at the beginning of a record.
const VERSION_BYTES: usize = 1;

/// Keys up to this length are hashed without an allocation: all that this build writes.
const SHORT_KEY: usize = 192;

/// How records of one key merge.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Class {
    /// Desired state: a multi-value register, siblings kept, settled by HLC.
    ManyWriters,
    /// Actual state: the node named in the key is the only writer; highest (generation, sequence) wins.
    OneWriter,
    /// Facts: of two for one key the greater (HLC, bytes) stays. One without payload takes the fact back.
    GrowOnly,
}

/// What a record is about. A number, so that unknown kinds can be carried.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Kind(pub u16);

impl Kind {
    /// A stack's manifest ([`StackManifest`](crate::model::StackManifest)), key [`RecordId::stack`].
    pub const STACK: Self = Self(1);
    /// A service ([`Service`](crate::model::Service)), key [`RecordId::service`].
    pub const SERVICE: Self = Self(2);
    /// A join token ([`Token`](crate::model::Token)).
    pub const TOKEN: Self = Self(3);
    /// Orders of a node ([`NodeOrders`](crate::model::NodeOrders)), key [`RecordId::node_orders`].
    pub const NODE_ORDERS: Self = Self(6);
    /// A node's header ([`NodeHeader`]).
    pub const HEADER: Self = Self(32);
    /// An allocation ([`Allocation`]).
    pub const ALLOCATION: Self = Self(33);
    /// A refusal ([`Refusal`](crate::model::Refusal)).
    pub const REFUSAL: Self = Self(34);
    /// A node's digests of its unsettled hours.
    pub const HOURS: Self = Self(35);
    /// How long a node has been missing others ([`Away`](crate::state::Away)).
    pub const AWAY: Self = Self(36);
    /// Which version of the wire a node speaks, if it is not the first ([`Declared`](super::Declared)).
    pub const DECLARED: Self = Self(37);
    /// An admission ([`RosterEntry`](crate::model::RosterEntry)); its tombstone says that the node was forgotten.
    pub const ROSTER: Self = Self(64);
    /// A removal ([`Removal`](crate::model::Removal)).
    pub const REMOVAL: Self = Self(65);
    /// The newest settled hour.
    pub const SETTLED: Self = Self(66);
}

/// Names one register: class, kind and key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordId {
    /// How it merges.
    pub class: Class,
    /// What it is about.
    pub kind: Kind,
    /// Which one.
    pub key: Key,
}

impl RecordId {
    /// A register of any kind.
    #[must_use]
    pub fn new(class: Class, kind: Kind, key: &[u8]) -> Self {
        Self { class, kind, key: Key::from(key) }
    }

    /// A stack's manifest.
    #[must_use]
    pub fn stack(name: &StackName) -> Self {
        Self::new(Class::ManyWriters, Kind::STACK, name.as_str().as_bytes())
    }

    /// A service's register; the key is `stack/service`, which names cannot contain.
    #[must_use]
    pub fn service(key: &ServiceKey) -> Self {
        Self::new(Class::ManyWriters, Kind::SERVICE, alloc::format!("{key}").as_bytes())
    }

    /// A token's register.
    #[must_use]
    pub fn token(id: TokenId) -> Self {
        Self::new(Class::ManyWriters, Kind::TOKEN, &id.0.to_be_bytes())
    }

    /// What operators order of a node.
    #[must_use]
    pub fn node_orders(node: NodeId) -> Self {
        Self::new(Class::ManyWriters, Kind::NODE_ORDERS, &node.0)
    }

    /// The node that orders are about.
    #[must_use]
    pub fn ordered_node(&self) -> Option<NodeId> {
        let is_orders = (self.class, self.kind) == (Class::ManyWriters, Kind::NODE_ORDERS) && self.key.len() == 16;
        self.key.first_chunk::<16>().filter(|_| is_orders).map(|id| NodeId(*id))
    }

    /// A node's header.
    #[must_use]
    pub fn header(node: NodeId) -> Self {
        Self::new(Class::OneWriter, Kind::HEADER, &node.0)
    }

    /// An allocation: node id, then allocation id.
    #[must_use]
    pub fn allocation(node: NodeId, alloc: AllocId) -> Self {
        let mut key = Vec::with_capacity(24);
        key.extend_from_slice(&node.0);
        key.extend_from_slice(&alloc.0.to_be_bytes());
        Self::new(Class::OneWriter, Kind::ALLOCATION, &key)
    }

    /// A refusal: node id, then the replica's text.
    #[must_use]
    pub fn refusal(node: NodeId, replica: &ReplicaKey) -> Self {
        let mut key = Vec::new();
        key.extend_from_slice(&node.0);
        key.extend_from_slice(alloc::format!("{replica}").as_bytes());
        Self::new(Class::OneWriter, Kind::REFUSAL, &key)
    }

    /// An admission.
    #[must_use]
    pub fn roster(node: NodeId) -> Self {
        Self::new(Class::GrowOnly, Kind::ROSTER, &node.0)
    }

    /// A removal.
    #[must_use]
    pub fn removal(node: NodeId) -> Self {
        Self::new(Class::GrowOnly, Kind::REMOVAL, &node.0)
    }

    /// The node that an admission or a removal is about.
    #[must_use]
    pub fn roster_node(&self) -> Option<NodeId> {
        if self.class != Class::GrowOnly || !matches!(self.kind, Kind::ROSTER | Kind::REMOVAL) {
            return None;
        }
        self.key.first_chunk::<16>().map(|id| NodeId(*id))
    }

    /// The writer that a one-writer key names (its first 16 bytes).
    #[must_use]
    pub fn writer(&self) -> Option<NodeId> {
        if self.class != Class::OneWriter {
            return None;
        }
        self.key.first_chunk::<16>().map(|id| NodeId(*id))
    }

    /// The allocation that an allocation's key names.
    #[must_use]
    pub fn alloc_id(&self) -> Option<AllocId> {
        if self.kind != Kind::ALLOCATION || self.key.len() != 24 {
            return None;
        }
        self.key.last_chunk::<8>().map(|id| AllocId(u64::from_be_bytes(*id)))
    }

    /// Where the register lies in the trie.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.place().0
    }

    /// That, and in how many bytes the id is written.
    fn place(&self) -> (u64, usize) {
        let of = |written: &[u8]| (hash64(written), written.len());
        if self.key.len() <= SHORT_KEY {
            of(codec::encode_small(self, &mut [0; SHORT_KEY + 16]))
        } else {
            of(&codec::encode(self))
        }
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{}:", self.class, self.kind.0)?;
        match core::str::from_utf8(&self.key) {
            Ok(text) if !text.chars().any(char::is_control) => f.write_str(text),
            _ => f.write_str(&crate::id::hex(&self.key)),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    version: u8,
    id: RecordId,
    stamp: Stamp,
    hlc: Hlc,
    payload: Option<Arc<[u8]>>,
}

/// Why bytes are no record. The state is untouched; the sender is at fault, or is newer than we are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordError {
    /// Larger than a record may be.
    TooLarge,
    /// Not an envelope that this build reads.
    Unreadable,
    /// Class and stamp contradict each other, or the key's form does.
    Contradiction,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the record is larger than a record may be",
            Self::Unreadable => "the record's envelope cannot be read; its author is newer or faulty",
            Self::Contradiction => "the record's class and its stamp contradict each other",
        })
    }
}

impl core::error::Error for RecordError {}

/// One record: its bytes, and what they say. Cheap to clone.
#[derive(Clone)]
pub struct Record(Arc<Parsed>);

struct Parsed {
    bytes: Arc<[u8]>,
    id: RecordId,
    stamp: Stamp,
    hlc: Hlc,
    /// Where the payload begins: it is the last of the bytes. None in a tombstone.
    payload_at: Option<u32>,
    hash: u64,
    position: u64,
    meaning: OnceBox<Meaning>,
}

/// What the payloads that every node reads, and reads again, mean; decoded when first asked for.
enum Meaning {
    Header(Arc<NodeHeader>),
    Allocation(Arc<Allocation>),
    /// Of another kind, without payload, or not readable by this build.
    None,
}

impl Meaning {
    fn of(kind: Kind, payload: Option<&[u8]>) -> Self {
        let read = match (kind, payload) {
            (Kind::HEADER, Some(payload)) => known(payload).map(Self::Header),
            (Kind::ALLOCATION, Some(payload)) => known(payload).map(Self::Allocation),
            _ => None,
        };
        read.unwrap_or(Self::None)
    }
}

/// What this build knows of a value.
fn known<T: DeserializeOwned>(payload: &[u8]) -> Option<Arc<T>> {
    let (value, appended) = codec::decode_known(payload).ok()?;
    (appended.is_empty() || !planted(Bug::FieldsUnread)).then(|| Arc::new(value))
}

impl Parsed {
    /// Both hashes are computed once here: every merge, walk and lookup asks for them.
    fn new(bytes: Arc<[u8]>, envelope: Envelope) -> Self {
        let Envelope { id, stamp, hlc, payload, .. } = envelope;
        let (position, written) = id.place();
        let hash = hash64(&bytes);
        // The id stands behind the version, its key at its end.
        let key_at = VERSION_BYTES + written - id.key.len();
        let id = RecordId { key: id.key.within(&bytes, key_at), ..id };
        // A copy of it would cost each record as much again.
        let payload_at = payload.map(|payload| u32::try_from(bytes.len() - payload.len()).unwrap_or(u32::MAX));
        Self { bytes, id, stamp, hlc, payload_at, hash, position, meaning: OnceBox::new() }
    }

    fn payload(&self) -> Option<&[u8]> {
        self.bytes.get(usize::try_from(self.payload_at?).ok()?..)
    }
}

impl Record {
    /// Writes a record. `payload: None` is the tombstone.
    #[must_use]
    pub fn write(id: RecordId, stamp: Stamp, hlc: Hlc, payload: Option<&[u8]>) -> Self {
        let payload = payload.map(Arc::from);
        let envelope = Envelope { version: ENVELOPE, id, stamp, hlc, payload };
        let bytes = Arc::from(codec::encode(&envelope));
        Self(Arc::new(Parsed::new(bytes, envelope)))
    }

    /// Reads a record that somebody wrote.
    ///
    /// # Errors
    /// [`RecordError`]; nothing has changed then.
    pub fn read(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > MAX_RECORD {
            return Err(RecordError::TooLarge);
        }
        let envelope: Envelope = codec::decode(bytes).map_err(|_| RecordError::Unreadable)?;
        let Envelope { version, id, stamp, hlc, payload: _ } = &envelope;
        if *version != ENVELOPE {
            return Err(RecordError::Unreadable);
        }
        let fits = match (&id.class, stamp) {
            (Class::ManyWriters, Stamp::Context(context)) => {
                let Context { author, seen, .. } = &**context;
                seen.iter().any(|(actor, counter)| actor == author && *counter == hlc.0)
                    && seen.is_sorted_by(|a, b| a.0 < b.0)
            }
            (Class::OneWriter, Stamp::Sequence { .. }) => id.writer().is_some(),
            (Class::GrowOnly, Stamp::Fact { .. }) => true,
            _ => false,
        };
        if !fits || id.key.len() > MAX_KEY {
            return Err(RecordError::Contradiction);
        }
        Ok(Self(Arc::new(Parsed::new(Arc::from(bytes), envelope))))
    }

    /// Its bytes, as written.
    #[must_use]
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.0.bytes
    }

    /// The register it belongs to.
    #[must_use]
    pub fn id(&self) -> &RecordId {
        &self.0.id
    }

    /// What orders it.
    #[must_use]
    pub fn stamp(&self) -> &Stamp {
        &self.0.stamp
    }

    /// When written.
    #[must_use]
    pub fn hlc(&self) -> Hlc {
        self.0.hlc
    }

    /// Its value; none for a tombstone.
    #[must_use]
    pub fn payload(&self) -> Option<&[u8]> {
        self.0.payload()
    }

    /// What its value means, as far as this build knows its fields: a later version may have appended more. None for a
    /// tombstone, and for what cannot be read.
    #[must_use]
    pub fn read_as<T: DeserializeOwned>(&self) -> Option<T> {
        codec::decode_known(self.payload()?).ok().map(|(value, _)| value)
    }

    fn meaning(&self) -> &Meaning {
        let Parsed { meaning, id, .. } = &*self.0;
        meaning.get_or_init(|| Box::new(Meaning::of(id.kind, self.payload())))
    }

    /// The header that it carries; none if it is no header, gone, or not readable by this build. Decoded once, however
    /// often it is asked for.
    #[must_use]
    pub fn header(&self) -> Option<&Arc<NodeHeader>> {
        if let Meaning::Header(header) = self.meaning() { Some(header) } else { None }
    }

    /// The allocation that it carries, likewise.
    #[must_use]
    pub fn allocation(&self) -> Option<&Arc<Allocation>> {
        if let Meaning::Allocation(allocation) = self.meaning() { Some(allocation) } else { None }
    }

    /// True for an admission or a removal.
    #[must_use]
    pub fn is_of_roster(&self) -> bool {
        self.0.id.class == Class::GrowOnly && matches!(self.0.id.kind, Kind::ROSTER | Kind::REMOVAL)
    }

    /// Its writer's boot.
    #[must_use]
    pub fn author(&self) -> Option<Actor> {
        match &self.0.stamp {
            Stamp::Context(context) => Some(context.author),
            Stamp::Fact { author } => Some(*author),
            Stamp::Sequence { generation, .. } => {
                self.0.id.writer().map(|node| Actor { node, generation: *generation })
            }
        }
    }

    /// Who asked for it; empty if that was nobody, or is not kept of its class.
    #[must_use]
    pub fn asker(&self) -> &str {
        match &self.0.stamp {
            Stamp::Context(context) => context.asker.as_str(),
            Stamp::Sequence { .. } | Stamp::Fact { .. } => "",
        }
    }

    /// The hash of its bytes.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.0.hash
    }

    /// Where its register lies in the trie; the same as its id's hash.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.0.position
    }

    /// Its place on disk: the register, and for many writers the author's dot, since siblings lie side by side.
    #[must_use]
    pub fn slot(&self) -> Vec<u8> {
        match &self.0.stamp {
            Stamp::Context(context) => codec::encode(&(&self.0.id, context.author, self.0.hlc)),
            Stamp::Sequence { .. } | Stamp::Fact { .. } => codec::encode(&self.0.id),
        }
    }
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.0.bytes == other.0.bytes
    }
}

impl Eq for Record {}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}@{:?}", self.0.id, self.0.hlc)?;
        if self.0.payload_at.is_none() { f.write_str("(gone)") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Generation;

    /// Else each record costs its key once more.
    #[test]
    fn a_records_key_lies_in_its_bytes() {
        let long = [7; SHORT_KEY + 50];
        for key in [&b"shop/web"[..], &long] {
            let id = RecordId::new(Class::GrowOnly, Kind(700), key);
            let stamp = Stamp::Fact { author: Actor { node: NodeId([7; 16]), generation: Generation(3) } };
            let record = Record::write(id, stamp, Hlc(5), Some(b"x"));
            let bytes = record.bytes().as_ptr_range();
            assert!(bytes.contains(&record.id().key.as_ptr()));
        }
    }

    #[test]
    fn a_record_reads_back_as_written() {
        let record = Record::write(
            RecordId::header(NodeId([7; 16])),
            Stamp::Sequence { generation: Generation(3), sequence: 4 },
            Hlc(5),
            Some(b"payload"),
        );
        let again = Record::read(record.bytes());
        assert_eq!(again.as_ref(), Ok(&record));
        assert_eq!(again.map(|r| r.author()), Ok(Some(Actor { node: NodeId([7; 16]), generation: Generation(3) })));
    }

    #[test]
    fn every_cut_is_refused() {
        let record = Record::write(
            RecordId::header(NodeId([7; 16])),
            Stamp::Sequence { generation: Generation(3), sequence: 4 },
            Hlc(5),
            Some(b"payload"),
        );
        for end in 0..record.bytes().len() {
            assert!(Record::read(&record.bytes()[..end]).is_err());
        }
    }

    #[test]
    fn class_and_stamp_must_agree() {
        let record = Record::write(
            RecordId::header(NodeId([7; 16])),
            Stamp::Fact { author: Actor { node: NodeId([7; 16]), generation: Generation(3) } },
            Hlc(5),
            Some(b"payload"),
        );
        assert_eq!(Record::read(record.bytes()), Err(RecordError::Contradiction));
    }
}
