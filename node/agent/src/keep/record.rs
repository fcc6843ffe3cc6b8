//! What a keeper and its agents leave for each other on disk: the specification, the start, the end.
//!
//! Records are small JSON files, written whole (temporary file, fsync, rename), readable only by their owner since the
//! environment may hold secrets. Unknown fields are ignored, so that releases can meet.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use dunlin_core::face::Exit;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Name of the specification in an attempt's directory.
pub(crate) const SPEC: &str = "spec";
/// Name of the start record.
pub(crate) const STARTED: &str = "started";
/// Name of the exit record.
pub(crate) const EXIT: &str = "exit";
/// Name of the control socket.
pub(crate) const CONTROL: &str = "ctl";
/// Name of the file whose lock a keeper holds as long as it lives.
pub(crate) const LOCK: &str = "lock";

/// The newest format of a specification, which a lease asks for.
pub(crate) const LEASED: u32 = 2;

/// Everything that a keeper needs to know.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeepSpec {
    /// Format: 1, or [`LEASED`] with a lease.
    pub(crate) version: u32,
    /// Whose it is: the cluster, in hexadecimal.
    pub(crate) cluster: String,
    /// Whose it is: the node, in hexadecimal.
    pub(crate) node: String,
    /// The allocation, in hexadecimal.
    pub(crate) alloc: String,
    /// Which run of it.
    pub(crate) attempt: u32,
    /// The replica, for people.
    pub(crate) replica: String,
    /// Program and arguments.
    pub(crate) argv: Vec<String>,
    /// Where it runs.
    pub(crate) working_dir: PathBuf,
    /// The whole environment of the workload.
    pub(crate) environment: BTreeMap<String, String>,
    /// The log file; rotated to the same name with `.1`.
    pub(crate) log: PathBuf,
    /// Size at which the log is rotated.
    pub(crate) log_max_bytes: u64,
    /// Control groups that the workload joins; removed at its end.
    pub(crate) cgroups: Vec<PathBuf>,
    /// True if the workload may not run outside its control groups (it has limits).
    pub(crate) cgroups_required: bool,
    /// Signal of an orderly stop that the keeper itself begins.
    pub(crate) stop_signal: i32,
    /// Its grace.
    pub(crate) stop_grace_ms: u64,
    /// When it is killed unless it is told otherwise, in nanoseconds of `CLOCK_BOOTTIME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lease: Option<u64>,
}

// Environments hold secrets: only their names are shown.
impl std::fmt::Debug for KeepSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeepSpec")
            .field("alloc", &self.alloc)
            .field("attempt", &self.attempt)
            .field("replica", &self.replica)
            .field("environment", &self.environment.keys())
            .finish_non_exhaustive()
    }
}

/// A process that cannot be confused with a later one of the same number.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// The host's boot.
    pub(crate) boot: String,
    /// The process.
    pub(crate) pid: u32,
    /// When it started, in the kernel's ticks since boot.
    pub(crate) start: u64,
}

impl Identity {
    /// Of a process that runs now.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        Ok(Self { boot: boot_id()?, pid, start: ProcStat::read(pid)?.start })
    }

    /// True if exactly this process runs (a zombie does not).
    #[must_use]
    pub(crate) fn is_alive(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot)
            && ProcStat::read(self.pid).is_ok_and(|stat| stat.start == self.start && !stat.is_dead())
    }
}

/// The start record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Started {
    /// Format, 1.
    pub(crate) version: u32,
    /// The keeper.
    pub(crate) keeper: Identity,
    /// The workload's main process.
    pub(crate) workload: Identity,
}

/// The exit record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// Format, 1.
    pub(crate) version: u32,
    /// How.
    pub(crate) exit: Exit,
    /// Why it was never started, if so.
    pub(crate) failed: Option<String>,
}

/// The boot of this host.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The few fields of `/proc/<pid>/stat` that matter here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ProcStat {
    /// The kernel's letter.
    pub(crate) state: u8,
    /// The parent.
    pub(crate) parent: u32,
    /// Ticks since boot.
    pub(crate) start: u64,
}

impl ProcStat {
    /// Of a process.
    pub(crate) fn read(pid: u32) -> io::Result<Self> {
        let text = fs::read(format!("/proc/{pid}/stat"))?;
        Self::parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat")))
    }

    /// True for a zombie or what is about to vanish.
    #[must_use]
    pub(crate) const fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    // The name may hold spaces and parentheses: fields count from the last one.
    fn parse(text: &[u8]) -> Option<Self> {
        let after = text.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(text.get(after + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        Some(Self {
            state: *fields.first()?.as_bytes().first()?,
            parent: fields.get(1)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
        })
    }
}

/// Writes a record whole: a reader sees the old one or the new one.
pub(crate) fn write<T: Serialize>(dir: &Path, name: &str, record: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(record).map_err(io::Error::other)?;
    let temporary = dir.join(format!("{name}.tmp"));
    let mut file = create_private(&temporary)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(temporary, dir.join(name))
}

/// Reads a record; none if there is none.
pub(crate) fn read<T: DeserializeOwned>(dir: &Path, name: &str) -> io::Result<Option<T>> {
    match fs::read(dir.join(name)) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A new or emptied file that only its owner can read.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn this_process_is_itself_and_not_a_later_one() {
        let me = Identity::of(std::process::id()).unwrap();
        assert!(me.is_alive());
        assert!(!Identity { start: me.start + 1, ..me.clone() }.is_alive());
        assert!(!Identity { boot: "another".into(), ..me }.is_alive());
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = b"7 (a) b ) S 4 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        assert_eq!(ProcStat::parse(text), Some(ProcStat { state: b'S', parent: 4, start: 4242 }));
        assert_eq!(ProcStat::parse(b"7 (cut"), None);
        assert_eq!(ProcStat::parse(b"7 (cut) S 4"), None);
    }

    #[test]
    fn records_are_whole_private_and_tolerant_of_later_fields() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read::<Ended>(dir.path(), EXIT).unwrap(), None);
        let ended = Ended { version: 1, exit: Exit::Code(3), failed: None };
        write(dir.path(), EXIT, &ended).unwrap();
        assert_eq!(read(dir.path(), EXIT).unwrap(), Some(ended.clone()));
        let mode = fs::metadata(dir.path().join(EXIT)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // Golden: an earlier release's record, with a field of a later one.
        fs::write(dir.path().join(EXIT), br#"{"version":1,"exit":{"Code":3},"failed":null,"later":1}"#).unwrap();
        assert_eq!(read(dir.path(), EXIT).unwrap(), Some(ended));
    }
}
