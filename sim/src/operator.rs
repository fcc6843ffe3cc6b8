//! The operators: people and programs that write at nodes of their choice, and remember what they were promised.

use std::collections::{BTreeMap, BTreeSet};

use dunlin_core::face::{Ack, Input, Reply, Request, RequestId};
use dunlin_gossip::model::{
    HealthCheck, Mode, PortSpec, Prefer, Probe, Protocol, ReplicaKey, Resources, RestartCondition, RestartPolicy,
    Service, ServiceKey, ServiceName, ServiceSpec, Slot, StackName, StopPolicy,
};
use dunlin_gossip::time::Duration;

use crate::disk::Image;
use crate::event::Event;
use crate::net::HostNo;
use crate::queue::{MS, Nanos};
use crate::scenario::{Count, ServiceLine};
use crate::workload::Behaviour;
use crate::world::World;

/// An operator gives a node so long to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was written to one service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wrote {
    /// Which version; none when only the number of replicas was written.
    pub(crate) version: Option<u64>,
    pub(crate) replicas: u32,
}

/// A write that a node has acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    pub(crate) hlc: u64,
    pub(crate) by: HostNo,
    /// What it wrote; empty for a removal.
    pub(crate) wrote: BTreeMap<ServiceKey, Wrote>,
}

#[derive(Debug)]
enum Pending {
    Write { host: HostNo, wrote: BTreeMap<ServiceKey, Wrote> },
    Admit { seed: HostNo, newcomer: HostNo },
}

/// All operators together.
#[derive(Debug, Default)]
pub(crate) struct Operator {
    requests: u64,
    versions: u64,
    pending: BTreeMap<u64, Pending>,
    /// Acknowledged writes, in order of acknowledgement.
    pub(crate) promises: Vec<Promise>,
    /// Writes that were refused or ended in a time-out.
    pub(crate) refused: Vec<String>,
    /// How often several wrote at the same moment.
    pub(crate) conflicts: u64,
}

impl Operator {
    /// How many writes were acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.promises.len()
    }

    /// A node is gone: what it was asked will not be answered.
    pub(crate) fn forget(&mut self, host: HostNo) {
        self.pending.retain(|_, pending| match pending {
            Pending::Write { host: asked, .. } | Pending::Admit { seed: asked, .. } => *asked != host,
        });
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

fn service(line: &ServiceLine, version: u64, replicas: u32) -> Service {
    let behaviour = Behaviour { version, ..line.behaviour };
    Service {
        mode: Mode::Replicated(replicas),
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
                condition: RestartCondition::Any,
                delay: Duration::from_secs(1),
                max_attempts: None,
                window: Duration::from_secs(5),
            },
            stop: StopPolicy { signal: "SIGTERM".to_owned(), grace: Duration::from_secs(5) },
            reservation: behaviour.reserve,
            limits: Resources::default(),
            constraints: Vec::new(),
            priority: 0,
            prefer: Prefer::Ready,
        },
    }
}

impl World {
    fn host_count(&self) -> u32 {
        u32::try_from(self.hosts.len()).unwrap_or(u32::MAX)
    }

    /// Any host whose agent answers.
    fn any_up(&mut self, except: &BTreeSet<HostNo>) -> Option<HostNo> {
        let up = |h: &&crate::host::Host| h.is_up() && h.paused_until <= self.now && !except.contains(&h.no);
        let up: Vec<HostNo> = self.hosts.iter().filter(up).map(|h| h.no).collect();
        self.chance.pick(&up).copied()
    }

