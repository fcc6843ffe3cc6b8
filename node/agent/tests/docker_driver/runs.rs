//! Start, output, stop, adoption, end: one container's life.

use std::time::Duration;

use dunlin_core::face::{Adopted, DriverCommand, DriverEvent, Exit, ProbeOutcome, StartFailure};
use dunlin_gossip::id::{ClusterId, NodeId};
use dunlin_gossip::model::{AllocId, Resources};
use dunlin_test_host::engine::docker;

use crate::host::{Host, PATIENCE, collect, free_port, get, http, image};

#[tokio::test]
async fn output_environment_and_exit_code_are_told() {
    let Some(image) = image("output_environment_and_exit_code_are_told", &[]) else { return };
    let mut host = Host::new().await;
    host.run(host.spec(1, &image.name, "echo $GREETING; pwd; echo err >&2; exit 3")).await;
    assert_eq!(host.exit(1).await, Exit::Code(3));
    let log = host.log(None).await;
    let mut lines: Vec<&str> = log.lines().collect();
    // Output and errors come through two pipes, so the order between them is the engine's.
    lines.sort_unstable();
    assert_eq!(lines, ["/tmp", "err", "hello"]);

    host.run(host.spec(2, &image.name, "echo one; echo two; exit 4")).await;
    assert_eq!(host.exit(2).await, Exit::Code(4));
    let both = host.log(None).await;
    assert!(both.starts_with(&log) && both.ends_with("one\ntwo\n"), "the run before is still there: {both}");
    assert_eq!(host.log(Some(1)).await, "two\n");
    host.run(host.spec(3, &image.name, "echo three")).await;
    assert_eq!(host.exit(3).await, Exit::Code(0));
    assert_eq!(host.log(None).await, "one\ntwo\nthree\n", "two runs are kept");

    let label = async |name: &str| {
        let format = format!("{{{{index .Config.Labels \"dunlin.{name}\"}}}}");
        docker(&["inspect", "--format", &format, &host.containers()[0]]).unwrap()
    };
    assert_eq!(label("cluster").await, ClusterId([7; 16]).to_string());
    assert_eq!(label("node").await, host.node().to_string());
    assert_eq!(label("alloc").await, host.alloc().to_string());
    assert_eq!(label("epoch").await, "77");
    assert_eq!(label("replica").await, "t/web.1");

    host.forget();
    host.no_containers().await;
}

#[tokio::test]
async fn a_stop_is_a_signal_then_a_kill() {
    let Some(image) = image("a_stop_is_a_signal_then_a_kill", &[]) else { return };
    let mut host = Host::new().await;
    let polite = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    host.run(host.spec(1, &image.name, polite)).await;
    host.log_has("ready").await;
    host.stop("SIGTERM", PATIENCE);
    assert_eq!(host.exit(1).await, Exit::Code(0));
    assert!(host.log(None).await.ends_with("bye\n"));
    host.stop("SIGTERM", PATIENCE);
    assert_eq!(host.exit(1).await, Exit::Code(0), "told again");

    let own = "trap 'exit 7' USR1; echo own; while :; do sleep 0.05; done";
    host.run(host.spec(2, &image.name, own)).await;
    host.log_has("own").await;
    host.stop("SIGUSR1", PATIENCE);
    assert_eq!(host.exit(2).await, Exit::Code(7));

    host.run(host.spec(3, &image.name, "trap '' TERM; echo deaf; while :; do sleep 0.05; done")).await;
    host.log_has("deaf").await;
    host.stop("SIGTERM", Duration::from_millis(100));
    assert_eq!(host.exit(3).await, Exit::Code(137));

    // What is forgotten does not run.
    host.run(host.spec(4, &image.name, "trap '' TERM; while :; do sleep 0.05; done")).await;
    host.forget();
    assert_eq!(host.exit(4).await, Exit::Code(137));
    host.no_containers().await;
}

#[tokio::test]
async fn the_next_agent_adopts_what_runs_and_nothing_else() {
    let Some(image) = image("the_next_agent_adopts_what_runs_and_nothing_else", &[]) else { return };
    let mut host = Host::new().await;
    let alloc = host.alloc();
    let script = "echo begun; while [ ! -e go ]; do sleep 0.05; done; echo ended; exit 6";
    host.run(host.spec(1, &image.name, script)).await;
    host.log_has("begun").await;
    let before = host.containers();

    for (cluster, node) in [(ClusterId([8; 16]), host.node()), (ClusterId([7; 16]), NodeId([3; 16]))] {
        let mut stranger = host.neighbour(cluster, node).await;
        assert_eq!(stranger.adopted().await, [], "labels of another cluster or node");
    }

    host = host.again(async || {}).await;
    assert_eq!(host.adopted().await, [Adopted { alloc, attempt: 1, instance: None, exit: None }]);
    assert_eq!(host.containers(), before, "it was not disturbed");
    let follower = host.drivers.logs(alloc, true, None);
    docker(&["exec", &before[0], "touch", "/tmp/go"]).unwrap();
    assert_eq!(host.exit(1).await, Exit::Code(6));
    host.forget();
    host.no_containers().await;
    assert_eq!(collect(follower).await, "begun\nended\n", "from before this agent to the end");
}

