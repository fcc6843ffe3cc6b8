//! What `dunlin sim` does, without a terminal: list, show, run.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dunlin_gossip::rng::Seed;

pub use crate::invariant::Violation;
pub use crate::report::Report;
pub use crate::report::json::{Outcome, Timed};
pub use crate::shrink::{Progress, Shrunk};
pub use crate::story::tell;
pub use crate::watch::Watch;

use crate::queue::SECOND;
use crate::recording::Recording;
use crate::report;
use crate::scenario::{MAX_HOSTS, Recorded, Scenario, names, parse, parse_with, text};
use crate::swarm;
use crate::world::World;

/// The scenario that every seed draws anew.
const SWARM: &str = "swarm";
/// It has at most so many hosts, unless told otherwise.
const SWARM_HOSTS: u32 = 20;

/// Where a run's scenario comes from.
enum Source {
    Fixed(Arc<Scenario>),
    Drawn,
}

impl Source {
    fn of(name: &str) -> Result<Self, String> {
        if name == SWARM { Ok(Self::Drawn) } else { load(name).map(|scenario| Self::Fixed(Arc::new(scenario))) }
    }

    fn scenario(&self, seed: u64, nodes: Option<u32>) -> Arc<Scenario> {
        match self {
            Self::Drawn => Arc::new(swarm::draw(seed, nodes.unwrap_or(SWARM_HOSTS))),
            Self::Fixed(scenario) => match nodes {
                Some(hosts) if hosts != scenario.hosts => Arc::new(Scenario { hosts, ..scenario.as_ref().clone() }),
                _ => Arc::clone(scenario),
            },
        }
    }
}

/// What to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunOptions {
    /// The name of a built-in scenario, or a file.
    pub scenario: String,
    /// So many hosts instead of the scenario's.
    pub nodes: Option<u32>,
    /// One run for each.
    pub seeds: RangeInclusive<u64>,
    /// Runs at a time.
    pub jobs: usize,
    /// Whether the caller will print JSON (runs are the same either way).
    pub json: bool,
}

impl RunOptions {
    /// The command that runs one of the seeds again.
    #[must_use]
    pub fn again(&self, seed: u64) -> String {
        let nodes = self.nodes.map_or_else(String::new, |nodes| format!(" --nodes {nodes}"));
        format!("dunlin sim run {}{nodes} --seed {seed}", self.scenario)
    }
}

/// The built-in scenarios: name, and what each tries.
#[must_use]
pub fn list() -> Vec<(String, String)> {
    let about = |name: &str| parse(name, text(name).unwrap_or_default()).map_or_else(|e| e, |s| s.about);
    let fixed = names().map(|name| (name.to_owned(), about(name)));
    fixed.chain([(SWARM.to_owned(), swarm::ABOUT.to_owned())]).collect()
}

/// The text of a built-in scenario; of the one that is drawn, as that seed draws it.
#[must_use]
pub fn show(name: &str, seed: u64, nodes: Option<u32>) -> Option<String> {
    if name == SWARM {
        return Some(swarm::draw(seed, nodes.unwrap_or(SWARM_HOSTS)).text());
    }
    text(name).map(str::to_owned)
}

/// Reads a scenario by name or from a file.
///
/// # Errors
/// What is wrong, where, and what to do.
pub fn load(name: &str) -> Result<Scenario, String> {
    if let Some(text) = text(name) {
        return parse(name, text);
    }
    let text = std::fs::read_to_string(name).map_err(|e| {
        let known = names().chain([SWARM]).collect::<Vec<_>>().join(", ");
        format!("{name} is neither a built-in scenario ({known}) nor a file that can be read ({e})")
    })?;
    parse_file(name, &text)
}

/// Files that a scenario names are looked for beside it.
fn parse_file(name: &str, text: &str) -> Result<Scenario, String> {
    let folder = Path::new(name).parent().unwrap_or_else(|| Path::new(""));
    parse_with(name, text, &|file| {
        let path = std::path::absolute(folder.join(file)).map_err(|e| format!("{file}: {e}"))?;
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok((path.display().to_string(), text))
    })
}

