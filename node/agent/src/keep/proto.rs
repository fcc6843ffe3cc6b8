//! The words between an agent and a keeper: version 1, guarded by golden bytes.
//!
//! A frame is `version (1 byte), length of the rest (4 bytes, big endian), kind (1 byte), body`. Integers are big endian.
//! Agents and keepers of different releases meet (a running keeper is never replaced), hence: kinds that the reader does
//! not know are skipped, bytes after the body that it knows are skipped, and only the version byte can end the talk.
//! The face is synchronous and owns no socket: the keeper has no runtime, the agent has one, both feed a [`Decoder`].

use std::marker::PhantomData;

use dunlin_core::face::Exit;

/// The version that this release speaks.
pub(crate) const VERSION: u8 = 1;
/// No frame is longer than this; a longer one is a fault of the peer.
pub(crate) const MAX_FRAME: usize = 64 * 1024;

const HEAD: usize = 5;

/// What an agent asks of a keeper.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ask {
    /// Say how it stands.
    Status,
    /// Send this signal to the workload, SIGKILL after the grace.
    Stop {
        /// The signal's number.
        signal: i32,
        /// Milliseconds until SIGKILL.
        grace_ms: u64,
    },
    /// SIGKILL, now.
    Kill,
    /// The lease ends then, and no earlier.
    Extend {
        /// Nanoseconds of `CLOCK_BOOTTIME`.
        until: u64,
    },
}

/// What a keeper says. `Status` comes unasked as the first word on each connection once the workload runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Say {
    /// It runs.
    Status(Status),
    /// It ended, nothing of it is left, and the exit record is on disk. The keeper's last word.
    Exited(Exit),
    /// It could not be started. The keeper's last word.
    Failed(String),
}

/// How a workload stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Status {
    /// True once it was told to stop or its main process has ended.
    pub(crate) stopping: bool,
    /// Its main process.
    pub(crate) pid: u32,
    /// That process's start time, in the kernel's ticks since boot.
    pub(crate) start: u64,
    /// When its lease ends, in nanoseconds of `CLOCK_BOOTTIME`. None: it needs none, or its keeper is of a release that knew none.
    pub(crate) lease: Option<u64>,
}

/// The other side cannot be understood; hang up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum ProtoError {
    /// It speaks another version.
    #[error("the other side speaks version {0} of the keeper protocol, this is version {VERSION}")]
    Version(u8),
    /// A frame is longer than any can be.
    #[error("a frame of {0} bytes is longer than the {MAX_FRAME} allowed")]
    TooLong(usize),
    /// A body is shorter than its kind says.
    #[error("the frame of kind {0} is cut short")]
    Short(u8),
}

/// One side's words.
pub(crate) trait Word: Sized {
    /// Adds the frame of this word to `out`.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads the body of a frame; none for a kind that is not known.
    fn decode(kind: u8, body: &[u8]) -> Result<Option<Self>, ProtoError>;

    /// This word's frame.
    fn to_frame(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    let length = u32::try_from(body.len() + 1).unwrap_or(u32::MAX);
    out.push(VERSION);
    out.extend_from_slice(&length.to_be_bytes());
    out.push(kind);
    out.extend_from_slice(body);
}

/// Takes integers from the front of a body.
struct Reader<'a> {
    kind: u8,
    rest: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], ProtoError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(ProtoError::Short(self.kind))?;
        self.rest = rest;
        Ok(*head)
    }
}

impl Word for Ask {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Status => frame(out, 1, &[]),
            Self::Stop { signal, grace_ms } => {
                let mut body = signal.to_be_bytes().to_vec();
                body.extend_from_slice(&grace_ms.to_be_bytes());
                frame(out, 2, &body);
            }
            Self::Kill => frame(out, 3, &[]),
            Self::Extend { until } => frame(out, 4, &until.to_be_bytes()),
        }
    }

    fn decode(kind: u8, body: &[u8]) -> Result<Option<Self>, ProtoError> {
        let mut reader = Reader { kind, rest: body };
        Ok(Some(match kind {
            1 => Self::Status,
            2 => {
                Self::Stop { signal: i32::from_be_bytes(reader.take()?), grace_ms: u64::from_be_bytes(reader.take()?) }
            }
            3 => Self::Kill,
            4 => Self::Extend { until: u64::from_be_bytes(reader.take()?) },
            _ => return Ok(None),
        }))
    }
}

impl Word for Say {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Status(status) => {
                let mut body = vec![u8::from(status.stopping)];
                body.extend_from_slice(&status.pid.to_be_bytes());
                body.extend_from_slice(&status.start.to_be_bytes());
                // Appended: who knows no leases skips it, and without one nothing is.
                body.extend(status.lease.into_iter().flat_map(u64::to_be_bytes));
                frame(out, 1, &body);
            }
            Self::Exited(exit) => {
                let (how, value) = match exit {
                    Exit::Code(code) => (0, *code),
                    Exit::Signal(signal) => (1, *signal),
                    Exit::Lost => (2, 0),
                };
                let mut body = vec![how];
                body.extend_from_slice(&value.to_be_bytes());
                frame(out, 2, &body);
            }
            Self::Failed(text) => {
                let end = text.floor_char_boundary(MAX_FRAME / 2);
                frame(out, 3, text.get(..end).unwrap_or_default().as_bytes());
            }
        }
    }

    fn decode(kind: u8, body: &[u8]) -> Result<Option<Self>, ProtoError> {
        let mut reader = Reader { kind, rest: body };
        Ok(Some(match kind {
            1 => Self::Status(Status {
                stopping: reader.take::<1>()? != [0],
                pid: u32::from_be_bytes(reader.take()?),
                start: u64::from_be_bytes(reader.take()?),
                lease: reader.take().ok().map(u64::from_be_bytes),
            }),
            2 => {
                let how = reader.take::<1>()?;
                let value = i32::from_be_bytes(reader.take()?);
                Self::Exited(match how {
                    [0] => Exit::Code(value),
                    [1] => Exit::Signal(value),
                    [_] => Exit::Lost,
                })
            }
            3 => Self::Failed(String::from_utf8_lossy(body).into_owned()),
            _ => return Ok(None),
        }))
    }
}

