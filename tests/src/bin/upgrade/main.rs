//! The previous program beside this one, on real processes: each admits the other, both run what either deploys, and every
//! host goes from the one to the other and back without a workload noticing.
//!
//! `cargo run --release -p dunlin-tests --bin upgrade -- PREVIOUS [CURRENT]` takes the two programs (CURRENT: that of this
//! build) and exits with 1 at the first thing that does not come true. `.ci/previous` builds the previous one from git;
//! `.ci/nightly` runs both.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dunlin_tests::cluster::{Cluster, PATIENCE, processes_in, text};
use dunlin_tests::env::dunlin;
use dunlin_tests::wait::until;
use dunlin_tests::web;

const NODES: usize = 4;

/// Replicas are ready, by everybody's account, and all hold one state.
fn agree(cluster: &Cluster, replicas: usize) {
    cluster.wait_for_all_alive();
    for n in 0..NODES {
        let _ready = cluster.wait_ready(n, replicas);
    }
    until("one state everywhere", PATIENCE, || {
        let hash = |n: usize| cluster.nodes[n].json(&["status"]).map(|status| status["state_hash"].to_string());
        let hashes = (0..NODES).map(hash).collect::<Result<BTreeSet<_>, _>>()?;
        if hashes.len() == 1 && !hashes.contains("null") { Ok(()) } else { Err(format!("{hashes:?}")) }
    });
}

fn deploy(cluster: &Cluster, n: usize, replicas: usize) {
    let deployed = cluster.deploy(n, &web::compose(replicas), &["--wait"]);
    assert!(deployed.status.success(), "deploy at node {n}: {}", text(&deployed.stderr));
    agree(cluster, replicas);
}

fn scale(cluster: &Cluster, n: usize, replicas: usize) {
    let scaled = cluster.nodes[n].run(&["scale", &format!("web={replicas}")]);
    assert!(scaled.status.success(), "scale at node {n}: {}", text(&scaled.stderr));
    agree(cluster, replicas);
}

/// What runs of a node besides its agent.
fn workloads(cluster: &Cluster, n: usize) -> BTreeSet<u32> {
    let agent = cluster.nodes[n].pid();
    processes_in(&cluster.nodes[n].dir).into_iter().filter(|pid| Some(*pid) != agent).collect()
}

/// One host after the other gets the program; what runs there goes on.
fn roll(cluster: &mut Cluster, program: &Path, replicas: usize) {
    for n in 0..NODES {
        let before = workloads(cluster, n);
        cluster.kill_agent(n);
        cluster.replace_program(n, program);
        cluster.start_agent(n);
        agree(cluster, replicas);
        let after = workloads(cluster, n);
        assert_eq!(after, before, "node {n}: what ran under the other program goes on under {}", program.display());
    }
}

#[allow(clippy::print_stdout, reason = "this program's output is its report")]
fn go(first: &Path, second: &Path) {
    let name = |program: &Path| program.display().to_string();
    println!("two nodes of {}, which admit two of {}", name(first), name(second));
    let mut cluster = Cluster::of_programs(&[first, first, second, second]);
    deploy(&cluster, 0, 3);
    deploy(&cluster, 3, 4);
    scale(&cluster, 1, 5);
    scale(&cluster, 2, 4);
    println!("all go to {}", name(second));
    roll(&mut cluster, second, 4);
    deploy(&cluster, 1, 5);
    println!("all go to {}", name(first));
    roll(&mut cluster, first, 5);
    for n in 0..NODES {
        cluster.kill_node(n);
    }
    for n in 0..NODES {
        cluster.start_agent(n);
    }
    agree(&cluster, 5);
    deploy(&cluster, 2, 3);
}

#[allow(clippy::print_stdout, clippy::print_stderr, reason = "this program's output is its report")]
fn main() -> ExitCode {
    let programs: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let (previous, current) = match programs.as_slice() {
        [previous] => (previous.as_path(), dunlin()),
        [previous, current] => (previous.as_path(), current.as_path()),
        _ => {
            eprintln!("usage: upgrade PREVIOUS [CURRENT]\nexample: upgrade \"$(.ci/previous)\"");
            return ExitCode::from(2);
        }
    };
    go(previous, current);
    go(current, previous);
    println!("the two programs keep house together");
    ExitCode::SUCCESS
}
