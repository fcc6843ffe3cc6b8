//! The way to the local agent: HTTP/1.1 over its unix socket, written by hand because one request a connection is all there is.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dunlin_agent::api::types::ErrorBody;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::{Failure, Kind};

/// Longest wait for an answer's first byte beyond the time that the request itself allows.
const SLACK: Duration = Duration::from_secs(15);
/// Largest answer that is read whole.
const MAX_BODY: u64 = 64 << 20;

/// A client of one agent.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

/// An answer whose body is still to be read.
pub(crate) struct Streaming {
    reader: BufReader<UnixStream>,
    chunked: bool,
    left: Option<u64>,
}

/// A text as part of a query (RFC 3986 section 2.1).
pub(crate) fn percent(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

impl Client {
    /// Of the agent whose data directory this is.
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self { socket: data_dir.join("dunlin.sock") }
    }

    /// Reads a document.
    ///
    /// # Errors
    /// If the agent is not there, or says no.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.call("GET", path, None, SLACK)
    }

    /// Writes a document, within the time that the request itself allows.
    ///
    /// # Errors
    /// If the agent is not there, or says no.
    pub(crate) fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        within: Duration,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|e| Failure::failed(e.to_string()))?;
        self.call("POST", path, Some(body), within + SLACK)
    }

    /// Deletes something.
    ///
    /// # Errors
    /// If the agent is not there, or says no.
    pub(crate) fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.call("DELETE", path, None, SLACK)
    }

    fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<Vec<u8>>,
        within: Duration,
    ) -> Result<T, Failure> {
        let mut answer = self.open(method, path, body, Some(within))?;
        let mut text = Vec::new();
        answer.by_ref().take(MAX_BODY).read_to_end(&mut text).map_err(|e| self.broken(&e))?;
        serde_json::from_slice(&text).map_err(|e| {
            Failure::failed(format!(
                "the agent's answer to {method} {path} cannot be read: {e}; is it another version?"
            ))
        })
    }

    /// Opens a stream that lasts until either side ends it.
    ///
    /// # Errors
    /// If the agent is not there, or says no.
    pub(crate) fn stream(&self, path: &str) -> Result<Streaming, Failure> {
        self.open("GET", path, None, None)
    }

    fn open(
        &self,
        method: &str,
        path: &str,
        body: Option<Vec<u8>>,
        within: Option<Duration>,
    ) -> Result<Streaming, Failure> {
        let mut socket = UnixStream::connect(&self.socket).map_err(|e| self.absent(&e))?;
        socket.set_read_timeout(within).map_err(|e| self.broken(&e))?;
        let body = body.unwrap_or_default();
        let head = format!(
            "{method} /v1/{path} HTTP/1.1\r\nhost: dunlin\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        socket.write_all(head.as_bytes()).and_then(|()| socket.write_all(&body)).map_err(|e| self.broken(&e))?;
        let mut answer = Streaming { reader: BufReader::new(socket), chunked: false, left: None };
        let status = answer.read_head().map_err(|e| self.broken(&e))?;
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        let mut text = Vec::new();
        answer.by_ref().take(MAX_BODY).read_to_end(&mut text).map_err(|e| self.broken(&e))?;
        let unreadable = || ErrorBody {
            error: format!("the agent answered {status}: {}", String::from_utf8_lossy(&text)),
            kind: String::new(),
            remedy: String::new(),
        };
        Err(Failure::from_api(serde_json::from_slice(&text).unwrap_or_else(|_| unreadable())))
    }

    fn absent(&self, error: &std::io::Error) -> Failure {
        let at = self.socket.display();
        match error.kind() {
            std::io::ErrorKind::PermissionDenied => Failure::new(
                Kind::Failed,
                format!("no permission for {at}"),
                "run this as root, or as a member of the group that owns the socket",
            ),
            _ => Failure::new(
                Kind::Failed,
                format!("no agent answers at {at}: {error}"),
                "start one with `dunlin agent`, or name its directory with --data-dir",
            ),
        }
    }

    fn broken(&self, error: &std::io::Error) -> Failure {
        let kind = match error.kind() {
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => Kind::TimedOut,
            _ => Kind::Failed,
        };
        Failure::new(kind, format!("talking to the agent at {}: {error}", self.socket.display()), "dunlin status")
    }
}

impl Streaming {
    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        self.reader.by_ref().take(16 * 1024).read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn read_head(&mut self) -> std::io::Result<u16> {
        let status = self.line()?;
        let code = status.split_whitespace().nth(1).and_then(|c| c.parse().ok());
        let bad = || std::io::Error::new(std::io::ErrorKind::InvalidData, format!("no HTTP answer: {status:?}"));
        let code = code.ok_or_else(bad)?;
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                return Ok(code);
            }
            let value =
                |name: &str| line.strip_prefix(name).and_then(|v| v.strip_prefix(':')).map(|v| v.trim().to_owned());
            if let Some(length) = value("content-length") {
                self.left = length.parse().ok();
            }
            if value("transfer-encoding").is_some_and(|v| v.contains("chunked")) {
                self.chunked = true;
                self.left = Some(0);
            }
        }
    }

    /// Begins the next chunk (RFC 9112 section 7.1); false at the last one.
    fn next_chunk(&mut self) -> std::io::Result<bool> {
        let mut line = self.line()?;
        if line.is_empty() {
            line = self.line()?;
        }
        let size = line.split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(size.trim(), 16)
            .map_err(|_| std::io::Error::new(std::io::ErrorKind::InvalidData, format!("bad chunk size {line:?}")))?;
        self.left = Some(size);
        Ok(size > 0)
    }
}

impl Read for Streaming {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.chunked && self.left == Some(0) && !self.next_chunk()? {
            self.chunked = false;
            return Ok(0);
        }
        let most = self.left.map_or(buffer.len(), |left| buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        let Some(window) = buffer.get_mut(..most) else { return Ok(0) };
        let n = self.reader.read(window)?;
        if let Some(left) = &mut self.left {
            *left -= n as u64;
        }
        Ok(n)
    }
}
