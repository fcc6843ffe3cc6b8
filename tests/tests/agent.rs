//! One agent's life as its operator sees it: its name, copies of its data directory, and coming back late.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use dunlin_tests::cluster::{Cluster, PATIENCE, text};
use dunlin_tests::env::{dunlin, has_faults, left_out};
use dunlin_tests::wait::until;
use serde_json::Value;
use tempfile::TempDir;

/// An agent of a cluster of its own, started as a user would without options. Dropping it ends it.
struct Lone {
    dir: TempDir,
    address: Ipv4Addr,
    agent: Option<Child>,
}

impl Lone {
    fn new(last: u8) -> Self {
        let block = 100 + u8::try_from(std::process::id() % 100).expect("below 100");
        let dir = TempDir::with_prefix("dunlin-test-").expect("a directory");
        Self { dir, address: Ipv4Addr::new(127, block, 251, last), agent: None }
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(dunlin());
        command.arg("--data-dir").arg(self.dir.path()).args(args).env_remove("DUNLIN_TOKEN");
        command.stdin(Stdio::null()).output().expect("dunlin runs")
    }

    fn start(&mut self, more: &[&str]) {
        let mut command = Command::new(dunlin());
        command.arg("--data-dir").arg(self.dir.path()).arg("agent").args(more);
        command.args(["--bind", &format!("{}:7400", self.address), "--dns", &format!("{}:7453", self.address)]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.agent = Some(command.spawn().expect("an agent"));
    }

    fn stop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().expect("SIGKILL");
            agent.wait().expect("its end");
        }
    }

    /// Waits until the agent goes by this name and has it on disk: what it was given goes into the commit that follows the
    /// adoption, and commits are confirmed in order, so that an acknowledged write comes after it.
    fn wait_named(&self, name: &str) {
        until(&format!("to be {name}"), PATIENCE, || {
            let output = self.run(&["status", "--json"]);
            let status: Value = serde_json::from_slice(&output.stdout).map_err(|_| text(&output.stderr))?;
            if status["name"] == name && status["adopted"] == true { Ok(()) } else { Err(status.to_string()) }
        });
        let written = self.run(&["token", "create"]);
        assert!(written.status.success(), "{}", text(&written.stderr));
    }
}

impl Drop for Lone {
    fn drop(&mut self) {
        self.stop();
    }
}

#[test]
fn a_node_keeps_the_name_that_it_was_given() {
    let mut lone = Lone::new(1);
    let made = lone.run(&["init", "--name", "oslo"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    lone.start(&[]);
    lone.wait_named("oslo");
    lone.stop();
    lone.start(&["--name", "bergen"]);
    lone.wait_named("bergen");
    lone.stop();
    lone.start(&[]);
    lone.wait_named("bergen");
}

const SLEEPERS: &str = "
services:
  web:
    command: sleep 1000
    deploy: {replicas: 3}
";

/// One on each node, which no other node takes over while an agent is silent for long.
const EVERYWHERE: &str = "
services:
  web:
    command: sleep 1000
    deploy: {mode: global}
";

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp");
    assert!(status.success());
}

fn state_hash(cluster: &Cluster, n: usize) -> Result<Value, String> {
    cluster.nodes[n].json(&["status"]).map(|status| status["state_hash"].clone())
}

#[test]
fn a_copy_of_a_running_node_refuses_to_start() {
    let cluster = Cluster::start(2);
    let copied = TempDir::new().expect("a directory");
    let data = copied.path().join("data");
    copy(&cluster.nodes[1].dir, &data);
    let generation = |c: &Cluster| c.nodes[1].json(&["status"]).map(|status| status["generation"].clone());
    let before = generation(&cluster);
    let own = |port: u16| format!("{}:{port}", cluster.nodes[1].address);
    let output = Command::new(dunlin())
        .arg("--data-dir")
        .arg(&data)
        .args(["agent", "--bind", &own(7410), "--dns", &own(7463)])
        .stdin(Stdio::null())
        .output()
        .expect("dunlin runs");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("copy") && said.contains(&own(7400)) && said.contains("--data-dir"), "{said}");
    assert_eq!(generation(&cluster), before, "the original goes on undisturbed");
    cluster.wait_for_all_alive();
    let events = text(&cluster.nodes[1].run(&["events"]).stdout);
    assert!(events.contains("copy"), "the original's operator is told as well: {events}");
}

