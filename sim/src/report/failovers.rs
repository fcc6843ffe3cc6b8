//! Why a failover took as long as it did: the steps from a host's death to the replica in everybody's answers, as a table over all
//! failovers, and the slowest of them as bars.

use super::Material;
use super::markup::{Markup, px};
use super::paper::width;
use super::scale::{Scale, count, label, round_step, time};
use super::tables::{begin_as, end, row};
use crate::chronicle::Failover;
use crate::measure::seconds;
use crate::queue::Nanos;

/// So many are drawn, the slowest first.
const MAX_BARS: usize = 16;
/// Height of one, and where the plot lies.
const ROW: f64 = 20.0;
const LEFT: f64 = 210.0;
const RIGHT: f64 = 900.0;
const WIDTH: f64 = 960.0;
const TOP: f64 = 30.0;

/// A step: its name, its colour, what takes so long in it, and what to do about it.
struct Step {
    name: &'static str,
    class: &'static str,
    about: &'static str,
    end: fn(&Failover) -> Option<Nanos>,
}

const STEPS: [Step; 7] = [
    Step {
        name: "suspected",
        class: "s1",
        about: "until a probe of the node that took over, or of one that told it, was not answered",
        end: |f| f.suspected,
    },
    Step {
        name: "known down",
        class: "s2",
        about: "the time in which a node that lives can refute the suspicion",
        end: |f| f.known,
    },
    Step {
        name: "claimed",
        class: "s3",
        about: "until it was that node's turn on the replica's ladder; long where those before it did not claim, or nothing had room",
        end: |f| f.claimed,
    },
    Step {
        name: "started",
        class: "s4",
        about: "the claim goes to disk, then the driver starts the process ('start' in the scenario)",
        end: |f| f.started,
    },
    Step {
        name: "ready",
        class: "s5",
        about: "the process becomes well ('ready' in the scenario), and its health check finds out",
        end: |f| f.ready,
    },
    Step {
        name: "in a node's DNS",
        class: "s6",
        about: "the first node answers with it, mostly its own",
        end: |f| f.named,
    },
    Step {
        name: "in every node's DNS",
        class: "s7",
        about: "the record that says so has reached everybody",
        end: |f| f.named_by_all,
    },
];

/// Of each step that it went through: which, from when, until when.
fn course(of: &Failover) -> Vec<(usize, Nanos, Nanos)> {
    let mut before = of.died;
    let mut course = Vec::new();
    for (index, step) in STEPS.iter().enumerate() {
        // Who came back where it was is claimed by nobody: what it went through is one step.
        let Some(end) = (step.end)(of).filter(|end| *end >= before) else { continue };
        course.push((index, before, end));
        before = end;
    }
    course
}

/// The section; nothing where nobody died with replicas.
pub(super) fn draw(page: &mut Markup, material: &Material<'_>) {
    let all = &material.recording.chronicle.failovers;
    if all.is_empty() {
        return;
    }
    page.open("section", &[]);
    page.leaf("h2", &[], "Why failovers took as long as they did");
    let ready = all.iter().filter(|of| of.ready.is_some()).count() as u64;
    let text = format!(
        "{} died with their hosts on seed {}; {} came to be ready again. Each step counts from the end of the one before; what is not \
         there was skipped: a host that came back with its replica in time suspects nobody and claims nothing.",
        count(all.len() as u64, "replica", "replicas"),
        material.shown.seed,
        ready
    );
    page.leaf("p", &[("class", &"quiet")], text);
    table(page, all);
    bars(page, all);
    page.close();
}

fn table(page: &mut Markup, all: &[Failover]) {
    begin_as(page, "words", &["step", "failovers", "middle", "longest", "what takes so long"]);
    for (index, step) in STEPS.iter().enumerate() {
        let mut times: Vec<Nanos> =
            all.iter().flat_map(course).filter(|(of, ..)| *of == index).map(|(_, from, to)| to - from).collect();
        times.sort_unstable();
        let told = |at: Option<&Nanos>| at.map_or_else(|| "-".to_owned(), |at| time(seconds(*at)));
        let cells =
            [times.len().to_string(), told(times.get(times.len() / 2)), told(times.last()), step.about.to_owned()];
        row(page, "words", step.name, &cells);
    }
    end(page);
}

