//! P2, by the timeline alone: where the last thing that operators say is that the stack shall go, or how many replicas a
//! service shall have, that is so everywhere at the end, whoever slept through it and whatever its clock showed. Records that
//! lie about their causes would excuse themselves. Drawn scenarios are left out, in which writes collide.

use dunlin_gossip::model::Mode;

use super::Broken;
use crate::host::Host;
use crate::inside;
use crate::scenario::{Action, Step};
use crate::world::World;

/// At the end.
pub(super) fn check(world: &World) -> Result<(), Broken> {
    let is_write =
        |step: &&Step| matches!(step.action, Action::Deploy { .. } | Action::Scale { .. } | Action::Remove { .. });
    let last = world.scenario.timeline.iter().rev().find(is_write);
    let Some(last) = last.filter(|_| !world.scenario.may_miss && world.operator.refused.is_empty()) else {
        return Ok(());
    };
    let differs = |host: &Host| {
        let node = host.node.as_ref()?;
        match &last.action {
            Action::Remove { .. } => inside::any_service(node).map(|key| format!("{key} in force, which was removed")),
            Action::Scale { service, replicas, .. } => {
                let wanted = Some(replicas.among(world.host_count()));
                let of_service = inside::modes(node).find(|(key, _)| key.service.as_str() == service);
                let mode = of_service.and_then(|(_, mode): (_, Mode)| mode.count());
                (mode != wanted).then(|| format!("{service} in force as {mode:?}, last scaled to {wanted:?}"))
            }
            _ => None,
        }
    };
    let found = world.judged().find_map(|host| differs(host).map(|what| (host.no, what)));
    let Some((no, what)) = found else { return Ok(()) };
    Err(Broken { invariant: "p2-durability", detail: format!("host {no} has {what}") })
}
