//! Before a deploy: what cannot keep the promise of one at most is refused, and its author learns what the promise costs.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use dunlin_gossip::model::{Mode, Prefer, Service, ServiceKey, ServiceName, StackName, VoterList, Workload};

use crate::engine::Node;

/// What is wrong with services of which one at most may run, one line each.
pub(crate) fn check(stack: &StackName, services: &BTreeMap<ServiceName, Service>) -> Result<(), String> {
    let mut faults: Vec<String> = Vec::new();
    for (name, service) in services.iter().filter(|(_, service)| service.spec.prefer == Prefer::Majority) {
        let key = ServiceKey { stack: stack.clone(), service: name.clone() };
        if matches!(service.spec.workload, Workload::Docker(_)) {
            faults.push(format!(
                "{key}: a container has no keeper that could kill it at the end of its lease, so partition: majority cannot be \
                 kept; run a command instead of an image, or remove the key"
            ));
        }
        if service.mode.job().is_some() {
            faults.push(format!(
                "{key}: what runs to completion is done at least once, and where nodes cannot hear each other twice, so \
                 partition: majority cannot be kept; remove it, and let the work tell its runs apart by DUNLIN_EPOCH"
            ));
        }
        if service.mode == Mode::Global {
            faults.push(format!(
                "{key}: a global service runs on each node by name, where no majority decides; remove partition: majority"
            ));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

impl Node {
    /// What the author of a deploy should know of the voters.
    pub(crate) fn voters_warning(&self, services: &BTreeMap<ServiceName, Service>) -> Option<String> {
        let first = services.iter().find(|(_, service)| service.spec.prefer == Prefer::Majority);
        let (name, _) = first?;
        let list = self.voters();
        let of = list.voters.len();
        if of == 0 {
            return Some(format!("{name} waits for voters: the first node of the cluster has not named any yet"));
        }
        let lost = of - VoterList::majority(of) + 1;
        let name_of =
            |node| self.admission_of(node).map_or_else(|| format!("{node:?}"), |entry| format!("{}", entry.name));
        let names: Vec<String> = list.voters.iter().map(|node| name_of(*node)).collect();
        let back = if lost == 1 {
            "is lost it stops everywhere, until that one is back with its disk"
        } else {
            "are lost it stops everywhere, until enough of them are back with their disks"
        };
        Some(format!(
            "{name} runs only while more than half of the voters answer ({}): when {lost} of {of} {back}",
            names.join(", ")
        ))
    }
}
