//! The gossip engine: membership, replicated state and their spreading, composed behind one `handle`.
//!
//! Inputs come in and are dispatched here; `packet` puts trailers around membership's packets, `frames` speaks over links,
//! `writes` makes records durable before anybody sees them, `belonging` follows the roster, `upkeep` dials, syncs and collects. Each call does a bounded
//! slice: received records wait in an inbox, and an immediate deadline asks for the next slice.
//!
//! **Order within a call**: first what the input means, then the inbox, then membership's packets and events, then one
//! persist request for all that was merged, then frames as credit allows.
//!
//! Never: a clock, a socket; a claim that something is durable before the disk said so; a decision about workloads.

mod begin;
mod behind;
mod belonging;
mod config;
mod frames;
mod packet;
mod sight;
mod spread;
#[cfg(test)]
mod tests;
mod upkeep;
mod versions;
mod view;
mod writes;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use behind::Missing;
pub use config::{GossipConfig, Timing};
use frames::Incoming;
pub use sight::Depths;
use writes::Waiting;
pub use writes::WriteError;

pub use crate::spread::pace::TooFast;

use crate::face::{
    Boot, GossipEvent, GossipInput, GossipOutput, GossipOutputs, LinkId, MemberState, Notice, NoticeLevel, PersistOp,
    PersistSeq,
};
use crate::id::{Generation, NodeId};
use crate::member::Membership;
use crate::rng::{Rng, Seed};
use crate::spread::fresh::Fresh;
use crate::spread::links::Links;
use crate::spread::pace::Paces;
use crate::spread::riders::Riders;
use crate::spread::tree::Tree;
use crate::state::{Merge, State};
use crate::time::{Duration, Instant, Wall};
use crate::trust::Roster;
use crate::wire::{Class, Record};

/// Members up to which every node links to every other.
const FULL_MESH: usize = 8;

/// What others say of themselves is put on disk after at most so long, together: one commit instead of one a record.
const CACHE_PAUSE: Duration = Duration::from_millis(500);
/// Where a record came from, hence where it need not go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Origin {
    /// Our own, durable by now; with the stamp of its batch if peers shall acknowledge it.
    Own(Option<crate::hlc::Hlc>),
    /// Over a link.
    Link(LinkId),
    /// On a packet.
    Rider,
    /// A full copy: everybody else has it.
    Copy,
}

/// How far we are with the full copy or first sync of this boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Catching {
    /// We hold nothing and want everything.
    Copy {
        /// From which link it is coming, and since when nothing came.
        from: Option<(LinkId, Instant)>,
    },
    /// We hold what the disk held, and want one sync with a peer that was up before.
    Sync,
    /// Done.
    Done,
}

/// A walk that is under way.
#[derive(Clone, Copy, Debug)]
struct ActiveWalk {
    link: LinkId,
    since: Instant,
}

