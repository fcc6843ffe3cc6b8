//! Hosts as network namespaces on one bridge: each with an address of its own, cut off by dropping what comes in.
//!
//! Dropping at the receiver keeps the sender's kernel silent, as a cut cable does: no error, no refusal.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

static NETWORKS: AtomicU8 = AtomicU8::new(0);

/// A bridge with namespaces. Dropping it removes all of them.
#[derive(Debug)]
pub struct Network {
    tag: String,
    hosts: Vec<(String, Ipv4Addr)>,
}

fn must(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().expect("the program starts");
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn may(program: &str, args: &[&str]) {
    let _best_effort = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

impl Network {
    /// So many hosts that reach each other.
    ///
    /// # Panics
    /// Without root.
    #[must_use]
    pub fn new(count: u8) -> Self {
        let serial = NETWORKS.fetch_add(1, Ordering::Relaxed);
        let tag = format!("d{:x}{serial:x}", std::process::id() % 0xffff);
        let sub = u8::try_from(std::process::id() % 200).expect("below 200");
        let hosts = (1..=count).map(|n| (format!("{tag}n{n}"), Ipv4Addr::new(10, 100 + serial, sub, n))).collect();
        let network = Self { tag, hosts };
        let bridge = network.bridge();
        must("ip", &["link", "add", &bridge, "type", "bridge"]);
        must("ip", &["link", "set", &bridge, "up"]);
        // For the observer, whom no cut affects.
        must("ip", &["addr", "add", &format!("10.{}.{sub}.254/24", 100 + serial), "dev", &bridge]);
        // Docker sets the policy of FORWARD to DROP, and bridged packets pass it where br_netfilter is on.
        may("iptables", &["-I", "FORWARD", "-i", &bridge, "-o", &bridge, "-j", "ACCEPT"]);
        for (name, address) in &network.hosts {
            let (inside, outside) = (format!("{name}i"), format!("{name}o"));
            must("ip", &["netns", "add", name]);
            must("ip", &["link", "add", &inside, "type", "veth", "peer", "name", &outside]);
            must("ip", &["link", "set", &inside, "netns", name]);
            must("ip", &["link", "set", &outside, "master", &bridge, "up"]);
            must("ip", &["-n", name, "addr", "add", &format!("{address}/24"), "dev", &inside]);
            must("ip", &["-n", name, "link", "set", "lo", "up"]);
            must("ip", &["-n", name, "link", "set", &inside, "up"]);
        }
        network
    }

    fn bridge(&self) -> String {
        format!("{}br", self.tag)
    }

    /// A host's address.
    #[must_use]
    pub fn address(&self, n: usize) -> Ipv4Addr {
        self.hosts[n].1
    }

    /// What runs a program on a host. Not `ip netns exec`: that mounts another /sys, which hides the cgroups.
    #[must_use]
    pub fn prefix(&self, n: usize) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net=/var/run/netns/{}", self.hosts[n].0)]
    }

    fn iptables(&self, n: usize, args: &[&str]) {
        let prefix = self.prefix(n);
        let mut all: Vec<&str> = prefix.iter().skip(1).map(String::as_str).collect();
        all.push("iptables");
        all.extend_from_slice(args);
        must("nsenter", &all);
    }

    /// Cuts two groups of hosts off from each other.
    pub fn cut(&self, left: &[usize], right: &[usize]) {
        for a in left {
            for b in right {
                self.iptables(*a, &["-A", "INPUT", "-s", &self.address(*b).to_string(), "-j", "DROP"]);
                self.iptables(*b, &["-A", "INPUT", "-s", &self.address(*a).to_string(), "-j", "DROP"]);
            }
        }
    }

    /// Makes the network whole again.
    pub fn heal(&self) {
        for n in 0..self.hosts.len() {
            self.iptables(n, &["-F", "INPUT"]);
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for (name, _) in &self.hosts {
            may("ip", &["netns", "del", name]);
        }
        let bridge = self.bridge();
        may("iptables", &["-D", "FORWARD", "-i", &bridge, "-o", &bridge, "-j", "ACCEPT"]);
        may("ip", &["link", "del", &bridge]);
    }
}
