//! A year of churn on one state: 200 nodes, 10,000 stacks that come and go, 1,000 nodes that come and go. What is held must
//! follow what exists.
//!
//! Every node's records are made by the real pen (`State::held_by`) and merged by the real merge; what is left out is the
//! network, since all nodes of a flock that agrees hold the same. Two days' work falls into one hour, so that a year is 183 looks.

use std::collections::BTreeMap;

use dunlin_gossip::hash::mix;
use dunlin_gossip::id::{Actor, Generation, NodeId};
use dunlin_gossip::model::{AllocId, Asker};
use dunlin_gossip::state::{Away, Merge, State};
use dunlin_gossip::time::{Duration, Instant, Wall};
use dunlin_gossip::wire::{Class, Kind, Record, RecordId, Stamp, codec};

const NODES: usize = 200;
const LOOKS: u64 = 183;
/// Days from one look to the next.
const STEP: u64 = 2;
const CYCLES: u64 = 56;
const DAY_MS: u64 = 86_400_000;
const MONTH: Duration = Duration::from_secs(30 * 86_400);
const EPOCH: u64 = 20_000 * DAY_MS;

struct Year {
    held: State,
    day: u64,
    wall: u64,
    there: Vec<Actor>,
    /// Who went, and when.
    gone: BTreeMap<NodeId, u64>,
    names: u64,
    chance: u64,
    longest_context: usize,
}

impl Year {
    fn begin() -> Self {
        let first = actor(0, EPOCH);
        let mut year = Self {
            held: State::new(first),
            day: 0,
            wall: EPOCH,
            there: Vec::new(),
            gone: BTreeMap::new(),
            names: 0,
            chance: 1,
            longest_context: 0,
        };
        (0..NODES).for_each(|_| year.arrive());
        year
    }

    fn draw(&mut self, below: usize) -> usize {
        self.chance = mix(self.chance, 7);
        usize::try_from(self.chance >> 8).unwrap_or(0) % below
    }

    fn take(&mut self, record: Record) {
        let merge = self.held.merge(record.clone(), Wall(self.wall));
        assert!(matches!(merge, Merge::Changed { .. }), "{record:?}: {merge:?}");
    }

    fn says(&mut self, who: Actor, id: RecordId, payload: Option<&[u8]>) {
        self.wall += 1;
        let record = self.held.held_by(who).stage_actual(Wall(self.wall), id, payload);
        self.take(record);
    }

    fn writes(&mut self, who: Actor, writes: &[(RecordId, Option<Vec<u8>>)]) {
        self.wall += 1;
        let (_, records) = self.held.held_by(who).stage_desired(Wall(self.wall), &Asker::default(), writes);
        for record in records {
            if let Stamp::Context(context) = record.stamp() {
                let seen = &context.seen;
                self.longest_context = self.longest_context.max(seen.len());
            }
            self.take(record);
        }
    }

    fn arrive(&mut self) {
        let who = actor(self.names, self.wall);
        self.names += 1;
        let by = self.there.first().copied().unwrap_or(who);
        let entry = self.held.held_by(by).stage_fact(Wall(self.wall), RecordId::roster(who.node), &[1; 600]);
        self.take(entry);
        self.says(who, RecordId::header(who.node), Some(&[2; 200]));
        self.there.push(who);
    }

    /// A node is gone for good, without a word. The first stays: it is the one whose state this is.
    fn depart(&mut self) {
        let at = 1 + self.draw(self.there.len() - 1);
        let who = self.there.swap_remove(at);
        self.gone.insert(who.node, self.day);
    }

    /// A stack is deployed, its two replicas run somewhere, and it is removed.
    fn cycle(&mut self, n: u64) {
        let at = self.draw(self.there.len());
        let who = self.there[at];
        let desired = |kind: Kind| RecordId::new(Class::ManyWriters, kind, format!("stack-{n}").as_bytes());
        let both = |value: Option<Vec<u8>>| [(desired(Kind::SERVICE), value.clone()), (desired(Kind::STACK), value)];
        self.writes(who, &both(Some(vec![3; 300])));
        for replica in 0..2 {
            let at = self.draw(self.there.len());
            let on = self.there[at];
            let id = RecordId::allocation(on.node, AllocId(n * 2 + replica));
            self.says(on, id.clone(), Some(&[4; 150]));
            self.says(on, id, None);
        }
        // One service stays for ever, and everybody changes it now and then.
        self.writes(
            who,
            &[(RecordId::new(Class::ManyWriters, Kind::SERVICE, b"shared"), Some(n.to_be_bytes().to_vec()))],
        );
        self.writes(who, &both(None));
    }

