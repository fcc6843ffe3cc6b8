//! Control groups: bounds for a workload, and a handle on all of its processes.
//!
//! One group an allocation, `dunlin/<cluster>/<node>/<alloc>`, below the agent's own group, on the unified hierarchy (v2)
//! where its controllers are there, else on the cpu, memory and pids hierarchies of v1. Where none can be made (an
//! ordinary user, a read-only mount) workloads run without; the agent says so once. Plain files and synchronous, since
//! keepers use this too.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dunlin_gossip::id::{ClusterId, NodeId};
use dunlin_gossip::model::{AllocId, Resources};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Microseconds of one accounting period, the kernel's default.
pub(super) const PERIOD_US: u64 = 100_000;
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// What a workload may take at most; zero means no bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Bounds {
    pub(crate) limits: Resources,
    /// Processes and threads.
    pub(crate) pids: u64,
}

impl Bounds {
    /// The controllers without which they would be nothing but words.
    fn needs(&self) -> impl Iterator<Item = &'static str> {
        let needed = [self.limits.cpu_milli > 0, self.limits.memory_bytes > 0, self.pids > 0];
        CONTROLLERS.into_iter().zip(needed).filter(|(_, is_needed)| *is_needed).map(|(controller, _)| controller)
    }
}

/// How control groups are made on this host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Cgroups {
    /// The unified hierarchy, below this directory.
    V2(PathBuf),
    /// One hierarchy a controller: its name and the directory below which to work.
    V1(Vec<(&'static str, PathBuf)>),
    /// None, and why.
    None(String),
}

impl Cgroups {
    /// What this host offers to this process; tries it by making a directory.
    #[must_use]
    pub(crate) fn detect() -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let found = Self::find(&mounts, &own);
        match found.prepare() {
            Ok(()) => found,
            Err(reason) => Self::None(reason),
        }
    }

    fn find(mounts: &str, own: &str) -> Self {
        let mut v1 = Vec::new();
        let mut v2 = None;
        for line in mounts.lines() {
            let mut fields = line.split(' ').skip(1);
            let (Some(mount), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            match kind {
                "cgroup2" => v2 = Some(below(mount, own_path(own, ""))),
                "cgroup" => {
                    for controller in CONTROLLERS {
                        if options.split(',').any(|option| option == controller) {
                            v1.push((controller, below(mount, own_path(own, controller))));
                        }
                    }
                }
                _ => {}
            }
        }
        let unified = v2.filter(|base| {
            fs::read_to_string(base.join("cgroup.controllers"))
                .is_ok_and(|list| CONTROLLERS.iter().all(|wanted| list.split_whitespace().any(|has| has == *wanted)))
        });
        match unified {
            Some(base) => Self::V2(base),
            None if v1.is_empty() => {
                Self::None("no control group hierarchy with cpu, memory and pids is mounted".into())
            }
            None => Self::V1(v1),
        }
    }

    fn prepare(&self) -> Result<(), String> {
        let tell = |base: &Path| {
            let base = base.display().to_string();
            move |error: io::Error| format!("{base}: {error}")
        };
        match self {
            Self::V2(base) => enable(base)
                .or_else(|_| {
                    // "No internal processes": a group with processes of its own (this agent, under systemd's Delegate)
                    // cannot have controllers below it, so the agent steps aside into a leaf first.
                    step_aside(base)?;
                    enable(base)
                })
                .and_then(|()| try_dir(base))
                .map_err(tell(base)),
            Self::V1(bases) => bases.iter().try_for_each(|(_, base)| try_dir(base).map_err(tell(base))),
            Self::None(reason) => Err(reason.clone()),
        }
    }

    /// Makes the group of an allocation with its bounds. Gives its directories, one a hierarchy.
    pub(crate) fn make(
        &self,
        cluster: ClusterId,
        node: NodeId,
        alloc: AllocId,
        bounds: &Bounds,
    ) -> Result<Vec<PathBuf>, String> {
        let relative = PathBuf::from("dunlin").join(cluster.to_string()).join(node.to_string());
        let leaf = relative.join(alloc.to_string());
        let tell = |path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| format!("control group {}: {error}", path.display())
        };
        match self {
            Self::V2(base) => {
                let dir = base.join(&leaf);
                make_dir(&dir).map_err(tell(&dir))?;
                for ancestor in ["dunlin".into(), PathBuf::from("dunlin").join(cluster.to_string()), relative] {
                    enable(&base.join(&ancestor)).map_err(tell(&ancestor))?;
                }
                bound_v2(&dir, bounds).map_err(tell(&dir))?;
                Ok(vec![dir])
            }
            Self::V1(bases) => {
                let missing = bounds.needs().find(|needed| bases.iter().all(|(controller, _)| controller != needed));
                if let Some(controller) = missing {
                    return Err(format!("the control group hierarchy {controller} is not mounted"));
                }
                let mut dirs = Vec::new();
                for (controller, base) in bases {
                    let dir = base.join(&leaf);
                    make_dir(&dir).map_err(tell(&dir))?;
                    bound_v1(controller, &dir, bounds).map_err(tell(&dir))?;
                    dirs.push(dir);
                }
                Ok(dirs)
            }
            Self::None(reason) => Err(reason.clone()),
        }
    }
}

