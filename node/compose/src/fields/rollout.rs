//! How a service goes over to a new revision: `deploy.update_config`, `deploy.rollback_config` and `x-dunlin.canary`.
//!
//! Where a file says nothing, nothing is ever held to have failed for good: a slot is tried again until it is ready, and the
//! next one waits. A file with an `update_config` has Swarm's defaults instead, of which one is to pause at the first failure.

use alloc::format;

use dunlin_gossip::limits::MAX_REPLICAS;
use dunlin_gossip::model::{Canary, FailureAction, Mode, Promotion, RolloutPolicy, UpdateOrder, UpdatePolicy};
use dunlin_gossip::time::Duration;

use super::amounts::duration;
use crate::problem::Log;
use crate::schema::{self, Fields};
use crate::value::{Value, quoted};

const RATIO: &str = "write a number from 0 to 1, as in 0.25";
const MILLION: u32 = 1_000_000;

/// Reads what a service says of its rollouts.
pub(super) fn rollout(
    deploy: Option<&Fields<'_>>,
    dunlin: Option<&Fields<'_>>,
    mode: Mode,
    log: &mut Log<'_>,
) -> RolloutPolicy {
    let get = |key: &str| deploy.and_then(|f| f.get(key));
    let forward = "write pause, continue or rollback";
    let update = get("update_config").map(|v| policy(v, &[FailureAction::Rollback], forward, log)).unwrap_or_default();
    let rollback = get("rollback_config").map(|v| policy(v, &[], "write pause or continue", log)).unwrap_or_default();
    let canary = dunlin.and_then(|f| f.get("canary")).and_then(|v| canary(v, mode, log));
    RolloutPolicy { update, rollback, canary }
}

fn policy(value: &Value<'_>, more: &[FailureAction], actions: &str, log: &mut Log<'_>) -> UpdatePolicy {
    let stated = UpdatePolicy { on_failure: FailureAction::Pause, ..UpdatePolicy::default() };
    let Some(fields) = Fields::read(&schema::UPDATE, value, log) else { return stated };
    UpdatePolicy {
        parallelism: fields.get("parallelism").and_then(|v| v.number(log, 0, MAX_REPLICAS)).unwrap_or(1),
        delay: fields.get("delay").and_then(|v| duration(v, log)).unwrap_or(stated.delay),
        order: fields.get("order").and_then(|v| order(v, log)).unwrap_or_default(),
        monitor: fields.get("monitor").and_then(|v| duration(v, log)).unwrap_or(stated.monitor),
        max_failure_ppm: fields.get("max_failure_ratio").and_then(|v| ratio(v, log)).unwrap_or(0),
        on_failure: fields
            .get("failure_action")
            .and_then(|v| action(v, more, actions, log))
            .unwrap_or(FailureAction::Pause),
    }
}

fn order(value: &Value<'_>, log: &mut Log<'_>) -> Option<UpdateOrder> {
    let remedy = "write stop-first or start-first";
    let text = value.text(log, remedy)?;
    let found = [UpdateOrder::StopFirst, UpdateOrder::StartFirst].into_iter().find(|order| order.as_str() == text);
    if found.is_none() {
        value.error(log, format!("{} is no order", quoted(text)), remedy);
    }
    found
}

fn action(value: &Value<'_>, more: &[FailureAction], remedy: &str, log: &mut Log<'_>) -> Option<FailureAction> {
    let text = value.text(log, remedy)?;
    let all = [FailureAction::Pause, FailureAction::Continue].iter().chain(more);
    let found = all.copied().find(|action| action.as_str() == text);
    if found.is_none() {
        value.error(log, format!("{} is not what can be done about a failure here", quoted(text)), remedy);
    }
    found
}

/// A ratio, in millionths.
fn ratio(value: &Value<'_>, log: &mut Log<'_>) -> Option<u32> {
    let text = value.scalar(log, "a ratio", RATIO)?;
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let is_written = digits(whole) && digits(part) && !(whole.is_empty() && part.is_empty());
    let millionths = format!("{part:0<6}").get(..6).and_then(|six| six.parse::<u32>().ok());
    let whole = if whole.is_empty() { Some(0) } else { whole.parse::<u32>().ok() };
    let found = whole.zip(millionths).and_then(|(whole, part)| whole.checked_mul(MILLION)?.checked_add(part));
    let found = found.filter(|ppm| is_written && *ppm <= MILLION);
    if found.is_none() {
        value.error(log, format!("{} is no ratio", quoted(text)), RATIO);
    }
    found
}

fn canary(value: &Value<'_>, mode: Mode, log: &mut Log<'_>) -> Option<Canary> {
    let fields = Fields::read(&schema::CANARY, value, log)?;
    let Some(at) = fields.get("count") else {
        value.error(log, "a canary without 'count'", "say how many replicas go first: count: 1");
        return None;
    };
    let count = at.number(log, 1, MAX_REPLICAS)?;
    match mode {
        Mode::Global => {
            value.error(log, "a global service has no canaries: its replicas have no order", "remove 'canary'");
            return None;
        }
        Mode::Replicated(all) if count > all => {
            at.error(log, format!("{count} canaries of {all} replicas"), "have fewer canaries or more replicas");
            return None;
        }
        // What is wrong with a job that has some is said where it is one.
        Mode::Replicated(_) | Mode::Job(_) | Mode::GlobalJob(_) | Mode::Cron(_) => {}
    }
    let wait = fields.get("after").and_then(|v| duration(v, log));
    let remedy = "write by-hand or by-health";
    let by_health = match fields.get("promote").and_then(|v| v.text(log, remedy).map(|text| (v, text))) {
        None | Some((_, "by-hand")) => false,
        Some((_, "by-health")) => true,
        Some((at, other)) => {
            at.error(log, format!("{} is no way to promote canaries", quoted(other)), remedy);
            return None;
        }
    };
    if let (false, Some(after)) = (by_health, fields.get("after")) {
        after.error(log, "'after' means nothing for canaries that are promoted by hand", "add promote: by-health");
    }
    let promotion =
        if by_health { Promotion::ByHealth(wait.unwrap_or(Duration::from_secs(30))) } else { Promotion::ByHand };
    Some(Canary { count, promotion })
}
