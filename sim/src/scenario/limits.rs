//! What a scenario's figures may come to. Some promises hold only where little else goes wrong: that nobody healthy is given
//! up, that an agent's restart moves nothing. A scenario that is about one of them says so here, and is judged by it at its end.

use super::write::time;
use super::yaml::{Map, Value};
use crate::queue::Nanos;

/// Upper bounds; none: any figure will do.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Limits {
    /// Healthy members that somebody held down.
    pub false_positives: Option<u64>,
    /// Times that nodes renewed their identity because others held them for dead.
    pub renewals: Option<u64>,
    /// Replicas that moved beyond those that faults displaced.
    pub surplus_moves: Option<u64>,
    /// Stops that left a replica, which the node that stopped it still wants, without an owner.
    pub abandoned: Option<u64>,
    /// Stops that left a service, which the node that stopped it still wants, without a ready process.
    pub outages: Option<u64>,
    /// Stops by a drain of what was ready, and was ready nowhere else.
    pub drain_losses: Option<u64>,
    /// Replicas that hosts took for their share.
    pub shares: Option<u64>,
    /// Of these, taken sooner than the budget allows.
    pub hurried: Option<u64>,
    /// Hosts that came and do not have their share at the end.
    pub unshared: Option<u64>,
    /// Stops of what was ready, is wanted, and was ready nowhere else.
    pub gaps: Option<u64>,
    /// Slots of jobs that were begun though they had finished, and this had had time to be known.
    pub reruns: Option<u64>,
    /// Slots of jobs that were begun while as many as may were under way.
    pub crowded: Option<u64>,
    /// Runs of cron services that were begun beside another one, where their author forbids it.
    pub overlaps: Option<u64>,
    /// Runs of cron services that were begun and never finished, though nothing took their place.
    pub lost_runs: Option<u64>,
    /// Records of what exists no more, with any agent.
    pub remains: Option<u64>,
    /// Agents that left the meaning of a record out.
    pub left_out: Option<u64>,
    /// Instances that were told to end while somebody could still have their address from an answer.
    pub early_signals: Option<u64>,
    /// From a host's death to its last replica being ready elsewhere.
    pub failover: Option<Nanos>,
    /// How long a service had nothing ready after a fault.
    pub dark: Option<Nanos>,
    /// How long a replica ran twice.
    pub duplicate: Option<Nanos>,
    /// From a deploy to its last replica being ready.
    pub deploy: Option<Nanos>,
    /// How long names led to what was dead.
    pub dns_stale: Option<Nanos>,
}

impl Limits {
    pub(super) fn read(value: Value<'_>) -> Result<Self, String> {
        let mut map = value.map()?;
        let limits = Self {
            false_positives: number(&mut map, "false-positives")?,
            renewals: number(&mut map, "renewals")?,
            surplus_moves: number(&mut map, "surplus-moves")?,
            abandoned: number(&mut map, "abandoned")?,
            outages: number(&mut map, "outages")?,
            drain_losses: number(&mut map, "drain-losses")?,
            shares: number(&mut map, "shares")?,
            hurried: number(&mut map, "hurried")?,
            unshared: number(&mut map, "unshared")?,
            gaps: number(&mut map, "gaps")?,
            reruns: number(&mut map, "reruns")?,
            crowded: number(&mut map, "crowded")?,
            overlaps: number(&mut map, "overlaps")?,
            lost_runs: number(&mut map, "lost-runs")?,
            remains: number(&mut map, "remains")?,
            left_out: number(&mut map, "left-out")?,
            early_signals: number(&mut map, "early-signals")?,
            failover: map.maybe("failover", None, |v| v.time().map(Some))?,
            dark: map.maybe("dark", None, |v| v.time().map(Some))?,
            duplicate: map.maybe("duplicate", None, |v| v.time().map(Some))?,
            deploy: map.maybe("deploy", None, |v| v.time().map(Some))?,
            dns_stale: map.maybe("dns-stale", None, |v| v.time().map(Some))?,
        };
        map.end(
            "false-positives, renewals, surplus-moves, abandoned, outages, drain-losses, shares, hurried, unshared, gaps, reruns, crowded, overlaps, lost-runs, remains, \
             left-out, early-signals, failover, dark, duplicate, deploy, dns-stale",
        )?;
        Ok(limits)
    }

    /// As the inside of a mapping that reads as the same limits.
    pub(crate) fn text(&self) -> String {
        let counts = [
            ("false-positives", self.false_positives),
            ("renewals", self.renewals),
            ("surplus-moves", self.surplus_moves),
            ("abandoned", self.abandoned),
            ("outages", self.outages),
            ("drain-losses", self.drain_losses),
            ("shares", self.shares),
            ("hurried", self.hurried),
            ("unshared", self.unshared),
            ("gaps", self.gaps),
            ("reruns", self.reruns),
            ("crowded", self.crowded),
            ("overlaps", self.overlaps),
            ("lost-runs", self.lost_runs),
            ("remains", self.remains),
            ("left-out", self.left_out),
            ("early-signals", self.early_signals),
        ];
        let times = [
            ("failover", self.failover),
            ("dark", self.dark),
            ("duplicate", self.duplicate),
            ("deploy", self.deploy),
            ("dns-stale", self.dns_stale),
        ];
        let counts = counts.into_iter().filter_map(|(name, limit)| Some(format!("{name}: {}", limit?)));
        let times = times.into_iter().filter_map(|(name, limit)| Some(format!("{name}: {}", time(limit?))));
        counts.chain(times).collect::<Vec<_>>().join(", ")
    }
}

fn number(map: &mut Map<'_>, name: &str) -> Result<Option<u64>, String> {
    map.maybe(name, None, |v| v.number().map(Some))
}
