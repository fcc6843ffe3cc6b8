//! Requests: checked, written as one batch, acknowledged when kept. A refusal changes nothing.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::engine::WriteError;
use dunlin_gossip::face::{MemberState, PersistSeq};
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::limits::MAX_BATCH;
use dunlin_gossip::model::{
    Asker, Attached, Removal, RemovalKind, RolloutPolicy, RosterEntry, Service, ServiceKey, ServiceName, StackManifest,
    StackName, Tail, Waves,
};
use dunlin_gossip::time::{Duration, Instant, Wall};
use dunlin_gossip::wire::{self, Class, Kind, RecordId, codec};

use crate::ack::{Acks, WriteWait};
use crate::admit;
use crate::engine::Node;
use crate::face::{Ack, Output, Outputs, Problem, ProblemKind, Reply, Request, RequestId};
use crate::majority;
use crate::never::never;
use crate::query::ask;
use crate::tokens;

/// Records of one batch: a register, and its new value or none.
pub(crate) type Batch = Vec<(RecordId, Option<Vec<u8>>)>;

/// How long a token, an admission or a goodbye may take.
const SHORT: Duration = Duration::from_secs(10);
/// A write this old that was never seen here has been superseded, if this node has synced since.
const OLD: Duration = Duration::from_secs(60);

/// When and where a write is acknowledged.
#[derive(Clone, Copy)]
pub(crate) struct Keep {
    pub(crate) ack: Ack,
    pub(crate) timeout: Duration,
}

/// A write on its way: which request, for whom, and what its author should know.
struct Asked<'a> {
    id: RequestId,
    asker: &'a Asker,
    warnings: Vec<String>,
}

impl Node {
    /// Somebody asks for something.
    pub(crate) fn on_request(
        &mut self,
        id: RequestId,
        asker: &Asker,
        request: Request,
        now: Instant,
        wall: Wall,
        out: &mut Outputs,
    ) {
        let done = self.request(id, asker, request, now, wall);
        if let Err(reply) = done {
            out.push(Output::Reply(id, reply));
        }
    }

    /// Ok: the answer comes later. Err: this is the answer.
    fn request(
        &mut self,
        id: RequestId,
        asker: &Asker,
        request: Request,
        now: Instant,
        wall: Wall,
    ) -> Result<(), Reply> {
        let asked = |warnings| Asked { id, asker, warnings };
        self.may_ask()?;
        match request {
            Request::Deploy { stack, services, policies, waves, ack, timeout } => {
                let (batch, warnings) = self.deployment(&stack, &services, &policies, waves, (now, wall))?;
                self.write(asked(warnings), batch, Keep { ack, timeout }, now, wall)
            }
            Request::Add { service, specification, ack, timeout } => {
                self.add((id, asker), &service, &specification, Keep { ack, timeout }, now, wall)
            }
            Request::Drop { service, ack, timeout } => {
                self.write(asked(Vec::new()), self.dropping(&service)?, Keep { ack, timeout }, now, wall)
            }
            Request::Scale { service, replicas, ack, timeout } => {
                let batch = self.scaling(&service, replicas, wall)?;
                self.edit(asked(Vec::new()), batch, Keep { ack, timeout }, now, wall)
            }
            Request::Rollout { service, order, ack, timeout } => {
                let batch = self.order_rollout(&service, &order, wall)?;
                self.edit(asked(Vec::new()), batch, Keep { ack, timeout }, now, wall)
            }
            Request::Remove { stack, ack, timeout } => {
                self.write(asked(Vec::new()), self.removal(&stack)?, Keep { ack, timeout }, now, wall)
            }
            Request::Resolve { register, keep, ack, timeout } => {
                let batch = self.resolution(&register, keep, wall)?;
                self.edit(asked(Vec::new()), batch, Keep { ack, timeout }, now, wall)
            }
            Request::CreateToken(token) => {
                tokens::sound(&token)?;
                let batch = Vec::from([(RecordId::token(token.id), Some(codec::encode(&token)))]);
                self.write(asked(Vec::new()), batch, Keep { ack: Ack::Default, timeout: SHORT }, now, wall)
            }
            Request::RemoveToken(token) => {
                if !self.view.tokens().contains_key(&token) {
                    return Err(problem(ProblemKind::NotFound, &alloc::format!("there is no token {:016x}", token.0)));
                }
                let batch = Vec::from([(RecordId::token(token), None)]);
                self.write(asked(Vec::new()), batch, Keep { ack: Ack::Default, timeout: SHORT }, now, wall)
            }
            Request::CheckToken { id, secret_hash, node } => {
                self.check_token(id, &secret_hash, node, wall)?;
                Err(Reply::TokenGood)
            }
            Request::Admit(entry) => self.admit(id, &entry, now, wall),
            Request::AtLeast { hlc, timeout } => {
                self.acks.held(id, Acks::deadline(now, timeout), hlc);
                Ok(())
            }
            Request::RemoveNode { node, ack, timeout } => self.remove_node(id, node, Keep { ack, timeout }, now, wall),
            Request::Order { node, edit, ack, timeout } => {
                let (batch, warnings) = self.ordering(node, &edit, wall)?;
                self.may_edit(&batch)?;
                self.write(asked(warnings), batch, Keep { ack, timeout }, now, wall)
            }
            Request::Leave => self.leave(id, now),
        }
    }

