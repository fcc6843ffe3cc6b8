//! Events for people: what happened, as this node saw it. Bounded per call; what is left out is counted and said.

use alloc::string::String;
use alloc::vec::Vec;

use dunlin_gossip::face::{MemberReason, MemberState, NoticeLevel};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{ReplicaKey, ServiceKey};
use dunlin_gossip::time::Wall;

use crate::face::{Event, EventKind, Output, Outputs};

/// Events of one call.
const MAX_EVENTS: usize = 512;

/// Events on their way out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    events: Vec<Event>,
    dropped: u64,
}

impl Log {
    fn push(&mut self, event: Event) {
        if self.events.len() < MAX_EVENTS {
            self.events.push(event);
        } else {
            self.dropped += 1;
        }
    }

    /// About a node, or about this one.
    pub(crate) fn node(&mut self, level: NoticeLevel, kind: EventKind, node: NodeId, text: String) {
        self.push(Event {
            at: Wall(0),
            level,
            kind,
            node: Some(node),
            service: None,
            replica: None,
            member: None,
            text,
        });
    }

    /// About a member that is something else now.
    pub(crate) fn member(&mut self, node: NodeId, state: MemberState, reason: MemberReason) {
        let level = match state {
            MemberState::Alive | MemberState::Left => NoticeLevel::Info,
            MemberState::Suspect | MemberState::Down => NoticeLevel::Warn,
        };
        let text = alloc::format!("{state} ({})", reason_word(reason));
        let (kind, member) = (EventKind::Member, Some((state, reason)));
        self.push(Event { at: Wall(0), level, kind, node: Some(node), service: None, replica: None, member, text });
    }

    /// About a service.
    pub(crate) fn service(&mut self, service: &ServiceKey, text: String) {
        let (level, kind) = (NoticeLevel::Info, EventKind::Desired);
        self.push(Event {
            at: Wall(0),
            level,
            kind,
            node: None,
            service: Some(service.clone()),
            replica: None,
            member: None,
            text,
        });
    }

    /// About a replica on a node.
    pub(crate) fn replica(
        &mut self,
        level: NoticeLevel,
        kind: EventKind,
        node: NodeId,
        replica: &ReplicaKey,
        text: String,
    ) {
        let service = Some(replica.service.clone());
        self.push(Event {
            at: Wall(0),
            level,
            kind,
            node: Some(node),
            service,
            replica: Some(replica.clone()),
            member: None,
            text,
        });
    }

    /// Gives everything out, stamped.
    pub(crate) fn flush(&mut self, me: NodeId, wall: Wall, out: &mut Outputs) {
        let dropped = core::mem::take(&mut self.dropped);
        if dropped > 0 {
            let text = alloc::format!("{dropped} events of this moment are not shown");
            let (level, kind) = (NoticeLevel::Warn, EventKind::Node);
            let node = Some(me);
            self.events.push(Event { at: wall, level, kind, node, service: None, replica: None, member: None, text });
        }
        for mut event in self.events.drain(..) {
            event.at = wall;
            out.push(Output::Event(event));
        }
    }
}

const fn reason_word(reason: MemberReason) -> &'static str {
    match reason {
        MemberReason::Joined => "joined",
        MemberReason::Refuted => "answered after all",
        MemberReason::Silence => "does not answer",
        MemberReason::Refusal => "its host says that no agent listens",
        MemberReason::Gossip => "heard from others",
        MemberReason::Left => "said goodbye",
        MemberReason::Removed => "removed by an operator",
        MemberReason::Forgotten => "away for too long, and forgotten",
    }
}
