//! Bad input: one clear error with the place and the remedy, nothing half applied, no agent stops.

use std::io::Write as _;
use std::net::UdpSocket;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use dunlin_tests::cluster::{Cluster, text};
use dunlin_tests::env::dunlin;
use tempfile::TempDir;

fn refused(output: &Output, code: i32, parts: &[&str]) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said} {}", text(&output.stdout));
    for part in parts {
        assert!(said.contains(part), "no {part:?} in: {said}");
    }
}

fn bare(args: &[&str]) -> Output {
    Command::new(dunlin()).args(args).env_remove("DUNLIN_TOKEN").stdin(Stdio::null()).output().expect("dunlin runs")
}

#[test]
fn a_bad_compose_file_changes_nothing() {
    let cluster = Cluster::start(1);
    let cases = [
        ("services:\n  web:\n    command: a\n    volumes: [x]\n", vec!["compose.yaml:4:5", "volumes"]),
        ("services:\n  web:\n    comand: a\n", vec!["compose.yaml:3:5", "comand", "command"]),
        ("services:\n  web:\n    command: a\n    deploy: {replicas: many}\n", vec!["4:", "replicas"]),
        ("services:\n  web:\n    command: a\n    ports: ['80:80', '80:81']\n", vec!["4:", "80"]),
        (
            "services:\n  web:\n    command: sleep 9\n    deploy:\n      placement:\n        constraints: [node.labels.disk == ssd]\n",
            vec!["shop/web", "node.labels.disk==ssd"],
        ),
        (
            "services:\n  web:\n    command: sleep 9\n    deploy:\n      resources:\n        reservations: {cpus: '64'}\n",
            vec!["shop/web", "cpu"],
        ),
    ];
    for (compose, parts) in cases {
        refused(&cluster.deploy(0, compose, &[]), 2, &parts);
        assert_eq!(cluster.nodes[0].json(&["services"]), Ok(serde_json::json!([])), "half applied: {compose}");
    }
}

#[test]
fn tokens_and_data_directories() {
    let cluster = Cluster::start(1);
    let seed = format!("{}:7400", cluster.nodes[0].address);
    let token = cluster.nodes[0].json(&["token", "create", "--label", "t"]).expect("a token");
    let token = token["token"].as_str().expect("its text").to_owned();
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().display().to_string();
    let bind = format!("{}:7499", cluster.nodes[0].address);
    let dns = format!("{}:7498", cluster.nodes[0].address);
    let agent = |more: &[&str]| {
        let mut args = vec!["--data-dir", &path, "agent", "--bind", &bind, "--dns", &dns, "--name", "x"];
        args.extend_from_slice(more);
        bare(&args)
    };
    refused(&agent(&[]), 2, &["dunlin init", "--join"]);
    let flipped: String =
        token.chars().enumerate().map(|(i, c)| if i == 20 { if c == 'A' { 'B' } else { 'A' } } else { c }).collect();
    refused(&agent(&["--join", &seed, "--token", &flipped]), 2, &["token"]);
    refused(&agent(&["--join", &seed]), 2, &["--token"]);

    let id = cluster.nodes[0].json(&["token", "ls"]).expect("tokens");
    for row in id.as_array().expect("rows") {
        let removed = cluster.nodes[0].run(&["token", "rm", row["id"].as_str().expect("an id")]);
        assert!(removed.status.success(), "{}", text(&removed.stderr));
    }
    refused(&agent(&["--join", &seed, "--token", &token]), 1, &["token"]);
    let events = text(&cluster.nodes[0].run(&["events"]).stdout);
    assert!(events.contains("trust") && events.contains("token"), "an event at the host: {events}");

    // The cluster's own directory, but another agent holds it.
    let first = cluster.nodes[0].dir.display().to_string();
    refused(&bare(&["--data-dir", &first, "agent", "--bind", &bind, "--dns", &dns]), 1, &["another agent"]);
    // An address in use.
    let made = bare(&["--data-dir", &path, "init", "--name", "y"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    refused(&bare(&["--data-dir", &path, "agent", "--bind", &seed, "--dns", &dns]), 1, &[&seed, "in use"]);
    // A second init.
    refused(&bare(&["--data-dir", &path, "init"]), 1, &["already"]);
    assert!(cluster.nodes[0].json(&["status"]).is_ok(), "the agent lives on");
}

#[test]
fn garbage_on_the_port_is_survived() {
    let cluster = Cluster::start(2);
    let socket = UdpSocket::bind((cluster.nodes[0].address, 0)).expect("a socket");
    for first in [0x00, 0x20, 0x40, 0x80, 0xc0, 0xff] {
        for length in [1, 20, 60, 1_200, 9_000] {
            let mut datagram = vec![0x5a; length];
            datagram[0] = first;
            socket.send_to(&datagram, (cluster.nodes[0].address, 7400)).expect("a datagram");
        }
    }
    let mut stream =
        std::os::unix::net::UnixStream::connect(cluster.nodes[0].dir.join("dunlin.sock")).expect("the socket");
    stream.set_write_timeout(Some(Duration::from_secs(5))).expect("a time-out");
    let _refused_early = stream.write_all(&vec![b'x'; 1 << 20]);
    cluster.wait_for_all_alive();
}

#[test]
fn usage_is_checked_first() {
    refused(&bare(&["ps", "--no-such-option"]), 2, &["--no-such-option"]);
    refused(&bare(&["scale", "web"]), 2, &["SERVICE=N"]);
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().display().to_string();
    refused(&bare(&["--data-dir", &path, "ps"]), 1, &["no agent answers", "dunlin agent"]);
    assert!(text(&bare(&["--help"]).stdout).contains("dunlin demo"));
}
