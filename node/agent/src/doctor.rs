//! `dunlin doctor`: what goes wrong in practice, each with a verdict, what was seen, and the remedy. It looks and never
//! changes anything; what needs waiting (a question to our own DNS server) is done outside the loop.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use dunlin_core::query::{self, AllocationRow, NodeRow};
use dunlin_gossip::face::MemberState;
use tokio::net::UdpSocket;

use crate::api::types::{CheckRow, Verdict};
use crate::clock;
use crate::resolvers;
use crate::run::Agent;
use crate::sight::Sight;

/// Where the stub of systemd-resolved listens.
const STUB: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53));

/// A clock this far off is worth a word; transit and a busy machine stay below.
const CLOCK_WARN_MS: u64 = 1_000;
/// From here on the node accepts no writes.
const CLOCK_FAIL_MS: u64 = 300_000;
/// A commit that takes longer holds every write up.
const SLOW_COMMIT_US: u64 = 500_000;
/// Alive peers speak several times a second, all together.
const SILENCE_MS: u64 = 10_000;
/// States differ for moments only.
const DIFFERS_MS: u64 = 60_000;
const DAY_S: u64 = 86_400;
/// For our own DNS server.
const DNS_PATIENCE: Duration = Duration::from_secs(2);

/// What the loop found, and whom to ask besides.
#[derive(Debug)]
pub(crate) struct Examined {
    pub(crate) checks: Vec<CheckRow>,
    pub(crate) dns: Vec<SocketAddr>,
    pub(crate) zone: String,
}

fn check(check: &str, verdict: Verdict, seen: impl Into<String>, remedy: &str) -> CheckRow {
    let remedy = if verdict == Verdict::Ok { String::new() } else { remedy.to_owned() };
    CheckRow { check: check.to_owned(), verdict, seen: seen.into(), remedy }
}

impl Agent {
    pub(crate) fn examine(&self) -> Examined {
        let sight = self.sight();
        let (listens, zone) = self.names.served();
        let nodes = query::nodes(&self.node);
        let alive = sight.peers.iter().filter(|peer| peer.state == MemberState::Alive);
        let offsets: Vec<(&str, i64)> =
            alive.filter_map(|peer| Some((peer.node.as_str(), peer.clock_offset_ms?))).collect();
        let mut checks = vec![
            own_clock(sight.clock_offset_ms),
            peer_clocks(&offsets),
            disk(&sight),
            port(&sight),
            certificate(sight.trust.certificate_until_ms, self.custody.lifetime),
        ];
        checks.extend([members(&sight), versions(&nodes), state(&sight), conflicts(&sight)]);
        checks.push(records(&sight));
        checks.extend([replicas(&query::allocations(&self.node)), writers(&sight), room(&sight)]);
        Examined { checks, dns: listens.to_vec(), zone: zone.to_owned() }
    }
}

/// By how much the median of the peers is ahead of us.
fn own_clock(offset: Option<i64>) -> CheckRow {
    let Some(offset) = offset else {
        return check("clock", Verdict::Ok, "no peer was heard to compare with", "");
    };
    let (by, side) = (offset.unsigned_abs(), if offset < 0 { "ahead of" } else { "behind" });
    let verdict = match by {
        0..CLOCK_WARN_MS => Verdict::Ok,
        CLOCK_WARN_MS..CLOCK_FAIL_MS => Verdict::Warn,
        CLOCK_FAIL_MS.. => Verdict::Fail,
    };
    let refuses = if verdict == Verdict::Fail { "; this node accepts no writes" } else { "" };
    let seen = format!("{} s {side} the median of its peers{refuses}", seconds(by));
    check("clock", verdict, seen, "set this host's clock (chrony or another NTP client)")
}

