//! The simulated shell around a core: every output is done here, every answer comes back as an event.

use dunlin_core::face::{DriverCommand, Event as CoreEvent, EventKind, Input, Output};
use dunlin_gossip::face::{Frame, GossipEvent, GossipInput, GossipOutput, LinkId, MemberState};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::limits::SEAL_OVERHEAD;
use dunlin_gossip::model::{AllocId, ReplicaKey, ServiceKey};
use dunlin_names::NameChange;

use crate::answers::Place;
use crate::chronicle::{Kind, Message};
use crate::event::Event;
use crate::host::Host;
use crate::inside;
use crate::invariant::{p2_disk_first, p2_unknown_kinds, p8_honest_names};
use crate::net::{CREDIT_PORTION, HostNo, IDLE_TIMEOUT};
use crate::queue::{MS, Nanos, SECOND};
use crate::world::{SUPERVISED, World};

/// IP and UDP headers.
const DATAGRAM_HEADERS: u64 = 28;
/// QUIC's short header and tag, IP and UDP headers, and the acknowledgement that half a frame draws.
const FRAME_OVERHEAD: u64 = 80;
/// What each end of a link sends until it stands, headers included. Measured on two agents, one of which was killed and came
/// back: 3.3 and 3.6 kB, greetings and a few keep-alives among them.
const HANDSHAKE: u64 = 3_300;
/// A first datagram that nobody answers is padded to 1,200 bytes; within the patience of a dial it is sent four times.
const KNOCK: u64 = 1_200 + DATAGRAM_HEADERS;
const KNOCKS: u64 = 4;
/// What others concluded while a host stood still reaches the last of them within this time of its waking.
const RECOVERY: Nanos = 5 * SECOND;

impl World {
    /// Does one thing that a core wants.
    pub(crate) fn perform(&mut self, no: HostNo, output: Output) {
        match output {
            Output::Gossip(output) => self.perform_gossip(no, output),
            Output::Reply(id, reply) => self.replied(no, id, reply),
            Output::Driver(command) => {
                if let DriverCommand::Start(spec) = &command {
                    p2_disk_first::check_start(self, no, spec.alloc);
                }
                self.drive(no, command);
            }
            Output::Names(change) => self.names(no, change),
            Output::Event(event) => self.core_event(no, &event),
        }
    }

    fn perform_gossip(&mut self, no: HostNo, output: GossipOutput) {
        match output {
            GossipOutput::Packet { to, bytes } => self.send_packet(no, to, bytes),
            GossipOutput::Frame { link, frame, class } => self.send_frame(no, link.0, frame, Kind::of(class)),
            GossipOutput::Dial { peer } => self.dial(no, peer),
            GossipOutput::Hangup { link, reason } => self.hang_up(no, link.0, reason),
            GossipOutput::Persist { seq, ops } => {
                p2_disk_first::check_persist(self, no, &ops);
                let host = &mut self.hosts[no as usize];
                // What comes after a commit that failed must not be believed.
                if host.disk.full || host.disk.failed {
                    host.disk.failed = true;
                    self.faults.bite("fill-disks");
                    let event = GossipInput::PersistFailed("no space left on device".to_owned());
                    self.feed_later(no, Input::Gossip(event));
                } else if host.disk.take(seq, ops) {
                    if host.disk.slower > 0 {
                        self.faults.bite("slow-disks");
                    }
                    let (sync, after) = host.disk.start(&mut host.rng);
                    self.queue.push(self.now + self.lag + after, Event::Synced { host: no, sync });
                }
            }
            GossipOutput::Event(GossipEvent::DiskIsOld { newest }) => {
                self.faults.bite("old-disk-noticed");
                self.hosts[no as usize].disk.settle();
                self.hosts[no as usize].disk.image.raise_generation(newest);
                self.agent_ends(no);
                self.count_holders();
                let power = self.hosts[no as usize].power;
                self.queue.push(self.now + 50 * MS, Event::AgentStarts { host: no, power });
            }
            GossipOutput::Event(GossipEvent::Fatal(text)) => {
                let host = &mut self.hosts[no as usize];
                let for_its_disk = std::mem::take(&mut host.disk.failed);
                let power = host.power;
                if !for_its_disk {
                    self.violation("fatal", format!("host {no} stops itself: {text}"));
                }
                self.agent_ends(no);
                self.queue.push(self.now + SUPERVISED, Event::AgentStarts { host: no, power });
            }
            GossipOutput::Event(
                GossipEvent::Changed(_)
                | GossipEvent::Member { .. }
                | GossipEvent::Durable { .. }
                | GossipEvent::Stored { .. }
                | GossipEvent::Word { .. }
                | GossipEvent::Synced { .. }
                | GossipEvent::Peer(_)
                | GossipEvent::Notice(_),
            ) => {}
        }
    }

