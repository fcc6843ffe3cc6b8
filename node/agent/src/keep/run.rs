//! The keeper's life: start, one poll loop, end.

use std::io::{self, PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dunlin_core::face::Exit;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, dup2_stdout, setsid};

use super::control::Control;
use super::lease::{self, Executioner};
use super::log::LogWriter;
use super::proto::{Ask, Say, Status};
use super::reap::{kill_descendants, signal_group};
use super::record::{self, EXIT, Ended, Identity, KeepSpec, LEASED, SPEC, STARTED, Started};
use super::slim::{slim, slim_and_wait};
use crate::driver::cgroup;

/// How often the end of what was killed is looked for (its end normally comes by SIGCHLD, at once).
const KICK: Duration = Duration::from_millis(20);
/// After this time of killing in vain a line in the log says so.
const STUBBORN: Duration = Duration::from_secs(10);
/// After this time without anything to do, memory is given back once more.
const REST: Duration = Duration::from_secs(1);
/// Read from the workload at a time.
const CHUNK: usize = 32 * 1024;
/// Output that still comes while the end is written down: at most so much.
const MAX_DRAIN: usize = 16 * 1024 * 1024;

/// What is going on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Running,
    /// Told to stop; SIGKILL then.
    Stopping {
        kill_at: Instant,
    },
    /// The main process has ended so; what it left behind is being killed.
    Ending {
        exit: Exit,
        since: Instant,
        complained: bool,
    },
}

struct Keeper {
    spec: KeepSpec,
    control: Control,
    log: LogWriter,
    signals: SignalFd,
    output: Option<PipeReader>,
    main: Identity,
    stage: Stage,
    /// Of what runs under a lease.
    executioner: Option<Executioner>,
}

/// Keeps what the specification in this directory says, until its end.
pub(super) fn run(dir: &Path) -> io::Result<()> {
    close_strangers();
    std::env::set_current_dir(dir)?;
    let here = Path::new(".");
    let mut spec: KeepSpec =
        record::read(here, SPEC)?.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no spec file"))?;
    // Fails only for a group leader, who has its own group already.
    let _leader = setsid();
    set_child_subreaper(true)?;
    let signals = block_signals()?;
    let mut control = Control::open()?;
    if let Some(first) = take_first_client()? {
        control.add(first, None);
    }
    let mut log = LogWriter::new(spec.log.clone(), spec.log_max_bytes);
    let begun =
        is_in_time(&spec).and_then(|()| launch(&mut spec)).and_then(|(pid, output)| match begin(here, pid, &spec) {
            Ok((main, executioner)) => Ok((main, executioner, output)),
            Err(error) => {
                // Without its record nobody could ever tell what this process is.
                kill_descendants(&spec.cgroups);
                Err(format!("its start could not be written down in {}: {error}; is the disk full?", dir.display()))
            }
        });
    match begun {
        Ok((main, executioner, output)) => {
            let (output, stage) = (Some(output), Stage::Running);
            let mut keeper = Keeper { spec, control, log, signals, output, main, stage, executioner };
            let status = keeper.status();
            keeper.control.tell(&status);
            slim();
            let exit = keeper.keep().inspect_err(|_| kill_descendants(&keeper.spec.cgroups))?;
            keeper.finish(here, exit)
        }
        Err(failure) => {
            log.note(&failure);
            cgroup::remove(&spec.cgroups);
            let ended = Ended { version: 1, exit: Exit::Lost, failed: Some(failure.clone()) };
            let written = record::write(here, EXIT, &ended);
            // Last: who hears this may start the next attempt.
            control.tell(&Say::Failed(failure));
            written
        }
    }
}

/// Nothing is started whose specification is not understood, or whose lease is over.
fn is_in_time(spec: &KeepSpec) -> Result<(), String> {
    if spec.version > LEASED {
        return Err(format!("its specification is of format {}, and this release knows {LEASED}", spec.version));
    }
    match spec.lease {
        Some(until) if until <= lease::now() => Err("its lease was over before it could start".to_owned()),
        Some(_) | None => Ok(()),
    }
}

