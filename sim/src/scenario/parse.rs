//! From YAML to a scenario. Refused whole, with the place, before anything runs.

use dunlin_gossip::model::Resources;

use super::yaml::{Map, Value, document};
use super::{Action, DiskFate, Scenario, ServiceLine, Start, Step};
use crate::net::{Conditions, preset};
use crate::queue::{MS, Nanos};
use crate::workload::Behaviour;

const ACTIONS: &str = "deploy, conflict, scale, remove, crash-agents, crash-hosts, restart, save-disks, pause, partition, \
                       mute, heal, network, kill-processes";

/// Reads a scenario.
///
/// # Errors
/// One line: file, line, key, what is wrong, what to write instead.
pub fn parse(file: &str, text: &str) -> Result<Scenario, String> {
    let mut map = document(file, text)?;
    let name = map.need("name")?.text()?;
    let about = map.need("about")?.text()?;
    let hosts_value = map.need("hosts")?;
    let hosts = small(&hosts_value)?;
    if hosts == 0 {
        return Err(hosts_value.refuse("must be at least 1"));
    }
    let network = map.maybe("network", Conditions::default(), |v| conditions(v, Conditions::default()))?;
    let end_value = map.need("end")?;
    let scenario = Scenario {
        name,
        about,
        hosts,
        start: map.maybe("start", Start::Warm, start)?,
        capacity: map.maybe("capacity", Resources { cpu_milli: 8_000, memory_bytes: 16 << 30 }, resources)?,
        skew_ms: map.maybe("skew", 0, |v| v.time())? / MS,
        drift_ppm: map.maybe("drift-ppm", 0, |v| v.number())?.min(10_000),
        services: map.maybe("services", Vec::new(), |v| v.list()?.into_iter().map(service).collect())?,
        timeline: map.maybe("timeline", Vec::new(), |v| timeline(v, &network))?,
        network,
        settle: map.need("settle")?.time()?,
        end: end_value.time()?,
    };
    map.end("name, about, hosts, start, capacity, skew, drift-ppm, network, services, timeline, settle, end")?;
    if scenario.quiet_from() + scenario.settle > scenario.end {
        return Err(end_value.refuse("must lie at least `settle` after the last line of the timeline"));
    }
    Ok(scenario)
}

fn small(value: &Value<'_>) -> Result<u32, String> {
    u32::try_from(value.number()?).map_err(|_| value.refuse("is too large"))
}

fn start(value: Value<'_>) -> Result<Start, String> {
    match value.text().as_deref() {
        Ok("warm") => return Ok(Start::Warm),
        Ok("joined") => return Ok(Start::Joined),
        Ok(_) => return Err(value.refuse("must be `warm`, `joined`, or a mapping `cold: {within: 5s}`")),
        Err(_) => {}
    }
    let (word, inner) = value.map()?.single("cold")?;
    if word != "cold" {
        return Err(inner.refuse("is not known; write `warm`, `joined`, or `cold: {within: 5s}`"));
    }
    let mut map = inner.map()?;
    let within = map.need("within")?.time()?;
    map.end("within")?;
    Ok(Start::Cold { within })
}

fn resources(value: Value<'_>) -> Result<Resources, String> {
    let mut map = value.map()?;
    let cpu_milli = map.need("cpu-milli")?.number()?;
    let memory_bytes = map.need("memory")?.bytes()?;
    map.end("cpu-milli, memory")?;
    Ok(Resources { cpu_milli, memory_bytes })
}

fn conditions(value: Value<'_>, before: Conditions) -> Result<Conditions, String> {
    let mut map = value.map()?;
    let read = Conditions {
        latency: map.maybe("latency", before.latency, latency)?,
        jitter: map.maybe("jitter", before.jitter, |v| v.time())?,
        loss: map.maybe("loss", before.loss, |v| v.ratio())?,
        duplicate: map.maybe("duplicate", before.duplicate, |v| v.ratio())?,
        reorder: map.maybe("reorder", before.reorder, |v| v.ratio())?,
    };
    map.end("latency, jitter, loss, duplicate, reorder")?;
    Ok(read)
}

