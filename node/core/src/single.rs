//! One service more in a stack, or one less, without a deploy of the whole: what ad hoc runs are made of.
//!
//! Each writes the manifest as well. Two that do so at the same moment have written two manifests of the same deploy, and what
//! either adds is in force ([`merged`]).

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::limits::MAX_SERVICES;
use dunlin_gossip::model::{Service, ServiceKey, ServiceName, StackManifest, StackName};
use dunlin_gossip::time::{Instant, Wall};
use dunlin_gossip::wire::{RecordId, codec};

use crate::engine::Node;
use crate::face::{ProblemKind, Reply};
use crate::majority;
use crate::query::ask;
use crate::request::{Batch, problem};

impl Node {
    /// One service more.
    pub(crate) fn addition(
        &self,
        key: &ServiceKey,
        service: &Service,
        now: Instant,
        wall: Wall,
    ) -> Result<(Batch, Vec<String>), Reply> {
        let stack = &key.stack;
        self.without_wave(stack)?;
        let mut all: BTreeMap<ServiceName, Service> =
            self.view.held(stack).map(|(key, service, _)| (key.service.clone(), (**service).clone())).collect();
        if all.contains_key(&key.service) {
            let text = alloc::format!("there is a service {key} already; name it otherwise, or remove that one first");
            return Err(problem(ProblemKind::BadRequest, &text));
        }
        if all.len() >= MAX_SERVICES {
            let text = alloc::format!("stack {stack} has {} services already; remove what is done with", all.len());
            return Err(problem(ProblemKind::BadRequest, &text));
        }
        all.insert(key.service.clone(), service.clone());
        let mut warnings = ask::plan(&self.view, stack, &all, now)
            .map(|plan| plan.warnings)
            .and_then(|warnings| majority::admit::check(stack, &all).map(|()| warnings))
            .map_err(|faults| problem(ProblemKind::BadRequest, &faults))?;
        let name = alloc::format!("{key}: ");
        warnings.retain(|warning| warning.starts_with(&name));
        let (stamp, only) = (self.stamp(wall), BTreeMap::from([(key.service.clone(), service.clone())]));
        let begun = self.begin_jobs(stack, &only, stamp);
        let mut manifest = self.manifest(stack);
        manifest.services.insert(key.service.clone(), stamp);
        let records = begun.values().map(|service| (RecordId::service(key), Some(codec::encode(service))));
        let mut batch: Batch = records.collect();
        batch.push((RecordId::stack(stack), Some(codec::encode(&manifest))));
        Ok((batch, warnings))
    }

    /// One service less.
    pub(crate) fn dropping(&self, key: &ServiceKey) -> Result<Batch, Reply> {
        let stack = &key.stack;
        self.without_wave(stack)?;
        let mut manifest = self.manifest(stack);
        let is_held = self.view.held(stack).any(|(held, ..)| held == key);
        if manifest.services.remove(&key.service).is_none() && !is_held {
            return Err(problem(
                ProblemKind::NotFound,
                &alloc::format!("there is no service {key}; dunlin services lists them"),
            ));
        }
        manifest.attached.0.rollouts.remove(&key.service);
        let is_last = manifest.services.is_empty();
        let mut batch = Batch::from([(RecordId::service(key), None)]);
        self.forget_rollouts(key, &mut batch);
        batch.push((RecordId::stack(stack), (!is_last).then(|| codec::encode(&manifest))));
        Ok(batch)
    }

    fn without_wave(&self, stack: &StackName) -> Result<(), Reply> {
        if self.view.wave(stack).is_none() {
            return Ok(());
        }
        let text = alloc::format!(
            "stack {stack} has a deploy in its first wave, which would undo this; wait for its end, or use another stack"
        );
        Err(problem(ProblemKind::Unavailable, &text))
    }
}

/// What manifests that were written at the same time come to: what all of them name, and what some of them name besides.
pub(crate) fn merged(
    siblings: Vec<(Hlc, StackManifest)>,
) -> Option<((Hlc, StackManifest), BTreeMap<ServiceName, Hlc>)> {
    let newest = siblings.iter().map(|(_, manifest)| manifest.deployed).max()?;
    let mut same = siblings.into_iter().filter(|(_, manifest)| manifest.deployed == newest);
    let (mut hlc, mut base) = same.next()?;
    let mut added = BTreeMap::new();
    for (other, manifest) in same {
        let mut theirs = manifest.services;
        let (mut both, mut extra) = (BTreeMap::new(), core::mem::take(&mut added));
        for (name, stamp) in core::mem::take(&mut base.services) {
            match theirs.remove(&name) {
                Some(stamp_there) => both.insert(name, stamp.max(stamp_there)),
                None => extra.insert(name, stamp),
            };
        }
        for (name, stamp) in theirs {
            let known: &mut Hlc = extra.entry(name).or_insert(stamp);
            *known = stamp.max(*known);
        }
        (base.services, added) = (both, extra);
        if other > hlc {
            (hlc, base.attached) = (other, manifest.attached);
        }
    }
    Some(((hlc, base), added))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(deployed: u64, services: &[(&str, u64)]) -> StackManifest {
        let name = |text: &str| ServiceName::new(text).expect("a name");
        let services = services.iter().map(|(service, stamp)| (name(service), Hlc(*stamp))).collect();
        StackManifest { deployed: Hlc(deployed), services, ..StackManifest::default() }
    }

    #[test]
    fn what_is_added_at_the_same_time_is_all_there() {
        let both = [manifest(1, &[("a", 1), ("b", 5)]), manifest(1, &[("a", 3), ("c", 6)])];
        let siblings = |order: [usize; 2]| order.map(|n| (Hlc(n as u64 + 5), both[n].clone())).to_vec();
        let (base, added) = merged(siblings([0, 1])).expect("two");
        assert_eq!(base, (Hlc(6), manifest(1, &[("a", 3)])));
        assert_eq!(added, manifest(1, &[("b", 5), ("c", 6)]).services);
        assert_eq!(merged(siblings([1, 0])), Some((base, added)), "in whatever order");
    }

    #[test]
    fn a_later_deploy_says_what_there_is() {
        let siblings = Vec::from([(Hlc(9), manifest(1, &[("a", 1)])), (Hlc(8), manifest(2, &[("b", 8)]))]);
        assert_eq!(merged(siblings), Some(((Hlc(8), manifest(2, &[("b", 8)])), BTreeMap::new())));
        assert_eq!(merged(Vec::new()), None);
    }
}
