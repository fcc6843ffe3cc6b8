//! Churn: hosts that die and come back all the time, as recorded somewhere or as drawn from the seed. It becomes lines of the
//! timeline before a world begins, so that a run, its script and its story know nothing but single deaths and returns.
//! The lines of a recording depend on the file, the number of hosts and the factor alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use dunlin_gossip::rng::{Rng, Seed};

use super::Scenario;
use super::action::{Action, Crash, DiskFate, Step, Target};
use super::outages::{Outages, read};
use super::write::{quoted, time};
use super::yaml::Value;
use crate::net::HostNo;
use crate::queue::{MS, Nanos};

/// A drawn time is at most so many times the shortest.
const TAIL: u64 = 1_024;

/// Hosts that go and come back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Churn {
    /// The first moment at which one may be away.
    pub from: Nanos,
    /// The moment at which all are back.
    pub to: Nanos,
    /// Who is away when.
    pub source: Source,
}

/// Where churn comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// A recording.
    Recorded {
        /// Its file, as it was found.
        file: String,
        /// What took so many seconds there takes one.
        faster: u64,
        /// What it says.
        outages: Arc<Outages>,
    },
    /// The seed. Times have a heavy tail: half of them are above twice the shortest, one in ten above ten times.
    Drawn {
        /// The shortest time for which a host is there.
        up: Nanos,
        /// The shortest time for which it is away.
        down: Nanos,
    },
}

impl Churn {
    pub(super) fn parse(value: Value<'_>) -> Result<Self, String> {
        let mut map = value.map()?;
        let from = map.need("from")?.time()?;
        let to_value = map.need("to")?;
        let to = to_value.time()?;
        if to <= from {
            return Err(to_value.refuse("must be later than `from`"));
        }
        let source = if let Some(name) = map.take("file") {
            let faster_value = map.need("faster")?;
            let faster = faster_value.number()?;
            if faster == 0 {
                return Err(faster_value.refuse("must be at least 1, which is as fast as it was"));
            }
            let (file, text) = name.file()?;
            let outages = Arc::new(read(&file, &text)?);
            map.end("from, to, file, faster")?;
            Source::Recorded { file, faster, outages }
        } else {
            let source = Source::Drawn { up: shortest(&map.need("up")?)?, down: shortest(&map.need("down")?)? };
            map.end("from, to, and `file` and `faster`, or `up` and `down`")?;
            source
        };
        Ok(Self { from, to, source })
    }

    /// As a mapping that reads as the same churn.
    pub(super) fn text(&self) -> String {
        let source = match &self.source {
            Source::Recorded { file, faster, .. } => format!("file: {}, faster: {faster}", quoted(file)),
            Source::Drawn { up, down } => format!("up: {}, down: {}", time(*up), time(*down)),
        };
        format!("{{from: {}, to: {}, {source}}}", time(self.from), time(self.to))
    }

    /// Who is away when, in the scenario's time.
    fn spans(&self, hosts: u32, seed: Seed) -> Vec<(HostNo, Nanos, Nanos)> {
        let of_host = |no: HostNo| -> Vec<(Nanos, Nanos)> {
            match &self.source {
                Source::Recorded { faster, outages, .. } => self.recorded(outages, *faster, no, hosts),
                Source::Drawn { up, down } => self.drawn(seed.split("churn").nth(u64::from(no)).rng(), *up, *down),
            }
        };
        let all = (0..hosts).flat_map(|no| of_host(no).into_iter().map(move |(start, end)| (no, start, end)));
        all.filter(|(_, start, end)| *start < self.to && start < end).collect()
    }

    /// Of many machines the hosts are some, evenly spread over the file; of few, hosts beyond them stay.
    fn recorded(&self, outages: &Outages, faster: u64, no: HostNo, hosts: u32) -> Vec<(Nanos, Nanos)> {
        let machines = outages.machines.len();
        let (no, hosts) = (no as usize, hosts as usize);
        let machine = if machines > hosts { no * machines / hosts } else { no };
        let moment = |ms: u64| {
            let after = u128::from(ms) * u128::from(MS) / u128::from(faster);
            u64::try_from(after)
                .ok()
                .and_then(|after| self.from.checked_add(after))
                .map_or(self.to, |at| at.min(self.to))
        };
        let spans = outages.machines.get(machine).map(Vec::as_slice).unwrap_or_default();
        spans.iter().map(|(start, end)| (moment(*start), moment(*end))).collect()
    }

    fn drawn(&self, mut rng: Rng, up: Nanos, down: Nanos) -> Vec<(Nanos, Nanos)> {
        // Pareto's distribution with exponent one.
        let mut time = |shortest: Nanos| shortest.saturating_mul(TAIL) / (1 + rng.below(TAIL));
        let (mut spans, mut now) = (Vec::new(), self.from);
        loop {
            let start = now.saturating_add(time(up));
            let end = start.saturating_add(time(down)).min(self.to);
            if start >= self.to {
                return spans;
            }
            spans.push((start, end));
            now = end;
        }
    }

