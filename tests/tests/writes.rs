//! What a write says of itself, on real processes: on which disks it is, and what became of writes of the same moment.

use dunlin_tests::cluster::{Cluster, PATIENCE, text};
use dunlin_tests::env::{has_namespaces, left_out};
use dunlin_tests::wait::until;
use serde_json::Value;

/// A service that just runs, in a version, and perhaps another one beside it.
fn compose(replicas: u32, version: &str, more: &str) -> String {
    format!(
        "services:
  web:
    command: sleep 100000
    environment: {{VERSION: \"{version}\"}}
    stop_grace_period: 1s
    deploy: {{replicas: {replicas}, resources: {{reservations: {{cpus: '0.05', memory: 8M}}}}}}
{more}"
    )
}

const CACHE: &str = "  cache:
    command: sleep 100001
    deploy: {resources: {reservations: {cpus: '0.05', memory: 8M}}}
";

/// The rows of `conflicts`, once every node shows the same and so many.
fn conflicts(cluster: &Cluster, count: usize) -> Vec<Value> {
    until("every node to show the same conflicts", PATIENCE, || {
        let rows: Vec<Value> =
            cluster.nodes.iter().map(|node| node.json(&["conflicts"])).collect::<Result<_, String>>()?;
        let first = rows.first().and_then(Value::as_array).cloned().unwrap_or_default();
        let same = rows.iter().all(|row| row.as_array() == Some(&first));
        if same && first.len() == count { Ok(first) } else { Err(Value::from(rows).to_string()) }
    })
}

#[test]
fn deploys_on_both_sides_of_a_cut_are_kept_shown_and_settled() {
    if !has_namespaces() {
        left_out("deploys_on_both_sides_of_a_cut_are_kept_shown_and_settled", "network namespaces need root");
        return;
    }
    let cluster = Cluster::start_on_network(2);
    let network = cluster.network.as_ref().expect("a network");
    assert!(cluster.deploy(0, &compose(1, "1", ""), &["--wait", "--ack", "all"]).status.success());
    network.cut(&[0], &[1]);
    let lonely = cluster.deploy(0, &compose(1, "2", CACHE), &["--ack", "2", "--timeout", "1"]);
    assert_eq!(lonely.status.code(), Some(3), "{}", text(&lonely.stdout));
    assert!(text(&lonely.stdout).contains("durable on 1 of 2: n1"), "{}", text(&lonely.stdout));
    assert_eq!(cluster.deploy(1, &compose(2, "3", ""), &["--ack", "2", "--timeout", "1"]).status.code(), Some(3));
    network.heal();

    let rows = conflicts(&cluster, 2);
    let user = std::process::Command::new("id").arg("-un").output().expect("id").stdout;
    let web = rows.iter().find(|row| row["what"] == "shop/web").expect("the service");
    let [winner, other] = [&web["versions"][0], &web["versions"][1]];
    assert_eq!((&winner["node"], &other["node"]), (&"n2".into(), &"n1".into()), "written last: {web}");
    assert_eq!(winner["author"], text(user.trim_ascii()));
    assert!(other["difference"].to_string().contains("spec.environment.VERSION"), "{other}");
    let shown = text(&cluster.nodes[0].run(&["conflicts"]).stdout);
    assert!(shown.contains("dunlin conflicts resolve shop/web --keep 1"), "{shown}");
    for node in &cluster.nodes {
        let services = node.json(&["services"]).expect("services");
        assert_eq!(services.as_array().map(Vec::len), Some(1), "the last deploy has no cache: {services}");
        assert_eq!(services[0]["replicas_wanted"], 2);
    }

    let settled = cluster.nodes[0].run(&["conflicts", "resolve", "shop", "--keep", "2", "--ack", "all"]);
    assert!(settled.status.success(), "{}", text(&settled.stderr));
    conflicts(&cluster, 0);
    for node in &cluster.nodes {
        let services = node.json(&["services"]).expect("services");
        let wanted: Vec<_> = services.as_array().into_iter().flatten().map(|row| &row["replicas_wanted"]).collect();
        assert_eq!(wanted, [1, 1], "web and cache as the first node deployed them: {services}");
    }
    let again = cluster.nodes[0].run(&["conflicts", "resolve", "shop", "--keep", "2"]);
    assert_eq!(again.status.code(), Some(2), "{}", text(&again.stderr));
}

#[test]
fn a_write_says_on_which_disks_it_is() {
    let mut cluster = Cluster::start(3);
    let deployed = cluster.deploy(0, &compose(1, "1", ""), &["--json"]);
    assert!(deployed.status.success(), "{}", text(&deployed.stderr));
    let written: Value = serde_json::from_slice(&deployed.stdout).expect("a document");
    assert_eq!(written["wanted"], 2, "one more where there is one");
    assert!(written["durable_on"][0] == "n1" && written["durable_on"][1].is_string(), "{written}");
    for ack in ["3", "all"] {
        let scaled = text(&cluster.nodes[1].run(&["scale", "web=2", "--ack", ack]).stdout);
        let (head, names) = scaled.trim().split_once("durable on 3 of 3: ").expect(&scaled);
        let mut names: Vec<&str> = names.split(", ").collect();
        assert!(head.starts_with("web scaled to 2") && names[0] == "n2", "the accepting one first: {scaled}");
        names.sort_unstable();
        assert_eq!(names, ["n1", "n2", "n3"]);
    }
    assert_eq!(cluster.nodes[0].run(&["scale", "web=1", "--ack", "0"]).status.code(), Some(2));

    cluster.kill_agent(1);
    cluster.kill_agent(2);
    let late = cluster.nodes[0].run(&["scale", "web=3", "--ack", "3", "--timeout", "1"]);
    assert_eq!(late.status.code(), Some(3));
    assert!(text(&late.stdout).contains("durable on 1 of 3: n1"), "{}", text(&late.stdout));
    until("both to count as down", PATIENCE, || {
        let status = cluster.nodes[0].json(&["status"])?;
        if status["members"]["down"] == 2 { Ok(()) } else { Err(status["members"].to_string()) }
    });
    let alone = cluster.nodes[0].run(&["scale", "web=2"]);
    assert!(alone.status.success() && text(&alone.stdout).contains("durable on 1 of 1: n1"), "{}", text(&alone.stdout));

    cluster.start_agent(1);
    cluster.start_agent(2);
    cluster.wait_for_all_alive();
    until("what was on one disk to be everywhere", PATIENCE, || {
        let wanted = |n: usize| cluster.nodes[n].json(&["services"]).map(|rows| rows[0]["replicas_wanted"].clone());
        let all = [wanted(0)?, wanted(1)?, wanted(2)?];
        if all.iter().all(|n| *n == 2) { Ok(()) } else { Err(format!("{all:?}")) }
    });
}