/// Runs a scenario once for each seed, in parallel; outcomes come in the order of the seeds and do not depend on `jobs`.
///
/// # Errors
/// The scenario cannot be read, or the options make no sense; nothing has run then.
pub fn run(options: &RunOptions) -> Result<Vec<Outcome>, String> {
    run_watched(options, &Watch::default())
}

/// The same, telling how far it has come.
///
/// # Errors
/// As [`run`].
pub fn run_watched(options: &RunOptions, watch: &Watch) -> Result<Vec<Outcome>, String> {
    let runs = run_source(&Source::of(&options.scenario)?, options, false, watch)?;
    Ok(runs.into_iter().map(|(outcome, _)| outcome).collect())
}

/// Runs as [`run_watched`] does, and makes a report of it. One seed is recorded while it runs; of many, the one that is worth
/// looking at runs a second time to be recorded.
///
/// # Errors
/// As [`run`]; or a seed took two courses.
pub fn run_reported(options: &RunOptions, watch: &Watch) -> Result<(Vec<Outcome>, Report), String> {
    let source = Source::of(&options.scenario)?;
    let is_one = options.seeds.start() == options.seeds.end();
    let runs = run_source(&source, options, is_one, watch)?;
    let (outcomes, mut recordings): (Vec<_>, Vec<_>) = runs.into_iter().unzip();
    let shown = report::worst(&outcomes).ok_or("nothing has run")?;
    if !is_one {
        let again = RunOptions { seeds: shown.seed..=shown.seed, ..options.clone() };
        let (outcome, recording) = run_source(&source, &again, true, watch)?.pop().ok_or("nothing has run")?;
        if outcome.trace_hash != shown.trace_hash {
            return Err(format!(
                "seed {} took two courses, with the traces {} and {}: the simulator has a fault; please report it",
                shown.seed, shown.trace_hash, outcome.trace_hash
            ));
        }
        recordings.push(recording);
    }
    let recording = recordings.into_iter().flatten().next_back().ok_or("nothing was recorded")?;
    let report = Report::new(options, &outcomes, shown, &recording)?;
    Ok((outcomes, report))
}

/// The same with a scenario that the caller has read or made; what `options` say of which is not looked at.
///
/// # Errors
/// The options make no sense; nothing has run then.
pub fn run_scenario(scenario: Scenario, options: &RunOptions) -> Result<Vec<Outcome>, String> {
    let runs = run_source(&Source::Fixed(Arc::new(scenario)), options, false, &Watch::default())?;
    Ok(runs.into_iter().map(|(outcome, _)| outcome).collect())
}

/// One run of a scenario that was made, with as many hosts as it says.
///
/// # Errors
/// It has more hosts than a world may have.
pub(crate) fn run_made(scenario: Scenario, seed: u64, watch: &Watch) -> Result<Outcome, String> {
    let nodes = Some(scenario.hosts);
    let options = RunOptions { scenario: scenario.name.clone(), nodes, seeds: seed..=seed, jobs: 1, json: false };
    let mut runs = run_source(&Source::Fixed(Arc::new(scenario)), &options, false, watch)?;
    runs.pop().map(|(outcome, _)| outcome).ok_or_else(|| "nothing has run".to_owned())
}

/// A run and, if it was asked for, what was recorded of it.
type Run = (Outcome, Option<Recording>);

fn run_source(source: &Source, options: &RunOptions, is_recorded: bool, watch: &Watch) -> Result<Vec<Run>, String> {
    let hosts = options.nodes.unwrap_or(1);
    if hosts == 0 || hosts > MAX_HOSTS {
        return Err(format!("--nodes {hosts}: a world has 1 to {MAX_HOSTS} nodes"));
    }
    let (first, last) = (*options.seeds.start(), *options.seeds.end());
    if first > last {
        return Err(format!("--seeds {first}..{last}: the first seed must not be larger than the last"));
    }
    let next = AtomicU64::new(first);
    let jobs = options.jobs.max(1).min(usize::try_from(last - first + 1).unwrap_or(usize::MAX));
    let work = || {
        let mut done = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > last {
                return done;
            }
            let (mut outcome, recording) = run_one(source.scenario(seed, options.nodes), seed, is_recorded, watch);
            let again = options.again(seed);
            outcome.violations.iter_mut().for_each(|broken| broken.detail.push_str(&format!(" [again: {again}]")));
            done.push((outcome, recording));
        }
    };
    let mut runs: Vec<Run> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Result<Vec<_>, _>>()
    })
    .map_err(|_| "a run has panicked; its message is above".to_owned())?
    .into_iter()
    .flatten()
    .collect();
    runs.sort_by_key(|(outcome, _)| outcome.seed);
    Ok(runs)
}

