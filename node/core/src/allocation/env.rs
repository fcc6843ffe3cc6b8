//! The environment that dunlin gives to a workload, above what its author wrote.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};

use dunlin_gossip::model::{AllocId, Allocation, NodeHeader, PortSpec, ServiceSpec, Workload};

/// All of it: the author's variables, then ours, which win. Only the ports of a container are the author's to name: they
/// are its own behind the published ones, and its image may expect other words for them.
pub(crate) fn environment(
    id: AllocId,
    record: &Allocation,
    spec: &ServiceSpec,
    header: &NodeHeader,
) -> BTreeMap<String, String> {
    let mut env = spec.environment.clone();
    let mut set = |key: &str, value: String| {
        env.insert(key.to_string(), value);
    };
    set("DUNLIN_NODE", header.name.to_string());
    set("DUNLIN_STACK", record.replica.service.stack.to_string());
    set("DUNLIN_SERVICE", record.replica.service.service.to_string());
    set("DUNLIN_REPLICA", record.replica.slot.to_string());
    set("DUNLIN_ALLOC", id.to_string());
    set("DUNLIN_EPOCH", record.epoch.0.to_string());
    set("DUNLIN_ADDRESS", header.service_address.to_string());
    for (index, port) in record.ports.iter().enumerate() {
        let first = (index == 0).then(|| "PORT".to_string());
        for variable in first.into_iter().chain([PortSpec::variable(&port.name)]) {
            match spec.workload {
                Workload::Exec(_) => {
                    env.insert(variable, port.outer.to_string());
                }
                Workload::Docker(_) => {
                    env.entry(variable).or_insert_with(|| port.inner.to_string());
                }
            }
        }
    }
    for (kind, numbers) in devices(record, header) {
        let upper = kind.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
        env.insert("DUNLIN_DEVICE_".chars().chain(upper).collect(), numbers.clone());
        if kind == "gpu" {
            // What CUDA and NVIDIA's container runtime read; an author who sets them knows better.
            for variable in ["CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"] {
                env.entry(variable.to_string()).or_insert_with(|| numbers.clone());
            }
        }
    }
    env
}

/// The numbers of the devices that a claim holds, by kind, each kind counted from 0.
fn devices<'a>(record: &Allocation, header: &'a NodeHeader) -> BTreeMap<&'a str, String> {
    let (mut counts, mut numbers) = (BTreeMap::new(), BTreeMap::new());
    let holds = record.held.as_ref().map(|held| held.devices.as_slice()).unwrap_or_default();
    for (unit, group) in header.supply.units().enumerate() {
        let number: &mut usize = counts.entry(group.kind.as_str()).or_default();
        if holds.iter().any(|hold| usize::try_from(hold.unit) == Ok(unit)) {
            let text: &mut String = numbers.entry(group.kind.as_str()).or_default();
            let comma = if text.is_empty() { "" } else { "," };
            text.push_str(&alloc::format!("{comma}{number}"));
        }
        *number += 1;
    }
    numbers
}
