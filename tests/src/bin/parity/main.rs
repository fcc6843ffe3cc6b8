//! Simulated and real flocks side by side, scenario by scenario.
//!
//! `cargo run --release -p dunlin-tests --bin parity -- [SCENARIO...] [--nodes 5|20] [--runs N] [--seeds N] [--json]` runs each
//! scenario (a built-in one or a file) by the clock on real agents in network namespaces, then in the simulator with workloads
//! as fast as the real ones were, and prints a table for each. It exits with 1 if a figure lies beyond its stated distance.
//! It needs root.

use std::process::ExitCode;

use dunlin_sim::cli::load;
use dunlin_tests::env::has_namespaces;
use dunlin_tests::parity::clock::{self, Real};
use dunlin_tests::parity::plan::plan;
use dunlin_tests::parity::report::{self, Verdict};
use dunlin_tests::parity::simulate;

/// What is compared unless told otherwise.
const SCENARIOS: [&str; 4] = ["kill-often", "partition-heal", "lossy", "agent-restarts"];
const USAGE: &str = "usage: parity [SCENARIO...] [--nodes 5|20] [--runs N] [--seeds N] [--json]";

struct Wanted {
    scenarios: Vec<String>,
    nodes: u8,
    runs: u64,
    seeds: u64,
    json: bool,
}

fn wanted(arguments: impl Iterator<Item = String>) -> Option<Wanted> {
    let mut wanted = Wanted { scenarios: Vec::new(), nodes: 5, runs: 3, seeds: 100, json: false };
    let mut arguments = arguments.skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => wanted.json = true,
            "--nodes" => wanted.nodes = arguments.next()?.parse().ok().filter(|n| (2..=200).contains(n))?,
            "--runs" => wanted.runs = arguments.next()?.parse().ok().filter(|n| *n > 0)?,
            "--seeds" => wanted.seeds = arguments.next()?.parse().ok().filter(|n| *n > 0)?,
            option if option.starts_with('-') => return None,
            scenario => wanted.scenarios.push(scenario.to_owned()),
        }
    }
    if wanted.scenarios.is_empty() {
        wanted.scenarios = SCENARIOS.map(str::to_owned).to_vec();
    }
    Some(wanted)
}

/// The proof that the network of a run bit.
fn tell(name: &str, nodes: u8, run: u64, real: &Real) {
    let Real { relayed, lost, .. } = real;
    eprintln!(
        "{name}, {nodes} nodes, run {run}: {} packets held {:?} on average and {:?} more, {} doubled, {} held back, {} cut, \
         {} of {} lost",
        relayed.packets,
        relayed.mean_held(),
        relayed.mean_late(),
        relayed.doubled,
        relayed.held_back,
        relayed.cut,
        lost.lost,
        lost.came
    );
}

/// One scenario on both sides; true if all is near.
fn both(wanted: &Wanted, name: &str) -> Result<bool, String> {
    let scenario = simulate::common(load(name)?);
    let steps = plan(&scenario, usize::from(wanted.nodes))?;
    let mut real: Vec<Real> = Vec::new();
    for run in 1..=wanted.runs {
        real.push(clock::run(&scenario, &steps, wanted.nodes, run));
        tell(name, wanted.nodes, run, &real[real.len() - 1]);
    }
    let (start_ms, ready_ms) = simulate::times_of(&real);
    eprintln!("{name}: workloads ran {start_ms} ms after the command and were ready {ready_ms} ms later (medians)");
    let simulated = simulate::run(simulate::with_times(scenario, start_ms, ready_ms), wanted.nodes, 1..=wanted.seeds)?;
    let broken: Vec<_> = simulated.iter().flat_map(|outcome| &outcome.violations).collect();
    let rows = report::compare(&steps, &simulated, &real);
    if wanted.json {
        println!("{}", report::json(name, wanted.nodes, &rows));
    } else {
        println!("## {name}, {} nodes\n\n{}\n", wanted.nodes, report::table(&rows));
    }
    if let Some(first) = broken.first() {
        return Err(format!("{name}: {} promises broken in the simulator, first: {}", broken.len(), first.detail));
    }
    Ok(rows.iter().all(|row| row.verdict() != Verdict::Far))
}

fn main() -> ExitCode {
    let Some(wanted) = wanted(std::env::args()) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if !has_namespaces() {
        eprintln!("parity needs root and network namespaces");
        return ExitCode::from(2);
    }
    let mut all_near = true;
    for name in &wanted.scenarios {
        match both(&wanted, name) {
            Ok(near) => all_near &= near,
            Err(why) => {
                eprintln!("{why}");
                all_near = false;
            }
        }
    }
    if all_near { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
