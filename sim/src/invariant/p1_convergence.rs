//! P1: nodes that can reach each other, once writes stop, hold byte-identical replicated state.

use dunlin_gossip::face::MemberState;

use super::Broken;
use crate::host::Host;
use crate::inside;
use crate::net::HostNo;
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
///
/// Returns a host that does not, if there is one. The one named is asked first: who was wrong a moment ago mostly still is.
pub(super) fn members_disagree(world: &World, first: HostNo) -> Option<HostNo> {
    let first = world.judged().filter(|host| host.no == first);
    first.chain(world.judged()).find(|observer| !sees_who_is_there(world, observer)).map(|host| host.no)
}

fn sees_who_is_there(world: &World, observer: &Host) -> bool {
    let Some(node) = observer.node.as_ref() else { return true };
    let mut members = inside::members(node).peekable();
    // Both lists are in order of ids.
    world.by_id.iter().map(|(id, no)| (id, &world.hosts[*no as usize])).all(|(id, host)| {
        while members.next_if(|(member, _)| member < id).is_some() {}
        let held = members.peek().filter(|(member, _)| member == id).map(|(_, state)| *state);
        if host.no == observer.no || !host.is_admitted {
            return true;
        }
        let stands_still = host.paused_until == u64::MAX;
        let is_there = host.is_up() && !stands_still && !world.net.is_parted(observer.no, host.no);
        match held {
            Some(MemberState::Alive) => is_there,
            Some(MemberState::Down | MemberState::Left) | None => !is_there,
            Some(MemberState::Suspect) => false,
        }
    })
}
