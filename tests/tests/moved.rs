//! Hosts that all come back under other addresses.

use dunlin_tests::cluster::Cluster;

/// What each knows of the others' addresses is wrong at once. The seed's name is not, and whoever finds the seed finds all.
#[test]
fn a_flock_that_moved_as_one_meets_at_its_seed() {
    let mut cluster = Cluster::start(4);
    (0..4).for_each(|n| cluster.kill_agent(n));
    (0..4).zip(101..).for_each(|(n, last)| cluster.move_node(n, last));
    (0..4).for_each(|n| cluster.start_agent(n));
    cluster.wait_for_all_alive();
}
