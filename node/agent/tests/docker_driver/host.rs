//! One node's drivers, an image for them, and their cleaning up.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use dunlin_agent::driver::{Drivers, DriversConfig};
use dunlin_agent::resolvers::Resolvers;
use dunlin_core::face::{Adopted, DriverCommand, DriverEvent, Exit, ProbeOutcome, StartFailure, StartSpec};
use dunlin_gossip::id::{ClusterId, NodeId};
use dunlin_gossip::model::{
    AllocId, Image as ImageSpec, Probe, Protocol, PublishedPort, Reach, ReplicaKey, Resources, ServiceKey, ServiceName,
    Slot, StackName, StopPolicy, Workload,
};
use dunlin_test_host::engine::{Clean, Image, containers};
use dunlin_test_host::wait::{until, until_true};
use tokio::sync::mpsc;

/// Far beyond anything that works: what takes longer is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The engine of this machine.
pub(crate) const ENGINE: &str = "unix:///var/run/docker.sock";

/// Keeps the nodes of one test process apart.
static NODES: AtomicU8 = AtomicU8::new(0);

/// The image for a test; none, with the reason noted, where there can be none.
pub(crate) fn image(test: &str, changes: &[&str]) -> Option<Image> {
    Image::make(changes).map_err(|why| dunlin_test_host::left_out(test, &why)).ok()
}

/// One node's drivers. Its containers are removed with it.
pub(crate) struct Host {
    pub(crate) drivers: Drivers,
    events: mpsc::Receiver<DriverEvent>,
    dir: tempfile::TempDir,
    cluster: ClusterId,
    node: NodeId,
    engine: String,
    clean: Option<Clean>,
}

impl Host {
    pub(crate) async fn new() -> Self {
        let mut host = Self::with_engine(ENGINE).await;
        assert_eq!(host.adopted().await, []);
        host
    }

    pub(crate) async fn with_engine(engine: &str) -> Self {
        // Unique, so that runs side by side do not meet.
        let mut node = [NODES.fetch_add(1, Ordering::Relaxed); 16];
        node[..4].copy_from_slice(&std::process::id().to_be_bytes());
        let node = NodeId(node);
        let clean = Some(Clean(format!("dunlin.node={node}")));
        Self::at(tempfile::tempdir().unwrap(), ClusterId([7; 16]), node, engine.to_owned(), clean).await
    }

    async fn at(
        dir: tempfile::TempDir,
        cluster: ClusterId,
        node: NodeId,
        engine: String,
        clean: Option<Clean>,
    ) -> Self {
        let (sender, events) = mpsc::channel(64);
        let config = DriversConfig {
            data_dir: dir.path().to_owned(),
            cluster,
            node,
            keeper: "/nonexistent".into(),
            gpus: Vec::new(),
            resolvers: Arc::new(Resolvers::new("dunlin.internal")),
        };
        let drivers = Drivers::start_with_engine(config, engine.clone(), sender).await.unwrap();
        Self { drivers, events, dir, cluster, node, engine, clean }
    }

    /// Another node, or the same node of another cluster, on the same machine.
    pub(crate) async fn neighbour(&self, cluster: ClusterId, node: NodeId) -> Self {
        Self::at(tempfile::tempdir().unwrap(), cluster, node, self.engine.clone(), None).await
    }

    /// The agent goes, another comes.
    pub(crate) async fn again(self, meanwhile: impl AsyncFnOnce()) -> Self {
        let Self { drivers, events, dir, cluster, node, engine, clean } = self;
        drop((drivers, events));
        meanwhile().await;
        Self::at(dir, cluster, node, engine, clean).await
    }

    pub(crate) const fn node(&self) -> NodeId {
        self.node
    }

    pub(crate) async fn event(&mut self) -> DriverEvent {
        loop {
            let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
            match event.expect("no event in time").expect("drivers ended") {
                DriverEvent::Used { .. } => {}
                event => return event,
            }
        }
    }

    pub(crate) async fn adopted(&mut self) -> Vec<Adopted> {
        match self.event().await {
            DriverEvent::Adopted(list) => list,
            other => panic!("first of all comes the list, not {other:?}"),
        }
    }

    pub(crate) fn alloc(&self) -> AllocId {
        AllocId(self.node.short())
    }

