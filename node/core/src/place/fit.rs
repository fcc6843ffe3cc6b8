//! How well a replica fits, and the ledger of what the plan has already given away.
//!
//! The score, smaller first: wishes that are not met; replicas of the service at the same label value; replicas of the service on
//! the node (so that one lost node never takes a whole service with it while others have room); whether devices would stand idle
//! beside it; how much the fragments of devices grow; how unevenly cpu and memory would be left, in hundredths; best fit (the
//! fuller node); then the rendezvous rank. The consolidating tie-break matters more than k.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use dunlin_gossip::hash::mix;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{DeviceHold, Protocol, ServiceKey, ServiceSpec, Slot, Strategy};

use super::company::{self, Company, Welcome};
use super::device::{self, Units};
use super::filter::{Candidate, Misfit, lacks, particular_misfit, unsuited};
use super::mix::{self as mixture, Mix};
use super::rank::{Rank, SLACK, first_below, rank, rank_of, replica_hash};
use super::room::Room;
use super::terms::Terms;
use super::{K, Waiting};

/// How good a candidate is; smaller is better, the first difference decides.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, serde::Serialize)]
pub struct Score {
    /// The weights of the affinities that would not be met.
    pub unmet: u64,
    /// Replicas of the service at the same values of the labels over which it spreads.
    pub crowd: u64,
    /// Replicas of the service on the node.
    pub same_service: u32,
    /// One if devices would stand beside what asks for none.
    pub idle_devices: u32,
    /// By how much the fragments of its devices would grow, in 25ths of a device.
    pub fragments: i64,
    /// How unevenly cpu and memory would be left, in hundredths.
    pub uneven: u64,
    /// How much would be left (of a service that spreads: would not), in ten-thousandths of each resource.
    pub left: u64,
}

/// A node on which a replica fits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fitted {
    pub(super) node: NodeId,
    pub(super) index: usize,
    pub(super) rank: Rank,
    pub(super) score: Score,
}

impl Fitted {
    /// What best-of-k sorts by.
    pub(super) fn key(&self) -> (Score, Rank, NodeId) {
        (self.score, self.rank, self.node)
    }
}

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

/// The candidates of one plan: what does not change from replica to replica is worked out once, and what earlier replicas
/// of the plan would take is kept by candidate index.
///
/// The rank falls as the hash grows, so that among nodes of one weight most are told apart by their hashes alone.
#[derive(Debug)]
pub struct Ground<'a> {
    scene: Scene<'a>,
    k: usize,
    room: Vec<Room>,
    taken: BTreeMap<usize, Taken>,
    /// Node hash and candidate index, nodes of one weight side by side.
    order: Vec<(u64, usize)>,
    /// A weight, and where in the order its nodes are.
    weights: Vec<(u64, Range<usize>)>,
    /// Each specification that came along.
    kinds: Vec<Kind<'a>>,
}

/// What is known of a specification.
#[derive(Debug)]
struct Kind<'a> {
    spec: &'a ServiceSpec,
    /// Which candidates suit it and have room for it now.
    fits: Vec<bool>,
    company: Option<Company<'a>>,
}

#[derive(Clone, Debug, Default)]
struct Taken {
    ports: Vec<(Protocol, u16)>,
    services: Vec<ServiceKey>,
    /// What is left of the devices, once some were given away.
    units: Option<Vec<u32>>,
}

impl<'a> Ground<'a> {
    /// Nothing given away yet.
    #[must_use]
    pub fn new(scene: Scene<'a>) -> Self {
        let nodes = scene.nodes;
        let mut sorted: Vec<(u64, u64, usize)> =
            nodes.iter().enumerate().map(|(index, c)| (c.weight, c.hash, index)).collect();
        sorted.sort_unstable_by_key(|(weight, _, index)| (*weight, *index));
        let mut weights: Vec<(u64, Range<usize>)> = Vec::new();
        for run in sorted.chunk_by(|a, b| a.0 == b.0) {
            let start = weights.last().map_or(0, |(_, range)| range.end);
            weights.extend(run.first().map(|(weight, ..)| (*weight, start..start + run.len())));
        }
        Self {
            scene,
            k: K,
            room: nodes.iter().map(|c| c.room).collect(),
            taken: BTreeMap::new(),
            order: sorted.into_iter().map(|(_, hash, index)| (hash, index)).collect(),
            weights,
            kinds: Vec::new(),
        }
    }

