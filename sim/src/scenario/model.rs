//! A service as real flocks have it: all that a Compose file can say of its places, ports, checks and updates. What it runs
//! is not simulated, so its program, its image and its environment are left out; processes behave as the scenario says.
//!
//! In a file stands only what differs from an ordinary service, so that a person can read it.

use std::sync::Arc;

use dunlin_gossip::model::{Cron, Exec, Mode, Prefer, RolloutPolicy, Service, ServiceName, ServiceSpec, Workload};
use serde::Serialize;
use serde_json::{Map as Object, Value as Json};

use super::yaml::Value;
use super::{Count, ServiceLine, parse};
use crate::workload::Behaviour;

/// A process of a job that says nothing ends after so long.
const JOB_MS: u64 = 2_000;
/// The keys beside those of a specification.
const MODE: &str = "mode";
const ROLLOUT: &str = "rollout";

/// The service without what is not simulated.
pub(super) fn bare(mut service: Service) -> Service {
    service.spec.environment.clear();
    // A container's port is inside it; a process without one is told which port to take.
    if matches!(service.spec.workload, Workload::Docker(_)) {
        service.spec.ports.iter_mut().for_each(|port| port.target = None);
    }
    service.spec.workload = Workload::Exec(Exec { argv: vec!["simulated".to_owned()], working_dir: None });
    service
}

/// The line of a scenario that stands for a service.
pub(crate) fn line(name: &str, service: Service, rollout: RolloutPolicy) -> ServiceLine {
    let mut service = bare(service);
    let (behaviour, priority) = (behaviour(&service), service.spec.priority);
    let (replicas, parallelism) = match service.mode {
        Mode::Replicated(replicas) => (replicas, 0),
        Mode::Job(job) | Mode::Cron(Cron { job, .. }) => (job.completions, job.parallelism),
        // One on each host that suits: nobody counts them.
        _ => (0, 0),
    };
    // The line says how many there are.
    if matches!(service.mode, Mode::Replicated(_)) {
        service.mode = Mode::Replicated(1);
    }
    let (name, replicas) = (name.to_owned(), Count::Fixed(replicas));
    let model = Some(Arc::new(service));
    ServiceLine { name, replicas, behaviour, rollout, parallelism, cron: None, priority, model, on: Vec::new() }
}

/// How processes of a service behave of which nothing is said.
pub(super) fn behaviour(service: &Service) -> Behaviour {
    let spec = &service.spec;
    let is_unchecked = spec.health.is_none();
    let usual = parse::ordinary();
    Behaviour {
        // Who is asked nothing is ready as soon as it runs.
        ready_ms: if is_unchecked { 0 } else { usual.ready_ms },
        finish_ms: if service.mode.job().is_some() { JOB_MS } else { 0 },
        unchecked: is_unchecked,
        lone: spec.prefer == Prefer::Majority,
        reserve: spec.reservation,
        ..usual
    }
}

/// What an ordinary service says.
fn ordinary() -> Service {
    Service { mode: Mode::Replicated(1), spec: ServiceSpec::bare(Workload::program("simulated")) }
}

/// The value of `spec`: what differs from an ordinary service.
pub(super) fn text(line: &ServiceLine) -> Option<String> {
    let ordinary = whole(&ordinary(), &RolloutPolicy::default());
    let differs = difference(&ordinary, whole(line.model.as_deref()?, &line.rollout));
    Some(differs.unwrap_or_else(|| Json::Object(Object::new())).to_string())
}

/// A service and its rollout as one mapping.
fn whole(service: &Service, rollout: &RolloutPolicy) -> Json {
    let json = |of: Result<Json, serde_json::Error>| of.unwrap_or_else(|e| unreachable!("a model is JSON: {e}"));
    let mut all = json(serde_json::to_value(&service.spec));
    if let Json::Object(fields) = &mut all {
        fields.insert(MODE.to_owned(), json(serde_json::to_value(service.mode)));
        fields.insert(ROLLOUT.to_owned(), json(serde_json::to_value(rollout)));
    }
    all
}

