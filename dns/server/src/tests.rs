//! The quick path against the full one: whatever the quick one answers, the full one answers too, record by record.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64};

use arc_swap::ArcSwap;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{NodeName, Protocol, PublishedPort, Reach, ServiceKey, ServiceName, Slot, StackName};
use dunlin_gossip::rng::{Rng, Seed};
use dunlin_names::{Instance, MAX_PAYLOAD, NameChange, Zone};
use hickory_proto::op::Message;

use crate::cookie::Cookies;
use crate::gate::Network;
use crate::reply::{Client, Reply, Shared, is_proved, reply, slip};
use crate::tally::Tally;

/// A zone of services with 0 to 90 instances of both families, some without ports.
fn zone(rng: &mut Rng) -> Zone {
    let mut zone = Zone::new("dunlin.internal", "c", 1).seen_from(NodeId([1; 16]));
    for n in 0..4 {
        zone.apply(&NameChange::Node {
            node: NodeId([n; 16]),
            name: NodeName::new(&format!("n{n}")).unwrap(),
            address: Some(IpAddr::from([10, 0, 0, n])),
            labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
        });
    }
    for n in 0..40 {
        let service = ServiceKey {
            stack: StackName::new(["shop", "a-very-long-name-of-a-stack-indeed", "x"][n % 3]).unwrap(),
            service: ServiceName::new(&format!("s{n}")).unwrap(),
        };
        let count = rng.below(if n % 8 == 0 { 90 } else { 4 });
        let instances = (0..count).map(|i| instance(rng, i)).collect();
        zone.apply(&NameChange::Service { service, instances });
    }
    zone
}

fn instance(rng: &mut Rng, slot: u64) -> Instance {
    let draw = rng.below(60_000);
    let address = match rng.below(3) {
        0 => IpAddr::V6(Ipv6Addr::from(u128::from(draw))),
        _ => IpAddr::from([10, 1, u8::try_from(draw % 200).unwrap(), u8::try_from(draw / 300).unwrap()]),
    };
    let port = PublishedPort { name: "http".into(), protocol: Protocol::Tcp, inner: 80, outer: 1, reach: Reach::Flock };
    let ports = if rng.below(5) == 0 { vec![] } else { vec![port] };
    Instance { slot: Slot::Number(u32::try_from(slot).unwrap()), node: NodeId([1; 16]), address, ports }
}

fn question(rng: &mut Rng) -> Vec<u8> {
    let services = ["s0", "s1", "S2", "s3", "s5", "s8", "S16", "nope", "_tcp", "nearest"];
    let stacks = ["shop", "SHOP", "a-very-long-name-of-a-stack-indeed", "x", "node"];
    let tails = ["dunlin.internal", "DUNLIN.internal", "example.org", "internal"];
    let mut pick = |from: &[&str]| from[usize::try_from(rng.below(from.len() as u64)).unwrap()].to_owned();
    let name = format!("{}.{}.{}", pick(&services), pick(&stacks), pick(&tails[..]));
    let mut bytes = vec![1, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    bytes[2] = u8::from(rng.below(2) == 0);
    bytes[3] = [0, 0x10, 0x20, 0x30, 0x40][usize::try_from(rng.below(5)).unwrap()];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, [1, 28, 33, 255][usize::try_from(rng.below(4)).unwrap()], 0, 1]);
    if rng.below(2) == 0 {
        let payload = [0, 512, 600, 1_232, 4_096][usize::try_from(rng.below(5)).unwrap()];
        bytes.extend_from_slice(&[0, 0, 41]);
        bytes.extend_from_slice(&u16::to_be_bytes(payload));
        bytes.extend_from_slice(&[0, 0, [0, 0x80][usize::try_from(rng.below(2)).unwrap()], 0, 0, 0]);
        bytes[11] = 1;
    }
    // One in four is broken somewhere.
    if rng.below(4) == 0 {
        let at = usize::try_from(rng.below(bytes.len() as u64)).unwrap();
        bytes[at] = u8::try_from(rng.below(256)).unwrap();
    }
    if rng.below(16) == 0 {
        bytes.truncate(usize::try_from(rng.below(bytes.len() as u64)).unwrap());
    }
    if rng.below(16) == 0 {
        bytes.extend_from_slice(&[0; 3]);
    }
    bytes
}

