//! `dunlin sim place`: nodes and tasks of two lists, placed by the code that nodes run.
//!
//! The method is that of the published results (Weng et al., USENIX ATC 2023): tasks drawn again at random are added to the list
//! until all ask for the wanted share of the cluster's GPUs (of its cpus, where it has none), the list is shuffled, and its tasks
//! are offered one by one and never moved. Nothing here decides where a task goes.

mod csv;
mod flock;
mod list;

use dunlin_core::place::Mix;
use dunlin_gossip::model::{ServiceSpec, Strategy};
use dunlin_gossip::rng::Seed;
use serde::Serialize;

use flock::{Flock, Task};
use list::{Host, Tasks};

/// What to try.
#[derive(Clone, Debug)]
pub struct PlaceOptions {
    /// The list of nodes: its name in messages, and its text.
    pub nodes: (String, String),
    /// The list of tasks, likewise.
    pub tasks: (String, String),
    /// So much of the cluster's GPUs is asked for, in percent; none: what the list asks for.
    pub demand: Option<u32>,
    /// Which candidate is the best.
    pub strategy: Strategy,
    /// How many candidates compete by score.
    pub k: usize,
    /// Decisions on one view.
    pub in_flight: usize,
    /// Nodes that go, and come back empty, once all was offered.
    pub departures: u32,
}

/// What came of it. Field names are stable.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Placed {
    /// `apart`, `binpack` or `spread`.
    pub policy: &'static str,
    /// How many candidates competed by score.
    pub k: usize,
    /// Decisions on one view.
    pub in_flight: usize,
    /// What decided the draw.
    pub seed: u64,
    /// Nodes of the list.
    pub nodes: usize,
    /// Tasks that were offered.
    pub tasks_offered: usize,
    /// Tasks that found a place and had it at the end.
    pub tasks_placed: usize,
    /// What the offered tasks ask for of all GPUs (of all cpus, where there are none), in percent.
    pub demand_pct: f64,
    /// Of all GPUs, in percent.
    pub gpu_allocated_pct: f64,
    /// Of all cpus.
    pub cpu_allocated_pct: f64,
    /// Of all memory.
    pub memory_allocated_pct: f64,
    /// The share of GPUs (of cpus, where there are none) before the first node went.
    pub allocated_before_departures_pct: f64,
    /// Decisions that a node refused because it had no room any more.
    pub refusals: u64,
    /// Nodes that went and came back.
    pub departures: u32,
    /// Times that a task ran anew because its node had gone.
    pub moves: u64,
    /// Tasks that were on nodes when these went: so many have to run anew, and no other.
    pub moves_minimum: u64,
    /// Nodes that gave more than they have.
    pub overcommits: usize,
    /// Decisions a second, on one core of this machine.
    pub decisions_per_s: f64,
}

/// Places a list for each seed.
///
/// # Errors
/// A list cannot be read: the file, the line and the column, what is wrong there and what to do.
pub fn place(options: &PlaceOptions, seeds: impl Iterator<Item = u64>) -> Result<Vec<Placed>, String> {
    let hosts = list::nodes(&options.nodes.0, &options.nodes.1)?;
    let tasks = list::tasks(&options.tasks.0, &options.tasks.1, options.strategy)?;
    Ok(seeds.map(|seed| once(options, &hosts, &tasks, seed)).collect())
}

/// What is counted as demand: GPUs, or cpus where no node has a GPU.
fn size(spec: &ServiceSpec, in_devices: bool) -> u64 {
    let devices = || spec.placing.devices.iter().map(|d| u64::from(d.count) * u64::from(d.milli)).sum();
    if in_devices { devices() } else { spec.reservation.cpu_milli }
}

/// The real clock serves `decisions_per_s` alone.
#[allow(clippy::disallowed_methods, reason = "measures the code that decides, and decides nothing")]
fn once(options: &PlaceOptions, hosts: &[Host], tasks: &Tasks, seed: u64) -> Placed {
    let devices: u64 = hosts.iter().flat_map(|h| &h.units).copied().map(u64::from).sum();
    let in_devices = devices > 0;
    let whole = if in_devices { devices } else { hosts.iter().map(|h| h.header.allocatable.cpu_milli).sum() };
    let offered = draw(options, tasks, seed, whole, in_devices);
    let demand: u64 = offered.iter().map(|spec| size(spec, in_devices)).sum();
    let mix = Mix::of(tasks.tasks.iter().filter_map(|at| Some((tasks.specs.get(*at)?, 1))));
    let stack = flock::stack();
    let offered: Vec<Task<'_>> =
        offered.into_iter().enumerate().map(|(at, spec)| Task::new(&stack, at, spec)).collect();
    let begin = std::time::Instant::now();
    let mut flock = Flock::new(hosts, &mix, options.k, &offered);
    flock.offer_all(options.in_flight.max(1));
    let percent = |flock: &Flock<'_>| flock.given().map(|(all, given)| 100.0 * given as f64 / (all.max(1)) as f64);
    let main = |shares: [f64; 3]| if in_devices { shares[2] } else { shares[0] };
    let before = main(percent(&flock));
    let mut rng = Seed(seed).split("departures").rng();
    (0..options.departures).for_each(|_| flock.depart(&mut rng));
    let seconds = begin.elapsed().as_secs_f64();
    let [cpu, memory, gpu] = percent(&flock);
    Placed {
        policy: options.strategy.as_str(),
        k: options.k,
        in_flight: options.in_flight.max(1),
        seed,
        nodes: hosts.len(),
        tasks_offered: offered.len(),
        tasks_placed: flock.placed(),
        demand_pct: 100.0 * demand as f64 / whole.max(1) as f64,
        gpu_allocated_pct: gpu,
        cpu_allocated_pct: cpu,
        memory_allocated_pct: memory,
        allocated_before_departures_pct: before,
        refusals: flock.refusals,
        departures: options.departures,
        moves: flock.moves,
        moves_minimum: flock.displaced,
        overcommits: flock.overcommits(),
        decisions_per_s: flock.decisions as f64 / seconds.max(1e-9),
    }
}

/// The tasks that are offered, in the order in which they come.
fn draw<'a>(options: &PlaceOptions, tasks: &'a Tasks, seed: u64, whole: u64, in_devices: bool) -> Vec<&'a ServiceSpec> {
    let mut rng = Seed(seed).split("tasks").rng();
    let mut offered: Vec<&ServiceSpec> = tasks.tasks.iter().filter_map(|at| tasks.specs.get(*at)).collect();
    let Some(percent) = options.demand else {
        rng.shuffle(&mut offered);
        return offered;
    };
    let wanted = u128::from(whole) * u128::from(percent) / 100;
    let mut sum: u128 = offered.iter().map(|spec| u128::from(size(spec, in_devices))).sum();
    let list = offered.clone();
    // A list that asks for nothing of what is counted stays as it is.
    while sum > 0 && sum < wanted {
        let Some(spec) = rng.pick(&list) else { break };
        offered.push(spec);
        sum += u128::from(size(spec, in_devices));
    }
    rng.shuffle(&mut offered);
    let mut arrived = 0_u128;
    let until = offered.iter().position(|spec| {
        arrived += u128::from(size(spec, in_devices));
        arrived > wanted
    });
    offered.truncate(until.unwrap_or(offered.len()));
    offered
}

#[cfg(test)]
mod tests;
