//! One line a fact: what a file must say, or be told, with the exact place.

use std::collections::BTreeMap;

use dunlin_compose::{Problem, Project, Source, parse};
use dunlin_gossip::model::{
    Constraint, ConstraintOp, HealthCheck, Mode, PortSpec, Prefer, Probe, Protocol, Resources, RestartCondition,
    Service, Workload,
};
use std::time::Duration;

fn variables(name: &str) -> Option<String> {
    match name {
        "TAG" => Some("1.29".into()),
        "N" => Some("3".into()),
        "EMPTY" => Some(String::new()),
        "LEVEL" => Some("debug".into()),
        _ => None,
    }
}

fn read(text: &str) -> Result<Project, Vec<Problem>> {
    parse(Source { file: "f", text }, &variables)
}

fn good(text: &str) -> Project {
    read(text).unwrap_or_else(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        panic!("refused:\n{}\n{text}", lines.join("\n"))
    })
}

/// The service `s` with these lines below it, indented by four; the first of them is line 3.
fn wrap(body: &str) -> String {
    let lines: String = body.lines().map(|line| format!("    {line}\n")).collect();
    format!("services:\n  s:\n{lines}")
}

fn service(body: &str) -> Service {
    good(&wrap(body)).services.into_values().next().expect("one service")
}

fn image(body: &str) -> Service {
    service(&format!("image: i\n{body}"))
}

fn process(body: &str) -> Service {
    service(&format!("command: i\n{body}"))
}

