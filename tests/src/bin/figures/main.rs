//! The figures of real clusters on this machine: `cargo run --release -p dunlin-tests --bin figures [RUNS]`.
//!
//! Prints one line a figure with its median and worst. Timings depend on the machine; nothing here is asserted.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dunlin_tests::cluster::{Cluster, kill9, processes_in, text};
use dunlin_tests::env::has_namespaces;
use dunlin_tests::wait::until;
use serde_json::Value;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

fn compose(replicas: u32) -> String {
    format!(
        "services:\n  web:\n    command: ${{DUNLIN}} hello\n    ports: [{{target: 8080, name: http}}]\n    \
         stop_grace_period: 2s\n    deploy:\n      replicas: {replicas}\n      resources: {{reservations: {{cpus: '0.05', \
         memory: 8M}}}}\n    x-dunlin:\n      healthcheck:\n        http: {{port: http, path: /health}}\n        \
         interval: 500ms\n"
    )
}

/// A document straight from the socket: quicker than a process for each look.
fn get(cluster: &Cluster, n: usize, path: &str) -> Result<Value, String> {
    let said = |e: std::io::Error| e.to_string();
    let mut socket = UnixStream::connect(cluster.nodes[n].dir.join("dunlin.sock")).map_err(said)?;
    socket.set_read_timeout(Some(Duration::from_secs(5))).map_err(said)?;
    let request = format!("GET /v1/{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).map_err(said)?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).map_err(said)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).map_err(|e| format!("{e}: {body}"))
}

fn ready(cluster: &Cluster, n: usize, not_on: &str) -> Result<Vec<Value>, String> {
    let rows = get(cluster, n, "allocations")?;
    let rows = rows.as_array().cloned().unwrap_or_default();
    Ok(rows.into_iter().filter(|r| r["ready"] == true && r["node"] != not_on).collect())
}

/// True once the address is in no answer of this server.
fn gone(server: SocketAddr, address: [u8; 4]) -> bool {
    let mut query = vec![1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["web", "shop", "dunlin", "internal"] {
        query.push(u8::try_from(label.len()).unwrap_or(0));
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    let ask = || -> std::io::Result<Vec<u8>> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        socket.send_to(&query, server)?;
        let mut buffer = [0; 1500];
        let n = socket.recv(&mut buffer)?;
        Ok(buffer.get(..n).unwrap_or_default().to_vec())
    };
    ask().is_ok_and(|reply| !reply.windows(6).any(|w| w[..2] == [0, 4] && w[2..] == address))
}

fn pause() {
    std::thread::park_timeout(LOOK);
}

fn show(what: &str, mut samples: Vec<f64>) {
    samples.sort_by(f64::total_cmp);
    let at = |q: usize| {
        samples.get((samples.len() * q / 100).min(samples.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    };
    println!("{what:<58} p50 {:7.3} s   worst of {} {:7.3} s", at(50), samples.len(), at(100));
}

/// Kills or cuts a busy node and times what follows, so many times.
fn failover(runs: usize, silence: bool) {
    let mut cluster = if silence { Cluster::start_on_network(5) } else { Cluster::start(5) };
    let deployed = cluster.deploy(0, &compose(5), &["--wait"]);
    assert!(deployed.status.success(), "{}", text(&deployed.stderr));
    let (mut healthy, mut names) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let rows = until("five ready", PATIENCE, || {
            let rows = ready(&cluster, 0, "")?;
            if rows.len() == 5 { Ok(rows) } else { Err(format!("{} ready", rows.len())) }
        });
        let victim = (1..5).find(|n| rows.iter().any(|r| r["node"] == cluster.nodes[*n].name)).expect("a busy node");
        let address = cluster.nodes[victim].address.octets();
        let name = cluster.nodes[victim].name.clone();
        let others: Vec<usize> = (0..5).filter(|n| *n != victim).collect();
        // In steady state, not in the wake of the last round.
        let calm = Instant::now();
        while calm.elapsed() < Duration::from_secs(3) {
            pause();
        }
        if silence {
            cluster.network.as_ref().expect("a network").cut(&others, &[victim]);
        } else {
            cluster.kill_node(victim);
        }
        let death = Instant::now();
        let (mut dead, mut whole) = (None, None);
        while (dead.is_none() || whole.is_none()) && death.elapsed() < PATIENCE {
            let all_gone = || others.iter().all(|n| gone_at(&cluster, *n, address, silence));
            if dead.is_none() && all_gone() {
                dead = Some(death.elapsed());
            }
            if whole.is_none() && ready(&cluster, 0, &name).is_ok_and(|rows| rows.len() == 5) {
                whole = Some(death.elapsed());
            }
            pause();
        }
        healthy.push(whole.map_or(f64::INFINITY, |d| d.as_secs_f64()));
        names.push(dead.map_or(f64::INFINITY, |d| d.as_secs_f64()));
        if silence {
            cluster.network.as_ref().expect("a network").heal();
        } else {
            cluster.start_agent(victim);
        }
        cluster.wait_for_all_alive();
    }
    let how = if silence { "cut off (silence)" } else { "kill -9 of a node (refusal)" };
    show(&format!("{how}: to all replicas healthy elsewhere"), healthy);
    show(&format!("{how}: to its address gone from every DNS"), names);
}

/// In namespaces the servers are not reachable from here, so the node itself is asked over its own network.
fn gone_at(cluster: &Cluster, n: usize, address: [u8; 4], silence: bool) -> bool {
    if silence {
        let dotted = address.map(|b| b.to_string()).join(".");
        let found = cluster.dig(n, "web.shop.dunlin.internal", "A");
        return !found.is_empty() && !found.contains(&dotted);
    }
    gone(SocketAddr::from((cluster.nodes[n].address, 7453)), address)
}

/// An agent is killed and started again within half a second, under requests.
fn agent_restart(runs: usize) {
    let mut cluster = Cluster::start(5);
    let deployed = cluster.deploy(0, &compose(5), &["--wait"]);
    assert!(deployed.status.success(), "{}", text(&deployed.stderr));
    let before = ready(&cluster, 0, "").expect("rows");
    let targets: Vec<SocketAddr> =
        before.iter().filter_map(|r| r["endpoint"][0].as_str()?.split('/').next()?.parse().ok()).collect();
    let (stop, lost, sent) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let client = {
        let (stop, lost, sent) = (Arc::clone(&stop), Arc::clone(&lost), Arc::clone(&sent));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for target in &targets {
                    sent.fetch_add(1, Ordering::Relaxed);
                    if request(*target).is_err() {
                        lost.fetch_add(1, Ordering::Relaxed);
                    }
                }
                pause();
            }
        })
    };
    for _ in 0..runs {
        cluster.kill_agent(1);
        let killed = Instant::now();
        while killed.elapsed() < Duration::from_millis(400) {
            pause();
        }
        cluster.start_agent(1);
        cluster.wait_for_all_alive();
        let calm = Instant::now();
        while calm.elapsed() < Duration::from_secs(2) {
            pause();
        }
    }
    stop.store(true, Ordering::Relaxed);
    client.join().expect("the client");
    let key = |rows: &[Value]| rows.iter().map(|r| format!("{}{}", r["replica"], r["node"])).collect::<BTreeSet<_>>();
    let after = ready(&cluster, 0, "").expect("rows");
    let moved = key(&before).difference(&key(&after)).count();
    println!(
        "agent killed and back after 0.4 s, {runs} times: replicas moved {moved}, requests lost {} of {}",
        lost.load(Ordering::Relaxed),
        sent.load(Ordering::Relaxed)
    );
}

