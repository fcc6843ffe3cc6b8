//! The exec driver with real processes. The test program is its own keeper (`exec_driver keep --dir D`), so that this
//! needs no other binary; that is why it has its own `main`.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dunlin_agent::driver::{Drivers, DriversConfig};
use dunlin_agent::resolvers::Resolvers;
use dunlin_core::face::{Adopted, DriverCommand, DriverEvent, Exit, ProbeOutcome, StartFailure, StartSpec};
use dunlin_gossip::id::{ClusterId, NodeId};
use dunlin_gossip::model::{
    AllocId, Exec, Probe, Protocol, PublishedPort, Reach, ReplicaKey, Resources, ServiceKey, ServiceName, Slot,
    StackName, StopPolicy, Workload,
};
use dunlin_test_host::wait::until_true;
use tokio::sync::mpsc;

/// Far beyond anything that works: what takes longer is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// The allocation of every test here: this process's own, since its mark and control group are the host's.
fn alloc() -> AllocId {
    AllocId(0xa110c << 32 | u64::from(std::process::id()))
}

/// What a keeper may keep in memory; there is one beside every process.
const KEEPER_KIB: u64 = 2048;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let first = args.next();
    if first.as_deref() == Some("keep") {
        let code = dunlin_agent::keep::main(args);
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    let filter = first.filter(|word| !word.starts_with('-')).unwrap_or_default();
    let mut failed = Vec::new();
    for (name, test) in TESTS.iter().filter(|(name, _)| name.contains(&filter)) {
        let begun = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(test));
        println!("test {name} ... {} ({:?})", if ended.is_ok() { "ok" } else { "FAILED" }, begun.elapsed());
        if ended.is_err() {
            failed.push(name);
        }
    }
    println!("\n{} failed: {failed:?}", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

const TESTS: &[(&str, fn())] = &[
    ("exit_codes_and_signals_are_told", || block_on(exit_codes_and_signals_are_told())),
    ("a_stop_is_a_signal_then_a_kill", || block_on(a_stop_is_a_signal_then_a_kill())),
    ("nothing_of_it_is_left", || block_on(nothing_of_it_is_left())),
    ("the_next_agent_adopts", || block_on(the_next_agent_adopts())),
    ("an_end_that_nobody_watched_is_told", || block_on(an_end_that_nobody_watched_is_told())),
    ("a_killed_keeper_takes_its_workload_along", || block_on(a_killed_keeper_takes_its_workload_along())),
    ("what_cannot_start_says_why", || block_on(what_cannot_start_says_why())),
    ("a_taken_port_is_found_first", || block_on(a_taken_port_is_found_first())),
    ("the_environment_is_what_was_given", || block_on(the_environment_is_what_was_given())),
    ("probes_run_inside", || block_on(probes_run_inside())),
    ("other_nodes_are_left_alone", || block_on(other_nodes_are_left_alone())),
    ("a_long_path_is_no_obstacle", || block_on(a_long_path_is_no_obstacle())),
    ("an_order_before_the_list_waits_for_it", || block_on(an_order_before_the_list_waits_for_it())),
    ("repeated_and_late_commands", || block_on(repeated_and_late_commands())),
    ("a_stopped_keeper_is_replaced_by_the_agent", || block_on(a_stopped_keeper_is_replaced_by_the_agent())),
    ("limits_are_enforced", || block_on(limits_are_enforced())),
    ("a_keeper_is_small", || block_on(a_keeper_is_small())),
    ("a_lease_ends_what_runs_under_it", || block_on(a_lease_ends_what_runs_under_it())),
    ("a_lease_ends_it_without_an_agent", || block_on(a_lease_ends_it_without_an_agent())),
];

fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

/// One node's drivers on a directory of their own.
struct Host {
    drivers: Drivers,
    events: mpsc::Receiver<DriverEvent>,
    dir: PathBuf,
    kept: Arc<Kept>,
}

/// A directory in which no keeper survives the test, failed tests' neither.
struct Kept(tempfile::TempDir);

impl Drop for Kept {
    fn drop(&mut self) {
        let mut open = vec![self.0.path().to_owned()];
        while let Some(dir) = open.pop() {
            for path in std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
                if path.ends_with("started") {
                    let started: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
                    let keeper = &started["keeper"];
                    let pid = keeper["pid"].as_i64().unwrap();
                    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                    let start = keeper["start"].to_string();
                    if stat.split(' ').any(|field| field == start) {
                        kill(pid, "CONT");
                        kill(pid, "TERM");
                    }
                } else if path.is_dir() {
                    open.push(path);
                }
            }
        }
    }
}

