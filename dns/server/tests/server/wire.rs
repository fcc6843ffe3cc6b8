//! Questions as bytes, whatever they say, and answers as hickory reads them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dunlin_dns::{DnsConfig, DnsServer};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{NodeName, Protocol, PublishedPort, Reach, ServiceKey, ServiceName, Slot, StackName};
use dunlin_gossip::rng::Seed;
use dunlin_names::{Instance, NameChange};
use hickory_proto::op::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

pub(crate) const A: u16 = 1;
pub(crate) const SOA: u16 = 6;
pub(crate) const AAAA: u16 = 28;
pub(crate) const SRV: u16 = 33;
pub(crate) const ANY: u16 = 255;
pub(crate) const WEB: &str = "web.shop.dunlin.internal";

pub(crate) const RD: u16 = 0x0100;
pub(crate) const RA: u16 = 0x0080;
pub(crate) const Z: u16 = 0x0040;
pub(crate) const AD: u16 = 0x0020;
pub(crate) const CD: u16 = 0x0010;
pub(crate) const AA: u16 = 0x0400;
pub(crate) const TC: u16 = 0x0200;
pub(crate) const QR: u16 = 0x8000;

pub(crate) fn service() -> ServiceKey {
    ServiceKey { stack: StackName::new("shop").unwrap(), service: ServiceName::new("web").unwrap() }
}

pub(crate) fn instances(n: u8) -> Vec<Instance> {
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

pub(crate) fn config() -> DnsConfig {
    DnsConfig::new(vec!["127.0.0.1:0".parse().unwrap()], "dunlin.internal", "c", Seed(7))
}

pub(crate) async fn server() -> (DnsServer, SocketAddr) {
    started(config()).await
}

pub(crate) async fn started(config: DnsConfig) -> (DnsServer, SocketAddr) {
    let server = DnsServer::start(config).unwrap();
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

/// An OPT record.
#[derive(Clone)]
pub(crate) struct Edns {
    pub(crate) version: u8,
    pub(crate) payload: u16,
    pub(crate) flags: u16,
    pub(crate) options: Vec<u8>,
}

impl Default for Edns {
    fn default() -> Self {
        Self { version: 0, payload: 1_232, flags: 0, options: Vec::new() }
    }
}

/// A question.
#[derive(Clone)]
pub(crate) struct Query {
    pub(crate) name: String,
    pub(crate) kind: u16,
    pub(crate) class: u16,
    pub(crate) flags: u16,
    pub(crate) edns: Option<Edns>,
}

impl Query {
    pub(crate) fn of(name: &str, kind: u16) -> Self {
        Self { name: name.to_owned(), kind, class: 1, flags: 0, edns: None }
    }

    pub(crate) fn flags(self, flags: u16) -> Self {
        Self { flags, ..self }
    }

    pub(crate) fn edns(self, edns: Edns) -> Self {
        Self { edns: Some(edns), ..self }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let [high, low] = self.flags.to_be_bytes();
        let mut out = vec![0xab, 0xcd, high, low, 0, 1, 0, 0, 0, 0, 0, u8::from(self.edns.is_some())];
        for label in self.name.split('.').filter(|l| !l.is_empty()) {
            out.push(u8::try_from(label.len()).unwrap());
            out.extend_from_slice(label.as_bytes());
        }
        out.push(0);
        out.extend_from_slice(&self.kind.to_be_bytes());
        out.extend_from_slice(&self.class.to_be_bytes());
        if let Some(Edns { version, payload, flags, options }) = &self.edns {
            out.extend_from_slice(&[0, 0, 41]);
            out.extend_from_slice(&payload.to_be_bytes());
            out.extend_from_slice(&[0, *version]);
            out.extend_from_slice(&flags.to_be_bytes());
            out.extend_from_slice(&u16::try_from(options.len()).unwrap().to_be_bytes());
            out.extend_from_slice(options);
        }
        out
    }
}

/// An answer.
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    pub(crate) message: Message,
}

impl Reply {
    pub(crate) fn read(bytes: Vec<u8>) -> Self {
        let message = Message::from_vec(&bytes).unwrap_or_else(|error| panic!("{error}: {bytes:?}"));
        Self { bytes, message }
    }

    /// Flags, without the opcode and the code.
    pub(crate) fn flags(&self) -> u16 {
        u16::from_be_bytes([self.bytes[2], self.bytes[3]]) & !0x780f
    }

    pub(crate) fn code(&self) -> u16 {
        u16::from(self.message.metadata.response_code)
    }

    /// Code, and how many answers, authorities and additional records (without the OPT) there are.
    pub(crate) fn shape(&self) -> (u16, [usize; 3]) {
        let m = &self.message;
        (self.code(), [m.answers.len(), m.authorities.len(), m.additionals.len()])
    }
}

/// A client's socket, to which nothing was sent that it did not read.
pub(crate) async fn client() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

pub(crate) async fn exchange(socket: &UdpSocket, server: SocketAddr, bytes: &[u8]) -> Reply {
    socket.send_to(bytes, server).await.unwrap();
    let mut buffer = [0; 4_096];
    let received = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await;
    Reply::read(buffer[..received.expect("an answer").unwrap()].to_vec())
}

pub(crate) async fn udp(server: SocketAddr, query: &Query) -> Reply {
    exchange(&client().await, server, &query.bytes()).await
}

pub(crate) async fn send_tcp(stream: &mut TcpStream, bytes: &[u8]) {
    let mut framed = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await.unwrap();
}

pub(crate) async fn read_tcp(stream: &mut TcpStream) -> Option<Reply> {
    let length = tokio::time::timeout(Duration::from_secs(10), stream.read_u16()).await.expect("in time").ok()?;
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await.ok()?;
    Some(Reply::read(bytes))
}
