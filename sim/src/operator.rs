//! The operators: people and programs that write at nodes of their choice, and remember what they were promised.

use std::collections::{BTreeMap, BTreeSet};

use dunlin_core::face::{Ack, Input, OrderEdit, Reply, Request, RequestId, RolloutOrder};
use dunlin_gossip::canary::COMPILED_IN;
use dunlin_gossip::model::{
    Asker, Cron, HealthCheck, Job, Mode, PortSpec, Prefer, Probe, Protocol, ReplicaKey, Resources, RestartCondition,
    RestartPolicy, RolloutPolicy, Service, ServiceKey, ServiceName, ServiceSpec, Share, Slot, StackName, StopPolicy,
    Waves,
};
use dunlin_gossip::time::Duration;
use dunlin_gossip::wire::RecordId;

use crate::disk::Image;
use crate::event::Event;
use crate::host::Host;
use crate::invariant::p2_unknown_kinds;
use crate::net::HostNo;
use crate::promise::{About, Promise};
use crate::queue::{MS, Nanos, SECOND};
use crate::scenario::{Count, Files, Order, ServiceLine, Swallowed, WaveLine};
use crate::workload::Behaviour;
use crate::world::World;

/// An operator gives a node so long to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Less than that by any of their clocks: a node that lacks acknowledgements has not given up waiting for them yet.
const SURELY_WAITS: Nanos = 9 * SECOND;

#[derive(Debug)]
enum Pending {
    Write {
        host: HostNo,
        word: &'static str,
        about: About,
        asked: Nanos,
    },
    Admit {
        seed: HostNo,
        newcomer: HostNo,
    },
    /// A write whose author minds no answer: a program in a loop, a poison.
    Loop {
        host: HostNo,
    },
}

/// A program that writes in a loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loop {
    pub(crate) until: Nanos,
    pub(crate) every: Nanos,
    pub(crate) kib: u32,
}

/// All operators together.
#[derive(Debug, Default)]
pub(crate) struct Operator {
    requests: u64,
    versions: u64,
    pending: BTreeMap<u64, Pending>,
    /// The nodes of which anything was ever ordered.
    pub(crate) ordered: BTreeSet<HostNo>,
    /// Acknowledged writes, in order of acknowledgement.
    pub(crate) promises: Vec<Promise>,
    /// Writes that were refused or ended in a time-out.
    pub(crate) refused: Vec<String>,
}

impl Operator {
    /// A node is gone: what it was asked will not be answered.
    pub(crate) fn forget(&mut self, host: HostNo) {
        self.pending.retain(|_, pending| match pending {
            Pending::Write { host: asked, .. } | Pending::Admit { seed: asked, .. } | Pending::Loop { host: asked } => {
                *asked != host
            }
        });
    }

    /// A version of the stack that was not written before.
    pub(crate) const fn next_version(&mut self) -> u64 {
        self.versions += 1;
        self.versions
    }

    fn ask(&mut self, pending: Pending) -> RequestId {
        self.requests += 1;
        self.pending.insert(self.requests, pending);
        RequestId(self.requests)
    }
}

/// The stack that scenarios deploy.
pub(crate) fn stack() -> StackName {
    StackName::new("sim").unwrap_or_else(|e| unreachable!("`sim` is a name: {e}"))
}

fn service_key(name: &str) -> Option<ServiceKey> {
    Some(ServiceKey { stack: stack(), service: ServiceName::new(name).ok()? })
}

/// A service of a line at a version.
pub(crate) fn service(line: &ServiceLine, version: u64, replicas: u32) -> Service {
    let behaviour = Behaviour { version, ..line.behaviour };
    if let Some(model) = &line.model {
        return modelled(model, &behaviour, replicas);
    }
    let is_job = behaviour.finish_ms > 0;
    let job = Job { completions: replicas, parallelism: line.parallelism, backoff_limit: u32::MAX, ..Job::default() };
    let mode = match line.cron {
        Some(cron) => Mode::Cron(Cron { job, ..cron }),
        None if is_job => Mode::Job(job),
        None => Mode::Replicated(replicas),
    };
    let condition = if is_job { RestartCondition::OnFailure } else { RestartCondition::Any };
    Service {
        mode,
        spec: ServiceSpec {
            workload: behaviour.workload(),
            environment: BTreeMap::new(),
            ports: vec![PortSpec { name: "http".to_owned(), target: None, published: None, protocol: Protocol::Tcp }],
            health: Some(HealthCheck {
                probe: Probe::Http { port: "http".to_owned(), path: "/".to_owned() },
                interval: Duration::from_secs(2),
                timeout: Duration::from_secs(1),
                retries: 3,
                start_period: Duration::from_secs(5),
            }),
            restart: RestartPolicy {
                condition,
                delay: Duration::from_secs(1),
                max_attempts: None,
                window: Duration::from_secs(5),
            },
            stop: StopPolicy { signal: "SIGTERM".to_owned(), grace: Duration::from_secs(5) },
            reservation: behaviour.reserve,
            limits: Resources::default(),
            constraints: Vec::new(),
            priority: line.priority,
            prefer: if behaviour.lone { Prefer::Majority } else { Prefer::Ready },
            placing: Default::default(),
        },
    }
}

