//! How a conflict is settled: one of the versions is written again, by somebody who has seen them all.
//!
//! A stack is settled as a whole: the deploy that stays gives what it wrote of each service, and services that it does not
//! name go.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::model::{Attached, ServiceKey, ServiceName, StackManifest, StackName, Tail};
use dunlin_gossip::time::Wall;
use dunlin_gossip::wire::{Class, Kind, Record, RecordId, codec};

use crate::engine::Node;
use crate::face::{ProblemKind, Reply};
use crate::request::{Batch, problem};
use crate::view;

impl Node {
    /// The batch that leaves this version of a register only.
    pub(crate) fn resolution(&self, register: &RecordId, keep: u64, wall: Wall) -> Result<Batch, Reply> {
        let siblings = self.gossip.state().siblings(register);
        let Some(kept) = siblings.iter().find(|record| record.hash() == keep) else {
            let text = "this version is not held any more, or not yet; `dunlin conflicts` lists what is";
            return Err(problem(ProblemKind::NotFound, text));
        };
        let value = kept.payload().map(Vec::from);
        let key = core::str::from_utf8(&register.key).unwrap_or_default();
        match (register.class, register.kind, key.split_once('/')) {
            (Class::ManyWriters, Kind::STACK, None) => {
                let stack =
                    StackName::new(key).map_err(|e| problem(ProblemKind::BadRequest, &alloc::format!("{e}")))?;
                self.whole(&stack, siblings, kept, wall)
            }
            (Class::ManyWriters, Kind::SERVICE, Some((stack, service))) => {
                let names = StackName::new(stack).and_then(|stack| Ok((stack, ServiceName::new(service)?)));
                let (stack, service) = names.map_err(|e| problem(ProblemKind::BadRequest, &alloc::format!("{e}")))?;
                let stamp = self.stamp(wall);
                let mut manifest = self.manifest(&stack);
                let mut batch = Batch::new();
                let key = ServiceKey { stack: stack.clone(), service: service.clone() };
                match &value {
                    Some(payload) => {
                        if let Some(rollout) = self.settled_rollout(&key, payload, stamp) {
                            batch.push((RecordId::rollout(&key), Some(rollout)));
                            manifest.attached.rollouts.insert(service.clone(), stamp);
                        }
                        manifest.services.insert(service, stamp);
                    }
                    None => {
                        self.forget_rollouts(&key, &mut batch);
                        manifest.attached.rollouts.remove(&service);
                        manifest.services.remove(&service);
                    }
                }
                let manifest = (!manifest.services.is_empty()).then(|| codec::encode(&manifest));
                batch.extend([(register.clone(), value), (RecordId::stack(&stack), manifest)]);
                Ok(batch)
            }
            (Class::ManyWriters, ..) => Ok(Vec::from([(register.clone(), value)])),
            (Class::OneWriter | Class::GrowOnly, ..) => {
                Err(problem(ProblemKind::BadRequest, "nothing of this kind can be in conflict"))
            }
        }
    }

    /// A stack as one of its deploys, or its removal, would have it.
    fn whole(&self, stack: &StackName, siblings: &[Record], kept: &Record, wall: Wall) -> Result<Batch, Reply> {
        let unreadable = || problem(ProblemKind::Unavailable, "a newer version of dunlin wrote this; settle it there");
        if kept.payload().is_none() {
            return self.removal(stack);
        }
        let manifests = view::manifests(siblings).ok_or_else(unreadable)?;
        let stays = manifests.iter().find(|(record, _)| *record == kept).map(|(_, manifest)| &manifest.services);
        let stays = stays.ok_or_else(unreadable)?;
        let stamp = self.stamp(wall);
        let named = manifests.iter().flat_map(|(_, manifest)| manifest.services.keys());
        let held = self.view.held(stack).map(|(key, ..)| &key.service);
        let all: BTreeSet<&ServiceName> = named.chain(held).collect();
        let mut batch = Batch::new();
        let mut services = stays.clone();
        let mut rollouts = alloc::collections::BTreeMap::new();
        for name in all {
            let key = ServiceKey { stack: stack.clone(), service: name.clone() };
            let register = RecordId::service(&key);
            let Some(at) = stays.get(name) else {
                batch.push((register, None));
                self.forget_rollouts(&key, &mut batch);
                continue;
            };
            if let Some((hlc, _)) = self.view.rollout(&key) {
                rollouts.insert(name.clone(), *hlc);
            }
            let theirs = self.as_written(&register, kept, *at);
            if let Some(value) = theirs {
                if let Some(rollout) = self.settled_rollout(&key, &value, stamp) {
                    batch.push((RecordId::rollout(&key), Some(rollout)));
                    rollouts.insert(name.clone(), stamp);
                }
                batch.push((register, Some(value)));
                services.insert(name.clone(), stamp);
            }
        }
        let attached = Tail(Attached { rollouts });
        let manifest = StackManifest { attached, ..self.next_manifest(stack, stamp, services) };
        batch.push((RecordId::stack(stack), Some(codec::encode(&manifest))));
        batch.extend(self.unstaging(stack));
        Ok(batch)
    }

    /// What a deploy wrote of a service, if others wrote it as well; none leaves the register as it is.
    fn as_written(&self, register: &RecordId, deploy: &Record, at: Hlc) -> Option<Vec<u8>> {
        let siblings = self.gossip.state().siblings(register);
        let by_it = |record: &&Record| record.author() == deploy.author() && record.hlc() >= at;
        let found = siblings.iter().filter(|_| siblings.len() > 1).find(by_it);
        found.and_then(Record::payload).map(Vec::from)
    }
}