impl Host {
    async fn new() -> Self {
        let kept = Arc::new(Kept(tempfile::tempdir().unwrap()));
        let mut host = Self::at(kept.0.path().to_owned(), 2, kept).await;
        assert_eq!(host.adopted().await, []);
        host
    }

    async fn at(dir: PathBuf, node: u8, kept: Arc<Kept>) -> Self {
        let (sender, events) = mpsc::channel(64);
        let config = DriversConfig {
            data_dir: dir.clone(),
            cluster: ClusterId([1; 16]),
            node: NodeId([node; 16]),
            keeper: std::env::current_exe().unwrap(),
            gpus: Vec::new(),
            resolvers: Arc::new(Resolvers::new("dunlin.internal")),
        };
        Self { drivers: Drivers::start(config, sender).await.unwrap(), events, dir, kept }
    }

    /// The agent goes, another comes.
    async fn again(self, meanwhile: impl AsyncFnOnce()) -> Self {
        let Self { drivers, events, dir, kept } = self;
        drop((drivers, events));
        meanwhile().await;
        Self::at(dir, 2, kept).await
    }

    async fn event(&mut self) -> DriverEvent {
        loop {
            let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
            match event.expect("no event in time").expect("drivers ended") {
                DriverEvent::Used { .. } => {}
                event => return event,
            }
        }
    }

    async fn adopted(&mut self) -> Vec<Adopted> {
        match self.event().await {
            DriverEvent::Adopted(list) => list,
            other => panic!("first of all comes the list, not {other:?}"),
        }
    }

    async fn run(&mut self, attempt: u32, script: &str) {
        self.drivers.command(DriverCommand::Start(Box::new(spec(attempt, script))));
        assert_eq!(self.event().await, DriverEvent::Started { alloc: alloc(), attempt, instance: None });
    }

    async fn exit(&mut self, attempt: u32) -> Exit {
        match self.event().await {
            DriverEvent::Exited { alloc: by, attempt: of, exit } if (by, of) == (alloc(), attempt) => exit,
            other => panic!("not an end: {other:?}"),
        }
    }

    fn stop(&self, signal: &str, grace: Duration) {
        let stop = StopPolicy { signal: signal.into(), grace };
        self.drivers.command(DriverCommand::Stop { alloc: alloc(), stop });
    }

    async fn log(&self, tail: Option<usize>) -> String {
        let mut from = self.drivers.logs(alloc(), false, tail);
        let mut text = Vec::new();
        while let Some(piece) = tokio::time::timeout(PATIENCE, from.recv()).await.unwrap() {
            text.extend_from_slice(&piece);
        }
        String::from_utf8(text).unwrap()
    }

    async fn log_has(&self, text: &str) {
        until_true(&format!("{text:?} in the log"), PATIENCE, async || self.log(None).await.contains(text)).await;
    }

