//! What `status` and `/metrics` show, gathered in one turn of the loop: the core's row, what the agent has watched, what
//! passed the port. One set of figures for both, so that they cannot tell different things.

use std::collections::BTreeMap;

use dunlin_core::query::{self, StatusRow};
use dunlin_dns::DnsAnswers;
use dunlin_gossip::face::MemberState;
use dunlin_gossip::model::Phase;
use dunlin_net::{NetStats, Traffic};
use serde::Serialize;

use crate::clock;
use crate::run::Agent;
use crate::watch::{Flows, Turns};

/// How this agent is.
#[derive(Serialize)]
pub(crate) struct Sight {
    #[serde(flatten)]
    pub(crate) node: StatusRow,
    /// When this agent started (milliseconds since 1970).
    pub(crate) started_ms: u64,
    /// Registers in conflict.
    pub(crate) conflicts: usize,
    /// The median of the peers' clocks minus ours; null while nobody was heard.
    pub(crate) clock_offset_ms: Option<i64>,
    /// How long peers' packets have shown another state than ours; null if they agree.
    pub(crate) differs_ms: Option<u64>,
    /// Times that this node renewed its identity since others held it for dead.
    pub(crate) renewals: u64,
    /// Packets, frames and records that could not be read.
    pub(crate) unreadable: u64,
    pub(crate) queues: Queues,
    pub(crate) flow: Flow,
    pub(crate) trust: Trust,
    pub(crate) network: Network,
    pub(crate) network_packets: Counted,
    pub(crate) network_quic: Counted,
    pub(crate) frames_sent: Flows,
    pub(crate) frames_received: Flows,
    pub(crate) quic: Quic,
    pub(crate) disk: DiskSight,
    pub(crate) turns: Turns,
    pub(crate) dns: Dns,
    /// Own allocations by phase.
    pub(crate) allocations: BTreeMap<&'static str, usize>,
    /// Over all services: replicas wanted, ready.
    pub(crate) replicas_wanted: usize,
    pub(crate) replicas_ready: usize,
    pub(crate) peers: Vec<PeerSight>,
}

/// The certificate and the authority.
#[derive(Serialize)]
pub(crate) struct Trust {
    /// SHA-256 of the certificate of the authority in force.
    pub(crate) authority: String,
    /// Authorities that are trusted: more than one while the authority changes.
    pub(crate) authorities: usize,
    /// Nodes, this one included, whose certificates are by the authority in force.
    pub(crate) moved: usize,
    /// Until when the certificate shown is good.
    pub(crate) certificate_until_ms: u64,
}

/// What waits where.
#[derive(Serialize)]
pub(crate) struct Queues {
    /// Received records and frames before they are merged, and their bytes.
    pub(crate) inbox: usize,
    pub(crate) inbox_bytes: usize,
    /// Merged records before they are pushed on.
    pub(crate) spread: usize,
    /// Requests at the disk.
    pub(crate) disk: usize,
    /// Events of the network, calls of the API before their turn.
    pub(crate) network: usize,
    pub(crate) api: usize,
    /// Bytes of frames that no link has credit for; bytes that QUIC has not taken.
    pub(crate) links_bytes: usize,
    pub(crate) quic_bytes: usize,
}

/// What was held up so that nobody starves.
#[derive(Serialize)]
pub(crate) struct Flow {
    /// Writes refused here since they came too fast, and whether that was so within the last minute.
    pub(crate) writes_refused: u64,
    pub(crate) refused_of_late: bool,
    /// Records of too fast origins that were left to anti-entropy, and which origin that was within the last minute.
    pub(crate) held_back: u64,
    pub(crate) held_back_of: Option<String>,
    /// Frames that full queues of links have cost.
    pub(crate) dropped: DroppedFrames,
}

/// By class; what is later here goes first.
#[derive(Serialize)]
pub(crate) struct DroppedFrames {
    pub(crate) control: u64,
    pub(crate) push: u64,
    pub(crate) sync: u64,
}