/// Cuts a stream of bytes into words.
#[derive(Debug)]
pub(crate) struct Decoder<T> {
    buffer: Vec<u8>,
    word: PhantomData<T>,
}

impl<T> Default for Decoder<T> {
    fn default() -> Self {
        Self { buffer: Vec::new(), word: PhantomData }
    }
}

impl<T: Word> Decoder<T> {
    /// Adds what was read.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole word, or none until more has been read.
    pub(crate) fn next(&mut self) -> Result<Option<T>, ProtoError> {
        loop {
            let Some((head, rest)) = self.buffer.split_first_chunk::<HEAD>() else { return Ok(None) };
            let [version, length @ ..] = *head;
            if version != VERSION {
                return Err(ProtoError::Version(version));
            }
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            if length > MAX_FRAME {
                return Err(ProtoError::TooLong(length));
            }
            let Some(content) = rest.get(..length) else { return Ok(None) };
            let word = match content.split_first() {
                Some((kind, body)) => T::decode(*kind, body)?,
                None => None,
            };
            self.buffer.drain(..HEAD + length);
            if let Some(word) = word {
                return Ok(Some(word));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back<T: Word>(bytes: &[u8]) -> Result<Option<T>, ProtoError> {
        let mut decoder = Decoder::default();
        decoder.push(bytes);
        decoder.next()
    }

    #[test]
    fn golden_bytes_of_what_agents_ask() {
        let golden: [(Ask, &[u8]); 4] = [
            (Ask::Status, &[1, 0, 0, 0, 1, 1]),
            (
                Ask::Stop { signal: 15, grace_ms: 10_000 },
                &[1, 0, 0, 0, 13, 2, 0, 0, 0, 15, 0, 0, 0, 0, 0, 0, 0x27, 0x10],
            ),
            (Ask::Kill, &[1, 0, 0, 0, 1, 3]),
            (Ask::Extend { until: 0x0102_0304_0506_0708 }, &[1, 0, 0, 0, 9, 4, 1, 2, 3, 4, 5, 6, 7, 8]),
        ];
        for (word, bytes) in golden {
            assert_eq!(word.to_frame(), bytes);
            assert_eq!(back::<Ask>(bytes), Ok(Some(word)));
        }
    }

    #[test]
    fn golden_bytes_of_what_keepers_say() {
        let golden: [(Say, &[u8]); 6] = [
            (
                Say::Status(Status { stopping: false, pid: 258, start: 7, lease: None }),
                &[1, 0, 0, 0, 14, 1, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 7],
            ),
            (
                Say::Status(Status { stopping: true, pid: 258, start: 7, lease: Some(9) }),
                &[1, 0, 0, 0, 22, 1, 1, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9],
            ),
            (Say::Exited(Exit::Code(3)), &[1, 0, 0, 0, 6, 2, 0, 0, 0, 0, 3]),
            (Say::Exited(Exit::Signal(9)), &[1, 0, 0, 0, 6, 2, 1, 0, 0, 0, 9]),
            (Say::Exited(Exit::Lost), &[1, 0, 0, 0, 6, 2, 2, 0, 0, 0, 0]),
            (Say::Failed("no".into()), &[1, 0, 0, 0, 3, 3, b'n', b'o']),
        ];
        for (word, bytes) in golden {
            assert_eq!(word.to_frame(), bytes);
            assert_eq!(back::<Say>(bytes), Ok(Some(word)));
        }
    }

    #[test]
    fn words_of_later_releases_are_skipped_and_longer_bodies_are_read() {
        let mut bytes = vec![1, 0, 0, 0, 2, 99, 0];
        bytes.extend_from_slice(&[1, 0, 0, 0, 8, 2, 0, 0, 0, 0, 3, 0xff, 0xff]);
        assert_eq!(back::<Say>(&bytes), Ok(Some(Say::Exited(Exit::Code(3)))));
    }

    #[test]
    fn a_word_arrives_in_pieces() {
        let bytes = Ask::Stop { signal: 2, grace_ms: 1 }.to_frame();
        let mut decoder = Decoder::default();
        for byte in &bytes[..bytes.len() - 1] {
            decoder.push(&[*byte]);
            assert_eq!(decoder.next(), Ok(None));
        }
        decoder.push(&bytes[bytes.len() - 1..]);
        assert_eq!(decoder.next(), Ok(Some(Ask::Stop { signal: 2, grace_ms: 1 })));
    }

    #[test]
    fn garbage_is_refused_without_a_panic() {
        assert_eq!(back::<Ask>(&[2, 0, 0, 0, 1, 1]), Err(ProtoError::Version(2)));
        assert_eq!(back::<Ask>(&[1, 0xff, 0, 0, 0, 1]), Err(ProtoError::TooLong(0xff00_0000)));
        assert_eq!(back::<Ask>(&[1, 0, 0, 0, 2, 2, 0]), Err(ProtoError::Short(2)));
        assert_eq!(back::<Ask>(&[1, 0, 0, 0, 0]), Ok(None));
    }
}