/// The engine.
#[derive(Debug)]
pub struct Gossip {
    config: GossipConfig,
    generation: Generation,
    now: Instant,
    booted: Instant,
    /// The last authentic word of anybody.
    heard: Instant,
    state: State,
    roster: Roster,
    membership: Membership,
    links: Links,
    riders: Riders,
    fresh: Fresh,
    paces: Paces,
    tree: Tree,
    rng: Rng,
    inbox: VecDeque<Incoming>,
    inbox_bytes: usize,
    /// Merged and not yet pushed on.
    spread: Vec<(Record, Origin)>,
    /// When that is to be pushed; set exactly while there is something.
    spread_due: Option<Instant>,
    /// The last push.
    spread_last: Instant,
    /// What merges left to be put on disk.
    ops: Vec<PersistOp>,
    /// When that must be handed over; set exactly while there is something.
    ops_due: Option<Instant>,
    persist_seq: PersistSeq,
    confirmed: PersistSeq,
    waiting: VecDeque<(PersistSeq, Waiting)>,
    /// Own batches of late, for links that come up after the push.
    recent: VecDeque<(Instant, crate::hlc::Hlc, Vec<Record>)>,
    catching: Catching,
    walk: Option<ActiveWalk>,
    last_sync: Option<Instant>,
    /// Syncs begun in this boot.
    syncs: u64,
    /// Since when packets have shown other roots than ours, without one that showed the same.
    differs: Option<Instant>,
    /// When the last packet showed another root than ours.
    differed_at: Instant,
    changed_at: Instant,
    upkeep_at: Instant,
    hours_at: Instant,
    /// Our successor on the ring may be another one, or its link may be gone.
    ring_changed: bool,
    /// Links that writers wait for: peers acknowledge over links alone.
    sought: usize,
    /// The oldest own batch that they wait for.
    awaited: Option<crate::hlc::Hlc>,
    /// When a member that never spoke to this boot may be dialled.
    unheard_at: Instant,
    /// The last one that was.
    unheard: NodeId,
    unheard_round: u32,
    /// A moving average of the time from a push to its acknowledgement.
    hop: Duration,
    pushed: BTreeMap<crate::hlc::Hlc, Instant>,
    /// For how long others have been down while we ran.
    missing: Missing,
    /// Nodes with old disks that are still to be told so, and by which record they know it.
    proofs: BTreeMap<NodeId, Record>,
    /// Hashes of the facts about who belongs that the full copy under way has brought.
    copied: BTreeSet<u64>,
    failed: bool,
    leaving: bool,
    /// The disk turned out to be old and was emptied: nothing may come in before the next boot.
    dropped: bool,
    unreadable: u64,
    /// Frames among them.
    foreign_frames: u64,
    /// Frames of the kind that the next version brings.
    rehearsed: u64,
}

impl Gossip {
    /// Starts from what the disk holds. The outputs tell the shell whom it may talk to, and introduce us to them.
    pub fn new(
        config: GossipConfig,
        mut boot: Boot,
        seed: Seed,
        now: Instant,
        wall: Wall,
        out: &mut GossipOutputs,
    ) -> Self {
        let me = config.me;
        let seed = seed.split("gossip");
        let (state, roster) = Self::restore(me, &mut boot, out);
        let mut membership = Membership::new(me, boot.generation, config.timing, seed, now);
        membership.begin(now, roster.nodes(), &boot.alive);
        let mut rng = seed.split("links").rng();
        let timing = config.timing;
        let hours_at =
            now + timing.first_contact + Duration::from_secs(rng.below(timing.hours_period.as_secs().max(1)));
        let mut engine = Self {
            generation: boot.generation,
            now,
            booted: now,
            heard: now,
            links: Links::new(me, timing.dial_backoff, timing.dial_backoff_max),
            riders: Riders::new(timing.rider_rate, now),
            fresh: Fresh::new(timing.settle, now),
            paces: Paces::new(now),
            tree: Tree::default(),
            rng,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            spread: Vec::new(),
            spread_due: None,
            spread_last: Instant::ZERO,
            ops: Vec::new(),
            ops_due: None,
            persist_seq: PersistSeq::default(),
            confirmed: PersistSeq::default(),
            waiting: VecDeque::new(),
            recent: VecDeque::new(),
            catching: Catching::Sync,
            walk: None,
            last_sync: None,
            syncs: 0,
            differs: None,
            differed_at: Instant::ZERO,
            changed_at: now,
            upkeep_at: now,
            hours_at,
            ring_changed: true,
            sought: 0,
            awaited: None,
            unheard_at: now,
            unheard: NodeId([0; 16]),
            unheard_round: 0,
            hop: Duration::from_millis(50),
            pushed: BTreeMap::new(),
            missing: Missing::new(me, &state, now),
            proofs: BTreeMap::new(),
            copied: BTreeSet::new(),
            failed: false,
            leaving: roster.is_removed(me),
            dropped: false,
            unreadable: 0,
            foreign_frames: 0,
            rehearsed: 0,
            config,
            state,
            roster,
            membership,
        };
        if boot.first || engine.holds_nothing() {
            engine.catching = Catching::Copy { from: None };
            engine.state.begin_first_copy();
        }
        engine.begin(boot.alive.is_empty(), out);
        engine.finish(wall, out);
        engine
    }

