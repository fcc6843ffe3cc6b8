//! Where the exec driver keeps its files: `DATA/allocs/<alloc>/` with `log`, `work/` and one directory an attempt.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use dunlin_gossip::id::{ClusterId, NodeId};
use dunlin_gossip::model::AllocId;

use crate::keep::record::{self, KeepSpec, SPEC};

/// Logs of so many forgotten allocations are kept; the oldest go first.
const KEPT_LOGS: usize = 64;

/// The directories of one node's exec allocations.
#[derive(Clone, Debug)]
pub(super) struct Place {
    root: PathBuf,
    cluster: String,
    node: String,
}

/// The last attempt of an allocation, as its files tell.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) alloc: AllocId,
    pub(super) attempt: u32,
    pub(super) spec: KeepSpec,
}

impl Place {
    pub(super) fn new(data_dir: &Path, cluster: ClusterId, node: NodeId) -> io::Result<Self> {
        // Absolute, since keepers change their directory.
        let root = std::path::absolute(data_dir)?.join("allocs");
        make_private(&root)?;
        Ok(Self { root, cluster: cluster.to_string(), node: node.to_string() })
    }

    pub(super) fn alloc(&self, alloc: AllocId) -> PathBuf {
        self.root.join(alloc.to_string())
    }

    pub(super) fn attempt(&self, alloc: AllocId, attempt: u32) -> PathBuf {
        self.alloc(alloc).join(attempt.to_string())
    }

    pub(super) fn work(&self, alloc: AllocId) -> PathBuf {
        self.alloc(alloc).join("work")
    }

    pub(super) fn log(&self, alloc: AllocId) -> PathBuf {
        self.alloc(alloc).join("log")
    }

    /// Who it all belongs to: cluster and node, in hexadecimal.
    pub(super) fn owner(&self) -> (String, String) {
        (self.cluster.clone(), self.node.clone())
    }

    /// Makes room for an attempt and removes what earlier ones left, secrets included.
    pub(super) fn make(&self, alloc: AllocId, attempt: u32) -> io::Result<PathBuf> {
        for number in self.attempts(alloc) {
            fs::remove_dir_all(self.attempt(alloc, number))?;
        }
        make_private(&self.work(alloc))?;
        let dir = self.attempt(alloc, attempt);
        make_private(&dir)?;
        Ok(dir)
    }

    /// Removes everything of an allocation but its logs, and the oldest logs beyond the bound.
    pub(super) fn forget(&self, alloc: AllocId) -> io::Result<()> {
        for number in self.attempts(alloc) {
            fs::remove_dir_all(self.attempt(alloc, number))?;
        }
        match fs::remove_dir_all(self.work(alloc)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.prune(KEPT_LOGS)
    }

    fn prune(&self, keep: usize) -> io::Result<()> {
        let mut forgotten: Vec<(SystemTime, AllocId)> = self
            .allocs()
            .filter(|alloc| !self.is_known(*alloc))
            .map(|alloc| {
                let touched = fs::metadata(self.log(alloc)).and_then(|meta| meta.modified());
                (touched.unwrap_or(SystemTime::UNIX_EPOCH), alloc)
            })
            .collect();
        forgotten.sort_by(|a, b| b.cmp(a));
        for (touched, alloc) in forgotten.into_iter().enumerate().filter_map(|(n, old)| {
            // What never wrote anything leaves nothing.
            (n >= keep || old.0 == SystemTime::UNIX_EPOCH).then_some(old)
        }) {
            tracing::debug!(?alloc, ?touched, "old logs removed");
            fs::remove_dir_all(self.alloc(alloc))?;
        }
        Ok(())
    }

    /// Everything here that is this node's own.
    pub(super) fn scan(&self) -> Vec<Found> {
        self.allocs().filter_map(|alloc| self.find(alloc)).collect()
    }

    /// The last attempt of an allocation, if it is this node's own.
    pub(super) fn find(&self, alloc: AllocId) -> Option<Found> {
        let attempt = self.attempts(alloc).into_iter().max()?;
        let dir = self.attempt(alloc, attempt);
        match record::read::<KeepSpec>(&dir, SPEC) {
            Ok(Some(spec)) if spec.cluster == self.cluster && spec.node == self.node => {
                Some(Found { alloc, attempt, spec })
            }
            Ok(Some(spec)) => {
                tracing::warn!(dir = %dir.display(), cluster = spec.cluster, node = spec.node, "not this node's: left alone");
                None
            }
            // An agent ended before it had written what to run: nothing ran.
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "what ran here cannot be read: left alone");
                None
            }
        }
    }

    /// True while the allocation is known here (its logs may outlive it).
    pub(super) fn is_known(&self, alloc: AllocId) -> bool {
        // Attempts come and go, this directory stays from the first start until the allocation is forgotten.
        self.work(alloc).is_dir()
    }

    fn allocs(&self) -> impl Iterator<Item = AllocId> {
        entries(&self.root).filter_map(|name| AllocId::parse(&name))
    }

    fn attempts(&self, alloc: AllocId) -> Vec<u32> {
        entries(&self.alloc(alloc)).filter_map(|name| name.parse().ok()).collect()
    }
}

fn entries(dir: &Path) -> impl Iterator<Item = String> {
    fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok())
}

fn make_private(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(dir: &Path) -> Place {
        Place::new(dir, ClusterId([1; 16]), NodeId([2; 16])).unwrap()
    }

    #[test]
    fn an_earlier_attempt_goes_when_the_next_comes_and_logs_stay_to_the_bound() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        let alloc = AllocId(7);
        place.make(alloc, 1).unwrap();
        place.make(alloc, 2).unwrap();
        assert_eq!(place.attempts(alloc), [2]);
        fs::write(place.log(alloc), "x").unwrap();
        place.forget(alloc).unwrap();
        assert!(place.log(alloc).exists() && !place.is_known(alloc));
        place.prune(0).unwrap();
        assert!(!place.alloc(alloc).exists());
    }

    #[test]
    fn strangers_and_torn_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        let path = place.make(AllocId(7), 1).unwrap();
        assert!(place.scan().is_empty());
        fs::write(path.join(SPEC), "{").unwrap();
        assert!(place.scan().is_empty());
        assert!(path.exists());
    }
}
