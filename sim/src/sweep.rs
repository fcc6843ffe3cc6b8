//! One scenario in flocks of several sizes: how its figures grow with the flock, as rows, and as curves in a page of their own.
//!
//! Never: a fit or an extrapolation; what is drawn was run.

use std::ops::RangeInclusive;

use serde::Serialize;

use crate::cli::{RunOptions, run_watched};
use crate::measure::{Quantiles, Sample};
use crate::report::json::{Outcome, Timed};
use crate::report::sweep::{page, svg};
use crate::watch::Watch;

/// More sizes make no better curve.
const MAX_SIZES: usize = 24;

/// What to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SweepOptions {
    /// The name of a built-in scenario, or a file.
    pub scenario: String,
    /// So many nodes, one flock after the other.
    pub sizes: Vec<u32>,
    /// Of each size one run for each.
    pub seeds: RangeInclusive<u64>,
    /// Runs at a time.
    pub jobs: usize,
}

/// What came of one size.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct SizeRow {
    /// So many nodes.
    pub nodes: u32,
    /// How many replicas the last writes asked for.
    pub replicas: u32,
    /// Runs.
    pub seeds: usize,
    /// Runs that broke a promise.
    pub broken: usize,
    /// Over the samples of all its runs: from a host's death to an observer holding it down.
    pub detect_s: Quantiles,
    /// From a host's death to each of its replicas being ready elsewhere.
    pub failover_s: Quantiles,
    /// From an instance's end to its going from a node's answers.
    pub dns_stale_s: Quantiles,
    /// Bytes that a node sent in a second: of the middle run, its middle node,
    pub bytes_per_node_s_p50: u64,
    /// and its busiest.
    pub bytes_per_node_s_max: u64,
    /// Packets and frames that a node sent in a second, in the middle run.
    pub messages_per_node_s: f64,
    /// Virtual seconds in a real one; the machine's, not the flock's.
    pub speed: f64,
}

/// All sizes.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Sweep {
    /// Which scenario.
    pub scenario: String,
    /// The command that runs it again.
    pub command: String,
    /// A row a size, ascending.
    pub rows: Vec<SizeRow>,
}

impl Sweep {
    /// The curves as one drawing that stands alone.
    #[must_use]
    pub fn svg(&self) -> String {
        svg(self)
    }

    /// The same as a page, with the rows as a table.
    #[must_use]
    pub fn html(&self) -> String {
        page(self)
    }
}

impl SweepOptions {
    /// The sizes of `100,300,1000`, ascending.
    ///
    /// # Errors
    /// What is wrong, and what to write.
    pub fn sizes(text: &str) -> Result<Vec<u32>, String> {
        let size = |word: &str| word.trim().parse::<u32>().ok().filter(|n| *n > 0);
        let mut sizes: Vec<u32> = text
            .split(',')
            .map(|word| {
                size(word).ok_or_else(|| format!("--sizes {text}: {word:?} is no number of nodes; write 100,300,1000"))
            })
            .collect::<Result<_, _>>()?;
        sizes.sort_unstable();
        sizes.dedup();
        if sizes.len() > MAX_SIZES {
            return Err(format!("--sizes: {} sizes are more than the {MAX_SIZES} that make a curve", sizes.len()));
        }
        Ok(sizes)
    }
}

/// Runs all sizes, the smallest first. `begins` is told which comes now.
///
/// # Errors
/// As [`crate::cli::run`]; nothing has run then.
pub fn sweep(options: &SweepOptions, watch: &Watch, begins: &dyn Fn(u32)) -> Result<Sweep, String> {
    let mut rows = Vec::new();
    for nodes in &options.sizes {
        begins(*nodes);
        let SweepOptions { scenario, seeds, jobs, .. } = options.clone();
        let outcomes = run_watched(&RunOptions { scenario, nodes: Some(*nodes), seeds, jobs, json: false }, watch)?;
        rows.push(row(*nodes, &outcomes));
    }
    let sizes: Vec<String> = options.sizes.iter().map(ToString::to_string).collect();
    let (first, last) = (options.seeds.start(), options.seeds.end());
    let command = format!("dunlin sim sweep {} --sizes {} --seeds {first}..{last}", options.scenario, sizes.join(","));
    Ok(Sweep { scenario: options.scenario.clone(), command, rows })
}

fn row(nodes: u32, outcomes: &[Outcome]) -> SizeRow {
    let times = |of: fn(&Timed) -> &Vec<Sample>| {
        let mut all: Vec<f64> = outcomes.iter().flat_map(|o| of(&o.samples)).map(|sample| sample.value_s).collect();
        all.sort_by(f64::total_cmp);
        let at = |percent: usize| all.get((all.len() * percent).div_ceil(100).max(1) - 1).copied();
        Quantiles { p50: at(50), p90: at(90), p99: at(99), max: at(100) }
    };
    let middle = |of: fn(&Outcome) -> u64| {
        let mut all: Vec<u64> = outcomes.iter().map(of).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or(0)
    };
    let mut messages: Vec<f64> = outcomes.iter().map(|o| o.messages_per_node_s).collect();
    messages.sort_by(f64::total_cmp);
    let (simulated, real) =
        outcomes.iter().fold((0.0, 0.0), |(virtual_s, real_s), o| (virtual_s + o.simulated_s, real_s + o.wall_s));
    SizeRow {
        nodes,
        replicas: outcomes.first().map_or(0, |o| o.replicas),
        seeds: outcomes.len(),
        broken: outcomes.iter().filter(|o| !o.violations.is_empty()).count(),
        detect_s: times(|t| &t.detect),
        failover_s: times(|t| &t.failover),
        dns_stale_s: times(|t| &t.dns_stale),
        bytes_per_node_s_p50: middle(|o| o.bytes_per_node_s.p50),
        bytes_per_node_s_max: middle(|o| o.bytes_per_node_s.max),
        messages_per_node_s: messages.get(messages.len() / 2).copied().unwrap_or(0.0),
        speed: simulated / f64::max(real, 1e-9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_any_order_and_once() {
        assert_eq!(SweepOptions::sizes("300, 100,300"), Ok(vec![100, 300]));
        for bad in ["", "10,", "0", "many"] {
            assert!(SweepOptions::sizes(bad).is_err_and(|e| e.contains("100,300,1000")), "{bad}");
        }
    }

    #[test]
    fn each_size_has_a_row_and_a_point_on_every_curve() -> Result<(), String> {
        let options = SweepOptions { scenario: "kill-one".to_owned(), sizes: vec![4, 8], seeds: 1..=2, jobs: 1 };
        let begun = std::cell::RefCell::new(Vec::new());
        let swept = sweep(&options, &Watch::default(), &|nodes| begun.borrow_mut().push(nodes))?;
        assert_eq!(begun.into_inner(), [4, 8]);
        assert_eq!(
            swept.rows.iter().map(|r| (r.nodes, r.replicas, r.seeds, r.broken)).collect::<Vec<_>>(),
            [(4, 11, 2, 0), (8, 19, 2, 0)]
        );
        assert!(swept.rows.iter().all(|r| r.detect_s.p50.is_some() && r.failover_s.max.is_some()));
        let svg = swept.svg();
        // Detection, failover, stale names: three curves each; bytes: two; messages: one. A point for each size.
        assert_eq!(svg.matches("<circle").count(), 2 * (3 + 3 + 3 + 2 + 1), "{svg}");
        assert!(svg.starts_with("<svg xmlns=") && swept.html().contains(&options.scenario));
        Ok(())
    }
}