    fn record(&self, attempt: u32, name: &str) -> serde_json::Value {
        let path = self.dir.join(format!("allocs/{}/{attempt}/{name}", alloc()));
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn keeper(&self, attempt: u32) -> i32 {
        i32::try_from(self.record(attempt, "started")["keeper"]["pid"].as_i64().unwrap()).unwrap()
    }
}

fn spec(attempt: u32, script: &str) -> StartSpec {
    StartSpec {
        alloc: alloc(),
        attempt,
        replica: ReplicaKey {
            service: ServiceKey { stack: StackName::new("test").unwrap(), service: ServiceName::new("web").unwrap() },
            slot: Slot::Number(1),
        },
        node: NodeId([2; 16]),
        workload: Workload::Exec(Exec {
            argv: ["/bin/sh", "-c", script].map(String::from).to_vec(),
            working_dir: None,
        }),
        environment: BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]),
        ports: Vec::new(),
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        limits: Resources::default(),
        pids_limit: 0,
        devices: Vec::new(),
        stop: StopPolicy { signal: "SIGTERM".into(), grace: Duration::from_secs(5) },
        lease: None,
    }
}

fn kill(pid: i64, signal: &str) {
    let _gone = std::process::Command::new("/bin/kill").args([format!("-{signal}"), pid.to_string()]).output();
}

fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

/// The numbers that a script wrote on lines "<name> <pid>".
fn pid_in(log: &str, name: &str) -> String {
    let line = log.lines().find(|line| line.starts_with(name)).unwrap();
    line.rsplit(' ').next().unwrap().to_owned()
}

async fn exit_codes_and_signals_are_told() {
    let mut host = Host::new().await;
    host.run(1, "echo out; echo err >&2; exit 3").await;
    assert_eq!(host.exit(1).await, Exit::Code(3));
    assert_eq!(host.log(None).await, "out\nerr\n");
    host.run(2, "kill -9 $$").await;
    assert_eq!(host.exit(2).await, Exit::Signal(9));
    host.run(3, "echo third").await;
    assert_eq!(host.exit(3).await, Exit::Code(0));
    assert_eq!(host.log(None).await, "out\nerr\nthird\n", "one log over all runs");
    assert_eq!(host.log(Some(1)).await, "third\n");
}

async fn a_stop_is_a_signal_then_a_kill() {
    let mut host = Host::new().await;
    host.run(1, "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done").await;
    host.log_has("ready").await;
    host.stop("SIGTERM", PATIENCE);
    assert_eq!(host.exit(1).await, Exit::Code(0));
    assert!(host.log(None).await.contains("bye"));
    host.run(2, "trap '' TERM; echo deaf; while :; do sleep 0.01; done").await;
    host.log_has("deaf").await;
    host.stop("SIGTERM", Duration::from_millis(50));
    assert_eq!(host.exit(2).await, Exit::Signal(9));
    host.run(3, "trap 'exit 7' USR1; echo third; while :; do sleep 0.01; done").await;
    host.log_has("third").await;
    host.stop("USR1", PATIENCE);
    assert_eq!(host.exit(3).await, Exit::Code(7));
}

async fn nothing_of_it_is_left() {
    let mut host = Host::new().await;
    // A grandchild in a session of its own, deaf to everything, that outlives its parents.
    let script = "setsid sh -c 'trap \"\" TERM HUP; echo stray $$; while :; do sleep 0.01; done' & \
                  while ! grep -q stray ../log; do sleep 0.01; done; exit 4";
    host.run(1, script).await;
    assert_eq!(host.exit(1).await, Exit::Code(4));
    let stray = pid_in(&host.log(None).await, "stray");
    assert!(!runs(&stray), "{stray} is still there after the end was told");
    let cgroups = host.record(1, "spec")["cgroups"].clone();
    for group in cgroups.as_array().unwrap() {
        assert!(!Path::new(group.as_str().unwrap()).exists(), "{group} is still there");
    }
}

