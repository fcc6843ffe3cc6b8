//! What allocations use: from their control groups, where they have none from the processes below their keepers, and of
//! containers from the engine. It is told to this node's core and to nobody else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use dunlin_gossip::model::{AllocId, Resources};

use super::place::Place;
use crate::keep::record::{self, STARTED, Started};

/// The kernel's ticks in times of processes: part of its interface, the same on every Linux.
const TICKS_PER_SECOND: u64 = 100;

/// What something has used so far, and holds now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    /// Microseconds of processors, since its beginning.
    pub(super) cpu_us: u64,
    /// Bytes that could not be given back at once.
    pub(super) memory_bytes: u64,
}

/// Makes means of sums.
#[derive(Debug, Default)]
pub(super) struct Meter {
    before: BTreeMap<AllocId, (u64, Instant)>,
}

impl Meter {
    /// The use since the last look; none at the first, and after a new beginning.
    pub(super) fn used(&mut self, alloc: AllocId, seen: Seen, now: Instant) -> Option<Resources> {
        let (cpu_us, at) = self.before.insert(alloc, (seen.cpu_us, now))?;
        let elapsed = u64::try_from(now.duration_since(at).as_micros()).ok().filter(|us| *us > 0)?;
        let cpu_milli = seen.cpu_us.checked_sub(cpu_us)?.saturating_mul(1_000) / elapsed;
        Some(Resources { cpu_milli, memory_bytes: seen.memory_bytes })
    }

    /// Forgets all others.
    pub(super) fn keep(&mut self, known: &BTreeSet<AllocId>) {
        self.before.retain(|alloc, _| known.contains(alloc));
    }
}

/// What is in these control groups; none if they do not tell.
pub(super) fn of_groups(groups: &[PathBuf]) -> Option<Seen> {
    let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let field = |path: PathBuf, name: &str| {
        let text = fs::read_to_string(path).ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse::<u64>().ok())
    };
    let cpu = |dir: &PathBuf| {
        let new = || field(dir.join("cpu.stat"), "usage_usec");
        new().or_else(|| number(dir.join("cpuacct.usage")).map(|ns| ns / 1_000))
    };
    let memory = |dir: &PathBuf| {
        let held = number(dir.join("memory.current")).or_else(|| number(dir.join("memory.usage_in_bytes")))?;
        let detail = |name| field(dir.join("memory.stat"), name);
        let cache = detail("total_inactive_file").or_else(|| detail("inactive_file")).unwrap_or(0);
        Some(held.saturating_sub(cache))
    };
    Some(Seen { cpu_us: groups.iter().find_map(cpu)?, memory_bytes: groups.iter().find_map(memory)? })
}

/// What each of these allocations of the exec driver has used. Waits for the disk.
pub(super) fn of_processes(place: &Place, allocs: Vec<AllocId>) -> Vec<(AllocId, Seen)> {
    let mut processes = None;
    let mut of = |alloc: &AllocId| {
        let found = place.find(*alloc)?;
        of_groups(&found.spec.cgroups).or_else(|| {
            let dir = place.attempt(*alloc, found.attempt);
            let started = record::read::<Started>(&dir, STARTED).ok().flatten()?;
            let all = processes.get_or_insert_with(|| Processes::read(Path::new("/proc")));
            all.below(started.keeper.pid).filter(|_| started.keeper.is_alive())
        })
    };
    allocs.into_iter().filter_map(|alloc| Some((alloc, of(&alloc)?))).collect()
}

/// The processes of this host at one moment.
#[derive(Debug)]
pub(super) struct Processes {
    proc: PathBuf,
    /// By parent: the number, and the ticks of processors used.
    children: BTreeMap<u32, Vec<(u32, u64)>>,
}

