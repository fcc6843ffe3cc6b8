//! How a service goes over to a new version, as it stands in a scenario file, and what is said about it on the way.

use dunlin_core::face::RolloutOrder;
use dunlin_gossip::model::{Canary, FailureAction, Promotion, RolloutPolicy, UpdateOrder, UpdatePolicy};
use dunlin_gossip::time::Duration;

use super::parse::small;
use super::write::time;
use super::yaml::{Map, Value};
use crate::queue::Nanos;

const ACTIONS: [FailureAction; 4] =
    [FailureAction::Retry, FailureAction::Pause, FailureAction::Continue, FailureAction::Rollback];

/// `{parallelism: 2, order: start-first, delay: 1s, monitor: 5s, on-failure: rollback, canary: 1, promote-after: 10s}`; the
/// way back is like the way forth, and retries.
pub(super) fn read(value: Value<'_>) -> Result<RolloutPolicy, String> {
    let mut map = value.map()?;
    let usual = UpdatePolicy::default();
    let update = UpdatePolicy {
        parallelism: map.maybe("parallelism", usual.parallelism, |v| small(&v))?,
        delay: nanos(&mut map, "delay", usual.delay)?,
        order: map.maybe("order", usual.order, |v| {
            let (text, orders) = (v.text()?, [UpdateOrder::StopFirst, UpdateOrder::StartFirst]);
            let found = orders.into_iter().find(|order| order.as_str() == text);
            found.ok_or_else(|| v.refuse("must be stop-first or start-first"))
        })?,
        monitor: nanos(&mut map, "monitor", usual.monitor)?,
        max_failure_ppm: usual.max_failure_ppm,
        on_failure: map.maybe("on-failure", usual.on_failure, |v| {
            let text = v.text()?;
            let found = ACTIONS.into_iter().find(|action| action.as_str() == text);
            found.ok_or_else(|| v.refuse("must be retry, pause, continue or rollback"))
        })?,
    };
    let count = map.maybe("canary", None, |v| small(&v).map(Some))?;
    let after = map.maybe("promote-after", None, |v| v.time().map(Some))?;
    map.end("parallelism, delay, order, monitor, on-failure, canary, promote-after")?;
    let promotion = after.map_or(Promotion::ByHand, |after| Promotion::ByHealth(Duration::from_nanos(after)));
    let canary = count.map(|count| Canary { count, promotion });
    Ok(RolloutPolicy { update, rollback: back(update), canary })
}

/// The way back of such a way forth.
pub(crate) fn back(update: UpdatePolicy) -> UpdatePolicy {
    UpdatePolicy { on_failure: FailureAction::Retry, ..update }
}

fn nanos(map: &mut Map<'_>, key: &str, usual: Duration) -> Result<Duration, String> {
    map.maybe(key, usual, |v| v.time().map(Duration::from_nanos))
}

/// As it is read.
pub(super) fn text(policy: &RolloutPolicy) -> String {
    let (update, usual) = (policy.update, UpdatePolicy::default());
    let span = |duration: Duration| time(Nanos::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX));
    let mut parts = Vec::new();
    let mut part = |differs: bool, text: String| {
        if differs {
            parts.push(text);
        }
    };
    part(update.parallelism != usual.parallelism, format!("parallelism: {}", update.parallelism));
    part(update.delay != usual.delay, format!("delay: {}", span(update.delay)));
    part(update.order != usual.order, format!("order: {}", update.order.as_str()));
    part(update.monitor != usual.monitor, format!("monitor: {}", span(update.monitor)));
    part(update.on_failure != usual.on_failure, format!("on-failure: {}", update.on_failure.as_str()));
    if let Some(Canary { count, promotion }) = policy.canary {
        part(true, format!("canary: {count}"));
        if let Promotion::ByHealth(after) = promotion {
            part(true, format!("promote-after: {}", span(after)));
        }
    }
    format!("{{{}}}", parts.join(", "))
}

/// What is said about a rollout.
pub(super) fn order(value: &Value<'_>) -> Result<RolloutOrder, String> {
    match value.text()?.as_str() {
        "pause" => Ok(RolloutOrder::Pause),
        "resume" => Ok(RolloutOrder::Resume),
        "promote" => Ok(RolloutOrder::Promote),
        "undo" => Ok(RolloutOrder::Undo { to: None }),
        _ => Err(value.refuse("must be pause, resume, promote or undo")),
    }
}

/// Its word.
pub(super) const fn word(order: RolloutOrder) -> &'static str {
    match order {
        RolloutOrder::Pause => "pause",
        RolloutOrder::Resume => "resume",
        RolloutOrder::Promote => "promote",
        RolloutOrder::Undo { .. } => "undo",
    }
}
