//! A resolver that others run, as this server asks it: over UDP from a new port each time, over TCP when an answer is cut,
//! with a memory of how it fared.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dunlin_names::{Fqdn, MAX_PAYLOAD};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::Name;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::cache::Key;

/// For one answer.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// A resolver that failed so often in a row is asked last for a while.
const PATIENT_WITH: u32 = 2;
const REST: Duration = Duration::from_secs(10);
/// Datagrams that answer another question, before an exchange is given up.
const STRANGERS: usize = 16;
const PORT: u16 = 53;

/// Where to ask for names, and for which: `192.0.2.53`, `192.0.2.53:5353`, `corp.example=10.0.0.53`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upstream {
    /// Only for names in this zone; none: for all that no other takes.
    pub zone: Option<String>,
    /// Where.
    pub address: SocketAddr,
}

impl FromStr for Upstream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (zone, address) = text.split_once('=').map_or((None, text), |(zone, address)| (Some(zone), address));
        let wrong = || {
            format!("{text} is no resolver: expected [ZONE=]ADDRESS[:PORT], as 192.0.2.53 or corp.example=10.0.0.53")
        };
        let address = match address.parse::<SocketAddr>() {
            Ok(address) => address,
            Err(_) => SocketAddr::new(address.parse().map_err(|_| wrong())?, PORT),
        };
        let is_name = |zone: &str| Fqdn::parse(zone).wire().is_some_and(|wire| !wire.is_empty());
        if zone.is_some_and(|zone| !is_name(zone)) || address.port() == 0 || address.ip().is_unspecified() {
            return Err(wrong());
        }
        Ok(Self { zone: zone.map(|zone| zone.trim_end_matches('.').to_ascii_lowercase()), address })
    }
}

/// A resolver and how it fared.
#[derive(Debug)]
pub(crate) struct Resolver {
    pub(crate) address: SocketAddr,
    start: Instant,
    /// Failures since the last answer.
    failures: AtomicU32,
    /// Milliseconds since the start until which it is asked last.
    rests_until: AtomicU64,
    /// What it was last asked to tell a loop by.
    pub(crate) probe: AtomicU64,
    /// It asks us what we ask it.
    pub(crate) loops: AtomicBool,
}

impl Resolver {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            start: Instant::now(),
            failures: AtomicU32::new(0),
            rests_until: AtomicU64::new(0),
            probe: AtomicU64::new(0),
            loops: AtomicBool::new(false),
        }
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn is_healthy(&self, now: Instant) -> bool {
        !self.loops.load(Ordering::Relaxed) && self.rests_until.load(Ordering::Relaxed) <= self.millis(now)
    }

    /// Asks; whatever comes back in time and answers the question is the answer, with its length.
    pub(crate) async fn ask(&self, key: &Key, id: u16) -> Option<(Message, usize)> {
        let answer = self.exchange(key, id).await;
        if answer.is_some() {
            self.failures.store(0, Ordering::Relaxed);
            self.rests_until.store(0, Ordering::Relaxed);
        } else if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= PATIENT_WITH {
            let rests_until = self.millis(Instant::now() + REST);
            if self.rests_until.swap(rests_until, Ordering::Relaxed) == 0 {
                tracing::warn!(resolver = %self.address, "a resolver does not answer; others are asked first");
            }
        }
        answer
    }

    async fn exchange(&self, key: &Key, id: u16) -> Option<(Message, usize)> {
        let question = question(key, id)?;
        let (message, length) = timeout(PATIENCE, self.by_udp(&question, key, id)).await.ok()??;
        if !message.truncation {
            return Some((message, length));
        }
        timeout(PATIENCE, self.by_tcp(&question, key, id)).await.ok()?
    }

    async fn by_udp(&self, question: &[u8], key: &Key, id: u16) -> Option<(Message, usize)> {
        let any =
            if self.address.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        // The kernel draws the port: an answer cannot be forged without guessing it, too (RFC 5452).
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await.ok()?;
        socket.connect(self.address).await.ok()?;
        socket.send(question).await.ok()?;
        let mut buffer = vec![0; 4_096];
        for _ in 0..STRANGERS {
            let length = socket.recv(&mut buffer).await.ok()?;
            if let Some(message) = buffer.get(..length).and_then(|bytes| answer(bytes, key, id)) {
                return Some((message, length));
            }
        }
        None
    }

    async fn by_tcp(&self, question: &[u8], key: &Key, id: u16) -> Option<(Message, usize)> {
        let mut stream = TcpStream::connect(self.address).await.ok()?;
        let mut bytes = u16::try_from(question.len()).ok()?.to_be_bytes().to_vec();
        bytes.extend_from_slice(question);
        stream.write_all(&bytes).await.ok()?;
        let length = stream.read_u16().await.ok()?;
        bytes.resize(length.into(), 0);
        stream.read_exact(&mut bytes).await.ok()?;
        Some((answer(&bytes, key, id)?, length.into()))
    }
}

fn question(key: &Key, id: u16) -> Option<Vec<u8>> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = key.checking_disabled;
    message.add_query(Query::query(key.name.clone(), key.kind));
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_PAYLOAD).set_version(0).set_dnssec_ok(key.wants_dnssec);
    message.set_edns(edns);
    message.to_vec().ok()
}

/// A message, if it answers this question.
fn answer(bytes: &[u8], key: &Key, id: u16) -> Option<Message> {
    // Hickory makes room for as many questions as the header counts.
    let has_one_question = bytes.get(4..6) == Some(&[0, 1]);
    let message =
        has_one_question.then(|| std::panic::catch_unwind(|| Message::from_vec(bytes).ok()).ok()).flatten()??;
    let is_ours = message.metadata.message_type == MessageType::Response
        && message.metadata.id == id
        && message.metadata.op_code == OpCode::Query
        && matches!(&message.queries[..], [query] if is_same(query.name(), &key.name) && query.query_type() == key.kind);
    is_ours.then_some(message)
}

fn is_same(a: &Name, b: &Name) -> bool {
    a.to_lowercase() == *b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_are_read_with_and_without_zone_and_port() {
        let read = |text: &str| text.parse::<Upstream>();
        let of = |zone: Option<&str>, address: &str| Upstream {
            zone: zone.map(Into::into),
            address: address.parse().unwrap(),
        };
        assert_eq!(read("192.0.2.53"), Ok(of(None, "192.0.2.53:53")));
        assert_eq!(read("192.0.2.53:5353"), Ok(of(None, "192.0.2.53:5353")));
        assert_eq!(read("2001:db8::1"), Ok(of(None, "[2001:db8::1]:53")));
        assert_eq!(read("Corp.Example.=[2001:db8::1]:54"), Ok(of(Some("corp.example"), "[2001:db8::1]:54")));
        for wrong in ["", "host", "=192.0.2.1", "192.0.2.1:0", "0.0.0.0", "a=b"] {
            assert!(read(wrong).is_err_and(|error| error.contains("expected")), "{wrong}");
        }
    }
}
