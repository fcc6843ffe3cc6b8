//! Where replicas should be, beyond plain constraints: Compose's own keys, and those of `x-dunlin`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::model::{
    Affinity, Constraint, DeviceRequest, Further, MAX_DEVICES, Placing, Preemptible, ServiceName, Skew, StackName,
    Strategy, Tail, Toleration, WHOLE,
};

use super::amounts::bytes;
use super::deploy::{constraint, is_label};
use crate::problem::Log;
use crate::schema::{self, Fields};
use crate::value::{Place, Value, quoted};

/// Rules of one kind that a service may have.
const MAX_RULES: usize = 16;
/// Labels over which a service can spread; the score has room for so many.
const MAX_SPREAD: usize = 3;
const SPREAD: &str = "write '- spread: node.labels.NAME'";
const MODELS: &str = "write a list of models, as in [T4, A10]";

/// Where what can contradict itself was written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    pub(crate) constraints: Vec<Place>,
    pub(crate) affinities: Vec<Place>,
    pub(crate) per_node: Option<Place>,
}

/// Reads what `deploy` and `x-dunlin` say; constraints of `x-dunlin` are returned beside.
pub(super) fn placing(
    deploy: Option<&Fields<'_>>,
    dunlin: Option<&Fields<'_>>,
    places: &mut Places,
    log: &mut Log<'_>,
) -> (Placing, Vec<(Constraint, Place)>) {
    let mut placing = Placing::default();
    if let Some(fields) = deploy.and_then(|f| f.get("placement")).and_then(|v| Fields::quiet(&schema::PLACEMENT, v)) {
        if let Some(value) = fields.get("max_replicas_per_node") {
            placing.max_per_node = per_node(value, log);
            places.per_node = Some(value.place());
        }
        placing.spread = fields.get("preferences").map(|v| preferences(v, log)).unwrap_or_default();
    }
    let resources = deploy.and_then(|f| f.get("resources")).and_then(|v| Fields::quiet(&schema::RESOURCES, v));
    let reserved = resources.as_ref().and_then(|f| f.get("reservations"));
    if let Some(fields) = reserved.and_then(|v| Fields::quiet(&schema::RESERVATIONS, v)) {
        placing.devices.extend(fields.get("devices").map(|v| compose_devices(v, log)).unwrap_or_default());
        placing.devices.extend(fields.get("generic_resources").map(|v| generic(v, log)).unwrap_or_default());
    }
    let get = |key: &str| dunlin.and_then(|f| f.get(key));
    placing.strategy = get("strategy").and_then(|v| strategy(v, log)).unwrap_or_default();
    placing.further = Further {
        pids: get("pids").and_then(|v| v.number(log, 1, u32::MAX)).map_or(0, u64::from),
        disk_bytes: get("disk").and_then(|v| bytes(v, log)).unwrap_or(0),
    };
    placing.devices.extend(get("devices").map(|v| devices(v, log)).unwrap_or_default());
    let placed = |item: &Value<'_>, log: &mut Log<'_>| Some((affinity(item, log)?, item.place()));
    (placing.affinities, places.affinities) =
        get("affinity").map(|v| rules(v, log, placed)).unwrap_or_default().into_iter().unzip();
    placing.skews = get("max_skew").map(|v| skews(v, log)).unwrap_or_default();
    placing.tolerance.taints = get("tolerations").map(|v| rules(v, log, toleration)).unwrap_or_default();
    placing.tolerance.demand.standing.preemptible =
        get("preemptible").and_then(|v| preemptible(v, log)).unwrap_or_default();
    let rebalance = get("rebalance").and_then(|v| v.boolean(log));
    placing.tolerance.demand.standing.stays = Tail(rebalance == Some(false));
    let placed = |item: &Value<'_>, log: &mut Log<'_>| Some((constraint(item, log)?, item.place()));
    let constraints = get("constraints").map(|v| rules(v, log, placed)).unwrap_or_default();
    (placing, constraints)
}

fn per_node(value: &Value<'_>, log: &mut Log<'_>) -> Option<u32> {
    let most = value.number(log, 0, u32::MAX)?;
    if most == 0 {
        let what = "0 replicas on a node are none anywhere (Swarm reads 0 as no bound)";
        value.error(log, what, "leave it out for no bound, or write at least 1");
    }
    (most > 0).then_some(most)
}

