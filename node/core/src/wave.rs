//! Deploys that come into force in waves: some nodes act on them first, and the others once all has stayed well there.
//!
//! What a deploy would have written is staged in registers of its own; nothing that is in force changes. A node of the first
//! wave acts on it, and says that it is well once, for the time asked for, its agent has gone on running and all that it
//! runs of the stack was ready at the new revision. It says so as well if its agent was started again meanwhile, if the
//! deploy made it panic, or if it could not bring a replica to run: then the wave stays where it is, until somebody deploys again. When all of them are well, one of
//! them, the first in their order that is there, writes the deploy as if it had been written so from the start.
//!
//! Never: a decision by a node outside the first wave. It acts on what is in force, whatever is staged.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::face::{MemberState, NoticeLevel};
use dunlin_gossip::hash::{hash64, mix};
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::limits::MAX_BATCH;
use dunlin_gossip::model::{
    Asker, Attached, Outcome, Phase, ReplicaKey, RolloutPolicy, Service, ServiceKey, ServiceName, Slot, StackManifest,
    StackName, Tail, Verdict, Wave, Waves as Asked,
};
use dunlin_gossip::time::{Duration, Instant, Wall};
use dunlin_gossip::wire::{Record, RecordId, codec};

use crate::allocation::earliest;
use crate::engine::Node;
use crate::face::{EventKind, ProblemKind, Reply};
use crate::place::{self, Candidate, Waiting};
use crate::request::{Batch, problem};
use crate::view::InForce;

/// A first wave has at most so many nodes: their names stand in a record.
const MAX_FIRST: usize = 256;
/// The next node of the first wave waits so much longer before it ends the wave: nobody else has by then.
const STEP: Duration = Duration::from_secs(2);
/// What was written to end a wave is written again if it is still on after this.
const AGAIN: Duration = Duration::from_secs(10);

/// A wave of which this node is among the first.
#[derive(Clone, Debug)]
struct Mine {
    deployed: Hlc,
    said: Option<Outcome>,
    /// Since when all is well here.
    well: Option<Instant>,
    /// When it is our turn to end the wave, all of the first being well.
    ends: Option<Instant>,
}

/// The waves of which this node is among the first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waves {
    mine: BTreeMap<StackName, Mine>,
    next: Option<Instant>,
}

impl Waves {
    /// When to look again if nothing happens.
    pub(crate) const fn next(&self) -> Option<Instant> {
        self.next
    }
}

impl Node {
    /// The batch that stages a deploy, or none if its first wave would be everybody.
    pub(crate) fn staging(
        &self,
        stack: &StackName,
        services: &BTreeMap<ServiceName, Service>,
        policies: &BTreeMap<ServiceName, RolloutPolicy>,
        asked: Asked,
        manifest: &StackManifest,
    ) -> Result<Option<Batch>, Reply> {
        let candidates = self.view.candidates();
        let first = asked.first.of(candidates.len());
        if first >= candidates.len() {
            return Ok(None);
        }
        if first > MAX_FIRST {
            let text = alloc::format!("a first wave of {first} nodes; at most {MAX_FIRST} can be named: ask for fewer");
            return Err(problem(ProblemKind::BadRequest, &text));
        }
        let key = |service: &ServiceName| ServiceKey { stack: stack.clone(), service: service.clone() };
        let mut batch: Batch = services
            .iter()
            .map(|(name, service)| (RecordId::staged(&key(name)), Some(codec::encode(service))))
            .collect();
        let dropped = self.view.staged(stack).filter(|staged| !services.contains_key(&staged.service));
        batch.extend(dropped.map(|staged| (RecordId::staged(staged), None)));
        let nodes = self.first_nodes(stack, services, manifest.deployed, first, &candidates);
        let wave = Wave {
            deployed: manifest.deployed,
            services: manifest.services.clone(),
            nodes,
            wait: asked.wait,
            policies: policies.clone(),
        };
        batch.push((RecordId::wave(stack), Some(codec::encode(&wave))));
        // What ends the wave is one batch as well.
        let removed = self.view.held(stack).filter(|(key, ..)| !services.contains_key(&key.service)).count();
        let end = services.len() * 2 + removed + 2;
        if end.max(batch.len()) > MAX_BATCH {
            let text = alloc::format!("{end} records; a deploy in waves writes at most {MAX_BATCH}: split the stack");
            return Err(problem(ProblemKind::BadRequest, &text));
        }
        Ok(Some(batch))
    }

