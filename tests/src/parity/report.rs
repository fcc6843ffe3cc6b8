//! Both sides beside each other: distributions, the ratio of their medians, and a verdict by one table of limits.

use dunlin_sim::Sample;
use dunlin_sim::cli::Outcome;
use serde_json::{Value, json};

use super::clock::Real;
use super::plan::{Deed, Step};

/// How far apart two medians may lie. Within `apart` of each other, in the figure's own unit, they are equal whatever their
/// ratio: below that, one looks at the resolution of the measurement.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Their ratio is at most `1 + ratio`, either way.
    ratio: f64,
    apart: f64,
}

/// A figure: its name in the simulator's report, where it is found on each side, and how far apart the sides may lie.
struct Figure {
    name: &'static str,
    limit: Limit,
    why: &'static str,
    simulated: fn(&Outcome, &[Step]) -> Vec<f64>,
    real: fn(&Real, &[Step]) -> Vec<f64>,
}

/// Samples of what began with a step; the simulator's start has no counterpart here.
fn times(list: &[Sample], steps: &[Step]) -> Vec<f64> {
    after(list, steps, |_| true)
}

/// Samples of what began with such a step.
fn after(list: &[Sample], steps: &[Step], which: fn(&Deed) -> bool) -> Vec<f64> {
    let is_it = |sample: &&Sample| {
        // The step took effect a little later than it was due.
        let began = sample.at_s - sample.value_s + 0.001;
        steps.iter().rev().find(|step| step.at.as_secs_f64() <= began).is_some_and(|step| which(&step.deed))
    };
    list.iter().filter(is_it).map(|sample| sample.value_s).collect()
}

/// Samples of what began with the death of a host, and not later with something else that ended.
fn of_a_death(list: &[Sample], steps: &[Step]) -> Vec<f64> {
    let died = |step: &&Step| matches!(step.deed, Deed::CrashHosts(_) | Deed::CrashBusyHosts(_));
    let deaths: Vec<f64> = steps.iter().filter(died).map(|step| step.at.as_secs_f64()).collect();
    let began_with_one = |sample: &&Sample| deaths.iter().any(|at| (sample.at_s - sample.value_s - at).abs() < 0.001);
    list.iter().filter(began_with_one).map(|sample| sample.value_s).collect()
}

/// Somebody comes or comes back, rather than goes.
const fn brings_back(deed: &Deed) -> bool {
    matches!(deed, Deed::Restart | Deed::Heal)
}

fn seconds(ms: &[u64]) -> Vec<f64> {
    ms.iter().map(|ms| number(*ms) / 1_000.0).collect()
}

#[allow(clippy::cast_precision_loss)]
const fn number(n: u64) -> f64 {
    n as f64
}

const fn within(ratio: f64, apart: f64) -> Limit {
    Limit { ratio, apart }
}

