//! A line on standard error that tells how far something has come, for people who wait for it. Where standard error is no
//! terminal nothing is ever written, and nothing at all about what is over within a second.

use std::io::{IsTerminal as _, Write as _};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// What takes no longer needs no line.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the line is written anew.
const PAUSE: Duration = Duration::from_millis(200);

/// Works, and shows meanwhile what `text` says.
pub(crate) fn while_told<T>(text: impl Fn() -> String + Sync, work: impl FnOnce() -> T) -> T {
    if !std::io::stderr().is_terminal() {
        return work();
    }
    // The sender goes out of scope with the work, however it ends.
    let (at_work, over) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(|| show(&text, over));
        let _at_work = at_work;
        work()
    })
}

fn show(text: &(impl Fn() -> String + Sync), over: mpsc::Receiver<()>) {
    let mut pause = PATIENCE;
    while over.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        pause = PAUSE;
        line(&text());
    }
    if pause == PAUSE {
        line("");
    }
}

/// Replaces the line. A terminal that is gone misses nothing.
fn line(text: &str) {
    let mut out = std::io::stderr();
    let _gone = write!(out, "\r\x1b[K{text}").and_then(|()| out.flush());
}

/// In red, for such a line.
pub(crate) fn red(text: &str) -> String {
    format!("\x1b[31m{text}\x1b[0m")
}
