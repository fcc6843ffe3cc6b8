//! `dunlin node drain`, `cordon`, `label` and `taint`: what operators order of nodes.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use dunlin_agent::api::types::{OrderNodeBody, OrderWord, OrderedNode};
use serde_json::Value;

use super::{Done, write};
use crate::args::{Labels, OrderOptions};
use crate::client::Client;
use crate::failure::{Failure, Kind};
use crate::render;
use crate::render::waiting;

/// Pause between two looks while waiting.
const LOOK: Duration = Duration::from_millis(200);

/// An order without more to it.
pub(super) fn plain(client: &Client, node: &str, order: OrderWord, options: &OrderOptions) -> Done {
    let ordered = send(client, body(node, order, options)?, options)?;
    let word = match order {
        OrderWord::Undrain => "may keep what it has and take work again",
        OrderWord::Cordon => "is cordoned: nothing new comes",
        OrderWord::Uncordon => "may take work again",
        OrderWord::Drain | OrderWord::Label | OrderWord::Taint => "is ordered so",
    };
    report(&ordered, word, options.json)
}

/// `dunlin node drain`
pub(super) fn drain(client: &Client, node: &str, deadline: Option<&str>, wait: bool, options: &OrderOptions) -> Done {
    let deadline = deadline.map(duration).transpose()?;
    let mut body = body(node, OrderWord::Drain, options)?;
    body.deadline_ms = deadline.map(|deadline| u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX));
    let started = Instant::now();
    let ordered = send(client, body, options)?;
    let code = report(&ordered, "is drained: what runs there moves", options.json)?;
    if wait {
        let within = write::timeout(&options.durability) + deadline.unwrap_or_default();
        until_empty(client, &ordered, started, within)?;
    }
    Ok(code)
}

/// `dunlin node label` and `taint`
pub(super) fn lists(client: &Client, order: OrderWord, args: &Labels) -> Done {
    let mut body = body(&args.node, order, &args.options)?;
    for what in &args.what {
        match what.strip_suffix('-').filter(|name| !name.contains('=')) {
            Some(name) => body.remove.push(name.to_owned()),
            None => body.set.push(what.clone()),
        }
    }
    let ordered = send(client, body, &args.options)?;
    report(&ordered, if order == OrderWord::Label { "has its labels" } else { "has its taints" }, args.options.json)
}

fn body(node: &str, order: OrderWord, options: &OrderOptions) -> Result<OrderNodeBody, Failure> {
    Ok(OrderNodeBody {
        node: node.to_owned(),
        order,
        deadline_ms: None,
        set: Vec::new(),
        remove: Vec::new(),
        ack: write::ack(&options.durability)?,
        timeout_ms: write::timeout_ms(&options.durability),
    })
}

fn send(client: &Client, body: OrderNodeBody, options: &OrderOptions) -> Result<OrderedNode, Failure> {
    client.post("nodes/order", &body, write::timeout(&options.durability))
}

fn report(ordered: &OrderedNode, word: &str, json: bool) -> Done {
    if json {
        render::json(ordered)?;
        return Ok(if write::is_kept(&ordered.written) { ExitCode::SUCCESS } else { ExitCode::from(3) });
    }
    write::report(&ordered.written, &format!("node {} {word}", ordered.name), false)
}

/// Waits until nothing runs on a node.
fn until_empty(client: &Client, node: &OrderedNode, started: Instant, within: Duration) -> Result<(), Failure> {
    let line = Mutex::new(String::new());
    let told = || line.lock().map(|line| line.clone()).unwrap_or_default();
    waiting::while_told(told, || {
        loop {
            let rows: Vec<Value> = client.get(&format!("allocations?at_least={}", node.written.hlc))?;
            let left = left(&rows, &node.id);
            if left.is_empty() {
                eprintln!("node {} is empty after {:.1} s", node.name, started.elapsed().as_secs_f64());
                return Ok(());
            }
            let text = left.iter().map(|(replica, why)| format!("{replica}: {why}")).collect::<Vec<_>>().join("\n");
            if started.elapsed() > within {
                let text = format!("node {} is not empty yet:\n{text}", node.name);
                return Err(Failure::new(Kind::TimedOut, text, "dunlin ps says why; --deadline ends what cannot move"));
            }
            if let Ok(mut line) = line.lock() {
                *line = format!("{} left on {}: {}", left.len(), node.name, text.lines().next().unwrap_or_default());
            }
            std::thread::sleep(LOOK);
        }
    })
}

/// What still runs on a node, and what is said of it.
fn left(rows: &[Value], id: &str) -> BTreeMap<String, String> {
    let text = |row: &Value, key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_over = |row: &&Value| !matches!(text(row, "phase").as_str(), "exited" | "failed" | "lost" | "waiting");
    let here = rows.iter().filter(|row| text(row, "node_id") == id).filter(is_over);
    here.map(|row| {
        let (phase, detail) = (text(row, "phase"), text(row, "detail"));
        (text(row, "replica"), if detail.is_empty() { phase } else { format!("{phase}, {detail}") })
    })
    .collect()
}

/// `90s`, `10m`, `2h`.
fn duration(text: &str) -> Result<Duration, Failure> {
    let wrong = || Failure::usage(format!("--deadline {text}: not a time"), "--deadline 90s, 10m or 2h");
    let (number, unit) = text.split_at(text.len() - text.chars().next_back().map_or(0, char::len_utf8));
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(wrong()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).filter(|s| *s <= 30 * 86_400);
    seconds.map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn deadlines_have_a_unit() {
        let seconds = |text| duration(text).ok().map(|d| d.as_secs());
        assert_eq!(
            [seconds("90s"), seconds("10m"), seconds("2h"), seconds("0s")],
            [Some(90), Some(600), Some(7_200), Some(0)]
        );
        for not in ["", "90", "m", "-1s", "1.5h", "10µ", "99999h"] {
            assert!(duration(not).is_err(), "{not}");
        }
    }

    #[test]
    fn what_is_over_is_not_left() {
        let row = |replica: &str, node: &str, phase: &str| json!({"replica": replica, "node_id": node, "phase": phase, "detail": ""});
        let rows = [row("a/b.1", "1", "healthy"), row("a/b.2", "2", "healthy"), row("a/b.3", "1", "exited")];
        assert_eq!(left(&rows, "1").into_keys().collect::<Vec<_>>(), ["a/b.1"]);
    }
}
