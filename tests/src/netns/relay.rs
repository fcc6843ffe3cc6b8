//! The network as a program: it reads what hosts send from their TUN devices, holds each packet for a time drawn from the
//! scenario's table, and hands it to the host that it is for. The kernel here has no `netem`.
//!
//! As in the simulator, packets of membership overtake each other, while what goes over links keeps its order: two QUIC
//! packets of one pair of hosts arrive as they were sent. Loss is not made here (iptables does that). The observer, who asks
//! from outside, is never delayed. One thread does all, so that nothing is ordered by chance.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dunlin_gossip::rng::{Rng, Seed};
use dunlin_sim::Conditions;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

/// How long it may take to notice that it shall end, or that conditions changed.
const LOOK: Duration = Duration::from_millis(50);
/// Largest packet of a device with the usual MTU.
const MTU: usize = 2_048;
/// The observer's last octet.
pub(super) const OBSERVER: u8 = 254;

/// What the relay has done, to prove that it bites.
#[derive(Clone, Copy, Debug, Default)]
pub struct Relayed {
    /// Packets between hosts.
    pub packets: u64,
    /// How long they were to be held, all together.
    pub held: Duration,
    /// How much longer they were, all together: what this machine adds.
    pub late: Duration,
    /// Sent twice.
    pub doubled: u64,
    /// Held back beyond their latency, so that others overtook them.
    pub held_back: u64,
    /// Thrown away because their way is cut.
    pub cut: u64,
    /// For nobody here.
    pub stray: u64,
}

impl Relayed {
    /// How late a packet was on average.
    #[must_use]
    pub fn mean_late(&self) -> Duration {
        self.late.checked_div(u32::try_from(self.packets).unwrap_or(u32::MAX)).unwrap_or_default()
    }

