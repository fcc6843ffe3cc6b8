//! From the core's statements about names to this node's DNS server.

use std::net::SocketAddr;
use std::time::Duration;

use dunlin_dns::{DnsAnswers, DnsConfig, DnsError, DnsServer};
use dunlin_gossip::id::ClusterId;
use dunlin_gossip::rng::Seed;
use dunlin_names::NameChange;

use crate::settings::Settings;

/// Time to live of every answer, in seconds: what changes within a second must be asked again within a second.
const TTL: u32 = 1;
/// For answers under way at the end.
const GOODBYE: Duration = Duration::from_millis(200);

/// The server, and what it shall hear after this turn.
#[derive(Debug)]
pub(crate) struct Names {
    server: DnsServer,
    domain: String,
    pending: Vec<NameChange>,
}

impl Names {
    pub(crate) async fn start(settings: &Settings, cluster: ClusterId, seed: Seed) -> Result<Self, DnsError> {
        let config = DnsConfig {
            listen: settings.dns.clone(),
            domain: settings.domain.clone(),
            cluster: cluster.to_string(),
            ttl: TTL,
            seed,
        };
        let domain = config.domain.clone();
        Ok(Self { server: DnsServer::start(config).await?, domain, pending: Vec::new() })
    }

    /// Remembers a change until the turn is over.
    pub(crate) fn change(&mut self, change: NameChange) {
        self.pending.push(change);
    }

    /// Publishes the turn's changes as one snapshot.
    pub(crate) fn publish(&mut self) {
        if !self.pending.is_empty() {
            self.server.apply(&self.pending);
            self.pending.clear();
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

    pub(crate) async fn stop(self) {
        self.server.stop(GOODBYE).await;
    }
}
