//! The network: who reaches whom, how late, and what gets lost on the way.
//!
//! Packets are lost, doubled and overtaken; links are ordered and reliable, so that loss makes them late instead. Divergences
//! from reality: bandwidth is unlimited, every pair of hosts draws from the same table of latencies, and a one-way cut ends
//! a link at both ends after the idle time-out, where QUIC's receiving end would linger for another one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dunlin_gossip::face::Frame;
use dunlin_gossip::rng::{Ratio, Rng};

use crate::queue::{MS, Nanos, SECOND};

/// A link dies after so long without a packet from the other end; also the patience of a dial.
pub(crate) const IDLE_TIMEOUT: Nanos = 10 * SECOND;
/// Credit goes back in portions of this size, as QUIC's flow control does; far below the credit that a link begins with.
pub(crate) const CREDIT_PORTION: u64 = 64 * 1024;
/// The first retransmission of a handshake packet (QUIC's initial probe time-out, RFC 9002 section 6.2.2).
const HANDSHAKE_RETRY: Nanos = 999 * MS;

/// How packets fare.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conditions {
    /// One-way latencies at evenly spaced quantiles, in nanoseconds, ascending; in between it is interpolated.
    pub latency: Vec<u64>,
    /// Up to so much is added, evenly, in nanoseconds.
    pub jitter: u64,
    /// Packets that never arrive.
    pub loss: Ratio,
    /// Packets that arrive twice.
    pub duplicate: Ratio,
    /// Packets that are held back by up to ten latencies, so that later ones overtake them.
    pub reorder: Ratio,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            latency: preset("lan").unwrap_or_default(),
            jitter: 0,
            loss: Ratio::ZERO,
            duplicate: Ratio::ZERO,
            reorder: Ratio::ZERO,
        }
    }
}

/// Tables of one-way latency by name. Guesses of ordinary places, skewed low with a tail.
pub(crate) fn preset(name: &str) -> Option<Vec<u64>> {
    let micros: &[u64] = match name {
        "loopback" => &[20, 30, 40, 60, 200],
        "lan" => &[100, 150, 200, 250, 300, 400, 600, 1_000, 2_000],
        "metro" => &[500, 800, 1_000, 1_200, 1_500, 2_000, 3_000, 5_000, 10_000],
        "wan" => &[5_000, 10_000, 20_000, 30_000, 40_000, 60_000, 80_000, 110_000, 150_000],
        _ => return None,
    };
    Some(micros.iter().map(|us| us * 1_000).collect())
}

/// Numbers a host.
pub(crate) type HostNo = u32;

/// One link between two agents; both know it by the same number.
#[derive(Debug)]
pub(crate) struct Link {
    /// The dialler, then the dialled.
    pub(crate) ends: [HostNo; 2],
    /// Whether the agent at that end still has it.
    pub(crate) open: [bool; 2],
    /// When the last frame towards that end arrives: later ones must not overtake it.
    pub(crate) last: [Nanos; 2],
    /// Bytes that this end has taken off and not yet said so.
    pub(crate) taken: [u64; 2],
    /// Frames that wait behind a cut, towards that end.
    pub(crate) held: [VecDeque<Frame>; 2],
    /// Changes whenever a cut begins or ends, which voids an idle time-out set before.
    pub(crate) cut: u32,
}

impl Link {
    /// Which end a host is.
    pub(crate) fn end_of(&self, host: HostNo) -> usize {
        usize::from(self.ends[0] != host)
    }
}

/// What the network has done, to prove that its faults bite.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NetCounters {
    pub(crate) packets: u64,
    pub(crate) frames: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) held_back: u64,
    pub(crate) cut: u64,
    pub(crate) black_holed: u64,
    pub(crate) refused: u64,
    pub(crate) retries: u64,
    pub(crate) dials: u64,
}

/// The network.
#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) conditions: Conditions,
    rng: Rng,
    /// Which side of a partition each host is on.
    side: Vec<u16>,
    one_way: BTreeSet<(HostNo, HostNo)>,
    whole: bool,
    pub(crate) links: BTreeMap<u64, Link>,
    next_link: u64,
    pub(crate) counters: NetCounters,
}

impl Net {
    pub(crate) fn new(conditions: Conditions, hosts: usize, rng: Rng) -> Self {
        Self {
            conditions,
            rng,
            side: vec![0; hosts],
            one_way: BTreeSet::new(),
            whole: true,
            links: BTreeMap::new(),
            next_link: 1,
            counters: NetCounters::default(),
        }
    }

    /// True if nothing gets from one to the other.
    pub(crate) fn is_cut(&self, from: HostNo, to: HostNo) -> bool {
        !self.whole
            && (self.side.get(from as usize) != self.side.get(to as usize) || self.one_way.contains(&(from, to)))
    }

    /// True if either way is cut.
    pub(crate) fn is_parted(&self, a: HostNo, b: HostNo) -> bool {
        self.is_cut(a, b) || self.is_cut(b, a)
    }

