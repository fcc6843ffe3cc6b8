//! The docker driver with a real engine and an image made here from Debian's `busybox-static`; without either it names
//! what it left out.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dunlin_agent::driver::{Drivers, DriversConfig};
use dunlin_core::face::{Adopted, DriverCommand, DriverEvent, Exit, StartFailure, StartSpec};
use dunlin_gossip::id::{ClusterId, NodeId};
use dunlin_gossip::model::{
    AllocId, DriverKind, Image, Protocol, PublishedPort, Reach, ReplicaKey, Resources, ServiceKey, ServiceName, Slot,
    StackName, StopPolicy, Workload,
};
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(60);
const IMAGE: &str = "dunlin-test/busybox:local";

/// Makes the image; none, with the reason said, where that cannot be.
fn image() -> Option<()> {
    let left_out = |why: &str| {
        println!("left out: the docker driver, because {why}");
        None
    };
    let engine = Command::new("docker").args(["version", "--format", "{{.Server.Version}}"]).output();
    if !engine.is_ok_and(|output| output.status.success()) {
        return left_out("no container engine answers here");
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| {
        // Only a static one runs in an image without libraries.
        let libraries = Command::new("ldd").arg(path).output();
        std::path::Path::new(path).exists() && libraries.is_ok_and(|output| !output.status.success())
    });
    let Some(busybox) = busybox else { return left_out("there is no static busybox (apt-get install busybox-static)") };
    let tree = tempfile::tempdir().unwrap();
    let bin = tree.path().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::copy(busybox, bin.join("busybox")).unwrap();
    for name in ["sh", "sleep", "echo", "env", "httpd", "touch"] {
        std::os::unix::fs::symlink("busybox", bin.join(name)).unwrap();
    }
    let tar = Command::new("tar").args(["-C", tree.path().to_str().unwrap(), "-c", "."]).output().unwrap();
    let mut import = Command::new("docker")
        .args(["import", "-", IMAGE])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    import.stdin.take().unwrap().write_all(&tar.stdout).unwrap();
    assert!(import.wait().unwrap().success());
    Some(())
}

/// One node's drivers; its containers are removed with it.
struct Host {
    drivers: Drivers,
    events: mpsc::Receiver<DriverEvent>,
    dir: tempfile::TempDir,
    node: NodeId,
}

struct Clean(NodeId);

impl Drop for Clean {
    fn drop(&mut self) {
        let filter = format!("label=dunlin.node={}", self.0);
        let list = Command::new("docker").args(["ps", "-aq", "--filter", &filter]).output().unwrap();
        for id in String::from_utf8_lossy(&list.stdout).lines() {
            let _best_effort = Command::new("docker").args(["rm", "-f", id]).output();
        }
        let _others_may_use_it = Command::new("docker").args(["rmi", IMAGE]).output();
    }
}

impl Host {
    async fn at(dir: tempfile::TempDir, node: NodeId) -> Self {
        let (sender, events) = mpsc::channel(64);
        let config = DriversConfig {
            data_dir: dir.path().to_owned(),
            cluster: ClusterId([7; 16]),
            node,
            keeper: "/nonexistent".into(),
        };
        let drivers = Drivers::start(config, sender).await.unwrap();
        assert_eq!(drivers.kinds(), [DriverKind::Exec, DriverKind::Docker]);
        Self { drivers, events, dir, node }
    }

    async fn new() -> Self {
        // Unique, so that runs side by side do not meet.
        let unique = std::process::id().to_be_bytes();
        let mut node = [9; 16];
        node[..4].copy_from_slice(&unique);
        let mut host = Self::at(tempfile::tempdir().unwrap(), NodeId(node)).await;
        assert_eq!(host.event().await, DriverEvent::Adopted(Vec::new()));
        host
    }

    async fn event(&mut self) -> DriverEvent {
        tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("no event in time").expect("drivers ended")
    }

    fn alloc(&self) -> AllocId {
        AllocId(self.node.short())
    }

