//! What the keys of a service mean, and how each is refused.

use super::*;

#[test]
fn limits_and_what_was_written_as_the_default_is() {
    let demand = |body: &str| image(body).spec.demand().clone();
    let limited = image("deploy: {resources: {limits: {memory: 1g, pids: 50}}}").spec;
    assert_eq!(
        (limited.limits.memory_bytes, limited.demand().pids_limit, limited.placing.further.pids),
        (1 << 30, 50, 50)
    );
    assert_eq!(demand("x-dunlin: {pids: 5}").pids_limit, 0);
    assert_eq!(demand(""), Demand::default(), "nothing stated has the bytes that it always had");
    let firm = demand("deploy: {resources: {reservations: {cpus: '0.1'}, limits: {memory: 64m}}}");
    assert!(firm.firm_cpu && firm.firm_memory);
    let other = demand("deploy: {resources: {reservations: {cpus: '0.2'}}}");
    assert!(!other.firm_cpu && !other.firm_memory);
    check(&[
        (
            "deploy: {resources: {limits: {pids: 5}}}\nx-dunlin: {pids: 6}",
            &["5:22: services.s.x-dunlin.pids: more is reserved than the limit allows"],
        ),
        ("deploy: {resources: {limits: {pids: 0}}}", &["4:41: services.s.deploy.resources.limits.pids: 0 is not"]),
    ]);
    let check = image("healthcheck: {test: [CMD, curl, x]}").spec.health.expect("containers have checks too");
    assert_eq!(check.probe, Probe::Command(vec!["curl".into(), "x".into()]));
}

