//! What happens inside a running container: commands as health checks, and what it uses.

use std::time::Duration;

use bollard::errors::Error;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use bollard::query_parameters::StatsOptionsBuilder;
use dunlin_gossip::model::AllocId;
use futures_util::StreamExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::timeout;

use super::docker::{Engine, State, call, unanswered};
use super::usage::Seen;

/// What is kept of a command's output, to say what went wrong.
const MAX_OUTPUT: usize = 4_096;
/// Between two looks at whether a command whose output has ended has ended itself.
const LOOK: Duration = Duration::from_millis(20);

impl Engine {
    /// Runs a program inside the container of an allocation; one that takes longer is killed.
    pub(super) async fn try_inside(&self, alloc: AllocId, argv: &[String], patience: Duration) -> Result<(), String> {
        let found = self.list(Some(alloc)).await.map_err(|failure| format!("{failure:?}"))?;
        let running = found.last().filter(|found| found.state == State::Running);
        let container = running.ok_or("its container does not run")?.id.clone();
        let docker = self.client().map_err(|_| "the container engine does not answer")?;
        let config = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(argv.to_vec()),
            ..ExecConfig::default()
        };
        let made = call(docker.create_exec(&container, config)).await.map_err(|error| unanswered(&error))?;
        match timeout(patience, self.run(&made.id)).await {
            Ok(ended) => ended,
            Err(_) => {
                self.kill_inside(&made.id, &container).await;
                Err(format!("no answer within {patience:?}"))
            }
        }
    }

    async fn run(&self, exec: &str) -> Result<(), String> {
        let docker = self.client().map_err(|_| "the container engine does not answer")?;
        let started = docker.start_exec(exec, None::<StartExecOptions>).await.map_err(|error| unanswered(&error))?;
        let mut said = Vec::new();
        if let StartExecResults::Attached { mut output, .. } = started {
            while let Some(Ok(piece)) = output.next().await {
                said.extend_from_slice(&piece.into_bytes());
                let surplus = said.len().saturating_sub(MAX_OUTPUT);
                said.drain(..surplus);
            }
        }
        let code = loop {
            let state = docker.inspect_exec(exec).await.map_err(|error| unanswered(&error))?;
            match (state.running, state.exit_code) {
                (Some(false), Some(code)) => break code,
                _ => tokio::time::sleep(LOOK).await,
            }
        };
        if code == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&said).into_owned();
        Err(match text.lines().rev().find(|line| !line.trim().is_empty()) {
            Some(line) => format!("exited with code {code}: {}", line.trim()),
            None => format!("exited with code {code}"),
        })
    }

    /// The engine has no way to end what it runs inside a container, so the kernel is asked, where it is the same one's.
    async fn kill_inside(&self, exec: &str, container: &str) {
        let Ok(docker) = self.client() else { return };
        let Ok(state) = call(docker.inspect_exec(exec)).await else { return };
        let pid = state.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 1);
        let Some(pid) = pid.filter(|_| state.running == Some(true)) else { return };
        // Engines in other namespaces count differently: only what the kernel says is this container's is touched.
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        if groups.contains(container) {
            let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// What the running container of an allocation has used so far.
    pub(super) async fn used(&self, alloc: AllocId) -> Option<Seen> {
        let docker = self.client().ok()?;
        let found = self.list(Some(alloc)).await.ok()?;
        let running = found.last().filter(|found| found.state == State::Running)?;
        let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
        let mut answers = std::pin::pin!(docker.stats(&running.id, Some(options)));
        let first = async { answers.next().await.unwrap_or(Err(Error::RequestTimeoutError)) };
        let stats = call(first).await.ok()?;
        let cpu_ns = stats.cpu_stats?.cpu_usage?.total_usage?;
        let memory = stats.memory_stats?;
        let detail = memory.stats.unwrap_or_default();
        let cache = detail.get("inactive_file").or_else(|| detail.get("total_inactive_file")).copied().unwrap_or(0);
        Some(Seen { cpu_us: cpu_ns / 1_000, memory_bytes: memory.usage?.saturating_sub(cache) })
    }
}
