//! Which replicas a node that came could relieve others of: a pure function of what is known, for the node that acts and for
//! people who ask what would be.
//!
//! Its own rank for a replica decides which are first, so that of several that came each looks for others, and one that returns
//! takes what it had. Never: a replica that must not be interrupted, or one whose service is on the move already.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{
    AllocId, Allocation, ConstraintOp, Epoch, Mode, Phase, Prefer, ReplicaKey, ServiceKey, ServiceSpec, Strategy,
};

use crate::place::level::Levels;
use crate::place::rank::{Rank, rank, replica_hash};
use crate::place::{Candidate, Ground, Scene, Waiting};
use crate::view::{InForce, View};

/// Replicas that are kept in mind at a time.
const MOST: usize = 256;

/// Whether the replicas of a service may move without need.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mobility {
    /// Not by what it is.
    Never,
    /// Not while something else is done about it.
    NotNow,
    May,
}

/// What a search has come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// The best by rank, at most [`MOST`].
    pub(crate) best: BTreeSet<(Rank, ReplicaKey)>,
    /// There were more, or some that may not move now.
    pub(crate) is_more: bool,
}

impl Found {
    fn add(&mut self, rank: Rank, replica: ReplicaKey) {
        self.best.insert((rank, replica));
        if self.best.len() > MOST {
            self.best.pop_last();
            self.is_more = true;
        }
    }
}

/// A replica that would move.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Relief {
    pub(crate) replica: ReplicaKey,
    /// Who has it.
    pub(crate) from: NodeId,
    pub(crate) alloc: AllocId,
    /// How full the one that takes it is, and how full those that suit are in the mean, in millionths.
    pub(crate) level: (u64, u64),
}

/// A look at the flock from a node that came.
pub(crate) struct Search<'a> {
    view: &'a View,
    nodes: &'a [Candidate<'a>],
    levels: Levels<'a>,
    /// Near which others have to be.
    needed: BTreeSet<ServiceKey>,
    mobile: BTreeMap<&'a ServiceKey, Mobility>,
}

