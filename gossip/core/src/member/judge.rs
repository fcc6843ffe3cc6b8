//! What we hold of the members: who says what, what of it is news, and what follows from it.
//!
//! Never: a packet; what is worth telling others goes among the rumours, what is worth telling the engine among the events.

use alloc::vec::Vec;
use core::cmp::Ordering;

use super::message::{Claim, Line};
use super::suspicion::Suspicion;
use super::timers::{Due, Slot};
use super::{LEFT, Membership, SwimId};
use crate::canary::{Bug, planted};
use crate::face::{MemberReason, MemberState};
use crate::id::NodeId;
use crate::time::{Duration, Instant};

impl Membership {
    /// What a member says of somebody, perhaps of us.
    pub(super) fn told(&mut self, now: Instant, from: u64, line: Line, spread: bool) {
        if line.id.short == self.me.short() {
            self.told_of_us(now, from, line);
            return;
        }
        if self.is_to_be_waited_for(line) {
            self.hearsay(now, from, line, spread);
        } else {
            self.apply(now, line, MemberReason::Gossip, spread);
        }
    }

    /// That somebody is down is taken for the last of the confirmations, not for the truth. After a partition each side still
    /// tells what it believed of the other; so the living are asked, and have the shortest time to contradict. A farewell (the
    /// incarnation says so) is the member's own word.
    fn is_to_be_waited_for(&self, line: Line) -> bool {
        let peer = self.book.get(line.id.short).filter(|peer| peer.boot == Some(line.id.boot) && !peer.alone);
        let is_active = peer.is_some_and(|peer| peer.active().is_some());
        is_active && line.claim == Claim::Down && line.incarnation != LEFT && !planted(Bug::HearsayBelieved)
    }

    fn hearsay(&mut self, now: Instant, from: u64, line: Line, spread: bool) {
        let short = line.id.short;
        self.apply(now, Line { claim: Claim::Suspect { by: from }, ..line }, MemberReason::Gossip, spread);
        let incarnation = self.book.get(short).map(|peer| peer.incarnation);
        let Some(suspicion) = self.suspicions.get_mut(&short).filter(|_| incarnation == Some(line.incarnation)) else {
            return;
        };
        if !suspicion.hearsay {
            suspicion.hearsay = true;
            self.hasten(now, short);
            // Whoever it is about can tell best.
            self.ask(now, short);
        }
    }

    fn told_of_us(&mut self, now: Instant, from: u64, line: Line) {
        match line.id.boot.cmp(&self.boot) {
            Ordering::Equal => {}
            // Somebody has not heard of this boot yet.
            Ordering::Less if line.claim != Claim::Down && !self.rumours.holds(line.id.short) => {
                return self.rumour(now, line.id.short);
            }
            Ordering::Less | Ordering::Greater => return,
        }
        let accuser = match line.claim {
            Claim::Alive => return,
            Claim::Suspect { by } => by,
            Claim::Down => from,
        };
        self.refute(now, from, line.incarnation);
        if accuser != from {
            self.speak_to(accuser);
        }
    }

    /// Somebody holds us for suspect: we contradict.
    pub(super) fn refute(&mut self, now: Instant, from: u64, incarnation: u16) {
        if planted(Bug::RefutationDropped) {
            return;
        }
        if incarnation >= LEFT - 1 {
            self.renew(now);
        } else if incarnation >= self.incarnation {
            self.incarnation = incarnation + 1;
            self.health.worse(1);
            self.rumours.add(self.me.short());
            self.timers.set(Slot::Gossip, now);
        }
        // Every packet of ours says under which incarnation we live.
        self.speak_to(from);
    }

    /// The flock holds this identity for down, which is final: we go on under another.
    pub(super) fn renew(&mut self, now: Instant) {
        let Some(boot) = self.boot.renewed() else {
            self.left = true;
            return;
        };
        self.boot = boot;
        self.incarnation = 0;
        self.renewals += 1;
        self.probe = None;
        self.rumour(now, self.me.short());
    }