/// An answer in a form in which neither order matters nor the letters of names (RFC 4343).
fn plain(bytes: &[u8]) -> (Vec<u8>, [Vec<String>; 4], Option<String>) {
    let message = Message::from_vec(bytes).unwrap();
    let sorted = |records: &[hickory_proto::rr::Record]| {
        let mut texts: Vec<String> = records.iter().map(|record| record.to_string().to_lowercase()).collect();
        texts.sort();
        texts
    };
    let queries = message.queries.iter().map(ToString::to_string).collect();
    let edns = message.edns.as_ref().map(ToString::to_string);
    let m = &message;
    (bytes[..12].to_vec(), [queries, sorted(&m.answers), sorted(&m.authorities), sorted(&m.additionals)], edns)
}

fn shared(zone: Zone, rng: &mut Rng) -> Shared {
    Shared {
        zone: ArcSwap::from_pointee(zone),
        knows_zone: AtomicBool::new(true),
        allow: Network::private(),
        cookies: Cookies::new(rng),
        forwarder: std::sync::OnceLock::new(),
        panics: AtomicU64::new(0),
    }
}

#[test]
fn who_asks_too_often_is_told_to_use_tcp_with_no_more_bytes_unless_its_cookie_proves_it() {
    let mut rng = Seed(6).rng();
    let shared = shared(Zone::new("dunlin.internal", "c", 1), &mut rng);
    let (here, there) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
    for _ in 0..20_000 {
        let bytes = question(&mut rng);
        let Some(told) = slip(&bytes) else { continue };
        assert!(told.len() <= bytes.len() && told[2] & 0x82 == 0x82 && told[6..12] == [0; 6], "{bytes:?}");
        assert_eq!(told[..2], bytes[..2]);
        assert_eq!(told[12..], bytes[12..told.len()]);
    }
    let mut asked = vec![
        1, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1, b'x', 0, 0, 1, 0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 28, 0, 10, 0, 24,
    ];
    asked.extend(shared.cookies.option([7; 8], here));
    assert!(is_proved(&shared, &asked, here) && !is_proved(&shared, &asked, there));
    assert!(!is_proved(&shared, &asked[..asked.len() - 1], here));
}

#[test]
fn the_quick_path_answers_as_the_full_one_or_not_at_all() {
    let mut rng = Seed(5).rng();
    let zone = zone(&mut rng);
    let shared = shared(zone.clone(), &mut rng);
    let client = Client { address: IpAddr::from([127, 0, 0, 1]), is_tcp: false };
    let (mut quick_ones, mut negative, mut left) = (0, 0, 0);
    for _ in 0..60_000 {
        let bytes = question(&mut rng);
        let mut room = [0; MAX_PAYLOAD as usize];
        let Some(quick) = zone.quick(&bytes, false, &mut rng, &mut room) else {
            left += 1;
            continue;
        };
        let Reply::Send(full) = reply(&shared, &bytes, client, &mut rng, &Tally::default()) else {
            panic!("the full path does not answer {bytes:?}");
        };
        let quick = &room[..quick.len];
        assert_eq!(plain(quick), plain(&full), "asked {bytes:?}");
        // Hickory repeats a name that differs in letters only; the quick path points to it.
        assert!(quick.len() <= full.len(), "asked {bytes:?}");
        quick_ones += 1;
        negative += usize::from(quick[7] == 0);
    }
    assert!(quick_ones > 1_000 && negative > 200 && left > 10_000, "{quick_ones} {negative} {left}");
    assert_eq!(shared.panics.into_inner(), 0);
}
