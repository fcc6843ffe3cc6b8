//! P6: of a replica with `partition: majority` at most one process runs at any moment, whatever hosts, clocks and agents do: judged
//! by the true time of each start and end, not by what anybody believes. Promised for clock rates within a hundredth.

use dunlin_gossip::model::{ReplicaKey, VoterList};

use crate::inside;
use crate::world::World;

/// At each start of a process.
pub(crate) fn check(world: &mut World, replica: &ReplicaKey) {
    let lone: Vec<_> = world.truth.runs.get(replica).into_iter().flatten().filter(|run| run.is_lone).collect();
    if lone.len() > 1 {
        let hosts: Vec<_> = lone.iter().map(|run| (run.host, run.alloc)).collect();
        let events = world.truth.last_events(replica);
        world.violation("p6-at-most-one", format!("{replica} runs on (host, allocation) {hosts:?}; {events}"));
    }
}

/// True if more than half of the voters are there, by the newest list that anybody there knows: without them nothing of the kind
/// need run.
pub(super) fn has_voters(world: &World) -> bool {
    let nodes = world.judged().filter_map(|host| host.node.as_ref());
    let Some(list) = nodes.map(|node| inside::voters(node)).max_by_key(|list| list.version) else { return false };
    let is_there = |host: &&crate::host::Host| host.is_up() && list.voters.contains(&host.id);
    world.judged().filter(is_there).count() >= VoterList::majority(list.voters.len())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dunlin_gossip::rng::Seed;

    use super::*;
    use crate::scenario::parse;

    const GROWS: &str = "name: grows\nabout: voters come and go\nhosts: 9\nsettle: 60s\nend: 300s\n\
                         timeline:\n  - {at: 150s, drain: {hosts: [0, 1], deadline: 5s}}\n";

    #[test]
    fn voters_grow_to_seven_and_two_that_are_drained_at_once_are_replaced() -> Result<(), String> {
        let mut world = World::new(Arc::new(parse("grows", GROWS)?), Seed(3));
        world.advance(140 * crate::queue::SECOND);
        let lists = |world: &World| -> Vec<VoterList> {
            world.hosts.iter().filter_map(|host| host.node.as_ref()).map(|node| inside::voters(node).clone()).collect()
        };
        let before = lists(&world);
        assert!(before.iter().all(|list| *list == before[0] && list.voters.len() == 7), "{before:?}");
        assert!(before[0].voters.contains(&world.hosts[0].id), "the first node began the list");
        world.run();
        let after = lists(&world);
        let drained = [world.hosts[0].id, world.hosts[1].id];
        let is_right = |list: &VoterList| list.voters.len() == 7 && !drained.iter().any(|id| list.voters.contains(id));
        assert!(after.iter().all(|list| *list == after[0] && is_right(list)), "{after:?}");
        assert_eq!(world.checks.violations, []);
        Ok(())
    }
}