fn request(target: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}

/// Deploys of twenty replicas on five nodes, and killed processes.
fn deploy_and_restart(runs: usize) {
    let cluster = Cluster::start(5);
    let mut deploys = Vec::new();
    let mut restarts = Vec::new();
    for _ in 0..runs {
        let start = Instant::now();
        let deployed = cluster.deploy(0, &compose(20), &[]);
        assert!(deployed.status.success(), "{}", text(&deployed.stderr));
        until("twenty to run", PATIENCE, || {
            let rows = get(&cluster, 0, "allocations")?;
            let up = |r: &&Value| matches!(r["phase"].as_str(), Some("running" | "healthy"));
            let n = rows.as_array().into_iter().flatten().filter(up).count();
            if n == 20 { Ok(()) } else { Err(format!("{n} run")) }
        });
        deploys.push(start.elapsed().as_secs_f64());
        restarts.push(one_restart(&cluster));
        assert!(cluster.nodes[0].run(&["rm", "shop"]).status.success());
        until("nothing to run", PATIENCE, || {
            let rows = get(&cluster, 0, "allocations")?;
            if rows.as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err(rows.to_string()) }
        });
    }
    show("deploy of 20 replicas to 5 nodes: to all running", deploys);
    show("one killed process: to running again", restarts);
    idle(&cluster);
}

