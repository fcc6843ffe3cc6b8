//! The name table: what is known of services and nodes, kept from changes.
//!
//! Applying the same changes in any order that keeps each subject's last statement gives the same table. It never judges
//! health: who may be answered with is decided before, by the node's core.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use dunlin_gossip::hash::hash64;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{ServiceKey, Slot};

use crate::change::{Instance, NameChange, restate};
use crate::name::Fqdn;
use crate::near::Classes;
use crate::packed::Packed;
use crate::table::{Keyed, Table};

/// Labels that no service or stack answers under directly below the zone: they have a meaning of their own.
pub const RESERVED: [&str; 3] = ["node", "rr", "nearest"];

/// A node as names see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) address: Option<IpAddr>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// A service as names see it; copies share all of it.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) instances: Arc<[Instance]>,
    /// Its names and addresses as they are sent.
    pub(crate) packed: Packed,
}

impl Service {
    /// Its name, case-folded.
    pub(crate) fn service(&self) -> &str {
        self.packed.labels().0
    }

    /// Its stack's name, case-folded.
    pub(crate) fn stack(&self) -> &str {
        self.packed.labels().1
    }
}

impl Keyed for Service {
    fn key(&self) -> &[u8] {
        self.packed.key()
    }
}

/// Who has an address.
#[derive(Clone, Debug)]
pub(crate) struct Owners {
    address: AddressKey,
    /// Services (by the hash of their key) and slots.
    list: Vec<(u64, Slot)>,
}

impl Keyed for Owners {
    fn key(&self) -> &[u8] {
        self.address.bytes()
    }
}

/// The table. Cheap to clone, whatever its size: entries are shared.
#[derive(Clone, Debug)]
pub struct Zone {
    pub(crate) origin: Fqdn,
    /// The origin as it stands in a packet, without the root's zero.
    pub(crate) origin_wire: Arc<[u8]>,
    /// The node that answers; names that say "here" or "near" are seen from it.
    pub(crate) here: Option<NodeId>,
    pub(crate) cluster: String,
    pub(crate) ttl: u32,
    pub(crate) serial: u32,
    /// By service and stack as they stand in a packet, case-folded.
    pub(crate) services: Table<Service>,
    /// How many services each stack has.
    pub(crate) stacks: Arc<BTreeMap<String, usize>>,
    pub(crate) nodes: Arc<BTreeMap<NodeId, Arc<Host>>>,
    pub(crate) node_names: Arc<BTreeMap<String, NodeId>>,
    /// Instances by an address of their own (not their node's).
    pub(crate) reverse: Table<Owners>,
    /// How far nodes are from here.
    pub(crate) far: Arc<Classes>,
}

impl Zone {
    /// An empty zone, for example `dunlin.internal`, of the named cluster, with this TTL in seconds on all records.
    #[must_use]
    pub fn new(domain: &str, cluster: &str, ttl: u32) -> Self {
        let origin = Fqdn::parse(domain);
        let origin_wire = origin.wire().unwrap_or_default().into();
        Self {
            origin,
            origin_wire,
            here: None,
            cluster: cluster.to_string(),
            ttl,
            serial: 1,
            services: Table::default(),
            stacks: Arc::default(),
            nodes: Arc::default(),
            node_names: Arc::default(),
            reverse: Table::default(),
            far: Arc::default(),
        }
    }

    /// As this node sees it: `nearest` is seen from there.
    #[must_use]
    pub const fn seen_from(mut self, here: NodeId) -> Self {
        self.here = Some(here);
        self
    }

    /// The zone's own name.
    #[must_use]
    pub const fn origin(&self) -> &Fqdn {
        &self.origin
    }

    /// How many services have names.
    #[must_use]
    pub const fn services(&self) -> usize {
        self.services.len()
    }

