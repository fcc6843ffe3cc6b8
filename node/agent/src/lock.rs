//! One agent a data directory: an advisory lock that the kernel drops with its process, so that no crash leaves it behind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Held for as long as this process may write to the data directory.
#[derive(Debug)]
pub struct DataLock {
    _file: Flock<File>,
}

/// Why the data directory cannot be ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it.
    #[error("{} is in use by another agent (process {holder}); stop that one, or give this one its own --data-dir", .data.display())]
    Held {
        /// The data directory.
        data: PathBuf,
        /// Its process id, as it wrote it.
        holder: String,
    },
    /// The file system refuses.
    #[error("cannot write to the data directory {}: {source}; make it writable for this user, or choose another with --data-dir", .data.display())]
    Io {
        /// The data directory.
        data: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl DataLock {
    /// Creates the data directory where it is missing, and takes it.
    ///
    /// # Errors
    /// If another agent has it, or it cannot be written to.
    pub fn take(data: &Path) -> Result<Self, LockError> {
        let fail = |source| LockError::Io { data: data.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o750).create(data).map_err(fail)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(data.join("dunlin.lock")).map_err(fail)?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut holder = String::new();
                let _best_effort = (&mut file).take(16).read_to_string(&mut holder);
                let holder = holder.trim();
                let holder = if holder.is_empty() { "unknown".to_owned() } else { holder.to_owned() };
                return Err(LockError::Held { data: data.to_owned(), holder });
            }
            Err((_, errno)) => return Err(fail(errno.into())),
        };
        file.set_len(0).and_then(|()| file.rewind()).map_err(fail)?;
        writeln!(file, "{}", std::process::id()).map_err(fail)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_agent_is_told_about_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataLock::take(dir.path()).unwrap();
        let error = DataLock::take(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        DataLock::take(dir.path()).unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "").unwrap();
        let error = DataLock::take(&path.join("data")).unwrap_err().to_string();
        assert!(error.contains("--data-dir"), "{error}");
    }
}
