//! `/metrics`: the figures of [`Sight`] in the text format of Prometheus (0.0.4), written by hand because a table of names and
//! a loop are all there is to it. Labels are members and fixed words only, so that the number of series is bounded by the
//! members. The names and units are documented in the reference, which a test compares with the table here.

use std::fmt::Write as _;

use dunlin_dns::{AnswerTimes, DnsAnswers};
use dunlin_gossip::face::MemberState;

use crate::sight::{PeerSight, Sight};
use crate::watch::Flow;

/// Grows only, or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Counter,
    Gauge,
    /// Counts up to some bounds, their sum and their number.
    Histogram,
}
use Kind::{Counter, Gauge, Histogram};

/// What is served: name, kind, meaning.
const FAMILIES: &[(&str, Kind, &str)] = &[
    ("dunlin_build_info", Gauge, "Always 1; the agent's version is the label."),
    ("dunlin_start_time_seconds", Gauge, "When this agent started, in seconds since 1970."),
    ("dunlin_synced", Gauge, "1 once this boot has copied from a peer, or there was none."),
    ("dunlin_failed", Gauge, "1 once the disk failed: nothing is accepted any more."),
    ("dunlin_members", Gauge, "Members by state, this node included."),
    ("dunlin_member_alive", Gauge, "1 if the member is alive, 0 if it is not."),
    ("dunlin_member_view_age_seconds", Gauge, "Time since the member's last packet or frame reached this node."),
    ("dunlin_member_clock_offset_seconds", Gauge, "The member's clock minus this node's, transit included."),
    ("dunlin_member_rtt_seconds", Gauge, "Smoothed round trip over the link to the member."),
    ("dunlin_member_suspicions_total", Counter, "Times that the member became suspect here."),
    (
        "dunlin_member_flaps_total",
        Counter,
        "Times that the member was alive again after it had been suspect or down here.",
    ),
    ("dunlin_clock_offset_seconds", Gauge, "Median of the peers' clocks minus this node's."),
    ("dunlin_renewals_total", Counter, "Times that this node renewed its identity since others held it for dead."),
    (
        "dunlin_queue_length",
        Gauge,
        "What waits: received records, records to push, disk requests, network events, API calls.",
    ),
    ("dunlin_queue_bytes", Gauge, "Bytes that wait: received, without credit of a link, not taken by QUIC."),
    ("dunlin_writes_refused_total", Counter, "Writes refused since this node was asked for more than its share."),
    (
        "dunlin_records_held_back_total",
        Counter,
        "Records not passed on at once since their origin wrote more than its share; anti-entropy carries them.",
    ),
    ("dunlin_frames_dropped_total", Counter, "Frames dropped since a link's queue was full, by kind."),
    ("dunlin_udp_bytes_total", Counter, "UDP payload by kind and direction."),
    ("dunlin_udp_datagrams_total", Counter, "UDP datagrams by kind and direction."),
    ("dunlin_udp_turned_away_total", Counter, "Datagrams that were neither QUIC nor a packet of a member."),
    ("dunlin_udp_refusals_total", Counter, "Refusals by hosts of members."),
    ("dunlin_udp_lost_total", Counter, "Packets and refusals lost here for want of room."),
    ("dunlin_frames_total", Counter, "Frames over links by kind and direction; what a sync brings in counts as push."),
    ("dunlin_frame_bytes_total", Counter, "Bytes of frames over links, likewise."),
    ("dunlin_connections", Gauge, "QUIC connections."),
    ("dunlin_links", Gauge, "Links that stand."),
    ("dunlin_quic_packets_sent_total", Counter, "QUIC packets sent."),
    ("dunlin_quic_packets_lost_total", Counter, "QUIC packets held for lost; what they carried was sent again."),
    ("dunlin_quic_bytes_lost_total", Counter, "Bytes in QUIC packets held for lost."),
    ("dunlin_quic_congestion_events_total", Counter, "Times that a QUIC connection slowed down for loss."),
    ("dunlin_syncs_total", Counter, "Anti-entropy walks that this node began."),
    ("dunlin_state_records", Gauge, "Registers held, tombstones included."),
    (
        "dunlin_state_differs_seconds",
        Gauge,
        "How long peers' packets have shown another state than this node's; 0 if they agree.",
    ),
    ("dunlin_state_conflicts", Gauge, "Registers that hold more than one value."),
    ("dunlin_records_left_out", Gauge, "Records whose meaning is left out here, since a handler panicked over them."),
    ("dunlin_unreadable_total", Counter, "Packets, frames and records that could not be read."),
    ("dunlin_allocations", Gauge, "Allocations of this node by phase."),
    ("dunlin_replicas", Gauge, "Replicas of all services as this node sees them: wanted, ready, waiting for an owner."),
    ("dunlin_driver_commands_total", Counter, "Commands to drivers, health probes included."),
    ("dunlin_disk_commits_total", Counter, "Commits to disk."),
    ("dunlin_disk_commit_seconds_total", Counter, "Time that commits took."),
    ("dunlin_turns_total", Counter, "Turns of the agent's loop."),
    ("dunlin_turn_seconds_total", Counter, "Time that turns took."),
    ("dunlin_turn_seconds_max", Gauge, "The longest turn since the start."),
    ("dunlin_dns_answers_total", Counter, "DNS answers by type and code."),
    ("dunlin_dns_answer_seconds", Histogram, "Time from a DNS question to its answer, within this node."),
    ("dunlin_dns_quick_answers_total", Counter, "DNS answers from packet to packet, among them."),
    ("dunlin_dns_disallowed_total", Counter, "DNS questions from networks that may not ask."),
    ("dunlin_dns_limited_total", Counter, "DNS datagrams of clients over their rate: dropped, or sent to TCP."),
    ("dunlin_dns_ignored_total", Counter, "DNS datagrams that got no answer: broken, or answers themselves."),
    ("dunlin_dns_connections_turned_away_total", Counter, "DNS connections turned away because there were too many."),
    ("dunlin_dns_forwarded_total", Counter, "DNS questions for other zones by what became of them."),
    ("dunlin_dns_cached_answers", Gauge, "Answers of other zones that are kept."),
    ("dunlin_dns_resolvers", Gauge, "Resolvers that names of other zones are asked of, by whether they answer."),
];

