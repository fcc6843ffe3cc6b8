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
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let counted = || std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64);
    let cpus = allowed_cpus(&status).unwrap_or_else(counted).saturating_mul(1_000);
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| mem_total(&text)).unwrap_or(UNKNOWN_MEMORY);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let root = Path::new("/sys/fs/cgroup");
    let (quota, limit) = (cpu_quota(root, &groups), memory_limit(root, &groups));
    Resources { cpu_milli: cpus.min(quota.unwrap_or(u64::MAX)), memory_bytes: machine.min(limit.unwrap_or(u64::MAX)) }
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

/// Processors on which this process may run: `0-3,8` are five.
fn allowed_cpus(status: &str) -> Option<u64> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim();
    let count = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        last.parse::<u64>().ok()?.checked_sub(first.parse().ok()?)?.checked_add(1)
    };
    list.split(',').map(count).sum()
}

fn memory_limit(root: &Path, groups: &str) -> Option<u64> {
    limit(root, groups, "memory", ("memory.max", "memory.limit_in_bytes"))
}

/// Thousandths of processors that control groups leave, a quota of one and a half included.
fn cpu_quota(root: &Path, groups: &str) -> Option<u64> {
    let milli = |quota: &str, period: &str| {
        let (quota, period) = (quota.trim().parse::<u64>().ok()?, period.trim().parse::<u64>().ok()?);
        quota.checked_mul(1_000)?.checked_div(period)
    };
    smallest(root, groups, "cpu", |folder, is_new| {
        let file = |name: &str| fs::read_to_string(folder.join(name)).ok();
        if is_new {
            let text = file("cpu.max")?;
            let (quota, period) = text.trim().split_once(' ')?;
            return milli(quota, period);
        }
        milli(&file("cpu.cfs_quota_us")?, &file("cpu.cfs_period_us")?)
    })
}

/// The smallest limit of a controller; its file in version 2 and 1.
fn limit(root: &Path, groups: &str, controller: &str, (new, old): (&'static str, &'static str)) -> Option<u64> {
    smallest(root, groups, controller, |folder, is_new| {
        fs::read_to_string(folder.join(if is_new { new } else { old })).ok()?.trim().parse().ok()
    })
}

/// The smallest of what is read on the way from this process's control group to the root, of version 2 or 1.
fn smallest(root: &Path, groups: &str, controller: &str, read: impl Fn(&Path, bool) -> Option<u64>) -> Option<u64> {
    let mut smallest = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let (base, is_new) = match (id, controllers) {
            ("0", "") => (root.to_owned(), true),
            (_, list) if list.split(',').any(|c| c == controller) => (root.join(controller), false),
            _ => continue,
        };
        for folder in Path::new(path.trim_start_matches('/')).ancestors() {
            if let Some(limit) = read(&base.join(folder), is_new) {
                smallest = Some(smallest.map_or(limit, |s: u64| s.min(limit)));
            }
        }
    }
    smallest
}

/// A node's name as an operator wrote it. It is one label of the node's name in DNS, so it has no dots.
///
/// # Errors
/// What is wrong with it.
pub fn named(text: &str) -> Result<NodeName, String> {
    if text.contains('.') {
        return Err("a node's name is one label of a DNS name, so it has no dots".to_owned());
    }
    NodeName::new(text).map_err(|error| error.to_string())
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

/// The IPv4 address of an interface.
pub(crate) fn interface_address(name: &str) -> Option<IpAddr> {
    let mut interfaces = nix::ifaddrs::getifaddrs().ok()?.filter(|interface| interface.interface_name == name);
    interfaces.find_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip().into()))
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
    fn a_quota_counts_in_thousandths() {
        let dir = tempfile::tempdir().unwrap();
        let (new, old) = (dir.path().join("a"), dir.path().join("cpu/x"));
        fs::create_dir_all(&new).unwrap();
        fs::create_dir_all(&old).unwrap();
        fs::write(new.join("cpu.max"), "150000 100000\n").unwrap();
        fs::write(dir.path().join("cpu.max"), "max 100000\n").unwrap();
        assert_eq!(cpu_quota(dir.path(), "0::/a\n"), Some(1_500));
        assert_eq!(cpu_quota(dir.path(), "0::/\n"), None);
        fs::write(old.join("cpu.cfs_period_us"), "100000\n").unwrap();
        fs::write(old.join("cpu.cfs_quota_us"), "-1\n").unwrap();
        assert_eq!(cpu_quota(dir.path(), "3:cpu,cpuacct:/x\n"), None);
        fs::write(old.join("cpu.cfs_quota_us"), "50000\n").unwrap();
        assert_eq!(cpu_quota(dir.path(), "3:cpu,cpuacct:/x\n"), Some(500));
        assert_eq!(allowed_cpus("Name:\tx\nCpus_allowed_list:\t0-3,8\n"), Some(5));
        assert_eq!(allowed_cpus("garbage"), None);
    }

    #[test]
    fn the_way_to_loopback_is_loopback() {
        assert_eq!(own_address(Some("127.0.0.1:9".parse().unwrap())), IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
}
