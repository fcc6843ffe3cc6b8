//! How a node that came gets its share of what runs: after a boot by which it lost what it had, or once operators let it take work
//! again, it relieves fuller nodes of a replica at a time, no faster than its budget allows, until it is as full as those that
//! suit are in the mean.
//!
//! Nobody leads this and nobody else takes part: the node claims what another runs, brings it up, and does not give way to that
//! one's claim meanwhile. Once it was ready the other gives way, by the rule for two claims, as any node of any version does. So what is
//! taken serves until its successor does, and a node that dies on the way changed nothing. Only claims older than its coming
//! count: what was placed since had it among its candidates.
//!
//! That it has begun stands in the node's header, and whom it relieves in the claim, so that an agent that starts anew on the way
//! goes on with it.
//!
//! Never: a replica moved to a node that has its share, in a flock that is not at rest, or by a node that comes and goes.

mod search;

use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::engine::Gossip;
use dunlin_gossip::face::NoticeLevel;
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::id::{Generation, NodeId};
use dunlin_gossip::model::{AllocId, Epoch, Mode, Relieved, ServiceKey, Tail};
use dunlin_gossip::time::{Duration, Instant, Wall};
use dunlin_gossip::wire::{Record, RecordId};

use crate::allocation::Own;
use crate::engine::Node;
use crate::face::{EventKind, Outputs};
use crate::place::Waiting;
use crate::place::level::FULL;
use crate::view::InForce;
use search::{Found, Search, ground};
pub(crate) use search::{Relief, shares};

/// So long after it came, and after something happened to members, a node takes nothing. Longer than members take to be held for
/// dead, and their work to be taken over.
const CALM: Duration = Duration::from_secs(30);
/// One member in so many may change within that time in a flock that is at rest.
const RESTLESS: usize = 50;
/// Who boots again within this time comes and goes: it takes nothing before it has been there twice as long as the last time.
const OFTEN: Duration = Duration::from_secs(3_600);
/// What is taken must be ready by then, or stays where it is.
const PATIENCE: Duration = Duration::from_secs(300);
/// While something is under way.
const LOOK: Duration = Duration::from_secs(1);
/// Where something may move later.
const LATER: Duration = Duration::from_secs(30);
/// Allocations that one call looks at, and the pause before the next ones.
const SLICE: usize = 5_000;
const PAUSE: Duration = Duration::from_millis(100);
/// Replicas for which one call looks in earnest whether they could be here.
const TRIES: usize = 4;

/// Of whom an own allocation relieves, until it was ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Relieves {
    node: NodeId,
    alloc: AllocId,
    until: Instant,
}

/// How this node came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Came {
    /// Claims of earlier epochs did not have it among their candidates.
    at: Epoch,
    /// Nothing is taken before.
    from: Instant,
    how: How,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum How {
    /// By this boot, unless it kept all that it had: then it was not away. It goes on with what it had begun before, if it did:
    /// since that epoch.
    Booted { begun: Option<Epoch> },
    /// It was there already, and is to take its share.
    Let,
}

/// How far this node's share has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Share {
    came: Option<Came>,
    /// Replicas that the boot before had.
    had: usize,
    /// Operators keep work off this node.
    is_barred: bool,
    /// When members changed of late; bounded.
    changes: VecDeque<Instant>,
    /// Services up to this one have been searched; none: the search has not begun.
    searched: Option<ServiceKey>,
    is_searched: bool,
    found: Found,
    /// Services of which a replica did not come up here.
    avoided: BTreeSet<ServiceKey>,
    /// The budget allows the next one then.
    next: Instant,
    /// When to look again.
    pub(crate) look_at: Option<Instant>,
}

impl Share {
    /// At a boot.
    pub(crate) fn new(budget: u32, gossip: &Gossip, me: NodeId, now: Instant) -> Self {
        let this = gossip.generation();
        let header = gossip.state().value(&RecordId::header(me));
        let last = header.and_then(Record::author).map(|author| author.generation);
        let begun = header.and_then(Record::header).and_then(|header| *header.supply.came);
        Self::booted(budget, now, this, last.filter(|last| *last < this), begun)
    }

