//! The one loop: wait for the next wake, give it to the core, do what the core puts out, sleep until its deadline.
//!
//! Everything that decides lives in the core and runs on this task alone, one turn after the other; no other task ever
//! touches it. A turn never waits for a disk, a peer or a process. Each turn is timed, and slow ones are logged with what
//! caused them, since a node that thinks too long looks dead to its peers.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use dunlin_core::face::{DriverEvent, Event, EventKind, Input, Output, Outputs, Reply, Request, RequestId};
use dunlin_core::skip::AtHand;
use dunlin_core::{Node, query};
use dunlin_gossip::face::{GossipEvent, GossipInput, GossipOutput, MemberState, NoticeLevel, PersistSeq};
use dunlin_gossip::id::{Generation, NodeId};
use dunlin_gossip::model::Asker;
use dunlin_net::{Handed, Net, NetEvent};
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::admit::{Certifier, Newcomer};
use crate::api::call::{Call, MeantNode};
use crate::clock;
use crate::custody::Custody;
use crate::disk::{Disk, Progress};
use crate::driver::Drivers;
use crate::events::EventLog;
use crate::names::Names;
use crate::watch::Watch;
use crate::watchdog::Pulse;
use crate::{read, relay};

/// A turn that takes longer is logged.
const SLOW_TURN: Duration = Duration::from_millis(100);

/// What woke the loop.
enum Wake {
    Net(NetEvent),
    Driver(DriverEvent),
    Api(Call),
    Disk(Progress),
    Deadline,
    Custody,
    Handed(Handed),
    Signal(&'static str),
}

impl Wake {
    const fn what(&self) -> &'static str {
        match self {
            Self::Net(_) => "the network",
            Self::Driver(_) => "a driver",
            Self::Api(_) => "the API",
            Self::Disk(_) => "the disk",
            Self::Deadline => "a deadline",
            Self::Custody | Self::Handed(_) => "certificates",
            Self::Signal(_) => "a signal",
        }
    }
}

/// Why the loop ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Somebody asked the agent to stop.
    Stopped,
    /// The agent must not go on.
    Fatal(String),
    /// The disk is older than what peers know: start anew above this generation.
    DiskIsOld(Generation),
    /// A handler panicked over the record with this hash: start anew without its meaning.
    Poisoned {
        /// Which.
        record: u64,
        /// What the panic said.
        why: String,
    },
}

/// Who waits for a reply.
enum Pending {
    Api(oneshot::Sender<Reply>),
    Newcomer(Box<Newcomer>),
}

/// What the loop listens to.
pub(crate) struct Sources {
    pub(crate) net: mpsc::Receiver<NetEvent>,
    pub(crate) drivers: mpsc::Receiver<DriverEvent>,
    pub(crate) calls: mpsc::Receiver<Call>,
    pub(crate) disk: watch::Receiver<Progress>,
    pub(crate) terminate: Signal,
    pub(crate) interrupt: Signal,
    pub(crate) handed: mpsc::Receiver<Handed>,
    /// When certificates are looked at next.
    pub(crate) custody_at: Instant,
}

/// The loop's own: the core, and everything that carries out what it says.
pub(crate) struct Agent {
    pub(crate) me: NodeId,
    pub(crate) custody: Custody,
    pub(crate) node: Node,
    pub(crate) net: Net,
    pub(crate) disk: Disk,
    pub(crate) drivers: Arc<Drivers>,
    pub(crate) names: Names,
    pub(crate) events: EventLog,
    pub(crate) watch: Watch,
    pulse: Arc<Pulse>,
    at_hand: AtHand,
    pending: BTreeMap<RequestId, Pending>,
    next_request: u64,
    persisted: PersistSeq,
    out: Outputs,
    end: Option<End>,
}

/// What an agent is made of.
pub(crate) struct Parts {
    pub(crate) me: NodeId,
    pub(crate) custody: Custody,
    pub(crate) net: Net,
    pub(crate) disk: Disk,
    pub(crate) drivers: Drivers,
    pub(crate) names: Names,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) at_hand: AtHand,
}

