//! What a deploy says of names.

use crate::flock::{Flock, service};
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
