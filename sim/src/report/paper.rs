//! What all drawings over time share: one axis, so that what happened can be followed straight down through all of them.

use super::marks::Mark;
use super::markup::{Markup, px};
use super::scale::{Scale, round_step};
use crate::measure::seconds;
use crate::recording::Recording;

/// Width of a drawing over time, in its own units.
pub(super) const WIDTH: f64 = 960.0;
/// Where plots begin and end.
pub(super) const LEFT: f64 = 92.0;
pub(super) const RIGHT: f64 = 944.0;
/// Above a plot: its title and legend.
pub(super) const TOP: f64 = 26.0;
/// Below a plot: the axis.
pub(super) const BOTTOM: f64 = 22.0;
/// About the width of a character of a label.
const LETTER: f64 = 6.2;
/// About how much room such a text takes.
#[allow(clippy::cast_precision_loss, reason = "a few words")]
pub(super) fn width(text: &str) -> f64 {
    text.chars().count() as f64 * LETTER
}

/// More lines than this hide what they mark.
const MAX_LINES: usize = 80;

/// The axis of time.
#[derive(Debug)]
pub(super) struct Axis {
    pub(super) x: Scale,
    settle: (f64, f64),
    lines: Vec<(f64, &'static str)>,
}

impl Axis {
    pub(super) fn new(recording: &Recording, marks: &[Mark]) -> Self {
        Self {
            x: Scale { from: 0.0, to: seconds(recording.end).max(1e-3), start: LEFT, end: RIGHT },
            settle: (seconds(recording.quiet_from), seconds(recording.settle_by)),
            lines: marks.iter().take(MAX_LINES).map(|mark| (mark.at_s, mark.kind.class())).collect(),
        }
    }

    /// Opens a drawing whose plot is so high, and draws what lies behind it; the caller closes it.
    pub(super) fn begin(&self, page: &mut Markup, title: &str, about: &str, height: f64) {
        let bottom = TOP + height;
        page.open(
            "svg",
            &[
                ("viewBox", &format!("0 0 {} {}", px(WIDTH), px(bottom + BOTTOM))),
                ("role", &"img"),
                ("aria-label", &format!("{title}. {about}")),
            ],
        );
        page.leaf("text", &[("x", &0), ("y", &14), ("class", &"title")], title);
        let (from, to) = (self.x.at(self.settle.0), self.x.at(self.settle.1));
        if to > from {
            let (x, y, width, height) = (px(from), px(TOP), px(to - from), px(height));
            let place: [(&'static str, &dyn std::fmt::Display); 5] =
                [("x", &x), ("y", &y), ("width", &width), ("height", &height), ("class", &"settle")];
            page.hint("rect", &place, "nothing disturbs any more: everything must settle in this time");
        }
        for (at, class) in &self.lines {
            let x = px(self.x.at(*at));
            page.shape("line", &[("x1", &x), ("x2", &x), ("y1", &px(TOP)), ("y2", &px(bottom)), ("class", class)]);
        }
        let step = round_step(self.x.to / 10.0);
        for (tick, text) in self.x.ticks(step) {
            let x = px(self.x.at(tick));
            page.shape(
                "line",
                &[("x1", &x), ("x2", &x), ("y1", &px(bottom)), ("y2", &px(bottom + 4.0)), ("class", &"axis")],
            );
            let place: [(&'static str, &dyn std::fmt::Display); 4] =
                [("x", &x), ("y", &px(bottom + 16.0)), ("text-anchor", &"middle"), ("class", &"tick")];
            page.leaf("text", &place, format!("{text} s"));
        }
        let (left, right, y) = (px(LEFT), px(RIGHT), px(bottom));
        page.shape("line", &[("x1", &left), ("x2", &right), ("y1", &y), ("y2", &y), ("class", &"axis")]);
    }
}
