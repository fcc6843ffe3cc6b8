//! `dunlin conflicts`: concurrent writes side by side, and which of them stays.

use std::process::ExitCode;

use dunlin_agent::api::types::{ResolveBody, WrittenBody};
use serde_json::Value;

use super::listing::{list, number, rows, text};
use super::{Done, write};
use crate::args::{ConflictCommand, Conflicts, Resolve};
use crate::client::Client;
use crate::failure::Failure;
use crate::render;

pub(super) fn run(client: &Client, args: &Conflicts) -> Done {
    match &args.command {
        Some(ConflictCommand::Resolve(resolve)) => settle(client, resolve),
        None => show(client, args),
    }
}

fn show(client: &Client, args: &Conflicts) -> Done {
    let value = rows(client, "conflicts", &args.listing)?;
    if args.listing.json {
        render::json(&value)?;
        return Ok(ExitCode::SUCCESS);
    }
    for conflict in list(&value) {
        lines(conflict).iter().try_for_each(|line| render::print_line(line))?;
    }
    if list(&value).is_empty() {
        eprintln!("no conflicts");
    }
    Ok(ExitCode::SUCCESS)
}

/// A conflict for people: its versions, what differs, and the command that settles it.
fn lines(conflict: &Value) -> Vec<String> {
    let what = text(conflict, "what");
    let mut lines = vec![what.clone()];
    for (n, version) in versions(conflict).iter().enumerate() {
        let mark = if version["in_force"] == true { "in force" } else { "" };
        let by = match text(version, "author").as_str() {
            "-" => String::new(),
            author => format!("by {author} "),
        };
        let (at, node) = (render::clock(number(version, "at_ms")), text(version, "node"));
        let removed = if version["removed"] == true { ", a removal" } else { "" };
        lines.push(format!("  {}  {mark:<8}  {at}  {by}on {node}{removed}  [{}]", n + 1, text(version, "version")));
        for field in version["difference"].as_array().into_iter().flatten() {
            let side = |key: &str| field[key].as_str().unwrap_or("(none)").to_owned();
            lines.push(format!("       {}: {} -> {}", text(field, "field"), side("in_force"), side("here")));
        }
    }
    lines.push(format!("  settle it with: dunlin conflicts resolve {what} --keep 1"));
    lines
}

fn versions(conflict: &Value) -> &[Value] {
    conflict.get("versions").map_or(&[], list)
}

fn settle(client: &Client, args: &Resolve) -> Done {
    let listed: Value = client.get("conflicts")?;
    let named = |row: &&Value| text(row, "what") == args.what;
    let of_service = |row: &&Value| text(row, "what").split_once('/').is_some_and(|(_, name)| name == args.what);
    let found = list(&listed).iter().find(named).or_else(|| list(&listed).iter().find(of_service));
    let conflict = found
        .ok_or_else(|| Failure::usage(format!("{} is in no conflict", args.what), "dunlin conflicts lists what is"))?;
    let body = ResolveBody {
        what: args.what.clone(),
        keep: choose(versions(conflict), &args.keep)?,
        ack: write::ack(&args.durability)?,
        timeout_ms: write::timeout_ms(&args.durability),
    };
    let written: WrittenBody = client.post("conflicts", &body, write::timeout(&args.durability))?;
    write::report(&written, &format!("{} settled", text(conflict, "what")), args.json)
}

/// The version that is meant: by its place in the list, by the beginning of its name, or the one in force.
fn choose(versions: &[Value], keep: &str) -> Result<String, Failure> {
    let name = |version: &Value| text(version, "version");
    let place = keep.parse::<usize>().ok().filter(|_| keep.len() <= 2);
    let chosen = match (keep, place) {
        ("in-force", _) => versions.iter().find(|version| version["in_force"] == true),
        (_, Some(n)) => n.checked_sub(1).and_then(|n| versions.get(n)),
        (_, None) => versions.iter().find(|version| keep.len() >= 4 && name(version).starts_with(keep)),
    };
    chosen.map(name).ok_or_else(|| {
        let remedy = format!("a number from 1 to {}, a version as listed, or in-force", versions.len());
        Failure::usage(format!("--keep {keep}: no such version"), remedy)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn conflict() -> Value {
        json!({"what": "shop/web", "kind": "service", "versions": [
            {"version": "00aa11bb22cc33dd", "in_force": true, "removed": false, "author": "ann", "node": "n1",
             "at_ms": 0, "difference": []},
            {"version": "12aa11bb22cc33dd", "in_force": false, "removed": false, "author": "", "node": "n2",
             "at_ms": 1, "difference": [{"field": "mode", "in_force": "Replicated 2", "here": null}]}]})
    }

    #[test]
    fn a_conflict_is_shown_with_what_settles_it() {
        assert_eq!(
            lines(&conflict()),
            [
                "shop/web",
                "  1  in force  1970-01-01T00:00:00.000Z  by ann on n1  [00aa11bb22cc33dd]",
                "  2            1970-01-01T00:00:00.001Z  on n2  [12aa11bb22cc33dd]",
                "       mode: Replicated 2 -> (none)",
                "  settle it with: dunlin conflicts resolve shop/web --keep 1",
            ]
        );
    }

    #[test]
    fn a_version_is_meant_by_place_name_or_force() {
        let conflict = conflict();
        let chosen = |keep| choose(versions(&conflict), keep).ok();
        let [first, second] = ["00aa11bb22cc33dd", "12aa11bb22cc33dd"].map(|name| Some(name.to_owned()));
        assert_eq!(["in-force", "1", "00aa"].map(chosen), [first.clone(), first.clone(), first]);
        assert_eq!(["2", "12aa11bb22cc33dd"].map(chosen), [second.clone(), second]);
        assert_eq!(["0", "3", "12a", "ffff", ""].map(chosen), [None, None, None, None, None]);
    }
}
