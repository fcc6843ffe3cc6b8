//! The main job on real processes: deploy, resolve, fail over, survive `kill -9` of everything, come back.

use std::collections::BTreeSet;
use std::time::Duration;

use dunlin_tests::ask;
use dunlin_tests::cluster::{Cluster, PATIENCE, kill9, processes_in, text};
use dunlin_tests::env::{has_program, left_out};
use dunlin_tests::wait::until;
use dunlin_tests::web;
use serde_json::Value;

/// A real HTTP server with a health check.
const NAME: &str = "web.shop.dunlin.internal";

fn owners(rows: &[Value]) -> BTreeSet<(String, String)> {
    rows.iter().map(|r| (r["replica"].to_string(), r["node"].to_string())).collect()
}

#[test]
fn a_flock_deploys_resolves_and_heals() {
    if !has_program("dig") {
        left_out("a_flock_deploys_resolves_and_heals", "no dig here");
        return;
    }
    let mut cluster = Cluster::start(5);
    let deployed = cluster.deploy(2, &web::compose(3), &["--wait"]);
    assert!(deployed.status.success(), "{} {}", text(&deployed.stdout), text(&deployed.stderr));
    let before = cluster.wait_ready(4, 3);
    assert_eq!(before.iter().map(|r| r["node"].to_string()).collect::<BTreeSet<_>>().len(), 3, "one a node");
    for n in 0..5 {
        until("A and SRV at every node", PATIENCE, || names_answer(&cluster, n, 3));
    }

    let victim = (1..5).find(|n| before.iter().any(|r| r["node"] == cluster.nodes[*n].name)).expect("a busy node");
    let (name, address) = (cluster.nodes[victim].name.clone(), cluster.nodes[victim].address.to_string());
    cluster.kill_node(victim);
    for n in (0..5).filter(|n| *n != victim) {
        until("the dead address to leave DNS", PATIENCE, || {
            let found = cluster.dig(n, NAME, "A");
            if found.contains(&address) { Err(format!("{found:?}")) } else { Ok(()) }
        });
        until("names to be whole again", PATIENCE, || names_answer(&cluster, n, 3));
    }
    let after = cluster.wait_ready(0, 3);
    let stayed = |rows: &[Value]| owners(rows).into_iter().filter(|(_, n)| !n.contains(&name)).collect::<BTreeSet<_>>();
    assert!(owners(&after).is_superset(&stayed(&before)), "only what must move moves: {before:?} {after:?}");

    cluster.start_agent(victim);
    cluster.wait_for_all_alive();
    assert_eq!(owners(&cluster.wait_ready(victim, 3)), owners(&after), "a returning node takes nothing back");
}

/// A service record a replica, and an address a node that has some: a machine under load may keep the node whose turn it is
/// waiting for longer than the others wait for it, and then one that already has a replica takes the lost one.
fn names_answer(cluster: &Cluster, n: usize, replicas: usize) -> Result<(), String> {
    let rows = ask::ready(cluster, n, "")?;
    let nodes = rows.iter().map(|row| row["node"].to_string()).collect::<BTreeSet<_>>().len();
    let srv = cluster.dig(n, NAME, "SRV");
    let a = cluster.dig(n, NAME, "A");
    if srv.len() == replicas && a.len() == nodes { Ok(()) } else { Err(format!("SRV {srv:?}, A {a:?} of {rows:?}")) }
}