#[tokio::test]
async fn an_end_that_no_agent_watched_is_told() {
    let Some(image) = image("an_end_that_no_agent_watched_is_told", &[]) else { return };
    let mut host = Host::new().await;
    let alloc = host.alloc();
    host.run(host.spec(1, &image.name, "while [ ! -e go ]; do sleep 0.05; done; echo over; exit 6")).await;
    let id = host.containers().remove(0);
    let meanwhile = async || {
        docker(&["exec", &id, "touch", "/tmp/go"]).unwrap();
        assert_eq!(docker(&["wait", &id]).unwrap(), "6");
    };
    host = host.again(meanwhile).await;
    let exit = Some(Exit::Code(6));
    assert_eq!(host.adopted().await, [Adopted { alloc, attempt: 1, instance: None, exit }]);
    assert_eq!(host.log(None).await, "over\n");
    host.run(host.spec(2, &image.name, "exit 0")).await;
    assert_eq!(host.exit(2).await, Exit::Code(0));
    // A container that a user removed under our feet.
    host.run(host.spec(3, &image.name, "while :; do sleep 0.05; done")).await;
    docker(&["rm", "--force", &host.containers()[0]]).unwrap();
    assert!(matches!(host.exit(3).await, Exit::Lost | Exit::Code(137)));
}

#[tokio::test]
async fn ports_are_published_at_the_service_address() {
    let Some(image) = image("ports_are_published_at_the_service_address", &[]) else { return };
    let mut host = Host::new().await;
    let outer = free_port();
    let mut web = host.spec(1, &image.name, "echo page > index.html; exec httpd -f -p 8080");
    web.ports = vec![http(8080, outer)];
    host.run(web.clone()).await;
    assert!(get(outer).contains("page"));

    (web.alloc, web.attempt) = (AllocId(host.alloc().0 ^ 1), 1);
    host.start(web.clone());
    assert_eq!(host.failure().await, StartFailure::PortTaken(outer));
    // The same number at another address of this host is nobody's.
    web.address = "127.9.8.7".parse().unwrap();
    let alloc = web.alloc;
    host.run(web).await;
    host.drivers.command(DriverCommand::Forget { alloc });
    assert!(matches!(host.event().await, DriverEvent::Exited { .. }));
    host.forget();
    assert_eq!(host.exit(1).await, Exit::Code(137));
    host.no_containers().await;
}

#[tokio::test]
async fn a_follower_hears_every_run() {
    let Some(image) = image("a_follower_hears_every_run", &[]) else { return };
    let mut host = Host::new().await;
    host.run(host.spec(1, &image.name, "echo first")).await;
    let mut follower = host.drivers.logs(host.alloc(), true, None);
    let mut said = String::new();
    let mut hear = async |text: &str| {
        while !said.contains(text) {
            let piece = tokio::time::timeout(PATIENCE, follower.recv()).await.expect("silence").expect("its end");
            said.push_str(std::str::from_utf8(&piece).unwrap());
        }
    };
    hear("first\n").await;
    assert_eq!(host.exit(1).await, Exit::Code(0));
    host.run(host.spec(2, &image.name, "echo second; while :; do sleep 0.05; done")).await;
    hear("second\n").await;
    host.stop("SIGKILL", PATIENCE);
    assert_eq!(host.exit(2).await, Exit::Code(137));
    assert_eq!(host.containers().len(), 2, "both runs are kept");
    host.forget();
    host.no_containers().await;
}

#[tokio::test]
async fn limits_are_the_engine_s() {
    let Some(image) = image("limits_are_the_engine_s", &[]) else { return };
    let mut host = Host::new().await;
    let mut spec = host.spec(1, &image.name, "while :; do sleep 0.05; done");
    spec.limits = Resources { cpu_milli: 250, memory_bytes: 32 << 20 };
    spec.pids_limit = 20;
    host.run(spec).await;
    let format = "{{.HostConfig.CpuQuota}} {{.HostConfig.CpuPeriod}} {{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} \
                  {{.HostConfig.PidsLimit}}";
    let told = docker(&["inspect", "--format", format, &host.containers()[0]]).unwrap();
    assert_eq!(told, "25000 100000 33554432 33554432 20");
    host.stop("SIGKILL", Duration::ZERO);
    host.exit(1).await;
}

#[tokio::test]
async fn a_command_inside_says_how_it_is() {
    let Some(image) = image("a_command_inside_says_how_it_is", &[]) else { return };
    let mut host = Host::new().await;
    host.run(host.spec(1, &image.name, "touch /tmp/well; echo ready; while :; do sleep 0.05; done")).await;
    host.log_has("ready").await;
    assert_eq!(host.probe("test -f /tmp/well", PATIENCE).await, ProbeOutcome::Passed);
    let failed = host.probe("echo no such luck; exit 3", PATIENCE).await;
    assert_eq!(failed, ProbeOutcome::Failed("exited with code 3: no such luck".into()));
    let late = host.probe("exec sleep 1000", Duration::from_millis(800)).await;
    assert!(matches!(&late, ProbeOutcome::Failed(why) if why.contains("no answer within")), "{late:?}");
    // The next command sees that nothing of it is left.
    assert_eq!(host.probe("! ps | grep -q '[s]leep 1000'", PATIENCE).await, ProbeOutcome::Passed);
    host.stop("SIGKILL", Duration::ZERO);
    host.exit(1).await;
}
