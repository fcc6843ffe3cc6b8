//! `dunlin events`: what happened, as this node saw it.

use std::io::{BufRead as _, BufReader};
use std::process::ExitCode;

use serde_json::Value;

use super::Done;
use super::listing::text;
use crate::args::Events;
use crate::client::Client;
use crate::failure::Failure;
use crate::render;

pub(super) fn run(client: &Client, args: &Events) -> Done {
    if args.follow {
        return follow(client, args.json);
    }
    let value: Value = client.get("events")?;
    if args.json {
        render::json(&value)?;
    } else {
        for event in value.as_array().into_iter().flatten() {
            render::print_line(&line(event))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Server-sent events (WHATWG HTML section 9.2): only `data:` lines matter here.
fn follow(client: &Client, json: bool) -> Done {
    let stream = BufReader::new(client.stream("events?follow=true")?);
    for read in stream.lines() {
        let read = read.map_err(|e| Failure::failed(format!("the agent went away: {e}")))?;
        let Some(data) = read.strip_prefix("data:") else { continue };
        let event: Value = serde_json::from_str(data.trim()).map_err(|e| Failure::failed(e.to_string()))?;
        render::print_line(&if json { event.to_string() } else { line(&event) })?;
    }
    Ok(ExitCode::SUCCESS)
}

fn line(event: &Value) -> String {
    let at = event.get("at").and_then(Value::as_u64).unwrap_or(0);
    format!(
        "{}  {:<5} {:<10} {}{}",
        render::clock(at),
        text(event, "level"),
        text(event, "kind"),
        subject(event),
        text(event, "text")
    )
}

/// What the event is about: `shop/web.2 on n3: `, `n3: `, or nothing where the text says it all.
fn subject(event: &Value) -> String {
    let field = |key: &str| event.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    match (field("replica").or_else(|| field("service")), field("node")) {
        (Some(what), Some(node)) => format!("{what} on {node}: "),
        (Some(only), None) | (None, Some(only)) => format!("{only}: "),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_it_is_about() {
        let event = serde_json::json!({"at": 0, "level": "info", "kind": "allocation", "replica": "shop/web.2",
            "service": "shop/web", "node": "n3", "text": "healthy"});
        assert_eq!(line(&event), "1970-01-01T00:00:00.000Z  info  allocation shop/web.2 on n3: healthy");
        let event = serde_json::json!({"at": 0, "level": "warn", "kind": "member", "node": "n3", "text": "suspect"});
        assert_eq!(line(&event), "1970-01-01T00:00:00.000Z  warn  member     n3: suspect");
    }
}
