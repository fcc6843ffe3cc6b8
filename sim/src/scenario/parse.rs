//! From YAML to a scenario. Refused whole, with the place, before anything runs.

use std::sync::Arc;

use dunlin_gossip::model::{Resources, RolloutPolicy};

use super::churn::Churn;
use super::matrix::{Matrix, Unit};
use super::parse_action::timeline;
use super::yaml::{Map, Reader, Value, document, no_files, value};
use super::{
    Limits, MAX_HOSTS, MOST_ZONES, NodeLine, Recorded, Scenario, ServiceLine, Start, WaveLine, Zones, compose, model,
    node, policy,
};
use crate::net::{Conditions, preset};
use crate::queue::{MS, Nanos};
use crate::workload::Behaviour;

/// Reads a scenario that names no other files.
///
/// # Errors
/// One line: file, line, key, what is wrong, what to write instead.
pub fn parse(file: &str, text: &str) -> Result<Scenario, String> {
    parse_with(file, text, &no_files)
}

/// Reads a scenario. What it names is asked of `reader`: under which path it was found, and what it says.
///
/// # Errors
/// One line: file, line, key, what is wrong, what to write instead.
pub fn parse_with(file: &str, text: &str, reader: Reader<'_>) -> Result<Scenario, String> {
    let mut map = document(file, text, reader)?;
    let name = map.need("name")?.text()?;
    let about = map.need("about")?.text()?;
    let capacity = map.maybe("capacity", Resources { cpu_milli: 8_000, memory_bytes: 16 << 30 }, resources)?;
    let zones = map.maybe("zones", Zones::default(), zones)?;
    let (hosts, nodes, zones) = hosts(&mut map, capacity, zones)?;
    let network = map.maybe("network", Conditions::default(), |v| conditions(v, Conditions::default()))?;
    let end_value = map.need("end")?;
    let mut services: Vec<ServiceLine> =
        map.maybe("services", Vec::new(), |v| v.list()?.into_iter().map(service).collect())?;
    let waves = map.maybe("waves", None, |v| WaveLine::read(v).map(Some))?;
    let asked = composed(&mut map, hosts, &mut services)?;
    let scenario = Scenario {
        name,
        about,
        hosts,
        start: map.maybe("start", Start::Warm, start)?,
        zones,
        capacity,
        nodes,
        skew_ms: map.maybe("skew", 0, |v| v.time())? / MS,
        drift_ppm: map.maybe("drift-ppm", 0, |v| v.number())?.min(10_000),
        forget: map.maybe("forget", None, |v| v.time().map(Some))?,
        rebalance: map.maybe("rebalance", 0, |v| small(&v))?,
        waves: waves.or(asked),
        services,
        timeline: map.maybe("timeline", Vec::new(), |v| timeline(v, &network))?,
        network,
        churn: map.maybe("churn", None, |v| Churn::parse(v).map(Some))?,
        settle: map.need("settle")?.time()?,
        limits: map.maybe("limits", Limits::default(), Limits::read)?,
        end: end_value.time()?,
        may_miss: map.maybe("faults-may-miss", false, |v| v.yes_or_no())?,
        recorded: map.maybe("recorded", None, |v| recorded(v).map(Some))?,
    };
    map.end(
        "name, about, hosts, nodes, start, zones, capacity, skew, drift-ppm, forget, rebalance, network, waves, compose, services, \
         timeline, churn, settle, limits, end, faults-may-miss, recorded",
    )?;
    if scenario.quiet_from() + scenario.settle > scenario.end {
        return Err(end_value.refuse("must lie at least `settle` after the last line of the timeline"));
    }
    Ok(scenario)
}

/// How many hosts there are, those that are not like the others, and the zones in which they stand.
fn hosts(map: &mut Map<'_>, usual: Resources, zones: Zones) -> Result<(u32, Vec<NodeLine>, Zones), String> {
    let stated = map.take("hosts");
    let Some(list) = map.take("nodes") else {
        let value = stated.map_or_else(|| map.need("hosts"), Ok)?;
        return Ok((some_hosts(&value)?, Vec::new(), zones));
    };
    let lines = list.items()?.into_iter().map(|v| NodeLine::read(v, usual)).collect::<Result<Vec<_>, _>>()?;
    if lines.is_empty() {
        return Err(list.refuse("must name a host at least; leave it out if all are alike"));
    }
    let (listed, letters) = node::totals(&lines, &list)?;
    if listed > MAX_HOSTS {
        return Err(list.refuse(&format!("must list at most {MAX_HOSTS} hosts")));
    }
    let hosts = stated.map_or(Ok(listed), |value| some_hosts(&value))?;
    Ok((hosts, lines, Zones { count: zones.count.max(letters), ..zones }))
}

