//! `dunlin node` and `dunlin ca`: what operators do about nodes, and about whom to trust.

use std::process::ExitCode;
use std::time::Duration;

use dunlin_agent::api::types::{Aftermath, OrderWord, RemoveNodeBody, RemovedNode, Rotation};

use super::{Done, order, write};
use crate::args::{Durability, Node};
use crate::client::Client;
use crate::failure::Failure;
use crate::render;
use crate::render::table::Table;

/// For a change of authority, and the end of every token.
const TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn run(client: &Client, args: &Node) -> Done {
    match args {
        Node::Drain { node, deadline, wait, options } => {
            order::drain(client, node, deadline.as_deref(), *wait, options)
        }
        Node::Undrain { node, options } => order::plain(client, node, OrderWord::Undrain, options),
        Node::Cordon { node, options } => order::plain(client, node, OrderWord::Cordon, options),
        Node::Uncordon { node, options } => order::plain(client, node, OrderWord::Uncordon, options),
        Node::Label(args) => order::lists(client, OrderWord::Label, args),
        Node::Taint(args) => order::lists(client, OrderWord::Taint, args),
        Node::Rm { node, compromised, durability, json } => rm(client, node, *compromised, durability, *json),
    }
}

fn rm(client: &Client, node: &str, compromised: bool, durability: &Durability, json: bool) -> Done {
    let body = RemoveNodeBody {
        node: node.to_owned(),
        compromised,
        ack: write::ack(durability)?,
        timeout_ms: write::timeout_ms(durability),
    };
    let removed: RemovedNode = client.post("nodes/remove", &body, write::timeout(durability))?;
    if json {
        render::json(&removed)?;
        return Ok(if write::is_kept(&removed.written) { ExitCode::SUCCESS } else { ExitCode::from(3) });
    }
    let done =
        write::report(&removed.written, &format!("node {} ({}) removed for good", removed.name, removed.id), false)?;
    if let Some(aftermath) = &removed.compromised {
        tell(&removed.name, aftermath)?;
    }
    Ok(done)
}

/// `dunlin ca rotate`
pub(super) fn rotate(client: &Client, json: bool) -> Done {
    let rotation: Rotation = client.post("ca/rotate", &serde_json::json!({}), TIMEOUT)?;
    if json {
        render::json(&rotation)?;
    } else {
        moved(&rotation, &rotation.tokens_revoked)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn moved(rotation: &Rotation, tokens: &[String]) -> Result<(), Failure> {
    let short = |fingerprint: &str| fingerprint.get(..16).unwrap_or(fingerprint).to_owned();
    let (from, to) = (short(&rotation.from), short(&rotation.to));
    render::print_line(&format!("authority {from} is replaced by {to}; `dunlin events` tells how nodes move"))?;
    match tokens {
        [] => render::print_line("there was no token"),
        ids => render::print_line(&format!(
            "worthless from now on: {}; make new tokens with: dunlin token create",
            ids.join(", ")
        )),
    }
}

fn tell(name: &str, aftermath: &Aftermath) -> Result<(), Failure> {
    moved(&aftermath.authority, &aftermath.tokens_revoked)?;
    if aftermath.admitted.is_empty() {
        return render::print_line(&format!("{name} had let nobody in"));
    }
    render::print_line(&format!("{name} had let these in; remove those that are not yours with: dunlin node rm ID"))?;
    let mut table = Table::new(&["ID", "NAME", "STATE", "TOKEN", "ADMITTED"]);
    for node in &aftermath.admitted {
        let state = node.state.clone().unwrap_or_else(|| "removed".into());
        table.row(vec![node.id.clone(), node.name.clone(), state, node.token.clone(), render::age(node.at_ms)]);
    }
    table.print("")
}
