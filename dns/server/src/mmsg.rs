//! Many datagrams in one call: `recvmmsg` and `sendmmsg`, on buffers that live as long as their thread.
//!
//! The only unsafe code of the server. A batch owns all memory that the kernel is told of; pointers into it are made anew
//! before each call, so that nothing that moved is pointed at.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;

use dunlin_names::MAX_PAYLOAD;

/// Datagrams in one call.
pub(crate) const BATCH: usize = 32;
/// Bytes of a question; longer ones are not answered.
const LONGEST: usize = 1_500;
/// Words of control data: one `in6_pktinfo` and its header fit.
const CONTROL: usize = 8;

/// Where a datagram came from, and on which of our addresses: its answer leaves from there.
#[derive(Clone, Copy)]
pub(crate) struct Peer {
    address: libc::sockaddr_storage,
    address_len: libc::socklen_t,
    control: [u64; CONTROL],
    control_len: usize,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("ip", &self.ip()).finish_non_exhaustive()
    }
}

impl Peer {
    fn nobody() -> Self {
        // SAFETY: `sockaddr_storage` is plain numbers, for which zeroes are a value.
        let address = unsafe { zeroed() };
        Self { address, address_len: 0, control: [0; CONTROL], control_len: 0 }
    }

    /// The client's address; an IPv4 one in IPv6 clothes as IPv4.
    pub(crate) fn ip(&self) -> IpAddr {
        let family = libc::c_int::from(self.address.ss_family);
        // SAFETY: `sockaddr_storage` is large and aligned enough for each of the types, which are plain numbers; the kernel
        // wrote the one that the family names.
        unsafe {
            let from = &raw const self.address;
            match family {
                libc::AF_INET => {
                    IpAddr::V4(Ipv4Addr::from(u32::from_be((*from.cast::<libc::sockaddr_in>()).sin_addr.s_addr)))
                }
                libc::AF_INET6 => {
                    IpAddr::V6(Ipv6Addr::from((*from.cast::<libc::sockaddr_in6>()).sin6_addr.s6_addr)).to_canonical()
                }
                _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            }
        }
    }

    fn message(&mut self, part: &mut libc::iovec) -> libc::msghdr {
        // SAFETY: `msghdr` is numbers and pointers, for which zeroes are a value.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_name = (&raw mut self.address).cast();
        message.msg_namelen = self.address_len;
        message.msg_iov = part;
        message.msg_iovlen = 1;
        message.msg_control = if self.control_len == 0 { std::ptr::null_mut() } else { (&raw mut self.control).cast() };
        message.msg_controllen = self.control_len;
        message
    }
}

/// Buffers for one call and the answers to it.
pub(crate) struct Batch {
    questions: Vec<[u8; LONGEST]>,
    answers: Vec<[u8; MAX_PAYLOAD as usize]>,
    peers: Vec<Peer>,
    /// Bytes of each question; 0 for what was cut off.
    lengths: Vec<usize>,
    /// Bytes of each answer; 0 for none.
    filled: Vec<usize>,
    headers: Vec<libc::mmsghdr>,
    parts: Vec<libc::iovec>,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self {
            questions: vec![[0; LONGEST]; BATCH],
            answers: vec![[0; MAX_PAYLOAD as usize]; BATCH],
            peers: vec![Peer::nobody(); BATCH],
            lengths: vec![0; BATCH],
            filled: vec![0; BATCH],
            headers: Vec::with_capacity(BATCH),
            parts: Vec::with_capacity(BATCH),
        }
    }

    /// Waits for datagrams and says how many came. `tells_where` is whether the socket tells on which address.
    pub(crate) fn receive(&mut self, socket: &UdpSocket, tells_where: bool) -> io::Result<usize> {
        self.parts.clear();
        self.headers.clear();
        for question in &mut self.questions {
            self.parts.push(libc::iovec { iov_base: question.as_mut_ptr().cast(), iov_len: LONGEST });
        }
        for (peer, part) in self.peers.iter_mut().zip(&mut self.parts) {
            peer.address_len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            peer.control_len = if tells_where { size_of::<[u64; CONTROL]>() } else { 0 };
            self.headers.push(libc::mmsghdr { msg_hdr: peer.message(part), msg_len: 0 });
        }
        // SAFETY: the headers point into buffers of `self` of the lengths that they tell, none of which is touched meanwhile.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_WAITFORONE as _,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for at in 0..count {
            let header = &self.headers[at];
            let was_cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            self.lengths[at] = if was_cut { 0 } else { (header.msg_len as usize).min(LONGEST) };
            self.peers[at].address_len = header.msg_hdr.msg_namelen;
            self.peers[at].control_len = header.msg_hdr.msg_controllen.min(size_of::<[u64; CONTROL]>());
            self.filled[at] = 0;
        }
        Ok(count)
    }

    /// A question and the room for its answer.
    pub(crate) fn pair(&mut self, at: usize) -> (&[u8], &Peer, &mut [u8]) {
        (&self.questions[at][..self.lengths[at]], &self.peers[at], &mut self.answers[at])
    }

    /// Notes how long an answer is.
    pub(crate) fn fill(&mut self, at: usize, length: usize) {
        self.filled[at] = length.min(MAX_PAYLOAD.into());
    }

    /// Sends the answers to the first `count` questions; says how many could not be sent.
    pub(crate) fn send(&mut self, socket: &UdpSocket, count: usize) -> u64 {
        self.parts.clear();
        self.headers.clear();
        for at in (0..count).filter(|at| self.filled[*at] > 0) {
            self.parts.push(libc::iovec { iov_base: self.answers[at].as_mut_ptr().cast(), iov_len: self.filled[at] });
        }
        let answered = (0..count).filter(|at| self.filled[*at] > 0);
        for (at, part) in answered.zip(&mut self.parts) {
            self.headers.push(libc::mmsghdr { msg_hdr: self.peers[at].message(part), msg_len: 0 });
        }
        let (mut sent, mut lost) = (0, 0);
        while let Some(rest) = self.headers.get_mut(sent..).filter(|rest| !rest.is_empty()) {
            // SAFETY: as for receiving; `rest` is no longer than it says.
            let done = unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as libc::c_uint, 0) };
            match usize::try_from(done) {
                Ok(done) if done > 0 => sent += done,
                _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                // The first of the rest cannot be sent (no route, no permission): the others can.
                _ => (sent, lost) = (sent + 1, lost + 1),
            }
        }
        lost
    }
}

/// Sends one answer that took its time. A full socket drops it, as networks do.
pub(crate) fn send_one(socket: &UdpSocket, bytes: &[u8], peer: &Peer) -> io::Result<()> {
    let mut peer = *peer;
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let message = peer.message(&mut part);
    // SAFETY: the header points to locals and to `bytes`, which sending only reads.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes a socket tell on which of the host's addresses a datagram came, so that the answer leaves from it.
pub(crate) fn tell_where(socket: &UdpSocket, bound: SocketAddr) -> io::Result<()> {
    let on: libc::c_int = 1;
    let (level, name) = match bound {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value is a `c_int` of the size told.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const on).cast(), size) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Wakes whoever waits for datagrams of a socket, for good: the kernel says "not connected" and does it all the same.
pub(crate) fn wake(socket: &UdpSocket) {
    // SAFETY: a call with two numbers.
    let _not_connected = unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
}
