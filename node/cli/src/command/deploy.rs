//! `dunlin deploy`: a Compose file to a stack, and with `--wait` until every replica is ready and every job complete.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Read as _};
use std::path::Path;
use std::time::{Duration, Instant};

use dunlin_agent::api::types::{DeployBody, WrittenBody};
use dunlin_compose::{Project, Source};
use serde_json::Value;

use super::listing::text;
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
        waves: project.waves.filter(|_| !args.activate),
        policies: project.policies,
        ack: write::ack(&args.durability)?,
        timeout_ms: write::timeout_ms(&args.durability),
    };
    let within = write::timeout(&args.durability);
    let written: WrittenBody = client.post("deploy", &body, within)?;
    let code = write::report(&written, &format!("stack {stack} accepted"), args.json)?;
    if args.wait {
        wait(client, &stack, &services, written.hlc, started, within)?;
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

/// Waits until every replica of these services is ready at its newest revision, and every job among them complete.
fn wait(
    client: &Client,
    stack: &str,
    services: &[String],
    hlc: u64,
    started: Instant,
    within: Duration,
) -> Result<(), Failure> {
    let show = std::io::stderr().is_terminal();
    let mut last = String::new();
    loop {
        let rows: Vec<Value> = client.get(&format!("services?at_least={hlc}"))?;
        let known: BTreeMap<&str, &Value> =
            rows.iter().filter_map(|row| Some((row.get("service")?.as_str()?, row))).collect();
        let mut open: Vec<String> = wave(client, stack)?.into_iter().collect();
        let is_staged = !open.is_empty();
        for service in services.iter().filter(|_| !is_staged) {
            let Some(row) = known.get(service.as_str()) else {
                open.push(format!("{service} not seen yet"));
                continue;
            };
            open.extend(still_open(service, row)?);
        }
        if open.is_empty() {
            eprintln!("all ready or complete after {:.2} s", started.elapsed().as_secs_f64());
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

/// What is waited for of a service; none if there is nothing left.
///
/// # Errors
/// It is a job that has failed.
pub(super) fn still_open(service: &str, row: &Value) -> Result<Option<String>, Failure> {
    let number = |key: &str| row.get(key).and_then(Value::as_u64).unwrap_or(0);
    let (kind, state) = (text(row, "kind"), text(row, "state"));
    let wanted = number("replicas_wanted");
    // Its runs come by themselves.
    if kind == "cron" {
        return Ok(None);
    }
    if !kind.ends_with("job") {
        let ready = number("ready").min(number("updated"));
        return Ok((ready < wanted).then(|| format!("{service} {ready}/{wanted}")));
    }
    let (done, failed) = (number("succeeded"), number("failed"));
    if state == "failed" {
        let what = format!("{service} has failed: {failed} of {wanted} for good, {done} finished");
        let remedy = format!("dunlin ps {service} says why; the same deploy again tries again what failed");
        return Err(Failure::new(Kind::Failed, what, remedy));
    }
    Ok((state != "complete").then(|| format!("{service} {done}/{wanted} finished")))
}

/// How the stack's first wave stands, if one is on.
///
/// # Errors
/// It will not go on by itself.
fn wave(client: &Client, stack: &str) -> Result<Option<String>, Failure> {
    let rows: Vec<Value> = client.get("stacks")?;
    let of_stack = rows.iter().find(|row| row.get("stack").and_then(Value::as_str) == Some(stack));
    let Some(wave) = of_stack.and_then(|row| row.get("wave")).filter(|wave| !wave.is_null()) else { return Ok(None) };
    let text = wave.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
    if wave.get("stays").and_then(Value::as_bool) == Some(true) {
        return Err(Failure::new(Kind::Failed, text, "deploy the corrected file, or this one at once with --activate"));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_waited_for_until_its_end() {
        let row = |state: &str| serde_json::json!({"kind": "job", "state": state, "replicas_wanted": 3, "succeeded": 2, "failed": 1});
        assert_eq!(still_open("s/j", &row("running")).ok().flatten().as_deref(), Some("s/j 2/3 finished"));
        assert_eq!(still_open("s/j", &row("complete")).ok(), Some(None));
        assert!(still_open("s/j", &row("failed")).is_err());
        let cron = serde_json::json!({"kind": "cron", "state": "running", "replicas_wanted": 3, "ready": 1});
        assert_eq!(still_open("s/c", &cron).ok(), Some(None));
    }

    #[test]
    fn the_example_is_what_it_says() {
        let text = include_str!("../../../../examples/web.compose.yaml");
        let project = dunlin_compose::parse(Source { file: "web", text }, &|_| None).expect("the example parses");
        assert_eq!(project.services.len(), 1);
        assert_eq!(project.warnings.len(), 0);
    }
}