    /// The boot before, if the disk tells of any, was so long ago as their generations are apart. It may have begun to take its
    /// share of what ran before an epoch.
    fn booted(budget: u32, now: Instant, this: Generation, last: Option<Generation>, begun: Option<Epoch>) -> Self {
        let mut share = Self::default();
        if budget > 0 {
            let gap = last.map(|last| Duration::from_millis(this.0.saturating_sub(last.0)));
            let often = gap.filter(|gap| *gap < OFTEN && !planted(Bug::FlapperShares));
            let rest = often.map_or(CALM, |gap| gap.saturating_mul(2).clamp(CALM, OFTEN));
            let at = Epoch(Hlc::from_wall(Wall(this.0)).0);
            share.begin(Came { at, from: now + rest, how: How::Booted { begun } });
        }
        share
    }

    /// Since which epoch the boot before had been taking its share.
    pub(crate) fn begun(&self) -> Option<Epoch> {
        self.came.and_then(|came| match came.how {
            How::Booted { begun } => begun.filter(|_| !planted(Bug::ShareForgotten)),
            How::Let => None,
        })
    }

    fn begin(&mut self, came: Came) {
        self.look_at = Some(came.from);
        (self.came, self.searched, self.is_searched, self.found) = (Some(came), None, false, Found::default());
        self.avoided.clear();
    }

    fn end(&mut self) {
        (self.came, self.look_at, self.found) = (None, None, Found::default());
    }

    /// A member is something else now.
    pub(crate) fn disturbed(&mut self, members: usize, now: Instant) {
        if self.came.is_some() {
            self.changes.push_back(now);
            while self.changes.len() > members / RESTLESS + 1 {
                self.changes.pop_front();
            }
        }
    }

    /// Until when the flock is not at rest, as far as is known now.
    fn restless_until(&self, members: usize, now: Instant) -> Option<Instant> {
        let first = self.changes.front().filter(|_| self.changes.len() > members / RESTLESS)?;
        Some(*first + CALM).filter(|until| *until > now)
    }
}

impl Own {
    /// True while it does not give way to this claim of another, which it is to relieve.
    pub(crate) fn is_to_relieve(&self, node: NodeId, alloc: AllocId, now: Instant) -> bool {
        let relieved = self.relieves.filter(|relieves| (relieves.node, relieves.alloc) == (node, alloc));
        !self.record.ready_once && relieved.is_some_and(|relieves| now < relieves.until)
    }
}

impl Node {
    /// Operators order something else of this node: it may be let take work again.
    pub(crate) fn watch_share_orders(&mut self, now: Instant, wall: Wall) {
        let orders = self.view.orders_of(self.me);
        let is_barred = orders.cordoned || orders.drain.is_some();
        if core::mem::replace(&mut self.share.is_barred, is_barred) && !is_barred && self.config.rebalance > 0 {
            let at = Epoch(Hlc::from_wall(wall).0);
            self.share.begin(Came { at, from: now + CALM, how: How::Let });
            self.tell_share(Some(at));
        }
    }

    /// Says in this node's header that it takes its share, or no longer.
    fn tell_share(&mut self, came: Option<Epoch>) {
        if *self.config.header.supply.came != came {
            self.config.header.supply.came = Tail(came);
            self.view.set_header(self.me, Some(Arc::new(self.config.header.clone())));
            if self.start.is_adopted() {
                self.stage_header();
            }
        }
    }

    /// This node has its share, or there is none for it.
    fn end_share(&mut self) {
        self.share.end();
        self.tell_share(None);
    }

    /// What the boot before had begun to take it goes on to bring up.
    pub(crate) fn resume_relief(&self, own: &mut Own, now: Instant) {
        if let Some(relieved) = own.record.relieved().filter(|_| !own.record.ready_once && self.config.rebalance > 0) {
            let Relieved { node, alloc, .. } = *relieved;
            own.relieves = Some(Relieves { node, alloc, until: now + PATIENCE });
        }
    }

    /// What was claimed before this boot is known.
    pub(crate) fn count_share_before(&mut self) {
        self.share.had = self.kept(Epoch(u64::MAX));
    }

    /// Own replicas of services whose claims are older than this.
    fn kept(&self, before: Epoch) -> usize {
        let is_lasting = |own: &&Own| {
            let force = self.view.wanted(&own.record.replica);
            force.is_some_and(|force| matches!(force.service.mode, Mode::Replicated(_)))
        };
        let is_had = |own: &&Own| own.record.phase.is_live() && own.record.epoch < before && own.relieves.is_none();
        let live = self.owned.map.values().filter(is_had);
        live.filter(is_lasting).count()
    }

