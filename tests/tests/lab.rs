//! The simulator as people use it: every command of the tutorial, and a simulation that starts from a flock of real agents.

use std::path::Path;
use std::process::{Command, Output};

use dunlin_tests::cluster::{Cluster, text};
use dunlin_tests::env::dunlin;
use serde_json::Value;

/// Runs a line of a shell in a folder where `dunlin` is the program under test.
fn shell(line: &str, folder: &Path) -> Output {
    let beside = dunlin().parent().expect("the program lies in a folder").display().to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("sh");
    command.args(["-ec", line]).current_dir(folder).env("PATH", format!("{beside}:{path}"));
    command.output().expect("a shell")
}

/// The first block of a kind in a page.
fn block<'a>(page: &'a str, kind: &str) -> &'a str {
    let rest = page.split_once(&format!("```{kind}\n")).expect("a block").1;
    rest.split_once("```").expect("its end").0
}

#[test]
fn every_command_of_the_tutorial_about_zones_does_what_the_page_says() {
    let page = include_str!("../../docs/src/tutorial-zone.md");
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("compose.yaml"), block(page, "yaml")).expect("a file");
    let commands: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    assert!(commands.len() > 7, "{commands:?}");
    for line in commands {
        let (line, code) = line.split_once(" # exits 1").map_or((line, 0), |(line, _)| (line, 1));
        let output = shell(line, folder.path());
        let said = format!("{line}: {}\n{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{said}");
        if code == 1 {
            assert!(said.contains("BROKEN limits") && said.contains("dark: "), "{said}");
            assert!(!said.contains("20 of 20"), "only some flocks lose both replicas: {said}");
        }
    }
    let page = std::fs::read_to_string(folder.path().join("out/report.html")).expect("the report");
    assert!(page.contains("crash-hosts") && page.contains("Every promise was kept"), "{page:.300}");
}

#[test]
fn a_simulation_starts_from_the_flock_that_runs() {
    let cluster = Cluster::start(3);
    for (node, zone) in [("n1", "attic"), ("n2", "attic"), ("n3", "cellar")] {
        let label = format!("zone={zone}");
        let output = cluster.nodes[0].run(&["node", "label", node, &label, "disk=ssd"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let compose = "services:
  web:
    command: ${DUNLIN} hello
    environment: {PASSWORD: very-secret}
    ports: [{target: 8080, name: http}]
    deploy:
      replicas: 3
      placement: {constraints: [node.labels.disk == ssd], preferences: [{spread: node.labels.zone}]}
      resources: {reservations: {cpus: '0.05', memory: 8M}}
    x-dunlin: {healthcheck: {http: {port: http, path: /health}, interval: 500ms}}
  agent:
    command: ${DUNLIN} hello
    deploy: {mode: global, resources: {reservations: {cpus: '0.05', memory: 8M}}}
";
    let output = cluster.deploy(0, compose, &["--wait", "--ack", "all"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows = cluster.wait_ready(0, 6);

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("flock.sim.yaml").display().to_string();
    let row = cluster.nodes[1].json(&["sim", "from-cluster", "--kill-zone", "cellar", "--out", &file]).expect("a row");
    assert_eq!((&row["nodes"], &row["zones"]["b"]), (&Value::from(3), &Value::from("cellar")), "{row}");
    let written = std::fs::read_to_string(&file).expect("the scenario");
    for part in ["name: \"n3\", zone: b", "\"disk\":\"ssd\"", "node.labels.disk", "crash-hosts: zone-b", "\"Global\""] {
        assert!(written.contains(part), "no {part}: {written}");
    }
    assert!(!written.contains("very-secret") && !written.contains("hello"), "{written}");
    // Where replicas run in the flock is where they run in the simulation.
    let nodes = ["n1", "n2", "n3"];
    let place = |slot: u32| {
        let row = rows.iter().find(|row| row["replica"] == format!("shop/web.{slot}").as_str())?;
        nodes.iter().position(|node| row["node"] == *node)
    };
    let on: Vec<usize> = (1..=3).filter_map(place).collect();
    assert!(on.len() == 3 && written.contains(&format!("on: {on:?}")), "{on:?}: {written}");

    let again = cluster.nodes[1].run(&["sim", "from-cluster", "--out", &file]);
    assert_eq!(again.status.code(), Some(2), "a file that is there stays: {}", text(&again.stderr));
    let unknown = cluster.nodes[1].run(&["sim", "from-cluster", "--kill-zone", "roof", "--out", &file, "--force"]);
    assert!(unknown.status.code() == Some(2) && text(&unknown.stderr).contains("attic, cellar"), "{unknown:?}");
    let report = folder.path().join("out").display().to_string();
    let outcome = cluster.nodes[1]
        .json(&["sim", "from-cluster", "--kill", "n1", "--out", &file, "--force", "--run", "--report", &report])
        .expect("it runs");
    assert_eq!(outcome["violations"], serde_json::json!([]), "{outcome}");
    assert_eq!((&outcome["nodes"], &outcome["replicas"], &outcome["moves_minimum"]), (&3.into(), &6.into(), &1.into()));
    assert!(outcome["failover_s"]["max"].is_f64(), "{outcome}");
}
