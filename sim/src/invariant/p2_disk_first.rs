//! P2, the order of things: nothing of a node's own is in its state before it is on its disk, and nothing is started before
//! its claim is.

use dunlin_gossip::face::PersistOp;
use dunlin_gossip::model::AllocId;
use dunlin_gossip::wire::{Record, RecordId, codec};

use crate::host::Host;
use crate::net::HostNo;
use crate::world::World;

/// A node asks its disk to keep these: its own records among them must not be in its state yet.
pub(crate) fn check_persist(world: &mut World, no: HostNo, ops: &[PersistOp]) {
    let Host { id, node, asked, .. } = &mut world.hosts[no as usize];
    let Some(node) = node.as_ref() else { return };
    let (state, boot) = (node.gossip().state(), node.gossip().generation());
    let mut is_early = |op: &PersistOp| {
        let PersistOp::Put { bytes, .. } = op else { return None };
        let record = Record::read(bytes).ok()?;
        let own = record.author().is_some_and(|author| author.node == *id && author.generation == boot);
        // What shares its place on the disk with a record of an earlier boot may have to be written again.
        let early = own && asked.insert(record.hash()) && state.siblings(record.id()).contains(&record);
        early.then(|| format!("host {no} holds its own {:?} before its disk does", record.id()))
    };
    if let Some(detail) = ops.iter().filter_map(&mut is_early).last() {
        world.violation("p2-disk-first", detail);
    }
}

/// A node has something started: its claim must be on its disk.
pub(crate) fn check_start(world: &mut World, no: HostNo, alloc: AllocId) {
    let host = &world.hosts[no as usize];
    let claim = RecordId::allocation(host.id, alloc);
    if !host.disk.image.has(&codec::encode(&claim)) {
        world.violation("p2-disk-first", format!("host {no} starts {alloc:?}, whose claim is not on its disk"));
    }
}
