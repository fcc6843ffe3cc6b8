//! What comes from outside: packets, frames, records and joins, as nodes say them and then changed, fed to whole engines.
//!
//! The laws: nothing panics; a call's work is bounded; what is no message is counted and changes nothing; and when the noise is
//! over, the nodes that are still there hold one state again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use dunlin_gossip::engine::{Gossip, GossipConfig, Timing};
use dunlin_gossip::face::{
    Boot, FrameClass, GossipEvent, GossipInput, GossipOutput, GossipOutputs, LinkId, MemberState, PersistOp,
};
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::id::{Actor, ClusterId, Generation, NodeId};
use dunlin_gossip::model::{
    Allocation, Asker, NodeHeader, NodeName, Refusal, Removal, RosterEntry, Service, ServiceKey, ServiceName,
    StackManifest, StackName, Tail, Token,
};
use dunlin_gossip::rng::{Rng, Seed};
use dunlin_gossip::state::Away;
use dunlin_gossip::state::hours::{Hours, Settled};
use dunlin_gossip::state::walk::Walk;
use dunlin_gossip::time::{Duration, Instant, Wall};
use dunlin_gossip::wire::{Declared, Record, RecordId, Stamp, WireVersion, codec, frame_class};
use dunlin_net::{JoinToken, join_message_reads};

use crate::mutate::mutate;

const NODES: usize = 3;
const EPOCH: u64 = 1_800_000_000_000;
const LATENCY: Duration = Duration::from_millis(1);
/// More outputs of one call than this are an amplifier.
const MOST_OUTPUTS: usize = 20_000;
/// Changed inputs of one case.
const NOISE: u64 = 150;
/// What is kept of what was said, to be changed.
const CORPUS: usize = 400;

fn node(n: usize) -> NodeId {
    NodeId([u8::try_from(n + 1).unwrap_or(255); 16])
}

fn entry(n: usize) -> Option<Record> {
    let entry = RosterEntry {
        node: node(n),
        name: NodeName::new(&format!("n{n}")).ok()?,
        certificate: vec![1],
        seal_key: [0; 32],
        addresses: Vec::new(),
        admitted_by: None,
        token: None,
        at: Wall(EPOCH),
    };
    let author = Actor { node: node(0), generation: Generation(1) };
    let hlc = Hlc(1 + n as u64);
    Some(Record::write(RecordId::roster(node(n)), Stamp::Fact { author }, hlc, Some(&codec::encode(&entry))))
}

/// A few engines whose packets, frames and commits arrive at once and always.
struct Flock {
    engines: Vec<Option<Gossip>>,
    disks: Vec<BTreeMap<Vec<u8>, Arc<[u8]>>>,
    queue: VecDeque<(Instant, usize, GossipInput)>,
    links: BTreeMap<(usize, LinkId), (usize, LinkId)>,
    numbers: u64,
    now: Instant,
    /// What was said: packets and frames, and who said it to whom.
    said: Vec<(usize, usize, Vec<u8>, bool)>,
    wrong: Option<String>,
}

impl Flock {
    fn new(seed: Seed, wires: [WireVersion; NODES]) -> Self {
        let mut flock = Self {
            engines: (0..NODES).map(|_| None).collect(),
            disks: (0..NODES).map(|_| BTreeMap::new()).collect(),
            queue: VecDeque::new(),
            links: BTreeMap::new(),
            numbers: 0,
            now: Instant::from_millis(1_000),
            said: Vec::new(),
            wrong: None,
        };
        for (n, wire) in wires.into_iter().enumerate() {
            let records = (0..NODES).filter_map(entry).collect();
            let config = GossipConfig {
                me: node(n),
                cluster: ClusterId([9; 16]),
                wire,
                timing: Timing::default(),
                seeds: Vec::new(),
            };
            let generation = Generation(EPOCH + n as u64);
            let boot = Boot { base: None, records, first: false, generation, alive: Vec::new() };
            let mut out = GossipOutputs::default();
            let gossip = Gossip::new(config, boot, seed.nth(n as u64), flock.now, flock.wall(), &mut out);
            flock.engines[n] = Some(gossip);
            flock.carry_out(n, out);
        }
        flock
    }

    fn wall(&self) -> Wall {
        Wall(EPOCH + self.now.as_millis())
    }

    fn act(&mut self, n: usize, act: impl FnOnce(&mut Gossip, Instant, Wall, &mut GossipOutputs)) {
        let (now, wall, mut out) = (self.now, self.wall(), GossipOutputs::default());
        let Some(engine) = self.engines.get_mut(n).and_then(Option::as_mut) else { return };
        act(engine, now, wall, &mut out);
        self.carry_out(n, out);
    }

    fn put(&mut self, to: usize, input: GossipInput) {
        self.queue.push_back((self.now + LATENCY, to, input));
    }

    fn note(&mut self, from: usize, to: usize, bytes: &[u8], is_frame: bool) {
        if self.said.len() < CORPUS {
            self.said.push((from, to, bytes.to_vec(), is_frame));
        }
    }

