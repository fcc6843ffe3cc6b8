//! What a deploy writes about rollouts, and what people order about one under way: pause, resume, promote, undo.
//!
//! The revision that a deploy replaces is kept as its author wrote it, so that there is a way back, and so that what still
//! runs can be looked after by a node that was not there when it was wanted.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::hash::hash64;
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::model::{MAX_KEPT, RevisionId, Rollout, RolloutPolicy, ServiceKey, ServiceName, StackName};
use dunlin_gossip::time::Wall;
use dunlin_gossip::wire::{self, Kind, RecordId, codec, rehearsal};

use super::turns;
use crate::engine::Node;
use crate::face::{ProblemKind, Reply, RolloutOrder};
use crate::request::{Batch, problem};

/// What a deploy writes besides its services.
#[derive(Default)]
pub(crate) struct Ordered {
    pub(crate) batch: Batch,
    /// Stamps of the rollout registers that belong to it.
    pub(crate) rollouts: BTreeMap<ServiceName, Hlc>,
    pub(crate) warnings: Vec<String>,
}

impl Node {
    /// The rollouts that a deploy begins.
    pub(crate) fn begin_rollouts(
        &self,
        stack: &StackName,
        revisions: &BTreeMap<ServiceName, RevisionId>,
        policies: &BTreeMap<ServiceName, RolloutPolicy>,
        stamp: Hlc,
    ) -> Ordered {
        let mut ordered = Ordered::default();
        for (name, to) in revisions {
            let key = ServiceKey { stack: stack.clone(), service: name.clone() };
            let policy = policies.get(name).copied().unwrap_or_default();
            let to = *to;
            let begun = self.begin_rollout(&key, policy, to, stamp, false);
            self.put_aside(&key, to, begun.as_ref().and_then(|rollout| rollout.from), &mut ordered.batch);
            if let Some(rollout) = begun {
                if rollout.paused {
                    ordered.warnings.push(alloc::format!(
                        "rollouts of {key} are paused; `dunlin rollout resume {key}` lets this one go on"
                    ));
                }
                ordered.batch.push((RecordId::rollout(&key), Some(codec::encode(&rollout))));
                ordered.rollouts.insert(name.clone(), stamp);
            }
        }
        let is_named = |key: &&ServiceKey| revisions.contains_key(&key.service);
        for key in self.view.rollouts_of(stack).filter(|key| !is_named(key)) {
            self.forget_rollouts(key, &mut ordered.batch);
        }
        ordered
    }

    /// Drops all that is held about a service's rollouts.
    pub(crate) fn forget_rollouts(&self, key: &ServiceKey, batch: &mut Batch) {
        if self.view.rollout(key).is_some() {
            batch.push((RecordId::rollout(key), None));
        }
        batch.extend(self.view.kept(key).map(|(revision, _)| (RecordId::revision(key, revision), None)));
        batch.extend(self.view.failed(key).map(|(register, _)| (register.clone(), None)));
    }

    /// The register of a rollout that begins now; none where there is nothing to say in one.
    fn begin_rollout(
        &self,
        key: &ServiceKey,
        policy: RolloutPolicy,
        to: RevisionId,
        stamp: Hlc,
        undo: bool,
    ) -> Option<Rollout> {
        let before = self.view.rollout(key).map(|(_, rollout)| rollout);
        if before.is_none() && policy == RolloutPolicy::default() && !undo {
            return None;
        }
        // Where only some act on what is staged, it is in force nowhere else.
        let force = match self.view.acted_wave(&key.stack) {
            Some(_) => self.view.asked(key).map(|(asked, _)| asked),
            None => self.view.services().get(key).map(|force| force.revision),
        };
        let under_way = before.filter(|before| before.of == to && before.undo == undo && force == Some(to));
        let has_failed = |revision| self.view.has_failed(key, revision, &self.view.update_policy(key));
        let failed = under_way.is_some_and(|_| has_failed(to));
        let paused = before.is_some_and(|before| before.paused);
        Some(match under_way.filter(|_| !failed) {
            // The same again changes nothing of a rollout under way, but how it goes on.
            Some(before) => Rollout { policy, ..before.clone() },
            None => {
                let from = match under_way {
                    Some(before) => before.from,
                    // What failed is nothing to go back to.
                    None => {
                        let failed = before.filter(|before| Some(before.of) == force && has_failed(before.of));
                        failed.and_then(|failed| failed.from).or(force).filter(|from| *from != to)
                    }
                };
                Rollout { policy, of: to, from, attempt: stamp, paused, promoted: false, undo }
            }
        })
    }

