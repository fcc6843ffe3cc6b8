//! Writes that need little: `scale`, `rm`, and what all writes share.

use std::process::ExitCode;
use std::time::Duration;

use dunlin_agent::api::types::{DropBody, RemoveBody, ScaleBody, WrittenBody};
use dunlin_core::face::Ack;

use super::Done;
use crate::args::{Durability, Rm, Scale};
use crate::client::Client;
use crate::failure::Failure;
use crate::render;

/// `--ack`, parsed.
pub(super) fn ack(durability: &Durability) -> Result<Ack, Failure> {
    match durability.ack.as_deref() {
        None => Ok(Ack::Default),
        Some("all") => Ok(Ack::All),
        Some(text) => text
            .parse()
            .ok()
            .filter(|k| *k > 0)
            .map(Ack::Nodes)
            .ok_or_else(|| Failure::usage(format!("--ack {text}: not a number of nodes"), "--ack 2, or --ack all")),
    }
}

/// `--timeout`, as a duration.
pub(super) fn timeout(durability: &Durability) -> Duration {
    Duration::from_secs(durability.timeout.into())
}

/// Milliseconds for a body.
pub(super) fn timeout_ms(durability: &Durability) -> u64 {
    u64::from(durability.timeout) * 1_000
}

/// Prints what is known of a write; exit code 3 if it is on fewer disks than asked for.
pub(super) fn report(written: &WrittenBody, what: &str, json: bool) -> Done {
    if json {
        render::json(written)?;
    } else {
        for warning in &written.warnings {
            eprintln!("warning: {warning}");
        }
        let have = written.durable_on.len();
        render::print_line(&format!(
            "{what}; durable on {have} of {}: {}",
            written.wanted.max(u32::try_from(have).unwrap_or(u32::MAX)),
            written.durable_on.join(", ")
        ))?;
    }
    Ok(if is_kept(written) { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

/// True if as many nodes keep it as were asked for.
pub(super) fn is_kept(written: &WrittenBody) -> bool {
    written.durable_on.len() >= usize::try_from(written.wanted).unwrap_or(usize::MAX)
}

pub(super) fn scale(client: &Client, args: &Scale) -> Done {
    let parsed = args.what.split_once('=').and_then(|(service, n)| Some((service, n.parse().ok()?)));
    let (service, replicas) = parsed
        .ok_or_else(|| Failure::usage(format!("{}: expected SERVICE=N", args.what), "dunlin scale shop/web=5"))?;
    let body = ScaleBody {
        service: service.to_owned(),
        replicas,
        ack: ack(&args.durability)?,
        timeout_ms: timeout_ms(&args.durability),
    };
    let written: WrittenBody = client.post("scale", &body, timeout(&args.durability))?;
    report(&written, &format!("{service} scaled to {replicas}"), args.json)
}

pub(super) fn rm(client: &Client, args: &Rm) -> Done {
    if args.stack.contains('/') {
        let (service, ack) = (args.stack.clone(), ack(&args.durability)?);
        let body = DropBody { service, ack, timeout_ms: timeout_ms(&args.durability) };
        let written: WrittenBody = client.post("services/remove", &body, timeout(&args.durability))?;
        return report(&written, &format!("{} removed", args.stack), args.json);
    }
    let body =
        RemoveBody { stack: args.stack.clone(), ack: ack(&args.durability)?, timeout_ms: timeout_ms(&args.durability) };
    let written: WrittenBody = client.post("remove", &body, timeout(&args.durability))?;
    report(&written, &format!("stack {} removed", args.stack), args.json)
}