/// The file that replays a run which broke a promise: the scenario with its seed and what came of it.
///
/// # Errors
/// As for [`run`].
pub fn trace(options: &RunOptions, outcome: &Outcome) -> Result<String, String> {
    let scenario =
        Source::of(&options.scenario)?.scenario(outcome.seed, options.nodes).with_churn_of(Seed(outcome.seed));
    let mut breaks: Vec<String> = outcome.violations.iter().map(|v| v.invariant.clone()).collect();
    breaks.sort();
    breaks.dedup();
    let recorded = Some(Recorded { seed: outcome.seed, trace_hash: outcome.trace_hash.clone(), breaks });
    Ok(Scenario { recorded, ..scenario }.text())
}

/// A run that was recorded, once more.
#[derive(Clone, PartialEq, Debug)]
pub struct Replayed {
    /// What came of it now.
    pub outcome: Outcome,
    /// Whether it is the same run to the last event.
    pub is_same: bool,
    /// The promises that it broke when it was recorded.
    pub recorded: Vec<String>,
}

/// Runs again what a file has recorded.
///
/// # Errors
/// The file cannot be read, or has recorded nothing.
pub fn replay(file: &str) -> Result<Replayed, String> {
    let (scenario, recorded) = load_trace(file)?;
    let (outcome, _) = run_one(Arc::new(scenario), recorded.seed, false, &Watch::default());
    Ok(Replayed { is_same: outcome.trace_hash == recorded.trace_hash, outcome, recorded: recorded.breaks })
}

/// Makes small what a file has recorded.
///
/// # Errors
/// The file cannot be read, has recorded nothing, or breaks no promise any more.
pub fn shrink(file: &str, budget: u64, progress: &mut dyn FnMut(Progress)) -> Result<Shrunk, String> {
    let (scenario, recorded) = load_trace(file)?;
    crate::shrink::shrink(&scenario, recorded.seed, budget, progress)
}

fn load_trace(file: &str) -> Result<(Scenario, Recorded), String> {
    let text = std::fs::read_to_string(file)
        .map_err(|e| format!("{file}: {e}; `dunlin sim run` writes such a file when a promise breaks"))?;
    let scenario = parse_file(file, &text)?;
    let recorded = scenario.recorded.clone();
    let recorded =
        recorded.ok_or_else(|| format!("{file}: has no `recorded`; `dunlin sim run {file}` runs a scenario"))?;
    Ok((scenario, recorded))
}

/// The real clock serves the report's `wall_s` alone; nothing that happens in the world can see it.
#[allow(clippy::disallowed_methods, reason = "measures the simulator, not the simulated")]
fn run_one(scenario: Arc<Scenario>, seed: u64, is_recorded: bool, watch: &Watch) -> Run {
    let begin = std::time::Instant::now();
    watch.begins(scenario.end);
    let mut world = World::new(scenario, Seed(seed));
    if is_recorded {
        world.start_recording();
    }
    while world.advance(SECOND) {
        watch.reaches(world.now);
    }
    let recording = world.take_recording();
    let outcome = Outcome::of(world, begin.elapsed().as_secs_f64());
    watch.ends(!outcome.violations.is_empty());
    (outcome, recording)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_options_are_refused_with_the_remedy() {
        let options = RunOptions { scenario: "nonsense".to_owned(), nodes: None, seeds: 1..=1, jobs: 1, json: false };
        let error = run(&options).expect_err("no such scenario");
        assert!(error.contains("kill-one"), "{error}");
        let none = RunOptions { scenario: "steady".to_owned(), nodes: Some(0), ..options };
        assert!(run(&none).is_err());
    }

    #[test]
    fn every_scenario_is_listed_with_a_line() {
        assert_eq!(list().len(), names().count() + 1);
        assert!(list().iter().all(|(name, about)| show(name, 1, None).is_some() && about.len() > 20));
    }
}