#[test]
fn a_killed_agent_disturbs_nothing_and_a_killed_flock_comes_back() {
    let mut cluster = Cluster::start(5);
    let deployed = cluster.deploy(0, &web::compose(3), &["--wait"]);
    assert!(deployed.status.success(), "{}", text(&deployed.stderr));
    let before = cluster.wait_ready(0, 3);
    let workloads = |c: &Cluster, n: usize| -> BTreeSet<u32> {
        let agent = c.nodes[n].pid();
        processes_in(&c.nodes[n].dir).into_iter().filter(|p| Some(*p) != agent).collect()
    };
    let running: Vec<_> = (0..5).map(|n| workloads(&cluster, n)).collect();
    let busy = (0..5).find(|n| !running[*n].is_empty()).expect("a node with work");

    cluster.kill_agent(busy);
    assert_eq!(workloads(&cluster, busy), running[busy], "workloads outlive their agent");
    cluster.start_agent(busy);
    cluster.wait_for_all_alive();
    let after = cluster.wait_ready(busy, 3);
    // A machine under load may start an agent later than its peers wait for it; only then may its work move.
    if !(0..5).any(|n| held_down(&cluster, n, &cluster.nodes[busy].name)) {
        assert_eq!(owners(&after), owners(&before));
        assert_eq!(workloads(&cluster, busy), running[busy], "adopted, not started again");
    }

    let before = cluster.wait_ready(0, 3);
    let running: Vec<_> = (0..5).map(|n| workloads(&cluster, n)).collect();
    for n in 0..5 {
        cluster.kill_agent(n);
    }
    for n in 0..5 {
        cluster.start_agent(n);
    }
    cluster.wait_for_all_alive();
    assert_eq!(owners(&cluster.wait_ready(2, 3)), owners(&before), "all agents killed at once");
    for (n, was) in running.iter().enumerate() {
        assert_eq!(workloads(&cluster, n), *was, "adopted, not started again");
    }

    for n in 0..5 {
        cluster.kill_node(n);
    }
    for n in 0..5 {
        cluster.start_agent(n);
    }
    cluster.wait_for_all_alive();
    let _ready = cluster.wait_ready(0, 3);
}

/// True if a node told that it holds another one down.
fn held_down(cluster: &Cluster, n: usize, name: &str) -> bool {
    let events = cluster.nodes[n].json(&["events"]).expect("its events");
    let says = |event: &Value| event["node"] == name && event["text"].as_str().is_some_and(|t| t.starts_with("down"));
    events.as_array().into_iter().flatten().any(says)
}

#[test]
fn scale_logs_restart_and_remove() {
    let cluster = Cluster::start(3);
    let deployed = cluster.deploy(0, &web::compose(3), &["--wait"]);
    assert!(deployed.status.success(), "{}", text(&deployed.stderr));
    let scaled = cluster.nodes[1].run(&["scale", "web=5"]);
    assert!(scaled.status.success(), "{}", text(&scaled.stderr));
    let rows = cluster.wait_ready(2, 5);

    let logs = cluster.nodes[0].run(&["logs", "shop/web"]);
    let said = text(&logs.stdout);
    assert!(logs.status.success(), "{}", text(&logs.stderr));
    assert_eq!(said.lines().filter(|l| l.contains("listening on http://")).count(), 5, "from every node: {said}");

    let row = &rows[0];
    let node = cluster.nodes.iter().find(|n| row["node"] == n.name.as_str()).expect("its node");
    let one = processes_in(&node.dir).into_iter().find(|p| command_line(*p).contains("hello")).expect("a workload");
    kill9(one);
    until("the killed process to run again", PATIENCE, || {
        let rows = cluster.ps(0)?;
        let restarted = rows.iter().any(|r| r["restarts"].as_u64().unwrap_or(0) > 0 && r["ready"] == true);
        if restarted { Ok(()) } else { Err(Value::from(rows).to_string()) }
    });

    assert!(cluster.nodes[2].run(&["scale", "shop/web=1"]).status.success());
    let _one = cluster.wait_ready(0, 1);
    assert!(cluster.nodes[1].run(&["rm", "shop"]).status.success());
    until("nothing to run", PATIENCE, || {
        let rows = cluster.ps(0)?;
        if rows.is_empty() { Ok(()) } else { Err(Value::from(rows).to_string()) }
    });
    until("no process to be left", Duration::from_secs(20), || {
        let left: Vec<_> = cluster
            .nodes
            .iter()
            .flat_map(|n| processes_in(&n.dir))
            .map(command_line)
            .filter(|l| !l.contains(" agent "))
            .collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

fn command_line(pid: u32) -> String {
    text(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).replace('\0', " ")
}
