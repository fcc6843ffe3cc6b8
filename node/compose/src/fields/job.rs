//! Work that runs to completion: what `x-dunlin.job` says of a service whose `deploy.mode` makes it a job.

use dunlin_gossip::limits::MAX_REPLICAS;
use dunlin_gossip::model::{Job, RestartCondition};

use super::amounts::positive_duration;
use super::deploy::Deploy;
use crate::problem::Log;
use crate::schema::{self, Fields};

const REMEDY: &str = "remove it, or write deploy.mode: replicated-job";

/// Completes a job by what stands elsewhere in its service.
pub(super) fn job(
    service: &Fields<'_>,
    fields: Option<&Fields<'_>>,
    dunlin: Option<&Fields<'_>>,
    deploy: &mut Deploy,
    log: &mut Log<'_>,
) {
    let get = |key: &str| fields.and_then(|f| f.get(key));
    let stated = dunlin.and_then(|f| f.get("job"));
    let is_global = deploy.mode.is_global();
    let Some(job) = deploy.mode.job_mut() else {
        if let Some(at) = stated {
            at.error(log, "'job' means nothing for a service that is meant to run on", REMEDY);
        }
        return;
    };
    for key in ["update_config", "rollback_config"] {
        if let Some(at) = get(key) {
            at.error(log, "a job has no rollouts: a changed one begins anew", "remove it");
        }
    }
    if let Some(at) = dunlin.and_then(|f| f.get("canary")) {
        at.error(log, "a job has no canaries: a changed one begins anew", "remove it");
    }
    let policy = get("restart_policy").and_then(|v| Fields::quiet(&schema::RESTART_POLICY, v));
    let of_policy = |key: &str| policy.as_ref().and_then(|f| f.get(key));
    if deploy.restart.condition == RestartCondition::Any
        && let Some(at) = of_policy("condition").or_else(|| service.get("restart"))
    {
        at.error(log, "a job is not run again once it has finished", "write on-failure, or none, or leave it out");
    }
    let attempts = deploy.restart.max_attempts.take();
    job.backoff_limit = match deploy.restart.condition {
        RestartCondition::None => 0,
        RestartCondition::OnFailure | RestartCondition::Any => attempts.unwrap_or_else(|| Job::default().backoff_limit),
    };
    let Some(fields) = stated.and_then(|v| Fields::read(&schema::JOB, v, log)) else { return };
    if let Some(at) = fields.get("parallelism") {
        job.parallelism = at.number(log, 0, MAX_REPLICAS).unwrap_or(0);
        if is_global {
            at.error(log, "the slots of a global job have no order, each node runs its own", "remove it");
        }
    }
    if let Some(at) = fields.get("backoff_limit") {
        job.backoff_limit = at.number(log, 0, u32::MAX).unwrap_or(0);
        let other = of_policy("max_attempts").is_some() || deploy.restart.condition == RestartCondition::None;
        if attempts.is_some() || other {
            at.error(log, "the restart policy says how often it is tried as well", "keep one of the two");
        }
    }
    job.timeout = fields.get("timeout").and_then(|v| positive_duration(v, log));
}