    /// Who acts first: nodes that run something of the stack before those that could, and these before the rest; among equals
    /// by a hash of the deploy, so that it is not always the same ones that take the risk.
    fn first_nodes(
        &self,
        stack: &StackName,
        services: &BTreeMap<ServiceName, Service>,
        deployed: Hlc,
        first: usize,
        candidates: &[Candidate<'_>],
    ) -> Vec<NodeId> {
        let seed = mix(hash64(stack.as_str().as_bytes()), deployed.0);
        let could = |candidate: &Candidate<'_>| {
            services.iter().any(|(name, service)| {
                let key = ServiceKey { stack: stack.clone(), service: name.clone() };
                let replica = ReplicaKey { service: key, slot: Slot::Number(1) };
                let waiting = Waiting { replica: &replica, spec: &service.spec, refused_by: &[] };
                place::misfit(&waiting, candidate).is_none()
            })
        };
        let mut ranked: Vec<_> = candidates
            .iter()
            .map(|candidate| {
                let runs = candidate.services.iter().any(|(key, count)| key.stack == *stack && *count > 0);
                let order = if runs { 0 } else { 2 - u8::from(could(candidate)) };
                (order, mix(seed, candidate.hash), candidate.node)
            })
            .collect();
        ranked.sort_unstable();
        ranked.into_iter().take(first).map(|(.., node)| node).collect()
    }

    /// What takes a stack's staged deploy away.
    pub(crate) fn unstaging(&self, stack: &StackName) -> Batch {
        let staged = self.view.staged(stack).map(|key| (RecordId::staged(key), None));
        let wave = self.view.last_wave(stack).map(|_| (RecordId::wave(stack), None));
        staged.chain(wave).collect()
    }

    /// The agent has begun while waves are on in which this node is among the first: so it was started again.
    pub(crate) fn begin_waves(&mut self) {
        let me = self.me;
        let on: Vec<(StackName, Hlc)> = self
            .view
            .waves()
            .filter(|(_, wave)| wave.nodes.contains(&me))
            .map(|(stack, wave)| (stack.clone(), wave.deployed))
            .collect();
        for (stack, deployed) in on {
            self.waves.mine.insert(stack.clone(), Mine { deployed, said: None, well: None, ends: None });
            let outcome = if self.leaves_out_of(&stack) { Outcome::LeftOut } else { Outcome::Restarted };
            self.say_of_wave(&stack, outcome);
        }
    }

    /// True if something of a stack is left out here.
    fn leaves_out_of(&self, stack: &StackName) -> bool {
        let of_stack = |id: &RecordId| {
            *id == RecordId::wave(stack)
                || self.view.wave(stack).is_some_and(|wave| names(stack, wave).any(|n| n == *id))
        };
        self.view.left_out().any(of_stack)
    }

    fn say_of_wave(&mut self, stack: &StackName, outcome: Outcome) {
        let Some(mine) = self.waves.mine.get_mut(stack) else { return };
        mine.said = Some(outcome);
        let verdict = Verdict { deployed: mine.deployed, outcome };
        self.owned.staged.insert(RecordId::verdict(self.me, stack), Some(codec::encode(&verdict)));
        let level = if outcome == Outcome::Well { NoticeLevel::Info } else { NoticeLevel::Warn };
        let text = alloc::format!("first wave of stack {stack}: {} here", word(outcome));
        self.log.node(level, EventKind::Desired, self.me, text);
    }

    /// A stack's wave began, ended, or somebody said something of it.
    pub(crate) fn on_wave(&mut self, stack: &StackName, by: Option<NodeId>) {
        let Some(wave) = self.view.wave(stack) else { return };
        let Some(node) = by else {
            let first = wave.nodes.len();
            let text = alloc::format!(
                "stack {stack}: {first} nodes act on a new deploy first; the others follow if all is well there"
            );
            return self.log.node(NoticeLevel::Info, EventKind::Desired, self.me, text);
        };
        if let Some(outcome) = self.view.verdict(stack, wave, node).filter(|outcome| *outcome != Outcome::Well) {
            let what = word(outcome);
            let text =
                alloc::format!("first wave of stack {stack}: {what} there; the others stay at the deploy before");
            self.log.node(NoticeLevel::Warn, EventKind::Desired, node, text);
        }
    }