/// A service as its author has it, but for what it runs.
fn modelled(model: &Service, behaviour: &Behaviour, replicas: u32) -> Service {
    let mut service = model.clone();
    service.spec.workload = behaviour.workload();
    match &mut service.mode {
        Mode::Replicated(count) => *count = replicas,
        Mode::Job(job) | Mode::Cron(Cron { job, .. }) => job.completions = replicas,
        _ => {}
    }
    service
}

/// What the file of the stack says at this version, and how many replicas of each service.
pub(crate) fn file(
    lines: &[ServiceLine],
    version: u64,
    hosts: u32,
) -> (BTreeMap<ServiceName, Service>, BTreeMap<ServiceKey, u32>) {
    let (mut services, mut counts) = (BTreeMap::new(), BTreeMap::new());
    for line in lines {
        let Some(key) = service_key(&line.name) else { continue };
        let replicas = line.replicas.among(hosts);
        services.insert(key.service.clone(), service(line, version, replicas));
        counts.insert(key, replicas);
    }
    (services, counts)
}

/// How services go over to a new version, where their lines say so.
pub(crate) fn policies(lines: &[ServiceLine]) -> BTreeMap<ServiceName, RolloutPolicy> {
    let stated = lines.iter().filter(|line| line.rollout != RolloutPolicy::default());
    stated.filter_map(|line| Some((service_key(&line.name)?.service, line.rollout))).collect()
}

impl World {
    pub(crate) fn host_count(&self) -> u32 {
        u32::try_from(self.hosts.len()).unwrap_or(u32::MAX)
    }

    /// Operators deploy the whole stack at these nodes at this moment.
    pub(crate) fn deploy(&mut self, at: &[HostNo], files: Files) {
        let hosts = self.host_count();
        let scenario = std::sync::Arc::clone(&self.scenario);
        let word = match files {
            Files::Same => "double-deploy",
            Files::Different if at.len() > 1 => "conflict",
            Files::Different => "deploy",
        };
        self.truth.forget_losses();
        for (index, host) in at.iter().enumerate() {
            if index == 0 || files == Files::Different {
                self.operator.next_version();
            }
            let version = self.operator.versions;
            let (services, counts) = file(&scenario.services, version, hosts);
            if at.len() == 1 {
                let slots = |(key, replicas): (&ServiceKey, &u32)| {
                    let service = key.clone();
                    (1..=*replicas).map(move |n| ReplicaKey { service: service.clone(), slot: Slot::Number(n) })
                };
                let is_job = |key: &ServiceKey| services.get(&key.service).is_some_and(|s| s.mode.job().is_some());
                let counts = counts.iter().filter(|(key, _)| !is_job(key));
                self.truth.deploying(self.now, version, counts.flat_map(slots).collect());
            }
            let (stack, policies) = (stack(), policies(&scenario.services));
            let (waves, ack) = (scenario.waves.map(WaveLine::asked), Ack::Default);
            let request = Request::Deploy { stack, services, policies, waves, ack, timeout: PATIENCE };
            self.write(*host, word, About::services(counts.into_keys().collect()), request);
        }
    }

    pub(crate) fn scale(&mut self, name: &str, replicas: Count, at: &[HostNo]) {
        let replicas = replicas.among(self.host_count());
        let Some(service) = service_key(name) else { return };
        self.truth.forget_losses();
        for host in at {
            let drops = p2_unknown_kinds::would_drop(self, *host, &RecordId::service(&service));
            let about = About { drops, ..About::services(vec![service.clone()]) };
            let request = Request::Scale { service: service.clone(), replicas, ack: Ack::Default, timeout: PATIENCE };
            self.write(*host, "scale", about, request);
        }
    }