/// The port as a whole, since the agent's start.
#[derive(Serialize)]
pub(crate) struct Network {
    #[serde(flatten)]
    all: Counted,
    /// Datagrams that were neither QUIC nor a packet of a member.
    pub(crate) turned_away: u64,
    /// Refusals by hosts of members.
    pub(crate) refusals: u64,
    /// Lost here, for want of room.
    pub(crate) lost: u64,
    pub(crate) connections: usize,
    pub(crate) links: usize,
}

/// Payload bytes and datagrams of UDP.
#[derive(Serialize)]
pub(crate) struct Counted {
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) packets_sent: u64,
    pub(crate) packets_received: u64,
}

impl From<Traffic> for Counted {
    fn from(traffic: Traffic) -> Self {
        Self {
            bytes_sent: traffic.sent_bytes,
            bytes_received: traffic.received_bytes,
            packets_sent: traffic.sent_packets,
            packets_received: traffic.received_packets,
        }
    }
}

/// Losses on all connections.
#[derive(Serialize)]
pub(crate) struct Quic {
    pub(crate) packets_sent: u64,
    pub(crate) packets_lost: u64,
    pub(crate) bytes_lost: u64,
    pub(crate) congestion_events: u64,
}

/// Commits.
#[derive(Serialize)]
pub(crate) struct DiskSight {
    pub(crate) commits: u64,
    pub(crate) spent_us: u64,
    pub(crate) last_us: u64,
}

/// Answers by code.
#[derive(Serialize)]
pub(crate) struct Dns {
    pub(crate) no_error: u64,
    pub(crate) no_name: u64,
    pub(crate) refused: u64,
    pub(crate) other: u64,
    pub(crate) disallowed: u64,
    pub(crate) limited: u64,
    pub(crate) cache_hits: u64,
    pub(crate) cache_misses: u64,
    pub(crate) listens: Vec<String>,
    pub(crate) zone: String,
    /// All of it, for `/metrics`.
    #[serde(skip)]
    pub(crate) all: DnsAnswers,
}

/// A peer as this node sees it.
#[derive(Serialize)]
pub(crate) struct PeerSight {
    pub(crate) node: String,
    pub(crate) id: String,
    pub(crate) state: MemberState,
    /// Since when it is in that state here; null since before this agent's start.
    pub(crate) since_ms: Option<u64>,
    /// How long ago its last packet or frame came; null if none did.
    pub(crate) view_age_ms: Option<u64>,
    /// Its clock minus ours, transit included.
    pub(crate) clock_offset_ms: Option<i64>,
    /// The round trip over its link; null without one.
    pub(crate) rtt_us: Option<u64>,
    pub(crate) suspicions: u64,
    pub(crate) flaps: u64,
    pub(crate) version: String,
}

impl Agent {
    fn trust(&self) -> Trust {
        let credentials = self.net.credentials();
        let own = credentials.info();
        let headers = self.node.view().nodes().iter().filter_map(|(_, known)| known.header.as_deref());
        Trust {
            authority: crate::custody::fingerprint(&credentials),
            authorities: 1 + credentials.previous.len(),
            moved: headers.filter(|header| header.certificate.shows == own.holds).count(),
            certificate_until_ms: own.until.0,
        }
    }

