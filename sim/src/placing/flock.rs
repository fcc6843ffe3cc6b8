//! The flock of the lists: what each node has left, who is where. All decisions are the nodes' own code.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dunlin_core::place::{Candidate, Ground, Mix, Room, Scene, Waiting, device, order_key};
use dunlin_gossip::model::{DeviceHold, ReplicaKey, ServiceKey, ServiceName, ServiceSpec, Slot, StackName};
use dunlin_gossip::rng::Rng;

use super::list::Host;

/// How often a task that a node refused is tried again.
const RETRIES: u32 = 6;

/// A task that was offered.
#[derive(Debug)]
pub(super) struct Task<'a> {
    replica: ReplicaKey,
    spec: &'a ServiceSpec,
}

/// What is left of a node.
#[derive(Clone, Debug)]
struct Left {
    room: Room,
    units: Vec<u32>,
}

/// Nodes and tasks.
#[derive(Debug)]
pub(super) struct Flock<'a> {
    hosts: &'a [Host],
    left: Vec<Left>,
    mix: &'a Mix,
    k: usize,
    tasks: &'a [Task<'a>],
    /// Of each task: on which node, and the devices that it has there.
    at: Vec<Option<(usize, Vec<DeviceHold>)>>,
    pub(super) refusals: u64,
    pub(super) decisions: u64,
    pub(super) moves: u64,
    pub(super) displaced: u64,
    /// Tasks that ran, lost their node, and wait.
    displaced_now: BTreeSet<usize>,
}

impl<'a> Flock<'a> {
    pub(super) fn new(hosts: &'a [Host], mix: &'a Mix, k: usize, tasks: &'a [Task<'a>]) -> Self {
        Self {
            hosts,
            left: hosts.iter().map(Left::all).collect(),
            mix,
            k,
            tasks,
            at: tasks.iter().map(|_| None).collect(),
            refusals: 0,
            decisions: 0,
            moves: 0,
            displaced: 0,
            displaced_now: BTreeSet::new(),
        }
    }

    /// Offers every task in turn, `in_flight` decisions at a time on one view; what a node then refuses is decided anew.
    pub(super) fn offer_all(&mut self, in_flight: usize) {
        let (none, left) = (BTreeSet::new(), self.left.clone());
        let candidates: Vec<Candidate<'_>> =
            (0..self.hosts.len()).map(|at| candidate(self.hosts, &left, at, &none)).collect();
        let mut ground = Ground::new(Scene { nodes: &candidates, mix: self.mix }).with_k(self.k);
        let mut open: VecDeque<(usize, u32)> = (0..self.tasks.len()).map(|task| (task, 0)).collect();
        while !open.is_empty() {
            let batch: Vec<(usize, u32)> = open.drain(..in_flight.min(open.len())).collect();
            let head = |(task, _): &(usize, u32)| {
                let asking = ground.asks(&self.tasks.get(*task)?.waiting());
                Some((ground.head_of(&asking)?, asking))
            };
            let heads: Vec<_> = batch.iter().map(head).collect();
            self.decisions += batch.len() as u64;
            let mut again = Vec::new();
            for ((at, tries), head) in batch.into_iter().zip(heads) {
                let Some((head, asking)) = head else { continue };
                if ground.has_for(&asking, head) {
                    let holds = ground.give(head, &asking);
                    self.take(head, at, holds);
                } else {
                    self.refusals += 1;
                    again.extend((tries < RETRIES).then_some((at, tries + 1)));
                }
            }
            again.into_iter().rev().for_each(|entry| open.push_front(entry));
        }
    }

    /// A node drawn at random goes; what it ran, and what waited, is placed on the others; then it comes back, empty.
    pub(super) fn depart(&mut self, rng: &mut Rng) {
        let gone = usize::try_from(rng.below(self.hosts.len() as u64)).unwrap_or(0);
        let mut displaced = BTreeSet::new();
        for (task, at) in self.at.iter_mut().enumerate() {
            if at.as_ref().is_some_and(|(host, _)| *host == gone) {
                *at = None;
                displaced.insert(task);
            }
        }
        self.displaced += displaced.len() as u64;
        if let (Some(left), Some(host)) = (self.left.get_mut(gone), self.hosts.get(gone)) {
            *left = Left::all(host);
        }
        self.displaced_now.append(&mut displaced);
        self.place_waiting(Some(gone));
        self.place_waiting(None);
    }

    /// Places what waits, in the order in which nodes do.
    fn place_waiting(&mut self, without: Option<usize>) {
        let none = BTreeSet::new();
        let here: Vec<usize> = (0..self.hosts.len()).filter(|at| Some(*at) != without).collect();
        let left = self.left.clone();
        let candidates: Vec<Candidate<'_>> = here.iter().map(|at| candidate(self.hosts, &left, *at, &none)).collect();
        let mut ground = Ground::new(Scene { nodes: &candidates, mix: self.mix }).with_k(self.k);
        let mut waiting: Vec<usize> = (0..self.tasks.len()).filter(|at| self.at.get(*at) == Some(&None)).collect();
        waiting.sort_by_cached_key(|at| self.tasks.get(*at).map(|task| order_key(&task.waiting())));
        for at in waiting {
            let Some(task) = self.tasks.get(at) else { continue };
            self.decisions += 1;
            let asking = ground.asks(&task.waiting());
            let Some(head) = ground.head_of(&asking) else { continue };
            let holds = ground.give(head, &asking);
            if here.get(head).is_some_and(|host| self.take(*host, at, holds)) && self.displaced_now.remove(&at) {
                self.moves += 1;
            }
        }
    }

    fn take(&mut self, host: usize, task: usize, holds: Vec<DeviceHold>) -> bool {
        let (Some(left), Some(at), Some(Task { spec, .. })) =
            (self.left.get_mut(host), self.at.get_mut(task), self.tasks.get(task))
        else {
            return false;
        };
        left.room = left.room.minus(&Room::needed(spec));
        device::take(&mut left.units, &holds);
        *at = Some((host, holds));
        true
    }

    /// Sums over the flock, all and what of it is given away: cpu, memory, devices.
    pub(super) fn given(&self) -> [(u128, u128); 3] {
        let mut sums = [(0, 0); 3];
        for (host, left) in self.hosts.iter().zip(&self.left) {
            let all = Left::all(host);
            let devices = |units: &[u32]| units.iter().copied().map(u64::from).sum();
            let pairs = [
                (all.room.base.cpu_milli, left.room.base.cpu_milli),
                (all.room.base.memory_bytes, left.room.base.memory_bytes),
                (devices(&all.units), devices(&left.units)),
            ];
            for (sum, (all, left)) in sums.iter_mut().zip(pairs) {
                *sum = (sum.0 + u128::from(all), sum.1 + u128::from(all - left));
            }
        }
        sums
    }

    pub(super) fn placed(&self) -> usize {
        self.at.iter().flatten().count()
    }

    /// Nodes on which more is held than they have: counted from the tasks, not from the ledger that decided.
    pub(super) fn overcommits(&self) -> usize {
        let mut held: BTreeMap<usize, (Room, Vec<u32>)> = BTreeMap::new();
        for (task, at) in self.tasks.iter().zip(&self.at) {
            let Some((at, holds)) = at else { continue };
            let units = self.hosts.get(*at).map_or(0, |host| host.units.len());
            let (room, parts) = held.entry(*at).or_insert_with(|| (Room::default(), vec![0; units]));
            *room = room.plus(&Room::needed(task.spec));
            for hold in holds {
                if let Some(part) = parts.get_mut(hold.unit as usize) {
                    *part += hold.milli;
                }
            }
        }
        let over = |(at, (room, parts)): &(&usize, &(Room, Vec<u32>))| {
            let all = self.hosts.get(**at).map(Left::all);
            all.is_none_or(|all| !all.room.holds(room) || parts.iter().zip(&all.units).any(|(part, all)| part > all))
        };
        held.iter().filter(over).count()
    }
}

