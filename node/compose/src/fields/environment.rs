//! `environment`: a mapping or a list, with values taken from the caller's variables where none is given.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};

use dunlin_gossip::model::PortSpec;

use super::ports::Port;
use crate::interpolate::Variables;
use crate::problem::{Log, Mark};
use crate::tree::Kind;
use crate::value::{Value, quoted};

const FORMS: &str = "write 'NAME: value' lines, or '- NAME=value' items";
/// Prefix of the variables that a node sets itself.
const RESERVED: &str = "DUNLIN_";

/// What the node tells a process about its ports: each variable with the port, if that is fixed.
pub(crate) fn told(ports: &[Port]) -> BTreeMap<String, Option<u16>> {
    let first = ports.first().map(|port| ("PORT".to_string(), port.spec.published));
    first.into_iter().chain(ports.iter().map(|p| (PortSpec::variable(&p.spec.name), p.spec.published))).collect()
}

/// The variables that a service sets. What the node tells it (`told`) may be said as well, but not otherwise.
pub(crate) fn environment(
    value: &Value<'_>,
    given: Variables<'_>,
    told: &BTreeMap<String, Option<u16>>,
    log: &mut Log<'_>,
) -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let mut seen: BTreeMap<String, Mark> = BTreeMap::new();
    let mut add = |name: &str, text: Option<&str>, at: &Value<'_>, mark: Mark, log: &mut Log<'_>| {
        if !is_good_name(name, at, mark, log) {
            return;
        }
        if let Some(first) = seen.insert(name.into(), mark) {
            let what = format!("the variable {name} is given twice, first at {first}");
            log.error(mark, &at.path, what, "keep one of the two");
        }
        if let Some(text) = text.map(ToString::to_string).or_else(|| given(name)) {
            if let Some(port) = told.get(name)
                && port.is_none_or(|port| text != port.to_string())
            {
                contradicts(name, *port, at, mark, log);
            }
            found.insert(name.into(), text);
        }
    };
    match &value.node.kind {
        Kind::Map(_) => {
            for member in value.map(log, FORMS).unwrap_or_default() {
                let at = &member.value;
                if at.is_null() {
                    add(member.name, None, at, member.mark, log);
                } else if let Some(text) = at.scalar(log, "a text or number", FORMS) {
                    add(member.name, Some(text), at, member.mark, log);
                }
            }
        }
        Kind::List(items) => {
            for item in value.items(items) {
                let Some(text) = item.text(log, FORMS) else { continue };
                match text.split_once('=') {
                    Some((name, text)) => add(name, Some(text), &item, item.mark(), log),
                    None => add(text, None, &item, item.mark(), log),
                }
            }
        }
        Kind::Scalar(_) => value.wrong(log, "a mapping or a list", FORMS),
    }
    found
}

/// A process that listens elsewhere than where its node tells others to look for it would be reachable by nobody.
fn contradicts(name: &str, port: Option<u16>, at: &Value<'_>, mark: Mark, log: &mut Log<'_>) {
    let (what, remedy) = match port {
        Some(port) => (
            format!("{name} tells a process its published port, which is {port}"),
            format!("remove it, or publish the port that the process listens on in place of {port}"),
        ),
        None => (
            format!("{name} tells a process the port that its node chose"),
            "remove it and listen on that port, or publish a fixed one as in \"8080:8080\"".to_string(),
        ),
    };
    log.error(mark, &at.path, what, remedy);
}

fn is_good_name(name: &str, at: &Value<'_>, mark: Mark, log: &mut Log<'_>) -> bool {
    if name.is_empty() || name.contains(['=', '\0']) || name.chars().any(char::is_whitespace) {
        log.error(mark, &at.path, format!("{} cannot name a variable", quoted(name)), FORMS);
        return false;
    }
    if name.starts_with(RESERVED) {
        let what = format!("{name} is set by the node: names that begin with {RESERVED} are reserved");
        log.error(mark, &at.path, what, "choose another name");
        return false;
    }
    true
}
