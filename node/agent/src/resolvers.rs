//! What workloads are told to ask for names: this node's server on an address that containers reach, and another node's, so
//! that an agent's restart costs no answer.
//!
//! Containers get both with the search path of their stack. A process of the host asks what the host asks; it gets the search
//! path through its environment, if the host asks this node.
//!
//! Never: a server that was not seen to answer for this cluster, nor one in place of the engine's own if there is none of ours.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dunlin_gossip::model::{StackName, Workload};

use dunlin_core::face::StartSpec;

use crate::api::call::Door;
use crate::doctor::ask_for_cluster;

/// What clients of `resolv.conf` ask: it has no way to say another.
pub(crate) const PORT: u16 = 53;
/// How often another node's server is looked for, or looked at.
const LOOK: Duration = Duration::from_secs(30);
/// The first time: a new flock's nodes come up together.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// Nodes that are asked at one look.
const MOST_ASKED: usize = 4;
/// A name with a dot is asked as it is; a server that is silent is passed over soon.
const OPTIONS: [&str; 2] = ["ndots:1", "timeout:1"];
/// glibc's for what stands in `resolv.conf` otherwise.
const SEARCH_VARIABLE: &str = "LOCALDOMAIN";
const OPTIONS_VARIABLE: &str = "RES_OPTIONS";

/// Where containers shall find this node's DNS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WorkloadDns {
    /// Nowhere: they ask what their engine gives them.
    Off,
    /// On the address that the engine's own network reaches this host by, if port 53 can be had there.
    #[default]
    Auto,
    /// On this address.
    At(IpAddr),
}

/// The lines of a container's `resolv.conf`.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct ResolvConf {
    pub(crate) servers: Vec<String>,
    pub(crate) search: Vec<String>,
    pub(crate) options: Vec<String>,
}

#[derive(Debug, Default)]
struct Found {
    here: Option<IpAddr>,
    elsewhere: Option<IpAddr>,
    /// The host's own search path, if the host asks this node.
    host: Option<Vec<String>>,
}

/// Known to the drivers and to who looks for servers.
#[derive(Debug)]
pub struct Resolvers {
    zone: String,
    found: Mutex<Found>,
}

impl Resolvers {
    /// None are known yet.
    #[must_use]
    pub fn new(zone: &str) -> Self {
        Self { zone: zone.to_owned(), found: Mutex::default() }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        // Fields that are each right by themselves.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This node's server answers there, port 53.
    pub(crate) fn here(&self, address: IpAddr) {
        self.found().here = Some(address);
    }

    /// Reads the host's `resolv.conf`: whether it asks a server that listens there.
    pub(crate) fn read_host(&self, listens: &[SocketAddr], text: &str) {
        let ours = |ip: &IpAddr| covers(listens, SocketAddr::new(*ip, PORT));
        self.found().host = servers(text).first().filter(|first| ours(first)).map(|_| search(text));
    }

    fn search(&self, stack: &StackName) -> String {
        format!("{stack}.{}", self.zone)
    }

    /// What a container of the stack shall ask; none if no server of ours is known.
    pub(crate) fn of_container(&self, stack: &StackName) -> Option<ResolvConf> {
        let found = self.found();
        let servers: Vec<String> = found.here.iter().chain(&found.elsewhere).map(ToString::to_string).collect();
        let options = OPTIONS.map(str::to_owned).to_vec();
        (!servers.is_empty()).then(|| ResolvConf { servers, search: vec![self.search(stack)], options })
    }

    /// Tells a process of the host the search path of its stack, unless its author did.
    pub(crate) fn tell_process(&self, spec: &mut StartSpec) {
        let Some(host) = self.found().host.clone() else { return };
        if let Workload::Exec(_) = spec.workload {
            let own = self.search(&spec.replica.service.stack);
            let path = std::iter::once(own).chain(host).collect::<Vec<_>>().join(" ");
            spec.environment.entry(SEARCH_VARIABLE.to_owned()).or_insert(path);
            spec.environment.entry(OPTIONS_VARIABLE.to_owned()).or_insert_with(|| OPTIONS.join(" "));
        }
    }
}

/// Whether who asks there is answered by a server that listens at these. One that listens at all addresses of a family has each
/// of them; `::` has those of version 4 too.
pub(crate) fn covers(listens: &[SocketAddr], at: SocketAddr) -> bool {
    let takes = |own: &SocketAddr| own.ip().is_unspecified() && (own.is_ipv6() || at.is_ipv4());
    listens.iter().any(|own| own.port() == at.port() && (own.ip() == at.ip() || takes(own)))
}

/// The name servers of a `resolv.conf`.
pub(crate) fn servers(text: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    lines.filter_map(|rest| rest.trim().parse().ok()).collect()
}

/// Its search path: the last `search` or `domain` counts (resolv.conf(5)).
fn search(text: &str) -> Vec<String> {
    let mut path = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let Some("search" | "domain") = words.next() {
            path = words.map(str::to_owned).collect();
        }
    }
    path
}

