//! What a node shows of itself and its peers: status, metrics, doctor, events with reasons, the document of the API.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use dunlin_tests::cluster::{Cluster, Node, PATIENCE, text};
use dunlin_tests::env::{has_namespaces, left_out};
use dunlin_tests::wait::until;
use serde_json::Value;

/// What the node's socket answers: status line and body.
fn get(node: &Node, path: &str) -> (String, String) {
    let mut socket = UnixStream::connect(node.dir.join("dunlin.sock")).expect("the socket");
    let request = format!("GET {path} HTTP/1.1\r\nhost: dunlin\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("written");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
}

/// The samples of a page in the text format, by name with labels; every one has help and type before it. Those of a histogram
/// are its buckets, their sum and their count.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let mut known: BTreeMap<String, &str> = BTreeMap::new();
    let mut samples = BTreeMap::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
            assert!(known.insert(name.to_owned(), kind).is_none(), "{line}");
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').expect("a sample");
            let name = series.split('{').next().unwrap_or_default();
            let part = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
            let of_histogram = part.is_some_and(|family| known.get(family) == Some(&"histogram"));
            let alone = known.get(name).is_some_and(|kind| *kind != "histogram");
            assert!(of_histogram || alone, "{line}");
            let value = value.parse().expect("a number");
            assert!(samples.insert(series.to_owned(), value).is_none(), "twice: {line}");
        }
    }
    samples
}

/// Changes of a member that a node tells: state and reason.
fn changes(node: &Node, member: &str) -> Result<Vec<(String, String)>, String> {
    let events = node.json(&["events"])?;
    let of_member = events.as_array().into_iter().flatten().filter(|e| e["kind"] == "member" && e["node"] == member);
    let word = |value: &Value| value.as_str().unwrap_or("none").to_owned();
    Ok(of_member.map(|event| (word(&event["state"]), word(&event["reason"]))).collect())
}