#[test]
fn ranges_of_ports_and_ports_of_one_host() {
    let of = |body: &str| {
        let spec = image(body).spec;
        let ports: Vec<_> = spec.ports.iter().map(|p| (p.target.unwrap_or(0), p.published.unwrap_or(0))).collect();
        let ranges: Vec<_> = spec.demand().ranges.iter().map(|r| (r.port, r.first, r.last)).collect();
        (ports, ranges, spec.demand().local.clone())
    };
    assert_eq!(of("ports: ['8000-8010:80']"), (vec![(80, 0)], vec![(0, 8_000, 8_010)], vec![]));
    assert_eq!(of("ports: [3000-3001]"), (vec![(3_000, 0), (3_001, 0)], vec![], vec![]));
    assert_eq!(of("ports: ['9090-9091:80-81']"), (vec![(80, 9_090), (81, 9_091)], vec![], vec![]));
    assert_eq!(of("ports: [{target: 80, published: 81-82}]"), (vec![(80, 0)], vec![(0, 81, 82)], vec![]));
    assert_eq!(of("ports: ['127.0.0.1:80:80', '0.0.0.0:81:81']"), (vec![(80, 80), (81, 81)], vec![], vec![0]));
    assert_eq!(of("ports: ['127.0.0.1::80']"), (vec![(80, 0)], vec![], vec![0]));
    assert_eq!(of("ports:\n  - target: 80\n    host_ip: 127.0.0.1"), (vec![(80, 0)], vec![], vec![0]));
    let both = "ports: [{target: 80, name: a}, {target: 81, published: 81, name: b}]\nx-dunlin: {ports: 500-509}";
    assert_eq!(of(both).1, [(0, 500, 509)]);
    let spec = process("ports: ['80']\nx-dunlin: {ports: 500-509}").spec;
    assert_eq!((spec.ports[0].target, spec.demand().ranges.len()), (None, 1));
    check(&[
        ("ports: ['80-82:80-81']", &["4:13: services.s.ports[0]: 2 ports cannot be published as 3"]),
        ("ports: [1-1000]", &["4:13: services.s.ports[0]: 1000 ports on one line"]),
        ("ports: ['9-8:80']", &["4:13: services.s.ports[0]: \"9-8\" is no published port"]),
        ("ports: ['[::1]:80:80']", &["4:13: services.s.ports[0]: an address of one host (::1) cannot"]),
        ("ports: ['10.0.0.1:80:80']", &["4:13: services.s.ports[0]: an address of one host (10.0.0.1) cannot"]),
        ("ports: ['80:80']\nx-dunlin: {ports: 5-9}", &["5:23: services.s.x-dunlin.ports: the service leaves no port"]),
        ("ports: ['80']\nx-dunlin: {ports: some}", &["5:23: services.s.x-dunlin.ports: \"some\" is no range"]),
        (
            "ports: ['80', '81']\nx-dunlin: {ports: 500-500}",
            &["4:13: services.s.ports[0]: 2 ports of one replica from 500-500, which has 1"],
        ),
    ]);
    check_process(&[
        ("ports: ['500-509:80']", &["4:13: services.s.ports[0]: a process of the host listens on the chosen port"]),
        ("ports: ['127.0.0.1:80:80']", &["4:13: services.s.ports[0]: a process of the host chooses by itself"]),
    ]);
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
        ("ports:\n  - target: 80\n    host_ip: ::1", &["6:18: services.s.ports[0].host_ip: an address of one host"]),
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

#[test]
fn jobs() {
    let job = |body: &str| image(body).mode;
    let plain = Job::default();
    assert_eq!(job("deploy: {mode: replicated-job}"), Mode::Job(plain));
    assert_eq!(job("deploy: {mode: global-job}"), Mode::GlobalJob(plain));
    assert_eq!(
        job(
            "deploy: {mode: replicated-job, replicas: 9}\nx-dunlin: {job: {parallelism: 2, backoff_limit: 1, timeout: 1m}}"
        ),
        Mode::Job(Job {
            completions: 9,
            parallelism: 2,
            backoff_limit: 1,
            timeout: Some(Duration::from_secs(60)),
            ..plain
        })
    );
    let limit = |body: &str| job(body).job().map(|job| job.backoff_limit);
    assert_eq!(limit("deploy: {mode: replicated-job, restart_policy: {condition: none}}"), Some(0));
    assert_eq!(limit("deploy: {mode: replicated-job, restart_policy: {max_attempts: 3}}"), Some(3));
    assert_eq!(limit("restart: 'no'\ndeploy: {mode: replicated-job}"), Some(0));
    let restart = image("deploy: {mode: replicated-job, restart_policy: {max_attempts: 3}}").spec.restart;
    assert_eq!((restart.condition, restart.max_attempts), (RestartCondition::OnFailure, None));
    check(&[
        (
            "deploy: {mode: global-job, replicas: 2}",
            &["4:42: services.s.deploy.replicas: a global-job service runs once"],
        ),
        ("x-dunlin: {job: {parallelism: 2}}", &["4:21: services.s.x-dunlin.job: 'job' means nothing"]),
        (
            "deploy: {mode: global-job}\nx-dunlin: {job: {parallelism: 2}}",
            &["5:35: services.s.x-dunlin.job.parallelism: the slots of a global job"],
        ),
        (
            "deploy: {mode: replicated-job, restart_policy: {condition: any}}",
            &["4:64: services.s.deploy.restart_policy.condition: a job is not run again"],
        ),
        ("restart: always\ndeploy: {mode: replicated-job}", &["4:14: services.s.restart: a job is not run again"]),
        (
            "deploy: {mode: replicated-job, update_config: {parallelism: 2}}",
            &["4:51: services.s.deploy.update_config: a job has no rollouts"],
        ),
        (
            "deploy: {mode: replicated-job, restart_policy: {max_attempts: 3}}\nx-dunlin: {job: {backoff_limit: 2}}",
            &["5:37: services.s.x-dunlin.job.backoff_limit: the restart policy says"],
        ),
        (
            "deploy: {mode: replicated-job}\nx-dunlin: {job: {timeout: 0s, retries: 1}}",
            &[
                "5:31: services.s.x-dunlin.job.timeout: the duration",
                "5:35: services.s.x-dunlin.job.retries: 'x-dunlin.job' has no key",
            ],
        ),
    ]);
}

#[test]
fn schedules() {
    let cron = |body: &str| *image(body).mode.cron().expect(body);
    let daily = cron("x-dunlin: {schedule: '@daily'}");
    assert_eq!((daily.calendar.to_string(), daily.zone), ("0 0 * * *".to_string(), ZoneName::UTC));
    assert_eq!(
        (daily.overlap, daily.missed, daily.deadline, daily.history),
        (Overlap::Allow, Missed::RunOnce, None, 5)
    );
    assert_eq!((daily.job.completions, daily.job.backoff_limit), (1, 6));
    let all = cron(
        "deploy: {mode: replicated-job, replicas: 3}\nx-dunlin:\n  job: {parallelism: 1}\n  schedule:\n    cron: 30 3 * * mon-fri\n    \
         timezone: europe/berlin\n    overlap: forbid\n    missed: skip\n    deadline: 10m\n    history: 20",
    );
    assert_eq!((all.calendar.to_string().as_str(), all.zone.as_str()), ("30 3 * * 1-5", "Europe/Berlin"));
    assert_eq!((all.overlap, all.missed, all.history), (Overlap::Forbid, Missed::Skip, 20));
    assert_eq!((all.deadline, all.job.completions, all.job.parallelism), (Some(Duration::from_secs(600)), 3, 1));
    let restart = image("x-dunlin: {schedule: '@daily'}").spec.restart;
    assert_eq!(restart.condition, RestartCondition::OnFailure);
    assert_eq!(cron("x-dunlin: {schedule: '@daily'}\ndeploy: {replicas: 0}").job.completions, 0, "suspended");
    check(&[
        (
            "x-dunlin: {schedule: '0 0 30 2 *'}",
            &[
                "4:26: services.s.x-dunlin.schedule: \"0 0 30 2 *\": this never comes due: none of these months has such a day",
            ],
        ),
        (
            "x-dunlin: {schedule: '0 24 * * *'}",
            &["4:26: services.s.x-dunlin.schedule: \"0 24 * * *\": hour: '24' is no hour"],
        ),
        ("x-dunlin: {schedule: {timezone: UTC}}", &["4:26: services.s.x-dunlin.schedule: a schedule without 'cron'"]),
        (
            "x-dunlin: {schedule: {cron: '@daily', timezone: Europe/Atlantis}}",
            &["4:53: services.s.x-dunlin.schedule.timezone: there is no time zone \"Europe/Atlantis\""],
        ),
        (
            "x-dunlin: {schedule: {cron: '@daily', overlap: queue, missed: all, history: 0}}",
            &[
                "4:52: services.s.x-dunlin.schedule.overlap: \"queue\" is no choice for overlaps",
                "4:67: services.s.x-dunlin.schedule.missed: \"all\" is no choice for missed runs",
                "4:81: services.s.x-dunlin.schedule.history: ",
            ],
        ),
        (
            "deploy: {mode: global-job}\nx-dunlin: {schedule: '@daily'}",
            &["4:20: services.s.deploy.mode: what is scheduled runs in so many slots"],
        ),
        (
            "deploy: {mode: replicated}\nx-dunlin: {schedule: '@daily'}",
            &["4:20: services.s.deploy.mode: what is scheduled ends, and \"replicated\" does not"],
        ),
        (
            "restart: always\nx-dunlin: {schedule: '@daily'}",
            &["4:14: services.s.restart: a job is not run again once it has finished"],
        ),
        (
            "x-dunlin: {schedule: {cron: '@daily', suspend: true}}",
            &["4:43: services.s.x-dunlin.schedule.suspend: 'x-dunlin.schedule' has no key"],
        ),
    ]);
}
