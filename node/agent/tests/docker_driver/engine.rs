//! An engine that comes, hangs, and comes back, seen through a socket of the test's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dunlin_core::face::{DriverEvent, Exit, StartFailure};
use dunlin_gossip::model::{AllocId, DriverKind};
use tokio::io::copy_bidirectional;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::host::{ENGINE, Host, PATIENCE, image};

/// Passes every connection on to the engine of this machine, or, while it hangs, nothing at all.
struct Way {
    path: PathBuf,
    hangs: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl Way {
    fn new(dir: &Path) -> Self {
        Self { path: dir.join("engine.sock"), hangs: watch::Sender::new(false), task: None }
    }

    fn open(&mut self) {
        let listener = UnixListener::bind(&self.path).unwrap();
        let hangs = self.hangs.subscribe();
        self.task = Some(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass(stream, hangs.clone()));
            }
        }));
    }

    fn hang(&self, hangs: bool) {
        self.hangs.send_replace(hangs);
    }

    /// The engine is stopped: its socket is gone, its connections break.
    fn close(&mut self) {
        self.task.take().unwrap().abort();
        self.hangs = watch::Sender::new(false);
        std::fs::remove_file(&self.path).unwrap();
    }
}

/// Ends with the way (its sender is dropped), and takes what it has open along.
async fn pass(mut stream: UnixStream, mut hangs: watch::Receiver<bool>) {
    let mut engine = UnixStream::connect(ENGINE.trim_start_matches("unix://")).await.unwrap();
    loop {
        if hangs.wait_for(|hangs| !hangs).await.is_err() {
            return;
        }
        tokio::select! {
            _ended = copy_bidirectional(&mut stream, &mut engine) => return,
            changed = hangs.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

#[tokio::test]
async fn an_engine_may_come_hang_and_go() {
    let Some(image) = image("an_engine_may_come_hang_and_go", &[]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut way = Way::new(dir.path());
    let mut host = Host::with_engine(&format!("unix://{}", way.path.display())).await;
    assert_eq!(host.adopted().await, []);
    assert_eq!(host.drivers.kinds(), [DriverKind::Exec]);
    host.start(host.spec(1, &image.name, ""));
    assert_eq!(host.failure().await, StartFailure::NoDriver);

    way.open();
    let both = DriverEvent::Drivers(vec![DriverKind::Exec, DriverKind::Docker]);
    assert_eq!(host.event().await, both, "an engine that comes is noticed");
    assert_eq!(host.drivers.kinds(), [DriverKind::Exec, DriverKind::Docker]);
    let script = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    host.run(host.spec(2, &image.name, script)).await;
    host.log_has("ready").await;

    way.hang(true);
    let mut other = host.spec(1, &image.name, "");
    other.alloc = AllocId(host.alloc().0 ^ 1);
    assert_eq!(host.event().await, DriverEvent::Drivers(vec![DriverKind::Exec]), "nor one that hangs");
    host.start(other);
    assert_eq!(host.failure().await, StartFailure::NoDriver, "other allocations are answered at once");
    host.stop("SIGTERM", PATIENCE);
    way.hang(false);
    // The signal is sent as soon as it can be.
    let events = [both.clone(), exited(&host, 2, Exit::Code(0))];
    in_any_order(&mut host, events).await;

    host.run(host.spec(3, &image.name, script)).await;
    way.close();
    assert_eq!(host.event().await, DriverEvent::Drivers(vec![DriverKind::Exec]));
    assert_eq!(host.containers().len(), 2, "nothing was touched");
    // Forgotten while nobody can remove it: not for ever.
    host.forget();
    way.open();
    let events = [both, exited(&host, 3, Exit::Code(137))];
    in_any_order(&mut host, events).await;
    host.no_containers().await;
}

fn exited(host: &Host, attempt: u32, exit: Exit) -> DriverEvent {
    DriverEvent::Exited { alloc: host.alloc(), attempt, exit }
}

async fn in_any_order(host: &mut Host, expected: [DriverEvent; 2]) {
    let found = [host.event().await, host.event().await];
    assert!(expected.iter().all(|event| found.contains(event)), "{found:?}");
}

#[tokio::test]
async fn what_an_absent_engine_had_is_removed_when_it_comes() {
    let test = "what_an_absent_engine_had_is_removed_when_it_comes";
    let Some(image) = image(test, &[]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let way = Arc::new(std::sync::Mutex::new(Way::new(dir.path())));
    way.lock().unwrap().open();
    let mut host = Host::with_engine(&format!("unix://{}", way.lock().unwrap().path.display())).await;
    assert_eq!(host.adopted().await, []);
    host.run(host.spec(1, &image.name, "while :; do sleep 0.05; done")).await;
    host = host.again(async || way.lock().unwrap().close()).await;
    assert_eq!(host.adopted().await, [], "nobody can say");
    assert_eq!(host.containers().len(), 1);
    way.lock().unwrap().open();
    assert!(matches!(host.event().await, DriverEvent::Drivers(_)));
    host.no_containers().await;
}