    fn may_ask(&self) -> Result<(), Reply> {
        if self.failed {
            return Err(problem(ProblemKind::Unavailable, "this node's disk failed; ask another node"));
        }
        if self.acks.is_full() {
            let text = "too many requests wait on this node; try again, or another";
            return Err(problem(ProblemKind::Unavailable, text));
        }
        Ok(())
    }

    fn add(
        &mut self,
        (id, asker): (RequestId, &Asker),
        service: &ServiceKey,
        specification: &Service,
        keep: Keep,
        now: Instant,
        wall: Wall,
    ) -> Result<(), Reply> {
        let (batch, warnings) = self.addition(service, specification, now, wall)?;
        self.write(Asked { id, asker, warnings }, batch, keep, now, wall)
    }

    /// Writes what takes parts of old values over.
    fn edit(&mut self, asked: Asked<'_>, batch: Batch, keep: Keep, now: Instant, wall: Wall) -> Result<(), Reply> {
        self.may_edit(&batch)?;
        self.write(asked, batch, keep, now, wall)
    }

    fn write(&mut self, asked: Asked<'_>, batch: Batch, keep: Keep, now: Instant, wall: Wall) -> Result<(), Reply> {
        if self.leaving.is_some() {
            return Err(problem(ProblemKind::Unavailable, "this node is leaving the cluster; ask another node"));
        }
        let written = self.gossip.write(now, wall, asked.asker, batch, &mut self.gouts);
        let (hlc, seq) = written.map_err(|error| {
            let is_pace = matches!(error, WriteError::TooFast { .. });
            let kind = if is_pace { ProblemKind::TooMany } else { ProblemKind::Unavailable };
            problem(kind, &error.to_string())
        })?;
        let wanted = self.wanted_copies(keep.ack);
        let wait = WriteWait { hlc, seq, wanted, warnings: asked.warnings };
        self.acks.write(asked.id, Acks::deadline(now, keep.timeout), wait);
        self.await_copies(now);
        Ok(())
    }

    /// How many nodes must keep a write, this one included.
    pub(crate) fn wanted_copies(&self, ack: Ack) -> u32 {
        let others = |which: fn(MemberState) -> bool| {
            let others = self.gossip.members().filter(|(node, state)| *node != self.me && which(*state));
            u32::try_from(others.count()).unwrap_or(u32::MAX)
        };
        match ack {
            Ack::Default => 1 + others(|state| state == MemberState::Alive).min(1),
            Ack::Nodes(n) => n.max(1),
            Ack::All => 1 + others(|state| matches!(state, MemberState::Alive | MemberState::Suspect)),
        }
    }

