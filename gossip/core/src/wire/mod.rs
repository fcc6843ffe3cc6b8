//! Formats: records, messages and the one codec. Every byte that leaves a node or reaches its disk is described here.
//!
//! Rule for what is not understood: a record of an unknown kind is kept, hashed and forwarded, and so are fields that a later
//! version appended to a known one (`version`); a message of an unknown version is dropped and counted. Nothing here may panic on foreign bytes.

pub mod codec;
pub(crate) mod message;
mod record;
pub mod rehearsal;
mod version;

pub use message::frame_class;
pub use record::{Class, Kind, Record, RecordError, RecordId, Stamp};
pub use version::{Declared, Grasp, WireVersion};
