//! The environment that dunlin gives to a workload, above what its author wrote.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

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
    let mut numbers: BTreeMap<String, String> = BTreeMap::new();
    for (kind, number) in device_numbers(record, header) {
        let text = numbers.entry(kind).or_default();
        let comma = if text.is_empty() { "" } else { "," };
        text.push_str(&alloc::format!("{comma}{number}"));
    }
    for (kind, numbers) in numbers {
        let upper = kind.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
        env.insert("DUNLIN_DEVICE_".chars().chain(upper).collect(), numbers.clone());
        if kind == "gpu" {
            // What NVIDIA's container runtime reads, and what CUDA and ROCm do in a process that sees all of the host's; in
            // a container there are only those that it got, numbered anew. An author who sets them knows better.
            env.entry("NVIDIA_VISIBLE_DEVICES".to_string()).or_insert_with(|| numbers.clone());
            if matches!(spec.workload, Workload::Exec(_)) {
                env.entry("CUDA_DEVICE_ORDER".to_string()).or_insert_with(|| "PCI_BUS_ID".to_string());
                for variable in ["CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"] {
                    env.entry(variable.to_string()).or_insert_with(|| numbers.clone());
                }
            }
        }
    }
    env
}

/// The devices that a claim holds: the kind, and the number among those of its kind on the node, from 0.
pub(super) fn device_numbers(record: &Allocation, header: &NodeHeader) -> Vec<(String, u32)> {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    let holds = record.held.as_ref().map(|held| held.devices.as_slice()).unwrap_or_default();
    let mut numbers = Vec::new();
    for (unit, group) in header.supply.units().enumerate() {
        let number = counts.entry(group.kind.as_str()).or_default();
        if holds.iter().any(|hold| usize::try_from(hold.unit) == Ok(unit)) {
            numbers.push((group.kind.clone(), *number));
        }
        *number += 1;
    }
    numbers
}
