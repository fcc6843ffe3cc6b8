//! Placement once more, naively: every sum anew from the list of what is where, every node looked at. Random histories show
//! that the fast path decides the same.

use super::rank::replica_hash;
use super::*;
use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use dunlin_gossip::model::Slot;
use dunlin_gossip::model::{
    Affinity, DeviceGroup, DeviceHold, DeviceRequest, Further, NodeHeader, Placing, Protocol, Resources, ServiceKey,
    Skew, Strategy, Supply,
};
use dunlin_gossip::rng::{Rng, Seed};

use super::tests::{header_of, port_of, service_key, spec};
use proptest::prelude::*;

struct Node {
    id: NodeId,
    header: NodeHeader,
}

struct Placed {
    on: NodeId,
    replica: ReplicaKey,
    spec: usize,
    holds: Vec<DeviceHold>,
}

struct World {
    nodes: Vec<Node>,
    specs: Vec<ServiceSpec>,
    placed: Vec<Placed>,
}

/// A node's part of the world, as the fast path is given it.
struct Facts {
    room: Room,
    units: Vec<u32>,
    ports: BTreeSet<(Protocol, u16)>,
    services: Vec<(ServiceKey, u32)>,
}

impl World {
    fn on(&self, node: NodeId) -> impl Iterator<Item = &Placed> {
        self.placed.iter().filter(move |placed| placed.on == node)
    }

    fn facts(&self, node: &Node) -> Facts {
        let (mut room, mut units) = (
            Room { base: node.header.allocatable, further: node.header.supply.further },
            device::whole(&node.header.supply),
        );
        let (mut ports, mut services) = (BTreeSet::new(), Vec::<(ServiceKey, u32)>::new());
        for placed in self.on(node.id) {
            let spec = &self.specs[placed.spec];
            room = room.minus(&Room::needed(spec));
            device::take(&mut units, &placed.holds);
            ports.extend(spec.ports.iter().filter_map(|p| Some((p.protocol, p.published?))));
            match services.iter_mut().find(|(key, _)| *key == placed.replica.service) {
                Some((_, count)) => *count += 1,
                None => services.push((placed.replica.service.clone(), 1)),
            }
        }
        services.sort();
        Facts { room, units, ports, services }
    }

    /// How many of a service are where a node has the same value of a label (without one: on the node).
    fn count(&self, service: &ServiceKey, label: Option<&str>, at: &Node) -> u64 {
        let zone = |node: &Node| label.and_then(|label| node.header.labels.get(label).cloned());
        let same = |node: &&Node| if label.is_some() { zone(node) == zone(at) } else { node.id == at.id };
        let of = |node: &Node| self.on(node.id).filter(|placed| placed.replica.service == *service).count();
        self.nodes.iter().filter(same).map(of).sum::<usize>() as u64
    }

    /// The oracle: may it be there, and how good would that be?
    fn score(&self, replica: &ReplicaKey, spec: &ServiceSpec, node: &Node, mix: &Mix) -> Option<Score> {
        let (facts, own, placing) = (self.facts(node), &replica.service, &spec.placing);
        let suits = |node: &Node| Terms::of(spec).violated(node.id, &node.header).is_none();
        let holds = device::choose(&placing.devices, &node.header.supply, &facts.units)?;
        let wanted = |port: &dunlin_gossip::model::PortSpec| port.published.map(|number| (port.protocol, number));
        let here = self.count(own, None, node);
        if !suits(node)
            || !facts.room.holds(&Room::needed(spec))
            || spec.ports.iter().filter_map(wanted).any(|port| facts.ports.contains(&port))
            || placing.max_per_node.is_some_and(|most| here >= u64::from(most))
        {
            return None;
        }
        for skew in &placing.skews {
            let zones = self.nodes.iter().filter(|node| suits(node) && node.header.labels.contains_key(&skew.label));
            let least = zones.map(|node| self.count(own, Some(&skew.label), node)).min()?;
            node.header.labels.get(&skew.label)?;
            if self.count(own, Some(&skew.label), node) + 1 > least + u64::from(skew.most) {
                return None;
            }
        }
        let mut score = Score::default();
        for wish in &placing.affinities {
            let near = self.count(&wish.meant(&own.stack), wish.label.as_deref(), node);
            match wish.weight {
                Some(weight) if wish.anti => score.unmet += u64::from(weight) * near,
                Some(weight) => score.unmet += if near == 0 { u64::from(weight) } else { 0 },
                None if wish.anti == (near > 0) => return None,
                None => {}
            }
        }
        score.crowd = placing.spread.iter().fold(0, |crowd, label| (crowd << 20) + self.count(own, Some(label), node));
        let after = facts.room.minus(&Room::needed(spec));
        let mut units = facts.units.clone();
        device::take(&mut units, &holds);
        let (all, supply) = (node.header.allocatable, &node.header.supply);
        let cpu = after.base.cpu_milli * 10_000 / all.cpu_milli;
        let memory = (u128::from(after.base.memory_bytes) * 10_000 / u128::from(all.memory_bytes)) as u64;
        score.same_service = if placing.strategy == Strategy::Binpack { 0 } else { here as u32 };
        (score.uneven, score.left) = (cpu.abs_diff(memory) / 100, cpu + memory);
        if !units.is_empty() {
            let idle = units.iter().map(|unit| u64::from(*unit)).sum::<u64>() * 10_000 / (units.len() as u64 * 1_000);
            let grown = mix.fragments(&after, supply, &units) as i128
                - mix.fragments(&facts.room, supply, &facts.units) as i128;
            score.fragments = (grown + (20 << 16)).div_euclid(40 << 16) as i64;
            (score.uneven, score.left) = (0, cpu + idle);
            score.idle_devices = u32::from(placing.devices.is_empty());
        }
        if placing.strategy == Strategy::Spread {
            (score.fragments, score.uneven, score.left) = (0, 0, 20_000 - score.left);
        }
        Some(score)
    }