fn some_hosts(value: &Value<'_>) -> Result<u32, String> {
    match small(value)? {
        0 => Err(value.refuse("must be at least 1")),
        hosts if hosts > MAX_HOSTS => Err(value.refuse(&format!("must be at most {MAX_HOSTS}"))),
        hosts => Ok(hosts),
    }
}

/// The services of the Compose file, if there is one, beside the others; and its waves.
fn composed(map: &mut Map<'_>, hosts: u32, services: &mut Vec<ServiceLine>) -> Result<Option<WaveLine>, String> {
    let Some(value) = map.take("compose") else { return Ok(None) };
    let refusal = value.refuse("has a service that `services` has as well; one of them needs another name");
    let (lines, waves) = compose::read(value, hosts)?;
    if lines.iter().any(|line| services.iter().any(|other| other.name == line.name)) {
        return Err(refusal);
    }
    services.extend(lines);
    Ok(waves)
}

pub(super) fn small(value: &Value<'_>) -> Result<u32, String> {
    u32::try_from(value.number()?).map_err(|_| value.refuse("is too large"))
}

fn start(value: Value<'_>) -> Result<Start, String> {
    match value.text().as_deref() {
        Ok("warm") => return Ok(Start::Warm),
        Ok("joined") => return Ok(Start::Joined),
        Ok("running") => return Ok(Start::Running),
        Ok(_) => return Err(value.refuse("must be `warm`, `joined`, `running`, or a mapping `cold: {within: 5s}`")),
        Err(_) => {}
    }
    let (word, inner) = value.map()?.single("cold")?;
    if word != "cold" {
        return Err(inner.refuse("is not known; write `warm`, `joined`, `running`, or `cold: {within: 5s}`"));
    }
    let mut map = inner.map()?;
    let within = map.need("within")?.time()?;
    map.end("within")?;
    Ok(Start::Cold { within })
}

fn zones(value: Value<'_>) -> Result<Zones, String> {
    let mut map = value.map()?;
    let count_value = map.need("count")?;
    let count = small(&count_value)?;
    if count == 0 || count > MOST_ZONES {
        return Err(count_value.refuse("must be from 1 to 26"));
    }
    let latency = map.maybe("latency", Vec::new(), latency)?;
    map.end("count, latency")?;
    Ok(Zones { count, latency })
}

fn recorded(value: Value<'_>) -> Result<Recorded, String> {
    let mut map = value.map()?;
    let seed = map.need("seed")?.number()?;
    let trace_hash = map.need("trace-hash")?.text()?;
    let breaks = map.need("breaks")?.items()?.iter().map(Value::text).collect::<Result<_, _>>()?;
    map.end("seed, trace-hash, breaks")?;
    Ok(Recorded { seed, trace_hash, breaks })
}

fn resources(value: Value<'_>) -> Result<Resources, String> {
    let mut map = value.map()?;
    let cpu_milli = map.need("cpu-milli")?.number()?;
    let memory_bytes = map.need("memory")?.bytes()?;
    map.end("cpu-milli, memory")?;
    Ok(Resources { cpu_milli, memory_bytes })
}

pub(super) fn conditions(value: Value<'_>, before: Conditions) -> Result<Conditions, String> {
    let mut map = value.map()?;
    let (latency, pairs) = map.maybe("latency", (before.latency, before.pairs), of_all_or_of_pairs)?;
    let read = Conditions {
        latency,
        pairs,
        jitter: map.maybe("jitter", before.jitter, |v| v.time())?,
        loss: map.maybe("loss", before.loss, |v| v.ratio())?,
        duplicate: map.maybe("duplicate", before.duplicate, |v| v.ratio())?,
        reorder: map.maybe("reorder", before.reorder, |v| v.ratio())?,
        bandwidth: map.maybe("bandwidth", before.bandwidth, |v| v.rate())?,
    };
    map.end("latency, jitter, loss, duplicate, reorder, bandwidth")?;
    Ok(read)
}