/// A figure: labels and value.
type Sample = (String, String);

/// The whole page.
pub(crate) fn text(sight: &Sight) -> String {
    let mut out = String::new();
    for (name, kind, help) in FAMILIES {
        let kind = match kind {
            Counter => "counter",
            Gauge => "gauge",
            Histogram => "histogram",
        };
        // Writing to a string does not fail.
        let _infallible = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        let family = name.strip_prefix("dunlin_").unwrap_or(name);
        for (labels, value) in samples(family, sight) {
            let _infallible = writeln!(out, "{name}{labels} {value}");
        }
    }
    out
}

fn samples(family: &str, sight: &Sight) -> Vec<Sample> {
    own(family, sight).or_else(|| moved(family, sight)).unwrap_or_else(|| members(family, sight))
}

/// Figures of the node itself.
fn own(family: &str, s: &Sight) -> Option<Vec<Sample>> {
    let flag = |b: bool| one(u64::from(b));
    Some(match family {
        "build_info" => vec![(labels(&[("version", env!("CARGO_PKG_VERSION"))]), "1".into())],
        "start_time_seconds" => one(millis(i64::try_from(s.started_ms).unwrap_or(i64::MAX))),
        "synced" => flag(s.node.synced),
        "failed" => flag(s.node.failed),
        "clock_offset_seconds" => s.clock_offset_ms.map(millis).map_or_else(Vec::new, one),
        "renewals_total" => one(s.renewals),
        "connections" => one(s.network.connections),
        "links" => one(s.network.links),
        "syncs_total" => one(s.node.counts.syncs),
        "state_records" => one(s.node.records),
        "state_differs_seconds" => one(millis(i64::try_from(s.differs_ms.unwrap_or(0)).unwrap_or(i64::MAX))),
        "state_conflicts" => one(s.conflicts),
        "records_left_out" => one(s.node.left_out.len()),
        "unreadable_total" => one(s.unreadable),
        "allocations" => s.allocations.iter().map(|(phase, n)| by("phase", phase, n)).collect(),
        "replicas" => vec![
            by("state", "wanted", s.replicas_wanted),
            by("state", "ready", s.replicas_ready),
            by("state", "waiting", s.node.waiting),
        ],
        "driver_commands_total" => one(s.node.counts.driver_commands),
        "disk_commits_total" => one(s.disk.commits),
        "disk_commit_seconds_total" => one(micros(s.disk.spent_us)),
        "turns_total" => one(s.turns.count),
        "turn_seconds_total" => one(micros(s.turns.spent_us)),
        "turn_seconds_max" => one(micros(s.turns.longest_us)),
        _ => return names(family, &s.dns.all),
    })
}

