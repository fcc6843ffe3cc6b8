//! The ledger of a plan: the candidates, what is known of each specification that came along, and what earlier replicas of the
//! plan would take.
//!
//! What depends on nodes alone is worked out once for all specifications that demand the same; what is left on a node is
//! looked up only where a replica might go, so that a decision costs one hash a node and little besides. Nodes that are full
//! cost nothing: once most are, those that still have room for a demand are laid out anew. Never: a claim.

mod survey;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use dunlin_gossip::hash::hash64;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{DeviceHold, Protocol, ServiceKey, Slot};

use super::company::{self, Company, Welcome};
use super::demand::Demands;
use super::device::{self, Units};
use super::field::{ByWeight, Field, Nature, Rows};
use super::filter::{Candidate, Misfit, particular_misfit, used_up};
use super::fit::{self, Fitted};
use super::mix::{self as mixture, Mix};
use super::rank::{Rank, rank, replica_hash};
use super::room::Room;
use super::{K, Waiting};

/// What placement looks at: the candidates, and what is usually asked of them.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The candidates.
    pub nodes: &'a [Candidate<'a>],
    /// What the flock is asked to run.
    pub mix: &'a Mix,
}

impl<'a> Scene<'a> {
    /// Candidates of which nobody asks for devices.
    #[must_use]
    pub fn of(nodes: &'a [Candidate<'a>]) -> Self {
        Self { nodes, mix: &mixture::NONE }
    }
}

/// The candidates of one plan, and what earlier replicas of it would take.
#[derive(Debug)]
pub struct Ground<'a> {
    scene: Scene<'a>,
    k: usize,
    order: ByWeight,
    room: Vec<Room>,
    taken: BTreeMap<usize, Taken>,
    fields: Vec<Field<'a>>,
    demands: Demands<'a>,
    /// The index of each candidate, once a slot was asked for that is a node.
    indices: BTreeMap<NodeId, usize>,
    /// Each specification that came along.
    kinds: Vec<Kind<'a>>,
    /// Where each of them lies in memory, for finding it again.
    known: BTreeMap<usize, usize>,
    /// Each service that came along, by number; the hash of its name in front, so that few names have to be read.
    services: BTreeMap<(u64, ServiceKey), usize>,
    /// Of each service by its number: to which candidates, in order, how many replicas were given.
    given: Vec<Vec<(u32, u32)>>,
    /// Of a service by its number, and a candidate: how many replicas left it.
    gone: BTreeMap<(usize, usize), u32>,
    /// Of each service by its number: the kinds with rules about it.
    watched: Vec<Vec<usize>>,
}

/// What is known of a specification.
#[derive(Debug)]
struct Kind<'a> {
    field: usize,
    demand: usize,
    /// The service with which it came, and its number.
    service: (&'a ServiceKey, usize),
    company: Option<Company<'a>>,
    has_ports: bool,
}

#[derive(Clone, Debug, Default)]
struct Taken {
    ports: Vec<(Protocol, u16)>,
    /// What is left of the devices, once some were given away.
    units: Option<Vec<u32>>,
}

/// A replica that is being placed, looked up once.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    pub(super) waiting: Waiting<'a>,
    hash: u64,
    kind: usize,
    service: usize,
    /// The only candidate that can be meant, where its slot is a node.
    only: Option<usize>,
    /// A candidate that suits its specification and has room for it may still not take it.
    is_special: bool,
}

impl<'a> Ground<'a> {
    /// Nothing given away yet.
    #[must_use]
    pub fn new(scene: Scene<'a>) -> Self {
        Self {
            scene,
            k: K,
            order: ByWeight::new(scene.nodes),
            room: scene.nodes.iter().map(|c| c.room).collect(),
            taken: BTreeMap::new(),
            fields: Vec::new(),
            demands: Demands::default(),
            indices: BTreeMap::new(),
            kinds: Vec::new(),
            known: BTreeMap::new(),
            services: BTreeMap::new(),
            given: Vec::new(),
            gone: BTreeMap::new(),
            watched: Vec::new(),
        }
    }

