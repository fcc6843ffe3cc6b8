//! `dunlin sim place`: lists of nodes and tasks, placed by the code that nodes run.

use std::path::Path;
use std::process::ExitCode;

use dunlin_sim::placing::{PlaceOptions, Placed, place};

use super::Done;
use crate::args::SimPlace;
use crate::failure::Failure;
use crate::render;
use crate::render::table::Table;
use crate::render::waiting;

/// Runs every seed and prints what came of it.
pub(super) fn run(args: &SimPlace) -> Done {
    let seeds = match &args.seeds {
        None => args.seed..=args.seed,
        Some(text) => super::sim::range(text)?,
    };
    let options = PlaceOptions {
        nodes: read("--nodes", &args.nodes)?,
        tasks: read("--tasks", &args.tasks)?,
        demand: args.demand,
        strategy: args.policy.strategy(),
        k: usize::from(args.k),
        in_flight: usize::try_from(args.in_flight).unwrap_or(usize::MAX),
        departures: args.departures,
    };
    let told = || format!("placing {} on {}", args.tasks.display(), args.nodes.display());
    let runs = waiting::while_told(told, || place(&options, seeds));
    let runs = runs.map_err(|e| Failure::usage(e, "correct the list; its first line names the columns"))?;
    match (runs.as_slice(), args.json) {
        ([one], true) => render::json(one)?,
        (many, true) => render::json(&many)?,
        (many, false) => table(many).print("no seed was run")?,
    }
    match runs.iter().map(|run| run.overcommits).sum::<usize>() {
        0 => Ok(ExitCode::SUCCESS),
        over => Err(Failure::failed(format!("{over} nodes gave more than they have; this is a fault of dunlin"))),
    }
}

fn read(option: &str, file: &Path) -> Result<(String, String), Failure> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file);
    text.map(|text| (name.clone(), text))
        .map_err(|e| Failure::usage(format!("{name}: {e}"), format!("{option} FILE.csv")))
}

fn table(runs: &[Placed]) -> Table {
    let mut table = Table::new(&[
        "SEED",
        "OFFERED",
        "PLACED",
        "DEMAND %",
        "GPU %",
        "CPU %",
        "MEMORY %",
        "REFUSALS",
        "MOVES",
        "DECISIONS/S",
    ]);
    for run in runs {
        table.row(cells(&run.seed.to_string(), run));
    }
    if let [_, _, ..] = runs {
        table.row(cells("mean", &mean(runs)));
    }
    table
}

fn cells(name: &str, run: &Placed) -> Vec<String> {
    let percent = |share: f64| format!("{share:.2}");
    vec![
        name.to_owned(),
        run.tasks_offered.to_string(),
        run.tasks_placed.to_string(),
        percent(run.demand_pct),
        percent(run.gpu_allocated_pct),
        percent(run.cpu_allocated_pct),
        percent(run.memory_allocated_pct),
        run.refusals.to_string(),
        format!("{} of {}", run.moves, run.moves_minimum),
        format!("{:.0}", run.decisions_per_s),
    ]
}

fn mean(runs: &[Placed]) -> Placed {
    let share = |of: fn(&Placed) -> f64| runs.iter().map(of).sum::<f64>() / runs.len() as f64;
    let count = |of: fn(&Placed) -> u64| runs.iter().map(of).sum::<u64>() / runs.len() as u64;
    let first = &runs[0];
    Placed {
        tasks_offered: count(|r| r.tasks_offered as u64) as usize,
        tasks_placed: count(|r| r.tasks_placed as u64) as usize,
        demand_pct: share(|r| r.demand_pct),
        gpu_allocated_pct: share(|r| r.gpu_allocated_pct),
        cpu_allocated_pct: share(|r| r.cpu_allocated_pct),
        memory_allocated_pct: share(|r| r.memory_allocated_pct),
        refusals: count(|r| r.refusals),
        moves: count(|r| r.moves),
        moves_minimum: count(|r| r.moves_minimum),
        decisions_per_s: share(|r| r.decisions_per_s),
        ..first.clone()
    }
}