    /// Hands a command to a host's driver; one that hangs takes it when it is well again. Probes do not pass through it.
    fn drive(&mut self, no: HostNo, command: DriverCommand) {
        let host = &mut self.hosts[no as usize];
        if host.careless_until > self.now && !matches!(command, DriverCommand::Probe { .. }) {
            return self.faults.bite("lose-commands");
        }
        let hangs = host.hung_until > self.now && !matches!(command, DriverCommand::Probe { .. });
        let wait = if hangs { host.hung_until - self.now } else { 0 };
        if hangs {
            self.faults.bite("hang-drivers");
        }
        if let DriverCommand::Stop { alloc, .. } = &command {
            self.told_to_end(no, *alloc);
        }
        let host = &mut self.hosts[no as usize];
        let effects = host.processes.command(command, self.now + wait, host.clock, &mut host.rng);
        self.effects(no, wait, effects);
    }

    /// A process is told to end: too early, if others could be answered with and somebody may still have its address.
    fn told_to_end(&mut self, no: HostNo, alloc: AllocId) {
        let Self { hosts, partings, truth, now, .. } = self;
        let host = &hosts[no as usize];
        let Some(process) = host.processes.all.get(&alloc).filter(|p| p.is_ready(*now) && !p.is_stopping()) else {
            return;
        };
        let replica = &process.replica;
        let is_named = host.names.has(replica, host.id);
        let kept = partings.ends(*now, replica, no);
        let answers = host.names.of(&replica.service);
        let has_other = answers.is_some_and(|all| all.keys().any(|place| *place != (replica.slot, host.id)));
        truth.figures.early_signals += u64::from(has_other && (is_named || kept));
    }

    /// Inputs must not be fed while outputs are drained: they come with the next event.
    fn feed_later(&mut self, no: HostNo, input: Input) {
        self.faults.inbox.push_back((no, self.hosts[no as usize].boot, input));
        self.queue.push(self.now + self.lag + 1_000, Event::Inbox);
    }

    /// The oldest input that was put off.
    pub(crate) fn open_inbox(&mut self) {
        if let Some((no, boot, input)) = self.faults.inbox.pop_front()
            && self.hosts[no as usize].boot == boot
        {
            self.feed(no, input);
        }
    }

    fn sent(&mut self, no: HostNo, bytes: u64, kind: Kind) {
        self.chronicle.iter_mut().for_each(|chronicle| chronicle.sent(kind, bytes));
        let host = &mut self.hosts[no as usize];
        host.bytes_sent += bytes;
        host.messages_sent += 1;
    }

    fn send_packet(&mut self, from: HostNo, to: NodeId, bytes: Vec<u8>) {
        let Some(to) = self.by_id.get(&to).copied() else { return };
        let size = (bytes.len() + SEAL_OVERHEAD) as u64 + DATAGRAM_HEADERS;
        self.sent(from, size, Kind::Probes);
        let leaves = self.now + self.lag;
        if self.net.is_walled(from, to) {
            let after = 2 * self.net.latency(from, to);
            self.queue.push(leaves + after, Event::Refused { to: from, about: to });
            return;
        }
        let lives = self.lives(from, to);
        let [first, second] = self.net.packet(leaves, from, to, size);
        self.chronicle.iter_mut().for_each(|chronicle| {
            let arrives = first.or(second).map(|after| leaves + after);
            chronicle.message(Message { from, to, sent: leaves, arrives, kind: Kind::Probes });
        });
        if let Some(after) = second {
            self.queue.push(leaves + after, Event::Packet { from, to, lives, bytes: bytes.clone() });
        }
        if let Some(after) = first {
            self.queue.push(leaves + after, Event::Packet { from, to, lives, bytes });
        }
    }

    /// Which keys two hosts have now: one for each time that they were set up.
    fn lives(&self, from: HostNo, to: HostNo) -> (u32, u32) {
        (self.hosts[from as usize].lives, self.hosts[to as usize].lives)
    }

