//! `ports`, short and long, and the names that ports get.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::model::{PortSpec, Protocol};

use crate::problem::{Log, Mark};
use crate::schema::{self, Fields};
use crate::tree::Kind;
use crate::value::{Value, quoted};

const FORMS: &str = "write \"TARGET\", \"PUBLISHED:TARGET\" or \"PUBLISHED:TARGET/udp\"";
/// A name becomes a DNS label behind an underscore.
const MAX_PORT_NAME: usize = 62;

/// A port, and what the author wrote of it.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub(crate) spec: PortSpec,
    /// The target as written, also where the specification does not carry it.
    pub(crate) written: Option<u16>,
    pub(crate) mark: Mark,
    pub(crate) path: String,
}

/// One item of the list, before it has a name.
struct Draft {
    name: Option<String>,
    target: Option<u16>,
    published: Option<u16>,
    protocol: Protocol,
    mark: Mark,
    path: String,
}

/// What decides over names and targets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    /// Processes of the host have no network of their own.
    pub(crate) is_exec: bool,
    /// An HTTP check makes `http` of a single port.
    pub(crate) has_http_check: bool,
}

/// The ports of a service.
pub(crate) fn ports(value: &Value<'_>, context: Context, log: &mut Log<'_>) -> Vec<Port> {
    let items = value.list(log, "write each port on a line of its own, beginning with '- '").unwrap_or_default();
    let drafts: Vec<Draft> = items
        .iter()
        .filter_map(|item| match &item.node.kind {
            Kind::Map(_) => long(item, context, log),
            Kind::Scalar(_) | Kind::List(_) => short(item, log),
        })
        .collect();
    twice(&drafts, log);
    named(drafts, context, log)
}

fn protocol(text: &str, value: &Value<'_>, log: &mut Log<'_>) -> Option<Protocol> {
    match text {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        _ => {
            value.error(log, format!("{} is no protocol of a port here", quoted(text)), "write tcp or udp");
            None
        }
    }
}

fn number(text: &str, what: &str, value: &Value<'_>, log: &mut Log<'_>) -> Option<u16> {
    if text.contains('-') {
        value.error(log, format!("ranges of ports ({text}) are not supported yet"), "list each port on its own line");
        return None;
    }
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(n) if n > 0 && digits => Some(n),
        Ok(_) | Err(_) => {
            let remedy = match what {
                "published port" => "write a number from 1 to 65535, or leave it out to let the node choose",
                _ => "write a number from 1 to 65535",
            };
            value.error(log, format!("{} is no {what}", quoted(text)), remedy);
            None
        }
    }
}

fn short(value: &Value<'_>, log: &mut Log<'_>) -> Option<Draft> {
    let text = value.scalar(log, "a port", FORMS)?;
    let (ports, proto) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol(proto, value, log);
    let (published, target) = match ports.rsplit_once(':') {
        None => (None, ports),
        Some((published, target)) => (Some(published), target),
    };
    if let Some((ip, _)) = published.and_then(|p| p.rsplit_once(':')) {
        let what = format!("an address of the host ({ip}) cannot be chosen: a replica may run on any node");
        value.error(log, what, FORMS);
        return None;
    }
    let target = number(target, "port", value, log);
    let published = published.map(|p| number(p, "published port", value, log));
    let published = published.map_or(Some(None), |p| p.map(Some));
    Some(Draft {
        name: None,
        target: Some(target?),
        published: published?,
        protocol: protocol?,
        mark: value.mark(),
        path: value.path.clone(),
    })
}

fn long(value: &Value<'_>, context: Context, log: &mut Log<'_>) -> Option<Draft> {
    let fields = Fields::read(&schema::PORT, value, log)?;
    let mut broken = false;
    let mut port = |key: &str, what: &str, log: &mut Log<'_>| {
        let field = fields.get(key)?;
        let found =
            field.scalar(log, "a port", "write a number from 1 to 65535").and_then(|t| number(t, what, field, log));
        broken |= found.is_none();
        found
    };
    let target = port("target", "port", log);
    let published = port("published", "published port", log);
    let mut draft =
        Draft { name: None, target, published, protocol: Protocol::Tcp, mark: value.mark(), path: value.path.clone() };
    if let Some(field) = fields.get("protocol") {
        let found = field.text(log, "write tcp or udp").and_then(|text| protocol(text, field, log));
        broken |= found.is_none();
        draft.protocol = found.unwrap_or(Protocol::Tcp);
    }
    if let Some(field) = fields.get("name") {
        draft.name = field.text(log, "write a name").and_then(|text| name(text, field, log));
        broken |= draft.name.is_none();
    }
    if let Some(field) = fields.get("mode") {
        mode(field, log);
    }
    if draft.target.is_none() && !broken && !(context.is_exec && draft.name.is_some()) {
        let remedy =
            if context.is_exec { "add 'target', or 'name' for a port that PORT tells" } else { "add 'target'" };
        value.error(log, "a port without 'target'", remedy);
        broken = true;
    }
    (!broken).then_some(draft)
}