    /// Takes one input; what is to be done about it is appended to `out`. Time never goes back.
    pub fn handle(&mut self, now: Instant, wall: Wall, input: GossipInput, out: &mut GossipOutputs) {
        self.now = now.max(self.now);
        out.cost += 2;
        if self.dropped && !matches!(input, GossipInput::Persisted(_) | GossipInput::PersistFailed(_)) {
            return;
        }
        match input {
            GossipInput::Packet { from, bytes } => self.packet_in(wall, from, &bytes, out),
            GossipInput::Refused { node } => self.membership.refused(self.now, node),
            GossipInput::Frame { link, frame } => self.frame_in(link, frame),
            GossipInput::Credit { link, bytes } => self.links.credit(link, bytes),
            GossipInput::LinkUp { link, peer, inbound } => self.link_up(link, peer, inbound, out),
            GossipInput::LinkDown { link, peer, reason: _ } => self.link_down(link, peer),
            GossipInput::Met { node } => self.met(node),
            GossipInput::Expelled { by } => self.expelled(wall, by, out),
            GossipInput::Facts(facts) => self.facts_in(wall, facts, out),
            GossipInput::Deadline => {}
            GossipInput::Persisted(seq) => self.persisted(wall, seq, out),
            GossipInput::PersistFailed(why) => self.persist_failed(&why, out),
        }
        self.finish(wall, out);
    }

    /// The end of every call: the inbox's slice, what is due, and everything that has to go out.
    fn finish(&mut self, wall: Wall, out: &mut GossipOutputs) {
        self.work_inbox(wall, out);
        if self.membership.next_deadline().is_some_and(|at| at <= self.now) {
            self.membership.tick(self.now);
        }
        self.member_events(out);
        if self.upkeep_at <= self.now {
            self.upkeep(wall, out);
            self.member_events(out);
        }
        if self.spread_due.is_some_and(|at| at <= self.now) {
            self.push_spread();
        }
        self.tend_tree();
        self.post(wall, out);
        if self.ops_due.is_some_and(|at| at <= self.now) {
            self.flush_persist(out);
        }
        self.feed_copies();
        self.links.pump(out);
    }

    fn member_events(&mut self, out: &mut GossipOutputs) {
        if self.membership.outbox.events.is_empty() {
            return;
        }
        let events = core::mem::take(&mut self.membership.outbox.events);
        self.ring_changed = true;
        for (node, state, reason) in events {
            if state == MemberState::Alive {
                self.worth_a_dial(node);
            }
            out.event(GossipEvent::Member { node, state, reason });
        }
    }

    /// A member was found again: it shall hear of us, and be linked if links are wanted.
    fn met(&mut self, node: NodeId) {
        if node != self.config.me && self.membership.is_member(node) {
            self.membership.announce(node);
            self.links.encourage(self.now, node);
            self.upkeep_at = self.now;
        }
    }

    /// A member is alive: dial it, if we want more links.
    fn worth_a_dial(&mut self, node: NodeId) {
        // In a full mesh the lower dials at once, the higher only if that leads to nothing.
        if self.membership.size() <= FULL_MESH {
            let patience = if self.config.me < node { Duration::ZERO } else { Duration::from_secs(1) };
            self.links.encourage(self.now + patience, node);
            self.upkeep_at = self.upkeep_at.min(self.now + patience);
        } else {
            self.links.reconsider(self.now, node);
            if self.links.outgoing(self.now) < upkeep::OUTGOING {
                self.upkeep_at = self.now;
            }
        }
    }

