//! `dunlin dns`: what names answer and why, all of them as a zone file, and a server of made-up names to measure.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::time::Duration;

use dunlin_dns::{DnsConfig, DnsServer};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{NodeName, Protocol, PublishedPort, Reach, ServiceKey, ServiceName, Slot, StackName};
use dunlin_gossip::rng::Seed;
use dunlin_names::{Instance, NameChange};
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use super::Done;
use super::listing::{list, text};
use crate::args::{BenchServer, Dns, DnsQuery};
use crate::client::{Client, percent};
use crate::failure::Failure;
use crate::render;
use crate::render::table::Table;

pub(super) fn run(client: &Client, args: &Dns) -> Done {
    match args {
        Dns::Query(args) => query(client, args),
        Dns::Export { json } => export(client, *json),
        Dns::BenchServer(args) => bench(args),
    }
}

fn query(client: &Client, args: &DnsQuery) -> Done {
    let answer: Value = client.get(&format!("dns?name={}", percent(&args.name)))?;
    if args.json {
        render::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let records = list(&answer["records"]);
    let standing = match (text(&answer, "standing").as_str(), records.is_empty()) {
        ("exists", true) => "exists, without records (NODATA)",
        ("exists", false) => "exists",
        ("nothing", _) => "does not exist (NXDOMAIN)",
        ("forwarded", _) => "lies outside the zone: it is asked of the resolvers of --dns-forward",
        _ => "lies outside the zone: REFUSED; `dunlin agent --dns-forward ADDR` would forward it",
    };
    render::print_line(&format!("{} {standing}", text(&answer, "name")))?;
    for record in records {
        render::print_line(record.as_str().unwrap_or_default())?;
    }
    if answer["service"].is_null() {
        return Ok(ExitCode::SUCCESS);
    }
    render::print_line(&format!("\nallocations of {}:", text(&answer, "service")))?;
    let mut table = Table::new(&["REPLICA", "NODE", "ADDRESS", "PORTS", "ANSWERED", "WHY NOT"]);
    for row in list(&answer["instances"]) {
        let address = row["address"].as_str().unwrap_or("-").to_owned();
        let answered = if row["answered"] == true { "yes" } else { "no" };
        let ports: Vec<&str> = list(&row["ports"]).iter().filter_map(Value::as_str).collect();
        table.row(vec![
            text(row, "replica"),
            text(row, "node"),
            address,
            ports.join(","),
            answered.to_owned(),
            text(row, "why_not"),
        ]);
    }
    table.print("there are none: `dunlin ps` tells what waits, and why")?;
    Ok(ExitCode::SUCCESS)
}

fn export(client: &Client, as_json: bool) -> Done {
    let lines = BufReader::new(client.stream("dns/zone")?).lines();
    let mut records = Vec::new();
    for line in lines {
        let line = line.map_err(|error| Failure::failed(format!("the zone was cut off: {error}; try again")))?;
        match as_json {
            true => records.push(line),
            false => render::print_line(&line)?,
        }
    }
    if as_json {
        render::json(&json!({ "records": records }))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn bench(args: &BenchServer) -> Done {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    runtime.block_on(serve(args))
}

/// The way of every change is an agent's: a statement of the core, then a snapshot.
async fn serve(args: &BenchServer) -> Done {
    let config = DnsConfig::new(vec![args.listen], "dunlin.internal", "bench", Seed(1));
    let server = DnsServer::start(config).map_err(|error| Failure::failed(error.to_string()))?;
    let node = NodeName::new("bench").map_err(|error| Failure::failed(error.to_string()))?;
    let address = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let mut words = vec![NameChange::Node { node: NodeId([1; 16]), name: node, address, labels: BTreeMap::new() }];
    for number in 0..args.names {
        words.push(service(number, 0)?);
    }
    server.apply(&words);
    drop(words);
    for at in server.addresses() {
        render::print_line(&format!("{} names at {at}", args.names))?;
    }
    if args.changes_per_s == 0 {
        return std::future::pending().await;
    }
    let mut beat = tokio::time::interval(Duration::from_secs(1) / args.changes_per_s);
    beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut round = 1_u32;
    loop {
        for number in 0..args.names {
            beat.tick().await;
            server.apply(&[service(number, round)?]);
        }
        round = round.wrapping_add(1);
    }
}

/// The service of a number, with one address, another in each round.
fn service(number: u32, round: u32) -> Result<NameChange, Failure> {
    let failed = |error: dunlin_gossip::model::NameError| Failure::failed(error.to_string());
    let stack = StackName::new("default").map_err(failed)?;
    let service = ServiceName::new(&format!("s{number}")).map_err(failed)?;
    let port = PublishedPort {
        name: "http".to_owned(),
        protocol: Protocol::Tcp,
        inner: 80,
        outer: 8_080,
        reach: Reach::Flock,
    };
    let [_, b, c, d] = number.to_be_bytes();
    let address = Ipv4Addr::new(if round.is_multiple_of(2) { 10 } else { 11 }, b, c, d);
    let instance =
        Instance { slot: Slot::Number(1), node: NodeId([1; 16]), address: address.into(), ports: vec![port] };
    Ok(NameChange::Service { service: ServiceKey { stack, service }, instances: vec![instance] })
}
