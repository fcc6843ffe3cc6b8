//! `dunlin sim from-cluster`: the flock that runs, as the beginning of a simulation.
//!
//! It reads through the agent's API and changes nothing there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use dunlin_core::query::{Flock, FlockNode, FlockService};
use dunlin_gossip::model::{ServiceName, StackName};
use dunlin_sim::scenario::{parse, quoted, service_text};
use serde::Serialize;
use serde_json::Value;

use super::sim_init::write;
use super::{Done, sim};
use crate::args::SimFlock;
use crate::client::Client;
use crate::failure::Failure;
use crate::render;

#[derive(Serialize)]
struct Row {
    file: PathBuf,
    nodes: usize,
    zones: BTreeMap<char, String>,
    services: Vec<String>,
    left_out: Vec<String>,
}

pub(super) fn run(client: &Client, args: &SimFlock) -> Done {
    let flock: Flock = client.get("flock")?;
    let status: Value = client.get("status")?;
    let mut draft = Draft::new(flock, &status)?;
    let text = draft.text(args)?;
    let file = args.out.clone();
    let name = file.display().to_string();
    parse(&name, &text).map_err(|e| Failure::failed(format!("what was made of the flock cannot be read: {e}")))?;
    write(&file, &text, args.force)?;
    draft.left_out.iter().for_each(|what| eprintln!("left out: {what}"));
    if !args.run {
        let row = draft.row(file);
        if args.json {
            render::json(&row)?;
        } else {
            let (nodes, services) = (row.nodes, row.services.len());
            render::print_line(&format!(
                "{name}: {nodes} nodes, {services} services; read it, then\n  dunlin sim run {name} --report out"
            ))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    sim::run_file(&name, args.seeds.as_deref(), args.report.as_deref(), args.json)
}

/// What is known of the flock.
struct Draft {
    nodes: Vec<FlockNode>,
    services: Vec<(ServiceName, FlockService)>,
    /// The zones' names; their letters are their places.
    zones: Vec<String>,
    /// One-way times that this node has measured, in microseconds: inside its zone, and to others.
    near: Vec<u64>,
    far: Vec<u64>,
    left_out: Vec<String>,
}

impl Draft {
    fn new(flock: Flock, status: &Value) -> Result<Self, Failure> {
        let mut left_out = Vec::new();
        let (up, down): (Vec<_>, Vec<_>) = flock.nodes.into_iter().partition(|node| node.up);
        left_out.extend(down.iter().map(|node| format!("node {}: it is not there", node.name)));
        let tainted = up.iter().filter(|node| !node.taints.is_empty());
        left_out.extend(tainted.map(|node| format!("taints of node {}: {}", node.name, node.taints.join(", "))));
        if up.is_empty() {
            return Err(Failure::failed("the agent that answers knows of no node that is there, not even itself"));
        }
        let zone = |node: &FlockNode| node.labels.get("zone").cloned().unwrap_or_default();
        let zones: Vec<String> = up.iter().map(zone).collect::<BTreeSet<_>>().into_iter().collect();
        if zones.len() > 26 {
            return Err(Failure::failed(format!("the flock has {} zones; a simulation has 26 at most", zones.len())));
        }
        let over = flock.services.iter().filter(|service| service.over);
        left_out.extend(over.map(|service| format!("job {}/{}: it is over", service.stack, service.name)));
        let stacks: BTreeSet<&StackName> = flock.services.iter().map(|service| &service.stack).collect();
        let is_one = stacks.len() == 1;
        let wanted: Vec<FlockService> = flock.services.iter().filter(|service| !service.over).cloned().collect();
        let services = wanted.into_iter().map(|service| renamed(service, is_one)).collect::<Result<Vec<_>, _>>()?;
        let (near, far) = measured(status, &up);
        Ok(Self { nodes: up, services, zones, near, far, left_out })
    }

    fn text(&mut self, args: &SimFlock) -> Result<String, Failure> {
        let kills = self.kills(args)?;
        let names: Vec<&str> = self.zones.iter().map(String::as_str).collect();
        let zones = names.iter().enumerate().map(|(n, name)| format!("zone-{} is {}", letter(n), shown(name)));
        let mut text = format!(
            "# Made by `dunlin sim from-cluster` of the flock that runs. All keys: `Scenario files` in the book.\n# {}.\n\
             name: flock\nabout: \"the flock as it is, and a failure\"\nstart: running\n\
             zones: {{count: {}, latency: {}}}   # between zones: {}\n\
             network: {{latency: {}}}   # inside a zone: {}\nnodes:\n",
            zones.collect::<Vec<_>>().join(", "),
            self.zones.len(),
            table(&self.far, "metro"),
            source(&self.far),
            table(&self.near, "lan"),
            source(&self.near),
        );
        for node in &self.nodes {
            text.push_str(&format!("  - {}\n", self.node(node)));
        }
        text.push_str(
            "# What the services run is not simulated. A process starts in 20 ms and is ready after 50 more, unless a line\n\
             # says otherwise: `start: 2s, ready: 5s, stop: 1s`. Measure yours. `on` is where replicas run now.\n",
        );
        text.push_str(if self.services.is_empty() { "services: []\n" } else { "services:\n" });
        for (name, service) in &self.services {
            let line = service_text(name, service.service.clone(), service.rollout, self.on(service));
            text.push_str(&format!("  - {line}\n"));
        }
        let end = 150;
        text.push_str(&format!(
            "timeline:\n{}{kills}  - {{at: 80s, restart: kept-disk}}\nsettle: 60s\nend: {end}s\n",
            self.orders()
        ));
        Ok(text)
    }

    /// What is lost in the simulation.
    fn kills(&self, args: &SimFlock) -> Result<String, Failure> {
        let zone = args.kill_zone.as_ref().map(|name| {
            let found = self.zones.iter().position(|zone| zone == name);
            let known: Vec<&str> = self.zones.iter().map(|zone| shown(zone)).collect();
            found.ok_or_else(|| {
                Failure::usage(format!("there is no zone {name}"), format!("the zones are {}", known.join(", ")))
            })
        });
        if let Some(number) = zone.transpose()? {
            return Ok(format!("  - {{at: 20s, crash-hosts: zone-{}}}\n", letter(number)));
        }
        let number = |name: &String| {
            let found = self.nodes.iter().position(|node| node.name == *name);
            found.ok_or_else(|| Failure::usage(format!("there is no node {name} that is up"), "dunlin nodes"))
        };
        let numbers = args.kill.iter().map(number).collect::<Result<Vec<_>, _>>()?;
        let what = if numbers.is_empty() { "1".to_owned() } else { format!("{numbers:?}") };
        Ok(format!("  - {{at: 20s, crash-hosts: {what}}}\n"))
    }

    /// What is ordered of nodes now.
    fn orders(&self) -> String {
        let those = |is: fn(&FlockNode) -> bool| {
            let numbered = self.nodes.iter().enumerate().filter(move |(_, node)| is(node));
            numbered.map(|(number, _)| number).collect::<Vec<_>>()
        };
        let line = |word: &str, hosts: Vec<usize>| {
            if hosts.is_empty() { String::new() } else { format!("  - {{at: 2s, {word}: {hosts:?}}}\n") }
        };
        line("cordon", those(|node| node.cordoned && !node.drained)) + &line("drain", those(|node| node.drained))
    }

    fn node(&self, node: &FlockNode) -> String {
        let zone = node.labels.get("zone").cloned().unwrap_or_default();
        let number = self.zones.iter().position(|known| *known == zone).unwrap_or(0);
        let mut parts = vec![
            format!("name: {}, zone: {}", quoted(&node.name), letter(number)),
            format!("cpu-milli: {}, memory: {}MiB", node.cpu_milli, node.memory_bytes >> 20),
        ];
        parts.extend((node.pids > 0).then(|| format!("pids: {}", node.pids)));
        parts.extend((node.disk_bytes > 0).then(|| format!("disk: {}MiB", node.disk_bytes >> 20)));
        if !node.devices.is_empty() {
            parts.push(format!("devices: {}", quoted(&node.devices)));
        }
        if !node.labels.is_empty() {
            parts.push(format!("labels: {}", quoted(&node.labels)));
        }
        format!("{{{}}}", parts.join(", "))
    }

    /// The hosts of a service's replicas, from the first up to the first that runs nowhere.
    fn on(&self, service: &FlockService) -> Vec<u32> {
        let number = |name: &String| self.nodes.iter().position(|node| node.name == *name);
        let places = (1..).map_while(|slot| service.on.get(&slot)).map_while(number);
        places.filter_map(|number| u32::try_from(number).ok()).collect()
    }

    fn row(&self, file: PathBuf) -> Row {
        Row {
            file,
            nodes: self.nodes.len(),
            zones: self.zones.iter().enumerate().map(|(n, name)| (letter(n), name.clone())).collect(),
            services: self.services.iter().map(|(name, _)| name.to_string()).collect(),
            left_out: self.left_out.clone(),
        }
    }
}

/// A service under the name that it has in the simulator's one stack; what it says of others follows.
fn renamed(mut service: FlockService, is_one: bool) -> Result<(ServiceName, FlockService), Failure> {
    let name = |stack: &StackName, name: &ServiceName| {
        let text = if is_one { name.to_string() } else { format!("{stack}-{name}") };
        ServiceName::new(&text).map_err(|e| Failure::failed(format!("{stack}/{name} has no name in a simulation: {e}")))
    };
    for affinity in &mut service.service.spec.placing.affinities {
        affinity.service = name(affinity.stack.as_ref().unwrap_or(&service.stack), &affinity.service)?;
        affinity.stack = None;
    }
    Ok((name(&service.stack, &service.name)?, service))
}

/// One-way times from this node to others in its zone, and to those in other zones.
fn measured(status: &Value, nodes: &[FlockNode]) -> (Vec<u64>, Vec<u64>) {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let zone = |name: &str| nodes.iter().find(|node| node.name == name).map(|node| node.labels.get("zone"));
    let own = zone(&text(status, "name"));
    let (mut near, mut far) = (Vec::new(), Vec::new());
    for peer in status.get("peers").and_then(Value::as_array).into_iter().flatten() {
        let Some(rtt) = peer.get("rtt_us").and_then(Value::as_u64) else { continue };
        let is_near = zone(&text(peer, "node")) == own;
        if is_near { &mut near } else { &mut far }.push((rtt / 2).max(1));
    }
    near.sort_unstable();
    far.sort_unstable();
    (near, far)
}

/// Times as a scenario has them: at most nine of them, at evenly spaced quantiles.
fn table(times: &[u64], else_: &str) -> String {
    let Some(last) = times.len().checked_sub(1) else { return else_.to_owned() };
    let all: Vec<String> = (0..=8).filter_map(|n| times.get(last * n / 8)).map(|us| format!("{us}us")).collect();
    format!("[{}]", all.join(", "))
}

fn source(times: &[u64]) -> String {
    match times.len() {
        0 => "a guess".to_owned(),
        1 => "half of one round trip, as the agent measured it".to_owned(),
        n => format!("half of {n} round trips, as the agent measured them"),
    }
}

fn letter(zone: usize) -> char {
    char::from(b'a' + u8::try_from(zone).unwrap_or(25).min(25))
}

/// A zone's name, for people.
fn shown(zone: &str) -> &str {
    if zone.is_empty() { "(none)" } else { zone }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;
    use serde_json::json;

    #[derive(clap::Parser)]
    struct Typed {
        #[command(flatten)]
        flock: SimFlock,
    }

    fn typed(words: &[&str]) -> SimFlock {
        Typed::try_parse_from(["from-cluster"].iter().chain(words)).map(|typed| typed.flock).expect("known options")
    }

    fn node(name: &str, zone: Option<&str>) -> FlockNode {
        FlockNode {
            name: name.to_owned(),
            up: true,
            labels: zone.map(|zone| ("zone".to_owned(), zone.to_owned())).into_iter().collect(),
            cpu_milli: 4_000,
            memory_bytes: 8 << 30,
            pids: 0,
            disk_bytes: 0,
            devices: Vec::new(),
            cordoned: false,
            drained: false,
            taints: Vec::new(),
        }
    }

    /// A service of a Compose file, as a flock has it.
    fn service(stack: &str, more: &str) -> FlockService {
        let text = format!("services: {{web: {{image: x, {more}}}}}");
        let project = super::super::deploy::parse("c", &text, &|_| None).expect("it can be read");
        let (name, service) = project.services.into_iter().next().expect("one");
        let stack = StackName::new(stack).expect("a name");
        FlockService { stack, name, service, rollout: Default::default(), over: false, on: BTreeMap::new() }
    }

    #[test]
    fn a_flock_becomes_a_scenario_and_what_cannot_is_told() {
        let mut nodes =
            vec![node("a1", Some("attic")), node("c1", Some("cellar")), node("c2", Some("cellar")), node("x", None)];
        nodes[1].drained = true;
        nodes[2].taints = vec!["old:NoSchedule".to_owned()];
        nodes[3].up = false;
        let mut shop = service("shop", "deploy: {replicas: 2}");
        shop.on = [(1, "c2".to_owned()), (2, "x".to_owned())].into();
        let blog = service("blog", "x-dunlin: {affinity: [{service: shop/web, anti: true}]}");
        let done = FlockService { over: true, ..service("done", "deploy: {mode: replicated-job}") };
        let flock = Flock { nodes, services: vec![blog, done, shop] };
        let peer = |name: &str, rtt: u64| json!({"node": name, "rtt_us": rtt});
        let status =
            json!({"name": "c1", "peers": [peer("a1", 9_000), peer("c2", 400), {"node": "x", "rtt_us": null}]});
        let mut draft = Draft::new(flock, &status).expect("a flock");
        let text = draft.text(&typed(&["--kill-zone", "attic"])).expect("there is such a zone");
        let scenario = parse("flock", &text).expect(&text);
        assert_eq!((scenario.hosts, scenario.zones.count), (3, 2), "{text}");
        for part in [
            "zone-a is attic, zone-b is cellar",
            "latency: [4500us",
            "latency: [200us",
            "drain: [1]",
            "crash-hosts: zone-a",
            "name: shop-web, replicas: 2, on: [2],",
            "name: blog-web",
            "\"service\":\"shop-web\",\"stack\":null",
        ] {
            assert!(text.contains(part), "no {part}: {text}");
        }
        let told = draft.left_out.join("; ");
        assert!(told.contains("node x") && told.contains("old:NoSchedule") && told.contains("job done/web"), "{told}");
        let unknown = draft.text(&typed(&["--kill", "x"])).expect_err("it is not up");
        assert!(format!("{unknown:?}").contains("no node x"), "{unknown:?}");
    }

    #[test]
    fn a_flock_without_zones_and_links_is_one_zone_with_guesses() {
        let flock = Flock { nodes: vec![node("n1", None)], services: Vec::new() };
        let mut draft = Draft::new(flock, &json!({"name": "n1"})).expect("a flock");
        let text = draft.text(&typed(&[])).expect("a scenario");
        assert!(
            text.contains("zone-a is (none)") && text.contains("a guess") && text.contains("services: []"),
            "{text}"
        );
        parse("flock", &text).expect(&text);
        assert!(Draft::new(Flock { nodes: Vec::new(), services: Vec::new() }, &json!({})).is_err());
    }
}
