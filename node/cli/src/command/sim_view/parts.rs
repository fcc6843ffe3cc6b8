//! The parts of a view. Each reads of the document what it needs, and is silent where that is not there.

use serde_json::Value;

use super::{Ink, PLOT, Page, WIDTH};
use crate::render;

/// So many lines of a list are shown.
const MAX_LINES: usize = 12;
/// The figures that are times, in the order in which things happen.
const TIMES: [(&str, &str); 8] = [
    ("detect_s", "detected"),
    ("membership_converge_s", "members agree"),
    ("failover_s", "failover"),
    ("dark_s", "dark"),
    ("deploy_s", "deploy"),
    ("dns_stale_s", "names stale"),
    ("state_converge_s", "states agree"),
    ("duplicate_s", "ran twice"),
];
/// The steps of a failover, each from the one before.
const STEPS: [(&str, &str); 7] = [
    ("suspected_s", "suspected"),
    ("known_s", "known down"),
    ("claimed_s", "claimed"),
    ("started_s", "started"),
    ("ready_s", "ready"),
    ("named_s", "in a node's DNS"),
    ("named_by_all_s", "in every node's DNS"),
];

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn number(value: &Value, key: &str) -> Option<f64> {
    value.get(key).and_then(Value::as_f64).filter(|n| n.is_finite())
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The run that is shown.
fn shown(document: &Value) -> Option<&Value> {
    let runs = list(document, "runs");
    runs.iter().find(|run| run.get("seed") == document.get("shown_seed")).or_else(|| runs.first())
}

/// Cut to so many characters.
fn cut(text: &str, most: usize) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() <= most {
        return text;
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

fn seconds(s: f64) -> String {
    match s {
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 100.0 => format!("{s:.2} s"),
        s if s < 1e6 => format!("{s:.0} s"),
        _ => "very long".to_owned(),
    }
}

/// A bar of so many columns at most, to an eighth of one.
fn bar(share: f64, columns: usize) -> String {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "between 0 and 8 times the columns"
    )]
    let eighths = (share.clamp(0.0, 1.0) * (columns * 8) as f64).round() as usize;
    let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"].get(eighths % 8).copied().unwrap_or_default();
    format!("{}{rest}", "█".repeat(eighths / 8))
}

pub(super) fn summary(page: &mut Page, document: &Value) {
    let runs = list(document, "runs");
    let Some(run) = shown(document) else { return page.line("no run") };
    let whole = |key: &str| run.get(key).and_then(Value::as_u64).unwrap_or(0);
    let seeds = if runs.len() == 1 { format!("seed {}", whole("seed")) } else { format!("{} seeds", runs.len()) };
    let head = format!(
        "{}: {} nodes, {} replicas, {seeds}, {:.0} s",
        cut(text(run, "scenario"), 30),
        whole("nodes"),
        whole("replicas"),
        number(run, "simulated_s").unwrap_or(0.0).min(1e9)
    );
    let head = page.ink(Ink::Bold, &cut(&head, WIDTH));
    page.line(&head);
    let broken = runs.iter().filter(|run| !list(run, "violations").is_empty()).count();
    let verdict = match broken {
        0 => page.ink(Ink::Green, "every promise was kept"),
        n => page.ink(Ink::Red, &format!("{n} of {} runs broke a promise", runs.len())),
    };
    page.line(&verdict);
    for violation in runs.iter().flat_map(|run| list(run, "violations")).take(3) {
        let at = number(violation, "at_s").unwrap_or(0.0).min(1e9);
        let line = format!("  {} at {at:.2} s: {}", text(violation, "invariant"), text(violation, "detail"));
        let line = page.ink(Ink::Red, &cut(&line, WIDTH));
        page.line(&line);
    }
    for (key, name) in TIMES {
        let Some(times) = times(document, run, key) else { continue };
        page.line(&format!("  {name:<14}{times}"));
    }
    let moves = format!(
        "  {:<14}{} of {} that faults made necessary; {} nodes held down wrongly",
        "moves",
        whole("moves"),
        whole("moves_minimum"),
        whole("false_positives")
    );
    page.line(&cut(&moves, WIDTH));
    if whole("unready") > 0 {
        let line = page.ink(Ink::Red, &format!("  {} replicas were ready nowhere at the end", whole("unready")));
        page.line(&line);
    }
}

/// Quantiles of a figure: over all runs where the document has them.
fn times(document: &Value, run: &Value, key: &str) -> Option<String> {
    let all = document.get("distributions").and_then(|all| all.get(key));
    let of = all.or_else(|| run.get(key))?;
    let quantile = |name: &str| number(of, name).map(|s| format!("{name} {:<9}", seconds(s)));
    let told: Vec<String> = ["p50", "p90", "p99", "max"].into_iter().filter_map(quantile).collect();
    (!told.is_empty()).then(|| told.join(" ").trim_end().to_owned())
}

