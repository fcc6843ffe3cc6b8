//! Which charts there are, and how the series becomes their lines.

use super::chart::{Chart, Line};
use super::scale::byte_unit;
use crate::recording::Series;

/// All of them, from the workloads down to the wire.
pub(super) fn of(series: &Series) -> Vec<Chart<'static>> {
    replicas(series).into_iter().chain(agreement(series)).chain([names(series), traffic(series)]).collect()
}

fn replicas(series: &Series) -> [Chart<'static>; 2] {
    let wanted = &series.wanted;
    [
        Chart {
            title: "Replicas",
            unit: "number".to_owned(),
            about: "Replicas that should run, that run and that are ready.",
            may_be_decades: false,
            lines: vec![
                line("wanted", "wide grey", wanted),
                line("running", "blue", &series.running),
                line("ready", "green", &series.ready),
            ],
        },
        Chart {
            title: "Replicas amiss",
            unit: "replicas".to_owned(),
            about: "What is missing or too many.",
            may_be_decades: true,
            lines: vec![
                less("not ready", "wide orange", wanted, &series.ready),
                less("not running", "red", wanted, &series.running),
                line("too many", "purple", &series.surplus),
            ],
        },
    ]
}

fn agreement(series: &Series) -> [Chart<'static>; 2] {
    let up = &series.nodes_up;
    [
        Chart {
            title: "Convergence",
            unit: "nodes".to_owned(),
            about: "How many nodes run and how many of them hold the same state.",
            may_be_decades: false,
            lines: vec![
                line("running", "wide grey", up),
                line("hold the commonest state", "blue", &series.agree),
                line("different states", "red", &series.states),
            ],
        },
        Chart {
            title: "Membership",
            unit: "held alive less running".to_owned(),
            about: "Above nought the dead are held alive, below it the living are not.",
            may_be_decades: true,
            lines: vec![
                less("node that holds the most", "wide orange", &series.alive_max, up),
                less("the fewest", "wide red", &series.alive_min, up),
                less("the middle", "blue", &series.alive_median, up),
            ],
        },
    ]
}

fn names(series: &Series) -> Chart<'static> {
    Chart {
        title: "Names amiss",
        unit: "answers over all nodes".to_owned(),
        about: "Answers with what is not ready, and without what is.",
        may_be_decades: true,
        lines: vec![line("stale", "wide red", &series.stale), line("missing", "orange", &series.missing)],
    }
}

/// Means of a second or more: at the distance of the samples single packets would be all that is seen.
fn traffic(series: &Series) -> Chart<'static> {
    let (unit, size) = byte_unit(series.bytes_per_s.iter().copied().max().unwrap_or(0));
    let step = series.at_s.first().copied().unwrap_or(1.0).max(1e-3);
    let group = (1..=100_u32).find(|n| f64::from(*n) * step >= 1.0).unwrap_or(1);
    let of = |name, class, values: &[u64]| {
        let values = means(values, group as usize).into_iter().map(|bytes| bytes / size).collect();
        Line { name, class, values }
    };
    Chart {
        title: "Traffic",
        unit: format!("{unit}/s, means of {:.1} s", f64::from(group) * step),
        about: "What all nodes send, headers included, and what it is for.",
        may_be_decades: true,
        lines: vec![
            of("all", "wide grey", &series.bytes_per_s),
            of("probes", "blue", &series.probe_bytes_per_s),
            of("records", "green", &series.push_bytes_per_s),
            of("sync", "red", &series.sync_bytes_per_s),
            of("greetings", "orange", &series.control_bytes_per_s),
            of("links", "purple", &series.link_bytes_per_s),
        ],
    }
}

#[allow(clippy::cast_precision_loss, reason = "for display")]
fn line(name: &'static str, class: &'static str, values: &[u64]) -> Line<'static> {
    Line { name, class, values: values.iter().map(|value| *value as f64).collect() }
}

#[allow(clippy::cast_precision_loss, reason = "for display")]
fn less(name: &'static str, class: &'static str, from: &[u64], what: &[u64]) -> Line<'static> {
    Line { name, class, values: from.iter().zip(what).map(|(from, what)| *from as f64 - *what as f64).collect() }
}

/// Each value replaced by the mean of its group.
#[allow(clippy::cast_precision_loss, reason = "for display")]
fn means(values: &[u64], group: usize) -> Vec<f64> {
    let mean = |group: &[u64]| vec![group.iter().sum::<u64>() as f64 / group.len() as f64; group.len()];
    values.chunks(group).flat_map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_keep_the_sum_and_the_number_of_samples() {
        assert_eq!(means(&[1, 3, 5, 7, 9], 2), [2.0, 2.0, 6.0, 6.0, 9.0]);
    }
}
