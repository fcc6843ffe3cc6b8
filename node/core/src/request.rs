//! Requests: checked, written as one batch, acknowledged when kept. A refusal changes nothing.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::engine::WriteError;
use dunlin_gossip::face::{MemberState, PersistSeq};
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::limits::MAX_BATCH;
use dunlin_gossip::model::{
    Asker, Mode, Removal, RemovalKind, RosterEntry, Service, ServiceKey, ServiceName, StackManifest, StackName,
};
use dunlin_gossip::time::{Duration, Instant, Wall};
use dunlin_gossip::wire::{Class, Kind, RecordId, codec};

use crate::ack::{Acks, WriteWait};
use crate::admit;
use crate::engine::Node;
use crate::face::{Ack, Output, Outputs, Problem, ProblemKind, Reply, Request, RequestId};
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
        if self.failed {
            return Err(problem(ProblemKind::Unavailable, "this node's disk failed; ask another node"));
        }
        if self.acks.is_full() {
            return Err(problem(
                ProblemKind::Unavailable,
                "too many requests wait on this node; try again, or another",
            ));
        }
        match request {
            Request::Deploy { stack, services, ack, timeout } => {
                let (batch, warnings) = self.deployment(&stack, &services, wall)?;
                self.write(asked(warnings), batch, Keep { ack, timeout }, now, wall)
            }
            Request::Scale { service, replicas, ack, timeout } => {
                let batch = self.scaling(&service, replicas, wall)?;
                self.may_edit(&batch)?;
                self.write(asked(Vec::new()), batch, Keep { ack, timeout }, now, wall)
            }
            Request::Remove { stack, ack, timeout } => {
                let batch = self.removal(&stack)?;
                self.write(asked(Vec::new()), batch, Keep { ack, timeout }, now, wall)
            }
            Request::Resolve { register, keep, ack, timeout } => {
                let batch = self.resolution(&register, keep, wall)?;
                self.may_edit(&batch)?;
                self.write(asked(Vec::new()), batch, Keep { ack, timeout }, now, wall)
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
            Request::Leave => self.leave(id, now),
        }
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
        wall: Wall,
    ) -> Result<(Batch, Vec<String>), Reply> {
        let warnings = admit::check(stack, services, &self.view.candidates())
            .map_err(|faults| problem(ProblemKind::BadRequest, &faults))?;
        let stamp = self.stamp(wall);
        let named = services.keys().map(|name| (name.clone(), stamp)).collect();
        let manifest = self.next_manifest(stack, stamp, named);
        let mut batch = Batch::new();
        // Also what has not changed: a concurrent removal would otherwise take it out of a deploy that names it.
        for (name, service) in services {
            let key = ServiceKey { stack: stack.clone(), service: name.clone() };
            batch.push((RecordId::service(&key), Some(codec::encode(service))));
        }
        let dropped = self.view.held(stack).filter(|(key, ..)| !services.contains_key(&key.service));
        batch.extend(dropped.map(|(key, ..)| (RecordId::service(key), None)));
        batch.push((RecordId::stack(stack), Some(codec::encode(&manifest))));
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

    /// The manifest in force.
    pub(crate) fn manifest(&self, stack: &StackName) -> StackManifest {
        self.view.stacks().get(stack).map(|(_, manifest)| manifest.clone()).unwrap_or_default()
    }

    /// The manifest of a deploy that is newer than all that are known.
    pub(crate) fn next_manifest(
        &self,
        stack: &StackName,
        stamp: Hlc,
        services: BTreeMap<ServiceName, Hlc>,
    ) -> StackManifest {
        let deployed = stamp.max(Hlc(self.manifest(stack).deployed.0.saturating_add(1)));
        StackManifest { deployed, services }
    }

    fn scaling(&self, key: &ServiceKey, replicas: u32, wall: Wall) -> Result<Batch, Reply> {
        let Some(force) = self.view.services().get(key) else {
            return Err(problem(ProblemKind::NotFound, &alloc::format!("there is no service {key}")));
        };
        let mode = Mode::Replicated(replicas);
        if force.service.mode == Mode::Global {
            let text = alloc::format!("{key} is global: it runs once on each node and cannot be scaled");
            return Err(problem(ProblemKind::BadRequest, &text));
        }
        admit::replicas(key, mode).map_err(|fault| problem(ProblemKind::BadRequest, &fault))?;
        let service = Service { mode, spec: force.service.spec.clone() };
        let mut manifest = self.manifest(&key.stack);
        manifest.services.insert(key.service.clone(), self.stamp(wall));
        Ok(Vec::from([
            (RecordId::service(key), Some(codec::encode(&service))),
            (RecordId::stack(&key.stack), Some(codec::encode(&manifest))),
        ]))
    }

    pub(crate) fn removal(&self, stack: &StackName) -> Result<Batch, Reply> {
        let mut keys: BTreeSet<ServiceKey> = self.view.held(stack).map(|(key, ..)| key.clone()).collect();
        if keys.is_empty() && !self.view.stacks().contains_key(stack) {
            return Err(problem(ProblemKind::NotFound, &alloc::format!("there is no stack {stack}")));
        }
        // Also those of which nothing is understood here.
        let named = self.manifest(stack).services.into_keys();
        keys.extend(named.map(|service| ServiceKey { stack: stack.clone(), service }));
        let mut batch: Batch = keys.iter().map(|key| (RecordId::service(key), None)).collect();
        batch.push((RecordId::stack(stack), None));
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
