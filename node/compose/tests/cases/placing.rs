//! What the keys mean that say how many there are and where, and how each is refused.

use super::*;

#[test]
fn deploys() {
    assert_eq!(image("deploy: {replicas: 10000}").mode, Mode::Replicated(10_000));
    assert_eq!(image("deploy: {mode: replicated, replicas: '0'}").mode, Mode::Replicated(0));
    assert_eq!(image("deploy: {replicas: '${N}'}").mode, Mode::Replicated(3));
    assert_eq!(image("deploy: {mode: global}").mode, Mode::Global);
    let arch = image("deploy: {placement: {constraints: ['node.platform.arch==x86_64', node.hostname != a]}}").spec;
    let lines: Vec<String> = arch.constraints.iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["node.platform.arch==amd64", "node.hostname!=a"]);
    assert_eq!(image("deploy: {resources: {reservations: {cpus: 0.5, memory: 64m}}}").spec.reservation.cpu_milli, 500);
    let constraint = |text: &'static str| format!("deploy:\n  placement:\n    constraints:\n      - {text}");
    let refused = [
        ("node.role == manager", "the constraint \"node.role == manager\" cannot be met: there are no managers"),
        ("engine.labels.os == x", "the constraint \"engine.labels.os == x\" cannot be met: labels of the engine"),
        ("node.zone == x", "the constraint \"node.zone == x\" cannot be met: nodes have no such attribute"),
        ("node.labels. == x", "the constraint \"node.labels. == x\" cannot be met: nodes have no such attribute"),
        ("node.labels.a = x", "\"node.labels.a = x\" is no constraint"),
        ("node.labels.a ==", "the constraint \"node.labels.a ==\" compares with nothing"),
        ("node.labels.a == b c", "\"b c\" is no value"),
    ];
    for (text, what) in refused {
        let expect = format!("7:13: services.s.deploy.placement.constraints[0]: {what}");
        check(&[(&constraint(text), &[&expect])]);
    }
    check_process(&[
        ("deploy: {replicas: 10001}", &["4:24: services.s.deploy.replicas: 10001 is not between 0 and 10000"]),
        ("deploy: {replicas: -1}", &["4:24: services.s.deploy.replicas: expected a whole number, found the number -1"]),
        (
            "deploy: {replicas: 1.5}",
            &["4:24: services.s.deploy.replicas: expected a whole number, found the number 1.5"],
        ),
        (
            "deploy: {replicas: '${EMPTY}'}",
            &["4:24: services.s.deploy.replicas: expected a whole number, found an empty text"],
        ),
        ("deploy: {mode: global, replicas: 2}", &["4:38: services.s.deploy.replicas: a global service runs once"]),
        ("deploy: {mode: all}", &["4:20: services.s.deploy.mode: \"all\" is no mode"]),
        ("deploy: [a]", &["4:13: services.s.deploy: expected a mapping, found a list"]),
        (
            "deploy: {resources: {limits: {cpus: '0.0001'}}}",
            &["4:41: services.s.deploy.resources.limits.cpus: 0.0001 is finer"],
        ),
        (
            "deploy: {resources: {limits: {cpus: lots}}}",
            &["4:41: services.s.deploy.resources.limits.cpus: expected a number"],
        ),
        (
            "deploy: {resources: {limits: {cpus: 0}}}",
            &["4:41: services.s.deploy.resources.limits.cpus: a limit of zero"],
        ),
        (
            "deploy: {resources: {limits: {memory: 1x}}}",
            &["4:43: services.s.deploy.resources.limits.memory: expected an amount"],
        ),
        (
            "deploy: {resources: {limits: {memory: 1m}, reservations: {memory: 2m}}}",
            &["4:71: services.s.deploy.resources.reservations.memory: more is reserved"],
        ),
        (
            "deploy: {placement: {constraints: node.id == a}}",
            &["4:39: services.s.deploy.placement.constraints: expected a list"],
        ),
    ]);
}

