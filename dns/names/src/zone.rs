//! The name table: what is known of services and nodes, kept from changes.
//!
//! Applying the same changes in any order that keeps each subject's last statement gives the same table. It never judges
//! health: who may be answered with is decided before, by the node's core.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{ServiceKey, Slot};

use crate::change::{Instance, NameChange, restate};
use crate::name::Fqdn;

/// Labels that no service or stack answers under directly below the zone: they have a meaning of their own.
pub const RESERVED: [&str; 3] = ["node", "rr", "nearest"];

/// A node as names see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) address: Option<IpAddr>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// The table. Cheap to clone: entries are shared.
#[derive(Clone, Debug)]
pub struct Zone {
    pub(crate) origin: Fqdn,
    pub(crate) cluster: String,
    pub(crate) ttl: u32,
    pub(crate) serial: u32,
    /// Stack, then service, both case-folded.
    pub(crate) stacks: BTreeMap<String, BTreeMap<String, Arc<Vec<Instance>>>>,
    pub(crate) nodes: BTreeMap<NodeId, Arc<Host>>,
    pub(crate) node_names: BTreeMap<String, NodeId>,
}

impl Zone {
    /// An empty zone, for example `dunlin.internal`, of the named cluster, with this TTL in seconds on all records.
    #[must_use]
    pub fn new(domain: &str, cluster: &str, ttl: u32) -> Self {
        Self {
            origin: Fqdn::parse(domain),
            cluster: cluster.to_string(),
            ttl,
            serial: 1,
            stacks: BTreeMap::new(),
            nodes: BTreeMap::new(),
            node_names: BTreeMap::new(),
        }
    }

    /// The zone's own name.
    #[must_use]
    pub const fn origin(&self) -> &Fqdn {
        &self.origin
    }

    /// What a service's names may be answered with; none if there is no such service.
    #[must_use]
    pub fn instances(&self, service: &ServiceKey) -> Option<&[Instance]> {
        let stack = self.stacks.get(&fold(service.stack.as_str()))?;
        stack.get(&fold(service.service.as_str())).map(|list| list.as_slice())
    }

    /// Applies one change. The serial grows with each, as secondaries and caches expect (RFC 1982).
    pub fn apply(&mut self, change: &NameChange) {
        self.serial = self.serial.wrapping_add(1).max(1);
        match change {
            NameChange::Service { service, instances } => {
                let stack = self.stacks.entry(fold(service.stack.as_str())).or_default();
                stack.insert(fold(service.service.as_str()), Arc::new(instances.clone()));
            }
            NameChange::Places { service, places, instances } => {
                let stack = self.stacks.get_mut(&fold(service.stack.as_str()));
                if let Some(list) = stack.and_then(|stack| stack.get_mut(&fold(service.service.as_str()))) {
                    restate(Arc::make_mut(list), places, instances);
                }
            }
            NameChange::ServiceGone(service) => self.remove_service(service),
            NameChange::Node { node, name, address, labels } => {
                self.remove_node(*node);
                let host = Host { name: fold(name.as_str()), address: *address, labels: labels.clone() };
                // Two nodes of one name: the lower id keeps it, so that every node answers the same.
                let owner = self.node_names.get(&host.name).map_or(*node, |other| *node.min(other));
                self.node_names.insert(host.name.clone(), owner);
                self.nodes.insert(*node, Arc::new(host));
            }
            NameChange::NodeGone(node) => self.remove_node(*node),
        }
    }

    fn remove_service(&mut self, service: &ServiceKey) {
        let stack = fold(service.stack.as_str());
        if let Some(services) = self.stacks.get_mut(&stack) {
            services.remove(&fold(service.service.as_str()));
            if services.is_empty() {
                self.stacks.remove(&stack);
            }
        }
    }

    fn remove_node(&mut self, node: NodeId) {
        let Some(old) = self.nodes.remove(&node) else { return };
        if self.node_names.get(&old.name) != Some(&node) {
            return;
        }
        let heir = self.nodes.iter().find(|(_, host)| host.name == old.name).map(|(id, _)| *id);
        match heir {
            Some(id) => self.node_names.insert(old.name.clone(), id),
            None => self.node_names.remove(&old.name),
        };
    }

    pub(crate) fn node_by_name(&self, name: &str) -> Option<&Host> {
        self.node_names.get(name).and_then(|id| self.nodes.get(id)).map(|host| &**host)
    }

    pub(crate) fn name_of(&self, address: IpAddr) -> Option<&Host> {
        self.nodes.values().find(|host| host.address == Some(address)).map(|host| &**host)
    }
}

fn fold(text: &str) -> String {
    text.to_ascii_lowercase()
}

/// A slot as a DNS label: its number, or the name of its node.
pub(crate) fn slot_label(zone: &Zone, slot: Slot) -> String {
    match slot {
        Slot::Number(n) => n.to_string(),
        Slot::Node(node) => zone.nodes.get(&node).map_or_else(|| fold(&node.to_string()), |host| host.name.clone()),
        Slot::Run(time, n) => alloc::format!("{time}-{n}"),
    }
}
