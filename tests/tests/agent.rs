//! One agent's life as its operator sees it: its name, copies of its data directory, and coming back late.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Output, Stdio};

use dunlin_tests::cluster::{PATIENCE, text};
use dunlin_tests::env::dunlin;
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

    fn name(&self) -> String {
        until("the agent to answer", PATIENCE, || {
            let output = self.run(&["status", "--json"]);
            let status: Value = serde_json::from_slice(&output.stdout).map_err(|_| text(&output.stderr))?;
            Ok(status["name"].as_str().unwrap_or_default().to_owned())
        })
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
    assert_eq!(lone.name(), "oslo", "as init was told");
    lone.stop();
    lone.start(&["--name", "bergen"]);
    assert_eq!(lone.name(), "bergen", "as typed");
    lone.stop();
    lone.start(&[]);
    assert_eq!(lone.name(), "bergen", "as it was");
}
