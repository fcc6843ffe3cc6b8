//! What the machine under a test offers, and a note of each test that is left out because it does not.
//!
//! Tests of every package use it, so it depends on none of them.

pub mod engine;
pub mod wait;

use std::fs::OpenOptions;
use std::io::Write as _;

/// Says in one line that a test is left out and why; the gate collects these lines (in the file that `DUNLIN_LEFT_OUT`
/// names) and fails on them.
///
/// # Panics
/// If there is such a file and it cannot be written: the gate would pass by mistake.
pub fn left_out(test: &str, why: &str) {
    println!("left out: {test}: {why}");
    if let Some(path) = std::env::var_os("DUNLIN_LEFT_OUT") {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let written = file.and_then(|mut file| writeln!(file, "{test}: {why}"));
        assert!(written.is_ok(), "cannot note a left-out test: {written:?}");
    }
}
