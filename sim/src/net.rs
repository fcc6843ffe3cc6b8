//! The network: who reaches whom, how late, and what gets lost on the way.
//!
//! Packets are lost, doubled and overtaken; links are ordered and reliable, so that loss makes them late instead. Divergences
//! from reality: unless a recording says how far each pair is apart, pairs of hosts share tables of latencies; and a one-way
//! cut ends a link at both ends after the idle time-out, where QUIC's receiving end would linger for another one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use dunlin_gossip::face::Frame;
use dunlin_gossip::rng::{Ratio, Rng};

use crate::queue::{MS, Nanos, SECOND};
use crate::scenario::{Cut, Matrix};

/// A link dies after so long without a packet from the other end; also the patience of a dial.
pub(crate) const IDLE_TIMEOUT: Nanos = 10 * SECOND;
/// Credit goes back in portions of this size, as QUIC's flow control does; far below the credit that a link begins with.
pub(crate) const CREDIT_PORTION: u64 = 64 * 1024;
/// The first retransmission of a handshake packet (QUIC's initial probe time-out, RFC 9002 section 6.2.2).
const HANDSHAKE_RETRY: Nanos = 999 * MS;
/// So much may wait to leave a host, as in the queue of an ordinary router, before packets are dropped.
const BACKLOG: Nanos = 100 * MS;

/// How packets fare.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conditions {
    /// One-way latencies at evenly spaced quantiles, in nanoseconds, ascending; in between it is interpolated.
    pub latency: Vec<u64>,
    /// One-way latencies of each pair of hosts instead.
    pub pairs: Option<Arc<Matrix>>,
    /// Up to so much is added, evenly, in nanoseconds.
    pub jitter: u64,
    /// Packets that never arrive.
    pub loss: Ratio,
    /// Packets that arrive twice.
    pub duplicate: Ratio,
    /// Packets that are held back by up to ten latencies, so that later ones overtake them.
    pub reorder: Ratio,
    /// Bytes that a host can send in a second; 0 for no bound.
    pub bandwidth: u64,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            latency: preset("lan").unwrap_or_default(),
            pairs: None,
            jitter: 0,
            loss: Ratio::ZERO,
            duplicate: Ratio::ZERO,
            reorder: Ratio::ZERO,
            bandwidth: 0,
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

/// The name of a table that has one.
pub(crate) fn preset_name(table: &[u64]) -> Option<&'static str> {
    ["loopback", "lan", "metro", "wan"].into_iter().find(|name| preset(name).is_some_and(|known| known == table))
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
    /// Whether its ends are cut off from each other.
    pub(crate) parted: bool,
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
    pub(crate) black_holed: u64,
    pub(crate) refused: u64,
    pub(crate) overflowed: u64,
    pub(crate) queued: u64,
    pub(crate) retries: u64,
    pub(crate) dials: u64,
}

/// What is wrong around one host.
#[derive(Clone, Copy, Debug, Default)]
struct Around {
    /// Which side of a partition it is on.
    side: u16,
    /// Nothing gets out.
    mute: bool,
    /// Nothing gets in.
    deaf: bool,
    /// Whoever sends there is refused.
    walled: bool,
    /// So much of what comes and goes is lost.
    loss: Ratio,
}

/// The network.
#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) conditions: Conditions,
    rng: Rng,
    around: Vec<Around>,
    /// From whom nothing gets to whom, though both are well; both ways round where a pair lost each other.
    severed: BTreeSet<(HostNo, HostNo)>,
    /// True if nothing is wrong around anybody.
    whole: bool,
    /// Who is well connected, as far as that was asked since the last cut or healing.
    connected: Vec<Option<bool>>,
    /// The zone of each host, and the latencies between two of them; none: as inside one.
    zone_of: Vec<u32>,
    far: Vec<Nanos>,
    /// When each host has sent off what it wants to send.
    free_at: Vec<Nanos>,
    pub(crate) links: BTreeMap<u64, Link>,
    next_link: u64,
    pub(crate) counters: NetCounters,
    /// Which cuts have kept packets back, by the word that scenario files use.
    pub(crate) bites: BTreeMap<&'static str, u64>,
}

impl Net {
    pub(crate) fn new(conditions: Conditions, far: Vec<Nanos>, zone_of: Vec<u32>, rng: Rng) -> Self {
        let hosts = zone_of.len();
        Self {
            conditions,
            rng,
            around: vec![Around::default(); hosts],
            severed: BTreeSet::new(),
            whole: true,
            connected: vec![None; hosts],
            zone_of,
            far,
            free_at: vec![0; hosts],
            links: BTreeMap::new(),
            next_link: 1,
            counters: NetCounters::default(),
            bites: BTreeMap::new(),
        }
    }

