//! What operators do about trust: removing a node for good, changing the authority.
//!
//! The order matters where a node is compromised: it is out before anything new is made that it must not see.

use std::sync::Arc;

use dunlin_core::face::{Problem, ProblemKind, Request};
use dunlin_core::query::trust::{AdmittedRow, token_text};
use dunlin_gossip::model::{Asker, TokenId};
use hyper::StatusCode;

use super::Context;
use super::call::{MeantNode, Rotated};
use super::routes::{Answer, json, keep, problem, within};
use super::types::{Admitted, Aftermath, RemoveNodeBody, RemovedNode, Rotation};

/// Removes a node.
pub(super) async fn remove_node(context: &Arc<Context>, by: &Asker, body: RemoveNodeBody) -> Result<Answer, Problem> {
    let RemoveNodeBody { node, compromised, ack, timeout_ms } = body;
    let meant = context.door.node(node).await?;
    let (id, name) = (meant.known.node, meant.known.name.clone());
    if id == context.me {
        let text = format!("{name} is the node that you ask, and it cannot remove itself; ask another node");
        return Err(problem(ProblemKind::BadRequest, text));
    }
    if meant.known.removed && !compromised {
        let text = format!("{name} ({id}) was removed already; with --compromised, what follows from it is done again");
        return Err(problem(ProblemKind::BadRequest, text));
    }
    let request = Request::RemoveNode { node: id, ack, timeout: within(timeout_ms) };
    let written = keep(context, by, request).await?;
    let compromised = if compromised { Some(aftermath(context, by, meant).await?) } else { None };
    json(StatusCode::OK, &RemovedNode { id: id.to_string(), name, written, compromised })
}

async fn aftermath(context: &Context, by: &Asker, meant: MeantNode) -> Result<Aftermath, Problem> {
    // Its own first: with them somebody else could come in while the authority changes.
    let mut tokens_revoked = revoke(context, by, meant.tokens).await?;
    let authority = new_authority(context, by).await?;
    tokens_revoked.extend(authority.tokens_revoked.iter().cloned());
    let admitted = meant.admitted.into_iter().map(admitted).collect();
    Ok(Aftermath { admitted, tokens_revoked, authority })
}

/// Makes a new authority.
pub(super) async fn rotate(context: &Arc<Context>, by: &Asker) -> Result<Answer, Problem> {
    json(StatusCode::OK, &new_authority(context, by).await?)
}

/// Tokens name the authority by which a newcomer knows the cluster, so that those of the old one are good for nothing.
async fn new_authority(context: &Context, by: &Asker) -> Result<Rotation, Problem> {
    let Rotated { from, to, tokens } = context.door.rotate().await?;
    Ok(Rotation { from, to, tokens_revoked: revoke(context, by, tokens).await? })
}

async fn revoke(context: &Context, by: &Asker, tokens: Vec<TokenId>) -> Result<Vec<String>, Problem> {
    let mut revoked = Vec::new();
    for token in tokens {
        match keep(context, by, Request::RemoveToken(token)).await {
            Ok(_) => revoked.push(token_text(token)),
            // Somebody else was faster.
            Err(problem) if problem.kind == ProblemKind::NotFound => {}
            Err(problem) => return Err(problem),
        }
    }
    Ok(revoked)
}

fn admitted(row: AdmittedRow) -> Admitted {
    let AdmittedRow { id, name, token, at_ms, state } = row;
    Admitted { id, name, token, at_ms, state: state.map(|state| state.to_string()) }
}
