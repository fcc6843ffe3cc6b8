//! The end of a node's membership: it leaves because it was asked to, or it was removed and has learnt of it. Either way it
//! accepts and claims nothing more, stops what it runs, and then goes.
//!
//! Whoever removes a node writes one fact, which no later word takes back; the removed node's claims are void for everybody
//! else from then on.

use alloc::string::{String, ToString};

use dunlin_gossip::face::{GossipEvent, GossipOutput, MemberReason, MemberState, NoticeLevel};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{Removal, RemovalKind, RosterEntry};
use dunlin_gossip::time::{Duration, Instant, Wall};
use dunlin_gossip::wire::{RecordId, codec};

use crate::ack::{Acks, WriteWait};
use crate::engine::Node;
use crate::face::{EventKind, Output, Outputs, ProblemKind, Reply, RequestId};
use crate::request::{Keep, problem};

/// How long a leaving node waits for its workloads to end.
const LEAVE: Duration = Duration::from_secs(60);

/// Why this node goes, and by when at the latest.
#[derive(Debug)]
pub(crate) struct Leaving {
    why: Why,
    pub(crate) deadline: Instant,
}

#[derive(Debug)]
enum Why {
    /// Somebody asked for it, and waits for the answer.
    Asked(RequestId),
    /// The roster does not admit us any more.
    Removed(String),
}

impl Leaving {
    /// Why what runs here is stopped.
    pub(crate) const fn reason(&self) -> &'static str {
        match self.why {
            Why::Asked(_) => "the node leaves",
            Why::Removed(_) => "the node was removed from the cluster",
        }
    }
}

impl Node {
    /// Somebody asks this node to go.
    pub(crate) fn leave(&mut self, id: RequestId, now: Instant) -> Result<(), Reply> {
        if self.leaving.is_some() {
            return Err(problem(ProblemKind::BadRequest, "this node is leaving already"));
        }
        self.leaving = Some(Leaving { why: Why::Asked(id), deadline: now + LEAVE });
        self.mark_all_own();
        Ok(())
    }

    /// Writes that a node does not belong any more. Asking for it again does no harm.
    pub(crate) fn remove_node(
        &mut self,
        id: RequestId,
        node: NodeId,
        keep: Keep,
        now: Instant,
        wall: Wall,
    ) -> Result<(), Reply> {
        if node == self.me {
            let text = "a node does not remove itself: its peers could not tell whether it had; ask another node";
            return Err(problem(ProblemKind::BadRequest, text));
        }
        if self.leaving.is_some() {
            return Err(problem(ProblemKind::Unavailable, "this node is leaving the cluster; ask another node"));
        }
        let facts = [RecordId::roster(node), RecordId::removal(node)];
        if facts.iter().all(|id| self.gossip.state().siblings(id).is_empty()) {
            let text = alloc::format!("node {node} was never admitted; `dunlin nodes` lists who was");
            return Err(problem(ProblemKind::NotFound, &text));
        }
        let token = self.limited_token_of(node);
        let removal = Removal { node, kind: RemovalKind::Revoked, by: self.me, at: wall, token };
        let (record, payload) = (RecordId::removal(node), codec::encode(&removal));
        let (hlc, seq) = self.gossip.state_fact(now, wall, record, payload, &mut self.gouts);
        // Who goes cannot keep it for us.
        let others = self.gossip.members().filter(|(other, state)| {
            ![self.me, node].contains(other) && matches!(state, MemberState::Alive | MemberState::Suspect)
        });
        let most = 1 + u32::try_from(others.count()).unwrap_or(u32::MAX);
        let wanted = match keep.ack {
            crate::face::Ack::Nodes(n) => n.max(1),
            ack => self.wanted_copies(ack).min(most),
        };
        let write = WriteWait { hlc, seq, wanted, warnings: alloc::vec::Vec::new() };
        self.acks.write(id, Acks::deadline(now, keep.timeout), write);
        Ok(())
    }

    /// How a node ceased to belong, if it did.
    #[must_use]
    pub fn removal_of(&self, node: NodeId) -> Option<Removal> {
        self.gossip.state().value(&RecordId::removal(node))?.read_as()
    }

    /// A node's admission.
    #[must_use]
    pub fn admission_of(&self, node: NodeId) -> Option<RosterEntry> {
        self.gossip.state().value(&RecordId::roster(node))?.read_as()
    }

    /// The roster does not admit a node any more.
    pub(crate) fn on_removed(&mut self, node: NodeId, now: Instant, out: &mut Outputs) {
        if node != self.me {
            // Of those that were removed before this boot nothing is known here, and nothing is to be said.
            if self.view.nodes().get(&node).is_none() {
                return;
            }
            self.on_member(node, MemberState::Left, MemberReason::Removed, now, out);
            return;
        }
        if matches!(self.leaving, Some(Leaving { why: Why::Removed(_), .. })) {
            return;
        }
        let by = self.removal_of(node).and_then(|removal| self.admission_of(removal.by));
        let by = by.map_or_else(String::new, |by| alloc::format!(", as {} says", by.name));
        let text = alloc::format!(
            "this node was removed from the cluster{by}: it stops what it runs and ends. It cannot come back under its keys; \
             to use this host again, join it with a new token and an empty --data-dir"
        );
        self.log.node(NoticeLevel::Error, EventKind::Trust, self.me, text.clone());
        self.leaving = Some(Leaving { why: Why::Removed(text), deadline: now + LEAVE });
        self.mark_all_own();
    }

    /// Goes once nothing runs here any more, or when that takes too long.
    pub(crate) fn leave_when_empty(&mut self, now: Instant, wall: Wall, out: &mut Outputs) {
        let Some(Leaving { why, deadline }) = &self.leaving else { return };
        let busy = !self.owned.map.is_empty() || !self.start.is_adopted();
        if self.left || (busy && now < *deadline) {
            return;
        }
        let last = match why {
            Why::Asked(id) => Output::Reply(*id, Reply::Held),
            Why::Removed(text) => Output::Gossip(GossipOutput::Event(GossipEvent::Fatal(text.to_string()))),
        };
        self.flush_staged(now, wall);
        self.left = true;
        self.gossip.leave(now, wall, &mut self.gouts);
        self.drain(now, wall, out);
        out.push(last);
    }
}
