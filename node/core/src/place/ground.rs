//! The ledger of a plan: the candidates, what is known of each specification that came along, and what earlier replicas of the
//! plan would take.
//!
//! What depends on nodes alone is worked out once for all specifications that demand the same; what is left on a node is
//! looked up only where a replica might go, so that a decision costs one hash a node and little besides. Never: a claim.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{DeviceHold, Protocol, ServiceKey, Slot};

use super::company::{self, Company, Welcome};
use super::device::{self, Units};
use super::field::{ByWeight, Field, Nature};
use super::filter::{Candidate, Misfit, lacks, particular_misfit, unsuited, used_up};
use super::fit::{self, Fitted, Score};
use super::mix::{self as mixture, Mix};
use super::rank::{Rank, rank, replica_hash};
use super::room::Room;
use super::terms::Terms;
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
    /// Each specification that came along.
    kinds: Vec<Kind<'a>>,
    /// Where each of them lies in memory, for finding it again.
    known: BTreeMap<usize, usize>,
    /// Each service that came along, by number.
    services: BTreeMap<ServiceKey, usize>,
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

/// A replica that is being placed.
#[derive(Debug)]
pub(super) struct Asking<'a> {
    pub(super) waiting: Waiting<'a>,
    hash: u64,
    kind: usize,
    service: usize,
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
        self.best_k(&asking).first().map(|best| best.index)
    }

    /// True if a candidate has what a replica needs now.
    pub fn fits_on(&mut self, index: usize, waiting: &Waiting<'a>) -> bool {
        let asking = self.asks(waiting);
        self.admits(&asking, index)
    }

    /// True if a replica that left one candidate could be on another, and would do there no worse by its author's wishes and
    /// by how many of its service are beside it; nor would devices stand idle beside it that do not now.
    pub(crate) fn is_no_worse(&mut self, waiting: &Waiting<'a>, from: usize, to: usize) -> bool {
        let asking = self.asks(waiting);
        let (Some(old), Some(new)) = (self.scene.nodes.get(from), self.scene.nodes.get(to)) else { return false };
        let beside = |at: usize, node| self.here(at, node, &waiting.replica.service, Some(asking.service));
        let would_idle = waiting.spec.placing.devices.is_empty() && old.units.is_empty() && !new.units.is_empty();
        let is_welcome = match (self.welcome(&asking, to, new), self.welcome(&asking, from, old)) {
            (Ok(there), Ok(here)) => there <= here,
            // Where it was it could not be placed any more.
            (Ok(_), Err(_)) => true,
            (Err(_), _) => false,
        };
        is_welcome && !would_idle && beside(to, new) <= beside(from, old) && self.admits(&asking, to)
    }

    /// A replica that runs on a candidate leaves it. Who takes it back has undone that, save for ports and devices.
    pub(crate) fn leave(&mut self, index: usize, waiting: &Waiting<'a>) {
        let kind = self.kind(waiting);
        let service = self.service_of(kind, &waiting.replica.service);
        let (Some(room), Some(candidate)) = (self.room.get_mut(index), self.scene.nodes.get(index)) else { return };
        *room = room.plus(&Room::needed(waiting.spec));
        *self.gone.entry((service, index)).or_default() += 1;
        for kind in self.watched.get(service).into_iter().flatten() {
            if let Some(company) = self.kinds.get_mut(*kind).and_then(|kind| kind.company.as_mut()) {
                company.leave(candidate, &waiting.replica.service);
            }
        }
    }

    /// Gives a replica to a candidate. The devices that it gets.
    pub fn take(&mut self, index: usize, waiting: &Waiting<'a>) -> Vec<DeviceHold> {
        let kind = self.kind(waiting);
        let service = self.service_of(kind, &waiting.replica.service);
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

    /// The candidates on which a replica could be but for their room, in its rendezvous order.
    pub(super) fn would_suit(&mut self, waiting: &Waiting<'a>) -> Vec<(Rank, usize)> {
        let asking = self.asks(waiting);
        let suits = |index: usize| {
            let candidate = self.scene.nodes.get(index);
            candidate.is_some_and(|candidate| {
                particular_misfit(waiting, candidate).is_none() && self.welcome(&asking, index, candidate).is_ok()
            })
        };
        let ranks = self.field(&asking).into_iter().flat_map(|field| field.ranks(asking.hash));
        let mut all: Vec<(Rank, usize)> =
            ranks.filter(|(index, _)| suits(*index)).map(|(index, rank)| (rank, index)).collect();
        all.sort_unstable();
        all
    }

    /// What is left on a candidate, and of each of its devices.
    #[must_use]
    pub fn left(&self, index: usize) -> Option<(Room, &Units)> {
        let candidate = self.scene.nodes.get(index)?;
        Some((*self.room.get(index)?, self.units(index, candidate)))
    }

    /// The whole ladder of a replica, with each node's rank, and of those that compete by score their score.
    pub fn ladder(&mut self, waiting: &Waiting<'a>) -> Vec<(NodeId, Rank, Option<Score>)> {
        let asking = self.asks(waiting);
        let best = self.best_k(&asking);
        let rest = self.rest(&asking, &best);
        let scored = best.iter().map(|fitted| (fitted.node, fitted.rank, Some(fitted.score)));
        scored.chain(rest.into_iter().map(|(rank, node)| (node, rank, None))).collect()
    }

    /// Why a replica does not fit on each candidate, what was given away included; none where it does.
    pub fn misfits(&mut self, waiting: &Waiting<'a>) -> Vec<Option<Misfit>> {
        let asking = self.asks(waiting);
        let terms = Terms::of(waiting.spec);
        let all = self.scene.nodes.iter().zip(&self.room).enumerate();
        all.map(|(index, (candidate, room))| {
            if let Slot::Node(node) = waiting.replica.slot
                && node != candidate.node
            {
                return Some(Misfit::NotThisNode);
            }
            unsuited(&terms, waiting.spec, candidate)
                .or_else(|| self.special_misfit(&asking, index))
                .or_else(|| lacks(waiting.spec, candidate, room, self.units(index, candidate)))
        })
        .collect()
    }

    fn units(&self, index: usize, candidate: &Candidate<'a>) -> &Units {
        self.taken.get(&index).and_then(|taken| taken.units.as_deref()).unwrap_or(candidate.units)
    }

    /// How many live replicas of a service a candidate has, what was given away included.
    fn here(&self, index: usize, candidate: &Candidate<'_>, key: &ServiceKey, service: Option<usize>) -> u32 {
        let running = candidate.services.iter().find(|(known, _)| known == key).map_or(0, |(_, count)| *count);
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
        if let Some(number) = self.services.get(key) {
            return *number;
        }
        let number = self.given.len();
        self.services.insert(key.clone(), number);
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
        let service = self.number(key);
        let company = company::has_rules(&spec.placing).then(|| self.company(waiting, field, at));
        let has_ranges = !spec.demand().ranges.is_empty();
        let has_ports = has_ranges || spec.ports.iter().any(|p| p.published.is_some());
        self.kinds.push(Kind { field, service: (key, service), company, has_ports });
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
    pub(super) fn asks(&mut self, waiting: &Waiting<'a>) -> Asking<'a> {
        let hash = replica_hash(waiting.replica);
        let kind = self.kind(waiting);
        let service = self.service_of(kind, &waiting.replica.service);
        let is_special = self.kinds.get(kind).is_some_and(|kind| kind.has_ports || kind.company.is_some())
            || !waiting.refused_by.is_empty()
            || matches!(waiting.replica.slot, Slot::Node(_));
        Asking { waiting: *waiting, hash, kind, service, is_special }
    }

    fn field(&self, asking: &Asking<'_>) -> Option<&Field<'a>> {
        self.kinds.get(asking.kind).and_then(|kind| self.fields.get(kind.field))
    }

    /// The first [`K`] by rank on which it fits, best score first.
    pub(super) fn best_k(&self, asking: &Asking<'_>) -> Vec<Fitted> {
        let first = self.first(asking, self.k);
        let mut best: Vec<Fitted> = first.into_iter().filter_map(|(rank, i)| self.fitted(asking, i, rank)).collect();
        best.sort_unstable_by_key(Fitted::key);
        best
    }

    /// The candidates behind the first [`K`], by rank.
    fn rest(&self, asking: &Asking<'_>, best: &[Fitted]) -> Vec<(Rank, NodeId)> {
        let ranks = self.field(asking).into_iter().flat_map(|field| field.ranks(asking.hash));
        let behind = ranks.filter(|(index, _)| best.iter().all(|b| b.index != *index) && self.admits(asking, *index));
        let mut rest: Vec<(Rank, NodeId)> =
            behind.filter_map(|(index, rank)| Some((rank, self.node(index)?))).collect();
        rest.sort_unstable();
        rest
    }

    pub(super) fn node(&self, index: usize) -> Option<NodeId> {
        self.scene.nodes.get(index).map(|c| c.node)
    }

    fn rank(&self, asking: &Asking<'_>, index: usize) -> Option<Rank> {
        self.scene.nodes.get(index).map(|c| rank(asking.hash, c.hash, c.weight))
    }

    /// The first candidates by rank on which it fits, at most so many.
    fn first(&self, asking: &Asking<'_>, most: usize) -> Vec<(Rank, usize)> {
        if let Slot::Node(node) = asking.waiting.replica.slot {
            let index = self.scene.nodes.iter().position(|candidate| candidate.node == node);
            let only = index.filter(|index| self.admits(asking, *index));
            return only.and_then(|index| Some((self.rank(asking, index)?, index))).into_iter().collect();
        }
        let Some(field) = self.field(asking) else { return Vec::new() };
        let has_all = |index| self.is_able(asking, index);
        field.first(asking.hash, most, |index| self.node(index), has_all)
    }

    /// How many candidates on which it fits stand before this one.
    pub(super) fn count_before(&self, asking: &Asking<'_>, mine: usize) -> Option<usize> {
        if matches!(asking.waiting.replica.slot, Slot::Node(_)) {
            return Some(0);
        }
        let me = (self.rank(asking, mine)?, self.node(mine));
        let has_all = |index| self.is_able(asking, index);
        Some(self.field(asking)?.count_before(asking.hash, me, |index| self.node(index), has_all))
    }

    /// True if the replica fits, what was given away included.
    pub(super) fn admits(&self, asking: &Asking<'_>, index: usize) -> bool {
        self.field(asking).is_some_and(|field| field.suits(index)) && self.is_able(asking, index)
    }

    /// True if a candidate that suits the specification can take it now.
    fn is_able(&self, asking: &Asking<'_>, index: usize) -> bool {
        let Some(room) = self.room.get(index) else { return false };
        let spec = asking.waiting.spec;
        if !room.holds(&Room::needed(spec)) {
            return false;
        }
        let has_devices = || {
            let candidate = self.scene.nodes.get(index);
            candidate.is_some_and(|c| device::fits(&spec.placing.devices, &c.header.supply, self.units(index, c)))
        };
        (spec.placing.devices.is_empty() || has_devices())
            && (!asking.is_special || self.special_misfit(asking, index).is_none())
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
        let here = |service: &ServiceKey| self.here(index, candidate, service, self.services.get(service).copied());
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
