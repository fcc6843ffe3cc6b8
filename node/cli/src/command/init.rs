//! `dunlin init`: a new cluster, and the words that bring the next node in.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use dunlin_agent::{host, settings, setup};
use serde::Serialize;

use super::Done;
use super::agent::refused;
use crate::args::Init;
use crate::failure::Failure;
use crate::render;

/// The document of `--json`. Its token is a secret; it is shown this once because the operator asked for it.
#[derive(Serialize)]
struct InitDocument {
    cluster: String,
    node: String,
    token: String,
    join: String,
}

pub(super) fn run(args: &Init, data_dir: &Path) -> Done {
    let name = match &args.name {
        Some(text) => {
            host::named(text).map_err(|e| Failure::usage(format!("--name {text}: {e}"), "dunlin init --name oslo"))?
        }
        None => host::name(),
    };
    let hours = Duration::from_secs(u64::from(args.token_hours) * 3_600);
    let created = setup::create(data_dir, name, args.advertise, hours).map_err(|e| refused(&e))?;
    let seed = args
        .advertise
        .map_or_else(|| format!("{}:{}", host::own_address(None), settings::PORT), |address| address.to_string());
    let token = created.token.to_text();
    let join = format!("DUNLIN_TOKEN={} dunlin agent --join {seed}", token.as_str());
    if args.json {
        render::json(&InitDocument {
            cluster: created.cluster.to_string(),
            node: created.node.to_string(),
            token: token.to_string(),
            join,
        })?;
    } else {
        render::print_line(&format!("made cluster {}; this is its first node, {}", created.cluster, created.node))?;
        render::print_line(&format!("start it:\n  {}", agent_command(data_dir)))?;
        render::print_line(&format!("on each new host (good for {} h, keep it secret):\n  {join}", args.token_hours))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// How the node just made is started: with its directory if that is not where an agent looks anyway.
fn agent_command(data_dir: &Path) -> String {
    if data_dir == super::default_data_dir() {
        return "dunlin agent".to_owned();
    }
    format!("dunlin agent --data-dir {}", data_dir.display())
}
