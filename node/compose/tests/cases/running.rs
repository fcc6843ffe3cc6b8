//! What the keys mean that say what runs and how it is looked after, and how each is refused.

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
