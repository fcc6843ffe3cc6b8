//! What authors do not state is learnt from use: seen by everybody, never at the cost of what runs or waits.

use dunlin_core::face::{DriverEvent, Input};
use dunlin_core::query::{self, AllocationRow, ask};
use dunlin_gossip::model::{AllocId, Resources, Service};
use dunlin_gossip::time::{Duration, Instant};

use crate::flock::{Flock, service};

const MIB: u64 = 1 << 20;
const SPAN: Duration = Duration::from_secs(301);

/// A service that states nothing.
fn silent(replicas: u32) -> Service {
    let mut service = service(replicas);
    service.spec.reservation = Resources::DEFAULT_REQUEST;
    service
}

fn rows(flock: &Flock, asked: usize, service: &str) -> Vec<AllocationRow> {
    flock.ps(asked).into_iter().filter(|row| row.service == format!("shop/{service}")).collect()
}

/// All replicas of a service use so much, for so many spans.
fn use_it(flock: &mut Flock, service: &str, spans: usize, used: Resources) {
    for _ in 0..=spans {
        for row in rows(flock, 0, service) {
            let host = flock.hosts.iter().position(|host| host.id.to_string() == row.node_id).expect("a host");
            let alloc = AllocId::parse(&row.id).expect("an id");
            flock.later(host, Duration::ZERO, Input::Driver(DriverEvent::Used { alloc, used }));
        }
        flock.run(SPAN);
    }
}

#[test]
fn use_is_learnt_told_and_kept_by_what_comes_later() {
    let mut flock = Flock::new(2);
    flock.deploy(0, &[("web", silent(1))]);
    flock.until("it is up", 3, |f| f.is_up("web", 1));
    let started = flock.hosts.iter().map(|host| host.starts.len()).sum::<usize>();
    use_it(&mut flock, "web", 1, Resources { cpu_milli: 200, memory_bytes: 100 * MIB });
    let row = rows(&flock, 1, "web").remove(0);
    assert_eq!((row.cpu_reserved_milli, row.memory_reserved_bytes, row.learnt), (250, 128 * MIB, true));
    assert_eq!(flock.hosts.iter().map(|host| host.starts.len()).sum::<usize>(), started, "nothing is restarted for it");
    let view = flock.hosts[1].node.as_ref().expect("it runs").view();
    let asks = ask::explain(view, "web.1", Instant::from_millis(1 << 40)).expect("an answer").asks.join(", ");
    assert!(
        asks.starts_with("0.1 cpu by default (0.25 learnt), 64 MiB of memory by default (128 MiB learnt)"),
        "{asks}"
    );
    flock.deploy(0, &[("web", silent(2))]);
    flock.until("both are up", 3, |f| f.is_up("web", 2));
    assert!(rows(&flock, 0, "web").iter().all(|row| row.cpu_reserved_milli == 250), "the second begins with it");
    use_it(&mut flock, "web", 7, Resources { cpu_milli: 1, memory_bytes: MIB });
    let rows = rows(&flock, 0, "web");
    assert!(rows.iter().all(|row| (row.cpu_reserved_milli, row.memory_reserved_bytes) == (50, 32 * MIB)), "{rows:?}");
}

#[test]
fn what_is_learnt_never_exceeds_the_node_and_is_given_back_when_it_shrinks() {
    let mut flock = Flock::new(1);
    flock.deploy(0, &[("web", silent(3)), ("stated", service(1))]);
    flock.until("all are up", 3, |f| f.is_up("web", 3) && f.is_up("stated", 1));
    let stated = rows(&flock, 0, "stated").remove(0).cpu_reserved_milli;
    let used = Resources { cpu_milli: 900, memory_bytes: MIB };
    use_it(&mut flock, "web", 2, used);
    use_it(&mut flock, "stated", 2, used);
    assert_eq!(rows(&flock, 0, "stated").remove(0).cpu_reserved_milli, stated, "what is stated is meant");
    let node = flock.hosts[0].node.as_ref().expect("it runs");
    let row = query::nodes(node).remove(0);
    assert_eq!(row.cpu_reserved_milli, row.cpu_milli, "all that there is, and no more");
    let mut less = flock.hosts[0].header.clone();
    less.allocatable.cpu_milli = 300 + stated;
    flock.later(0, Duration::ZERO, Input::Host(less));
    flock.run(Duration::from_secs(5));
    assert_eq!(flock.hosts[0].running.len(), 4, "nothing stops for what was only learnt");
    assert!(rows(&flock, 0, "web").iter().all(|row| row.cpu_reserved_milli == 100 && !row.learnt));
}
