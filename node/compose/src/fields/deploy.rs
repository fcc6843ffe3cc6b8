//! `deploy` and `restart`: how many, where, with what, and again when.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use dunlin_gossip::limits::MAX_REPLICAS;
use dunlin_gossip::model::{
    Constraint, ConstraintOp, Cron, Demand, Job, Mode, Resources, RestartCondition, RestartPolicy,
};
use dunlin_gossip::time::Duration;

use super::amounts::{bytes, cpu_milli, duration, positive_duration};
use crate::problem::Log;
use crate::schema::{self, Fields};
use crate::value::{Place, Value, quoted};

/// Swarm's own default between two attempts.
const DEFAULT_DELAY: Duration = Duration::from_secs(5);
/// A run of this length is a success. Swarm decides at once, which would forget every failed attempt.
const DEFAULT_WINDOW: Duration = Duration::from_secs(30);
const RESTART: &str = "write \"no\", always, unless-stopped, on-failure or on-failure:5";
const CONDITION: &str = "write none, on-failure or any";
const CONSTRAINT: &str = "write node.labels.NAME == VALUE, or != instead of ==";

/// What `deploy` says.
#[derive(Debug)]
pub(crate) struct Deploy {
    pub(crate) mode: Mode,
    pub(crate) reservation: Resources,
    pub(crate) limits: Resources,
    /// Limits and reservations beyond these.
    pub(crate) demand: Demand,
    pub(crate) constraints: Vec<(Constraint, Place)>,
    pub(crate) restart: RestartPolicy,
}

/// Reads `deploy` and `restart` of a service, which may have a schedule.
pub(crate) fn deploy(service: &Fields<'_>, cron: Option<Cron>, log: &mut Log<'_>) -> Deploy {
    let restart = service.get("restart").and_then(|v| restart(v, log));
    let fields = service.get("deploy").and_then(|v| Fields::read(&schema::DEPLOY, v, log));
    let get = |key: &str| fields.as_ref().and_then(|f| f.get(key));
    let (reservation, limits, demand) = resources(get("resources"), log);
    let mode = match cron {
        None => mode(get("mode"), get("replicas"), log),
        Some(cron) => scheduled(cron, get("mode"), get("replicas"), log),
    };
    Deploy {
        mode,
        reservation,
        limits,
        demand,
        constraints: get("placement").map(|v| placement(v, log)).unwrap_or_default(),
        restart: restart_policy(get("restart_policy"), restart, mode, log),
    }
}

fn mode(mode: Option<&Value<'_>>, replicas: Option<&Value<'_>>, log: &mut Log<'_>) -> Mode {
    let count = replicas.and_then(|v| v.number(log, 0, MAX_REPLICAS));
    let replicated = Mode::Replicated(count.unwrap_or(1));
    let remedy = "write replicated, global, replicated-job or global-job";
    let Some(mode) = mode else { return replicated };
    match mode.text(log, remedy) {
        None | Some("replicated") => replicated,
        Some(global @ ("global" | "global-job")) => {
            if let Some(replicas) = replicas {
                let what = format!("a {global} service runs once on each node and has no number of replicas");
                replicas.error(log, what, "remove 'replicas', or write mode: replicated or replicated-job");
            }
            if global == "global" { Mode::Global } else { Mode::GlobalJob(Job::default()) }
        }
        Some("replicated-job") => Mode::Job(Job { completions: count.unwrap_or(1), ..Job::default() }),
        Some(other) => {
            mode.error(log, format!("{} is no mode", quoted(other)), remedy);
            replicated
        }
    }
}

/// Each run of a schedule is a job, and nothing else.
fn scheduled(cron: Cron, mode: Option<&Value<'_>>, replicas: Option<&Value<'_>>, log: &mut Log<'_>) -> Mode {
    let remedy = "write mode: replicated-job, or leave it out";
    let text = mode.and_then(|mode| Some((mode, mode.text(log, remedy)?)));
    match text {
        None | Some((_, "replicated-job")) => {}
        Some((mode, "global-job")) => {
            let what = "what is scheduled runs in so many slots, and not once on each node";
            mode.error(
                log,
                what,
                "write mode: replicated-job with replicas and max_replicas_per_node, or remove the schedule",
            );
        }
        Some((mode, other)) => {
            let what = format!("what is scheduled ends, and {} does not", quoted(other));
            mode.error(log, what, "write mode: replicated-job or leave it out, or remove 'x-dunlin.schedule'");
        }
    }
    let count = replicas.and_then(|v| v.number(log, 0, MAX_REPLICAS));
    Mode::Cron(Cron { job: Job { completions: count.unwrap_or(1), ..cron.job }, ..cron })
}

/// Amounts of one block, each if given.
#[derive(Clone, Copy, Default)]
struct Given {
    cpu_milli: Option<u64>,
    memory_bytes: Option<u64>,
}

