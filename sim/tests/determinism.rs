//! One seed, one trace: in another process, and with another number of threads.

use std::process::Command;

use dunlin_sim::cli::{RunOptions, run};

const CHILD: &str = "DUNLIN_SIM_CHILD";

fn hashes(jobs: usize) -> Result<Vec<String>, String> {
    let mut hashes = Vec::new();
    for scenario in ["kill-one", "conflicting-writes"] {
        let scenario = scenario.to_owned();
        let outcomes = run(&RunOptions { scenario, nodes: Some(5), seeds: 1..=2, jobs, json: true })?;
        hashes.extend(outcomes.into_iter().map(|outcome| outcome.trace_hash));
    }
    Ok(hashes)
}

#[test]
fn a_seed_gives_the_same_trace_in_two_processes_and_with_two_threads() -> Result<(), Box<dyn std::error::Error>> {
    if std::env::var_os(CHILD).is_some() {
        println!("hashes={}", hashes(1)?.join(","));
        return Ok(());
    }
    let child = Command::new(std::env::current_exe()?)
        .args(["--exact", "a_seed_gives_the_same_trace_in_two_processes_and_with_two_threads", "--nocapture"])
        .env(CHILD, "1")
        .output()?;
    let said = String::from_utf8(child.stdout)?;
    let theirs = said.lines().find_map(|line| line.split_once("hashes=").map(|(_, rest)| rest.to_owned()));
    let ours = hashes(2)?;
    assert_eq!(theirs, Some(ours.join(",")), "the child said: {said}");
    let mut distinct = ours.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), ours.len(), "different seeds and scenarios must differ");
    Ok(())
}
