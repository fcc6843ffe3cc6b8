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
    /// Records of what exists no more, with any agent.
    pub remains: Option<u64>,
    /// From a host's death to its last replica being ready elsewhere.
    pub failover: Option<Nanos>,
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
            remains: number(&mut map, "remains")?,
            failover: map.maybe("failover", None, |v| v.time().map(Some))?,
            duplicate: map.maybe("duplicate", None, |v| v.time().map(Some))?,
            deploy: map.maybe("deploy", None, |v| v.time().map(Some))?,
            dns_stale: map.maybe("dns-stale", None, |v| v.time().map(Some))?,
        };
        map.end(
            "false-positives, renewals, surplus-moves, abandoned, outages, remains, failover, duplicate, deploy, dns-stale",
        )?;
        Ok(limits)
    }

    /// As the inside of a mapping that reads as the same limits.
    pub(super) fn text(&self) -> String {
        let counts = [
            ("false-positives", self.false_positives),
            ("renewals", self.renewals),
            ("surplus-moves", self.surplus_moves),
            ("abandoned", self.abandoned),
            ("outages", self.outages),
            ("remains", self.remains),
        ];
        let times = [
            ("failover", self.failover),
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