#[test]
fn what_dunlin_adds() {
    check_process(&[
        ("x-dunlin: {priority: high}", &["4:26: services.s.x-dunlin.priority: expected a whole number"]),
        ("x-dunlin: {preemptible: often}", &["4:29: services.s.x-dunlin.preemptible: expected true, false"]),
        ("x-dunlin: {rebalance: slowly}", &["4:27: services.s.x-dunlin.rebalance: expected a boolean"]),
        ("x-dunlin: {prefer: best}", &["4:24: services.s.x-dunlin.prefer: \"best\" is no preference"]),
        ("x-dunlin: {speed: 9}", &["4:16: services.s.x-dunlin.speed: 'x-dunlin' has no key 'speed'"]),
        ("x-dunlin: {x-speed: 9}", &["4:16: services.s.x-dunlin.x-speed: 'x-dunlin' has no key 'x-speed'"]),
    ]);
    assert_eq!(image("x-dunlin: {priority: -5, prefer: old}").spec.prefer, Prefer::Old);
    let preemptible = |text: &str| image(text).spec.demand().standing.preemptible;
    assert_eq!(preemptible("x-dunlin: {preemptible: false}"), Preemptible::Never);
    assert_eq!(preemptible("x-dunlin: {preemptible: 10}"), Preemptible::From(10));
    assert_eq!(preemptible("x-dunlin: {preemptible: true}"), Preemptible::ByHigher);
    let stays = |text: &str| image(text).spec.demand().standing.stays.0;
    assert!(
        stays("x-dunlin: {rebalance: false}") && !stays("x-dunlin: {rebalance: true}") && !stays("restart: always")
    );
}

#[test]
fn where_replicas_should_be() {
    let spec = image(
        "deploy:\n  placement: {max_replicas_per_node: 2, preferences: [spread: node.labels.zone]}\n  resources:\n    \
         reservations:\n      devices: [{capabilities: [gpu], count: 2}]\n      generic_resources: \
         [discrete_resource_spec: {kind: FPGA, value: 1}]\nx-dunlin:\n  strategy: binpack\n  pids: 50\n  disk: 1g\n  \
         devices: [{kind: gpu, share: 0.25, models: [T4, A10]}]\n  max_skew: {zone: 1}\n  affinity: [{service: db, \
         label: rack, weight: 5}, {service: shop/web, anti: true}]\n  constraints: [node.labels.kernel version >= \
         5.10, 'node.labels.zone in a, b', 'node.hostname !~ ^old ==', 'node.labels.x not in a']",
    )
    .spec;
    let placing = &spec.placing;
    assert_eq!((placing.max_per_node, placing.strategy), (Some(2), Strategy::Binpack));
    assert_eq!((placing.further.pids, placing.further.disk_bytes), (50, 1 << 30));
    assert_eq!((placing.spread.as_slice(), placing.skews[0].most), (["zone".to_owned()].as_slice(), 1));
    let device = |d: &DeviceRequest| (d.kind.clone(), d.count, d.milli, d.models.len());
    let devices: Vec<_> = placing.devices.iter().map(device).collect();
    assert_eq!(devices, [("gpu".into(), 2, 1_000, 0), ("fpga".into(), 1, 1_000, 0), ("gpu".into(), 1, 250, 2)]);
    let near = |a: &Affinity| (a.stack.is_some(), a.service.to_string(), a.label.is_some(), a.anti, a.weight);
    let affinities: Vec<_> = placing.affinities.iter().map(near).collect();
    assert_eq!(affinities, [(false, "db".into(), true, false, Some(5)), (true, "web".into(), false, true, None)]);
    let constraints: Vec<String> = spec.constraints.iter().map(ToString::to_string).collect();
    assert_eq!(
        constraints,
        [
            "node.labels.kernel version >= 5.10",
            "node.labels.zone in a, b",
            "node.hostname !~ ^old ==",
            "node.labels.x not in a"
        ]
    );
    check(&[
        ("x-dunlin: {strategy: best}", &["4:26: services.s.x-dunlin.strategy: \"best\" is no strategy"]),
        ("x-dunlin: {affinity: [{label: a}]}", &["4:27: services.s.x-dunlin.affinity[0]: an affinity without"]),
        (
            "x-dunlin: {affinity: [{service: a/b/c}]}",
            &["4:37: services.s.x-dunlin.affinity[0].service: \"a/b/c\" is no"],
        ),
        ("x-dunlin: {max_skew: {zone: 0}}", &["4:33: services.s.x-dunlin.max_skew.zone: 0 is not between"]),
        ("x-dunlin: {devices: [{kind: gpu, share: 2}]}", &["4:45: services.s.x-dunlin.devices[0].share: a share is"]),
        ("x-dunlin: {devices: [{count: 1}]}", &["4:26: services.s.x-dunlin.devices[0]: devices without a kind"]),
        (
            "deploy: {placement: {preferences: [spread: rack]}}",
            &["4:48: services.s.deploy.placement.preferences[0].spread: \"rack\" is no label"],
        ),
        (
            "deploy: {resources: {reservations: {devices: [{capabilities: [tpu]}]}}}",
            &["4:66: services.s.deploy.resources.reservations.devices[0].capabilities: only GPUs"],
        ),
    ]);
}