/// Finds another node whose server answers on port 53 of its own address, and another one once that is silent.
pub(crate) async fn look(door: Door, resolvers: std::sync::Arc<Resolvers>, cluster: String) {
    let mut pause = FIRST_LOOK;
    let mut turn = 0_usize;
    loop {
        tokio::time::sleep(pause).await;
        pause = LOOK;
        let Ok(zone) = door.zone().await else { return };
        let known = resolvers.found().elsewhere;
        let mut others = zone.others();
        if !others.is_empty() {
            let by = turn % others.len();
            others.rotate_left(by);
        }
        turn = turn.wrapping_add(MOST_ASKED);
        // One that answers is kept: containers that were told of it cannot be told of another.
        let stays = known.filter(|known| others.contains(known));
        let mut elsewhere = None;
        for ip in stays.into_iter().chain(others).take(MOST_ASKED) {
            if ask_for_cluster(SocketAddr::new(ip, PORT), &resolvers.zone, &cluster).await {
                elsewhere = Some(ip);
                break;
            }
        }
        resolvers.found().elsewhere = elsewhere;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str =
        "# made by hand\nnameserver 127.0.0.53\nnameserver 192.0.2.1\ndomain a.example\nsearch b.example c.example\n";

    fn shop() -> StackName {
        StackName::new("shop").unwrap()
    }

    #[test]
    fn a_container_asks_this_node_then_another_and_nobody_if_there_is_none() {
        let resolvers = Resolvers::new("dunlin.internal");
        assert_eq!(resolvers.of_container(&shop()), None);
        resolvers.here("172.17.0.1".parse().unwrap());
        resolvers.found().elsewhere = Some("192.0.2.7".parse().unwrap());
        let told = resolvers.of_container(&shop()).unwrap();
        assert_eq!(told.servers, ["172.17.0.1", "192.0.2.7"]);
        assert_eq!(told.search, ["shop.dunlin.internal"]);
        assert_eq!(told.options, ["ndots:1", "timeout:1"]);
    }

    #[test]
    fn a_server_of_all_addresses_is_there_for_each_of_them() {
        let listens = |own: &str, at: &str| covers(&[own.parse().unwrap()], at.parse().unwrap());
        assert!(listens("127.0.0.53:53", "127.0.0.53:53") && listens("0.0.0.0:53", "192.0.2.1:53"));
        assert!(listens("[::]:53", "192.0.2.1:53") && listens("[::]:53", "[::1]:53"));
        assert!(!listens("0.0.0.0:53", "[::1]:53") && !listens("0.0.0.0:53", "192.0.2.1:54"));
        assert!(!listens("127.0.0.1:53", "127.0.0.53:53"));
    }

    #[test]
    fn the_host_s_search_path_is_known_only_if_it_asks_this_node_first() {
        let resolvers = Resolvers::new("dunlin.internal");
        resolvers.read_host(&["127.0.0.53:53".parse().unwrap()], HOST);
        assert_eq!(resolvers.found().host.as_deref(), Some(&["b.example".to_owned(), "c.example".to_owned()][..]));
        for listens in ["127.0.0.1:7453", "192.0.2.1:53", "127.0.0.53:5353"] {
            resolvers.read_host(&[listens.parse().unwrap()], HOST);
            assert_eq!(resolvers.found().host, None, "{listens}");
        }
    }
}