    /// A service's rollout once a conflict about it is settled: to the version that stays.
    pub(crate) fn settled_rollout(&self, key: &ServiceKey, payload: &[u8], stamp: Hlc) -> Option<Vec<u8>> {
        let (_, held) = self.view.rollout(key)?;
        let to = self.revision_of_bytes(key, payload);
        self.begin_rollout(key, held.policy, to, stamp, held.undo).map(|rollout| codec::encode(&rollout))
    }

    /// Keeps the revision that a deploy replaces, and lets go of what is too old, and of failures at what went before. The
    /// one that the rollout leads away `from` is written again: a removal of the stack at the same moment, which the deploy
    /// outlives, must not take it away.
    fn put_aside(&self, key: &ServiceKey, to: RevisionId, from: Option<RevisionId>, batch: &mut Batch) {
        let Some((asked, _)) = self.view.asked(key) else { return };
        let again = from.map(|from| RecordId::revision(key, from));
        let held = again.and_then(|id| Some((self.gossip.state().value(&id)?.payload()?.to_vec(), id)));
        batch.extend(held.map(|(payload, id)| (id, Some(payload))));
        let is_kept = self.view.kept(key).any(|(revision, _)| revision == asked);
        if asked != to && !is_kept {
            let value = self.gossip.state().value(&RecordId::service(key));
            if let Some(payload) = value.and_then(|record| record.payload()) {
                batch.push((RecordId::revision(key, asked), Some(payload.to_vec())));
            }
        }
        let mut kept: Vec<(Hlc, RevisionId)> =
            self.view.kept(key).map(|(revision, kept)| (kept.hlc, revision)).collect();
        kept.sort_unstable();
        let surplus = (kept.len() + usize::from(asked != to && !is_kept)).saturating_sub(MAX_KEPT);
        let from = self.view.services().get(key).map(|force| force.revision);
        let too_old = kept.into_iter().filter(|(_, revision)| Some(*revision) != from).take(surplus);
        batch.extend(too_old.map(|(_, revision)| (RecordId::revision(key, revision), None)));
        let void = self.view.failed(key).filter(|(_, failure)| failure.revision != to);
        batch.extend(void.map(|(register, _)| (register.clone(), None)));
    }

    /// What a person orders about a rollout.
    pub(crate) fn order_rollout(&self, key: &ServiceKey, order: &RolloutOrder, wall: Wall) -> Result<Batch, Reply> {
        let refuse = |text: &str| Err(problem(ProblemKind::BadRequest, text));
        let Some((asked, _)) = self.view.asked(key).filter(|_| self.view.services().contains_key(key)) else {
            return Err(problem(ProblemKind::NotFound, &alloc::format!("there is no service {key}; dunlin services")));
        };
        let stamp = self.stamp(wall);
        let fresh = || Rollout {
            policy: RolloutPolicy::default(),
            of: asked,
            from: None,
            attempt: stamp,
            paused: false,
            promoted: false,
            undo: false,
        };
        let held = self.view.rollout(key).map_or_else(fresh, |(_, rollout)| rollout.clone());
        let policy = self.view.update_policy(key);
        let force = self.view.services().get(key).map_or(asked, |force| force.revision);
        let has_failed = self.view.is_rolled_back(key) || self.view.has_failed(key, force, &policy);
        let next = match order {
            RolloutOrder::Pause if held.paused => return refuse("it is paused already; dunlin rollout resume"),
            RolloutOrder::Pause => Rollout { paused: true, ..held },
            RolloutOrder::Resume if !held.paused && !has_failed => {
                return refuse("it is neither paused nor failed; dunlin rollout status");
            }
            RolloutOrder::Resume => {
                let attempt = if has_failed { stamp } else { held.attempt };
                Rollout { paused: false, attempt, ..held }
            }
            RolloutOrder::Promote if held.policy.canary.is_none() || held.promoted || held.of != asked => {
                return refuse("no canaries wait to be promoted; dunlin rollout status");
            }
            RolloutOrder::Promote => Rollout { promoted: true, ..held },
            RolloutOrder::Undo { to } => return self.undo(key, *to, wall),
        };
        let void = self.view.failed(key).filter(|(_, failure)| failure.attempt != next.attempt);
        let mut batch: Batch = void.map(|(register, _)| (register.clone(), None)).collect();
        batch.push((RecordId::rollout(key), Some(codec::encode(&next))));
        Ok(batch)
    }

