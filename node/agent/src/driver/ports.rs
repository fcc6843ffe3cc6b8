//! Is a port free? Tried by binding it, just before a start.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use dunlin_gossip::model::{Protocol, PublishedPort, Reach};

/// The first of these ports that another process has.
///
/// Both the service address and the wildcard are tried, since nobody knows which of them the workload will bind. Only
/// "in use" counts: an address that is not this host's (behind a translation) or a port that needs rights is the
/// workload's own business.
#[must_use]
pub(super) fn taken(ports: &[PublishedPort], address: IpAddr) -> Option<u16> {
    taken_at(ports, &[address, IpAddr::V4(Ipv4Addr::UNSPECIFIED)])
}

/// The first of these ports that another process has at one of these addresses.
#[must_use]
pub(super) fn taken_at(ports: &[PublishedPort], addresses: &[IpAddr]) -> Option<u16> {
    let local = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let is_free = |port: &PublishedPort| {
        let addresses = if port.reach == Reach::Node { &local[..] } else { addresses };
        addresses.iter().all(|ip| !is_taken(port.protocol, SocketAddr::new(*ip, port.outer)))
    };
    ports.iter().find(|port| !is_free(port)).map(|port| port.outer)
}

fn is_taken(protocol: Protocol, address: SocketAddr) -> bool {
    let tried = match protocol {
        Protocol::Tcp => TcpListener::bind(address).map(drop),
        Protocol::Udp => UdpSocket::bind(address).map(drop),
    };
    tried.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(protocol: Protocol, outer: u16) -> PublishedPort {
        PublishedPort { name: "p".into(), protocol, inner: outer, outer, reach: Reach::Flock }
    }

    #[test]
    fn a_port_that_somebody_has_is_found_per_protocol() {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let tcp = TcpListener::bind((address, 0)).unwrap();
        let number = tcp.local_addr().unwrap().port();
        assert_eq!(taken(&[port(Protocol::Tcp, number)], address), Some(number));
        let udp = UdpSocket::bind((address, 0)).unwrap();
        let number = udp.local_addr().unwrap().port();
        assert_eq!(taken(&[port(Protocol::Udp, number)], address), Some(number));
        drop(udp);
        assert_eq!(taken(&[port(Protocol::Udp, number)], address), None);
    }

    #[test]
    fn a_foreign_address_takes_nothing() {
        assert!(!is_taken(Protocol::Tcp, SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 0)));
    }
}