/// Peers whose clocks stand apart from the median of all, ours included. Of two, nobody knows which is right.
fn peer_clocks(offsets: &[(&str, i64)]) -> CheckRow {
    let mut all: Vec<i64> = offsets.iter().map(|(_, offset)| *offset).chain([0]).collect();
    all.sort_unstable();
    let median = all.get(all.len() / 2).copied().unwrap_or(0);
    let off = |(_, offset): &&(&str, i64)| offset.abs_diff(median) >= CLOCK_WARN_MS && all.len() > 2;
    let told = |(name, offset): &(&str, i64)| {
        let side = if *offset < median { "behind" } else { "ahead" };
        format!("{name} is {} s {side}", seconds(offset.abs_diff(median)))
    };
    let names: Vec<String> = offsets.iter().filter(off).map(told).collect();
    let verdict = if names.is_empty() { Verdict::Ok } else { Verdict::Warn };
    let seen = if names.is_empty() { "all peers' clocks agree".to_owned() } else { names.join(", ") };
    check("peers' clocks", verdict, seen, "set the clocks of those hosts")
}

fn disk(sight: &Sight) -> CheckRow {
    let disk = &sight.disk;
    let mean = disk.spent_us / disk.commits.max(1);
    let ms = |us: u64| format!("{}.{} ms", us / 1_000, us % 1_000 / 100);
    let seen = format!("{} commits, {} each, the last {}", disk.commits, ms(mean), ms(disk.last_us));
    let (verdict, remedy) = match (sight.node.failed, mean.max(disk.last_us)) {
        (true, _) => (Verdict::Fail, "it failed; look at the agent's log, mend the disk, start the agent again"),
        (false, SLOW_COMMIT_US..) => (Verdict::Warn, "writes wait for it; find out what else uses this disk"),
        (false, _) => (Verdict::Ok, ""),
    };
    check("disk", verdict, seen, remedy)
}

/// Whether peers reach our port, as far as that shows here.
fn port(sight: &Sight) -> CheckRow {
    let alive = || sight.peers.iter().filter(|peer| peer.state == MemberState::Alive);
    let newest = alive().filter_map(|peer| peer.view_age_ms).min();
    let heard = sight.peers.iter().filter(|peer| peer.view_age_ms.is_some()).count();
    if sight.peers.is_empty() {
        return check("port", Verdict::Ok, "there are no other members", "");
    }
    let remedy = "let UDP to this node's port through on both hosts and on what lies between; see --advertise";
    let renewed = match sight.renewals {
        0 => String::new(),
        n => format!("; {n} times others held this node for dead"),
    };
    match newest {
        Some(age) if age < SILENCE_MS => {
            let verdict = if sight.renewals > 0 { Verdict::Warn } else { Verdict::Ok };
            let seen = format!(
                "{heard} of {} members were heard, the last {} s ago{renewed}",
                sight.peers.len(),
                seconds(age)
            );
            check("port", verdict, seen, "packets get lost or the host stalls: compare `dunlin status` of its peers")
        }
        Some(age) => {
            check("port", Verdict::Fail, format!("no packet for {} s, from whomever{renewed}", seconds(age)), remedy)
        }
        None => {
            let last = sight.peers.iter().filter_map(|peer| peer.view_age_ms).min();
            let last = last.map_or_else(String::new, |age| format!("; the last packet came {} s ago", seconds(age)));
            check("port", Verdict::Fail, format!("no other member is alive here{last}"), remedy)
        }
    }
}

/// It is renewed in its last third: one that is in its last sixth was not.
fn certificate(until_ms: u64, lifetime: Duration) -> CheckRow {
    let left = Duration::from_millis(until_ms.saturating_sub(clock::wall().0));
    let verdict = if left.is_zero() {
        Verdict::Fail
    } else if left < lifetime / 6 {
        Verdict::Warn
    } else {
        Verdict::Ok
    };
    let seen = match left.as_secs() {
        seconds @ 0..DAY_S => format!("good for {seconds} s"),
        seconds => format!("good for {} days", seconds / DAY_S),
    };
    check("certificate", verdict, seen, "see `dunlin events` for why it was not renewed")
}

