//! P2 for what only nodes of the next version understand, and the way that they speak. What such a node was acknowledged for
//! of a kind that the others do not know is at the end on every disk, whatever version wrote it there or restarted upon it
//! (that it is in every state as well is [`p2_durability`](super::p2_durability)'s business), and nodes of the next version
//! read it. At no moment is a node sent a frame of a version that it does not speak, and none edits what it knows in part.

use dunlin_gossip::wire::{Grasp, RecordId, WireVersion, codec, rehearsal};

use super::Broken;
use crate::host::Host;
use crate::inside;
use crate::net::HostNo;
use crate::operator::stack;
use crate::world::World;

/// The register that the next version writes beside the stack.
pub(crate) fn register() -> RecordId {
    rehearsal::of_stack(&stack())
}

/// A node was given a frame: could it read it?
pub(crate) fn check_frame(world: &mut World, from: HostNo, to: HostNo, before: u64) {
    if foreign(world, to) > before {
        let version = world.hosts[to as usize].wire.0;
        let detail =
            format!("host {from} sends host {to}, which speaks version {version}, a frame that it cannot read");
        world.violation("p2-unknown-kinds", detail);
    }
}

/// Frames that a host's agent could not read.
pub(crate) fn foreign(world: &World, no: HostNo) -> u64 {
    world.hosts[no as usize].node.as_ref().map_or(0, |node| node.gossip().foreign_frames())
}

/// True if a host's agent does not know all of what it holds in a register, so that it could not edit it without loss.
pub(crate) fn would_drop(world: &World, no: HostNo, register: &RecordId) -> bool {
    let Some(host) = world.hosts.get(no as usize) else { return false };
    let siblings = host.node.as_ref().map_or(&[][..], |node| inside::siblings(node, register));
    siblings.iter().any(|record| host.wire.grasp(record) == Grasp::Part)
}

/// At the end.
pub(super) fn check(world: &mut World) -> Result<(), Broken> {
    let register = register();
    let place = codec::encode(&register);
    let World { hosts, operator, faults, .. } = world;
    let is_kept = |holder: &HostNo| faults.is_judged(*holder);
    let broken = |detail| Err(Broken { invariant: "p2-unknown-kinds", detail });
    let promises = operator.promises.iter().filter(|promise| promise.registers.contains(&register));
    let kept: Vec<_> = promises.filter(|promise| promise.holders.iter().any(is_kept)).collect();
    for host in hosts.iter_mut().filter(|host| faults.is_judged(host.no)) {
        let Host { no, node, disk, wire, .. } = host;
        let Some(node) = node.as_ref() else { continue };
        let on_disk = disk.image.siblings(&place);
        if let Some(promise) = kept.iter().find(|promise| !promise.is_among(&on_disk)) {
            let detail = format!(
                "the disk of host {no} has lost {register:?}, acknowledged by host {} with stamp {}",
                promise.by, promise.hlc
            );
            return broken(detail);
        }
        let written = inside::value(node, &register);
        let is_read = written.is_none_or(|record| record.payload().is_some_and(|p| rehearsal::read(p).is_some()));
        if *wire == WireVersion::NEXT && !is_read {
            return broken(format!("host {no} cannot read {register:?}, which its own version wrote"));
        }
    }
    Ok(())
}
