//! A workload's log: one file for output and errors as they came, rotated once, so that it stays bounded.
//!
//! A full or broken disk must never stop the workload: what cannot be written is dropped and counted, and the count is
//! written as soon as writing works again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Appends to a log and rotates it.
#[derive(Debug)]
pub(super) struct LogWriter {
    path: PathBuf,
    max: u64,
    file: Option<File>,
    size: u64,
    dropped: u64,
}

/// Where a log goes when it is rotated.
#[must_use]
pub(crate) fn rotated(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

impl LogWriter {
    /// A writer that goes on where an earlier one ended.
    #[must_use]
    pub(super) fn new(path: PathBuf, max: u64) -> Self {
        let mut log = Self { path, max: max.max(4096), file: None, size: 0, dropped: 0 };
        let _tried_again_at_each_write = log.open();
        log
    }

    fn open(&mut self) -> io::Result<()> {
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(&self.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Appends; rotates at the end of a line where the chunk has one.
    pub(super) fn write(&mut self, chunk: &[u8]) {
        if self.size.saturating_add(chunk.len() as u64) <= self.max {
            self.append(chunk);
            return;
        }
        let cut = chunk.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let (old, new) = chunk.split_at(cut);
        self.append(old);
        self.file = None;
        // If it cannot be renamed it simply grows until it can.
        let _grows = fs::rename(&self.path, rotated(&self.path));
        self.append(new);
    }

    /// Writes a line of the keeper's own.
    pub(super) fn note(&mut self, text: &str) {
        self.write(format!("[dunlin] {text}\n").as_bytes());
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.file.is_none() && self.open().is_err() {
            self.dropped = self.dropped.saturating_add(bytes.len() as u64);
            return;
        }
        if self.dropped > 0 {
            let line = format!("[dunlin] {} bytes of output were lost: the log could not be written\n", self.dropped);
            if self.put(line.as_bytes()) {
                self.dropped = 0;
            }
        }
        if !self.put(bytes) {
            self.dropped = self.dropped.saturating_add(bytes.len() as u64);
        }
    }

    fn put(&mut self, bytes: &[u8]) -> bool {
        let Some(file) = self.file.as_mut() else { return false };
        let written = file.write_all(bytes).is_ok();
        if written {
            self.size = self.size.saturating_add(bytes.len() as u64);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rotates_between_lines_and_stays_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogWriter::new(path.clone(), 4096);
        let mut all = Vec::new();
        for n in 0..400 {
            let line = format!("line {n:04} of some text\n");
            log.write(line.as_bytes());
            all.extend_from_slice(line.as_bytes());
        }
        let mut kept = fs::read(rotated(&path)).unwrap();
        assert!(kept.ends_with(b"\n"));
        kept.extend(fs::read(&path).unwrap());
        assert!(all.ends_with(&kept), "what is kept is the end, without a gap");
        assert!(kept.len() > 4096 && kept.len() < 2 * 4096 + 64);
    }

    #[test]
    fn a_second_writer_goes_on_where_the_first_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        LogWriter::new(path.clone(), 4096).write(b"one\n");
        LogWriter::new(path.clone(), 4096).write(b"two\n");
        assert_eq!(fs::read(&path).unwrap(), b"one\ntwo\n");
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("later").join("log");
        let mut log = LogWriter::new(path.clone(), 4096);
        log.write(b"gone\n");
        fs::create_dir(dir.path().join("later")).unwrap();
        log.write(b"here\n");
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "[dunlin] 5 bytes of output were lost: the log could not be written\nhere\n");
    }
}