    /// What was sealed with a key that one end has no more is read by nobody, and never taken for a word of its new owner.
    pub(crate) fn packet_arrives(&mut self, (from, to): (HostNo, HostNo), lives: (u32, u32), bytes: Vec<u8>) {
        let host = &self.hosts[to as usize];
        if !host.is_on {
            self.net.counters.black_holed += 1;
        } else if host.is_up() {
            let node = self.hosts[from as usize].id;
            if lives == self.lives(from, to) {
                self.feed(to, Input::Gossip(GossipInput::Packet { from: node, bytes }));
            }
        } else if !self.net.is_cut(to, from) {
            self.net.counters.refused += 1;
            let after = self.net.latency(to, from);
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
        let time = self.net.handshake(from, to);
        let after = time.unwrap_or(IDLE_TIMEOUT);
        let reachable = !self.net.is_parted(from, to) && self.hosts[to as usize].is_on;
        let answers = reachable || self.net.is_walled(from, to);
        let (after, in_time) = if answers { (after, time.is_some()) } else { (IDLE_TIMEOUT, false) };
        self.queue.push(self.now + self.lag + after, Event::DialEnds { from, boot, to, in_time });
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
            self.hosts[from as usize].bytes_sent += if in_time { KNOCK } else { KNOCK * KNOCKS };
            let reason = if in_time { "refused" } else { "timed out" }.to_owned();
            self.feed(from, Input::Gossip(GossipInput::LinkDown { link: None, peer: dialled, reason }));
            return;
        }
        for end in [from, to] {
            self.hosts[end as usize].bytes_sent += HANDSHAKE;
        }
        let number = self.net.join([from, to], self.now);
        self.hosts[from as usize].links.insert(number);
        self.hosts[to as usize].links.insert(number);
        let link = LinkId(number);
        self.feed(to, Input::Gossip(GossipInput::LinkUp { link, peer: dialler, inbound: true }));
        self.feed(from, Input::Gossip(GossipInput::LinkUp { link, peer: dialled, inbound: false }));
    }

    fn send_frame(&mut self, from: HostNo, number: u64, frame: Frame, kind: Kind) {
        let size = frame.bytes().len() as u64 + FRAME_OVERHEAD;
        self.sent(from, size, kind);
        let Some(to) = self.net.links.get(&number).map(|link| link.ends[1 - link.end_of(from)]) else { return };
        let leaves = self.now + self.lag;
        let delay = self.net.frame(leaves, from, to, size);
        let Some(link) = self.net.links.get_mut(&number) else { return };
        let end = link.end_of(to);
        let at = (leaves + delay).max(link.last[end]);
        link.last[end] = at;
        self.chronicle.iter_mut().for_each(|chronicle| {
            chronicle.message(Message { from, to, sent: leaves, arrives: Some(at), kind });
        });
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
        let before = p2_unknown_kinds::foreign(self, to);
        self.feed(to, Input::Gossip(GossipInput::Frame { link: LinkId(number), frame }));
        p2_unknown_kinds::check_frame(self, from, to, before);
    }

    /// An end has taken bytes off a link; once they are a portion, the other end may send as many in addition.
    fn take_off(&mut self, number: u64, end: usize, bytes: u64) {
        let Some(link) = self.net.links.get_mut(&number) else { return };
        link.taken[end] += bytes;
        if link.taken[end] < CREDIT_PORTION {
            return;
        }
        let [from, to] = [link.ends[end], link.ends[1 - end]];
        let bytes = std::mem::take(&mut link.taken[end]);
        let after = self.net.latency(from, to);
        self.queue.push(self.now + after, Event::Credit { link: number, to, bytes });
    }

    pub(crate) fn credit_arrives(&mut self, number: u64, to: HostNo, bytes: u64) {
        let open = self.net.links.get(&number).is_some_and(|link| link.open[link.end_of(to)]);
        if open {
            self.feed(to, Input::Gossip(GossipInput::Credit { link: LinkId(number), bytes }));
        }
    }

    fn hang_up(&mut self, no: HostNo, number: u64, reason: &'static str) {
        let Some(peer) = self.net.links.get(&number).map(|link| link.ends[1 - link.end_of(no)]) else { return };
        let after = self.lag + self.net.latency(no, peer);
        let Some(link) = self.net.links.get_mut(&number) else { return };
        let end = link.end_of(no);
        link.open[end] = false;
        let at = (self.now + after).max(link.last[1 - end]);
        self.hosts[no as usize].links.remove(&number);
        self.queue.push(at, Event::LinkLost { link: number, to: peer, reason });
    }

