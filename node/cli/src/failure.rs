//! How a command fails: what was wrong, what to do, and the exit code that its kind decides.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use dunlin_agent::api::types::ErrorBody;

/// Kinds of failures, one an exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Something did not work.
    Failed,
    /// What was typed, or a file that was named, is wrong.
    Usage,
    /// Waited in vain.
    TimedOut,
}

/// A failure for people.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    what: String,
    remedy: String,
}

impl Failure {
    pub(crate) fn new(kind: Kind, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { kind, what: what.into(), remedy: remedy.into() }
    }

    pub(crate) fn failed(what: impl Into<String>) -> Self {
        Self::new(Kind::Failed, what, "")
    }

    pub(crate) fn usage(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Kind::Usage, what, remedy)
    }

    /// From an error document of the API.
    pub(crate) fn from_api(body: ErrorBody) -> Self {
        let kind = match body.kind.as_str() {
            "bad-request" | "not-found" => Kind::Usage,
            "timed-out" => Kind::TimedOut,
            _ => Kind::Failed,
        };
        Self::new(kind, body.error, body.remedy)
    }

    pub(crate) fn print(&self) {
        let red = std::io::stderr().is_terminal();
        let (on, off) = if red { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
        eprintln!("{on}error:{off} {}", self.what);
        if !self.remedy.is_empty() {
            eprintln!("  try: {}", self.remedy);
        }
    }

    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self.kind {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::TimedOut => 3,
        })
    }
}
