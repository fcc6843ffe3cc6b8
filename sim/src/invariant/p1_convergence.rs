//! P1: nodes that can reach each other, once writes stop, hold byte-identical replicated state.

use dunlin_gossip::face::MemberState;

use super::Broken;
use crate::inside;
use crate::world::World;

/// All agents that run (in the core, if there is one) hold states of equal hash.
pub(super) fn check(world: &World) -> Result<(), Broken> {
    let mut hashes = world.judged().filter_map(|h| h.node.as_ref().map(|node| (h.no, inside::state_hash(node))));
    let Some((first, expected)) = hashes.next() else { return Ok(()) };
    hashes.find(|(_, hash)| *hash != expected).map_or(Ok(()), |(other, hash)| {
        let detail = format!("hosts {first} and {other} hold different states ({expected:016x}, {hash:016x})");
        Err(Broken { invariant: "p1-convergence", detail })
    })
}

/// All agents that run hold exactly those members alive whom they can reach, and those down who are dead or cut off.
pub(super) fn members_agree(world: &World) -> bool {
    world.judged().all(|observer| {
        let Some(node) = observer.node.as_ref() else { return true };
        world.hosts.iter().filter(|host| host.no != observer.no && host.is_admitted).all(|host| {
            let stands_still = host.paused_until == u64::MAX;
            let is_there = host.is_up() && !stands_still && !world.net.is_parted(observer.no, host.no);
            match inside::member(node, host.id) {
                Some(MemberState::Alive) => is_there,
                Some(MemberState::Down | MemberState::Left) | None => !is_there,
                Some(MemberState::Suspect) => false,
            }
        })
    })
}