    fn about(&self, host: HostNo) -> Around {
        self.around.get(host as usize).copied().unwrap_or_default()
    }

    /// True if nothing gets from one to the other.
    pub(crate) fn is_cut(&self, from: HostNo, to: HostNo) -> bool {
        if self.whole {
            return false;
        }
        let (sender, receiver) = (self.about(from), self.about(to));
        sender.side != receiver.side
            || sender.mute
            || receiver.deaf
            || receiver.walled
            || self.severed.contains(&(from, to))
    }

    fn why_cut(&self, from: HostNo, to: HostNo) -> &'static str {
        let (sender, receiver) = (self.about(from), self.about(to));
        match () {
            () if sender.side != receiver.side => "partition",
            () if receiver.walled => "refuse",
            () if sender.mute && sender.deaf || receiver.mute && receiver.deaf => "clog",
            () if sender.mute => "mute",
            () if receiver.deaf => "deafen",
            () if !self.severed.contains(&(to, from)) => "half-sever",
            () => "sever",
        }
    }

    fn bite(&mut self, word: &'static str) {
        *self.bites.entry(word).or_default() += 1;
    }

    /// True if either way is cut.
    pub(crate) fn is_parted(&self, a: HostNo, b: HostNo) -> bool {
        self.is_cut(a, b) || self.is_cut(b, a)
    }

    /// True if at least half of the others reach it and are reached by it, and not most of what comes and goes is lost.
    pub(crate) fn is_connected(&mut self, host: HostNo) -> bool {
        if self.whole {
            return true;
        }
        if let Some(known) = self.connected.get(host as usize).copied().flatten() {
            return known;
        }
        let others = || (0..).zip(&self.around).map(|(other, _)| other).filter(|other| *other != host);
        let reached = others().filter(|other| !self.is_parted(host, *other)).count();
        let loss = self.about(host).loss;
        let is_connected = reached * 2 >= others().count() && (loss.num == 0 || loss.num * 2 < loss.den);
        if let Some(slot) = self.connected.get_mut(host as usize) {
            *slot = Some(is_connected);
        }
        is_connected
    }

    /// True if a firewall answers for that host, and the answer gets through.
    pub(crate) fn is_walled(&mut self, from: HostNo, to: HostNo) -> bool {
        if self.whole {
            return false;
        }
        let (sender, receiver) = (self.about(from), self.about(to));
        let refuses = receiver.walled && sender.side == receiver.side && !sender.mute;
        if refuses {
            self.bite("refuse");
        }
        refuses
    }

    /// True if what goes between two hosts is lost more often than elsewhere.
    pub(crate) fn is_lossy(&self, a: HostNo, b: HostNo) -> bool {
        !self.whole && (self.about(a).loss.num > 0 || self.about(b).loss.num > 0)
    }

    fn sever(&mut self, pairs: &[HostNo], both_ways: bool) {
        for pair in pairs.chunks_exact(2) {
            self.severed.insert((pair[0], pair[1]));
            if both_ways {
                self.severed.insert((pair[1], pair[0]));
            }
        }
        self.whole &= pairs.is_empty();
    }

    /// Makes it worse for some hosts. A cut that takes turns is made of cloggings by whoever keeps the time.
    pub(crate) fn cut(&mut self, how: Cut, hosts: &[HostNo]) {
        self.connected.fill(None);
        if matches!(how, Cut::Pairs | Cut::HalfPairs) {
            return self.sever(hosts, how == Cut::Pairs);
        }
        for host in hosts {
            let Some(around) = self.around.get_mut(*host as usize) else { continue };
            match how {
                Cut::Apart => around.side = 1,
                Cut::Mute => around.mute = true,
                Cut::Deaf => around.deaf = true,
                Cut::Clog | Cut::FlipFlop { .. } | Cut::Swizzle { .. } => (around.mute, around.deaf) = (true, true),
                Cut::Pairs | Cut::HalfPairs => {}
                Cut::Refuse => around.walled = true,
                Cut::Lossy(loss) => around.loss = loss,
            }
        }
        self.whole &= hosts.is_empty();
    }

    /// Everyone reaches everyone.
    pub(crate) fn heal(&mut self) {
        self.connected.fill(None);
        self.around.fill(Around::default());
        self.severed.clear();
        self.whole = true;
    }

    /// What was wrong around these hosts is over.
    pub(crate) fn heal_around(&mut self, hosts: &[HostNo]) {
        self.connected.fill(None);
        for host in hosts {
            if let Some(around) = self.around.get_mut(*host as usize) {
                *around = Around::default();
            }
        }
        self.severed.retain(|(a, b)| !hosts.contains(a) && !hosts.contains(b));
        let nothing = |around: &Around| {
            around.side == 0 && !around.mute && !around.deaf && !around.walled && around.loss.num == 0
        };
        self.whole = self.severed.is_empty() && self.around.iter().all(nothing);
    }

    /// In which zone a host stands.
    pub(crate) fn zone_of(&self, host: HostNo) -> u32 {
        self.zone_of.get(host as usize).copied().unwrap_or(0)
    }

    /// How long a packet takes between two hosts.
    pub(crate) fn latency(&mut self, a: HostNo, b: HostNo) -> Nanos {
        let is_far = !self.far.is_empty() && self.zone_of(a) != self.zone_of(b);
        let table = if is_far { &self.far } else { &self.conditions.latency };
        let of_pair = self.conditions.pairs.as_ref().filter(|_| !is_far).and_then(|pairs| pairs.one_way(a, b));
        if let Some(time) = of_pair {
            return time + self.jitter();
        }
        let Some(steps) = table.len().checked_sub(1).filter(|steps| *steps > 0) else {
            return table.first().copied().unwrap_or(MS);
        };
        // One draw serves for the place in the table and for the place between two entries.
        let draw = self.rng.below(steps as u64 * 1024);
        let index = usize::try_from(draw / 1024).unwrap_or(0);
        let (low, high) = (table[index], table[index + 1]);
        low + (high - low) * (draw % 1024) / 1024 + self.jitter()
    }

    fn jitter(&mut self) -> Nanos {
        if self.conditions.jitter > 0 { self.rng.below(self.conditions.jitter) } else { 0 }
    }

    /// How long bytes wait for those before them to leave the host. Beyond a tenth of a second a router drops packets; a
    /// stream waits.
    fn queue(&mut self, now: Nanos, from: HostNo, bytes: u64) -> Nanos {
        let rate = self.conditions.bandwidth;
        let Some(free_at) = self.free_at.get_mut(from as usize).filter(|_| rate > 0) else { return 0 };
        let begin = (*free_at).max(now);
        *free_at = begin + bytes.saturating_mul(SECOND) / rate;
        self.counters.queued += u64::from(begin > now);
        *free_at - now
    }

    /// What becomes of a packet: after which times copies of it arrive.
    pub(crate) fn packet(&mut self, now: Nanos, from: HostNo, to: HostNo, bytes: u64) -> [Option<Nanos>; 2] {
        self.counters.packets += 1;
        let behind = self.free_at.get(from as usize).map_or(0, |free| free.saturating_sub(now));
        if self.conditions.bandwidth > 0 && behind > BACKLOG {
            self.counters.overflowed += 1;
            return [None, None];
        }
        let wait = self.queue(now, from, bytes);
        if self.is_cut(from, to) {
            self.bite(self.why_cut(from, to));
            return [None, None];
        }
        if self.is_lost(from, to) {
            self.counters.lost += 1;
            return [None, None];
        }
        let mut first = self.latency(from, to);
        if self.rng_chance(self.conditions.reorder) {
            self.counters.held_back += 1;
            first += self.rng.below(10 * first);
        }
        let second = self.rng_chance(self.conditions.duplicate).then(|| {
            self.counters.doubled += 1;
            self.latency(from, to)
        });
        [Some(wait + first), second.map(|second| wait + second)]
    }

    fn is_lost(&mut self, from: HostNo, to: HostNo) -> bool {
        if self.rng_chance(self.conditions.loss) {
            return true;
        }
        if !self.is_lossy(from, to) {
            return false;
        }
        let losses = [self.about(from).loss, self.about(to).loss];
        let is_lost = losses.into_iter().any(|loss| self.rng_chance(loss));
        if is_lost {
            self.bite("lossy");
        }
        is_lost
    }

    fn rng_chance(&mut self, ratio: Ratio) -> bool {
        ratio.num > 0 && self.rng.chance(ratio)
    }

    /// How long a frame takes: a latency, and for each loss a time-out that doubles.
    pub(crate) fn frame(&mut self, now: Nanos, from: HostNo, to: HostNo, bytes: u64) -> Nanos {
        self.counters.frames += 1;
        let mut delay = self.latency(from, to);
        let mut wait = (4 * delay).max(25 * MS);
        delay += self.queue(now, from, bytes);
        while wait < IDLE_TIMEOUT && self.is_lost(from, to) {
            self.counters.retries += 1;
            delay += wait;
            wait *= 2;
        }
        delay
    }

    /// How long a dial takes: two round trips with the handshake's own, slower, retries; none if patience ends first.
    pub(crate) fn handshake(&mut self, from: HostNo, to: HostNo) -> Option<Nanos> {
        self.counters.dials += 1;
        let mut delay = 0;
        for _ in 0..4 {
            delay += self.latency(from, to);
            let mut wait = HANDSHAKE_RETRY;
            while self.is_lost(from, to) {
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
        self.links.insert(
            number,
            Link { ends, open: [true, true], last: [now, now], taken: [0, 0], held, parted: false, cut: 0 },
        );
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_gossip::rng::Seed;

    fn net(conditions: Conditions) -> Net {
        Net::new(conditions, Vec::new(), vec![0; 4], Seed(7).rng())
    }

    #[test]
    fn latency_stays_in_the_table() {
        let mut net = net(Conditions::default());
        let table = net.conditions.latency.clone();
        for _ in 0..10_000 {
            let drawn = net.latency(0, 1);
            assert!(drawn >= table[0] && drawn <= table[table.len() - 1]);
        }
    }

    #[test]
    fn zones_lie_apart() {
        let mut net = Net::new(Conditions::default(), vec![50 * MS], vec![0, 1, 0, 1], Seed(7).rng());
        assert!(net.latency(0, 2) < 10 * MS && net.latency(1, 3) < 10 * MS);
        assert_eq!(net.latency(0, 1), 50 * MS);
    }

    #[test]
    fn loss_bites_in_proportion_and_where_it_is() {
        let mut everywhere = net(Conditions { loss: Ratio::percent(10), ..Conditions::default() });
        for _ in 0..10_000 {
            let _arrivals = everywhere.packet(0, 0, 1, 100);
        }
        assert!((800..1_200).contains(&everywhere.counters.lost));
        let mut around_one = net(Conditions::default());
        around_one.cut(Cut::Lossy(Ratio::percent(80)), &[2]);
        for _ in 0..1_000 {
            let _arrivals = around_one.packet(0, 0, 1, 100);
        }
        assert_eq!(around_one.counters.lost, 0);
        for _ in 0..1_000 {
            let _arrivals = around_one.packet(0, 1, 2, 100);
        }
        assert!((700..900).contains(&around_one.counters.lost));
    }

    #[test]
    fn a_cut_has_the_direction_that_was_asked_for() {
        let mut net = net(Conditions::default());
        net.cut(Cut::Mute, &[0]);
        assert!(net.is_cut(0, 1) && !net.is_cut(1, 0) && net.is_parted(1, 0));
        net.heal();
        net.cut(Cut::Deaf, &[0]);
        assert!(!net.is_cut(0, 1) && net.is_cut(1, 0));
        net.heal();
        net.cut(Cut::Apart, &[0, 1]);
        assert!(!net.is_cut(0, 1) && net.is_cut(0, 2) && net.is_cut(3, 1) && !net.is_cut(2, 3));
        net.heal_around(&[0, 1]);
        net.cut(Cut::Pairs, &[3, 1]);
        assert!(net.is_cut(1, 3) && net.is_cut(3, 1) && !net.is_cut(1, 2));
        net.heal_around(&[3]);
        assert!(!net.is_cut(1, 3) && net.whole);
        net.cut(Cut::HalfPairs, &[3, 1]);
        assert!(net.is_cut(3, 1) && !net.is_cut(1, 3) && net.is_parted(1, 3) && net.why_cut(3, 1) == "half-sever");
    }

    #[test]
    fn what_is_sent_faster_than_the_line_takes_it_waits_and_then_is_dropped() {
        let mut net = net(Conditions { latency: vec![MS], bandwidth: 10_000, ..Conditions::default() });
        assert_eq!(net.packet(0, 0, 1, 500), [Some(51 * MS), None], "500 bytes take 50 ms on this line");
        assert_eq!(net.packet(0, 0, 1, 600), [Some(111 * MS), None]);
        assert_eq!(net.packet(0, 0, 1, 500), [None, None], "110 ms are waiting already");
        assert_eq!(net.packet(0, 2, 1, 500), [Some(51 * MS), None], "another host has a line of its own");
        assert_eq!((net.counters.overflowed, net.counters.queued), (1, 1));
    }
}
