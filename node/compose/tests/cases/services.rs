//! What the keys of a service mean, and how each is refused.

use super::*;

#[test]
fn what_containers_cannot_have_yet_is_refused_by_name() {
    check(&[
        (
            "healthcheck: {test: [CMD, curl, x]}",
            &["4:18: services.s.healthcheck: commands are not run inside containers yet"],
        ),
        (
            "deploy: {resources: {limits: {memory: 1g}}}",
            &["4:34: services.s.deploy.resources.limits: limits of containers are not enforced yet"],
        ),
    ]);
    assert_eq!(image("deploy: {resources: {reservations: {memory: 1g}}}").spec.reservation.memory_bytes, 1 << 30);
}

#[test]
fn a_port_told_by_the_node_is_not_said_otherwise() {
    check_process(&[
        (
            "environment: {PORT: 3000}\nports: [3000]",
            &["4:19: services.s.environment.PORT: PORT tells a process the port that its node chose"],
        ),
        (
            "environment: [PORT=3000]\nports: ['8080:8080']",
            &["4:19: services.s.environment[0]: PORT tells a process its published port, which is 8080"],
        ),
        (
            "environment: {PORT_my_api: 1}\nports: [{name: my-api}]",
            &["4:19: services.s.environment.PORT_my_api: PORT_my_api tells a process the port"],
        ),
    ]);
    let port = |service: Service| service.spec.environment["PORT"].clone();
    assert_eq!(port(process("environment: {PORT: 8080}\nports: ['8080:8080']")), "8080", "the same");
    assert_eq!(port(process("environment: {PORT: 3000}")), "3000", "nothing is published, nothing is told");
    assert_eq!(port(image("environment: {PORT: 3000}\nports: ['8080:3000']")), "3000", "a container's own");
}

#[test]
fn commands() {
    let cases: &[(&str, &[&str])] = &[
        ("command: sleep 5", &["sleep", "5"]),
        ("command: [sleep, '5']", &["sleep", "5"]),
        ("entrypoint: /bin/x -a\ncommand: [b, c d]", &["/bin/x", "-a", "b", "c d"]),
        ("entrypoint: [/bin/x]", &["/bin/x"]),
        ("command: sh -c 'a && b'", &["sh", "-c", "a && b"]),
        ("command: >\n  python -m\n  http.server", &["python", "-m", "http.server"]),
        ("command: [echo, $$HOME, '${N}']", &["echo", "$HOME", "3"]),
    ];
    for (body, expect) in cases {
        assert_eq!(argv(&service(body)), *expect, "{body}");
    }
    assert!(matches!(image("command: []").spec.workload, Workload::Docker(i) if i.command == Some(vec![])));
    assert!(matches!(image("command:").spec.workload, Workload::Docker(i) if i.command.is_none()));
    check(&[
        ("command: a && b", &["4:14: services.s.command: '&' means something only to a shell"]),
        ("command: \"a 'b\"", &["4:14: services.s.command: a ' is never closed"]),
        ("command: a\\", &["4:14: services.s.command: the command ends in a lone backslash"]),
        ("command: [a, 5, b]", &["4:18: services.s.command[1]: expected a text, found the number 5"]),
        ("command: {a: b}", &["4:14: services.s.command: expected a text or a list, found a mapping"]),
        ("command: 7", &["4:14: services.s.command: expected a text, found the number 7"]),
        ("command: \"a\\0b\"", &["4:14: services.s.command: the text holds a NUL"]),
        ("working_dir: here", &["4:18: services.s.working_dir: \"here\" is relative"]),
    ]);
    check_text(&wrap("environment: {A: b}"), &["2:3: services.s: the service has neither an image nor a command"]);
    check_text(&wrap("command: ['', a]"), &["3:14: services.s.command: the name of the program is empty"]);
    check_text(&wrap("image: ''"), &["3:12: services.s.image: \"\" is no reference"]);
    check_text(&wrap("image: 'a b'"), &["3:12: services.s.image: \"a b\" is no reference"]);
    check_text(&wrap("image: 1.29"), &["3:12: services.s.image: expected a text, found the number 1.29"]);
    check_text(&wrap("image: [a]"), &["3:12: services.s.image: expected a text, found a list"]);
    check_text(&wrap("build: ."), &["3:5: services.s.build: images are not built here"]);
    check_text("services:\n  s:\n", &["2:3: services.s: expected a mapping, found nothing"]);
}

