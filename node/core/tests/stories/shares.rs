//! A node that came takes its share of what runs, whatever happens to its agent meanwhile, and everybody can tell why.

use dunlin_core::query::ask;
use dunlin_gossip::model::{HealthCheck, Probe, Service};
use dunlin_gossip::time::{Duration, Instant};

use crate::flock::{Flock, service};

const LATER: Instant = Instant::from_millis(1 << 40);

/// Replicas on a host.
fn on(flock: &Flock, host: usize) -> usize {
    flock.placed("web").iter().filter(|(_, at)| *at == host).count()
}

/// Three hosts, of which the last was away until its work was elsewhere.
fn away(service: Service) -> Flock {
    let mut flock = Flock::new(3);
    flock.rebalance = 12;
    flock.deploy(0, &[("web", service)]);
    flock.until("web is up", 5, |f| f.is_up("web", 12));
    flock.kill(2);
    flock.until("two hosts run all", 40, |f| f.is_up("web", 12));
    flock
}

fn returned() -> Flock {
    let mut flock = away(service(12));
    flock.boot(2);
    flock
}

#[test]
fn an_agent_that_starts_anew_goes_on_where_its_share_was_and_no_further() {
    let mut flock = returned();
    flock.until("it has taken one", 120, |f| on(f, 2) == 1 && f.is_up("web", 12));
    flock.kill_agent(2);
    flock.boot(2);
    flock.until("it has its share", 240, |f| on(f, 2) == 4 && f.is_up("web", 12));
    flock.run(Duration::from_secs(120));
    assert_eq!([0, 1, 2].map(|host| on(&flock, host)), [4, 4, 4], "{}", flock.describe());
    let told = |f: &Flock| {
        let known = f.hosts[0].node.as_ref().expect("it runs").view().nodes().get(&f.hosts[2].id).cloned();
        *known.and_then(|known| known.header.clone()).expect("its header").supply.came
    };
    assert_eq!(told(&flock), None, "it has its share");
    // Who has its share, and whose agent starts anew, is not one that came.
    flock.kill_agent(2);
    flock.boot(2);
    flock.run(Duration::from_secs(600));
    assert_eq!(on(&flock, 2), 4, "{}", flock.describe());
}

#[test]
fn what_was_on_its_way_when_the_agent_died_arrives() {
    let mut checked = service(12);
    checked.spec.health = Some(HealthCheck {
        probe: Probe::Tcp { port: "http".to_string() },
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        retries: 3,
        start_period: Duration::from_secs(200),
    });
    let mut flock = away(checked);
    flock.hosts[2].unhealthy = true;
    flock.boot(2);
    flock.until("it brings one up", 200, |f| on(f, 2) == 1);
    let taken = |f: &Flock| f.placed("web").into_iter().find(|(_, at)| *at == 2).map(|(slot, _)| slot);
    let slot = taken(&flock);
    flock.kill_agent(2);
    flock.boot(2);
    flock.run(Duration::from_secs(5));
    flock.hosts[2].unhealthy = false;
    flock.run(Duration::from_secs(10));
    assert_eq!(taken(&flock), slot, "{}", flock.describe());
    assert!(flock.is_up("web", 12), "who had it gave way: {}", flock.describe());
}

#[test]
fn why_a_replica_moved_without_need_is_told_by_every_node() {
    let mut flock = returned();
    flock.until("it has taken one", 120, |f| on(f, 2) == 1 && f.is_up("web", 12));
    let (slot, _) = flock.placed("web").into_iter().find(|(_, at)| *at == 2).expect("it runs there");
    let explain = |n: usize, slot: &str| {
        let view = flock.hosts[n].node.as_ref().expect("it runs").view();
        ask::explain(view, &format!("web.{slot}"), LATER).expect("it runs").taken
    };
    let why = explain(0, &slot).expect("it was taken");
    assert_eq!((why.by.as_str(), why.full_pct), ("n2", 0));
    assert!(["n0", "n1"].contains(&why.from.as_str()) && why.mean_pct > 0, "{why:?}");
    assert_eq!([explain(1, &slot), explain(2, &slot)], [Some(why.clone()), Some(why)]);
    let (other, _) = flock.placed("web").into_iter().find(|(_, at)| *at == 0).expect("it has some");
    assert_eq!(explain(1, &other), None, "that one nobody took");
}