impl<'a> Search<'a> {
    pub(crate) fn new(view: &'a View, nodes: &'a [Candidate<'a>]) -> Self {
        let needs = |(key, force): (&ServiceKey, &'a InForce)| {
            let hard = force.service.spec.placing.affinities.iter().filter(|a| a.weight.is_none() && !a.anti);
            hard.map(|affinity| affinity.meant(&key.stack)).collect::<Vec<_>>()
        };
        let needed = view.services().iter().flat_map(needs).collect();
        Self { view, nodes, levels: Levels::new(nodes), needed, mobile: BTreeMap::new() }
    }

    /// The index of a node that could take work.
    pub(crate) fn index_of(&self, node: NodeId) -> Option<usize> {
        self.nodes.binary_search_by_key(&node, |candidate| candidate.node).ok()
    }

    /// Adds what a service has for a node that was not there when it was claimed. How many allocations were looked at.
    pub(crate) fn look(
        &mut self,
        (key, force): (&'a ServiceKey, &'a InForce),
        (me, before): (usize, Epoch),
        found: &mut Found,
    ) -> usize {
        let Some(mine) = self.nodes.get(me) else { return 0 };
        match self.mobility(key, force) {
            Mobility::Never => return 1,
            Mobility::NotNow => {
                found.is_more = true;
                return 1;
            }
            Mobility::May => {}
        }
        let mut count = 1;
        for (node, _, alloc) in self.view.of_service(key) {
            count += 1;
            if self.would_help(force, node, alloc, (me, before)) {
                found.add(rank(replica_hash(&alloc.replica), mine.hash, mine.weight), alloc.replica.clone());
            }
        }
        count
    }

    /// A replica that was found, if it still is one for this node to have.
    pub(crate) fn still(&mut self, replica: &ReplicaKey, me: usize, before: Epoch) -> Option<Relief> {
        let (key, force) = self.view.services().get_key_value(&replica.service)?;
        if self.mobility(key, force) != Mobility::May || !force.service.mode.has(replica.slot) {
            return None;
        }
        let mut live =
            self.view.of_replica(replica).filter(|(node, _, a)| a.phase.is_live() && self.view.stands(*node));
        let (from, alloc, record) = live.next()?;
        if live.next().is_some() || !self.would_help(force, from, record, (me, before)) {
            return None;
        }
        let level = (self.levels.with(me, &Default::default()), self.levels.mean(&force.service.spec, me)?);
        Some(Relief { replica: replica.clone(), from, alloc, level })
    }

    /// True if a replica could be on this node and would do there no worse. It goes there in what is supposed on this ground.
    pub(crate) fn suits(&self, ground: &mut Ground<'a>, waiting: &Waiting<'a>, from: NodeId, me: usize) -> bool {
        let Some(old) = self.index_of(from) else { return false };
        ground.leave(old, waiting);
        let suits = ground.is_no_worse(waiting, old, me);
        ground.take(if suits { me } else { old }, waiting);
        suits
    }

    /// A replica moves, in what is supposed.
    pub(crate) fn move_one(&mut self, relief: &Relief, me: usize) {
        let reserved = self.view.allocation(relief.from, relief.alloc).map(|alloc| alloc.reservation);
        if let Some((from, reserved)) = self.index_of(relief.from).zip(reserved) {
            self.levels.move_one(from, me, &reserved);
        }
    }

    /// True if a claim is older than this node's being there, is well, and moving it brings both nodes nearer to the mean.
    fn would_help(
        &mut self,
        force: &'a InForce,
        node: NodeId,
        alloc: &Allocation,
        (me, before): (usize, Epoch),
    ) -> bool {
        let is_well = alloc.ready && alloc.ready_once && matches!(alloc.phase, Phase::Healthy | Phase::Running);
        if !is_well || alloc.revision != force.revision || alloc.epoch >= before || self.view.is_drained(node) {
            return false;
        }
        let Some(from) = self.index_of(node).filter(|from| *from != me) else { return false };
        let Some(mean) = self.levels.mean(&force.service.spec, me) else { return false };
        let is_under = planted(Bug::ShareWithoutEnd) || self.levels.with(me, &alloc.reservation) <= mean;
        is_under && (planted(Bug::ShareWithoutEnd) || self.levels.with(from, &Default::default()) > mean)
    }

    fn mobility(&mut self, key: &'a ServiceKey, force: &InForce) -> Mobility {
        if let Some(known) = self.mobile.get(key) {
            return *known;
        }
        let is_bound = !may_ever(&force.service.spec, force.service.mode) || self.needed.contains(key);
        let mobility = if is_bound { Mobility::Never } else { self.mobility_now(key, force) };
        self.mobile.insert(key, mobility);
        mobility
    }

    /// One replica of a service is on the move at a time, whoever came, and none while its revision changes.
    fn mobility_now(&self, key: &ServiceKey, force: &InForce) -> Mobility {
        let mut live = self.view.of_service(key).filter(|(node, _, a)| a.phase.is_live() && self.view.stands(*node));
        let mut last = None;
        let is_busy = live.any(|(.., alloc)| {
            let slot = alloc.replica.slot;
            alloc.revision != force.revision || last.replace(slot) == Some(slot)
        });
        let is_waved = self.view.acted_wave(&key.stack).is_some() || self.view.is_rolled_back(key);
        if is_busy || is_waved { Mobility::NotNow } else { Mobility::May }
    }
}

/// True if replicas of a specification may move without need: not what would begin its work anew, what may run only once, what
/// is packed on purpose, what is bound to nodes by name, and what its author wants left alone.
fn may_ever(spec: &ServiceSpec, mode: Mode) -> bool {
    let is_bound = spec.constraints.iter().any(|constraint| {
        matches!(constraint.attribute.as_str(), "node.id" | "node.hostname")
            && matches!(constraint.op, ConstraintOp::Equal | ConstraintOp::In)
    });
    matches!(mode, Mode::Replicated(_))
        && spec.prefer == Prefer::Ready
        && spec.placing.strategy != Strategy::Binpack
        && !spec.demand().standing.stays.0
        && !is_bound
}

/// What nodes that came would take for their share, in what a view supposes, after what a ground has given away already.
pub(crate) fn shares<'a>(
    view: &'a View,
    nodes: &'a [Candidate<'a>],
    ground: &mut Ground<'a>,
    came: impl Iterator<Item = NodeId>,
) -> Vec<(Relief, NodeId)> {
    let (mut search, mut moves) = (Search::new(view, nodes), Vec::new());
    let mut moved: BTreeSet<ReplicaKey> = BTreeSet::new();
    for node in came {
        let Some(me) = search.index_of(node) else { continue };
        loop {
            let (mut found, before) = (Found::default(), moved.len());
            for service in view.services() {
                search.look(service, (me, Epoch(u64::MAX)), &mut found);
            }
            for (_, replica) in &found.best {
                let Some((known, force)) = view
                    .of_replica(replica)
                    .next()
                    .and_then(|(.., alloc)| Some((&alloc.replica, view.services().get(&replica.service)?)))
                else {
                    continue;
                };
                let relief = search.still(replica, me, Epoch(u64::MAX)).filter(|_| !moved.contains(replica));
                let waiting = Waiting { replica: known, spec: &force.service.spec, refused_by: &[] };
                let Some(relief) = relief.filter(|relief| search.suits(ground, &waiting, relief.from, me)) else {
                    continue;
                };
                search.move_one(&relief, me);
                moved.insert(replica.clone());
                moves.push((relief, node));
            }
            if !found.is_more || moved.len() == before {
                break;
            }
        }
    }
    moves
}

/// Nodes and their mix, as one plan sees them.
pub(crate) fn ground<'a>(nodes: &'a [Candidate<'a>], mix: &'a crate::place::Mix) -> Ground<'a> {
    Ground::new(Scene { nodes, mix })
}