#[test]
fn environments() {
    let both =
        ["environment: {A: 1, B: x=y, C: true, LEVEL: , UNSET: }", "environment: [A=1, B=x=y, C=true, LEVEL, UNSET]"];
    for body in both {
        let found = image(body).spec.environment;
        let pairs: Vec<(&str, &str)> = found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("A", "1"), ("B", "x=y"), ("C", "true"), ("LEVEL", "debug")], "{body}");
    }
    assert_eq!(image("environment: ['A=']").spec.environment["A"], "");
    assert_eq!(image("environment: {A: '${EMPTY}'}").spec.environment["A"], "");
    check(&[
        ("environment: [A=1, A=2]", &["4:24: services.s.environment[1]: the variable A is given twice, first at 4:19"]),
        ("environment:\n  A: [1]", &["5:10: services.s.environment.A: expected a text or number, found a list"]),
        ("environment: A=1", &["4:18: services.s.environment: expected a mapping or a list, found the text \"A=1\""]),
        ("environment: [=1]", &["4:19: services.s.environment[0]: \"\" cannot name a variable"]),
        (
            "environment:\n  DUNLIN_NODE: a",
            &["5:7: services.s.environment.DUNLIN_NODE: DUNLIN_NODE is set by the node"],
        ),
        ("environment: [5]", &["4:19: services.s.environment[0]: expected a text, found the number 5"]),
    ]);
}

fn port(text: &str) -> (String, Option<u16>, Option<u16>, Protocol) {
    let spec = image(&format!("ports: [{text}]")).spec.ports.into_iter().next().expect("one port");
    (spec.name, spec.target, spec.published, spec.protocol)
}

#[test]
fn ports() {
    use Protocol::{Tcp, Udp};
    assert_eq!(port("\"8080:80\""), ("http".into(), Some(80), Some(8080), Tcp));
    assert_eq!(port("8080:80"), ("http".into(), Some(80), Some(8080), Tcp));
    assert_eq!(port("5432"), ("5432".into(), Some(5432), None, Tcp));
    assert_eq!(port("53:53/udp"), ("53".into(), Some(53), Some(53), Udp));
    assert_eq!(port("8080/udp"), ("8080".into(), Some(8080), None, Udp));
    assert_eq!(port("{target: 80, published: \"81\", protocol: udp, name: q}"), ("q".into(), Some(80), Some(81), Udp));
    assert_eq!(port("{target: 3000, mode: host}"), ("http".into(), Some(3000), None, Tcp));
    let names = |body: &str| -> Vec<String> { image(body).spec.ports.into_iter().map(|p| p.name).collect() };
    assert_eq!(names("ports: ['80', '443']"), ["80", "443"]);
    assert_eq!(names("ports: ['53:53', '53:53/udp']"), ["53", "53-udp"]);
    check(&[
        ("ports: ['127.0.0.1:80:80']", &["4:13: services.s.ports[0]: an address of the host (127.0.0.1) cannot"]),
        ("ports: ['[::1]:80:80']", &["4:13: services.s.ports[0]: an address of the host ([::1]) cannot"]),
        ("ports: [8000-8010]", &["4:13: services.s.ports[0]: ranges of ports (8000-8010) are not supported"]),
        ("ports: ['80-81:80-81']", &["4:13: services.s.ports[0]: ranges"]),
        ("ports: ['80/sctp']", &["4:13: services.s.ports[0]: \"sctp\" is no protocol"]),
        ("ports: ['80/']", &["4:13: services.s.ports[0]: \"\" is no protocol"]),
        ("ports: [':80']", &["4:13: services.s.ports[0]: \"\" is no published port"]),
        ("ports: ['0:80']", &["4:13: services.s.ports[0]: \"0\" is no published port"]),
        ("ports: [70000]", &["4:13: services.s.ports[0]: \"70000\" is no port"]),
        ("ports: [web]", &["4:13: services.s.ports[0]: \"web\" is no port"]),
        ("ports: [[80]]", &["4:13: services.s.ports[0]: expected a port, found a list"]),
        ("ports: 80", &["4:12: services.s.ports: expected a list, found the number 80"]),
        ("ports:\n  - 80:80\n  - 80:81", &["6:9: services.s.ports[1]: port 80/tcp is published twice, first at 5:9"]),
        (
            "ports: ['1:80', '2:80']",
            &["4:21: services.s.ports[1]: this port and the one at 4:13 would both be named '80'"],
        ),
        (
            "ports: [{name: a, target: 1}, {name: A, target: 2}]",
            &["4:35: services.s.ports[1]: the port name 'A' is given"],
        ),
        ("ports:\n  - published: 80", &["5:9: services.s.ports[0]: a port without 'target'"]),
        ("ports:\n  - target: 80\n    host_ip: ::1", &["6:9: services.s.ports[0].host_ip: an address of the host"]),
        ("ports:\n  - target: 80\n    app_protocol: h2", &["6:9: services.s.ports[0].app_protocol: application"]),
        ("ports:\n  - target: 80\n    mode: vip", &["6:15: services.s.ports[0].mode: \"vip\" is no mode"]),
        ("ports:\n  - target: 80\n    tagret: 80", &["6:9: services.s.ports[0].tagret: a port has no key 'tagret'"]),
        ("ports:\n  - target: 80\n    name: a b", &["6:15: services.s.ports[0].name: \"a b\" cannot name a port"]),
    ]);
    let two = |a: &str, b: &str| {
        format!("services:\n  a: {{image: i, ports: ['80:1'], {a}}}\n  b: {{image: i, ports: ['80:2'], {b}}}\n")
    };
    check_text(&two("", ""), &["3:25: services.b.ports[0]: port 80/tcp is also published by the service 'a', at 2:25"]);
    good(&two("", "deploy: {replicas: 0}"));
    let on = |v: &str| format!("deploy: {{placement: {{constraints: [node.labels.z == {v}]}}}}");
    good(&two(&on("a"), &on("b")));
    check_text(&two(&on("a"), &on("a")), &["3:25: services.b.ports[0]: port 80/tcp is also"]);
    assert_eq!(good(&wrap("image: i\nports: [{target: 80, mode: ingress}]")).warnings.len(), 1);
}

