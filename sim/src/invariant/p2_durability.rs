//! P2: an acknowledged change is kept. On every node that runs, each register that it wrote holds it, or what was written by
//! somebody who had seen it; and in force is what the registers say. A concurrent change may be the one in force. A write that
//! nobody acknowledged may be in force too: that is no loss. What was on no other disk than those that were replaced or stand
//! still for good is lost, as promised; who truly held it is read from the disks.
//! That an acknowledged write is where the acknowledgement says is judged when it comes ([`World::promised`]).
//!
//! Causality is read from the records' own contexts: clocks that are off further than they are let follow one another make a
//! later write bear an earlier stamp.

use dunlin_core::Node;
use dunlin_gossip::model::{ServiceKey, StackManifest};
use dunlin_gossip::wire::RecordId;

use super::Broken;
use crate::inside;
use crate::operator::stack;
use crate::promise::Promise;
use crate::world::World;

/// At the end.
pub(super) fn check(world: &World) -> Result<(), Broken> {
    let broken = |detail| Err(Broken { invariant: "p2-durability", detail });
    let kept = |promise: &&Promise| promise.holders.iter().any(|no| world.faults.is_judged(*no));
    for host in world.judged() {
        let Some(node) = host.node.as_ref() else { continue };
        for promise in world.operator.promises.iter().filter(kept) {
            let place = format!("acknowledged by host {} with stamp {}", promise.by, promise.hlc);
            for register in &promise.registers {
                if !promise.is_among(inside::siblings(node, register)) {
                    return broken(format!("host {} has lost {register:?}, {place}", host.no));
                }
                if is_beaten(node, promise, register) {
                    return broken(format!("host {} has an earlier write of {register:?} in force, {place}", host.no));
                }
            }
        }
        let services = world.operator.promises.iter().flat_map(|promise| &promise.services);
        for service in services {
            let (forced, due) = (inside::service(node, service).map(|(hlc, _)| hlc), due(node, service));
            if forced != due {
                let detail =
                    format!("host {} has stamp {forced:?} of {service} in force, its registers say {due:?}", host.no);
                return broken(detail);
            }
        }
    }
    Ok(())
}

/// True if a value that nobody has superseded is not in force, though what is bears an earlier stamp, or is a removal.
fn is_beaten(node: &Node, promise: &Promise, register: &RecordId) -> bool {
    let siblings = inside::siblings(node, register);
    let stands = siblings.iter().any(|record| promise.wrote_it(record) && record.payload().is_some());
    let winner = inside::value(node, register).map(|record| record.hlc().0);
    stands && winner.is_none_or(|hlc| hlc < promise.hlc)
}

/// The stamp of the service that should be in force: the value of its register, if the stack's newest deploy names it.
fn due(node: &Node, service: &ServiceKey) -> Option<u64> {
    let siblings = inside::siblings(node, &RecordId::stack(&stack()));
    let manifests = siblings.iter().filter_map(|record| record.read_as::<StackManifest>());
    let manifest = manifests.max_by_key(|manifest| manifest.deployed)?;
    manifest.services.contains_key(&service.service).then_some(())?;
    inside::value(node, &RecordId::service(service)).map(|record| record.hlc().0)
}