    /// The same with another number of nodes that compete by score: to measure what the number is worth.
    #[must_use]
    pub fn with_k(self, k: usize) -> Self {
        Self { k, ..self }
    }

    /// The index of the candidate that would own a replica; none if it fits nowhere.
    pub fn head(&mut self, waiting: &Waiting<'a>) -> Option<usize> {
        let asking = self.asks(waiting);
        self.head_of(&asking)
    }

    /// [`Ground::head`] of what was looked up before.
    pub fn head_of(&mut self, asking: &Asking<'a>) -> Option<usize> {
        self.best_k(asking).first().map(|best| best.index)
    }

    /// True if a candidate has what a replica needs now.
    pub fn fits_on(&mut self, index: usize, waiting: &Waiting<'a>) -> bool {
        let asking = self.asks(waiting);
        self.admits(&asking, index)
    }

    /// True if a candidate has what was asked for.
    #[must_use]
    pub fn has_for(&self, asking: &Asking<'a>, index: usize) -> bool {
        self.admits(asking, index)
    }

    /// A replica that runs on a candidate leaves it. Who takes it back has undone that, save for ports and devices.
    pub(crate) fn leave(&mut self, index: usize, waiting: &Waiting<'a>) {
        let kind = self.kind(waiting);
        let service = self.service_of(kind, &waiting.replica.service);
        let (Some(room), Some(candidate)) = (self.room.get_mut(index), self.scene.nodes.get(index)) else { return };
        *room = room.plus(&Room::needed(waiting.spec));
        self.demands.forget();
        *self.gone.entry((service, index)).or_default() += 1;
        for kind in self.watched.get(service).into_iter().flatten() {
            if let Some(company) = self.kinds.get_mut(*kind).and_then(|kind| kind.company.as_mut()) {
                company.leave(candidate, &waiting.replica.service);
            }
        }
    }

    /// Gives a replica to a candidate. The devices that it gets.
    pub fn take(&mut self, index: usize, waiting: &Waiting<'a>) -> Vec<DeviceHold> {
        let asking = self.asks(waiting);
        self.give(index, &asking)
    }

    /// [`Ground::take`] of what was looked up before.
    pub fn give(&mut self, index: usize, asking: &Asking<'a>) -> Vec<DeviceHold> {
        let Asking { waiting, kind, service, .. } = *asking;
        let (Some(room), Some(candidate)) = (self.room.get_mut(index), self.scene.nodes.get(index)) else {
            return Vec::new();
        };
        *room = room.minus(&Room::needed(waiting.spec));
        let has_ports = self.kinds.get(kind).is_some_and(|kind| kind.has_ports);
        let requests = &waiting.spec.placing.devices;
        let mut holds = Vec::new();
        if has_ports || !requests.is_empty() {
            let taken = self.taken.entry(index).or_default();
            taken.ports.extend(waiting.spec.ports.iter().filter_map(|p| p.published.map(|n| (p.protocol, n))));
            if !requests.is_empty() {
                let units = taken.units.get_or_insert_with(|| candidate.units.to_vec());
                holds = device::choose(requests, &candidate.header.supply, units).unwrap_or_default();
                device::take(units, &holds);
            }
        }
        self.count(service, index, &waiting.replica.service);
        holds
    }

    /// Takes note that a candidate will make room for a replica, whose room does not come out of what is left.
    pub(super) fn promise(&mut self, index: usize, waiting: &Waiting<'a>) {
        let kind = self.kind(waiting);
        let service = self.service_of(kind, &waiting.replica.service);
        self.count(service, index, &waiting.replica.service);
    }

