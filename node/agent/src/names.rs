//! From the core's statements about names to this node's DNS server.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dunlin_core::Node;
use dunlin_core::query::{self, NamedRow};
use dunlin_dns::{DnsAnswers, DnsConfig, DnsError, DnsServer, Network, Upstream};
use dunlin_gossip::id::{ClusterId, NodeId};
use dunlin_gossip::rng::Seed;
use dunlin_gossip::time::Instant;
use dunlin_names::{NameChange, Standing, Zone};
use serde::Serialize;

use crate::resolvers::{self, Resolvers, WorkloadDns};
use crate::settings::Settings;

/// What this host asks for names.
pub(crate) const RESOLV_CONF: &str = "/etc/resolv.conf";
/// How often the round trips to other nodes are looked at: they say what is near.
const MEASURE_EVERY: Duration = Duration::from_secs(5);
/// For answers under way at the end.
const GOODBYE: Duration = Duration::from_millis(200);

/// The server, and what it shall hear after this turn.
#[derive(Debug)]
pub(crate) struct Names {
    server: DnsServer,
    domain: String,
    forwards: bool,
    pending: Vec<NameChange>,
    containers: WorkloadDns,
    resolvers: Arc<Resolvers>,
    /// The zone's names are answered.
    knows_zone: bool,
    /// When the round trips are looked at next.
    measure_at: Instant,
}

/// What stands at a name, and why.
#[derive(Debug, Serialize)]
struct Explained {
    /// The whole name.
    name: String,
    /// `exists`, `nothing` (NXDOMAIN), `forwarded` or `refused`.
    standing: &'static str,
    /// All its records, as lines of a zone file.
    records: Vec<String>,
    /// `stack/service` that it leads to.
    service: Option<String>,
    /// That service's allocations, and what leaves some of them out.
    instances: Vec<NamedRow>,
}

impl Names {
    pub(crate) fn start(
        settings: &Settings,
        cluster: ClusterId,
        me: NodeId,
        seed: Seed,
        resolvers: Arc<Resolvers>,
    ) -> Result<Self, DnsError> {
        let mut listen = settings.dns.clone();
        if let WorkloadDns::At(ip) = settings.workload_dns {
            let at = SocketAddr::new(ip, resolvers::PORT);
            if !resolvers::covers(&listen, at) {
                listen.push(at);
            }
        }
        let mut config = DnsConfig::new(listen, &settings.domain, &cluster.to_string(), seed);
        config.here = Some(me);
        config.knows_zone = false;
        config.allow.extend(settings.dns_allow.iter().copied());
        config.allow.extend(own_networks());
        config.rate = settings.dns_rate;
        config.forward.clone_from(&settings.dns_forward);
        let (domain, forwards) = (config.domain.clone(), !config.forward.is_empty());
        let (server, containers) = (DnsServer::start(config)?, settings.workload_dns);
        let mut names = Self {
            server,
            domain,
            forwards,
            pending: Vec::new(),
            containers,
            resolvers,
            knows_zone: false,
            measure_at: Instant::ZERO,
        };
        if let WorkloadDns::At(ip) = containers {
            names.told(ip);
        }
        names.read_host();
        Ok(names)
    }

    /// Listens where containers reach this host, once that is known. Where it cannot, they ask what their engine says.
    pub(crate) fn serve_containers(&mut self, bridge: Option<IpAddr>) {
        let (WorkloadDns::Auto, Some(ip)) = (self.containers, bridge) else { return };
        // Once: an address that another program has now will hardly be free later.
        self.containers = WorkloadDns::At(ip);
        let at = SocketAddr::new(ip, resolvers::PORT);
        if !resolvers::covers(self.server.addresses(), at)
            && let Err(error) = self.server.listen(at)
        {
            tracing::info!(%error, "containers do not ask this node for names; --workload-dns says where they could, or off");
            return;
        }
        self.told(ip);
        self.read_host();
    }

