//! `dunlin sim`: the same code on thousands of virtual nodes.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use dunlin_sim::cli::{Outcome, RunOptions, Watch};
use serde::Serialize;

use super::{Done, sim_figures, sim_trace};
use crate::args::Sim;
use crate::client::Client;
use crate::failure::Failure;
use crate::render;
use crate::render::table::Table;
use crate::render::waiting;

#[derive(Serialize)]
struct ScenarioRow {
    name: String,
    about: String,
}

pub(super) fn run(client: &Client, args: &Sim) -> Done {
    match args {
        Sim::List { json } => list(*json),
        Sim::Figures { rows, nodes, baseline, save, json } => {
            sim_figures::run(rows, *nodes, baseline.as_deref(), save.as_deref(), *json)
        }
        Sim::Init(args) => super::sim_init::run(args),
        Sim::FromCluster(args) => super::sim_flock::run(client, args),
        Sim::View { what, nodes, seed, json } => super::sim_view::run(what, *nodes, *seed, *json),
        Sim::Compare { a, b, fail_on_worse, json } => super::sim_compare::run(a, b, *fail_on_worse, *json),
        Sim::Sweep(args) => super::sim_sweep::run(args),
        Sim::Place(args) => super::sim_place::run(args),
        Sim::Replay { trace, json } => sim_trace::replay(trace, *json),
        Sim::Shrink { trace, runs, json } => sim_trace::shrink(trace, *runs, *json),
        Sim::Show { scenario, seed, nodes } => {
            let text = dunlin_sim::cli::show(scenario, *seed, *nodes).ok_or_else(|| {
                Failure::usage(format!("there is no scenario {scenario}"), "dunlin sim list names them")
            })?;
            render::print_line(text.trim_end())?;
            Ok(ExitCode::SUCCESS)
        }
        Sim::Run { scenario, nodes, seed, seeds, traces, jobs, report: folder, json } => {
            let seeds = match seeds {
                None => *seed..=*seed,
                Some(text) => range(text)?,
            };
            let options =
                RunOptions { scenario: scenario.clone(), nodes: *nodes, seeds, jobs: (*jobs).max(1), json: *json };
            run_all(&options, folder.as_deref(), traces)
        }
    }
}

/// Runs a file that was just written.
pub(super) fn run_file(file: &str, seeds: Option<&str>, folder: Option<&Path>, json: bool) -> Done {
    let seeds = seeds.map_or(Ok(1..=1), range)?;
    let options = RunOptions { scenario: file.to_owned(), nodes: None, seeds, jobs: 1, json };
    run_all(&options, folder, Path::new("."))
}

fn run_all(options: &RunOptions, folder: Option<&Path>, traces: &Path) -> Done {
    let outcomes = match folder {
        None => watched(options, |watch| dunlin_sim::cli::run_watched(options, watch))?,
        Some(folder) => reported(options, folder)?,
    };
    let done = report(&outcomes, options.json);
    sim_trace::keep(options, &outcomes, traces)?;
    done
}

/// Runs while a line tells how far it has come.
pub(super) fn watched<T>(options: &RunOptions, work: impl FnOnce(&Watch) -> Result<T, String>) -> Result<T, Failure> {
    let (watch, begin) = (Watch::default(), Instant::now());
    let seeds = (options.seeds.end() - options.seeds.start()).saturating_add(1);
    let done =
        waiting::while_told(|| told(&watch, seeds, options.jobs, begin.elapsed().as_secs_f64()), || work(&watch));
    done.map_err(|e| Failure::usage(e, "dunlin sim list"))
}

/// How far runs have come, how fast, and how long it still takes, for a terminal.
#[allow(clippy::cast_precision_loss, reason = "for display")]
fn told(watch: &Watch, seeds: u64, jobs: usize, passed: f64) -> String {
    let (at, end) = watch.time_ms();
    let time = format!("{} of {} s", at / 1_000, end / 1_000);
    let (done, broken) = (watch.done(), watch.broken());
    let bad =
        if broken == 0 { String::new() } else { format!(", {}", waiting::red(&format!("{broken} broke a promise"))) };
    if seeds > 1 && done >= seeds {
        return format!("recording one of {seeds} seeds{bad}: {time}");
    }
    // Of those that run beside the one that was heard of, nobody knows how far they are: as far, on the whole.
    let under_way = u64::try_from(jobs).unwrap_or(1).clamp(1, (seeds - done).max(1)) as f64;
    let runs = done as f64 + under_way * at as f64 / end.max(1) as f64;
    let speed = runs * end as f64 / 1e3 / passed.max(1e-3);
    let left = format!("{speed:.0} x real time, {}", left(runs / seeds as f64, passed));
    if seeds == 1 {
        format!("{time}, {left}")
    } else {
        format!("{done}/{seeds} seeds{bad}, the latest at {time}, {left}")
    }
}

