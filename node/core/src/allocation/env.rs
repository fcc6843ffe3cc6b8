//! The environment that dunlin gives to a workload, above what its author wrote.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};

use dunlin_gossip::model::{AllocId, Allocation, NodeHeader, ServiceSpec, Workload};

/// All of it: the author's variables, then ours, which win.
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
        let number = match spec.workload {
            Workload::Exec(_) => port.outer,
            Workload::Docker(_) => port.inner,
        };
        if index == 0 {
            set("PORT", number.to_string());
        }
        set(&alloc::format!("PORT_{}", variable(&port.name)), number.to_string());
    }
    env
}

/// A port's name as part of a variable's: what a shell would not accept becomes `_`.
fn variable(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}