    pub(crate) fn sight(&self) -> Sight {
        let Self { node, watch, .. } = self;
        let NetStats { sealed, quic, packets: _, unopened, refusals, lost, connections, links } = self.net.stats();
        let ways = self.net.ways();
        let (depths, progress) = (node.gossip().depths(), self.disk.progress().borrow().clone());
        let micros = |took: std::time::Duration| u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let services = query::services(node);
        Sight {
            node: query::status(node, clock::now(), clock::wall()),
            started_ms: watch.started.0,
            conflicts: query::conflicts(node).len(),
            clock_offset_ms: node.gossip().clock_offset(),
            differs_ms: node
                .gossip()
                .differs_since()
                .map(|at| u64::try_from(clock::now().since(at).as_millis()).unwrap_or(u64::MAX)),
            renewals: node.gossip().renewals(),
            unreadable: node.gossip().unreadable(),
            queues: Queues {
                inbox: depths.inbox,
                inbox_bytes: depths.inbox_bytes,
                spread: depths.spread,
                disk: depths.disk,
                network: watch.waiting[0],
                api: watch.waiting[1],
                links_bytes: depths.links_bytes,
                quic_bytes: ways.queued_bytes,
            },
            flow: self.flow(),
            trust: self.trust(),
            network: Network {
                all: sealed.plus(&quic).into(),
                turned_away: unopened,
                refusals,
                lost,
                connections,
                links,
            },
            network_packets: sealed.into(),
            network_quic: quic.into(),
            frames_sent: watch.sent,
            frames_received: watch.received,
            quic: Quic {
                packets_sent: ways.paths.packets_sent,
                packets_lost: ways.paths.packets_lost,
                bytes_lost: ways.paths.bytes_lost,
                congestion_events: ways.paths.congestion_events,
            },
            disk: DiskSight {
                commits: progress.commits,
                spent_us: micros(progress.spent),
                last_us: micros(progress.last),
            },
            turns: watch.turns,
            dns: self.dns(),
            allocations: self.phases(),
            replicas_wanted: services.iter().map(|row| row.replicas_wanted).sum(),
            replicas_ready: services.iter().map(|row| row.ready).sum(),
            peers: self.peers(&ways.rtt),
        }
    }

    fn dns(&self) -> Dns {
        let answers = self.names.answers();
        let (listens, zone) = self.names.served();
        Dns {
            no_error: answers.with_code("noerror"),
            no_name: answers.with_code("nxdomain"),
            refused: answers.with_code("refused"),
            other: answers.all()
                - ["noerror", "nxdomain", "refused"].map(|code| answers.with_code(code)).iter().sum::<u64>(),
            disallowed: answers.disallowed,
            limited: answers.limited,
            cache_hits: answers.forwarded.hits,
            cache_misses: answers.forwarded.misses,
            listens: listens.iter().map(ToString::to_string).collect(),
            zone: zone.to_owned(),
            all: answers,
        }
    }

    fn flow(&self) -> Flow {
        let gossip = self.node.gossip();
        let (fast, [control, push, sync]) = (gossip.too_fast(), gossip.dropped());
        Flow {
            writes_refused: fast.refused,
            refused_of_late: fast.refused_of_late,
            held_back: fast.held_back,
            held_back_of: fast.origin.map(|origin| crate::read::name(&self.node, origin)),
            dropped: DroppedFrames { control, push, sync },
        }
    }

    /// Own allocations; every phase is there, that a figure at zero is told from one that is missing.
    fn phases(&self) -> BTreeMap<&'static str, usize> {
        let mut phases: BTreeMap<&'static str, usize> = Phase::ALL.iter().map(|phase| (phase.as_str(), 0)).collect();
        let own = self.node.view().nodes().get(&self.me);
        for alloc in own.iter().flat_map(|known| known.allocations.values()) {
            *phases.entry(alloc.phase.as_str()).or_default() += 1;
        }
        phases
    }

    fn peers(&self, rtt: &BTreeMap<dunlin_gossip::id::NodeId, std::time::Duration>) -> Vec<PeerSight> {
        let (gossip, now) = (self.node.gossip(), clock::now());
        let others = gossip.members().filter(|(id, _)| *id != self.me);
        let peer = |(id, state)| {
            let seen = self.watch.peers.get(&id).copied().unwrap_or_default();
            let header = self.node.view().nodes().get(&id).and_then(|known| known.header.as_deref());
            PeerSight {
                node: crate::read::name(&self.node, id),
                id: id.to_string(),
                state,
                since_ms: seen.changed.map(|(at, _)| at.0),
                view_age_ms: seen.heard.map(|at| u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX)),
                clock_offset_ms: gossip.peer_clock_offset(id),
                rtt_us: rtt.get(&id).map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
                suspicions: seen.suspicions,
                flaps: seen.flaps,
                version: header.map(|header| header.version.clone()).unwrap_or_default(),
            }
        };
        others.map(peer).collect()
    }
}