fn name(text: &str, value: &Value<'_>, log: &mut Log<'_>) -> Option<String> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let begins = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if begins && text.bytes().all(inner) && text.len() <= MAX_PORT_NAME {
        return Some(text.into());
    }
    let remedy = format!("use letters, digits, '-' and '_', at most {MAX_PORT_NAME}, beginning with a letter or digit");
    value.error(log, format!("{} cannot name a port", quoted(text)), remedy);
    None
}

fn mode(value: &Value<'_>, log: &mut Log<'_>) {
    let remedy = "write mode: host, or leave it out";
    match value.text(log, remedy) {
        None | Some("host") => {}
        Some("ingress") => {
            let what = "a published port is open on the nodes that run a replica, not on every node";
            log.warn(value.mark(), &value.path, what, "reach the service by its name, and write mode: host");
        }
        Some(other) => value.error(log, format!("{} is no mode of a port", quoted(other)), remedy),
    }
}

/// The same host port twice cannot be had, whoever asks.
fn twice(drafts: &[Draft], log: &mut Log<'_>) {
    let mut seen = BTreeMap::new();
    for draft in drafts {
        let Some(published) = draft.published else { continue };
        if let Some(first) = seen.insert((published, draft.protocol), draft.mark) {
            let what = format!("port {published}/{} is published twice, first at {first}", draft.protocol.as_str());
            log.error(draft.mark, &draft.path, what, "publish another one, or leave the published port out");
        }
    }
}

/// Names in use, folded: where, and by which protocol.
type Taken = BTreeMap<String, (Mark, Protocol)>;

/// Names are compared as DNS and the environment will see them.
fn folded(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

fn named(drafts: Vec<Draft>, context: Context, log: &mut Log<'_>) -> Vec<Port> {
    let single = drafts.len() == 1;
    let mut taken: Taken = BTreeMap::new();
    // Names that the author gave come first: what is made up must not take one of them.
    for draft in &drafts {
        let Some(name) = &draft.name else { continue };
        if let Some((first, _)) = taken.insert(folded(name), (draft.mark, draft.protocol)) {
            let what = format!("the port name '{name}' is given twice, first at {first}");
            log.error(draft.mark, &draft.path, what, "give each port of a service its own name");
        }
    }
    let mut ports = Vec::new();
    for draft in drafts {
        let name = draft.name.clone().unwrap_or_else(|| {
            let name = default_name(&draft, single, context, &taken);
            if let Some((first, _)) = taken.insert(folded(&name), (draft.mark, draft.protocol)) {
                let what = format!("this port and the one at {first} would both be named '{name}'");
                log.error(draft.mark, &draft.path, what, "use the long form, and give each a 'name'");
            }
            name
        });
        ports.extend(finish(draft, name, context, log));
    }
    ports
}

fn default_name(draft: &Draft, single: bool, context: Context, taken: &Taken) -> String {
    let is_web = matches!(draft.target, Some(80 | 3000 | 8000 | 8080));
    if single && draft.protocol == Protocol::Tcp && (context.has_http_check || is_web) {
        return "http".into();
    }
    let number = draft.target.map_or_else(|| "http".to_string(), |target| target.to_string());
    match taken.get(&number) {
        // DNS servers and the like listen on one number with both protocols.
        Some((_, protocol)) if *protocol != draft.protocol => format!("{number}-{}", draft.protocol.as_str()),
        Some(_) | None => number,
    }
}

/// A process of the host has no port of its own behind the published one: the two must be the same.
fn finish(draft: Draft, name: String, context: Context, log: &mut Log<'_>) -> Option<Port> {
    let Draft { target: written, published, protocol, mark, path, .. } = draft;
    let target = match (context.is_exec, written, published) {
        (false, target, _) => target,
        (true, _, None) => None,
        (true, Some(target), Some(published)) if target != published => {
            let what =
                format!("a process of the host listens on the published port {published} itself, not on {target}");
            log.error(mark, &path, what, format!("write \"{published}:{published}\", and listen on $PORT"));
            return None;
        }
        (true, _, Some(published)) => Some(published),
    };
    Some(Port { spec: PortSpec { name, target, published, protocol }, written, mark, path })
}
