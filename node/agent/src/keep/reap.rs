//! Ends everything that belongs to a workload: what descends from the keeper, what is in its control groups, and, when
//! the keeper itself is gone, what still carries the allocation's mark in its environment.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::record::{Identity, ProcStat};
use crate::driver::cgroup;

/// The environment variable that marks every process of an allocation.
pub(crate) const MARK: &str = "DUNLIN_ALLOC";

fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Every process that descends from this one, the dead but unreaped ones left out.
#[must_use]
pub(crate) fn descendants(of: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let mut dead = Vec::new();
    for pid in processes() {
        // What vanished meanwhile is no matter.
        let Ok(stat) = ProcStat::read(pid) else { continue };
        children.entry(stat.parent).or_default().push(pid);
        if stat.is_dead() {
            dead.push(pid);
        }
    }
    let mut found = Vec::new();
    let mut open = vec![of];
    while let Some(parent) = open.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            open.push(child);
            if !dead.contains(&child) {
                found.push(child);
            }
        }
    }
    found
}

/// SIGKILL to every descendant of this process and to everything in these groups.
pub(crate) fn kill_descendants(groups: &[PathBuf]) {
    cgroup::kill_all(groups);
    for pid in descendants(std::process::id()) {
        send(pid, Signal::SIGKILL);
    }
}

/// What an agent does when a keeper died before its workload: ends everything of it. True once nothing is left.
///
/// Waits, at most so long: for a thread that may block.
#[must_use]
pub(crate) fn end_orphans(alloc: &str, main: Option<&Identity>, groups: &[PathBuf], patience: Duration) -> bool {
    let mark = format!("{MARK}={alloc}");
    let deadline = Instant::now() + patience;
    loop {
        let mut left = cgroup::is_populated(groups);
        cgroup::kill_all(groups);
        if let Some(main) = main.filter(|main| main.is_alive()) {
            left = true;
            // It led a session of its own, hence a group of its own.
            signal_group(main.pid, Some(Signal::SIGKILL));
        }
        for pid in processes().filter(|pid| carries(*pid, &mark)) {
            left = true;
            send(pid, Signal::SIGKILL);
        }
        if !left || Instant::now() >= deadline {
            return !left;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn carries(pid: u32, mark: &str) -> bool {
    pid != std::process::id()
        && fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes()))
        && ProcStat::read(pid).is_ok_and(|stat| !stat.is_dead())
}

fn send(pid: u32, signal: Signal) {
    if let Ok(pid @ 2..) = i32::try_from(pid) {
        // Gone already is as good.
        let _gone = kill(Pid::from_raw(pid), signal);
    }
}

/// Signals the process group that this process leads; nothing for a number that can be none (0 would be our own group,
/// 1 everybody).
pub(crate) fn signal_group(leader: u32, signal: Option<Signal>) {
    if let Ok(leader @ 2..) = i32::try_from(leader) {
        // Gone already is as good.
        let _gone = kill(Pid::from_raw(-leader), signal);
    }
}