    /// A shell with this script, in this image.
    pub(crate) fn spec(&self, attempt: u32, image: &str, script: &str) -> StartSpec {
        let command = Some(["/bin/sh", "-c", script].map(String::from).to_vec());
        StartSpec {
            alloc: self.alloc(),
            attempt,
            replica: ReplicaKey {
                service: ServiceKey { stack: StackName::new("t").unwrap(), service: ServiceName::new("web").unwrap() },
                slot: Slot::Number(1),
            },
            node: self.node,
            workload: Workload::Docker(ImageSpec {
                image: image.into(),
                entrypoint: None,
                command,
                working_dir: Some("/tmp".into()),
            }),
            environment: BTreeMap::from([
                ("GREETING".to_owned(), "hello".to_owned()),
                ("DUNLIN_EPOCH".to_owned(), "77".to_owned()),
            ]),
            ports: Vec::new(),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            limits: Resources::default(),
            pids_limit: 0,
            devices: Vec::new(),
            stop: StopPolicy { signal: "SIGTERM".into(), grace: Duration::from_secs(5) },
            lease: None,
        }
    }

    pub(crate) fn start(&self, spec: StartSpec) {
        self.drivers.command(DriverCommand::Start(Box::new(spec)));
    }

    /// What a shell inside says.
    pub(crate) async fn probe(&mut self, script: &str, timeout: Duration) -> ProbeOutcome {
        let probe = Probe::Command(["/bin/sh", "-c", script].map(String::from).to_vec());
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let command =
            DriverCommand::Probe { alloc: self.alloc(), token: 7, probe, ports: Vec::new(), address, timeout };
        self.drivers.command(command);
        match self.event().await {
            DriverEvent::Probed { outcome, .. } => outcome,
            other => panic!("not a probe's outcome: {other:?}"),
        }
    }

    pub(crate) async fn run(&mut self, spec: StartSpec) {
        let (alloc, attempt) = (spec.alloc, spec.attempt);
        self.start(spec);
        assert_eq!(self.event().await, DriverEvent::Started { alloc, attempt, instance: None });
    }

    pub(crate) fn stop(&self, signal: &str, grace: Duration) {
        let stop = StopPolicy { signal: signal.into(), grace };
        self.drivers.command(DriverCommand::Stop { alloc: self.alloc(), stop });
    }

    pub(crate) fn forget(&self) {
        self.drivers.command(DriverCommand::Forget { alloc: self.alloc() });
    }

    pub(crate) async fn exit(&mut self, attempt: u32) -> Exit {
        match self.event().await {
            DriverEvent::Exited { attempt: of, exit, .. } if of == attempt => exit,
            other => panic!("not an end: {other:?}"),
        }
    }

    pub(crate) async fn failure(&mut self) -> StartFailure {
        match self.event().await {
            DriverEvent::StartFailed { failure, .. } => failure,
            other => panic!("it should fail: {other:?}"),
        }
    }

    pub(crate) async fn log(&self, tail: Option<usize>) -> String {
        collect(self.drivers.logs(self.alloc(), false, tail)).await
    }

    pub(crate) async fn log_has(&self, text: &str) {
        until_true(&format!("{text:?} in the log"), PATIENCE, async || self.log(None).await.contains(text)).await;
    }

    /// The ids of this node's containers, running or not.
    pub(crate) fn containers(&self) -> Vec<String> {
        containers(&format!("dunlin.node={}", self.node))
    }

    pub(crate) async fn no_containers(&self) {
        until_true("no container to be left", PATIENCE, async || self.containers().is_empty()).await;
    }
}

/// Everything that a log says to its end.
pub(crate) async fn collect(mut from: mpsc::Receiver<bytes::Bytes>) -> String {
    let mut text = Vec::new();
    while let Some(piece) = tokio::time::timeout(PATIENCE, from.recv()).await.expect("the log does not end") {
        text.extend_from_slice(&piece);
    }
    String::from_utf8(text).unwrap()
}

pub(crate) fn http(inner: u16, outer: u16) -> PublishedPort {
    PublishedPort { name: "http".into(), protocol: Protocol::Tcp, inner, outer, reach: Reach::Flock }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The first answer with status 200 to a request.
pub(crate) fn get(port: u16) -> String {
    until("an answer with status 200", PATIENCE, || {
        let answer = TcpStream::connect(("127.0.0.1", port)).and_then(|mut stream| {
            stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text).map(|_| text)
        });
        match answer {
            Ok(text) if text.contains("200") => Ok(text),
            other => Err(format!("{other:?}")),
        }
    })
}
