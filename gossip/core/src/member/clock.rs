//! What happens by the clock: probes, gossip, asking again, and what is done when the clock has run on without us.
//!
//! Never: a wait that is not in `timers`.

use alloc::vec::Vec;

use super::message::Message;
use super::probe::Probe;
use super::timers::{Due, Slot, Timer};
use super::{Membership, Peer, SwimId};
use crate::canary::{Bug, planted};
use crate::face::{MemberReason, MemberState};
use crate::time::{Duration, Instant};

/// Of our own suspects so many are asked again at a time, and each through so many others.
const RECHECKED: usize = 3;

impl Membership {
    /// Runs what is due.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.notice_stall(now);
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Slot(Slot::Probe) => self.probe_on(now),
                Timer::Slot(Slot::Gossip) => self.tell_on(now),
                Timer::Slot(Slot::Recheck) => self.recheck(now),
                Timer::Slot(Slot::Nack) => self.pay(now),
                Timer::Slot(Slot::Retry) => self.retry(now),
                Timer::Slot(Slot::Exchange) => self.exchange(now),
                Timer::Due(Due::SuspicionEnds(short)) => self.suspicion_ends(now, short),
                Timer::Due(Due::AskAgain(short)) => self.ask_again(short),
                Timer::Due(Due::WindowEnds(short)) => self.window_ends(now, short),
                Timer::Due(Due::NeverHeard(short)) => self.never_heard(now, short),
            }
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// A timer that comes late means that we stood still, and what we were waiting for may lie unread before us: everything
    /// that we wait for gets the time that we missed.
    fn notice_stall(&mut self, now: Instant) {
        let late = self.timers.next().map_or(Duration::ZERO, |due| now.since(due));
        if late <= self.timing.probe_rtt / 2 || planted(Bug::StallUnnoticed) {
            return;
        }
        self.health.worse(1);
        self.resumed = now;
        self.timers.delay(late);
        self.debts.delay(late);
        for suspicion in self.suspicions.values_mut() {
            suspicion.since += late;
            suspicion.due += late;
        }
        self.refusals.values_mut().for_each(|refused| *refused += late);
        if let Some(probe) = &mut self.probe {
            probe.began += late;
        }
    }

    /// The next step of the probe, or the next probe.
    fn probe_on(&mut self, now: Instant) {
        let period = self.health.stretch(self.timing.probe_period);
        if let Some(probe) = self.probe.as_mut().filter(|probe| !probe.acked && !probe.indirect) {
            probe.indirect = true;
            self.timers.set(Slot::Probe, (probe.began + period).max(now));
            self.ask_others(now);
            return;
        }
        let failed = self.probe.take().filter(|probe| !probe.acked);
        self.unproven = None;
        if let Some(probe) = failed {
            self.failed(now, probe);
        }
        self.probe_next(now);
    }

    fn probe_next(&mut self, now: Instant) {
        let places = self.book.len();
        for _ in 0..places {
            let Some(place) = self.strides.next(places, &mut self.rng) else { break };
            let Some(peer) = self.book.at(place) else { continue };
            let Some(boot) = peer.active() else { continue };
            let target = SwimId { short: peer.node.short(), boot };
            self.probe_number = self.probe_number.checked_add(1).unwrap_or(1);
            self.probe = Some(Probe::new(self.probe_number, target, peer.incarnation, now));
            self.timers.set(Slot::Probe, now + self.health.stretch(self.timing.probe_rtt));
            self.send(target, Message::Ping(self.probe_number));
            return;
        }
        if places > 0 {
            self.timers.set(Slot::Probe, now + self.timing.probe_period);
        }
    }

    /// The target is silent: others are asked to ask it. First those that spoke to us last: whether they answer tells us how we
    /// do ourselves.
    fn ask_others(&mut self, now: Instant) {
        let Some(mut probe) = self.probe.take() else { return };
        let (target, most) = (probe.target, self.timing.indirect_probes);
        let Self { book, recent, rng, timing, .. } = self;
        let is_open = |peer: &&Peer| peer.state == MemberState::Alive && peer.node.short() != target.short;
        let is_fresh = |peer: &&Peer| peer.heard.is_some_and(|heard| now < heard + timing.first_contact);
        let heard = recent.iter().filter_map(|short| book.get(short)).filter(is_open).filter(is_fresh);
        let mut asked: Vec<SwimId> = heard.filter_map(id_of).take(most).collect();
        let fresh = asked.len();
        for peer in book.around(rng).filter(is_open).filter_map(id_of) {
            if asked.len() == most {
                break;
            }
            if !asked.contains(&peer) {
                asked.push(peer);
            }
        }
        for (index, relay) in asked.into_iter().enumerate() {
            probe.ask(relay.short, index < fresh);
            self.send(relay, Message::PingReq { target, number: probe.number });
        }
        self.probe = Some(probe);
    }

    /// Nobody has heard the target in time.
    fn failed(&mut self, now: Instant, probe: Probe) {
        let missing = if planted(Bug::SelfNeverSuspected) { 0 } else { probe.missing() };
        self.health.worse(missing);
        let silence = now.since(self.heard_any.max(self.resumed));
        if self.alive > 1 && silence >= self.timing.first_contact {
            self.conclude_alone(now);
        } else if missing > 0 {
            self.unproven = Some(probe);
        } else {
            self.accuse(now, &probe);
        }
    }

    /// A member is silent, and there are witnesses.
    pub(super) fn accuse(&mut self, now: Instant, probe: &Probe) {
        let short = probe.target.short;
        if self.book.get(short).is_none_or(|peer| peer.alone) {
            return;
        }
        self.apply(now, self.line_on(probe.target, probe.incarnation), MemberReason::Silence, true);
        let peer = self.book.get(short);
        let is_it = peer.is_some_and(|p| p.boot == Some(probe.target.boot) && p.incarnation == probe.incarnation);
        if !is_it {
            return;
        }
        probe.witnesses().for_each(|witness| self.confirm(now, short, witness, false));
        if self.suspicions.get(&short).is_some_and(|suspicion| !suspicion.asked) {
            self.gossip();
            self.ask(now, short);
        }
    }

    /// Asks a suspect whether it lives, and goes on asking.
    pub(super) fn ask(&mut self, now: Instant, short: u64) {
        let Some(suspicion) = self.suspicions.get_mut(&short).filter(|suspicion| !suspicion.asked) else {
            return;
        };
        suspicion.asked = true;
        if let Some(target) = self.book.get(short).and_then(id_of) {
            self.send(target, Message::Ping(0));
        }
        if !self.timers.is_set(Slot::Recheck) {
            self.timers.set(Slot::Recheck, now + self.timing.probe_rtt);
        }
    }

    /// Asks some of those again of whom we have our doubts: it is up to us that they hear of it.
    fn recheck(&mut self, now: Instant) {
        let asked = self.suspicions.iter().filter(|(_, suspicion)| suspicion.asked);
        let mut asked: Vec<u64> = asked.map(|(short, _)| *short).collect();
        if asked.is_empty() {
            return;
        }
        self.timers.set(Slot::Recheck, now + self.timing.probe_rtt);
        self.rng.shuffle(&mut asked);
        asked.into_iter().take(RECHECKED).for_each(|short| self.ask_suspect(short));
    }

    /// Asks a suspect, ourselves and through others.
    fn ask_suspect(&mut self, short: u64) {
        let Some(target) = self.book.get(short).and_then(id_of) else { return };
        self.send(target, Message::Ping(0));
        for _ in 0..RECHECKED {
            let Self { book, rng, .. } = self;
            let is_open = |peer: &&Peer| peer.state == MemberState::Alive && peer.node.short() != short;
            let Some(relay) = book.around(rng).find(is_open).and_then(id_of) else { break };
            self.send(relay, Message::PingReq { target, number: 0 });
        }
    }

    fn tell_on(&mut self, now: Instant) {
        if self.rumours.is_empty() || self.book.iter().all(|peer| peer.active().is_none()) {
            return;
        }
        self.gossip();
        if !self.rumours.is_empty() {
            self.timers.set(Slot::Gossip, now + self.timing.gossip_period);
        }
    }

    fn exchange(&mut self, now: Instant) {
        self.timers.set(Slot::Exchange, now + self.timing.exchange_period);
        let alive = |peer: &&Peer| peer.state == MemberState::Alive;
        let node = self.book.around(&mut self.rng).find(alive).map(|peer| peer.node);
        if let Some(node) = node {
            self.announce(node);
        }
    }

    /// Somebody is lost who was not.
    pub(super) fn retry_later(&mut self, now: Instant) {
        if !planted(Bug::HealingTimerLost) && !self.timers.is_set(Slot::Retry) {
            self.timers.set(Slot::Retry, now + self.timing.retry_period);
        }
    }

    /// Tries one member that is not heard; faster while there are some of which we know nothing at all.
    fn retry(&mut self, now: Instant) {
        if self.lost.is_empty() {
            return;
        }
        let is_unknown = |peer: &&Peer| peer.boot.is_none() && peer.state == MemberState::Suspect;
        let lost = || self.lost.iter().filter_map(|short| self.book.get(*short));
        let mut from: Vec<_> = lost().filter(is_unknown).map(|peer| peer.node).collect();
        let pause = if from.is_empty() { self.timing.retry_period } else { self.timing.retry_period / 10 };
        if from.is_empty() {
            from = lost().map(|peer| peer.node).collect();
        }
        if let Some(node) = self.rng.pick(&from).copied() {
            self.announce(node);
        }
        self.timers.set(Slot::Retry, now + pause);
    }
}

fn id_of(peer: &Peer) -> Option<SwimId> {
    Some(SwimId { short: peer.node.short(), boot: peer.boot? })
}
