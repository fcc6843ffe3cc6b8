//! Links: their credit, their queues by class, and when to dial again.
//!
//! Two nodes that dial each other at once get two links. Both ends keep the one to the newer boot, or else the one that the
//! lower node dialled, or else the younger.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec;
use alloc::vec::Vec;

use crate::face::{Frame, FrameClass, GossipOutput, GossipOutputs, INITIAL_CREDIT, LinkId};
use crate::id::{Generation, NodeId};
use crate::limits::MAX_LINK_QUEUE;
use crate::time::{Duration, Instant};
use crate::wire::Record;

const CLASSES: [FrameClass; 3] = [FrameClass::Control, FrameClass::Push, FrameClass::Sync];
/// Bytes of a full copy that may wait in a link's queue.
const COPY_AHEAD: usize = 256 * 1_024;

/// One link.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: NodeId,
    pub(crate) inbound: bool,
    pub(crate) up: Instant,
    /// The peer's boot, once it has greeted.
    pub(crate) generation: Option<Generation>,
    /// The peer said that it had synced.
    pub(crate) synced: bool,
    /// The peer said that it holds nothing.
    pub(crate) empty: bool,
    /// The greeting of the next version went out.
    pub(crate) rehearsed: bool,
    /// What remains of a full copy that the peer asked for.
    pub(crate) copy: Option<vec::IntoIter<Record>>,
    credit: u64,
    queued: usize,
    queues: [VecDeque<Frame>; 3],
}

impl Link {
    /// Queues a frame. When the queue is full, frames of the highest class go, the newest first, this one included: steps of a
    /// sync, then fresh records, and greetings and acknowledgements last. A later sync recovers them. What goes is counted.
    fn queue(&mut self, class: FrameClass, frame: Frame, dropped: &mut [u64; 3]) {
        self.queued += frame.bytes().len();
        self.queues[class as usize].push_back(frame);
        while self.queued > MAX_LINK_QUEUE {
            let full = CLASSES.into_iter().rev().find(|class| !self.queues[*class as usize].is_empty());
            let Some(class) = full else { break };
            let Some(frame) = self.queues[class as usize].pop_back() else { break };
            self.queued -= frame.bytes().len();
            dropped[class as usize] += 1;
            if class == FrameClass::Sync {
                // A full copy with a hole must not look complete: the peer gives it up, and asks for another.
                self.copy = None;
            }
        }
    }

    /// True if more of a full copy should be queued.
    pub(crate) fn wants_copy(&self) -> bool {
        let waiting: usize = self.queues[FrameClass::Sync as usize].iter().map(|frame| frame.bytes().len()).sum();
        self.copy.is_some() && waiting < COPY_AHEAD
    }

    fn pump(&mut self, link: LinkId, out: &mut GossipOutputs) {
        for class in CLASSES {
            let queue = &mut self.queues[class as usize];
            while let Some(frame) = queue.front() {
                let Some(credit) = self.credit.checked_sub(frame.bytes().len() as u64) else { return };
                let Some(frame) = queue.pop_front() else { return };
                self.credit = credit;
                self.queued -= frame.bytes().len();
                out.push(GossipOutput::Frame { link, frame, class });
            }
        }
    }
}

#[derive(Debug)]
struct Dial {
    next: Instant,
    pause: Duration,
    pending: Option<Instant>,
}

/// All links of a node.
#[derive(Debug)]
pub(crate) struct Links {
    me: NodeId,
    pause_min: Duration,
    pause_max: Duration,
    links: BTreeMap<LinkId, Link>,
    dials: BTreeMap<NodeId, Dial>,
    /// A frame was queued, or credit came, since everything was last handed out: most calls do neither.
    stirred: bool,
    /// A link went since the tree was told.
    shrunk: bool,
    /// A full copy may be under way.
    copying: bool,
    /// Frames that full queues have cost, by class.
    pub(crate) dropped: [u64; 3],
}

impl Links {
    pub(crate) fn new(me: NodeId, pause_min: Duration, pause_max: Duration) -> Self {
        Self {
            me,
            pause_min,
            pause_max,
            links: BTreeMap::new(),
            dials: BTreeMap::new(),
            stirred: false,
            shrunk: false,
            copying: false,
            dropped: [0; 3],
        }
    }

