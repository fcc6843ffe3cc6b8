//! The simulated shell around a core: every output is done here, every answer comes back as an event.

use dunlin_core::face::{Event as CoreEvent, EventKind, Input, Output};
use dunlin_gossip::face::{Frame, GossipEvent, GossipInput, GossipOutput, LinkId, MemberState};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::limits::SEAL_OVERHEAD;
use dunlin_gossip::model::ServiceKey;
use dunlin_names::NameChange;

use crate::event::Event;
use crate::inside;
use crate::invariant::p8_honest_names;
use crate::net::{CREDIT_PORTION, HostNo, IDLE_TIMEOUT};
use crate::queue::MS;
use crate::world::World;

/// IP and UDP headers.
const DATAGRAM_HEADERS: u64 = 28;
/// QUIC's short header and tag, IP and UDP headers, and the acknowledgement that half a frame draws.
const FRAME_OVERHEAD: u64 = 80;

impl World {
    /// Does one thing that a core wants.
    pub(crate) fn perform(&mut self, no: HostNo, output: Output) {
        match output {
            Output::Gossip(output) => self.perform_gossip(no, output),
            Output::Reply(id, reply) => self.replied(no, id, reply),
            Output::Driver(command) => {
                let host = &mut self.hosts[no as usize];
                let effects = host.processes.command(command, self.now, &mut host.rng);
                self.effects(no, effects);
            }
            Output::Names(change) => self.names(no, change),
            Output::Event(event) => self.core_event(no, &event),
        }
    }

    fn perform_gossip(&mut self, no: HostNo, output: GossipOutput) {
        match output {
            GossipOutput::Packet { to, bytes } => self.send_packet(no, to, bytes),
            GossipOutput::Frame { link, frame, class: _ } => self.send_frame(no, link.0, frame),
            GossipOutput::Dial { peer } => self.dial(no, peer),
            GossipOutput::Hangup { link, reason } => self.hang_up(no, link.0, reason),
            GossipOutput::Persist { seq, ops } => {
                let host = &mut self.hosts[no as usize];
                if host.disk.full {
                    let text = "no space left on device".to_owned();
                    self.faults.full += 1;
                    let event = GossipInput::PersistFailed(text);
                    self.feed_later(no, Input::Gossip(event));
                } else if host.disk.take(seq, ops) {
                    let (sync, after) = host.disk.start(&mut host.rng);
                    self.queue.push(self.now + after, Event::Synced { host: no, sync });
                }
            }
            GossipOutput::Event(GossipEvent::DiskIsOld { newest }) => {
                self.faults.old_disks_noticed += 1;
                self.hosts[no as usize].disk.settle();
                self.hosts[no as usize].disk.image.raise_generation(newest);
                self.agent_ends(no);
                let power = self.hosts[no as usize].power;
                self.queue.push(self.now + 50 * MS, Event::AgentStarts { host: no, power });
            }
            GossipOutput::Event(GossipEvent::Fatal(text)) => {
                if !self.hosts[no as usize].disk.full {
                    self.violation("fatal", format!("host {no} stops itself: {text}"));
                }
                self.agent_ends(no);
            }
            GossipOutput::Event(
                GossipEvent::Changed(_)
                | GossipEvent::Member { .. }
                | GossipEvent::Durable { .. }
                | GossipEvent::Stored { .. }
                | GossipEvent::Synced { .. }
                | GossipEvent::Peer(_)
                | GossipEvent::Notice(_),
            ) => {}
        }
    }

    /// Inputs must not be fed while outputs are drained: they come with the next event.
    fn feed_later(&mut self, no: HostNo, input: Input) {
        self.faults.inbox.push_back((no, self.hosts[no as usize].boot, input));
        self.queue.push(self.now + 1_000, Event::Inbox);
    }

    /// The oldest input that was put off.
    pub(crate) fn open_inbox(&mut self) {
        if let Some((no, boot, input)) = self.faults.inbox.pop_front()
            && self.hosts[no as usize].boot == boot
        {
            self.feed(no, input);
        }
    }

    fn sent(&mut self, no: HostNo, bytes: u64) {
        let host = &mut self.hosts[no as usize];
        host.bytes_sent += bytes;
        host.messages_sent += 1;
    }

    fn send_packet(&mut self, from: HostNo, to: NodeId, bytes: Vec<u8>) {
        let Some(to) = self.by_id.get(&to).copied() else { return };
        self.sent(from, (bytes.len() + SEAL_OVERHEAD) as u64 + DATAGRAM_HEADERS);
        let [first, second] = self.net.packet(from, to);
        if let Some(after) = second {
            self.queue.push(self.now + after, Event::Packet { from, to, bytes: bytes.clone() });
        }
        if let Some(after) = first {
            self.queue.push(self.now + after, Event::Packet { from, to, bytes });
        }
    }

