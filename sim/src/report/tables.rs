//! The tables of a report: figures, seeds, what faults did, what happened when.

use std::collections::BTreeMap;

use super::Material;
use super::json::Outcome;
use super::marks::shortened;
use super::markup::Markup;
use super::scale::{bytes, count, grouped, rounded, time};
use crate::measure::seconds;
use crate::recording::Stay;
use dunlin_gossip::model::ReplicaKey;

/// More seeds are not listed; all are in `report.json`.
const MAX_SEEDS: usize = 300;
/// More events neither.
const MAX_EVENTS: usize = 250;
/// The longest list of hosts that an event shows.
const MAX_ARGUMENT: usize = 200;

/// Opens a table that scrolls by itself where the page is narrow.
pub(super) fn begin(page: &mut Markup, heads: &[&str]) {
    begin_as(page, "", heads);
}

/// The same with a look of its own: `words` where the last column is a sentence.
pub(super) fn begin_as(page: &mut Markup, class: &str, heads: &[&str]) {
    page.open("div", &[("class", &"scroll")]);
    page.open("table", &[("class", &class)]);
    page.open("tr", &[]);
    for head in heads {
        page.leaf("th", &[("scope", &"col")], head);
    }
    page.close();
}

pub(super) fn end(page: &mut Markup) {
    page.close();
    page.close();
}

pub(super) fn row(page: &mut Markup, class: &str, head: &str, cells: &[String]) {
    page.open("tr", &[("class", &class)]);
    page.leaf("th", &[("scope", &"row")], head);
    for cell in cells {
        page.leaf("td", &[], cell);
    }
    page.close();
}

/// Times, over all seeds.
pub(super) fn times(page: &mut Markup, material: &Material<'_>) {
    begin(page, &["figure", "samples", "p50", "p90", "p99", "max"]);
    for of in &material.distributions {
        let mut cells = vec![grouped(of.sorted.len() as u64)];
        cells.extend([50, 90, 99, 100].map(|percent| of.quantile(percent).map_or_else(|| "-".to_owned(), time)));
        row(page, "", of.title, &cells);
    }
    end(page);
}

/// A number that each run has.
struct Number {
    name: &'static str,
    of: fn(&Outcome) -> f64,
    tell: fn(f64) -> String,
}

#[allow(clippy::cast_precision_loss, reason = "for display")]
fn numbers() -> Vec<Number> {
    let whole: fn(f64) -> String = |n| grouped(rounded(n));
    let size: fn(f64) -> String = |n| bytes(rounded(n));
    let number = |name, of, tell| Number { name, of, tell };
    vec![
        number("nodes", |o| f64::from(o.nodes), whole),
        number("replicas", |o| f64::from(o.replicas), whole),
        number("moves", |o| o.moves as f64, whole),
        number("moves that faults made necessary", |o| o.moves_minimum as f64, whole),
        number("live nodes held down (false positives)", |o| o.false_positives as f64, whole),
        number("bytes a node sends in a second, middle node", |o| o.bytes_per_node_s.p50 as f64, size),
        number("the same, busiest node", |o| o.bytes_per_node_s.max as f64, size),
        number("messages a node sends in a second", |o| o.messages_per_node_s, |n| format!("{n:.1}")),
        number("membership packets", |o| o.counts.packets as f64, whole),
        number("frames over links", |o| o.counts.frames as f64, whole),
        number("syncs", |o| o.counts.syncs as f64, whole),
        number("driver commands", |o| o.counts.driver_commands as f64, whole),
        number("events of the simulator", |o| o.events as f64, whole),
        number("simulated time", |o| o.simulated_s, time),
        number("real time", |o| o.wall_s, time),
        number("memory at its peak", |o| o.peak_rss_bytes as f64, size),
    ]
}

/// Numbers: of one seed as they are, of many the smallest, the middle and the largest.
pub(super) fn counts(page: &mut Markup, material: &Material<'_>) {
    let is_one = material.outcomes.len() == 1;
    begin(page, if is_one { &["figure", "value"] } else { &["figure", "least seed", "middle seed", "largest seed"] });
    for number in numbers() {
        let mut values: Vec<f64> = material.outcomes.iter().map(number.of).collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).map_or_else(String::new, |value| (number.tell)(*value));
        let last = values.len().saturating_sub(1);
        let cells = if is_one { vec![at(0)] } else { vec![at(0), at(last / 2), at(last)] };
        row(page, "", number.name, &cells);
    }
    end(page);
}

/// What had an effect, over all seeds.
pub(super) fn faults(page: &mut Markup, material: &Material<'_>) {
    let mut all: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (word, times) in material.outcomes.iter().flat_map(|outcome| &outcome.faults) {
        let entry = all.entry(word).or_default();
        *entry = (entry.0 + times, entry.1 + 1);
    }
    begin(page, &["fault or write", "times", "seeds"]);
    for (word, (times, seeds)) in all {
        row(page, "", word, &[grouped(times), grouped(seeds)]);
    }
    end(page);
}

