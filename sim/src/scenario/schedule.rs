//! When a service of a scenario is due by the calendar: the same words as in a Compose file, by UTC.

use dunlin_core::cron::parse;
use dunlin_gossip::model::{Cron, Job, Missed, Overlap};
use dunlin_gossip::time::Duration;

use super::write::{quoted, time};
use super::yaml::Value;
use crate::queue::Nanos;

/// `{cron: "* * * * *", overlap: forbid, missed: skip, deadline: 30s, history: 2}`.
pub(super) fn read(value: Value<'_>) -> Result<Cron, String> {
    let mut map = value.map()?;
    let at = map.need("cron")?;
    let calendar = parse(&at.text()?).map_err(|fault| at.refuse(&format!("{}; {}", fault.what, fault.remedy)))?;
    let usual = Cron::of(calendar, Job::default());
    let cron = Cron {
        overlap: map.maybe("overlap", usual.overlap, |v| {
            let (text, all) = (v.text()?, [Overlap::Allow, Overlap::Forbid, Overlap::Replace]);
            all.into_iter().find(|o| o.as_str() == text).ok_or_else(|| v.refuse("must be allow, forbid or replace"))
        })?,
        missed: map.maybe("missed", usual.missed, |v| {
            let (text, all) = (v.text()?, [Missed::Skip, Missed::RunOnce]);
            all.into_iter().find(|m| m.as_str() == text).ok_or_else(|| v.refuse("must be skip or run-once"))
        })?,
        deadline: map.maybe("deadline", None, |v| v.time().map(|t| Some(Duration::from_nanos(t))))?,
        history: map.maybe("history", usual.history, |v| {
            u16::try_from(v.number()?).map_err(|_| v.refuse("must be a number of runs"))
        })?,
        ..usual
    };
    map.end("cron, overlap, missed, deadline, history")?;
    Ok(cron)
}

/// As it is read.
pub(super) fn text(cron: &Cron) -> String {
    let usual = Cron::of(cron.calendar, Job::default());
    let mut parts = vec![format!("cron: {}", quoted(&cron.calendar.to_string()))];
    let mut part = |differs: bool, text: String| parts.extend(differs.then_some(text));
    part(cron.overlap != usual.overlap, format!("overlap: {}", cron.overlap.as_str()));
    part(cron.missed != usual.missed, format!("missed: {}", cron.missed.as_str()));
    if let Some(deadline) = cron.deadline {
        part(true, format!("deadline: {}", time(Nanos::try_from(deadline.as_nanos()).unwrap_or(Nanos::MAX))));
    }
    part(cron.history != usual.history, format!("history: {}", cron.history));
    format!("{{{}}}", parts.join(", "))
}
