//! P5 while a rollout is held up: by hand, by its canaries, or by a failure. Slots may then run either of two versions, and
//! of a slot that starts the new one first both; never one version twice, and never what failed where the author asked for
//! the way back.
//!
//! That it is held up is a matter of records, which are the same everywhere (P1); what runs is the world's truth.

use dunlin_core::Node;
use dunlin_core::query::{self, RolloutRow};
use dunlin_gossip::model::{FailureAction, Mode, Promotion, ReplicaKey, ServiceKey, Slot, UpdateOrder};

use super::{Broken, p3_progress};
use crate::truth::Run;
use crate::workload::Behaviour;
use crate::world::World;

/// States in which nothing more happens of itself.
const HELD_UP: [&str; 3] = ["paused", "failed", "canary"];

fn judged_node(world: &World) -> Option<&Node> {
    world.judged().find_map(|host| host.node.as_deref())
}

fn row(world: &World, service: &ServiceKey) -> Option<RolloutRow> {
    let has_policy = world.scenario.services.iter().any(|line| line.name == service.service.as_str());
    let node = judged_node(world).filter(|_| has_policy)?;
    node.view().rollout(service)?;
    query::rollouts(node).into_iter().find(|row| row.service == service.to_string())
}

/// True if a rollout leads to what is in force, and nobody went there by hand: that says what shall run. What a deploy wrote
/// of which no more arrived before its author died is about a revision that nobody has.
fn leads_back(world: &World, service: &ServiceKey) -> bool {
    let view = judged_node(world).map(Node::view);
    let rollout = view.and_then(|view| Some((view.services().get(service)?, &view.rollout(service)?.1)));
    rollout.is_some_and(|(force, rollout)| rollout.of == force.revision && !rollout.undo)
}

/// True if a service's rollout waits for somebody, or leads, for want of anything better, to what never runs.
pub(super) fn is_held_up(world: &World, service: &ServiceKey) -> bool {
    let is_bad = |world: &World| {
        let wanted = p3_progress::wanted(world).into_iter().find(|(key, _)| key == service);
        wanted.is_some_and(|(_, wanted)| Behaviour::of(&wanted.spec.workload).is_bad())
    };
    row(world, service).is_some_and(|row| HELD_UP.contains(&row.state)) || is_bad(world)
}

/// True if a slot of a rollout that is held up may run what it runs.
pub(super) fn may_run(world: &World, replica: &ReplicaKey, runs: &[&Run]) -> bool {
    match runs {
        [_] => true,
        [a, b] => starts_first(world, &replica.service) && a.version != b.version,
        _ => false,
    }
}

/// True if a slot of this service keeps its old version until the new one is ready beside it.
pub(super) fn starts_first(world: &World, service: &ServiceKey) -> bool {
    let node = judged_node(world);
    node.is_some_and(|node| node.view().update_policy(service).order == UpdateOrder::StartFirst)
}

/// Nobody runs what failed where the way back was asked for; only canaries run what is not promoted.
pub(super) fn check(world: &World) -> Result<(), Broken> {
    for (service, specification) in p3_progress::wanted(world) {
        let Some(line) = world.scenario.services.iter().find(|line| line.name == service.service.as_str()) else {
            continue;
        };
        let behaviour = Behaviour::of(&specification.spec.workload);
        let broken = |detail| Err(Broken { invariant: "p5-rollouts", detail });
        let has_way_back = leads_back(world, &service)
            && row(world, &service).is_some_and(|row| row.from.is_some() && row.state != "paused");
        // What has no place anywhere, or of which none is wanted, cannot fail, and is not given up for that.
        let is_wanted = specification.mode != Mode::Replicated(0);
        let was_tried = || is_wanted && p3_progress::with_room(world, &behaviour.reserve, i32::MIN, None).is_some();
        let asks_for_it = line.rollout.update.on_failure == FailureAction::Rollback;
        if asks_for_it && behaviour.is_bad() && has_way_back && was_tried() {
            return broken(format!("{service} is in force at version {}, which failed", behaviour.version));
        }
        let Some(canary) = line.rollout.canary.filter(|_| waits_for_a_word(world, &service)) else { continue };
        let of_service = world.truth.runs.iter().filter(|(replica, _)| replica.service == service);
        for (replica, runs) in of_service {
            let is_canary = matches!(replica.slot, Slot::Number(n) if n <= canary.count);
            if !is_canary && runs.iter().any(|run| run.version == behaviour.version) {
                let events = world.truth.last_events(replica);
                let version = behaviour.version;
                return broken(format!("{replica} runs version {version}, which is not promoted; {events}"));
            }
        }
    }
    Ok(())
}

/// True if nobody has said of the canaries that they are good, and nothing else ends the wait for them.
fn waits_for_a_word(world: &World, service: &ServiceKey) -> bool {
    let node = judged_node(world);
    let rollout = node.and_then(|node| Some((node, &node.view().rollout(service)?.1)));
    rollout.is_some_and(|(node, rollout)| {
        let is_by_hand = rollout.policy.canary.is_some_and(|canary| canary.promotion == Promotion::ByHand);
        let is_under_way = rollout.from.is_some() && !rollout.promoted && !rollout.undo;
        is_by_hand && is_under_way && !node.view().is_rolled_back(service)
    })
}