/// The one table of limits.
const FIGURES: [Figure; 14] = [
    Figure {
        name: "detect_s",
        limit: within(0.2, 0.1),
        why: "the promise: a simulated detection is what users will see",
        simulated: |o, steps| times(&o.samples.detect, steps),
        real: |r, _| seconds(&r.told.detect_ms),
    },
    Figure {
        name: "failover_s",
        limit: within(0.2, 0.1),
        why: "the promise: a simulated failover is what users will see",
        simulated: |o, steps| times(&o.samples.failover, steps),
        real: |r, _| seconds(&r.told.failover_ms),
    },
    Figure {
        name: "dns_stale_s",
        limit: within(0.35, 0.15),
        why: "asked every 50 ms of one observer after the other",
        simulated: |o, steps| of_a_death(&o.samples.dns_stale, steps),
        real: |r, _| seconds(&r.dns_stale_ms),
    },
    Figure {
        name: "membership_converge_s (gone)",
        limit: within(0.2, 0.25),
        why: "one sample a step, the worst of all observers, seen every 50 ms",
        simulated: |o, steps| after(&o.samples.membership_converge, steps, |deed| !brings_back(deed)),
        real: |r, steps| after(&r.membership, steps, |deed| !brings_back(deed)),
    },
    Figure {
        name: "membership_converge_s (back)",
        limit: within(0.5, 1.0),
        why: "starts and handshakes of all hosts, and a heal's stops and starts of workloads, share this machine's cores",
        simulated: |o, steps| after(&o.samples.membership_converge, steps, brings_back),
        real: |r, steps| after(&r.membership, steps, brings_back),
    },
    Figure {
        name: "state_converge_s",
        limit: within(1.0, 0.5),
        why: "while replicas start, states are equal for moments between two changes; whether one is seen is chance",
        simulated: |o, steps| times(&o.samples.state_converge, steps),
        real: |r, steps| times(&r.state, steps),
    },
    Figure {
        name: "deploy_s",
        limit: within(1.0, 1.0),
        why: "all hosts share this machine's cores, and start all their workloads at once",
        simulated: |o, steps| times(&o.samples.deploy, steps),
        real: |r, _| seconds(&r.told.deploy_ms),
    },
    Figure {
        name: "false_positives",
        limit: within(0.0, 1.0),
        why: "none is promised without loss; with loss, single ones",
        simulated: |o, _| vec![number(o.false_positives)],
        real: |r, _| vec![number(r.told.false_positives)],
    },
    Figure {
        name: "moves",
        limit: within(1.0, 2.0),
        why: "hosts that are hit had more or fewer replicas (the harness hits the last of those that are busy, the simulator any); across a cut, each change of who started one last counts",
        simulated: |o, _| vec![number(o.moves)],
        real: |r, _| vec![number(r.told.moves)],
    },
    Figure {
        name: "packets",
        limit: within(0.2, 20.0),
        why: "probes come at a fixed rate; what rides on suspicion varies",
        simulated: |o, _| vec![number(o.counts.packets)],
        real: |r, _| vec![number(r.counts.packets)],
    },
    Figure {
        name: "frames",
        limit: within(0.5, 600.0),
        why: "records that change together are one frame or several; the first change of a world goes down all its new links",
        simulated: |o, _| vec![number(o.counts.frames)],
        real: |r, _| vec![number(r.counts.frames)],
    },
    Figure {
        name: "syncs",
        limit: within(1.0, 10.0),
        why: "few; each begins when two roots happen to differ for long enough",
        simulated: |o, _| vec![number(o.counts.syncs)],
        real: |r, _| vec![number(r.counts.syncs)],
    },
    Figure {
        name: "driver_commands",
        limit: within(0.2, 10.0),
        why: "nearly all are health probes at a fixed interval",
        simulated: |o, _| vec![number(o.counts.driver_commands)],
        real: |r, _| vec![number(r.counts.driver_commands)],
    },
    Figure {
        name: "bytes_per_node_s",
        limit: within(0.5, 100.0),
        why: "QUIC's own acknowledgements and keep-alives are an estimate in the simulator",
        simulated: |o, _| vec![number(o.bytes_per_node_s.p50)],
        real: |r, _| vec![number(median(r.bytes_per_node_s.clone()))],
    },
];

fn median(mut list: Vec<u64>) -> u64 {
    list.sort_unstable();
    list.get(list.len() / 2).copied().unwrap_or(0)
}

/// One figure of both sides.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name in the simulator's report.
    pub name: &'static str,
    /// How far apart they may lie,
    pub limit: Limit,
    /// and why not less.
    pub why: &'static str,
    /// All samples of all runs, ascending.
    pub simulated: Vec<f64>,
    /// The same.
    pub real: Vec<f64>,
}

/// What is thought of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing was measured on either side: the scenario has no such thing.
    Nothing,
    /// Near enough.
    Near,
    /// Beyond the limit, or measured on one side only.
    Far,
}

fn quantile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

impl Row {
    /// Real over simulated, of the medians.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        let (simulated, real) = (quantile(&self.simulated, 50)?, quantile(&self.real, 50)?);
        (simulated > 0.0).then(|| real / simulated)
    }

    /// Near or far.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match (quantile(&self.simulated, 50), quantile(&self.real, 50)) {
            (None, None) => Verdict::Nothing,
            (Some(simulated), Some(real)) => {
                let (low, high) = (simulated.min(real), simulated.max(real));
                let near = high - low <= self.limit.apart || high <= low * (1.0 + self.limit.ratio);
                if near { Verdict::Near } else { Verdict::Far }
            }
            _ => Verdict::Far,
        }
    }
}

