//! Reads a workload's log from its files: from the start or the last lines, on through rotations, at will for ever.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use dunlin_gossip::model::AllocId;
use tokio::sync::mpsc;

use super::place::Place;
use crate::keep::rotated;

/// Read at a time.
const CHUNK: usize = 32 * 1024;
/// How often a follower looks for more.
const LOOK: Duration = Duration::from_millis(100);

/// Sends the log of an exec allocation until its end, or, following, until the allocation is forgotten or nobody listens.
pub(super) async fn send(place: Place, alloc: AllocId, follow: bool, tail: Option<usize>, to: mpsc::Sender<Bytes>) {
    let mut cursor = Some(Cursor::new(place.log(alloc)));
    let mut first = Some(tail);
    while let Some(mut here) = cursor.take() {
        let (start, place) = (first.take(), place.clone());
        let step = tokio::task::spawn_blocking(move || {
            // Asked before reading: what is written before an allocation is forgotten is read.
            let known = place.is_known(alloc);
            if let Some(tail) = start {
                here.begin(tail)?;
            }
            let chunk = here.read()?;
            io::Result::Ok((here, chunk, known))
        });
        match step.await {
            Ok(Ok((here, chunk, _))) if !chunk.is_empty() => {
                if to.send(Bytes::from(chunk)).await.is_err() {
                    return;
                }
                cursor = Some(here);
            }
            Ok(Ok((here, _, known))) if follow && known => {
                tokio::select! {
                    () = to.closed() => return,
                    () = tokio::time::sleep(LOOK) => {}
                }
                cursor = Some(here);
            }
            Ok(Ok(_)) => return,
            Ok(Err(error)) => {
                tracing::warn!(%alloc, %error, "its log cannot be read");
                return;
            }
            Err(_ended) => return,
        }
    }
}

/// A place in a log that rotates under it.
#[derive(Debug)]
struct Cursor {
    path: PathBuf,
    file: Option<File>,
}

impl Cursor {
    const fn new(path: PathBuf) -> Self {
        Self { path, file: None }
    }

    /// Goes to the start, or to the last so many lines.
    fn begin(&mut self, tail: Option<usize>) -> io::Result<()> {
        let new = open(&self.path)?;
        let mut old = open(&rotated(&self.path))?;
        if same(new.as_ref(), old.as_ref())? {
            // Rotated between the two calls: it is the same file.
            old = None;
        }
        let (mut new, mut old) = (new, old);
        self.file = match tail {
            None => old.or(new),
            Some(wanted) => {
                let mut missing = wanted;
                if let Some(file) = new.as_mut() {
                    missing -= seek_last_lines(file, wanted)?.min(wanted);
                }
                match old.as_mut() {
                    Some(file) if missing > 0 => {
                        seek_last_lines(file, missing)?;
                        old
                    }
                    _ => new,
                }
            }
        };
        Ok(())
    }

    /// The next bytes; none at the end for now.
    fn read(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let Some(file) = self.file.as_mut() else {
                self.file = open(&self.path)?;
                match self.file {
                    Some(_) => continue,
                    None => return Ok(Vec::new()),
                }
            };
            let chunk = read_some(file)?;
            if !chunk.is_empty() {
                return Ok(chunk);
            }
            let Some(newest) = open(&self.path)? else { return Ok(chunk) };
            if same(Some(file), Some(&newest))? {
                return Ok(chunk);
            }
            // Rotated. Its writer closed the old file before it made the new one, so this is its end.
            let rest = read_some(file)?;
            if !rest.is_empty() {
                return Ok(rest);
            }
            let older = open(&rotated(&self.path))?;
            // Rotated more than once: what lies between is gone, go on with the oldest there is.
            self.file = if same(Some(file), older.as_ref())? { Some(newest) } else { older.or(Some(newest)) };
        }
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn same(a: Option<&File>, b: Option<&File>) -> io::Result<bool> {
    let (Some(a), Some(b)) = (a, b) else { return Ok(false) };
    Ok(a.metadata()?.ino() == b.metadata()?.ino())
}

fn read_some(file: &mut File) -> io::Result<Vec<u8>> {
    let mut chunk = vec![0; CHUNK];
    let count = file.read(&mut chunk)?;
    chunk.truncate(count);
    Ok(chunk)
}

/// Goes to the start of the last `wanted` lines; gives how many there are of them.
fn seek_last_lines(file: &mut File, wanted: usize) -> io::Result<usize> {
    let length = file.seek(SeekFrom::End(0))?;
    if wanted == 0 || length == 0 {
        return Ok(0);
    }
    let mut found = 0;
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(CHUNK as u64);
        let mut block = vec![0; usize::try_from(end - start).map_err(io::Error::other)?];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block)?;
        for (at, byte) in block.iter().enumerate().rev() {
            let after = start + at as u64 + 1;
            // The last line's own end begins no line.
            if *byte == b'\n' && after < length {
                found += 1;
                if found == wanted {
                    file.seek(SeekFrom::Start(after))?;
                    return Ok(found);
                }
            }
        }
        end = start;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(found + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn all(cursor: &mut Cursor) -> String {
        let mut text = Vec::new();
        loop {
            let chunk = cursor.read().unwrap();
            if chunk.is_empty() {
                return String::from_utf8(text).unwrap();
            }
            text.extend(chunk);
        }
    }

    fn cursor(path: &Path, tail: Option<usize>) -> Cursor {
        let mut cursor = Cursor::new(path.to_owned());
        cursor.begin(tail).unwrap();
        cursor
    }

    #[test]
    fn the_last_lines_are_found_across_both_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(rotated(&path), "1\n2\n3\n").unwrap();
        fs::write(&path, "4\n5\n").unwrap();
        assert_eq!(all(&mut cursor(&path, None)), "1\n2\n3\n4\n5\n");
        assert_eq!(all(&mut cursor(&path, Some(1))), "5\n");
        assert_eq!(all(&mut cursor(&path, Some(2))), "4\n5\n");
        assert_eq!(all(&mut cursor(&path, Some(3))), "3\n4\n5\n");
        assert_eq!(all(&mut cursor(&path, Some(9))), "1\n2\n3\n4\n5\n");
        assert_eq!(all(&mut cursor(&path, Some(0))), "");
        fs::write(&path, "4\n5\nunfinished").unwrap();
        assert_eq!(all(&mut cursor(&path, Some(2))), "5\nunfinished");
    }

    #[test]
    fn a_reader_goes_on_through_a_rotation_without_a_gap() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "1\n").unwrap();
        let mut cursor = cursor(&path, None);
        assert_eq!(all(&mut cursor), "1\n");
        fs::write(&path, "1\n2\n").unwrap();
        fs::rename(&path, rotated(&path)).unwrap();
        fs::write(&path, "3\n").unwrap();
        assert_eq!(all(&mut cursor), "2\n3\n");
        // Twice at once: the middle is gone, the end is there.
        fs::rename(&path, rotated(&path)).unwrap();
        fs::write(&path, "4\n").unwrap();
        fs::rename(&path, rotated(&path)).unwrap();
        fs::write(&path, "5\n").unwrap();
        assert_eq!(all(&mut cursor), "4\n5\n");
    }

    #[test]
    fn a_log_that_is_not_there_yet_is_empty_and_then_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut cursor = cursor(&path, Some(5));
        assert_eq!(all(&mut cursor), "");
        fs::write(&path, "1\n").unwrap();
        assert_eq!(all(&mut cursor), "1\n");
    }
}