    /// The whole ladder: the first k by rank in the order of their scores, then the others by rank.
    fn ladder(&self, replica: &ReplicaKey, spec: &ServiceSpec, mix: &Mix) -> Vec<NodeId> {
        let rank =
            |n: &Node| rank::rank(replica_hash(replica), rank::node_hash(n.id), rank::weight(&n.header.allocatable));
        let fitting =
            self.nodes.iter().filter_map(|node| Some((rank(node), node.id, self.score(replica, spec, node, mix)?)));
        let mut all: Vec<(rank::Rank, NodeId, Score)> = fitting.collect();
        all.sort_by_key(|(rank, node, _)| (*rank, *node));
        let first = all.len().min(K);
        all[..first].sort_by_key(|(rank, node, score)| (*score, *rank, *node));
        all.into_iter().map(|(_, node, _)| node).collect()
    }

    /// Places these by both, and holds them against each other.
    fn place(&mut self, wanted: &[(ReplicaKey, usize)], rng: &mut Rng) {
        let mix = Mix::of(self.specs.iter().map(|spec| (spec, 1)));
        let specs = self.specs.clone();
        let facts: Vec<Facts> = self.nodes.iter().map(|node| self.facts(node)).collect();
        let headers: Vec<(NodeId, NodeHeader)> = self.nodes.iter().map(|n| (n.id, n.header.clone())).collect();
        let candidates: Vec<Candidate<'_>> = headers
            .iter()
            .zip(&facts)
            .map(|((node, header), facts)| Candidate {
                node: *node,
                header,
                room: facts.room,
                units: &facts.units,
                taken: &facts.ports,
                services: &facts.services,
                orders: dunlin_gossip::model::NodeOrders::none(),
                hash: rank::node_hash(*node),
                weight: rank::weight(&header.allocatable),
            })
            .collect();
        let mut waiting: Vec<(Waiting<'_>, usize)> = wanted
            .iter()
            .map(|(replica, spec)| (Waiting { replica, spec: &specs[*spec], refused_by: &[] }, *spec))
            .collect();
        waiting.sort_by_key(|(waiting, _)| order_key(waiting));
        let scene = Scene { nodes: &candidates, mix: &mix };
        let only: Vec<Waiting<'_>> = waiting.iter().map(|(waiting, _)| *waiting).collect();
        let heads = heads(&only, scene);
        let me = headers[rng.below(headers.len() as u64) as usize].0;
        let places = plan(me, &only, scene, |_| true);
        for (((waiting, spec), head), place) in waiting.into_iter().zip(heads).zip(places) {
            let ladder = self.ladder(waiting.replica, waiting.spec, &mix);
            assert_eq!(head, ladder.first().copied(), "{:?} {:?}", waiting.replica, waiting.spec.placing);
            assert_eq!(place, ladder.iter().position(|node| *node == me), "{:?}", waiting.replica);
            let Some(on) = head else { continue };
            let node = self.nodes.iter().find(|node| node.id == on).expect("it is there");
            let facts = self.facts(node);
            let holds =
                device::choose(&waiting.spec.placing.devices, &node.header.supply, &facts.units).expect("it fits");
            self.placed.push(Placed { on, replica: waiting.replica.clone(), spec, holds });
        }
    }
}

fn node(n: u8, rng: &mut Rng) -> Node {
    let mut header = header_of(n);
    let size = 1 + rng.below(4);
    header.allocatable = Resources { cpu_milli: 2_000 * size, memory_bytes: (4 + rng.below(3) * 4) << 30 };
    if rng.below(4) > 0 {
        header.labels.insert("zone".into(), ["a", "b", "c"][rng.below(3) as usize].into());
    }
    let model = ["T4", "A10"][rng.below(2) as usize].into();
    let devices = vec![DeviceGroup { kind: "gpu".into(), model, count: rng.below(4) as u32 }];
    header.supply.0 =
        Supply { further: Further { pids: 100 + rng.below(200), disk_bytes: 1 << 30 }, devices, ..Supply::default() };
    Node { id: NodeId([n; 16]), header }
}

/// A specification with a few wishes, drawn.
fn wishes(n: u64, rng: &mut Rng) -> ServiceSpec {
    let mut spec = spec();
    spec.reservation = Resources { cpu_milli: 100 * (1 + rng.below(12)), memory_bytes: (1 + rng.below(20)) << 27 };
    spec.priority = rng.below(2) as i32;
    spec.ports.extend((rng.below(6) == 0).then(|| port_of(80)));
    let placing = &mut spec.placing.0;
    placing.strategy = [Strategy::Apart, Strategy::Spread, Strategy::Binpack][rng.below(3) as usize];
    placing.further.pids = rng.below(40);
    if rng.below(2) == 0 {
        let (count, milli) =
            if rng.below(2) == 0 { (1, 100 * (1 + rng.below(9)) as u32) } else { (1 + rng.below(2) as u32, 1_000) };
        let models = if rng.below(4) == 0 { vec!["T4".into()] } else { vec![] };
        placing.devices.push(DeviceRequest { kind: "gpu".into(), models, count, milli });
    }
    placing.max_per_node = (rng.below(4) == 0).then(|| 1 + rng.below(2) as u32);
    placing.skews.extend((rng.below(4) == 0).then(|| Skew { label: "zone".into(), most: 1 + rng.below(2) as u32 }));
    placing.spread.extend((rng.below(4) == 0).then(|| "zone".into()));
    let other = |rng: &mut Rng| service_key(&alloc::format!("s{}", (n + 1 + rng.below(3)) % 4)).service;
    if rng.below(2) == 0 {
        let label = (rng.below(2) == 0).then(|| "disk".into());
        let (service, weight) = (other(rng), (rng.below(2) == 0).then(|| 1 + rng.below(9) as u32));
        placing.affinities.push(Affinity { stack: None, service, label, anti: rng.below(2) == 0, weight });
    }
    spec
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn the_fast_path_is_the_naive_one_over_random_histories(seed in any::<u64>()) {
        let mut rng = Seed(seed).rng();
        let mut next = 2 + rng.below(20) as u8;
        let nodes = (1..next).map(|n| node(n, &mut rng)).collect();
        let specs = (0..4).map(|n| wishes(n, &mut rng)).collect();
        let mut world = World { nodes, specs, placed: vec![] };
        let mut waiting: Vec<(ReplicaKey, usize)> = vec![];
        for round in 0..8_u32 {
            match rng.below(4) {
                0 if world.nodes.len() > 1 => {
                    let gone = world.nodes.remove(rng.below(world.nodes.len() as u64) as usize).id;
                    let (lost, kept) = world.placed.drain(..).partition(|placed| placed.on == gone);
                    let lost: Vec<Placed> = lost;
                    world.placed = kept;
                    waiting.extend(lost.into_iter().map(|placed| (placed.replica, placed.spec)));
                }
                1 => {
                    world.nodes.push(node(next, &mut rng));
                    next += 1;
                }
                2 if !world.placed.is_empty() => {
                    world.placed.remove(rng.below(world.placed.len() as u64) as usize);
                }
                _ => waiting.extend((0..1 + rng.below(12) as u32).map(|n| {
                    let spec = rng.below(4) as usize;
                    let service = service_key(&alloc::format!("s{spec}"));
                    (ReplicaKey { service, slot: Slot::Number(round * 100 + n) }, spec)
                })),
            }
            world.place(&waiting, &mut rng);
            waiting.retain(|(replica, _)| world.placed.iter().all(|placed| placed.replica != *replica));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]
    /// Large enough for all that is left out of the search to matter, and full in the end. Rules about others, which the other
    /// histories have, would take the oracle minutes here.
    #[test]
    fn the_fast_path_is_the_naive_one_in_flocks_that_fill_up(seed in any::<u64>()) {
        let mut rng = Seed(seed).rng();
        let nodes = (1..=100 + rng.below(60) as u8).map(|n| node(n, &mut rng)).collect();
        let mut specs: Vec<ServiceSpec> = (0..3).map(|n| wishes(n, &mut rng)).collect();
        for spec in &mut specs {
            spec.reservation = Resources { cpu_milli: spec.reservation.cpu_milli * 4, ..spec.reservation };
            let Placing { spread, skews, affinities, .. } = &mut spec.placing.0;
            (*spread, *skews, *affinities) = (vec![], vec![], vec![]);
        }
        let mut world = World { nodes, specs, placed: vec![] };
        for round in 0..3_u32 {
            let wanted: Vec<(ReplicaKey, usize)> = (0..40 + rng.below(60) as u32).map(|n| {
                let spec = rng.below(3) as usize;
                let service = service_key(&alloc::format!("s{spec}"));
                (ReplicaKey { service, slot: Slot::Number(round * 1_000 + n) }, spec)
            }).collect();
            world.place(&wanted, &mut rng);
        }
    }
}
