//! Hosts as network namespaces, each with an address of its own: on one bridge, or joined by a relay that delays what they
//! send. They are cut off, silenced, robbed of packets and slowed by the kernel, and every fault has a counter that proves it.
//!
//! Dropping at the receiver keeps the sender's kernel silent, as a cut cable does: no error, no refusal.

mod relay;
mod tun;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use dunlin_sim::Conditions;
pub use relay::Relayed;
use relay::{OBSERVER, Relay};

static NETWORKS: AtomicU8 = AtomicU8::new(0);

/// The chains of every host: `cut` and `loss` on what comes in, `hush` on what goes out. Its own loopback is never touched.
const CHAINS: &str = "*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:cut - [0:0]
:loss - [0:0]
:hush - [0:0]
-A INPUT ! -i lo -j cut
-A INPUT ! -i lo -p udp --dport 7400 -j loss
-A OUTPUT ! -o lo -j hush
COMMIT
";

/// Namespaces that reach each other. Dropping it removes all of them.
#[derive(Debug)]
pub struct Network {
    tag: String,
    hosts: Vec<(String, Ipv4Addr)>,
    relay: Option<Relay>,
}

/// What iptables did to the packets of agents.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lost {
    /// Packets that were thrown away.
    pub lost: u64,
    /// Packets that came.
    pub came: u64,
}

/// What `tbf` did to the packets of a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Slowed {
    /// How often a packet had to wait for the rate.
    pub waited: u64,
    /// Packets that waited too long and were thrown away.
    pub dropped: u64,
}