async fn the_next_agent_adopts() {
    let mut host = Host::new().await;
    // Writes a line for each file that the test makes, so that what was written when is certain.
    let script = "echo me $$; n=0; while :; do n=$((n+1)); while [ ! -e go$n ]; do sleep 0.01; done; echo line $n; \
                  [ $n = 3 ] && exit 5; done";
    host.run(1, script).await;
    host.log_has("me ").await;
    let work = host.dir.join(format!("allocs/{}/work", alloc()));
    let go = |n: u32| std::fs::write(work.join(format!("go{n}")), "").unwrap();
    go(1);
    host.log_has("line 1").await;
    let pid = pid_in(&host.log(None).await, "me");
    let log = host.dir.join(format!("allocs/{}/log", alloc()));
    let meanwhile = async || {
        go(2);
        until_true("output while no agent is there", PATIENCE, async || {
            std::fs::read_to_string(&log).unwrap().contains("line 2")
        })
        .await;
    };
    host = host.again(meanwhile).await;
    assert_eq!(host.adopted().await, [Adopted { alloc: alloc(), attempt: 1, instance: None, exit: None }]);
    assert!(runs(&pid), "it was not disturbed");
    let mut follower = host.drivers.logs(alloc(), true, None);
    go(3);
    assert_eq!(host.exit(1).await, Exit::Code(5));
    host.drivers.command(DriverCommand::Forget { alloc: alloc() });
    let mut text = String::new();
    while let Some(piece) = tokio::time::timeout(PATIENCE, follower.recv()).await.expect("following ends with it") {
        text.push_str(std::str::from_utf8(&piece).unwrap());
    }
    assert_eq!(text, format!("me {pid}\nline 1\nline 2\nline 3\n"));
    assert_eq!(host.log(None).await, text, "logs outlive their allocation");
    assert!(!host.dir.join(format!("allocs/{}/1", alloc())).exists() && !work.exists());
}

async fn an_end_that_nobody_watched_is_told() {
    let mut host = Host::new().await;
    host.run(1, "echo me $$; while [ ! -e go ]; do sleep 0.01; done; exit 6").await;
    host.log_has("me ").await;
    let dir = host.dir.join(format!("allocs/{}", alloc()));
    let meanwhile = async || {
        std::fs::write(dir.join("work/go"), "").unwrap();
        until_true("the exit record", PATIENCE, async || dir.join("1/exit").exists()).await;
    };
    host = host.again(meanwhile).await;
    let exit = Some(Exit::Code(6));
    assert_eq!(host.adopted().await, [Adopted { alloc: alloc(), attempt: 1, instance: None, exit }]);
    host = host.again(async || {}).await;
    assert_eq!(host.adopted().await, [Adopted { alloc: alloc(), attempt: 1, instance: None, exit }], "until forgotten");
}

async fn a_killed_keeper_takes_its_workload_along() {
    let mut host = Host::new().await;
    let script =
        "setsid sh -c 'echo stray $$; while :; do sleep 0.01; done' & echo me $$; while :; do sleep 0.01; done";
    host.run(1, script).await;
    host.log_has("me ").await;
    host.log_has("stray ").await;
    let log = host.log(None).await;
    kill(host.keeper(1).into(), "KILL");
    assert_eq!(host.exit(1).await, Exit::Lost);
    assert!(!runs(&pid_in(&log, "me")) && !runs(&pid_in(&log, "stray")));
    // The same while no agent watches.
    host.run(2, "echo second $$; while :; do sleep 0.01; done").await;
    host.log_has("second ").await;
    let second = pid_in(&host.log(None).await, "second");
    let keeper = host.keeper(2);
    host = host.again(async || kill(keeper.into(), "KILL")).await;
    let adopted = host.adopted().await;
    match adopted.as_slice() {
        // Adopted in the very moment in which the keeper dies: its end follows.
        [Adopted { attempt: 2, exit: None, .. }] => assert_eq!(host.exit(2).await, Exit::Lost),
        [Adopted { attempt: 2, exit: Some(Exit::Lost), .. }] => {}
        other => panic!("{other:?}"),
    }
    assert!(!runs(&second));
}