fn bars(page: &mut Markup, all: &[Failover]) {
    let last = |of: &Failover| course(of).last().map_or(of.died, |(.., end)| *end) - of.died;
    let mut slowest: Vec<&Failover> = all.iter().collect();
    slowest.sort_by_key(|of| (std::cmp::Reverse(last(of)), &of.replica));
    slowest.truncate(MAX_BARS);
    let longest = seconds(slowest.iter().map(|of| last(of)).max().unwrap_or(0)).max(1e-3);
    let step = round_step(longest / 8.0);
    let x = Scale { from: 0.0, to: (longest / step).ceil() * step, start: LEFT, end: RIGHT };
    #[allow(clippy::cast_precision_loss, reason = "at most MAX_BARS")]
    let height = TOP + slowest.len() as f64 * ROW + 24.0;
    page.open("div", &[("class", &"scroll time")]);
    page.open(
        "svg",
        &[
            ("viewBox", &format!("0 0 {} {}", px(WIDTH), px(height))),
            ("role", &"img"),
            ("aria-label", &"The slowest failovers, step by step."),
        ],
    );
    legend(page);
    for (tick, _) in x.ticks(step) {
        let (at, bottom) = (px(x.at(tick)), px(height - 22.0));
        page.shape("line", &[("x1", &at), ("x2", &at), ("y1", &px(TOP)), ("y2", &bottom), ("class", &"grid")]);
        let place: [(&'static str, &dyn std::fmt::Display); 4] =
            [("x", &at), ("y", &px(height - 8.0)), ("text-anchor", &"middle"), ("class", &"tick")];
        page.leaf("text", &place, format!("{} s", label(tick, step)));
    }
    for (index, of) in slowest.iter().enumerate() {
        #[allow(clippy::cast_precision_loss, reason = "at most MAX_BARS")]
        let y = TOP + index as f64 * ROW;
        bar(page, &x, of, y);
    }
    page.close();
    page.close();
}

fn legend(page: &mut Markup) {
    let mut left = LEFT;
    for step in &STEPS {
        let class = step.class;
        page.shape("rect", &[("x", &px(left)), ("y", &7), ("width", &12), ("height", &10), ("class", &class)]);
        page.leaf("text", &[("x", &px(left + 16.0)), ("y", &16)], step.name);
        left += width(step.name) + 28.0;
    }
}

fn bar(page: &mut Markup, x: &Scale, of: &Failover, y: f64) {
    let to = of.to.map_or_else(|| "nowhere yet".to_owned(), |to| format!("n{to}"));
    let name = format!("{}: n{} to {to}", of.replica, of.from);
    let place: [(&'static str, &dyn std::fmt::Display); 4] =
        [("x", &px(LEFT - 8.0)), ("y", &px(y + 13.0)), ("text-anchor", &"end"), ("class", &"tick")];
    page.hint_text(&place, super::marks::shortened(&name, 32), format!("{name}, died at {:.3} s", seconds(of.died)));
    for (index, from, to) in course(of) {
        let Some(step) = STEPS.get(index) else { continue };
        let (left, right) = (x.at(seconds(from - of.died)), x.at(seconds(to - of.died)));
        let place: [(&'static str, &dyn std::fmt::Display); 5] = [
            ("x", &px(left)),
            ("y", &px(y + 2.0)),
            ("width", &px((right - left).max(0.6))),
            ("height", &px(ROW - 5.0)),
            ("class", &step.class),
        ];
        let title = format!(
            "{}: {}, until {} after the death",
            step.name,
            time(seconds(to - from)),
            time(seconds(to - of.died))
        );
        page.hint("rect", &place, title);
    }
}