    /// How long a packet was to be held on average.
    #[must_use]
    pub fn mean_held(&self) -> Duration {
        self.held.checked_div(u32::try_from(self.packets).unwrap_or(u32::MAX)).unwrap_or_default()
    }
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    conditions: Mutex<Conditions>,
    /// Ways that are cut: from whom, to whom.
    cut: Mutex<BTreeSet<(u8, u8)>>,
    done: Mutex<Relayed>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The relay of one network; ends when dropped.
#[derive(Debug)]
pub(super) struct Relay {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Relays between devices, given by the last octet of their host's address.
    pub(super) fn start(devices: BTreeMap<u8, File>, conditions: Conditions, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            conditions: Mutex::new(conditions),
            cut: Mutex::default(),
            done: Mutex::default(),
        });
        let switch = Switch {
            shared: Arc::clone(&shared),
            devices: devices.into_iter().collect(),
            rng: Seed(seed).split("relay").rng(),
            due: BinaryHeap::new(),
            waiting: BTreeMap::new(),
            sequence: 0,
            last: BTreeMap::new(),
            done: Relayed::default(),
        };
        let thread = std::thread::Builder::new().name("relay".to_owned()).spawn(move || switch.run());
        Self { shared, thread: Some(thread.expect("a thread")) }
    }

    /// Other conditions from now on, for packets that are still to come.
    pub(super) fn set(&self, conditions: Conditions) {
        *lock(&self.shared.conditions) = conditions;
    }

    /// Nothing goes these ways any more, from now on.
    pub(super) fn cut(&self, ways: impl Iterator<Item = (u8, u8)>) {
        lock(&self.shared.cut).extend(ways);
    }

    /// All ways to and from a host are free again.
    pub(super) fn heal_around(&self, host: u8) {
        lock(&self.shared.cut).retain(|(from, to)| *from != host && *to != host);
    }

    /// What it has done so far, up to a moment ago.
    pub(super) fn done(&self) -> Relayed {
        *lock(&self.shared.done)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// A packet on its way.
struct Held {
    to: usize,
    bytes: Vec<u8>,
    /// Whether its lateness counts: it went from host to host, and is no copy.
    counted: bool,
}

/// The relay's own thread.
struct Switch {
    shared: Arc<Shared>,
    devices: Vec<(u8, File)>,
    rng: Rng,
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    waiting: BTreeMap<u64, Held>,
    sequence: u64,
    /// When the last QUIC packet from one host to another arrives: later ones must not overtake it.
    last: BTreeMap<(u8, u8), Instant>,
    done: Relayed,
}

impl Switch {
    fn run(mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let readable = self.wait();
            let conditions = lock(&self.shared.conditions).clone();
            for index in readable {
                self.read(index, &conditions);
            }
            self.deliver();
            *lock(&self.shared.done) = self.done;
        }
    }

    /// Sleeps until something comes or is due; which devices have something.
    fn wait(&self) -> Vec<usize> {
        let next = self.due.peek().map(|Reverse((at, _))| at.saturating_duration_since(Instant::now()));
        let pause = next.unwrap_or(LOOK).min(LOOK);
        let mut polled: Vec<PollFd<'_>> =
            self.devices.iter().map(|(_, file)| PollFd::new(file.as_fd(), PollFlags::POLLIN)).collect();
        if ppoll(&mut polled, Some(TimeSpec::from_duration(pause)), None).is_err() {
            return Vec::new();
        }
        let has_some = |(index, fd): (usize, &PollFd<'_>)| fd.any().unwrap_or(false).then_some(index);
        polled.iter().enumerate().filter_map(has_some).collect()
    }

    fn read(&mut self, index: usize, conditions: &Conditions) {
        let mut buffer = [0; MTU];
        while let Some((from, file)) = self.devices.get_mut(index) {
            let from = *from;
            let Ok(length) = file.read(&mut buffer) else { return };
            let bytes = buffer.get(..length).unwrap_or_default();
            self.take(from, bytes, conditions);
        }
    }

    /// A packet leaves a host.
    fn take(&mut self, from: u8, bytes: &[u8], conditions: &Conditions) {
        let Some(to) = destination(bytes) else { return };
        let Some(index) = self.devices.iter().position(|(octet, _)| *octet == to) else {
            self.done.stray += 1;
            return;
        };
        if lock(&self.shared.cut).contains(&(from, to)) {
            self.done.cut += 1;
            return;
        }
        let now = Instant::now();
        if from == OBSERVER || to == OBSERVER {
            return self.hold(now, Held { to: index, bytes: bytes.to_vec(), counted: false });
        }
        let mut after = latency(conditions, &mut self.rng);
        if self.rng.chance(conditions.reorder) {
            self.done.held_back += 1;
            after += self.rng.below(10 * after);
        }
        let mut at = now + Duration::from_nanos(after);
        if is_quic(bytes) {
            let last = self.last.entry((from, to)).or_insert(at);
            at = at.max(*last);
            *last = at;
        }
        self.done.packets += 1;
        self.done.held += at - now;
        self.hold(at, Held { to: index, bytes: bytes.to_vec(), counted: true });
        if self.rng.chance(conditions.duplicate) {
            self.done.doubled += 1;
            let again = now + Duration::from_nanos(latency(conditions, &mut self.rng));
            self.hold(again, Held { to: index, bytes: bytes.to_vec(), counted: false });
        }
    }

    fn hold(&mut self, at: Instant, held: Held) {
        self.sequence += 1;
        self.due.push(Reverse((at, self.sequence)));
        self.waiting.insert(self.sequence, held);
    }

    fn deliver(&mut self) {
        while let Some(Reverse((at, number))) = self.due.peek().copied() {
            let now = Instant::now();
            if at > now {
                return;
            }
            self.due.pop();
            let Some(held) = self.waiting.remove(&number) else { continue };
            if held.counted {
                self.done.late += now - at;
            }
            if let Some((_, file)) = self.devices.get_mut(held.to) {
                // A full queue loses the packet, as a network does.
                let _lost = file.write(&held.bytes);
            }
        }
    }
}

/// One draw from the table, as the simulator draws.
fn latency(conditions: &Conditions, rng: &mut Rng) -> u64 {
    let jitter = if conditions.jitter > 0 { rng.below(conditions.jitter) } else { 0 };
    let table = &conditions.latency;
    let Some(steps) = table.len().checked_sub(1).filter(|steps| *steps > 0) else {
        return table.first().copied().unwrap_or(0) + jitter;
    };
    let draw = rng.below(steps as u64 * 1024);
    let index = usize::try_from(draw / 1024).unwrap_or(0);
    let (low, high) = (table[index], table[index + 1]);
    low + (high - low) * (draw % 1024) / 1024 + jitter
}

/// The last octet of an IPv4 packet's destination.
fn destination(packet: &[u8]) -> Option<u8> {
    (packet.first()? >> 4 == 4).then(|| packet.get(19).copied()).flatten()
}

/// True for UDP whose first byte is QUIC's: sealed packets have its two highest bits clear.
fn is_quic(packet: &[u8]) -> bool {
    let payload = usize::from(packet.first().copied().unwrap_or(0) & 0xf) * 4 + 8;
    packet.get(9) == Some(&17) && packet.get(payload).is_some_and(|first| first & 0xc0 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_stays_in_the_table() {
        let conditions = Conditions { latency: vec![1_000, 2_000, 8_000], jitter: 500, ..Conditions::default() };
        let mut rng = Seed(1).rng();
        let drawn: Vec<u64> = (0..1_000).map(|_| latency(&conditions, &mut rng)).collect();
        assert!(drawn.iter().all(|d| (1_000..8_500).contains(d)));
        assert!(drawn.iter().any(|d| *d > 5_000) && drawn.iter().any(|d| *d < 2_000));
    }

    #[test]
    fn only_udp_that_is_not_sealed_is_quic() {
        let mut packet = vec![0; 40];
        (packet[0], packet[9], packet[19], packet[28]) = (0x45, 17, 7, 0x40);
        assert!(is_quic(&packet) && destination(&packet) == Some(7));
        packet[28] = 0x11;
        assert!(!is_quic(&packet));
        packet[0] = 0x60;
        assert_eq!(destination(&packet), None);
    }
}