/// The seeds, those that broke a promise first.
pub(super) fn seeds(page: &mut Markup, material: &Material<'_>) {
    let mut outcomes: Vec<&Outcome> = material.outcomes.iter().collect();
    outcomes.sort_by_key(|outcome| outcome.violations.is_empty());
    begin(
        page,
        &[
            "seed",
            "verdict",
            "detection p99",
            "failover max",
            "stale names p99",
            "deploy max",
            "moves / needed",
            "false positives",
            "bytes/s p50",
            "trace",
        ],
    );
    let known = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), time);
    for outcome in outcomes.iter().take(MAX_SEEDS) {
        let verdict = outcome.violations.first().map_or_else(
            || "kept".to_owned(),
            |first| match outcome.violations.len() - 1 {
                0 => first.invariant.clone(),
                more => format!("{} and {more} more", first.invariant),
            },
        );
        let cells = [
            verdict,
            known(outcome.detect_s.p99),
            known(outcome.failover_s.max),
            known(outcome.dns_stale_s.p99),
            known(outcome.deploy_s.max),
            format!("{} / {}", outcome.moves, outcome.moves_minimum),
            outcome.false_positives.to_string(),
            bytes(outcome.bytes_per_node_s.p50),
            outcome.trace_hash.clone(),
        ];
        let class = if outcome.violations.is_empty() { "" } else { "bad" };
        row(page, class, &outcome.seed.to_string(), &cells);
    }
    end(page);
    if outcomes.len() > MAX_SEEDS {
        page.leaf("p", &[("class", &"quiet")], format!("{} more are in report.json.", outcomes.len() - MAX_SEEDS));
    }
}

/// The timeline of the seed that is shown.
pub(super) fn events(page: &mut Markup, material: &Material<'_>) {
    begin(page, &["at", "until", "what", "to whom"]);
    for mark in material.marks.iter().take(MAX_EVENTS) {
        let until = mark.until_s.map(|until| format!("{until:.3} s")).unwrap_or_default();
        let cells = [until, mark.action.to_owned(), shortened(&mark.argument, MAX_ARGUMENT)];
        row(page, "left", &format!("{:.3} s", mark.at_s), &cells);
    }
    end(page);
    if material.marks.len() > MAX_EVENTS {
        let more = material.marks.len() - MAX_EVENTS;
        page.leaf("p", &[("class", &"quiet")], format!("{more} more are in report.json."));
    }
}

/// More moves and accusations are not listed.
const MAX_LISTED: usize = 200;

/// Which replicas came to run elsewhere, and when.
pub(super) fn moves(page: &mut Markup, material: &Material<'_>) {
    let of = |(replica, stays): (&ReplicaKey, &Vec<Stay>)| {
        let moved = stays.windows(2).filter(|pair| pair[0].host != pair[1].host).map(|pair| (pair[0], pair[1]));
        moved.map(|(before, after)| (after.from, replica.to_string(), before, after)).collect::<Vec<_>>()
    };
    let mut all: Vec<_> = material.recording.stays.of.iter().flat_map(of).collect();
    if all.is_empty() {
        return;
    }
    all.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    page.open("details", &[]);
    let left_out = all.len().saturating_sub(MAX_LISTED);
    let more = if left_out > 0 { format!(", the first {MAX_LISTED} of them") } else { String::new() };
    page.leaf("summary", &[], format!("All {}{more}", count(all.len() as u64, "move", "moves")));
    begin(page, &["replica", "from", "to", "started", "ready after", "the one before ended"]);
    for (_, replica, before, after) in all.iter().take(MAX_LISTED) {
        let ready = after.ready.map_or_else(|| "never".to_owned(), |at| time(seconds(at - after.from)));
        let ended = before.to.map_or_else(|| "not".to_owned(), |at| format!("{:.2} s", seconds(at)));
        let started = format!("{:.2} s", seconds(after.from));
        row(page, "", replica, &[format!("n{}", before.host), format!("n{}", after.host), started, ready, ended]);
    }
    end(page);
    page.close();
}

/// Who held a healthy node down.
pub(super) fn accusations(page: &mut Markup, material: &Material<'_>) {
    let all = &material.recording.chronicle.accusations;
    if all.is_empty() {
        return;
    }
    page.open("details", &[]);
    let text = count(all.len() as u64, "healthy node that was held down", "times that a healthy node was held down");
    page.leaf("summary", &[], text);
    begin(page, &["when", "by", "about"]);
    for of in all.iter().take(MAX_LISTED) {
        row(page, "", &format!("{:.3} s", seconds(of.at)), &[format!("n{}", of.by), format!("n{}", of.about)]);
    }
    end(page);
    page.close();
}
