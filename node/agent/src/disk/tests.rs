//! The disk against crashes, foreign folders and garbled files.

use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::wire::{Class, Kind, RecordId, Stamp};

use super::*;

const CLUSTER: ClusterId = ClusterId([3; 16]);
const CHILD_DIR: &str = "DUNLIN_TEST_DISK_CHILD";

fn record(number: u64) -> Record {
    let mut key = vec![1; 16];
    key.extend_from_slice(&number.to_be_bytes());
    let id = RecordId::new(Class::OneWriter, Kind::ALLOCATION, &key);
    let stamp = Stamp::Sequence { generation: Generation(1), sequence: number };
    Record::write(id, stamp, Hlc(number), Some(&number.to_be_bytes().repeat(30)))
}

fn put(record: &Record) -> PersistOp {
    PersistOp::Put { slot: record.slot(), bytes: Arc::clone(record.bytes()) }
}

fn open_at(data: &Path) -> Result<(Disk, Loaded), DiskError> {
    Disk::open(data, CLUSTER, Wall(1_000), 0)
}

/// Waits on the disk's own word; a deadline only so that a broken disk fails the test.
fn wait(disk: &Disk, seq: u64) {
    let mut progress = disk.progress();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let done = progress.wait_for(|p| p.persisted >= PersistSeq(seq) || p.failed.is_some());
        let progress = tokio::time::timeout(Duration::from_secs(30), done).await.unwrap().unwrap();
        assert_eq!(progress.failed, None);
    });
}

#[test]
fn what_was_put_is_there_and_what_was_deleted_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, loaded) = open_at(dir.path()).unwrap();
    assert!(loaded.first && loaded.records.is_empty());
    assert_eq!(loaded.generation, Generation(1_000));
    disk.persist(PersistSeq(1), vec![put(&record(1)), put(&record(2))]);
    disk.persist(PersistSeq(2), vec![PersistOp::Delete { slot: record(1).slot() }]);
    wait(&disk, 2);
    drop(disk);
    let (_disk, loaded) = open_at(dir.path()).unwrap();
    assert_eq!(loaded.records, vec![record(2)]);
    assert_eq!(loaded.generation, Generation(1_001), "one boot, one generation, whatever the wall clock says");
    assert!(!loaded.first && loaded.skipped.is_empty());
}

#[test]
fn a_generation_is_above_what_peers_know() {
    let dir = tempfile::tempdir().unwrap();
    drop(Disk::open(dir.path(), CLUSTER, Wall(5), 0).unwrap());
    raise(dir.path(), CLUSTER, Generation(70)).unwrap();
    let (_disk, loaded) = Disk::open(dir.path(), CLUSTER, Wall(6), 0).unwrap();
    assert_eq!(loaded.generation, Generation(71));
}

