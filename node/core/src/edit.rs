//! Who may edit what a newer version wrote.
//!
//! An edit takes parts of an old value over into a new one, and would silently drop the fields that this version does not
//! know. So it is refused, and the answer names a node that knows them. What replaces a value whole (a deploy) or ends it (a
//! removal) takes nothing over and is no edit: it works at every node, also after a downgrade of all of them.

use alloc::string::{String, ToString};

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::face::{MemberState, NoticeLevel};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::wire::{Grasp, Kind, Record, RecordId};

use crate::engine::Node;
use crate::face::{EventKind, ProblemKind, Reply};
use crate::request::{Batch, problem};

impl Node {
    /// Refuses a batch that would drop fields of what is held. What is written again exactly as its author wrote it drops none.
    pub(crate) fn may_edit(&self, batch: &Batch) -> Result<(), Reply> {
        for (id, payload) in batch {
            let Some(payload) = payload else { continue };
            let siblings = self.gossip.state().siblings(id);
            let is_kept = siblings.iter().any(|record| record.payload() == Some(payload));
            let foreign = siblings.iter().find(|record| self.config.wire.grasp(record) != Grasp::Whole);
            if let Some(record) = foreign.filter(|_| !is_kept && !planted(Bug::EditDropsFields)) {
                return Err(problem(ProblemKind::Unavailable, &self.who_may(id, record)));
            }
        }
        Ok(())
    }

    /// A service is run without the fields that this version does not know: whoever reads this node's log shall know it.
    pub(crate) fn tell_of_foreign_fields(&mut self, id: &RecordId) {
        if id.kind != Kind::SERVICE {
            return;
        }
        let Some(record) = self.gossip.state().value(id) else { return };
        if self.config.wire.grasp(record) != Grasp::Part {
            return;
        }
        let text = alloc::format!(
            "service {} has fields that this version ({}) does not know; they are kept and passed on, and have no effect here",
            String::from_utf8_lossy(&id.key),
            self.config.header.version
        );
        self.log.node(NoticeLevel::Warn, EventKind::Node, self.me, text);
    }

    fn who_may(&self, id: &RecordId, record: &Record) -> String {
        let what = match id.kind {
            Kind::STACK => "stack",
            Kind::SERVICE => "service",
            Kind::TOKEN => "token",
            Kind::NODE_ORDERS => "orders of node",
            _ => "record",
        };
        let name = String::from_utf8_lossy(&id.key);
        let mine = &self.config.header.version;
        let remedy = self.newer(record).map_or_else(
            || "no node that runs here knows them: upgrade one, or deploy the stack's whole file, which replaces them".to_string(),
            |node| {
                let (name, version) = self.called(node);
                alloc::format!("ask node {name}, which runs dunlin {version}, or deploy the stack's whole file, which replaces them")
            },
        );
        alloc::format!(
            "{what} {name} was written by a newer dunlin and has fields that this node's version ({mine}) does not know and would drop; {remedy}"
        )
    }

    /// A node that is there and speaks more than this one: the author, if it still does, or the first.
    fn newer(&self, record: &Record) -> Option<NodeId> {
        let author = record.author().map(|author| author.node);
        let is_there = |node: &NodeId| self.gossip.member_state(*node) == Some(MemberState::Alive);
        let speaks_more = |node: &NodeId| self.gossip.declared_by(*node) > self.config.wire;
        let all = self.gossip.members().map(|(node, _)| node);
        author.into_iter().chain(all).filter(is_there).find(speaks_more)
    }

    fn called(&self, node: NodeId) -> (String, String) {
        let header = self.view.nodes().get(&node).and_then(|known| known.header.as_ref());
        header.map_or_else(
            || (node.to_string(), "of a later version".to_string()),
            |header| (header.name.to_string(), header.version.clone()),
        )
    }
}
