//! The one loop: wait for the next wake, give it to the core, do what the core puts out, sleep until its deadline.
//!
//! Everything that decides lives in the core and runs on this task alone, one turn after the other; no other task ever
//! touches it. A turn never waits for a disk, a peer or a process. Each turn is timed, and slow ones are logged with what
//! caused them, since a node that thinks too long looks dead to its peers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dunlin_core::Node;
use dunlin_core::face::{DriverEvent, Event, EventKind, Input, Output, Outputs, Reply, Request, RequestId};
use dunlin_gossip::face::{GossipEvent, GossipInput, GossipOutput, NoticeLevel, PersistSeq};
use dunlin_gossip::id::{Generation, NodeId};
use dunlin_net::{Net, NetEvent};
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot, watch};

use crate::admit::Newcomer;
use crate::api::call::Call;
use crate::clock;
use crate::disk::{Disk, Progress};
use crate::driver::Drivers;
use crate::events::EventLog;
use crate::names::Names;
use crate::setup::Membership;
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
}

/// The loop's own: the core, and everything that carries out what it says.
pub(crate) struct Agent {
    pub(crate) me: NodeId,
    pub(crate) membership: Membership,
    pub(crate) node: Node,
    pub(crate) net: Net,
    pub(crate) disk: Disk,
    pub(crate) drivers: Arc<Drivers>,
    pub(crate) names: Names,
    pub(crate) events: EventLog,
    pending: BTreeMap<RequestId, Pending>,
    next_request: u64,
    persisted: PersistSeq,
    out: Outputs,
    end: Option<End>,
}

/// What an agent is made of.
pub(crate) struct Parts {
    pub(crate) membership: Membership,
    pub(crate) net: Net,
    pub(crate) disk: Disk,
    pub(crate) drivers: Drivers,
    pub(crate) names: Names,
}

impl Agent {
    pub(crate) fn new(parts: Parts, node: Node, first: Outputs) -> Self {
        let Parts { membership, net, disk, drivers, names } = parts;
        let mut agent = Self {
            me: membership.keys.id(),
            membership,
            node,
            net,
            disk,
            drivers: Arc::new(drivers),
            names,
            events: EventLog::new(),
            pending: BTreeMap::new(),
            next_request: 0,
            persisted: PersistSeq(0),
            out: first,
            end: None,
        };
        agent.drain();
        agent.names.publish();
        agent
    }

    /// An event of the shell's own.
    pub(crate) fn tell(&mut self, level: NoticeLevel, kind: EventKind, text: String) {
        let event = Event { at: clock::wall(), level, kind, node: Some(self.me), service: None, replica: None, text };
        self.log(&event);
    }

    fn log(&mut self, event: &Event) {
        let name = event.node.map(|id| read::name(&self.node, id));
        self.events.push(event, name);
    }

    /// Runs until somebody asks it to stop, or it must.
    pub(crate) async fn run(&mut self, sources: &mut Sources) -> End {
        loop {
            if let Some(end) = self.end.take() {
                return end;
            }
            let wake = sources.next(self.node.next_deadline()).await;
            let (what, began) = (wake.what(), clock::now());
            self.turn(wake);
            self.names.publish();
            let took = clock::now().since(began);
            if took > SLOW_TURN {
                tracing::warn!(ms = took.as_millis(), "a turn caused by {what} took long");
            }
        }
    }

    fn turn(&mut self, wake: Wake) {
        match wake {
            Wake::Net(event) => self.on_net(event),
            Wake::Driver(event) => self.handle(Input::Driver(event)),
            Wake::Api(call) => self.on_call(call),
            Wake::Disk(progress) => self.on_disk(progress),
            Wake::Deadline => self.handle(Input::Deadline),
            Wake::Signal(name) => {
                tracing::info!("{name}: the agent stops; what it started runs on");
                self.end = Some(End::Stopped);
            }
        }
    }

    fn on_net(&mut self, event: NetEvent) {
        let input = match event {
            NetEvent::Packet { from, bytes } => GossipInput::Packet { from, bytes },
            NetEvent::Refused { node } => GossipInput::Refused { node },
            NetEvent::Frame { link, bytes } => GossipInput::Frame { link, frame: bytes.into() },
            NetEvent::Credit { link, bytes } => GossipInput::Credit { link, bytes },
            NetEvent::LinkUp { link, peer, inbound } => GossipInput::LinkUp { link, peer, inbound },
            NetEvent::LinkDown { link, peer, reason } => GossipInput::LinkDown { link, peer, reason },
            NetEvent::Request { peer, header, send, recv } => {
                relay::serve(peer, &header, send, recv, Arc::clone(&self.drivers));
                return;
            }
            NetEvent::Join(attempt) => {
                let (newcomer, request) = Newcomer::knock(attempt);
                self.request(Pending::Newcomer(Box::new(newcomer)), request);
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
            Call::Request(request, back) => self.request(Pending::Api(back), request),
            Call::List(listing, back) => drop(back.send(read::list(&self.node, &self.net, listing))),
            Call::Names(ids, back) => {
                drop(back.send(ids.into_iter().map(|id| read::name(&self.node, id)).collect()));
            }
            Call::Service(text, back) => drop(back.send(read::service(&self.node, &text))),
            Call::Locate(text, back) => drop(back.send(read::locate(&self.node, &text))),
            Call::Events(back) => drop(back.send(self.events.follow())),
        }
    }

    fn request(&mut self, who: Pending, request: Request) {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.pending.insert(id, who);
        self.handle(Input::Request(id, request));
    }

    fn on_reply(&mut self, id: RequestId, reply: Reply) {
        match self.pending.remove(&id) {
            Some(Pending::Api(back)) => drop(back.send(reply)),
            Some(Pending::Newcomer(newcomer)) => {
                let authority = self.membership.credentials.authority.clone();
                if let Some((newcomer, request)) = newcomer.step(reply, &authority, self.me, clock::wall()) {
                    self.request(Pending::Newcomer(Box::new(newcomer)), request);
                }
            }
            None => tracing::error!(?id, "a reply to a request that nobody made"),
        }
    }

    fn handle(&mut self, input: Input) {
        let mut out = std::mem::take(&mut self.out);
        self.node.handle(clock::now(), clock::wall(), input, &mut out);
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
            GossipOutput::Frame { link, frame, class } => self.net.send_frame(link, frame.bytes().clone(), class),
            GossipOutput::Dial { peer } => self.net.dial(peer),
            GossipOutput::Hangup { link, reason } => self.net.hangup(link, reason),
            GossipOutput::Persist { seq, ops } => self.disk.persist(seq, ops),
            GossipOutput::Event(GossipEvent::Peer(change)) => self.net.peer(&change),
            GossipOutput::Event(GossipEvent::Fatal(text)) => self.end = Some(End::Fatal(text)),
            GossipOutput::Event(GossipEvent::DiskIsOld { newest }) => self.end = Some(End::DiskIsOld(newest)),
            // All other events are the core's own business and stay inside it.
            GossipOutput::Event(
                GossipEvent::Changed(_)
                | GossipEvent::Member { .. }
                | GossipEvent::Durable { .. }
                | GossipEvent::Stored { .. }
                | GossipEvent::Synced { .. }
                | GossipEvent::Notice(_),
            ) => {}
        }
    }
}

impl Sources {
    async fn next(&mut self, deadline: Option<dunlin_gossip::time::Instant>) -> Wake {
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
        }
    }
}
