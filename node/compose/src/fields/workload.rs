//! What a service runs: `image`, `command`, `entrypoint`, `working_dir`, and how it is stopped.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::model::{Exec, Image, StopPolicy, Workload};
use dunlin_gossip::time::Duration;

use super::amounts::duration;
use crate::problem::Log;
use crate::schema::Fields;
use crate::tree::Kind;
use crate::value::{Member, Value, quoted};
use crate::words::{self, WordsError};

const IMAGE: &str = "write the reference of an image, as in nginx:1.29";
const COMMAND: &str = "write a command as one text, or as a list of texts";
const SHELL: &str = "put it in quotes, or write the list [sh, -c, \"...\"] to have a shell run it";
const SIGNAL: &str = "write a signal's name, as in SIGTERM";
/// Docker's own default.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// Linux's signals by number (x86 and ARM), from 1.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// What runs a replica. `explained` is true if the service has a key that stands for an image and was refused.
pub(crate) fn workload(
    service: &Member<'_>,
    fields: &Fields<'_>,
    explained: bool,
    log: &mut Log<'_>,
) -> Option<Workload> {
    let entrypoint = fields.get("entrypoint").map(|v| argv(v, log));
    let command = fields.get("command").map(|v| argv(v, log));
    let working_dir = fields.get("working_dir").map(|v| directory(v, log));
    let image = fields.get("image");
    let name = image.map(|v| reference(v, log));
    let entrypoint = entrypoint.map_or(Some(None), |found| found.map(Some))?;
    let command = command.map_or(Some(None), |found| found.map(Some))?;
    let working_dir = working_dir.map_or(Some(None), |found| found.map(Some))?;
    if let Some(name) = name {
        return Some(Workload::Docker(Image { image: name?, entrypoint, command, working_dir }));
    }
    let argv: Vec<String> = entrypoint.into_iter().flatten().chain(command.into_iter().flatten()).collect();
    match argv.first() {
        Some(program) if !program.is_empty() => Some(Workload::Exec(Exec { argv, working_dir })),
        Some(_) => {
            let at = fields.get("entrypoint").or_else(|| fields.get("command")).unwrap_or(&service.value);
            at.error(log, "the name of the program is empty", "begin with the program to run");
            None
        }
        None => {
            if !explained {
                let what = "the service has neither an image nor a command";
                let remedy = "add 'image' to run a container, or 'command' to run a process of the host";
                log.error(service.mark, &service.value.path, what, remedy);
            }
            None
        }
    }
}

fn reference(value: &Value<'_>, log: &mut Log<'_>) -> Option<String> {
    let text = value.text(log, IMAGE)?;
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        value.error(log, format!("{} is no reference of an image", quoted(text)), IMAGE);
        return None;
    }
    Some(text.into())
}

/// A command as a list: a text is split as Compose does it, and no shell is involved.
fn argv(value: &Value<'_>, log: &mut Log<'_>) -> Option<Vec<String>> {
    match &value.node.kind {
        Kind::Map(_) => {
            value.wrong(log, "a text or a list", COMMAND);
            None
        }
        Kind::List(items) => {
            let words: Vec<Option<&str>> = value.items(items).iter().map(|item| item.text(log, COMMAND)).collect();
            words.into_iter().map(|word| word.map(ToString::to_string)).collect()
        }
        Kind::Scalar(_) => match words::split(value.text(log, COMMAND)?) {
            Ok(words) => Some(words),
            Err(WordsError::Unclosed(quote)) => {
                value.error(log, format!("a {quote} is never closed"), "close it");
                None
            }
            Err(WordsError::LoneBackslash) => {
                value.error(log, "the command ends in a lone backslash", "remove it, or write two");
                None
            }
            Err(WordsError::Shell(sign)) => {
                value.error(
                    log,
                    format!("'{sign}' means something only to a shell, and none runs this command"),
                    SHELL,
                );
                None
            }
        },
    }
}

fn directory(value: &Value<'_>, log: &mut Log<'_>) -> Option<String> {
    let text = value.text(log, "write an absolute path")?;
    if !text.starts_with('/') {
        let what = format!("{} is relative, and to nothing that all nodes share", quoted(text));
        value.error(log, what, "write an absolute path");
        return None;
    }
    Some(text.into())
}

/// `stop_signal` and `stop_grace_period`.
pub(crate) fn stop(fields: &Fields<'_>, log: &mut Log<'_>) -> StopPolicy {
    let signal = fields.get("stop_signal").and_then(|v| signal(v, log)).unwrap_or_else(|| "SIGTERM".into());
    let grace = fields.get("stop_grace_period").and_then(|v| duration(v, log)).unwrap_or(DEFAULT_GRACE);
    StopPolicy { signal, grace }
}

/// A signal's full name, from any form that Docker takes.
fn signal(value: &Value<'_>, log: &mut Log<'_>) -> Option<String> {
    let text = value.scalar(log, "a signal", SIGNAL)?;
    let upper = text.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    let by_number = || text.parse::<usize>().ok().and_then(|n| n.checked_sub(1)).and_then(|i| SIGNALS.get(i)).copied();
    let found = SIGNALS.iter().copied().find(|name| *name == short).or_else(by_number);
    if found.is_none() {
        let what = if short.starts_with("RTM") {
            format!("real-time signals ({text}) are not supported yet")
        } else {
            format!("there is no signal {}", quoted(text))
        };
        value.error(log, what, SIGNAL);
    }
    found.map(|name| format!("SIG{name}"))
}
