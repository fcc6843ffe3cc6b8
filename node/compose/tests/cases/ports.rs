//! What the keys of ports mean, and how each is refused.

use super::*;

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
