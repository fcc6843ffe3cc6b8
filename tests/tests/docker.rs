//! Containers on a flock: deployed, found by name and reached, left alone by a killed agent, and removed with their stack.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use dunlin_test_host::engine::{Clean, Image, containers, docker};
use dunlin_tests::cluster::{Cluster, PATIENCE, text};
use dunlin_tests::env::{has_program, left_out};
use dunlin_tests::wait::until;
use serde_json::Value;

/// A real HTTP server with a port that each node chooses, and one with a fixed port.
const STACK: &str = r#"
services:
  web:
    image: ${IMAGE}
    command: [/bin/sh, -c, "echo serving $$DUNLIN_REPLICA; echo $$GREETING > /tmp/index.html; exec httpd -f -p $$PORT -h /tmp"]
    environment:
      GREETING: hello from a container
    ports:
      - target: 8080
        name: http
    stop_grace_period: 1s
    deploy:
      replicas: 3
    x-dunlin:
      healthcheck:
        http:
          port: http
          path: /index.html
        interval: 500ms
  one:
    image: ${IMAGE}
    entrypoint: /bin/sh -c
    command: ["echo $$PORT > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"]
    environment:
      PORT: my own
    ports:
      - "19180:8080"
    stop_grace_period: 1s
"#;

/// Dropped in this order: agents first, or they would start again what is removed.
struct Flock {
    cluster: Cluster,
    label: String,
    _clean: Clean,
    image: Image,
}

impl Flock {
    fn start(test: &str) -> Option<Self> {
        Self::start_with(test, 3, &["--workload-dns", "off"])
    }

    fn start_with(test: &str, nodes: u8, options: &[&str]) -> Option<Self> {
        if !has_program("dig") {
            left_out(test, "no dig here");
            return None;
        }
        let image = Image::make(&[]).map_err(|why| left_out(test, &why)).ok()?;
        let cluster = Cluster::with_options(nodes, options);
        let status = cluster.nodes[0].json(&["status"]).expect("status");
        let label = format!("dunlin.cluster={}", status["cluster"].as_str().expect("the cluster's id"));
        Some(Self { cluster, _clean: Clean(label.clone()), label, image })
    }

    /// Containers that run, with the time of their start.
    fn running(&self) -> BTreeSet<String> {
        let ids = containers(&self.label);
        let started =
            |id: &String| docker(&["inspect", "--format", "{{.Id}} {{.State.Running}} {{.State.StartedAt}}", id]);
        ids.iter().map(|id| started(id).expect("docker inspect")).filter(|line| line.contains(" true ")).collect()
    }

    /// Asks every instance that a node's names tell of.
    fn pages(&self, n: usize, service: &str) -> Result<Vec<String>, String> {
        let lines = self.cluster.dig(n, &format!("{service}.shop.dunlin.internal"), "SRV");
        let page = |line: &String| {
            let words: Vec<&str> = line.split(' ').collect();
            let [_, _, port, target] = words.as_slice() else { return Err(format!("no SRV record: {line}")) };
            let address = self.cluster.dig(n, target, "A").pop().ok_or_else(|| format!("{target} has no address"))?;
            get(&format!("{address}:{port}")).map_err(|error| format!("{address}:{port}: {error}"))
        };
        lines.iter().map(page).collect()
    }

    fn wait_served(&self, n: usize) {
        until("three instances to serve", PATIENCE, || {
            let pages = self.pages(n, "web")?;
            let good = pages.iter().filter(|page| page.contains("hello from a container")).count();
            if good == 3 { Ok(()) } else { Err(format!("{pages:?}")) }
        });
    }
}