/// How much is done of what has taken so many seconds, and how many more it takes at that pace.
pub(super) fn left(share: f64, passed: f64) -> String {
    let percent = format!("{:.0} %", share.clamp(0.0, 1.0) * 100.0);
    if share < 0.01 {
        return percent;
    }
    format!("{percent}, {:.0} s left", (passed * (1.0 - share) / share).clamp(0.0, 1e7))
}

/// Runs, and leaves a report in a folder. That it can be made is known before anything runs.
fn reported(options: &RunOptions, folder: &Path) -> Result<Vec<Outcome>, Failure> {
    let cannot = |what: &Path, e: std::io::Error| {
        let remedy = "give --report a folder that can be written to, or one that can be made";
        Failure::usage(format!("--report: cannot write {}: {e}", what.display()), remedy)
    };
    std::fs::create_dir_all(folder).map_err(|e| cannot(folder, e))?;
    let (page, document) = (folder.join("report.html"), folder.join("report.json"));
    // An older report must not pass for this one should the run be broken off.
    for file in [&page, &document] {
        std::fs::write(file, "").map_err(|e| cannot(file, e))?;
    }
    let (outcomes, report) = watched(options, |watch| dunlin_sim::cli::run_reported(options, watch))?;
    std::fs::write(&page, report.html).map_err(|e| cannot(&page, e))?;
    std::fs::write(&document, report.json).map_err(|e| cannot(&document, e))?;
    eprintln!("report: {}", page.display());
    Ok(outcomes)
}

/// The seeds of `A..B`, both ends included.
pub(super) fn range(text: &str) -> Result<std::ops::RangeInclusive<u64>, Failure> {
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
pub(super) fn summary(outcome: &Outcome) -> String {
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
    if outcome.unready > 0 {
        text.push_str(&format!("; {} replicas ready nowhere at the end", outcome.unready));
    }
    for broken in &outcome.violations {
        text.push_str(&format!("\n  BROKEN {} at {} s: {}", broken.invariant, broken.at_s, broken.detail));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(seeds: std::ops::RangeInclusive<u64>) -> RunOptions {
        RunOptions { scenario: "steady".to_owned(), nodes: Some(3), seeds, jobs: 1, json: false }
    }

    fn folder(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("dunlin-report-{}-{name}", std::process::id()))
    }

    #[test]
    fn a_report_is_a_page_and_a_document_in_a_folder_that_is_made() {
        let folder = folder("made");
        let outcomes = reported(&options(1..=2), &folder.join("deep")).expect("it runs");
        let page = std::fs::read_to_string(folder.join("deep/report.html")).expect("a page");
        let document = std::fs::read_to_string(folder.join("deep/report.json")).expect("a document");
        std::fs::remove_dir_all(&folder).expect("it was made");
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>"), "{:.80}", page);
        let document: serde_json::Value = serde_json::from_str(&document).expect("JSON");
        let runs = document.get("runs").and_then(serde_json::Value::as_array).map(Vec::len);
        assert_eq!(runs, Some(outcomes.len()));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_refused_before_anything_runs() {
        let file = folder("file");
        std::fs::write(&file, "in the way").expect("a file");
        let failure = reported(&options(1..=u64::MAX), &file.join("below")).expect_err("a file is no folder");
        std::fs::remove_file(&file).expect("it was made");
        assert_eq!(failure.kind, crate::failure::Kind::Usage);
        assert!(format!("{failure:?}").contains("below") && format!("{failure:?}").contains("--report"), "{failure:?}");
    }

    #[test]
    fn how_far_it_has_come_is_told_in_seeds_or_in_time() {
        let watch = Watch::default();
        assert_eq!(told(&watch, 1, 1, 2.0), "0 of 0 s, 0 x real time, 0 %");
        assert_eq!(told(&watch, 100, 2, 2.0), "0/100 seeds, the latest at 0 of 0 s, 0 x real time, 0 %");
        dunlin_sim::cli::run_watched(&options(1..=2), &watch).expect("it runs");
        let text = told(&watch, 100, 1, 6.0);
        assert!(text.starts_with("2/100 seeds, the latest at ") && text.ends_with(" %, 194 s left"), "{text}");
        assert!(told(&watch, 2, 1, 2.0).starts_with("recording one of 2 seeds: "), "{}", told(&watch, 2, 1, 2.0));
    }
}
