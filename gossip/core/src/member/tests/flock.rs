//! Flocks of either engine in one small network: the same faults, and what each makes of them.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use foca::{Member, Timer};

use super::super::identity::Boot;
use super::super::{Membership, SwimId};
use super::oracle::{Id, Stock, Wishes, stock};
use crate::engine::Timing;
use crate::face::MemberState;
use crate::id::{Generation, NodeId};
use crate::rng::{Ratio, Rng, Seed};
use crate::time::{Duration, Instant};

/// One node, whatever runs on it.
trait Engine {
    fn new(me: NodeId, all: &[NodeId], seed: Seed, now: Instant) -> Self;
    fn packet(&mut self, now: Instant, from: NodeId, packet: &Packet);
    fn tick(&mut self, now: Instant);
    fn next(&self) -> Option<Instant>;
    /// What it wants to send, and whom it has come to hold down.
    fn drain(&mut self) -> (Vec<(u64, Packet)>, Vec<u64>);
}

/// Its bytes, and what stands beside them.
type Packet = (Vec<u8>, Option<u16>);

struct Own(Membership);

impl Engine for Own {
    fn new(me: NodeId, all: &[NodeId], seed: Seed, now: Instant) -> Self {
        let mut membership = Membership::new(me, Generation(7), Timing::default(), seed, now);
        let alive: Vec<(NodeId, Generation)> = all.iter().map(|node| (*node, Generation(7))).collect();
        membership.begin(now, all.iter().copied(), &alive);
        membership.outbox.events.clear();
        Self(membership)
    }

    fn packet(&mut self, now: Instant, from: NodeId, packet: &Packet) {
        self.0.packet(now, from, &packet.0, packet.1);
    }

    fn tick(&mut self, now: Instant) {
        self.0.tick(now);
    }

    fn next(&self) -> Option<Instant> {
        self.0.next_deadline()
    }

    fn drain(&mut self) -> (Vec<(u64, Packet)>, Vec<u64>) {
        let outbox = core::mem::take(&mut self.0.outbox);
        let bytes = |range: core::ops::Range<usize>| outbox.bytes.get(range).map(<[u8]>::to_vec).unwrap_or_default();
        let sends = outbox.sends.iter().map(|send| (send.to.short(), (bytes(send.range.clone()), send.suspect)));
        let down = outbox.events.iter().filter(|(_, state, _)| *state == MemberState::Down);
        (sends.collect(), down.map(|(node, _, _)| node.short()).collect())
    }
}

struct Theirs {
    foca: Stock,
    wishes: Wishes,
    now: Instant,
    timers: BTreeMap<(Instant, u64), Timer<Id>>,
    set: u64,
}

impl Theirs {
    fn keep(&mut self, now: Instant) {
        self.now = now;
        for (timer, after) in core::mem::take(&mut self.wishes.timers) {
            self.set += 1;
            self.timers.insert((now + after, self.set), timer);
        }
    }
}

impl Engine for Theirs {
    fn new(me: NodeId, all: &[NodeId], seed: Seed, now: Instant) -> Self {
        let boot = Boot::new(Generation(7), 0);
        let id = |node: &NodeId| SwimId { short: node.short(), boot };
        let foca = stock(id(&me), seed.0);
        let mut own = Self { foca, wishes: Wishes::default(), now, timers: BTreeMap::new(), set: 0 };
        let others = all.iter().filter(|node| **node != me).map(|node| Member::alive(Id(id(node))));
        own.foca.apply_many(others, false, &mut own.wishes).expect("it can hold them");
        own.keep(now);
        own
    }

    fn packet(&mut self, now: Instant, _: NodeId, packet: &Packet) {
        let _refused = self.foca.handle_data(&packet.0, &mut self.wishes);
        self.keep(now);
    }

    fn tick(&mut self, now: Instant) {
        while let Some(entry) = self.timers.first_entry().filter(|entry| entry.key().0 <= now) {
            let _stale = self.foca.handle_timer(entry.remove(), &mut self.wishes);
            self.keep(now);
        }
        // It leaves it to its user to gossip what is queued.
        if self.foca.updates_backlog() > 0 {
            let _too_large = self.foca.gossip(&mut self.wishes);
            self.keep(now);
        }
    }

    fn next(&self) -> Option<Instant> {
        let gossip = (self.foca.updates_backlog() > 0).then(|| self.now + Timing::default().gossip_period);
        let timer = self.timers.first_key_value().map(|((at, _), _)| *at);
        gossip.into_iter().chain(timer).min()
    }

    fn drain(&mut self) -> (Vec<(u64, Packet)>, Vec<u64>) {
        let wishes = core::mem::take(&mut self.wishes);
        let sends = wishes.sends.into_iter().map(|(to, bytes)| (to, (bytes, None))).collect();
        (sends, wishes.down)
    }
}

enum Event {
    Packet { from: usize, to: usize, packet: Packet },
    Wake(usize),
}

/// What came of a run.
#[derive(Debug)]
struct Outcome {
    /// From the crash to each observer's noticing it.
    noticed: Vec<Duration>,
    /// Healthy members held down.
    wrong: usize,
    packets: usize,
}