fn get(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

#[test]
fn containers_are_served_adopted_and_removed() {
    let Some(mut flock) = Flock::start("containers_are_served_adopted_and_removed") else { return };
    until("every node to offer both drivers", PATIENCE, || {
        let rows = flock.cluster.nodes[2].json(&["nodes"])?;
        let both = |row: &&Value| row["drivers"] == serde_json::json!(["exec", "docker"]);
        let count = rows.as_array().into_iter().flatten().filter(both).count();
        if count == 3 { Ok(()) } else { Err(rows.to_string()) }
    });
    let compose = STACK.replace("${IMAGE}", &flock.image.name);
    let deployed = flock.cluster.deploy(1, &compose, &["--wait"]);
    assert!(deployed.status.success(), "{} {}", text(&deployed.stdout), text(&deployed.stderr));
    let rows = flock.cluster.wait_ready(2, 4);
    (0..3).for_each(|n| flock.wait_served(n));
    assert!(flock.pages(0, "one").expect("its page")[0].contains("my own"), "a container names its own ports");
    let logs = flock.cluster.nodes[0].run(&["logs", "shop/web"]);
    assert_eq!(text(&logs.stdout).matches("serving ").count(), 3, "from every node: {}", text(&logs.stdout));

    let before = flock.running();
    assert_eq!(before.len(), 4);
    let busy = flock.cluster.nodes.iter().position(|node| rows.iter().any(|row| row["node"] == node.name.as_str()));
    let busy = busy.expect("a node with a container");
    flock.cluster.kill_agent(busy);
    assert_eq!(flock.running(), before, "containers outlive their agent");
    flock.cluster.start_agent(busy);
    flock.cluster.wait_for_all_alive();
    until("all to be adopted", PATIENCE, || {
        let after = flock.cluster.wait_ready(busy, 4);
        let running = flock.running();
        if running == before { Ok(()) } else { Err(format!("{running:?} {}", Value::from(after))) }
    });
    flock.wait_served(busy);
    let logs = flock.cluster.nodes[busy].run(&["logs", "shop/web"]);
    assert_eq!(text(&logs.stdout).matches("serving ").count(), 3, "across the agent's restart");

    let (id, _) = before.first().and_then(|line| line.split_once(' ')).expect("a container");
    docker(&["kill", id]).expect("docker kill");
    until("the killed container to run again", PATIENCE, || {
        let rows = flock.cluster.ps(0)?;
        let again = rows.iter().any(|r| r["restarts"].as_u64().unwrap_or(0) > 0 && r["ready"] == true);
        if again { Ok(()) } else { Err(Value::from(rows).to_string()) }
    });

    assert!(flock.cluster.nodes[0].run(&["rm", "shop"]).status.success());
    until("no container to be left", PATIENCE, || {
        let left = containers(&flock.label);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

/// What a container is told of names, and what it hears when it asks for another service of its stack by its bare name.
const ASKING: &str = r#"
services:
  asker:
    image: ${IMAGE}
    command:
      - /bin/sh
      - -c
      - |
        cat /etc/resolv.conf > /tmp/index.html
        until nslookup db 2>&1 | grep . > /tmp/answer && grep -q Name: /tmp/answer; do sleep 0.2; done
        cat /tmp/answer >> /tmp/index.html
        exec httpd -f -p 8080 -h /tmp
    ports:
      - target: 8080
        name: http
    stop_grace_period: 1s
    x-dunlin:
      healthcheck:
        http:
          port: http
          path: /index.html
        interval: 500ms
  db:
    image: ${IMAGE}
    command: [/bin/httpd, -f, -p, "8080"]
    ports:
      - target: 8080
        name: http
    stop_grace_period: 1s
"#;

#[test]
fn a_container_asks_its_node_for_bare_names() {
    // One agent only: there is one port 53 on the engine's network.
    let options = ["--workload-dns", "auto"];
    let Some(flock) = Flock::start_with("a_container_asks_its_node_for_bare_names", 1, &options) else { return };
    let compose = ASKING.replace("${IMAGE}", &flock.image.name);
    let deployed = flock.cluster.deploy(0, &compose, &["--wait"]);
    assert!(deployed.status.success(), "{} {}", text(&deployed.stdout), text(&deployed.stderr));
    let page = flock.pages(0, "asker").expect("its page").concat();
    let bridge = page.lines().find_map(|line| line.strip_prefix("nameserver ")).expect("a name server");
    assert!(page.contains("search shop.dunlin.internal"), "{page}");
    assert!(page.contains("ndots:1") && page.contains("timeout:1"), "{page}");
    assert!(page.contains(&format!("Address:\t{bridge}:53")), "this node's server answered: {page}");
    assert!(page.contains("db.shop.dunlin.internal"), "{page}");
}

#[test]
fn an_image_that_is_nowhere_is_told_with_the_reason() {
    let Some(flock) = Flock::start("an_image_that_is_nowhere_is_told_with_the_reason") else { return };
    // Port 9 of a loopback address: nobody serves images there.
    let compose = "services: {lost: {image: '127.0.0.1:9/dunlin-test/none:1'}}";
    assert!(flock.cluster.deploy(0, compose, &[]).status.success());
    until("the reason", PATIENCE, || {
        let said = Value::from(flock.cluster.ps(1)?).to_string();
        if said.contains("is not on this node and could not be pulled") { Ok(()) } else { Err(said) }
    });
    assert_eq!(containers(&flock.label), [""; 0]);
}