impl Left {
    fn all(host: &Host) -> Self {
        let room = Room { base: host.header.allocatable, further: host.header.supply.further };
        Self { room, units: host.units.clone() }
    }
}

impl<'a> Task<'a> {
    /// Each task is a service of one replica.
    pub(super) fn new(stack: &StackName, at: usize, spec: &'a ServiceSpec) -> Self {
        let Ok(service) = ServiceName::new(&format!("task-{at}")) else {
            unreachable!("letters and digits are a name")
        };
        let service = ServiceKey { stack: stack.clone(), service };
        Self { replica: ReplicaKey { service, slot: Slot::Number(1) }, spec }
    }

    const fn waiting(&'a self) -> Waiting<'a> {
        Waiting { replica: &self.replica, spec: self.spec, refused_by: &[] }
    }
}

fn candidate<'t>(
    hosts: &'t [Host],
    left: &'t [Left],
    at: usize,
    none: &'t BTreeSet<(dunlin_gossip::model::Protocol, u16)>,
) -> Candidate<'t> {
    let (host, left) = (&hosts[at], &left[at]);
    Candidate {
        node: host.node,
        header: &host.header,
        room: left.room,
        units: &left.units,
        taken: none,
        services: &[],
        orders: dunlin_gossip::model::NodeOrders::none(),
        hash: host.hash,
        weight: host.weight,
    }
}

/// The stack of all tasks.
pub(super) fn stack() -> StackName {
    let Ok(stack) = StackName::new("trace") else { unreachable!("letters are a name") };
    stack
}

#[cfg(test)]
impl Flock<'_> {
    /// Where each task is.
    pub(super) fn hosts(&self) -> Vec<Option<usize>> {
        self.at.iter().map(|at| at.as_ref().map(|(host, _)| *host)).collect()
    }
}
