//! A TUN device inside a network namespace, held from outside: what the host sends is read here as IP packets, what is
//! written here arrives at the host.

use std::fs::File;
use std::io::{Error, Result};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;

use nix::sched::{CloneFlags, setns};

nix::ioctl_write_ptr_bad!(
    /// `TUNSETIFF` of linux/if_tun.h.
    tunsetiff,
    nix::libc::TUNSETIFF,
    nix::libc::ifreq
);

/// Does something in a namespace: what it opens stays there.
///
/// # Errors
/// Its own, or what the kernel refused.
pub(super) fn within<T: Send>(namespace: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let path = format!("/var/run/netns/{namespace}");
    // A thread of its own, since it stays in the namespace that it enters.
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?;
            work()
        });
        thread.join().map_err(|_| Error::other("the thread in a namespace has panicked"))?
    })
}

/// Makes the device in a namespace (or in this one) and opens it; reads do not block.
///
/// # Errors
/// What the kernel refused.
pub(super) fn open(namespace: Option<&str>, name: &str) -> Result<File> {
    let make = || {
        let file = File::options().read(true).write(true).custom_flags(nix::libc::O_NONBLOCK).open("/dev/net/tun")?;
        let mut name = name.bytes();
        let flags = i16::try_from(nix::libc::IFF_TUN | nix::libc::IFF_NO_PI).map_err(Error::other)?;
        let request = nix::libc::ifreq {
            ifr_name: std::array::from_fn(|_| name.next().unwrap_or(0).cast_signed()),
            ifr_ifru: nix::libc::__c_anonymous_ifr_ifru { ifru_flags: flags },
        };
        // SAFETY: `request` is a valid `ifreq` that outlives the call, and the kernel only reads its name and flags.
        unsafe { tunsetiff(file.as_raw_fd(), &raw const request) }?;
        Ok(file)
    };
    namespace.map_or_else(make, |space| within(space, make))
}
