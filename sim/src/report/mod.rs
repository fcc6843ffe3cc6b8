//! What runs have shown: as JSON, and as one page that a browser shows without a network. It makes texts and writes no files.

mod band;
mod chart;
mod charts;
mod distribution;
mod document;
mod failovers;
mod heat;
mod html;
pub(crate) mod json;
mod lamport;
mod marks;
mod markup;
mod paper;
mod scale;
pub(crate) mod sweep;
mod tables;
mod timeline;

use crate::cli::RunOptions;
use crate::recording::Recording;
use distribution::Distribution;
use json::{Outcome, Timed};

/// A report of one run or many.
#[derive(Clone, Debug)]
pub struct Report {
    /// The page, with everything it needs inside.
    pub html: String,
    /// The same for programs.
    pub json: String,
}

/// All that a report is made of.
struct Material<'a> {
    options: &'a RunOptions,
    outcomes: &'a [Outcome],
    /// The run that is shown over time,
    shown: &'a Outcome,
    /// and what was recorded of it.
    recording: &'a Recording,
    marks: Vec<marks::Mark>,
    rows: Vec<band::Row<'a>>,
    distributions: Vec<Distribution>,
}

impl Report {
    pub(crate) fn new(
        options: &RunOptions,
        outcomes: &[Outcome],
        shown: &Outcome,
        recording: &Recording,
    ) -> Result<Self, String> {
        let details: Vec<&str> = shown.violations.iter().map(|violation| violation.detail.as_str()).collect();
        let material = Material {
            options,
            outcomes,
            shown,
            recording,
            marks: marks::marks(&recording.script, &recording.network),
            rows: band::rows(recording, &details),
            distributions: distributions(outcomes),
        };
        let json = document::text(&material).map_err(|e| format!("the report cannot be written as JSON: {e}"))?;
        Ok(Self { html: html::text(&material), json })
    }
}

impl Material<'_> {
    /// What shows a seed again.
    fn command(&self, seed: u64) -> String {
        let nodes = self.options.nodes.map(|nodes| format!(" --nodes {nodes}")).unwrap_or_default();
        format!("dunlin sim run {}{nodes} --seed {seed}", quoted(&self.options.scenario))
    }
}

/// As a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// The run that is worth looking at: the first that broke a promise, or the one with the longest failover.
pub(crate) fn worst(outcomes: &[Outcome]) -> Option<&Outcome> {
    let broken = outcomes.iter().find(|outcome| !outcome.violations.is_empty());
    let slow = |outcome: &Outcome| {
        [outcome.failover_s, outcome.dns_stale_s, outcome.deploy_s].map(|figure| figure.max.unwrap_or(0.0))
    };
    broken.or_else(|| {
        outcomes.iter().reduce(|worst, next| {
            let (a, b) = (slow(worst), slow(next));
            let later = a.iter().zip(&b).map(|(a, b)| a.total_cmp(b)).find(|order| order.is_ne());
            if later.is_some_and(std::cmp::Ordering::is_lt) { next } else { worst }
        })
    })
}

