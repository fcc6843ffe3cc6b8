//! Data directories that cannot be used: one clear error with the place and the remedy, and nothing half applied.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use dunlin_tests::cluster::{Cluster, PATIENCE, text};
use dunlin_tests::env::{dunlin, is_root, left_out};
use dunlin_tests::wait::until;
use redb::{ReadableDatabase as _, ReadableTable as _};
use serde_json::Value;

use tempfile::TempDir;

fn run(data: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(dunlin());
    command.arg("--data-dir").arg(data).args(args).env_remove("DUNLIN_TOKEN");
    command.stdin(Stdio::null()).output().expect("dunlin runs")
}

/// Runs an agent that must refuse to start; its addresses are never reached.
fn agent(data: &Path, more: &[&str]) -> Output {
    let mut args = vec!["agent", "--bind", "127.0.0.1:0", "--dns", "127.0.0.1:0"];
    args.extend_from_slice(more);
    run(data, &args)
}

fn refused(output: &Output, code: i32, parts: &[&str]) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said} {}", text(&output.stdout));
    assert_eq!(said.lines().filter(|line| line.starts_with("error:")).count(), 1, "one error: {said}");
    for part in parts {
        assert!(said.contains(part), "no {part:?} in: {said}");
    }
}

/// Makes a cluster and tells its document.
fn init(data: &Path) -> Value {
    let made = run(data, &["init", "--json"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    serde_json::from_slice(&made.stdout).expect("a document")
}

#[test]
fn a_directory_of_another_cluster() {
    let root = TempDir::new().expect("a directory");
    let (mine, theirs) = (root.path().join("mine"), root.path().join("theirs"));
    let (_, other) = (init(&mine), init(&theirs));
    let token = other["token"].as_str().expect("a token");
    let before = std::fs::read(mine.join("keys/cluster")).expect("credentials");
    refused(&agent(&mine, &["--join", "127.0.0.1:9", "--token", token]), 2, &["mine", "cluster", "--data-dir"]);
    assert_eq!(std::fs::read(mine.join("keys/cluster")).expect("credentials"), before);
    // Half of one folder and half of another.
    std::fs::copy(theirs.join("state.redb"), mine.join("state.redb")).expect("a copy");
    refused(&agent(&mine, &[]), 1, &["state.redb", "belongs to cluster", "restore"]);
}

const META: redb::TableDefinition<'static, &str, &[u8]> = redb::TableDefinition::new("meta");

/// What the state file says of itself.
fn meta(state: &Path) -> Vec<(String, Vec<u8>)> {
    let database = redb::Database::open(state).expect("the state file");
    let table = database.begin_read().expect("a transaction").open_table(META).expect("the table");
    let entries = table.iter().expect("entries").map(|entry| entry.expect("an entry"));
    entries.map(|(key, value)| (key.value().to_owned(), value.value().to_vec())).collect()
}

#[test]
fn a_directory_of_a_newer_version_and_a_damaged_one() {
    let root = TempDir::new().expect("a directory");
    let data = root.path().join("data");
    init(&data);
    let state = data.join("state.redb");
    {
        let database = redb::Database::open(&state).expect("the state file");
        let transaction = database.begin_write().expect("a transaction");
        let format = 9_u64.to_be_bytes();
        transaction
            .open_table(META)
            .expect("the table")
            .insert("format", format.as_slice())
            .map(drop)
            .expect("an entry");
        transaction.commit().expect("a commit");
    }
    let before = meta(&state);
    refused(&agent(&data, &[]), 1, &["state.redb", "newer dunlin (format 9", "use that version"]);
    assert_eq!(meta(&state), before, "a newer file's content is left as it is");
    std::fs::write(&state, vec![0x5a; 8_192]).expect("garbage");
    refused(&agent(&data, &[]), 1, &["state.redb", "damaged", "move it away"]);
}

/// A small file system of its own. Dropping it unmounts it.
struct Volume(TempDir);

impl Volume {
    fn new(size: &str) -> Self {
        let volume = Self(TempDir::new().expect("a directory"));
        volume.mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]);
        volume
    }

    fn mount(&self, args: &[&str]) {
        let status = Command::new("mount").args(args).arg(self.0.path()).status().expect("mount");
        assert!(status.success(), "mount {args:?}");
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn filler(&self) -> PathBuf {
        self.0.path().join("filler")
    }

    fn fill(&self) {
        let file = format!("of={}", self.filler().display());
        let output = Command::new("dd").args(["if=/dev/zero", &file, "bs=4k"]).output().expect("dd");
        assert!(text(&output.stderr).contains("No space left"), "{}", text(&output.stderr));
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _best_effort = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_read_only_directory() {
    if !is_root() {
        left_out("a_read_only_directory", "mounting needs root");
        return;
    }
    let volume = Volume::new("8m");
    init(&volume.data());
    volume.mount(&["-o", "remount,ro"]);
    refused(&agent(&volume.data(), &[]), 1, &["data", "Read-only", "--data-dir"]);
    refused(&run(&volume.0.path().join("new"), &["init"]), 1, &["new", "Read-only", "--data-dir"]);
}

#[test]
fn a_full_disk_at_the_start_and_while_it_runs() {
    if !is_root() {
        left_out("a_full_disk_at_the_start_and_while_it_runs", "mounting needs root");
        return;
    }
    let volume = Volume::new("8m");
    volume.fill();
    refused(&run(&volume.data(), &["init"]), 1, &["data", "No space left", "--data-dir"]);
    std::fs::remove_file(volume.filler()).expect("room");
    init(&volume.data());
    volume.fill();
    refused(&agent(&volume.data(), &[]), 1, &["state.redb", "No space left", "make room"]);
    std::fs::remove_file(volume.filler()).expect("room");

    let log = std::fs::File::create(volume.0.path().join("log")).expect("a log");
    let mut command = Command::new(dunlin());
    command.arg("--data-dir").arg(volume.data()).args(["agent", "--bind", "127.0.0.1:0", "--dns", "127.0.0.1:0"]);
    let mut running = command.stdin(Stdio::null()).stderr(log).spawn().expect("an agent");
    until("the agent", PATIENCE, || {
        let asked = run(&volume.data(), &["status"]);
        if asked.status.success() { Ok(()) } else { Err(text(&asked.stderr)) }
    });
    volume.fill();
    // Some room is left inside the file; sooner or later a write is refused, and then the agent says why and ends.
    let ended = until("the agent to end", PATIENCE, || {
        let _refused_at_last = run(&volume.data(), &["token", "create"]);
        running.try_wait().map_err(|e| e.to_string())?.ok_or_else(|| "it still runs".to_owned())
    });
    assert_eq!(ended.code(), Some(1));
    std::fs::remove_file(volume.filler()).expect("room");
    let said = std::fs::read_to_string(volume.0.path().join("log")).expect("the log");
    assert!(said.contains("error: the agent stops") && said.contains("make room"), "{said}");
}

#[test]
fn a_taken_address_of_each_kind() {
    let cluster = Cluster::start(1);
    let root = TempDir::new().expect("a directory");
    init(root.path());
    let address = cluster.nodes[0].address;
    let port = |n: u16| format!("{address}:{n}");
    let start = |bind: u16, dns: u16| run(root.path(), &["agent", "--bind", &port(bind), "--dns", &port(dns)]);
    refused(&start(7400, 7498), 1, &[&port(7400), "in use", "--bind"]);
    refused(&start(7499, 7453), 1, &[&port(7453), "in use", "--dns"]);
    let taken = std::net::UdpSocket::bind((address, 7496)).expect("a socket");
    refused(&start(7499, 7496), 1, &[&port(7496), "udp", "--dns"]);
    drop(taken);
    let taken = std::net::TcpListener::bind((address, 7497)).expect("a listener");
    refused(&start(7499, 7497), 1, &[&port(7497), "tcp", "--dns"]);
    drop(taken);
    let long = root.path().join("x".repeat(120));
    init(&long);
    refused(&agent(&long, &[]), 1, &["dunlin.sock", "too long", "--data-dir"]);
}