    /// One more replica of a service is on a candidate.
    fn count(&mut self, service: usize, index: usize, key: &ServiceKey) {
        let Some(candidate) = self.scene.nodes.get(index) else { return };
        if let Some(given) = self.given.get_mut(service) {
            let short = u32::try_from(index).unwrap_or(u32::MAX);
            match given.binary_search_by_key(&short, |(at, _)| *at) {
                Ok(at) => given.get_mut(at).into_iter().for_each(|(_, count)| *count += 1),
                Err(at) => given.insert(at, (short, 1)),
            }
        }
        for kind in self.watched.get(service).into_iter().flatten() {
            if let Some(company) = self.kinds.get_mut(*kind).and_then(|kind| kind.company.as_mut()) {
                company.take(candidate, key);
            }
        }
    }

    pub(super) fn candidate(&self, index: usize) -> Option<&'a Candidate<'a>> {
        self.scene.nodes.get(index)
    }

    /// What is left on a candidate, and of each of its devices.
    #[must_use]
    pub fn left(&self, index: usize) -> Option<(Room, &Units)> {
        let candidate = self.scene.nodes.get(index)?;
        Some((*self.room.get(index)?, self.units(index, candidate)))
    }

    fn units(&self, index: usize, candidate: &Candidate<'a>) -> &Units {
        self.taken.get(&index).and_then(|taken| taken.units.as_deref()).unwrap_or(candidate.units)
    }

    /// How many live replicas of a service a candidate has, what was given away included.
    fn here(&self, index: usize, candidate: &Candidate<'_>, key: &ServiceKey, service: Option<usize>) -> u32 {
        let running = candidate.has_of(key);
        let gone = service.filter(|_| !self.gone.is_empty()).and_then(|service| self.gone.get(&(service, index)));
        running.saturating_add(self.given_to(index, service)).saturating_sub(gone.copied().unwrap_or(0))
    }

    /// How many replicas of a service a candidate was given.
    fn given_to(&self, index: usize, service: Option<usize>) -> u32 {
        let given = service.and_then(|service| self.given.get(service)).map(Vec::as_slice).unwrap_or_default();
        let short = u32::try_from(index).unwrap_or(u32::MAX);
        let at = given.binary_search_by_key(&short, |(at, _)| *at).ok();
        at.and_then(|at| given.get(at)).map_or(0, |(_, count)| *count)
    }

    /// The number of a service, which mostly is the one with which its specification came.
    fn service_of(&mut self, kind: usize, key: &ServiceKey) -> usize {
        match self.kinds.get(kind) {
            Some(kind) if kind.service.0 == key => kind.service.1,
            Some(_) | None => self.number(key),
        }
    }

    fn number(&mut self, key: &ServiceKey) -> usize {
        let key = hashed(key);
        if let Some(number) = self.services.get(&key) {
            return *number;
        }
        let number = self.given.len();
        self.services.insert(key, number);
        self.given.push(Vec::new());
        self.watched.push(Vec::new());
        number
    }

    /// Where to look up what is known of this specification.
    fn kind(&mut self, waiting: &Waiting<'a>) -> usize {
        let address = core::ptr::from_ref(waiting.spec).addr();
        if let Some(kind) = self.known.get(&address) {
            return *kind;
        }
        let (spec, key, at) = (waiting.spec, &waiting.replica.service, self.kinds.len());
        let nature = Nature::of(spec);
        let field = self.fields.iter().position(|field| field.nature == nature).unwrap_or_else(|| {
            self.fields.push(Field::new(spec, self.scene.nodes, &self.order));
            self.fields.len() - 1
        });
        let demand = self.demands.number(field, spec);
        let service = self.number(key);
        let company = company::has_rules(&spec.placing).then(|| self.company(waiting, field, at));
        let has_ranges = !spec.demand().ranges.is_empty();
        let has_ports = has_ranges || spec.ports.iter().any(|p| p.published.is_some());
        self.kinds.push(Kind { field, demand, service: (key, service), company, has_ports });
        self.known.insert(address, at);
        at
    }

