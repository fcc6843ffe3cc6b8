//! The simulated side of a comparison: the same steps at the same moments, workloads that start as fast as the real ones did,
//! and many seeds.

use std::ops::RangeInclusive;

use dunlin_sim::cli::{Outcome, RunOptions, run_scenario};
use dunlin_sim::scenario::{Scenario, Start};

use super::clock::Real;

/// After the last step, both sides run on for so long (in nanoseconds) instead of the file's settling time, which is for a
/// sweep's worst seed.
const TAIL: u64 = 25_000_000_000;
/// A simulated driver takes 2 to 8 ms in addition to what a service says, and a simulated probe 1 to 5 ms.
const OWN_START_MS: u64 = 5;
const OWN_PROBE_MS: u64 = 3;

/// The scenario as both sides run it.
#[must_use]
pub fn common(mut scenario: Scenario) -> Scenario {
    scenario.start = if scenario.start == Start::Running { Start::Running } else { Start::Joined };
    scenario.end = scenario.end.min(scenario.quiet_from() + TAIL);
    scenario.settle = scenario.settle.min(scenario.end - scenario.quiet_from());
    scenario
}

/// The middle of such a list; 0 if it is empty.
fn median(mut list: Vec<u64>) -> u64 {
    list.sort_unstable();
    list.get(list.len() / 2).copied().unwrap_or(0)
}

/// How long real workloads took, medians over all runs, in milliseconds: from the command to running, and from there to ready.
#[must_use]
pub fn times_of(runs: &[Real]) -> (u64, u64) {
    let all = |of: fn(&Real) -> &Vec<u64>| median(runs.iter().flat_map(|run| of(run).clone()).collect());
    (all(|run| &run.told.start_ms), all(|run| &run.told.ready_ms))
}

/// Gives simulated workloads the times of real ones.
#[must_use]
pub fn with_times(mut scenario: Scenario, start_ms: u64, ready_ms: u64) -> Scenario {
    for line in &mut scenario.services {
        line.behaviour.start_ms = start_ms.saturating_sub(OWN_START_MS);
        line.behaviour.ready_ms = ready_ms.saturating_sub(OWN_PROBE_MS);
    }
    scenario
}

/// Runs it once for each seed.
///
/// # Errors
/// The simulator refuses.
pub fn run(scenario: Scenario, nodes: u8, seeds: RangeInclusive<u64>) -> Result<Vec<Outcome>, String> {
    let options =
        RunOptions { scenario: scenario.name.clone(), nodes: Some(nodes.into()), seeds, jobs: 2, json: false };
    run_scenario(scenario, &options)
}
