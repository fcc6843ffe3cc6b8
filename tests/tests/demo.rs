//! The first thing that anybody runs: it tells the truth, and it leaves nothing behind, at whatever moment it is ended.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use dunlin_tests::cluster::{PATIENCE, processes_in, text};
use dunlin_tests::env::dunlin;
use dunlin_tests::wait::until;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;

/// A demo that makes its directory in ours.
fn demo(dir: &Path) -> Command {
    let mut command = Command::new(dunlin());
    command.arg("demo").env("TMPDIR", dir).stdin(Stdio::null());
    command
}

/// Waits until neither files nor processes of a demo are left.
fn wait_for_nothing(dir: &Path, when: &str) {
    until(&format!("nothing to be left, {when}"), PATIENCE, || {
        let files: Vec<_> = std::fs::read_dir(dir).map_err(|e| e.to_string())?.flatten().map(|e| e.path()).collect();
        let processes = processes_in(dir);
        if files.is_empty() && processes.is_empty() { Ok(()) } else { Err(format!("{files:?} {processes:?}")) }
    });
}

#[test]
fn it_reports_what_it_measured() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = demo(dir.path()).args(["--nodes", "4", "--json"]).output().expect("a demo");
    assert!(output.status.success(), "{} {}", text(&output.stdout), text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("one document");
    assert_eq!(report["ok"], true, "{report}");
    assert_eq!(report["nodes"], 4);
    assert_eq!(report["replicas"], 3);
    assert!(report["killed"].as_u64() >= Some(1), "{report}");
    assert_eq!(report["moved"], report["killed"], "only what was killed moves: {report}");
    for time in ["deploy_s", "failover_s", "dns_dead_s", "dns_full_s"] {
        assert!(report[time].as_f64().is_some_and(|s| s > 0.0), "{time}: {report}");
    }
    wait_for_nothing(dir.path(), "after its end");
}

#[test]
fn an_end_at_any_moment_leaves_nothing_behind() {
    // Ctrl-C reaches the whole foreground group; SIGKILL reaches the demo alone and cannot be prepared for.
    let ends =
        [(1, Signal::SIGINT), (2, Signal::SIGKILL), (4, Signal::SIGINT), (6, Signal::SIGTERM), (7, Signal::SIGINT)];
    for (lines, signal) in ends {
        let dir = tempfile::tempdir().expect("a directory");
        let mut demo = demo(dir.path()).process_group(0).stdout(Stdio::piped()).spawn().expect("a demo");
        let story = BufReader::new(demo.stdout.take().expect("its output"));
        let told = story.lines().take(lines).count();
        assert_eq!(told, lines, "it ended by itself");
        let pid = Pid::from_raw(i32::try_from(demo.id()).expect("a pid"));
        if signal == Signal::SIGKILL { demo.kill() } else { killpg(pid, signal).map_err(Into::into) }
            .expect("a signal");
        demo.wait().expect("its end");
        wait_for_nothing(dir.path(), &format!("after {signal} behind line {lines}"));
    }
}