#[test]
fn ports_of_processes() {
    let port = |text: &str| {
        let spec = service(&format!("command: x\nports: [{text}]")).spec.ports.into_iter().next().expect("one port");
        (spec.name, spec.target, spec.published)
    };
    assert_eq!(port("8080"), ("http".into(), None, None));
    assert_eq!(port("'9000'"), ("9000".into(), None, None));
    assert_eq!(port("'8080:8080'"), ("http".into(), Some(8080), Some(8080)));
    assert_eq!(port("{name: api}"), ("api".into(), None, None));
    assert_eq!(port("{name: api, published: 99}"), ("api".into(), Some(99), Some(99)));
    check_text(&wrap("command: x\nports: ['8080:80']"), &["4:13: services.s.ports[0]: a process of the host listens"]);
    check_text(&wrap("command: x\nports: [{published: 1}]"), &["4:13: services.s.ports[0]: a port without 'target'"]);
}

#[test]
fn health() {
    let probe = |body: &str| process(body).spec.health.map(|h| h.probe);
    let inside = |body: &str| image(body).spec.health.map(|h| h.probe);
    let command = |words: &[&str]| Some(Probe::Command(words.iter().map(ToString::to_string).collect()));
    assert_eq!(probe("healthcheck: {test: curl -f x || exit 1}"), command(&["/bin/sh", "-c", "curl -f x || exit 1"]));
    assert_eq!(probe("healthcheck: {test: [CMD, curl, x]}"), command(&["curl", "x"]));
    assert_eq!(probe("healthcheck: {test: [CMD-SHELL, 'a | b']}"), command(&["/bin/sh", "-c", "a | b"]));
    assert_eq!(probe("healthcheck: {test: [NONE]}"), None);
    assert_eq!(probe("healthcheck: {disable: true}"), None);
    let times =
        process("healthcheck: {test: x, interval: 1m30s, timeout: 500ms, retries: 5, start_period: 0s}").spec.health;
    let times = times.expect("a check");
    assert_eq!((times.interval.as_secs(), times.timeout.as_millis(), times.retries), (90, 500, 5));
    let http = |port: &str| Some(Probe::Http { port: port.into(), path: "/".into() });
    assert_eq!(probe("ports: ['9090']\nx-dunlin: {healthcheck: {http: {path: /}}}"), http("http"));
    assert_eq!(probe("ports: ['90', '91']\nx-dunlin: {healthcheck: {http: {port: 91, path: /}}}"), http("91"));
    assert_eq!(inside("ports: ['8080:80']\nx-dunlin: {healthcheck: {http: {port: 80, path: /}}}"), http("http"));
    assert_eq!(probe("ports: ['22']\nx-dunlin: {healthcheck: {tcp: }}"), Some(Probe::Tcp { port: "22".into() }));
    assert_eq!(probe("ports: ['22']\nx-dunlin: {healthcheck: {tcp: {}}}"), Some(Probe::Tcp { port: "22".into() }));
    assert_eq!(inside("healthcheck: {disable: true}"), None);
}

