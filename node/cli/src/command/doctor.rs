//! `dunlin doctor`: what goes wrong on this node, and what to do about it.

use std::process::ExitCode;

use dunlin_agent::api::types::{CheckRow, Verdict};

use super::Done;
use crate::args::Listing;
use crate::client::Client;
use crate::render;

pub(super) fn run(client: &Client, args: &Listing) -> Done {
    let path = args.at_least.map_or_else(|| "doctor".to_owned(), |hlc| format!("doctor?at_least={hlc}"));
    let checks: Vec<CheckRow> = client.get(&path)?;
    if args.json {
        render::json(&checks)?;
    } else {
        checks.iter().flat_map(lines).try_for_each(|line| render::print_line(&line))?;
    }
    let fails = checks.iter().any(|check| check.verdict == Verdict::Fail);
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn lines(check: &CheckRow) -> Vec<String> {
    let verdict = match check.verdict {
        Verdict::Ok => "ok",
        Verdict::Warn => "warn",
        Verdict::Fail => "fail",
    };
    let mut lines = vec![format!("{verdict:<5} {:<14} {}", check.check, check.seen)];
    if !check.remedy.is_empty() {
        lines.push(format!("{:<20} -> {}", "", check.remedy));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_stands_below_what_was_seen() {
        let check = |verdict, remedy: &str| {
            lines(&CheckRow { check: "disk".into(), verdict, seen: "full".into(), remedy: remedy.into() })
        };
        assert_eq!(check(Verdict::Ok, ""), ["ok    disk           full"]);
        let failed = check(Verdict::Fail, "make room");
        assert_eq!(failed, ["fail  disk           full", "                     -> make room"]);
    }
}
