//! The whole file: its top level, its services, and what no two services can both have.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_core::never::{Part, exclude, never};
use dunlin_gossip::limits::MAX_SERVICES;
use dunlin_gossip::model::{Constraint, NameError, Protocol, RolloutPolicy, Service, ServiceName, StackName, Waves};

use crate::fields::{self, Places, Port, Read};
use crate::interpolate::{self, Variables};
use crate::problem::{Log, Mark, Problem};
use crate::schema::{self, Fields};
use crate::tree::{self, Kind, Node};
use crate::value::{Member, Place, Value, quoted};

/// A file's text, and its name for messages.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Name as the author knows it.
    pub file: &'a str,
    /// The whole text.
    pub text: &'a str,
}

/// What a file asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Project {
    /// `name`, if the file has one.
    pub name: Option<StackName>,
    /// The services, by name.
    pub services: BTreeMap<ServiceName, Service>,
    /// Whether some nodes act on it before the others.
    pub waves: Option<Waves>,
    /// How each goes over to a new revision, where the file says so.
    pub policies: BTreeMap<ServiceName, RolloutPolicy>,
    /// What the author should know of a file that is accepted, sorted by place.
    pub warnings: Vec<Problem>,
}

/// DNS labels with a meaning of their own.
const RESERVED: [&str; 3] = ["node", "rr", "nearest"];

/// Reads a Compose file. `variables` answers for `${V}` and for variables of `environment` that have no value.
///
/// # Errors
/// All problems of the file, sorted by place, at least one.
pub fn parse(source: Source<'_>, variables: &dyn Fn(&str) -> Option<String>) -> Result<Project, Vec<Problem>> {
    let mut log = Log::new(source.file);
    let project = tree::read(source.text, &mut log).and_then(|root| document(root, variables, &mut log));
    if project.is_none() && log.is_clean() {
        let remedy = "add 'services:' with at least one service";
        log.error(Mark { line: 1, column: 1 }, "", "the file is empty", remedy);
    }
    let clean = log.is_clean();
    let (errors, warnings) = log.finish();
    match project {
        Some((name, services, waves)) if clean => {
            let stated = services.iter().filter(|(_, (_, policy))| *policy != RolloutPolicy::default());
            let policies = stated.map(|(name, (_, policy))| (name.clone(), *policy)).collect();
            let services = services.into_iter().map(|(name, (service, _))| (name, service)).collect();
            Ok(Project { name, services, waves, policies, warnings })
        }
        Some(_) | None => Err(errors),
    }
}

type Services = BTreeMap<ServiceName, (Service, RolloutPolicy)>;
type Found = (Option<StackName>, Services, Option<Waves>);

fn document(mut root: Node, variables: Variables<'_>, log: &mut Log<'_>) -> Option<Found> {
    if let Kind::Map(entries) = &mut root.kind {
        for entry in entries.iter_mut().filter(|e| matches!(e.key.as_str(), "name" | "services" | "x-dunlin")) {
            interpolate::tree(&mut entry.value, &entry.key, variables, log);
        }
    }
    let root = Value::new(String::new(), &root);
    if root.is_null() {
        return None;
    }
    let fields = Fields::read(&schema::TOP, &root, log)?;
    if let Some(version) = fields.member("version") {
        let what = "'version' is obsolete and means nothing";
        log.warn(version.mark, &version.value.path, what, "remove it");
    }
    let name = fields.get("name").and_then(|v| stack_name(v, log));
    let Some(services) = fields.get("services") else {
        let remedy = "add 'services:' with at least one service";
        log.error(root.mark(), "services", "the file has no services", remedy);
        return None;
    };
    let dunlin = fields.get("x-dunlin").and_then(|v| Fields::read(&schema::DUNLIN_TOP, v, log));
    let waves = dunlin.and_then(|fields| fields::waves(fields.get("waves")?, log));
    let services = all(services, name.as_ref(), variables, log);
    Some((name, services, waves))
}

fn stack_name(value: &Value<'_>, log: &mut Log<'_>) -> Option<StackName> {
    let text = value.text(log, "write a name")?;
    let found = name(text, StackName::new).map_err(|(what, remedy)| value.error(log, what, remedy));
    found.ok()
}

/// A name that can be a DNS label.
fn name<N>(text: &str, new: impl Fn(&str) -> Result<N, NameError>) -> Result<N, (String, String)> {
    let remedy = || "choose a name of letters, digits, '-' and '_'".to_string();
    let found = new(text).map_err(|error| (format!("{} is no name: {error}", quoted(text)), remedy()))?;
    if text.contains('.') {
        return Err((format!("{} cannot be a name in DNS: a dot separates labels", quoted(text)), remedy()));
    }
    let folded = text.to_ascii_lowercase();
    if RESERVED.contains(&folded.as_str()) || text.bytes().all(|b| b.is_ascii_digit()) {
        let what = format!("{} is reserved: it has a meaning of its own in DNS", quoted(text));
        return Err((what, "choose another name".to_string()));
    }
    Ok(found)
}

