//! The figures of real clusters on this machine: how fast they heal, deploy and restart, and what an idle agent costs.
//!
//! `cargo run --release -p dunlin-tests --bin figures [RUNS] [--only NAME]... [--json]` prints a table, or with `--json` one
//! document. Timings depend on the machine and what else it does; nothing here is asserted, a missed goal is shown.

mod disturb;
mod dns;
mod failover;
mod fresh;
mod idle;
mod report;

use std::time::{Duration, Instant};

use dunlin_tests::env::has_namespaces;
use report::Figure;

/// Runs of the failovers, unless told otherwise; other figures take at most [`FEW`].
const RUNS: usize = 20;
/// Runs of what varies little.
const FEW: usize = 5;
/// Names of the figures, for `--only`.
const NAMES: [&str; 7] = ["deploy", "agent", "idle", "dns", "fresh", "kill", "cut"];
const USAGE: &str = "usage: figures [RUNS] [--only deploy|agent|idle|dns|fresh|kill|cut]... [--json]";

struct Wanted {
    runs: usize,
    only: Vec<String>,
    json: bool,
}

fn wanted(arguments: impl Iterator<Item = String>) -> Option<Wanted> {
    let mut wanted = Wanted { runs: RUNS, only: Vec::new(), json: false };
    let mut arguments = arguments.skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => wanted.json = true,
            "--only" => wanted.only.push(arguments.next().filter(|name| NAMES.contains(&name.as_str()))?),
            number => wanted.runs = number.parse().ok().filter(|n| *n > 0)?,
        }
    }
    Some(wanted)
}

/// Lets this long pass, so that a round begins in a steady state and not in the wake of the last one.
fn calm(time: Duration) {
    let start = Instant::now();
    while let Some(left) = time.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

fn measure(wanted: &Wanted) -> Vec<Figure> {
    let is_wanted = |name: &str| wanted.only.is_empty() || wanted.only.iter().any(|only| only == name);
    let few = wanted.runs.min(FEW);
    let mut figures = Vec::new();
    if is_wanted("deploy") {
        figures.extend(disturb::deploy_and_process(few));
    }
    if is_wanted("agent") {
        figures.extend(disturb::agent_restart(few));
    }
    if is_wanted("idle") {
        figures.extend(idle::figures());
    }
    if is_wanted("dns") {
        figures.extend(dns::figures(few));
    }
    if is_wanted("fresh") {
        figures.extend(fresh::figures(wanted.runs));
    }
    if is_wanted("kill") {
        figures.extend(failover::figures(wanted.runs, false));
    }
    if is_wanted("cut") {
        if has_namespaces() {
            figures.extend(failover::figures(wanted.runs, true));
        } else {
            eprintln!("left out: cut, which needs root and network namespaces");
        }
    }
    figures
}

fn main() -> std::process::ExitCode {
    let Some(wanted) = wanted(std::env::args()) else {
        eprintln!("{USAGE}");
        return std::process::ExitCode::from(2);
    };
    let figures = measure(&wanted);
    println!("{}", if wanted.json { report::json(&figures).to_string() } else { report::table(&figures) });
    std::process::ExitCode::SUCCESS
}
