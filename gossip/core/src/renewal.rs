//! When a node renews its certificate, takes over a new authority, shows the new certificate, and trusts the old authority no
//! more. Decisions over what nodes say of themselves; the shell has the keys and carries them out.
//!
//! A change of authority goes in three steps, so that at no time two nodes meet that do not trust each other: first everybody
//! holds the new authority (and trusts both), then everybody shows a certificate by it, then the old one is trusted no more.
//! Nodes that are away hold nothing up: when they return they find their certificate refused, and fetch what they missed.

use crate::face::MemberState;
use crate::id::NodeId;
use crate::model::CertificateInfo;
use crate::time::{Duration, Instant, Wall};

/// A node waits at most so long for the others to hold the new authority before it shows the new certificate.
pub const SPREAD: Duration = Duration::from_secs(60);
/// An old authority is trusted at most so long beside the new one.
pub const OVERLAP: Duration = Duration::from_secs(24 * 3_600);

/// What a node has.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// What it says of it.
    pub info: CertificateInfo,
    /// True if earlier authorities are still trusted.
    pub trusts_old: bool,
    /// How long its certificates are good.
    pub lifetime: Duration,
    /// Since when it has held the authority in force, in this boot.
    pub since: Instant,
}

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Ask this node for the authority in force.
    Fetch(NodeId),
    /// Make a new certificate.
    Renew,
    /// Show the certificate by the authority in force.
    Show,
    /// Trust the earlier authorities no more.
    Retire,
}

/// True if a certificate is in its last third, or longer than it should be.
#[must_use]
pub fn is_due(until: Wall, lifetime: Duration, wall: Wall) -> bool {
    let left = Duration::from_millis(until.0.saturating_sub(wall.0));
    left <= lifetime / 3 || left > lifetime + Duration::from_secs(1)
}

/// The next step of a node that sees these others; none if there is nothing to do.
pub fn step(
    own: &Own,
    others: impl Iterator<Item = (NodeId, MemberState, CertificateInfo)> + Clone,
    now: Instant,
    wall: Wall,
) -> Option<Step> {
    let CertificateInfo { holds, shows, until } = own.info;
    let alive = others.filter(|(_, state, _)| matches!(state, MemberState::Alive | MemberState::Suspect));
    let newest = alive.clone().max_by_key(|(node, _, info)| (info.holds, *node));
    if let Some((node, _, info)) = newest
        && info.holds > holds
    {
        return Some(Step::Fetch(node));
    }
    if shows != holds {
        let all_hold_it = alive.clone().all(|(_, _, info)| info.holds >= holds);
        let waited = now >= own.since + SPREAD;
        return (all_hold_it || waited || is_due(until, own.lifetime, wall)).then_some(Step::Show);
    }
    if is_due(until, own.lifetime, wall) {
        return Some(Step::Renew);
    }
    let all_show_it = alive.clone().all(|(_, _, info)| info.shows >= holds);
    (own.trusts_old && (all_show_it || now >= own.since + OVERLAP)).then_some(Step::Retire)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3_600_000;
    const WALL: Wall = Wall(1_000 * DAY);

    fn info(holds: u64, shows: u64) -> CertificateInfo {
        CertificateInfo { holds, shows, until: Wall(WALL.0 + 80 * DAY) }
    }

    fn own(holds: u64, shows: u64, trusts_old: bool) -> Own {
        let lifetime = Duration::from_secs(90 * 24 * 3_600);
        Own { info: info(holds, shows), trusts_old, lifetime, since: Instant::ZERO }
    }

    fn other(n: u8, state: MemberState, holds: u64, shows: u64) -> (NodeId, MemberState, CertificateInfo) {
        (NodeId([n; 16]), state, info(holds, shows))
    }

    fn steps(own: &Own, others: &[(NodeId, MemberState, CertificateInfo)], at_s: u64) -> Option<Step> {
        step(own, others.iter().copied(), Instant::ZERO + Duration::from_secs(at_s), WALL)
    }

    #[test]
    fn a_change_of_authority_goes_step_by_step() {
        use MemberState::{Alive, Down};
        let away = other(9, Down, 1, 1);
        let news = [other(2, Alive, 2, 1), other(3, Alive, 1, 1), away];
        assert_eq!(steps(&own(1, 1, false), &news, 1), Some(Step::Fetch(NodeId([2; 16]))));
        assert_eq!(steps(&own(2, 1, true), &news, 1), None, "one that is alive does not hold it yet");
        assert_eq!(steps(&own(2, 1, true), &news, 60), Some(Step::Show), "nobody is waited for too long");
        let held = [other(2, Alive, 2, 1), other(3, Alive, 2, 2), away];
        assert_eq!(steps(&own(2, 1, true), &held, 1), Some(Step::Show));
        assert_eq!(steps(&own(2, 2, true), &held, 1), None, "one that is alive shows the old one");
        let shown = [other(2, Alive, 2, 2), other(3, Alive, 2, 2), away];
        assert_eq!(steps(&own(2, 2, true), &shown, 1), Some(Step::Retire));
        assert_eq!(steps(&own(2, 2, true), &held, 24 * 3_600), Some(Step::Retire), "the overlap is bounded");
        assert_eq!(steps(&own(2, 2, false), &shown, 1), None);
        assert_eq!(steps(&own(2, 2, false), &[away], 1), None, "one that is down is not asked");
    }

    #[test]
    fn the_last_third_of_a_lifetime_is_for_renewal() {
        let mut mine = own(1, 1, false);
        let day = |n: u64| Wall(WALL.0 + n * DAY);
        for (until, due) in [(day(80), false), (day(31), false), (day(30), true), (Wall(5), true), (day(91), true)] {
            mine.info.until = until;
            assert_eq!(steps(&mine, &[], 1) == Some(Step::Renew), due, "{until:?}");
        }
        mine.info = CertificateInfo { until: day(1), ..info(2, 1) };
        let behind = [other(2, MemberState::Alive, 1, 1)];
        assert_eq!(steps(&mine, &behind, 1), Some(Step::Show), "nothing is made by an authority that goes");
    }
}
