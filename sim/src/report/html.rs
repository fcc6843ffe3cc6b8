//! The page: one file with everything inside it, no script, nothing from a network, light and dark, readable on a phone.

use super::marks::shortened;
use super::markup::Markup;
use super::paper::Axis;
use super::scale::count;
use super::{Material, band, chart, charts, distribution, failovers, heat, lamport, tables, timeline};
use crate::invariant::Violation;

const STYLE: &str = include_str!("style.css");
/// So many broken promises are seen at once.
const AT_ONCE: usize = 4;
/// More broken promises are not told one by one; all are in `report.json`.
const MAX_VIOLATIONS: usize = 40;
/// The longest account of one.
const MAX_DETAIL: usize = 2_000;

pub(super) fn text(material: &Material<'_>) -> String {
    let mut page = Markup::default();
    let shown = material.shown;
    page.own("<!doctype html>\n");
    page.open("html", &[("lang", &"en")]);
    page.open("head", &[]);
    page.void("meta", &[("charset", &"utf-8")]);
    page.void("meta", &[("name", &"viewport"), ("content", &"width=device-width, initial-scale=1")]);
    // Whatever it holds, it asks nobody for anything and runs nothing.
    let policy = "default-src 'none'; style-src 'unsafe-inline'";
    page.void("meta", &[("http-equiv", &"Content-Security-Policy"), ("content", &policy)]);
    page.leaf("title", &[], format!("{}: dunlin sim", shown.scenario));
    page.open("style", &[]);
    page.own(STYLE);
    page.close();
    page.close();
    page.open("body", &[]);
    page.open("main", &[]);
    head(&mut page, material);
    verdict(&mut page, material);
    figures(&mut page, material);
    over_time(&mut page, material);
    failovers::draw(&mut page, material);
    distributions(&mut page, material);
    lists(&mut page, material);
    page.leaf("footer", &[("class", &"quiet")], concat!("dunlin ", env!("CARGO_PKG_VERSION")));
    page.end()
}

fn head(page: &mut Markup, material: &Material<'_>) {
    let shown = material.shown;
    page.leaf("h1", &[], &shown.scenario);
    page.leaf("p", &[], &material.recording.about);
    let seeds = match material.outcomes {
        [one] => format!("seed {}", one.seed),
        many => count(many.len() as u64, "seed", "seeds"),
    };
    let (nodes, replicas) = (u64::from(shown.nodes), u64::from(shown.replicas));
    let text = format!(
        "{}, {}, {seeds}, {:.0} s of virtual time each",
        count(nodes, "node", "nodes"),
        count(replicas, "replica", "replicas"),
        shown.simulated_s
    );
    page.leaf("p", &[("class", &"quiet")], text);
}

fn verdict(page: &mut Markup, material: &Material<'_>) {
    let broken: Vec<_> = material.outcomes.iter().filter(|outcome| !outcome.violations.is_empty()).collect();
    let all = material.outcomes.len() as u64;
    let class = if broken.is_empty() { "verdict good" } else { "verdict bad" };
    page.open("section", &[("class", &class)]);
    if broken.is_empty() {
        page.leaf("h2", &[], "Every promise was kept");
        page.leaf(
            "p",
            &[],
            format!("P1 to P8, as far as they are about what runs here, on {}.", count(all, "seed", "seeds")),
        );
        page.close();
        return;
    }
    let verb = if broken.len() == 1 { "seed broke" } else { "seeds broke" };
    page.leaf("h2", &[], format!("{} of {} {verb} a promise", broken.len(), all));
    let each = broken.iter().flat_map(|outcome| {
        let numbered = outcome.violations.iter().enumerate();
        numbered.map(|(number, violation)| (outcome.seed, (number, violation)))
    });
    let total = each.clone().count();
    each.clone().take(AT_ONCE).for_each(|(seed, violation)| broken_promise(page, material, seed, violation));
    if total > AT_ONCE {
        page.open("details", &[]);
        page.leaf("summary", &[], format!("{} more", total.min(MAX_VIOLATIONS) - AT_ONCE));
        let more = each.take(MAX_VIOLATIONS).skip(AT_ONCE);
        more.for_each(|(seed, violation)| broken_promise(page, material, seed, violation));
        page.close();
    }
    if total > MAX_VIOLATIONS {
        page.leaf("p", &[], format!("{} more are in report.json.", total - MAX_VIOLATIONS));
    }
    page.close();
}