/// Reads `spec`: the service it stands for, and its rollout.
pub(super) fn read(value: &Value<'_>) -> Result<(Service, RolloutPolicy), String> {
    let known = whole(&ordinary(), &RolloutPolicy::default());
    let patch = value.json()?;
    if let (Json::Object(patch), Json::Object(known)) = (&patch, &known)
        && let Some(key) = patch.keys().find(|key| !known.contains_key(*key))
    {
        let keys: Vec<&str> = known.keys().map(String::as_str).collect();
        return Err(value.refuse(&format!("has no key {key}; keys here are {}", keys.join(", "))));
    }
    let mut all = patched(known, patch);
    let mut part = |key: &str| all.as_object_mut().and_then(|fields| fields.remove(key)).unwrap_or_default();
    let (mode, rollout) = (part(MODE), part(ROLLOUT));
    let bad = |e: serde_json::Error| value.refuse(&format!("is no specification of a service: {e}"));
    let mode = serde_json::from_value(mode).map_err(bad)?;
    let rollout = serde_json::from_value(rollout).map_err(bad)?;
    let spec = serde_json::from_value(all).map_err(bad)?;
    Ok((bare(Service { mode, spec }), rollout))
}

/// What is left of `value` without what `base` says as well; nothing if that is all.
fn difference(base: &Json, value: Json) -> Option<Json> {
    match (base, value) {
        (base, value) if *base == value => None,
        (Json::Object(base), Json::Object(fields)) if fields.keys().eq(base.keys()) => {
            let differing = |(key, value)| Some((String::clone(&key), difference(&base[&key], value)?));
            Some(Json::Object(fields.into_iter().filter_map(differing).collect()))
        }
        (_, value) => Some(value),
    }
}

/// The other way round.
fn patched(base: Json, patch: Json) -> Json {
    match (base, patch) {
        (Json::Object(mut base), Json::Object(patch)) if patch.keys().all(|key| base.contains_key(key)) => {
            for (key, value) in patch {
                let before = base.remove(&key).unwrap_or_default();
                base.insert(key, patched(before, value));
            }
            Json::Object(base)
        }
        (_, patch) => patch,
    }
}

/// A service that a flock has, for `services` of a scenario file: its name there, what it is and how it is updated.
#[must_use]
pub fn service_text(name: &ServiceName, service: Service, rollout: RolloutPolicy, on: Vec<u32>) -> String {
    super::service_line(&ServiceLine { on, ..line(name.as_str(), service, rollout) })
}

/// A text in quotes, as YAML and JSON have it.
#[must_use]
pub fn quoted(text: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::service_line;
    use super::super::yaml::value;
    use super::*;
    use dunlin_core::cron::parse as calendar;
    use dunlin_gossip::model::{Affinity, Constraint, ConstraintOp, Job, PortSpec, Protocol, Tail};

    fn particular() -> Service {
        let mut service = ordinary();
        service.spec.constraints = vec![Constraint {
            attribute: "node.labels.disk".to_owned(),
            op: ConstraintOp::Equal,
            value: "1".to_owned(),
        }];
        let port = PortSpec { name: "80".to_owned(), target: Some(80), published: Some(8080), protocol: Protocol::Tcp };
        service.spec.ports = vec![port];
        let name = ServiceName::new("db").expect("a name");
        service.spec.placing.spread = vec!["zone".to_owned()];
        service.spec.placing.affinities =
            vec![Affinity { stack: None, service: name, label: None, anti: true, weight: Some(3) }];
        let Tail(placing) = &mut service.spec.placing;
        placing.tolerance.demand.firm_cpu = true;
        service.spec.limits.memory_bytes = 7;
        service
    }

    #[test]
    fn what_is_written_of_a_service_reads_as_the_same() -> Result<(), String> {
        let job = Job { completions: 5, parallelism: 2, ..Job::default() };
        let cron = Mode::Cron(Cron::of(calendar("*/5 3 * * 1-5").map_err(|fault| fault.what)?, job));
        for mode in [Mode::Replicated(4), Mode::Global, Mode::Job(job), Mode::GlobalJob(job), cron] {
            for service in [ordinary(), particular()] {
                let written = line("web", Service { mode, ..service }, RolloutPolicy::default());
                let text = service_line(&written);
                assert_eq!(value("line", &text).and_then(parse::service)?, written, "{text}");
            }
        }
        Ok(())
    }

    #[test]
    fn an_ordinary_service_says_nothing_and_a_wrong_key_is_refused() {
        let plain = line("web", ordinary(), RolloutPolicy::default());
        assert_eq!(text(&plain).as_deref(), Some("{}"));
        let bad = "{name: web, replicas: 1, spec: {constraint: []}}";
        let refusal = value("line", bad).and_then(parse::service).expect_err("no such key");
        assert!(refusal.contains("has no key constraint; keys here are constraints, "), "{refusal}");
    }
}