/// Watches its lease, if it has one, and writes down who runs.
fn begin(here: &Path, pid: u32, spec: &KeepSpec) -> io::Result<(Identity, Option<Executioner>)> {
    let executioner = spec.lease.map(|until| Executioner::begin(until, spec.cgroups.clone())).transpose()?;
    Ok((introduce(here, pid)?, executioner))
}

/// Writes down who runs.
fn introduce(here: &Path, pid: u32) -> io::Result<Identity> {
    let workload = Identity::of(pid)?;
    let keeper = Identity::of(std::process::id())?;
    record::write(here, STARTED, &Started { version: 1, keeper, workload: workload.clone() })?;
    Ok(workload)
}

/// Closes every file that the agent itself happened to inherit: a keeper that holds, say, the pipe of the shell in which
/// the agent was started would keep that shell waiting.
fn close_strangers() {
    // SAFETY: this process has just begun and has opened nothing yet, so nothing owns a file number above 2.
    let _not_on_old_kernels = unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
}

fn block_signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// Standard output is a socket to the agent that started this keeper (nothing of the kind when started by hand).
fn take_first_client() -> io::Result<Option<UnixStream>> {
    let stdout = io::stdout().as_fd().try_clone_to_owned()?;
    let stream = UnixStream::from(stdout);
    if stream.peer_addr().is_err() {
        return Ok(None);
    }
    dup2_stdout(std::fs::OpenOptions::new().write(true).open("/dev/null")?)?;
    Ok(Some(stream))
}

/// Starts the workload in a session of its own; its output and errors share one pipe, so that their order stays.
fn launch(spec: &mut KeepSpec) -> Result<(u32, PipeReader), String> {
    let (program, arguments) = spec.argv.split_first().ok_or("there is no command to run: give at least a program")?;
    let broken = |error: io::Error| format!("the workload could not be prepared: {error}");
    let (output, input) = io::pipe().map_err(broken)?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(&spec.environment).current_dir(&spec.working_dir);
    command.stdin(Stdio::null()).stdout(input.try_clone().map_err(broken)?).stderr(input);
    let mut doors = Vec::new();
    for group in &spec.cgroups {
        match std::fs::OpenOptions::new().write(true).open(group.join("cgroup.procs")) {
            Ok(door) => doors.push(door),
            Err(error) if spec.cgroups_required => {
                return Err(format!("its limits cannot be enforced: {}: {error}", group.display()));
            }
            Err(_) => {}
        }
    }
    let required = spec.cgroups_required;
    // SAFETY: between fork and exec only system calls are made, no allocation and no lock: this process has one thread,
    // and the closure writes to open files, changes the signal mask and starts a session.
    unsafe {
        command.pre_exec(move || {
            SigSet::empty().thread_set_mask()?;
            setsid()?;
            for mut door in &doors {
                // "0" is who writes.
                if let (Err(error), true) = (door.write_all(b"0"), required) {
                    return Err(error);
                }
            }
            Ok(())
        });
    }
    let child = command.spawn().map_err(|error| explain(&error, program, &spec.working_dir))?;
    fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|error| broken(error.into()))?;
    // Secrets need not stay in memory.
    spec.environment.clear();
    Ok((child.id(), output))
}

fn explain(error: &io::Error, program: &str, dir: &Path) -> String {
    if !dir.is_dir() {
        return format!(
            "there is no working directory {} on this node: create it, or leave out working_dir",
            dir.display()
        );
    }
    match error.kind() {
        io::ErrorKind::NotFound if program.contains('/') => {
            format!(
                "there is no program {program} on this node (or the interpreter that its first line names): install it"
            )
        }
        io::ErrorKind::NotFound => format!(
            "there is no program \"{program}\" on this node: install it, or write its whole path (PATH inside is the \
             service's own)"
        ),
        io::ErrorKind::PermissionDenied => {
            format!(
                "{program} may not be run: make it executable (chmod +x) and its directories readable for the agent's user"
            )
        }
        _ => format!("{program} could not be started: {error}"),
    }
}