    /// Looks after the waves of which this node is among the first.
    pub(crate) fn tend_waves(&mut self, now: Instant, wall: Wall) {
        self.waves.next = None;
        if !self.start.is_adopted() || self.failed || self.left {
            return;
        }
        self.forget_waves();
        let me = self.me;
        let on: Vec<(StackName, Wave)> = self
            .view
            .waves()
            .filter(|(_, wave)| wave.nodes.contains(&me))
            .map(|(stack, wave)| (stack.clone(), wave.clone()))
            .collect();
        for (stack, wave) in on {
            let deployed = wave.deployed;
            let new = Mine { deployed, said: None, well: None, ends: None };
            let said = self.waves.mine.entry(stack.clone()).or_insert(new).said;
            if said != Some(Outcome::LeftOut) && self.leaves_out_of(&stack) {
                self.say_of_wave(&stack, Outcome::LeftOut);
            } else if said.is_none() && self.refused_of(&stack) {
                self.say_of_wave(&stack, Outcome::Refused);
            } else if said.is_none() {
                self.watch_wave(&stack, &wave, now);
            }
            self.end_wave(&stack, &wave, now, wall);
        }
    }

    /// What is over is said no longer.
    fn forget_waves(&mut self) {
        let (view, me) = (&self.view, self.me);
        let is_on = |stack: &StackName, mine: &Mine| {
            view.wave(stack).is_some_and(|wave| wave.deployed == mine.deployed && wave.nodes.contains(&me))
        };
        let over: Vec<StackName> = self
            .waves
            .mine
            .iter()
            .filter(|(stack, mine)| !is_on(stack, mine))
            .map(|(stack, _)| stack.clone())
            .collect();
        for stack in over {
            if self.waves.mine.remove(&stack).is_some_and(|mine| mine.said.is_some()) {
                self.owned.staged.insert(RecordId::verdict(me, &stack), None);
            }
        }
    }

    /// Is all well here, and has it been for long enough?
    fn watch_wave(&mut self, stack: &StackName, wave: &Wave, now: Instant) {
        let is_well = self.view.acted_wave(stack).is_some() && self.runs_well(stack);
        let Some(mine) = self.waves.mine.get_mut(stack) else { return };
        mine.well = if is_well { mine.well.or(Some(now)) } else { None };
        let Some(at) = mine.well.map(|since| since + wave.wait) else { return };
        if at <= now {
            self.say_of_wave(stack, Outcome::Well);
        } else {
            self.waves.next = earliest(self.waves.next, Some(at));
        }
    }

    /// True if this node gave a replica of a stack up as it should be now.
    fn refused_of(&self, stack: &StackName) -> bool {
        let of_stack = self.owned.refusals.iter().filter(|(replica, _)| replica.service.stack == *stack);
        let is_current =
            |replica: &ReplicaKey, revision| self.view.wanted(replica).is_some_and(|f| f.revision == revision);
        self.view.acted_wave(stack).is_some()
            && of_stack.into_iter().any(|(replica, refusal)| is_current(replica, refusal.revision))
    }

    /// All that this node runs of a stack is at the wanted revision and ready.
    fn runs_well(&self, stack: &StackName) -> bool {
        let is_ready = |record: &dunlin_gossip::model::Allocation| {
            let force = self.view.wanted(&record.replica);
            force.is_some_and(|force| force.revision == record.revision)
                && (record.ready || record.phase == Phase::Exited)
        };
        let own = self.owned.map.values().map(|own| &own.record);
        own.filter(|record| record.replica.service.stack == *stack).all(is_ready)
    }

    /// What a node says of a wave, this one included.
    pub(crate) fn wave_outcome(&self, stack: &StackName, wave: &Wave, node: NodeId) -> Option<Outcome> {
        if node == self.me {
            return self.waves.mine.get(stack).and_then(|mine| mine.said);
        }
        self.view.verdict(stack, wave, node)
    }