fn preemptible(value: &Value<'_>, log: &mut Log<'_>) -> Option<Preemptible> {
    let remedy = "write false, or the least priority that may end it; by default every higher one may";
    match value.scalar(log, "true, false or a whole number", remedy)? {
        "true" => Some(Preemptible::ByHigher),
        "false" => Some(Preemptible::Never),
        text => {
            let found = text.parse().ok().map(Preemptible::From);
            if found.is_none() {
                value.wrong(log, "true, false or a whole number", remedy);
            }
            found
        }
    }
}

/// The items of a list, each read, at most [`MAX_RULES`].
fn rules<T>(value: &Value<'_>, log: &mut Log<'_>, read: fn(&Value<'_>, &mut Log<'_>) -> Option<T>) -> Vec<T> {
    let items = value.list(log, "write a list, one '- ' a line").unwrap_or_default();
    if items.len() > MAX_RULES {
        value.error(log, format!("{} rules; there can be {MAX_RULES}", items.len()), "leave some out");
    }
    items.iter().take(MAX_RULES).filter_map(|item| read(item, log)).collect()
}

fn preferences(value: &Value<'_>, log: &mut Log<'_>) -> Vec<String> {
    let labels: Vec<String> = rules(value, log, |item, log| {
        let fields = Fields::read(&schema::PREFERENCE, item, log)?;
        let spread = fields.get("spread");
        let Some(spread) = spread else {
            item.error(log, "a preference without 'spread'", SPREAD);
            return None;
        };
        let text = spread.text(log, SPREAD)?;
        let label = text.strip_prefix("node.labels.").filter(|label| is_label(label));
        if label.is_none() {
            spread.error(log, format!("{} is no label to spread over", quoted(text)), SPREAD);
        }
        label.map(ToString::to_string)
    });
    if labels.len() > MAX_SPREAD {
        value.error(log, format!("{} preferences; there can be {MAX_SPREAD}", labels.len()), "keep the first ones");
    }
    labels
}

fn strategy(value: &Value<'_>, log: &mut Log<'_>) -> Option<Strategy> {
    let remedy = "write apart, spread or binpack, or leave it out for apart";
    match value.text(log, remedy)? {
        "apart" => Some(Strategy::Apart),
        "spread" => Some(Strategy::Spread),
        "binpack" => Some(Strategy::Binpack),
        other => {
            value.error(log, format!("{} is no strategy", quoted(other)), remedy);
            None
        }
    }
}

fn affinity(value: &Value<'_>, log: &mut Log<'_>) -> Option<Affinity> {
    let remedy = "name a service of this file, or STACK/SERVICE";
    let fields = Fields::read(&schema::AFFINITY, value, log)?;
    let Some(at) = fields.get("service") else {
        value.error(log, "an affinity without 'service'", remedy);
        return None;
    };
    let text = at.text(log, remedy)?;
    let (stack, name) = text.split_once('/').map_or((None, text), |(stack, name)| (Some(stack), name));
    let stack = stack.map(StackName::new).transpose();
    let (stack, service) = match (stack, ServiceName::new(name)) {
        (Ok(stack), Ok(service)) => (stack, service),
        (Err(e), _) | (_, Err(e)) => {
            at.error(log, format!("{} is no service: {e}", quoted(text)), remedy);
            return None;
        }
    };
    let label = fields.get("label").and_then(|v| label(v, log));
    let anti = fields.get("anti").and_then(|v| v.boolean(log)).unwrap_or(false);
    let weight = fields.get("weight").and_then(|v| v.number(log, 1, 1_000));
    Some(Affinity { stack, service, label, anti, weight })
}

/// `KEY[=VALUE][:EFFECT]`, or `*`.
fn toleration(value: &Value<'_>, log: &mut Log<'_>) -> Option<Toleration> {
    let remedy = "write KEY[=VALUE][:EFFECT] or '*'; EFFECT is no-schedule or no-execute";
    let text = value.text(log, remedy)?;
    let toleration = Toleration::read(text);
    if toleration.is_none() {
        value.error(log, format!("{} tolerates nothing", quoted(text)), remedy);
    }
    toleration
}

fn label(value: &Value<'_>, log: &mut Log<'_>) -> Option<String> {
    let remedy = "write a label's name, as in zone";
    let text = value.text(log, remedy)?;
    let label = text.strip_prefix("node.labels.").unwrap_or(text);
    if !is_label(label) {
        value.error(log, format!("{} is no label", quoted(text)), remedy);
        return None;
    }
    Some(label.to_string())
}