    /// An agent is gone: its peers learn at once if its host can tell them, else after the idle time-out.
    pub(crate) fn drop_links(&mut self, no: HostNo) {
        for number in std::mem::take(&mut self.hosts[no as usize].links) {
            let Some(peer) = self.net.links.get(&number).map(|link| link.ends[1 - link.end_of(no)]) else { continue };
            let after = if self.hosts[no as usize].is_on { self.net.latency(no, peer) } else { IDLE_TIMEOUT };
            let Some(link) = self.net.links.get_mut(&number) else { continue };
            let end = link.end_of(no);
            link.open[end] = false;
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
        if std::mem::take(&mut host.disk.fails) {
            host.disk.fail(&mut host.rng);
            self.faults.bite("fail-syncs");
            let event = GossipInput::PersistFailed("input/output error".to_owned());
            self.feed(no, Input::Gossip(event));
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
        if let Some(zone) = self.hosts[no as usize].zone.as_mut() {
            zone.apply(&change);
        }
        match change {
            NameChange::Service { service, instances } => {
                let now = instances.iter().map(|i| ((i.slot, i.node), ())).collect();
                self.hosts[no as usize].names.set(&service, now);
                self.answers_changed(no, &service, None);
                p8_honest_names::check(self, no, &service);
            }
            NameChange::Places { service, places, instances } => {
                let present = instances.iter().map(|i| (i.slot, i.node));
                if !self.hosts[no as usize].names.change(&service, &places, present) {
                    let detail = format!("host {no} tells of places of {service}, unknown to names");
                    return self.violation("p8-honest-names", detail);
                }
                self.answers_changed(no, &service, Some(&places));
                p8_honest_names::check_places(self, no, &service, &places);
            }
            NameChange::ServiceGone(service) => {
                self.hosts[no as usize].names.remove(&service);
                self.answers_changed(no, &service, None);
            }
            NameChange::Node { .. } | NameChange::NodeGone(_) => {}
        }
    }

    /// A host's answers about a service changed, at some places or at any.
    fn answers_changed(&mut self, no: HostNo, service: &ServiceKey, changed: Option<&[Place]>) {
        let Self { truth, partings, hosts, now, chronicle, by_id, .. } = self;
        let answers = hosts[no as usize].names.of(service);
        let ids = |host: HostNo| hosts[host as usize].id;
        let has = |slot, host| answers.is_some_and(|set| set.contains_key(&(slot, ids(host))));
        let numbered = |place: &Place| Some((place.0, *by_id.get(&place.1)?));
        let changed: Option<Vec<_>> = changed.map(|places| places.iter().filter_map(numbered).collect());
        truth.names_changed(*now, no, service, changed.as_deref(), |(slot, host)| has(slot, host));
        partings.changed(*now, no, service, |(slot, host)| has(slot, host));
        let own = changed.iter().flatten().filter(|(slot, host)| *host == no && !has(*slot, no));
        for (slot, _) in own {
            let replica = ReplicaKey { service: service.clone(), slot: *slot };
            let runs = truth.runs.get(&replica).into_iter().flatten().any(|run| run.host == no);
            if runs {
                let answers = |host: &&Host| host.names.has(&replica, ids(no));
                let answering = hosts.iter().filter(answers).map(|host| host.no).collect();
                partings.begins(*now, service, (*slot, no), answering);
            }
        }
        if let Some(chronicle) = chronicle {
            let all = hosts.iter().filter(|host| host.is_up()).count();
            chronicle.named(*now, no, service, all, has);
        }
    }

    /// A core says that it has changed its mind about a member: right, or wrong?
    fn core_event(&mut self, no: HostNo, event: &CoreEvent) {
        if let Some(chronicle) = &mut self.chronicle {
            let about = event.node.and_then(|node| self.by_id.get(&node).copied());
            chronicle.event(self.now, no, about, event);
        }
        let (EventKind::Member, Some(about)) = (event.kind, event.node) else { return };
        let Some(about) = self.by_id.get(&about).copied() else { return };
        let host = &self.hosts[no as usize];
        let Some(node) = host.node.as_ref() else { return };
        if inside::member(node, self.hosts[about as usize].id) != Some(MemberState::Down) {
            return;
        }
        // That an earlier boot is over is the truth, even to who hears of it when the next one runs.
        let is_of_this_boot =
            inside::boot_of(node, self.hosts[about as usize].id) == self.hosts[about as usize].running();
        if is_of_this_boot
            && self.is_healthy(about, RECOVERY)
            && self.is_healthy(no, 0)
            && self.checks.is_calm(self.now)
        {
            self.truth.figures.false_positives += 1;
            let now = self.now;
            self.chronicle.iter_mut().for_each(|chronicle| chronicle.accused(now, no, about));
        }
        if let Some(after) = self.faults.detected(no, about, self.now) {
            self.truth.figures.detect.add(self.now, after);
        }
    }

    /// True if a host runs, has not stood still for so long, and at least half of the others reach it and are reached by it.
    /// What such hosts hold of each other is theirs to get right, whatever lies between the two.
    fn is_healthy(&mut self, no: HostNo, awake: Nanos) -> bool {
        let host = &self.hosts[no as usize];
        let is_awake = host.paused_until == 0 || host.paused_until.saturating_add(awake) <= self.now;
        host.is_up() && is_awake && self.net.is_connected(no)
    }
}
