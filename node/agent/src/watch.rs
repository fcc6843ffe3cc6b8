//! What this agent has seen of its peers and of itself since its start: when each was heard, how often it was doubted, what
//! went over links, how long turns took. Bounded by the members; it must never decide anything.

use std::collections::BTreeMap;
use std::time::Duration;

use dunlin_core::face::Event;
use dunlin_gossip::face::{FrameClass, LinkId, MemberState};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::time::{Instant, Wall};
use dunlin_gossip::wire::frame_class;
use dunlin_net::NetEvent;
use serde::Serialize;

/// What was seen of a peer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Its last packet or frame.
    pub(crate) heard: Option<Instant>,
    /// When its state changed, and to what.
    pub(crate) changed: Option<(Wall, MemberState)>,
    pub(crate) suspicions: u64,
    /// Returns after it had been suspect or down.
    pub(crate) flaps: u64,
}

/// Frames of one kind, one way.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Flow {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
}

/// Frames by kind, one way.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Flows {
    /// Greetings, acknowledgements, lists of members.
    pub(crate) control: Flow,
    /// Fresh records; on the way in also what a sync brought.
    pub(crate) push: Flow,
    /// Anti-entropy and full copies.
    pub(crate) sync: Flow,
}

impl Flows {
    fn count(&mut self, class: FrameClass, bytes: usize) {
        let flow = match class {
            FrameClass::Control => &mut self.control,
            FrameClass::Push => &mut self.push,
            FrameClass::Sync => &mut self.sync,
        };
        flow.frames += 1;
        flow.bytes += bytes as u64;
    }
}

/// Turns of the loop.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Turns {
    pub(crate) count: u64,
    pub(crate) spent_us: u64,
    pub(crate) longest_us: u64,
}

/// Everything seen.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) started: Wall,
    pub(crate) peers: BTreeMap<NodeId, Seen>,
    pub(crate) sent: Flows,
    pub(crate) received: Flows,
    pub(crate) turns: Turns,
    /// Events of the network and calls of the API that wait for a turn.
    pub(crate) waiting: [usize; 2],
    links: BTreeMap<LinkId, NodeId>,
}

impl Watch {
    pub(crate) fn new(started: Wall) -> Self {
        Self {
            started,
            peers: BTreeMap::new(),
            sent: Flows::default(),
            received: Flows::default(),
            turns: Turns::default(),
            waiting: [0; 2],
            links: BTreeMap::new(),
        }
    }

    /// Something came from the network.
    pub(crate) fn arrived(&mut self, now: Instant, event: &NetEvent) {
        match event {
            NetEvent::Packet { from, .. } => self.peers.entry(*from).or_default().heard = Some(now),
            NetEvent::Frame { link, bytes } => {
                if let Some(class) = frame_class(bytes) {
                    self.received.count(class, bytes.len());
                }
                if let Some(peer) = self.links.get(link) {
                    self.peers.entry(*peer).or_default().heard = Some(now);
                }
            }
            NetEvent::LinkUp { link, peer, .. } => drop(self.links.insert(*link, *peer)),
            NetEvent::LinkDown { link: Some(link), .. } => drop(self.links.remove(link)),
            NetEvent::LinkDown { link: None, .. }
            | NetEvent::Refused { .. }
            | NetEvent::Credit { .. }
            | NetEvent::Request { .. }
            | NetEvent::Join(_)
            | NetEvent::Expelled { .. }
            | NetEvent::Met { .. }
            | NetEvent::Stale { .. }
            | NetEvent::Handover(_)
            | NetEvent::Rejected { .. } => {}
        }
    }

    pub(crate) fn sent(&mut self, class: FrameClass, bytes: usize) {
        self.sent.count(class, bytes);
    }

    /// The core tells something; of interest is what became of members.
    pub(crate) fn told(&mut self, event: &Event) {
        let (Some(node), Some((state, _))) = (event.node, event.member) else { return };
        let seen = self.peers.entry(node).or_default();
        let was = seen.changed.replace((event.at, state)).map(|(_, was)| was);
        seen.suspicions += u64::from(state == MemberState::Suspect);
        let is_back = state == MemberState::Alive && matches!(was, Some(MemberState::Suspect | MemberState::Down));
        seen.flaps += u64::from(is_back);
    }

    pub(crate) fn turned(&mut self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.turns.count += 1;
        self.turns.spent_us += took;
        self.turns.longest_us = self.turns.longest_us.max(took);
    }

    /// Forgets who is no member.
    pub(crate) fn keep(&mut self, is_member: impl Fn(NodeId) -> bool) {
        self.peers.retain(|node, _| is_member(*node));
    }
}

#[cfg(test)]
mod tests {
    use dunlin_core::face::EventKind;
    use dunlin_gossip::face::{MemberReason, NoticeLevel};

    use super::*;

    #[test]
    fn doubts_and_returns_are_counted_and_strangers_forgotten() {
        let mut watch = Watch::new(Wall(0));
        let node = NodeId([7; 16]);
        let told = |state| Event {
            at: Wall(9),
            level: NoticeLevel::Info,
            kind: EventKind::Member,
            node: Some(node),
            service: None,
            replica: None,
            member: Some((state, MemberReason::Gossip)),
            text: String::new(),
        };
        use MemberState::{Alive, Down, Suspect};
        [Alive, Suspect, Alive, Suspect, Down, Alive].into_iter().for_each(|state| watch.told(&told(state)));
        let seen = watch.peers[&node];
        assert_eq!((seen.suspicions, seen.flaps, seen.changed), (2, 2, Some((Wall(9), Alive))), "joining is no flap");
        watch.keep(|_| false);
        assert!(watch.peers.is_empty());
    }
}
