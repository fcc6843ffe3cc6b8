//! From YAML to a scenario. Refused whole, with the place, before anything runs.

use std::sync::Arc;

use dunlin_gossip::model::Resources;

use super::churn::Churn;
use super::matrix::{Matrix, Unit};
use super::parse_action::timeline;
use super::yaml::{Reader, Value, document, no_files, value};
use super::{Limits, Recorded, Scenario, ServiceLine, Start, Zones};
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
        zones: map.maybe("zones", Zones::default(), zones)?,
        capacity: map.maybe("capacity", Resources { cpu_milli: 8_000, memory_bytes: 16 << 30 }, resources)?,
        skew_ms: map.maybe("skew", 0, |v| v.time())? / MS,
        drift_ppm: map.maybe("drift-ppm", 0, |v| v.number())?.min(10_000),
        forget: map.maybe("forget", None, |v| v.time().map(Some))?,
        services: map.maybe("services", Vec::new(), |v| v.list()?.into_iter().map(service).collect())?,
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
        "name, about, hosts, start, zones, capacity, skew, drift-ppm, forget, network, services, timeline, churn, settle, limits, \
         end, faults-may-miss, recorded",
    )?;
    if scenario.quiet_from() + scenario.settle > scenario.end {
        return Err(end_value.refuse("must lie at least `settle` after the last line of the timeline"));
    }
    Ok(scenario)
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
    if count == 0 || count > 26 {
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
        hang_ms: 0,
        stop_ms: 5,
        fail_one_in: 0,
        reserve: Resources { cpu_milli: 100, memory_bytes: 64 << 20 },
    }
}

pub(super) fn service(value: Value<'_>) -> Result<ServiceLine, String> {
    let mut map = value.map()?;
    let name_value = map.need("name")?;
    let name = name_value.text()?;
    dunlin_gossip::model::ServiceName::new(&name).map_err(|e| name_value.refuse(&e.to_string()))?;
    let replicas = map.need("replicas")?.count()?;
    let usual = ordinary();
    let mut ms = |key: &str, default: u64| map.maybe(key, default, |v| Ok(v.time()? / MS));
    let behaviour = Behaviour {
        version: 0,
        start_ms: ms("start", usual.start_ms)?,
        ready_ms: ms("ready", usual.ready_ms)?,
        crash_ms: ms("crash-after", usual.crash_ms)?,
        hang_ms: ms("hang-after", usual.hang_ms)?,
        stop_ms: ms("stop", usual.stop_ms)?,
        fail_one_in: map.maybe("fail-one-in", usual.fail_one_in, |v| v.number())?,
        reserve: Resources {
            cpu_milli: map.maybe("cpu-milli", usual.reserve.cpu_milli, |v| v.number())?,
            memory_bytes: map.maybe("memory", usual.reserve.memory_bytes, |v| v.bytes())?,
        },
    };
    map.end("name, replicas, start, ready, crash-after, hang-after, stop, fail-one-in, cpu-milli, memory")?;
    Ok(ServiceLine { name, replicas, behaviour })
}

/// A service, as a line of a scenario file.
pub(crate) fn read_service(text: &str) -> Result<ServiceLine, String> {
    service(value("service", text)?)
}

/// Conditions of the network that differ so from others.
pub(crate) fn read_conditions(text: &str, before: &Conditions) -> Result<Conditions, String> {
    conditions(value("network", text)?, before.clone())
}

/// A time.
pub(crate) fn read_time(text: &str) -> Result<Nanos, String> {
    value("time", text)?.time()
}
