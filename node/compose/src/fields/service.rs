//! One service: each theme is read on its own, then what belongs together is held against each other.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use dunlin_gossip::limits::MAX_RECORD;
use dunlin_gossip::model::{
    Demand, HealthCheck, Mode, PortRange, Prefer, Probe, RolloutPolicy, Service, ServiceSpec, Tail, UpdateOrder,
    Workload,
};

use super::placing::Places;
use super::ports::{Context, Port, Span, ports, service_range};
use super::{deploy, environment, health, job, placing, rollout, schedule, workload};
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
    pub(crate) rollout: RolloutPolicy,
    pub(crate) places: Places,
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
    let mut ports = fields.get("ports").map(|v| ports(v, context, log)).unwrap_or_default();
    if let Some(range) = dunlin_fields.as_ref().and_then(|f| f.get("ports")) {
        service_range(range, &mut ports, log);
    }
    let dunlin = dunlin(dunlin_fields.as_ref(), &ports, log);
    let compose_check = fields.get("healthcheck").and_then(|v| health::compose(v, log));
    if let (Some(_), Some(at)) = (fields.get("healthcheck"), dunlin_check) {
        at.error(log, "the service has two health checks", "keep one of 'healthcheck' and 'x-dunlin.healthcheck'");
    }
    let told = if context.is_exec { environment::told(&ports) } else { BTreeMap::new() };
    let environment = fields.get("environment").map(|v| environment::environment(v, given, &told, log));
    let deploy_fields = fields.get("deploy").and_then(|v| Fields::quiet(&schema::DEPLOY, v));
    let mut places = Places::default();
    let (mut placing, more) = placing::placing(deploy_fields.as_ref(), dunlin_fields.as_ref(), &mut places, log);
    let cron = dunlin_fields.as_ref().and_then(|f| f.get("schedule")).map(|v| schedule::schedule(v, log));
    let mut deploy = deploy::deploy(&fields, cron, log);
    job::job(&fields, deploy_fields.as_ref(), dunlin_fields.as_ref(), &mut deploy, log);
    let limit = deploy.demand.pids_limit;
    if placing.further.pids == 0 {
        placing.further.pids = limit;
    } else if let (true, Some(at)) =
        (limit > 0 && placing.further.pids > limit, dunlin_fields.as_ref().and_then(|f| f.get("pids")))
    {
        at.error(log, "more is reserved than the limit allows", "raise the limit, or reserve less");
    }
    of_ports(&ports, &mut deploy.demand);
    deploy.demand.standing = placing.tolerance.demand.standing;
    placing.tolerance.demand = Tail(deploy.demand);
    let constraints;
    (constraints, places.constraints) = deploy.constraints.into_iter().chain(more).unzip();
    let rollout = rollout::rollout(deploy_fields.as_ref(), dunlin_fields.as_ref(), deploy.mode, log);
    let stop = workload::stop(&fields, log);
    let spec = ServiceSpec {
        workload: workload?,
        environment: environment.unwrap_or_default(),
        ports: ports.iter().map(|p| p.spec.clone()).collect(),
        health: dunlin.health.or(compose_check),
        restart: deploy.restart,
        stop,
        reservation: deploy.reservation,
        limits: deploy.limits,
        constraints,
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
    let service = Service { mode: deploy.mode, spec };
    lone(dunlin_fields.as_ref(), &service, &rollout, log);
    Some(Read { service, ports, rollout, places })
}

/// What the ports ask beyond their specifications.
fn of_ports(ports: &[Port], demand: &mut Demand) {
    for (number, port) in (0..).zip(ports) {
        let range = |Span { first, last }| PortRange { port: number, first, last };
        demand.ranges.extend(port.range.map(range));
        demand.local.extend(port.is_local.then_some(number));
    }
}

fn has_refused_image(service: &Value<'_>) -> bool {
    matches!(&service.node.kind, Kind::Map(entries) if entries.iter().any(|e| IMAGE_SOURCES.contains(&e.key.as_str())))
}

fn dunlin(fields: Option<&Fields<'_>>, ports: &[Port], log: &mut Log<'_>) -> Dunlin {
    let get = |key: &str| fields.and_then(|f| f.get(key));
    Dunlin {
        health: get("healthcheck").and_then(|v| health::dunlin(v, ports, log)),
        priority: get("priority").and_then(|v| priority(v, log)).unwrap_or(0),
        prefer: partition(get("partition"), get("prefer"), log),
    }
}

/// Which claim stays, which `partition: majority` decides as well.
fn partition(partition: Option<&Value<'_>>, stated: Option<&Value<'_>>, log: &mut Log<'_>) -> Prefer {
    let preferred = stated.and_then(|v| prefer(v, log));
    let remedy = "write majority (one at most runs, and none without a majority) or available, which is the default";
    let asks = match partition.and_then(|v| Some((v, v.text(log, remedy)?))) {
        Some((_, "majority")) => true,
        Some((_, "available")) | None => false,
        Some((value, other)) => {
            value.error(log, format!("{} is no choice for partitions", quoted(other)), remedy);
            false
        }
    };
    if asks && let (Some(Prefer::Old), Some(at)) = (preferred, stated) {
        at.error(log, "with partition: majority the newer claim stays", "remove prefer: old; majority implies new");
    }
    if asks { Prefer::Majority } else { preferred.unwrap_or(Prefer::Ready) }
}

/// What cannot go together with `partition: majority`.
fn lone(fields: Option<&Fields<'_>>, service: &Service, rollout: &RolloutPolicy, log: &mut Log<'_>) {
    let stated = fields.and_then(|fields| fields.get("partition"));
    let Some(partition) = stated.filter(|_| service.spec.prefer == Prefer::Majority) else { return };
    if matches!(service.spec.workload, Workload::Docker(_)) {
        let what = "a container has no keeper that could kill it at the end of its lease, so this cannot be kept";
        partition.error(log, what, "run a 'command' without 'image', or remove the key");
    }
    if service.mode == Mode::Global {
        partition.error(log, "a global service runs once on each node, where no majority decides", "remove the key");
    }
    if service.mode.job().is_some() {
        let what = "what runs to completion is done at least once, and where nodes cannot hear each other twice";
        partition.error(log, what, "remove the key, and let the work tell its runs apart by DUNLIN_EPOCH");
    }
    if [rollout.update.order, rollout.rollback.order].contains(&UpdateOrder::StartFirst) {
        let what = "of what one at most may run, none can start before the other has stopped";
        partition.error(log, what, "write order: stop-first in update_config and rollback_config, or remove the key");
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