    /// What a service's names may be answered with; none if there is no such service.
    #[must_use]
    pub fn instances(&self, service: &ServiceKey) -> Option<&[Instance]> {
        self.services.get(&service_key(service)).map(|held| &*held.instances)
    }

    /// The addresses of nodes other than the one that answers.
    #[must_use]
    pub fn others(&self) -> Vec<IpAddr> {
        let others = self.nodes.iter().filter(|(id, _)| Some(**id) != self.here);
        others.filter_map(|(_, host)| host.address).collect()
    }

    /// Takes the round trips from here to other nodes, by which `nearest` orders nodes of other zones. True if that changes an
    /// answer; a node that is not among them is not measured any more.
    pub fn measure(&mut self, round_trips: &BTreeMap<NodeId, Duration>) -> bool {
        let after = self.far.after(round_trips);
        let differs = *self.far != after;
        if differs {
            self.far = Arc::new(after);
            self.serial = self.serial.wrapping_add(1).max(1);
        }
        differs
    }

    /// Applies one change. The serial grows with each, as secondaries and caches expect (RFC 1982).
    pub fn apply(&mut self, change: &NameChange) {
        self.serial = self.serial.wrapping_add(1).max(1);
        match change {
            NameChange::Service { service, instances } => self.set_service(service, instances.clone()),
            NameChange::Places { service, places, instances } => {
                if let Some(held) = self.services.get(&service_key(service)) {
                    let mut list = held.instances.to_vec();
                    restate(&mut list, places, instances);
                    self.set_service(service, list);
                }
            }
            NameChange::ServiceGone(service) => self.remove_service(service),
            NameChange::Node { node, name, address, labels } => {
                let host = Host { name: fold(name.as_str()), address: *address, labels: labels.clone() };
                if self.nodes.get(node).is_some_and(|held| **held == host) {
                    return;
                }
                self.remove_node(*node);
                let names = Arc::make_mut(&mut self.node_names);
                // Two nodes of one name: the lower id keeps it, so that every node answers the same.
                let owner = names.get(&host.name).map_or(*node, |other| *node.min(other));
                names.insert(host.name.clone(), owner);
                Arc::make_mut(&mut self.nodes).insert(*node, Arc::new(host));
            }
            NameChange::NodeGone(node) => self.remove_node(*node),
        }
    }

    fn set_service(&mut self, service: &ServiceKey, instances: Vec<Instance>) {
        let key = service_key(service);
        match self.services.get(&key).cloned() {
            Some(held) => self.forget_addresses(&key, &held.instances, &instances),
            None => *Arc::make_mut(&mut self.stacks).entry(fold(service.stack.as_str())).or_default() += 1,
        }
        let hash = hash64(&key);
        for instance in &instances {
            if self.has_own_address(instance) {
                let address = AddressKey::of(instance.address);
                let owner = (hash, instance.slot);
                let held = self.reverse.get(address.bytes()).map(|owners| owners.list.clone());
                let mut list = held.unwrap_or_default();
                if !list.contains(&owner) {
                    list.reserve_exact(1);
                    list.push(owner);
                    self.reverse.insert(Owners { address, list });
                }
            }
        }
        let packed = Packed::of(&key, &instances, self.ttl);
        self.services.insert(Service { instances: instances.into(), packed });
    }

    /// An address of a node names the node, not what runs there.
    fn has_own_address(&self, instance: &Instance) -> bool {
        self.nodes.get(&instance.node).is_none_or(|host| host.address != Some(instance.address))
    }