    /// The same with another number of nodes that compete by score: to measure what the number is worth.
    #[must_use]
    pub const fn with_k(mut self, k: usize) -> Self {
        self.k = k;
        self
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

    /// Gives a replica to a candidate. The devices that it gets.
    pub fn take(&mut self, index: usize, waiting: &Waiting<'_>) -> Vec<DeviceHold> {
        let (Some(room), Some(candidate)) = (self.room.get_mut(index), self.scene.nodes.get(index)) else {
            return Vec::new();
        };
        *room = room.minus(&Room::needed(waiting.spec));
        let taken = self.taken.entry(index).or_default();
        taken.ports.extend(waiting.spec.ports.iter().filter_map(|p| p.published.map(|n| (p.protocol, n))));
        taken.services.push(waiting.replica.service.clone());
        let mut holds = Vec::new();
        let requests = &waiting.spec.placing.devices;
        if !requests.is_empty() {
            let units = taken.units.get_or_insert_with(|| candidate.units.to_vec());
            holds = device::choose(requests, &candidate.header.supply, units).unwrap_or_default();
            device::take(units, &holds);
        }
        let (room, units) = (*room, taken.units.as_deref().unwrap_or(candidate.units));
        for kind in &mut self.kinds {
            if let Some(fits) = kind.fits.get_mut(index) {
                *fits = *fits && lacks(kind.spec, candidate, &room, units).is_none();
            }
            if let Some(company) = &mut kind.company {
                company.take(candidate, &waiting.replica.service);
            }
        }
        holds
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
        let rest = super::rest(&asking, self, &best);
        let scored = best.iter().map(|fitted| (fitted.node, fitted.rank, Some(fitted.score)));
        scored.chain(rest.iter().map(|fitted| (fitted.node, fitted.rank, None))).collect()
    }

    fn units(&self, index: usize, candidate: &Candidate<'a>) -> &Units {
        self.taken.get(&index).and_then(|taken| taken.units.as_deref()).unwrap_or(candidate.units)
    }

    /// How many live replicas of a service a candidate has, what was given away included.
    fn here(&self, index: usize, candidate: &Candidate<'_>, service: &ServiceKey) -> u32 {
        let planned = self.taken.get(&index).map_or(0, |t| t.services.iter().filter(|s| *s == service).count());
        let running = candidate.services.iter().find(|(known, _)| known == service).map_or(0, |(_, count)| *count);
        running.saturating_add(u32::try_from(planned).unwrap_or(u32::MAX))
    }

    /// Where to look up what is known of this specification.
    fn kind(&mut self, waiting: &Waiting<'a>) -> usize {
        let spec = waiting.spec;
        let known = self.kinds.iter().position(|kind| core::ptr::eq(kind.spec, spec));
        known.unwrap_or_else(|| {
            let terms = Terms::of(spec);
            let suits = |c: &Candidate<'_>| unsuited(&terms, spec, c).is_none();
            let suit: Vec<bool> = self.scene.nodes.iter().map(&suits).collect();
            let company = company::has_rules(&spec.placing).then(|| {
                let mut company = Company::new(&spec.placing, &waiting.replica.service, self.scene.nodes, suits);
                for (index, taken) in &self.taken {
                    let candidate = self.scene.nodes.get(*index);
                    for (candidate, service) in
                        candidate.into_iter().flat_map(|c| taken.services.iter().map(move |s| (c, s)))
                    {
                        company.take(candidate, service);
                    }
                }
                company
            });
            let rooms = self.scene.nodes.iter().zip(&self.room).zip(suit).enumerate();
            let fits = rooms.map(|(index, ((candidate, room), suits))| {
                suits && lacks(spec, candidate, room, self.units(index, candidate)).is_none()
            });
            let fits = fits.collect();
            self.kinds.push(Kind { spec, fits, company });
            self.kinds.len() - 1
        })
    }

    /// A replica, ready to be looked at.
    pub(super) fn asks(&mut self, waiting: &Waiting<'a>) -> Asking<'a> {
        let hash = replica_hash(waiting.replica);
        let has_ports = waiting.spec.ports.iter().any(|p| p.published.is_some());
        let kind = self.kind(waiting);
        let has_rules = self.kinds.get(kind).is_some_and(|kind| kind.company.is_some());
        Asking { waiting: *waiting, hash, kind, is_special: has_ports || has_rules }
    }

    /// The first [`K`] by rank on which it fits, best score first.
    pub(super) fn best_k(&self, asking: &Asking<'_>) -> Vec<Fitted> {
        let first = self.first(asking, self.k);
        let mut best: Vec<Fitted> = first.iter().filter_map(|(rank, i)| self.fitted(asking, *i, *rank)).collect();
        best.sort_unstable_by_key(Fitted::key);
        best
    }

    /// The hashes with a replica and the indices of the nodes of each weight.
    fn classes(&self, replica: u64) -> impl Iterator<Item = (u64, impl Iterator<Item = (u64, usize)>)> {
        self.weights.iter().map(move |(weight, range)| {
            let order = self.order.get(range.clone()).unwrap_or_default();
            (*weight, order.iter().map(move |(node, index)| (mix(replica, *node), *index)))
        })
    }

    /// Each candidate's place in the replica's rendezvous order.
    pub(super) fn ranks(&self, asking: &Asking<'_>) -> impl Iterator<Item = (usize, Rank)> {
        let rank = |weight, hash, index| (index, rank_of(hash, weight));
        self.classes(asking.hash)
            .flat_map(move |(weight, class)| class.map(move |(hash, index)| rank(weight, hash, index)))
    }

    pub(super) fn rank(&self, asking: &Asking<'_>, index: usize) -> Option<Rank> {
        self.scene.nodes.get(index).map(|c| rank(asking.hash, c.hash, c.weight))
    }

    pub(super) fn node(&self, index: usize) -> Option<NodeId> {
        self.scene.nodes.get(index).map(|c| c.node)
    }

    /// The first candidates by rank on which it fits, at most so many.
    pub(super) fn first(&self, asking: &Asking<'_>, most: usize) -> Vec<(Rank, usize)> {
        let mut all: Vec<(Rank, Option<NodeId>, usize)> = Vec::new();
        for (weight, class) in self.classes(asking.hash) {
            let mut first: Vec<(Rank, Option<NodeId>, u64, usize)> = Vec::with_capacity(most + 1);
            let mut floor = 0;
            for (hash, index) in class {
                if hash < floor || !self.admits(asking, index) {
                    continue;
                }
                let entry = (rank_of(hash, weight), self.node(index), hash, index);
                first.insert(first.partition_point(|other| *other < entry), entry);
                first.truncate(most);
                if first.len() == most {
                    floor = first.last().map_or(0, |(_, _, hash, _)| hash.saturating_sub(SLACK));
                }
            }
            all.extend(first.into_iter().map(|(rank, node, _, index)| (rank, node, index)));
        }
        all.sort_unstable();
        all.truncate(most);
        all.into_iter().map(|(rank, _, index)| (rank, index)).collect()
    }

    /// How many candidates on which it fits stand before this one.
    pub(super) fn count_before(&self, asking: &Asking<'_>, mine: usize) -> Option<usize> {
        let (my_rank, me) = (self.rank(asking, mine)?, self.node(mine));
        let mut count = 0;
        for (weight, class) in self.classes(asking.hash) {
            let edge = first_below(my_rank, weight);
            for (hash, index) in class {
                let ties = || rank_of(hash, weight) == my_rank && self.node(index) < me;
                if (hash >= edge || (hash >= edge.saturating_sub(SLACK) && ties())) && self.admits(asking, index) {
                    count += 1;
                }
            }
        }
        Some(count)
    }

    /// True if the replica fits, what was given away included.
    pub(super) fn admits(&self, asking: &Asking<'_>, index: usize) -> bool {
        let fits = self.kinds.get(asking.kind).and_then(|kind| kind.fits.get(index)) == Some(&true);
        fits && (!asking.is_particular() || self.special_misfit(asking, index).is_none())
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
            .or_else(|| self.welcome(asking, index, candidate).err())
    }

    fn welcome(&self, asking: &Asking<'_>, index: usize, candidate: &Candidate<'_>) -> Result<Welcome, Misfit> {
        let company = self.kinds.get(asking.kind).and_then(|kind| kind.company.as_ref());
        company.map_or_else(
            || Ok(Welcome::default()),
            |company| company.welcome(candidate, |service| self.here(index, candidate, service)),
        )
    }

    /// Why a replica does not fit on a candidate, what was given away included; none if it does.
    pub fn misfit(&mut self, index: usize, waiting: &Waiting<'a>) -> Option<Misfit> {
        let asking = self.asks(waiting);
        let candidate = self.scene.nodes.get(index)?;
        if let Slot::Node(node) = waiting.replica.slot
            && node != candidate.node
        {
            return Some(Misfit::NotThisNode);
        }
        unsuited(&Terms::of(waiting.spec), waiting.spec, candidate)
            .or_else(|| self.special_misfit(&asking, index))
            .or_else(|| lacks(waiting.spec, candidate, self.room.get(index)?, self.units(index, candidate)))
    }

    /// The candidate with its score, if the replica fits.
    pub(super) fn fitted(&self, asking: &Asking<'_>, index: usize, rank: Rank) -> Option<Fitted> {
        let candidate = self.scene.nodes.get(index).filter(|_| self.admits(asking, index))?;
        let spec = asking.waiting.spec;
        let welcome = self.welcome(asking, index, candidate).ok()?;
        let before = *self.room.get(index)?;
        let room = before.minus(&Room::needed(spec));
        let all = candidate.header.allocatable;
        let cpu = share(room.base.cpu_milli, all.cpu_milli);
        let mut left = cpu + share(room.base.memory_bytes, all.memory_bytes);
        let mut uneven = cpu.abs_diff(share(room.base.memory_bytes, all.memory_bytes)) / 100;
        let mut fragments = 0;
        let units = self.units(index, candidate);
        if !units.is_empty() {
            let mut after = units.to_vec();
            let holds = device::choose(&spec.placing.devices, &candidate.header.supply, &after).unwrap_or_default();
            device::take(&mut after, &holds);
            let supply = &candidate.header.supply;
            fragments = growth(
                self.scene.mix.fragments(&before, supply, units),
                self.scene.mix.fragments(&room, supply, &after),
            );
            let idle: u64 = after.iter().copied().map(u64::from).sum();
            (left, uneven) = (cpu + share(idle, after.len() as u64 * 1_000), 0);
        }
        let same_service = self.here(index, candidate, &asking.waiting.replica.service);
        let idle_devices = u32::from(spec.placing.devices.is_empty() && !units.is_empty());
        let packed =
            Score { unmet: welcome.unmet, crowd: welcome.crowd, same_service, idle_devices, fragments, uneven, left };
        let score = match spec.placing.strategy {
            Strategy::Apart => packed,
            Strategy::Binpack => Score { same_service: 0, ..packed },
            Strategy::Spread => Score { fragments: 0, uneven: 0, left: FULL.saturating_sub(left), ..packed },
        };
        Some(Fitted { node: candidate.node, index, rank, score })
    }
}

/// A replica that is being placed.
#[derive(Debug)]
pub(super) struct Asking<'a> {
    pub(super) waiting: Waiting<'a>,
    hash: u64,
    kind: usize,
    /// It has fixed ports, or rules about others.
    is_special: bool,
}

impl Asking<'_> {
    /// True if a candidate that suits its specification and has room for it may still not take it.
    fn is_particular(&self) -> bool {
        self.is_special || !self.waiting.refused_by.is_empty() || matches!(self.waiting.replica.slot, Slot::Node(_))
    }
}

