//! `dunlin deploy`: a Compose file to a stack, and with `--wait` until every replica is ready.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Read as _};
use std::path::Path;
use std::time::{Duration, Instant};

use dunlin_agent::api::types::{DeployBody, WrittenBody};
use dunlin_compose::{Project, Source};
use serde_json::Value;

use super::{Done, write};
use crate::args::Deploy;
use crate::client::Client;
use crate::failure::{Failure, Kind};

/// Pause between two looks while waiting.
const LOOK: Duration = Duration::from_millis(50);

pub(super) fn run(client: &Client, args: &Deploy) -> Done {
    let started = Instant::now();
    let project = read(&args.file)?;
    for warning in &project.warnings {
        eprintln!("warning: {warning}");
    }
    let stack = stack_name(args.stack.as_ref(), &args.file, &project)?;
    let services: Vec<String> = project.services.keys().map(|name| format!("{stack}/{name}")).collect();
    let body = DeployBody {
        stack: stack.clone(),
        services: project.services,
        ack: write::ack(&args.durability)?,
        timeout_ms: write::timeout_ms(&args.durability),
    };
    let within = write::timeout(&args.durability);
    let written: WrittenBody = client.post("deploy", &body, within)?;
    let code = write::report(&written, &format!("stack {stack} accepted"), args.json)?;
    if args.wait {
        wait(client, &services, written.hlc, started, within)?;
    } else if !args.json {
        eprintln!("watch it with: dunlin ps {stack}");
    }
    Ok(code)
}

/// Reads and parses a Compose file; `-` is standard input. Variables come from the environment.
///
/// # Errors
/// A usage failure with every problem of the file, one a line.
pub(super) fn read(file: &Path) -> Result<Project, Failure> {
    let name = file.display().to_string();
    let text = if name == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    let text = text.map_err(|e| Failure::usage(format!("{name}: {e}"), "name the Compose file with -f FILE"))?;
    parse(&name, &text, &|key| std::env::var(key).ok())
}

/// Parses a Compose file's text.
///
/// # Errors
/// A usage failure with every problem of the file, one a line.
pub(crate) fn parse(name: &str, text: &str, variables: &dyn Fn(&str) -> Option<String>) -> Result<Project, Failure> {
    dunlin_compose::parse(Source { file: name, text }, variables).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Failure::usage(lines.join("\n"), "correct the file; nothing was changed")
    })
}

/// The stack that is meant: what was typed, else what the file says, else its folder.
///
/// # Errors
/// A usage failure where nothing names it.
pub(super) fn stack_name(typed: Option<&String>, file: &Path, project: &Project) -> Result<String, Failure> {
    if let Some(name) = typed {
        return Ok(name.clone());
    }
    if let Some(name) = &project.name {
        return Ok(name.to_string());
    }
    let absolute = std::path::absolute(file).ok();
    let folder = absolute.as_deref().and_then(Path::parent).and_then(Path::file_name).and_then(|f| f.to_str());
    folder
        .filter(|_| file != Path::new("-"))
        .map(str::to_lowercase)
        .ok_or_else(|| Failure::usage("the stack has no name", "write `name:` into the file, or give --stack NAME"))
}

/// Waits until every replica of these services is ready at its newest revision.
fn wait(client: &Client, services: &[String], hlc: u64, started: Instant, within: Duration) -> Result<(), Failure> {
    let show = std::io::stderr().is_terminal();
    let mut last = String::new();
    loop {
        let rows: Vec<Value> = client.get(&format!("services?at_least={hlc}"))?;
        let known: BTreeMap<&str, &Value> =
            rows.iter().filter_map(|row| Some((row.get("service")?.as_str()?, row))).collect();
        let number = |row: &Value, key: &str| row.get(key).and_then(Value::as_u64).unwrap_or(0);
        let mut open = Vec::new();
        for service in services {
            let Some(row) = known.get(service.as_str()) else {
                open.push(format!("{service} not seen yet"));
                continue;
            };
            let (wanted, ready, updated) =
                (number(row, "replicas_wanted"), number(row, "ready"), number(row, "updated"));
            if ready.min(updated) < wanted {
                open.push(format!("{service} {ready}/{wanted}"));
            }
        }
        if open.is_empty() {
            eprintln!("all replicas ready after {:.2} s", started.elapsed().as_secs_f64());
            return Ok(());
        }
        let line = open.join(", ");
        if show && line != last {
            eprintln!("waiting for {line}");
        }
        last = line;
        if started.elapsed() > within {
            return Err(Failure::new(Kind::TimedOut, format!("not ready in time: {last}"), "dunlin ps says why"));
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_what_it_says() {
        let text = include_str!("../../../../examples/web.compose.yaml");
        let project = dunlin_compose::parse(Source { file: "web", text }, &|_| None).expect("the example parses");
        assert_eq!(project.services.len(), 1);
        assert_eq!(project.warnings.len(), 0);
    }
}
