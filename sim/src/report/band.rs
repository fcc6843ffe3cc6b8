//! Where replicas ran: a row each, a bar for each process, its node in it. A replica that came to run elsewhere than where it
//! ran first changes its colour; two processes at a time share a row.

use super::marks::shortened;
use super::markup::{Markup, px};
use super::paper::{Axis, LEFT, RIGHT, TOP, width};
use crate::measure::seconds;
use crate::queue::Nanos;
use crate::recording::{Recording, Stay};

/// Height of a replica's row.
const ROW: f64 = 13.0;
/// More replicas are not shown.
pub(super) const MAX_ROWS: usize = 64;
/// More bars are not drawn, of one replica
const MAX_BARS: usize = 60;
/// and of all.
const MAX_ALL_BARS: usize = 800;
/// The longest name of a replica.
const NAME: usize = 14;

/// A replica and its processes.
pub(super) type Row<'a> = (String, &'a [Stay]);

/// The replicas that are shown: those that `details` are about, then those with the most processes, then the first; in order of
/// their names.
pub(super) fn rows<'a>(recording: &'a Recording, details: &[&str]) -> Vec<Row<'a>> {
    let mut rows: Vec<(bool, usize, usize, Row<'a>)> = Vec::new();
    for (order, (replica, stays)) in recording.stays.of.iter().enumerate() {
        let name = replica.to_string();
        let is_told = details.iter().any(|detail| detail.contains(&name));
        rows.push((!is_told, usize::MAX - stays.len(), order, (name, stays)));
    }
    rows.sort_by_key(|(untold, few, order, _)| (*untold, *few, *order));
    rows.truncate(MAX_ROWS);
    rows.sort_by_key(|(_, _, order, _)| *order);
    rows.into_iter().map(|(_, _, _, row)| row).collect()
}