#[test]
fn tolerations_are_read_and_nonsense_is_refused() {
    let spec = |list: &str| {
        let text = format!("services:\n  a:\n    command: [hello]\n    x-dunlin: {{tolerations: {list}}}\n");
        parse(Source { file: "x", text: &text }, &|_| None)
    };
    let read = spec("['gpu=old:no-execute', '*:NoSchedule', disk]").expect("it is read");
    let taints = &read.services.values().next().expect("one").spec.placing.tolerance.taints;
    assert_eq!(taints.len(), 3);
    assert_eq!((taints[1].key.as_deref(), taints[2].key.as_deref()), (None, Some("disk")));
    let refused = spec("['gpu:sometimes']").expect_err("no effect of that name");
    assert!(refused[0].to_string().contains("no-execute"), "{}", refused[0]);
}

#[test]
fn one_at_most_is_for_processes_of_numbered_replicas() {
    assert_eq!(process("x-dunlin: {partition: majority}").spec.prefer, Prefer::Majority);
    assert_eq!(process("x-dunlin: {partition: majority, prefer: new}").spec.prefer, Prefer::Majority);
    assert_eq!(process("x-dunlin: {partition: available, prefer: old}").spec.prefer, Prefer::Old);
    check(&[("x-dunlin: {partition: majority}", &["4:27: services.s.x-dunlin.partition: a container has no keeper"])]);
    check_process(&[
        ("x-dunlin: {partition: best}", &["4:27: services.s.x-dunlin.partition: \"best\" is no choice for partitions"]),
        (
            "x-dunlin: {partition: majority, prefer: old}",
            &["4:45: services.s.x-dunlin.prefer: with partition: majority the newer claim stays"],
        ),
        (
            "deploy: {mode: global}\nx-dunlin: {partition: majority}",
            &["5:27: services.s.x-dunlin.partition: a global service runs once on each node"],
        ),
        (
            "deploy: {update_config: {order: start-first}}\nx-dunlin: {partition: majority}",
            &["5:27: services.s.x-dunlin.partition: of what one at most may run"],
        ),
        (
            "deploy: {mode: replicated-job}\nx-dunlin: {partition: majority}",
            &["5:27: services.s.x-dunlin.partition: what runs to completion is done at least once"],
        ),
        (
            "x-dunlin: {partition: majority, schedule: '@daily'}",
            &["4:27: services.s.x-dunlin.partition: what runs to completion is done at least once"],
        ),
    ]);
}
