//! What has to go so that something more important fits: asked only once a replica fits nowhere.
//!
//! Of a node's tenants only those of *strictly* lower priority can go, and of these only those whose own bound lets them: so
//! nothing is ever ended for its like, and no chain of ends comes back to where it began. The first [`K`] nodes of the
//! replica's rendezvous order on which it would fit compete; who ends the fewest comes first on the ladder, then who ends the
//! least important, then the smallest. Never: a node that ends what another node runs. Who stands first ends its own.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{AllocId, Allocation, Protocol, ReplicaKey, ServiceSpec};

use super::device;
use super::filter::Candidate;
use super::ground::Ground;
use super::rank::{Rank, weight};
use super::room::Room;
use super::{K, Waiting};

/// Replicas that one plan ends others for. The rest are looked at again soon.
pub const MAX_AT_ONCE: usize = 64;
/// Up to so many tenants all pairs are tried.
const MAX_PAIRS: usize = 48;

/// What a node runs, or has promised to.
#[derive(Clone, Copy, Debug)]
pub struct Tenant<'a> {
    /// Which allocation.
    pub id: AllocId,
    /// What it is.
    pub alloc: &'a Allocation,
    /// What it reserves.
    pub room: Room,
    /// Its specification, if it is wanted now; what is not is no reason to end anything.
    pub spec: Option<&'a ServiceSpec>,
    /// It is about to end anyway.
    pub goes: bool,
}

impl Tenant<'_> {
    /// True if a replica of this priority may end it.
    fn gives_way(&self, priority: i32) -> bool {
        let Some(spec) = self.spec.filter(|_| !self.goes) else { return false };
        let is_lower = spec.priority < priority || (planted(Bug::PreemptsItsLike) && spec.priority == priority);
        is_lower && spec.demand().standing.preemptible.by(priority)
    }
}

/// What would have to end on a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Price {
    /// Which allocations, and what they are.
    pub victims: Vec<(AllocId, ReplicaKey)>,
    /// The highest priority among them.
    highest: i32,
    /// Their sizes in sum.
    size: u64,
}

/// What has to end on a node so that a replica that suits it fits. Nothing at all: what goes anyway makes the room. None: it
/// would not fit even so.
///
/// `promised` is what else the node has promised to make room for.
#[must_use]
pub fn price(
    waiting: &Waiting<'_>,
    candidate: &Candidate<'_>,
    tenants: &[Tenant<'_>],
    promised: &Room,
) -> Option<Price> {
    let spec = waiting.spec;
    let mut able: Vec<&Tenant<'_>> = tenants.iter().filter(|tenant| tenant.gives_way(spec.priority)).collect();
    able.sort_by_key(|tenant| importance(tenant));
    let fits = |gone: &[&Tenant<'_>]| fits_without((spec, promised), candidate, tenants, gone);
    let total = |victims: &[&Tenant<'_>]| Price {
        victims: victims.iter().map(|tenant| (tenant.id, tenant.alloc.replica.clone())).collect(),
        highest: victims.iter().map(|tenant| importance(tenant).0).max().unwrap_or(i32::MIN),
        size: victims.iter().map(|tenant| importance(tenant).1).sum(),
    };
    if fits(&[]) {
        return Some(total(&[]));
    }
    if !fits(&able) {
        return None;
    }
    if let Some(one) = able.iter().find(|one| fits(&[one])) {
        return Some(total(&[one]));
    }
    if able.len() <= MAX_PAIRS {
        // In the order of the more important of the two.
        let pairs = (0..able.len()).flat_map(|high| (0..high).map(move |low| (low, high)));
        let mut pairs = pairs.filter_map(|(low, high)| Some([*able.get(low)?, *able.get(high)?]));
        if let Some(pair) = pairs.find(|pair| fits(pair)) {
            return Some(total(&pair));
        }
    }
    // As many as possible stay, the most important first, and of these the smallest.
    let mut gone = able.clone();
    able.sort_by_key(|tenant| (core::cmp::Reverse(importance(tenant).0), importance(tenant).1));
    for stays in able {
        let rest: Vec<&Tenant<'_>> = gone.iter().filter(|other| other.id != stays.id).copied().collect();
        if fits(&rest) {
            gone = rest;
        }
    }
    Some(total(&gone))
}

/// What decides who goes first: priority, size, then the name.
fn importance<'a>(tenant: &Tenant<'a>) -> (i32, u64, &'a ReplicaKey) {
    let priority = tenant.spec.map_or(i32::MAX, |spec| spec.priority);
    (priority, weight(&tenant.room.base), &tenant.alloc.replica)
}

/// True if a node has all that a specification needs once these, and what goes anyway, are gone.
fn fits_without(
    (spec, promised): (&ServiceSpec, &Room),
    candidate: &Candidate<'_>,
    tenants: &[Tenant<'_>],
    gone: &[&Tenant<'_>],
) -> bool {
    let stays = tenants.iter().filter(|t| !t.goes && gone.iter().all(|other| other.id != t.id));
    let supply = &candidate.header.supply;
    let offered = Room { base: candidate.header.allocatable, further: supply.further };
    let mut units = device::whole(supply);
    let (mut reserved, mut taken) = (Room::needed(spec).plus(promised), BTreeSet::<(Protocol, u16)>::new());
    for tenant in stays {
        reserved = reserved.plus(&tenant.room);
        device::take(&mut units, tenant.alloc.held.as_ref().map_or(&[], |held| &held.devices));
        taken.extend(tenant.alloc.ports.iter().map(|port| (port.protocol, port.outer)));
    }
    let mut fixed = spec.ports.iter().filter_map(|port| Some((port.protocol, port.published?)));
    offered.holds(&reserved)
        && device::choose(&spec.placing.devices, supply, &units).is_some()
        && !fixed.any(|port| taken.contains(&port))
}

/// A node on which a replica would fit.
type Offer = (usize, Rank, Price);

/// Who would end what for replicas that fit nowhere, one after the other.
pub struct Preemption<'a, F> {
    tenants: F,
    known: BTreeMap<usize, Vec<Tenant<'a>>>,
    promised: BTreeMap<usize, Room>,
}

impl<F> core::fmt::Debug for Preemption<'_, F> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Preemption").field("known", &self.known.len()).finish_non_exhaustive()
    }
}

