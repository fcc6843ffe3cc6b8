//! In which version to speak with whom, and what to say of our own.

use alloc::vec::Vec;

use super::Gossip;
use crate::canary::{Bug, planted};
use crate::face::FrameClass;
use crate::id::{Generation, NodeId};
use crate::wire::message::{Head, frame};
use crate::wire::{Declared, Record, RecordId, WireVersion, codec, rehearsal};

impl Gossip {
    /// The newest version that both speak, by the newest boot of which a packet came.
    pub(super) fn speaks_with(&self, node: NodeId) -> WireVersion {
        self.speaks_with_boot(node, self.membership.generation_of(node))
    }

    /// The same in that boot. What a node declared in an earlier one says nothing: its host may have been given an older
    /// program since.
    fn speaks_with_boot(&self, node: NodeId, boot: Option<Generation>) -> WireVersion {
        let mine = self.config.wire;
        if mine == WireVersion::FIRST {
            return mine;
        }
        let record = self.state.value(&RecordId::declared(node));
        let is_of_this_boot = |record: &&Record| {
            let author = record.author();
            author.is_some_and(|author| Some(author.generation) == boot || planted(Bug::OldBootSpokenTo))
        };
        let declared = record.filter(is_of_this_boot).and_then(Record::read_as::<Declared>);
        declared.map_or(WireVersion::FIRST, |declared| declared.most).clamp(WireVersion::FIRST, mine)
    }

    /// The newest version that a node declares to speak.
    #[must_use]
    pub fn declared_by(&self, node: NodeId) -> WireVersion {
        if node == self.config.me {
            return self.config.wire;
        }
        let declared = self.state.value(&RecordId::declared(node)).and_then(Record::read_as::<Declared>);
        declared.map_or(WireVersion::FIRST, |declared| declared.most)
    }

    /// What belongs beside our header: what we speak, unless that goes without saying.
    #[must_use]
    pub fn declaration(&self) -> Vec<(RecordId, Vec<u8>)> {
        let (me, most) = (self.config.me, self.config.wire);
        let mut said = Vec::new();
        if most > WireVersion::FIRST {
            said.push((RecordId::declared(me), codec::encode(&Declared { most })));
        }
        if most >= WireVersion::NEXT {
            said.push((rehearsal::of_node(me), rehearsal::value(self.generation.0)));
        }
        said
    }

    /// Greets peers of the next version as only they are greeted, once a link.
    pub(super) fn rehearse(&mut self) {
        if self.config.wire < WireVersion::NEXT {
            return;
        }
        // A link may be to a boot of which no packet has come yet: what counts is who greeted.
        let open = self.links.greeted().filter(|(_, link)| !link.rehearsed);
        let open: Vec<_> = open.map(|(id, link)| (id, link.peer, link.generation)).collect();
        for (id, peer, boot) in open {
            if self.speaks_with_boot(peer, boot) >= WireVersion::NEXT {
                self.say(id, FrameClass::Control, frame(&Head::Rehearsal(self.state.sync_root())));
                if let Some(link) = self.links.get_mut(id) {
                    link.rehearsed = true;
                }
            }
        }
    }

    /// Frames that could not be read. Among nodes that go by what each declares there are none.
    #[must_use]
    pub const fn foreign_frames(&self) -> u64 {
        self.foreign_frames
    }

    /// Frames that came of the kind that the next version brings.
    #[must_use]
    pub const fn rehearsed(&self) -> u64 {
        self.rehearsed
    }
}