    /// Writes the deploy for all, once all of the first are well, and those before us in their order have not.
    fn end_wave(&mut self, stack: &StackName, wave: &Wave, now: Instant, wall: Wall) {
        let is_well = |node: &NodeId| {
            let is_there = self.view.nodes().get(node).is_some_and(|known| known.state == Some(MemberState::Alive));
            let said = self.wave_outcome(stack, wave, *node);
            let is_well = said == Some(Outcome::Well) || (planted(Bug::WaveTroubleIgnored) && said.is_some());
            is_well && is_there
        };
        let go = wave.nodes.iter().all(is_well);
        let place = wave.nodes.iter().position(|node| *node == self.me).unwrap_or(wave.nodes.len());
        let Some(mine) = self.waves.mine.get_mut(stack) else { return };
        if !go {
            mine.ends = None;
            return;
        }
        let turn = STEP.saturating_mul(u32::try_from(place).unwrap_or(u32::MAX));
        let at = *mine.ends.get_or_insert(now + turn);
        if at <= now {
            mine.ends = Some(now + AGAIN);
            self.write_for_all(stack, wave, now, wall);
        }
        let ends = self.waves.mine.get(stack).and_then(|mine| mine.ends);
        self.waves.next = earliest(self.waves.next, ends);
    }

    fn write_for_all(&mut self, stack: &StackName, wave: &Wave, now: Instant, wall: Wall) {
        let state = self.gossip.state();
        let stamp = self.stamp(wall);
        let mut batch = Batch::new();
        let mut revisions = BTreeMap::new();
        for service in wave.services.keys() {
            let key = ServiceKey { stack: stack.clone(), service: service.clone() };
            let Some(staged) = state.value(&RecordId::staged(&key)).and_then(Record::payload) else { return };
            revisions.insert(service.clone(), self.revision_of_bytes(&key, staged));
            batch.push((RecordId::service(&key), Some(staged.to_vec())));
        }
        let dropped = self.view.held(stack).filter(|(key, ..)| !wave.services.contains_key(&key.service));
        batch.extend(dropped.map(|(key, ..)| (RecordId::service(key), None)));
        let services = wave.services.keys().map(|name| (name.clone(), stamp)).collect();
        let ordered = self.begin_rollouts(stack, &revisions, &wave.policies, stamp);
        batch.extend(ordered.batch);
        let attached = Tail(Attached { rollouts: ordered.rollouts });
        let manifest = StackManifest { deployed: wave.deployed, services, attached };
        batch.push((RecordId::stack(stack), Some(codec::encode(&manifest))));
        batch.extend(self.unstaging(stack));
        let asker = state.value(&RecordId::wave(stack)).map(Record::asker).unwrap_or_default();
        let asker = Asker::new(asker);
        let text = match self.gossip.write(now, wall, &asker, batch, &mut self.gouts) {
            Ok(_) => alloc::format!("stack {stack}: all is well on the first nodes; the others follow"),
            Err(error) => alloc::format!("stack {stack}: the others cannot follow yet: {error}"),
        };
        self.log.node(NoticeLevel::Info, EventKind::Desired, self.me, text);
    }

    /// When a node of the first wave may claim a replica of the stack, in place of its place on the ladder: what others may
    /// claim as well it leaves to them at first; of what nobody else wants yet, the first replica alone is tried.
    pub(crate) fn wave_place(&self, replica: &ReplicaKey, force: &InForce, position: Option<usize>) -> Option<usize> {
        let acted = self.view.acted_wave(&replica.service.stack);
        let Some(wave) = acted.filter(|wave| wave.nodes.contains(&self.me)) else { return position };
        if self.view.was_wanted(replica) {
            return position.map(|position| position + place::K);
        }
        match replica.slot {
            Slot::Node(_) => position,
            Slot::Number(1) => {
                let waiting = Waiting { replica, spec: &force.service.spec, refused_by: &[] };
                let nodes = self.view.candidates();
                let mine = nodes.iter().find(|candidate| candidate.node == self.me);
                mine.filter(|mine| place::misfit(&waiting, mine).is_none())?;
                wave.nodes.iter().position(|node| *node == self.me)
            }
            Slot::Number(_) | Slot::Run(..) => None,
        }
    }
}

/// The staged registers that a wave names.
fn names<'a>(stack: &'a StackName, wave: &'a Wave) -> impl Iterator<Item = RecordId> + 'a {
    let key = |service: &ServiceName| ServiceKey { stack: stack.clone(), service: service.clone() };
    wave.services.keys().map(move |service| RecordId::staged(&key(service)))
}

/// An outcome in words.
pub(crate) const fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Well => "all is well",
        Outcome::Restarted => "the agent was started again",
        Outcome::LeftOut => "the agent panicked over it",
        Outcome::Refused => "a replica could not be made to run",
    }
}