/// The column of a moment.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "between 0 and PLOT"
)]
fn column(at: f64, end: f64) -> usize {
    ((at / end.max(1e-9)).clamp(0.0, 1.0) * (PLOT - 1) as f64).round() as usize
}

fn end(document: &Value) -> f64 {
    shown(document).and_then(|run| number(run, "simulated_s")).unwrap_or(1.0).max(1e-3)
}

pub(super) fn timeline(page: &mut Page, document: &Value) {
    let marks = list(document, "timeline");
    if marks.is_empty() {
        return;
    }
    let end = end(document);
    page.head("Timeline", &format!("what happened in {} of virtual time", seconds(end)));
    let mut strip = vec!['─'; PLOT];
    for mark in marks {
        let at = column(number(mark, "at_s").unwrap_or(0.0), end);
        let until = number(mark, "until_s").map_or(at, |until| column(until, end));
        strip.iter_mut().take(until).skip(at + 1).for_each(|c| *c = '━');
        strip.iter_mut().skip(at).take(1).for_each(|c| *c = '┿');
    }
    page.line(&format!("  {}", strip.into_iter().collect::<String>()));
    for mark in marks.iter().take(MAX_LINES) {
        let at = number(mark, "at_s").unwrap_or(0.0).min(1e9);
        let until = number(mark, "until_s").map_or_else(String::new, |s| format!(", until {:.1} s", s.min(1e9)));
        let line = format!("  {at:>7.1} s  {} {}", text(mark, "action"), text(mark, "argument"));
        page.line(&format!("{}{until}", cut(line.trim_end(), WIDTH - until.chars().count())));
    }
    more(page, marks.len(), "events");
}

fn more(page: &mut Page, all: usize, what: &str) {
    if all > MAX_LINES {
        let line = page.ink(Ink::Faint, &format!("  ... and {} more {what}", all - MAX_LINES));
        page.line(&line);
    }
}

/// A column of the series, squeezed to the plot's width by taking the worst of each part.
fn squeezed(values: &[f64], worst: fn(f64, f64) -> f64) -> Vec<f64> {
    let size = values.len().div_ceil(PLOT).max(1);
    values.chunks(size).filter_map(|part| part.iter().copied().reduce(worst)).collect()
}

fn series(document: &Value, key: &str) -> Vec<f64> {
    let values = document.get("series").map(|series| list(series, key)).unwrap_or_default();
    values.iter().map(|v| v.as_f64().unwrap_or(0.0)).collect()
}

/// A line of blocks, a block a value from 0 to 1.
fn blocks(values: impl Iterator<Item = f64>) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 7")]
    values.map(|v| BLOCKS[((v.clamp(0.0, 1.0) * 7.0).round() as usize).min(7)]).collect()
}

pub(super) fn convergence(page: &mut Page, document: &Value) {
    let (up, agree) = (series(document, "nodes_up"), series(document, "agree"));
    let (wanted, ready) = (series(document, "wanted"), series(document, "ready"));
    if up.is_empty() {
        return;
    }
    page.head("Convergence", "full height: all; each column shows the worst moment in it");
    let share = |part: &[f64], all: &[f64]| -> Vec<f64> {
        let each = part.iter().zip(all).map(|(part, all)| if *all > 0.0 { part / all } else { 1.0 });
        squeezed(&each.collect::<Vec<_>>(), f64::min)
    };
    let most = up.iter().copied().fold(1.0, f64::max);
    let up_share: Vec<f64> = up.iter().map(|n| n / most).collect();
    for (name, values) in [
        ("nodes up", squeezed(&up_share, f64::min)),
        ("same state", share(&agree, &up)),
        ("replicas ready", share(&ready, &wanted)),
    ] {
        let worst = values.iter().copied().fold(1.0, f64::min);
        page.line(&format!("  {name:<15}{} {:>3.0}%", blocks(values.into_iter()), worst * 100.0));
    }
}

