//! Certificates and the authority on real agents: renewed and replaced while everything goes on, and what an old one is good for.

use std::os::unix::fs::PermissionsExt as _;

use dunlin_tests::cluster::{Cluster, PATIENCE, text};
use dunlin_tests::wait::until;
use dunlin_tests::web;
use serde_json::Value;

fn trust(cluster: &Cluster, n: usize) -> Result<Value, String> {
    cluster.nodes[n].json(&["status"]).map(|status| status["trust"].clone())
}

fn events(cluster: &Cluster, n: usize) -> Result<Vec<Value>, String> {
    cluster.nodes[n].json(&["events"]).map(|rows| rows.as_array().cloned().unwrap_or_default())
}

/// Waits until these nodes trust the same authority and no other, and none of them the given one.
fn wait_moved(cluster: &Cluster, nodes: &[usize], old: &Value) -> Value {
    until("one new authority", PATIENCE, || {
        let seen = nodes.iter().map(|n| trust(cluster, *n)).collect::<Result<Vec<_>, _>>()?;
        let new = &seen[0]["authority"];
        let moved = |t: &Value| t["authority"] == *new && t["authorities"] == 1 && t["moved"] == nodes.len();
        if new != old && seen.iter().all(moved) { Ok(new.clone()) } else { Err(Value::from(seen).to_string()) }
    })
}

#[test]
fn certificates_are_renewed_before_they_end_and_nothing_is_dropped() {
    let mut cluster = Cluster::with_options(3, &["--certificate-lifetime", "12s"]);
    let deployed = cluster.deploy(0, &web::compose(3), &["--wait"]);
    assert!(deployed.status.success(), "{}", text(&deployed.stderr));
    let firsts: Vec<u64> =
        (0..3).map(|n| trust(&cluster, n).expect("t")["certificate_until_ms"].as_u64().expect("t")).collect();
    // Past the end of every certificate that there was.
    until("a renewal at each node", PATIENCE, || {
        for (n, first) in firsts.iter().enumerate() {
            let status = cluster.nodes[n].json(&["status"])?;
            let (wall, until) = (status["wall_ms"].as_u64(), status["trust"]["certificate_until_ms"].as_u64());
            if wall <= Some(*first) || until <= wall {
                return Err(status["trust"].to_string());
            }
        }
        Ok(())
    });
    for n in 0..3 {
        let seen = events(&cluster, n).expect("events");
        let bad = |e: &&Value| e["kind"] == "member" && e["text"] != "alive (joined)";
        assert_eq!(seen.iter().find(bad), None, "no member was ever in doubt at {n}");
        assert!(seen.iter().any(|e| e["text"] == "the certificate was renewed"), "told at {n}");
        assert_eq!(cluster.nodes[n].json(&["status"]).expect("status")["network"]["links"], 2);
    }
    assert_eq!(cluster.wait_ready(1, 3).len(), 3);
    // Away for longer than its certificate is good: it makes a new one when it starts.
    cluster.kill_agent(2);
    let gone = trust(&cluster, 0).expect("t")["certificate_until_ms"].as_u64().expect("a time") + 3_000;
    until("its certificate to end", PATIENCE, || {
        let wall = cluster.nodes[0].json(&["status"])?["wall_ms"].as_u64();
        if wall > Some(gone) { Ok(()) } else { Err(format!("{wall:?} of {gone}")) }
    });
    cluster.start_agent(2);
    cluster.wait_for_all_alive();
}

#[test]
fn the_authority_is_replaced_while_one_node_is_away() {
    let mut cluster = Cluster::start(3);
    let old = trust(&cluster, 0).expect("t")["authority"].clone();
    let outdated = cluster.nodes[0].json(&["token", "create"]).expect("a token");
    cluster.kill_agent(2);
    until("it is down", PATIENCE, || {
        let rows = cluster.nodes[0].json(&["nodes"])?;
        let down = rows.as_array().into_iter().flatten().any(|r| r["state"] == "down");
        if down { Ok(()) } else { Err(rows.to_string()) }
    });
    let rotation = cluster.nodes[1].json(&["ca", "rotate"]).expect("a rotation");
    assert_eq!(rotation["from"], old);
    assert!(rotation["tokens_revoked"].as_array().expect("ids").contains(&outdated["id"]), "{rotation}");
    assert_eq!(wait_moved(&cluster, &[0, 1], &old), rotation["to"]);
    for n in [0, 1] {
        let seen = events(&cluster, n).expect("events");
        let doubt = |e: &&Value| e["kind"] == "member" && e["node"] != "n3" && e["text"] != "alive (joined)";
        assert_eq!(seen.iter().find(doubt), None, "those that stayed never lost each other");
        let keys = cluster.nodes[n].dir.join("keys/cluster");
        let mode = std::fs::metadata(&keys).expect("keys").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "only its owner reads the authority's key");
    }
    // It comes back with an old certificate, and may only fetch what it missed.
    cluster.start_agent(2);
    cluster.wait_for_all_alive();
    assert_eq!(wait_moved(&cluster, &[0, 1, 2], &old), rotation["to"]);
    // All of them once more, from their disks alone.
    for n in 0..3 {
        cluster.kill_agent(n);
    }
    for n in 0..3 {
        cluster.start_agent(n);
    }
    cluster.wait_for_all_alive();
    assert_eq!(trust(&cluster, 2).expect("t")["authority"], rotation["to"]);
}

#[test]
fn after_a_compromise_old_tokens_lead_nowhere_and_new_ones_do() {
    let mut cluster = Cluster::start(3);
    let old = trust(&cluster, 0).expect("t")["authority"].clone();
    let stolen = cluster.nodes[0].json(&["token", "create"]).expect("a token");
    let removed = cluster.nodes[0].json(&["node", "rm", "n3", "--compromised"]).expect("removed");
    assert_eq!(cluster.wait_for_end(2), Some(1));
    let new = wait_moved(&cluster, &[0, 1], &old);
    assert_eq!(removed["compromised"]["authority"]["to"], new);
    let key = std::fs::read_to_string(cluster.nodes[2].dir.join("keys/cluster")).expect("its keys");
    let kept = std::fs::read_to_string(cluster.nodes[0].dir.join("keys/cluster")).expect("keys");
    let line = |text: &str| text.lines().find(|line| line.starts_with("ca-key ")).map(str::to_owned);
    assert!(line(&key).is_some() && line(&key) != line(&kept), "the removed node does not have the new key");

    // The host is set up anew. What was stolen opens nothing; what is made now does.
    std::fs::remove_dir_all(&cluster.nodes[2].dir).expect("wiped");
    std::fs::create_dir_all(&cluster.nodes[2].dir).expect("an empty directory");
    cluster.set_token(stolen["token"].as_str().expect("its text"));
    cluster.start_agent(2);
    assert_eq!(cluster.wait_for_end(2), Some(1));
    assert!(cluster.nodes[2].log().contains("another cluster"), "{}", cluster.nodes[2].log());
    let token = cluster.nodes[1].json(&["token", "create"]).expect("a token");
    cluster.set_token(token["token"].as_str().expect("its text"));
    cluster.start_agent(2);
    cluster.wait_for_all_alive();
    assert_eq!(trust(&cluster, 2).expect("t")["authority"], new);
}
