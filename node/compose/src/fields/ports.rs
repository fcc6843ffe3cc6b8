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

const FORMS: &str = "write \"TARGET\", \"PUBLISHED:TARGET\", \"FIRST-LAST:TARGET\" or \"PUBLISHED:TARGET/udp\"";
/// Ports that one line can stand for.
const MAX_SPAN: u16 = 256;
/// A name becomes a DNS label behind an underscore.
const MAX_PORT_NAME: usize = 62;

/// A port, and what the author wrote of it.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub(crate) spec: PortSpec,
    /// The target as written, also where the specification does not carry it.
    pub(crate) written: Option<u16>,
    /// Of which numbers the node chooses.
    pub(crate) range: Option<Span>,
    /// Open to its own host only.
    pub(crate) is_local: bool,
    pub(crate) mark: Mark,
    pub(crate) path: String,
}

/// Numbers of ports from one to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub(crate) first: u16,
    pub(crate) last: u16,
}

impl Span {
    const fn len(self) -> u32 {
        self.last as u32 - self.first as u32 + 1
    }

    /// The only number.
    fn single(self) -> Option<u16> {
        (self.first == self.last).then_some(self.first)
    }
}

/// One port, before it has a name.
struct Draft {
    name: Option<String>,
    target: Option<u16>,
    published: Option<u16>,
    range: Option<Span>,
    is_local: bool,
    protocol: Protocol,
    mark: Mark,
    path: String,
}

/// One item of the list: its numbers as they were written.
struct Item {
    name: Option<String>,
    target: Option<Span>,
    published: Option<Span>,
    is_local: bool,
    protocol: Protocol,
}

impl Item {
    /// The ports that an item stands for: each of a range, or one that its node takes from a range.
    fn drafts(self, value: &Value<'_>, log: &mut Log<'_>) -> Vec<Draft> {
        let Self { name, target, published, is_local, protocol } = self;
        let draft = |target, published, range| {
            let (mark, path) = (value.mark(), value.path.clone());
            Draft { name: name.clone(), target, published, range, is_local, protocol, mark, path }
        };
        let inner = target.map_or(1, Span::len);
        let (single, outer) = (published.and_then(Span::single), published.map_or(inner, Span::len));
        if inner == 1 {
            return Vec::from([draft(target.map(|span| span.first), single, published.filter(|_| single.is_none()))]);
        }
        let fault = match (inner == outer, inner > u32::from(MAX_SPAN), name.is_some()) {
            (false, ..) => Some(format!("{inner} ports cannot be published as {outer}")),
            (_, true, _) => Some(format!("{inner} ports on one line; there can be {MAX_SPAN}")),
            (_, _, true) => Some(format!("one name for {inner} ports")),
            (true, false, false) => None,
        };
        if let Some(what) = fault {
            value.error(log, what, "write ranges of the same length, or each port on its own line");
            return Vec::new();
        }
        let numbers = |span: Span| span.first..=span.last;
        let outer = published.map(|span| numbers(span).collect::<Vec<u16>>()).unwrap_or_default();
        let pairs = target.into_iter().flat_map(numbers).enumerate();
        pairs.map(|(at, inner)| draft(Some(inner), outer.get(at).copied(), None)).collect()
    }
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
    let mut drafts: Vec<Draft> = Vec::new();
    for value in &items {
        let item = match &value.node.kind {
            Kind::Map(_) => long(value, context, log),
            Kind::Scalar(_) | Kind::List(_) => short(value, log),
        };
        drafts.extend(item.map(|item| item.drafts(value, log)).unwrap_or_default());
    }
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

/// A number, or a range of them.
pub(super) fn span(text: &str, what: &str, value: &Value<'_>, log: &mut Log<'_>) -> Option<Span> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|n| *n > 0 && digits)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let found = number(first).zip(number(last)).filter(|(first, last)| first <= last);
    if found.is_none() {
        let remedy = match what {
            "published port" => "write a number from 1 to 65535, or leave it out to let the node choose",
            "range of ports" => "write FIRST-LAST, as in 8000-8010",
            _ => "write a number from 1 to 65535",
        };
        value.error(log, format!("{} is no {what}", quoted(text)), remedy);
    }
    found.map(|(first, last)| Span { first, last })
}

/// True if an address of the host means this host only, false if it means all; none if it can be neither everywhere.
fn host_ip(text: &str, value: &Value<'_>, log: &mut Log<'_>) -> Option<bool> {
    match text.trim_start_matches('[').trim_end_matches(']') {
        "" | "0.0.0.0" | "::" => Some(false),
        "127.0.0.1" => Some(true),
        other => {
            let what = format!("an address of one host ({other}) cannot be chosen: a replica may run on any node");
            value.error(log, what, "leave it out, or write 127.0.0.1 for a port that is open to its own host only");
            None
        }
    }
}

