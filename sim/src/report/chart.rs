//! Lines over time: one chart, its legend, its scale, and what whoever points at it is told.

use super::markup::{Markup, px};
use super::paper::{Axis, LEFT, RIGHT, TOP, width};
use super::scale::{Scale, label, round_step};

/// Height of a plot.
const HEIGHT: f64 = 110.0;
/// The plot is divided into so many columns that tell their values.
const COLUMNS: usize = 100;
/// Values that reach further than this are drawn by decades where that is allowed, so that one of a thousand is seen.
const FLAT: f64 = 20.0;

/// A line.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) class: &'static str,
    pub(super) values: Vec<f64>,
}

/// A chart.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    /// In which unit its values are.
    pub(super) unit: String,
    /// One sentence: what it shows.
    pub(super) about: &'a str,
    /// By decades if values reach far: 1, 10 and 100 lie at equal distances.
    pub(super) may_be_decades: bool,
    pub(super) lines: Vec<Line<'a>>,
}

/// Where values lie, upwards.
struct Height {
    scale: Scale,
    by_decades: bool,
    ticks: Vec<(f64, String)>,
}

impl Height {
    fn of(chart: &Chart<'_>) -> Self {
        let values = || chart.lines.iter().flat_map(|line| line.values.iter().copied());
        let (low, high) = (values().fold(0.0, f64::min), values().fold(0.0, f64::max));
        let by_decades = chart.may_be_decades && (high > FLAT || low < -FLAT);
        let (from, to) = (decades(low, by_decades), decades(high, by_decades).max(1.0));
        let (start, end) = (TOP + HEIGHT, TOP + 6.0);
        if by_decades {
            let (from, to) = (from.floor(), to.ceil());
            let powers = (0..=12).map(|n| (f64::from(n + 1), 10_f64.powi(n)));
            let all = powers.flat_map(|(at, value)| [(at, value), (-at, -value)]).chain([(0.0, 0.0)]);
            let inside = all.filter(|(at, _)| *at >= from && *at <= to);
            let ticks = inside.map(|(at, value)| (at, label(value, 1.0))).collect();
            return Self { scale: Scale { from, to, start, end }, by_decades, ticks };
        }
        let step = round_step((to - from) / 4.0).max(1.0);
        let to = (to / step).ceil() * step;
        let from = (from / step).floor() * step;
        let scale = Scale { from, to, start, end };
        Self { scale, by_decades, ticks: scale.ticks(step) }
    }

    fn at(&self, value: f64) -> f64 {
        self.scale.at(decades(value, self.by_decades))
    }
}

/// How many decades a value is from nought, straight within each: 1 is at 1, 10 at 2, 55 at 2.5, 100 at 3.
fn decades(value: f64, by_decades: bool) -> f64 {
    let size = value.abs();
    if !by_decades || size <= 1.0 {
        return value;
    }
    let (mut at, mut power) = (1.0, 1.0);
    while power * 10.0 <= size {
        power *= 10.0;
        at += 1.0;
    }
    (at + (size / power - 1.0) / 9.0).copysign(value)
}

/// Draws a chart of values at these moments.
pub(super) fn draw(page: &mut Markup, axis: &Axis, at: &[f64], chart: &Chart<'_>) {
    axis.begin(page, chart.title, chart.about, HEIGHT);
    let height = Height::of(chart);
    legend(page, chart, height.by_decades);
    for (tick, text) in &height.ticks {
        let y = px(height.scale.at(*tick));
        let (left, right) = (px(LEFT), px(RIGHT));
        page.shape("line", &[("x1", &left), ("x2", &right), ("y1", &y), ("y2", &y), ("class", &"grid")]);
        let place: [(&'static str, &dyn std::fmt::Display); 4] = [
            ("x", &px(LEFT - 6.0)),
            ("y", &px(height.scale.at(*tick) + 4.0)),
            ("text-anchor", &"end"),
            ("class", &"tick"),
        ];
        page.leaf("text", &place, text);
    }
    for line in &chart.lines {
        let class = format!("line {}", line.class);
        page.shape("path", &[("d", &path(axis, &height, at, &line.values)), ("class", &class)]);
    }
    columns(page, axis, at, chart);
    page.close();
}

fn legend(page: &mut Markup, chart: &Chart<'_>, by_decades: bool) {
    let mut x = width(chart.title) * 1.4 + 10.0;
    let unit = if by_decades { format!("{}, by decades", chart.unit) } else { chart.unit.clone() };
    page.leaf("text", &[("x", &px(x)), ("y", &14), ("class", &"tick")], &unit);
    x = RIGHT - chart.lines.iter().map(|line| width(line.name) + 36.0).sum::<f64>();
    for line in &chart.lines {
        let class = format!("line {}", line.class);
        page.shape("line", &[("x1", &px(x)), ("x2", &px(x + 16.0)), ("y1", &10), ("y2", &10), ("class", &class)]);
        page.leaf("text", &[("x", &px(x + 20.0)), ("y", &14)], line.name);
        x += width(line.name) + 36.0;
    }
}

/// A line that holds each value until the next one. What does not change takes no room.
fn path(axis: &Axis, height: &Height, at: &[f64], values: &[f64]) -> String {
    let mut path = String::new();
    let (mut last_y, mut last_x) = (String::new(), LEFT);
    for (at, value) in at.iter().zip(values) {
        let (x, y) = (axis.x.at(*at), px(height.at(*value)));
        if path.is_empty() {
            path = format!("M{} {y}", px(x));
        } else if y != last_y {
            path.push_str(&format!("H{}V{y}", px(x)));
        }
        (last_y, last_x) = (y, x);
    }
    path.push_str(&format!("H{}", px(last_x)));
    path
}

/// Columns without colour that tell what lies in them.
fn columns(page: &mut Markup, axis: &Axis, at: &[f64], chart: &Chart<'_>) {
    let size = at.len().div_ceil(COLUMNS).max(1);
    page.open("g", &[("class", &"columns")]);
    for (column, moments) in at.chunks(size).enumerate() {
        let (Some(first), Some(last)) = (moments.first(), moments.last()) else { continue };
        let next = at.get((column + 1) * size).unwrap_or(last);
        let mut text = format!("{first:.1} s");
        for line in &chart.lines {
            let values = line.values.chunks(size).nth(column).unwrap_or_default();
            let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
            let values = if high - low < 0.5 { format!("{high:.0}") } else { format!("{low:.0} to {high:.0}") };
            text.push_str(&format!("\n{}: {values}", line.name));
        }
        let x = axis.x.at(*first);
        let width = px((axis.x.at(*next) - x).max(1.0));
        let place: [(&'static str, &dyn std::fmt::Display); 4] =
            [("x", &px(x)), ("y", &px(TOP)), ("width", &width), ("height", &px(HEIGHT))];
        page.hint("rect", &place, text);
    }
    page.close();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decades_lie_at_equal_distances() {
        let at = |value| decades(value, true);
        for (value, place) in
            [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (10.0, 2.0), (55.0, 2.5), (1_000.0, 4.0), (-10.0, -2.0)]
        {
            assert!((at(value) - place).abs() < 1e-9, "{value} lies at {}", at(value));
        }
    }
}