    /// So many operators deploy the whole stack at different nodes at this moment, each its own version.
    pub(crate) fn deploy(&mut self, writers: u32) {
        let mut asked = BTreeSet::new();
        let hosts = self.host_count();
        let scenario = std::sync::Arc::clone(&self.scenario);
        self.truth.forget_losses();
        for _ in 0..writers {
            let Some(host) = self.any_up(&asked) else { break };
            asked.insert(host);
            self.operator.versions += 1;
            let version = self.operator.versions;
            let (mut services, mut wrote, mut missing) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
            for line in &scenario.services {
                let Some(key) = service_key(&line.name) else { continue };
                let replicas = line.replicas.among(hosts);
                services.insert(key.service.clone(), service(line, version, replicas));
                wrote.insert(key.clone(), Wrote { version: Some(version), replicas });
                missing.extend((1..=replicas).map(|n| ReplicaKey { service: key.clone(), slot: Slot::Number(n) }));
            }
            if writers == 1 {
                self.truth.deploying(self.now, version, missing);
            }
            let request = Request::Deploy { stack: stack(), services, ack: Ack::Default, timeout: PATIENCE };
            self.write(host, wrote, request);
        }
        if asked.len() > 1 {
            self.operator.conflicts += 1;
        }
    }

    pub(crate) fn scale(&mut self, name: &str, replicas: Count) {
        let replicas = replicas.among(self.host_count());
        let (Some(host), Some(service)) = (self.any_up(&BTreeSet::new()), service_key(name)) else { return };
        self.truth.forget_losses();
        let wrote = BTreeMap::from([(service.clone(), Wrote { version: None, replicas })]);
        let request = Request::Scale { service, replicas, ack: Ack::Default, timeout: PATIENCE };
        self.write(host, wrote, request);
    }

    pub(crate) fn remove(&mut self) {
        let Some(host) = self.any_up(&BTreeSet::new()) else { return };
        self.truth.forget_losses();
        let request = Request::Remove { stack: stack(), ack: Ack::Default, timeout: PATIENCE };
        self.write(host, BTreeMap::new(), request);
    }

    fn write(&mut self, host: HostNo, wrote: BTreeMap<ServiceKey, Wrote>, request: Request) {
        self.checks.state_changed(self.now);
        let id = self.operator.ask(Pending::Write { host, wrote });
        self.feed(host, Input::Request(id, request));
    }

    /// A host that is not yet admitted asks the first one; it starts once that has answered.
    pub(crate) fn admit(&mut self, newcomer: HostNo) {
        let seed = 0;
        let (by, wall) = (self.hosts[0].id, self.hosts[0].clock.wall(self.now));
        let entry = self.hosts[newcomer as usize].roster_entry(Some(by), wall);
        if !self.hosts[0].is_up() {
            let power = self.hosts[newcomer as usize].power;
            self.queue.push(self.now + 500 * MS, Event::AgentStarts { host: newcomer, power });
            return;
        }
        let id = self.operator.ask(Pending::Admit { seed, newcomer });
        self.feed(seed, Input::Request(id, Request::Admit(entry)));
    }

    /// A node answers.
    pub(crate) fn replied(&mut self, from: HostNo, id: RequestId, reply: Reply) {
        let Some(pending) = self.operator.pending.remove(&id.0) else {
            self.violation("reply", format!("host {from} answers request {} twice: {reply:?}", id.0));
            return;
        };
        match (pending, reply) {
            (Pending::Write { wrote, .. }, Reply::Written(written)) => {
                if written.durable_on.is_empty() {
                    self.violation(
                        "p2-durability",
                        format!("host {from} acknowledges a write that is durable nowhere"),
                    );
                }
                self.operator.promises.push(Promise { hlc: written.hlc, by: from, wrote });
            }
            (Pending::Admit { newcomer, .. }, Reply::Admitted(admission)) => {
                let latency: Nanos = 4 * self.net.latency();
                let host = &mut self.hosts[newcomer as usize];
                host.disk.image = Image::with(std::sync::Arc::new(Image::base_of(&admission.records)));
                host.is_admitted = true;
                self.queue.push(self.now + latency, Event::AgentStarts { host: newcomer, power: host.power });
            }
            (Pending::Write { .. }, Reply::Problem(problem)) => self.operator.refused.push(problem.text),
            (_, reply) => self.violation("reply", format!("host {from} answers {reply:?}")),
        }
    }
}