async fn what_cannot_start_says_why() {
    let mut host = Host::new().await;
    let mut missing = spec(1, "");
    missing.workload = Workload::Exec(Exec { argv: vec!["no-such-program".into()], working_dir: None });
    let mut nowhere = spec(2, "true");
    nowhere.workload =
        Workload::Exec(Exec { argv: vec!["/bin/true".into()], working_dir: Some("/no/such/dir".into()) });
    let mut unlawful = spec(3, "true");
    unlawful.workload = Workload::Exec(Exec { argv: vec!["/etc/passwd".into()], working_dir: None });
    let cases =
        [(missing, "no program \"no-such-program\""), (nowhere, "no working directory"), (unlawful, "chmod +x")];
    for (spec, text) in cases {
        host.drivers.command(DriverCommand::Start(Box::new(spec)));
        match host.event().await {
            DriverEvent::StartFailed { failure: StartFailure::Other(said), .. } => {
                assert!(said.contains(text), "{said}")
            }
            other => panic!("{other:?}"),
        }
    }
    host.run(4, "exit 0").await;
    assert_eq!(host.exit(4).await, Exit::Code(0));
}

fn port(outer: u16) -> PublishedPort {
    PublishedPort { name: "http".into(), protocol: Protocol::Tcp, inner: outer, outer, reach: Reach::Flock }
}

async fn a_taken_port_is_found_first() {
    let mut host = Host::new().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let number = taken.local_addr().unwrap().port();
    let mut with_port = spec(1, "echo started");
    with_port.ports = vec![port(number)];
    host.drivers.command(DriverCommand::Start(Box::new(with_port)));
    let failure = StartFailure::PortTaken(number);
    assert_eq!(host.event().await, DriverEvent::StartFailed { alloc: alloc(), attempt: 1, failure });
    assert_eq!(host.log(None).await, "");
}

async fn the_environment_is_what_was_given() {
    let mut host = Host::new().await;
    host.run(1, "env; pwd; ls -l /proc/self/fd").await;
    assert_eq!(host.exit(1).await, Exit::Code(0));
    let log = host.log(None).await;
    let work = host.dir.join(format!("allocs/{}/work", alloc())).display().to_string();
    for expected in ["GREETING=hello", &format!("HOME={work}"), &format!("DUNLIN_ALLOC={}", alloc()), &work] {
        assert!(log.lines().any(|line| line == expected), "{expected} in {log}");
    }
    assert!(!log.contains("CARGO"), "nothing of the agent's own: {log}");
    let open: Vec<&str> = log.lines().filter(|line| line.contains(" -> ")).collect();
    assert_eq!(open.len(), 4, "input, output, errors and ls' own directory: {open:?}");
}

