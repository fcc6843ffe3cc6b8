//! `dunlin plan`, `whatif`, `explain`: questions about placement. Nothing changes by them.

use std::process::ExitCode;

use dunlin_agent::api::types::{PlanBody, WhatIfBody};
use dunlin_core::query::ask::Change;
use serde_json::Value;

use super::listing::{list, number, text};
use super::{Done, deploy};
use crate::args::{Explain, Plan, Whatif};
use crate::client::{Client, percent};
use crate::failure::Failure;
use crate::render::table::Table;
use crate::render::{self, bytes};

/// For an answer; no question waits for other nodes.
const WITHIN: std::time::Duration = std::time::Duration::from_secs(60);

pub(super) fn plan(client: &Client, args: &Plan) -> Done {
    let project = deploy::read(&args.file)?;
    for warning in &project.warnings {
        eprintln!("warning: {warning}");
    }
    let stack = deploy::stack_name(args.stack.as_ref(), &args.file, &project)?;
    let answer: Value = client.post("plan", &PlanBody { stack, services: project.services }, WITHIN)?;
    if args.json {
        render::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    for warning in answer.get("warnings").map_or(&[][..], list) {
        eprintln!("warning: {}", warning.as_str().unwrap_or_default());
    }
    changes(&answer)?;
    render::print_line(&format!(
        "{} stay as they are, {} would wait",
        number(&answer, "keep"),
        number(&answer, "waiting")
    ))?;
    headroom(&answer)
}

pub(super) fn whatif(client: &Client, args: &Whatif) -> Done {
    let answer: Value = client.post("whatif", &WhatIfBody { changes: supposed(args)? }, WITHIN)?;
    if args.json {
        render::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    changes(&answer)?;
    let (moves, lost) = (number(&answer, "moves"), number(&answer, "unplaceable"));
    render::print_line(&format!("{moves} would move or start, {lost} would find no place"))?;
    if !answer.get("names_empty").map_or(&[][..], list).is_empty() {
        render::print_line(&format!("without an answer meanwhile: {}", text(&answer, "names_empty")))?;
    }
    headroom(&answer)
}

pub(super) fn explain(client: &Client, args: &Explain) -> Done {
    let answer: Value = client.get(&format!("explain?replica={}", percent(&args.replica)))?;
    if args.json {
        render::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    render::print_line(&format!("{}: {}", text(&answer, "replica"), text(&answer, "asks").replace(',', ", ")))?;
    let taken = &answer["taken"];
    if taken.is_object() {
        let (by, from) = (text(taken, "by"), text(taken, "from"));
        let (full, mean) = (number(taken, "full_pct"), number(taken, "mean_pct"));
        render::print_line(&format!(
            "{by} came and took it from {from} for its share: it was {full} % full, nodes that suit {mean} % in the mean"
        ))?;
    }
    let mut table = Table::new(&["PLACE", "NODE", "HERE", "CPU LEFT", "MEMORY LEFT", "WHY"]);
    for row in answer.get("nodes").map_or(&[][..], list) {
        table.row(vec![
            text(row, "place"),
            text(row, "node"),
            if row["here"] == true { "*".to_owned() } else { String::new() },
            format!("{:.1}", number(row, "cpu_left_milli") as f64 / 1_000.0),
            bytes(number(row, "memory_left_bytes")),
            why(row),
        ]);
    }
    table.print("there is no node")?;
    Ok(ExitCode::SUCCESS)
}

/// What a node has to show, or what keeps it off.
fn why(row: &Value) -> String {
    if let Some(refused) = row["refused"].as_str() {
        return refused.to_owned();
    }
    let Some(score) = row["score"].as_object() else { return "behind by rank".to_owned() };
    let parts = score.iter().filter(|(_, value)| value.as_i64() != Some(0));
    let parts: Vec<String> = parts.map(|(key, value)| format!("{key} {value}")).collect();
    format!("score: {}", parts.join(", "))
}

fn changes(answer: &Value) -> Result<(), Failure> {
    let mut table = Table::new(&["ACTION", "REPLICA", "FROM", "TO", "WHY"]);
    for row in answer.get("changes").map_or(&[][..], list) {
        table.row(["action", "replica", "from", "to", "why"].map(|key| text(row, key)).to_vec());
    }
    table.print("nothing would change")
}

fn headroom(answer: &Value) -> Done {
    let left = &answer["headroom"];
    render::print_line(&format!(
        "left then: {:.1} cpus, {} of memory on {} nodes",
        number(left, "cpu_milli") as f64 / 1_000.0,
        bytes(number(left, "memory_bytes")),
        number(left, "nodes")
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// The changes that were typed.
fn supposed(args: &Whatif) -> Result<Vec<Change>, Failure> {
    let mut changes: Vec<Change> = args.lose.iter().cloned().map(Change::Lose).collect();
    changes.extend(args.drain.iter().cloned().map(Change::Drain));
    for typed in &args.add {
        let wrong = || Failure::usage(format!("--add {typed}: expected like=NODE[,COUNT]"), "--add like=oslo,2");
        let rest = typed.strip_prefix("like=").ok_or_else(wrong)?;
        let (like, count) = rest.split_once(',').unwrap_or((rest, "1"));
        changes.push(Change::Add { like: like.to_owned(), count: count.parse().map_err(|_| wrong())? });
    }
    for typed in &args.label {
        let wrong = || Failure::usage(format!("--label {typed}: expected NODE:KEY=VALUE"), "--label oslo:disk=ssd");
        let (node, pair) = typed.split_once(':').ok_or_else(wrong)?;
        let (label, value) = pair.split_once('=').filter(|(label, _)| !label.is_empty()).ok_or_else(wrong)?;
        changes.push(Change::Label { node: node.to_owned(), label: label.to_owned(), value: value.to_owned() });
    }
    Ok(changes)
}
