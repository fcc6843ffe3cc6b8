//! Why nodes do not take a replica, with the figures: each reason, and on how many nodes.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::model::ServiceSpec;

use crate::place::{Misfit, Room};

/// Reasons, counted.
#[derive(Debug)]
pub(super) struct Tally<'a> {
    spec: &'a ServiceSpec,
    /// By reason, and the refusing node's own words: how many nodes, and the most that is left on any of them.
    counts: BTreeMap<(Misfit, String), (usize, Room)>,
}

impl<'a> Tally<'a> {
    /// Nothing counted yet of what a specification asks.
    pub(super) const fn new(spec: &'a ServiceSpec) -> Self {
        Self { spec, counts: BTreeMap::new() }
    }

    /// Counts a node: why not there, in whose words, and what is left there.
    pub(super) fn add(&mut self, misfit: Misfit, words: Option<&String>, left: Room) {
        let (count, most) = self.counts.entry((misfit, words.cloned().unwrap_or_default())).or_default();
        *count += 1;
        let (base, further) = (&mut most.base, &mut most.further);
        base.cpu_milli = base.cpu_milli.max(left.base.cpu_milli);
        base.memory_bytes = base.memory_bytes.max(left.base.memory_bytes);
        further.pids = further.pids.max(left.further.pids);
        further.disk_bytes = further.disk_bytes.max(left.further.disk_bytes);
    }

    /// True if some node will never take it as things are.
    pub(super) fn has_lasting(&self) -> bool {
        self.counts.keys().any(|(misfit, _)| misfit.is_lasting())
    }

    /// The reasons, each with its number of nodes. What the fewest nodes lack is the nearest miss: it comes first.
    pub(super) fn lines(self) -> Vec<String> {
        let mut counts: Vec<_> =
            self.counts.into_iter().map(|((misfit, words), (n, most))| (n, misfit, words, most)).collect();
        counts.sort_by(|a, b| (a.1.is_lasting(), a.0, &a.1, &a.2).cmp(&(b.1.is_lasting(), b.0, &b.1, &b.2)));
        let nodes = |n: usize| if n == 1 { "1 node".to_string() } else { format!("{n} nodes") };
        let line = |(n, misfit, words, most): (usize, Misfit, String, Room)| {
            let why = if words.is_empty() { miss(&misfit, self.spec, &most) } else { words };
            format!("{}: {why}", nodes(n))
        };
        counts.into_iter().map(line).collect()
    }
}

/// A reason with what is asked for and the most that is left.
pub(super) fn miss(misfit: &Misfit, spec: &ServiceSpec, most: &Room) -> String {
    let need = Room::needed(spec);
    let amounts = match misfit {
        Misfit::NoRoom => [
            short("cpu", cpus, need.base.cpu_milli, most.base.cpu_milli),
            short("memory", bytes, need.base.memory_bytes, most.base.memory_bytes),
        ],
        Misfit::NoFurther => [
            short("processes", |n| n.to_string(), need.further.pids, most.further.pids),
            short("disk", bytes, need.further.disk_bytes, most.further.disk_bytes),
        ],
        _ => return misfit.to_string(),
    };
    let lacking: Vec<String> = amounts.into_iter().flatten().collect();
    // Of several nodes each may lack another.
    if lacking.is_empty() { misfit.to_string() } else { format!("not enough {}", lacking.join(", ")) }
}

fn short(what: &str, text: fn(u64) -> String, need: u64, most: u64) -> Option<String> {
    (need > most).then(|| format!("{what}: asks {}, {} left", text(need), text(most)))
}

/// Thousandths as cpus: `0.25`.
pub(crate) fn cpus(milli: u64) -> String {
    let text = format!("{}.{:03}", milli / 1_000, milli % 1_000);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// Bytes in the largest unit that leaves at least one.
pub(crate) fn bytes(amount: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let fitting = units.into_iter().find(|(shift, _)| amount >= 1 << shift);
    let Some((shift, unit)) = fitting else { return format!("{amount} B") };
    let tenths = (amount >> (shift - 10)) * 10 / 1_024;
    if tenths.is_multiple_of(10) {
        format!("{} {unit}", tenths / 10)
    } else {
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_at_a_glance() {
        assert_eq!([cpus(64_000), cpus(250), cpus(0)], ["64", "0.25", "0"]);
        assert_eq!([bytes(1 << 30), bytes(3 << 29), bytes(64 << 20), bytes(7)], ["1 GiB", "1.5 GiB", "64 MiB", "7 B"]);
    }
}