    /// Puts hosts on the far side of a partition.
    pub(crate) fn part(&mut self, far: &[HostNo]) {
        for host in far {
            if let Some(side) = self.side.get_mut(*host as usize) {
                *side = 1;
            }
        }
        self.whole = false;
    }

    /// Nothing gets from these hosts to the others any more; the other way works.
    pub(crate) fn mute(&mut self, from: &[HostNo]) {
        let all = u32::try_from(self.side.len()).unwrap_or(u32::MAX);
        for host in from {
            self.one_way.extend((0..all).filter(|to| !from.contains(to)).map(|to| (*host, to)));
        }
        self.whole = false;
    }

    /// Everyone reaches everyone.
    pub(crate) fn heal(&mut self) {
        self.side.fill(0);
        self.one_way.clear();
        self.whole = true;
    }

    /// One draw from the table.
    pub(crate) fn latency(&mut self) -> Nanos {
        let table = &self.conditions.latency;
        let Some(steps) = table.len().checked_sub(1).filter(|steps| *steps > 0) else {
            return table.first().copied().unwrap_or(MS);
        };
        // One draw serves for the place in the table and for the place between two entries.
        let draw = self.rng.below(steps as u64 * 1024);
        let index = usize::try_from(draw / 1024).unwrap_or(0);
        let (low, high) = (table[index], table[index + 1]);
        let jitter = if self.conditions.jitter > 0 { self.rng.below(self.conditions.jitter) } else { 0 };
        low + (high - low) * (draw % 1024) / 1024 + jitter
    }

    /// What becomes of a packet: after which times copies of it arrive.
    pub(crate) fn packet(&mut self, from: HostNo, to: HostNo) -> [Option<Nanos>; 2] {
        self.counters.packets += 1;
        if self.is_cut(from, to) {
            self.counters.cut += 1;
            return [None, None];
        }
        if self.rng_chance(self.conditions.loss) {
            self.counters.lost += 1;
            return [None, None];
        }
        let mut first = self.latency();
        if self.rng_chance(self.conditions.reorder) {
            self.counters.held_back += 1;
            first += self.rng.below(10 * first);
        }
        let second = self.rng_chance(self.conditions.duplicate).then(|| {
            self.counters.doubled += 1;
            self.latency()
        });
        [Some(first), second]
    }

    fn rng_chance(&mut self, ratio: Ratio) -> bool {
        ratio.num > 0 && self.rng.chance(ratio)
    }

    /// How long a frame takes: a latency, and for each loss a time-out that doubles.
    pub(crate) fn frame(&mut self) -> Nanos {
        self.counters.frames += 1;
        let mut delay = self.latency();
        let mut wait = (4 * delay).max(25 * MS);
        while wait < IDLE_TIMEOUT && self.rng_chance(self.conditions.loss) {
            self.counters.retries += 1;
            delay += wait;
            wait *= 2;
        }
        delay
    }

    /// How long a dial takes: two round trips with the handshake's own, slower, retries; none if patience ends first.
    pub(crate) fn handshake(&mut self) -> Option<Nanos> {
        self.counters.dials += 1;
        let mut delay = 0;
        for _ in 0..4 {
            delay += self.latency();
            let mut wait = HANDSHAKE_RETRY;
            while self.rng_chance(self.conditions.loss) {
                self.counters.retries += 1;
                delay += wait;
                wait *= 2;
                if delay > IDLE_TIMEOUT {
                    return None;
                }
            }
        }
        Some(delay)
    }

    /// A link stands.
    pub(crate) fn join(&mut self, ends: [HostNo; 2], now: Nanos) -> u64 {
        let number = self.next_link;
        self.next_link += 1;
        let held = [VecDeque::new(), VecDeque::new()];
        self.links.insert(number, Link { ends, open: [true, true], last: [now, now], taken: [0, 0], held, cut: 0 });
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_gossip::rng::Seed;

    fn net(conditions: Conditions) -> Net {
        Net::new(conditions, 4, Seed(7).rng())
    }

    #[test]
    fn latency_stays_in_the_table() {
        let mut net = net(Conditions::default());
        let table = net.conditions.latency.clone();
        for _ in 0..10_000 {
            let drawn = net.latency();
            assert!(drawn >= table[0] && drawn <= table[table.len() - 1]);
        }
    }

    #[test]
    fn loss_bites_in_proportion() {
        let mut net = net(Conditions { loss: Ratio::percent(10), ..Conditions::default() });
        for _ in 0..10_000 {
            let _ = net.packet(0, 1);
        }
        assert!((800..1_200).contains(&net.counters.lost));
    }

    #[test]
    fn a_cut_has_the_direction_that_was_asked_for() {
        let mut net = net(Conditions::default());
        net.mute(&[0]);
        assert!(net.is_cut(0, 1) && !net.is_cut(1, 0) && net.is_parted(1, 0));
        net.heal();
        net.part(&[0, 1]);
        assert!(!net.is_cut(0, 1) && net.is_cut(0, 2) && net.is_cut(3, 1) && !net.is_cut(2, 3));
    }
}