/// The figures that are times, over all runs.
fn distributions(outcomes: &[Outcome]) -> Vec<Distribution> {
    let of = |field, title, about, samples: fn(&Timed) -> &Vec<crate::measure::Sample>| {
        let mut sorted: Vec<f64> =
            outcomes.iter().flat_map(|outcome| samples(&outcome.samples)).map(|sample| sample.value_s).collect();
        sorted.sort_by(f64::total_cmp);
        Distribution { field, title, about, sorted }
    };
    vec![
        of("detect_s", "Detection", "From a host's death to an observer holding it down", |t| &t.detect),
        of("failover_s", "Failover", "From a host's death to each of its replicas ready elsewhere", |t| &t.failover),
        of("dns_stale_s", "Stale names", "From an instance's end to its going from a node's answers", |t| &t.dns_stale),
        of("deploy_s", "Deploys", "From a deploy to all its replicas ready", |t| &t.deploy),
        of("state_converge_s", "States", "From a write or a heal to all states being equal", |t| &t.state_converge),
        of("membership_converge_s", "Membership", "From a change of who is there to everyone knowing it", |t| {
            &t.membership_converge
        }),
        of("dark_s", "Dark", "How long a service had nothing ready after a fault took the last of it", |t| &t.dark),
        of("duplicate_s", "Duplicates", "How long a replica ran twice at one version", |t| &t.duplicate),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chronicle::Chronicle;
    use crate::invariant::Violation;
    use crate::measure::{Quantiles, Sample};
    use crate::net::Conditions;
    use crate::operator::stack;
    use crate::queue::SECOND;
    use crate::recording::{Heat, Series, Stays};
    use crate::scenario::{self, Action, Crash, Scenario, Step, Target};
    use crate::world::World;
    use dunlin_gossip::model::{AllocId, ReplicaKey, ServiceKey, ServiceName, Slot};
    use dunlin_gossip::rng::Seed;
    use std::sync::Arc;

    const HOSTS: u32 = 1_000;

    fn outcome(seed: u64) -> Outcome {
        let text = scenario::text("kill-one").expect("it is built in");
        let small = Scenario { hosts: 3, ..scenario::parse("kill-one", text).expect("it can be read") };
        let mut outcome = Outcome::of(World::new(Arc::new(small), Seed(seed)), 1.0);
        outcome.nodes = HOSTS;
        let detail = "host 1 says <this> & that; ".repeat(100);
        let violation = Violation { invariant: "p3-progress".to_owned(), at_s: 3.0, detail };
        outcome.violations = vec![violation; 20];
        let samples = (0..20_000_u32).map(|n| Sample { at_s: 1.0, value_s: f64::from(n * n % 9_973) / 1e3 });
        outcome.samples.detect = samples.collect();
        outcome
    }

    /// More of everything than the page shows.
    fn recording() -> Recording {
        let end = 90 * SECOND;
        let column = |by: u64| (0..600_u64).map(|n| n * by * 7_919 % 100_000).collect::<Vec<u64>>();
        let series = Series {
            at_s: (0..600_u32).map(|n| f64::from(n) * 0.15).collect(),
            nodes_up: column(2),
            wanted: column(3),
            running: column(5),
            ready: column(7),
            surplus: column(11),
            states: column(13),
            agree: column(17),
            alive_min: column(19),
            alive_median: column(23),
            alive_max: column(29),
            bytes_per_s: column(31),
            probe_bytes_per_s: column(43),
            control_bytes_per_s: column(47),
            push_bytes_per_s: column(53),
            sync_bytes_per_s: column(59),
            link_bytes_per_s: column(61),
            stale: column(37),
            missing: column(41),
        };
        let mut stays = Stays::default();
        for n in 1..=2_000 {
            let service = ServiceKey { stack: stack(), service: ServiceName::new("web").expect("a name") };
            let replica = ReplicaKey { service, slot: Slot::Number(n) };
            for turn in 0..90 {
                stays.started(turn * SECOND, &replica, n % HOSTS, AllocId(turn));
                stays.ready(turn * SECOND + SECOND / 3, &replica, AllocId(turn));
                stays.ended(turn * SECOND + SECOND, &replica, AllocId(turn));
            }
        }
        let crash = |n| Action::Crash { what: Crash::Hosts, hosts: Target::Hosts((n..HOSTS).collect()) };
        let script = (0..900).map(|n| Step { at: u64::from(n) * SECOND / 10, action: crash(n) }).collect();
        let network = Conditions::default();
        let (about, quiet_from, settle_by) = (String::new(), 60 * SECOND, 80 * SECOND);
        let heat = Heat { hosts: (0..60).collect(), letters: vec![".x".repeat(300); 60] };
        let chronicle = Chronicle::default();
        Recording { about, end, network, quiet_from, settle_by, series, heat, stays, chronicle, script }
    }

    #[test]
    fn the_page_is_small_whatever_has_happened() {
        let first = outcome(0);
        let again = Outcome { samples: Timed::default(), ..first.clone() };
        let rest = (1..400).map(|seed| Outcome { seed, ..again.clone() });
        let outcomes: Vec<Outcome> = [first].into_iter().chain(rest).collect();
        let options =
            RunOptions { scenario: "kill-one".to_owned(), nodes: Some(HOSTS), seeds: 0..=399, jobs: 1, json: false };
        let report = Report::new(&options, &outcomes, &outcomes[0], &recording()).expect("it can be written");
        assert!(report.html.len() < 1_000_000, "{} bytes", report.html.len());
        assert!(report.html.contains("7960 more are in report.json"));
    }

    #[test]
    fn the_worst_run_is_the_first_that_broke_a_promise_or_else_the_slowest() {
        let with = |seed, failover, violations| {
            let failover_s = Quantiles { max: failover, ..Quantiles::default() };
            Outcome { seed, failover_s, violations, ..outcome(1) }
        };
        let broken = outcome(1).violations;
        let slow =
            [with(1, Some(2.0), vec![]), with(2, Some(3.0), vec![]), with(3, Some(3.0), vec![]), with(4, None, vec![])];
        assert_eq!(worst(&slow).map(|outcome| outcome.seed), Some(2));
        let bad = [with(1, Some(2.0), vec![]), with(2, None, broken.clone()), with(3, Some(9.0), broken)];
        assert_eq!(worst(&bad).map(|outcome| outcome.seed), Some(2));
        assert!(worst(&[]).is_none());
    }

    #[test]
    fn commands_are_quoted_for_a_shell() {
        assert_eq!(quoted("./my/kill-one.yaml"), "./my/kill-one.yaml");
        assert_eq!(quoted("it's; rm -rf"), "'it'\\''s; rm -rf'");
    }
}
