//! Deploys that some hosts act on before the others.

use dunlin_gossip::model::{Share, Waves};
use dunlin_gossip::time::Duration;

use super::parse::small;
use super::write::time;
use super::yaml::{Value, value};
use crate::queue::Nanos;

/// So many hosts can be named.
pub(super) const MOST_FIRST: u32 = 256;

/// How a scenario's deploys come into force.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaveLine {
    /// So many hosts act on them first.
    pub first: u32,
    /// All must have been well there for so long.
    pub wait: Nanos,
}

impl WaveLine {
    pub(super) fn read(value: Value<'_>) -> Result<Self, String> {
        let mut map = value.map()?;
        let first_value = map.need("first")?;
        let first = small(&first_value)?;
        if first == 0 || first > MOST_FIRST {
            return Err(first_value.refuse("must be from 1 to 256"));
        }
        let wait = map.need("wait")?.time()?;
        map.end("first, wait")?;
        Ok(Self { first, wait })
    }

    /// As a mapping that reads as the same.
    pub(crate) fn text(self) -> String {
        format!("{{first: {}, wait: {}}}", self.first, time(self.wait))
    }

    /// As an operator asks for it.
    pub(crate) const fn asked(self) -> Waves {
        Waves { first: Share::Nodes(self.first), wait: Duration::from_nanos(self.wait) }
    }
}

/// Waves, as a scenario file has them.
pub(crate) fn read_waves(text: &str) -> Result<WaveLine, String> {
    WaveLine::read(value("waves", text)?)
}
