//! `dunlin sim compare`: two documents of runs side by side, figure by figure, and what became worse.
//!
//! Never: a judgement of figures that depend on the machine. All that are judged are better when they are lower.

use std::process::ExitCode;

use serde::Serialize;
use serde_json::Value;

use super::{Done, sim_view};
use crate::failure::Failure;
use crate::render;
use crate::render::table::Table;

/// What is compared: the name of a field, the part of it, and whether more of it is worse. The others depend on the machine.
const FIGURES: &[(&str, &str, bool)] = &[
    ("violations", "", true),
    ("detect_s", "p50", true),
    ("detect_s", "max", true),
    ("failover_s", "p50", true),
    ("failover_s", "p99", true),
    ("failover_s", "max", true),
    ("dark_s", "max", true),
    ("deploy_s", "p50", true),
    ("deploy_s", "max", true),
    ("dns_stale_s", "p50", true),
    ("dns_stale_s", "max", true),
    ("membership_converge_s", "max", true),
    ("state_converge_s", "max", true),
    ("duplicate_s", "max", true),
    ("false_positives", "", true),
    ("moves", "", true),
    ("unready", "", true),
    ("bytes_per_node_s", "p50", true),
    ("bytes_per_node_s", "max", true),
    ("messages_per_node_s", "", true),
    ("syncs", "", true),
    ("driver_commands", "", true),
    ("wall_s", "", false),
    ("peak_rss_bytes", "", false),
];
/// A figure that is worse by less is not marked: so much comes and goes with any change of the order of events.
const MARKED: f64 = 1.0;

#[derive(Serialize)]
struct Row {
    figure: String,
    a: Option<f64>,
    b: Option<f64>,
    /// None where there was nothing before, or is nothing now.
    change_pct: Option<f64>,
    worse: bool,
}

#[derive(Serialize)]
struct Comparison<'a> {
    a: &'a str,
    b: &'a str,
    differs: Vec<String>,
    rows: Vec<Row>,
    worse: Vec<String>,
}

