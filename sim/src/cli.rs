//! What `dunlin sim` does, without a terminal: list, show, run.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dunlin_gossip::rng::Seed;

pub use crate::invariant::Violation;
pub use crate::report::json::Outcome;

use crate::scenario::{Scenario, names, parse, text};
use crate::world::World;

/// The most hosts that a world may have.
const MAX_HOSTS: u32 = 10_000;

/// What to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunOptions {
    /// The name of a built-in scenario, or a file.
    pub scenario: String,
    /// So many hosts instead of the scenario's.
    pub nodes: Option<u32>,
    /// One run for each.
    pub seeds: RangeInclusive<u64>,
    /// Runs at a time.
    pub jobs: usize,
    /// Whether the caller will print JSON (runs are the same either way).
    pub json: bool,
}

/// The built-in scenarios: name, and what each tries.
#[must_use]
pub fn list() -> Vec<(String, String)> {
    let about = |name: &str| parse(name, text(name).unwrap_or_default()).map_or_else(|e| e, |s| s.about);
    names().map(|name| (name.to_owned(), about(name))).collect()
}

/// The text of a built-in scenario.
#[must_use]
pub fn show(name: &str) -> Option<&'static str> {
    text(name)
}

/// Reads a scenario by name or from a file.
///
/// # Errors
/// What is wrong, where, and what to do.
pub fn load(name: &str) -> Result<Scenario, String> {
    if let Some(text) = text(name) {
        return parse(name, text);
    }
    let text = std::fs::read_to_string(name).map_err(|e| {
        let known = names().collect::<Vec<_>>().join(", ");
        format!("{name} is neither a built-in scenario ({known}) nor a file that can be read ({e})")
    })?;
    parse(name, &text)
}

/// Runs a scenario once for each seed, in parallel; outcomes come in the order of the seeds and do not depend on `jobs`.
///
/// # Errors
/// The scenario cannot be read, or the options make no sense; nothing has run then.
pub fn run(options: &RunOptions) -> Result<Vec<Outcome>, String> {
    let scenario = Arc::new(load(&options.scenario)?);
    let hosts = options.nodes.unwrap_or(scenario.hosts);
    if hosts == 0 || hosts > MAX_HOSTS {
        return Err(format!("--nodes {hosts}: a world has 1 to {MAX_HOSTS} nodes"));
    }
    let (first, last) = (*options.seeds.start(), *options.seeds.end());
    if first > last {
        return Err(format!("--seeds {first}..{last}: the first seed must not be larger than the last"));
    }
    let next = AtomicU64::new(first);
    let jobs = options.jobs.max(1).min(usize::try_from(last - first + 1).unwrap_or(usize::MAX));
    let work = || {
        let mut done = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > last {
                return done;
            }
            done.push(run_one(&scenario, hosts, seed));
        }
    };
    let mut outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Result<Vec<_>, _>>()
    })
    .map_err(|_| "a run has panicked; its message is above".to_owned())?
    .into_iter()
    .flatten()
    .collect();
    outcomes.sort_by_key(|outcome| outcome.seed);
    Ok(outcomes)
}

/// The real clock serves the report's `wall_s` alone; nothing that happens in the world can see it.
#[allow(clippy::disallowed_methods, reason = "measures the simulator, not the simulated")]
fn run_one(scenario: &Arc<Scenario>, hosts: u32, seed: u64) -> Outcome {
    let begin = std::time::Instant::now();
    let mut world = World::new(Arc::clone(scenario), hosts, Seed(seed));
    world.run();
    Outcome::of(world, begin.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_options_are_refused_with_the_remedy() {
        let options = RunOptions { scenario: "nonsense".to_owned(), nodes: None, seeds: 1..=1, jobs: 1, json: false };
        let error = run(&options).expect_err("no such scenario");
        assert!(error.contains("kill-one"), "{error}");
        let none = RunOptions { scenario: "steady".to_owned(), nodes: Some(0), ..options };
        assert!(run(&none).is_err());
    }

    #[test]
    fn every_scenario_is_listed_with_a_line() {
        assert_eq!(list().len(), names().count());
        assert!(list().iter().all(|(name, about)| show(name).is_some() && about.len() > 20));
    }
}
