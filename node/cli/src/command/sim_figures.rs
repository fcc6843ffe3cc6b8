//! `dunlin sim figures`: worlds that are measured, beside their goals and beside what an earlier build came to.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use dunlin_sim::cli::Watch;
use dunlin_sim::figures::{Figure, Stored, measure, stored};

use super::{Done, sim};
use crate::failure::{Failure, Kind};
use crate::render;
use crate::render::table::Table;
use crate::render::waiting;

pub(super) fn run(rows: &[String], nodes: u32, baseline: Option<&Path>, save: Option<&Path>, json: bool) -> Done {
    let baseline = baseline.map(read).transpose()?;
    let (watch, begin) = (Watch::default(), Instant::now());
    let all = if rows.is_empty() { dunlin_sim::figures::list().len() } else { rows.len() };
    #[allow(clippy::cast_precision_loss, reason = "a few rows")]
    let told = || {
        let (at, end) = watch.time_ms();
        let share = (watch.done() as f64 + at as f64 / end.max(1) as f64) / all.max(1) as f64;
        let left = sim::left(share, begin.elapsed().as_secs_f64());
        format!("{} of {all} rows done, the next at {} of {} s, {left}", watch.done(), at / 1_000, end / 1_000)
    };
    let figures = waiting::while_told(told, || measure(rows, nodes, baseline.as_ref(), &watch))
        .map_err(|e| Failure::usage(e, "dunlin sim figures --help"))?;
    if let Some(file) = save {
        write(file, &stored(nodes, &figures))?;
    }
    if json {
        render::json(&figures)?;
    } else {
        table(&figures, baseline.is_some()).print("no figures")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> Result<Stored, Failure> {
    let remedy = "give a file that `dunlin sim figures --save FILE` has written";
    let bad = |e: &dyn std::fmt::Display| Failure::usage(format!("--baseline {}: {e}", file.display()), remedy);
    let text = std::fs::read_to_string(file).map_err(|e| bad(&e))?;
    serde_json::from_str(&text).map_err(|e| bad(&e))
}

fn write(file: &Path, stored: &Stored) -> Result<(), Failure> {
    let failed = |e: &dyn std::fmt::Display| {
        let what = format!("--save: {} cannot be written: {e}", file.display());
        Failure::new(Kind::Failed, what, "choose a file that can be written to".to_owned())
    };
    let text = serde_json::to_string_pretty(stored).map_err(|e| failed(&e))?;
    std::fs::write(file, text + "\n").map_err(|e| failed(&e))
}

fn table(figures: &[Figure], is_compared: bool) -> Table {
    let mut head = vec!["ROW", "FIGURE", "VALUE", "GOAL"];
    if is_compared {
        head.extend(["WAS", "CHANGE"]);
    }
    head.push("WHAT");
    let mut table = Table::new(&head);
    for figure in figures {
        let mut cells =
            vec![figure.row.to_owned(), figure.figure.to_owned(), number(figure.value), number(figure.goal)];
        if is_compared {
            cells.extend([number(figure.baseline), change(figure)]);
        }
        let broken = if figure.broken == 0 { String::new() } else { format!(" ({} broken promises)", figure.broken) };
        cells.push(format!("{}{broken}", figure.about));
        table.row(cells);
    }
    table
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(whole) if whole.fract() == 0.0 => format!("{whole:.0}"),
        Some(value) => format!("{value:.2}"),
    }
}

/// What became of a figure since the baseline.
fn change(figure: &Figure) -> String {
    match (figure.value, figure.baseline) {
        (Some(now), Some(was)) if now.total_cmp(&was).is_eq() => "same".to_owned(),
        (Some(now), Some(was)) if was != 0.0 => format!("{:+.1} %", (now - was) / was * 100.0),
        (Some(_), Some(_)) => "from 0".to_owned(),
        (Some(_), None) => "new".to_owned(),
        (None, Some(_)) => "gone".to_owned(),
        (None, None) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_what_a_second_run_comes_to() {
        let dir = std::env::temp_dir().join(format!("dunlin-figures-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let (file, rows) = (dir.join("saved.json"), ["spread".to_owned(), "cold-start".to_owned()]);
        run(&rows, 5, None, Some(&file), true).expect("it runs");
        let saved = read(&file).expect("it was written");
        let again = measure(&rows, 5, Some(&saved), &Watch::default()).expect("it runs");
        std::fs::remove_dir_all(&dir).expect("it was made");
        assert_eq!(again.len(), 2, "{again:?}");
        for figure in &again {
            assert_eq!((change(figure).as_str(), figure.broken), ("same", 0), "{figure:?}");
        }
    }

    #[test]
    fn a_row_that_is_not_there_and_a_baseline_of_another_size_are_refused() {
        let unknown = run(&["speed".to_owned()], 5, None, None, true).expect_err("no such row");
        assert!(format!("{unknown:?}").contains("flip-flop-links"), "{unknown:?}");
        let other = Stored { nodes: 6, figures: Default::default() };
        assert!(measure(&[], 5, Some(&other), &Watch::default()).is_err());
    }
}