    /// Takes the next replica of this node's share, if it is time.
    pub(crate) fn tend_share(&mut self, now: Instant, wall: Wall, out: &mut Outputs) {
        if self.share.look_at.is_none_or(|at| at > now) {
            return;
        }
        let Some(came) = self.share.came else { return self.end_share() };
        self.share.look_at = Some(now + LOOK);
        if self.end_late_arrivals(now, out) || !self.may_take_share(now) {
            return;
        }
        let Some(came) = self.settled_coming(came) else { return self.end_share() };
        if self.share.next > now {
            self.share.look_at = Some(self.share.next);
        } else if !self.share.is_searched {
            self.search_share(came, out);
            self.share.look_at = Some(now + PAUSE);
        } else if let Some((relief, force)) = self.next_relief(came, now, out) {
            self.relieve(&relief, &force, now, wall);
        } else if self.share.found.best.is_empty() {
            // All that was found is taken or does not fit; whether there is more is looked for anew.
            let is_more = self.share.found.is_more;
            (self.share.searched, self.share.is_searched, self.share.found) = (None, false, Found::default());
            self.share.look_at = Some(now + LATER);
            if !is_more {
                self.end_share();
                let text = "has its share of what runs, as far as it can move".to_string();
                self.log.node(NoticeLevel::Info, EventKind::Node, self.me, text);
            }
        }
    }

    /// How this node came, once that can be told; none if it was not away.
    fn settled_coming(&mut self, came: Came) -> Option<Came> {
        if came.how == How::Let {
            return Some(came);
        }
        let was_there = self.share.had > 0 && self.kept(came.at) >= self.share.had;
        // Who was away is due what went elsewhere meanwhile as well.
        let begun = self.share.begun().filter(|_| was_there);
        if was_there && begun.is_none() {
            return None;
        }
        let came = Came { at: begun.unwrap_or(came.at), how: How::Let, ..came };
        self.share.came = Some(came);
        self.tell_share(begun);
        Some(came)
    }

    /// True if nothing speaks against taking a replica over that runs well elsewhere.
    fn may_take_share(&mut self, now: Instant) -> bool {
        let members = self.view.nodes().len();
        if let Some(until) = self.share.restless_until(members, now) {
            self.share.look_at = Some(until);
            return false;
        }
        let is_held = self.hold_down.held(now).contains(&self.me);
        let is_under_way = self.owned.map.values().any(|own| {
            own.relieves.is_some_and(|relieves| {
                let old = self.view.allocation(relieves.node, relieves.alloc);
                !own.record.ready_once || old.is_some_and(|old| old.phase.is_live() && self.view.stands(relieves.node))
            })
        });
        let is_free = self.may_claim(now) && !self.share.is_barred && !self.schedule.has_dirty();
        is_free && !is_held && !is_under_way && self.isolated_until(now) <= now
    }

    /// Gives up what does not become ready here, or is not wanted so any more; true if there was such.
    fn end_late_arrivals(&mut self, now: Instant, out: &mut Outputs) -> bool {
        let is_late = |own: &Own| {
            let force = self.view.wanted(&own.record.replica);
            let is_old = force.is_none_or(|force| force.revision != own.record.revision);
            let relieves = own.relieves.filter(|_| !own.record.ready_once && own.record.phase.is_live());
            relieves.is_some_and(|relieves| {
                let is_needed = !self.view.stands(relieves.node);
                (is_old || relieves.until <= now) && !is_needed
            })
        };
        let late =
            self.owned.map.iter().find(|(_, own)| is_late(own)).map(|(id, own)| (*id, own.record.replica.clone()));
        let Some((id, replica)) = late else { return false };
        self.share.avoided.insert(replica.service);
        self.stop(id, "it did not come up here for this node's share, and stays where it is", now, out);
        true
    }

    /// Searches some more services for what this node could take.
    fn search_share(&mut self, came: Came, out: &mut Outputs) {
        let mut share = core::mem::take(&mut self.share);
        let candidates = self.view.candidates();
        let mut search = Search::new(&self.view, &candidates);
        let mut looked = candidates.len();
        let begin = share.searched.as_ref().map_or(core::ops::Bound::Unbounded, core::ops::Bound::Excluded);
        let mut rest = self.view.services().range((begin, core::ops::Bound::Unbounded));
        let mut last = None;
        share.is_searched = true;
        if let Some(me) = search.index_of(self.me) {
            for service in &mut rest {
                looked += search.look(service, (me, came.at), &mut share.found);
                last = Some(service.0.clone());
                if looked > SLICE {
                    share.is_searched = false;
                    break;
                }
            }
        } else {
            share.found.is_more = true;
        }
        out.cost += looked as u64 / 50 + 1;
        share.searched = last.or(share.searched);
        drop(search);
        self.share = share;
    }