    /// When `handle` wants to be called with a deadline, if nothing else comes before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.dropped {
            return None;
        }
        if !self.inbox.is_empty() {
            return Some(self.now);
        }
        let others = [self.membership.next_deadline(), self.spread_due, self.ops_due, self.tree.next_deadline()];
        Some(others.into_iter().flatten().fold(self.upkeep_at, Instant::min))
    }

    /// Merges a record; tells, persists and spreads what came of it.
    fn take(&mut self, wall: Wall, record: Record, origin: Origin, out: &mut GossipOutputs) {
        // What comes after the drop, in the same frame as its reason too, would be the next boot's whole state.
        if self.dropped {
            return;
        }
        out.cost += 3;
        let over = if let Origin::Link(link) = origin { Some(link) } else { None };
        if self.state.is_left_behind_by(&record) {
            self.left_behind(out);
            return;
        }
        if origin == Origin::Copy && record.id().roster_node().is_some() {
            self.copied.insert(record.hash());
        }
        let Merge::Changed { ids, persist } = self.state.merge(record.clone(), wall) else {
            self.came_to_nothing(&record);
            return;
        };
        out.cost += 3;
        self.changed_at = self.now;
        self.fresh.note(self.now, &record, over);
        self.tree.first(record.hash(), over);
        match origin {
            // What was written under its slot before the merge need not be written again.
            Origin::Own(_) => {
                let slot = record.slot();
                let rest = persist.into_iter().filter(|op| !matches!(op, PersistOp::Put { slot: s, .. } if *s == slot));
                self.persist_soon(rest.collect(), self.now);
            }
            Origin::Link(_) | Origin::Rider | Origin::Copy => {
                // What others say of themselves is a cache: they say it again.
                let is_cache = record.id().class == Class::OneWriter;
                let mut persist = persist;
                if record.id().writer() == Some(self.config.me) {
                    // What peers tell of an earlier boot of ours must not lie over what this one is writing there.
                    persist.retain(|op| !self.is_on_its_way(op));
                }
                self.persist_soon(persist, if is_cache { self.now + CACHE_PAUSE } else { self.now });
            }
        }
        for id in ids {
            self.follow_roster(&id, out);
            out.event(GossipEvent::Changed(id));
        }
        if origin != Origin::Copy && self.passes_on(&record, origin, out) {
            let times = (self.membership.size() + 1).ilog2() + 1;
            if self.membership.size() > FULL_MESH || !self.has_all_links() {
                self.riders.add(self.now, &record, times * 6 / 5);
            }
            self.spread_soon(record, origin);
        }
    }

    /// False if the record's author writes so much that anti-entropy shall carry it: a record that is overwritten at once need
    /// not travel, and those of others must not wait behind it.
    fn passes_on(&mut self, record: &Record, origin: Origin, out: &mut GossipOutputs) -> bool {
        let author = record.author().map(|author| author.node).filter(|node| *node != self.config.me);
        let Some(author) = author.filter(|_| !matches!(origin, Origin::Own(_))) else { return true };
        let passed = self.paces.pass_on(self.now, author, record.bytes().len());
        if passed == Err(true) {
            let text = alloc::format!(
                "node {author} writes more than is passed on of one node; what it writes arrives later, by anti-entropy"
            );
            Self::notice(NoticeLevel::Warn, text, out);
        }
        passed.is_ok()
    }

    /// True if an own record is being put on disk in the place that this is about.
    fn is_on_its_way(&self, op: &PersistOp) -> bool {
        let (PersistOp::Put { slot, .. } | PersistOp::Delete { slot }) = op;
        let own = |waiting: &Waiting| matches!(waiting, Waiting::Own(records, _) if records.iter().any(|r| r.slot() == *slot));
        self.waiting.iter().any(|(_, waiting)| own(waiting))
    }

    fn has_all_links(&self) -> bool {
        self.links.greeted().count() + 1 >= self.membership.alive()
    }

    /// The full copy or first sync of this boot is done, or there was nobody.
    fn caught_up(&mut self, with: Option<NodeId>, out: &mut GossipOutputs) {
        if self.catching == Catching::Done {
            return;
        }
        let copied = core::mem::take(&mut self.copied);
        if with.is_some() && matches!(self.catching, Catching::Copy { .. }) {
            let stale = self.state.keep_confirmed(&copied);
            self.let_go(stale, out);
        }
        self.catching = Catching::Done;
        self.state.end_first_copy();
        out.event(GossipEvent::Synced { with });
    }

    fn notice(level: NoticeLevel, text: String, out: &mut GossipOutputs) {
        out.event(GossipEvent::Notice(Notice { level, text }));
    }

    fn persist_soon(&mut self, ops: Vec<PersistOp>, due: Instant) {
        if !ops.is_empty() && !self.failed {
            self.ops.extend(ops);
            self.ops_due = Some(self.ops_due.map_or(due, |at| at.min(due)));
        }
    }

    fn persist(&mut self, ops: Vec<PersistOp>, out: &mut GossipOutputs) -> PersistSeq {
        self.persist_seq.0 += 1;
        out.push(GossipOutput::Persist { seq: self.persist_seq, ops });
        self.persist_seq
    }
}