    pub(crate) fn packet_arrives(&mut self, from: HostNo, to: HostNo, bytes: Vec<u8>) {
        let host = &self.hosts[to as usize];
        if !host.is_on {
            self.net.counters.black_holed += 1;
        } else if host.is_up() {
            let from = self.hosts[from as usize].id;
            self.feed(to, Input::Gossip(GossipInput::Packet { from, bytes }));
        } else if !self.net.is_cut(to, from) {
            self.net.counters.refused += 1;
            let after = self.net.latency();
            self.queue.push(self.now + after, Event::Refused { to: from, about: to });
        }
    }

    fn dial(&mut self, from: HostNo, peer: NodeId) {
        let boot = self.hosts[from as usize].boot;
        let Some(to) = self.by_id.get(&peer).copied() else {
            let reason = "no address is known".to_owned();
            self.feed_later(from, Input::Gossip(GossipInput::LinkDown { link: None, peer, reason }));
            return;
        };
        let time = self.net.handshake();
        let after = time.unwrap_or(IDLE_TIMEOUT);
        let reachable = !self.net.is_parted(from, to) && self.hosts[to as usize].is_on;
        let (after, in_time) = if reachable { (after, time.is_some()) } else { (IDLE_TIMEOUT, false) };
        self.queue.push(self.now + after, Event::DialEnds { from, boot, to, in_time });
    }

    pub(crate) fn dial_ends(&mut self, from: HostNo, boot: u32, to: HostNo, in_time: bool) {
        if self.hosts[from as usize].boot != boot || !self.hosts[from as usize].is_up() {
            return;
        }
        let awake = self.hosts[to as usize].paused_until;
        if awake > self.now {
            self.queue.push(awake, Event::DialEnds { from, boot, to, in_time });
            return;
        }
        let (dialler, dialled) = (self.hosts[from as usize].id, self.hosts[to as usize].id);
        let stands = in_time && self.hosts[to as usize].is_up() && !self.net.is_parted(from, to);
        if !stands {
            let reason = if in_time { "refused" } else { "timed out" }.to_owned();
            self.feed(from, Input::Gossip(GossipInput::LinkDown { link: None, peer: dialled, reason }));
            return;
        }
        let number = self.net.join([from, to], self.now);
        self.hosts[from as usize].links.insert(number);
        self.hosts[to as usize].links.insert(number);
        let link = LinkId(number);
        self.feed(to, Input::Gossip(GossipInput::LinkUp { link, peer: dialler, inbound: true }));
        self.feed(from, Input::Gossip(GossipInput::LinkUp { link, peer: dialled, inbound: false }));
    }

    fn send_frame(&mut self, from: HostNo, number: u64, frame: Frame) {
        self.sent(from, frame.bytes().len() as u64 + FRAME_OVERHEAD);
        let delay = self.net.frame();
        let Some(link) = self.net.links.get_mut(&number) else { return };
        let end = 1 - link.end_of(from);
        let to = link.ends[end];
        let at = (self.now + delay).max(link.last[end]);
        link.last[end] = at;
        self.queue.push(at, Event::Frame { link: number, to, frame });
    }

    pub(crate) fn frame_arrives(&mut self, number: u64, to: HostNo, frame: Frame) {
        let Some(link) = self.net.links.get(&number) else { return };
        let end = link.end_of(to);
        let (from, open) = (link.ends[1 - end], link.open[end]);
        let cut = self.net.is_parted(from, to);
        if !open || !self.hosts[to as usize].is_on {
            return;
        }
        if cut || !link.held[end].is_empty() {
            if let Some(link) = self.net.links.get_mut(&number) {
                link.held[end].push_back(frame);
            }
            return;
        }
        self.take_off(number, end, frame.bytes().len() as u64);
        self.feed(to, Input::Gossip(GossipInput::Frame { link: LinkId(number), frame }));
    }

    /// An end has taken bytes off a link; once they are a portion, the other end may send as many in addition.
    fn take_off(&mut self, number: u64, end: usize, bytes: u64) {
        let Some(link) = self.net.links.get_mut(&number) else { return };
        link.taken[end] += bytes;
        if link.taken[end] < CREDIT_PORTION {
            return;
        }
        let (to, bytes) = (link.ends[1 - end], std::mem::take(&mut link.taken[end]));
        let after = self.net.latency();
        self.queue.push(self.now + after, Event::Credit { link: number, to, bytes });
    }

    pub(crate) fn credit_arrives(&mut self, number: u64, to: HostNo, bytes: u64) {
        let open = self.net.links.get(&number).is_some_and(|link| link.open[link.end_of(to)]);
        if open {
            self.feed(to, Input::Gossip(GossipInput::Credit { link: LinkId(number), bytes }));
        }
    }

