//! Small urgent records that ride on SWIM packets, to members to which no link stands, within a fixed byte rate.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::limits::MAX_RIDER;
use crate::time::{Duration, Instant};
use crate::wire::{Class, Kind, Record};

/// Records waiting at most; beyond it the least urgent and oldest goes (links and syncs carry it as well).
const MAX_WAITING: usize = 64;

#[derive(Debug)]
struct Rider {
    bytes: Arc<[u8]>,
    left: u32,
    since: Instant,
}

/// What has waited so long was overtaken by links and syncs.
const PATIENCE: Duration = Duration::from_secs(5);

/// The queue, by urgency.
#[derive(Debug)]
pub(crate) struct Riders {
    waiting: [VecDeque<Rider>; 2],
    rate: u64,
    /// What may be sent, in bytes; at most two seconds' worth.
    budget: u64,
    filled: Instant,
}

/// What every node should know soon: where work runs and who belongs. Specifications are worth waiting a sync for.
fn urgency(record: &Record) -> Option<usize> {
    let id = record.id();
    match (id.class, id.kind) {
        _ if record.bytes().len() > MAX_RIDER => None,
        (Class::OneWriter, Kind::ALLOCATION | Kind::REFUSAL) => Some(0),
        (Class::OneWriter | Class::GrowOnly, _) => Some(1),
        (Class::ManyWriters, _) => None,
    }
}

impl Riders {
    pub(crate) fn new(rate: u64, now: Instant) -> Self {
        Self { waiting: [VecDeque::new(), VecDeque::new()], rate, budget: rate, filled: now }
    }

    pub(crate) fn add(&mut self, now: Instant, record: &Record, times: u32) {
        let Some(queue) = urgency(record).and_then(|urgency| self.waiting.get_mut(urgency)) else { return };
        queue.push_front(Rider { bytes: record.bytes().clone(), left: times, since: now });
        queue.truncate(MAX_WAITING);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.iter().all(VecDeque::is_empty)
    }

    /// Writes riders into a packet that has `room` bytes left, as `{length, bytes}` each; the freshest first.
    pub(crate) fn board(&mut self, now: Instant, room: usize, packet: &mut Vec<u8>) {
        let elapsed = u64::try_from(now.since(self.filled).as_millis()).unwrap_or(u64::MAX);
        self.filled = now;
        self.budget = self.budget.saturating_add(elapsed.saturating_mul(self.rate) / 1_000).min(2 * self.rate);
        let end = packet.len() + room;
        for queue in &mut self.waiting {
            for _ in 0..queue.len() {
                let Some(mut rider) = queue.pop_front() else { break };
                if rider.since + PATIENCE <= now {
                    continue;
                }
                let size = rider.bytes.len() + 2;
                if packet.len() + size > end || self.budget < size as u64 {
                    queue.push_front(rider);
                    return;
                }
                self.budget -= size as u64;
                packet.extend_from_slice(&u16::try_from(rider.bytes.len()).unwrap_or(0).to_be_bytes());
                packet.extend_from_slice(&rider.bytes);
                rider.left -= 1;
                if rider.left > 0 {
                    queue.push_back(rider);
                }
            }
        }
    }
}
