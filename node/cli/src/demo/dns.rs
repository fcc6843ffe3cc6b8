//! A DNS client of one datagram, so that the demo asks the servers as anybody would.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_millis(500);
/// Type SRV (RFC 2782).
const SRV: u16 = 33;
/// Type A.
const A: u16 = 1;

/// Where a service is, as one server says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Addresses in A records, of the answer and the additional section.
    pub(super) addresses: Vec<IpAddr>,
    /// Ports in SRV records.
    pub(super) ports: Vec<u16>,
}

/// Asks for the SRV records of a name; the additional section brings the addresses.
///
/// # Errors
/// What went wrong, in one line.
pub(super) fn srv(server: SocketAddr, name: &str) -> Result<Found, String> {
    ask(server, name, SRV)
}

/// Asks for the A records of a name.
///
/// # Errors
/// What went wrong, in one line.
pub(super) fn a(server: SocketAddr, name: &str) -> Result<Found, String> {
    ask(server, name, A)
}

fn ask(server: SocketAddr, name: &str, kind: u16) -> Result<Found, String> {
    let said = |e: std::io::Error| format!("DNS at {server}: {e}");
    let local: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    let socket = UdpSocket::bind(local).map_err(said)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(said)?;
    socket.connect(server).map_err(said)?;
    socket.send(&query(name, kind)).map_err(said)?;
    let mut buffer = [0; 4096];
    let n = socket.recv(&mut buffer).map_err(said)?;
    parse(buffer.get(..n).unwrap_or_default()).ok_or_else(|| format!("DNS at {server}: an answer that makes no sense"))
}

fn query(name: &str, kind: u16) -> Vec<u8> {
    let mut out = vec![0x64, 0x75, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in name.split('.').filter(|l| !l.is_empty()) {
        out.push(u8::try_from(label.len()).unwrap_or(0));
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[0, 1]);
    // OPT (RFC 6891): 4,096 bytes are welcome.
    out.extend_from_slice(&[0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]);
    out
}

fn parse(reply: &[u8]) -> Option<Found> {
    let word = |at: usize| Some(u16::from_be_bytes([*reply.get(at)?, *reply.get(at + 1)?]));
    let records = word(6)? + word(8)? + word(10)?;
    let mut at = skip_name(reply, 12)? + 4;
    let mut found = Found::default();
    for _ in 0..records {
        at = skip_name(reply, at)?;
        let (kind, length) = (word(at)?, usize::from(word(at + 8)?));
        let data = at + 10;
        match kind {
            A => {
                let octets: [u8; 4] = reply.get(data..data + 4)?.try_into().ok()?;
                found.addresses.push(IpAddr::from(octets));
            }
            SRV => found.ports.push(word(data + 4)?),
            _ => {}
        }
        at = data + length;
    }
    Some(found)
}

fn skip_name(reply: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *reply.get(at)? {
            0 => return Some(at + 1),
            pointer if pointer & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += usize::from(length) + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_of_an_answer_is_refused_or_harmless() {
        let mut reply = query("web.shop.dunlin.internal", A);
        reply[7] = 1;
        reply[11] = 0;
        reply.truncate(reply.len() - 11);
        reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 10, 0, 0, 1]);
        assert_eq!(parse(&reply).map(|f| f.addresses), Some(vec![IpAddr::from([10, 0, 0, 1])]));
        for end in 0..reply.len() {
            assert_eq!(parse(&reply[..end]), None);
        }
    }
}
