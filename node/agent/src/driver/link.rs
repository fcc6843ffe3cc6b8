//! An agent's connection to one keeper.

use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::keep::proto::{Ask, Decoder, Say, Word};
use crate::keep::record::{CONTROL, LOCK, create_private};

/// A keeper answers at once or not at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// The connection.
#[derive(Debug)]
pub(super) struct Link {
    stream: UnixStream,
    decoder: Decoder<Say>,
}

impl Link {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, decoder: Decoder::default() }
    }

    /// Connects to the keeper of an attempt. Socket addresses hold about 100 bytes, data directories may be longer: the
    /// way goes over the open directory.
    pub(super) async fn connect(dir: &Path) -> io::Result<Self> {
        let dir = open(dir, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        let path = format!("/proc/self/fd/{}/{CONTROL}", dir.as_raw_fd());
        let stream = timeout(PATIENCE, UnixStream::connect(path)).await.map_err(io::Error::from)??;
        Ok(Self::new(stream))
    }

    /// The keeper's next word; none once it has hung up or speaks gibberish. May be dropped at any await.
    pub(super) async fn next(&mut self) -> Option<Say> {
        let mut bytes = [0; 1024];
        loop {
            match self.decoder.next() {
                Ok(Some(word)) => return Some(word),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "a keeper cannot be understood");
                    return None;
                }
            }
            match self.stream.read(&mut bytes).await {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.decoder.push(bytes.get(..count).unwrap_or_default()),
            }
        }
    }

    /// Asks; the answer comes by `next`.
    pub(super) async fn ask(&mut self, ask: Ask) -> io::Result<()> {
        timeout(PATIENCE, self.stream.write_all(&ask.to_frame())).await.map_err(io::Error::from)?
    }
}

/// The lock that an attempt's keeper holds as long as it lives; none if it is held.
///
/// The lock belongs to the open file: a keeper that inherits the file keeps it when this copy is closed.
pub(super) fn try_lock(dir: &Path) -> io::Result<Option<File>> {
    let file = create_private(&dir.join(LOCK))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
