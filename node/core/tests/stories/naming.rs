//! What a deploy says of names.

use std::time::Duration;

use crate::flock::{Flock, key, service};
use crate::written;

#[test]
fn a_name_that_will_lead_nowhere_is_told_at_the_deploy() {
    let mut flock = Flock::new(1);
    let (mut silent, mut local) = (service(1), service(1));
    silent.spec.ports.clear();
    local.spec.placing.0.tolerance.0.demand.0.local.push(0);
    let reply = flock.deploy(0, &[("web", service(1)), ("silent", silent), ("local", local)]);
    let warnings = &written(&reply).warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("shop/local: only its own host reaches its ports"), "{warnings:?}");
    assert!(warnings[1].starts_with("shop/silent: it publishes no port"), "{warnings:?}");
}

#[test]
fn what_stops_runs_on_for_those_who_have_its_address() {
    let mut flock = Flock::new(3);
    flock.deploy(0, &[("web", service(3))]);
    flock.until("three are up", 5, |f| f.is_up("web", 3));
    let named = |f: &Flock| f.hosts.iter().map(|host| host.names[&key("web")].len()).max();
    flock.deploy(0, &[("web", service(2))]);
    flock.until("nobody answers with the third", 1, |f| named(f) == Some(2));
    flock.run(Duration::from_millis(900));
    assert_eq!(flock.placed("web").len(), 3, "{}", flock.describe());
    flock.until("it is gone", 1, |f| f.placed("web").len() == 2);
    // Of the last one nobody could take the clients over: it goes at once.
    flock.deploy(0, &[("web", service(1))]);
    flock.until("one is left", 3, |f| f.is_up("web", 1));
    flock.deploy(0, &[("web", service(0))]);
    flock.until("none is left", 1, |f| named(f) == Some(0));
    flock.run(Duration::from_millis(50));
    assert_eq!(flock.placed("web"), []);
}