    /// Takes out the addresses that instances had and have no more.
    fn forget_addresses(&mut self, key: &[u8], before: &[Instance], after: &[Instance]) {
        let kept = |old: &Instance| {
            let same_slot = after.partition_point(|new| new.slot < old.slot);
            let same_slot = after.iter().skip(same_slot).take_while(|new| new.slot == old.slot);
            same_slot.into_iter().any(|new| new.address == old.address)
        };
        // Most changes touch few; those that stand at the same place in both lists are the same.
        for (at, old) in before.iter().enumerate() {
            if after.get(at) == Some(old) || self.reverse.len() == 0 || kept(old) {
                continue;
            }
            let address = AddressKey::of(old.address);
            let Some(mut owners) = self.reverse.get(address.bytes()).cloned() else { continue };
            owners.list.retain(|owner| *owner != (hash64(key), old.slot));
            if owners.list.is_empty() {
                self.reverse.remove(address.bytes());
            } else {
                self.reverse.insert(owners);
            }
        }
    }

    fn remove_service(&mut self, service: &ServiceKey) {
        let key = service_key(service);
        let Some(held) = self.services.remove(&key) else { return };
        self.forget_addresses(&key, &held.instances, &[]);
        let stacks = Arc::make_mut(&mut self.stacks);
        if let Some(count) = stacks.get_mut(held.stack()) {
            *count -= 1;
            if *count == 0 {
                stacks.remove(held.stack());
            }
        }
    }

    fn remove_node(&mut self, node: NodeId) {
        let Some(old) = Arc::make_mut(&mut self.nodes).remove(&node) else { return };
        if self.node_names.get(&old.name) != Some(&node) {
            return;
        }
        let heir = self.nodes.iter().find(|(_, host)| host.name == old.name).map(|(id, _)| *id);
        let names = Arc::make_mut(&mut self.node_names);
        match heir {
            Some(id) => names.insert(old.name.clone(), id),
            None => names.remove(&old.name),
        };
    }

    pub(crate) fn node_by_name(&self, name: &str) -> Option<&Host> {
        self.node_names.get(name).and_then(|id| self.nodes.get(id)).map(|host| &**host)
    }

    pub(crate) fn service(&self, service: &str, stack: &str) -> Option<&Service> {
        self.services.get(&key_of(service, stack))
    }

    /// The names that an address leads back to: a node's, else those of the instances that have it for themselves.
    pub(crate) fn names_of(&self, address: IpAddr) -> Vec<Fqdn> {
        if let Some(host) = self.nodes.values().find(|host| host.address == Some(address)) {
            return alloc::vec![self.origin.prefixed(&[&host.name, "node"])];
        }
        let owners = self.reverse.get(AddressKey::of(address).bytes());
        let mut names: Vec<Fqdn> = owners
            .iter()
            .flat_map(|owners| owners.list.iter())
            .filter_map(|(hash, slot)| {
                let held = self.services.by_hash(*hash)?;
                // An instance without a reachable port has no name either.
                held.instances.iter().find(|i| i.slot == *slot && i.address == address && !i.ports.is_empty())?;
                Some(self.origin.prefixed(&[&slot_label(self, *slot), held.service(), held.stack()]))
            })
            .collect();
        names.sort_unstable();
        names
    }
}

/// A service's key: its two labels as they stand in a packet, case-folded.
pub(crate) fn key_of(service: &str, stack: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(service.len() + stack.len() + 2);
    for label in [service, stack] {
        key.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        key.extend(label.bytes().map(|b| b.to_ascii_lowercase()));
    }
    key
}

fn service_key(service: &ServiceKey) -> Vec<u8> {
    key_of(service.service.as_str(), service.stack.as_str())
}

/// An address as a key.
#[derive(Clone, Copy, Debug)]
struct AddressKey([u8; 16], usize);

impl AddressKey {
    fn of(address: IpAddr) -> Self {
        let mut bytes = [0; 16];
        let length = match address {
            IpAddr::V4(v4) => {
                bytes[..4].copy_from_slice(&v4.octets());
                4
            }
            IpAddr::V6(v6) => {
                bytes = v6.octets();
                16
            }
        };
        Self(bytes, length)
    }

    fn bytes(&self) -> &[u8] {
        self.0.get(..self.1).unwrap_or_default()
    }
}

pub(crate) fn fold(text: &str) -> String {
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
