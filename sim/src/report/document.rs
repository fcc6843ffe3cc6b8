//! `report.json`: what `--json` prints, and what the page shows beyond it. These field names are stable.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Material;
use super::json::Outcome;
use super::marks::Mark;
use crate::measure::{Quantiles, seconds};
use crate::recording::{Series, Stay};

#[derive(Serialize)]
struct Document<'a> {
    runs: &'a [Outcome],
    distributions: BTreeMap<&'static str, Times>,
    shown_seed: u64,
    command: String,
    quiet_from_s: f64,
    settle_by_s: f64,
    timeline: &'a [Mark],
    series: &'a Series,
    placements: Vec<Placement<'a>>,
    placements_left_out: usize,
}

#[derive(Serialize)]
struct Times {
    samples: usize,
    #[serde(flatten)]
    quantiles: Quantiles,
}

#[derive(Serialize)]
struct Placement<'a> {
    replica: &'a str,
    stays: Vec<StayTold>,
}

#[derive(Serialize)]
struct StayTold {
    host: u32,
    from_s: f64,
    ready_s: Option<f64>,
    to_s: Option<f64>,
}

pub(super) fn text(material: &Material<'_>) -> serde_json::Result<String> {
    let recording = material.recording;
    let times = |of: &super::Distribution| {
        let [p50, p90, p99, max] = [50, 90, 99, 100].map(|percent| of.quantile(percent));
        (of.field, Times { samples: of.sorted.len(), quantiles: Quantiles { p50, p90, p99, max } })
    };
    let told = |stay: &Stay| StayTold {
        host: stay.host,
        from_s: seconds(stay.from),
        ready_s: stay.ready.map(seconds),
        to_s: stay.to.map(seconds),
    };
    let document = Document {
        runs: material.outcomes,
        distributions: material.distributions.iter().map(times).collect(),
        shown_seed: material.shown.seed,
        command: material.command(material.shown.seed),
        quiet_from_s: seconds(recording.quiet_from),
        settle_by_s: seconds(recording.settle_by),
        timeline: &material.marks,
        series: &recording.series,
        placements: material
            .rows
            .iter()
            .map(|(replica, stays)| Placement { replica, stays: stays.iter().map(told).collect() })
            .collect(),
        placements_left_out: recording.stays.of.len() - material.rows.len(),
    };
    serde_json::to_string(&document)
}
