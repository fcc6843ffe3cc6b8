//! What all exec allocations share: how a keeper is started. Each allocation's own task is in [`runner`](super::runner).

use std::path::{Path, PathBuf};
use std::process::Stdio;

use dunlin_core::face::{DriverEvent, StartFailure, StartSpec};
use dunlin_gossip::id::{ClusterId, NodeId};
use dunlin_gossip::model::Workload;
use dunlin_gossip::time::Instant;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::{Semaphore, mpsc};

use super::cgroup::{self, Bounds, Cgroups};
use super::link::{Link, try_lock};
use super::place::Place;
use super::{ports, signal};
use crate::keep::reap::MARK;
use crate::keep::record::{self, KeepSpec, LEASED, SPEC};

/// Size at which a log is rotated; twice that is kept.
const LOG_MAX_BYTES: u64 = 10 << 20;
/// What a workload finds when its author sets no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Keepers that are being started at a time: more only wait for the processors.
const MAX_STARTING: usize = 16;

/// What all allocations share.
#[derive(Debug)]
pub(super) struct Exec {
    pub(super) place: Place,
    cluster: ClusterId,
    node: NodeId,
    /// The program that has the `keep` subcommand.
    pub(super) keeper: PathBuf,
    cgroups: Cgroups,
    /// Whose turn it is to start.
    pub(super) starting: Semaphore,
    events: mpsc::Sender<DriverEvent>,
}

impl Exec {
    pub(super) fn new(
        place: Place,
        cluster: ClusterId,
        node: NodeId,
        keeper: PathBuf,
        events: mpsc::Sender<DriverEvent>,
    ) -> Self {
        let cgroups = Cgroups::detect();
        if let Cgroups::None(reason) = &cgroups {
            tracing::warn!(
                reason,
                "processes run without control groups, so limits are not enforced: run the agent as root, or under a \
                 systemd unit with Delegate=yes"
            );
        }
        Self { place, cluster, node, keeper, cgroups, starting: Semaphore::new(MAX_STARTING), events }
    }

    pub(super) async fn tell(&self, event: DriverEvent) {
        // Without a listener the agent is ending; the next one finds everything on disk.
        let _ending = self.events.send(event).await;
    }

    /// Everything before the keeper: ports, directories, control group, specification. Waits for the disk.
    pub(super) fn prepare(&self, spec: &StartSpec) -> Result<(PathBuf, std::fs::File), StartFailure> {
        if let Some(port) = ports::taken(&spec.ports, spec.address) {
            return Err(StartFailure::PortTaken(port));
        }
        let keep = self.keep_spec(spec)?;
        let written = self.place.make(spec.alloc, spec.attempt).and_then(|dir| {
            let lock = try_lock(&dir)?.ok_or_else(|| std::io::Error::other("another keeper has it"))?;
            record::write(&dir, SPEC, &keep)?;
            Ok((dir, lock))
        });
        written.map_err(|error| {
            cgroup::remove(&keep.cgroups);
            StartFailure::Other(format!("{}: {error}", self.place.alloc(spec.alloc).display()))
        })
    }

    fn keep_spec(&self, spec: &StartSpec) -> Result<KeepSpec, StartFailure> {
        let Workload::Exec(exec) = &spec.workload else { return Err(StartFailure::NoDriver) };
        let bounds = Bounds { limits: spec.limits, pids: spec.pids_limit };
        let limited = bounds != Bounds::default();
        let cgroups = match self.cgroups.make(self.cluster, self.node, spec.alloc, &bounds) {
            Ok(groups) => groups,
            // Said once, at the start.
            Err(_) if matches!(self.cgroups, Cgroups::None(_)) => Vec::new(),
            Err(text) if limited => return Err(StartFailure::Other(format!("its limits cannot be enforced: {text}"))),
            Err(text) => {
                tracing::warn!(alloc = %spec.alloc, text, "runs without a control group");
                Vec::new()
            }
        };
        let work = self.place.work(spec.alloc);
        let mut environment = spec.environment.clone();
        environment.entry("PATH".into()).or_insert_with(|| DEFAULT_PATH.into());
        environment.entry("HOME".into()).or_insert_with(|| work.display().to_string());
        environment.insert(MARK.into(), spec.alloc.to_string());
        let stop_signal = signal::number(&spec.stop.signal).ok_or_else(|| {
            StartFailure::Other(format!("stop_signal {:?} is no signal: write for example SIGTERM", spec.stop.signal))
        })?;
        let (cluster, node) = self.place.owner();
        Ok(KeepSpec {
            version: if spec.lease.is_some() { LEASED } else { 1 },
            cluster,
            node,
            alloc: spec.alloc.to_string(),
            attempt: spec.attempt,
            replica: spec.replica.to_string(),
            argv: exec.argv.clone(),
            working_dir: exec.working_dir.as_ref().map_or_else(|| work.clone(), |dir| work.join(dir)),
            environment,
            log: self.place.log(spec.alloc),
            log_max_bytes: LOG_MAX_BYTES,
            cgroups_required: limited && !cgroups.is_empty(),
            cgroups,
            stop_signal,
            stop_grace_ms: u64::try_from(spec.stop.grace.as_millis()).unwrap_or(u64::MAX),
            lease: spec.lease.map(Instant::as_nanos),
        })
    }

    /// Starts a keeper that outlives this agent: it makes a session of its own, holds the lock by its standard input,
    /// and its first control connection is its standard output.
    pub(super) fn spawn_keeper(&self, dir: &Path, lock: std::fs::File) -> std::io::Result<Link> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let errors = record::create_private(&dir.join("keeper.err"))?;
        let mut child = Command::new(&self.keeper)
            .args([std::ffi::OsStr::new("keep"), "--dir".as_ref(), dir.as_os_str()])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(lock))
            .stdout(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stderr(Stdio::from(errors))
            .spawn()?;
        // Reaped by whoever is there when it ends.
        tokio::spawn(async move { child.wait().await });
        Ok(Link::new(UnixStream::from_std(ours)?))
    }
}
