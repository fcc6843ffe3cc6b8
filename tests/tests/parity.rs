//! The same scenario files that the simulator runs, against real agents: untimed, for the promises, and for counts that are
//! the same kind of number in both worlds.

use std::time::{Duration, Instant};

use dunlin_sim::cli::{Outcome, RunOptions, run};
use dunlin_sim::scenario::Scenario;
use dunlin_tests::cluster::Cluster;
use dunlin_tests::env::{has_namespaces, left_out};
use dunlin_tests::netns::Network;
use dunlin_tests::parity::counts::Counts;
use dunlin_tests::parity::flock::Flock;
use dunlin_tests::parity::plan::plan;

/// Nodes of these flocks.
const NODES: u8 = 5;
/// Roomy enough for what the files deploy.
const ROOM: [&str; 2] = ["8", "16G"];
/// A real flock that hurries from step to step on a busy machine is this far from a simulated one by the clock, at most.
const WIDE: u64 = 4;

fn scenario(name: &str) -> Scenario {
    dunlin_sim::cli::load(name).expect("a built-in scenario")
}

fn simulated(name: &str) -> Outcome {
    let options =
        RunOptions { scenario: name.to_owned(), nodes: Some(NODES.into()), seeds: 1..=1, jobs: 1, json: false };
    run(&options).expect("the simulator runs it").remove(0)
}

/// What comes with time is counted for so long: the real flock is done with its steps within a second or two, most packets of
/// which are news of the death, while a simulated one rests between its steps.
const AT_REST: Duration = Duration::from_secs(20);

/// Per thousand seconds and node, both lie within a wide factor.
fn near(what: &str, real: (u64, u64), simulated: (u64, u64)) {
    let rate = |(count, seconds): (u64, u64)| count * 1_000 / seconds.max(1) / u64::from(NODES);
    let (real, simulated) = (rate(real), rate(simulated));
    assert!(real <= simulated * WIDE && simulated <= real * WIDE, "{what}: real {real}, simulated {simulated}");
}

#[test]
fn kill_one_on_real_agents() {
    let scenario = scenario("kill-one");
    let steps = plan(&scenario, usize::from(NODES)).expect("real agents can do it");
    let mut flock = Flock::new(Cluster::with(NODES, None, ROOM), scenario);
    flock.begin();
    let (before, start) = (Counts::of(&flock), Instant::now());
    let done = flock.play(&steps);
    assert_eq!(done.len(), 2, "{done:?}");
    std::thread::sleep(AT_REST.saturating_sub(start.elapsed()));
    let (real, took) = (Counts::of(&flock).since(&before), start.elapsed().as_secs());
    let outcome = simulated("kill-one");
    let (counts, seconds) = (outcome.counts, outcome.simulated_s as u64);
    near("packets", (real.packets, took), (counts.packets, seconds));
    near("driver commands", (real.driver_commands, took), (counts.driver_commands, seconds));
    // These come with what happens, not with time: about as many in all.
    near("frames", (real.frames, 1), (counts.frames, 1));
}

#[test]
fn partition_heal_in_network_namespaces() {
    if !has_namespaces() {
        left_out("partition_heal_in_network_namespaces", "network namespaces need root");
        return;
    }
    let scenario = scenario("partition-heal");
    let steps = plan(&scenario, usize::from(NODES)).expect("real agents can do it");
    let mut flock = Flock::new(Cluster::with(NODES, Some(Network::new(NODES)), ROOM), scenario);
    flock.begin();
    let done = flock.play(&steps);
    assert_eq!(done.len(), 4, "{done:?}");
}
