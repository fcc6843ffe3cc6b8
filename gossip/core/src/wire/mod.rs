//! Formats: records, messages and the one codec. Every byte that leaves a node or reaches its disk is described here.
//!
//! Rule for what is not understood: a record of an unknown kind is kept, hashed and forwarded, and so are fields that a later
//! version appended to a known one (`version`); a message of an unknown version is dropped and counted. Nothing here may panic on foreign bytes.

pub mod codec;
mod job;
mod key;
mod majority;
pub(crate) mod message;
mod record;
pub mod rehearsal;
mod rollout;
mod stamp;
mod version;
mod wave;

pub use key::Key;
pub use message::frame_class;
pub use record::{Class, Kind, Record, RecordError, RecordId};
pub use rollout::specification;
pub use stamp::{Context, Stamp};
pub use version::{Declared, Grasp, WireVersion};