impl Agent {
    pub(crate) fn new(parts: Parts, node: Node, first: Outputs) -> Self {
        let Parts { me, custody, net, disk, drivers, names, pulse, at_hand } = parts;
        let mut agent = Self {
            me,
            custody,
            node,
            net,
            disk,
            drivers: Arc::new(drivers),
            names,
            events: EventLog::new(),
            watch: Watch::new(clock::wall()),
            pulse,
            at_hand,
            pending: BTreeMap::new(),
            next_request: 0,
            persisted: PersistSeq(0),
            out: first,
            end: None,
        };
        agent.drain();
        agent.names.publish(agent.node.has_come_up());
        agent
    }

    /// An event of the shell's own.
    pub(crate) fn tell(&mut self, level: NoticeLevel, kind: EventKind, text: String) {
        let event = Event {
            at: clock::wall(),
            level,
            kind,
            node: Some(self.me),
            service: None,
            replica: None,
            member: None,
            text,
        };
        self.log(&event);
    }

    fn log(&mut self, event: &Event) {
        self.watch.told(event);
        let name = event.node.map(|id| read::name(&self.node, id));
        self.events.push(event, name);
    }

    /// Runs until somebody asks it to stop, or it must.
    pub(crate) async fn run(&mut self, sources: &mut Sources) -> End {
        loop {
            if let Some(end) = self.end.take() {
                return end;
            }
            let wake = sources.next(self.node.next_deadline(), self.custody.pause()).await;
            let (what, began) = (wake.what(), clock::now());
            if matches!(wake, Wake::Api(_)) {
                self.watch.waiting = [sources.net.len(), sources.calls.len()];
            }
            self.pulse.begins(what, [sources.net.len(), sources.calls.len()]);
            self.turn(wake);
            if self.is_poisoned() {
                continue;
            }
            self.names.publish(self.node.has_come_up());
            self.names.measure(began, || self.net.ways().rtt);
            self.pulse.ends();
            let took = clock::now().since(began);
            self.watch.turned(took);
            if took > SLOW_TURN {
                tracing::warn!(ms = took.as_millis(), "a turn caused by {what} took long");
            }
        }
    }

    fn turn(&mut self, wake: Wake) {
        match wake {
            Wake::Net(event) => self.on_net(event),
            Wake::Driver(event) => {
                // Before anything is started: a container keeps what it was told at its start.
                if let DriverEvent::Drivers(_) = &event {
                    self.names.serve_containers(self.drivers.bridge());
                }
                self.handle(Input::Driver(event));
            }
            Wake::Api(call) => self.on_call(call),
            Wake::Disk(progress) => self.on_disk(progress),
            Wake::Deadline => self.handle(Input::Deadline),
            Wake::Custody => self.look_after_certificates(),
            Wake::Handed(handed) => self.on_handed(&handed),
            Wake::Signal(name) => {
                tracing::info!("{name}: the agent stops; what it started runs on");
                self.end = Some(End::Stopped);
            }
        }
    }

    fn on_net(&mut self, event: NetEvent) {
        self.watch.arrived(clock::now(), &event);
        let input = match event {
            NetEvent::Packet { from, bytes } => GossipInput::Packet { from, bytes },
            NetEvent::Refused { node } => GossipInput::Refused { node },
            NetEvent::Frame { link, bytes } => GossipInput::Frame { link, frame: bytes.into() },
            NetEvent::Credit { link, bytes } => GossipInput::Credit { link, bytes },
            NetEvent::LinkUp { link, peer, inbound } => GossipInput::LinkUp { link, peer, inbound },
            NetEvent::LinkDown { link, peer, reason } => GossipInput::LinkDown { link, peer, reason },
            NetEvent::Expelled { by } => GossipInput::Expelled { by },
            NetEvent::Met { peer } => GossipInput::Met { node: peer },
            NetEvent::Stale { peer } => return self.on_stale(peer),
            NetEvent::Handover(asked) => return self.hand_over(asked),
            NetEvent::Request { peer, header, send, recv } => {
                relay::serve(peer, &header, send, recv, Arc::clone(&self.drivers));
                return;
            }
            NetEvent::Join(attempt) => {
                let (newcomer, request) = Newcomer::knock(attempt);
                self.request(Pending::Newcomer(Box::new(newcomer)), Asker::default(), request);
                return;
            }
            NetEvent::Rejected { from, why } => {
                self.tell(NoticeLevel::Warn, EventKind::Trust, format!("turned away {from}: {why}"));
                return;
            }
        };
        self.handle(Input::Gossip(input));
    }

