//! Counters of what passes the port, by kind of traffic. Counting must never block or order anything.

use std::sync::atomic::{AtomicU64, Ordering};

/// What passed the port since the start, of one kind of traffic.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Bytes of UDP payload sent.
    pub sent_bytes: u64,
    /// Datagrams sent.
    pub sent_packets: u64,
    /// Bytes of UDP payload received.
    pub received_bytes: u64,
    /// Datagrams received.
    pub received_packets: u64,
}

impl Traffic {
    /// Both together.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            sent_bytes: self.sent_bytes + other.sent_bytes,
            sent_packets: self.sent_packets + other.sent_packets,
            received_bytes: self.received_bytes + other.received_bytes,
            received_packets: self.received_packets + other.received_packets,
        }
    }
}

/// Counts the traffic of one kind.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    sent_bytes: AtomicU64,
    sent_packets: AtomicU64,
    received_bytes: AtomicU64,
    received_packets: AtomicU64,
}

impl Meter {
    /// One send of so many bytes, which the kernel cuts into datagrams of `segment` bytes.
    pub(crate) fn sent(&self, bytes: usize, segment: Option<usize>) {
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.sent_packets.fetch_add(datagrams(bytes, segment.unwrap_or(bytes)), Ordering::Relaxed);
    }

    /// So many bytes, which the kernel joined from datagrams of `stride` bytes.
    pub(crate) fn received(&self, bytes: usize, stride: usize) {
        self.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.received_packets.fetch_add(datagrams(bytes, stride), Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Traffic {
        Traffic {
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
            sent_packets: self.sent_packets.load(Ordering::Relaxed),
            received_bytes: self.received_bytes.load(Ordering::Relaxed),
            received_packets: self.received_packets.load(Ordering::Relaxed),
        }
    }
}

fn datagrams(bytes: usize, each: usize) -> u64 {
    if each == 0 { 0 } else { bytes.div_ceil(each) as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_datagrams_are_counted_apart() {
        let meter = Meter::default();
        meter.sent(2_500, Some(1_000));
        meter.sent(7, None);
        meter.received(0, 0);
        meter.received(1_200, 1_200);
        let read = meter.read();
        assert_eq!((read.sent_bytes, read.sent_packets), (2_507, 4));
        assert_eq!((read.received_bytes, read.received_packets), (1_200, 1));
        assert_eq!(read.plus(&read).sent_packets, 8);
    }
}