fn latency(value: Value<'_>) -> Result<Vec<Nanos>, String> {
    if !value.is_list() {
        let refusal = value.refuse("must be loopback, lan, metro, wan, or an ascending list of times");
        return preset(&value.text()?).ok_or(refusal);
    }
    let refusal = value.refuse("must be a non-empty list of times, ascending");
    let table: Vec<Nanos> = value.list()?.iter().map(Value::time).collect::<Result<_, _>>()?;
    if table.is_empty() || !table.is_sorted() { Err(refusal) } else { Ok(table) }
}

fn service(value: Value<'_>) -> Result<ServiceLine, String> {
    let mut map = value.map()?;
    let name_value = map.need("name")?;
    let name = name_value.text()?;
    dunlin_gossip::model::ServiceName::new(&name).map_err(|e| name_value.refuse(&e.to_string()))?;
    let replicas = map.need("replicas")?.count()?;
    let mut ms = |key: &str, default: u64| map.maybe(key, default, |v| Ok(v.time()? / MS));
    let behaviour = Behaviour {
        version: 0,
        start_ms: ms("start", 20)?,
        ready_ms: ms("ready", 50)?,
        crash_ms: ms("crash-after", 0)?,
        hang_ms: ms("hang-after", 0)?,
        stop_ms: ms("stop", 5)?,
        fail_one_in: map.maybe("fail-one-in", 0, |v| v.number())?,
        reserve: Resources {
            cpu_milli: map.maybe("cpu-milli", 100, |v| v.number())?,
            memory_bytes: map.maybe("memory", 64 << 20, |v| v.bytes())?,
        },
    };
    map.end("name, replicas, start, ready, crash-after, hang-after, stop, fail-one-in, cpu-milli, memory")?;
    Ok(ServiceLine { name, replicas, behaviour })
}

fn timeline(value: Value<'_>, network: &Conditions) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    let mut conditions_now = network.clone();
    for line in value.list()? {
        let mut map: Map<'_> = line.map()?;
        let at_value = map.need("at")?;
        let at = at_value.time()?;
        if steps.last().is_some_and(|last| last.at > at) {
            return Err(at_value.refuse("is earlier than the line before it; write the timeline in order"));
        }
        let (word, value) = map.single(ACTIONS)?;
        let action = action(&word, value, &conditions_now)?;
        if let Action::Network(now) = &action {
            conditions_now = now.clone();
        }
        steps.push(Step { at, action });
    }
    Ok(steps)
}

fn action(word: &str, value: Value<'_>, network: &Conditions) -> Result<Action, String> {
    let bare = |value: &Value<'_>, action: Action| {
        if value.is_null() {
            Ok(action)
        } else {
            Err(value.refuse("takes no value; write it with nothing after the colon"))
        }
    };
    Ok(match word {
        "deploy" => bare(&value, Action::Deploy)?,
        "remove" => bare(&value, Action::Remove)?,
        "heal" => bare(&value, Action::Heal)?,
        "conflict" => Action::Conflict { writers: small(&value)? },
        "scale" => {
            let mut map = value.map()?;
            let service = map.need("service")?.text()?;
            let replicas = map.need("replicas")?.count()?;
            map.end("service, replicas")?;
            Action::Scale { service, replicas }
        }
        "crash-agents" => Action::CrashAgents(value.count()?),
        "crash-hosts" => Action::CrashHosts(value.count()?),
        "save-disks" => Action::SaveDisks(value.count()?),
        "restart" => match value.text()?.as_str() {
            "kept-disk" => Action::Restart(DiskFate::Kept),
            "old-disk" => Action::Restart(DiskFate::Old),
            "old-disk-and-clock" => Action::Restart(DiskFate::OldAndSlow),
            _ => return Err(value.refuse("must be kept-disk, old-disk or old-disk-and-clock")),
        },
        "pause" => {
            let mut map = value.map()?;
            let hosts = map.need("hosts")?.count()?;
            let time = map.need("time")?.time()?;
            map.end("hosts, time")?;
            Action::Pause { hosts, time }
        }
        "partition" => Action::Partition(value.count()?),
        "mute" => Action::Mute(value.count()?),
        "network" => Action::Network(conditions(value, network.clone())?),
        "kill-processes" => Action::KillProcesses(value.count()?),
        _ => return Err(value.refuse(&format!("is not known; what can happen is {ACTIONS}"))),
    })
}
