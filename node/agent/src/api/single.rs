//! One service more in a stack, or one less.

use std::sync::Arc;

use dunlin_core::face::{Problem, ProblemKind, Request};
use dunlin_gossip::model::{Asker, ServiceKey, ServiceName};

use super::Context;
use super::routes::{Answer, problem, stack_name, within, written};
use super::types::{AddBody, DropBody};

/// Runs a service beside what its stack has already.
pub(super) async fn add(context: &Arc<Context>, by: &Asker, body: AddBody) -> Result<Answer, Problem> {
    let AddBody { stack, name, specification, ack, timeout_ms } = body;
    let wrong = |e| problem(ProblemKind::BadRequest, format!("the service's name '{name}': {e}"));
    let service = ServiceKey { stack: stack_name(&stack)?, service: ServiceName::new(&name).map_err(wrong)? };
    let specification = Box::new(specification);
    written(context, by, Request::Add { service, specification, ack, timeout: within(timeout_ms) }).await
}

/// Stops a service and forgets it.
pub(super) async fn drop(context: &Arc<Context>, by: &Asker, body: DropBody) -> Result<Answer, Problem> {
    let DropBody { service, ack, timeout_ms } = body;
    let service = context.door.service(service).await?;
    written(context, by, Request::Drop { service, ack, timeout: within(timeout_ms) }).await
}