impl<'a, F: Fn(NodeId) -> Vec<Tenant<'a>>> Preemption<'a, F> {
    /// Nothing ended yet. `tenants` says what a node runs.
    pub const fn new(tenants: F) -> Self {
        Self { tenants, known: BTreeMap::new(), promised: BTreeMap::new() }
    }

    /// The nodes that would make room for a replica, who should do it first in front, by their index: at most [`K`], and nobody
    /// where nothing that may end would be enough. None where nothing has to end.
    pub fn ladder<'g>(&mut self, waiting: &Waiting<'g>, ground: &mut Ground<'g>) -> Option<Vec<(usize, Price)>> {
        let mut offers: Vec<Offer> = Vec::new();
        for (rank, index) in ground.would_suit(waiting) {
            let Some(candidate) = ground.candidate(index) else { continue };
            let tenants = self.known.entry(index).or_insert_with(|| (self.tenants)(candidate.node));
            let promised = self.promised.get(&index).copied().unwrap_or_default();
            match price(waiting, candidate, tenants, &promised) {
                Some(price) if price.victims.is_empty() => return None,
                Some(price) => offers.push((index, rank, price)),
                None => {}
            }
            if offers.len() == K {
                break;
            }
        }
        offers.sort_by(|(_, rank, price), (_, other_rank, other)| {
            let key = |price: &Price, rank: &Rank| (price.victims.len(), price.highest, price.size, *rank);
            key(price, rank).cmp(&key(other, other_rank))
        });
        Some(offers.into_iter().map(|(index, _, price)| (index, price)).collect())
    }

    /// Takes note that a node makes room for a replica.
    pub fn take<'g>(&mut self, index: usize, price: &Price, waiting: &Waiting<'g>, ground: &mut Ground<'g>) {
        if let Some(tenants) = self.known.get_mut(&index) {
            tenants.iter_mut().filter(|t| price.victims.iter().any(|(id, _)| *id == t.id)).for_each(|t| t.goes = true);
        }
        let promised = self.promised.entry(index).or_default();
        *promised = promised.plus(&Room::needed(waiting.spec));
        ground.promise(index, waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::super::rank;
    use super::super::tests::{header_of, service_key, spec};
    use super::*;
    use alloc::format;
    use dunlin_gossip::model::{Epoch, NodeHeader, Phase, Preemptible, Resources, RevisionId, Slot};
    use dunlin_gossip::rng::{Rng, Seed};
    use dunlin_gossip::time::Wall;

    fn candidate(header: &NodeHeader) -> Candidate<'_> {
        static FREE: BTreeSet<(Protocol, u16)> = BTreeSet::new();
        Candidate {
            node: NodeId([1; 16]),
            header,
            room: Room::default(),
            units: &[],
            taken: &FREE,
            services: &[],
            orders: dunlin_gossip::model::NodeOrders::none(),
            hash: rank::node_hash(NodeId([1; 16])),
            weight: 1,
        }
    }

    fn sized(priority: i32, cpu_milli: u64) -> ServiceSpec {
        let mut spec = spec();
        spec.reservation = Resources { cpu_milli, memory_bytes: 1 << 20 };
        spec.priority = priority;
        spec
    }

    fn running(n: u32, spec: &ServiceSpec) -> Allocation {
        Allocation {
            replica: ReplicaKey { service: service_key("old"), slot: Slot::Number(n) },
            revision: RevisionId(1),
            epoch: Epoch(1),
            reservation: spec.reservation,
            ports: alloc::vec![],
            ready_once: true,
            phase: Phase::Healthy,
            ready: true,
            endpoint: None,
            restarts: 0,
            since: Wall(0),
            detail: alloc::string::String::new(),
            held: Default::default(),
        }
    }

    /// What a replica of this size and priority ends on a node of 4,000, where these run.
    fn ends(asks: &ServiceSpec, runs: &[ServiceSpec]) -> Option<Vec<usize>> {
        let header = header_of(1);
        let allocs: Vec<Allocation> = runs.iter().enumerate().map(|(n, spec)| running(n as u32, spec)).collect();
        let tenant = |(n, alloc): (usize, _)| Tenant {
            id: AllocId(n as u64),
            alloc,
            room: Room::needed(&runs[n]),
            spec: Some(&runs[n]),
            goes: false,
        };
        let tenants: Vec<Tenant<'_>> = allocs.iter().enumerate().map(tenant).collect();
        let replica = ReplicaKey { service: service_key("new"), slot: Slot::Number(1) };
        let waiting = Waiting { replica: &replica, spec: asks, refused_by: &[] };
        let price = price(&waiting, &candidate(&header), &tenants, &Room::default())?;
        let mut ends: Vec<usize> = price.victims.iter().map(|(id, _)| id.0 as usize).collect();
        ends.sort_unstable();
        Some(ends)
    }

    #[test]
    fn the_fewest_then_the_least_important_then_the_smallest_make_way() {
        let full = [sized(0, 1_000), sized(1, 2_000), sized(0, 1_000)];
        assert_eq!(ends(&sized(5, 1_000), &full), Some(alloc::vec![0]), "one of the least important is enough");
        assert_eq!(ends(&sized(5, 1_500), &full), Some(alloc::vec![1]), "one goes rather than two");
        assert_eq!(ends(&sized(5, 2_500), &full), Some(alloc::vec![0, 1]));
        assert_eq!(ends(&sized(1, 2_000), &full), Some(alloc::vec![0, 2]), "its like stays");
        assert_eq!(ends(&sized(1, 2_001), &full), None);
        assert_eq!(ends(&sized(0, 1), &full), None);
        assert_eq!(ends(&sized(0, 4_000), &[]), Some(alloc::vec![]));
    }

    #[test]
    fn a_bound_keeps_what_would_have_to_make_way() {
        let bound = |preemptible| {
            let mut spec = sized(0, 4_000);
            spec.placing.0.tolerance.0.demand.0.standing.0.preemptible = preemptible;
            [spec]
        };
        assert_eq!(ends(&sized(9, 1), &bound(Preemptible::Never)), None);
        assert_eq!(ends(&sized(9, 1), &bound(Preemptible::From(10))), None);
        assert_eq!(ends(&sized(10, 1), &bound(Preemptible::From(10))), Some(alloc::vec![0]));
        assert_eq!(ends(&sized(0, 1), &bound(Preemptible::From(-5))), None, "never its like");
    }

    /// Held against every set of tenants: what goes suffices, nothing of it could stay, and one alone goes where one can.
    #[test]
    fn what_makes_way_is_needed() {
        for seed in 0..500 {
            let mut rng = Seed(seed).rng();
            let drawn = |rng: &mut Rng| sized(rng.below(4) as i32, 100 * (1 + rng.below(15)));
            let mut runs: Vec<ServiceSpec> = Vec::new();
            loop {
                let next = drawn(&mut rng);
                let sum: u64 = runs.iter().chain([&next]).map(|spec| spec.reservation.cpu_milli).sum();
                if sum > 4_000 || runs.len() == 9 {
                    break;
                }
                runs.push(next);
            }
            let asks = drawn(&mut rng);
            let found = ends(&asks, &runs);
            let sum = |set: u32| -> u64 {
                let left = runs.iter().enumerate().filter(|(n, _)| set >> n & 1 == 0);
                left.map(|(_, spec)| spec.reservation.cpu_milli).sum()
            };
            let may = |set: u32| (0..runs.len()).all(|n| set >> n & 1 == 0 || runs[n].priority < asks.priority);
            let enough = |set: u32| may(set) && sum(set) + asks.reservation.cpu_milli <= 4_000;
            let fewest = (0..1_u32 << runs.len()).filter(|set| enough(*set)).map(u32::count_ones).min();
            let set = found.as_ref().map(|ends| ends.iter().fold(0, |set, n| set | 1 << n));
            let text = format!("seed {seed}: {found:?}");
            assert_eq!(set.is_some(), fewest.is_some(), "{text}");
            let (Some(set), Some(fewest)) = (set, fewest) else { continue };
            assert!(enough(set), "{text}");
            assert!((0..runs.len()).all(|n| set >> n & 1 == 0 || !enough(set & !(1 << n))), "{text}");
            assert!(fewest > 2 || set.count_ones() == fewest, "{text}");
        }
    }
}