/// The problems as `line:col: key: what`, joined by line feeds.
fn problems(text: &str) -> String {
    let found = read(text).err().unwrap_or_default();
    for problem in &found {
        assert!(!problem.key.is_empty() && !problem.what.is_empty() && !problem.remedy.is_empty(), "{problem:?}");
    }
    let line = |p: &Problem| format!("{}:{}: {}: {}", p.line, p.column, p.key, p.what);
    found.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Each case: the lines of a service that has an image (line 3), and the beginning of each problem in order.
fn check(cases: &[(&str, &[&str])]) {
    for (body, expect) in cases {
        check_text(&wrap(&format!("image: i\n{body}")), expect);
    }
}

/// The same of a service without an image.
fn check_process(cases: &[(&str, &[&str])]) {
    for (body, expect) in cases {
        check_text(&wrap(&format!("command: i\n{body}")), expect);
    }
}

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

fn check_text(text: &str, expect: &[&str]) {
    let found = problems(text);
    let lines: Vec<&str> = found.lines().collect();
    let same = lines.len() == expect.len() && lines.iter().zip(expect).all(|(line, expect)| line.starts_with(expect));
    assert!(same, "of\n{text}\nexpected\n  {}\nfound\n  {}", expect.join("\n  "), lines.join("\n  "));
}

fn argv(service: &Service) -> Vec<&str> {
    match &service.spec.workload {
        Workload::Exec(exec) => exec.argv.iter().map(String::as_str).collect(),
        Workload::Docker(image) => image.command.iter().flatten().map(String::as_str).collect(),
    }
}

#[test]
fn a_whole_file() {
    let project = good(include_str!("good.compose.yaml"));
    assert_eq!(project.name.as_ref().map(|n| n.as_str()), Some("shop"));
    let names: Vec<&str> = project.services.keys().map(|n| n.as_str()).collect();
    assert_eq!(names, ["agent", "cache", "web", "worker"]);
    let by_name: BTreeMap<&str, &Service> = project.services.iter().map(|(k, v)| (k.as_str(), v)).collect();
    let web = by_name["web"];
    assert_eq!(web.mode, Mode::Replicated(3));
    let Workload::Docker(image) = &web.spec.workload else { panic!("web is a container") };
    assert_eq!(image.image, "nginx:1.29");
    assert_eq!(image.entrypoint.as_deref(), Some(["/entry".to_string()].as_slice()));
    assert_eq!(argv(web), ["nginx", "-g", "daemon off;"]);
    let port = PortSpec { name: "http".into(), target: Some(80), published: Some(8080), protocol: Protocol::Tcp };
    assert_eq!(web.spec.ports, [port]);
    assert_eq!(web.spec.environment["LOG"], "debug");
    assert_eq!(web.spec.environment["PRICE"], "1.10");
    assert_eq!(web.spec.restart.condition, RestartCondition::OnFailure);
    assert_eq!(web.spec.restart.max_attempts, Some(5));
    assert_eq!(web.spec.restart.delay, Duration::from_secs(2));
    assert_eq!(web.spec.restart.window, Duration::from_secs(120));
    assert_eq!(web.spec.stop.signal, "SIGQUIT");
    assert_eq!(web.spec.stop.grace, Duration::from_secs(90));
    let memory_bytes = Resources::DEFAULT_REQUEST.memory_bytes;
    assert_eq!(web.spec.reservation, Resources { cpu_milli: 250, memory_bytes });
    let zone = Constraint { attribute: "node.labels.zone".into(), op: ConstraintOp::NotEqual, value: "b".into() };
    assert_eq!(web.spec.constraints, [zone]);
    assert_eq!((web.spec.priority, web.spec.prefer), (10, Prefer::New));
    let probe = Probe::Http { port: "http".into(), path: "/health?deep=1".into() };
    let seconds = Duration::from_secs;
    let health =
        HealthCheck { probe, interval: seconds(1), timeout: seconds(2), retries: 3, start_period: Duration::ZERO };
    assert_eq!(web.spec.health, Some(health));
    assert_eq!(argv(by_name["worker"]), ["/usr/bin/worker", "--queue", "mail jobs"]);
    assert_eq!(by_name["worker"].spec.limits, Resources { cpu_milli: 1_500, memory_bytes: 512 << 20 });
    assert_eq!(by_name["agent"].mode, Mode::Global);
    assert_eq!(by_name["cache"].spec.environment["LOG"], "debug", "merged from the anchor");
    let warned: Vec<u32> = project.warnings.iter().map(|w| w.line).collect();
    assert_eq!(warned, [1], "{:?}", project.warnings);
}

#[test]
fn defaults() {
    let spec = image("").spec;
    assert_eq!(spec.reservation, Resources::DEFAULT_REQUEST);
    assert_eq!(spec.limits, Resources::default());
    assert_eq!(spec.restart.condition, RestartCondition::Any);
    assert_eq!(spec.restart.max_attempts, None);
    assert_eq!(spec.stop.signal, "SIGTERM");
    assert_eq!(spec.stop.grace, Duration::from_secs(10));
    assert_eq!((spec.priority, spec.prefer), (0, Prefer::Ready));
    assert!(spec.health.is_none() && spec.ports.is_empty() && spec.environment.is_empty());
    assert_eq!(image("").mode, Mode::Replicated(1));
    let only_memory = process("deploy: {resources: {limits: {memory: 1g}}}").spec;
    assert_eq!(only_memory.reservation, Resources { cpu_milli: 100, memory_bytes: 1 << 30 });
    assert_eq!(only_memory.limits, Resources { cpu_milli: 0, memory_bytes: 1 << 30 });
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
fn every_refused_key_is_refused_by_name_and_place() {
    let service = "annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent configs container_name \
        cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus cpuset credential_spec \
        depends_on develop device_cgroup_rules devices dns dns_opt dns_search domainname env_file expose extends \
        external_links extra_hosts gpus group_add hostname init ipc isolation label_file labels links logging mac_address \
        mem_limit mem_reservation mem_swappiness memswap_limit models network_mode networks oom_kill_disable oom_score_adj \
        pid pids_limit platform post_start pre_stop privileged profiles provider pull_policy pull_refresh_after read_only \
        runtime scale secrets security_opt shm_size stdin_open storage_opt sysctls tmpfs tty ulimits use_api_socket user \
        userns_mode uts volumes volumes_from";
    let below: &[(&str, &str)] = &[
        ("deploy", "endpoint_mode labels rollback_config update_config"),
        ("deploy.placement", "max_replicas_per_node preferences"),
        ("deploy.resources.limits", "pids"),
        ("deploy.resources.reservations", "devices generic_resources"),
        ("x-dunlin", "affinity partition ports schedule"),
    ];
    for key in service.split_whitespace() {
        let text = wrap(&format!("image: i\n{key}: [a]"));
        let problems = read(&text).expect_err(key);
        let [problem] = problems.as_slice() else { panic!("{key}: {problems:?}") };
        assert_eq!((problem.line, problem.column, problem.key.as_str()), (4, 5, format!("services.s.{key}").as_str()));
        assert!(!problem.what.contains("has no key"), "{key} is a key of Compose: {problem}");
    }
    for (path, keys) in below {
        for key in keys.split_whitespace() {
            let depth = path.split('.').count();
            let outer: String = path.split('.').enumerate().map(|(i, p)| format!("{}{p}:\n", "  ".repeat(i))).collect();
            let body = format!("image: i\n{outer}{}{key}: 1", "  ".repeat(depth));
            let found = problems(&wrap(&body));
            let place = format!("{}:{}: services.s.{path}.{key}: ", 4 + depth, 5 + 2 * depth);
            assert!(found.starts_with(&place) && !found.contains("has no key"), "{place} {found}");
        }
    }
    for key in ["configs", "include", "models", "networks", "secrets", "volumes"] {
        let found = problems(&format!("services: {{s: {{image: i}}}}\n{key}: {{a: }}\n"));
        assert!(found.starts_with(&format!("2:1: {key}: ")) && !found.contains("has no key"), "{found}");
    }
}

#[test]
fn unknown_keys_get_a_suggestion() {
    for (key, near) in [("comand", "command"), ("enviroment", "environment"), ("prots", "ports"), ("Image", "image")] {
        let problems = read(&wrap(&format!("image: i\n{key}: a"))).expect_err(key);
        assert_eq!(problems[0].what, format!("a service has no key '{key}'"));
        assert_eq!(problems[0].remedy, format!("did you mean '{near}'?"));
    }
    assert_eq!(read("servces: {}").expect_err("typo")[0].remedy, "did you mean 'services'?");
    good("x-anything: {volumes: 1}\nservices: {s: {image: i, x-mine: [1], deploy: {x-too: 1}}}\n");
    check_text(
        "x-dunlin: {}\nservices: {s: {image: i}}",
        &["1:1: x-dunlin: 'x-dunlin' means nothing in a Compose file"],
    );
    check(&[("deploy: {x-dunlin: {}}", &["4:14: services.s.deploy.x-dunlin: 'x-dunlin' means nothing"])]);
    assert_eq!(good(&wrap("image: i\nx-dulin: {}")).warnings[0].remedy, "did you mean 'x-dunlin'?");
}

#[test]
fn the_document() {
    check_text("", &["1:1: (document): the file is empty"]);
    check_text("# nothing\n", &["1:1: (document): the file is empty"]);
    check_text("- a\n", &["1:1: (document): expected a mapping, found a list"]);
    check_text("name: x\n", &["1:1: services: the file has no services"]);
    check_text("services: {}\n", &["1:11: services: the file has no services"]);
    check_text("services: [a]\n", &["1:11: services: expected a mapping, found a list"]);
    check_text("services: {s: {image: i}}\n---\nservices: {}\n", &["2:1: (document): a second YAML document"]);
    check_text("a: b: c\n", &["1:5: (document): this is not valid YAML"]);
    check_text("services:\n  s:\n    image: \"i\n", &["3:12: services.s.image: this is not valid YAML"]);
    check_text("services:\n  s:\n\timage: i\n", &["3:2: services.s: this is not valid YAML"]);
    check_text("services: *gone\n", &["1:11: services: this is not valid YAML"]);
    check_text("? [a]\n: b\n", &["1:3: (document): a key must be a text"]);
    check_text("services:\n  s: !reset\n    image: i\n", &["3:5: services.s: the YAML tag !reset is not supported"]);
    check_text(
        "services:\n  s:\n    image: a\n    image: b\n",
        &["4:5: services.s.image: the key 'image' is given twice, first at 3:5"],
    );
    let of = |name: &str| format!("services:\n  {name}: {{image: i}}\n");
    check_text(&of("a.b"), &["2:3: services.a.b: \"a.b\" cannot be a name in DNS"]);
    check_text(&of("node"), &["2:3: services.node: \"node\" is reserved"]);
    check_text(&of("17"), &["2:3: services.17: \"17\" is reserved"]);
    check_text(&of("-a"), &["2:3: services.-a: \"-a\" is no name: "]);
    check_text("services:\n  a: {image: i}\n  A: {image: i}\n", &["3:3: services.A: two services differ only in case"]);
    check_text("name: a b\nservices: {s: {image: i}}\n", &["1:7: name: \"a b\" is no name"]);
    assert_eq!(good("name: ${NAME:-shop}\nservices: {s: {image: i}}\n").name.expect("a name").as_str(), "shop");
}

#[test]
fn all_problems_come_sorted() {
    let text =
        "services:\n  b:\n    volumes: []\n    image: 5\n  a:\n    restart: x\n    privileged: true\nvolumes: {}\n";
    check_text(
        text,
        &[
            "3:5: services.b.volumes",
            "4:12: services.b.image",
            "5:3: services.a: the",
            "6:14: services.a.restart",
            "7:5: services.a.privileged",
            "8:1: volumes",
        ],
    );
    let problem = &read(text).expect_err("refused")[1];
    assert_eq!(
        problem.to_string(),
        "f:4:12: services.b.image: expected a text, found the number 5; put it in quotes: \"5\""
    );
}

#[test]
fn interpolation_has_a_place() {
    check_text(
        &wrap("image: ${NO}"),
        &["3:12: services.s.image: \"\" is no reference of an image (the variable NO is not set and counts as empty)"],
    );
    check(&[
        (
            "environment: {A: '${NO:?give it}'}",
            &["4:22: services.s.environment.A: the required variable NO is not set: give it"],
        ),
        ("command: [a, $]", &["4:18: services.s.command[1]: '$' is not followed by a variable's name"]),
        ("working_dir: ${A", &["4:18: services.s.working_dir: \"${A\" is no expression"]),
    ]);
    let project = good(&wrap("image: 'nginx:${TAG}${NO}'"));
    assert_eq!(project.warnings.len(), 1);
    assert_eq!(project.warnings[0].what, "the variable NO is not set and counts as empty");
    let Workload::Docker(image) = &project.services.values().next().expect("one").spec.workload else { panic!() };
    assert_eq!(image.image, "nginx:1.29");
}

#[test]
fn anchors_and_merges() {
    let text = "x-base: &base\n  image: i\n  restart: always\nx-env: &env {A: 1, B: 2}\nservices:\n  s:\n    <<: *base\n    \
        restart: 'no'\n    environment: {<<: *env, B: 3}\n  t:\n    <<: [*base, {image: j, command: c}]\n";
    let project = good(text);
    let by_name: BTreeMap<&str, &Service> = project.services.iter().map(|(k, v)| (k.as_str(), v)).collect();
    assert_eq!(by_name["s"].spec.restart.condition, RestartCondition::None);
    assert_eq!((by_name["s"].spec.environment["A"].as_str(), by_name["s"].spec.environment["B"].as_str()), ("1", "3"));
    assert!(
        matches!(&by_name["t"].spec.workload, Workload::Docker(i) if i.image == "i" && argv(by_name["t"]) == ["c"])
    );
    let wrong = "x-b: &b\n  image: i\n  tty: true\nservices:\n  s: *b\n  t: *b\n";
    check_text(wrong, &["3:3: services.s.tty: a replica has no terminal"]);
    check_text("services:\n  s:\n    <<: 5\n    image: i\n", &["3:5: services.s: '<<' merges mappings"]);
    check_text("services: &a\n  s: *a\n", &["2:6: services.s: an alias is used inside its own anchor"]);
}

#[test]
fn bombs_are_refused_not_unfolded() {
    let mut laughs = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for i in 1..30 {
        let many = vec![format!("*a{}", i - 1); 10].join(", ");
        laughs.push_str(&format!("a{i}: &a{i} [{many}]\n"));
    }
    assert!(problems(&laughs).contains("the file holds more than 100000 values"));
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(900_000), vec!["*a"; 1_000].join(", "));
    assert!(problems(&long).contains("the values of the file have more than"));
    let deep = format!("a: {}{}\n", "[".repeat(100), "]".repeat(100));
    assert!(problems(&deep).contains("values are nested more than 64 deep"));
    let deep_block = "- ".repeat(5_000) + "x\n";
    assert!(problems(&deep_block).contains("values are nested more than 64 deep"));
    assert!(problems(&"#".repeat((1 << 20) + 1)).contains("the file has 1048577 bytes"));
    assert!(problems(&format!("{}: 1\n", "k".repeat(300))).contains("a key has more than 256 bytes"));
    let big = wrap(&format!("image: i\nenvironment: {{A: '{}'}}", "x".repeat(200_000)));
    assert!(problems(&big).starts_with("2:3: services.s: the texts of this service have"));
}