    fn on_disk(&mut self, progress: Progress) {
        if progress.persisted > self.persisted {
            self.persisted = progress.persisted;
            self.handle(Input::Gossip(GossipInput::Persisted(progress.persisted)));
        }
        if let Some(why) = progress.failed {
            self.handle(Input::Gossip(GossipInput::PersistFailed(why.clone())));
            self.end = Some(End::Fatal(why));
        }
    }

    fn on_call(&mut self, call: Call) {
        // Whoever asked and has gone needs no answer.
        match call {
            Call::Request(asker, request, back) => self.request(Pending::Api(back), asker, request),
            Call::List(listing, back) => drop(back.send(self.list(listing))),
            Call::Ask(question, back) => drop(back.send(read::question(&self.node, *question, clock::now()))),
            Call::Names(ids, back) => {
                drop(back.send(ids.into_iter().map(|id| read::name(&self.node, id)).collect()));
            }
            Call::Service(text, back) => drop(back.send(read::service(&self.node, &text))),
            Call::Revision(service, text, back) => drop(back.send(read::revision(&self.node, &service, &text))),
            Call::Conflict(text, back) => drop(back.send(read::conflict(&self.node, &text))),
            Call::Locate(text, back) => drop(back.send(read::locate(&self.node, &text))),
            Call::Node(text, back) => {
                let meant = read::node(&self.node, &text).map(|known| MeantNode {
                    admitted: query::trust::admitted_by(&self.node, known.node),
                    tokens: query::trust::tokens_of(&self.node, known.node),
                    known,
                });
                drop(back.send(meant));
            }
            Call::Resolve(name, back) => drop(back.send(self.names.explain(&self.node, &name))),
            Call::Zone(back) => drop(back.send(self.names.zone())),
            Call::Lost(back) => drop(back.send(self.is_somebody_lost())),
            Call::Doctor(back) => drop(back.send(self.examine())),
            Call::Rotate(back) => drop(back.send(self.rotate_for_operator())),
            Call::Events(back) => drop(back.send(self.events.follow())),
        }
    }

    /// True if a rostered node is not alive as far as is known here.
    fn is_somebody_lost(&self) -> bool {
        self.node.gossip().members().any(|(_, state)| state != MemberState::Alive)
    }

    fn request(&mut self, who: Pending, asker: Asker, request: Request) {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.pending.insert(id, who);
        self.handle(Input::Request(id, asker, request));
    }

    fn on_reply(&mut self, id: RequestId, reply: Reply) {
        match self.pending.remove(&id) {
            Some(Pending::Api(back)) => drop(back.send(reply)),
            Some(Pending::Newcomer(newcomer)) => {
                let by = Certifier {
                    authority: &self.net.credentials().authority,
                    lifetime: self.custody.lifetime,
                    me: self.me,
                };
                if let Some((newcomer, request)) = newcomer.step(reply, &by, clock::wall()) {
                    self.request(Pending::Newcomer(Box::new(newcomer)), Asker::default(), request);
                }
            }
            None => tracing::error!(?id, "a reply to a request that nobody made"),
        }
    }

