//! Which nodes still have room for what was asked for in one plan. Many specifications ask for the same of nodes of one nature.
//!
//! A plan gives away and takes nothing back, so that a node without room for a demand need not be looked at for it again: once
//! most nodes are full, those that are not are laid out anew. Never: what is left on a node, which the [ledger](super::ground)
//! knows.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use dunlin_gossip::model::{DeviceRequest, ServiceSpec};

use super::field::Rows;
use super::room::Room;

/// Layouts of those that still have room, at a time: each has all nodes at most.
const MAX_THINNED: usize = 64;

/// Room and devices that are asked for of nodes of one nature.
#[derive(Debug)]
struct Demand<'a> {
    field: usize,
    devices: &'a [DeviceRequest],
    /// The nodes of its field that may still have all that, once most have not.
    able: Option<Rows>,
}

/// What was asked for so far.
#[derive(Debug, Default)]
pub(super) struct Demands<'a> {
    all: Vec<Demand<'a>>,
    /// By field and room.
    known: BTreeMap<(usize, [u64; 4]), Vec<usize>>,
    /// How many have a layout of their own.
    thinned: usize,
}

impl<'a> Demands<'a> {
    /// The number of what a specification asks for.
    pub(super) fn number(&mut self, field: usize, spec: &'a ServiceSpec) -> usize {
        let Room { base, further } = Room::needed(spec);
        let devices = spec.placing.devices.as_slice();
        let key = (field, [base.cpu_milli, base.memory_bytes, further.pids, further.disk_bytes]);
        let alike = self.known.entry(key).or_default();
        let is_same = |number: &usize| self.all.get(*number).is_some_and(|demand| demand.devices == devices);
        if let Some(number) = alike.iter().copied().find(is_same) {
            return number;
        }
        alike.push(self.all.len());
        self.all.push(Demand { field, devices, able: None });
        self.all.len() - 1
    }

    /// Its field, and the nodes of that which may still have all that it asks for, where they were laid out.
    pub(super) fn of(&self, number: usize) -> Option<(usize, Option<&Rows>)> {
        self.all.get(number).map(|demand| (demand.field, demand.able.as_ref()))
    }

    /// Only these may still have what it asks for.
    pub(super) fn only(&mut self, number: usize, able: Rows) {
        if self.thinned >= MAX_THINNED {
            self.forget();
        }
        if let Some(demand) = self.all.get_mut(number) {
            self.thinned += usize::from(demand.able.replace(able).is_none());
        }
    }

    /// Something was taken back.
    pub(super) fn forget(&mut self) {
        if self.thinned > 0 {
            self.all.iter_mut().for_each(|demand| demand.able = None);
            self.thinned = 0;
        }
    }
}