fn members(sight: &Sight) -> CheckRow {
    let gone: Vec<String> = sight
        .peers
        .iter()
        .filter(|peer| matches!(peer.state, MemberState::Down | MemberState::Suspect))
        .map(|peer| match peer.since_ms {
            Some(since) => {
                let ago = clock::wall().0.saturating_sub(since) / 1_000;
                format!("{} is {} for {ago} s", peer.node, peer.state)
            }
            None => format!("{} is {} since before this agent's start", peer.node, peer.state),
        })
        .collect();
    let verdict = if gone.is_empty() { Verdict::Ok } else { Verdict::Warn };
    let seen = if gone.is_empty() { format!("{} members, all here", sight.peers.len() + 1) } else { gone.join(", ") };
    check("members", verdict, seen, "look at those hosts; `dunlin events` says why they are held for gone")
}

fn versions(nodes: &[NodeRow]) -> CheckRow {
    let mut found: Vec<&str> = nodes.iter().map(|n| n.version.as_str()).filter(|v| !v.is_empty()).collect();
    found.sort_unstable();
    found.dedup();
    let verdict = if found.len() > 1 { Verdict::Warn } else { Verdict::Ok };
    check("versions", verdict, found.join(", "), "finish the upgrade: run the same dunlin everywhere")
}

fn state(sight: &Sight) -> CheckRow {
    let hash = &sight.node.state_hash;
    if !sight.node.synced {
        return check("state", Verdict::Warn, "this boot has not synced with a peer yet", "wait, or look at `members`");
    }
    match sight.differs_ms {
        Some(since @ DIFFERS_MS..) => {
            let seen = format!("peers hold another state than {hash} for {} s", seconds(since));
            check("state", Verdict::Warn, seen, "compare `state_hash` in `dunlin status --json` of all nodes")
        }
        Some(_) | None => check("state", Verdict::Ok, format!("{hash}, as peers have it"), ""),
    }
}

fn conflicts(sight: &Sight) -> CheckRow {
    let verdict = if sight.conflicts > 0 { Verdict::Warn } else { Verdict::Ok };
    check("conflicts", verdict, sight.conflicts.to_string(), "dunlin conflicts")
}

fn replicas(rows: &[AllocationRow]) -> CheckRow {
    let waiting: Vec<&AllocationRow> = rows.iter().filter(|row| row.phase == "waiting").collect();
    let verdict = if waiting.is_empty() { Verdict::Ok } else { Verdict::Warn };
    let seen = match waiting.first() {
        Some(row) => format!("{} wait for a node; {}: {}", waiting.len(), row.replica, row.detail),
        None => "every replica has its node".to_owned(),
    };
    check("replicas", verdict, seen, "dunlin ps says why; make room, or change the constraints")
}

/// What this node's handlers cannot stand.
fn records(sight: &Sight) -> CheckRow {
    let left_out = &sight.node.left_out;
    let verdict = if left_out.is_empty() { Verdict::Ok } else { Verdict::Fail };
    let seen = if left_out.is_empty() {
        "all are understood".to_owned()
    } else {
        format!("{} made this agent panic; what they mean is left out here, what runs goes on", left_out.join(", "))
    };
    check("records", verdict, seen, "deploy it as it was before, report the log's panic, or run another version here")
}

/// Who writes more than its share.
fn writers(sight: &Sight) -> CheckRow {
    let flow = &sight.flow;
    match (&flow.held_back_of, flow.refused_of_late) {
        (_, true) => {
            let seen =
                format!("this node is asked for more writes than it may spread; {} were refused", flow.writes_refused);
            check(
                "writers",
                Verdict::Warn,
                seen,
                "find out what writes in a loop: `dunlin events` tells who deploys what",
            )
        }
        (Some(origin), false) => {
            let seen = format!("{origin} writes more than is passed on of one node; its changes arrive late");
            check("writers", Verdict::Warn, seen, "look at that node: an older dunlin or a fault")
        }
        (None, false) => check("writers", Verdict::Ok, "all keep to their share", ""),
    }
}

