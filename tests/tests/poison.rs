//! A record over which handlers panic, on real agents: its meaning is left out on every node, visibly, and nothing else is hurt.

use std::collections::BTreeSet;

use dunlin_tests::cluster::{Cluster, PATIENCE, processes_in, text};
use dunlin_tests::env::{has_faults, left_out};
use dunlin_tests::wait::until;
use dunlin_tests::web;
use serde_json::json;

/// A binary made for tests panics over this, wherever it is read or claimed.
fn poison(place: &str) -> String {
    format!("services:\n  bad:\n    command: sleep 1000\n    environment: {{POISON_FOR_TESTS: {place}}}\n")
}

fn left_out_at(cluster: &Cluster, n: usize, expected: &serde_json::Value) {
    until("the record to be left out, or not any more", PATIENCE, || {
        let status = cluster.nodes[n].json(&["status"])?;
        if status["left_out"] == *expected {
            Ok(())
        } else {
            Err(format!("{} {}", status["left_out"], cluster.nodes[n].log()))
        }
    });
}

fn a_poison_loses_its_meaning(place: &str) {
    let cluster = Cluster::start(2);
    let deployed = cluster.deploy(0, &web::compose(4), &["--wait"]);
    assert!(deployed.status.success(), "{}", text(&deployed.stderr));
    let before = cluster.wait_ready(0, 4);
    let pids = |n: usize| (cluster.nodes[n].pid(), processes_in(&cluster.nodes[n].dir));
    let all = [pids(0), pids(1)];

    // Whether it is answered before the agent panics is nobody's promise.
    let file = cluster.nodes[0].dir.join("poison.yaml");
    std::fs::write(&file, poison(place)).expect("a file");
    let file = file.display().to_string();
    let _answer_or_none = cluster.nodes[0].run(&["deploy", "-f", &file, "--stack", "poison"]);
    for n in [0, 1] {
        left_out_at(&cluster, n, &json!(["service poison/bad"]));
    }
    cluster.wait_for_all_alive();
    assert_eq!([pids(0), pids(1)], all, "no agent was replaced, and no workload noticed");
    let ids = |rows: &[serde_json::Value]| rows.iter().map(|row| row["id"].to_string()).collect::<BTreeSet<_>>();
    assert_eq!(ids(&cluster.wait_ready(1, 4)), ids(&before));
    for n in [0, 1] {
        let events = text(&cluster.nodes[n].run(&["events"]).stdout);
        assert!(events.contains("service poison/bad made this agent"), "{events}");
        let doctor = cluster.nodes[n].run(&["doctor"]);
        let said = text(&doctor.stdout);
        assert!(doctor.status.code() == Some(1) && said.contains("service poison/bad made this agent panic"), "{said}");
        assert!(cluster.nodes[n].log().contains("a poison record was swallowed"), "what the panic said is in the log");
    }

    // What stays in the state can be taken out of it by its name.
    let removed = cluster.nodes[1].run(&["rm", "poison", "--ack", "all"]);
    assert!(removed.status.success(), "{}", text(&removed.stderr));
    for n in [0, 1] {
        left_out_at(&cluster, n, &json!([]));
    }
    assert_eq!([pids(0), pids(1)], all);
}

#[test]
fn what_nobody_can_read_is_left_out() {
    if !has_faults() {
        return left_out("what_nobody_can_read_is_left_out", "this binary swallows no poison");
    }
    a_poison_loses_its_meaning("read");
}

#[test]
fn what_nobody_can_run_is_left_out() {
    if !has_faults() {
        return left_out("what_nobody_can_run_is_left_out", "this binary swallows no poison");
    }
    a_poison_loses_its_meaning("act");
}