    pub(crate) fn up(&mut self, now: Instant, id: LinkId, peer: NodeId, inbound: bool) {
        if !inbound && let Some(dial) = self.dials.get_mut(&peer) {
            dial.pending = None;
        }
        let link = Link {
            peer,
            inbound,
            up: now,
            generation: None,
            synced: false,
            empty: false,
            rehearsed: false,
            copy: None,
            credit: INITIAL_CREDIT,
            queued: 0,
            queues: Default::default(),
        };
        self.links.insert(id, link);
    }

    /// A link is gone or a dial failed. Returns the peer if it has no link any more but had one.
    pub(crate) fn down(&mut self, now: Instant, id: Option<LinkId>, peer: NodeId) -> bool {
        let had = match id {
            Some(id) => self.take_out(id),
            None => false,
        };
        if had || id.is_none() {
            let pause_max = self.pause_max;
            let dial = self.dial(now, peer);
            if id.is_none() {
                dial.pending = None;
            }
            dial.next = now + dial.pause;
            dial.pause = (dial.pause * 2).min(pause_max);
        }
        had && !self.has(peer)
    }

    fn take_out(&mut self, id: LinkId) -> bool {
        let was_there = self.links.remove(&id).is_some();
        self.shrunk |= was_there;
        was_there
    }

    /// True if a link went since this was asked last.
    pub(crate) const fn has_shrunk(&mut self) -> bool {
        core::mem::replace(&mut self.shrunk, false)
    }

    fn dial(&mut self, now: Instant, peer: NodeId) -> &mut Dial {
        let pause = self.pause_min;
        self.dials.entry(peer).or_insert(Dial { next: now, pause, pending: None })
    }

    /// The peer is worth dialling again from `at` on.
    pub(crate) fn encourage(&mut self, at: Instant, peer: NodeId) {
        let pause = self.pause_min;
        let dial = self.dial(at, peer);
        dial.next = at;
        dial.pause = pause;
    }

    /// The peer may be dialled again at once, if it was not for a while.
    pub(crate) fn reconsider(&mut self, now: Instant, peer: NodeId) {
        if self.dials.contains_key(&peer) {
            self.encourage(now, peer);
        }
    }

    pub(crate) fn forget(&mut self, peer: NodeId) {
        self.dials.remove(&peer);
    }

    /// True if a link to the peer stands, is being dialled, or may not be dialled yet.
    pub(crate) fn is_settled(&self, now: Instant, peer: NodeId) -> bool {
        self.has(peer) || self.dials.get(&peer).is_some_and(|dial| dial.next > now || self.is_pending(now, dial))
    }

    fn is_pending(&self, now: Instant, dial: &Dial) -> bool {
        dial.pending.is_some_and(|since| since + self.pause_max > now)
    }

    pub(crate) fn start_dial(&mut self, now: Instant, peer: NodeId, out: &mut GossipOutputs) {
        let dial = self.dial(now, peer);
        dial.pending = Some(now);
        out.push(GossipOutput::Dial { peer });
    }

    /// When a peer of these may be dialled that may not be now.
    pub(crate) fn next_dial(&self, now: Instant, wanted: impl Fn(NodeId) -> bool) -> Option<Instant> {
        let open = self.dials.iter().filter(|(peer, dial)| dial.next > now && !self.has(**peer) && wanted(**peer));
        open.map(|(_, dial)| dial.next).min()
    }

    /// Links and dials that we started.
    pub(crate) fn outgoing(&self, now: Instant) -> usize {
        self.links.values().filter(|link| !link.inbound).count()
            + self.dials.values().filter(|dial| self.is_pending(now, dial)).count()
    }

    /// Links that stand or may come up at any moment.
    pub(crate) fn reaching(&self, now: Instant) -> usize {
        self.links.len() + self.dials.values().filter(|dial| self.is_pending(now, dial)).count()
    }