fn skews(value: &Value<'_>, log: &mut Log<'_>) -> Vec<Skew> {
    let members = value.map(log, "write 'zone: 1' for at most one replica more than in the emptiest zone");
    let members = members.unwrap_or_default();
    if members.len() > MAX_RULES {
        value.error(log, format!("{} rules; there can be {MAX_RULES}", members.len()), "leave some out");
    }
    let mut skews = Vec::new();
    for member in members.into_iter().take(MAX_RULES) {
        let name = member.name.strip_prefix("node.labels.").unwrap_or(member.name);
        if !is_label(name) {
            member.value.error(log, format!("{} is no label", quoted(name)), "write a label's name, as in zone");
        } else if let Some(most) = member.value.number(log, 1, 10_000) {
            skews.push(Skew { label: name.to_string(), most });
        }
    }
    skews
}

fn devices(value: &Value<'_>, log: &mut Log<'_>) -> Vec<DeviceRequest> {
    rules(value, log, |item, log| {
        let fields = Fields::read(&schema::DUNLIN_DEVICE, item, log)?;
        let Some(kind) = fields.get("kind") else {
            item.error(log, "devices without a kind", "write 'kind: gpu'");
            return None;
        };
        let kind = kind.text(log, "write 'kind: gpu'")?.to_string();
        let count = fields.get("count").map_or(Some(1), |v| v.number(log, 1, MAX_DEVICES as u32))?;
        let milli = fields.get("share").map_or(Some(WHOLE), |v| share(v, log))?;
        let models = fields.get("models").map(|v| models(v, log)).unwrap_or_default();
        Some(DeviceRequest { kind, models, count, milli })
    })
}

fn share(value: &Value<'_>, log: &mut Log<'_>) -> Option<u32> {
    let remedy = "write a part of one device, as in 0.25";
    let milli = super::amounts::cpu_milli(value, log)?;
    let milli = u32::try_from(milli).ok().filter(|milli| (1..=WHOLE).contains(milli));
    if milli.is_none() {
        value.error(log, "a share is more than 0 and at most 1", remedy);
    }
    milli
}

fn models(value: &Value<'_>, log: &mut Log<'_>) -> Vec<String> {
    let items = value.list(log, MODELS).unwrap_or_default();
    items.iter().take(MAX_RULES).filter_map(|item| item.text(log, MODELS)).map(ToString::to_string).collect()
}

/// `deploy.resources.reservations.devices`, as far as it says how many GPUs.
fn compose_devices(value: &Value<'_>, log: &mut Log<'_>) -> Vec<DeviceRequest> {
    rules(value, log, |item, log| {
        let fields = Fields::read(&schema::DEVICE, item, log)?;
        let remedy = "write 'capabilities: [gpu]'";
        let Some(capabilities) = fields.get("capabilities") else {
            item.error(log, "devices without 'capabilities'", remedy);
            return None;
        };
        let words = capabilities.list(log, remedy)?;
        if !words.iter().filter_map(|word| word.text(log, remedy)).any(|word| word == "gpu") {
            capabilities.error(
                log,
                "only GPUs can be reserved here",
                "use x-dunlin.devices for devices of another kind",
            );
            return None;
        }
        let count = fields.get("count").map_or(Some(1), |v| v.number(log, 1, MAX_DEVICES as u32))?;
        Some(DeviceRequest { kind: "gpu".into(), models: Vec::new(), count, milli: WHOLE })
    })
}

/// `deploy.resources.reservations.generic_resources`.
fn generic(value: &Value<'_>, log: &mut Log<'_>) -> Vec<DeviceRequest> {
    rules(value, log, |item, log| {
        let remedy = "write '- discrete_resource_spec: {kind: gpu, value: 1}'";
        let fields = Fields::read(&schema::GENERIC, item, log)?;
        let Some(spec) = fields.get("discrete_resource_spec") else {
            item.error(log, "a generic resource without 'discrete_resource_spec'", remedy);
            return None;
        };
        let spec = Fields::read(&schema::DISCRETE, spec, log)?;
        let (Some(kind), Some(count)) = (spec.get("kind"), spec.get("value")) else {
            item.error(log, "a generic resource has 'kind' and 'value'", remedy);
            return None;
        };
        let kind = kind.text(log, remedy)?.to_ascii_lowercase();
        let count = count.number(log, 1, MAX_DEVICES as u32)?;
        Some(DeviceRequest { kind, models: Vec::new(), count, milli: WHOLE })
    })
}