    fn carry_out(&mut self, n: usize, out: GossipOutputs) {
        if out.list.len() > MOST_OUTPUTS {
            self.wrong = Some(format!("one call of node {n} put out {} things", out.list.len()));
        }
        for output in out.list {
            match output {
                GossipOutput::Packet { to, bytes } => {
                    if let Some(to) = (0..NODES).find(|m| node(*m) == to) {
                        self.note(n, to, &bytes, false);
                        self.put(to, GossipInput::Packet { from: node(n), bytes });
                    }
                }
                GossipOutput::Frame { link, frame, .. } => {
                    let size = frame.bytes().len() as u64;
                    if let Some((to, theirs)) = self.links.get(&(n, link)).copied() {
                        self.note(n, to, frame.bytes(), true);
                        self.put(n, GossipInput::Credit { link, bytes: size });
                        self.put(to, GossipInput::Frame { link: theirs, frame: frame.bytes().to_vec().into() });
                    }
                }
                GossipOutput::Dial { peer } => self.dial(n, peer),
                GossipOutput::Hangup { link, .. } => self.hang_up(n, link),
                GossipOutput::Persist { seq, ops } => {
                    for op in ops {
                        match op {
                            PersistOp::Put { slot, bytes } => drop(self.disks[n].insert(slot, bytes)),
                            PersistOp::Delete { slot } => drop(self.disks[n].remove(&slot)),
                        }
                    }
                    self.put(n, GossipInput::Persisted(seq));
                }
                // It ends, as its shell would have it; a real one boots again.
                GossipOutput::Event(GossipEvent::DiskIsOld { .. } | GossipEvent::Fatal(_)) => self.engines[n] = None,
                GossipOutput::Event(_) => {}
            }
        }
    }

    fn dial(&mut self, n: usize, peer: NodeId) {
        let Some(to) = (0..NODES).find(|m| node(*m) == peer && self.engines[*m].is_some()) else {
            return self.put(n, GossipInput::LinkDown { link: None, peer, reason: "nobody listens".to_owned() });
        };
        self.numbers += 2;
        let (mine, theirs) = (LinkId(self.numbers), LinkId(self.numbers + 1));
        self.links.insert((n, mine), (to, theirs));
        self.links.insert((to, theirs), (n, mine));
        self.put(n, GossipInput::LinkUp { link: mine, peer, inbound: false });
        self.put(to, GossipInput::LinkUp { link: theirs, peer: node(n), inbound: true });
    }

    fn hang_up(&mut self, n: usize, link: LinkId) {
        let Some((to, theirs)) = self.links.remove(&(n, link)) else { return };
        self.links.remove(&(to, theirs));
        let (peer, reason) = (node(n), "closed".to_owned());
        self.put(to, GossipInput::LinkDown { link: Some(theirs), peer, reason });
    }

    /// Everything that happens until then.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut steps = 0_u64;
        while self.wrong.is_none() {
            let deadlines = self.engines.iter().enumerate();
            let timer = deadlines.filter_map(|(n, e)| Some((e.as_ref()?.next_deadline()?, n))).min();
            let queued = self.queue.front().map(|(at, ..)| *at);
            let (at, n, input) = match (queued, timer) {
                (Some(at), Some((due, n))) if due < at => (due, n, GossipInput::Deadline),
                (Some(_), _) => {
                    let Some(next) = self.queue.pop_front() else { return };
                    next
                }
                (None, Some((due, n))) => (due, n, GossipInput::Deadline),
                (None, None) => return,
            };
            if at > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(at);
            self.act(n, |engine, now, wall, out| engine.handle(now, wall, input, out));
            steps += 1;
            if steps > 300_000 {
                self.wrong = Some("the nodes do not come to rest".to_owned());
            }
        }
    }

    fn roots(&self) -> Vec<u64> {
        let mut roots: Vec<u64> = self.engines.iter().flatten().map(|engine| engine.state().sync_root()).collect();
        roots.dedup();
        roots
    }

    /// Those that run and hold each other for members.
    fn is_whole(&self) -> bool {
        let all = || self.engines.iter().enumerate().filter_map(|(n, engine)| Some((n, engine.as_ref()?)));
        all().all(|(n, engine)| all().all(|(m, _)| n == m || engine.member_state(node(m)) == Some(MemberState::Alive)))
    }
}

/// Writes what every run begins with.
fn populate(flock: &mut Flock, rng: &mut Rng) {
    flock.run(Duration::from_secs(3));
    for n in 0..NODES {
        let name = StackName::new("shop").and_then(|stack| {
            Ok(ServiceKey {
                stack,
                service: ServiceName::new(["web", "db", "queue"].get(n).copied().unwrap_or("web"))?,
            })
        });
        let Ok(key) = name else { continue };
        let manifest = StackManifest {
            deployed: Hlc(7),
            services: [(key.service.clone(), Hlc(7))].into(),
            attached: Tail::default(),
        };
        let batch = vec![
            (RecordId::stack(&key.stack), Some(codec::encode(&manifest))),
            (RecordId::service(&key), Some(vec![3; usize::try_from(rng.below(300)).unwrap_or(0)])),
        ];
        flock.act(n, |engine, now, wall, out| drop(engine.write(now, wall, &Asker::new("ann"), batch, out)));
        flock.act(n, |engine, now, wall, out| {
            let mut said: Vec<_> = engine.declaration().into_iter().map(|(id, p)| (id, Some(p))).collect();
            said.push((RecordId::header(node(n)), Some(vec![1, 2, 3])));
            engine.publish(now, wall, said, out);
        });
        flock.run(Duration::from_millis(300));
    }
    flock.run(Duration::from_secs(6));
}

