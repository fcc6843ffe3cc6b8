//! What no flock could ever run is refused with its place; what merely needs another node is not.

use super::*;

/// A service that is pinned, with so many replicas.
fn pinned(replicas: u32, constraint: &str, rest: &str) -> String {
    format!("deploy:\n  replicas: {replicas}\n  placement:\n    constraints: ['{constraint}']\n{rest}")
}

#[test]
fn contradicting_constraints() {
    let both = |a: &str, b: &str| format!("deploy:\n  placement:\n    constraints:\n      - {a}\n      - {b}");
    let here = "8:13: services.s.deploy.placement.constraints[1]: no node can meet these constraints together: ";
    for (a, b) in [
        ("node.id == a", "node.id == b"),
        ("node.labels.x == 1", "node.labels.x != 1"),
        ("node.hostname in a, b", "node.hostname not in b, a"),
        ("node.labels.os version >= 6.1", "node.labels.os version < 5.10"),
        ("node.labels.x =~ ^a", "node.labels.x == ba"),
    ] {
        check(&[(&both(a, b), &[here])]);
    }
    image(&both("node.labels.x != 1", "node.labels.x != 2"));
    image(&both("node.labels.x == 1", "node.labels.y == 2"));
    check(&[
        (
            "deploy: {placement: {constraints: [node.id == a]}}\nx-dunlin: {constraints: [node.id == b]}",
            &[
                "5:30: services.s.x-dunlin.constraints[0]: no node can meet these constraints together: node.id==a, node.id==b",
            ],
        ),
        (
            "deploy: {placement: {constraints: ['node.hostname =~ (']}}",
            &["4:40: services.s.deploy.placement.constraints[0]: the constraint node.hostname =~ ( cannot be read"],
        ),
    ]);
}

#[test]
fn more_replicas_than_the_named_nodes_can_have() {
    check(&[
        (
            &pinned(2, "node.hostname == oslo", "ports: ['80:80']"),
            &[
                "8:13: services.s.ports[0]: 2 replicas on one node that its constraints name, each with at most 1 (a published",
            ],
        ),
        (
            &pinned(5, "node.id in a, b", "    max_replicas_per_node: 2"),
            &[
                "8:32: services.s.deploy.placement.max_replicas_per_node: 5 replicas on 2 nodes that its constraints name",
            ],
        ),
        (
            &pinned(3, "node.id == a", "ports: ['500-501:80']"),
            &[
                "8:13: services.s.ports[0]: 3 replicas on one node that its constraints name, each with at most 2 (a range",
            ],
        ),
        (
            &pinned(2, "node.id == a", "x-dunlin: {affinity: [{service: s, anti: true}]}"),
            &["8:27: services.s.x-dunlin.affinity[0]: 2 replicas on one node that its constraints name"],
        ),
        (
            "deploy: {placement: {max_replicas_per_node: 0}}",
            &["4:49: services.s.deploy.placement.max_replicas_per_node: 0 replicas on a node are none anywhere"],
        ),
    ]);
    image(&pinned(4, "node.id in a, b", "    max_replicas_per_node: 2"));
    image(&pinned(9, "node.labels.disk == ssd", "ports: ['80:80']"));
}

#[test]
fn affinities_that_cannot_begin() {
    let two = |a: &str, b: &str| {
        format!("services:\n  a: {{image: i, x-dunlin: {{{a}}}}}\n  b: {{image: i, x-dunlin: {{{b}}}}}\n")
    };
    let near = |service: &str, rest: &str| format!("affinity: [{{service: {service}{rest}}}]");
    let at = "2:39: services.a.x-dunlin.affinity[0]: ";
    let text = two(&near("b", ""), &near("a", ""));
    check_text(
        &text,
        &[&format!("{at}must be near b, which"), "3:39: services.b.x-dunlin.affinity[0]: must be near a"],
    );
    let text = two(&near("b", ""), &near("a", ", anti: true"));
    check_text(&text, &[&format!("{at}must be near b, while b must keep away")]);
    check_text(&two(&near("c", ""), ""), &[&format!("{at}must be near c, and the stack has no such service")]);
    let text =
        two(&format!("{}, constraints: ['node.labels.x == 1']", near("b", "")), "constraints: ['node.labels.x == 2']");
    check_text(&text, &[&format!("{at}must be on a node with b, and no node can meet the constraints of both")]);
    let of_itself = "name: shop\n".to_owned() + &two(&near("shop/b", ""), &near("shop/a", ""));
    check_text(&of_itself, &["3:39: services.a", "4:39: services.b"]);
    for (a, b) in [
        (near("b", ""), near("a", ", anti: true, weight: 5")),
        (near("b", ", label: zone"), near("a", ", anti: true")),
        (near("other/c", ""), String::new()),
        (near("a", ""), String::new()),
    ] {
        good(&two(&a, &b));
    }
}