/// What was lost or waits here.
fn room(sight: &Sight) -> CheckRow {
    let queued = sight.queues.links_bytes + sight.queues.quic_bytes;
    let dropped = sight.flow.dropped.control + sight.flow.dropped.push + sight.flow.dropped.sync;
    let bad = sight.network.lost > 0 || dropped > 0 || queued > 1 << 20;
    let verdict = if bad { Verdict::Warn } else { Verdict::Ok };
    let lost = sight.network.lost;
    let seen = format!("{lost} packets lost here, {dropped} frames dropped, {queued} bytes wait for peers");
    check("queues", verdict, seen, "this host or a peer is too slow: look at its load")
}

/// Asks our own server for the zone, as a workload would.
pub(crate) async fn dns(listens: &[SocketAddr], zone: &str) -> CheckRow {
    let Some(listen) = listens.first().copied() else {
        return check("dns", Verdict::Warn, "it listens nowhere", "give --dns ADDR:PORT");
    };
    let remedy = "look at the agent's log; `dig` at that address shows what it says";
    match ask_soa(listen, zone).await {
        Ok(()) => check("dns", Verdict::Ok, format!("{listen} answers for {zone}"), ""),
        Err(why) => check("dns", Verdict::Fail, format!("{listen}: {why}"), remedy),
    }
}

async fn ask_soa(listen: SocketAddr, zone: &str) -> Result<(), String> {
    let answer = exchange(listen, &query(zone, SOA)).await?;
    match answer.as_slice() {
        // RFC 1035 section 4.1.1: our id, the bit of a response, code 0, one answer or more.
        [0x64, 0x75, flags, code, _, _, high, low, ..] if flags & 0x80 != 0 => match (code & 0x0f, high | low) {
            (0, 1..) => Ok(()),
            (0, 0) => Err("it has no SOA record of the zone".to_owned()),
            (code, _) => Err(format!("it answers with code {code}")),
        },
        _ => Err("what it says is no answer".to_owned()),
    }
}

/// True if a server answers there for the zone of this cluster: the zone's TXT record names it.
pub(crate) async fn ask_for_cluster(listen: SocketAddr, zone: &str, cluster: &str) -> bool {
    let answer = exchange(listen, &query(zone, TXT)).await.unwrap_or_default();
    answer.starts_with(&[0x64, 0x75]) && answer.windows(cluster.len().max(1)).any(|part| part == cluster.as_bytes())
}

async fn exchange(listen: SocketAddr, query: &[u8]) -> Result<Vec<u8>, String> {
    let (here, to): (IpAddr, IpAddr) = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(ip) => (Ipv4Addr::UNSPECIFIED.into(), ip.into()),
        IpAddr::V6(ip) => (Ipv6Addr::UNSPECIFIED.into(), ip.into()),
    };
    let exchange = async {
        let socket = UdpSocket::bind((here, 0)).await?;
        socket.connect((to, listen.port())).await?;
        socket.send(query).await?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer).await?;
        Ok::<_, std::io::Error>(answer.get(..length).map(<[u8]>::to_vec).unwrap_or_default())
    };
    let answer = tokio::time::timeout(DNS_PATIENCE, exchange).await.map_err(|_| "no answer".to_owned())?;
    answer.map_err(|e| e.to_string())
}

/// RFC 1035 section 3.2.2.
const SOA: u8 = 6;
const TXT: u8 = 16;

/// RFC 1035 section 4.1: one question of this type, class IN.
fn query(zone: &str, kind: u8) -> Vec<u8> {
    let mut query = vec![0x64, 0x75, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in zone.split('.').filter(|label| !label.is_empty()) {
        query.push(u8::try_from(label.len()).unwrap_or(0));
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, kind, 0, 1]);
    query
}

/// The commands that let this host ask a server of ours for the zone.
fn let_it_ask(at: SocketAddr, zone: &str, text: &str) -> String {
    // Its stub resolver stands in `resolv.conf`, which it writes itself; it takes ports, and a server for a zone alone.
    let is_resolved = text.contains("systemd-resolved") || resolvers::servers(text).contains(&STUB);
    if is_resolved {
        return format!(
            "mkdir -p /etc/systemd/resolved.conf.d; printf '[Resolve]\\nDNS={at}\\nDomains=~{zone}\\nDNSSEC=no\\n' \
             >/etc/systemd/resolved.conf.d/dunlin.conf; systemctl restart systemd-resolved"
        );
    }
    format!("sed -i '1i nameserver {}' /etc/resolv.conf; or have the server there forward {zone} to {at}", at.ip())
}