/// Sends SIGKILL to everything in these groups.
pub(crate) fn kill_all(groups: &[PathBuf]) {
    for group in groups {
        if fs::write(group.join("cgroup.kill"), "1").is_ok() {
            continue;
        }
        for pid in members(group) {
            // Gone already is as good.
            let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// True if a process is in one of these groups.
#[must_use]
pub(crate) fn is_populated(groups: &[PathBuf]) -> bool {
    groups.iter().any(|group| !members(group).is_empty())
}

/// Removes empty groups, and the directories above them that this leaves empty.
pub(crate) fn remove(groups: &[PathBuf]) {
    for group in groups {
        if fs::remove_dir(group).is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
            continue;
        }
        // `<node>`, `<cluster>`, `dunlin`: each only if it is empty, which the kernel checks.
        for above in group.ancestors().skip(1).take(3) {
            if fs::remove_dir(above).is_err() {
                break;
            }
        }
    }
}

fn members(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

// A keeper that ends may just remove an empty parent: try again.
fn make_dir(dir: &Path) -> io::Result<()> {
    let mut last = Ok(());
    for _ in 0..5 {
        last = fs::create_dir_all(dir);
        if last.is_ok() {
            break;
        }
    }
    last
}

/// Finds out whether groups can be made here, and leaves none behind.
fn try_dir(base: &Path) -> io::Result<()> {
    let dir = base.join("dunlin");
    make_dir(&dir)?;
    // Another agent of this host may have its own in it.
    let _in_use = fs::remove_dir(dir);
    Ok(())
}

fn enable(dir: &Path) -> io::Result<()> {
    fs::write(dir.join("cgroup.subtree_control"), "+cpu +memory +pids")
}

fn step_aside(base: &Path) -> io::Result<()> {
    let leaf = base.join("dunlin-agent");
    make_dir(&leaf)?;
    fs::write(leaf.join("cgroup.procs"), std::process::id().to_string())
}

fn bound_v2(dir: &Path, Bounds { limits, pids }: &Bounds) -> io::Result<()> {
    if limits.cpu_milli > 0 {
        fs::write(dir.join("cpu.max"), format!("{} {PERIOD_US}", quota(limits.cpu_milli)))?;
    }
    if limits.memory_bytes > 0 {
        fs::write(dir.join("memory.max"), limits.memory_bytes.to_string())?;
    }
    if *pids > 0 {
        fs::write(dir.join("pids.max"), pids.to_string())?;
    }
    Ok(())
}

fn bound_v1(controller: &str, dir: &Path, Bounds { limits, pids }: &Bounds) -> io::Result<()> {
    match controller {
        "cpu" if limits.cpu_milli > 0 => {
            fs::write(dir.join("cpu.cfs_period_us"), PERIOD_US.to_string())?;
            fs::write(dir.join("cpu.cfs_quota_us"), quota(limits.cpu_milli).to_string())
        }
        "memory" if limits.memory_bytes > 0 => {
            fs::write(dir.join("memory.limit_in_bytes"), limits.memory_bytes.to_string())
        }
        "pids" if *pids > 0 => fs::write(dir.join("pids.max"), pids.to_string()),
        _ => Ok(()),
    }
}

/// The kernel takes no quota below a millisecond.
pub(super) fn quota(cpu_milli: u64) -> u64 {
    cpu_milli.saturating_mul(PERIOD_US / 1_000).max(1_000)
}

/// The path of this process in the hierarchy with this controller; the unified one has an empty list.
fn own_path<'a>(own: &'a str, controller: &str) -> &'a str {
    own.lines()
        .find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            controllers.split(',').any(|has| has == controller).then_some(path)
        })
        .unwrap_or("/")
}

fn below(mount: &str, path: &str) -> PathBuf {
    Path::new(mount).join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "9:name=systemd:/\n8:pids:/\n4:memory:/slice/x\n1:cpu,cpuacct:/\n0::/unit\n";

    #[test]
    fn each_controller_has_its_own_path() {
        assert_eq!(own_path(OWN, "memory"), "/slice/x");
        assert_eq!(own_path(OWN, "cpu"), "/");
        assert_eq!(own_path(OWN, ""), "/unit");
        assert_eq!(own_path("", "cpu"), "/");
    }

    #[test]
    fn a_hybrid_host_is_used_by_its_old_hierarchies() {
        let mounts = "cgroup /nowhere/cpu cgroup rw,cpu,cpuacct 0 0\ncgroup /nowhere/memory cgroup rw,memory 0 0\n\
                      cgroup2 /nowhere/unified cgroup2 rw 0 0\n";
        let expected = vec![("cpu", "/nowhere/cpu".into()), ("memory", "/nowhere/memory/slice/x".into())];
        assert_eq!(Cgroups::find(mounts, OWN), Cgroups::V1(expected));
        assert!(matches!(Cgroups::find("proc /proc proc rw 0 0\n", OWN), Cgroups::None(_)));
    }

    #[test]
    fn bounds_are_written_in_both_versions_or_refused_where_they_would_be_words() {
        let dir = tempfile::tempdir().unwrap();
        let bounds = Bounds { limits: Resources { cpu_milli: 500, memory_bytes: 4_096 }, pids: 9 };
        bound_v2(dir.path(), &bounds).unwrap();
        let file = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!([file("cpu.max"), file("memory.max"), file("pids.max")], ["50000 100000", "4096", "9"]);
        let old = Cgroups::V1(vec![("cpu", dir.path().join("cpu")), ("pids", dir.path().join("pids"))]);
        let make = |bounds: &Bounds| old.make(ClusterId([1; 16]), NodeId([2; 16]), AllocId(7), bounds);
        let refused = make(&bounds).unwrap_err();
        assert!(refused.contains("hierarchy memory is not mounted"), "{refused}");
        let made = make(&Bounds { pids: 9, ..Bounds::default() }).unwrap();
        assert_eq!(fs::read_to_string(made[1].join("pids.max")).unwrap(), "9");
    }

    #[test]
    fn a_quota_is_never_below_what_the_kernel_takes() {
        assert_eq!(quota(1_500), 150_000);
        assert_eq!(quota(1), 1_000);
    }
}