fn node(n: usize) -> NodeId {
    let mut bytes = [0; 16];
    // Spread over all short ids, as hashes are.
    bytes[..8].copy_from_slice(&crate::hash::mix(7, n as u64).to_be_bytes());
    NodeId(bytes)
}

const CRASH: Instant = Instant::from_millis(4_000);
const END: Instant = Instant::from_millis(14_000);
/// How much later than a flock of foca ours may be, for the sake of witnesses.
const TOLERANCE: Duration = Duration::from_millis(1_000);

struct Flock<E> {
    engines: Vec<E>,
    places: BTreeMap<u64, usize>,
    queue: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    loss: Ratio,
    rng: Rng,
    noticed: BTreeMap<usize, Duration>,
    wrong: usize,
    packets: usize,
}

impl<E: Engine> Flock<E> {
    /// The last one crashes.
    fn run(nodes: usize, loss: u32, seed: u64) -> Outcome {
        let all: Vec<NodeId> = (0..nodes).map(node).collect();
        let mut rng = Seed(seed).split("network").rng();
        let mut flock = Self {
            engines: Vec::new(),
            places: all.iter().enumerate().map(|(place, node)| (node.short(), place)).collect(),
            queue: BTreeMap::new(),
            sequence: 0,
            loss: Ratio::percent(loss),
            noticed: BTreeMap::new(),
            wrong: 0,
            packets: 0,
            rng: rng.clone(),
        };
        for (place, node) in all.iter().enumerate() {
            let now = Instant::from_millis(1 + rng.below(500));
            flock.engines.push(E::new(*node, &all, Seed(seed).nth(place as u64), now));
            flock.settle(now, place);
        }
        while let Some(((now, _), event)) = flock.queue.pop_first().filter(|((now, _), _)| *now < END) {
            flock.happen(now, event);
        }
        Outcome { noticed: flock.noticed.into_values().collect(), wrong: flock.wrong, packets: flock.packets }
    }

    fn is_dead(&self, now: Instant, place: usize) -> bool {
        place + 1 == self.engines.len() && now >= CRASH
    }

    fn happen(&mut self, now: Instant, event: Event) {
        let place = match &event {
            Event::Packet { to, .. } => *to,
            Event::Wake(place) => *place,
        };
        if self.is_dead(now, place) {
            return;
        }
        match event {
            Event::Packet { from, to, packet } => self.engines[to].packet(now, node(from), &packet),
            Event::Wake(_) => {}
        }
        if self.engines[place].next().is_some_and(|at| at <= now) {
            self.engines[place].tick(now);
        }
        self.settle(now, place);
    }

    fn push(&mut self, at: Instant, event: Event) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), event);
    }

    fn settle(&mut self, now: Instant, place: usize) {
        let (sends, down) = self.engines[place].drain();
        for (to, packet) in sends {
            self.packets += 1;
            if self.rng.chance(self.loss) {
                continue;
            }
            let late = Duration::from_millis(1 + self.rng.below(20));
            let to = self.places[&to];
            self.push(now + late, Event::Packet { from: place, to, packet });
        }
        for about in down {
            let about = self.places[&about];
            if self.is_dead(now, about) {
                self.noticed.entry(place).or_insert_with(|| now.since(CRASH));
            } else {
                self.wrong += 1;
            }
        }
        if let Some(at) = self.engines[place].next() {
            self.push(at.max(now + Duration::from_millis(1)), Event::Wake(place));
        }
    }
}

/// The median of the runs' last observers, and how many healthy members were held down in all of them.
fn tally<E: Engine>(nodes: usize, loss: u32, seeds: u64) -> (Duration, usize, usize) {
    let runs: Vec<Outcome> = (0..seeds).map(|seed| Flock::<E>::run(nodes, loss, seed)).collect();
    let complete = |run: &&Outcome| run.noticed.len() + 1 == nodes;
    let mut last: Vec<Duration> =
        runs.iter().filter(complete).filter_map(|run| run.noticed.iter().copied().max()).collect();
    last.sort_unstable();
    let median = last.get(runs.len() / 2).copied().unwrap_or(Duration::MAX);
    (median, runs.iter().map(|run| run.wrong).sum(), runs.iter().map(|run| run.packets).sum())
}

/// As quick as foca with the same times, but for the tolerance, and with fewer false alarms: none.
#[test]
fn a_crash_is_noticed_as_by_a_flock_of_foca_and_nobody_else_is_given_up() {
    for (nodes, loss, seeds) in [(5, 0, 15), (5, 10, 15), (20, 10, 7), (60, 5, 2), (200, 2, 1)] {
        let (own, own_wrong, own_packets) = tally::<Own>(nodes, loss, seeds);
        let (theirs, their_wrong, their_packets) = tally::<Theirs>(nodes, loss, seeds);
        let figures = alloc::format!(
            "{nodes} nodes, {loss} % loss: {own:?} and {theirs:?}, {own_wrong} and {their_wrong} wrong, \
             {own_packets} and {their_packets} packets"
        );
        assert!(own <= theirs.saturating_add(TOLERANCE), "{figures}");
        assert!(own_wrong == 0 && own_wrong <= their_wrong, "{figures}");
        assert!(own_packets <= their_packets * 2, "{figures}");
    }
}