    /// Workloads ask here, and for all names there are: they have no other server.
    fn told(&mut self, ip: IpAddr) {
        self.resolvers.here(ip);
        if !self.forwards {
            let servers = resolvers::servers(&host_conf());
            let upstream = |ip: &IpAddr| Upstream { zone: None, address: SocketAddr::new(*ip, resolvers::PORT) };
            self.forwards = self.server.forward(&servers.iter().map(upstream).collect::<Vec<_>>());
        }
    }

    fn read_host(&self) {
        self.resolvers.read_host(self.server.addresses(), &host_conf());
    }

    /// Remembers a change until the turn is over.
    pub(crate) fn change(&mut self, change: NameChange) {
        self.pending.push(change);
    }

    /// Publishes the turn's changes as one snapshot. The zone's names are answered once the node has come up.
    pub(crate) fn publish(&mut self, has_come_up: bool) {
        if !self.pending.is_empty() {
            self.server.apply(&self.pending);
            self.pending.clear();
        }
        if has_come_up && !self.knows_zone {
            self.knows_zone = true;
            self.server.knows_zone();
        }
    }

    /// Looks at the round trips to other nodes, if it is time to.
    pub(crate) fn measure(&mut self, now: Instant, round_trips: impl FnOnce() -> BTreeMap<NodeId, Duration>) {
        if now >= self.measure_at {
            self.measure_at = now + MEASURE_EVERY;
            self.server.measure(&round_trips());
        }
    }

    /// Answers given so far.
    pub(crate) fn answers(&self) -> DnsAnswers {
        self.server.answers()
    }

    /// Where it listens, and for which zone.
    pub(crate) fn served(&self) -> (&[SocketAddr], &str) {
        (self.server.addresses(), &self.domain)
    }

    /// All names as they are answered now.
    pub(crate) fn zone(&self) -> Arc<Zone> {
        self.server.zone()
    }

    /// What stands at a name, and which allocations are left out of it and why, as JSON.
    pub(crate) fn explain(&self, node: &Node, typed: &str) -> Vec<u8> {
        let zone = self.server.zone();
        let name = zone.typed(typed);
        let (standing, records) = zone.describe(&name);
        let meant = zone.service_of(&name);
        let explained = Explained {
            name: name.to_string(),
            standing: match standing {
                Standing::Exists => "exists",
                Standing::Nothing => "nothing",
                Standing::NotOurs if self.forwards => "forwarded",
                Standing::NotOurs => "refused",
            },
            records: records.iter().map(ToString::to_string).collect(),
            service: meant.as_ref().map(|(service, stack)| format!("{stack}/{service}")),
            instances: meant.map(|(service, stack)| query::named(node, &service, &stack)).unwrap_or_default(),
        };
        crate::read::json(&explained)
    }

    pub(crate) async fn stop(self) {
        self.server.stop(GOODBYE).await;
    }
}

/// The host's `resolv.conf`; empty if there is none.
fn host_conf() -> String {
    std::fs::read_to_string(RESOLV_CONF).unwrap_or_default()
}

/// The networks that this host is part of; what cannot be read is none.
fn own_networks() -> Vec<Network> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let network = |interface: nix::ifaddrs::InterfaceAddress| {
        let (address, mask) = (interface.address?, interface.netmask?);
        if let (Some(v4), Some(mask)) = (address.as_sockaddr_in(), mask.as_sockaddr_in()) {
            let length = mask.ip().to_bits().leading_ones();
            return Network::new(v4.ip().into(), u8::try_from(length).ok()?);
        }
        let (v6, mask) = (address.as_sockaddr_in6()?, mask.as_sockaddr_in6()?);
        Network::new(v6.ip().into(), u8::try_from(mask.ip().to_bits().leading_ones()).ok()?)
    };
    // A tunnel's route to everything is no network to be part of.
    interfaces.filter_map(network).filter(|network| network.length() >= 8).collect()
}