fn must(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().expect("the program starts");
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn may(program: &str, args: &[&str]) {
    let _best_effort = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

impl Network {
    /// So many hosts on one bridge.
    ///
    /// # Panics
    /// Without root.
    #[must_use]
    pub fn new(count: u8) -> Self {
        let (network, observer) = Self::named(count);
        let bridge = network.bridge();
        must("ip", &["link", "add", &bridge, "type", "bridge"]);
        must("ip", &["link", "set", &bridge, "up"]);
        must("ip", &["addr", "add", &observer, "dev", &bridge]);
        // Docker sets the policy of FORWARD to DROP, and bridged packets pass it where br_netfilter is on.
        may("iptables", &["-I", "FORWARD", "-i", &bridge, "-o", &bridge, "-j", "ACCEPT"]);
        for (n, (name, _)) in network.hosts.iter().enumerate() {
            let (inside, outside) = (network.device(n), format!("{name}o"));
            must("ip", &["netns", "add", name]);
            must("ip", &["link", "add", &inside, "type", "veth", "peer", "name", &outside]);
            must("ip", &["link", "set", &inside, "netns", name]);
            must("ip", &["link", "set", &outside, "master", &bridge, "up"]);
            network.furnish(n);
        }
        network
    }

    /// So many hosts whose packets fare as these conditions say: the relay delays, doubles and reorders them, iptables loses
    /// them, and `tbf` holds hosts to the rate.
    ///
    /// # Panics
    /// Without root or `/dev/net/tun`.
    #[must_use]
    pub fn relayed(count: u8, conditions: Conditions, seed: u64) -> Self {
        let (mut network, observer) = Self::named(count);
        let mut devices = BTreeMap::new();
        for (n, (name, address)) in network.hosts.iter().enumerate() {
            must("ip", &["netns", "add", name]);
            let device = tun::open(Some(name), &network.device(n)).expect("a TUN device");
            devices.insert(address.octets()[3], device);
            network.furnish(n);
        }
        let outside = network.bridge();
        devices.insert(OBSERVER, tun::open(None, &outside).expect("a TUN device"));
        must("ip", &["addr", "add", &observer, "dev", &outside]);
        must("ip", &["link", "set", &outside, "up"]);
        network.relay = Some(Relay::start(devices, conditions.clone(), seed));
        network.set(conditions);
        network
    }

    /// Names and addresses, and the observer's, whom no cut affects.
    fn named(count: u8) -> (Self, String) {
        let serial = NETWORKS.fetch_add(1, Ordering::Relaxed);
        let tag = format!("d{:x}{serial:x}", std::process::id() % 0xffff);
        let sub = u8::try_from(std::process::id() % 200).expect("below 200");
        let hosts = (1..=count).map(|n| (format!("{tag}n{n}"), Ipv4Addr::new(10, 100 + serial, sub, n))).collect();
        (Self { tag, hosts, relay: None }, format!("10.{}.{sub}.{OBSERVER}/24", 100 + serial))
    }

    /// Address, loopback and chains of a host whose device is there.
    fn furnish(&self, n: usize) {
        let (name, address) = &self.hosts[n];
        let device = self.device(n);
        must("ip", &["-n", name, "addr", "add", &format!("{address}/24"), "dev", &device]);
        must("ip", &["-n", name, "link", "set", "lo", "up"]);
        must("ip", &["-n", name, "link", "set", &device, "up"]);
        let prefix = self.prefix(n);
        let mut restore = Command::new(&prefix[0]);
        restore.args(&prefix[1..]).arg("iptables-restore").stdin(Stdio::piped());
        let mut restore = restore.spawn().expect("iptables-restore");
        restore.stdin.take().expect("its input").write_all(CHAINS.as_bytes()).expect("the chains are taken");
        assert!(restore.wait().expect("its end").success(), "iptables-restore failed");
    }

    fn bridge(&self) -> String {
        format!("{}br", self.tag)
    }

    fn device(&self, n: usize) -> String {
        format!("{}i", self.hosts[n].0)
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

    /// Does something on a host in this process: sockets that it opens stay there.
    ///
    /// # Errors
    /// Its own, or what the kernel refused.
    pub fn within<T: Send>(&self, n: usize, work: impl FnOnce() -> std::io::Result<T> + Send) -> std::io::Result<T> {
        tun::within(&self.hosts[n].0, work)
    }

    fn inside(&self, n: usize, args: &[&str]) -> String {
        let prefix = self.prefix(n);
        let all: Vec<&str> = prefix.iter().skip(1).map(String::as_str).chain(args.iter().copied()).collect();
        must(&prefix[0], &all)
    }

    fn octet(&self, n: usize) -> u8 {
        self.address(n).octets()[3]
    }

    /// The last octets of all hosts.
    fn octets(&self) -> impl Iterator<Item = u8> {
        self.hosts.iter().map(|(_, address)| address.octets()[3])
    }

    /// Cuts two groups of hosts off from each other. A relay does it at once, the kernel host by host.
    pub fn cut(&self, left: &[usize], right: &[usize]) {
        if let Some(relay) = &self.relay {
            let pairs = left.iter().flat_map(|a| right.iter().map(|b| (self.octet(*a), self.octet(*b))));
            return relay.cut(pairs.flat_map(|(a, b)| [(a, b), (b, a)]));
        }
        for a in left {
            for b in right {
                self.inside(*a, &["iptables", "-A", "cut", "-s", &self.address(*b).to_string(), "-j", "DROP"]);
                self.inside(*b, &["iptables", "-A", "cut", "-s", &self.address(*a).to_string(), "-j", "DROP"]);
            }
        }
    }

    /// Nothing gets out of a host any more, save to the observer; what comes in does.
    pub fn mute(&self, n: usize) {
        if let Some(relay) = &self.relay {
            return relay.cut(self.octets().map(|to| (self.octet(n), to)));
        }
        let mut observer = self.address(n).octets();
        observer[3] = OBSERVER;
        self.inside(n, &["iptables", "-A", "hush", "!", "-d", &Ipv4Addr::from(observer).to_string(), "-j", "DROP"]);
    }

    /// Nothing gets in or out of a host any more, as if its power were gone.
    pub fn silence(&self, n: usize) {
        if let Some(relay) = &self.relay {
            let all = self.octets().chain([OBSERVER]);
            return relay.cut(all.flat_map(|other| [(self.octet(n), other), (other, self.octet(n))]));
        }
        self.inside(n, &["iptables", "-A", "hush", "-j", "DROP"]);
        self.inside(n, &["iptables", "-A", "cut", "-j", "DROP"]);
    }

    /// Everyone reaches everyone again; losses and rates stay.
    pub fn heal(&self) {
        (0..self.hosts.len()).for_each(|n| self.heal_around(n));
    }

    /// What was cut around one host is whole again.
    pub fn heal_around(&self, n: usize) {
        if let Some(relay) = &self.relay {
            return relay.heal_around(self.octet(n));
        }
        self.inside(n, &["iptables", "-F", "cut"]);
        self.inside(n, &["iptables", "-F", "hush"]);
    }

    /// So many in so many packets that come to an agent are lost, at every host; none if it is none.
    pub fn lose(&self, num: u32, den: u32) {
        for n in 0..self.hosts.len() {
            self.inside(n, &["iptables", "-F", "loss"]);
            if num > 0 {
                let share = format!("{:.6}", f64::from(num) / f64::from(den.max(1)));
                let rule = ["-m", "statistic", "--mode", "random", "--probability", &share, "-j", "DROP"];
                self.inside(n, &[&["iptables", "-A", "loss"], &rule[..]].concat());
            }
        }
    }

    /// What [`lose`](Self::lose) did since it was last called, as the kernel counted it.
    #[must_use]
    pub fn lost(&self) -> Lost {
        let mut sum = Lost::default();
        for n in 0..self.hosts.len() {
            sum.lost += packets(&self.inside(n, &["iptables", "-nvxL", "loss"]), "DROP");
            sum.came += packets(&self.inside(n, &["iptables", "-nvxL", "INPUT"]), "loss");
        }
        sum
    }

    /// A host sends at most so many bytes in a second, without bound if it is 0; a tenth of a second's worth may wait.
    pub fn slow(&self, n: usize, bytes_per_second: u64) {
        if bytes_per_second == 0 {
            return may(
                "ip",
                &["netns", "exec", &self.hosts[n].0, "tc", "qdisc", "del", "dev", &self.device(n), "root"],
            );
        }
        let (device, rate) = (self.device(n), format!("{}bit", bytes_per_second * 8));
        let tbf = ["root", "tbf", "rate", &rate, "burst", "3200", "latency", "100ms"];
        self.inside(n, &[&["tc", "qdisc", "replace", "dev", &device], &tbf[..]].concat());
    }

    /// What [`slow`](Self::slow) did to a host.
    #[must_use]
    pub fn slowed(&self, n: usize) -> Slowed {
        let said = self.inside(n, &["tc", "-s", "qdisc", "show", "dev", &self.device(n)]);
        let after = |word: &str| {
            let mut words = said.split_whitespace().skip_while(|w| w.trim_start_matches('(') != word).skip(1);
            words.next().and_then(|number| number.trim_end_matches(',').parse().ok()).unwrap_or(0)
        };
        Slowed { waited: after("overlimits"), dropped: after("dropped") }
    }

    /// Other conditions from now on, loss and rate included.
    ///
    /// # Panics
    /// Without a relay.
    pub fn set(&self, conditions: Conditions) {
        self.lose(conditions.loss.num, conditions.loss.den);
        (0..self.hosts.len()).for_each(|n| self.slow(n, conditions.bandwidth));
        self.relay.as_ref().expect("a relay").set(conditions);
    }

    /// What the relay has done; nothing where there is none.
    #[must_use]
    pub fn relay(&self) -> Relayed {
        self.relay.as_ref().map(Relay::done).unwrap_or_default()
    }
}

/// The packets of the first rule with this target in `iptables -nvxL`.
fn packets(listing: &str, target: &str) -> u64 {
    let rule = listing.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut counts = rule.filter(|words| words.get(2) == Some(&target)).filter_map(|words| words.first()?.parse().ok());
    counts.next().unwrap_or(0)
}

impl Drop for Network {
    fn drop(&mut self) {
        // The devices of a relay go with its files.
        let relayed = self.relay.take().is_some();
        for (name, _) in &self.hosts {
            may("ip", &["netns", "del", name]);
        }
        if !relayed {
            let bridge = self.bridge();
            may("iptables", &["-D", "FORWARD", "-i", &bridge, "-o", &bridge, "-j", "ACCEPT"]);
            may("ip", &["link", "del", &bridge]);
        }
    }
}
