//! Listings: documents of the API as they are (`--json`), or as tables.

use std::collections::BTreeSet;
use std::process::ExitCode;

use serde_json::Value;

use super::Done;
use crate::args::{Listing, Ps};
use crate::client::Client;
use crate::render::table::Table;
use crate::render::{self, age, bytes};

pub(super) fn rows(client: &Client, path: &str, listing: &Listing) -> Result<Value, crate::failure::Failure> {
    let path = listing.at_least.map_or_else(|| path.to_owned(), |hlc| format!("{path}?at_least={hlc}"));
    client.get(&path)
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A field as text; `-` when it is absent or empty.
pub(super) fn text(row: &Value, key: &str) -> String {
    match row.get(key) {
        Some(Value::String(text)) if !text.is_empty() => text.clone(),
        Some(Value::Number(n)) => n.to_string(),
        Some(Value::Bool(b)) => if *b { "yes" } else { "no" }.to_owned(),
        Some(Value::Array(items)) if !items.is_empty() => {
            items.iter().map(|i| i.as_str().map_or_else(|| i.to_string(), str::to_owned)).collect::<Vec<_>>().join(",")
        }
        _ => "-".to_owned(),
    }
}

pub(super) fn number(row: &Value, key: &str) -> u64 {
    row.get(key).and_then(Value::as_u64).unwrap_or(0)
}

pub(super) fn nodes(client: &Client, args: &Listing) -> Done {
    let value = rows(client, "nodes", args)?;
    if args.json {
        render::json(&value)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["NAME", "STATE", "ADDRESS", "ZONE", "CPU", "MEMORY", "ALLOCS", "ID"]);
    for row in list(&value) {
        let me = if row.get("me").and_then(Value::as_bool) == Some(true) { " (this)" } else { "" };
        let cpu = |key: &str| format!("{}.{}", number(row, key) / 1_000, number(row, key) % 1_000 / 100);
        table.row(vec![
            format!("{}{me}", text(row, "name")),
            state(row),
            text(row, "address"),
            text(row, "zone"),
            format!("{}/{}", cpu("cpu_reserved_milli"), cpu("cpu_milli")),
            format!("{}/{}", bytes(number(row, "memory_reserved_bytes")), bytes(number(row, "memory_bytes"))),
            text(row, "allocations"),
            text(row, "id").chars().take(8).collect(),
        ]);
    }
    table.print("no nodes")?;
    Ok(ExitCode::SUCCESS)
}

/// A node's state, and what is ordered of it.
fn state(row: &Value) -> String {
    let ordered = ["drained", "cordoned"].into_iter().filter(|key| row[*key] == true).map(str::to_owned);
    let ordered = ordered.chain((row["voter"] == true).then(|| "voter".to_owned()));
    let taints = list(&row["taints"]).iter().map(|_| "tainted".to_owned()).take(1);
    std::iter::once(text(row, "state")).chain(ordered).chain(taints).collect::<Vec<_>>().join(",")
}

pub(super) fn services(client: &Client, args: &Listing) -> Done {
    let value = rows(client, "services", args)?;
    if args.json {
        render::json(&value)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["SERVICE", "KIND", "READY", "UPDATED", "REVISION", "PORTS", "RUNS"]);
    for row in list(&value) {
        let kind = text(row, "kind");
        let (kind, done) = match kind.as_str() {
            "cron" => (format!("cron, {}", scheduled(row)), "ready"),
            "job" | "global-job" => (format!("{kind}, {}", text(row, "state")), "succeeded"),
            _ => (kind, "ready"),
        };
        table.row(vec![
            text(row, "service"),
            kind,
            format!("{}/{}", number(row, done), number(row, "replicas_wanted")),
            text(row, "updated"),
            text(row, "revision").chars().take(8).collect(),
            text(row, "ports"),
            text(row, "workload"),
        ]);
    }
    table.print("no services; deploy some with: dunlin deploy -f compose.yaml")?;
    Ok(ExitCode::SUCCESS)
}

/// How a cron service stands: what it does, when the next run is due, and how the last ones ended, the newest first.
fn scheduled(row: &Value) -> String {
    let next = row["next_run_ms"].as_u64().map(|at| format!(", next {}", render::clock(at))).unwrap_or_default();
    let over: Vec<&str> = list(&row["runs"]).iter().filter_map(|run| run["state"].as_str()).collect();
    let last = if over.is_empty() { String::new() } else { format!(", last {}", over.join(" ")) };
    format!("{}{next}{last}", text(row, "state"))
}

pub(super) fn stacks(client: &Client, args: &Listing) -> Done {
    let value = rows(client, "stacks", args)?;
    if args.json {
        render::json(&value)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["STACK", "READY", "IN FORCE", "SERVICES"]);
    for row in list(&value) {
        let ready = format!("{}/{}", number(row, "ready"), number(row, "replicas_wanted"));
        table.row(vec![text(row, "stack"), ready, text(row, "in_force"), text(row, "services")]);
    }
    table.print("no stacks; deploy one with: dunlin deploy -f compose.yaml")?;
    for row in list(&value).iter().filter(|row| row["wave"].is_object()) {
        render::print_line(&text(&row["wave"], "text"))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn ps(client: &Client, args: &Ps) -> Done {
    let mut value = rows(client, "allocations", &args.listing)?;
    if let (false, Value::Array(items)) = (args.all, &mut value) {
        hide_replaced(items);
    }
    if let (Some(what), Value::Array(items)) = (&args.what, &mut value) {
        items.retain(|row| matches(&text(row, "replica"), what));
    }
    if args.listing.json {
        render::json(&value)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table =
        Table::new(&["REPLICA", "NODE", "PHASE", "READY", "AGE", "RESTARTS", "RESERVES", "ENDPOINT", "DETAIL"]);
    for row in list(&value) {
        let since = number(row, "since_ms");
        table.row(vec![
            text(row, "replica"),
            text(row, "node"),
            text(row, "phase"),
            text(row, "ready"),
            if since == 0 { "-".to_owned() } else { age(since) },
            text(row, "restarts"),
            reserves(row),
            text(row, "endpoint"),
            text(row, "detail"),
        ]);
    }
    table.print("nothing runs; deploy something with: dunlin deploy -f compose.yaml")?;
    Ok(ExitCode::SUCCESS)
}

/// What counts against the node; with a mark where it was learnt.
fn reserves(row: &Value) -> String {
    let milli = number(row, "cpu_reserved_milli");
    let cpus = format!("{}.{:03}", milli / 1_000, milli % 1_000);
    let cpus = cpus.trim_end_matches('0').trim_end_matches('.');
    let learnt = if row["learnt"] == true { " learnt" } else { "" };
    format!("{cpus}/{}{learnt}", bytes(number(row, "memory_reserved_bytes")))
}

/// Leaves out what was lost with its node once its replica runs elsewhere.
fn hide_replaced(items: &mut Vec<Value>) {
    let runs: BTreeSet<String> = items
        .iter()
        .filter(|row| row["ready"] == true || row["phase"] == "exited")
        .map(|row| text(row, "replica"))
        .collect();
    items.retain(|row| text(row, "phase") != "lost" || !runs.contains(&text(row, "replica")));
}

/// True if a replica (`shop/web.3`) is meant by a stack, a service with or without its stack, or a replica.
pub(super) fn matches(replica: &str, what: &str) -> bool {
    let (stack, rest) = replica.split_once('/').unwrap_or(("", replica));
    let service = rest.rsplit_once('.').map_or(rest, |(service, _)| service);
    what == stack || what == service || what == rest || what == replica || what == format!("{stack}/{service}")
}

pub(super) fn status(client: &Client, args: &Listing) -> Done {
    let value = rows(client, "status", args)?;
    if args.json {
        render::json(&value)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Value::Object(fields) = &value else { return render::json(&value).map(|()| ExitCode::SUCCESS) };
    for (key, field) in fields.iter().filter(|(key, _)| *key != "peers") {
        let shown = if field.is_object() { parts(field) } else { text(&value, key) };
        render::print_line(&format!("{:<16} {shown}", key.replace('_', " ")))?;
    }
    peers(list(&value["peers"]))
}

/// The fields of an object on one line.
fn parts(object: &Value) -> String {
    let part = |(key, value): (&String, &Value)| {
        let shown = if value.is_object() { format!("({})", parts(value)) } else { text(object, key) };
        format!("{key} {shown}")
    };
    object.as_object().into_iter().flatten().map(part).collect::<Vec<_>>().join(", ")
}

/// How the node sees its peers.
fn peers(rows: &[Value]) -> Done {
    if rows.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    render::print_line("")?;
    let mut table = Table::new(&["PEER", "STATE", "SINCE", "HEARD", "CLOCK", "RTT", "SUSPICIONS", "FLAPS"]);
    for row in rows {
        let unit = |key: &str, unit: &str| match row[key].as_i64() {
            Some(n) => format!("{n}{unit}"),
            None => "-".to_owned(),
        };
        let since = row["since_ms"].as_u64().map_or_else(|| "-".to_owned(), age);
        let [name, state, suspicions, flaps] = ["node", "state", "suspicions", "flaps"].map(|key| text(row, key));
        let (heard, clock, rtt) = (unit("view_age_ms", "ms"), unit("clock_offset_ms", "ms"), unit("rtt_us", "us"));
        table.row(vec![name, state, since, heard, clock, rtt, suspicions, flaps]);
    }
    table.print("")?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn people_may_say_stack_service_or_replica() {
        for what in ["shop", "web", "web.3", "shop/web", "shop/web.3"] {
            assert!(matches("shop/web.3", what), "{what}");
        }
        for what in ["we", "web.2", "other/web", "sho", "3"] {
            assert!(!matches("shop/web.3", what), "{what}");
        }
    }

    #[test]
    fn what_was_lost_is_shown_until_it_is_replaced() {
        let row = |replica: &str, phase: &str, ready: bool| json!({"replica": replica, "phase": phase, "ready": ready});
        let mut rows = vec![row("shop/web.1", "lost", false), row("shop/web.2", "lost", false)];
        rows.extend([row("shop/web.1", "healthy", true), row("shop/web.2", "starting", false)]);
        hide_replaced(&mut rows);
        let left: Vec<String> = rows.iter().map(|r| format!("{} {}", text(r, "replica"), text(r, "phase"))).collect();
        assert_eq!(left, ["shop/web.2 lost", "shop/web.1 healthy", "shop/web.2 starting"]);
    }
}
