//! What passed between hosts while a run was recorded: what was sent by kind, whom somebody gave up wrongly, how each failover went from
//! step to step, and of a broken promise the messages that came before it.
//!
//! Like the recording it only reads: a run takes the same course with it and without it, and its size is bounded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dunlin_core::face::{Event as CoreEvent, EventKind};
use dunlin_gossip::face::{FrameClass, MemberState};
use dunlin_gossip::model::{ReplicaKey, ServiceKey, Slot};

use crate::net::HostNo;
use crate::queue::Nanos;

/// So many failovers, accusations and doubts are kept.
const MAX_FAILOVERS: usize = 5_000;
const MAX_ACCUSATIONS: usize = 1_000;
const MAX_DOUBTS: usize = 200_000;
/// So many messages and notes lie ready for a promise that breaks,
const MAX_MESSAGES: usize = 20_000;
const MAX_NOTES: usize = 4_000;
/// and so much of both is drawn of it.
const LANES: usize = 8;
const DRAWN: usize = 40;
/// Broken promises that are drawn.
const MAX_PASTS: usize = 3;

/// What is sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    /// Probes of membership and what rides on them.
    Probes,
    /// Greetings and acknowledgements on links.
    Control,
    /// Fresh records.
    Push,
    /// Anti-entropy and full copies.
    Sync,
}

impl Kind {
    pub(crate) const fn of(class: FrameClass) -> Self {
        match class {
            FrameClass::Control => Self::Control,
            FrameClass::Push => Self::Push,
            FrameClass::Sync => Self::Sync,
        }
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Probes => "probes",
            Self::Control => "control",
            Self::Push => "push",
            Self::Sync => "sync",
        }
    }
}

/// A live host that somebody held down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Accusation {
    pub(crate) at: Nanos,
    pub(crate) by: HostNo,
    pub(crate) about: HostNo,
}

/// How a replica came back that died with its host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failover {
    pub(crate) replica: ReplicaKey,
    pub(crate) from: HostNo,
    pub(crate) died: Nanos,
    /// The host on which it came to be ready: when it began to doubt the dead one, held it down, and claimed.
    pub(crate) to: Option<HostNo>,
    pub(crate) suspected: Option<Nanos>,
    pub(crate) known: Option<Nanos>,
    pub(crate) claimed: Option<Nanos>,
    pub(crate) started: Option<Nanos>,
    pub(crate) ready: Option<Nanos>,
    /// When the first node answered with it, and the last that came to.
    pub(crate) named: Option<Nanos>,
    pub(crate) named_by_all: Option<Nanos>,
    answered: BTreeSet<HostNo>,
}

impl Failover {
    fn new(replica: ReplicaKey, from: HostNo, died: Nanos) -> Self {
        Self {
            replica,
            from,
            died,
            to: None,
            suspected: None,
            known: None,
            claimed: None,
            started: None,
            ready: None,
            named: None,
            named_by_all: None,
            answered: BTreeSet::new(),
        }
    }
}

/// A message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Message {
    pub(crate) from: HostNo,
    pub(crate) to: HostNo,
    pub(crate) sent: Nanos,
    /// None: it was lost.
    pub(crate) arrives: Option<Nanos>,
    pub(crate) kind: Kind,
}

/// Something that a host did or said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Note {
    pub(crate) at: Nanos,
    pub(crate) host: HostNo,
    pub(crate) text: String,
}

/// What came before a broken promise, among the hosts that it is about and those that told them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Past {
    /// Its place among the broken promises.
    pub(crate) violation: usize,
    pub(crate) at: Nanos,
    pub(crate) hosts: Vec<HostNo>,
    pub(crate) messages: Vec<Message>,
    pub(crate) notes: Vec<Note>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chronicle {
    /// Bytes by kind, headers included, from the beginning.
    pub(crate) sent: BTreeMap<Kind, u64>,
    pub(crate) accusations: Vec<Accusation>,
    pub(crate) failovers: Vec<Failover>,
    pub(crate) pasts: Vec<Past>,
    /// Failovers under way, by their place in the list.
    open: BTreeMap<ReplicaKey, usize>,
    /// Ready, and not yet in everybody's answers.
    unnamed: BTreeMap<(ServiceKey, Slot), usize>,
    /// When a host began to doubt another, and to hold it down.
    doubts: BTreeMap<(HostNo, HostNo), Nanos>,
    downs: BTreeMap<(HostNo, HostNo), Nanos>,
    messages: VecDeque<Message>,
    notes: VecDeque<Note>,
}

impl Chronicle {
    /// So many bytes left a host.
    pub(crate) fn sent(&mut self, kind: Kind, bytes: u64) {
        *self.sent.entry(kind).or_default() += bytes;
    }

    /// A message left.
    pub(crate) fn message(&mut self, message: Message) {
        if self.messages.len() == MAX_MESSAGES {
            self.messages.pop_front();
        }
        self.messages.push_back(message);
    }