/// Draws them.
pub(super) fn draw(page: &mut Markup, axis: &Axis, recording: &Recording, rows: &[Row<'_>]) {
    #[allow(clippy::cast_precision_loss, reason = "at most MAX_ROWS")]
    let height = (rows.len() as f64).max(1.0) * ROW + 4.0;
    let about = format!("{} of {} replicas, and on which node each ran when.", rows.len(), recording.stays.of.len());
    axis.begin(page, "Placements", &about, height);
    legend(page);
    let mut left = MAX_ALL_BARS;
    for (index, (name, stays)) in rows.iter().enumerate() {
        #[allow(clippy::cast_precision_loss, reason = "at most MAX_ROWS")]
        let y = TOP + 2.0 + index as f64 * ROW;
        let place: [(&'static str, &dyn std::fmt::Display); 4] =
            [("x", &px(LEFT - 6.0)), ("y", &px(y + 10.0)), ("text-anchor", &"end"), ("class", &"tick")];
        page.hint_text(&place, shortened(name, NAME), name);
        let bars = stays.get(..MAX_BARS.min(left)).unwrap_or(stays);
        left -= bars.len();
        for (nth, stay) in bars.iter().enumerate() {
            let before = bars.get(..nth).unwrap_or_default();
            bar(page, axis, name, &Bar { stay, before, end: recording.end }, y);
        }
        for (nth, stay) in bars.iter().enumerate() {
            let before = bars.get(..nth).unwrap_or_default();
            on(page, axis, &Bar { stay, before, end: recording.end }, y);
        }
    }
    page.close();
}

fn legend(page: &mut Markup) {
    let entries = [
        ("starting", "not ready yet"),
        ("home", "ready, where it ran first"),
        ("moved", "ready elsewhere"),
        ("second", "a second process at that time"),
    ];
    let mut x = RIGHT - entries.iter().map(|(_, text)| width(text) + 34.0).sum::<f64>();
    for (class, text) in entries {
        page.shape("rect", &[("x", &px(x)), ("y", &5), ("width", &14), ("height", &9), ("class", &class)]);
        page.leaf("text", &[("x", &px(x + 18.0)), ("y", &14)], text);
        x += width(text) + 34.0;
    }
}

/// A process among those of its replica that started before it.
struct Bar<'a> {
    stay: &'a Stay,
    before: &'a [Stay],
    end: Nanos,
}

impl Bar<'_> {
    fn to(&self) -> Nanos {
        self.stay.to.unwrap_or(self.end)
    }

    /// Until when another one ran beside it that had started before.
    fn alone_from(&self) -> Nanos {
        let others = self.before.iter().map(|other| other.to.unwrap_or(self.end));
        others.max().unwrap_or(0).clamp(self.stay.from, self.to())
    }

    /// What is drawn: from when to when, in which colour, and whether only in the lower half of the row.
    fn pieces(&self) -> [(Nanos, Nanos, &'static str, bool); 4] {
        let (from, to, alone) = (self.stay.from, self.to(), self.alone_from());
        let ready = self.stay.ready.unwrap_or(to).min(to);
        let is_home = self.before.first().is_none_or(|first| first.host == self.stay.host);
        let class = if is_home { "home" } else { "moved" };
        [
            (from, ready.min(alone), "starting", true),
            (ready, alone, "second", true),
            (from.max(alone), ready, "starting", false),
            (ready.max(alone), to, class, false),
        ]
    }
}

fn bar(page: &mut Markup, axis: &Axis, name: &str, bar: &Bar<'_>, y: f64) {
    let stay = bar.stay;
    let place = |at: Nanos| axis.x.at(seconds(at));
    let until = stay.to.map_or_else(|| "the end".to_owned(), |at| format!("{:.2} s", seconds(at)));
    let readiness = stay.ready.map_or_else(|| "never ready".to_owned(), |at| format!("ready at {:.2} s", seconds(at)));
    let title = format!("{name} on node {}: {:.2} s to {until}, {readiness}", stay.host, seconds(stay.from));
    page.open("g", &[]);
    page.leaf("title", &[], title);
    for (from, to, class, is_half) in bar.pieces().into_iter().filter(|(from, to, _, _)| to > from) {
        let (top, high) = if is_half { (y + 6.5, 5.0) } else { (y + 1.0, ROW - 2.5) };
        let (left, wide) = (px(place(from)), px((place(to) - place(from)).max(0.6)));
        page.shape(
            "rect",
            &[("x", &left), ("y", &px(top)), ("width", &wide), ("height", &px(high)), ("class", &class)],
        );
    }
    page.close();
}

/// Its node, where there is room for it, over all bars of the row.
fn on(page: &mut Markup, axis: &Axis, bar: &Bar<'_>, y: f64) {
    let place = |at: Nanos| axis.x.at(seconds(at));
    let [.., (from, to, _, _)] = bar.pieces();
    let label = format!("n{}", bar.stay.host);
    if to > from && place(to) - place(from) > width(&label) + 6.0 {
        page.leaf("text", &[("x", &px(place(from) + 3.0)), ("y", &px(y + 9.5)), ("class", &"on")], label);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_gossip::model::AllocId;

    #[test]
    fn a_second_process_is_one_only_while_the_first_runs() {
        let stay = |host, from, ready, to| Stay { alloc: AllocId(from), host, from, ready: Some(ready), to };
        let before = [stay(1, 0, 5, Some(40))];
        let pieces = |stay: &Stay| {
            let bar = Bar { stay, before: &before, end: 100 };
            bar.pieces().into_iter().filter(|(from, to, _, _)| to > from).collect::<Vec<_>>()
        };
        assert_eq!(
            pieces(&stay(2, 20, 30, None)),
            [(20, 30, "starting", true), (30, 40, "second", true), (40, 100, "moved", false)]
        );
        assert_eq!(pieces(&stay(1, 50, 60, Some(70))), [(50, 60, "starting", false), (60, 70, "home", false)]);
        assert_eq!(pieces(&stay(2, 20, 50, Some(30))), [(20, 30, "starting", true)]);
    }
}
