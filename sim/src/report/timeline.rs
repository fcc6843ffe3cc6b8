//! The timeline of faults and writes, with broken promises on top of it. Marks go into the first row that has room for them and
//! their words.

use super::marks::Mark;
use super::markup::{Markup, px};
use super::paper::{Axis, RIGHT, TOP, width};
use super::scale::count;
use crate::invariant::Violation;

/// Height of a row.
const ROW: f64 = 16.0;
/// More rows than this are no picture any more: what finds no room is drawn in the last one, without words.
const MAX_ROWS: usize = 14;
/// The longest words at a mark.
const WORDS: usize = 44;
/// The longest that whoever points at it is told.
const MOST: usize = 160;
/// So many marks are drawn; all of them are in `report.json`.
const MAX_MARKS: usize = 250;

/// Where a mark is drawn.
struct Place {
    row: usize,
    words: Option<(f64, &'static str)>,
}

/// Draws it.
pub(super) fn draw(page: &mut Markup, axis: &Axis, marks: &[Mark], violations: &[Violation]) {
    let shown = marks.get(..MAX_MARKS).unwrap_or(marks);
    let places = places(axis, shown);
    let above = if violations.is_empty() { 0.0 } else { ROW };
    let rows = places.iter().map(|place| place.row + 1).max().unwrap_or(1);
    #[allow(clippy::cast_precision_loss, reason = "at most MAX_ROWS")]
    let height = above + ROW * rows as f64 + 4.0;
    let broken = count(violations.len() as u64, "broken promise", "broken promises");
    let about = format!("{} and {broken}; listed below.", count(marks.len() as u64, "event", "events"));
    axis.begin(page, "Events", &about, height);
    for violation in violations {
        let (x, y) = (axis.x.at(violation.at_s), TOP + 2.0);
        let points = format!("{},{} {},{} {},{}", px(x), px(y + 11.0), px(x - 6.0), px(y), px(x + 6.0), px(y));
        let title = format!("{:.2} s: {} broken", violation.at_s, violation.invariant);
        page.hint("polygon", &[("points", &points), ("class", &"broken")], title);
    }
    for (mark, place) in shown.iter().zip(&places) {
        one(page, axis, mark, place, TOP + above);
    }
    page.close();
}

#[allow(clippy::cast_precision_loss, reason = "at most MAX_ROWS")]
fn one(page: &mut Markup, axis: &Axis, mark: &Mark, place: &Place, top: f64) {
    let y = top + ROW * place.row as f64 + ROW / 2.0 + 2.0;
    let x = axis.x.at(mark.at_s);
    let ends = mark.until_s.map(|until| format!(" to {until:.2} s")).unwrap_or_default();
    page.open("g", &[("class", &mark.kind.class())]);
    page.leaf("title", &[], format!("{:.2} s{ends}: {}", mark.at_s, mark.text(MOST)));
    if let Some(until) = mark.until_s {
        let width = (axis.x.at(until) - x).max(1.0);
        page.shape(
            "rect",
            &[("x", &px(x)), ("y", &px(y - 5.0)), ("width", &px(width)), ("height", &10), ("class", &"span")],
        );
    }
    page.shape("circle", &[("cx", &px(x)), ("cy", &px(y)), ("r", &4)]);
    if let Some((x, anchor)) = place.words {
        page.leaf("text", &[("x", &px(x)), ("y", &px(y + 4.0)), ("text-anchor", &anchor)], mark.text(WORDS));
    }
    page.close();
}

/// The first row in which a mark with its words overlaps nothing that is there.
fn places(axis: &Axis, marks: &[Mark]) -> Vec<Place> {
    let mut rows: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut places = Vec::new();
    for mark in marks {
        let x = axis.x.at(mark.at_s);
        let end = mark.until_s.map_or(x, |until| axis.x.at(until));
        let width = width(&mark.text(WORDS));
        let before = x + 8.0 + width > RIGHT;
        let (from, to, words) = if before {
            (x - 10.0 - width, end.max(x + 5.0), (x - 8.0, "end"))
        } else {
            (x - 5.0, end.max(x + 10.0 + width), (x + 8.0, "start"))
        };
        let is_free = |row: &Vec<(f64, f64)>| row.iter().all(|(a, b)| to < *a || from > *b);
        match rows.iter().position(is_free) {
            Some(row) => places.push((row, Some(words))),
            None if rows.len() < MAX_ROWS => {
                rows.push(Vec::new());
                places.push((rows.len() - 1, Some(words)));
            }
            None => places.push((MAX_ROWS, None)),
        }
        if let Some(row) = places.last().and_then(|(row, _)| rows.get_mut(*row)) {
            row.push((from, to));
        }
    }
    places.into_iter().map(|(row, words)| Place { row, words }).collect()
}