impl Keeper {
    fn status(&self) -> Say {
        let stopping = self.stage != Stage::Running;
        let lease = self.executioner.as_ref().map(Executioner::until);
        Say::Status(Status { stopping, pid: self.main.pid, start: self.main.start, lease })
    }

    /// Until the main process and everything that it left behind have ended.
    fn keep(&mut self) -> io::Result<Exit> {
        loop {
            let (signalled, output, connected, spoken) = self.wait()?;
            if output {
                self.read_output(CHUNK * 8);
            }
            if signalled {
                self.on_signals()?;
            }
            if let Some(exit) = self.reap() {
                return Ok(exit);
            }
            if connected {
                let status = self.status();
                self.control.accept(Some(&status));
            }
            if spoken {
                self.on_asked();
            }
            self.control.sweep();
            self.on_time();
        }
    }

    /// Sleeps until something happens: (signal, output, new connection, word of a client).
    fn wait(&self) -> io::Result<(bool, bool, bool, bool)> {
        // Once the output is closed its place is taken by a file that is watched anyway.
        let output = self.output.as_ref().map_or_else(|| self.signals.as_fd(), AsFd::as_fd);
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(output, PollFlags::POLLIN),
            PollFd::new(self.control.listener.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(self.control.clients.iter().map(|client| PollFd::new(client.stream.as_fd(), PollFlags::POLLIN)));
        match self.poll(&mut fds) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
        Ok(match fds.as_slice() {
            [signals, output, listener, clients @ ..] => {
                (ready(signals), self.output.is_some() && ready(output), ready(listener), clients.iter().any(ready))
            }
            _ => (true, true, true, true),
        })
    }

    /// What is done now and then touches pages that the long waits between do not need, so they are given back before.
    fn poll(&self, fds: &mut [PollFd<'_>]) -> nix::Result<i32> {
        if self.stage == Stage::Running {
            match poll(fds, PollTimeout::try_from(REST).unwrap_or(PollTimeout::MAX)) {
                Ok(0) => return slim_and_wait(fds),
                ready => return ready,
            }
        }
        poll(fds, self.patience())
    }

    fn patience(&self) -> PollTimeout {
        let left = match self.stage {
            Stage::Running => return PollTimeout::NONE,
            Stage::Stopping { kill_at } => kill_at.saturating_duration_since(Instant::now()),
            Stage::Ending { .. } => KICK,
        };
        // Rounded up, so that the loop does not spin through the last millisecond.
        PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
    }

    fn on_signals(&mut self) -> io::Result<()> {
        while let Some(info) = self.signals.read_signal()? {
            let number = i32::try_from(info.ssi_signo).unwrap_or_default();
            if number == Signal::SIGTERM as i32 || number == Signal::SIGINT as i32 {
                self.stop(self.spec.stop_signal, self.spec.stop_grace_ms);
            }
        }
        Ok(())
    }

    /// Collects whoever has died. Gives the end once the main process and all others are gone.
    fn reap(&mut self) -> Option<Exit> {
        loop {
            let (pid, exit) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Exit::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Exit::Signal(signal as i32)),
                Err(Errno::ECHILD) => {
                    return match self.stage {
                        Stage::Ending { exit, .. } => Some(exit),
                        // Cannot be: the main process is ours to reap. Nobody knows how it ended then.
                        Stage::Running | Stage::Stopping { .. } => Some(Exit::Lost),
                    };
                }
                // A real-time signal, which has no name here: the process is reaped, its status is not told.
                Err(Errno::EINVAL) => match self.main_is_gone() {
                    true => (Pid::from_raw(i32::try_from(self.main.pid).unwrap_or_default()), Exit::Lost),
                    false => continue,
                },
                Ok(WaitStatus::StillAlive) | Err(_) => return None,
                Ok(_) => continue,
            };
            let is_main = u32::try_from(pid.as_raw()).is_ok_and(|pid| pid == self.main.pid);
            if is_main && !matches!(self.stage, Stage::Ending { .. }) {
                self.stage = Stage::Ending { exit, since: Instant::now(), complained: false };
                kill_descendants(&self.spec.cgroups);
            }
        }
    }

