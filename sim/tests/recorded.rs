//! Recordings of real machines and networks, where they are at hand (`DUNLIN_DATA` names their folder): each is read, and what it says
//! happens in a world.

use std::path::{Path, PathBuf};

use dunlin_sim::cli::{Outcome, RunOptions, run_scenario};
use dunlin_sim::scenario::{Scenario, Source, parse_with};

const REST: &str = "name: recorded\nabout: a flock lives through what was recorded elsewhere\nhosts: 6\nstart: running\n\
                    services: [{name: web, replicas: 2/host}]\nsettle: 60s\nend: 150s\n";

fn data(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("DUNLIN_DATA").map(PathBuf::from);
    if folder.is_none() {
        dunlin_test_host::left_out(test, "DUNLIN_DATA names no folder with recordings");
    }
    folder
}

fn scenario(folder: &Path, text: &str) -> Result<Scenario, String> {
    let read = |file: &str| {
        let text = std::fs::read_to_string(folder.join(file)).map_err(|e| format!("{file}: {e}"))?;
        Ok((file.to_owned(), text))
    };
    let scenario = parse_with("recorded", &format!("{REST}{text}\n"), &read)?;
    assert_eq!(parse_with("written", &scenario.text(), &read)?, scenario);
    Ok(scenario)
}

fn outcome(scenario: Scenario) -> Result<Outcome, String> {
    let options = RunOptions { scenario: String::new(), nodes: None, seeds: 1..=1, jobs: 1, json: true };
    let outcome = run_scenario(scenario, &options)?.pop().ok_or("there was one run")?;
    assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
    Ok(outcome)
}

#[test]
fn recorded_outages_happen() -> Result<(), String> {
    let Some(folder) = data("recorded_outages_happen") else { return Ok(()) };
    for (file, faster) in [
        ("lanl_systems_18_19.csv", 1_000_000),
        ("microsoft_pcs_sample_a.csv", 20_000),
        ("spot/preemption__4-node__aws-08-03-2023__us-east-2a_v100_1.json", 20_000),
        ("spot/availability__16-node__aws-08-27-2023__us-east-2b_v100_1.json", 5_000),
    ] {
        let text = format!("churn: {{from: 10s, to: 90s, file: churn/{file}, faster: {faster}}}");
        let scenario = scenario(&folder, &text)?;
        let is_recorded = scenario.churn.as_ref().is_some_and(|churn| matches!(churn.source, Source::Recorded { .. }));
        assert!(is_recorded, "{file}");
        let outcome = outcome(scenario).map_err(|e| format!("{file}: {e}"))?;
        assert!(outcome.faults.get("crash-hosts").is_some_and(|deaths| *deaths >= 3), "{file}: {:?}", outcome.faults);
    }
    Ok(())
}

#[test]
fn recorded_latencies_hold_between_hosts() -> Result<(), String> {
    let Some(folder) = data("recorded_latencies_hold_between_hosts") else { return Ok(()) };
    let seattle = (1..=24).map(|slice| (format!("seattle/SeattleData_{slice}"), "s", 99, 0..1));
    let named = [
        // 0.175 ms there and back between the first two machines.
        ("planetlab_490x490_slice01.txt", "ms", 490, 87_500..87_501),
        ("planetlab_490x490_slice09.txt", "ms", 490, 1..1_000_000_000),
        ("ibm_cloud_regions_2024-08-25.csv", "ms", 10, 17_000_000..17_000_001),
        ("ibm_cloud_zones_2024-08-25.csv", "ms", 3, 1_015_000..1_015_001),
    ];
    let named = named.into_iter().map(|(file, unit, size, first)| (file.to_owned(), unit, size, first));
    for (file, unit, size, first) in named.chain(seattle) {
        let text = format!("network: {{latency: {{file: latency/{file}, unit: {unit}}}}}");
        let scenario = scenario(&folder, &text)?;
        let pairs = scenario.network.pairs.clone().ok_or("there is a matrix")?;
        assert_eq!(pairs.size(), size, "{file}");
        let all = (0..200).flat_map(|a| (0..200).map(move |b| (a, b)));
        let apart = all.filter(|(a, b)| a % size != b % size && *a < size && *b < size);
        for (a, b) in apart {
            let (a, b) = (u32::try_from(a).unwrap_or(0), u32::try_from(b).unwrap_or(0));
            assert!(pairs.one_way(a, b).is_some(), "{file}: {a} {b}");
        }
        if unit == "ms" {
            assert!(pairs.one_way(0, 1).is_some_and(|time| first.contains(&time)), "{file}: {:?}", pairs.one_way(0, 1));
            outcome(scenario).map_err(|e| format!("{file}: {e}"))?;
        }
    }
    Ok(())
}
