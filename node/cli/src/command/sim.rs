//! `dunlin sim`: the same code on thousands of virtual nodes.

use std::process::ExitCode;

use dunlin_sim::cli::{Outcome, RunOptions};
use serde::Serialize;

use super::Done;
use crate::args::Sim;
use crate::failure::Failure;
use crate::render;
use crate::render::table::Table;

#[derive(Serialize)]
struct ScenarioRow {
    name: String,
    about: String,
}

pub(super) fn run(args: &Sim) -> Done {
    match args {
        Sim::List { json } => list(*json),
        Sim::Show { scenario } => {
            let text = dunlin_sim::cli::show(scenario).ok_or_else(|| {
                Failure::usage(format!("there is no scenario {scenario}"), "dunlin sim list names them")
            })?;
            render::print_line(text.trim_end())?;
            Ok(ExitCode::SUCCESS)
        }
        Sim::Run { scenario, nodes, seed, seeds, jobs, json } => {
            let seeds = match seeds {
                None => *seed..=*seed,
                Some(text) => range(text)?,
            };
            let options =
                RunOptions { scenario: scenario.clone(), nodes: *nodes, seeds, jobs: (*jobs).max(1), json: *json };
            let outcomes = dunlin_sim::cli::run(&options).map_err(|e| Failure::usage(e, "dunlin sim list"))?;
            report(&outcomes, *json)
        }
    }
}

fn range(text: &str) -> Result<std::ops::RangeInclusive<u64>, Failure> {
    let bad = || Failure::usage(format!("--seeds {text}: expected A..B"), "--seeds 1..100");
    let (from, to) = text.split_once("..").ok_or_else(bad)?;
    let (from, to) = (from.parse().map_err(|_| bad())?, to.trim_start_matches('=').parse().map_err(|_| bad())?);
    if from > to { Err(bad()) } else { Ok(from..=to) }
}

fn list(json: bool) -> Done {
    let rows: Vec<ScenarioRow> =
        dunlin_sim::cli::list().into_iter().map(|(name, about)| ScenarioRow { name, about }).collect();
    if json {
        render::json(&rows)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["SCENARIO", "ABOUT"]);
    for row in rows {
        table.row(vec![row.name, row.about]);
    }
    table.print("no scenarios")?;
    Ok(ExitCode::SUCCESS)
}

fn report(outcomes: &[Outcome], json: bool) -> Done {
    if json {
        match outcomes {
            [one] => render::json(one)?,
            many => render::json(&many)?,
        }
    } else {
        for outcome in outcomes {
            render::print_line(&summary(outcome))?;
        }
    }
    let broken = outcomes.iter().filter(|o| !o.violations.is_empty()).count();
    if broken == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::failed(format!("{broken} of {} seeds broke a promise", outcomes.len())))
}

/// One run in lines for people: figures, then each broken promise and the command that shows it again.
fn summary(outcome: &Outcome) -> String {
    let known = |s: Option<f64>| s.map_or_else(|| "-".to_owned(), |s| format!("{s:.2} s"));
    let mut text = format!(
        "{} nodes {} replicas {} seed {}: {:.0} s simulated in {:.2} s ({:.0} x real time), trace {}; detected p50 {}, \
         failover p50 {}, names stale p99 {}, moves {} of {} needed",
        outcome.scenario,
        outcome.nodes,
        outcome.replicas,
        outcome.seed,
        outcome.simulated_s,
        outcome.wall_s,
        outcome.simulated_s / outcome.wall_s.max(1e-9),
        outcome.trace_hash,
        known(outcome.detect_s.p50),
        known(outcome.failover_s.p50),
        known(outcome.dns_stale_s.p99),
        outcome.moves,
        outcome.moves_minimum,
    );
    for broken in &outcome.violations {
        text.push_str(&format!("\n  BROKEN {} at {} s: {}", broken.invariant, broken.at_s, broken.detail));
    }
    if !outcome.violations.is_empty() {
        text.push_str(&format!(
            "\n  again: dunlin sim run {} --nodes {} --seed {}",
            outcome.scenario, outcome.nodes, outcome.seed
        ));
    }
    text
}