pub(super) fn failovers(page: &mut Page, document: &Value) {
    let all = list(document, "failovers");
    let ready: Vec<&Value> = all.iter().filter(|of| number(of, "ready_s").is_some()).collect();
    if all.is_empty() {
        return;
    }
    page.head("Failover", "from a host's death to a replica ready elsewhere");
    let times: Vec<f64> = ready.iter().filter_map(|of| number(of, "ready_s")).collect();
    let most = times.iter().copied().fold(0.0, f64::max).max(1e-3);
    let mut bins = [0_u32; 6];
    for time in &times {
        let bin = (1..=5).filter(|n| *time > most * f64::from(*n) / 6.0).count();
        bins[bin] += 1;
    }
    let high = f64::from(bins.iter().copied().max().unwrap_or(1).max(1));
    for (n, bin) in (0_u32..).zip(bins) {
        let name = format!("up to {}", seconds(most * f64::from(n + 1) / 6.0));
        page.line(format!("  {name:<16}{:<50} {bin:>6}", bar(f64::from(bin) / high, 50)).trim_end());
    }
    let lost = all.len() - ready.len();
    if lost > 0 {
        let line = page.ink(Ink::Red, &format!("  {lost} were not ready anywhere at the end, or were wanted no more"));
        page.line(&line);
    }
    let slowest =
        ready.iter().max_by(|a, b| number(a, "ready_s").unwrap_or(0.0).total_cmp(&number(b, "ready_s").unwrap_or(0.0)));
    if let Some(slowest) = slowest {
        steps(page, slowest);
    }
}

/// One failover, step by step.
fn steps(page: &mut Page, of: &Value) {
    let host = |key: &str| of.get(key).and_then(Value::as_u64).map_or_else(|| "?".to_owned(), |no| format!("n{no}"));
    let replica = cut(text(of, "replica"), 30);
    page.line(&format!("  the slowest: {replica}, from {} to {}", host("from"), host("to")));
    let most = STEPS.iter().filter_map(|(key, _)| number(of, key)).fold(1e-3, f64::max);
    let mut before = 0.0;
    for (key, name) in STEPS {
        let Some(at) = number(of, key) else { continue };
        let step = (at - before).max(0.0);
        page.line(format!("    {name:<20}+{:<9}{}", seconds(step), bar(step / most, 40)).trim_end());
        before = at;
    }
}

pub(super) fn traffic(page: &mut Page, document: &Value) {
    let nodes = shown(document).and_then(|run| number(run, "nodes")).unwrap_or(1.0).max(1.0);
    let kinds = [
        ("probes", "probe_bytes_per_s"),
        ("control", "control_bytes_per_s"),
        ("push", "push_bytes_per_s"),
        ("sync", "sync_bytes_per_s"),
        ("links", "link_bytes_per_s"),
    ];
    #[allow(clippy::cast_precision_loss, reason = "some hundred samples")]
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64 / nodes;
    let means: Vec<(&str, Vec<f64>)> = kinds.iter().map(|(name, key)| (*name, series(document, key))).collect();
    let all: f64 = means.iter().map(|(_, values)| mean(values)).sum();
    if all <= 0.0 {
        return;
    }
    page.head("Traffic", "bytes that a node sends in a second, by what for; its course");
    for (name, values) in means {
        let (of, peak) = (mean(&values), values.iter().copied().fold(0.0, f64::max).max(1.0));
        let course = squeezed(&values, f64::max);
        let course = blocks(course.chunks(2).map(|pair| pair.iter().copied().fold(0.0, f64::max) / peak));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes a second")]
        let told = render::bytes(of.round().clamp(0.0, 1e15) as u64);
        page.line(&format!("  {name:<9}{told:>10}/s {:>4.0}%  {:<15} {course}", of / all * 100.0, bar(of / all, 14)));
    }
}

pub(super) fn placements(page: &mut Page, document: &Value) {
    let rows = list(document, "placements");
    if rows.is_empty() {
        return;
    }
    let end = end(document);
    page.head("Placements", "where replicas ran: number of the node, ─ ready, ┄ starting");
    let moved = |row: &&Value| list(row, "stays").len() > 1;
    let (moving, still): (Vec<&Value>, Vec<&Value>) = rows.iter().partition(moved);
    for row in moving.iter().chain(&still).take(MAX_LINES) {
        let mut strip = vec![' '; PLOT];
        for stay in list(row, "stays") {
            let from = column(number(stay, "from_s").unwrap_or(0.0), end);
            let ready = number(stay, "ready_s").map_or(PLOT, |at| column(at, end));
            let to = number(stay, "to_s").map_or(PLOT, |at| column(at, end));
            for (at, c) in strip.iter_mut().enumerate().take(to).skip(from) {
                *c = if at >= ready { '─' } else { '┄' };
            }
            let host = stay.get("host").and_then(Value::as_u64).map_or_else(|| "?".to_owned(), |no| format!("n{no}"));
            strip.iter_mut().take(to.max(from + 1)).skip(from).zip(host.chars()).for_each(|(c, letter)| *c = letter);
        }
        let name = cut(text(row, "replica"), 16);
        page.line(format!("  {name:<17}{}", strip.into_iter().collect::<String>()).trim_end());
    }
    let left_out = document.get("placements_left_out").and_then(Value::as_u64).unwrap_or(0);
    more(page, rows.len() + usize::try_from(left_out).unwrap_or(0), "replicas");
}