    /// Its lines of the timeline, in order. Who comes back at a moment is back before others go at the same.
    fn steps(&self, hosts: u32, seed: Seed) -> Vec<Step> {
        let mut moments: BTreeMap<Nanos, [Vec<HostNo>; 2]> = BTreeMap::new();
        for (no, start, end) in self.spans(hosts, seed) {
            moments.entry(start).or_default()[1].push(no);
            moments.entry(end).or_default()[0].push(no);
        }
        let line = |at: Nanos, index: usize, hosts: Vec<HostNo>| {
            let hosts = Target::Hosts(hosts);
            let back = Action::Restart { hosts: Some(hosts.clone()), disk: DiskFate::Kept, version: None };
            Step { at, action: if index == 0 { back } else { Action::Crash { what: Crash::Hosts, hosts } } }
        };
        let lines =
            moments.into_iter().flat_map(|(at, both)| (0..).zip(both).map(move |(index, hosts)| (at, index, hosts)));
        lines.filter(|(_, _, hosts)| !hosts.is_empty()).map(|(at, index, hosts)| line(at, index, hosts)).collect()
    }
}

fn shortest(value: &Value<'_>) -> Result<Nanos, String> {
    let time = value.time()?;
    if time < MS { Err(value.refuse("must be at least 1ms")) } else { Ok(time) }
}

impl Scenario {
    /// The same with its churn as lines of the timeline, as this seed has it.
    #[must_use]
    pub(crate) fn with_churn_of(&self, seed: Seed) -> Self {
        let mut scenario = self.clone();
        if let Some(churn) = scenario.churn.take() {
            scenario.timeline.extend(churn.steps(scenario.hosts, seed));
            scenario.timeline.sort_by_key(|step| step.at);
        }
        scenario
    }
}

#[cfg(test)]
mod tests {
    use super::super::{parse, parse_with};
    use super::*;
    use crate::queue::SECOND;

    const REST: &str = "name: x\nabout: y\nhosts: 2\nsettle: 5s\nend: 100s\n";

    fn lines(churn: &str, file: &str) -> Result<Vec<String>, String> {
        let read = |path: &str| Ok((path.to_owned(), file.to_owned()));
        let scenario = parse_with("s", &format!("{REST}churn: {churn}\n"), &read)?.with_churn_of(Seed(1));
        let text = scenario.text();
        assert_eq!(parse("s", &text)?, scenario);
        Ok(text.lines().filter_map(|line| line.strip_prefix("  - ")).map(|line| line.trim().to_owned()).collect())
    }

    #[test]
    fn a_recording_becomes_deaths_and_returns_in_the_scenarios_time() {
        let file = "node,down_start_s,down_end_s\na,0,3600\nb,7200,999999999\na,3600,7200\na,18000,18360\n";
        let found = lines("{from: 10s, to: 20s, file: t.csv, faster: 3600}", file);
        let expected = [
            "{at: 10s, crash-hosts: [0]}",
            "{at: 12s, restart: {disk: kept-disk, hosts: [0]}}",
            "{at: 12s, crash-hosts: [1]}",
            "{at: 15s, crash-hosts: [0]}",
            "{at: 15100ms, restart: {disk: kept-disk, hosts: [0]}}",
            "{at: 20s, restart: {disk: kept-disk, hosts: [1]}}",
        ];
        assert_eq!(found, Ok(expected.map(str::to_owned).to_vec()));
    }

    #[test]
    fn drawn_churn_differs_by_seed_and_has_a_heavy_tail() -> Result<(), String> {
        let text = format!("{REST}churn: {{from: 10s, to: 90s, up: 2s, down: 500ms}}\n");
        let scenario = parse("s", &text)?;
        assert_eq!(parse("s", &scenario.text())?, scenario);
        assert_ne!(scenario.with_churn_of(Seed(1)), scenario.with_churn_of(Seed(2)));
        let churn = scenario.churn.ok_or("there is churn")?;
        let away: Vec<Nanos> = churn.spans(1_000, Seed(3)).iter().map(|(_, start, end)| end - start).collect();
        let above = |time: Nanos| away.iter().filter(|away| **away > time).count() * 100 / away.len();
        assert!((40..60).contains(&above(SECOND)), "half are above twice the shortest: {}", above(SECOND));
        assert!((5..15).contains(&above(5 * SECOND)), "one in ten is above ten times: {}", above(5 * SECOND));
        Ok(())
    }

    #[test]
    fn what_is_wrong_is_refused_with_its_place() {
        for (churn, place) in [
            ("{from: 10s, to: 5s, up: 1s, down: 1s}", "s:6: churn.to: "),
            ("{from: 10s, to: 15s, up: 1s, down: 0s}", "s:6: churn.down: "),
            ("{from: 10s, to: 15s, file: t.csv}", "s:6: churn.faster: "),
            ("{from: 10s, to: 15s, file: t.csv, faster: 0}", "s:6: churn.faster: "),
            ("{from: 10s, to: 15s, file: t.csv, faster: 9}", "t.csv:2: "),
            ("{from: 10s, to: 15s, file: t.csv, faster: 9, up: 1s}", "s:6: churn.up: "),
        ] {
            let refused = lines(churn, "node,down_start_s,down_end_s\n1,x,2\n").expect_err(churn);
            assert!(
                refused.starts_with(place) || churn.contains("up: 1s}") && place.contains("up"),
                "{churn}: {refused}"
            );
        }
        let none = parse("s", &format!("{REST}churn: {{from: 1s, to: 2s, file: t.csv, faster: 2}}\n"));
        assert!(none.is_err_and(|e| e.starts_with("s:6: churn.file: ")));
    }
}
