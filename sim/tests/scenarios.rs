//! A few seeds of every built-in scenario, small: no promise may be broken. Long sweeps run in release.

use dunlin_sim::cli::{RunOptions, list, load, run, run_scenario};
use dunlin_sim::scenario::{Start, parse};

#[test]
fn no_scenario_breaks_a_promise() -> Result<(), String> {
    for (scenario, _) in list() {
        let nodes = match scenario.as_str() {
            // They name up to ten hosts, and some others must be left.
            "rolling-upgrade" | "majority-voters" | "majority-boots" => 12,
            // As many links as hosts: among few, one host could lose half of its peers, and be given up rightly.
            "one-way-links" => 12,
            // Of two hosts that go for good at once one is, among few, often the only one that has heard of the other's end.
            "jobs" => 12,
            // As many as its list, so that what asks for a label finds another host with it.
            "mixed-hosts" => 9,
            _ => 6,
        };
        let options = RunOptions { scenario: scenario.clone(), nodes: Some(nodes), seeds: 1..=3, jobs: 2, json: true };
        let is_deployed = load(&scenario).is_ok_and(|scenario| scenario.start == Start::Running);
        for outcome in run(&options)? {
            assert!(outcome.violations.is_empty(), "{scenario}: {:#?}", outcome.violations);
            // Of what is deployed there, only a part has room at first; what is drawn may wait for a person's word.
            let is_partial = matches!(scenario.as_str(), "squeeze" | "swarm");
            let deployed = is_deployed || is_partial || outcome.deploy_s.max.is_some();
            assert!(deployed, "{scenario}: nothing was ever deployed");
            assert!(!is_deployed || outcome.replicas > 0, "{scenario}: nothing was deployed before the beginning");
            let counts = outcome.counts;
            assert!(counts.packets > 0 && counts.frames > 0 && counts.driver_commands > 0, "{counts:?}");
            if scenario == "partition-heal" {
                assert!(counts.syncs > 0, "{scenario}: {counts:?}");
            }
            if scenario == "clock-skew" {
                // The two whose clocks are ten minutes off.
                let refused = outcome.faults.get("clocks-refused");
                assert_eq!(refused, Some(&2), "{:?}", outcome.faults);
            }
        }
    }
    Ok(())
}

#[test]
fn a_large_deploy_lands_at_once_and_nothing_is_started_twice() -> Result<(), String> {
    let scenario = "mass-deploy".to_owned();
    for outcome in run(&RunOptions { scenario, nodes: Some(100), seeds: 1..=2, jobs: 2, json: true })? {
        assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
        assert!(outcome.deploy_s.max.is_some_and(|s| s < 1.0), "{:?}", outcome.deploy_s);
        assert!(outcome.moves <= outcome.moves_minimum + 2, "{} of {}", outcome.moves, outcome.moves_minimum);
    }
    Ok(())
}

/// The last slot before a turn may become ready before its node, back from the dead, counts as alive again.
#[test]
fn a_rollout_goes_on_when_those_before_are_back() -> Result<(), String> {
    let scenario = "tight".to_owned();
    for outcome in run(&RunOptions { scenario, nodes: Some(20), seeds: 5..=7, jobs: 2, json: true })? {
        assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
    }
    Ok(())
}

/// Agents are disposable: the whole flock is restarted, one agent after the other, and no workload notices.
#[test]
fn a_rolling_restart_moves_nothing() -> Result<(), String> {
    let scenario = "rolling-restart".to_owned();
    for outcome in run(&RunOptions { scenario, nodes: Some(20), seeds: 1..=2, jobs: 2, json: true })? {
        assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
        assert_eq!((outcome.moves, outcome.moves_minimum), (0, 0));
        assert_eq!(outcome.faults.get("crash-agents"), Some(&20), "every agent has its turn");
    }
    Ok(())
}

/// A host is set up anew while a slow peer has yet to read what it sent before: those letters are sealed with a key that is
/// gone. Read as its new node's they gave that node a later boot than its own, and nobody answered it any more.
const OLD_LETTERS: &str = "
name: letters-of-an-old-key
about: a slow host reads what a host sent before it was set up anew
hosts: 3
start: warm
zones: {count: 3, latency: metro}
capacity: {cpu-milli: 4000, memory: 8192MiB}
services:
  - {name: web, replicas: 1, start: 500ms, ready: 2s, stop: 7s, cpu-milli: 1000, memory: 256MiB}
  - {name: db, replicas: 2}
timeline:
  - {at: 1s, deploy: {at: [1]}}
  - {at: 1100ms, deafen: [2]}
  - {at: 1200ms, slow: {hosts: [2], times: 3000}}
  - {at: 12924ms, crash-hosts: [0]}
  - {at: 13024ms, restart: {disk: old-disk-and-clock, hosts: [0]}}
  - {at: 13124ms, heal: }
  - {at: 14124ms, crash-hosts: [0]}
  - {at: 14224ms, restart: {disk: lost-disk, hosts: [0]}}
  - {at: 14324ms, calm: [0, 2]}
settle: 137400ms
end: 161724ms
faults-may-miss: true
";

#[test]
fn letters_of_an_old_key_are_read_by_nobody() -> Result<(), String> {
    let scenario = parse("letters-of-an-old-key", OLD_LETTERS).map_err(|wrong| wrong.to_string())?;
    let options = RunOptions { scenario: scenario.name.clone(), nodes: None, seeds: 3..=3, jobs: 1, json: true };
    for outcome in run_scenario(scenario, &options)? {
        assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
    }
    Ok(())
}