fn short(value: &Value<'_>, log: &mut Log<'_>) -> Option<Item> {
    let text = value.scalar(log, "a port", FORMS)?;
    let (ports, proto) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol(proto, value, log);
    let (published, target) = match ports.rsplit_once(':') {
        None => (None, ports),
        Some((published, target)) => (Some(published), target),
    };
    let (ip, published) = match published.and_then(|p| p.rsplit_once(':')) {
        Some((ip, published)) => (ip, Some(published).filter(|p| !p.is_empty())),
        None => ("", published),
    };
    let is_local = host_ip(ip, value, log);
    let target = span(target, "port", value, log);
    let published = published.map(|p| span(p, "published port", value, log));
    let published = published.map_or(Some(None), |p| p.map(Some));
    Some(Item { name: None, target: Some(target?), published: published?, is_local: is_local?, protocol: protocol? })
}

fn long(value: &Value<'_>, context: Context, log: &mut Log<'_>) -> Option<Item> {
    let fields = Fields::read(&schema::PORT, value, log)?;
    let mut broken = false;
    let mut port = |key: &str, what: &str, log: &mut Log<'_>| {
        let field = fields.get(key)?;
        let text = field.scalar(log, "a port", "write a number from 1 to 65535");
        let found = text.and_then(|text| span(text, what, field, log));
        broken |= found.is_none();
        found
    };
    let target = port("target", "port", log);
    let published = port("published", "published port", log);
    let mut item = Item { name: None, target, published, is_local: false, protocol: Protocol::Tcp };
    if let (Some(field), Some(Span { .. })) = (fields.get("target"), item.target.filter(|span| span.single().is_none()))
    {
        field.error(log, "a range of targets", "list each port on its own line, or use the short form");
        broken = true;
    }
    if let Some(field) = fields.get("host_ip") {
        let found = field.text(log, "write 127.0.0.1, or leave it out").and_then(|text| host_ip(text, field, log));
        broken |= found.is_none();
        item.is_local = found.unwrap_or(false);
    }
    if let Some(field) = fields.get("protocol") {
        let found = field.text(log, "write tcp or udp").and_then(|text| protocol(text, field, log));
        broken |= found.is_none();
        item.protocol = found.unwrap_or(Protocol::Tcp);
    }
    if let Some(field) = fields.get("name") {
        item.name = field.text(log, "write a name").and_then(|text| name(text, field, log));
        broken |= item.name.is_none();
    }
    if let Some(field) = fields.get("mode") {
        mode(field, log);
    }
    if item.target.is_none() && !broken && !(context.is_exec && item.name.is_some()) {
        let remedy =
            if context.is_exec { "add 'target', or 'name' for a port that PORT tells" } else { "add 'target'" };
        value.error(log, "a port without 'target'", remedy);
        broken = true;
    }
    (!broken).then_some(item)
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
    let Draft { target: written, published, range, is_local, protocol, mark, path, .. } = draft;
    let fault = match (context.is_exec, written, published) {
        (false, ..) => None,
        _ if is_local => Some((
            "a process of the host chooses by itself on which addresses it listens".to_string(),
            "leave the address out, and let the process listen on 127.0.0.1".to_string(),
        )),
        (true, Some(target), _) if range.is_some() => Some((
            format!("a process of the host listens on the chosen port itself, not on {target}"),
            "write x-dunlin.ports with the range, leave the published one out, and listen on $PORT".to_string(),
        )),
        (true, Some(target), Some(published)) if target != published => Some((
            format!("a process of the host listens on the published port {published} itself, not on {target}"),
            format!("write \"{published}:{published}\", and listen on $PORT"),
        )),
        (true, ..) => None,
    };
    if let Some((what, remedy)) = fault {
        log.error(mark, &path, what, remedy);
        return None;
    }
    let target = if context.is_exec { published } else { written };
    Some(Port { spec: PortSpec { name, target, published, protocol }, written, range, is_local, mark, path })
}

/// `x-dunlin.ports`: from where the nodes choose all numbers that the file leaves to them.
pub(super) fn service_range(value: &Value<'_>, ports: &mut [Port], log: &mut Log<'_>) {
    let remedy = "write FIRST-LAST, as in 8000-8010";
    let text = value.text(log, remedy);
    let Some(range) = text.and_then(|text| span(text, "range of ports", value, log)) else { return };
    let mut is_used = false;
    for port in ports.iter_mut().filter(|port| port.spec.published.is_none() && port.range.is_none()) {
        (port.range, is_used) = (Some(range), true);
    }
    if !is_used {
        value.error(log, "the service leaves no port to the node", "remove it, or list a port without a published one");
    }
}
