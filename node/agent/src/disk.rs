//! The node's disk: a map from slot to bytes in one redb file, and a thread that commits in groups.
//!
//! What was confirmed survives `kill -9` at any byte: each commit is one durable redb transaction (fsync before it returns,
//! torn commits are rolled back at the next open). Values carry a checksum of their own, so that a rotten one is skipped
//! by name and costs one record, which peers will give again. The core's loop never waits for an fsync.

use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dunlin_gossip::face::{PersistOp, PersistSeq};
use dunlin_gossip::hash::{hash64, mix};
use dunlin_gossip::id::{ClusterId, Generation, hex};
use dunlin_gossip::time::Wall;
use dunlin_gossip::wire::Record;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use tokio::sync::watch;

const FILE: &str = "state.redb";
const FORMAT: u64 = 1;
/// redb's own cache; the core holds everything in memory, so the disk needs little.
const CACHE_BYTES: usize = 2 << 20;
/// Requests waiting for the disk; beyond it the loop waits too, since a node whose disk hangs should not look well.
const QUEUE: usize = 16_384;
/// Requests of one commit.
const GROUP: usize = 4_096;

const RECORDS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("records");
const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");

/// What is known of the disk now; only the newest matters.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Everything up to this request is durable.
    pub persisted: PersistSeq,
    /// The disk failed, with this message; nothing after `persisted` will become durable.
    pub failed: Option<String>,
    /// Commits so far.
    pub commits: u64,
    /// How long they took, together.
    pub spent: Duration,
    /// How long the last one took.
    pub last: Duration,
}

/// Why the disk cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The file belongs to another cluster.
    #[error("{} belongs to cluster {found}, and this node's keys to cluster {expected}; restore the folder as one, or start with an empty --data-dir", .path.display())]
    OtherCluster {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: ClusterId,
        /// Whose it should be.
        expected: ClusterId,
    },
    /// A newer dunlin wrote it.
    #[error("{} was written by a newer dunlin (format {found}, this one reads {FORMAT}); use that version or a later one", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// The file is not what was written.
    #[error("{} is damaged: {detail}; move it away and start again: the node then fetches the state from its peers", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How.
        detail: String,
    },
    /// The system refuses to write.
    #[error("cannot write {}: {detail}; {remedy}", .path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// The system's words.
        detail: String,
        /// What helps.
        remedy: &'static str,
    },
}

impl DiskError {
    fn from_redb(path: &Path, error: &redb::Error) -> Self {
        let path = path.to_owned();
        match error {
            redb::Error::Io(io) if io.kind() == std::io::ErrorKind::InvalidData => {
                Self::Damaged { path, detail: io.to_string() }
            }
            redb::Error::Io(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
                Self::Damaged { path, detail: "it was cut off".into() }
            }
            redb::Error::Io(io) => Self::Refused { path, detail: io.to_string(), remedy: remedy(io) },
            redb::Error::DatabaseAlreadyOpen => Self::Refused {
                path,
                detail: "another process has it open".into(),
                remedy: "stop that one, or choose another --data-dir",
            },
            redb::Error::UpgradeRequired(version) => Self::Newer { path, found: u64::from(*version) },
            other => Self::Damaged { path, detail: other.to_string() },
        }
    }
}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => "make room on that file system",
        Some(libc::EROFS) => "mount it writable, or choose another --data-dir",
        Some(libc::EACCES | libc::EPERM) => "make it writable for this user, or choose another --data-dir",
        _ => "check the disk",
    }
}

/// What an open disk held.
#[derive(Debug)]
pub struct Loaded {
    /// Every readable record.
    pub records: Vec<Record>,
    /// The generation of this boot, already durable.
    pub generation: Generation,
    /// True if no earlier boot left its generation here.
    pub first: bool,
    /// Slots that could not be read and were left out, in hexadecimal, with the reason.
    pub skipped: Vec<String>,
}

struct Job {
    seq: PersistSeq,
    ops: Vec<PersistOp>,
}

/// The open disk. Dropping it commits what is queued.
pub struct Disk {
    jobs: Option<mpsc::SyncSender<Job>>,
    progress: watch::Receiver<Progress>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("progress", &*self.progress.borrow()).finish_non_exhaustive()
    }
}