/// Both sides of one scenario.
#[must_use]
pub fn compare(steps: &[Step], simulated: &[Outcome], real: &[Real]) -> Vec<Row> {
    let sorted = |mut list: Vec<f64>| {
        list.sort_by(f64::total_cmp);
        list
    };
    let row = |figure: &Figure| Row {
        name: figure.name,
        limit: figure.limit,
        why: figure.why,
        simulated: sorted(simulated.iter().flat_map(|run| (figure.simulated)(run, steps)).collect()),
        real: sorted(real.iter().flat_map(|run| (figure.real)(run, steps)).collect()),
    };
    FIGURES.iter().map(row).collect()
}

fn cell(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(v) if v >= 100.0 || v.fract() == 0.0 => format!("{v:.0}"),
        Some(v) => format!("{v:.2}"),
    }
}

/// The table, for people.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut out =
        "| figure | simulated p50 | p90 | max | real p50 | p90 | max | real / simulated | limit | samples | |\n\
                   |---|---|---|---|---|---|---|---|---|---|---|"
            .to_owned();
    for row in rows.iter().filter(|row| row.verdict() != Verdict::Nothing) {
        let three = |list: &[f64]| [50, 90, 100].map(|percent| cell(quantile(list, percent)));
        let [s50, s90, smax] = three(&row.simulated);
        let [r50, r90, rmax] = three(&row.real);
        let limit = format!("{:.2} or ±{}", 1.0 + row.limit.ratio, row.limit.apart);
        let samples = format!("{}, {}", row.simulated.len(), row.real.len());
        let far = if row.verdict() == Verdict::Far { format!("FAR ({})", row.why) } else { String::new() };
        let cells = [row.name, &s50, &s90, &smax, &r50, &r90, &rmax, &cell(row.ratio()), &limit, &samples, &far];
        out.push_str(&format!("\n| {} |", cells.join(" | ")));
    }
    out
}

/// The document, for programs.
#[must_use]
pub fn json(scenario: &str, nodes: u8, rows: &[Row]) -> Value {
    let side = |list: &[f64]| {
        let [p50, p90, max] = [50, 90, 100].map(|percent| quantile(list, percent));
        json!({"p50": p50, "p90": p90, "max": max, "samples": list.len()})
    };
    let row = |row: &Row| {
        json!({
            "figure": row.name,
            "simulated": side(&row.simulated),
            "real": side(&row.real),
            "ratio": row.ratio(),
            "limit": {"ratio": 1.0 + row.limit.ratio, "apart": row.limit.apart, "why": row.why},
            "near": row.verdict() != Verdict::Far,
        })
    };
    json!({"scenario": scenario, "nodes": nodes, "figures": rows.iter().map(row).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(simulated: &[f64], real: &[f64]) -> Row {
        let limit = within(0.2, 0.1);
        Row { name: "x", limit, why: "y", simulated: simulated.to_vec(), real: real.to_vec() }
    }

    #[test]
    fn far_is_beyond_ratio_and_distance_and_what_one_side_lacks() {
        assert_eq!(row(&[2.0, 2.5, 3.0], &[2.1, 2.9, 9.0]).verdict(), Verdict::Near);
        assert_eq!(row(&[2.5], &[3.1]).verdict(), Verdict::Far);
        assert_eq!(row(&[3.1], &[2.5]).verdict(), Verdict::Far);
        assert_eq!(row(&[0.01], &[0.1]).verdict(), Verdict::Near, "below the resolution");
        assert_eq!(row(&[], &[]).verdict(), Verdict::Nothing);
        assert_eq!(row(&[], &[0.0]).verdict(), Verdict::Far);
        assert_eq!(row(&[2.0], &[3.0]).ratio(), Some(1.5));
        assert!(table(&[row(&[2.5], &[3.1])]).contains("FAR"));
    }
}
