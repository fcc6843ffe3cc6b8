//! One service: each theme is read on its own, then what belongs together is held against each other.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use dunlin_gossip::limits::MAX_RECORD;
use dunlin_gossip::model::{HealthCheck, Prefer, Probe, Service, ServiceSpec, Tail, Workload};

use super::ports::{Context, Port, ports};
use super::{deploy, environment, health, placing, workload};
use crate::interpolate::Variables;
use crate::problem::Log;
use crate::schema::{self, Fields};
use crate::tree::Kind;
use crate::value::{Member, Value, quoted};

/// What a specification's texts may have together, so that its record fits with room for the rest.
const MAX_TEXTS: usize = MAX_RECORD - 32 * 1_024;
/// Keys that stand for an image: where one was refused, a missing image is explained.
const IMAGE_SOURCES: [&str; 3] = ["build", "extends", "provider"];

/// A service and where its ports were written, for comparison across services.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) service: Service,
    pub(crate) ports: Vec<Port>,
}

/// What `x-dunlin` says.
struct Dunlin {
    health: Option<HealthCheck>,
    priority: i32,
    prefer: Prefer,
}

/// Reads a service. None if it is too broken to be one; the log says why.
pub(crate) fn service(member: &Member<'_>, given: Variables<'_>, log: &mut Log<'_>) -> Option<Read> {
    let fields = Fields::read(&schema::SERVICE, &member.value, log)?;
    let dunlin_fields = fields.get("x-dunlin").and_then(|v| Fields::read(&schema::DUNLIN, v, log));
    let dunlin_check = dunlin_fields.as_ref().and_then(|f| f.get("healthcheck"));
    let workload = workload::workload(member, &fields, has_refused_image(&member.value), log);
    let context = Context {
        is_exec: fields.get("image").is_none() && !has_refused_image(&member.value),
        has_http_check: dunlin_check.is_some_and(health::asks_for_http),
    };
    let ports = fields.get("ports").map(|v| ports(v, context, log)).unwrap_or_default();
    let dunlin = dunlin(dunlin_fields.as_ref(), &ports, log);
    let compose_check = fields.get("healthcheck").and_then(|v| health::compose(v, log));
    if let (Some(_), Some(at)) = (fields.get("healthcheck"), dunlin_check) {
        at.error(log, "the service has two health checks", "keep one of 'healthcheck' and 'x-dunlin.healthcheck'");
    }
    let told = if context.is_exec { environment::told(&ports) } else { BTreeMap::new() };
    let environment = fields.get("environment").map(|v| environment::environment(v, given, &told, log));
    let deploy_fields = fields.get("deploy").and_then(|v| Fields::quiet(&schema::DEPLOY, v));
    let (placing, more) = placing::placing(deploy_fields.as_ref(), dunlin_fields.as_ref(), log);
    let mut deploy = deploy::deploy(&fields, log);
    deploy.constraints.extend(more);
    let stop = workload::stop(&fields, log);
    if let (Some(at), Some(_), Some(_)) = (fields.get("healthcheck"), &compose_check, fields.get("image")) {
        let remedy = "try a port from outside with x-dunlin.healthcheck, by 'http' or 'tcp'";
        at.error(log, "commands are not run inside containers yet, so this check cannot be made", remedy);
    }
    let spec = ServiceSpec {
        workload: workload?,
        environment: environment.unwrap_or_default(),
        ports: ports.iter().map(|p| p.spec.clone()).collect(),
        health: dunlin.health.or(compose_check),
        restart: deploy.restart,
        stop,
        reservation: deploy.reservation,
        limits: deploy.limits,
        constraints: deploy.constraints,
        priority: dunlin.priority,
        prefer: dunlin.prefer,
        placing: Tail(placing),
    };
    let size = size(&spec);
    if size > MAX_TEXTS {
        let what =
            format!("the texts of this service have {size} bytes, more than the {MAX_TEXTS} that a record holds");
        log.error(member.mark, &member.value.path, what, "put long values into files of the image");
        return None;
    }
    Some(Read { service: Service { mode: deploy.mode, spec }, ports })
}

fn has_refused_image(service: &Value<'_>) -> bool {
    matches!(&service.node.kind, Kind::Map(entries) if entries.iter().any(|e| IMAGE_SOURCES.contains(&e.key.as_str())))
}

fn dunlin(fields: Option<&Fields<'_>>, ports: &[Port], log: &mut Log<'_>) -> Dunlin {
    let get = |key: &str| fields.and_then(|f| f.get(key));
    Dunlin {
        health: get("healthcheck").and_then(|v| health::dunlin(v, ports, log)),
        priority: get("priority").and_then(|v| priority(v, log)).unwrap_or(0),
        prefer: get("prefer").and_then(|v| prefer(v, log)).unwrap_or(Prefer::Ready),
    }
}

fn priority(value: &Value<'_>, log: &mut Log<'_>) -> Option<i32> {
    let remedy = "write a whole number; higher goes first, and 0 is the default";
    let text = value.scalar(log, "a whole number", remedy)?;
    let found = text.parse().ok();
    if found.is_none() {
        value.wrong(log, "a whole number", remedy);
    }
    found
}

fn prefer(value: &Value<'_>, log: &mut Log<'_>) -> Option<Prefer> {
    let remedy = "write new or old, or leave it out";
    match value.text(log, remedy)? {
        "new" => Some(Prefer::New),
        "old" => Some(Prefer::Old),
        other => {
            value.error(log, format!("{} is no preference", quoted(other)), remedy);
            None
        }
    }
}

/// Bytes of all texts of a specification.
fn size(spec: &ServiceSpec) -> usize {
    let list = |words: &[alloc::string::String]| words.iter().map(|w| w.len() + 2).sum::<usize>();
    let workload = match &spec.workload {
        Workload::Exec(exec) => list(&exec.argv) + exec.working_dir.as_ref().map_or(0, |d| d.len()),
        Workload::Docker(image) => {
            image.image.len()
                + [&image.entrypoint, &image.command].into_iter().flatten().map(|w| list(w)).sum::<usize>()
                + image.working_dir.as_ref().map_or(0, |d| d.len())
        }
    };
    let probe = match spec.health.as_ref().map(|h| &h.probe) {
        Some(Probe::Command(argv)) => list(argv),
        Some(Probe::Http { path, .. }) => path.len(),
        Some(Probe::Tcp { .. }) | None => 0,
    };
    let environment: usize = spec.environment.iter().map(|(k, v)| k.len() + v.len() + 4).sum();
    let ports: usize = spec.ports.iter().map(|p| p.name.len() + 10).sum();
    let constraints: usize = spec.constraints.iter().map(|c| c.attribute.len() + c.value.len() + 4).sum();
    let affinities: usize = spec.placing.affinities.iter().map(|a| a.label.as_ref().map_or(0, |l| l.len()) + 140).sum();
    let devices: usize = spec
        .placing
        .devices
        .iter()
        .map(|d| d.kind.len() + d.models.iter().map(|m| m.len() + 2).sum::<usize>() + 16)
        .sum();
    let labels = spec.placing.spread.iter().chain(spec.placing.skews.iter().map(|skew| &skew.label));
    let labels: usize = labels.map(|label| label.len() + 8).sum();
    workload + probe + environment + ports + constraints + affinities + devices + labels
}
