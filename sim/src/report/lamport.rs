//! What led to a broken promise, as Lamport draws it: a line a host, time downwards, an arrow a message. Moments are at equal
//! distances in their order, so that what happened within a microsecond can be read; the real times stand beside them.

use std::collections::{BTreeMap, BTreeSet};

use super::markup::{Markup, px};
use crate::chronicle::{Message, Past};
use crate::measure::seconds;
use crate::net::HostNo;
use crate::queue::Nanos;

const LEFT: f64 = 84.0;
const RIGHT: f64 = 900.0;
const TOP: f64 = 34.0;
/// The distance of two moments.
const STEP: f64 = 15.0;
/// The longest text beside a line.
const NOTE: usize = 34;

/// Places on paper: of hosts across, of moments downwards.
struct Places<'a> {
    hosts: &'a [HostNo],
    moments: Vec<Nanos>,
}

impl Places<'_> {
    #[allow(clippy::cast_precision_loss, reason = "a few lanes and moments")]
    fn x(&self, host: HostNo) -> Option<f64> {
        let index = self.hosts.iter().position(|known| *known == host)?;
        let gaps = self.hosts.len().max(2) as f64;
        Some(LEFT + (index as f64 + 0.3) * (RIGHT - LEFT) / gaps)
    }

    #[allow(clippy::cast_precision_loss, reason = "a few lanes and moments")]
    fn y(&self, at: Nanos) -> f64 {
        TOP + 8.0 + self.moments.partition_point(|moment| *moment < at) as f64 * STEP
    }
}

/// Draws it.
pub(super) fn draw(page: &mut Markup, past: &Past) {
    if past.hosts.is_empty() || (past.messages.is_empty() && past.notes.is_empty()) {
        return;
    }
    let arrivals = past.messages.iter().filter_map(|message| message.arrives).filter(|at| *at <= past.at);
    let moments: BTreeSet<Nanos> = past
        .messages
        .iter()
        .map(|m| m.sent)
        .chain(arrivals)
        .chain(past.notes.iter().map(|n| n.at))
        .chain([past.at])
        .collect();
    let places = Places { hosts: &past.hosts, moments: moments.into_iter().collect() };
    let height = places.y(past.at) + 26.0;
    page.open("details", &[("open", &"")]);
    page.leaf("summary", &[], "What led to it");
    let about = "A line a host, time downwards in the order of moments, an arrow a message; those that carry records come before probes and greetings. \
                 A dotted arrow was lost, or not there yet.";
    page.leaf("p", &[("class", &"quiet")], about);
    page.open("div", &[("class", &"scroll time")]);
    page.open(
        "svg",
        &[
            ("viewBox", &format!("0 0 960 {}", px(height))),
            ("role", &"img"),
            ("aria-label", &"The messages that led to the broken promise."),
        ],
    );
    lanes(page, &places, past, height);
    past.messages.iter().for_each(|message| arrow(page, &places, message, past.at));
    // What a host said in one moment has one place.
    let mut said: BTreeMap<(HostNo, Nanos), Vec<&str>> = BTreeMap::new();
    past.notes.iter().for_each(|note| said.entry((note.host, note.at)).or_default().push(&note.text));
    for ((host, at), texts) in said {
        let Some(x) = places.x(host) else { continue };
        let y = places.y(at);
        page.shape("circle", &[("cx", &px(x)), ("cy", &px(y)), ("r", &3.2), ("class", &"point")]);
        // Beside the last line there is no room on the right.
        let (left, anchor) = if past.hosts.last() == Some(&host) { (x - 7.0, "end") } else { (x + 7.0, "start") };
        let place: [(&'static str, &dyn std::fmt::Display); 4] =
            [("x", &px(left)), ("y", &px(y + 4.0)), ("text-anchor", &anchor), ("class", &"said")];
        let more = if texts.len() > 1 { format!(" (+{})", texts.len() - 1) } else { String::new() };
        let first = super::marks::shortened(texts.first().copied().unwrap_or_default(), NOTE - more.len());
        let full = format!("{:.6} s: n{host}\n{}", seconds(at), texts.join("\n"));
        page.hint_text(&place, format!("{first}{more}"), full);
    }
    let (y, right) = (px(places.y(past.at)), px(RIGHT + 40.0));
    page.shape("line", &[("x1", &px(LEFT - 10.0)), ("x2", &right), ("y1", &y), ("y2", &y), ("class", &"end")]);
    page.close();
    page.close();
    page.close();
}

fn lanes(page: &mut Markup, places: &Places<'_>, past: &Past, height: f64) {
    for host in &past.hosts {
        let Some(x) = places.x(*host) else { continue };
        page.shape(
            "line",
            &[("x1", &px(x)), ("x2", &px(x)), ("y1", &px(TOP)), ("y2", &px(height - 10.0)), ("class", &"axis")],
        );
        let place: [(&'static str, &dyn std::fmt::Display); 3] =
            [("x", &px(x)), ("y", &px(TOP - 10.0)), ("text-anchor", &"middle")];
        page.leaf("text", &place, format!("n{host}"));
    }
    // Not each moment's time: beside each other they could not be read.
    let mut free = 0.0;
    for moment in places.moments.iter().chain([&past.at]) {
        let y = places.y(*moment);
        if y < free {
            continue;
        }
        let place: [(&'static str, &dyn std::fmt::Display); 4] =
            [("x", &px(LEFT - 14.0)), ("y", &px(y + 4.0)), ("text-anchor", &"end"), ("class", &"tick")];
        page.leaf("text", &place, format!("{:.4} s", seconds(*moment)));
        free = y + STEP * 2.0;
    }
}

fn arrow(page: &mut Markup, places: &Places<'_>, message: &Message, end: Nanos) {
    let (Some(from), Some(to)) = (places.x(message.from), places.x(message.to)) else { return };
    let arrives = message.arrives.filter(|at| *at <= end);
    let (y, until) = (places.y(message.sent), places.y(arrives.unwrap_or(end)));
    // What is lost ends half way.
    let (to, until) = if arrives.is_some() { (to, until) } else { (f64::midpoint(from, to), f64::midpoint(y, until)) };
    let class = format!("arrow {}{}", message.kind.word(), if arrives.is_some() { "" } else { " lost" });
    page.open("g", &[("class", &class)]);
    let came = message.arrives.map_or_else(|| "was lost".to_owned(), |at| format!("came at {:.6} s", seconds(at)));
    page.leaf(
        "title",
        &[],
        format!(
            "{} from n{} to n{}: sent at {:.6} s, {came}",
            message.kind.word(),
            message.from,
            message.to,
            seconds(message.sent)
        ),
    );
    page.shape("line", &[("x1", &px(from)), ("x2", &px(to)), ("y1", &px(y)), ("y2", &px(until))]);
    if arrives.is_some() {
        let (dx, dy) = (to - from, until - y);
        let length = (dx * dx + dy * dy).sqrt().max(1.0);
        let (ux, uy) = (dx / length, dy / length);
        let corner = |side: f64| format!("{},{}", px(to - 7.0 * ux - side * uy), px(until - 7.0 * uy + side * ux));
        let points = format!("{},{} {} {}", px(to), px(until), corner(3.0), corner(-3.0));
        page.shape("polygon", &[("points", &points)]);
    }
    page.close();
}