/// One table for all pairs of hosts, or a recording of each pair.
fn of_all_or_of_pairs(value: Value<'_>) -> Result<(Vec<Nanos>, Option<Arc<Matrix>>), String> {
    if !value.is_map() {
        return Ok((latency(value)?, None));
    }
    let mut map = value.map()?;
    let file = map.need("file")?;
    let unit = map.maybe("unit", Unit::Milliseconds, |v| {
        let unit = Unit::named(&v.text()?);
        unit.ok_or_else(|| v.refuse("must be s, ms or us: the unit of the file's round trips"))
    })?;
    map.end("file, unit")?;
    let (name, text) = file.file()?;
    let matrix = Matrix::read(&name, &text, unit)?;
    Ok((Conditions::default().latency, Some(Arc::new(matrix))))
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

/// What a service is like that says nothing about it.
pub(crate) const fn ordinary() -> Behaviour {
    Behaviour {
        version: 0,
        start_ms: 20,
        ready_ms: 50,
        crash_ms: 0,
        finish_ms: 0,
        hang_ms: 0,
        stop_ms: 5,
        fail_one_in: 0,
        bad_version: 0,
        lone: false,
        unchecked: false,
        reserve: Resources { cpu_milli: 100, memory_bytes: 64 << 20 },
    }
}

/// How processes behave, by key.
pub(super) const TIMES: &str = "start, ready, crash-after, finish-after, hang-after, stop, fail-one-in, bad-version";

/// What a mapping says of how processes behave.
pub(super) fn times(map: &mut Map<'_>, usual: Behaviour) -> Result<Behaviour, String> {
    let ready = map.take("ready");
    if let Some(ready) = ready.as_ref().filter(|_| usual.unchecked) {
        return Err(ready.refuse("means nothing: the service has no health check, so it is ready as soon as it runs"));
    }
    let mut ms = |key: &str, default: u64| map.maybe(key, default, |v| Ok(v.time()? / MS));
    let timed = Behaviour {
        start_ms: ms("start", usual.start_ms)?,
        crash_ms: ms("crash-after", usual.crash_ms)?,
        finish_ms: ms("finish-after", usual.finish_ms)?,
        hang_ms: ms("hang-after", usual.hang_ms)?,
        stop_ms: ms("stop", usual.stop_ms)?,
        ..usual
    };
    Ok(Behaviour {
        ready_ms: ready.map_or(Ok(usual.ready_ms), |v| Ok::<_, String>(v.time()? / MS))?,
        fail_one_in: map.maybe("fail-one-in", usual.fail_one_in, |v| v.number())?,
        bad_version: map.maybe("bad-version", usual.bad_version, |v| v.number())?,
        ..timed
    })
}

pub(super) fn service(value: Value<'_>) -> Result<ServiceLine, String> {
    let mut map = value.map()?;
    let name_value = map.need("name")?;
    let name = name_value.text()?;
    dunlin_gossip::model::ServiceName::new(&name).map_err(|e| name_value.refuse(&e.to_string()))?;
    let on = map.maybe("on", Vec::new(), |v| v.items()?.iter().map(small).collect())?;
    if let Some(spec) = map.take("spec") {
        let (service, rollout) = model::read(&spec)?;
        let line = model::line(&name, service, rollout);
        let replicas = map.maybe("replicas", line.replicas, |v| v.count())?;
        let behaviour = times(&mut map, line.behaviour)?;
        map.end(&format!("name, replicas, on, spec, {TIMES}; the rest stands in `spec`"))?;
        return Ok(ServiceLine { replicas, behaviour, on, ..line });
    }
    let replicas = map.need("replicas")?.count()?;
    let usual = times(&mut map, ordinary())?;
    let behaviour = Behaviour {
        lone: map.maybe("partition", usual.lone, |v| match v.text()?.as_str() {
            "majority" => Ok(true),
            "available" => Ok(false),
            _ => Err(v.refuse("must be available or majority")),
        })?,
        reserve: Resources {
            cpu_milli: map.maybe("cpu-milli", usual.reserve.cpu_milli, |v| v.number())?,
            memory_bytes: map.maybe("memory", usual.reserve.memory_bytes, |v| v.bytes())?,
        },
        ..usual
    };
    let rollout = map.maybe("rollout", RolloutPolicy::default(), policy::read)?;
    let parallelism = map.maybe("parallelism", 0, |v| small(&v))?;
    let schedule = map.take("schedule");
    let cron = schedule.map(|value| {
        let refusal = value.refuse("each run ends: it needs finish-after");
        if behaviour.finish_ms == 0 { Err(refusal) } else { super::schedule::read(value) }
    });
    let cron = cron.transpose()?;
    let priority =
        map.maybe("priority", 0, |v| i32::try_from(v.number()?).map_err(|_| v.refuse("must be a priority")))?;
    map.end(&format!(
        "name, replicas, on, spec, priority, partition, cpu-milli, memory, rollout, parallelism, schedule, {TIMES}"
    ))?;
    Ok(ServiceLine { name, replicas, behaviour, rollout, parallelism, cron, priority, model: None, on })
}

/// A service, as a line of a scenario file.
pub(crate) fn read_service(text: &str) -> Result<ServiceLine, String> {
    service(value("service", text)?)
}

/// Limits of figures.
pub(crate) fn read_limits(text: &str) -> Result<Limits, String> {
    Limits::read(value("limits", text)?)
}

/// Conditions of the network that differ so from others.
pub(crate) fn read_conditions(text: &str, before: &Conditions) -> Result<Conditions, String> {
    conditions(value("network", text)?, before.clone())
}

/// A time.
pub(crate) fn read_time(text: &str) -> Result<Nanos, String> {
    value("time", text)?.time()
}

/// A host that is not like the others.
pub(crate) fn read_node(text: &str, usual: Resources) -> Result<NodeLine, String> {
    NodeLine::read(value("nodes", text)?, usual)
}