/// Two resources, nothing of them taken, in ten-thousandths.
const FULL: u64 = 20_000;

/// By how much fragments grow, in 25ths of a device. Coarse by intent: what differs by less is told apart by best fit.
fn growth(before: u64, after: u64) -> i64 {
    /// 40 thousandths of a device, in the unit of fragments.
    const STEP: i128 = 40 << 16;
    let grown = i128::from(after) - i128::from(before);
    i64::try_from((grown + STEP / 2).div_euclid(STEP)).unwrap_or(i64::MAX)
}

/// Part of a whole in ten-thousandths.
fn share(part: u64, whole: u64) -> u64 {
    let whole = u128::from(whole.max(1));
    u64::try_from(u128::from(part) * 10_000 / whole).unwrap_or(u64::MAX)
}

/// Size class of a specification: first by devices, then a power of two of its weight, so that small differences do not
/// reorder.
pub(super) fn size_class(spec: &ServiceSpec) -> (u64, u32) {
    let devices = spec.placing.devices.iter().map(|d| u64::from(d.count) * u64::from(d.milli)).sum();
    (devices, 64 - super::rank::weight(&spec.reservation).leading_zeros())
}

/// How many rules narrow where it may be, besides constraints and ports.
pub(super) fn demands(spec: &ServiceSpec) -> usize {
    let placing = &spec.placing;
    let models = placing.devices.iter().filter(|d| !d.models.is_empty()).count();
    let hard = placing.affinities.iter().filter(|a| a.weight.is_none()).count();
    models + hard + placing.skews.len() + usize::from(placing.max_per_node.is_some())
}
