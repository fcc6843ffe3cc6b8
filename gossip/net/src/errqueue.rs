//! The socket's error queue (Linux `IP_RECVERR`): which destinations answered "nobody listens here".
//!
//! The only place of this package with system calls of its own.

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;

/// What one call found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Queued {
    /// A peer's host refused a datagram to this address.
    Refused(SocketAddr),
    /// Some other error, of no consequence to us.
    Other,
    /// The queue is empty.
    Empty,
}

/// Asks the kernel to queue errors of sent datagrams with their destination.
pub(crate) fn enable(fd: RawFd, ipv6: bool) -> io::Result<()> {
    // On a dual-stack socket the IPv4 option governs mapped destinations; a pure IPv6 kernel may lack it.
    let v4 = set(fd, libc::IPPROTO_IP, libc::IP_RECVERR);
    if ipv6 { set(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVERR) } else { v4 }
}

fn set(fd: RawFd, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    let size = size_of_val(&on) as libc::socklen_t;
    // SAFETY: the pointer and size describe `on`, which outlives the call.
    let done = unsafe { libc::setsockopt(fd, level, option, (&raw const on).cast(), size) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[repr(C, align(8))]
struct Control([u8; 512]);

/// Takes one entry off the error queue. Never blocks.
pub(crate) fn take(fd: RawFd) -> Queued {
    let mut name: MaybeUninit<libc::sockaddr_storage> = MaybeUninit::zeroed();
    let mut control = Control([0; 512]);
    let mut payload = [0_u8; 64];
    let mut iov = libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: payload.len() };
    // SAFETY: `msghdr` is plain data for which all zeroes is a valid value.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = name.as_mut_ptr().cast();
    message.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: every pointer in `message` is to a live local of the stated length.
    let got = unsafe { libc::recvmsg(fd, &raw mut message, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) };
    if got < 0 {
        return match io::Error::last_os_error().kind() {
            io::ErrorKind::Interrupted => Queued::Other,
            _ => Queued::Empty,
        };
    }
    if !is_refusal(&message) {
        return Queued::Other;
    }
    // SAFETY: zeroed at first and possibly filled by the kernel: initialised either way.
    let name = unsafe { name.assume_init() };
    destination(&name).map_or(Queued::Other, Queued::Refused)
}

fn is_refusal(message: &libc::msghdr) -> bool {
    // SAFETY: `message` was filled by a successful `recvmsg` and its control buffer is alive; the macros stay inside it.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: the macros returned a pointer to a whole header inside the control buffer.
        let found = unsafe { &*header };
        let ours = matches!(
            (found.cmsg_level, found.cmsg_type),
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
        );
        if ours {
            // SAFETY: an entry of this type carries a `sock_extended_err`; it is read without assuming alignment.
            let error: libc::sock_extended_err =
                unsafe { libc::CMSG_DATA(header).cast::<libc::sock_extended_err>().read_unaligned() };
            let from_network = matches!(error.ee_origin, libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6);
            return from_network && i32::try_from(error.ee_errno) == Ok(libc::ECONNREFUSED);
        }
        // SAFETY: as above; `header` is inside the buffer of `message`.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    false
}

fn destination(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage, which is larger, holds a `sockaddr_in`.
            let v4: &libc::sockaddr_in = unsafe { &*(&raw const *name).cast() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddr::new(ip.into(), u16::from_be(v4.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that the storage, which is larger, holds a `sockaddr_in6`.
            let v6: &libc::sockaddr_in6 = unsafe { &*(&raw const *name).cast() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr).to_canonical();
            Some(SocketAddr::new(ip, u16::from_be(v6.sin6_port)))
        }
        _ => None,
    }
}