    /// A claim about a member, as we take it.
    pub(super) fn apply(&mut self, now: Instant, line: Line, cause: MemberReason, spread: bool) {
        let Line { id: SwimId { short, boot }, incarnation, claim } = line;
        let Some(peer) = self.book.get_mut(short) else { return };
        if !peer.is_overruled_by(boot, incarnation, claim) {
            let is_same = peer.boot == Some(boot) && peer.incarnation == incarnation;
            if let Claim::Suspect { by } = claim
                && is_same
                && peer.state == MemberState::Suspect
            {
                self.confirm(now, short, by, true);
            }
            return;
        }
        // What only we had wrong is news to nobody.
        let is_news = !(peer.alone && peer.boot == Some(boot) && peer.incarnation == incarnation);
        let rebooted = peer.boot.is_none_or(|held| held.generation() != boot.generation());
        peer.boot = Some(boot);
        peer.incarnation = incarnation;
        peer.alone = false;
        let state = match claim {
            Claim::Alive => MemberState::Alive,
            Claim::Suspect { .. } => MemberState::Suspect,
            Claim::Down if incarnation == LEFT => MemberState::Left,
            Claim::Down => MemberState::Down,
        };
        match claim {
            Claim::Suspect { by } => self.begin_suspicion(now, short, by),
            Claim::Alive | Claim::Down => drop(self.suspicions.remove(&short)),
        }
        if spread && is_news {
            self.rumour(now, short);
        }
        self.change(now, short, state, cause, rebooted);
    }

    /// There is something new about somebody.
    pub(super) fn rumour(&mut self, now: Instant, short: u64) {
        self.rumours.add(short);
        if !self.timers.is_set(Slot::Gossip) {
            self.timers.set(Slot::Gossip, now + self.timing.gossip_period);
        }
    }

    fn begin_suspicion(&mut self, now: Instant, short: u64, by: u64) {
        let is_alive = self.book.get(short).is_some_and(|peer| peer.state == MemberState::Alive);
        let others = self.alive - usize::from(is_alive);
        let suspicion = Suspicion::new(now, by, others.min(self.timing.indirect_probes));
        self.suspicions.insert(short, suspicion);
        self.hasten(now, short);
    }

    /// Somebody else finds a suspect silent.
    pub(super) fn confirm(&mut self, now: Instant, short: u64, by: u64, accuses: bool) {
        let is_new = self.suspicions.get_mut(&short).is_some_and(|suspicion| suspicion.confirm(by, accuses));
        if !is_new {
            return;
        }
        self.hasten(now, short);
        if accuses {
            self.rumour(now, short);
        }
    }

    /// Sets the end of a suspicion by what speaks for it now.
    pub(super) fn hasten(&mut self, now: Instant, short: u64) {
        let Some(suspicion) = self.suspicions.get_mut(&short) else { return };
        let mut patience = suspicion.patience(self.timing.suspicion);
        patience = if planted(Bug::SuspicionTimerLost) { Duration::MAX } else { patience };
        patience = if planted(Bug::SuspicionWithoutWait) { Duration::ZERO } else { patience };
        suspicion.due = (suspicion.since + patience).max(now);
        self.timers.add(suspicion.due, Due::SuspicionEnds(short));
    }

    /// A suspect has had its time, unless there was a sign of life meanwhile.
    pub(super) fn suspicion_ends(&mut self, now: Instant, short: u64) {
        let Some((peer, suspicion)) = self.book.get(short).zip(self.suspicions.get_mut(&short)) else {
            if planted(Bug::UndeadUnguarded) {
                self.call_undead(short);
            }
            return;
        };
        if suspicion.due > now {
            self.timers.add(suspicion.due, Due::SuspicionEnds(short));
            return;
        }
        let patience = suspicion.patience(self.timing.suspicion);
        let heard = peer.heard.filter(|heard| *heard > suspicion.since).max(suspicion.vouched);
        let longer = heard.map(|heard| heard + patience).filter(|due| *due > now);
        // Who has heard nobody since cannot have heard a contradiction.
        let is_deaf = self.heard_any <= suspicion.since && self.alive > 0 && !peer.alone;
        if let Some(due) = longer.or_else(|| is_deaf.then_some(now + patience)) {
            suspicion.due = due;
            self.timers.add(due, Due::SuspicionEnds(short));
            return;
        }
        let Some(boot) = peer.boot else { return };
        if !suspicion.asked && !peer.alone {
            // Nobody is given up on the word of others alone.
            suspicion.due = now + self.timing.probe_period;
            self.timers.add(suspicion.due, Due::SuspicionEnds(short));
            self.ask(now, short);
            return;
        }
        let down = Line { id: SwimId { short, boot }, incarnation: peer.incarnation, claim: Claim::Down };
        if peer.alone {
            self.suspicions.remove(&short);
            self.change(now, short, MemberState::Down, MemberReason::Silence, false);
        } else {
            self.apply(now, down, MemberReason::Silence, true);
            self.gossip();
        }
    }

    /// We hear nobody at all: either all others are gone or we are cut off. What we conclude from it is told to no member, and
    /// given up at the first word of anybody.
    pub(super) fn conclude_alone(&mut self, now: Instant) {
        let active = self.book.iter().filter(|peer| peer.active().is_some() && !peer.alone);
        let active: Vec<u64> = active.map(|peer| peer.node.short()).collect();
        for short in active {
            if let Some(peer) = self.book.get_mut(short) {
                peer.alone = true;
            }
            self.change(now, short, MemberState::Suspect, MemberReason::Silence, false);
            self.suspicions.insert(short, Suspicion::new(now, self.me.short(), 0));
            self.hasten(now, short);
        }
    }

