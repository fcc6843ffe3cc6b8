//! Who held the state that most held, and when: a row a node, its colour by the moment.

use super::markup::{Markup, px};
use super::paper::{Axis, LEFT, RIGHT, TOP, width};
use crate::recording::Heat;

/// Height of all rows together, and of one at most.
const HEIGHT: f64 = 240.0;
const MOST: f64 = 12.0;

/// Draws it under the axis of all drawings over time.
pub(super) fn draw(page: &mut Markup, axis: &Axis, at: &[f64], heat: &Heat) {
    if heat.hosts.is_empty() {
        return;
    }
    #[allow(clippy::cast_precision_loss, reason = "at most some dozens")]
    let rows = heat.hosts.len() as f64;
    let size = (HEIGHT / rows).min(MOST);
    let about = "A row a node: whether it holds the state that most nodes hold, another one, or does not run.";
    axis.begin(page, "Convergence by node", about, size * rows);
    legend(page);
    let coarse = coarse(heat);
    for (index, (host, letters)) in heat.hosts.iter().zip(&heat.letters).enumerate() {
        #[allow(clippy::cast_precision_loss, reason = "at most some dozens")]
        let y = TOP + index as f64 * size;
        if size > 9.0 || index % 4 == 0 {
            let place: [(&'static str, &dyn std::fmt::Display); 4] =
                [("x", &px(LEFT - 6.0)), ("y", &px(y + size / 2.0 + 4.0)), ("text-anchor", &"end"), ("class", &"tick")];
            page.leaf("text", &place, format!("n{host}"));
        }
        row(page, axis, at, (*host, letters), coarse, (y, size));
    }
    page.close();
}

/// Pieces of all rows together; beyond, neighbouring moments become one.
const MAX_PIECES: usize = 1_500;

/// So many moments become one, so that all rows have no more pieces than can be drawn.
fn coarse(heat: &Heat) -> usize {
    let pieces = |size: usize| heat.letters.iter().map(|letters| pieces(letters, size).len()).sum::<usize>();
    (0..16).map(|n| 1 << n).find(|size| pieces(*size) <= MAX_PIECES).unwrap_or(usize::MAX)
}

/// What is not as it should be: from which moment, up to which, and what. Of moments that became one the worst counts.
fn pieces(letters: &str, size: usize) -> Vec<(usize, usize, char)> {
    let letters: Vec<char> = letters.chars().collect();
    let worst = |part: &[char]| ['x', ' ', '.'].into_iter().find(|letter| part.contains(letter)).unwrap_or('.');
    let mut all: Vec<(usize, usize, char)> = Vec::new();
    for (index, part) in letters.chunks(size).enumerate() {
        let (from, to, letter) = (index * size, index * size + part.len(), worst(part));
        match all.last_mut().filter(|(_, end, last)| *last == letter && *end == from) {
            Some((_, end, _)) => *end = to,
            None if letter != '.' => all.push((from, to, letter)),
            None => {}
        }
    }
    all
}

/// A row: how it should be, and over it what was not so.
fn row(page: &mut Markup, axis: &Axis, at: &[f64], (host, letters): (u32, &str), size: usize, (y, high): (f64, f64)) {
    let moment = |index: usize| index.checked_sub(1).and_then(|before| at.get(before)).copied().unwrap_or(0.0);
    let end = at.last().copied().unwrap_or(0.0);
    let mut piece = |from: f64, to: f64, class: &'static str, what: &str| {
        let (left, right) = (axis.x.at(from), axis.x.at(to));
        let place: [(&'static str, &dyn std::fmt::Display); 5] = [
            ("x", &px(left)),
            ("y", &px(y + 0.5)),
            ("width", &px((right - left).max(0.5))),
            ("height", &px(high - 1.0)),
            ("class", &class),
        ];
        page.hint("rect", &place, format!("n{host} {what}, {from:.2} to {to:.2} s"));
    };
    piece(0.0, end, "agrees", "holds the commonest state");
    for (from, to, letter) in pieces(letters, size) {
        let (class, what) = if letter == 'x' { ("differs", "holds another state") } else { ("absent", "does not run") };
        piece(moment(from), moment(to), class, what);
    }
}

fn legend(page: &mut Markup) {
    let entries = [("agrees", "the commonest state"), ("differs", "another"), ("absent", "does not run")];
    let mut x = RIGHT - entries.iter().map(|(_, text)| width(text) + 34.0).sum::<f64>();
    for (class, text) in entries {
        page.shape("rect", &[("x", &px(x)), ("y", &5), ("width", &14), ("height", &9), ("class", &class)]);
        page.leaf("text", &[("x", &px(x + 18.0)), ("y", &14)], text);
        x += width(text) + 34.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_amiss_is_drawn_and_never_too_much_of_it() {
        assert_eq!(pieces("..xx. x", 1), [(2, 4, 'x'), (5, 6, ' '), (6, 7, 'x')]);
        assert_eq!(pieces("..xx. x", 4), [(0, 7, 'x')], "of moments that became one the worst counts");
        let heat = Heat { hosts: (0..60).collect(), letters: vec![".x".repeat(300); 60] };
        let size = coarse(&heat);
        assert!(
            size > 1 && heat.letters.iter().map(|letters| pieces(letters, size).len()).sum::<usize>() <= MAX_PIECES
        );
    }
}
