//! Nothing is left behind, however a demo ends: a process of its own group waits for the demo's end (its standard input
//! closes, also when the demo is killed), then ends everything that runs in the demo's directory and removes it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::unistd::Pid;

use crate::command::Done;
use crate::failure::Failure;

/// How long the guard tries before it gives up and says so.
const PATIENCE: Duration = Duration::from_secs(10);

/// The demo's end of its guard.
pub(super) struct Guard {
    process: Child,
    line: Option<ChildStdin>,
}

impl Guard {
    /// Starts the guard of a directory.
    pub(super) fn start(exe: &Path, dir: &Path) -> Result<Self, Failure> {
        let mut process = Command::new(exe)
            .arg("demo-guard")
            .arg(dir)
            .stdin(Stdio::piped())
            // From its first instruction it is out of a terminal's Ctrl-C.
            .process_group(0)
            .spawn()
            .map_err(|e| Failure::failed(format!("cannot start the demo's guard: {e}")))?;
        let line = process.stdin.take();
        Ok(Self { process, line })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.line = None;
        if let Err(error) = self.process.wait() {
            eprintln!("the demo's guard was lost: {error}; look for processes with `ps`");
        }
    }
}

/// Body of the hidden command.
pub(crate) fn run(dir: &Path) -> Done {
    let mut rest = Vec::new();
    let _either_way_the_demo_is_over = std::io::stdin().read_to_end(&mut rest);
    let start = Instant::now();
    loop {
        let left = processes_in(dir);
        if left.is_empty() {
            break;
        }
        kill_all(&left);
        if start.elapsed() > PATIENCE {
            return Err(Failure::failed(format!("these processes of the demo do not end: {left:?}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::failed(format!("cannot remove {}: {e}", dir.display())))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Lets Ctrl-C and SIGTERM end the demo at once; its guard does the rest. (A panic unwinds or aborts: the same.)
pub(super) fn die_on_signals() -> Result<(), Failure> {
    for which in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        default_action(which).map_err(|e| Failure::failed(format!("cannot reset {which}: {e}")))?;
    }
    Ok(())
}

#[allow(unsafe_code, reason = "SIG_DFL installs no handler, so nothing of ours ever runs in signal context")]
fn default_action(which: Signal) -> nix::Result<()> {
    // SAFETY: the default action is set, no function pointer is installed.
    unsafe { signal(which, SigHandler::SigDfl) }.map(drop)
}

/// Ends processes at once.
pub(super) fn kill_all(pids: &BTreeSet<i32>) {
    for pid in pids {
        // One that is gone already is what we want.
        let _gone = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
}

/// Every process that names the directory on its command line or works in it, and all their descendants, but ourselves.
pub(super) fn processes_in(dir: &Path) -> BTreeSet<i32> {
    let me = i32::try_from(std::process::id()).unwrap_or(0);
    let mut parents = BTreeMap::new();
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let (state, parent) = stat(&entry.path());
        // A zombie is dead already; it waits only for its parent.
        if pid == me || state == Some('Z') {
            continue;
        }
        parents.insert(pid, parent);
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let works_there = std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir));
        let is_guard = line.split(|b| *b == 0).any(|word| word == b"demo-guard");
        if !is_guard && (works_there || contains(&line, dir.as_os_str().as_bytes())) {
            found.insert(pid);
        }
    }
    loop {
        let children: Vec<i32> = parents
            .iter()
            .filter(|(pid, parent)| found.contains(parent) && !found.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if children.is_empty() {
            return found;
        }
        found.extend(children);
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && text.windows(part.len()).any(|w| w == part)
}

/// State and parent from `/proc/PID/stat`; the command's name may hold spaces and brackets, so count from its end.
fn stat(process: &Path) -> (Option<char>, i32) {
    let text = std::fs::read_to_string(process.join("stat")).unwrap_or_default();
    let after = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut words = after.split_whitespace();
    let state = words.next().and_then(|w| w.chars().next());
    (state, words.next().and_then(|w| w.parse().ok()).unwrap_or(0))
}
