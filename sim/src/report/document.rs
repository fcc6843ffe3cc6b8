//! `report.json`: what `--json` prints, and what the page shows beyond it. These field names are stable.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Material;
use super::json::Outcome;
use super::marks::Mark;
use crate::chronicle::{Accusation, Failover, Message, Note, Past};
use crate::measure::{Quantiles, seconds};
use crate::queue::Nanos;
use crate::recording::{Heat, Series, Stay};

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
    states: &'a Heat,
    failovers: Vec<FailoverTold>,
    accusations: Vec<AccusationTold>,
    pasts: Vec<PastTold<'a>>,
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

/// How a replica came back; times count from the death.
#[derive(Serialize)]
struct FailoverTold {
    replica: String,
    from: u32,
    to: Option<u32>,
    died_s: f64,
    suspected_s: Option<f64>,
    known_s: Option<f64>,
    claimed_s: Option<f64>,
    started_s: Option<f64>,
    ready_s: Option<f64>,
    named_s: Option<f64>,
    named_by_all_s: Option<f64>,
}

impl FailoverTold {
    fn of(of: &Failover) -> Self {
        let after = |at: Option<Nanos>| at.map(|at| seconds(at.saturating_sub(of.died)));
        Self {
            replica: of.replica.to_string(),
            from: of.from,
            to: of.to,
            died_s: seconds(of.died),
            suspected_s: after(of.suspected),
            known_s: after(of.known),
            claimed_s: after(of.claimed),
            started_s: after(of.started),
            ready_s: after(of.ready),
            named_s: after(of.named),
            named_by_all_s: after(of.named_by_all),
        }
    }
}

#[derive(Serialize)]
struct AccusationTold {
    at_s: f64,
    by: u32,
    about: u32,
}

impl AccusationTold {
    fn of(of: &Accusation) -> Self {
        Self { at_s: seconds(of.at), by: of.by, about: of.about }
    }
}

/// What came before a broken promise of the run that is shown.
#[derive(Serialize)]
struct PastTold<'a> {
    violation: usize,
    at_s: f64,
    hosts: &'a [u32],
    messages: Vec<MessageTold>,
    notes: Vec<NoteTold<'a>>,
}

#[derive(Serialize)]
struct MessageTold {
    from: u32,
    to: u32,
    kind: &'static str,
    sent_s: f64,
    arrives_s: Option<f64>,
}

#[derive(Serialize)]
struct NoteTold<'a> {
    at_s: f64,
    host: u32,
    text: &'a str,
}

impl<'a> PastTold<'a> {
    fn of(past: &'a Past) -> Self {
        let message = |m: &Message| MessageTold {
            from: m.from,
            to: m.to,
            kind: m.kind.word(),
            sent_s: seconds(m.sent),
            arrives_s: m.arrives.map(seconds),
        };
        let note = |note: &'a Note| NoteTold { at_s: seconds(note.at), host: note.host, text: &note.text };
        Self {
            violation: past.violation,
            at_s: seconds(past.at),
            hosts: &past.hosts,
            messages: past.messages.iter().map(message).collect(),
            notes: past.notes.iter().map(note).collect(),
        }
    }
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
        states: &recording.heat,
        failovers: recording.chronicle.failovers.iter().map(FailoverTold::of).collect(),
        accusations: recording.chronicle.accusations.iter().map(AccusationTold::of).collect(),
        pasts: recording.chronicle.pasts.iter().map(PastTold::of).collect(),
        placements: material
            .rows
            .iter()
            .map(|(replica, stays)| Placement { replica, stays: stays.iter().map(told).collect() })
            .collect(),
        placements_left_out: recording.stays.of.len() - material.rows.len(),
    };
    serde_json::to_string(&document)
}