fn has_change(node: &Node, member: &str, state: &str, reasons: &[&str]) {
    until(&format!("{member} to be told {state}"), PATIENCE, || {
        let found = changes(node, member)?;
        let fits = found.iter().any(|(s, r)| s == state && reasons.contains(&r.as_str()));
        if fits { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

#[test]
fn a_node_shows_how_it_sees_its_peers() {
    let mut cluster = Cluster::start(3);
    let node = &cluster.nodes[0];
    until("both peers to be heard over links", PATIENCE, || {
        let status = node.json(&["status"])?;
        let peers = status["peers"].as_array().cloned().unwrap_or_default();
        let whole = |p: &Value| p["view_age_ms"].is_u64() && p["clock_offset_ms"].is_i64() && p["rtt_us"].is_u64();
        if peers.len() == 2 && peers.iter().all(whole) { Ok(()) } else { Err(status.to_string()) }
    });
    let (status, page) = get(node, "/metrics");
    assert!(status.contains("200"), "{status}");
    let figures = samples(&page);
    let of = |name: &str| -> Vec<f64> {
        figures.iter().filter(|(series, _)| series.split('{').next() == Some(name)).map(|(_, n)| *n).collect()
    };
    assert_eq!(of("dunlin_member_view_age_seconds").len(), 2, "{page}");
    assert!(of("dunlin_member_clock_offset_seconds").iter().all(|offset| offset.abs() < 5.0), "one host, one clock");
    assert_eq!(figures["dunlin_members{state=\"alive\"}"], 3.0);
    for kind in ["packets", "quic"] {
        let series = format!("dunlin_udp_bytes_total{{kind=\"{kind}\",direction=\"sent\"}}");
        assert!(figures[&series] > 0.0, "{series}");
    }
    assert!(figures["dunlin_frame_bytes_total{kind=\"control\",direction=\"received\"}"] > 0.0);
    assert!(figures["dunlin_disk_commits_total"] > 0.0 && figures["dunlin_turns_total"] > 0.0);
    assert_eq!(of("dunlin_allocations").len(), 8, "every phase, at zero as well");

    let (_, document) = get(node, "/v1/openapi.json");
    let document: Value = serde_json::from_str(&document).expect("JSON");
    for (path, verbs) in document["paths"].as_object().expect("paths") {
        // These need a question, or answer in a text of their own.
        let others = ["/v1/logs", "/v1/explain", "/v1/dns", "/v1/dns/zone", "/metrics"];
        if verbs["get"].is_object() && !others.contains(&path.as_str()) {
            let (status, body) = get(node, path);
            assert!(status.contains("200") && serde_json::from_str::<Value>(&body).is_ok(), "{path}: {status}");
        }
    }
    let (status, body) = get(node, "/v1/explain");
    assert!(status.contains("400") && body.contains("explain?replica="), "{status} {body}");
    let (status, body) = get(node, "/v1/dns");
    assert!(status.contains("400") && body.contains("name="), "{status} {body}");
    let (status, body) = get(node, "/v1/nothing");
    assert!(status.contains("404") && body.contains("openapi.json"), "{status} {body}");

    let well = node.run(&["doctor"]);
    assert!(well.status.success(), "{}", text(&well.stdout));
    assert!(!text(&well.stdout).contains("fail "), "{}", text(&well.stdout));
    let checks = node.json(&["doctor"]).expect("checks");
    let names: Vec<&str> = checks.as_array().into_iter().flatten().filter_map(|c| c["check"].as_str()).collect();
    for name in ["clock", "disk", "port", "certificate", "members", "versions", "state", "conflicts", "dns"] {
        assert!(names.contains(&name), "{checks}");
    }

    cluster.kill_agent(2);
    has_change(&cluster.nodes[0], "n3", "suspect", &["refusal", "gossip", "silence"]);
    has_change(&cluster.nodes[0], "n3", "down", &["refusal", "gossip", "silence"]);
    let found = cluster.nodes[0].json(&["doctor"]).expect("checks");
    let members = found.as_array().into_iter().flatten().find(|c| c["check"] == "members").expect("the check");
    assert!(members["verdict"] == "warn" && members["seen"].to_string().contains("n3 is down for"), "{members}");
    cluster.start_agent(2);
    has_change(&cluster.nodes[0], "n3", "alive", &["joined"]);
    until("the doubt and the return to be counted", PATIENCE, || {
        let figures = samples(&get(&cluster.nodes[0], "/metrics").1);
        let sum = |name: &str| {
            figures.iter().filter(|(s, _)| s.starts_with(name) && s.contains("\"n3\"")).map(|(_, n)| n).sum::<f64>()
        };
        let (doubts, flaps) = (sum("dunlin_member_suspicions_total"), sum("dunlin_member_flaps_total"));
        if doubts >= 1.0 && flaps >= 1.0 { Ok(()) } else { Err(format!("{doubts} {flaps}")) }
    });
}

#[test]
fn a_silent_host_is_told_from_one_that_refuses() {
    if !has_namespaces() {
        left_out("a_silent_host_is_told_from_one_that_refuses", "network namespaces need root");
        return;
    }
    let cluster = Cluster::start_on_network(2);
    let network = cluster.network.as_ref().expect("a network");
    network.silence(1);
    has_change(&cluster.nodes[0], "n2", "suspect", &["silence"]);
    has_change(&cluster.nodes[0], "n2", "down", &["silence"]);
    until("doctor to say that nothing arrives any more", PATIENCE, || {
        let checks = cluster.nodes[1].json(&["doctor"])?;
        let port = checks.as_array().into_iter().flatten().find(|c| c["check"] == "port").cloned().unwrap_or_default();
        if port["verdict"] == "fail" { Ok(()) } else { Err(checks.to_string()) }
    });
    assert_eq!(cluster.nodes[1].run(&["doctor"]).status.code(), Some(1));
    network.heal();
    has_change(&cluster.nodes[0], "n2", "alive", &["joined", "refuted"]);
}
