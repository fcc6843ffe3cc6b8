//! `healthcheck` of Compose and `x-dunlin.healthcheck`: one probe and its times.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use dunlin_gossip::model::{HealthCheck, Probe};
use dunlin_gossip::time::Duration;

use super::amounts::{duration, positive_duration};
use super::ports::Port;
use crate::problem::Log;
use crate::schema::{self, Fields};
use crate::tree::Kind;
use crate::value::{Value, quoted};

const TEST: &str = "write a command, [CMD, program, argument...], [CMD-SHELL, command] or [NONE]";
/// Largest number of failures in a row that can be asked for.
const MAX_RETRIES: u32 = 1_000;

/// Docker's own defaults.
const COMPOSE_DEFAULTS: Times = Times {
    interval: Duration::from_secs(30),
    timeout: Duration::from_secs(30),
    retries: 3,
    start_period: Duration::ZERO,
};
/// A connection costs little, so it is tried often: what is dead leaves its names within seconds.
const DUNLIN_DEFAULTS: Times = Times {
    interval: Duration::from_secs(2),
    timeout: Duration::from_secs(2),
    retries: 3,
    start_period: Duration::ZERO,
};

#[derive(Clone, Copy)]
struct Times {
    interval: Duration,
    timeout: Duration,
    retries: u32,
    start_period: Duration,
}

impl Times {
    fn read(self, fields: &Fields<'_>, log: &mut Log<'_>) -> Self {
        let mut times = self;
        if let Some(found) = fields.get("interval").and_then(|v| positive_duration(v, log)) {
            times.interval = found;
        }
        if let Some(found) = fields.get("timeout").and_then(|v| positive_duration(v, log)) {
            times.timeout = found;
        }
        if let Some(found) = fields.get("retries").and_then(|v| v.number(log, 1, MAX_RETRIES)) {
            times.retries = found;
        }
        if let Some(found) = fields.get("start_period").and_then(|v| duration(v, log)) {
            times.start_period = found;
        }
        times
    }

    fn check(self, probe: Probe) -> HealthCheck {
        let Self { interval, timeout, retries, start_period } = self;
        HealthCheck { probe, interval, timeout, retries, start_period }
    }
}

/// `healthcheck`: a command, or none.
pub(crate) fn compose(value: &Value<'_>, log: &mut Log<'_>) -> Option<HealthCheck> {
    let fields = Fields::read(&schema::HEALTHCHECK, value, log)?;
    let times = COMPOSE_DEFAULTS.read(&fields, log);
    let disabled = fields.get("disable").and_then(|v| v.boolean(log)).unwrap_or(false);
    let test = fields.get("test");
    match (disabled, test) {
        (true, None) => None,
        (true, Some(test)) => {
            let probe = command(test, log);
            if probe.is_some() {
                test.error(log, "the check is disabled, and has a test", "keep one of 'disable' and 'test'");
            }
            None
        }
        (false, Some(test)) => command(test, log).map(|argv| times.check(Probe::Command(argv))),
        (false, None) => {
            if fields.get("disable").is_none() {
                value.error(log, "a health check without 'test'", "add 'test', or a check in x-dunlin.healthcheck");
            }
            None
        }
    }
}

/// The program of a test; none for `[NONE]` and for what is wrong.
fn command(test: &Value<'_>, log: &mut Log<'_>) -> Option<Vec<String>> {
    let shell = |text: &str| vec!["/bin/sh".into(), "-c".into(), text.to_string()];
    let items = match &test.node.kind {
        Kind::Scalar(_) => {
            let text = test.text(log, TEST)?;
            if text.trim().is_empty() {
                test.wrong(log, "a command", TEST);
                return None;
            }
            return Some(shell(text));
        }
        Kind::List(items) => test.items(items),
        Kind::Map(_) => {
            test.wrong(log, "a text or a list", TEST);
            return None;
        }
    };
    let words: Vec<Option<&str>> = items.iter().map(|item| item.text(log, TEST)).collect();
    let words: Vec<&str> = words.into_iter().collect::<Option<_>>()?;
    match words.as_slice() {
        ["NONE"] => None,
        ["CMD", program, ..] if !program.is_empty() => Some(words.iter().skip(1).map(|w| (*w).to_string()).collect()),
        ["CMD-SHELL", line] => Some(shell(line)),
        ["CMD-SHELL", _, _, ..] => {
            test.error(log, "CMD-SHELL takes one command", "write the command as one text, or use CMD");
            None
        }
        ["CMD" | "CMD-SHELL", ..] => {
            test.error(log, "the command of the test is missing", TEST);
            None
        }
        ["NONE", ..] => {
            test.error(log, "NONE takes nothing", "write [NONE]");
            None
        }
        [first, ..] => {
            let what = format!("a test begins with CMD, CMD-SHELL or NONE, not with {}", quoted(first));
            test.error(log, what, TEST);
            None
        }
        [] => {
            test.error(log, "the test is empty", TEST);
            None
        }
    }
}