/// Makes the node's next boot believe that an earlier one ran an hour ahead, as a clock that was wrong does.
fn run_ahead(data: &Path) {
    const META: redb::TableDefinition<'static, &str, &[u8]> = redb::TableDefinition::new("meta");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    let ahead = u64::try_from(now).expect("64 bits") + 3_600_000;
    let database = redb::Database::open(data.join("state.redb")).expect("the state file");
    let transaction = database.begin_write().expect("a transaction");
    let set =
        transaction.open_table(META).expect("the table").insert("generation", ahead.to_be_bytes().as_slice()).map(drop);
    set.expect("an entry");
    transaction.commit().expect("a commit");
}

#[test]
fn a_restored_old_disk_comes_back_and_resurrects_nothing() {
    let mut cluster = Cluster::start(3);
    let deployed = cluster.deploy(0, SLEEPERS, &["--wait"]);
    assert!(deployed.status.success(), "{}", text(&deployed.stderr));
    let _rows = cluster.wait_ready(2, 3);
    cluster.kill_node(2);
    let backup = TempDir::new().expect("a directory");
    let old = backup.path().join("old");
    copy(&cluster.nodes[2].dir, &old);
    run_ahead(&cluster.nodes[2].dir);
    cluster.start_agent(2);
    cluster.wait_for_all_alive();
    assert!(cluster.nodes[0].run(&["rm", "shop"]).status.success());
    let gone = |c: &Cluster, n: usize| {
        let rows = c.ps(n)?;
        if rows.is_empty() { Ok(()) } else { Err(Value::from(rows).to_string()) }
    };
    (0..3).for_each(|n| until("nothing to run", PATIENCE, || gone(&cluster, n)));

    cluster.kill_node(2);
    std::fs::remove_dir_all(&cluster.nodes[2].dir).expect("the newer state goes");
    copy(&old, &cluster.nodes[2].dir);
    cluster.start_agent(2);
    let log = cluster.nodes[2].dir.join("agent.log");
    until("the agent to notice and start anew", PATIENCE, || {
        let said = std::fs::read_to_string(&log).map_err(|e| e.to_string())?;
        let starts = said.matches("the node is up").count();
        if said.contains("disk is older") && starts >= 2 { Ok(()) } else { Err(said) }
    });
    cluster.wait_for_all_alive();
    until("the same state everywhere", PATIENCE, || {
        let all = [state_hash(&cluster, 0)?, state_hash(&cluster, 1)?, state_hash(&cluster, 2)?];
        if all[0] == all[1] && all[1] == all[2] { Ok(()) } else { Err(format!("{all:?}")) }
    });
    (0..3).for_each(|n| until("nothing to run", PATIENCE, || gone(&cluster, n)));
    assert_eq!(cluster.nodes[2].json(&["services"]), Ok(serde_json::json!([])));
    let deployed = cluster.deploy(2, SLEEPERS, &["--wait"]);
    assert!(deployed.status.success(), "it takes part again: {}", text(&deployed.stderr));
    let _rows = cluster.wait_ready(0, 3);
}

/// A loop that hangs is noticed from outside, says what it is at, and begins again under the same process number; its
/// workloads never notice.
#[test]
fn a_stuck_agent_begins_again_and_its_workloads_run_on() {
    if !has_faults() {
        return left_out("a_stuck_agent_begins_again_and_its_workloads_run_on", "this binary cannot be made to hang");
    }
    let mut cluster = Cluster::start(2);
    let deployed = cluster.deploy(0, EVERYWHERE, &["--wait"]);
    assert!(deployed.status.success(), "{}", text(&deployed.stderr));
    let before = cluster.wait_ready(0, 2);
    cluster.kill_agent(1);
    cluster.start_agent_with(1, &[("DUNLIN_TEST_STICK_AFTER_MS", "3000")]);
    let pid = cluster.nodes[1].pid();
    until("the agent to have begun again", PATIENCE, || {
        let events = text(&cluster.nodes[1].run(&["events"]).stdout);
        if events.contains("the agent's loop was stuck") { Ok(()) } else { Err(events) }
    });
    assert_eq!(cluster.nodes[1].pid(), pid);
    let log = std::fs::read_to_string(cluster.nodes[1].dir.join("agent.log")).expect("its log");
    assert!(log.contains("thread ") && log.contains("(watchdog)"), "what its threads are at is in the log: {log}");
    cluster.wait_for_all_alive();
    let alloc =
        |rows: &[Value]| rows.iter().map(|row| row["alloc"].to_string()).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(alloc(&cluster.wait_ready(0, 2)), alloc(&before));
}