    fn note(&mut self, at: Nanos, host: HostNo, text: String) {
        if self.notes.len() == MAX_NOTES {
            self.notes.pop_front();
        }
        self.notes.push_back(Note { at, host, text });
    }

    /// A core says something; `about` is the host of the member that it names.
    pub(crate) fn event(&mut self, at: Nanos, by: HostNo, about: Option<HostNo>, event: &CoreEvent) {
        let whom = about.map_or_else(String::new, |about| format!("n{about} "));
        let what = event.replica.as_ref().map_or_else(String::new, |replica| format!("{replica} "));
        match (event.kind, event.member, about, &event.replica) {
            (EventKind::Member, Some((state, _)), Some(about), _) => {
                self.note(at, by, format!("{whom}{}", state_word(state)));
                let known = match state {
                    MemberState::Suspect => &mut self.doubts,
                    MemberState::Down => &mut self.downs,
                    MemberState::Alive | MemberState::Left => return,
                };
                if known.len() < MAX_DOUBTS {
                    known.insert((by, about), at);
                }
            }
            (EventKind::Claim, _, _, Some(replica)) => {
                self.note(at, by, format!("{what}{}", event.text));
                if event.text.starts_with("claimed,") {
                    self.claimed(at, by, replica);
                }
            }
            (EventKind::Allocation | EventKind::Refusal, ..) => self.note(at, by, format!("{what}{}", event.text)),
            (EventKind::Member | EventKind::Claim | EventKind::Desired | EventKind::Trust | EventKind::Node, ..) => {}
        }
    }

    /// Somebody holds a live host down.
    pub(crate) fn accused(&mut self, at: Nanos, by: HostNo, about: HostNo) {
        if self.accusations.len() < MAX_ACCUSATIONS {
            self.accusations.push(Accusation { at, by, about });
        }
    }

    /// A replica died with its host.
    pub(crate) fn died(&mut self, at: Nanos, replica: &ReplicaKey, from: HostNo) {
        if self.failovers.len() < MAX_FAILOVERS && !self.open.contains_key(replica) {
            self.open.insert(replica.clone(), self.failovers.len());
            self.failovers.push(Failover::new(replica.clone(), from, at));
        }
        // What was known of it before it died is about an earlier life.
        self.doubts.retain(|(_, about), _| *about != from);
        self.downs.retain(|(_, about), _| *about != from);
    }

    fn under_way(&mut self, replica: &ReplicaKey) -> Option<&mut Failover> {
        self.failovers.get_mut(*self.open.get(replica)?)
    }

    fn claimed(&mut self, at: Nanos, by: HostNo, replica: &ReplicaKey) {
        let Some(from) = self.under_way(replica).map(|failover| failover.from) else { return };
        let (suspected, known) = (self.doubts.get(&(by, from)).copied(), self.downs.get(&(by, from)).copied());
        if let Some(failover) = self.under_way(replica) {
            failover.to = Some(by);
            (failover.suspected, failover.known, failover.claimed) = (suspected.or(known), known, Some(at));
            (failover.started, failover.ready) = (None, None);
        }
    }

    /// A process of it runs.
    pub(crate) fn started(&mut self, at: Nanos, replica: &ReplicaKey, on: HostNo) {
        if let Some(failover) = self.under_way(replica)
            && (failover.started.is_none() || failover.to != Some(on))
        {
            if failover.to != Some(on) {
                // Nobody claimed it anew: it came back where it was, or another claim won.
                (failover.to, failover.suspected, failover.known, failover.claimed) = (Some(on), None, None, None);
            }
            failover.started = Some(at);
        }
    }

    /// It is ready.
    pub(crate) fn ready(&mut self, at: Nanos, replica: &ReplicaKey, on: HostNo) {
        let Some(index) = self.open.remove(replica) else { return };
        let Some(failover) = self.failovers.get_mut(index) else { return };
        if failover.to == Some(on) {
            failover.ready = Some(at);
            self.unnamed.insert((replica.service.clone(), replica.slot), index);
        }
    }

    /// A node's answers about a service changed; `answers` tells whether a slot on a host is among them, `all` how many nodes answer.
    pub(crate) fn named(
        &mut self,
        at: Nanos,
        by: HostNo,
        service: &ServiceKey,
        all: usize,
        answers: impl Fn(Slot, HostNo) -> bool,
    ) {
        let Self { unnamed, failovers, .. } = self;
        if unnamed.is_empty() {
            return;
        }
        unnamed.retain(|(of, slot), index| {
            let Some(failover) = failovers.get_mut(*index).filter(|_| of == service) else { return true };
            let Some(to) = failover.to else { return false };
            if answers(*slot, to) && failover.answered.insert(by) {
                failover.named.get_or_insert(at);
                failover.named_by_all = Some(at);
            }
            let goes_on = failover.answered.len() < all;
            if !goes_on {
                failover.answered = BTreeSet::new();
            }
            goes_on
        });
    }

