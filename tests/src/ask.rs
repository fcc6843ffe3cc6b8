//! Questions that cost little: straight to an agent's socket, its DNS server, or a workload, without a process for each.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::cluster::Cluster;
use serde_json::Value;

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(1);
const A: u16 = 1;
const SRV: u16 = 33;
const NO_ERROR: u8 = 0;
const NO_NAME: u8 = 3;

/// A document of an agent's API.
///
/// # Errors
/// It does not answer, or with something else.
pub fn agent(cluster: &Cluster, n: usize, path: &str) -> Result<Value, String> {
    let said = |e: Error| e.to_string();
    let mut socket = UnixStream::connect(cluster.nodes[n].dir.join("dunlin.sock")).map_err(said)?;
    socket.set_read_timeout(Some(PATIENCE * 5)).map_err(said)?;
    let request = format!("GET /v1/{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).map_err(said)?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).map_err(said)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).map_err(|e| format!("{e}: {body}"))
}

/// Rows of ready replicas at a node, those on one node left out.
///
/// # Errors
/// The agent does not answer.
pub fn ready(cluster: &Cluster, n: usize, not_on: &str) -> Result<Vec<Value>, String> {
    let rows = agent(cluster, n, "allocations")?;
    let rows = rows.as_array().cloned().unwrap_or_default();
    Ok(rows.into_iter().filter(|r| r["ready"] == true && r["node"] != not_on).collect())
}

/// The first endpoint of a row.
#[must_use]
pub fn endpoint(row: &Value) -> Option<SocketAddr> {
    row["endpoint"][0].as_str()?.split('/').next()?.parse().ok()
}

/// Asks a workload whether it is well.
///
/// # Errors
/// It is not.
pub fn workload(target: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
}

/// A node's DNS server.
#[must_use]
pub fn server(cluster: &Cluster, n: usize) -> SocketAddr {
    SocketAddr::from((cluster.nodes[n].address, 7453))
}

/// The addresses of a service of the stack `shop` at a server.
///
/// # Errors
/// No answer that can be read.
pub fn addresses(server: SocketAddr, service: &str) -> std::io::Result<Vec<Ipv4Addr>> {
    addresses_within(server, service, PATIENCE / 2)
}

/// The same with another time for the answer to come.
///
/// # Errors
/// No answer that can be read.
pub fn addresses_within(server: SocketAddr, service: &str, within: Duration) -> std::io::Result<Vec<Ipv4Addr>> {
    Ok(query(server, service, A, within)?.addresses.into_iter().map(|(_, address)| address).collect())
}

/// Its instances at a server: SRV, with the addresses of the additional section.
///
/// # Errors
/// No answer that can be read.
pub fn instances(server: SocketAddr, service: &str) -> std::io::Result<Vec<SocketAddr>> {
    let found = query(server, service, SRV, PATIENCE / 2)?;
    let address: BTreeMap<String, Ipv4Addr> = found.addresses.into_iter().collect();
    let instance = |(target, port): (String, u16)| Some(SocketAddr::from((*address.get(&target)?, port)));
    Ok(found.services.into_iter().filter_map(instance).collect())
}

#[derive(Default)]
struct Found {
    addresses: Vec<(String, Ipv4Addr)>,
    services: Vec<(String, u16)>,
}

fn query(server: SocketAddr, service: &str, kind: u16, within: Duration) -> std::io::Result<Found> {
    let mut query = vec![1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in [service, "shop", "dunlin", "internal"] {
        query.push(u8::try_from(label.len()).unwrap_or(0));
        query.extend_from_slice(label.as_bytes());
    }
    query.push(0);
    query.extend_from_slice(&kind.to_be_bytes());
    query.extend_from_slice(&[0, 1]);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(within))?;
    // Connected, so that a refusal is an error at once.
    socket.connect(server)?;
    socket.send(&query)?;
    let mut buffer = [0; 4_096];
    let n = socket.recv(&mut buffer)?;
    parse(buffer.get(..n).unwrap_or_default()).ok_or_else(|| ErrorKind::InvalidData.into())
}

fn parse(reply: &[u8]) -> Option<Found> {
    // Who is told of a failure knows no more than who is told nothing.
    if !matches!(reply.get(3)? & 0x0f, NO_ERROR | NO_NAME) {
        return None;
    }
    let word = |at: usize| Some(u16::from_be_bytes([*reply.get(at)?, *reply.get(at + 1)?]));
    let records = word(6)? + word(8)? + word(10)?;
    let (_, mut at) = name(reply, 12)?;
    at += 4;
    let mut found = Found::default();
    for _ in 0..records {
        let (owner, head) = name(reply, at)?;
        let (kind, length, data) = (word(head)?, usize::from(word(head + 8)?), head + 10);
        match kind {
            A => {
                let octets: [u8; 4] = reply.get(data..data + 4)?.try_into().ok()?;
                found.addresses.push((owner, Ipv4Addr::from(octets)));
            }
            SRV => found.services.push((name(reply, data + 6)?.0, word(data + 4)?)),
            _ => {}
        }
        at = data + length;
    }
    Some(found)
}

/// A name, and what follows it; pointers (RFC 1035 section 4.1.4) lead backwards only.
fn name(reply: &[u8], mut at: usize) -> Option<(String, usize)> {
    let (mut text, mut after) = (String::new(), None);
    for _ in 0..128 {
        let length = *reply.get(at)?;
        if length == 0 {
            return Some((text, after.unwrap_or(at + 1)));
        }
        if length & 0xc0 == 0xc0 {
            after = after.or(Some(at + 2));
            at = usize::from(u16::from_be_bytes([length & 0x3f, *reply.get(at + 1)?]));
            continue;
        }
        let label = reply.get(at + 1..at + 1 + usize::from(length))?;
        text.push_str(&String::from_utf8_lossy(label).to_lowercase());
        text.push('.');
        at += 1 + usize::from(length);
    }
    None
}
