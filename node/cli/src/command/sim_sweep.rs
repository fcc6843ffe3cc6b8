//! `dunlin sim sweep`: one scenario in flocks of several sizes, as a table and as curves.

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use dunlin_sim::cli::Watch;
use dunlin_sim::sweep::{SizeRow, Sweep, SweepOptions, sweep};

use super::{Done, sim};
use crate::args::SimSweep;
use crate::failure::Failure;
use crate::render;
use crate::render::table::Table;
use crate::render::waiting;

pub(super) fn run(args: &SimSweep) -> Done {
    let sizes = SweepOptions::sizes(&args.sizes).map_err(|e| Failure::usage(e, "dunlin sim sweep --help"))?;
    let options = SweepOptions {
        scenario: args.scenario.clone(),
        sizes,
        seeds: sim::range(&args.seeds)?,
        jobs: args.jobs.max(1),
    };
    if let Some(folder) = &args.report {
        std::fs::create_dir_all(folder).map_err(|e| cannot(folder, &e))?;
    }
    let (watch, size, begin) = (Watch::default(), AtomicU32::new(0), Instant::now());
    let told = || told(&options, size.load(Ordering::Relaxed), &watch, begin.elapsed().as_secs_f64());
    let work = || sweep(&options, &watch, &|nodes| size.store(nodes, Ordering::Relaxed));
    let swept = waiting::while_told(told, work).map_err(|e| Failure::usage(e, "dunlin sim list"))?;
    if let Some(folder) = &args.report {
        write(folder, &swept)?;
    }
    if args.json {
        render::json(&swept)?;
    } else {
        table(&swept.rows).print("no size was run")?;
    }
    match swept.rows.iter().map(|row| row.broken).sum::<usize>() {
        0 => Ok(ExitCode::SUCCESS),
        broken => Err(Failure::failed(format!("{broken} runs broke a promise; run that size alone to see which"))),
    }
}

fn cannot(what: &Path, e: &std::io::Error) -> Failure {
    let remedy = "give --report a folder that can be written to, or one that can be made";
    Failure::usage(format!("--report: cannot write {}: {e}", what.display()), remedy)
}

fn write(folder: &Path, swept: &Sweep) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(swept).map_err(|e| Failure::failed(e.to_string()))?;
    for (name, text) in [("sweep.html", swept.html()), ("sweep.svg", swept.svg()), ("sweep.json", json + "\n")] {
        let file = folder.join(name);
        std::fs::write(&file, text).map_err(|e| cannot(&file, &e))?;
    }
    eprintln!("curves: {}", folder.join("sweep.html").display());
    Ok(())
}

/// How far it has come: what is left counts by the number of nodes, since larger flocks take longer.
#[allow(clippy::cast_precision_loss, reason = "for display")]
fn told(options: &SweepOptions, size: u32, watch: &Watch, passed: f64) -> String {
    let seeds = options.seeds.end().saturating_sub(*options.seeds.start()).saturating_add(1);
    let before: u64 = options.sizes.iter().filter(|n| **n < size).map(|n| u64::from(*n)).sum();
    let all: u64 = options.sizes.iter().map(|n| u64::from(*n)).sum();
    let place = options.sizes.iter().filter(|n| **n <= size).count() as u64;
    let (at, end) = watch.time_ms();
    let of_run = at as f64 / end.max(1) as f64;
    let done = watch.done().saturating_sub(place.saturating_sub(1).saturating_mul(seeds)) as f64;
    let of_size = ((done + of_run) / seeds as f64).min(1.0);
    let share = (before as f64 + of_size * f64::from(size)) / all.max(1) as f64;
    format!("{size} nodes ({place} of {} sizes), {}", options.sizes.len(), sim::left(share, passed))
}

fn table(rows: &[SizeRow]) -> Table {
    let mut table = Table::new(&[
        "NODES",
        "REPLICAS",
        "DETECTED",
        "P99",
        "FAILOVER",
        "P99",
        "STALE P99",
        "BYTES/S",
        "MESSAGES/S",
        "SPEED",
        "BROKEN",
    ]);
    let time = |s: Option<f64>| s.map_or_else(|| "-".to_owned(), |s| format!("{s:.2} s"));
    for row in rows {
        table.row(vec![
            row.nodes.to_string(),
            row.replicas.to_string(),
            time(row.detect_s.p50),
            time(row.detect_s.p99),
            time(row.failover_s.p50),
            time(row.failover_s.p99),
            time(row.dns_stale_s.p99),
            row.bytes_per_node_s_p50.to_string(),
            format!("{:.1}", row.messages_per_node_s),
            format!("{:.0} x", row.speed),
            format!("{} of {}", row.broken, row.seeds),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_left_in_a_folder_that_is_made() {
        let folder = std::env::temp_dir().join(format!("dunlin-sweep-{}", std::process::id()));
        let args = SimSweep {
            scenario: "kill-one".to_owned(),
            sizes: "3,5".to_owned(),
            seeds: "1..1".to_owned(),
            jobs: 1,
            report: Some(folder.clone()),
            json: true,
        };
        run(&args).expect("it runs");
        let text = |name: &str| std::fs::read_to_string(folder.join(name)).expect("it was written");
        let document: serde_json::Value = serde_json::from_str(&text("sweep.json")).expect("JSON");
        assert_eq!((&document["rows"][1]["nodes"], &document["rows"][1]["broken"]), (&5.into(), &0.into()));
        assert!(text("sweep.svg").starts_with("<svg ") && text("sweep.html").starts_with("<!doctype html>"));
        std::fs::remove_dir_all(&folder).expect("it was made");
        let bad = run(&SimSweep { sizes: "3;5".to_owned(), ..args }).expect_err("no list");
        assert_eq!(bad.kind, crate::failure::Kind::Usage);
    }

    #[test]
    fn what_is_left_is_told_by_size() {
        let options = SweepOptions { scenario: "x".to_owned(), sizes: vec![100, 300], seeds: 1..=1, jobs: 1 };
        let watch = Watch::default();
        assert_eq!(told(&options, 300, &watch, 10.0), "300 nodes (2 of 2 sizes), 25 %, 30 s left");
        assert_eq!(told(&options, 100, &watch, 10.0), "100 nodes (1 of 2 sizes), 0 %");
    }
}
