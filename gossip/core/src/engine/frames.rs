//! What is said over links: greetings, pushes, acknowledgements, walks and full copies.

use alloc::vec::Vec;

use super::{ActiveWalk, Catching, Gossip, Origin};
use crate::canary::{Bug, planted};
use crate::face::{Frame, FrameClass, GossipEvent, GossipOutputs, LinkId, NoticeLevel, PersistOp, REMOVED};
use crate::hash::hash64;
use crate::hlc::Hlc;
use crate::id::{Generation, NodeId};
use crate::limits::{MAX_FRAME, MAX_LINK_QUEUE};
use crate::state::walk::{self, Walk};
use crate::time::{Duration, Wall};
use crate::wire::message::{Head, Hello, chunks, frame, open, record_at, with_records};
use crate::wire::{Record, RecordId};

use super::writes::Waiting;

/// Records that one call merges.
const SLICE: usize = 256;
/// Bytes of records that one step of a walk pushes.
const WALK_BUDGET: usize = 1024 * 1024;
/// Bytes of one step's messages; what exceeds it is found by the next walk.
const WALK_MESSAGES: usize = MAX_FRAME * 3 / 4;
/// Bytes of records in one part of a full copy.
const COPY_PART: usize = 64 * 1024;

/// A frame that is being read.
#[derive(Debug)]
pub(super) struct Incoming {
    link: LinkId,
    frame: Frame,
    head: Option<Head>,
    /// Where the next record begins.
    at: usize,
    /// How many records were taken.
    taken: usize,
}

impl Incoming {
    fn len(&self) -> usize {
        self.frame.bytes().len()
    }

    /// The next record: read already by its sender, or as bytes.
    fn next(&mut self) -> Option<Next<'_>> {
        let at = self.taken;
        self.taken += 1;
        if let Some(records) = self.frame.records() {
            return records.get(at).map(Next::Read);
        }
        let (bytes, next) = record_at(self.frame.bytes(), self.at)?;
        self.at = next;
        Some(Next::Bytes(bytes))
    }
}

