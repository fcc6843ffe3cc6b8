//! What a record says about its place among the others of its register. How these are compared is `state`'s.

use alloc::boxed::Box;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::id::{Actor, Generation};
use crate::model::Asker;

/// What orders the records of one register, by class.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Stamp {
    /// Many writers. Boxed: a flock has few of these records, and would pay for their size in each of the others.
    Context(Box<Context>),
    /// One writer: the boot and the position in it.
    Sequence {
        /// The writer's boot.
        generation: Generation,
        /// Grows by one with each record of that boot.
        sequence: u64,
    },
    /// Grow-only: who stated the fact.
    Fact {
        /// By whom.
        author: Actor,
    },
}

/// The author's dot and everything that it had seen of this register (the dot included).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Context {
    /// Who wrote.
    pub author: Actor,
    /// Who asked it to; orders nothing.
    pub asker: Asker,
    /// Sorted; the counter of each actor is an HLC.
    pub seen: Vec<(Actor, u64)>,
    /// Everything stamped in hours below this one was seen as well: they had settled.
    pub below: u64,
}

impl From<Context> for Stamp {
    fn from(context: Context) -> Self {
        Self::Context(Box::new(context))
    }
}
