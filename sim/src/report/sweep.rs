//! Curves of figures over the size of a flock. The same drawing stands in a page and alone, for a README: it brings its colours along.

use super::markup::{Markup, px};
use super::scale::{Scale, grouped, label, round_step, time};
use super::tables::{begin, end, row};
use crate::measure::Quantiles;
use crate::sweep::{SizeRow, Sweep};

const STYLE: &str = include_str!("style.css");
/// Looks of a drawing that stands alone, on a light ground and on a dark one.
const ALONE: &str = ".back{fill:#ffffff}.title{font:600 13px system-ui,sans-serif;fill:#1b1f24}.tick{font:11px system-ui,sans-serif;fill:#5b6470}\
.grid{stroke:#d5d9df;stroke-width:.7}.axis{stroke:#5b6470}.line{fill:none;stroke-width:2}.blue{stroke:#0068a8}.orange{stroke:#b85300}.red{stroke:#c21f2c}\
circle{stroke:none}circle.blue{fill:#0068a8}circle.orange{fill:#b85300}circle.red{fill:#c21f2c}\
@media(prefers-color-scheme:dark){.back{fill:#14181d}.title{fill:#e4e8ed}.tick{fill:#9aa4b0}.grid{stroke:#363d47}}";
const WIDTH: f64 = 470.0;
const HEIGHT: f64 = 210.0;
const COLUMNS: usize = 2;

/// A curve: its name, its colour, and its value at a size.
struct Curve {
    name: &'static str,
    class: &'static str,
    value: fn(&SizeRow) -> Option<f64>,
}

/// A chart of curves with one unit.
struct Chart {
    title: &'static str,
    unit: &'static str,
    curves: Vec<Curve>,
}

fn times(title: &'static str, of: [fn(&SizeRow) -> Option<f64>; 3]) -> Chart {
    let [p50, p99, max] = of;
    let curves = vec![
        Curve { name: "p50", class: "blue", value: p50 },
        Curve { name: "p99", class: "orange", value: p99 },
        Curve { name: "max", class: "red", value: max },
    ];
    Chart { title, unit: "s", curves }
}

#[allow(clippy::cast_precision_loss, reason = "bytes a second")]
fn charts() -> [Chart; 5] {
    [
        times("Detection of a death", [|r| r.detect_s.p50, |r| r.detect_s.p99, |r| r.detect_s.max]),
        times("Failover", [|r| r.failover_s.p50, |r| r.failover_s.p99, |r| r.failover_s.max]),
        times("Stale names", [|r| r.dns_stale_s.p50, |r| r.dns_stale_s.p99, |r| r.dns_stale_s.max]),
        Chart {
            title: "Bytes a node sends in a second",
            unit: "B/s",
            curves: vec![
                Curve { name: "middle node", class: "blue", value: |r| Some(r.bytes_per_node_s_p50 as f64) },
                Curve { name: "busiest node", class: "red", value: |r| Some(r.bytes_per_node_s_max as f64) },
            ],
        },
        Chart {
            title: "Messages a node sends in a second",
            unit: "1/s",
            curves: vec![Curve { name: "mean node", class: "blue", value: |r| Some(r.messages_per_node_s) }],
        },
    ]
}

/// The drawing alone.
pub(crate) fn svg(sweep: &Sweep) -> String {
    let mut page = Markup::default();
    draw(&mut page, sweep, true);
    page.end()
}

/// A page of it.
pub(crate) fn page(sweep: &Sweep) -> String {
    let mut page = Markup::default();
    page.own("<!doctype html>\n");
    page.open("html", &[("lang", &"en")]);
    page.open("head", &[]);
    page.void("meta", &[("charset", &"utf-8")]);
    page.void("meta", &[("name", &"viewport"), ("content", &"width=device-width, initial-scale=1")]);
    page.void(
        "meta",
        &[("http-equiv", &"Content-Security-Policy"), ("content", &"default-src 'none'; style-src 'unsafe-inline'")],
    );
    page.leaf("title", &[], format!("{} by size: dunlin sim", sweep.scenario));
    page.open("style", &[]);
    page.own(STYLE);
    page.close();
    page.close();
    page.open("body", &[]);
    page.open("main", &[]);
    page.leaf("h1", &[], format!("{} in flocks of several sizes", sweep.scenario));
    page.leaf("pre", &[], &sweep.command);
    draw(&mut page, sweep, false);
    table(&mut page, sweep);
    page.end()
}