    fn hang_up(&mut self, no: HostNo, number: u64, reason: &'static str) {
        let after = self.net.latency();
        let Some(link) = self.net.links.get_mut(&number) else { return };
        let end = link.end_of(no);
        link.open[end] = false;
        let (peer, at) = (link.ends[1 - end], (self.now + after).max(link.last[1 - end]));
        self.hosts[no as usize].links.remove(&number);
        self.queue.push(at, Event::LinkLost { link: number, to: peer, reason });
    }

    /// An agent is gone: its peers learn at once if its host can tell them, else after the idle time-out.
    pub(crate) fn drop_links(&mut self, no: HostNo) {
        for number in std::mem::take(&mut self.hosts[no as usize].links) {
            let after = if self.hosts[no as usize].is_on { self.net.latency() } else { IDLE_TIMEOUT };
            let Some(link) = self.net.links.get_mut(&number) else { continue };
            let end = link.end_of(no);
            link.open[end] = false;
            let peer = link.ends[1 - end];
            let parted = self.net.is_parted(no, peer);
            let after = if parted { IDLE_TIMEOUT } else { after };
            self.queue.push(self.now + after, Event::LinkLost { link: number, to: peer, reason: "lost" });
        }
    }

    pub(crate) fn link_lost(&mut self, number: u64, to: HostNo, reason: &'static str) {
        let Some(link) = self.net.links.get_mut(&number) else { return };
        let end = link.end_of(to);
        let was_open = std::mem::replace(&mut link.open[end], false);
        let other = link.ends[1 - end];
        if link.open == [false, false] {
            self.net.links.remove(&number);
        }
        if was_open && self.hosts[to as usize].links.remove(&number) {
            let peer = self.hosts[other as usize].id;
            let reason = reason.to_owned();
            self.feed(to, Input::Gossip(GossipInput::LinkDown { link: Some(LinkId(number)), peer, reason }));
        }
    }

    pub(crate) fn link_idle(&mut self, number: u64, cut: u32) {
        let Some(link) = self.net.links.get(&number).filter(|link| link.cut == cut) else { return };
        let ends = link.ends;
        for to in ends {
            self.link_lost(number, to, "timed out");
        }
    }

    pub(crate) fn synced(&mut self, no: HostNo, sync: u64) {
        let host = &mut self.hosts[no as usize];
        if host.disk.sync != sync || !host.is_up() {
            return;
        }
        let (last, more) = host.disk.finish();
        if more {
            let (sync, after) = host.disk.start(&mut host.rng);
            self.queue.push(self.now + after, Event::Synced { host: no, sync });
        }
        if let Some(seq) = last {
            self.feed(no, Input::Gossip(GossipInput::Persisted(seq)));
        }
    }

    fn names(&mut self, no: HostNo, change: NameChange) {
        match change {
            NameChange::Service { service, instances } => {
                let now = instances.iter().map(|i| (i.slot, i.node)).collect();
                self.hosts[no as usize].names.set(&service, now);
                self.answers_changed(no, &service);
                p8_honest_names::check(self, no, &service);
            }
            NameChange::Places { service, places, instances } => {
                let present = instances.iter().map(|i| (i.slot, i.node));
                if !self.hosts[no as usize].names.change(&service, &places, present) {
                    let detail = format!("host {no} tells of places of {service}, unknown to names");
                    return self.violation("p8-honest-names", detail);
                }
                self.answers_changed(no, &service);
                p8_honest_names::check_places(self, no, &service, &places);
            }
            NameChange::ServiceGone(service) => {
                self.hosts[no as usize].names.remove(&service);
                self.answers_changed(no, &service);
            }
            NameChange::Node { .. } | NameChange::NodeGone(_) => {}
        }
    }

    fn answers_changed(&mut self, no: HostNo, service: &ServiceKey) {
        let Self { truth, hosts, now, .. } = self;
        let answers = hosts[no as usize].names.of(service);
        let ids = |host: HostNo| hosts[host as usize].id;
        truth
            .names_changed(*now, no, service, |slot, host| answers.is_some_and(|set| set.contains(&(slot, ids(host)))));
    }

    /// A core says that it has changed its mind about a member: right, or wrong?
    fn core_event(&mut self, no: HostNo, event: &CoreEvent) {
        let (EventKind::Member, Some(about)) = (event.kind, event.node) else { return };
        let Some(about) = self.by_id.get(&about).copied() else { return };
        let host = &self.hosts[no as usize];
        let Some(node) = host.node.as_ref() else { return };
        if inside::member(node, self.hosts[about as usize].id) != Some(MemberState::Down) {
            return;
        }
        let victim = &self.hosts[about as usize];
        let blameless = victim.is_up() && victim.paused_until <= self.now && !self.net.is_parted(no, about);
        if blameless && self.checks.is_calm(self.now) {
            self.truth.figures.false_positives += 1;
        }
        if let Some(after) = self.faults.detected(no, about, self.now) {
            self.truth.figures.detect.add(after);
        }
    }
}