async fn probes_run_inside() {
    let mut host = Host::new().await;
    host.run(1, "touch here; echo ready; while :; do sleep 0.01; done").await;
    host.log_has("ready").await;
    let mut ask = async |token, script: &str, timeout| {
        let probe = Probe::Command(["/bin/sh", "-c", script].map(String::from).to_vec());
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        host.drivers.command(DriverCommand::Probe {
            alloc: alloc(),
            token,
            probe,
            ports: Vec::new(),
            address,
            timeout,
        });
        match host.event().await {
            DriverEvent::Probed { alloc: by, token: of, outcome } if (by, of) == (alloc(), token) => outcome,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ask(1, "test -e here && test $GREETING = hello", PATIENCE).await, ProbeOutcome::Passed);
    let sad = ProbeOutcome::Failed("/bin/sh exited with code 2: not well".into());
    assert_eq!(ask(2, "echo fine; echo not well >&2; exit 2", PATIENCE).await, sad);
    let slow = ask(3, "echo $$ > pid; sleep 60", Duration::from_millis(200)).await;
    assert!(matches!(&slow, ProbeOutcome::Failed(text) if text.contains("no answer within")), "{slow:?}");
    let pid = std::fs::read_to_string(host.dir.join(format!("allocs/{}/work/pid", alloc()))).unwrap();
    until_true("the end of the probe", PATIENCE, async || !runs(pid.trim())).await;
}

async fn other_nodes_are_left_alone() {
    let mut host = Host::new().await;
    host.run(1, "echo me $$; while :; do sleep 0.01; done").await;
    host.log_has("me ").await;
    let pid = pid_in(&host.log(None).await, "me");
    let mut stranger = Host::at(host.dir.clone(), 3, Arc::clone(&host.kept)).await;
    assert_eq!(stranger.adopted().await, []);
    assert!(runs(&pid));
    host.stop("KILL", PATIENCE);
    assert_eq!(host.exit(1).await, Exit::Signal(9));
}

async fn a_long_path_is_no_obstacle() {
    let kept = Arc::new(Kept(tempfile::tempdir().unwrap()));
    let dir = kept.0.path().join("d".repeat(100)).join("e".repeat(100));
    let mut host = Host::at(dir, 2, kept).await;
    assert_eq!(host.adopted().await, []);
    host.run(1, "while :; do sleep 0.01; done").await;
    host = host.again(async || {}).await;
    assert_eq!(host.adopted().await, [Adopted { alloc: alloc(), attempt: 1, instance: None, exit: None }]);
    host.stop("KILL", PATIENCE);
    assert_eq!(host.exit(1).await, Exit::Signal(9));
}

async fn an_order_before_the_list_waits_for_it() {
    let mut host = Host::new().await;
    host.run(1, "while :; do sleep 0.01; done").await;
    host = host.again(async || {}).await;
    // The drivers have just begun to look: this stop would find nobody who knows what runs.
    host.stop("KILL", PATIENCE);
    assert_eq!(host.adopted().await, [Adopted { alloc: alloc(), attempt: 1, instance: None, exit: None }]);
    assert_eq!(host.exit(1).await, Exit::Signal(9));
}

async fn repeated_and_late_commands() {
    let mut host = Host::new().await;
    host.stop("TERM", PATIENCE);
    let exit = Exit::Lost;
    assert_eq!(host.event().await, DriverEvent::Exited { alloc: alloc(), attempt: 0, exit }, "nothing runs: at once");
    host.run(1, "while :; do sleep 0.01; done").await;
    host.run(1, "is not started again").await;
    host.drivers.command(DriverCommand::Start(Box::new(spec(2, "true"))));
    assert!(matches!(host.event().await, DriverEvent::StartFailed { attempt: 2, .. }));
    host.stop("KILL", PATIENCE);
    assert_eq!(host.exit(1).await, Exit::Signal(9));
    host.stop("KILL", PATIENCE);
    assert_eq!(host.exit(1).await, Exit::Signal(9), "told again");
    host.run(2, "while :; do sleep 0.01; done").await;
    host.drivers.command(DriverCommand::Forget { alloc: alloc() });
    assert_eq!(host.exit(2).await, Exit::Signal(9), "what is forgotten does not run");
    let dir = host.dir.join(format!("allocs/{}/2", alloc()));
    until_true("its files gone", PATIENCE, async || !dir.exists()).await;
}

async fn a_stopped_keeper_is_replaced_by_the_agent() {
    let mut host = Host::new().await;
    host.run(1, "echo me $$; while :; do sleep 0.01; done").await;
    host.log_has("me ").await;
    let pid = pid_in(&host.log(None).await, "me");
    kill(host.keeper(1).into(), "STOP");
    host.stop("TERM", Duration::from_millis(10));
    assert_eq!(host.exit(1).await, Exit::Lost);
    assert!(!runs(&pid));
}

async fn limits_are_enforced() {
    let mut host = Host::new().await;
    // A shell that doubles a string until something stops it.
    let mut greedy = spec(1, "x=0123456789abcdef; while [ ${#x} -lt 300000000 ]; do x=$x$x; done; echo had it all");
    greedy.limits = Resources { cpu_milli: 500, memory_bytes: 32 << 20 };
    host.drivers.command(DriverCommand::Start(Box::new(greedy)));
    assert!(matches!(host.event().await, DriverEvent::Started { .. }));
    if host.record(1, "spec")["cgroups"] == serde_json::json!([]) {
        dunlin_test_host::left_out("limits_are_enforced", "no control group can be made here (not root?)");
        host.stop("KILL", PATIENCE);
        host.exit(1).await;
        return;
    }
    assert_eq!(host.exit(1).await, Exit::Signal(9), "{}", host.log(None).await);
}

async fn a_keeper_is_small() {
    let mut host = Host::new().await;
    host.run(1, "while :; do sleep 0.1; done").await;
    let path = format!("/proc/{}/status", host.keeper(1));
    let resident = || {
        let status = std::fs::read_to_string(&path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    // It says "started" first and makes itself small then.
    until_true("a small keeper", PATIENCE, async || resident() <= KEEPER_KIB).await;
    println!("a keeper has {} KiB resident", resident());
    host.stop("KILL", PATIENCE);
    assert_eq!(host.exit(1).await, Exit::Signal(9));
}

/// What a workload does that notices nothing: neither it nor what it started ends by itself.
const STUBBORN: &str = "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo stray $$; while :; do sleep 0.01; done' & \
                        echo me $$; while :; do sleep 0.01; done";

fn leased(attempt: u32, lease: Duration) -> (StartSpec, dunlin_gossip::time::Instant) {
    let until = dunlin_agent::clock::now() + lease;
    (StartSpec { lease: Some(until), ..spec(attempt, STUBBORN) }, until)
}

async fn a_lease_ends_what_runs_under_it() {
    let mut host = Host::new().await;
    let (start, _) = leased(1, Duration::from_secs(2));
    let until = dunlin_agent::clock::now() + Duration::from_secs(4);
    host.drivers.command(DriverCommand::Start(Box::new(start)));
    assert!(matches!(host.event().await, DriverEvent::Started { .. }));
    host.log_has("stray ").await;
    let log = host.log(None).await;
    host.drivers.command(DriverCommand::Extend { alloc: alloc(), until });
    host.drivers.command(DriverCommand::Extend { alloc: alloc(), until: until - Duration::from_secs(3) });
    assert_eq!(host.exit(1).await, Exit::Signal(9));
    assert!(dunlin_agent::clock::now() >= until, "the later word counts");
    assert!(!runs(&pid_in(&log, "me")) && !runs(&pid_in(&log, "stray")));
    assert!(host.log(None).await.contains("its lease is over"));
    // What comes too late is not started.
    let (late, _) = leased(2, Duration::ZERO);
    host.drivers.command(DriverCommand::Start(Box::new(late)));
    match host.event().await {
        DriverEvent::StartFailed { failure: StartFailure::Other(text), .. } => {
            assert!(text.contains("lease was over"), "{text}");
        }
        other => panic!("not a failure: {other:?}"),
    }
}

async fn a_lease_ends_it_without_an_agent() {
    let mut host = Host::new().await;
    let (start, until) = leased(1, Duration::from_secs(2));
    host.drivers.command(DriverCommand::Start(Box::new(start)));
    assert!(matches!(host.event().await, DriverEvent::Started { .. }));
    host.log_has("me ").await;
    let pid = pid_in(&host.log(None).await, "me");
    let record = host.dir.join(format!("allocs/{}/1/exit", alloc()));
    host = host.again(async || until_true("the exit record", PATIENCE, async || record.exists()).await).await;
    assert!(dunlin_agent::clock::now() >= until && !runs(&pid));
    let exit = Some(Exit::Signal(9));
    assert_eq!(host.adopted().await, [Adopted { alloc: alloc(), attempt: 1, instance: None, exit }]);
}
