//! How a service goes over to a new revision, and what of that is refused.

use super::*;

fn policy(keys: &str) -> RolloutPolicy {
    let project = good(&wrap(&format!("image: x\ndeploy: {keys}")));
    project.policies.values().next().copied().unwrap_or_default()
}

#[test]
fn updates_are_as_careful_as_the_file_says() {
    assert_eq!(policy("{replicas: 2}"), RolloutPolicy::default());
    let swarm = policy("{update_config: {}}").update;
    assert_eq!((swarm.parallelism, swarm.on_failure), (1, FailureAction::Pause), "Swarm's defaults");
    let full = policy(
        "{update_config: {parallelism: 0, delay: 10s, order: start-first, monitor: 1m, max_failure_ratio: 0.25, \
         failure_action: rollback}, rollback_config: {parallelism: 3, failure_action: continue}}",
    );
    let expected = UpdatePolicy {
        parallelism: 0,
        delay: Duration::from_secs(10),
        order: UpdateOrder::StartFirst,
        monitor: Duration::from_secs(60),
        max_failure_ppm: 250_000,
        on_failure: FailureAction::Rollback,
    };
    assert_eq!(full.update, expected);
    assert_eq!((full.rollback.parallelism, full.rollback.on_failure), (3, FailureAction::Continue));
    check(&[
        (
            "deploy: {update_config: {order: both}}",
            &["4:37: services.s.deploy.update_config.order: \"both\" is no order"],
        ),
        (
            "deploy: {update_config: {max_failure_ratio: 1.5}}",
            &["4:49: services.s.deploy.update_config.max_failure_ratio: \"1.5\" is no ratio"],
        ),
        (
            "deploy: {rollback_config: {failure_action: rollback}}",
            &["4:48: services.s.deploy.rollback_config.failure_action: \"rollback\" is not what can be done"],
        ),
    ]);
}

#[test]
fn canaries_are_among_the_replicas() {
    let canary = |text: &str| {
        let project = good(&wrap(&format!("image: x\ndeploy: {{replicas: 3}}\nx-dunlin: {{canary: {text}}}")));
        project.policies.values().next().and_then(|policy| policy.canary)
    };
    assert_eq!(canary("{count: 1}"), Some(Canary { count: 1, promotion: Promotion::ByHand }));
    let by_health = Promotion::ByHealth(Duration::from_secs(60));
    assert_eq!(canary("{count: 2, promote: by-health, after: 60s}"), Some(Canary { count: 2, promotion: by_health }));
    check(&[
        (
            "deploy: {replicas: 2}\nx-dunlin: {canary: {count: 3}}",
            &["5:32: services.s.x-dunlin.canary.count: 3 canaries of 2 replicas"],
        ),
        (
            "deploy: {mode: global}\nx-dunlin: {canary: {count: 1}}",
            &["5:24: services.s.x-dunlin.canary: a global service has no canaries"],
        ),
        ("x-dunlin: {canary: {promote: by-hand}}", &["4:24: services.s.x-dunlin.canary: a canary without 'count'"]),
        (
            "x-dunlin: {canary: {count: 1, after: 5s}}",
            &["4:42: services.s.x-dunlin.canary.after: 'after' means nothing for canaries"],
        ),
    ]);
}