impl Given {
    fn read(fields: &Fields<'_>, log: &mut Log<'_>) -> Self {
        Self {
            cpu_milli: fields.get("cpus").and_then(|v| cpu_milli(v, log)),
            memory_bytes: fields.get("memory").and_then(|v| bytes(v, log)),
        }
    }
}

/// Reservation and limits. A reservation that is not given is the limit, else the default of that resource.
fn resources(value: Option<&Value<'_>>, log: &mut Log<'_>) -> (Resources, Resources, Demand) {
    let fields = value.and_then(|v| Fields::read(&schema::RESOURCES, v, log));
    let block = |key: &str| fields.as_ref().and_then(|f| f.get(key));
    let limit_fields = block("limits").and_then(|v| Fields::read(&schema::LIMITS, v, log));
    let reserve_fields = block("reservations").and_then(|v| Fields::read(&schema::RESERVATIONS, v, log));
    let limits = limit_fields.as_ref().map(|f| Given::read(f, log)).unwrap_or_default();
    let reserved = reserve_fields.as_ref().map(|f| Given::read(f, log)).unwrap_or_default();
    if let Some(fields) = &limit_fields {
        for (key, amount) in [("cpus", limits.cpu_milli), ("memory", limits.memory_bytes)] {
            if let (Some(0), Some(at)) = (amount, fields.get(key)) {
                at.error(log, "a limit of zero", "leave it out for no limit");
            }
        }
    }
    if let Some(fields) = &reserve_fields {
        let pairs =
            [("cpus", reserved.cpu_milli, limits.cpu_milli), ("memory", reserved.memory_bytes, limits.memory_bytes)];
        for (key, reserved, limit) in pairs {
            if let (Some(reserved), Some(limit), Some(at)) = (reserved, limit, fields.get(key))
                && reserved > limit
            {
                at.error(log, "more is reserved than the limit allows", "raise the limit, or reserve less");
            }
        }
    }
    let default = Resources::DEFAULT_REQUEST;
    let reservation = Resources {
        cpu_milli: reserved.cpu_milli.or(limits.cpu_milli).unwrap_or(default.cpu_milli),
        memory_bytes: reserved.memory_bytes.or(limits.memory_bytes).unwrap_or(default.memory_bytes),
    };
    // A default can be learnt better; what was written, here or as a limit, is meant.
    let demand = Demand {
        pids_limit: limit_fields
            .as_ref()
            .and_then(|f| f.get("pids"))
            .and_then(|v| v.number(log, 1, u32::MAX))
            .map_or(0, u64::from),
        firm_cpu: reserved.cpu_milli.or(limits.cpu_milli) == Some(default.cpu_milli),
        firm_memory: reserved.memory_bytes.or(limits.memory_bytes) == Some(default.memory_bytes),
        ..Demand::default()
    };
    let limits = Resources {
        cpu_milli: limits.cpu_milli.unwrap_or_default(),
        memory_bytes: limits.memory_bytes.unwrap_or_default(),
    };
    (reservation, limits, demand)
}

fn placement(value: &Value<'_>, log: &mut Log<'_>) -> Vec<(Constraint, Place)> {
    let Some(fields) = Fields::read(&schema::PLACEMENT, value, log) else { return Vec::new() };
    let Some(list) = fields.get("constraints") else { return Vec::new() };
    let items = list.list(log, CONSTRAINT).unwrap_or_default();
    items.iter().filter_map(|item| Some((constraint(item, log)?, item.place()))).collect()
}

/// How constraints compare, as they are written; what contains another comes first.
const OPERATORS: [(&str, ConstraintOp); 10] = [
    (" version >= ", ConstraintOp::AtLeast),
    (" version <= ", ConstraintOp::AtMost),
    (" version > ", ConstraintOp::Above),
    (" version < ", ConstraintOp::Below),
    (" not in ", ConstraintOp::NotIn),
    (" in ", ConstraintOp::In),
    ("=~", ConstraintOp::Matches),
    ("!~", ConstraintOp::MatchesNot),
    ("!=", ConstraintOp::NotEqual),
    ("==", ConstraintOp::Equal),
];

/// The operator that comes first, and what stands on both sides of it.
fn operator(text: &str) -> Option<(ConstraintOp, (&str, &str))> {
    let found = OPERATORS.iter().enumerate().filter_map(|(at, (sign, op))| Some((text.find(sign)?, at, *sign, *op)));
    let (_, _, sign, op) = found.min_by_key(|(place, at, ..)| (*place, *at))?;
    Some((op, text.split_once(sign)?))
}