    fn spec(&self, attempt: u32, script: &str) -> StartSpec {
        StartSpec {
            alloc: self.alloc(),
            attempt,
            replica: ReplicaKey {
                service: ServiceKey { stack: StackName::new("t").unwrap(), service: ServiceName::new("web").unwrap() },
                slot: Slot::Number(1),
            },
            node: self.node,
            workload: Workload::Docker(Image {
                image: IMAGE.into(),
                entrypoint: None,
                command: Some(["/bin/sh", "-c", script].map(String::from).to_vec()),
                working_dir: Some("/tmp".into()),
            }),
            environment: BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]),
            ports: Vec::new(),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            limits: Resources::default(),
            stop: StopPolicy { signal: "SIGTERM".into(), grace: Duration::from_secs(5) },
        }
    }

    async fn run(&mut self, spec: StartSpec) {
        let (alloc, attempt) = (spec.alloc, spec.attempt);
        self.drivers.command(DriverCommand::Start(Box::new(spec)));
        assert_eq!(self.event().await, DriverEvent::Started { alloc, attempt, instance: None });
    }

    fn stop(&self, grace: Duration) {
        let stop = StopPolicy { signal: "SIGTERM".into(), grace };
        self.drivers.command(DriverCommand::Stop { alloc: self.alloc(), stop });
    }

    async fn exit(&mut self, attempt: u32) -> Exit {
        match self.event().await {
            DriverEvent::Exited { attempt: of, exit, .. } if of == attempt => exit,
            other => panic!("not an end: {other:?}"),
        }
    }

    async fn log(&self) -> String {
        let mut from = self.drivers.logs(self.alloc(), false, None);
        let mut text = Vec::new();
        while let Some(piece) = tokio::time::timeout(PATIENCE, from.recv()).await.unwrap() {
            text.extend_from_slice(&piece);
        }
        String::from_utf8(text).unwrap()
    }

    async fn log_has(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().await.contains(text) {
            assert!(Instant::now() < deadline, "never came: {text}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn again(self) -> Self {
        let Self { drivers, events, dir, node } = self;
        drop((drivers, events));
        Self::at(dir, node).await
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn containers(node: NodeId) -> usize {
    let filter = format!("label=dunlin.node={node}");
    let list = Command::new("docker").args(["ps", "-aq", "--filter", &filter]).output().unwrap();
    String::from_utf8_lossy(&list.stdout).lines().count()
}

// One test, since it is one engine and one image.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_start_stop_are_adopted_and_forgotten() {
    if image().is_none() {
        return;
    }
    let mut host = Host::new().await;
    let _clean = Clean(host.node);
    let alloc = host.alloc();

    // Environment, output, exit code.
    host.run(host.spec(1, "echo $GREETING; echo err >&2; exit 3")).await;
    assert_eq!(host.exit(1).await, Exit::Code(3));
    let log = host.log().await;
    assert!(log.contains("hello\n") && log.contains("err\n"), "{log}");

    // A stop by signal, in its grace, and a deaf one, after it.
    host.run(host.spec(2, "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done")).await;
    host.log_has("ready").await;
    host.stop(PATIENCE);
    assert_eq!(host.exit(2).await, Exit::Code(0));
    let log = host.log().await;
    assert!(log.starts_with("hello") || log.starts_with("err"), "the attempt before is still there: {log}");
    host.run(host.spec(3, "trap '' TERM; echo deaf; while :; do sleep 0.05; done")).await;
    host.log_has("deaf").await;
    host.stop(Duration::from_millis(100));
    assert_eq!(host.exit(3).await, Exit::Code(137));

    // A published port, and the next agent.
    let mut web = host.spec(4, "echo page > index.html; echo up; exec httpd -f -p 8080");
    let outer = free_port();
    let http = PublishedPort { name: "http".into(), protocol: Protocol::Tcp, inner: 8080, outer, reach: Reach::Flock };
    web.ports = vec![http];
    host.run(web.clone()).await;
    host = host.again().await;
    assert_eq!(
        host.event().await,
        DriverEvent::Adopted(vec![Adopted { alloc, attempt: 4, instance: None, exit: None }])
    );
    assert!(get(outer).contains("page"));
    let mut clash = web;
    (clash.alloc, clash.attempt) = (AllocId(alloc.0 ^ 1), 1);
    let other = clash.alloc;
    host.drivers.command(DriverCommand::Start(Box::new(clash)));
    let failure = StartFailure::PortTaken(outer);
    assert_eq!(host.event().await, DriverEvent::StartFailed { alloc: other, attempt: 1, failure });
    host.drivers.command(DriverCommand::Forget { alloc: other });

    // What is not there is said.
    let mut missing = host.spec(1, "");
    missing.alloc = other;
    missing.workload = Workload::Docker(Image {
        image: "dunlin-test/no-such-image:local".into(),
        entrypoint: None,
        command: None,
        working_dir: None,
    });
    host.drivers.command(DriverCommand::Start(Box::new(missing)));
    match host.event().await {
        DriverEvent::StartFailed { failure: StartFailure::Other(text), .. } => {
            assert!(text.contains("is not on this node"), "{text}");
        }
        failed => panic!("{failed:?}"),
    }

    host.drivers.command(DriverCommand::Forget { alloc });
    assert!(matches!(host.event().await, DriverEvent::Exited { attempt: 4, .. }));
    let deadline = Instant::now() + PATIENCE;
    while containers(host.node) > 0 {
        assert!(Instant::now() < deadline, "containers are left");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn get(port: u16) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = TcpStream::connect(("127.0.0.1", port)).and_then(|mut stream| {
            stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text).map(|_| text)
        });
        match answer {
            Ok(text) if text.contains("200") => return text,
            _ if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            other => panic!("{other:?}"),
        }
    }
}