/// Kills one workload and waits until its port answers again.
fn one_restart(cluster: &Cluster) -> f64 {
    let rows = until("a healthy row", PATIENCE, || {
        let rows = ready(cluster, 0, "")?;
        if rows.len() == 20 { Ok(rows) } else { Err(format!("{}", rows.len())) }
    });
    // A run that ends within its first second counts as a failed start; let it be well first.
    let calm = Instant::now();
    while calm.elapsed() < Duration::from_secs(6) {
        pause();
    }
    let row = rows.iter().find(|r| r["node"] == "n1").expect("a replica on n1");
    let port = row["endpoint"][0].as_str().and_then(|e| e.split('/').next()).and_then(|e| e.parse::<SocketAddr>().ok());
    let target = port.expect("an endpoint");
    let listening = processes_in(&cluster.nodes[0].dir).into_iter().find(|pid| {
        let line = text(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default());
        let environment = text(&std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default());
        line.contains("hello") && environment.split('\0').any(|v| v == format!("PORT={}", target.port()))
    });
    kill9(listening.expect("the workload's process"));
    let start = Instant::now();
    until("the replica to answer again", PATIENCE, || request(target).map_err(|e| e.to_string()));
    start.elapsed().as_secs_f64()
}

/// Memory, processor and traffic of an idle agent.
fn idle(cluster: &Cluster) {
    let pid = cluster.nodes[1].pid().expect("an agent");
    let cpu = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let words: Vec<u64> = stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|w| w.parse().ok())
            .collect();
        words.iter().sum::<u64>()
    };
    let bytes = || {
        let status = get(cluster, 1, "status").unwrap_or_default();
        status["network"]["bytes_sent"].as_u64().unwrap_or(0)
    };
    let (start, before, sent) = (Instant::now(), cpu(pid), bytes());
    while start.elapsed() < Duration::from_secs(30) {
        pause();
    }
    let seconds = start.elapsed().as_secs_f64();
    let ticks = cpu(pid).saturating_sub(before);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let rss = status.lines().find(|l| l.starts_with("VmRSS")).unwrap_or("VmRSS: ?").to_owned();
    println!(
        "idle agent of five: {}, {:.2} % of a core, {:.0} bytes/s sent",
        rss.split_whitespace().skip(1).collect::<Vec<_>>().join(" "),
        f64::from(u32::try_from(ticks).unwrap_or(u32::MAX)) / seconds,
        f64::from(u32::try_from(bytes().saturating_sub(sent)).unwrap_or(u32::MAX)) / seconds
    );
}

fn main() {
    let runs = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(20);
    deploy_and_restart(runs.min(5));
    agent_restart(runs.min(5));
    failover(runs, false);
    if has_namespaces() {
        failover(runs, true);
    } else {
        println!("left out: silence, which needs network namespaces");
    }
}
