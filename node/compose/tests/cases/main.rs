//! One line a fact: what a file must say, or be told, with the exact place.

mod document;
mod jobs;
mod never;
mod placing;
mod ports;
mod rollouts;
mod running;

use std::collections::BTreeMap;
use std::time::Duration;

use dunlin_compose::{Problem, Project, Source, parse};
use dunlin_gossip::model::{
    Affinity, Canary, Constraint, ConstraintOp, Demand, DeviceRequest, FailureAction, HealthCheck, Job, Missed, Mode,
    Overlap, PortSpec, Preemptible, Prefer, Probe, Promotion, Protocol, Resources, RestartCondition, RolloutPolicy,
    Service, Share, Strategy, UpdateOrder, UpdatePolicy, Waves, Workload, ZoneName,
};

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
    let project = good(include_str!("../good.compose.yaml"));
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
