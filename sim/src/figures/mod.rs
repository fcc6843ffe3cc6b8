//! Figures: how soon a flock knows, whom it gives up wrongly and what it says at rest, in worlds of any size, beside the goals
//! and beside what an earlier build came to.
//!
//! Never: a time of the machine's; a row's figures are a function of the code, the size and the seed.

mod rows;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::rows::{ROWS, Reading, Row};
use crate::cli::run_made;
use crate::report::json::Outcome;
use crate::scenario::parse;
use crate::watch::Watch;

/// All rows run with it.
const SEED: u64 = 1;

/// What earlier builds came to: row, figure, value.
pub type Baseline = BTreeMap<String, BTreeMap<String, f64>>;

/// What is stored of a measurement.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    /// So many hosts in each world.
    pub nodes: u32,
    /// The values.
    pub figures: Baseline,
}

/// One measured figure.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Figure {
    /// Which world.
    pub row: &'static str,
    /// What is measured in it.
    pub about: &'static str,
    /// Which figure, with its unit.
    pub figure: &'static str,
    /// None if nothing was there to be measured.
    pub value: Option<f64>,
    /// At most so much is the goal at 1,000 nodes.
    pub goal: Option<f64>,
    /// What it was.
    pub baseline: Option<f64>,
    /// Promises that were broken in that world.
    pub broken: usize,
}

/// The rows: name and what they measure.
#[must_use]
pub fn list() -> Vec<(&'static str, &'static str)> {
    ROWS.iter().map(|row| (row.name, row.about)).collect()
}

/// Runs these rows, or all, with so many hosts each, one after the other.
///
/// # Errors
/// There is no such row, or the baseline is of another size; nothing has run then.
pub fn measure(names: &[String], nodes: u32, baseline: Option<&Stored>, watch: &Watch) -> Result<Vec<Figure>, String> {
    if let Some(unknown) = names.iter().find(|name| !ROWS.iter().any(|row| row.name == **name)) {
        let known: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        return Err(format!("there is no row {unknown}; there are {}", known.join(", ")));
    }
    if let Some(other) = baseline.filter(|stored| stored.nodes != nodes) {
        return Err(format!("the baseline is of {} nodes, this is of {nodes}", other.nodes));
    }
    let mut figures = Vec::new();
    for row in ROWS.iter().filter(|row| names.is_empty() || names.iter().any(|name| name == row.name)) {
        let outcome = run(row, nodes, watch)?;
        let was = |figure: &str| baseline?.figures.get(row.name)?.get(figure).copied();
        let figure = |Reading { name, value, most }: Reading| Figure {
            row: row.name,
            about: row.about,
            figure: name,
            value,
            goal: most,
            baseline: was(name),
            broken: outcome.violations.len(),
        };
        figures.extend((row.read)(&outcome).into_iter().map(figure));
    }
    Ok(figures)
}

fn run(row: &Row, nodes: u32, watch: &Watch) -> Result<Outcome, String> {
    let text = (row.scenario)(nodes);
    run_made(parse(row.name, &text)?, SEED, watch)
}

/// What is worth keeping of a measurement.
#[must_use]
pub fn stored(nodes: u32, measured: &[Figure]) -> Stored {
    let mut figures = Baseline::new();
    for figure in measured {
        if let Some(value) = figure.value {
            figures.entry(figure.row.to_owned()).or_default().insert(figure.figure.to_owned(), value);
        }
    }
    Stored { nodes, figures }
}