/// What was answered by name.
fn names(family: &str, dns: &DnsAnswers) -> Option<Vec<Sample>> {
    let forwarded = &dns.forwarded;
    Some(match family {
        "dns_answers_total" => {
            let sample = |(kind, code, count): &(&str, &str, u64)| {
                (labels(&[("type", kind), ("code", code)]), count.to_string())
            };
            dns.by.iter().map(sample).collect()
        }
        "dns_answer_seconds" => {
            let ways = [("udp", &dns.udp_times), ("tcp", &dns.tcp_times), ("forwarded", &dns.forwarded_times)];
            ways.into_iter().flat_map(|(way, times)| histogram(way, times)).collect()
        }
        "dns_quick_answers_total" => one(dns.quick),
        "dns_disallowed_total" => one(dns.disallowed),
        "dns_limited_total" => one(dns.limited),
        "dns_ignored_total" => one(dns.ignored),
        "dns_connections_turned_away_total" => one(dns.turned_away),
        "dns_forwarded_total" => vec![
            by("result", "hit", forwarded.hits),
            by("result", "miss", forwarded.misses),
            by("result", "stale", forwarded.stale),
            by("result", "failed", forwarded.failed),
        ],
        "dns_cached_answers" => one(forwarded.cached),
        "dns_resolvers" => vec![
            by("state", "healthy", forwarded.healthy),
            by("state", "failing", forwarded.resolvers - forwarded.healthy),
        ],
        _ => return None,
    })
}

/// What moved, and what waits.
fn moved(family: &str, s: &Sight) -> Option<Vec<Sample>> {
    let udp = |what: fn(&crate::sight::Counted) -> [u64; 2]| {
        let both = [("packets", &s.network_packets), ("quic", &s.network_quic)];
        both.into_iter().flat_map(|(kind, counted)| both_ways(kind, what(counted))).collect()
    };
    let frames = |what: fn(&Flow) -> u64| {
        let (sent, received) = (&s.frames_sent, &s.frames_received);
        let kinds = [
            ("control", &sent.control, &received.control),
            ("push", &sent.push, &received.push),
            ("sync", &sent.sync, &received.sync),
        ];
        kinds.into_iter().flat_map(|(kind, out, back)| both_ways(kind, [what(out), what(back)])).collect()
    };
    let q = &s.queues;
    Some(match family {
        "queue_length" => vec![
            by("queue", "inbox", q.inbox),
            by("queue", "spread", q.spread),
            by("queue", "disk", q.disk),
            by("queue", "network", q.network),
            by("queue", "api", q.api),
        ],
        "queue_bytes" => vec![
            by("queue", "inbox", q.inbox_bytes),
            by("queue", "links", q.links_bytes),
            by("queue", "quic", q.quic_bytes),
        ],
        "writes_refused_total" => one(s.flow.writes_refused),
        "records_held_back_total" => one(s.flow.held_back),
        "frames_dropped_total" => vec![
            by("kind", "control", s.flow.dropped.control),
            by("kind", "push", s.flow.dropped.push),
            by("kind", "sync", s.flow.dropped.sync),
        ],
        "udp_bytes_total" => udp(|c| [c.bytes_sent, c.bytes_received]),
        "udp_datagrams_total" => udp(|c| [c.packets_sent, c.packets_received]),
        "udp_turned_away_total" => one(s.network.turned_away),
        "udp_refusals_total" => one(s.network.refusals),
        "udp_lost_total" => one(s.network.lost),
        "frames_total" => frames(|flow| flow.frames),
        "frame_bytes_total" => frames(|flow| flow.bytes),
        "quic_packets_sent_total" => one(s.quic.packets_sent),
        "quic_packets_lost_total" => one(s.quic.packets_lost),
        "quic_bytes_lost_total" => one(s.quic.bytes_lost),
        "quic_congestion_events_total" => one(s.quic.congestion_events),
        _ => return None,
    })
}