    pub(crate) fn say_rollout(&mut self, name: &str, order: RolloutOrder, at: &[HostNo]) {
        let Some(service) = service_key(name) else { return };
        self.truth.forget_losses();
        for host in at {
            let request = Request::Rollout { service: service.clone(), order, ack: Ack::Default, timeout: PATIENCE };
            let about = match order {
                RolloutOrder::Undo { .. } => About::services(vec![service.clone()]),
                RolloutOrder::Pause | RolloutOrder::Resume | RolloutOrder::Promote => About::rollout(service.clone()),
            };
            self.write(*host, "rollout", about, request);
        }
    }

    /// Something is ordered of a node, at the next one that answers.
    pub(crate) fn order(&mut self, how: Order, about: HostNo) {
        let hosts = self.host_count();
        let answers = |no: &HostNo| {
            let host = &self.hosts[*no as usize];
            host.is_up() && host.paused_until <= self.now
        };
        let Some(at) = (1..=hosts).map(|n| (about + n) % hosts).find(answers) else { return };
        let node = self.hosts[about as usize].id;
        let (word, edit) = match how {
            Order::Drain(deadline) => ("drain", OrderEdit::Drain { deadline: deadline.map(Duration::from_nanos) }),
            Order::Undrain => ("undrain", OrderEdit::Undrain),
            Order::Cordon => ("cordon", OrderEdit::Cordon),
            Order::Uncordon => ("uncordon", OrderEdit::Uncordon),
        };
        if matches!(how, Order::Drain(_)) && self.operator.ordered.insert(about) {
            let runs = self.truth.runs.values().flatten().filter(|run| run.host == about).count();
            self.truth.figures.moves_minimum += runs as u64;
        }
        if matches!(how, Order::Undrain | Order::Uncordon) {
            self.truth.came.entry(about).or_default();
        }
        self.operator.ordered.insert(about);
        let drops = p2_unknown_kinds::would_drop(self, at, &RecordId::node_orders(node));
        let about = About { orders: Some(node), drops, ..About::services(Vec::new()) };
        let request = Request::Order { node, edit, ack: Ack::Default, timeout: PATIENCE };
        self.write(at, word, about, request);
    }

    pub(crate) fn remove(&mut self, at: &[HostNo]) {
        self.truth.forget_losses();
        for host in at {
            let request = Request::Remove { stack: stack(), ack: Ack::Default, timeout: PATIENCE };
            let about = About::services(Vec::new());
            self.write(*host, "remove", about, request);
        }
    }

    fn write(&mut self, host: HostNo, word: &'static str, about: About, request: Request) {
        // An operator sees at once that nobody answers there, and writes nothing.
        if !self.hosts.get(host as usize).is_some_and(Host::is_up) {
            return;
        }
        self.checks.state_changed(self.now);
        let id = self.operator.ask(Pending::Write { host, word, about, asked: self.now });
        self.feed(host, Input::Request(id, Asker::new("operator"), request));
    }

    /// Somebody deploys a stack of his own, of three replicas, over which handlers panic.
    pub(crate) fn poison(&mut self, host: HostNo, place: Swallowed, first: Option<u32>) {
        // In a build that cannot swallow it, it would be a stack like any.
        if !COMPILED_IN {
            return;
        }
        let line = ServiceLine {
            name: "poison".to_owned(),
            replicas: Count::Fixed(3),
            behaviour: Behaviour::default(),
            rollout: RolloutPolicy::default(),
            parallelism: 0,
            cron: None,
            priority: 0,
            model: None,
            on: Vec::new(),
        };
        let mut poison = service(&line, 0, 3);
        poison.spec.environment.insert("POISON_FOR_TESTS".to_owned(), place.word().to_owned());
        let waves = first.map(|first| Waves { first: Share::Nodes(first), wait: Duration::from_secs(5) });
        self.mind_no_answer(host, "poison", poison, waves);
    }

