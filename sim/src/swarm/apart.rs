//! What is drawn apart from the rest, by a generator of its own: it changes no other draw of a seed. Never: a fault.

use dunlin_gossip::model::{Constraint, ConstraintOp, Resources, Supply};
use dunlin_gossip::rng::Rng;

use crate::scenario::{NodeLine, Scenario, ServiceLine, modelled};

/// In a sixth of all draws hosts differ, and a service says on which of them it may be.
pub(super) fn differ(scenario: &mut Scenario, mut rng: Rng) {
    if rng.below(6) != 0 || scenario.hosts < 4 {
        return;
    }
    let small = Resources { cpu_milli: 2_000, memory_bytes: 4 << 30 };
    let some = scenario.hosts.div_ceil(2);
    let node = |count, capacity, labels: &[(&str, &str)]| NodeLine {
        count,
        name: None,
        capacity,
        supply: Supply::default(),
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        zone: None,
    };
    scenario.nodes = vec![node(some, scenario.capacity, &[("disk", "ssd")]), node(scenario.hosts - some, small, &[])];
    let Some(line) = scenario.services.first_mut() else { return };
    let mut service = crate::operator::service(line, 0, 1);
    match rng.below(3) {
        0 => {
            let (attribute, value) = ("node.labels.disk".to_owned(), "ssd".to_owned());
            service.spec.constraints = vec![Constraint { attribute, op: ConstraintOp::Equal, value }];
        }
        1 => service.spec.placing.spread = vec!["zone".to_owned()],
        _ => service.spec.placing.max_per_node = Some(1),
    }
    let (replicas, behaviour) = (line.replicas, line.behaviour);
    *line = ServiceLine { replicas, behaviour, ..modelled(&line.name, service, line.rollout) };
}

/// Some services matter more than others, in a third of all draws.
pub(super) fn priorities(services: &mut [ServiceLine], mut rng: Rng) {
    if rng.below(3) == 0 {
        services.iter_mut().for_each(|line| line.priority = [0, 0, 5, 10][usize::try_from(rng.below(4)).unwrap_or(0)]);
    }
}

/// Of one service in a third of all draws at most one process may run a replica (`partition: majority`). Jobs and what comes
/// by the calendar cannot be so.
pub(super) fn lone(services: &mut [ServiceLine], mut rng: Rng) {
    let index = usize::try_from(rng.below(9)).unwrap_or(usize::MAX);
    if let Some(line) = services.get_mut(index).filter(|line| line.behaviour.finish_ms == 0 && line.cron.is_none()) {
        line.behaviour.lone = true;
    }
}
