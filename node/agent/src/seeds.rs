//! Meeting again at the seeds: hosts that all have new addresses find each other where `--join` says, whatever is written
//! in their books.
//!
//! A member that is lost is tried where it was last heard; that is in vain once it has moved, and if all have moved, nobody
//! is left to tell where the others are. So while somebody is lost, each seed's name is resolved again and whoever answers
//! there, and proves to be a member, is a place to begin from.
//!
//! Never: an admission (that is `setup`'s), a word with anybody who is no member.

use std::time::Duration;

use dunlin_net::Net;
use tokio::net::lookup_host;
use tokio::time::{sleep, timeout};

use crate::api::call::Door;

/// Between two looks at whether somebody is lost.
const LOOK: Duration = Duration::from_secs(3);
/// Between two rounds of a node that has links: those at their other ends try too.
const ROUND: Duration = Duration::from_secs(30);
/// How long a name may take to be resolved.
const RESOLVE: Duration = Duration::from_secs(5);
/// Addresses of one seed that are tried.
const ADDRESSES: usize = 8;

/// Goes on until the agent stops.
pub(crate) async fn tend(seeds: Vec<String>, door: Door, net: Net) {
    if seeds.is_empty() {
        return;
    }
    loop {
        sleep(LOOK).await;
        match door.is_somebody_lost().await {
            None => return,
            Some(false) => continue,
            Some(true) => {}
        }
        for seed in &seeds {
            let Ok(Ok(found)) = timeout(RESOLVE, lookup_host(seed)).await else {
                tracing::debug!(seed, "a seed's name cannot be resolved now");
                continue;
            };
            for address in found.take(ADDRESSES) {
                net.meet(address).await;
            }
        }
        if net.stats().links > 0 {
            sleep(ROUND).await;
        }
    }
}