#[test]
fn another_cluster_and_a_newer_format_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open_at(dir.path()).unwrap());
    let error = Disk::open(dir.path(), ClusterId([4; 16]), Wall(0), 0).unwrap_err().to_string();
    assert!(error.contains(&CLUSTER.to_string()) && error.contains("--data-dir"), "{error}");
    let database = Database::create(dir.path().join(FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("format", 2_u64.to_be_bytes().as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = open_at(dir.path()).unwrap_err().to_string();
    assert!(error.contains("newer dunlin (format 2"), "{error}");
}

#[test]
fn a_rotten_value_is_skipped_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, _) = open_at(dir.path()).unwrap();
    disk.persist(PersistSeq(1), vec![put(&record(1)), put(&record(2))]);
    wait(&disk, 1);
    drop(disk);
    let database = Database::create(dir.path().join(FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(RECORDS).unwrap().insert(record(1).slot().as_slice(), &b"0123456789"[..]).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let (_disk, loaded) = open_at(dir.path()).unwrap();
    assert_eq!(loaded.records, vec![record(2)]);
    assert_eq!(loaded.skipped, vec![format!("{}: its checksum is wrong", hex(&record(1).slot()))]);
}

#[test]
fn a_full_disk_is_told_and_nothing_is_confirmed_after_it() {
    let error = redb::Error::Io(std::io::Error::from_raw_os_error(libc::ENOSPC));
    let text = DiskError::from_redb(Path::new("/d/state.redb"), &error).to_string();
    assert!(text.contains("make room"), "{text}");
    let error = redb::Error::Io(std::io::Error::from_raw_os_error(libc::EROFS));
    let text = DiskError::from_redb(Path::new("/d/state.redb"), &error).to_string();
    assert!(text.contains("writable"), "{text}");
}

/// Every cut and a spread of overwritten bytes: an answer each time, never a panic, and never a wrong record.
#[test]
fn a_garbled_file_gives_an_error_or_the_truth() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, _) = open_at(dir.path()).unwrap();
    let good: Vec<Record> = (0..50).map(record).collect();
    disk.persist(PersistSeq(1), good.iter().map(put).collect());
    wait(&disk, 1);
    drop(disk);
    let bytes = std::fs::read(dir.path().join(FILE)).unwrap();
    let mut refused = 0;
    for round in 0..24_u64 {
        let other = tempfile::tempdir().unwrap();
        let path = other.path().join(FILE);
        let at = usize::try_from(round).unwrap() * bytes.len() / 24;
        if round % 2 == 0 {
            std::fs::write(&path, &bytes[..at]).unwrap();
        } else {
            std::fs::write(&path, &bytes).unwrap();
            let mut file = OpenOptions::new().write(true).open(&path).unwrap();
            file.seek(SeekFrom::Start(at as u64)).unwrap();
            file.write_all(&[0xa5; 600]).unwrap();
        }
        match open_at(other.path()) {
            Ok((_disk, loaded)) => assert!(loaded.records.iter().all(|r| good.contains(r))),
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("state.redb"), "{error}");
            }
        }
    }
    assert!(refused > 0, "no damage was noticed at all");
}

/// The other side of the next test: writes without end, and says which numbers were confirmed.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Ok(data) = std::env::var(CHILD_DIR) else { return };
    let (disk, loaded) = open_at(Path::new(&data)).unwrap();
    let start = u64::try_from(loaded.records.len()).unwrap();
    let mut out = std::io::stdout().lock();
    for step in 1..u64::MAX {
        disk.persist(PersistSeq(step), vec![put(&record(start + step - 1))]);
        // Several in flight, so that groups form.
        if step % 3 == 0 {
            wait(&disk, step);
            writeln!(out, "acknowledged {}", start + step).unwrap();
            out.flush().unwrap();
        }
    }
}

#[test]
fn kill_9_at_any_moment_loses_nothing_that_was_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let mut confirmed = 0;
    for round in 0..12_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "disk::tests::child_that_writes_until_it_is_killed", "--nocapture", "--test-threads=1"])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let end = Instant::now() + Duration::from_secs(30);
        let wanted = 1 + round * 5 % 17;
        let mut seen = 0;
        while seen < wanted && Instant::now() < end {
            let Some(Ok(line)) = lines.next() else { break };
            if let Some((_, number)) = line.rsplit_once("acknowledged ") {
                confirmed = number.parse::<u64>().unwrap();
                seen += 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            if let Some(Ok(number)) = line.rsplit_once("acknowledged ").map(|(_, n)| n.parse()) {
                confirmed = number;
            }
        }
        let (_disk, loaded) = open_at(dir.path()).unwrap();
        assert!(loaded.skipped.is_empty(), "{:?}", loaded.skipped);
        let held = u64::try_from(loaded.records.len()).unwrap();
        assert!(held >= confirmed, "{confirmed} confirmed, {held} held");
        for number in 0..held {
            assert!(loaded.records.contains(&record(number)), "{number} is missing below {held}");
        }
    }
    assert!(confirmed > 0, "the child never confirmed anything");
}