    /// The way back to a kept revision: by default to the one before.
    fn undo(&self, key: &ServiceKey, to: Option<RevisionId>, wall: Wall) -> Result<Batch, Reply> {
        let Some((asked, service)) = self.view.asked(key) else {
            return Err(problem(ProblemKind::NotFound, &alloc::format!("there is no service {key}; dunlin services")));
        };
        let last =
            self.view.rollout(key).filter(|(_, rollout)| rollout.of == asked).and_then(|(_, rollout)| rollout.from);
        let newest = || {
            let others = self.view.kept(key).filter(|(revision, _)| *revision != asked);
            others.max_by_key(|(_, kept)| kept.hlc).map(|(revision, _)| revision)
        };
        let Some(to) = to.or(last).or_else(newest) else {
            let text = alloc::format!("{key} has no revision to go back to; it was deployed once only");
            return Err(problem(ProblemKind::BadRequest, &text));
        };
        if to == asked {
            return Err(problem(ProblemKind::BadRequest, &alloc::format!("{key} is at revision {to} already")));
        }
        let kept = self.gossip.state().value(&RecordId::revision(key, to));
        let Some(specification) = kept.and_then(|record| wire::specification(record.payload()?)) else {
            let text =
                alloc::format!("revision {to} of {key} is not kept; `dunlin rollout history {key}` lists what is");
            return Err(problem(ProblemKind::NotFound, &text));
        };
        let (stamp, mut mode) = (self.stamp(wall), service.mode);
        if let Some(job) = mode.job_mut() {
            (job.since, job.again) = (stamp, stamp);
        }
        let mut payload = codec::encode(&mode);
        payload.extend_from_slice(specification);
        let written = self.revision_of_bytes(key, &payload);
        let policy = self.view.rollout(key).map(|(_, rollout)| rollout.policy).unwrap_or_default();
        let mut batch = Batch::from([(RecordId::service(key), Some(payload))]);
        let mut manifest = self.manifest(&key.stack);
        manifest.services.insert(key.service.clone(), stamp);
        let begun = self.begin_rollout(key, policy, written, stamp, true);
        self.put_aside(key, written, begun.as_ref().and_then(|rollout| rollout.from), &mut batch);
        if let Some(rollout) = begun {
            batch.push((RecordId::rollout(key), Some(codec::encode(&rollout))));
            manifest.attached.rollouts.insert(key.service.clone(), stamp);
        }
        batch.push((RecordId::stack(&key.stack), Some(codec::encode(&manifest))));
        Ok(batch)
    }

    /// The revision that a service's value will have once it is written by this node.
    pub(crate) fn revision_of_bytes(&self, key: &ServiceKey, payload: &[u8]) -> RevisionId {
        let held = self.gossip.state().value(&RecordId::service(key)).and_then(|record| record.payload());
        let written = rehearsal::as_written(self.config.wire, Kind::SERVICE, payload, held);
        RevisionId(hash64(wire::specification(&written).unwrap_or_default()))
    }
}

/// Why a rollout does not go on, in words; none if it does, or is over.
pub(crate) fn halted_by(node: &Node, key: &ServiceKey) -> Option<String> {
    let view = node.view();
    let (_, order) = view.rollout(key)?;
    let force = view.services().get(key)?;
    let policy = view.update_policy(key);
    if !turns::is_halted(view, key, Some(order), force.revision, &policy) {
        return None;
    }
    if order.paused {
        return Some("paused by hand".to_string());
    }
    let first = view.failures(key, force.revision).next();
    first.map(|failure| alloc::format!("{} failed: {}", failure.replica, failure.reason))
}