fn draw(page: &mut Markup, sweep: &Sweep, is_alone: bool) {
    let charts = charts();
    #[allow(clippy::cast_precision_loss, reason = "a few charts")]
    let (width, height) = (WIDTH * COLUMNS as f64, HEIGHT * charts.len().div_ceil(COLUMNS) as f64);
    let view = format!("0 0 {} {}", px(width), px(height));
    let name = format!("{} in flocks of several sizes", sweep.scenario);
    if is_alone {
        page.open(
            "svg",
            &[("xmlns", &"http://www.w3.org/2000/svg"), ("viewBox", &view), ("role", &"img"), ("aria-label", &name)],
        );
        page.open("style", &[]);
        page.own(ALONE);
        page.close();
        page.shape("rect", &[("width", &px(width)), ("height", &px(height)), ("class", &"back")]);
    } else {
        page.open("svg", &[("viewBox", &view), ("role", &"img"), ("aria-label", &name)]);
    }
    for (index, chart) in charts.iter().enumerate() {
        #[allow(clippy::cast_precision_loss, reason = "a few charts")]
        let at = ((index % COLUMNS) as f64 * WIDTH, (index / COLUMNS) as f64 * HEIGHT);
        page.open("g", &[("transform", &format!("translate({} {})", px(at.0), px(at.1)))]);
        one(page, sweep, chart);
        page.close();
    }
    page.close();
}

/// How many times one node was doubled to make so many, straight within each doubling.
fn doublings(nodes: u32) -> f64 {
    let whole = nodes.max(1).ilog2();
    f64::from(whole) + f64::from(nodes.max(1)) / f64::from(1_u32 << whole) - 1.0
}

/// Doubling a flock is one distance everywhere.
fn one(page: &mut Markup, sweep: &Sweep, chart: &Chart) {
    let log = doublings;
    let (first, last) = (sweep.rows.first().map_or(1, |r| r.nodes), sweep.rows.last().map_or(1, |r| r.nodes));
    let x = Scale { from: log(first) - 0.2, to: log(last) + 0.2, start: 56.0, end: WIDTH - 24.0 };
    let values = || chart.curves.iter().flat_map(|curve| sweep.rows.iter().filter_map(curve.value));
    let most = values().fold(0.0, f64::max).max(1e-3);
    let step = round_step(most / 4.0);
    let y = Scale { from: 0.0, to: (most / step).ceil() * step, start: HEIGHT - 36.0, end: 42.0 };
    page.leaf("text", &[("x", &8), ("y", &18), ("class", &"title")], format!("{}, {}", chart.title, chart.unit));
    for (tick, text) in y.ticks(step) {
        let at = px(y.at(tick));
        page.shape("line", &[("x1", &px(x.start)), ("x2", &px(x.end)), ("y1", &at), ("y2", &at), ("class", &"grid")]);
        text_at(page, (x.start - 6.0, y.at(tick) + 4.0), "end", text);
    }
    for row in &sweep.rows {
        text_at(page, (x.at(log(row.nodes)), HEIGHT - 18.0), "middle", grouped(u64::from(row.nodes)));
    }
    text_at(page, (x.end, HEIGHT - 4.0), "end", "nodes");
    let mut left = x.end;
    for curve in chart.curves.iter().rev() {
        left -= super::paper::width(curve.name) + 26.0;
        let class = format!("line {}", curve.class);
        page.shape("line", &[("x1", &px(left)), ("x2", &px(left + 14.0)), ("y1", &26), ("y2", &26), ("class", &class)]);
        text_at(page, (left + 18.0, 30.0), "start", curve.name);
    }
    for curve in &chart.curves {
        let points: Vec<(f64, f64, &SizeRow, f64)> = sweep
            .rows
            .iter()
            .filter_map(|row| (curve.value)(row).map(|value| (x.at(log(row.nodes)), y.at(value), row, value)))
            .collect();
        let path: Vec<String> = points.iter().map(|(x, y, ..)| format!("{},{}", px(*x), px(*y))).collect();
        let class = format!("line {}", curve.class);
        page.shape("polyline", &[("points", &path.join(" ")), ("class", &class)]);
        for (x, y, row, value) in points {
            let title = format!("{} nodes, {}: {} {}", row.nodes, curve.name, label(value, 0.01), chart.unit);
            page.hint("circle", &[("cx", &px(x)), ("cy", &px(y)), ("r", &3), ("class", &curve.class)], title);
        }
    }
}

fn text_at(page: &mut Markup, (x, y): (f64, f64), anchor: &str, text: impl std::fmt::Display) {
    page.leaf("text", &[("x", &px(x)), ("y", &px(y)), ("text-anchor", &anchor), ("class", &"tick")], text);
}

fn table(page: &mut Markup, sweep: &Sweep) {
    begin(
        page,
        &[
            "nodes",
            "replicas",
            "seeds",
            "broken",
            "detected",
            "p99",
            "failover",
            "p99",
            "stale names p99",
            "bytes/s",
            "messages/s",
        ],
    );
    for of in &sweep.rows {
        let told = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), time);
        let both = |q: &Quantiles| [told(q.p50), told(q.p99)];
        let mut cells = vec![of.replicas.to_string(), of.seeds.to_string(), of.broken.to_string()];
        cells.extend(both(&of.detect_s));
        cells.extend(both(&of.failover_s));
        cells.push(told(of.dns_stale_s.p99));
        cells.extend([grouped(of.bytes_per_node_s_p50), format!("{:.1}", of.messages_per_node_s)]);
        row(page, "", &of.nodes.to_string(), &cells);
    }
    end(page);
}
