//! How a time is distributed: a histogram, and below it the share of samples that are at most so long.

use super::markup::{Markup, px};
use super::scale::{Scale, count, grouped, round_step, time};

const WIDTH: f64 = 460.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 440.0;
/// The histogram,
const BARS: (f64, f64) = (110.0, 30.0);
/// and the shares.
const SHARES: (f64, f64) = (216.0, 136.0);
const BINS: u32 = 32;

/// A figure and all its samples, ascending.
pub(super) struct Distribution {
    /// Its name in JSON.
    pub(super) field: &'static str,
    pub(super) title: &'static str,
    pub(super) about: &'static str,
    pub(super) sorted: Vec<f64>,
}

impl Distribution {
    /// The smallest sample that is not less than so many in a hundred of all.
    pub(super) fn quantile(&self, percent: usize) -> Option<f64> {
        let rank = (self.sorted.len() * percent).div_ceil(100).max(1);
        self.sorted.get(rank - 1).copied()
    }

    fn axis(&self) -> Option<(Scale, f64)> {
        let (low, high) = (*self.sorted.first()?, *self.sorted.last()?);
        let step = round_step(((high - low) / 6.0).max(high / 20.0).max(1e-4));
        let from = (low / step).floor() * step;
        let to = ((high / step).floor() + 1.0) * step;
        Some((Scale { from: from.max(0.0), to, start: LEFT, end: RIGHT }, step))
    }
}

/// Draws it in a card of its own.
pub(super) fn draw(page: &mut Markup, of: &Distribution) {
    page.open("div", &[("class", &"card")]);
    page.leaf("h3", &[], of.title);
    page.leaf("p", &[("class", &"quiet")], of.about);
    let quantiles: Vec<String> = [50, 90, 99, 100]
        .into_iter()
        .filter_map(|percent| {
            let name = if percent == 100 { "max".to_owned() } else { format!("p{percent}") };
            of.quantile(percent).map(|value| format!("{name} {}", time(value)))
        })
        .collect();
    if let Some((x, step)) = of.axis() {
        let text = format!("{}: {}", count(of.sorted.len() as u64, "sample", "samples"), quantiles.join(", "));
        page.leaf("p", &[], &text);
        page.open(
            "svg",
            &[
                ("viewBox", &format!("0 0 {} 254", px(WIDTH))),
                ("role", &"img"),
                ("aria-label", &format!("{}. {text}", of.title)),
            ],
        );
        histogram(page, of, &x);
        shares(page, of, &x);
        axis(page, &x, step);
        page.close();
    } else {
        page.leaf("p", &[("class", &"quiet")], "Nothing was measured: the scenario does not bring it about.");
    }
    page.close();
}

fn line(page: &mut Markup, (x1, y1): (f64, f64), (x2, y2): (f64, f64), class: &str) {
    page.shape("line", &[("x1", &px(x1)), ("y1", &px(y1)), ("x2", &px(x2)), ("y2", &px(y2)), ("class", &class)]);
}

fn words(page: &mut Markup, (x, y): (f64, f64), anchor: &str, text: impl std::fmt::Display) {
    page.leaf("text", &[("x", &px(x)), ("y", &px(y)), ("text-anchor", &anchor), ("class", &"tick")], text);
}

