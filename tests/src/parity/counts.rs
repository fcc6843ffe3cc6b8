//! The agents' own counters, read together: those of boots that were ended here are added to those that run.

use serde_json::Value;

use super::flock::Flock;
use crate::ask;
use crate::cluster::PATIENCE;
use crate::wait::until;

/// IP and UDP headers of a datagram, which the simulator counts too.
const HEADERS: u64 = 28;

/// What all agents have put out up to a moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Packets of membership.
    pub packets: u64,
    /// Frames over links.
    pub frames: u64,
    /// Syncs begun.
    pub syncs: u64,
    /// Commands to drivers.
    pub driver_commands: u64,
    /// Bytes that each node has sent, headers included.
    pub bytes: Vec<u64>,
}

impl Counts {
    /// Now.
    ///
    /// # Panics
    /// If an agent that runs does not answer.
    #[must_use]
    pub fn of(flock: &Flock) -> Self {
        let status = |n| until("an agent's status", PATIENCE, || ask::agent(&flock.cluster, n, "status"));
        let all: Vec<Value> = flock.up().into_iter().map(status).chain(flock.past.iter().cloned()).collect();
        let number = |status: &Value, at: &str| status.pointer(at).and_then(Value::as_u64).unwrap_or(0);
        let total = |at: &str| all.iter().map(|status| number(status, at)).sum();
        let bytes_of = |name: &str| {
            let own = all.iter().filter(|status| status["name"] == name);
            let sent = |s: &Value| number(s, "/network/bytes_sent") + HEADERS * number(s, "/network/packets_sent");
            own.map(sent).sum()
        };
        Self {
            packets: total("/counts/packets"),
            frames: total("/counts/frames"),
            syncs: total("/counts/syncs"),
            driver_commands: total("/counts/driver_commands"),
            bytes: flock.cluster.nodes.iter().map(|node| bytes_of(&node.name)).collect(),
        }
    }

    /// What has come since.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let grown = |after: u64, before: u64| after.saturating_sub(before);
        Self {
            packets: grown(self.packets, before.packets),
            frames: grown(self.frames, before.frames),
            syncs: grown(self.syncs, before.syncs),
            driver_commands: grown(self.driver_commands, before.driver_commands),
            bytes: self.bytes.iter().zip(&before.bytes).map(|(after, before)| grown(*after, *before)).collect(),
        }
    }
}
