//! The same scenario files that the simulator runs, against real agents.

use dunlin_tests::cluster::Cluster;
use dunlin_tests::env::{has_namespaces, left_out};
use dunlin_tests::parity::Run;

#[test]
fn kill_one_on_real_agents() {
    let mut run = Run::new("kill-one", Cluster::start(5));
    run.play();
    assert_eq!(run.done.len(), 3, "{:?}", run.done);
}

#[test]
fn partition_heal_in_network_namespaces() {
    if !has_namespaces() {
        left_out("partition_heal_in_network_namespaces", "network namespaces need root");
        return;
    }
    let mut run = Run::new("partition-heal", Cluster::start_on_network(5));
    run.play();
    assert_eq!(run.done.len(), 4, "{:?}", run.done);
}