#[test]
fn refused_health_checks() {
    check_process(&[
        (
            "healthcheck: {test: [curl, x]}",
            &["4:25: services.s.healthcheck.test: a test begins with CMD, CMD-SHELL or NONE"],
        ),
        ("healthcheck: {test: []}", &["4:25: services.s.healthcheck.test: the test is empty"]),
        ("healthcheck: {test: [CMD]}", &["4:25: services.s.healthcheck.test: the command of the test is missing"]),
        ("healthcheck: {test: [NONE, x]}", &["4:25: services.s.healthcheck.test: NONE takes nothing"]),
        ("healthcheck: {test: [CMD-SHELL, a, b]}", &["4:25: services.s.healthcheck.test: CMD-SHELL takes one"]),
        ("healthcheck: {test: x, disable: true}", &["4:25: services.s.healthcheck.test: the check is disabled"]),
        ("healthcheck: {interval: 5s}", &["4:18: services.s.healthcheck: a health check without 'test'"]),
        (
            "healthcheck: {test: x, interval: 5}",
            &["4:38: services.s.healthcheck.interval: expected a duration, found the number 5"],
        ),
        (
            "healthcheck: {test: x, interval: 0s}",
            &["4:38: services.s.healthcheck.interval: the duration is shorter than 1ms"],
        ),
        (
            "healthcheck: {test: x, timeout: 1y}",
            &["4:37: services.s.healthcheck.timeout: expected a duration, found the text"],
        ),
        ("healthcheck: {test: x, retries: 0}", &["4:37: services.s.healthcheck.retries: 0 is not between 1 and 1000"]),
        ("healthcheck: {test: x, retries: many}", &["4:37: services.s.healthcheck.retries: expected a whole number"]),
        ("healthcheck: {disable: maybe}", &["4:28: services.s.healthcheck.disable: expected a boolean"]),
        ("healthcheck: {test: x, start_interval: 1s}", &["4:28: services.s.healthcheck.start_interval: another"]),
        ("x-dunlin: {healthcheck: {tcp: {}}}", &["4:35: services.s.x-dunlin.healthcheck.tcp: the check needs a port"]),
        (
            "x-dunlin: {healthcheck: {}}",
            &["4:29: services.s.x-dunlin.healthcheck: a health check without 'http' or 'tcp'"],
        ),
        (
            "ports: [1, 2]\nx-dunlin: {healthcheck: {tcp: {}}}",
            &["5:35: services.s.x-dunlin.healthcheck.tcp: the service has several"],
        ),
        (
            "ports: [1]\nx-dunlin: {healthcheck: {tcp: {port: x}}}",
            &["5:42: services.s.x-dunlin.healthcheck.tcp.port: the service has no port \"x\""],
        ),
        (
            "ports: [1]\nx-dunlin: {healthcheck: {tcp: , http: {path: /}}}",
            &["5:30: services.s.x-dunlin.healthcheck.tcp: 'http' and 'tcp'"],
        ),
        (
            "ports: [1]\nx-dunlin: {healthcheck: {http: {path: a}}}",
            &["5:43: services.s.x-dunlin.healthcheck.http.path: \"a\" is no path"],
        ),
        (
            "ports: [1]\nx-dunlin: {healthcheck: {http: {}}}",
            &["5:36: services.s.x-dunlin.healthcheck.http: an HTTP check without 'path'"],
        ),
        (
            "ports: [1]\nhealthcheck: {test: x}\nx-dunlin: {healthcheck: {tcp: {}}}",
            &["6:29: services.s.x-dunlin.healthcheck: the service has two"],
        ),
        (
            "x-dunlin: {healthcheck: {test: x}}",
            &[
                "4:29: services.s.x-dunlin.healthcheck: a health check",
                "4:30: services.s.x-dunlin.healthcheck.test: commands",
            ],
        ),
    ]);
}