/// A record of a frame.
enum Next<'a> {
    Read(&'a Record),
    Bytes(&'a [u8]),
}

impl Gossip {
    pub(super) fn frame_in(&mut self, link: LinkId, frame: Frame) {
        let Some(peer) = self.links.get(link).map(|link| link.peer) else { return };
        self.membership.contact(self.now, peer);
        self.heard = self.now;
        match open(frame.bytes(), self.config.wire) {
            Ok((head, at)) => {
                debug_assert!(says_what_it_holds(&frame, at), "a frame's records are those of its bytes");
                self.inbox_bytes += frame.bytes().len();
                self.inbox.push_back(Incoming { link, frame, head: Some(head), at, taken: 0 });
            }
            Err(_) => {
                self.unreadable += 1;
                self.foreign_frames += 1;
            }
        }
    }

    /// A slice of the inbox; more of it if it has grown beyond a link's queue, since nothing else would bound it.
    pub(super) fn work_inbox(&mut self, wall: Wall, out: &mut GossipOutputs) {
        let mut left = SLICE;
        while left > 0 || self.inbox_bytes > MAX_LINK_QUEUE {
            let Some(mut incoming) = self.inbox.pop_front() else { return };
            if self.read_records(wall, &mut incoming, &mut left, out) {
                self.inbox_bytes = self.inbox_bytes.saturating_sub(incoming.len());
                if let Some(head) = incoming.head.take() {
                    self.frame_end(wall, incoming.link, head, out);
                }
                left = left.saturating_sub(1);
            } else {
                self.inbox.push_front(incoming);
            }
        }
    }

    /// Reads records; true if the frame is at its end.
    fn read_records(&mut self, wall: Wall, incoming: &mut Incoming, left: &mut usize, out: &mut GossipOutputs) -> bool {
        let origin = match incoming.head {
            Some(Head::CopyPart(_)) => Origin::Copy,
            _ => Origin::Link(incoming.link),
        };
        let admitted = self.links.get(incoming.link).is_some_and(|link| link.generation.is_some());
        let forced = self.inbox_bytes > MAX_LINK_QUEUE;
        if !admitted {
            return true;
        }
        let judged = matches!(incoming.head, Some(Head::Push(None)));
        loop {
            if *left == 0 && !forced {
                return false;
            }
            // A push reaches us over several links; all but the first are recognised without being read.
            let record = match incoming.next() {
                None => return true,
                Some(Next::Read(record)) if self.fresh.knows(record.hash()) => Err(record.hash()),
                Some(Next::Read(record)) => Ok(record.clone()),
                Some(Next::Bytes(bytes)) if self.fresh.knows(hash64(bytes)) => Err(hash64(bytes)),
                Some(Next::Bytes(bytes)) => match Record::read(bytes) {
                    Ok(record) => Ok(record),
                    Err(_) => {
                        self.unreadable += 1;
                        continue;
                    }
                },
            };
            match record {
                Ok(record) => {
                    *left = left.saturating_sub(1);
                    self.take(wall, record, origin, out);
                }
                Err(held) => {
                    out.cost += 1;
                    if judged {
                        self.came_again(incoming.link, held);
                    }
                }
            }
        }
    }

    /// What a frame means, after its records are merged.
    fn frame_end(&mut self, wall: Wall, link: LinkId, head: Head, out: &mut GossipOutputs) {
        let Some((peer, greeted)) = self.links.get(link).map(|link| (link.peer, link.generation.is_some())) else {
            return;
        };
        // Who has not greeted, or was not admitted when it did, gets no answer to anything else.
        if !greeted && !matches!(head, Head::Hello(_) | Head::LeftBehind(_) | Head::Goodbye) {
            return;
        }
        match head {
            Head::Hello(hello) => self.hello(wall, link, peer, hello, out),
            Head::LeftBehind(proof) => {
                if Record::read(&proof).is_ok_and(|proof| self.state.is_left_behind_by(&proof)) {
                    self.left_behind(out);
                }
            }
            Head::Push(want) => {
                if let Some(hlc) = want {
                    self.acknowledge(link, hlc, out);
                }
            }
            Head::Stored(hlc) => self.stored(peer, hlc, out),
            Head::Walk(messages) => self.walk_step(link, peer, messages, out),
            Head::WalkEnd => self.walk_ended(link, peer, out),
            Head::CopyRequest => {
                let records: Vec<Record> = self.state.snapshot().records().cloned().collect();
                self.links.start_copy(link, records);
            }
            Head::CopyPart(last) => self.copy_part(link, peer, last, out),
            Head::Members(lines) => {
                out.cost += lines.len() as u64;
                self.membership.learn(self.now, peer, &lines);
                self.member_events(out);
            }
            Head::Goodbye => self.membership.goodbye(self.now, peer),
            Head::Digest(hashes) => {
                out.cost += hashes.len() as u64 / 8;
                self.told(link, &hashes);
            }
            Head::Prune => self.pruned(link),
            Head::Graft(hashes) => self.grafted(link, &hashes),
            Head::Rehearsal(_) => self.rehearsed += 1,
        }
    }

    pub(super) fn link_up(&mut self, link: LinkId, peer: NodeId, inbound: bool, out: &mut GossipOutputs) {
        self.links.up(self.now, link, peer, inbound);
        self.tree.up(link, self.config.me > peer);
        if peer == self.config.me {
            self.links.hang_up(link, "a node has no link with itself", out);
            return;
        }
        if self.roster.is_removed(peer) {
            self.links.hang_up(link, REMOVED, out);
            return;
        }
        let known = self.state.generation_of(peer).max(self.membership.generation_of(peer));
        let admission = self.state.value(&RecordId::roster(self.config.me)).map(|record| record.bytes().clone());
        let hello = Hello {
            generation: self.generation,
            known,
            root: self.state.sync_root(),
            synced: self.catching == Catching::Done,
            empty: matches!(self.catching, Catching::Copy { .. }),
            members: u32::try_from(self.membership.alive()).unwrap_or(u32::MAX),
            admission,
        };
        self.say(link, FrameClass::Control, frame(&Head::Hello(hello)));
    }

    pub(super) fn link_down(&mut self, link: Option<LinkId>, peer: NodeId) {
        if self.walk.is_some_and(|walk| Some(walk.link) == link) {
            self.walk = None;
        }
        if let Catching::Copy { from: Some((from, _)) } = self.catching
            && Some(from) == link
        {
            self.catching = Catching::Copy { from: None };
        }
        if self.links.down(self.now, link, peer) && self.membership.is_member(peer) {
            // If its agent is gone, its host says so now rather than at the next probe.
            self.membership.announce(peer);
        }
        self.trim_tree();
        self.ring_changed = true;
        self.upkeep_at = self.now;
    }

    pub(super) fn say(&mut self, link: LinkId, class: FrameClass, frame: Frame) {
        self.links.queue(link, class, frame);
    }

    fn hello(&mut self, wall: Wall, link: LinkId, peer: NodeId, hello: Hello, out: &mut GossipOutputs) {
        if !self.roster.admits(peer) && !self.introduced(wall, link, peer, &hello, out) {
            return;
        }
        if let Some(newest) = hello.known.filter(|newest| *newest > self.generation && !planted(Bug::OldDiskUnnoticed))
        {
            self.disk_is_old(newest, out);
            return;
        }
        let stays = self.links.greet(self.now, link, hello.generation, out);
        self.trim_tree();
        if !stays {
            return;
        }
        if let Some(link) = self.links.get_mut(link) {
            link.synced = hello.synced;
            link.empty = hello.empty;
        }
        self.upkeep_at = self.now;
        self.tell_overtaken(out);
        if usize::try_from(hello.members).is_ok_and(|known| known < self.membership.alive()) {
            self.say(link, FrameClass::Control, frame(&Head::Members(self.membership.lines())));
        }
        let batches: Vec<(Hlc, Vec<Record>)> =
            self.recent.iter().map(|(_, hlc, records)| (*hlc, records.clone())).collect();
        for (hlc, records) in batches {
            self.push_to(&[link], &records, Some(hlc));
        }
        self.catch_up(link, peer, &hello, out);
    }

    /// The first thing to do with a new link: copy, walk, or find that there is nothing to do.
    fn catch_up(&mut self, link: LinkId, peer: NodeId, hello: &Hello, out: &mut GossipOutputs) {
        match self.catching {
            Catching::Copy { from: None } if !hello.empty => return self.request_copy(link),
            Catching::Copy { .. } => return,
            Catching::Sync if hello.synced && hello.root == self.state.sync_root() => {
                self.caught_up(Some(peer), out);
                return;
            }
            Catching::Sync | Catching::Done => {}
        }
        let mine_to_start = self.config.me < peer;
        if !hello.empty && mine_to_start && hello.root != self.state.sync_root() {
            self.start_walk(link);
        }
    }

    pub(super) fn request_copy(&mut self, link: LinkId) {
        self.catching = Catching::Copy { from: Some((link, self.now)) };
        self.say(link, FrameClass::Control, frame(&Head::CopyRequest));
    }

    pub(super) fn start_walk(&mut self, link: LinkId) {
        self.walk = Some(ActiveWalk { link, since: self.now });
        self.last_sync = Some(self.now);
        self.syncs += 1;
        let first = Head::Walk(Vec::from([walk::start(&self.state)]));
        self.say(link, FrameClass::Sync, frame(&first));
    }

    fn walk_step(&mut self, link: LinkId, peer: NodeId, messages: Vec<Walk>, out: &mut GossipOutputs) {
        let Some(up) = self.links.get(link).map(|link| link.up) else { return };
        let since = up.max(self.now - self.config.timing.settle);
        let mut answer = Vec::new();
        let mut push = Vec::new();
        let mut budget = WALK_BUDGET;
        for message in messages {
            out.cost += 20;
            let fresh = |record: &Record| self.fresh.arrived_since(record, since);
            let reply = walk::step(&self.state, message, budget, &fresh);
            budget = budget.saturating_sub(reply.push.iter().map(|record| record.bytes().len()).sum());
            answer.extend(reply.messages);
            push.extend(reply.push);
        }
        let room = MAX_FRAME - 1_024;
        for run in chunks(&push, room) {
            self.say(link, FrameClass::Sync, with_records(&Head::Push(None), run));
        }
        out.cost += push.len() as u64;
        let mut size = 0;
        answer.retain(|message| {
            size += walk_size(message);
            size <= WALK_MESSAGES
        });
        if answer.is_empty() {
            self.say(link, FrameClass::Sync, frame(&Head::WalkEnd));
            self.walk_ended(link, peer, out);
        } else {
            self.say(link, FrameClass::Sync, frame(&Head::Walk(answer)));
        }
    }

    fn walk_ended(&mut self, link: LinkId, peer: NodeId, out: &mut GossipOutputs) {
        if self.walk.is_some_and(|walk| walk.link == link) {
            self.walk = None;
        }
        let was_up_before = self.links.get(link).is_some_and(|link| link.synced);
        if self.catching == Catching::Sync && was_up_before {
            self.caught_up(Some(peer), out);
        }
    }

    fn copy_part(&mut self, link: LinkId, peer: NodeId, last: bool, out: &mut GossipOutputs) {
        let Catching::Copy { from: Some((from, _)) } = self.catching else { return };
        if from != link {
            return;
        }
        if last {
            self.caught_up(Some(peer), out);
        } else {
            self.catching = Catching::Copy { from: Some((link, self.now)) };
        }
    }

    /// Queues more parts of full copies where links have room.
    pub(super) fn feed_copies(&mut self) {
        if !self.links.any_copy() {
            return;
        }
        for id in self.links.ids() {
            while let Some(link) = self.links.get_mut(id).filter(|link| link.wants_copy()) {
                let Some(copy) = link.copy.as_mut() else { break };
                let mut size = 0;
                let mut part = Vec::new();
                while size < COPY_PART {
                    let Some(record) = copy.next() else { break };
                    size += record.bytes().len() + 4;
                    part.push(record);
                }
                let last = copy.len() == 0;
                if last {
                    link.copy = None;
                }
                self.say(id, FrameClass::Sync, with_records(&Head::CopyPart(last), &part));
            }
        }
    }

    fn stored(&mut self, by: NodeId, hlc: Hlc, out: &mut GossipOutputs) {
        if let Some(pushed) = self.pushed.remove(&hlc) {
            // One eighth of the newest, as TCP smooths its round trips; a stalled disk shall not count for minutes.
            let took = self.now.since(pushed).min(Duration::from_secs(1));
            self.hop = (self.hop * 7 + took) / 8;
        }
        out.event(GossipEvent::Stored { hlc, by });
    }

    /// A peer knows a newer boot of us: what this disk holds was overtaken. (A clone of this node that is alive elsewhere
    /// looks the same from here; whoever can dial its address must ask that first.)
    fn disk_is_old(&mut self, newest: Generation, out: &mut GossipOutputs) {
        if self.dropped || self.failed {
            return;
        }
        let text = alloc::format!("this node's disk is of boot {}, but it has booted as {newest}", self.generation);
        Self::notice(NoticeLevel::Warn, text, out);
        self.start_anew(newest, out);
    }

    /// Drops what was replicated and has the shell begin anew above a boot.
    pub(super) fn start_anew(&mut self, newest: Generation, out: &mut GossipOutputs) {
        self.flush_persist(out);
        let all = self.state.snapshot();
        let mine = |record: &Record| {
            let author = record.author();
            author.is_some_and(|author| author.node == self.config.me && author.generation == self.generation)
        };
        // Who belongs never changes back, and without it nobody could be asked for the rest.
        let dropped = all.records().filter(|record| !mine(record) && !record.is_of_roster());
        let ops = dropped.map(|record| PersistOp::Delete { slot: record.slot() }).collect();
        let seq = self.persist(ops, out);
        self.waiting.push_back((seq, Waiting::Dropped(newest)));
        self.dropped = true;
        self.inbox.clear();
    }
}

/// True if the records that a frame's sender shares with us are those of its bytes.
fn says_what_it_holds(frame: &Frame, at: usize) -> bool {
    let Some(records) = frame.records() else { return true };
    let mut at = at;
    let read = core::iter::from_fn(|| {
        let (bytes, next) = record_at(frame.bytes(), at)?;
        at = next;
        Some(Record::read(bytes))
    });
    read.eq(records.iter().map(|record| Ok(record.clone())))
}

fn walk_size(message: &Walk) -> usize {
    crate::wire::codec::encode(message).len()
}