/// Whether this host itself asks our server. It need not.
pub(crate) fn resolver(listens: &[SocketAddr], zone: &str, text: &str) -> CheckRow {
    let servers = resolvers::servers(text);
    let ours = |ip: &IpAddr| resolvers::covers(listens, SocketAddr::new(*ip, resolvers::PORT));
    let named = servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let on_53 = listens.iter().find(|at| at.port() == resolvers::PORT);
    match (on_53, servers.iter().any(ours)) {
        (_, true) => check("resolv.conf", Verdict::Ok, format!("this host asks {named}"), ""),
        (Some(at), false) => {
            let remedy = let_it_ask(*at, zone, text);
            check("resolv.conf", Verdict::Warn, format!("this host asks {named}, not this node"), &remedy)
        }
        (None, false) => {
            check("resolv.conf", Verdict::Ok, format!("this host asks {named}; this node's DNS is not on port 53"), "")
        }
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{}", ms / 1_000, ms % 1_000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolver_of_the_host_is_compared_with_our_server() {
        let ours = ["127.0.0.53:53".parse().expect("an address")];
        let verdict = |listens: &[SocketAddr], text| resolver(listens, "dunlin.internal", text).verdict;
        assert_eq!(verdict(&ours, "search x\nnameserver 127.0.0.53\n"), Verdict::Ok);
        assert_eq!(verdict(&ours, "nameserver 9.9.9.9\nnonsense\n"), Verdict::Warn);
        assert_eq!(verdict(&["127.0.0.1:7453".parse().expect("an address")], "nameserver 9.9.9.9"), Verdict::Ok);
        let ours = ["10.1.2.3:53".parse().expect("an address")];
        let remedy = |text| resolver(&ours, "dunlin.internal", text).remedy;
        assert!(remedy("nameserver 9.9.9.9").starts_with("sed -i '1i nameserver 10.1.2.3' /etc/resolv.conf; or "));
        let resolved = remedy("nameserver 127.0.0.53\n");
        assert!(resolved.contains(r"[Resolve]\nDNS=10.1.2.3:53\nDomains=~dunlin.internal\n"), "{resolved}");
    }

    #[test]
    fn a_clock_that_is_off_is_found_on_every_node() {
        let verdicts = |offset| own_clock(Some(offset)).verdict;
        assert_eq!([0, -999, 1_000].map(verdicts), [Verdict::Ok, Verdict::Ok, Verdict::Warn]);
        assert!(own_clock(Some(-301_000)).seen.contains("301.0 s ahead of the median of its peers; this node accepts"));
        assert_eq!(verdicts(300_000), Verdict::Fail);
        let on_a_good_one = peer_clocks(&[("n2", 3), ("n3", -400_000)]);
        assert_eq!(on_a_good_one.seen, "n3 is 400.0 s behind");
        let on_the_one = peer_clocks(&[("n1", 400_000), ("n2", 400_003)]);
        assert_eq!(on_the_one.verdict, Verdict::Ok, "the others agree");
        assert_eq!(peer_clocks(&[("n2", 400_000)]).verdict, Verdict::Ok, "of two, nobody knows");
    }

    #[test]
    fn a_remedy_is_given_only_where_one_is_needed() {
        let lifetime = Duration::from_secs(90 * DAY_S);
        assert_eq!(certificate(u64::MAX, lifetime).remedy, "");
        let late = certificate(clock::wall().0 + 10 * DAY_S * 1_000, lifetime);
        assert_eq!(late.verdict, Verdict::Warn, "it should have been renewed 20 days ago");
        let ended = certificate(1, lifetime);
        assert!(ended.verdict == Verdict::Fail && ended.remedy.contains("dunlin events"));
    }
}