/// Figures by member.
fn members(family: &str, s: &Sight) -> Vec<Sample> {
    let each = |value: fn(&PeerSight) -> Option<String>| {
        let sample = |peer: &PeerSight| Some((labels(&[("node", &peer.node), ("id", &peer.id)]), value(peer)?));
        s.peers.iter().filter_map(sample).collect()
    };
    let counts = &s.node.members;
    match family {
        "members" => vec![
            by("state", "alive", counts.alive),
            by("state", "suspect", counts.suspect),
            by("state", "down", counts.down),
            by("state", "left", counts.left),
        ],
        "member_alive" => each(|peer| Some(u64::from(peer.state == MemberState::Alive).to_string())),
        "member_view_age_seconds" => each(|peer| Some(millis(i64::try_from(peer.view_age_ms?).ok()?))),
        "member_clock_offset_seconds" => each(|peer| peer.clock_offset_ms.map(millis)),
        "member_rtt_seconds" => each(|peer| peer.rtt_us.map(micros)),
        "member_suspicions_total" => each(|peer| Some(peer.suspicions.to_string())),
        "member_flaps_total" => each(|peer| Some(peer.flaps.to_string())),
        _ => Vec::new(),
    }
}

fn one(value: impl ToString) -> Vec<Sample> {
    vec![(String::new(), value.to_string())]
}

fn by(label: &str, word: &str, value: impl ToString) -> Sample {
    (labels(&[(label, word)]), value.to_string())
}

/// The lines of a histogram: the ends of their names stand before the labels.
fn histogram(way: &str, times: &AnswerTimes) -> Vec<Sample> {
    let bucket =
        |bound: &str, count: u64| (format!("_bucket{}", labels(&[("way", way), ("le", bound)])), count.to_string());
    let mut lines: Vec<Sample> = times.within().map(|(us, count)| bucket(&micros(us), count)).collect();
    lines.push(bucket("+Inf", times.count()));
    let way = labels(&[("way", way)]);
    let sum = format!("{}.{:09}", times.nanos / 1_000_000_000, times.nanos % 1_000_000_000);
    lines.extend([(format!("_sum{way}"), sum), (format!("_count{way}"), times.count().to_string())]);
    lines
}

fn both_ways(kind: &str, [sent, received]: [u64; 2]) -> [Sample; 2] {
    [("sent", sent), ("received", received)]
        .map(|(way, n)| (labels(&[("kind", kind), ("direction", way)]), n.to_string()))
}

fn labels(pairs: &[(&str, &str)]) -> String {
    let escape = |text: &str| text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

/// Milliseconds as seconds.
fn millis(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    format!("{sign}{}.{:03}", ms.unsigned_abs() / 1_000, ms.unsigned_abs() % 1_000)
}

/// Microseconds as seconds.
fn micros(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_metric_is_documented_and_nothing_else_is() {
        let page = include_str!("../../../docs/src/reference/metrics.md");
        let documented: BTreeSet<&str> =
            page.split('`').skip(1).step_by(2).filter(|word| word.starts_with("dunlin_")).collect();
        let served: BTreeSet<&str> = FAMILIES.iter().map(|(name, ..)| *name).collect();
        assert_eq!(documented, served);
        for (name, kind, _) in FAMILIES {
            assert_eq!(name.ends_with("_total"), *kind == Counter, "{name}");
            assert!(page.contains(&format!("| `{name}` |")), "{name} has no line of its own");
        }
    }

    #[test]
    fn values_and_labels_are_as_the_format_wants_them() {
        assert_eq!([millis(-1_250), millis(7), micros(1_000_002)], ["-1.250", "0.007", "1.000002"]);
        assert_eq!(labels(&[("node", "a\"b\\c\n")]), r#"{node="a\"b\\c\n"}"#);
        let lines = histogram("udp", &AnswerTimes::default());
        assert_eq!(lines[0], ("_bucket{way=\"udp\",le=\"0.000010\"}".into(), "0".into()));
        assert_eq!(lines.len(), 15 + 3);
        assert_eq!(lines[16], ("_sum{way=\"udp\"}".into(), "0.000000000".into()));
        assert_eq!(by("queue", "disk", 3), ("{queue=\"disk\"}".into(), "3".into()));
    }
}
