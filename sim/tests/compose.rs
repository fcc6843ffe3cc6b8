//! A scenario holds a Compose file: what it says of places is kept in the simulator as in a flock.

use std::collections::BTreeMap;

use dunlin_sim::cli::{Outcome, RunOptions, run_reported, run_scenario};
use dunlin_sim::scenario::{Scenario, parse, parse_with};
use serde_json::Value;

const COMPOSE: &str = r#"
name: shop
services:
  web:
    image: shop/web
    ports: ["8080:80"]
    deploy:
      replicas: ${WEB:-3}
      placement:
        constraints: [node.labels.disk == ssd]
        preferences: [{spread: node.labels.zone}]
    healthcheck: {test: ["CMD", "true"], interval: 2s}
    environment: {PASSWORD: secret}
  worker:
    image: shop/worker
    deploy: {replicas: 4, placement: {max_replicas_per_node: 1}}
  logs:
    image: shop/logs
    deploy: {mode: global}
  import:
    image: shop/import
    deploy: {mode: replicated-job, replicas: 2, restart_policy: {condition: on-failure}}
"#;

fn scenario(start: &str, compose: &str, timeline: &str) -> String {
    format!(
        "name: shop\nabout: a shop\nstart: {start}\nzones: {{count: 3, latency: metro}}\nnodes:\n  \
         - {{count: 6, labels: {{disk: ssd}}}}\n  - {{count: 3, cpu-milli: 2000, memory: 4GiB}}\n{compose}{timeline}\
         settle: 30s\nend: 90s\n"
    )
}

const BY_FILE: &str = "compose:\n  file: compose.yaml\n  variables: {WEB: 5}\n  processes: {web: {start: 300ms, ready: 1s}, \
                       import: {finish-after: 3s}}\n";
const DEPLOYED: &str = "timeline:\n  - {at: 3s, deploy: }\n  - {at: 20s, crash-hosts: zone-b}\n  \
                        - {at: 50s, restart: kept-disk}\n";

fn read(text: &str) -> Result<Scenario, String> {
    parse_with("shop.yaml", text, &|name| match name {
        "compose.yaml" => Ok(("compose.yaml".to_owned(), COMPOSE.to_owned())),
        _ => Err("no such file".to_owned()),
    })
}

fn run(scenario: Scenario) -> Result<Outcome, String> {
    let options = RunOptions { scenario: "shop".to_owned(), nodes: None, seeds: 1..=1, jobs: 1, json: false };
    let options = RunOptions { nodes: Some(scenario.hosts), ..options };
    run_scenario(scenario, &options)?.pop().ok_or_else(|| "nothing ran".to_owned())
}

#[test]
fn a_compose_file_runs_in_a_flock_and_keeps_its_promises() -> Result<(), String> {
    for (start, timeline) in [("joined", DEPLOYED), ("running", &DEPLOYED.replace("  - {at: 3s, deploy: }\n", ""))] {
        let outcome = run(read(&scenario(start, BY_FILE, timeline))?)?;
        assert_eq!(outcome.violations, [], "{start}");
        // Five of the web, four workers, one log on each of nine nodes, two slots of the import.
        assert_eq!((outcome.nodes, outcome.replicas), (9, 20), "{start}");
        assert!(outcome.failover_s.max.is_some(), "{start}: a third of the flock was gone");
    }
    Ok(())
}

#[test]
fn what_is_written_of_it_is_whole_and_names_no_file() -> Result<(), String> {
    let read = read(&scenario("joined", BY_FILE, DEPLOYED))?;
    let text = read.text();
    assert_eq!(parse("shop.yaml", &text)?, read, "{text}");
    assert!(!text.contains("secret") && text.contains("node.labels.disk"), "{text}");
    Ok(())
}

#[test]
fn a_file_that_cannot_be_deployed_is_refused_with_both_places() {
    let inline = "compose:\n  text: |\n    services:\n      web: {image: x, deploy: {replica: 3}}\n";
    let refusal = read(&scenario("joined", inline, "")).expect_err("no such key");
    assert!(refusal.starts_with("shop.yaml:10: compose.text: ") && refusal.contains("\ncompose:2:"), "{refusal}");
    let missing = read(&scenario("joined", "compose: {file: none.yaml}\n", "")).expect_err("no such file");
    assert!(missing.starts_with("shop.yaml:8: compose.file: no such file"), "{missing}");
    let stranger = BY_FILE.replace("import:", "impart:");
    let refusal = read(&scenario("joined", &stranger, "")).expect_err("no such service");
    assert!(refusal.contains("compose.processes.impart: is no service"), "{refusal}");
    let unchecked = BY_FILE.replace("import: {finish-after", "worker: {ready");
    let refusal = read(&scenario("joined", &unchecked, "")).expect_err("no health check");
    assert!(refusal.contains("compose.processes.worker.ready: means nothing"), "{refusal}");
}

/// Where each replica ran when nothing had happened yet.
fn places(text: &str) -> Result<BTreeMap<String, u64>, Box<dyn std::error::Error>> {
    let file = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("places.yaml");
    std::fs::write(&file, text)?;
    let options = RunOptions { scenario: file.display().to_string(), nodes: None, seeds: 1..=1, jobs: 1, json: false };
    let (_, report) = run_reported(&options, &Default::default())?;
    let document: Value = serde_json::from_str(&report.json)?;
    let of = |row: &Value| Some((row["replica"].as_str()?.to_owned(), row["stays"][0]["host"].as_u64()?));
    Ok(document["placements"].as_array().into_iter().flatten().filter_map(of).collect())
}

#[test]
fn replicas_run_where_a_scenario_says() -> Result<(), Box<dyn std::error::Error>> {
    let text = "name: on\nabout: as it is\nhosts: 5\nstart: running\nservices:\n  \
                - {name: web, replicas: 3, on: [4, 1, 4], spec: {}}\nsettle: 1s\nend: 5s\n";
    let places = places(text)?;
    assert_eq!(places.get("sim/web.1"), Some(&4), "{places:?}");
    assert_eq!((places.get("sim/web.2"), places.get("sim/web.3")), (Some(&1), Some(&4)));
    Ok(())
}
