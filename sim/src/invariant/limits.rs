//! What the scenario says that its figures may come to, judged at its end.

use super::{p3_crons, p7_share};
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
    let left_out = world.hosts.iter().filter(|host| !host.skip.is_empty()).count() as u64;
    let unshared = limits.unshared.map_or(0, |_| p7_share::unshared(world));
    let lost = if limits.lost_runs.is_some() { p3_crons::lost(world) } else { Vec::new() };
    let lost_runs = lost.len() as u64;
    let figures = &mut world.truth.figures;
    let surplus_moves = figures.moves.saturating_sub(figures.moves_minimum);
    let counts = [
        ("false-positives", figures.false_positives, limits.false_positives),
        ("renewals", renewals, limits.renewals),
        ("surplus-moves", surplus_moves, limits.surplus_moves),
        ("abandoned", figures.abandoned, limits.abandoned),
        ("outages", figures.outages, limits.outages),
        ("drain-losses", figures.drain_losses, limits.drain_losses),
        ("shares", figures.shares, limits.shares),
        ("hurried", figures.hurried, limits.hurried),
        ("unshared", unshared, limits.unshared),
        ("gaps", figures.gaps, limits.gaps),
        ("reruns", figures.reruns, limits.reruns),
        ("crowded", figures.crowded, limits.crowded),
        ("overlaps", figures.overlaps, limits.overlaps),
        ("lost-runs", lost_runs, limits.lost_runs),
        ("remains", remains, limits.remains),
        ("left-out", left_out, limits.left_out),
        ("early-signals", figures.early_signals, limits.early_signals),
    ];
    let times = [
        ("failover", figures.failover.quantile(1, 1), limits.failover),
        ("dark", figures.dark.quantile(1, 1), limits.dark),
        ("duplicate", figures.duplicate.quantile(1, 1), limits.duplicate),
        ("deploy", figures.deploy.quantile(1, 1), limits.deploy),
        ("dns-stale", figures.dns_stale.quantile(1, 1), limits.dns_stale),
    ];
    let mut over = Vec::new();
    for (name, figure, limit) in counts {
        if let Some(limit) = limit.filter(|limit| figure > *limit) {
            let which = match name {
                "lost-runs" => lost.first().map_or_else(String::new, |run| format!("; {run}")),
                "reruns" => figures.rerun.clone(),
                _ => String::new(),
            };
            over.push(format!("{name}: {figure}, where the scenario allows {limit}{which}"));
        }
    }
    for (name, figure, limit) in times {
        if let Some((figure, limit)) = figure.zip(limit).filter(|(figure, limit)| figure > limit) {
            over.push(format!("{name}: {} s, where the scenario allows {} s", seconds(figure), seconds(limit)));
        }
    }
    over
}