/// `x-dunlin.healthcheck`: a request or a connection to one of the service's ports.
pub(crate) fn dunlin(value: &Value<'_>, ports: &[Port], log: &mut Log<'_>) -> Option<HealthCheck> {
    let fields = Fields::read(&schema::DUNLIN_HEALTH, value, log)?;
    let times = DUNLIN_DEFAULTS.read(&fields, log);
    // `tcp:` with nothing behind it is a whole check, so null must not count as absent here.
    let tcp = tcp_of(value);
    let probe = match (fields.get("http"), tcp) {
        (Some(http), None) => self::http(http, ports, log),
        (None, Some(tcp)) => self::tcp(&tcp, ports, log),
        (Some(_), Some(tcp)) => {
            tcp.error(log, "'http' and 'tcp' cannot both be the check", "keep one of them");
            None
        }
        (None, None) => {
            value.error(log, "a health check without 'http' or 'tcp'", "add 'http: {path: /}' or 'tcp: {}'");
            None
        }
    };
    probe.map(|probe| times.check(probe))
}

fn tcp_of<'t>(value: &Value<'t>) -> Option<Value<'t>> {
    let Kind::Map(entries) = &value.node.kind else { return None };
    let entry = entries.iter().find(|e| e.key == "tcp")?;
    Some(Value::new(format!("{}.tcp", value.path), &entry.value))
}

/// True if the service asks for an HTTP check; ports are named by it before it is read.
pub(crate) fn asks_for_http(value: &Value<'_>) -> bool {
    matches!(&value.node.kind, Kind::Map(entries) if entries.iter().any(|e| e.key == "http"))
}

fn http(value: &Value<'_>, ports: &[Port], log: &mut Log<'_>) -> Option<Probe> {
    let fields = Fields::read(&schema::HTTP, value, log)?;
    let port = port(value, fields.get("port"), ports, log);
    let remedy = "write the path of a request, as in /health";
    let path = match fields.get("path") {
        None => {
            value.error(log, "an HTTP check without 'path'", remedy);
            None
        }
        Some(field) => field.text(log, remedy).and_then(|path| {
            let plain = path.bytes().all(|b| b.is_ascii_graphic());
            if !path.starts_with('/') || !plain {
                let what = format!("{} is no path: it begins with '/' and has no spaces", quoted(path));
                field.error(log, what, remedy);
                return None;
            }
            Some(path.to_string())
        }),
    };
    Some(Probe::Http { port: port?, path: path? })
}

fn tcp(value: &Value<'_>, ports: &[Port], log: &mut Log<'_>) -> Option<Probe> {
    if value.is_null() {
        return port(value, None, ports, log).map(|port| Probe::Tcp { port });
    }
    let fields = Fields::read(&schema::TCP, value, log)?;
    port(value, fields.get("port"), ports, log).map(|port| Probe::Tcp { port })
}

/// The name of the port to probe: by name, by number as written, or the only one there is.
fn port(check: &Value<'_>, wanted: Option<&Value<'_>>, ports: &[Port], log: &mut Log<'_>) -> Option<String> {
    let tcp: Vec<&Port> = ports.iter().filter(|p| p.spec.protocol.as_str() == "tcp").collect();
    let names: Vec<&str> = tcp.iter().map(|p| p.spec.name.as_str()).collect();
    if tcp.is_empty() {
        check.error(log, "the check needs a port, and the service has none", "add the port to 'ports'");
        return None;
    }
    let remedy = format!("name one of: {}", names.join(", "));
    let Some(wanted) = wanted else {
        if let [only] = tcp.as_slice() {
            return Some(only.spec.name.clone());
        }
        check.error(log, "the service has several ports, and the check names none", format!("add 'port', {remedy}"));
        return None;
    };
    let text = wanted.scalar(log, "the name of a port", &remedy)?;
    let number: Option<u16> = text.parse().ok();
    let found = tcp
        .iter()
        .find(|p| p.spec.name == text)
        .or_else(|| tcp.iter().find(|p| number.is_some() && (p.written == number || p.spec.published == number)));
    if found.is_none() {
        wanted.error(log, format!("the service has no port {}", quoted(text)), remedy);
    }
    found.map(|p| p.spec.name.clone())
}