impl Disk {
    /// Opens or creates the state file, makes the next generation durable, and reads everything.
    ///
    /// # Errors
    /// [`DiskError`]; nothing was changed then.
    pub fn open(data: &Path, cluster: ClusterId, wall: Wall, chance: u64) -> Result<(Self, Loaded), DiskError> {
        let path = data.join(FILE);
        // redb panics on some garbled files instead of answering; to the operator both are the same damage.
        let opened = catch_unwind(AssertUnwindSafe(|| open(&path, cluster, wall, chance)));
        let (database, loaded) = opened.unwrap_or_else(|_| {
            Err(DiskError::Damaged { path: path.clone(), detail: "its structure makes no sense".into() })
        })?;
        let (jobs, queue) = mpsc::sync_channel(QUEUE);
        let (report, progress) = watch::channel(Progress::default());
        let thread = std::thread::Builder::new()
            .name("disk".into())
            .spawn(move || commit_all(&database, &path, &queue, &report))
            .map_err(|e| DiskError::Refused {
                path: data.join(FILE),
                detail: e.to_string(),
                remedy: "raise the limit on threads",
            })?;
        Ok((Self { jobs: Some(jobs), progress, thread: Some(thread) }, loaded))
    }

    /// Queues changes; they become durable in order, and `progress` tells when.
    pub fn persist(&self, seq: PersistSeq, ops: Vec<PersistOp>) {
        if let Some(jobs) = &self.jobs {
            // A thread that has gone said why in `progress`.
            let _gone = jobs.send(Job { seq, ops });
        }
    }

    /// Where the disk's thread says how far it is.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// Where the state file of a data directory is.
pub(crate) fn file(data: &Path) -> PathBuf {
    data.join(FILE)
}

/// Creates the state of a new cluster's first node, with the records that this generation writes.
///
/// # Errors
/// [`DiskError`]; the file may then hold a part, which the next try removes.
pub(crate) fn create(
    data: &Path,
    cluster: ClusterId,
    wall: Wall,
    records: impl FnOnce(Generation) -> Vec<Record>,
) -> Result<(), DiskError> {
    let generation = Generation::next(None, wall.0, 0);
    fill(data, cluster, Some(generation), &records(generation))
}

/// Creates the state of a node that has just joined: records, and no boot yet.
///
/// # Errors
/// [`DiskError`]; the file may then hold a part, which the next try removes.
pub(crate) fn seed(data: &Path, cluster: ClusterId, records: &[Record]) -> Result<(), DiskError> {
    fill(data, cluster, None, records)
}

/// Makes sure that the next boot's generation is above one that peers know of this node.
///
/// # Errors
/// [`DiskError`]; nothing was changed then.
pub(crate) fn raise(data: &Path, cluster: ClusterId, newest: Generation) -> Result<(), DiskError> {
    let path = data.join(FILE);
    let fail = |error: redb::Error| DiskError::from_redb(&path, &error);
    let database = database(&path).map_err(fail)?;
    let stored = read_generation(&database).map_err(fail)?;
    write_meta(&database, cluster, stored.max(Some(newest))).map_err(fail)
}

fn fill(data: &Path, cluster: ClusterId, generation: Option<Generation>, records: &[Record]) -> Result<(), DiskError> {
    let path = data.join(FILE);
    let fail = |error: redb::Error| DiskError::from_redb(&path, &error);
    let database = database(&path).map_err(fail)?;
    write_meta(&database, cluster, generation).map_err(fail)?;
    let put = |record: &Record| PersistOp::Put { slot: record.slot(), bytes: Arc::clone(record.bytes()) };
    let job = Job { seq: PersistSeq(0), ops: records.iter().map(put).collect() };
    commit(&database, &[job]).map_err(fail)
}

/// Opens or creates the file, readable for its owner only: specifications hold what their authors put into environments.
fn database(path: &Path) -> Result<Database, redb::Error> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    drop(options.open(path).map_err(redb::Error::Io)?);
    Ok(Database::builder().set_cache_size(CACHE_BYTES).create(path)?)
}

fn open(path: &Path, cluster: ClusterId, wall: Wall, chance: u64) -> Result<(Database, Loaded), DiskError> {
    let fail = |error: redb::Error| DiskError::from_redb(path, &error);
    let database = database(path).map_err(fail)?;
    check_owner(&database, path, cluster)?;
    let stored = read_generation(&database).map_err(fail)?;
    let generation = Generation::next(stored, wall.0, chance);
    write_meta(&database, cluster, Some(generation)).map_err(fail)?;
    let mut loaded = Loaded { records: Vec::new(), generation, first: stored.is_none(), skipped: Vec::new() };
    read_records(&database, &mut loaded).map_err(fail)?;
    Ok((database, loaded))
}

fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

fn check_owner(database: &Database, path: &Path, cluster: ClusterId) -> Result<(), DiskError> {
    let fail = |error: redb::Error| DiskError::from_redb(path, &error);
    let damaged = |detail: &str| DiskError::Damaged { path: path.to_owned(), detail: detail.into() };
    let Some(format) = read_meta(database, "format").map_err(fail)? else { return Ok(()) };
    match number(&format) {
        Some(FORMAT) => {}
        Some(found) => return Err(DiskError::Newer { path: path.to_owned(), found }),
        None => return Err(damaged("its format number is unreadable")),
    }
    let found = read_meta(database, "cluster").map_err(fail)?.unwrap_or_default();
    let found: [u8; 16] = found.as_slice().try_into().map_err(|_| damaged("its cluster id is unreadable"))?;
    let found = ClusterId(found);
    if found == cluster {
        Ok(())
    } else {
        Err(DiskError::OtherCluster { path: path.to_owned(), found, expected: cluster })
    }
}

fn read_meta(database: &Database, key: &str) -> Result<Option<Vec<u8>>, redb::Error> {
    let transaction = database.begin_read()?;
    match transaction.open_table(META) {
        Ok(table) => Ok(table.get(key)?.map(|value| value.value().to_vec())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn read_generation(database: &Database) -> Result<Option<Generation>, redb::Error> {
    Ok(read_meta(database, "generation")?.and_then(|bytes| number(&bytes)).map(Generation))
}

fn write_meta(database: &Database, cluster: ClusterId, generation: Option<Generation>) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert("format", FORMAT.to_be_bytes().as_slice())?;
        meta.insert("cluster", cluster.0.as_slice())?;
        if let Some(generation) = generation {
            meta.insert("generation", generation.0.to_be_bytes().as_slice())?;
        }
        transaction.open_table(RECORDS)?;
    }
    transaction.commit()?;
    Ok(())
}

fn read_records(database: &Database, loaded: &mut Loaded) -> Result<(), redb::Error> {
    let transaction = database.begin_read()?;
    let table = transaction.open_table(RECORDS)?;
    for entry in table.iter()? {
        let (slot, value) = entry?;
        match unwrap(slot.value(), value.value()) {
            Ok(record) => loaded.records.push(record),
            Err(why) => loaded.skipped.push(format!("{}: {why}", hex(slot.value()))),
        }
    }
    Ok(())
}

fn checksum(slot: &[u8], bytes: &[u8]) -> [u8; 8] {
    mix(hash64(slot), hash64(bytes)).to_be_bytes()
}

fn wrap(slot: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(8 + bytes.len());
    value.extend_from_slice(&checksum(slot, bytes));
    value.extend_from_slice(bytes);
    value
}

fn unwrap(slot: &[u8], value: &[u8]) -> Result<Record, String> {
    let (sum, bytes) = value.split_at_checked(8).ok_or("it is too short")?;
    if sum != checksum(slot, bytes) {
        return Err("its checksum is wrong".into());
    }
    Record::read(bytes).map_err(|e| e.to_string())
}

fn commit_all(database: &Database, path: &Path, queue: &mpsc::Receiver<Job>, report: &watch::Sender<Progress>) {
    while let Ok(first) = queue.recv() {
        let mut group = vec![first];
        while group.len() < GROUP {
            let Ok(next) = queue.try_recv() else { break };
            group.push(next);
        }
        let last = group.last().map_or(PersistSeq(0), |job| job.seq);
        let began = Instant::now();
        if let Err(error) = commit(database, &group) {
            let text = DiskError::from_redb(path, &error).to_string();
            report.send_modify(|progress| progress.failed = Some(text));
            return;
        }
        let took = began.elapsed();
        report.send_modify(|progress| {
            progress.persisted = last;
            progress.commits += 1;
            progress.spent += took;
            progress.last = took;
        });
    }
}

fn commit(database: &Database, group: &[Job]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(RECORDS)?;
        for op in group.iter().flat_map(|job| &job.ops) {
            match op {
                PersistOp::Put { slot, bytes } => {
                    table.insert(slot.as_slice(), wrap(slot, bytes).as_slice())?;
                }
                PersistOp::Delete { slot } => {
                    table.remove(slot.as_slice())?;
                }
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests;