/// Reads bytes as everything that they could be.
fn read_as_anything(bytes: &[u8]) -> Result<(), String> {
    let _class: Option<FrameClass> = frame_class(bytes);
    let _joins = join_message_reads(bytes);
    let _token = std::str::from_utf8(bytes).map(JoinToken::parse);
    let _walk = codec::decode::<Walk>(bytes);
    let Ok(record) = Record::read(bytes) else { return Ok(()) };
    if record.bytes()[..] != *bytes || record.position() != record.id().hash() || record.slot().is_empty() {
        return Err(format!("{record:?} is not what was read"));
    }
    let _meanings = (record.header(), record.allocation(), record.author(), record.asker().len());
    let _more = (record.read_as::<Service>(), record.read_as::<StackManifest>(), record.read_as::<Token>());
    let _yet = (record.read_as::<RosterEntry>(), record.read_as::<Removal>(), record.read_as::<Refusal>());
    let _other = (record.read_as::<Hours>(), record.read_as::<Settled>(), record.read_as::<Away>());
    let _rest = (record.read_as::<NodeHeader>(), record.read_as::<Allocation>(), record.read_as::<Declared>());
    let _grasp = (WireVersion::CURRENT.grasp(&record), WireVersion::NEXT.grasp(&record));
    Ok(())
}

/// The messages of a join, as a newcomer and a host write them.
fn join_messages() -> [Vec<u8>; 2] {
    let addresses: Vec<std::net::SocketAddr> = vec![([127, 0, 0, 1], 7400).into()];
    let ask = (1_u16, 7_u64, [1_u8; 32], vec![2_u8; 91], [3_u8; 32], "n1".to_owned(), addresses);
    let answer = (0_u32, [4_u8; 16], vec![5_u8; 300], vec![6_u8; 120], vec![vec![7_u8; 90]], vec![8_u8; 400], 3_u32);
    [codec::encode(&ask), codec::encode(&answer)]
}

fn noise(flock: &mut Flock, rng: &mut Rng) -> Result<(), String> {
    let said = std::mem::take(&mut flock.said);
    let joins = join_messages();
    for _ in 0..NOISE {
        let Some((from, to, bytes, is_frame)) = rng.pick(&said).cloned() else { return Ok(()) };
        let other = rng.pick(&said).map(|(_, _, bytes, _)| bytes.clone()).unwrap_or_default();
        let mut changed = bytes;
        mutate(rng, &mut changed, &other);
        read_as_anything(&changed)?;
        let mut join = rng.pick(&joins).cloned().unwrap_or_default();
        mutate(rng, &mut join, &changed);
        read_as_anything(&join)?;
        if let Some(held) = flock.disks[to].values().nth(usize::try_from(rng.below(8)).unwrap_or(0)) {
            let mut record = held.to_vec();
            mutate(rng, &mut record, &other);
            read_as_anything(&record)?;
        }
        let over = flock.links.iter().find(|((n, _), (m, _))| *n == to && *m == from).map(|((_, link), _)| *link);
        match (is_frame, over) {
            (true, Some(link)) => flock.put(to, GossipInput::Frame { link, frame: changed.into() }),
            (true, None) => {}
            (false, _) => flock.put(to, GossipInput::Packet { from: node(from), bytes: changed }),
        }
        if rng.below(8) == 0 {
            flock.run(Duration::from_millis(rng.below(400)));
        }
    }
    Ok(())
}

/// One flock, its words, and what becomes of them.
pub(crate) fn case(seed: Seed) -> Result<(), String> {
    let mut rng = seed.split("wire").rng();
    let versions = [WireVersion::CURRENT, WireVersion::NEXT];
    let wires = [(); NODES].map(|()| *rng.pick(&versions).unwrap_or(&WireVersion::CURRENT));
    let mut flock = Flock::new(seed, wires);
    populate(&mut flock, &mut rng);
    if flock.roots().len() != 1 || !flock.is_whole() {
        return Err(format!("no flock came about: roots {:x?}", flock.roots()));
    }
    noise(&mut flock, &mut rng)?;
    flock.run(Duration::from_secs(120));
    match flock.wrong.take() {
        Some(wrong) => Err(wrong),
        None if flock.is_whole() && flock.roots().len() > 1 => {
            Err(format!("after the noise states stay apart: roots {:x?}", flock.roots()))
        }
        None => Ok(()),
    }
}