    /// A promise is broken: what came before it is kept.
    pub(crate) fn broken(&mut self, at: Nanos, violation: usize, detail: &str) {
        if self.pasts.len() == MAX_PASTS {
            return;
        }
        let mut hosts: Vec<HostNo> = named_hosts(detail);
        hosts.truncate(LANES / 2);
        let messages = self.led_to(at, &mut hosts);
        let mut notes: Vec<Note> =
            self.notes.iter().rev().filter(|note| hosts.contains(&note.host)).take(DRAWN).cloned().collect();
        notes.reverse();
        hosts.sort_unstable();
        self.pasts.push(Past { violation, at, hosts, messages, notes });
    }

    /// The last messages that can have led to what these hosts did, and besides them the hosts that sent those. What carries records
    /// says more than a probe or a greeting: those come in where there is room.
    fn led_to(&self, at: Nanos, hosts: &mut Vec<HostNo>) -> Vec<Message> {
        let mut seen: BTreeMap<HostNo, Nanos> = hosts.iter().map(|host| (*host, at)).collect();
        let (mut telling, mut others) = (Vec::new(), Vec::new());
        for message in self.messages.iter().rev() {
            let when = message.arrives.unwrap_or(message.sent);
            if seen.get(&message.to).is_none_or(|until| when > *until) {
                continue;
            }
            let is_known = seen.contains_key(&message.from);
            let carries_records = matches!(message.kind, Kind::Push | Kind::Sync);
            let into = if carries_records { &mut telling } else { &mut others };
            if into.len() >= DRAWN || (!is_known && (hosts.len() >= LANES || !carries_records)) {
                continue;
            }
            if !is_known {
                hosts.push(message.from);
                seen.insert(message.from, message.sent);
            }
            into.push(*message);
        }
        let room = DRAWN.saturating_sub(telling.len());
        telling.extend(others.into_iter().take(room));
        telling.sort_by_key(|message| message.sent);
        telling
    }
}

const fn state_word(state: MemberState) -> &'static str {
    match state {
        MemberState::Alive => "alive",
        MemberState::Suspect => "suspect",
        MemberState::Down => "down",
        MemberState::Left => "left",
    }
}

/// The hosts that a text names, in its order.
fn named_hosts(text: &str) -> Vec<HostNo> {
    let mut hosts = Vec::new();
    for rest in text.split("host ").skip(1) {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        if let Ok(host) = digits.parse()
            && !hosts.contains(&host)
        {
            hosts.push(host);
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_gossip::model::ServiceName;

    fn replica() -> ReplicaKey {
        let service = ServiceKey { stack: crate::operator::stack(), service: ServiceName::new("web").expect("a name") };
        ReplicaKey { service, slot: Slot::Number(1) }
    }

    #[test]
    fn the_past_of_a_broken_promise_is_what_can_have_led_to_it() {
        let mut chronicle = Chronicle::default();
        let message = |from, to, sent, arrives, kind| Message { from, to, sent, arrives: Some(arrives), kind };
        chronicle.message(message(3, 2, 1, 4, Kind::Push)); // told 2 before it told 1
        chronicle.message(message(2, 1, 5, 8, Kind::Push));
        chronicle.message(message(4, 2, 6, 9, Kind::Push)); // told 2 too late to matter
        chronicle.message(message(2, 1, 7, 30, Kind::Push)); // not there yet
        chronicle.broken(10, 0, "seed 1, 1.0s: host 1 says so of host 1");
        let past = &chronicle.pasts[0];
        assert_eq!(past.hosts, [1, 2, 3]);
        assert_eq!(past.messages.iter().map(|m| (m.from, m.to)).collect::<Vec<_>>(), [(3, 2), (2, 1)]);
    }

    #[test]
    fn a_failover_is_told_step_by_step() {
        let (mut chronicle, replica) = (Chronicle::default(), replica());
        chronicle.died(10, &replica, 7);
        chronicle.doubts.insert((2, 7), 20);
        chronicle.downs.insert((2, 7), 30);
        chronicle.claimed(40, 2, &replica);
        chronicle.started(50, &replica, 2);
        chronicle.ready(60, &replica, 2);
        for (at, by) in [(70, 2), (75, 1), (80, 3)] {
            chronicle.named(at, by, &replica.service, 3, |slot, host| slot == replica.slot && host == 2);
        }
        let of = &chronicle.failovers[0];
        let steps = [of.suspected, of.known, of.claimed, of.started, of.ready, of.named, of.named_by_all];
        assert_eq!(steps, [20, 30, 40, 50, 60, 70, 80].map(Some));
        assert!(chronicle.unnamed.is_empty() && chronicle.open.is_empty());
    }
}
