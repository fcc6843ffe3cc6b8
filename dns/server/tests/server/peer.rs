//! The same zone in Knot and in NSD: every answer compared, in every section and flag.
//!
//! Permitted differences, each for a reason:
//!
//! * ANY: we answer with one type (RFC 8482 section 4.1), Knot with all.
//! * Names outside the zone: both refuse; reverse names of nodes are ours to answer, and not part of the zone.
//! * Names with `rr`, and ports below `nearest` and labels, are not exported: they are not asked for.
//! * Additional records: which ones are helpful is each server's own choice; ours must be true in the other zone.
//! * NS records in the authority section of answers: none, as Knot adds none, and NSD is told not to (`minimal-responses`).
//! * EDNS: each offers its own payload size.

use std::net::SocketAddr;
use std::time::Duration;

use dunlin_dns::DnsServer;
use dunlin_gossip::rng::{Rng, Seed};
use dunlin_names::NameChange;
use dunlin_test_host::wait::until_async;
use hickory_proto::rr::Record;

use crate::clients::{Daemon, Folder, free_port, has};
use crate::wire::*;

/// Types that are asked for, with and without records here.
const TYPES: [u16; 12] = [A, AAAA, SRV, SOA, 2, 12, 16, 5, 15, 64, 65, 999];

fn sorted(records: &[Record]) -> Vec<String> {
    let mut texts: Vec<String> = records.iter().map(|record| record.to_string().to_lowercase()).collect();
    texts.sort();
    texts.dedup();
    texts
}

fn pick<'a, T>(rng: &mut Rng, from: &'a [T]) -> &'a T {
    rng.pick(from).expect("not empty")
}

/// A server of another project with our zone, once it answers; its process ends when it is dropped.
async fn peer(program: &str, args: &[&str], port: u16) -> (Daemon, SocketAddr) {
    let daemon = Daemon::start(program, args);
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    let probe = async || {
        // A socket for each question: what is answered late must not be taken for the next answer.
        let socket = client().await;
        let asked = socket.send_to(&Query::of("dunlin.internal", SOA).bytes(), at).await;
        let mut buffer = [0; 1_500];
        let read = tokio::time::timeout(Duration::from_millis(200), socket.recv(&mut buffer)).await;
        let is_up = asked.is_ok() && read.is_ok_and(|read| read.is_ok()) && buffer[3] & 15 == 0;
        if is_up { Ok(()) } else { Err(format!("{program} {args:?} does not serve the zone")) }
    };
    until_async(program, Duration::from_secs(30), probe).await;
    (daemon, at)
}

#[tokio::test]
async fn answers_are_those_of_knot_with_the_same_zone() {
    if !has("answers_are_those_of_knot_with_the_same_zone", "knotd") {
        return;
    }
    let folder = Folder::new("knot");
    let (server, at) = served().await;
    let zone = folder.write("zone", &zone_file(&server));
    let port = free_port();
    let config = format!(
        "server:\n  rundir: {0}\n  listen: 127.0.0.1@{port}\ndatabase:\n  storage: {0}\nzone:\n  - domain: dunlin.internal\n    \
         file: {zone}\n    zonefile-sync: -1\n    journal-content: none\n    semantic-checks: soft\n",
        folder.0.display()
    );
    let (_knot, peer) = peer("knotd", &["-c", &folder.write("knot.conf", &config)], port).await;
    compare(&server, at, peer).await;
}

#[tokio::test]
async fn answers_are_those_of_nsd_with_the_same_zone() {
    if !has("answers_are_those_of_nsd_with_the_same_zone", "nsd") {
        return;
    }
    let folder = Folder::new("nsd");
    let (server, at) = served().await;
    let zone = folder.write("zone", &zone_file(&server));
    let port = free_port();
    let config = format!(
        "server:\n  ip-address: 127.0.0.1@{port}\n  username: \"\"\n  chroot: \"\"\n  database: \"\"\n  pidfile: \"{0}/pid\"\n  \
         xfrdfile: \"{0}/xfrd\"\n  zonelistfile: \"{0}/list\"\n  zonesdir: \"{0}\"\n  xfrdir: \"{0}\"\n  rrl-ratelimit: 0\n  \
         minimal-responses: yes\n\
         remote-control:\n  control-enable: no\nzone:\n  name: dunlin.internal\n  zonefile: {zone}\n",
        folder.0.display()
    );
    let (_nsd, peer) = peer("nsd", &["-d", "-c", &folder.write("nsd.conf", &config)], port).await;
    compare(&server, at, peer).await;
}

async fn served() -> (DnsServer, SocketAddr) {
    let (server, at) = server().await;
    server.apply(&[NameChange::Service { service: service(), instances: instances(5) }]);
    (server, at)
}

fn zone_file(server: &DnsServer) -> String {
    server.zone().export().iter().map(|record| format!("{record}\n")).collect()
}

async fn compare(server: &DnsServer, at: SocketAddr, peer: SocketAddr) {
    let (records, text) = (server.zone().export(), zone_file(server));
    let (ours, theirs) = (client().await, client().await);
    let mut names: Vec<String> = records.iter().map(|record| record.name.to_string()).collect();
    names.dedup();
    let mut rng = Seed(8).rng();
    for round in 0..3_000 {
        let query = question(&mut rng, &names);
        let (a, b) = (exchange(&ours, at, &query.bytes()).await, exchange(&theirs, peer, &query.bytes()).await);
        let asked = format!("round {round}: {} type {} flags {:04x}", query.name, query.kind, query.flags);
        assert_eq!((a.code(), a.flags()), (b.code(), b.flags()), "{asked}\n{}\n{}", a.message, b.message);
        assert_eq!(a.message.queries, b.message.queries, "{asked}");
        if a.flags() & TC == 0 {
            assert_eq!(sorted(&a.message.answers), sorted(&b.message.answers), "{asked}");
            assert_eq!(sorted(&a.message.authorities), sorted(&b.message.authorities), "{asked}");
        }
        for helpful in sorted(&a.message.additionals) {
            assert!(
                text.to_lowercase().contains(helpful.split_whitespace().last().unwrap_or("?")),
                "{asked}: {helpful}"
            );
        }
        let edns = |reply: &Reply| {
            reply.message.edns.as_ref().map(|edns| (edns.version(), edns.flags().dnssec_ok, edns.flags().z))
        };
        assert_eq!(edns(&a), edns(&b), "{asked}");
    }
}

fn question(rng: &mut Rng, names: &[String]) -> Query {
    let mut name = pick(rng, names).clone();
    match rng.below(6) {
        0 => name = format!("{}.{name}", pick(rng, &["nope", "x.y", "_udp", "_nosuch._tcp", "_http._udp"])),
        1 => name = name.split_once('.').map_or(String::new(), |(_, above)| above.to_owned()),
        2 => name = name.to_uppercase(),
        3 => name = format!("none{}.shop.dunlin.internal", rng.below(9)),
        _ => {}
    }
    // Above the zone, nothing is ours.
    if !name.to_lowercase().trim_end_matches('.').ends_with("dunlin.internal") {
        name = "dunlin.internal".to_owned();
    }
    let flags = *pick(rng, &[0, RD, CD, RD | CD, AD, Z]);
    let query = Query::of(&name, *pick(rng, &TYPES)).flags(flags);
    match rng.below(3) {
        0 => query,
        1 => query.edns(Edns::default()),
        _ => query.edns(Edns { payload: 1_232, flags: 0x8000, ..Edns::default() }),
    }
}