pub(super) fn run(a: &str, b: &str, fail_on_worse: Option<f64>, json: bool) -> Done {
    if fail_on_worse.is_some_and(|limit| !limit.is_finite() || limit < 0.0) {
        return Err(Failure::usage("--fail-on-worse: expected a percentage", "--fail-on-worse 10"));
    }
    let (runs_a, runs_b) = (runs(a)?, runs(b)?);
    let limit = fail_on_worse.unwrap_or(MARKED);
    let rows = compared(&runs_a, &runs_b, limit);
    let worse: Vec<String> = rows.iter().filter(|row| row.worse).map(|row| row.figure.clone()).collect();
    let differs = differences(&runs_a, &runs_b);
    if json {
        render::json(&Comparison { a, b, differs, rows, worse: worse.clone() })?;
    } else {
        differs.iter().for_each(|what| eprintln!("not the same runs: {what}"));
        table(&rows).print("nothing was measured in either")?;
    }
    match fail_on_worse {
        Some(limit) if !worse.is_empty() => {
            Err(Failure::failed(format!("worse by more than {limit} %: {}", worse.join(", "))))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn runs(what: &str) -> Result<Vec<Value>, Failure> {
    let remedy = "give the folder of a report, a report.json, or what `dunlin sim run --json` printed";
    let document =
        sim_view::stored(what)?.ok_or_else(|| Failure::usage(format!("{what} is no document of runs"), remedy))?;
    let runs = document.get("runs").and_then(Value::as_array).cloned().unwrap_or_default();
    if runs.is_empty() { Err(Failure::usage(format!("{what} holds no run"), remedy)) } else { Ok(runs) }
}

/// In what the runs differ besides the build.
fn differences(a: &[Value], b: &[Value]) -> Vec<String> {
    let of = |runs: &[Value], key: &str| -> Vec<String> {
        let mut all: Vec<String> =
            runs.iter().map(|run| run.get(key).map(Value::to_string).unwrap_or_default()).collect();
        all.sort();
        all.dedup();
        all
    };
    let short = |all: Vec<String>| if all.len() > 3 { format!("{} of them", all.len()) } else { all.join(", ") };
    let keys = ["scenario", "nodes", "seed"].into_iter();
    let differing = keys.filter(|key| of(a, key) != of(b, key));
    differing.map(|key| format!("{key}: {} and {}", short(of(a, key)), short(of(b, key)))).collect()
}

fn compared(a: &[Value], b: &[Value], limit: f64) -> Vec<Row> {
    let row = |(field, part, is_judged): &(&str, &str, bool)| {
        let figure = format!("{field} {part}").trim_end().to_owned();
        let (was, now) = (value(a, field, part), value(b, field, part));
        let change_pct = was.zip(now).filter(|(was, _)| *was != 0.0).map(|(was, now)| (now - was) / was * 100.0);
        let from_nothing = was.is_none_or(|was| was == 0.0) && now.is_some_and(|now| now > 0.0);
        // What was never measured before is another run, not a worse one.
        let worse = *is_judged && (change_pct.is_some_and(|pct| pct > limit) || (from_nothing && was.is_some()));
        (was.is_some() || now.is_some()).then_some(Row { figure, a: was, b: now, change_pct, worse })
    };
    FIGURES.iter().filter_map(row).collect()
}

/// A figure over all runs: the worst where it is a maximum or counts promises, else the middle one.
fn value(runs: &[Value], field: &str, part: &str) -> Option<f64> {
    let one = |run: &Value| {
        let of = run.get(field)?;
        match of {
            #[allow(clippy::cast_precision_loss, reason = "a few broken promises")]
            Value::Array(all) => Some(all.len() as f64),
            Value::Object(parts) => parts.get(part)?.as_f64(),
            other => other.as_f64(),
        }
    };
    let mut all: Vec<f64> = runs.iter().filter_map(one).collect();
    all.sort_by(f64::total_cmp);
    if part == "max" || field == "violations" { all.last().copied() } else { all.get(all.len() / 2).copied() }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&["FIGURE", "A", "B", "CHANGE", ""]);
    for row in rows {
        let change = match (row.a, row.b, row.change_pct) {
            (Some(a), Some(b), _) if a.total_cmp(&b).is_eq() => "same".to_owned(),
            (_, _, Some(pct)) => format!("{pct:+.1} %"),
            (Some(_), Some(_), None) => "from 0".to_owned(),
            (None, ..) => "new".to_owned(),
            (_, None, _) => "gone".to_owned(),
        };
        let mark = if row.worse { "WORSE" } else { "" };
        table.row(vec![row.figure.clone(), number(row.a), number(row.b), change, mark.to_owned()]);
    }
    table
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(whole) if whole.fract() == 0.0 => format!("{whole:.0}"),
        Some(value) => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run_of(seed: u64, failover: f64, moves: u64) -> Value {
        json!({"scenario": "x", "nodes": 3, "seed": seed, "trace_hash": "00", "violations": [], "moves": moves,
            "failover_s": {"p50": failover, "p99": failover, "max": failover}, "wall_s": 1.0, "false_positives": 0})
    }

    fn file(name: &str, document: &Value) -> String {
        let file = std::env::temp_dir().join(format!("dunlin-compare-{}-{name}.json", std::process::id()));
        std::fs::write(&file, document.to_string()).expect("a file");
        file.display().to_string()
    }

    #[test]
    fn what_became_worse_is_marked_and_fails_where_that_is_asked_for() {
        let before = file("a", &json!([run_of(1, 2.0, 5), run_of(2, 4.0, 5)]));
        let after = file("b", &json!({"runs": [run_of(1, 2.1, 5), run_of(2, 4.8, 4)]}));
        assert!(run(&before, &after, None, true).is_ok(), "marks do not fail by themselves");
        assert!(run(&before, &after, Some(25.0), false).is_ok());
        let worse = run(&before, &after, Some(10.0), false).expect_err("20 % slower");
        assert!(
            format!("{worse:?}").contains("failover_s max") && !format!("{worse:?}").contains("moves"),
            "{worse:?}"
        );
        assert!(run(&after, &before, Some(30.0), true).is_ok(), "better is not worse");
        for name in [before, after] {
            std::fs::remove_file(name).expect("it was made");
        }
    }

    #[test]
    fn what_was_nothing_and_is_something_is_worse_at_any_percentage() {
        let mut broken = run_of(1, 2.0, 5);
        broken["violations"] = json!([{"invariant": "P3"}]);
        let rows = compared(&[run_of(1, 2.0, 5)], &[broken], 1e6);
        let worse: Vec<&str> = rows.iter().filter(|row| row.worse).map(|row| row.figure.as_str()).collect();
        assert_eq!(worse, ["violations"]);
        assert_eq!(differences(&[run_of(1, 1.0, 1)], &[run_of(2, 1.0, 1)]), ["seed: 1 and 2"]);
        assert!(run("kill-one", "kill-one", None, true).is_err(), "a name is no document");
    }
}
