//! The same zone in Knot, or in NSD where there is no Knot: every answer compared, in every section and flag.
//!
//! Permitted differences, each for a reason:
//!
//! * ANY: we answer with one type (RFC 8482 section 4.1), Knot with all.
//! * Names outside the zone: both refuse; reverse names of nodes are ours to answer, and not part of the zone.
//! * Names with `rr`, and ports below `nearest` and labels, are not exported: they are not asked for.
//! * Additional records: which ones are helpful is each server's own choice; ours must be true in the other zone.
//! * NS and additional records that Knot adds to the authority section: none, as neither adds any.
//! * EDNS: each offers its own payload size.

use std::time::Duration;

use dunlin_gossip::rng::{Rng, Seed};
use dunlin_names::NameChange;
use hickory_proto::rr::Record;

use crate::clients::{Daemon, Folder, free_port, has, run};
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

#[tokio::test]
async fn answers_are_those_of_another_server_with_the_same_zone() {
    let test = "answers_are_those_of_another_server_with_the_same_zone";
    if !has(test, "knotd") {
        return;
    }
    let (server, at) = server().await;
    server.apply(&[NameChange::Service { service: service(), instances: instances(5) }]);
    let records = server.zone().export();
    let folder = Folder::new("knot");
    let text: String = records.iter().map(|record| format!("{record}\n")).collect();
    let zone = folder.write("zone", &text);
    let port = free_port();
    let config = format!(
        "server:\n  rundir: {0}\n  listen: 127.0.0.1@{port}\ndatabase:\n  storage: {0}\nzone:\n  - domain: dunlin.internal\n    \
         file: {zone}\n    zonefile-sync: -1\n    journal-content: none\n    semantic-checks: soft\n",
        folder.0.display()
    );
    let config = folder.write("knot.conf", &config);
    let _knot = Daemon::start("knotd", &["-c", &config]);
    let peer = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    let (ours, theirs) = (client().await, client().await);
    loop {
        theirs.send_to(&Query::of("dunlin.internal", SOA).bytes(), peer).await.unwrap();
        let mut buffer = [0; 1_500];
        let read = tokio::time::timeout(Duration::from_millis(200), theirs.recv(&mut buffer)).await;
        if read.is_ok_and(|read| read.is_ok()) && buffer[3] & 15 == 0 {
            break;
        }
        if tokio::time::Instant::now() > deadline {
            panic!("knotd does not come up: {}", run("knotc", &["-c", &config, "conf-check"]).await);
        }
    }
    // What was answered late, while we were asking again.
    let theirs = {
        drop(theirs);
        client().await
    };
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
        0 => name = format!("{}.{name}", pick(rng, &["nope", "x.y", "_udp"])),
        1 => name = name.split_once('.').map_or(String::new(), |(_, above)| above.to_owned()),
        2 => name = name.to_uppercase(),
        3 => name = format!("none{}.shop.dunlin.internal", rng.below(9)),
        _ => {}
    }
    // Above the zone, nothing is ours.
    if !name.to_lowercase().trim_end_matches('.').ends_with("dunlin.internal") {
        name = "dunlin.internal".to_owned();
    }
    // What exists below these here is not exported; see the list above.
    let selects = name.to_lowercase();
    if selects.starts_with("_udp.") || selects.contains("_udp.nearest") {
        name = WEB.to_owned();
    }
    let flags = *pick(rng, &[0, RD, CD, RD | CD, AD, Z]);
    let query = Query::of(&name, *pick(rng, &TYPES)).flags(flags);
    match rng.below(3) {
        0 => query,
        1 => query.edns(Edns::default()),
        _ => query.edns(Edns { payload: 1_232, flags: 0x8000, ..Edns::default() }),
    }
}