    pub(crate) fn handle(&mut self, input: Input) {
        if self.is_poisoned() {
            return;
        }
        let mut out = std::mem::take(&mut self.out);
        let node = &mut self.node;
        // After a panic nobody looks into the node again, so that it does not matter what state it is in; what it had put out in
        // this call is lost with it, as in a crash.
        let done = catch_unwind(AssertUnwindSafe(|| node.handle(clock::now(), clock::wall(), input, &mut out)));
        if let Err(panic) = done {
            let (record, why) = poison(&self.at_hand, panic);
            self.end = Some(End::Poisoned { record, why });
            return;
        }
        // A reply may lead to the next input, whose outputs then come after all of these.
        let mut later = Vec::new();
        for output in out.list.drain(..) {
            match output {
                Output::Reply(id, reply) => later.push((id, reply)),
                other => self.carry_out(other),
            }
        }
        self.out = out;
        for (id, reply) in later {
            self.on_reply(id, reply);
        }
    }

    /// True once the core has panicked: it must not be used any more.
    fn is_poisoned(&self) -> bool {
        matches!(self.end, Some(End::Poisoned { .. }))
    }

    fn drain(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        for output in out.list.drain(..) {
            self.carry_out(output);
        }
        self.out = out;
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Gossip(output) => self.carry_out_gossip(output),
            Output::Reply(id, reply) => self.on_reply(id, reply),
            Output::Driver(command) => self.drivers.command(command),
            Output::Names(change) => self.names.change(change),
            Output::Event(event) => self.log(&event),
        }
    }

    fn carry_out_gossip(&mut self, output: GossipOutput) {
        match output {
            GossipOutput::Packet { to, bytes } => self.net.send_packet(to, bytes),
            GossipOutput::Frame { link, frame, class } => {
                self.watch.sent(class, frame.bytes().len());
                self.net.send_frame(link, frame.bytes().clone(), class);
            }
            GossipOutput::Dial { peer } => self.net.dial(peer),
            GossipOutput::Hangup { link, reason } => self.net.hangup(link, reason),
            GossipOutput::Persist { seq, ops } => self.disk.persist(seq, ops),
            GossipOutput::Event(GossipEvent::Peer(change)) => {
                self.net.peer(&change);
                let gossip = self.node.gossip();
                self.watch.keep(|node| gossip.member_state(node).is_some());
            }
            GossipOutput::Event(GossipEvent::Fatal(text)) => self.end = Some(End::Fatal(text)),
            GossipOutput::Event(GossipEvent::DiskIsOld { newest }) => self.end = Some(End::DiskIsOld(newest)),
            // All other events are the core's own business and stay inside it.
            GossipOutput::Event(
                GossipEvent::Changed(_)
                | GossipEvent::Member { .. }
                | GossipEvent::Durable { .. }
                | GossipEvent::Stored { .. }
                | GossipEvent::Word { .. }
                | GossipEvent::Synced { .. }
                | GossipEvent::Notice(_),
            ) => {}
        }
    }
}

/// The record that was at hand when the core panicked, and what the panic said. Without one the panic goes on: nobody knows what
/// to leave out.
pub(crate) fn poison(at_hand: &AtHand, panic: Box<dyn Any + Send>) -> (u64, String) {
    let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let why = said.unwrap_or("it did not say why").to_owned();
    match at_hand.last() {
        Some(record) => (record, why),
        None => resume_unwind(panic),
    }
}

impl Sources {
    async fn next(&mut self, deadline: Option<dunlin_gossip::time::Instant>, pause: Duration) -> Wake {
        let deadline = async {
            match deadline {
                Some(at) => tokio::time::sleep(at.since(clock::now())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(event) = self.net.recv() => Wake::Net(event),
            Some(event) = self.drivers.recv() => Wake::Driver(event),
            Some(call) = self.calls.recv() => Wake::Api(call),
            Ok(()) = self.disk.changed() => Wake::Disk(self.disk.borrow_and_update().clone()),
            Some(()) = self.terminate.recv() => Wake::Signal("SIGTERM"),
            Some(()) = self.interrupt.recv() => Wake::Signal("SIGINT"),
            () = deadline => Wake::Deadline,
            Some(handed) = self.handed.recv() => Wake::Handed(handed),
            () = tokio::time::sleep_until(self.custody_at) => {
                self.custody_at = Instant::now() + pause;
                Wake::Custody
            }
        }
    }
}
