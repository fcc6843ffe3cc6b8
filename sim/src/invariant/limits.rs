//! What the scenario says that its figures may come to, judged at its end.

use crate::inside;
use crate::measure::seconds;
use crate::world::World;

/// The most that any agent holds of what exists no more.
fn remains(world: &World) -> u64 {
    let exists = |node| world.by_id.contains_key(&node);
    let agents = world.judged().filter_map(|host| host.node.as_ref());
    agents.map(|node| inside::remains(node, exists)).max().unwrap_or(0)
}

/// One line for each figure beyond its limit.
pub(super) fn check(world: &mut World) -> Vec<String> {
    let limits = world.scenario.limits;
    let renewals = world.hosts.iter().filter_map(|host| host.node.as_ref()).map(|node| node.gossip().renewals()).sum();
    // Reads every record of every agent, so only where it is asked for.
    let remains = limits.remains.map_or(0, |_| remains(world));
    let figures = &mut world.truth.figures;
    let surplus_moves = figures.moves.saturating_sub(figures.moves_minimum);
    let counts = [
        ("false-positives", figures.false_positives, limits.false_positives),
        ("renewals", renewals, limits.renewals),
        ("surplus-moves", surplus_moves, limits.surplus_moves),
        ("abandoned", figures.abandoned, limits.abandoned),
        ("outages", figures.outages, limits.outages),
        ("remains", remains, limits.remains),
    ];
    let times = [
        ("failover", figures.failover.quantile(1, 1), limits.failover),
        ("duplicate", figures.duplicate.quantile(1, 1), limits.duplicate),
        ("deploy", figures.deploy.quantile(1, 1), limits.deploy),
        ("dns-stale", figures.dns_stale.quantile(1, 1), limits.dns_stale),
    ];
    let mut over = Vec::new();
    for (name, figure, limit) in counts {
        if let Some(limit) = limit.filter(|limit| figure > *limit) {
            over.push(format!("{name}: {figure}, where the scenario allows {limit}"));
        }
    }
    for (name, figure, limit) in times {
        if let Some((figure, limit)) = figure.zip(limit).filter(|(figure, limit)| figure > limit) {
            over.push(format!("{name}: {} s, where the scenario allows {} s", seconds(figure), seconds(limit)));
        }
    }
    over
}
