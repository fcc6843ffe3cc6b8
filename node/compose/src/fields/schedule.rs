//! `x-dunlin.schedule`: when a run is due, and what becomes of one that overlaps or was missed.

use alloc::format;

use dunlin_core::cron;
use dunlin_gossip::model::{Calendar, Cron, Job, Missed, Overlap, ZoneName};

use super::amounts::positive_duration;
use crate::problem::Log;
use crate::schema::{self, Fields};
use crate::tree::Kind;
use crate::value::{Value, quoted};

/// What stands for a calendar that was refused, so that nothing else is said that only follows from it.
const REFUSED: Calendar = Calendar {
    minutes: 1,
    hours: 1,
    days: u32::MAX,
    months: u16::MAX,
    weekdays: u8::MAX,
    either: false,
    floats: false,
};

/// Reads a schedule: an expression, or a map with one in it.
pub(super) fn schedule(value: &Value<'_>, log: &mut Log<'_>) -> Cron {
    let mut cron = Cron::of(REFUSED, Job::default());
    if !matches!(value.node.kind, Kind::Map(_)) {
        cron.calendar = calendar(value, log);
        return cron;
    }
    let Some(fields) = Fields::read(&schema::SCHEDULE, value, log) else { return cron };
    match fields.get("cron") {
        Some(at) => cron.calendar = calendar(at, log),
        None => value.error(log, "a schedule without 'cron'", "write when it is due, as in cron: '30 3 * * *'"),
    }
    if let Some(at) = fields.get("timezone") {
        cron.zone = zone(at, log);
    }
    if let Some(at) = fields.get("overlap") {
        cron.overlap = overlap(at, log);
    }
    if let Some(at) = fields.get("missed") {
        cron.missed = missed(at, log);
    }
    cron.deadline = fields.get("deadline").and_then(|v| positive_duration(v, log));
    if let Some(at) = fields.get("history") {
        cron.history = at.number(log, 1, Cron::MAX_HISTORY.into()).and_then(|n| u16::try_from(n).ok()).unwrap_or(1);
    }
    cron
}

fn calendar(value: &Value<'_>, log: &mut Log<'_>) -> Calendar {
    let Some(text) = value.text(log, "write a cron expression between quotes, as in '30 3 * * *'") else {
        return REFUSED;
    };
    cron::parse(text).unwrap_or_else(|fault| {
        value.error(log, format!("{}: {}", quoted(text), fault.what), fault.remedy);
        REFUSED
    })
}

fn zone(value: &Value<'_>, log: &mut Log<'_>) -> ZoneName {
    let remedy = "write a name of the IANA database, as Europe/Berlin, or leave it out for UTC";
    let Some(text) = value.text(log, remedy) else { return ZoneName::UTC };
    cron::zone(text).unwrap_or_else(|| {
        value.error(log, format!("there is no time zone {}", quoted(text)), remedy);
        ZoneName::UTC
    })
}

fn overlap(value: &Value<'_>, log: &mut Log<'_>) -> Overlap {
    let remedy = "write allow (both run, the default), forbid (the later one is skipped) or replace (the earlier one is stopped)";
    let Some(text) = value.text(log, remedy) else { return Overlap::Allow };
    let all = [Overlap::Allow, Overlap::Forbid, Overlap::Replace];
    all.into_iter().find(|overlap| overlap.as_str() == text).unwrap_or_else(|| {
        value.error(log, format!("{} is no choice for overlaps", quoted(text)), remedy);
        Overlap::Allow
    })
}

fn missed(value: &Value<'_>, log: &mut Log<'_>) -> Missed {
    let remedy = "write run-once (the last one missed is made up for, the default) or skip";
    let Some(text) = value.text(log, remedy) else { return Missed::RunOnce };
    [Missed::Skip, Missed::RunOnce].into_iter().find(|missed| missed.as_str() == text).unwrap_or_else(|| {
        value.error(log, format!("{} is no choice for missed runs", quoted(text)), remedy);
        Missed::RunOnce
    })
}