impl Processes {
    /// Reads them below this directory, which is `/proc`.
    pub(super) fn read(proc: &Path) -> Self {
        let mut children: BTreeMap<u32, Vec<(u32, u64)>> = BTreeMap::new();
        for entry in fs::read_dir(proc).into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let text = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // The name stands in brackets and may hold anything, brackets too.
            let Some((_, fields)) = text.rsplit_once(')') else { continue };
            let field = |number: usize| fields.split_whitespace().nth(number).and_then(|f| f.parse::<u64>().ok());
            let (Some(parent), Some(user), Some(system)) = (field(1), field(11), field(12)) else { continue };
            let Ok(parent) = u32::try_from(parent) else { continue };
            children.entry(parent).or_default().push((pid, user.saturating_add(system)));
        }
        Self { proc: proc.to_owned(), children }
    }

    /// All that runs below a process; none if nothing does.
    pub(super) fn below(&self, root: u32) -> Option<Seen> {
        let mut seen = Seen { cpu_us: 0, memory_bytes: 0 };
        let (mut open, mut visited) = (vec![root], BTreeSet::new());
        while let Some(parent) = open.pop() {
            for (pid, ticks) in self.children.get(&parent).into_iter().flatten() {
                if visited.insert(*pid) {
                    seen.cpu_us = seen.cpu_us.saturating_add(ticks.saturating_mul(1_000_000 / TICKS_PER_SECOND));
                    seen.memory_bytes = seen.memory_bytes.saturating_add(self.resident(*pid));
                    open.push(*pid);
                }
            }
        }
        (!visited.is_empty()).then_some(seen)
    }

    fn resident(&self, pid: u32) -> u64 {
        let text = fs::read_to_string(self.proc.join(pid.to_string()).join("status")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0).saturating_mul(1_024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn put(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn both_versions_of_control_groups_tell_use_without_what_is_only_cached() {
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join("new");
        put(new.join("cpu.stat"), "usage_usec 2500\nuser_usec 2000\n");
        put(new.join("memory.current"), "9000\n");
        put(new.join("memory.stat"), "anon 1\ninactive_file 1000\n");
        assert_eq!(of_groups(&[new]), Some(Seen { cpu_us: 2_500, memory_bytes: 8_000 }));
        let (cpu, memory) = (dir.path().join("cpu"), dir.path().join("memory"));
        put(cpu.join("cpuacct.usage"), "2500000\n");
        put(memory.join("memory.usage_in_bytes"), "9000\n");
        put(memory.join("memory.stat"), "inactive_file 7\ntotal_inactive_file 4000\n");
        assert_eq!(of_groups(&[cpu.clone(), memory]), Some(Seen { cpu_us: 2_500, memory_bytes: 5_000 }));
        assert_eq!(of_groups(&[cpu]), None);
        assert_eq!(of_groups(&[]), None);
    }

    #[test]
    fn what_runs_below_a_keeper_is_added_up() {
        let dir = tempfile::tempdir().unwrap();
        let process = |pid: u32, parent: u32, ticks: u64| {
            let folder = dir.path().join(pid.to_string());
            put(folder.join("stat"), &format!("{pid} (a) b) S {parent} 1 1 0 -1 0 0 0 0 0 {ticks} 1 0 0 20 0\n"));
            put(folder.join("status"), "Name:\ta\nVmRSS:\t    4 kB\n");
        };
        process(10, 1, 500);
        process(11, 10, 2);
        process(12, 11, 3);
        process(13, 1, 900);
        let processes = Processes::read(dir.path());
        assert_eq!(processes.below(10), Some(Seen { cpu_us: 70_000, memory_bytes: 8_192 }));
        assert_eq!(processes.below(12), None);
    }

    #[test]
    fn means_are_of_the_time_between_two_looks() {
        let (mut meter, alloc, start) = (Meter::default(), AllocId(7), Instant::now());
        let look = |meter: &mut Meter, cpu_us, at| meter.used(alloc, Seen { cpu_us, memory_bytes: 5 }, start + at);
        assert_eq!(look(&mut meter, 1_000, Duration::ZERO), None);
        let mean = Resources { cpu_milli: 250, memory_bytes: 5 };
        assert_eq!(look(&mut meter, 501_000, Duration::from_secs(2)), Some(mean));
        assert_eq!(look(&mut meter, 9, Duration::from_secs(3)), None, "it has begun anew");
        meter.keep(&BTreeSet::new());
        assert_eq!(look(&mut meter, 10, Duration::from_secs(4)), None);
    }
}