    fn main_is_gone(&self) -> bool {
        !matches!(self.stage, Stage::Ending { .. }) && record::ProcStat::read(self.main.pid).is_err()
    }

    fn on_asked(&mut self) {
        for (client, ask) in self.control.asked() {
            match ask {
                Ask::Status => {}
                Ask::Stop { signal, grace_ms } => self.stop(signal, grace_ms),
                Ask::Kill => self.stop(Signal::SIGKILL as i32, 0),
                Ask::Extend { until } => self.executioner.iter().for_each(|executioner| executioner.extend(until)),
            }
            let status = self.status();
            self.control.answer(client, &status);
        }
    }

    /// Begins a stop, or shortens one.
    fn stop(&mut self, signal: i32, grace_ms: u64) {
        // A year is as good as for ever, and fits every clock.
        let grace = Duration::from_millis(grace_ms).min(Duration::from_secs(31_536_000));
        let kill_at = Instant::now() + grace;
        match self.stage {
            Stage::Running => self.stage = Stage::Stopping { kill_at },
            Stage::Stopping { kill_at: before } => self.stage = Stage::Stopping { kill_at: kill_at.min(before) },
            Stage::Ending { .. } => return,
        }
        // The main process is not reaped, so its number is still its own.
        signal_group(self.main.pid, Signal::try_from(signal).ok().or(Some(Signal::SIGTERM)));
    }

    fn on_time(&mut self) {
        match &mut self.stage {
            Stage::Running => {}
            Stage::Stopping { kill_at } => {
                if Instant::now() >= *kill_at {
                    // Again only if the main process should survive this.
                    *kill_at = Instant::now() + STUBBORN;
                    signal_group(self.main.pid, Some(Signal::SIGKILL));
                    kill_descendants(&self.spec.cgroups);
                }
            }
            Stage::Ending { since, complained, .. } => {
                kill_descendants(&self.spec.cgroups);
                if !*complained && since.elapsed() >= STUBBORN {
                    *complained = true;
                    self.log.note(
                        "some processes do not end though they were killed (waiting for a device?); still trying",
                    );
                }
            }
        }
    }

    /// Moves output to the log, at most about so much. Gives false once there is none left for now.
    fn read_output(&mut self, at_most: usize) -> bool {
        let mut moved = 0;
        let mut chunk = [0; CHUNK];
        while moved < at_most {
            let Some(output) = self.output.as_mut() else { return false };
            match output.read(&mut chunk) {
                Ok(0) => self.output = None,
                Ok(count) => {
                    self.log.write(chunk.get(..count).unwrap_or_default());
                    moved += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.output = None,
            }
        }
        true
    }

    /// Everything is dead: the rest of the output, the record, the news.
    fn finish(mut self, here: &Path, exit: Exit) -> io::Result<()> {
        self.read_output(MAX_DRAIN);
        if self.executioner.as_ref().is_some_and(Executioner::is_over) {
            self.log.note("its lease is over: it was killed, since too few voters were heard in time");
        }
        cgroup::remove(&self.spec.cgroups);
        let written = record::write(here, EXIT, &Ended { version: 1, exit, failed: None });
        // A full disk shall not keep the news from an agent that listens.
        self.control.tell(&Say::Exited(exit));
        written
    }
}