#[test]
fn restarts() {
    use RestartCondition::{Any, None as Never, OnFailure};
    let cases = [
        ("restart: no", Never, None),
        ("restart: \"no\"", Never, None),
        ("restart: always", Any, None),
        ("restart: unless-stopped", Any, None),
        ("restart: on-failure", OnFailure, None),
        ("restart: on-failure:4", OnFailure, Some(4)),
        ("restart: on-failure:0", OnFailure, None),
        ("deploy: {restart_policy: {condition: none}}", Never, None),
        ("deploy: {restart_policy: {condition: any, max_attempts: 2}}", Any, Some(2)),
        ("restart: on-failure\ndeploy: {restart_policy: {max_attempts: 2}}", OnFailure, Some(2)),
        ("restart: always\ndeploy: {restart_policy: {condition: any}}", Any, None),
    ];
    for (body, condition, attempts) in cases {
        let found = image(body).spec.restart;
        assert_eq!((found.condition, found.max_attempts), (condition, attempts), "{body}");
    }
    let stop = |body: &str| image(body).spec.stop.signal;
    let signals = ["SIGINT", "INT", "sigint", "2"].map(|s| stop(&format!("stop_signal: {s}")));
    assert!(signals.iter().all(|s| s == "SIGINT"), "{signals:?}");
    check(&[
        ("restart: sometimes", &["4:14: services.s.restart: \"sometimes\" is no restart policy"]),
        ("restart: on-failure:x", &["4:14: services.s.restart: \"on-failure:x\" is no restart policy"]),
        ("restart: true", &["4:14: services.s.restart: expected a text, found the boolean true"]),
        (
            "restart: always\ndeploy: {restart_policy: {condition: none}}",
            &["5:42: services.s.deploy.restart_policy.condition: 'condition' and"],
        ),
        (
            "deploy: {restart_policy: {condition: never}}",
            &["4:42: services.s.deploy.restart_policy.condition: \"never\" is no"],
        ),
        ("deploy: {restart_policy: {window: 0s}}", &["4:39: services.s.deploy.restart_policy.window: the duration is"]),
        ("stop_signal: SIGNONE", &["4:18: services.s.stop_signal: there is no signal \"SIGNONE\""]),
        ("stop_signal: SIGRTMIN+3", &["4:18: services.s.stop_signal: real-time signals (SIGRTMIN+3)"]),
        ("stop_signal: 0", &["4:18: services.s.stop_signal: there is no signal \"0\""]),
        ("stop_grace_period: 10", &["4:24: services.s.stop_grace_period: expected a duration, found the number 10"]),
        ("stop_grace_period: 9999999h", &["4:24: services.s.stop_grace_period: 9999999h is longer than a year"]),
    ]);
}

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
        ("deploy: {mode: replicated-job}", &["4:20: services.s.deploy.mode: jobs (replicated-job) are not"]),
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
        ("x-dunlin: {priority: high}", &["4:26: services.s.x-dunlin.priority: expected a whole number"]),
        ("x-dunlin: {prefer: best}", &["4:24: services.s.x-dunlin.prefer: \"best\" is no preference"]),
        ("x-dunlin: {speed: 9}", &["4:16: services.s.x-dunlin.speed: 'x-dunlin' has no key 'speed'"]),
        ("x-dunlin: {x-speed: 9}", &["4:16: services.s.x-dunlin.x-speed: 'x-dunlin' has no key 'x-speed'"]),
    ]);
    assert_eq!(image("x-dunlin: {priority: -5, prefer: old}").spec.prefer, Prefer::Old);
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
