//! What this host has to give: processors and memory that this agent may really use, and its name.
//!
//! A container's limits count, not the machine behind it: a node that promises what its cgroup will not give overcommits.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;

use dunlin_gossip::model::{NodeName, Platform, Resources};

/// Memory assumed where the kernel does not tell.
const UNKNOWN_MEMORY: u64 = 1 << 30;
/// Processes assumed where the kernel does not tell: its own default.
const UNKNOWN_PIDS: u64 = 32_768;

/// CPUs and memory of this process's cgroup and affinity, at most the machine's.
#[must_use]
pub fn capacity() -> Resources {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cpu_milli = u64::try_from(cpus).unwrap_or(1).saturating_mul(1_000);
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| mem_total(&text)).unwrap_or(UNKNOWN_MEMORY);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = memory_limit(Path::new("/sys/fs/cgroup"), &groups).unwrap_or(u64::MAX);
    Resources { cpu_milli, memory_bytes: machine.min(limit) }
}

/// Processes and threads that the kernel, or this process's cgroup, lets there be.
#[must_use]
pub fn pids() -> u64 {
    let number = |text: String| text.trim().parse::<u64>().ok();
    let kernel = fs::read_to_string("/proc/sys/kernel/pid_max").ok().and_then(number).unwrap_or(UNKNOWN_PIDS);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    kernel.min(limit(Path::new("/sys/fs/cgroup"), &groups, "pids", ("pids.max", "pids.max")).unwrap_or(u64::MAX))
}

/// The size of the file system of a folder, or of the nearest one above it that there is; 0 where the kernel does not tell.
#[must_use]
pub fn disk(folder: &Path) -> u64 {
    let found = folder.ancestors().find_map(|above| nix::sys::statvfs::statvfs(above).ok());
    found.map_or(0, |of| of.blocks().saturating_mul(of.fragment_size()))
}

fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1_024)
}

fn memory_limit(root: &Path, groups: &str) -> Option<u64> {
    limit(root, groups, "memory", ("memory.max", "memory.limit_in_bytes"))
}

/// The smallest limit of a controller on the way from this process's cgroup to the root; its file in version 2 and 1.
fn limit(root: &Path, groups: &str, controller: &str, (new, old): (&'static str, &'static str)) -> Option<u64> {
    let mut smallest = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let (base, file) = match (id, controllers) {
            ("0", "") => (root.to_owned(), new),
            (_, list) if list.split(',').any(|c| c == controller) => (root.join(controller), old),
            _ => continue,
        };
        for folder in Path::new(path.trim_start_matches('/')).ancestors() {
            let text = fs::read_to_string(base.join(folder).join(file)).unwrap_or_default();
            if let Ok(limit) = text.trim().parse::<u64>() {
                smallest = Some(smallest.map_or(limit, |s: u64| s.min(limit)));
            }
        }
    }
    smallest
}

/// The host's name, made fit for a node's name; `node` if nothing of it fits.
#[must_use]
pub fn name() -> NodeName {
    let text = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let short = text.trim().split('.').next().unwrap_or_default();
    let fit: String = short.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(63).collect();
    let fit = fit.trim_start_matches('-').to_lowercase();
    match NodeName::new(&fit).or_else(|_| NodeName::new("node")) {
        Ok(name) => name,
        Err(_) => unreachable!("`node` is a name"),
    }
}

/// Operating system and processor in the words that Docker users write.
#[must_use]
pub fn platform() -> Platform {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    Platform { os: std::env::consts::OS.to_owned(), arch: arch.to_owned() }
}

/// The address of the interface that leads to `towards`, or to the world; loopback on a host without any network.
///
/// Connecting a UDP socket sends nothing: it only asks the kernel for the route.
#[must_use]
pub fn own_address(towards: Option<SocketAddr>) -> IpAddr {
    let anywhere = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 9));
    let route = |target: SocketAddr| {
        let any: IpAddr =
            if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(target).ok()?;
        socket.local_addr().ok().map(|a| a.ip()).filter(|ip| !ip.is_unspecified())
    };
    towards.and_then(route).or_else(|| route(anywhere)).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_something_to_give() {
        let found = capacity();
        assert!(found.cpu_milli >= 1_000 && found.memory_bytes > 1 << 20, "{found:?}");
        assert!(!name().as_str().is_empty());
    }

    #[test]
    fn the_tightest_limit_counts() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("memory.max"), "max\n").unwrap();
        fs::write(dir.path().join("a/memory.max"), "4096\n").unwrap();
        assert_eq!(memory_limit(dir.path(), "0::/a/b\n"), Some(4_096));
        assert_eq!(memory_limit(dir.path(), "garbage"), None);
        let old = dir.path().join("memory/x");
        fs::create_dir_all(&old).unwrap();
        fs::write(old.join("memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        assert_eq!(memory_limit(dir.path(), "5:cpu,memory:/x\n"), Some(9_223_372_036_854_771_712));
        assert_eq!(mem_total("MemTotal:  16 kB\n"), Some(16_384));
    }

    #[test]
    fn the_way_to_loopback_is_loopback() {
        assert_eq!(own_address(Some("127.0.0.1:9".parse().unwrap())), IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
}
