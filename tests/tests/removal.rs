//! `dunlin node rm` on real agents: the node is out at once, its work moves, it says why it ends, and nothing lets it back in.

use std::collections::BTreeSet;

use dunlin_tests::cluster::{Cluster, PATIENCE, processes_in, text};
use dunlin_tests::wait::until;
use dunlin_tests::web;
use serde_json::Value;

fn names(cluster: &Cluster, n: usize) -> Result<Vec<String>, String> {
    let rows = cluster.nodes[n].json(&["nodes"])?;
    Ok(rows.as_array().into_iter().flatten().filter_map(|r| r["name"].as_str().map(str::to_owned)).collect())
}

fn error_of(cluster: &Cluster, n: usize, args: &[&str], code: i32) -> String {
    let output = cluster.nodes[n].run(args);
    assert_eq!(output.status.code(), Some(code), "{} {}", text(&output.stdout), text(&output.stderr));
    text(&output.stderr)
}

#[test]
fn a_removed_node_is_out_for_good_and_its_work_moves() {
    let mut cluster = Cluster::start(4);
    let deployed = cluster.deploy(0, &web::compose(4), &["--wait"]);
    assert!(deployed.status.success(), "{}", text(&deployed.stderr));
    let id = cluster.nodes[3].json(&["status"]).expect("status")["node"].as_str().expect("an id").to_owned();

    // What makes no sense is refused, with help.
    let unknown = error_of(&cluster, 0, &["node", "rm", "n9"], 2);
    assert!(unknown.contains("there is no node n9") && unknown.contains("n1, n2, n3, n4"), "{unknown}");
    let oneself = error_of(&cluster, 0, &["node", "rm", "n1"], 2);
    assert!(oneself.contains("ask another node"), "{oneself}");

    let removed = cluster.nodes[0].json(&["node", "rm", &id[..8], "--ack", "all"]).expect("removed");
    assert_eq!((removed["name"].as_str(), removed["id"].as_str()), (Some("n4"), Some(id.as_str())), "{removed}");
    assert_eq!(removed["durable_on"].as_array().map(Vec::len), Some(3), "{removed}");

    // It stops what it ran, says why, and ends.
    assert_eq!(cluster.wait_for_end(3), Some(1));
    let log = cluster.nodes[3].log();
    assert!(log.contains("was removed from the cluster") && log.contains("empty --data-dir"), "{log}");
    until("what it ran to be stopped", PATIENCE, || match processes_in(&cluster.nodes[3].dir).as_slice() {
        [] => Ok(()),
        left => Err(format!("{left:?}")),
    });
    for n in 0..3 {
        until("the others to be three", PATIENCE, || match names(&cluster, n)? {
            names if names.len() == 3 && !names.contains(&"n4".to_owned()) => Ok(()),
            names => Err(format!("{names:?}")),
        });
    }
    assert!(cluster.wait_ready(1, 4).iter().all(|row| row["node"] != "n4"), "its work has moved");
    let again = error_of(&cluster, 1, &["node", "rm", "n4"], 2);
    assert!(again.contains("removed already") || again.contains("no node n4"), "{again}");

    // Its next boot knows, even if nobody answers; and no token lets its keys in again.
    cluster.start_agent(3);
    assert_eq!(cluster.wait_for_end(3), Some(1));
    assert!(cluster.nodes[3].log().contains("was removed from the cluster"));
    std::fs::remove_file(cluster.nodes[3].dir.join("keys/cluster")).expect("half of its keys");
    cluster.start_agent(3);
    assert_eq!(cluster.wait_for_end(3), Some(1));
    let log = cluster.nodes[3].log();
    assert!(log.contains("removed for good") && log.contains("empty data directory"), "{log}");
    assert_eq!(names(&cluster, 0).map(|names| names.len()), Ok(3));
}

#[test]
fn one_that_was_away_is_turned_away_by_a_peer_that_was_restarted_since() {
    let mut cluster = Cluster::start(3);
    let deployed = cluster.deploy(0, &web::compose(3), &["--wait"]);
    assert!(deployed.status.success(), "{}", text(&deployed.stderr));
    cluster.kill_agent(2);
    let left = processes_in(&cluster.nodes[2].dir);
    assert!(!left.is_empty(), "its workload outlives the agent");
    let removed = cluster.nodes[1].run(&["node", "rm", "n3", "--ack", "all"]);
    assert!(removed.status.success(), "{}", text(&removed.stderr));
    // Whoever turns it away knows of it from its disk alone.
    for n in [0, 1] {
        cluster.kill_agent(n);
        cluster.start_agent(n);
    }
    cluster.start_agent(2);
    assert_eq!(cluster.wait_for_end(2), Some(1));
    assert!(cluster.nodes[2].log().contains("was removed from the cluster"), "{}", cluster.nodes[2].log());
    until("what it ran to be stopped", PATIENCE, || match processes_in(&cluster.nodes[2].dir).as_slice() {
        [] => Ok(()),
        left => Err(format!("{left:?}")),
    });
    let rows = cluster.wait_ready(0, 3);
    assert!(rows.iter().all(|row| row["node"] != "n3"), "{}", Value::from(rows));
}

#[test]
fn of_a_compromised_node_is_told_whom_it_let_in_and_all_tokens_are_worthless() {
    let mut cluster = Cluster::start(3);
    let own = cluster.nodes[0].json(&["token", "create", "--label", "attic"]).expect("a token");
    let other = cluster.nodes[1].json(&["token", "create", "--label", "cellar"]).expect("a token");
    // The first node let the others in.
    let removed = cluster.nodes[1].json(&["node", "rm", "n1", "--compromised"]).expect("removed");
    let aftermath = &removed["compromised"];
    let revoked = aftermath["tokens_revoked"].as_array().expect("ids");
    assert!(revoked.contains(&own["id"]) && revoked.contains(&other["id"]), "{removed}");
    let admitted: BTreeSet<&str> =
        aftermath["admitted"].as_array().into_iter().flatten().filter_map(|row| row["name"].as_str()).collect();
    assert_eq!(admitted, BTreeSet::from(["n2", "n3"]), "{removed}");
    assert_eq!(cluster.wait_for_end(0), Some(1));
    assert_eq!(cluster.nodes[1].json(&["token", "ls"]), Ok(Value::Array(Vec::new())));
}
