//! How much a node has put out since its start: for people, and to hold a simulated flock against a real one. Counting must
//! never decide anything.

use dunlin_gossip::face::GossipOutput;
use serde::Serialize;

use crate::face::Output;

/// What a node has put out since its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Counts {
    /// Packets of membership.
    pub packets: u64,
    /// Frames over links.
    pub frames: u64,
    /// Syncs that it began.
    pub syncs: u64,
    /// Commands to drivers, probes of health included.
    pub driver_commands: u64,
}

impl Counts {
    /// Adds what one call put out. Syncs are counted where they begin.
    pub(crate) fn tally(&mut self, outputs: &[Output]) {
        for output in outputs {
            match output {
                Output::Gossip(GossipOutput::Packet { .. }) => self.packets += 1,
                Output::Gossip(GossipOutput::Frame { .. }) => self.frames += 1,
                Output::Driver(_) => self.driver_commands += 1,
                Output::Gossip(_) | Output::Reply(..) | Output::Names(_) | Output::Event(_) => {}
            }
        }
    }

    /// Both together.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            packets: self.packets + other.packets,
            frames: self.frames + other.frames,
            syncs: self.syncs + other.syncs,
            driver_commands: self.driver_commands + other.driver_commands,
        }
    }
}