fn all(services: &Value<'_>, stack: Option<&StackName>, variables: Variables<'_>, log: &mut Log<'_>) -> Services {
    let members = services.map(log, "write 'NAME:' lines, each with the keys of a service below it");
    let Some(members) = members else { return BTreeMap::new() };
    if members.is_empty() {
        services.error(log, "the file has no services", "add a service");
    }
    if members.len() > MAX_SERVICES {
        let what = format!("the file has {} services, more than the {MAX_SERVICES} of a stack", members.len());
        services.error(log, what, "split it into several stacks");
    }
    let mut folded: BTreeMap<String, Mark> = BTreeMap::new();
    let mut found = Services::new();
    let mut held: BTreeMap<(u16, Protocol), Vec<Holder>> = BTreeMap::new();
    let mut written = BTreeMap::new();
    let mut broken = false;
    for member in members {
        let name = service_name(&member, &mut folded, log);
        let read = fields::service(&member, variables, log);
        broken |= name.is_none() || read.is_none();
        let Some(Read { service, ports, rollout, places }) = read else { continue };
        for port in &ports {
            conflict(&member, &service, port, &mut held, log);
        }
        if let Some(name) = name {
            let whole = Place { mark: member.mark, path: member.value.path.clone() };
            written.insert(name.clone(), Written { whole, places, ports });
            found.insert(name, (service, rollout));
        }
    }
    // What names a service that could not be read would be refused for that alone.
    if !broken {
        impossible(stack, &found, &written, log);
    }
    found
}

/// Where a service was written.
struct Written {
    whole: Place,
    places: Places,
    ports: Vec<Port>,
}

/// What no flock could ever run.
fn impossible(
    stack: Option<&StackName>,
    found: &Services,
    written: &BTreeMap<ServiceName, Written>,
    log: &mut Log<'_>,
) {
    let services = found.iter().map(|(name, (service, _))| (name.clone(), service.clone())).collect();
    for fault in never(stack, &services) {
        let Some(Written { whole, places, ports }) = written.get(&fault.service) else { continue };
        let port = |number: usize| ports.get(number).map(|port| Place { mark: port.mark, path: port.path.clone() });
        let place = match fault.part {
            Part::Constraint(number) => places.constraints.get(number).cloned(),
            Part::Affinity(number) => places.affinities.get(number).cloned(),
            Part::Port(number) => port(number),
            Part::PerNode => places.per_node.clone(),
        };
        let place = place.as_ref().unwrap_or(whole);
        log.error(place.mark, &place.path, fault.what, fault.remedy);
    }
}

fn service_name(member: &Member<'_>, folded: &mut BTreeMap<String, Mark>, log: &mut Log<'_>) -> Option<ServiceName> {
    let Member { name: text, mark, value } = member;
    let found = name(text, ServiceName::new).map_err(|(what, remedy)| log.error(*mark, &value.path, what, remedy));
    if let Some(first) = folded.insert(text.to_ascii_lowercase(), *mark) {
        let what = format!("two services differ only in case, the other at {first}: DNS cannot tell them apart");
        log.error(*mark, &value.path, what, "choose another name");
    }
    found.ok()
}

/// A service that publishes a port of the host.
struct Holder {
    service: String,
    mark: Mark,
    constraints: Vec<Constraint>,
}

/// Two services cannot have one port of the same node, unless their constraints keep them apart.
fn conflict(
    member: &Member<'_>,
    service: &Service,
    port: &Port,
    held: &mut BTreeMap<(u16, Protocol), Vec<Holder>>,
    log: &mut Log<'_>,
) {
    let Some(published) = port.spec.published else { return };
    if service.mode.count() == Some(0) {
        return;
    }
    let holders = held.entry((published, port.spec.protocol)).or_default();
    let constraints = &service.spec.constraints;
    let other = holders.iter().find(|h| h.service != member.name && !exclude(&h.constraints, constraints));
    if let Some(Holder { service: other, mark, .. }) = other {
        let protocol = port.spec.protocol.as_str();
        let what = format!("port {published}/{protocol} is also published by the service '{other}', at {mark}");
        let remedy = "publish another one, leave the published port out, or keep the two apart by constraints";
        log.error(port.mark, &port.path, what, remedy);
    }
    holders.push(Holder { service: member.name.to_string(), mark: port.mark, constraints: constraints.clone() });
}
