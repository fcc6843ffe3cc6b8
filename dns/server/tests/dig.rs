//! The server as clients see it: raw queries over UDP and TCP, checked by an independent parse of the header.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panic")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dunlin_dns::{DnsConfig, DnsServer};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{NodeName, Protocol, PublishedPort, Reach, ServiceKey, ServiceName, Slot, StackName};
use dunlin_gossip::rng::Seed;
use dunlin_names::{Instance, NameChange};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;

fn service() -> ServiceKey {
    ServiceKey { stack: StackName::new("shop").unwrap(), service: ServiceName::new("web").unwrap() }
}

fn instances(n: u8) -> Vec<Instance> {
    let port = |outer| PublishedPort {
        name: "http".to_owned(),
        protocol: Protocol::Tcp,
        inner: 80,
        outer,
        reach: Reach::Flock,
    };
    (1..=n)
        .map(|i| Instance {
            slot: Slot::Number(i.into()),
            node: NodeId([i; 16]),
            address: IpAddr::from([10, 0, 0, i]),
            ports: vec![port(8_000 + u16::from(i))],
        })
        .collect()
}

async fn server() -> (DnsServer, SocketAddr) {
    let config = DnsConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        domain: "dunlin.internal".to_owned(),
        cluster: "c".to_owned(),
        ttl: 1,
        seed: Seed(7),
    };
    let server = DnsServer::start(config).await.unwrap();
    let address = server.addresses()[0];
    server.apply(&[
        NameChange::Node {
            node: NodeId([1; 16]),
            name: NodeName::new("n1").unwrap(),
            address: Some(IpAddr::from([10, 0, 0, 1])),
            labels: BTreeMap::new(),
        },
        NameChange::Service { service: service(), instances: instances(2) },
    ]);
    (server, address)
}

struct Query {
    name: &'static str,
    kind: u16,
    opcode: u8,
    /// EDNS version and payload size.
    edns: Option<(u8, u16)>,
}

impl Query {
    fn of(name: &'static str, kind: u16) -> Self {
        Self { name, kind, opcode: 0, edns: None }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = vec![0xab, 0xcd, self.opcode << 3, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(self.edns.is_some())];
        for label in self.name.split('.').filter(|l| !l.is_empty()) {
            out.push(u8::try_from(label.len()).unwrap());
            out.extend_from_slice(label.as_bytes());
        }
        out.push(0);
        out.extend_from_slice(&self.kind.to_be_bytes());
        out.extend_from_slice(&[0, 1]);
        if let Some((version, payload)) = self.edns {
            out.extend_from_slice(&[0, 0, 41]);
            out.extend_from_slice(&payload.to_be_bytes());
            out.extend_from_slice(&[0, version, 0, 0, 0, 0]);
        }
        out
    }
}

/// Response code, AA, TC, and the counts of answers, authorities and additional records.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    code: u8,
    aa: bool,
    tc: bool,
    counts: [u16; 3],
}

fn head(reply: &[u8]) -> Head {
    assert_eq!(&reply[..2], &[0xab, 0xcd]);
    let count = |at: usize| u16::from_be_bytes([reply[at], reply[at + 1]]);
    Head { code: reply[3] & 15, aa: reply[2] & 4 != 0, tc: reply[2] & 2 != 0, counts: [count(6), count(8), count(10)] }
}

async fn udp(server: SocketAddr, query: &Query) -> Head {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&query.bytes(), server).await.unwrap();
    let mut buffer = [0; 4096];
    let received = tokio::time::timeout(Duration::from_secs(5), socket.recv(&mut buffer)).await;
    head(&buffer[..received.expect("an answer").unwrap()])
}

fn expect(code: u8, aa: bool, counts: [u16; 3]) -> Head {
    Head { code, aa, tc: false, counts }
}

#[tokio::test]
async fn names_answer_with_the_right_code_and_sections() {
    let (server, at) = server().await;
    let web = "web.shop.dunlin.internal";
    assert_eq!(udp(at, &Query::of(web, A)).await, expect(0, true, [2, 0, 0]));
    assert_eq!(udp(at, &Query::of("WeB.sHoP.dunlin.INTERNAL", A)).await, expect(0, true, [2, 0, 0]));
    assert_eq!(udp(at, &Query::of(web, SRV)).await, expect(0, true, [2, 0, 2]));
    assert_eq!(udp(at, &Query::of(web, AAAA)).await, expect(0, true, [0, 1, 0]), "NODATA carries the SOA");
    assert_eq!(udp(at, &Query::of("no.shop.dunlin.internal", A)).await, expect(3, true, [0, 1, 0]));
    assert_eq!(udp(at, &Query::of("example.org", A)).await, expect(5, false, [0, 0, 0]), "not ours: REFUSED");
    assert_eq!(udp(at, &Query::of("dunlin.internal", 6)).await, expect(0, true, [1, 0, 0]));
    assert_eq!(udp(at, &Query::of(web, 1000)).await, expect(0, true, [0, 1, 0]), "RFC 8906 8.1.2");
    server.apply(&[NameChange::Service { service: service(), instances: vec![] }]);
    assert_eq!(udp(at, &Query::of(web, A)).await, expect(0, true, [0, 1, 0]));
    server.apply(&[NameChange::ServiceGone(service())]);
    assert_eq!(udp(at, &Query::of(web, A)).await, expect(3, true, [0, 1, 0]));
}

#[tokio::test]
async fn edns_and_opcodes_follow_rfc_8906() {
    let (_server, at) = server().await;
    let web = "web.shop.dunlin.internal";
    let with = |opcode, edns| Query { opcode, edns, ..Query::of(web, A) };
    assert_eq!(udp(at, &with(0, Some((0, 4096)))).await, expect(0, true, [2, 0, 1]), "an OPT comes back");
    assert_eq!(udp(at, &with(15, None)).await.code, 4, "unknown opcode: NOTIMP");
    let bad_version = udp(at, &with(0, Some((1, 4096)))).await;
    assert_eq!((bad_version.code, bad_version.counts), (0, [0, 0, 1]), "BADVERS is 16: low bits 0, rest in OPT");
}

#[tokio::test]
async fn what_does_not_fit_is_truncated_and_whole_over_tcp() {
    let (server, at) = server().await;
    server.apply(&[NameChange::Service { service: service(), instances: instances(100) }]);
    let query = Query::of("web.shop.dunlin.internal", A);
    let short = udp(at, &query).await;
    assert!(short.tc, "100 addresses do not fit into 512 bytes");

    let mut stream = TcpStream::connect(at).await.unwrap();
    let bytes = query.bytes();
    stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let length = tokio::time::timeout(Duration::from_secs(5), stream.read_u16()).await.unwrap().unwrap();
    let mut reply = vec![0; usize::from(length)];
    stream.read_exact(&mut reply).await.unwrap();
    assert_eq!(head(&reply), expect(0, true, [100, 0, 0]));
}

#[tokio::test]
async fn garbage_is_survived_and_a_taken_address_is_named() {
    let (_server, at) = server().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for garbage in [&b""[..], &[0xff; 11], &[0xff; 600], &[0; 12]] {
        socket.send_to(garbage, at).await.unwrap();
    }
    assert_eq!(udp(at, &Query::of("web.shop.dunlin.internal", A)).await.code, 0);
    let config = DnsConfig { listen: vec![at], domain: "d".to_owned(), cluster: "c".to_owned(), ttl: 1, seed: Seed(1) };
    let error = DnsServer::start(config).await.unwrap_err().to_string();
    assert!(error.contains(&at.to_string()) && error.contains("--dns"), "{error}");
}
