//! What becomes of a broken promise: a file that replays it, and from that file a small story.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dunlin_sim::cli::{Outcome, Progress, RunOptions, Shrunk};
use serde::Serialize;

use super::Done;
use crate::failure::Failure;
use crate::render;

/// Of so many seeds at most the runs are written; of the others the seed says enough.
const MOST_TRACES: usize = 10;

/// Writes a file for each run that broke a promise, and says how to go on.
pub(super) fn keep(options: &RunOptions, outcomes: &[Outcome], dir: &Path) -> Result<(), Failure> {
    for outcome in outcomes.iter().filter(|outcome| !outcome.violations.is_empty()).take(MOST_TRACES) {
        let text = dunlin_sim::cli::trace(options, outcome).map_err(|e| Failure::usage(e, "dunlin sim list"))?;
        let file = dir.join(format!("{}-{}-{}.trace.yaml", outcome.scenario, outcome.nodes, outcome.seed));
        write(&file, &text)?;
        if !options.json {
            let file = file.display();
            render::print_line(&format!(
                "  replay: dunlin sim replay {file}\n  make it small: dunlin sim shrink {file}"
            ))?;
        }
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let failed = |e| {
        Failure::new(
            crate::failure::Kind::Failed,
            format!("{} cannot be written: {e}", file.display()),
            "choose a directory that can be written to with --traces DIR",
        )
    };
    if let Some(dir) = file.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir).map_err(failed)?;
    }
    std::fs::write(file, text).map_err(failed)
}

#[derive(Serialize)]
struct ReplayRow<'a> {
    is_same: bool,
    recorded: &'a [String],
    #[serde(flatten)]
    outcome: &'a Outcome,
}

/// `dunlin sim replay`
pub(super) fn replay(file: &str, json: bool) -> Done {
    let replayed = dunlin_sim::cli::replay(file).map_err(|e| Failure::usage(e, "dunlin sim replay NAME.trace.yaml"))?;
    if json {
        let recorded = &replayed.recorded;
        render::json(&ReplayRow { is_same: replayed.is_same, recorded, outcome: &replayed.outcome })?;
    } else {
        render::print_line(&super::sim::summary(&replayed.outcome))?;
        let recorded = replayed.recorded.join(", ");
        render::print_line(&if replayed.is_same {
            format!("the same run as recorded, to the last event ({recorded})")
        } else {
            format!("another run than recorded ({recorded}): the trace differs, so this is another build of dunlin")
        })?;
    }
    if replayed.outcome.violations.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::failed(format!("{} promises broken", replayed.outcome.violations.len())))
}

#[derive(Serialize)]
struct ShrunkRow {
    file: PathBuf,
    invariant: String,
    detail: String,
    runs: u64,
    hosts: u32,
    lines: usize,
    scenario: String,
    story: String,
}

/// `dunlin sim shrink`
pub(super) fn shrink(file: &str, budget: u64, json: bool) -> Done {
    let shows = std::io::stderr().is_terminal();
    let mut tell = |at: Progress| {
        if shows {
            let mut stderr = std::io::stderr().lock();
            let _unseen = write!(stderr, "\r{} runs: {} hosts, {} lines \x1b[K", at.runs, at.hosts, at.lines);
        }
    };
    let shrunk = dunlin_sim::cli::shrink(file, budget, &mut tell);
    if shows {
        let _unseen = write!(std::io::stderr().lock(), "\r\x1b[K");
    }
    let shrunk = shrunk.map_err(|e| Failure::usage(e, "dunlin sim shrink NAME.trace.yaml"))?;
    let small = PathBuf::from(format!("{}.min.yaml", file.trim_end_matches(".yaml").trim_end_matches(".trace")));
    write(&small, &shrunk.scenario.text())?;
    let Shrunk { scenario, violation, runs } = shrunk;
    let row = ShrunkRow {
        file: small,
        invariant: violation.invariant,
        detail: violation.detail,
        runs,
        hosts: scenario.hosts,
        lines: scenario.timeline.len(),
        scenario: scenario.text(),
        story: dunlin_sim::cli::tell(&scenario),
    };
    if json {
        render::json(&row)?;
        return Ok(ExitCode::SUCCESS);
    }
    render::print_line(&format!(
        "{} in {} runs: {} hosts, {} lines\n{}\n\n{}\nreplay: dunlin sim replay {}",
        row.invariant,
        row.runs,
        row.hosts,
        row.lines,
        row.detail,
        row.story,
        row.file.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}