    /// Who else is there, for a specification with rules about that.
    fn company(&mut self, waiting: &Waiting<'a>, field: usize, kind: usize) -> Company<'a> {
        let (placing, own) = (&waiting.spec.placing, &waiting.replica.service);
        let suits = |index| self.fields.get(field).is_some_and(|field| field.suits(index));
        let mut company = Company::new(placing, own, self.scene.nodes, suits);
        let mut about: Vec<ServiceKey> = placing.affinities.iter().map(|a| a.meant(&own.stack)).collect();
        about.push(own.clone());
        about.sort();
        about.dedup();
        for key in about {
            let number = self.number(&key);
            self.watched.get_mut(number).into_iter().for_each(|kinds| kinds.push(kind));
            for (index, count) in self.given.get(number).into_iter().flatten() {
                let Some(candidate) = self.scene.nodes.get(*index as usize) else { continue };
                (0..*count).for_each(|_| company.take(candidate, &key));
            }
        }
        company
    }

    /// A replica, ready to be looked at.
    pub fn asks(&mut self, waiting: &Waiting<'a>) -> Asking<'a> {
        let hash = replica_hash(waiting.replica);
        let kind = self.kind(waiting);
        let service = self.service_of(kind, &waiting.replica.service);
        let is_special = self.kinds.get(kind).is_some_and(|kind| kind.has_ports || kind.company.is_some())
            || !waiting.refused_by.is_empty()
            || matches!(waiting.replica.slot, Slot::Node(_));
        let only = if let Slot::Node(node) = waiting.replica.slot { self.index_of(node) } else { None };
        Asking { waiting: *waiting, hash, kind, service, only, is_special }
    }

    fn index_of(&mut self, node: NodeId) -> Option<usize> {
        if self.indices.is_empty() {
            self.indices = self.scene.nodes.iter().enumerate().map(|(index, c)| (c.node, index)).collect();
        }
        self.indices.get(&node).copied()
    }

    fn field(&self, asking: &Asking<'_>) -> Option<&Field<'a>> {
        self.kinds.get(asking.kind).and_then(|kind| self.fields.get(kind.field))
    }

    /// The nodes that suit a replica, those that are known to lack room for it left out.
    fn rows(&self, asking: &Asking<'_>) -> Option<&Rows> {
        let (field, able) = self.kinds.get(asking.kind).and_then(|kind| self.demands.of(kind.demand))?;
        able.or_else(|| self.fields.get(field).map(|field| &field.rows))
    }

    /// Most of those that were looked at first could not take a replica: lays out anew who still has room for such.
    fn thin_out(&mut self, asking: &Asking<'_>) {
        let Some(rows) = self.rows(asking) else { return };
        let has_room = |index: usize| self.has_room(asking, index);
        // Else it is something else that speaks against them, and laying them out would have to be done again and again.
        if rows.count(has_room) * 8 > rows.len() * 7 {
            return;
        }
        let able = rows.only(has_room);
        if let Some(kind) = self.kinds.get(asking.kind) {
            self.demands.only(kind.demand, able);
        }
    }

    /// The first [`K`] by rank on which it fits, best score first.
    pub(super) fn best_k(&mut self, asking: &Asking<'_>) -> Vec<Fitted> {
        let (first, is_sparse) = self.first(asking, self.k);
        if is_sparse {
            self.thin_out(asking);
        }
        let mut best: Vec<Fitted> = first.into_iter().filter_map(|(rank, i)| self.fitted(asking, i, rank)).collect();
        best.sort_unstable_by_key(Fitted::key);
        best
    }

    pub(super) fn node(&self, index: usize) -> Option<NodeId> {
        self.scene.nodes.get(index).map(|c| c.node)
    }

    fn rank(&self, asking: &Asking<'_>, index: usize) -> Option<Rank> {
        self.scene.nodes.get(index).map(|c| rank(asking.hash, c.hash, c.weight))
    }

    /// The first candidates by rank on which it fits, at most so many; and whether most that were looked at could not take it.
    fn first(&self, asking: &Asking<'_>, most: usize) -> (Vec<(Rank, usize)>, bool) {
        if matches!(asking.waiting.replica.slot, Slot::Node(_)) {
            let only = asking.only.filter(|index| self.admits(asking, *index));
            return (only.and_then(|index| Some((self.rank(asking, index)?, index))).into_iter().collect(), false);
        }
        let Some(rows) = self.rows(asking) else { return (Vec::new(), false) };
        let has_all = |index| self.is_able(asking, index);
        rows.first(asking.hash, most, |index| self.node(index), has_all)
    }

    /// How many candidates on which it fits stand before this one.
    pub(super) fn count_before(&self, asking: &Asking<'_>, mine: usize) -> Option<usize> {
        if matches!(asking.waiting.replica.slot, Slot::Node(_)) {
            return Some(0);
        }
        let me = (self.rank(asking, mine)?, self.node(mine));
        let has_all = |index| self.is_able(asking, index);
        Some(self.rows(asking)?.count_before(asking.hash, me, |index| self.node(index), has_all))
    }

    /// True if the replica fits, what was given away included.
    pub(super) fn admits(&self, asking: &Asking<'_>, index: usize) -> bool {
        self.field(asking).is_some_and(|field| field.suits(index)) && self.is_able(asking, index)
    }

    /// True if a candidate that suits the specification can take it now.
    fn is_able(&self, asking: &Asking<'_>, index: usize) -> bool {
        self.has_room(asking, index) && (!asking.is_special || self.special_misfit(asking, index).is_none())
    }

    /// True if a candidate has the room and the devices.
    fn has_room(&self, asking: &Asking<'_>, index: usize) -> bool {
        let spec = asking.waiting.spec;
        let has_devices = || {
            let candidate = self.scene.nodes.get(index);
            candidate.is_some_and(|c| device::fits(&spec.placing.devices, &c.header.supply, self.units(index, c)))
        };
        self.room.get(index).is_some_and(|room| room.holds(&Room::needed(spec)))
            && (spec.placing.devices.is_empty() || has_devices())
    }

    /// What stands against a candidate that suits the specification and has room for it.
    fn special_misfit(&self, asking: &Asking<'_>, index: usize) -> Option<Misfit> {
        let waiting = &asking.waiting;
        let candidate = self.scene.nodes.get(index)?;
        let taken = self.taken.get(&index);
        let is_held =
            |port: &(Protocol, u16)| candidate.taken.contains(port) || taken.is_some_and(|t| t.ports.contains(port));
        let mut fixed = waiting.spec.ports.iter().filter_map(|p| p.published.map(|n| (p.protocol, n)));
        particular_misfit(waiting, candidate)
            .or_else(|| fixed.find(is_held).map(|(_, port)| Misfit::PortTaken(port)))
            .or_else(|| used_up(waiting.spec, candidate, self.given_to(index, Some(asking.service)) as usize))
            .or_else(|| self.welcome(asking, index, candidate).err())
    }

    fn welcome(&self, asking: &Asking<'_>, index: usize, candidate: &Candidate<'_>) -> Result<Welcome, Misfit> {
        let company = self.kinds.get(asking.kind).and_then(|kind| kind.company.as_ref());
        let here =
            |service: &ServiceKey| self.here(index, candidate, service, self.services.get(&hashed(service)).copied());
        company.map_or_else(|| Ok(Welcome::default()), |company| company.welcome(candidate, here))
    }

    /// The candidate with its score, if the replica fits.
    fn fitted(&self, asking: &Asking<'_>, index: usize, rank: Rank) -> Option<Fitted> {
        let candidate = self.scene.nodes.get(index)?;
        let welcome = self.welcome(asking, index, candidate).ok()?;
        let same_service = self.here(index, candidate, &asking.waiting.replica.service, Some(asking.service));
        let left = (self.room.get(index)?, self.units(index, candidate));
        let score = fit::score(asking.waiting.spec, candidate, left, self.scene.mix, welcome, same_service);
        Some(Fitted { node: candidate.node, index, rank, score })
    }
}

/// A service with the hash of its name in front.
fn hashed(key: &ServiceKey) -> (u64, ServiceKey) {
    (hash64(key.service.as_str().as_bytes()), key.clone())
}
