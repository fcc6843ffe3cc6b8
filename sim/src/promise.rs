//! What operators were promised, and whose disks truly hold it. Judged by the bytes on the disks, never by what a node says.

use std::collections::BTreeSet;

use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::id::{Actor, NodeId};
use dunlin_gossip::model::ServiceKey;
use dunlin_gossip::wire::{Record, RecordId, Stamp, WireVersion, codec};

use crate::host::Host;
use crate::inside;
use crate::invariant::p2_unknown_kinds;
use crate::net::HostNo;
use crate::operator::stack;
use crate::queue::{Nanos, SECOND};
use crate::world::World;

/// A disk that was replaced so recently may have held what its node confirmed before.
const ANSWER_ON_ITS_WAY: Nanos = 10 * SECOND;

/// What a write was about.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) services: Vec<ServiceKey>,
    /// Services of whose rollouts alone something was said.
    pub(crate) rollouts: Vec<ServiceKey>,
    /// The node of which something is ordered, where that is what is written.
    pub(crate) orders: Option<NodeId>,
    /// The node that writes would drop fields that it does not know.
    pub(crate) drops: bool,
}

impl About {
    pub(crate) const fn services(services: Vec<ServiceKey>) -> Self {
        Self { services, rollouts: Vec::new(), orders: None, drops: false }
    }

    pub(crate) fn rollout(service: ServiceKey) -> Self {
        Self { rollouts: vec![service], ..Self::services(Vec::new()) }
    }
}

/// A write that a node has acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    pub(crate) hlc: u64,
    pub(crate) by: HostNo,
    /// Who wrote it, in which boot.
    author: Actor,
    /// The services that it was about; none for a removal.
    pub(crate) services: Vec<ServiceKey>,
    /// The registers that it wrote.
    pub(crate) registers: Vec<RecordId>,
    /// Whose disks hold it for certain. Others may.
    pub(crate) holders: BTreeSet<HostNo>,
}

impl Promise {
    /// A write to all that it is about.
    pub(crate) fn new(by: HostNo, author: Actor, hlc: u64, about: About) -> Self {
        let About { services, rollouts, orders, .. } = about;
        let is_of_stack = rollouts.is_empty() && orders.is_none();
        let whole = is_of_stack.then(|| RecordId::stack(&stack()));
        let rollouts = rollouts.iter().map(RecordId::rollout);
        let orders = orders.map(RecordId::node_orders);
        let named = services.iter().map(RecordId::service);
        let registers = whole.into_iter().chain(named).chain(rollouts).chain(orders).collect();
        Self { hlc, by, author, services, registers, holders: BTreeSet::new() }
    }

    /// True if a register with these siblings holds it, or what was written by somebody who had seen it.
    pub(crate) fn is_among(&self, siblings: &[Record]) -> bool {
        siblings.iter().any(|record| match record.stamp() {
            Stamp::Context(context) => {
                let is_named = context.seen.iter().any(|(by, hlc)| *by == self.author && *hlc >= self.hlc);
                is_named || Hlc(self.hlc).hour() < context.below
            }
            Stamp::Sequence { .. } | Stamp::Fact { .. } => false,
        })
    }

    /// True for its own record.
    pub(crate) fn wrote_it(&self, record: &Record) -> bool {
        record.author() == Some(self.author) && record.hlc().0 == self.hlc
    }

    fn is_on(&self, host: &mut Host) -> bool {
        self.registers.iter().all(|register| self.is_among(&host.disk.image.siblings(&codec::encode(register))))
    }
}

impl World {
    /// A node has acknowledged a write.
    pub(crate) fn acknowledged(&mut self, by: HostNo, hlc: u64, about: About, durable_on: &[NodeId]) {
        let Some(node) = self.hosts[by as usize].node.as_ref() else { return };
        let is_of_next = node.gossip().declared_by(self.hosts[by as usize].id) >= WireVersion::NEXT;
        let mut promise = Promise::new(by, inside::author(node), hlc, about);
        let is_staged = inside::siblings(node, &RecordId::wave(&stack())).iter().any(|record| promise.wrote_it(record));
        if is_staged {
            let staged = promise.services.iter().map(RecordId::staged);
            promise.registers = core::iter::once(RecordId::wave(&stack())).chain(staged).collect();
            self.faults.bite("waves");
        }
        if is_of_next && !promise.services.is_empty() {
            promise.registers.push(p2_unknown_kinds::register());
            self.faults.bite("unknown-kinds");
        }
        self.promised(promise, durable_on);
    }

    /// Is an acknowledged write where the reply says?
    pub(crate) fn promised(&mut self, mut promise: Promise, durable_on: &[NodeId]) {
        let (by, hlc) = (promise.by, promise.hlc);
        if durable_on.first() != Some(&self.hosts[by as usize].id) {
            let detail = format!("host {by} acknowledges a write that is not durable at home: {durable_on:?}");
            self.violation("p2-durability", detail);
        }
        let distinct: BTreeSet<&NodeId> = durable_on.iter().collect();
        if distinct.len() != durable_on.len() {
            let detail = format!("host {by} names a node twice that a write is durable on: {durable_on:?}");
            self.violation("p2-durability", detail);
        }
        for id in durable_on {
            let Some(no) = self.by_id.get(id).copied() else { continue };
            let host = &mut self.hosts[no as usize];
            if promise.is_on(host) {
                promise.holders.insert(no);
            } else if host.disk_replaced + ANSWER_ON_ITS_WAY < self.now || host.disk_replaced == 0 {
                let detail =
                    format!("host {by} acknowledges {hlc} as durable on host {no}, whose disk does not hold it");
                self.violation("p2-durability", detail);
            }
        }
        self.operator.promises.push(promise);
    }

    /// A disk no longer holds what it held: what was promised is now held by those others whose disks truly do.
    pub(crate) fn disk_replaced(&mut self, no: HostNo) {
        self.hosts[no as usize].disk_replaced = self.now;
        self.count_holders();
    }

    /// Looks at all disks anew.
    pub(crate) fn count_holders(&mut self) {
        let Self { hosts, operator, .. } = self;
        for promise in &mut operator.promises {
            promise.holders = hosts.iter_mut().filter_map(|host| promise.is_on(host).then_some(host.no)).collect();
        }
    }
}