    /// The member says that it goes.
    pub(crate) fn goodbye(&mut self, now: Instant, node: NodeId) {
        let Some(boot) = self.book.get(node.short()).and_then(|peer| peer.boot) else { return };
        let id = SwimId { short: node.short(), boot };
        self.apply(now, Line { id, incarnation: LEFT, claim: Claim::Down }, MemberReason::Left, true);
        self.gossip();
    }

    /// The peer's host answered that nobody listens.
    pub(crate) fn refused(&mut self, now: Instant, node: NodeId) {
        let short = node.short();
        let Some(peer) = self.book.get(short) else { return };
        if self.refusals.contains_key(&short) || matches!(peer.state, MemberState::Down | MemberState::Left) {
            return;
        }
        let suspect = peer.boot.filter(|_| peer.state == MemberState::Alive);
        let suspect = suspect.map(|boot| self.line_on(SwimId { short, boot }, peer.incarnation));
        self.refusals.insert(short, now);
        let window = if planted(Bug::RestartWindowSkipped) { Duration::ZERO } else { self.timing.restart_window };
        // Just in time for an answer: that it is back may not have reached us, and nobody is given up for want of a rumour.
        self.timers.add(now + (window / 8).saturating_mul(7), Due::AskAgain(short));
        self.timers.add(now + window, Due::WindowEnds(short));
        if let Some(line) = suspect {
            self.apply(now, line, MemberReason::Refusal, true);
            self.gossip();
        }
    }

    /// Our own accusation.
    pub(super) fn line_on(&self, id: SwimId, incarnation: u16) -> Line {
        Line { id, incarnation, claim: Claim::Suspect { by: self.me.short() } }
    }

    pub(super) fn ask_again(&mut self, short: u64) {
        let waits = |peer: &&super::Peer| self.refusals.contains_key(&short) && peer.state == MemberState::Suspect;
        if let Some(node) = self.book.get(short).filter(waits).map(|peer| peer.node) {
            self.announce(node);
        }
    }

    pub(super) fn window_ends(&mut self, now: Instant, short: u64) {
        let Some(refused) = self.refusals.remove(&short) else { return };
        let Some(peer) = self.book.get(short).filter(|peer| peer.state == MemberState::Suspect) else { return };
        if peer.heard.is_some_and(|heard| heard > refused) {
            // It spoke after all; it will refute, or fall silent and be found out by probes, or refuse again.
            return;
        }
        match peer.boot {
            Some(boot) => {
                let id = SwimId { short, boot };
                let down = Line { id, incarnation: peer.incarnation, claim: Claim::Down };
                self.apply(now, down, MemberReason::Refusal, true);
                self.gossip();
            }
            None => self.change(now, short, MemberState::Down, MemberReason::Refusal, false),
        }
    }

    pub(super) fn never_heard(&mut self, now: Instant, short: u64) {
        let unheard = self.book.get(short).is_some_and(|p| p.boot.is_none() && p.state == MemberState::Suspect);
        if unheard {
            self.change(now, short, MemberState::Down, MemberReason::Silence, false);
        }
    }

    /// A member's state, if it is another one or that of a new boot, and the word to the engine about it.
    pub(super) fn change(&mut self, now: Instant, short: u64, state: MemberState, cause: MemberReason, rebooted: bool) {
        let Some(peer) = self.book.get_mut(short) else { return };
        let was = peer.state;
        if state == was && !(rebooted && state == MemberState::Alive) {
            return;
        }
        peer.state = state;
        let node = peer.node;
        match (was == MemberState::Alive, state == MemberState::Alive) {
            (true, false) => {
                self.alive -= 1;
                self.lost.insert(short);
                self.retry_later(now);
            }
            (false, true) => {
                self.alive += 1;
                self.lost.remove(&short);
            }
            (true, true) | (false, false) => {}
        }
        if state != MemberState::Suspect {
            self.refusals.remove(&short);
        }
        if planted(Bug::DownNotTold) && state == MemberState::Down {
            return;
        }
        let reason = match state {
            MemberState::Alive if was == MemberState::Suspect && !rebooted => MemberReason::Refuted,
            MemberState::Alive => MemberReason::Joined,
            MemberState::Left => MemberReason::Left,
            MemberState::Suspect | MemberState::Down => cause,
        };
        self.outbox.events.push((node, state, reason));
    }
}
