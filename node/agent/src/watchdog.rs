//! Notices a loop that is stuck, writes down what it is at, and has the agent begin again.
//!
//! A thread of its own, outside the runtime, looks at the loop's pulse. Nothing in a turn waits for a disk, a peer or a process, so
//! a turn that lasts for five seconds will not end by itself. What woke it, how much was waiting and what each thread of the
//! process is at goes to the log; then the process replaces itself by a fresh one with the same arguments. It keeps its number, so
//! that a service manager sees nothing, and workloads are under their keepers and are adopted.
//!
//! Time is counted in looks, so that a machine that stood still is no stuck loop.
//!
//! Never: a decision about what the loop does, or a restart because the loop sleeps.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// A turn that is still the same after so many looks is stuck.
const LOOKS: u32 = 9;
/// Tells the next process why it was begun.
const WHY: &str = "DUNLIN_WAS_STUCK";
/// For tests alone, in builds made for them: after so many milliseconds the loop hangs in a turn, once.
#[cfg(feature = "test-faults")]
const STICK: &str = "DUNLIN_TEST_STICK_AFTER_MS";
/// How the process ends if it cannot be replaced: the service manager starts it again.
const CANNOT: i32 = 70;

#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    number: u64,
    /// What woke the loop, while a turn is under way.
    at_work: Option<&'static str>,
    /// Events of the network and calls of the API that waited when it began.
    waiting: [usize; 2],
}

/// The loop's pulse.
#[derive(Debug)]
pub(crate) struct Pulse {
    turn: Mutex<Turn>,
    #[cfg(feature = "test-faults")]
    stick_at: Option<std::time::Instant>,
}

#[cfg(feature = "test-faults")]
fn stick_at() -> Option<std::time::Instant> {
    let after = std::env::var(STICK).ok()?.parse().ok().map(Duration::from_millis)?;
    Some(std::time::Instant::now() + after)
}

impl Pulse {
    /// A pulse, and the thread that watches it for as long as the process lives.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn watched() -> std::io::Result<Arc<Self>> {
        let pulse = Arc::new(Self {
            turn: Mutex::default(),
            #[cfg(feature = "test-faults")]
            stick_at: stick_at(),
        });
        let watched = Arc::clone(&pulse);
        thread::Builder::new().name("watchdog".to_owned()).spawn(move || watched.watch())?;
        Ok(pulse)
    }

    /// A turn begins.
    pub(crate) fn begins(&self, what: &'static str, waiting: [usize; 2]) {
        {
            let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            *turn = Turn { number: turn.number.wrapping_add(1), at_work: Some(what), waiting };
        }
        #[cfg(feature = "test-faults")]
        while self.stick_at.is_some_and(|at| at <= std::time::Instant::now()) {
            thread::park();
        }
    }

    /// The turn is over; the loop may sleep for as long as it likes.
    pub(crate) fn ends(&self) {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner).at_work = None;
    }

    fn watch(&self) {
        let (mut seen, mut looks) = (Turn::default(), 0);
        loop {
            thread::park_timeout(LOOK);
            let turn = *self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            looks = if turn.at_work.is_some() && turn.number == seen.number { looks + 1 } else { 0 };
            seen = turn;
            if let Some(what) = turn.at_work.filter(|_| looks >= LOOKS) {
                begin_again(what, turn.waiting);
            }
        }
    }
}

/// Why the process before this one was replaced, if it was.
pub(crate) fn was_stuck() -> Option<String> {
    std::env::var(WHY).ok()
}

fn begin_again(what: &str, [events, calls]: [usize; 2]) -> ! {
    let seconds = (LOOK * LOOKS).as_secs_f32();
    let why = format!(
        "the agent's loop was stuck for {seconds} s in a turn caused by {what}, with {events} events of the network and {calls} \
         calls waiting; the agent began again"
    );
    tracing::error!("{why}");
    threads(Path::new("/proc/self/task")).iter().for_each(|thread| tracing::error!("{thread}"));
    let error = match std::env::current_exe() {
        Ok(program) => {
            let mut again = Command::new(program);
            again.args(std::env::args_os().skip(1)).env(WHY, &why);
            #[cfg(feature = "test-faults")]
            again.env_remove(STICK);
            again.exec()
        }
        Err(error) => error,
    };
    tracing::error!(%error, "the agent cannot replace itself and ends");
    std::process::exit(CANNOT)
}

/// What each thread is at, as far as the kernel tells: its name, its state, and where in the kernel it waits.
fn threads(tasks: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(tasks).into_iter().flatten().flatten();
    let describe = |entry: std::fs::DirEntry| {
        let read = |file: &str| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        let status = read("status");
        let state = status.lines().find_map(|line| line.strip_prefix("State:")).unwrap_or("unknown").trim().to_owned();
        let (name, place) = (read("comm"), read("wchan"));
        let place = if matches!(place.trim(), "" | "0") { "in its own code" } else { place.trim() };
        format!("thread {} ({}): {state}, {place}", entry.file_name().to_string_lossy(), name.trim())
    };
    entries.map(describe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_described() {
        let all = threads(Path::new("/proc/self/task"));
        assert!(!all.is_empty() && all.iter().all(|thread| thread.starts_with("thread ")), "{all:?}");
    }
}
