//! `dunlin sim init`: from a Compose file to a scenario of it, which its author then reads and changes.
//!
//! Never: a guess that is not marked as one in the file that it writes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dunlin_compose::{Project, Source};
use dunlin_gossip::model::{ConstraintOp, Service};
use dunlin_sim::scenario::{parse_with, quoted, service_text};
use serde::Serialize;

use super::{Done, agent, deploy};
use crate::args::SimInit;
use crate::failure::{Failure, Kind};
use crate::render;

#[derive(Serialize)]
struct Row {
    file: Option<PathBuf>,
    name: String,
    nodes: u32,
    zones: u32,
    services: Vec<String>,
    variables: BTreeMap<String, String>,
}

pub(super) fn run(args: &SimInit) -> Done {
    let name = args.from.display().to_string();
    let text = std::fs::read_to_string(&args.from)
        .map_err(|e| Failure::usage(format!("{name}: {e}"), "name the Compose file with --from FILE"))?;
    let (project, variables) = read(&name, &text)?;
    for warning in &project.warnings {
        eprintln!("warning: {warning}");
    }
    let stack = deploy::stack_name(None, &args.from, &project)?;
    let to_stdout = args.out.as_deref() == Some(Path::new("-"));
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("{stack}.sim.yaml")));
    let (cpu_milli, memory_mib) = size(args)?;
    let draft = Draft {
        args,
        project: &project,
        variables: &variables,
        stack: &stack,
        text: &text,
        out: &out,
        cpu_milli,
        memory_mib,
    };
    let scenario = draft.text();
    // What is written runs: the simulator has read it.
    parse_with(&out.display().to_string(), &scenario, &|_| Ok((name.clone(), text.clone())))
        .map_err(|e| Failure::usage(e, "try other options; see dunlin sim init --help"))?;
    if to_stdout {
        render::print_line(scenario.trim_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    write(&out, &scenario, args.force)?;
    let services: Vec<String> = project.services.keys().map(ToString::to_string).collect();
    if args.json {
        let (nodes, zones) = (args.nodes, args.zones);
        render::json(&Row { file: Some(out), name: stack, nodes, zones, services, variables })?;
        return Ok(ExitCode::SUCCESS);
    }
    let file = out.display();
    render::print_line(&format!(
        "{file}: {} on {} nodes in {} zones; read it, then\n  dunlin sim run {file}\n  dunlin sim run {file} --report out",
        services.join(", "),
        args.nodes,
        args.zones
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// What each node has.
fn size(args: &SimInit) -> Result<(u64, u64), Failure> {
    let bad = |option: &str, text: &str, example| {
        Failure::usage(format!("{option} {text}: expected an amount"), format!("{option} {example}"))
    };
    let cpus = agent::milli(&args.cpus).filter(|milli| *milli > 0);
    let memory = agent::bytes(&args.memory).map(|bytes| bytes >> 20).filter(|mib| *mib > 0);
    Ok((
        cpus.ok_or_else(|| bad("--cpus", &args.cpus, "4"))?,
        memory.ok_or_else(|| bad("--memory", &args.memory, "8G"))?,
    ))
}

/// Writes a file that may not be there yet.
pub(super) fn write(file: &Path, text: &str, force: bool) -> Result<(), Failure> {
    if file.exists() && !force {
        let what = format!("{} is there already", file.display());
        return Err(Failure::usage(what, "write it elsewhere with --out FILE, or over it with --force"));
    }
    std::fs::write(file, text).map_err(|e| {
        let what = format!("{} cannot be written: {e}", file.display());
        Failure::new(Kind::Failed, what, "write it elsewhere with --out FILE")
    })
}

/// What the file says, and those variables of the environment without which it would say something else to a simulator.
fn read(name: &str, text: &str) -> Result<(Project, BTreeMap<String, String>), Failure> {
    let asked = std::cell::RefCell::new(BTreeMap::new());
    let project = deploy::parse(name, text, &|key| {
        let value = std::env::var(key).ok()?;
        asked.borrow_mut().insert(key.to_owned(), value.clone());
        Some(value)
    })?;
    let mut kept = asked.into_inner();
    let whole = simulated(&project);
    // A password in the environment is nothing to a simulator, and must not come into its file.
    for key in kept.keys().cloned().collect::<Vec<_>>() {
        let fewer: BTreeMap<String, String> =
            kept.iter().filter(|(k, _)| **k != key).map(|(k, v)| (k.clone(), v.clone())).collect();
        let again = dunlin_compose::parse(Source { file: name, text }, &|key| fewer.get(key).cloned());
        if again.is_ok_and(|project| simulated(&project) == whole) {
            kept = fewer;
        }
    }
    Ok((project, kept))
}

/// All that a simulator takes of a project.
fn simulated(project: &Project) -> Vec<String> {
    let policy = |name| project.policies.get(name).copied().unwrap_or_default();
    let line = |(name, service): (_, &Service)| service_text(name, service.clone(), policy(name), Vec::new());
    project.services.iter().map(line).chain([format!("{:?}", project.waves)]).collect()
}

/// A scenario before it is text.
struct Draft<'a> {
    args: &'a SimInit,
    project: &'a Project,
    variables: &'a BTreeMap<String, String>,
    stack: &'a str,
    text: &'a str,
    out: &'a Path,
    cpu_milli: u64,
    memory_mib: u64,
}

impl Draft<'_> {
    fn text(&self) -> String {
        let Self { args, stack, .. } = self;
        let command = format!("dunlin sim init --from {}", args.from.display());
        let mut text = format!(
            "# Made by `{command}`. Run it with `dunlin sim run FILE`; all keys: `Scenario files` in the book.\n\
             name: {}\nabout: {}\nstart: joined             # the nodes have known each other for long\n",
            quoted(stack),
            quoted(&format!("{} on {} nodes in {} zones", args.from.display(), args.nodes, args.zones)),
        );
        text.push_str(&format!(
            "zones: {{count: {}, latency: {}}}\nnetwork: {{latency: {}}}\n",
            args.zones,
            args.zone_latency.as_str(),
            args.latency.as_str()
        ));
        text.push_str(&self.nodes());
        text.push_str(&self.compose());
        text.push_str(&self.timeline());
        text
    }

    /// The hosts, zone by zone, with the labels that services ask for.
    fn nodes(&self) -> String {
        let wanted = labels(self.project);
        let turns = u32::try_from(wanted.values().map(BTreeSet::len).max().unwrap_or(1).max(1)).unwrap_or(1);
        let mut text = "# Guesses: how large the nodes are".to_owned();
        if !wanted.is_empty() {
            let names: Vec<&str> = wanted.keys().map(String::as_str).collect();
            text.push_str(&format!(", and which have the labels {} that services ask for", names.join(", ")));
        }
        text.push_str(".\nnodes:\n");
        let besides = besides(self.project);
        for zone in 0..self.args.zones {
            for turn in 0..turns {
                let (kinds, kind) = (self.args.zones * turns, zone + self.args.zones * turn);
                let count = (self.args.nodes + kinds - 1 - kind) / kinds;
                if count == 0 {
                    continue;
                }
                let label = |(key, values): (&String, &BTreeSet<&str>)| {
                    let value = values.iter().nth(usize::try_from(turn).unwrap_or(0) % values.len())?;
                    Some((key.clone(), (*value).to_owned()))
                };
                let labels: BTreeMap<String, String> = wanted.iter().filter_map(label).collect();
                let labels = if labels.is_empty() { String::new() } else { format!(", labels: {}", quoted(&labels)) };
                text.push_str(&format!(
                    "  - {{count: {count}, zone: {}, cpu-milli: {}, memory: {}MiB{labels}{besides}}}\n",
                    char::from(b'a' + u8::try_from(zone).unwrap_or(25)),
                    self.cpu_milli,
                    self.memory_mib
                ));
            }
        }
        text
    }

    /// The Compose file, and how its processes behave.
    fn compose(&self) -> String {
        let mut text = "compose:\n".to_owned();
        if self.args.inline {
            text.push_str("  text: |\n");
            let lines = self.text.lines();
            lines.for_each(|line| {
                text.push_str(&if line.is_empty() { "\n".to_owned() } else { format!("    {line}\n") })
            });
        } else {
            text.push_str(&format!("  file: {}\n", quoted(&beside(&self.args.from, self.out).display().to_string())));
        }
        if !self.variables.is_empty() {
            text.push_str(&format!("  variables: {}\n", quoted(self.variables)));
        }
        text.push_str("  # Guesses: how long a process takes to start, to pass its health check, to stop. Measure yours.\n  processes:\n");
        for (name, service) in &self.project.services {
            let ready = if service.spec.health.is_some() { ", ready: 2s" } else { "" };
            let ends = if service.mode.job().is_some() { ", finish-after: 10s" } else { "" };
            text.push_str(&format!("    {name}: {{start: 500ms{ready}, stop: 1s{ends}}}\n"));
        }
        text
    }

    fn timeline(&self) -> String {
        let (what, fault) = match self.args.zones {
            1 => ("a node dies", "1"),
            _ => ("a zone goes dark", "zone-a"),
        };
        format!(
            "timeline:\n  - {{at: 3s, deploy: }}\n  - {{at: 30s, crash-hosts: {fault}}}     # {what} ...\n  \
             - {{at: 80s, restart: kept-disk}}     # ... and comes back\n\
             # After the last line all must be well again within this time.\nsettle: 45s\nend: 130s\n\
             # What would fail the run besides broken promises, for instance:\n# limits: {{failover: 20s, outages: 0}}\n"
        )
    }
}

/// What nodes must have besides cpus and memory for some service to find a place: as many devices as one replica asks for, and room
/// for sixteen of the largest otherwise.
fn besides(project: &Project) -> String {
    let mut devices: BTreeMap<&str, (&str, u32)> = BTreeMap::new();
    let (mut pids, mut disk) = (0, 0);
    for placing in project.services.values().map(|service| &service.spec.placing) {
        for request in &placing.devices {
            let model = request.models.first().map_or("", String::as_str);
            let (of, count) = devices.entry(&request.kind).or_default();
            *count = request.count.max(*count);
            if of.is_empty() {
                *of = model;
            }
        }
        (pids, disk) = (placing.further.pids.max(pids), placing.further.disk_bytes.max(disk));
    }
    let group = |(kind, (model, count)): (&&str, &(&str, u32))| {
        format!("{{kind: {}, model: {}, count: {count}}}", quoted(*kind), quoted(*model))
    };
    let mut text = String::new();
    if !devices.is_empty() {
        text.push_str(&format!(", devices: [{}]", devices.iter().map(group).collect::<Vec<_>>().join(", ")));
    }
    if pids > 0 {
        text.push_str(&format!(", pids: {}", pids.saturating_mul(16)));
    }
    if disk > 0 {
        text.push_str(&format!(", disk: {}MiB", disk.div_ceil(1 << 20).saturating_mul(16)));
    }
    text
}

/// Labels that nodes must have for some service to find a place, by name.
fn labels(project: &Project) -> BTreeMap<String, BTreeSet<&str>> {
    let mut labels: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for constraint in project.services.values().flat_map(|service| &service.spec.constraints) {
        let Some(label) = constraint.attribute.strip_prefix("node.labels.") else { continue };
        if label == "zone" {
            continue;
        }
        let values = match constraint.op {
            ConstraintOp::Equal => vec![constraint.value.as_str()],
            ConstraintOp::In => constraint.value.split(',').map(str::trim).collect(),
            _ => continue,
        };
        labels.entry(label.to_owned()).or_default().extend(values);
    }
    labels
}

/// A file's path as one says it in another file: from that one's folder, where both are in one.
fn beside(file: &Path, other: &Path) -> PathBuf {
    let folder = |path: &Path| std::path::absolute(path).ok().and_then(|path| path.parent().map(Path::to_path_buf));
    if other == Path::new("-") || folder(file) != folder(other) {
        return std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
    }
    file.file_name().map_or_else(|| file.to_path_buf(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    const COMPOSE: &str = "name: shop\nservices:\n  web:\n    image: web\n    environment: [PATH]\n    deploy:\n      \
                           placement: {constraints: [node.labels.disk == ssd]}\n    healthcheck: {test: [CMD, x]}\n  \
                           db:\n    image: db\n    x-dunlin: {devices: [{kind: gpu, count: 2, models: [T4]}]}\n    deploy:\n      placement: {constraints: [node.labels.disk == hdd]}\n";

    #[derive(clap::Parser)]
    struct Typed {
        #[command(flatten)]
        init: SimInit,
    }

    fn typed(words: &[&str]) -> SimInit {
        Typed::try_parse_from(["init"].iter().chain(words)).map(|typed| typed.init).expect("known options")
    }

    #[test]
    fn a_scenario_is_written_once_and_runs() {
        let dir = std::env::temp_dir().join(format!("dunlin-init-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let (from, out) = (dir.join("compose.yaml"), dir.join("shop.sim.yaml"));
        std::fs::write(&from, COMPOSE).expect("a file");
        let (from, out) = (from.display().to_string(), out.display().to_string());
        for inline in [&[][..], &["--inline"][..]] {
            let words = ["--from", &from, "--out", &out, "--nodes", "7", "--zones", "3", "--force", "--json"];
            run(&typed(&[&words[..], inline].concat())).expect("it is written");
            let text = std::fs::read_to_string(&out).expect("the file");
            assert_eq!(text.contains("file: \"compose.yaml\""), inline.is_empty(), "{text}");
            assert!(
                text.contains("web: {start: 500ms, ready: 2s, stop: 1s}\n") && !text.contains("variables"),
                "{text}"
            );
            assert!(text.contains("devices: [{kind: \"gpu\", model: \"T4\", count: 2}]"), "{text}");
            let scenario = dunlin_sim::cli::load(&out).expect("it can be read");
            assert_eq!((scenario.hosts, scenario.zones.count, scenario.services.len()), (7, 3, 2));
            let disks: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once("\"disk\":\"")?.1)).collect();
            assert!(disks.iter().any(|d| d.starts_with("ssd")) && disks.iter().any(|d| d.starts_with("hdd")), "{text}");
        }
        let again = run(&typed(&["--from", &from, "--out", &out])).expect_err("it is there");
        assert!(format!("{again:?}").contains("--force"), "{again:?}");
        std::fs::remove_dir_all(&dir).expect("it was made");
    }

    #[test]
    fn variables_are_kept_where_they_matter() {
        let text =
            "name: x\nservices:\n  web: {image: 'web:$PATH', deploy: {replicas: \"${CARGO_PKG_VERSION_MAJOR:-4}\"}}\n";
        let (_, kept) = read("x", text).expect("it can be read");
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["CARGO_PKG_VERSION_MAJOR"], "the image does not matter");
    }
}