    fn deployment(
        &self,
        stack: &StackName,
        services: &BTreeMap<ServiceName, Service>,
        policies: &BTreeMap<ServiceName, RolloutPolicy>,
        waves: Option<Waves>,
        (now, wall): (Instant, Wall),
    ) -> Result<(Batch, Vec<String>), Reply> {
        let mut warnings = ask::plan(&self.view, stack, services, now)
            .and_then(|plan| admit::canaries(stack, services, policies).map(|()| plan.warnings))
            .and_then(|warnings| majority::admit::check(stack, services).map(|()| warnings))
            .map_err(|faults| problem(ProblemKind::BadRequest, &faults))?;
        warnings.extend(self.voters_warning(services));
        let stamp = self.stamp(wall);
        let services = &self.begin_jobs(stack, services, stamp);
        let named = services.keys().map(|name| (name.clone(), stamp)).collect();
        let manifest = self.next_manifest(stack, stamp, named);
        if let Some(waves) = waves {
            admit::staged(stack, services).map_err(|fault| problem(ProblemKind::BadRequest, &fault))?;
            if let Some(batch) = self.staging(stack, services, policies, waves, &manifest)? {
                return Ok((batch, warnings));
            }
            warnings.push("the first wave would be every node: all act at once".to_string());
        }
        let revision = |name: &ServiceName, service: &Service| {
            let key = ServiceKey { stack: stack.clone(), service: name.clone() };
            self.revision_of_bytes(&key, &codec::encode(service))
        };
        let revisions = services.iter().map(|(name, service)| (name.clone(), revision(name, service))).collect();
        let ordered = self.begin_rollouts(stack, &revisions, policies, stamp);
        warnings.extend(ordered.warnings);
        let attached = Tail(Attached { rollouts: ordered.rollouts });
        let manifest = StackManifest { attached, ..manifest };
        let mut batch = Batch::new();
        // Also what has not changed: a concurrent removal would otherwise take it out of a deploy that names it.
        for (name, service) in services {
            let key = ServiceKey { stack: stack.clone(), service: name.clone() };
            batch.push((RecordId::service(&key), Some(codec::encode(service))));
        }
        let dropped = self.view.held(stack).filter(|(key, ..)| !services.contains_key(&key.service));
        batch.extend(dropped.map(|(key, ..)| (RecordId::service(key), None)));
        batch.extend(ordered.batch);
        batch.push((RecordId::stack(stack), Some(codec::encode(&manifest))));
        batch.extend(self.unstaging(stack));
        if batch.len() > MAX_BATCH {
            let text = alloc::format!("{} records; a deploy writes at most {MAX_BATCH}: split the stack", batch.len());
            return Err(problem(ProblemKind::BadRequest, &text));
        }
        Ok((batch, warnings))
    }

    /// The stamp of a batch written now, or a little less where an hour was closed; above all that is held.
    pub(crate) fn stamp(&self, wall: Wall) -> Hlc {
        Hlc((self.gossip.state().clock().0 + 1).max(Hlc::from_wall(wall).0))
    }

    /// The manifest in force, with what was added to it elsewhere at the same time.
    pub(crate) fn manifest(&self, stack: &StackName) -> StackManifest {
        let mut manifest = self.view.stacks().get(stack).map(|(_, manifest)| manifest.clone()).unwrap_or_default();
        manifest.services.extend(self.view.added(stack));
        manifest
    }

    /// The manifest of a deploy that is newer than all that are known, with nothing attached.
    pub(crate) fn next_manifest(
        &self,
        stack: &StackName,
        stamp: Hlc,
        services: BTreeMap<ServiceName, Hlc>,
    ) -> StackManifest {
        let staged = self.view.last_wave(stack).map(|wave| wave.deployed).unwrap_or_default();
        let newest = self.manifest(stack).deployed.max(staged);
        let deployed = stamp.max(Hlc(newest.0.saturating_add(1)));
        StackManifest { deployed, services, attached: Tail::default() }
    }

    fn scaling(&self, key: &ServiceKey, replicas: u32, wall: Wall) -> Result<Batch, Reply> {
        let Some(force) = self.view.services().get(key) else {
            return Err(problem(ProblemKind::NotFound, &alloc::format!("there is no service {key}")));
        };
        if self.view.wave(&key.stack).is_some() {
            let text = alloc::format!(
                "stack {} has a deploy in its first wave, which would undo this; wait for its end, or deploy with --activate",
                key.stack
            );
            return Err(problem(ProblemKind::Unavailable, &text));
        }
        // Of what its author asked for last, which need not be what is in force after a failure, and as he wrote it: other
        // bytes would be another revision.
        let asked = self.view.asked(key).map_or(&force.service, |(_, service)| service);
        let Some(mut mode) = asked.mode.with_count(replicas) else {
            let text = alloc::format!("{key} is global: it runs once on each node and cannot be scaled");
            return Err(problem(ProblemKind::BadRequest, &text));
        };
        if mode.cron().is_some()
            && let Some(job) = mode.job_mut()
        {
            // Runs that have been due are as they were.
            job.since = self.stamp(wall);
        }
        admit::replicas(key, mode).map_err(|fault| problem(ProblemKind::BadRequest, &fault))?;
        let stacked =
            self.view.services_of(&key.stack).map(|(key, force)| (key.service.clone(), (*force.service).clone()));
        let mut stacked: BTreeMap<ServiceName, Service> = stacked.collect();
        stacked.insert(key.service.clone(), Service { mode, spec: asked.spec.clone() });
        if let Some(fault) = never(Some(&key.stack), &stacked).iter().find(|fault| fault.service == key.service) {
            let text = alloc::format!("{key}: {}; {}", fault.what, fault.remedy);
            return Err(problem(ProblemKind::BadRequest, &text));
        }
        let held = self.gossip.state().value(&RecordId::service(key));
        let written = held.and_then(|record| wire::specification(record.payload()?));
        let mut payload = codec::encode(&mode);
        payload.extend(written.map_or_else(|| codec::encode(&force.service.spec), <[u8]>::to_vec));
        let mut manifest = self.manifest(&key.stack);
        manifest.services.insert(key.service.clone(), self.stamp(wall));
        Ok(Vec::from([
            (RecordId::service(key), Some(payload)),
            (RecordId::stack(&key.stack), Some(codec::encode(&manifest))),
        ]))
    }

