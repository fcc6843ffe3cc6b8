//! The whole file: its top level, its services, and what no two services can both have.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::limits::MAX_SERVICES;
use dunlin_gossip::model::{Constraint, ConstraintOp, Mode, NameError, Protocol, Service, ServiceName, StackName};

use crate::fields::{self, Port, Read};
use crate::interpolate::{self, Variables};
use crate::problem::{Log, Mark, Problem};
use crate::schema::{self, Fields};
use crate::tree::{self, Kind, Node};
use crate::value::{Member, Value, quoted};

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
        Some((name, services)) if clean => Ok(Project { name, services, warnings }),
        Some(_) | None => Err(errors),
    }
}

type Found = (Option<StackName>, BTreeMap<ServiceName, Service>);

fn document(mut root: Node, variables: Variables<'_>, log: &mut Log<'_>) -> Option<Found> {
    if let Kind::Map(entries) = &mut root.kind {
        for entry in entries.iter_mut().filter(|e| matches!(e.key.as_str(), "name" | "services")) {
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
    Some((name, all(services, variables, log)))
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

fn all(services: &Value<'_>, variables: Variables<'_>, log: &mut Log<'_>) -> BTreeMap<ServiceName, Service> {
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
    let mut found: BTreeMap<ServiceName, Service> = BTreeMap::new();
    let mut held: BTreeMap<(u16, Protocol), Vec<Holder>> = BTreeMap::new();
    for member in members {
        let name = service_name(&member, &mut folded, log);
        let Some(Read { service, ports }) = fields::service(&member, variables, log) else { continue };
        for port in &ports {
            conflict(&member, &service, port, &mut held, log);
        }
        if let Some(name) = name {
            found.insert(name, service);
        }
    }
    found
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
    if service.mode == Mode::Replicated(0) {
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

/// True if no node can meet both sets of constraints.
fn exclude(a: &[Constraint], b: &[Constraint]) -> bool {
    use ConstraintOp::{Equal, NotEqual};
    a.iter().any(|x| {
        // Of other comparisons it cannot be told here that no node meets both.
        b.iter().filter(|y| x.attribute == y.attribute).any(|y| {
            let are = |first, second| x.op == first && y.op == second;
            (are(Equal, Equal) && !x.value.eq_ignore_ascii_case(&y.value))
                || ((are(Equal, NotEqual) || are(NotEqual, Equal)) && x.value == y.value)
        })
    })
}