    /// A program writes one service without replicas, in a stack of its own, and will write it again.
    pub(crate) fn write_again(&mut self, host: HostNo, again: Loop) {
        if self.now >= again.until {
            return;
        }
        self.queue.push(self.now + again.every, Event::WriteAgain { host, again });
        let version = self.operator.requests;
        let line = ServiceLine {
            name: "looping".to_owned(),
            replicas: Count::Fixed(0),
            behaviour: Behaviour::default(),
            rollout: RolloutPolicy::default(),
            parallelism: 0,
            cron: None,
            priority: 0,
            model: None,
            on: Vec::new(),
        };
        let mut looping = service(&line, version, 0);
        let size = usize::try_from(again.kib).unwrap_or(0) * 1_024;
        looping.spec.environment.insert("BALLAST".to_owned(), "x".repeat(size));
        self.mind_no_answer(host, "loop", looping, None);
    }

    fn mind_no_answer(&mut self, host: HostNo, stack: &str, service: Service, waves: Option<Waves>) {
        let (Ok(stack), Ok(name)) = (StackName::new(stack), ServiceName::new("only")) else { return };
        if !self.hosts.get(host as usize).is_some_and(Host::is_up) {
            return;
        }
        self.checks.state_changed(self.now);
        let id = self.operator.ask(Pending::Loop { host });
        let services = BTreeMap::from([(name, service)]);
        let (policies, ack) = (BTreeMap::new(), Ack::Nodes(1));
        let request = Request::Deploy { stack, services, policies, waves, ack, timeout: PATIENCE };
        self.feed(host, Input::Request(id, Asker::new("nobody"), request));
    }

    /// A host that is not yet admitted asks the first one that answers; it starts once that has.
    pub(crate) fn admit(&mut self, newcomer: HostNo) {
        let answers =
            |host: &&Host| host.no != newcomer && host.is_up() && host.is_admitted && host.paused_until <= self.now;
        let seed =
            self.hosts.iter().find(|host| answers(host) && !self.net.is_parted(newcomer, host.no)).map(|host| host.no);
        let Some(seed) = seed else {
            self.ask_again(newcomer);
            return;
        };
        let asked = &self.hosts[seed as usize];
        let (by, wall) = (asked.id, asked.clock.wall(self.now));
        let entry = self.hosts[newcomer as usize].roster_entry(Some(by), wall);
        let id = self.operator.ask(Pending::Admit { seed, newcomer });
        self.feed(seed, Input::Request(id, Asker::default(), Request::Admit(entry)));
    }

    fn ask_again(&mut self, newcomer: HostNo) {
        let power = self.hosts[newcomer as usize].power;
        self.queue.push(self.now + 500 * MS, Event::AgentStarts { host: newcomer, power });
    }

    /// A node answers.
    pub(crate) fn replied(&mut self, from: HostNo, id: RequestId, reply: Reply) {
        let Some(pending) = self.operator.pending.remove(&id.0) else {
            self.violation("reply", format!("host {from} answers request {} twice: {reply:?}", id.0));
            return;
        };
        match (pending, reply) {
            (Pending::Write { word, about, asked, .. }, Reply::Written(written)) => {
                self.faults.bite(word);
                if about.drops {
                    let detail = format!("host {from} edits a service of which it does not know all fields");
                    self.violation("p2-unknown-kinds", detail);
                }
                let kept = written.durable_on.len() as u64;
                if kept < u64::from(written.wanted) && self.now < asked + SURELY_WAITS {
                    let wanted = written.wanted;
                    let detail = format!("host {from} acknowledges at once a write that {kept} of {wanted} nodes keep");
                    self.violation("p2-durability", detail);
                }
                self.acknowledged(from, written.hlc, about, &written.durable_on);
            }
            (Pending::Loop { .. }, Reply::Written(_) | Reply::Problem(_)) => self.faults.bite("write-loop"),
            (Pending::Admit { newcomer, .. }, Reply::Admitted(admission)) => {
                let latency: Nanos = 4 * self.net.latency(from, newcomer);
                let host = &mut self.hosts[newcomer as usize];
                host.disk.image = Image::with(std::sync::Arc::new(Image::base_of(&admission.records)));
                host.is_admitted = true;
                self.queue.push(self.now + latency, Event::AgentStarts { host: newcomer, power: host.power });
            }
            (Pending::Write { .. }, Reply::Problem(problem)) => self.operator.refused.push(problem.text),
            (Pending::Admit { newcomer, .. }, Reply::Problem(_)) => self.ask_again(newcomer),
            (_, reply) => self.violation("reply", format!("host {from} answers {reply:?}")),
        }
    }
}