fn broken_promise(page: &mut Markup, material: &Material<'_>, seed: u64, (number, violation): (usize, &Violation)) {
    page.open("article", &[]);
    page.leaf("h3", &[], format!("{} at {:.3} s, seed {seed}", violation.invariant, violation.at_s));
    // Seed, time and command stand around it.
    let what = violation.detail.split_once("s: ").map_or(violation.detail.as_str(), |(_, what)| what);
    let what = what.rsplit_once(" [again: ").map_or(what, |(what, _)| what);
    page.leaf("p", &[], shortened(what, MAX_DETAIL));
    page.leaf("pre", &[], material.command(seed));
    let pasts = material.recording.chronicle.pasts.iter();
    let past = pasts.filter(|past| seed == material.shown.seed && past.violation == number);
    past.for_each(|past| lamport::draw(page, past));
    page.close();
}

fn figures(page: &mut Markup, material: &Material<'_>) {
    page.open("section", &[]);
    page.leaf("h2", &[], "Figures");
    page.open("div", &[("class", &"cards")]);
    for table in [tables::times, tables::counts] {
        page.open("div", &[("class", &"card")]);
        table(page, material);
        page.close();
    }
    page.close();
    page.close();
}

fn over_time(page: &mut Markup, material: &Material<'_>) {
    let recording = material.recording;
    page.open("section", &[]);
    page.leaf("h2", &[], format!("Seed {} over time", material.shown.seed));
    if material.outcomes.len() > 1 {
        let why = if material.shown.violations.is_empty() {
            "The slowest seed."
        } else {
            "The first seed that broke a promise."
        };
        page.leaf("p", &[("class", &"quiet")], why);
    }
    let help = "All drawings share one axis of virtual time. The shaded part is the time in which everything must settle. \
                Point at anything to read its values.";
    page.leaf("p", &[("class", &"quiet")], help);
    page.leaf("pre", &[], material.command(material.shown.seed));
    let axis = Axis::new(recording, &material.marks);
    page.open("div", &[("class", &"scroll time")]);
    timeline::draw(page, &axis, &material.marks, &material.shown.violations);
    for chart in charts::of(&recording.series) {
        chart::draw(page, &axis, &recording.series.at_s, &chart);
    }
    heat::draw(page, &axis, &recording.series.at_s, &recording.heat);
    band::draw(page, &axis, recording, &material.rows);
    page.close();
    let left_out = recording.stays.of.len() - material.rows.len();
    if left_out > 0 {
        let text =
            format!("{} are not shown; those that moved come first.", count(left_out as u64, "replica", "replicas"));
        page.leaf("p", &[("class", &"quiet")], text);
    }
    page.open("details", &[]);
    page.leaf("summary", &[], format!("All {}", count(material.marks.len() as u64, "event", "events")));
    tables::events(page, material);
    page.close();
    tables::moves(page, material);
    tables::accusations(page, material);
    page.close();
}

fn distributions(page: &mut Markup, material: &Material<'_>) {
    page.open("section", &[]);
    page.leaf("h2", &[], "Distributions");
    page.open("div", &[("class", &"cards")]);
    material.distributions.iter().for_each(|of| distribution::draw(page, of));
    page.close();
    page.close();
}

fn lists(page: &mut Markup, material: &Material<'_>) {
    if material.outcomes.len() > 1 {
        page.open("section", &[]);
        page.leaf("h2", &[], "Seeds");
        tables::seeds(page, material);
        page.close();
    }
    page.open("section", &[]);
    page.leaf("h2", &[], "What had an effect");
    tables::faults(page, material);
    page.close();
}