    /// Bytes that wait for credit, over all links.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.links.values().map(|link| link.queued).sum()
    }

    /// Queues a frame, if the link stands.
    pub(crate) fn queue(&mut self, id: LinkId, class: FrameClass, frame: Frame) {
        if let Some(link) = self.links.get_mut(&id) {
            link.queue(class, frame, &mut self.dropped);
            self.stirred = true;
        }
    }

    /// Begins a full copy to a peer.
    pub(crate) fn start_copy(&mut self, id: LinkId, records: Vec<Record>) {
        if let Some(link) = self.links.get_mut(&id) {
            link.copy = Some(records.into_iter());
            self.copying = true;
        }
    }

    pub(crate) fn any_copy(&mut self) -> bool {
        self.copying = self.copying && self.links.values().any(|link| link.copy.is_some());
        self.copying
    }

    /// Forgets dials that say nothing any more: that they rested long ago.
    pub(crate) fn expire(&mut self, now: Instant) {
        let pause = self.pause_max;
        self.dials.retain(|_, dial| {
            let tried = dial.pending.is_some_and(|since| since + pause > now);
            tried || dial.next + pause > now
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    pub(crate) fn has(&self, peer: NodeId) -> bool {
        self.links.values().any(|link| link.peer == peer)
    }

    pub(crate) fn get_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        self.links.get_mut(&id)
    }

    pub(crate) fn get(&self, id: LinkId) -> Option<&Link> {
        self.links.get(&id)
    }

    /// Links whose peer has greeted, in order.
    pub(crate) fn greeted(&self) -> impl Iterator<Item = (LinkId, &Link)> {
        self.links.iter().filter(|(_, link)| link.generation.is_some()).map(|(id, link)| (*id, link))
    }

    pub(crate) fn ids(&self) -> Vec<LinkId> {
        self.links.keys().copied().collect()
    }

    /// The peer greeted. Hangs up what is now one link too many; false if that is this one.
    pub(crate) fn greet(&mut self, now: Instant, id: LinkId, boot: Generation, out: &mut GossipOutputs) -> bool {
        let Some(link) = self.links.get_mut(&id) else { return false };
        link.generation = Some(boot);
        let peer = link.peer;
        self.encourage(now, peer);
        let me = self.me;
        let rank = |(id, link): (&LinkId, &Link)| (link.generation, link.inbound == (peer < me), *id);
        let same = self.links.iter().filter(|(_, link)| link.peer == peer && link.generation.is_some());
        let Some((_, _, best)) = same.map(rank).max() else { return false };
        let worse =
            |(other, link): &(&LinkId, &Link)| **other != best && link.peer == peer && link.generation.is_some();
        let extra: Vec<LinkId> = self.links.iter().filter(worse).map(|(id, _)| *id).collect();
        for other in extra {
            self.take_out(other);
            out.push(GossipOutput::Hangup { link: other, reason: "another link to this peer stands" });
        }
        best == id
    }

    /// Closes dialled links beyond the wanted number, the oldest first; neither the one to `keep` nor a busy one.
    pub(crate) fn trim(&mut self, keep: NodeId, wanted: usize, busy: Option<LinkId>, out: &mut GossipOutputs) {
        let dialled = self.links.iter().filter(|(_, link)| !link.inbound);
        let surplus = dialled.clone().count().saturating_sub(wanted);
        let idle = |(id, link): &(&LinkId, &Link)| link.peer != keep && link.copy.is_none() && busy != Some(**id);
        let mut idle: Vec<(Instant, LinkId)> = dialled.filter(idle).map(|(id, link)| (link.up, *id)).collect();
        idle.sort_unstable();
        for (_, id) in idle.into_iter().take(surplus) {
            self.hang_up(id, "more links than are wanted", out);
        }
    }

    /// Closes a link without an answer.
    pub(crate) fn hang_up(&mut self, id: LinkId, reason: &'static str, out: &mut GossipOutputs) {
        if self.take_out(id) {
            out.push(GossipOutput::Hangup { link: id, reason });
        }
    }

    /// Closes all links to a peer.
    pub(crate) fn drop_peer(&mut self, peer: NodeId, reason: &'static str, out: &mut GossipOutputs) {
        self.forget(peer);
        let ids: Vec<LinkId> = self.links.iter().filter(|(_, link)| link.peer == peer).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.hang_up(id, reason, out));
    }

    pub(crate) fn credit(&mut self, id: LinkId, bytes: u64) {
        if let Some(link) = self.links.get_mut(&id) {
            link.credit = link.credit.saturating_add(bytes);
            self.stirred = true;
        }
    }

    /// Hands the shell what credit allows.
    pub(crate) fn pump(&mut self, out: &mut GossipOutputs) {
        if !core::mem::take(&mut self.stirred) {
            return;
        }
        for (id, link) in &mut self.links {
            if link.queued > 0 {
                link.pump(*id, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(out: &GossipOutputs) -> Vec<FrameClass> {
        let class = |output: &GossipOutput| match output {
            GossipOutput::Frame { class, .. } => Some(*class),
            _ => None,
        };
        out.list.iter().filter_map(class).collect()
    }

    fn links(me: u8) -> Links {
        Links::new(NodeId([me; 16]), Duration::from_millis(200), Duration::from_secs(10))
    }

    #[test]
    fn credit_holds_back_and_control_goes_first() {
        let mut links = links(1);
        links.up(Instant::ZERO, LinkId(1), NodeId([2; 16]), true);
        for _ in 0..5 {
            links.queue(LinkId(1), FrameClass::Sync, vec![0; 250_000].into());
        }
        links.queue(LinkId(1), FrameClass::Control, vec![0; 10].into());
        let mut out = GossipOutputs::default();
        links.pump(&mut out);
        assert_eq!(
            frames(&out),
            [FrameClass::Control, FrameClass::Sync, FrameClass::Sync, FrameClass::Sync, FrameClass::Sync]
        );
        links.credit(LinkId(1), 250_000);
        links.pump(&mut out);
        assert_eq!(frames(&out).len(), 6);
    }

    #[test]
    fn a_full_queue_drops_the_highest_class() {
        let mut links = links(1);
        links.up(Instant::ZERO, LinkId(1), NodeId([2; 16]), true);
        for _ in 0..100 {
            links.queue(LinkId(1), FrameClass::Sync, vec![0; 100_000].into());
            links.queue(LinkId(1), FrameClass::Control, vec![0; 10].into());
        }
        let link = links.get(LinkId(1)).expect("it stands");
        assert!(link.queued <= MAX_LINK_QUEUE);
        assert_eq!(link.queues[FrameClass::Control as usize].len(), 100);
        let kept = link.queues[FrameClass::Sync as usize].len() as u64;
        assert_eq!(links.dropped, [0, 0, 100 - kept], "and says so");
    }

    #[test]
    fn a_copy_that_loses_a_part_is_given_up() {
        let mut links = links(1);
        links.up(Instant::ZERO, LinkId(1), NodeId([2; 16]), true);
        links.start_copy(LinkId(1), Vec::new());
        links.queue(LinkId(1), FrameClass::Sync, vec![0; 1_000].into());
        assert!(links.any_copy());
        links.queue(LinkId(1), FrameClass::Push, vec![0; MAX_LINK_QUEUE].into());
        assert!(!links.any_copy(), "the rest must not be sent as if it were whole");
    }

    #[test]
    fn both_ends_keep_the_same_of_two_links() {
        let (low, high) = (NodeId([1; 16]), NodeId([2; 16]));
        let mut out = GossipOutputs::default();
        let boot = Generation(5);
        let mut at_low = links(1);
        at_low.up(Instant::ZERO, LinkId(1), high, false);
        at_low.up(Instant::ZERO, LinkId(2), high, true);
        assert!(at_low.greet(Instant::ZERO, LinkId(1), boot, &mut out));
        assert!(!at_low.greet(Instant::ZERO, LinkId(2), boot, &mut out));
        let mut at_high = links(2);
        at_high.up(Instant::ZERO, LinkId(7), low, false);
        at_high.up(Instant::ZERO, LinkId(8), low, true);
        assert!(at_high.greet(Instant::ZERO, LinkId(7), boot, &mut out));
        assert!(at_high.greet(Instant::ZERO, LinkId(8), boot, &mut out));
        assert_eq!(at_low.ids(), [LinkId(1)]);
        assert_eq!(at_high.ids(), [LinkId(8)]);
    }

    #[test]
    fn a_link_to_a_newer_boot_replaces_a_dead_one() {
        let mut out = GossipOutputs::default();
        let mut links = links(1);
        let peer = NodeId([2; 16]);
        links.up(Instant::ZERO, LinkId(1), peer, false);
        assert!(links.greet(Instant::ZERO, LinkId(1), Generation(5), &mut out));
        links.up(Instant::ZERO, LinkId(2), peer, true);
        assert!(links.greet(Instant::ZERO, LinkId(2), Generation(6), &mut out));
        assert_eq!(links.ids(), [LinkId(2)]);
    }
}