#[allow(clippy::cast_precision_loss, reason = "for display")]
fn histogram(page: &mut Markup, of: &Distribution, x: &Scale) {
    let width = (x.to - x.from) / f64::from(BINS);
    let mut bins = vec![0_u64; BINS as usize];
    for value in &of.sorted {
        let bin = (0..BINS - 1).find(|bin| *value < x.from + f64::from(bin + 1) * width).unwrap_or(BINS - 1);
        if let Some(bin) = bins.get_mut(bin as usize) {
            *bin += 1;
        }
    }
    let most = bins.iter().copied().max().unwrap_or(1).max(1);
    let step = round_step(most as f64 / 3.0).max(1.0);
    let y = Scale { from: 0.0, to: (most as f64 / step).ceil() * step, start: BARS.0, end: BARS.1 };
    words(page, (0.0, BARS.1 - 14.0), "start", "samples");
    for (tick, text) in y.ticks(step) {
        line(page, (LEFT, y.at(tick)), (RIGHT, y.at(tick)), "grid");
        words(page, (LEFT - 5.0, y.at(tick) + 4.0), "end", text);
    }
    for (from, bin) in (0..BINS).map(|bin| x.from + f64::from(bin) * width).zip(bins).filter(|(_, bin)| *bin > 0) {
        let (left, right) = (x.at(from), x.at(from + width));
        let top = y.at(bin as f64);
        let place: [(&'static str, &dyn std::fmt::Display); 5] = [
            ("x", &px(left + 0.5)),
            ("y", &px(top)),
            ("width", &px(right - left - 1.0)),
            ("height", &px(BARS.0 - top)),
            ("class", &"bar"),
        ];
        page.hint("rect", &place, format!("{} to {}: {}", time(from), time(from + width), grouped(bin)));
    }
}

/// At most so many points of the line are drawn; between them it differs by less than is seen.
const POINTS: usize = 400;

#[allow(clippy::cast_precision_loss, reason = "for display")]
fn shares(page: &mut Markup, of: &Distribution, x: &Scale) {
    let y = Scale { from: 0.0, to: 100.0, start: SHARES.0, end: SHARES.1 };
    words(page, (0.0, SHARES.1 - 10.0), "start", "share that took at most so long");
    for tick in [0.0, 50.0, 90.0, 100.0] {
        line(page, (LEFT, y.at(tick)), (RIGHT, y.at(tick)), "grid");
    }
    for tick in [0.0, 50.0, 100.0] {
        words(page, (LEFT - 5.0, y.at(tick) + 4.0), "end", format!("{tick:.0} %"));
    }
    let all = of.sorted.len();
    let mut path = format!("M{} {}", px(x.start), px(y.start));
    for nth in (1..=all).filter(|nth| nth * POINTS / all != (nth - 1) * POINTS / all) {
        let Some(value) = of.sorted.get(nth - 1) else { continue };
        path.push_str(&format!("H{}V{}", px(x.at(*value)), px(y.at(nth as f64 * 100.0 / all as f64))));
    }
    path.push_str(&format!("H{}", px(x.end)));
    page.shape("path", &[("d", &path), ("class", &"line blue")]);
    for percent in [50, 90, 99] {
        let Some(value) = of.quantile(percent) else { continue };
        let at = y.at(f64::from(u32::try_from(percent).unwrap_or(100)));
        let place: [(&'static str, &dyn std::fmt::Display); 4] =
            [("cx", &px(x.at(value))), ("cy", &px(at)), ("r", &3.5), ("class", &"point")];
        page.hint("circle", &place, format!("{percent} of 100 took at most {}", time(value)));
    }
}

fn axis(page: &mut Markup, x: &Scale, step: f64) {
    for bottom in [BARS.0, SHARES.0] {
        line(page, (LEFT, bottom), (RIGHT, bottom), "axis");
    }
    let (unit, times) = if x.to < 0.01 { ("ms", 1e3) } else { ("s", 1.0) };
    let shown = Scale { from: x.from * times, to: x.to * times, ..*x };
    for (tick, text) in shown.ticks(step * times) {
        line(page, (shown.at(tick), SHARES.0), (shown.at(tick), SHARES.0 + 4.0), "axis");
        words(page, (shown.at(tick), SHARES.0 + 16.0), "middle", text);
    }
    words(page, (RIGHT, SHARES.0 + 32.0), "end", format!("time in {unit}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_holds_every_sample_and_no_more_than_it_needs() {
        for sorted in [vec![0.0], vec![2.71, 3.05], vec![0.000_164, 3.05], vec![5.0, 5.0, 5.0], vec![100.0]] {
            let of = Distribution { field: "", title: "", about: "", sorted };
            let (x, step) = of.axis().expect("there are samples");
            let (low, high) = (of.sorted[0], of.sorted[of.sorted.len() - 1]);
            assert!(x.from <= low && high < x.to, "{x:?} for {:?}", of.sorted);
            assert!(low - x.from <= step && x.to - high <= step * 1.001, "{x:?} for {:?}", of.sorted);
        }
        let none = Distribution { field: "", title: "", about: "", sorted: Vec::new() };
        assert!(none.axis().is_none() && none.quantile(50).is_none());
    }
}
