//! `dunlin rollout` and `dunlin rollback`: how far a service is on the way to its revision, and what people say about it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use dunlin_agent::api::types::{RolloutBody, RolloutWord, WrittenBody};
use serde_json::Value;

use super::listing::{list, matches, number, rows, text};
use super::{Done, write};
use crate::args::{Durability, History, Rollback, Rollout, RolloutStatus};
use crate::client::Client;
use crate::failure::{Failure, Kind};
use crate::render::table::Table;
use crate::render::{self, age};

/// Pause between two looks while waiting.
const LOOK: Duration = Duration::from_millis(200);

pub(super) fn run(client: &Client, args: &Rollout) -> Done {
    let (args, word, done) = match args {
        Rollout::Status(args) => return status(client, args),
        Rollout::History(args) => return history(client, args),
        Rollout::Pause(args) => (args, RolloutWord::Pause, "paused"),
        Rollout::Resume(args) => (args, RolloutWord::Resume, "goes on"),
        Rollout::Promote(args) => (args, RolloutWord::Promote, "canaries promoted"),
    };
    say(client, &args.service, word, done, &args.durability, args.json)
}

pub(super) fn rollback(client: &Client, args: &Rollback) -> Done {
    let word = RolloutWord::Undo { to: args.to.clone() };
    say(client, &args.service, word, "goes back", &args.durability, args.json)
}

fn say(client: &Client, service: &str, order: RolloutWord, done: &str, durability: &Durability, json: bool) -> Done {
    let body = RolloutBody {
        service: service.to_owned(),
        order,
        ack: write::ack(durability)?,
        timeout_ms: write::timeout_ms(durability),
    };
    let written: WrittenBody = client.post("rollouts", &body, write::timeout(durability))?;
    let code = write::report(&written, &format!("{service}: {done}"), json)?;
    if !json {
        eprintln!("watch it with: dunlin rollout status {service}");
    }
    Ok(code)
}

fn status(client: &Client, args: &RolloutStatus) -> Done {
    let until = Instant::now() + Duration::from_secs(args.timeout.into());
    let mut shown = String::new();
    let value = loop {
        let value = meant(client, args)?;
        if !args.wait || list(&value).iter().all(|row| is_over(&text(row, "state"))) {
            break value;
        }
        let now = list(&value).iter().map(line).collect::<Vec<_>>().join("; ");
        if now != shown {
            eprintln!("{now}");
            shown = now;
        }
        if Instant::now() >= until {
            let remedy = "dunlin rollout status says what holds it up; wait longer with --timeout";
            return Err(Failure::new(Kind::TimedOut, format!("not done after {} s: {shown}", args.timeout), remedy));
        }
        std::thread::sleep(LOOK);
    };
    if args.listing.json {
        render::json(&value)?;
    } else {
        print(&value)?;
    }
    let failed = |row: &Value| matches!(text(row, "state").as_str(), "failed" | "rolled-back");
    let is_bad = args.wait && list(&value).iter().any(failed);
    Ok(if is_bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The rollouts that are meant.
fn meant(client: &Client, args: &RolloutStatus) -> Result<Value, Failure> {
    let mut value = rows(client, "rollouts", &args.listing)?;
    if let (Some(what), Value::Array(items)) = (&args.what, &mut value) {
        items.retain(|row| matches(&format!("{}.0", text(row, "service")), what));
        if items.is_empty() {
            return Err(Failure::usage(format!("there is no service or stack {what}"), "dunlin services lists them"));
        }
    }
    Ok(value)
}

/// True if nothing more happens of itself.
fn is_over(state: &str) -> bool {
    matches!(state, "done" | "failed" | "paused" | "rolled-back")
}

fn line(row: &Value) -> String {
    format!("{} {} {}/{}", text(row, "service"), text(row, "state"), number(row, "updated"), number(row, "replicas"))
}

fn short(row: &Value, key: &str) -> String {
    text(row, key).chars().take(8).collect()
}

fn print(value: &Value) -> Result<(), Failure> {
    let mut table = Table::new(&["SERVICE", "STATE", "UPDATED", "REVISION", "FROM", "ORDER", "ON FAILURE", "DETAIL"]);
    for row in list(value) {
        table.row(vec![
            text(row, "service"),
            text(row, "state"),
            format!("{}/{}", number(row, "updated"), number(row, "replicas")),
            short(row, "revision"),
            short(row, "from"),
            text(row, "order"),
            text(row, "on_failure"),
            text(row, "detail"),
        ]);
    }
    table.print("no services; deploy some with: dunlin deploy -f compose.yaml")?;
    for failure in list(value).iter().flat_map(|row| list(&row["failures"])) {
        let (replica, node) = (text(failure, "replica"), text(failure, "node"));
        let (reason, when) = (text(failure, "reason"), age(number(failure, "at_ms")));
        render::print_line(&format!("{replica} failed on {node} {when} ago: {reason}"))?;
    }
    Ok(())
}

fn history(client: &Client, args: &History) -> Done {
    let value = rows(client, "rollouts", &args.listing)?;
    let is_meant = |row: &&Value| matches(&format!("{}.0", text(row, "service")), &args.service);
    let found: Vec<&Value> = list(&value).iter().filter(is_meant).collect();
    let [row] = found.as_slice() else {
        let remedy = "dunlin services lists them; write the stack as well";
        return Err(Failure::usage(format!("{} does not name one service", args.service), remedy));
    };
    let revisions = &row["revisions"];
    if args.listing.json {
        render::json(revisions)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["REVISION", "STATE", "AGE", "RUNS"]);
    for revision in list(revisions) {
        let (id, state) = (text(revision, "revision"), text(revision, "state"));
        table.row(vec![id, state, age(number(revision, "at_ms")), text(revision, "workload")]);
    }
    table.print("no revisions")?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_where_nothing_more_happens() {
        for over in ["done", "failed", "paused", "rolled-back"] {
            assert!(is_over(over), "{over}");
        }
        for going in ["updating", "canary", "rolling-back"] {
            assert!(!is_over(going), "{going}");
        }
    }
}