    /// The end of a day: everybody says who is away and closes the hours; what is overdue is forgotten, what is settled dropped.
    fn rest(&mut self) {
        self.day += STEP;
        self.wall = EPOCH + self.day * DAY_MS;
        if self.day.is_multiple_of(10) {
            self.count_and_forget();
        }
        for who in self.there.clone() {
            let closed = self.held.held_by(who).publish_hours(Wall(self.wall));
            closed.into_iter().for_each(|record| self.take(record));
        }
        if let Some(settled) = self.held.settle() {
            self.take(settled);
        }
        let now = Instant::from_millis(self.day * DAY_MS);
        let _noted = self.held.collect(now);
        let _dropped = self.held.collect(now + Duration::from_secs(600));
    }

    fn count_and_forget(&mut self) {
        let away: Vec<(NodeId, u64)> =
            self.gone.iter().map(|(node, since)| (*node, (self.day - since) * 86_400)).collect();
        let away = codec::encode(&Away { nodes: away });
        for who in self.there.clone() {
            self.says(who, RecordId::new(Class::OneWriter, Kind::AWAY, &who.node.0), Some(&away));
        }
        for node in self.held.overdue(MONTH) {
            let tombstone = self.held.held_by(self.there[0]).stage_forgetting(Wall(self.wall), node);
            self.take(tombstone);
            self.gone.remove(&node);
        }
    }

    fn bytes(&self) -> usize {
        self.held.snapshot().records().map(|record| record.bytes().len()).sum()
    }

    fn count(&self, which: impl Fn(&Record) -> bool) -> usize {
        self.held.snapshot().records().filter(|record| which(record)).count()
    }
}

fn actor(n: u64, generation: u64) -> Actor {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&mix(n, 1).to_be_bytes());
    id[8..].copy_from_slice(&mix(n, 2).to_be_bytes());
    Actor { node: NodeId(id), generation: Generation(generation) }
}

#[test]
fn after_a_year_a_state_holds_what_exists() {
    let mut year = Year::begin();
    let mut sizes = Vec::new();
    for look in 0..LOOKS {
        // 1,000 in a year: five or six from look to look.
        let moves = (look + 1) * 1_000 / LOOKS - look * 1_000 / LOOKS;
        for _ in 0..moves {
            year.depart();
            year.arrive();
        }
        (0..CYCLES).for_each(|n| year.cycle(look * CYCLES + n));
        year.rest();
        sizes.push((year.held.len(), year.bytes()));
    }
    assert!(year.names >= 1_199 && LOOKS * CYCLES > 10_000);
    // While nodes are away hours stay open, a month at most: what ended in the last month is there, and nothing older, but
    // the keys of who was forgotten.
    let forgotten = |record: &Record| record.id().kind == Kind::ROSTER && record.payload().is_none();
    let most = |looks: std::ops::Range<usize>| {
        let of = |which: fn(&(usize, usize)) -> usize| sizes[looks.clone()].iter().map(which).max().unwrap_or(0);
        (of(|size| size.0), of(|size| size.1))
    };
    let (early, late) = (most(30..60), most(150..183));
    let keys = year.count(forgotten);
    assert!(
        late.0 - keys <= early.0 + early.0 / 20,
        "at most {early:?} in the third month, {late:?} in the last, {keys} keys"
    );
    assert!(
        late.1 <= early.1 + early.1 / 20 + keys * 120,
        "at most {early:?} in the third month, {late:?} in the last, {keys} keys"
    );
    // The shared service's context names its writers of the last months, each once.
    assert!(year.longest_context <= 3 * NODES, "{}", year.longest_context);
    // A quiet month later: each node's admission, header, hours and counts, what is deployed, and the keys.
    (0..25).for_each(|_| year.rest());
    let keys = year.count(forgotten);
    assert_eq!(year.gone.len(), 0, "all are forgotten");
    let ended = year.count(|record| record.payload().is_none() && !forgotten(record));
    assert_eq!((ended, year.held.len()), (0, 4 * NODES + 2 + keys));
    println!(
        "registers and bytes: day 2 {:?}, most in the third month {early:?}, in the last {late:?}; then {} and {}, {keys} of them keys of \
              forgotten nodes; longest context {}",
        sizes[0],
        year.held.len(),
        year.bytes(),
        year.longest_context
    );
}
