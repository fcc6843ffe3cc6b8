//! What runs and ends, or falls ill, and how it is brought back.

use super::*;

#[test]
fn a_killed_process_is_started_again_at_once_and_a_loop_is_slowed_down() {
    let mut flock = Flock::new(1);
    flock.deploy(0, &[("web", service(1))]);
    flock.until("it is up", 2, |f| f.is_up("web", 1));
    let alloc = *flock.hosts[0].running.keys().next().expect("it runs");
    let before = flock.now;
    flock.exit(0, alloc, Exit::Signal(9));
    flock.until("it is up again", 1, |f| f.is_up("web", 1) && f.ps(0)[0].restarts == 1);
    assert!(flock.now.since(before) < Duration::from_millis(50));
    let before = flock.now;
    flock.exit(0, alloc, Exit::Signal(9));
    flock.until("it is up again", 3, |f| f.is_up("web", 1) && f.ps(0)[0].restarts == 2);
    assert!(flock.now.since(before) >= Duration::from_secs(1));
}

#[test]
fn what_ends_for_good_stays_ended() {
    let mut flock = Flock::new(2);
    let mut once = service(1);
    once.spec.restart.condition = RestartCondition::OnFailure;
    flock.deploy(0, &[("web", once)]);
    flock.until("it is up", 2, |f| f.is_up("web", 1));
    let (_, n) = flock.placed("web")[0];
    let alloc = *flock.hosts[n].running.keys().next().expect("it runs");
    flock.exit(n, alloc, Exit::Code(0));
    flock.run(Duration::from_secs(20));
    assert!(flock.placed("web").is_empty());
    assert_eq!(flock.ps(0)[0].phase, "exited");
    assert_eq!(flock.hosts.iter().map(|h| h.starts.len()).sum::<usize>(), 1);
}

#[test]
fn health_decides_who_is_named_and_long_illness_ends_in_a_restart() {
    let mut flock = Flock::new(2);
    let mut checked = service(2);
    checked.spec.health = Some(HealthCheck {
        probe: Probe::Tcp { port: "http".to_string() },
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        retries: 2,
        start_period: Duration::ZERO,
    });
    flock.deploy(0, &[("web", checked)]);
    flock.until("both are healthy", 3, |f| f.is_up("web", 2));
    assert!(flock.ps(0).iter().all(|r| r.phase == "healthy"));
    let starts: usize = flock.hosts.iter().map(|h| h.starts.len()).sum();
    flock.hosts[0].unhealthy = true;
    let sick = flock.hosts[0].id;
    flock.until("no name points there", 5, |f| {
        f.hosts.iter().all(|h| h.names[&key("web")].iter().all(|(n, _)| *n != sick))
    });
    assert_eq!(flock.placed("web").len(), 2, "it still runs");
    flock.until("it is started again", 20, |f| f.hosts.iter().map(|h| h.starts.len()).sum::<usize>() > starts);
    flock.hosts[0].unhealthy = false;
    flock.until("both are healthy again", 10, |f| f.is_up("web", 2));
}