    pub(crate) fn removal(&self, stack: &StackName) -> Result<Batch, Reply> {
        let mut keys: BTreeSet<ServiceKey> = self.view.held(stack).map(|(key, ..)| key.clone()).collect();
        let staged = self.unstaging(stack);
        if keys.is_empty() && staged.is_empty() && !self.view.stacks().contains_key(stack) {
            return Err(problem(ProblemKind::NotFound, &alloc::format!("there is no stack {stack}")));
        }
        // Also those of which nothing is understood here.
        let named = self.manifest(stack).services.into_keys();
        keys.extend(named.map(|service| ServiceKey { stack: stack.clone(), service }));
        let mut batch: Batch = keys.iter().map(|key| (RecordId::service(key), None)).collect();
        self.view.rollouts_of(stack).for_each(|key| self.forget_rollouts(key, &mut batch));
        batch.push((RecordId::stack(stack), None));
        batch.extend(staged);
        Ok(batch)
    }

    fn admit(&mut self, id: RequestId, entry: &RosterEntry, now: Instant, wall: Wall) -> Result<(), Reply> {
        let state = self.gossip.state();
        let removal = state.value(&RecordId::removal(entry.node)).and_then(|r| r.read_as::<Removal>());
        if removal.is_some_and(|r| r.kind == RemovalKind::Revoked) {
            return Err(problem(
                ProblemKind::Denied,
                "this node was removed for good; start it with an empty data directory",
            ));
        }
        if let Some(token) = entry.token {
            let Some(token) = self.view.tokens().get(&token) else {
                return Err(problem(ProblemKind::Denied, "the token was removed meanwhile"));
            };
            self.has_uses_left(token, Some(entry.node))?;
        }
        let namesake = state.of_kind(Class::GrowOnly, Kind::ROSTER).find_map(|(_, record)| {
            let other: RosterEntry = record.read_as()?;
            let stands =
                matches!(self.gossip.member_state(other.node), Some(MemberState::Alive | MemberState::Suspect));
            (other.name == entry.name && other.node != entry.node && (stands || other.node == self.me)).then_some(other)
        });
        if let Some(other) = namesake {
            let text =
                alloc::format!("node {} is named {} already; choose another with --name", other.node, other.name);
            return Err(problem(ProblemKind::Denied, &text));
        }
        let record = RecordId::roster(entry.node);
        let (_, seq) = self.gossip.state_fact(now, wall, record, codec::encode(entry), &mut self.gouts);
        self.tokens.admitting(seq, entry);
        self.acks.admit(id, now + SHORT, seq);
        Ok(())
    }

    /// Tells gossip what writers wait for.
    fn await_copies(&mut self, now: Instant) {
        let (others, oldest) = self.acks.others_wanted();
        self.gossip.await_copies(now, others, oldest);
    }

    /// Answers requests that are fulfilled or late.
    pub(crate) fn answer(&mut self, now: Instant, out: &mut Outputs) {
        if self.acks.is_empty() {
            return;
        }
        let (view, gossip) = (&self.view, &self.gossip);
        let synced = gossip.is_synced();
        let newest = gossip.state().clock();
        let holds = |hlc: Hlc| view.holds(hlc) || (synced && hlc.wall().plus(OLD) < newest.wall());
        let roster = || {
            let kinds = [Kind::ROSTER, Kind::REMOVAL];
            let records = kinds.into_iter().flat_map(|kind| gossip.state().of_kind(Class::GrowOnly, kind));
            records.map(|(_, record)| record.bytes().to_vec()).collect()
        };
        let durable: Option<PersistSeq> = self.durable;
        for (id, reply) in self.acks.answers(now, durable, holds, roster) {
            out.push(Output::Reply(id, reply));
        }
        self.await_copies(now);
    }
}

pub(crate) fn problem(kind: ProblemKind, text: &str) -> Reply {
    Reply::Problem(Problem { kind, text: text.to_string() })
}
