//! What is said to the author of a file: what is wrong, where, and what to do.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A place in the file. Both count from 1, columns in characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Mark {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One thing that is wrong with a file, or (in [`Project::warnings`](crate::Project::warnings)) worth knowing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The file, as the caller named it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Where in the document, `services.web.ports[0]`; `(document)` at its top.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, key, what, remedy } = self;
        write!(f, "{file}:{line}:{column}: {key}: {what}; {remedy}")
    }
}

impl core::error::Error for Problem {}

/// Collects problems while a file is read, so that reading goes on after the first.
pub(crate) struct Log<'a> {
    file: &'a str,
    last_line: u32,
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
    /// Values that could not be had at all: whatever else is said of them would only follow from that.
    broken: BTreeSet<Mark>,
}

impl<'a> Log<'a> {
    pub(crate) const fn new(file: &'a str) -> Self {
        Self { file, last_line: u32::MAX, errors: Vec::new(), warnings: Vec::new(), broken: BTreeSet::new() }
    }

    /// Says how long the file is. At an unexpected end the scanner stands a line behind it, where nobody can look.
    pub(crate) const fn ends_at(&mut self, line: u32) {
        self.last_line = line;
    }

    fn problem(&self, mark: Mark, key: &str, what: String, remedy: String) -> Problem {
        let key = if key.is_empty() { "(document)" } else { key };
        let line = mark.line.min(self.last_line);
        Problem { file: self.file.into(), line, column: mark.column, key: key.into(), what, remedy }
    }

    /// Records an error: the file will be refused.
    pub(crate) fn error(&mut self, mark: Mark, key: &str, what: impl Into<String>, remedy: impl Into<String>) {
        if !self.broken.contains(&mark) {
            let problem = self.problem(mark, key, what.into(), remedy.into());
            self.errors.push(problem);
        }
    }

    /// Records an error that leaves no value to say more of.
    pub(crate) fn broken(&mut self, mark: Mark, key: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.error(mark, key, what, remedy);
        self.broken.insert(mark);
    }

    /// Records something that the author should know of a file that is accepted.
    pub(crate) fn warn(&mut self, mark: Mark, key: &str, what: impl Into<String>, remedy: impl Into<String>) {
        let problem = self.problem(mark, key, what.into(), remedy.into());
        self.warnings.push(problem);
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.errors.is_empty()
    }

    /// Errors and warnings, each sorted by place. An anchor's content is read once per use: it is reported once.
    pub(crate) fn finish(mut self) -> (Vec<Problem>, Vec<Problem>) {
        // A variable that is not set is the usual cause of a value that is wrong: a refused file must say so too.
        let causes: BTreeMap<(u32, u32), &str> =
            self.warnings.iter().map(|w| ((w.line, w.column), w.what.as_str())).collect();
        for error in &mut self.errors {
            if let Some(cause) = causes.get(&(error.line, error.column)) {
                error.what = format!("{} ({cause})", error.what);
            }
        }
        (sorted(self.errors), sorted(self.warnings))
    }
}

fn sorted(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by(|a, b| (a.line, a.column, &a.what, &a.key).cmp(&(b.line, b.column, &b.what, &b.key)));
    problems.dedup_by(|b, a| (a.line, a.column, &a.what) == (b.line, b.column, &b.what));
    problems
}
