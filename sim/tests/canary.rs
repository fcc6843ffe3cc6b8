//! The canary suite: plants one bug after the other in the core and runs the gate's sweep on it, which must find each of
//! them. What survives is a hole in the simulator, not a harmless bug: see docs/decisions/0013-planted-bugs.md.
//!
//! `cargo test --release -p dunlin-sim --features canary --test canary -- --nocapture` prints a line a bug;
//! `DUNLIN_CANARY=both-yield,room-off-by-one` in the environment tries only these.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use dunlin_gossip::canary::{Bug, plant};
use dunlin_sim::cli::{RunOptions, Violation, list, run};

/// The gate's sweep: every built-in scenario, so many hosts, these seeds.
const HOSTS: u32 = 20;
const SEEDS: u64 = 10;
const THREADS: usize = 2;

/// What ended the sweep.
struct Found {
    scenario: String,
    /// Seeds of which every scenario was clean.
    survived: u64,
    invariant: String,
    detail: String,
}

/// The first violation of a scenario with a seed. A panic inside counts as one.
fn first_violation(scenario: &str, seed: u64) -> Option<Violation> {
    let options =
        RunOptions { scenario: scenario.to_owned(), nodes: Some(HOSTS), seeds: seed..=seed, jobs: 1, json: true };
    match run(&options) {
        Ok(outcomes) => outcomes.into_iter().flat_map(|outcome| outcome.violations).next(),
        Err(text) => Some(Violation { invariant: "panic".to_owned(), at_s: 0.0, detail: text }),
    }
}

/// All scenarios with one seed, in order, several at a time: the first that breaks a promise. The order decides which, not
/// the threads.
fn seed_of_sweep(scenarios: &[String], seed: u64) -> Option<(usize, Violation)> {
    let next = AtomicUsize::new(0);
    let found: Mutex<Option<(usize, Violation)>> = Mutex::new(None);
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(scenario) = scenarios.get(index) else { return };
            let Some(violation) = first_violation(scenario, seed) else { continue };
            // What comes later in the order need not begin any more.
            next.fetch_max(scenarios.len(), Ordering::Relaxed);
            let mut found = found.lock().expect("no thread panics with it");
            if found.as_ref().is_none_or(|(earlier, _)| index < *earlier) {
                *found = Some((index, violation));
            }
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(work))));
    found.into_inner().expect("no thread panics with it")
}

/// Sweeps until something is found.
fn sweep(scenarios: &[String], seeds: u64) -> Option<Found> {
    (1..=seeds).find_map(|seed| {
        let (index, violation) = seed_of_sweep(scenarios, seed)?;
        let (scenario, survived) = (scenarios.get(index).cloned()?, seed - 1);
        Some(Found { scenario, survived, invariant: violation.invariant, detail: violation.detail })
    })
}

/// The bugs to try: all, or those that the environment names.
fn chosen() -> Vec<Bug> {
    let Ok(names) = std::env::var("DUNLIN_CANARY") else { return Bug::ALL.to_vec() };
    let named = |name: &str| Bug::named(name).unwrap_or_else(|| panic!("DUNLIN_CANARY: no bug is called {name:?}"));
    names.split(',').map(named).collect()
}

#[test]
#[allow(clippy::disallowed_methods, reason = "tells how long a sweep took; nothing is judged by it")]
fn the_sweep_finds_every_planted_bug() {
    let scenarios: Vec<String> = list().into_iter().map(|(name, _)| name).collect();
    let mut survivors = Vec::new();
    let mut clean_seeds = 1;
    println!("{:24} {:24} {:>8}  {:28} {:>6}", "bug", "scenario", "survived", "found by", "wall s");
    for bug in chosen() {
        plant(Some(bug));
        let begin = std::time::Instant::now();
        let found = sweep(&scenarios, SEEDS);
        let wall = begin.elapsed().as_secs_f64();
        let name = bug.name();
        match &found {
            Some(Found { scenario, survived, invariant, detail }) => {
                clean_seeds = clean_seeds.max(survived + 1);
                println!("{name:24} {scenario:24} {survived:>8}  {invariant:28} {wall:>6.1}");
                if std::env::var_os("DUNLIN_CANARY_DETAIL").is_some() {
                    println!("    {detail}");
                }
            }
            None => {
                println!("{name:24} {:24} {SEEDS:>8}  {:28} {wall:>6.1}", "-", "NOT FOUND");
                survivors.push(name);
            }
        }
    }
    plant(None);
    let innocent = sweep(&scenarios, clean_seeds);
    assert!(innocent.is_none(), "no bug planted: {}", innocent.map_or_else(String::new, |found| found.detail));
    assert!(survivors.is_empty(), "the sweep's {SEEDS} seeds do not find {survivors:?}");
}
