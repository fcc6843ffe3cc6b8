//! A few seeds of every built-in scenario, small: no promise may be broken. Long sweeps run in release.

use dunlin_sim::cli::{RunOptions, list, run};

#[test]
fn no_scenario_breaks_a_promise() -> Result<(), String> {
    for (scenario, _) in list() {
        let options = RunOptions { scenario: scenario.clone(), nodes: Some(6), seeds: 1..=3, jobs: 2, json: true };
        for outcome in run(&options)? {
            assert!(outcome.violations.is_empty(), "{scenario}: {:#?}", outcome.violations);
            assert!(outcome.deploy_s.max.is_some(), "{scenario}: nothing was ever deployed");
        }
    }
    Ok(())
}

#[test]
fn a_large_deploy_lands_at_once_and_nothing_is_started_twice() -> Result<(), String> {
    let scenario = "kill-one".to_owned();
    for outcome in run(&RunOptions { scenario, nodes: Some(100), seeds: 1..=2, jobs: 2, json: true })? {
        assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
        assert!(outcome.deploy_s.max.is_some_and(|s| s < 1.0), "{:?}", outcome.deploy_s);
        assert!(outcome.moves <= outcome.moves_minimum + 2, "{} of {}", outcome.moves, outcome.moves_minimum);
    }
    Ok(())
}
