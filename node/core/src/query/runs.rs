//! The runs of a cron service as rows: those under way, and the last ones that are over.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use dunlin_gossip::model::{Cron, ServiceKey, Slot};

use super::rows::RunRow;
use crate::view::View;

/// When a run is due, in words.
pub(super) fn schedule(cron: &Cron) -> String {
    format!("{} {}", cron.calendar, cron.zone)
}

#[derive(Default)]
struct Sum {
    succeeded: usize,
    failed: usize,
    live: usize,
    began: Option<u64>,
    ended: Option<u64>,
}

/// The runs of a service, the newest first.
pub(super) fn runs(view: &View, service: &ServiceKey, cron: &Cron) -> Vec<RunRow> {
    let mut all: BTreeMap<u64, Sum> = BTreeMap::new();
    let earlier = |old: Option<u64>, new: u64| Some(old.map_or(new, |old| old.min(new)));
    for (due, ends) in view.last_runs(service) {
        let sum = all.entry(due).or_default();
        for end in ends {
            *(if end.succeeded { &mut sum.succeeded } else { &mut sum.failed }) += 1;
            sum.began = earlier(sum.began, end.began.0);
            sum.ended = sum.ended.max(Some(end.at.0));
        }
    }
    for slot in view.open_runs(service) {
        if let Slot::Run(due, _) = slot {
            all.entry(due).or_default();
        }
    }
    for (node, _, alloc) in view.of_service(service) {
        if let Slot::Run(due, _) = alloc.replica.slot
            && alloc.phase.is_live()
            && view.stands(node)
            && view.finish(&alloc.replica).is_none()
        {
            let sum = all.entry(due).or_default();
            sum.live += 1;
            sum.began = earlier(sum.began, alloc.since.0);
        }
    }
    let wanted = usize::try_from(cron.job.completions).unwrap_or(usize::MAX);
    let row = |(due, sum): (u64, Sum)| {
        let state = match () {
            () if sum.live > 0 => "running",
            () if sum.failed > 0 => "failed",
            () if sum.succeeded >= wanted || !view.is_open_run(service, due) => "succeeded",
            () => "waiting",
        };
        let is_over = matches!(state, "failed" | "succeeded");
        RunRow {
            due_ms: due.saturating_mul(1_000),
            state,
            succeeded: sum.succeeded,
            failed: sum.failed,
            began_ms: sum.began,
            ended_ms: sum.ended.filter(|_| is_over),
        }
    };
    all.into_iter().rev().map(row).collect()
}