/// Reads a constraint.
pub(super) fn constraint(value: &Value<'_>, log: &mut Log<'_>) -> Option<Constraint> {
    let text = value.text(log, CONSTRAINT)?;
    let Some((op, (attribute, operand))) = operator(text) else {
        value.error(log, format!("{} is no constraint", quoted(text)), CONSTRAINT);
        return None;
    };
    let (attribute, operand) = (attribute.trim(), operand.trim());
    let fault = match attribute {
        "node.hostname" | "node.id" | "node.platform.os" | "node.platform.arch" => None,
        "node.role" => {
            Some(("there are no managers and workers: all nodes are equal", "use a label: node.labels.NAME == VALUE"))
        }
        _ if attribute.starts_with("engine.labels.") => {
            Some(("labels of the engine are not read", "label the node itself: node.labels.NAME == VALUE"))
        }
        _ if attribute.strip_prefix("node.labels.").is_some_and(is_label) => None,
        _ => Some((
            "nodes have no such attribute",
            "use node.labels.NAME, node.hostname, node.id, node.platform.os or node.platform.arch",
        )),
    };
    if let Some((why, remedy)) = fault {
        value.error(log, format!("the constraint {} cannot be met: {why}", quoted(text)), remedy);
        return None;
    }
    if operand.is_empty() {
        value.error(log, format!("the constraint {} compares with nothing", quoted(text)), CONSTRAINT);
        return None;
    }
    let is_free =
        matches!(op, ConstraintOp::Matches | ConstraintOp::MatchesNot | ConstraintOp::In | ConstraintOp::NotIn);
    if !is_free && (operand.contains('=') || operand.contains(char::is_whitespace)) {
        value.error(log, format!("{} is no value of a constraint", quoted(operand)), CONSTRAINT);
        return None;
    }
    Some(Constraint { attribute: attribute.to_string(), op, value: spelled(attribute, operand).to_string() })
}

pub(super) fn is_label(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'))
}

/// Swarm calls processors by the kernel's name, nodes here by Go's: both are understood.
fn spelled<'t>(attribute: &str, value: &'t str) -> &'t str {
    match (attribute, value) {
        ("node.platform.arch", "x86_64") => "amd64",
        ("node.platform.arch", "aarch64") => "arm64",
        _ => value,
    }
}

/// When to restart, and at most how often.
type Restart = (RestartCondition, Option<u32>);

fn restart(value: &Value<'_>, log: &mut Log<'_>) -> Option<Restart> {
    let text = value.text(log, RESTART)?;
    match text {
        "no" => return Some((RestartCondition::None, None)),
        "always" | "unless-stopped" => return Some((RestartCondition::Any, None)),
        "on-failure" => return Some((RestartCondition::OnFailure, None)),
        _ => {}
    }
    let attempts = text.strip_prefix("on-failure:").filter(|n| n.bytes().all(|b| b.is_ascii_digit()));
    match attempts.map(str::parse::<u32>) {
        // Docker reads 0 as no bound.
        Some(Ok(n)) => Some((RestartCondition::OnFailure, (n > 0).then_some(n))),
        Some(Err(_)) | None => {
            value.error(log, format!("{} is no restart policy", quoted(text)), RESTART);
            None
        }
    }
}

fn restart_policy(value: Option<&Value<'_>>, restart: Option<Restart>, mode: Mode, log: &mut Log<'_>) -> RestartPolicy {
    let unstated = if mode.job().is_some() { RestartCondition::OnFailure } else { RestartCondition::Any };
    let (condition, max_attempts) = restart.unwrap_or((unstated, None));
    let mut policy = RestartPolicy { condition, delay: DEFAULT_DELAY, max_attempts, window: DEFAULT_WINDOW };
    let Some(fields) = value.and_then(|v| Fields::read(&schema::RESTART_POLICY, v, log)) else { return policy };
    if let Some(at) = fields.get("condition") {
        let stated = match at.text(log, CONDITION) {
            None => None,
            Some("none") => Some(RestartCondition::None),
            Some("on-failure") => Some(RestartCondition::OnFailure),
            Some("any") => Some(RestartCondition::Any),
            Some(other) => {
                at.error(log, format!("{} is no condition", quoted(other)), CONDITION);
                None
            }
        };
        if restart.is_some() && stated.is_some_and(|stated| stated != condition) {
            at.error(log, "'condition' and 'restart' of the service contradict each other", "keep one of the two");
        }
        policy.condition = stated.unwrap_or(condition);
    }
    if let Some(delay) = fields.get("delay").and_then(|v| duration(v, log)) {
        policy.delay = delay;
    }
    if let Some(attempts) = fields.get("max_attempts").and_then(|v| v.number(log, 0, u32::MAX)) {
        // Swarm reads 0 as no bound.
        policy.max_attempts = (attempts > 0).then_some(attempts);
    }
    if let Some(window) = fields.get("window").and_then(|v| positive_duration(v, log)) {
        policy.window = window;
    }
    policy
}