    /// The first of what was found that this node can have now.
    fn next_relief(&mut self, came: Came, now: Instant, out: &mut Outputs) -> Option<(Relief, InForce)> {
        let mut found = core::mem::take(&mut self.share.found);
        let candidates = self.view.candidates();
        let mix = self.view.mix();
        let mut search = Search::new(&self.view, &candidates);
        let mut chosen = None;
        let mut tries = 0;
        if let Some(me) = search.index_of(self.me) {
            while let Some((_, replica)) = found.best.pop_first() {
                if self.share.avoided.contains(&replica.service) {
                    continue;
                }
                let Some(relief) = search.still(&replica, me, came.at) else { continue };
                let Some(force) = self.view.services().get(&replica.service) else { continue };
                let refused_by = self.view.refused_by(&replica, force.revision, now);
                let waiting = Waiting { replica: &replica, spec: &force.service.spec, refused_by: &refused_by };
                tries += 1;
                if search.suits(&mut ground(&candidates, &mix), &waiting, relief.from, me) {
                    chosen = Some((relief, force.clone()));
                    break;
                }
                if tries >= TRIES {
                    break;
                }
            }
        }
        out.cost += (candidates.len() * (tries + 1)) as u64 / 50 + 1;
        drop(search);
        self.share.found = found;
        chosen
    }

    /// Claims a replica that another runs, to run it instead once it is ready here.
    fn relieve(&mut self, relief: &Relief, force: &InForce, now: Instant, wall: Wall) {
        let Some(id) = self.claim(&relief.replica, force, &[], now, wall) else { return };
        self.tell_share(self.share.came.map(|came| came.at));
        let known = self.view.nodes().get(&relief.from).and_then(|known| known.header.as_ref());
        let name = known.map_or_else(|| relief.from.to_string(), |header| header.name.to_string());
        let percent = |level: u64| u8::try_from(level / (FULL / 100)).unwrap_or(u8::MAX);
        let (full, mean) = (percent(relief.level.0), percent(relief.level.1));
        let text = format!("from {name}, for this node's share: it is {full} % full, others {mean} %");
        let relieved = Relieved { node: relief.from, alloc: relief.alloc, full, mean };
        if let Some(own) = self.owned.map.get_mut(&id) {
            own.record.held.get_or_insert_default().relieves = Tail(Some(Box::new(relieved)));
            own.relieves = Some(Relieves { node: relief.from, alloc: relief.alloc, until: now + PATIENCE });
            own.record.detail.clone_from(&text);
            own.record.ready_once |= planted(Bug::RelievedAtOnce);
        }
        self.touched(id, now, true);
        self.log.replica(NoticeLevel::Info, EventKind::Claim, self.me, &relief.replica, format!("taken {text}"));
        let pause = Duration::from_secs(60) / self.config.rebalance.max(1);
        self.share.next = now + if planted(Bug::ShareInOneGo) { Duration::ZERO } else { pause };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1_000)
    }

    fn from(last: Option<u64>) -> Option<Instant> {
        let boot = 1_000_000_000;
        let last = last.map(|minutes| Generation(boot - minutes * 60_000));
        Share::booted(6, at(100), Generation(boot), last, None).came.map(|came| came.from)
    }

    #[test]
    fn who_boots_often_waits_twice_as_long_as_it_was_there() {
        assert_eq!(from(None), Some(at(130)));
        assert_eq!(from(Some(24 * 60)), Some(at(130)), "once a day is not often");
        assert_eq!(from(Some(5)), Some(at(100 + 600)));
        assert_eq!(from(Some(59)), Some(at(100 + 3_600)), "an hour is enough");
        assert_eq!(from(Some(0)), Some(at(130)));
        assert_eq!(Share::booted(0, at(100), Generation(5), None, None).came, None);
    }

    #[test]
    fn one_change_in_fifty_members_is_no_unrest() {
        let restless = |members, changes: &[u64], now| {
            let mut share = Share::booted(6, at(0), Generation(5), None, None);
            changes.iter().for_each(|second| share.disturbed(members, at(*second)));
            share.restless_until(members, at(now))
        };
        assert_eq!(restless(20, &[40], 50), Some(at(70)));
        assert_eq!(restless(20, &[40], 70), None);
        assert_eq!(restless(100, &[40, 41], 50), None);
        assert_eq!(restless(100, &[38, 40, 41], 50), Some(at(68)));
        assert_eq!(restless(100, &[1, 40, 41], 50), None);
    }
}
