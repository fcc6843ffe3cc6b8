//! Simulated processes and the driver that runs them. They live on a host, not in its agent: an agent may come and go.
//!
//! How a process behaves is written in its own command line, so that it is part of its revision like any real program's
//! behaviour. Divergence from reality: a start is never half done.

use std::collections::BTreeMap;

use dunlin_core::face::{Adopted, DriverCommand, DriverEvent, Exit, ProbeOutcome, StartFailure, StartSpec};
use dunlin_gossip::model::{AllocId, Exec, ReplicaKey, Resources, Workload};
use dunlin_gossip::rng::Rng;

use crate::queue::{MS, Nanos};

/// How a process behaves. All times in milliseconds; zero means never where never makes sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Behaviour {
    /// Which write of its specification it is, to tell revisions apart without trusting anybody's hash.
    pub version: u64,
    /// From the command to a running process.
    pub start_ms: u64,
    /// From running to answering probes.
    pub ready_ms: u64,
    /// Exits with code 1 after so long.
    pub crash_ms: u64,
    /// Stops answering probes after so long.
    pub hang_ms: u64,
    /// From the signal to the end.
    pub stop_ms: u64,
    /// One in so many starts fails.
    pub fail_one_in: u64,
    /// What it reserves, for the overcommit check.
    pub reserve: Resources,
}

impl Behaviour {
    /// As a command line.
    #[must_use]
    pub fn workload(&self) -> Workload {
        let fields = [
            ("version", self.version),
            ("start", self.start_ms),
            ("ready", self.ready_ms),
            ("crash", self.crash_ms),
            ("hang", self.hang_ms),
            ("stop", self.stop_ms),
            ("fail", self.fail_one_in),
            ("cpu", self.reserve.cpu_milli),
            ("memory", self.reserve.memory_bytes),
        ];
        let mut argv = vec!["simulated".to_owned()];
        argv.extend(fields.iter().map(|(name, value)| format!("{name}={value}")));
        Workload::Exec(Exec { argv, working_dir: None })
    }

    /// From a command line; what is not understood keeps its default.
    #[must_use]
    pub fn of(workload: &Workload) -> Self {
        let mut found = Self::default();
        let Workload::Exec(exec) = workload else { return found };
        for word in &exec.argv {
            let Some((name, value)) = word.split_once('=') else { continue };
            let Ok(value) = value.parse() else { continue };
            match name {
                "version" => found.version = value,
                "start" => found.start_ms = value,
                "ready" => found.ready_ms = value,
                "crash" => found.crash_ms = value,
                "hang" => found.hang_ms = value,
                "stop" => found.stop_ms = value,
                "fail" => found.fail_one_in = value,
                "cpu" => found.reserve.cpu_milli = value,
                "memory" => found.reserve.memory_bytes = value,
                _ => {}
            }
        }
        found
    }
}

/// Where a process is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    Starting,
    Running { ready_at: Nanos, hangs_at: Nanos },
    Ended(Exit),
}

/// One process (or what is still known of it).
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) replica: ReplicaKey,
    pub(crate) attempt: u32,
    pub(crate) behaviour: Behaviour,
    pub(crate) stage: Stage,
    stopping: bool,
}

impl Process {
    /// True from the start to the end.
    pub(crate) const fn runs(&self) -> bool {
        matches!(self.stage, Stage::Running { .. })
    }

    /// True once its agent has asked for its end.
    pub(crate) const fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// True if a probe passes now.
    pub(crate) const fn is_ready(&self, now: Nanos) -> bool {
        matches!(self.stage, Stage::Running { ready_at, hangs_at } if now >= ready_at && now < hangs_at)
    }
}

/// What will happen to a process, whether or not an agent watches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ProcessStep {
    Up,
    Ready,
    /// It answers no probe any more.
    Hang,
    FailsToStart,
    End(Exit),
}

/// What a command leads to.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Something happens to the process itself.
    Step { after: Nanos, alloc: AllocId, attempt: u32, step: ProcessStep },
    /// The agent hears something.
    Tell { after: Nanos, event: DriverEvent },
}

/// The processes of one host.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    pub(crate) all: BTreeMap<AllocId, Process>,
}

impl Processes {
    /// Does what an agent asks for.
    pub(crate) fn command(&mut self, command: DriverCommand, now: Nanos, rng: &mut Rng) -> Vec<Effect> {
        match command {
            DriverCommand::Start(spec) => self.start(*spec, rng),
            DriverCommand::Stop { alloc, stop } => {
                let Some(process) = self.all.get_mut(&alloc) else {
                    let event = DriverEvent::Exited { alloc, attempt: 0, exit: Exit::Lost };
                    return vec![Effect::Tell { after: MS, event }];
                };
                let attempt = process.attempt;
                if let Stage::Ended(exit) = process.stage {
                    return vec![Effect::Tell { after: MS, event: DriverEvent::Exited { alloc, attempt, exit } }];
                }
                if std::mem::replace(&mut process.stopping, true) {
                    return Vec::new();
                }
                let grace = u64::try_from(stop.grace.as_nanos()).unwrap_or(u64::MAX);
                let wanted = process.behaviour.stop_ms * MS;
                let exit = if wanted <= grace { Exit::Signal(15) } else { Exit::Signal(9) };
                vec![Effect::Step { after: wanted.min(grace) + MS, alloc, attempt, step: ProcessStep::End(exit) }]
            }
            DriverCommand::Probe { alloc, token, timeout, .. } => {
                let process = self.all.get(&alloc);
                let timeout = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
                let hangs =
                    process.is_some_and(|p| matches!(p.stage, Stage::Running { hangs_at, .. } if now >= hangs_at));
                let (after, outcome) = if hangs {
                    (timeout, ProbeOutcome::Failed("no answer in time".to_owned()))
                } else if process.is_some_and(|p| p.is_ready(now)) {
                    ((MS + rng.below(4 * MS)).min(timeout), ProbeOutcome::Passed)
                } else {
                    (MS, ProbeOutcome::Failed("connection refused".to_owned()))
                };
                vec![Effect::Tell { after, event: DriverEvent::Probed { alloc, token, outcome } }]
            }
            DriverCommand::Forget { alloc } => {
                if self.all.get(&alloc).is_some_and(|p| matches!(p.stage, Stage::Ended(_))) {
                    self.all.remove(&alloc);
                }
                Vec::new()
            }
        }
    }

    fn start(&mut self, spec: StartSpec, rng: &mut Rng) -> Vec<Effect> {
        let (alloc, attempt) = (spec.alloc, spec.attempt);
        if let Some(process) = self.all.get(&alloc) {
            match process.stage {
                Stage::Running { .. } => {
                    let event = DriverEvent::Started { alloc, attempt: process.attempt, instance: None };
                    return vec![Effect::Tell { after: MS, event }];
                }
                Stage::Starting => return Vec::new(),
                Stage::Ended(_) => {}
            }
        }
        let behaviour = Behaviour::of(&spec.workload);
        let fails = behaviour.fail_one_in > 0 && rng.below(behaviour.fail_one_in) == 0;
        let step = if fails { ProcessStep::FailsToStart } else { ProcessStep::Up };
        let process = Process { replica: spec.replica, attempt, behaviour, stage: Stage::Starting, stopping: false };
        self.all.insert(alloc, process);
        let after = behaviour.start_ms * MS + rng.range(2 * MS..8 * MS);
        vec![Effect::Step { after, alloc, attempt, step }]
    }

    /// Lets a step happen; what an agent that is there hears of it, and what follows.
    pub(crate) fn step(
        &mut self,
        alloc: AllocId,
        attempt: u32,
        step: ProcessStep,
        now: Nanos,
    ) -> Option<(Option<DriverEvent>, Vec<Effect>)> {
        let process = self.all.get_mut(&alloc).filter(|p| p.attempt == attempt)?;
        let step_later = |after, step| Effect::Step { after, alloc, attempt, step };
        match (step, process.stage) {
            (_, Stage::Ended(_)) | (ProcessStep::Up | ProcessStep::FailsToStart, Stage::Running { .. }) => None,
            (ProcessStep::Ready, _) => process.runs().then(|| (None, Vec::new())),
            (ProcessStep::Hang, Stage::Starting) => None,
            (ProcessStep::Hang, Stage::Running { ready_at, .. }) => {
                process.stage = Stage::Running { ready_at, hangs_at: now };
                Some((None, Vec::new()))
            }
            (ProcessStep::FailsToStart, Stage::Starting) => {
                process.stage = Stage::Ended(Exit::Lost);
                let failure = StartFailure::Other("simulated failure".to_owned());
                Some((Some(DriverEvent::StartFailed { alloc, attempt, failure }), Vec::new()))
            }
            (ProcessStep::Up, Stage::Starting) => {
                let Behaviour { ready_ms, hang_ms, crash_ms, .. } = process.behaviour;
                let ready_at = now + ready_ms * MS;
                process.stage = Stage::Running { ready_at, hangs_at: Nanos::MAX };
                let mut later = vec![step_later(ready_ms * MS, ProcessStep::Ready)];
                if hang_ms > 0 {
                    later.push(step_later(hang_ms * MS, ProcessStep::Hang));
                }
                if crash_ms > 0 {
                    later.push(step_later(crash_ms * MS, ProcessStep::End(Exit::Code(1))));
                }
                Some((Some(DriverEvent::Started { alloc, attempt, instance: None }), later))
            }
            (ProcessStep::End(exit), Stage::Starting | Stage::Running { .. }) => {
                process.stage = Stage::Ended(exit);
                Some((Some(DriverEvent::Exited { alloc, attempt, exit }), Vec::new()))
            }
        }
    }

    /// It has been up for long: it answers probes already.
    pub(crate) fn settle(&mut self, alloc: AllocId) {
        if let Some(Process { stage: Stage::Running { ready_at, .. }, .. }) = self.all.get_mut(&alloc) {
            *ready_at = 0;
        }
    }

    /// What an agent that has just started finds.
    pub(crate) fn adoptable(&self) -> Vec<Adopted> {
        let exit_of = |stage| if let Stage::Ended(exit) = stage { Some(exit) } else { None };
        self.all
            .iter()
            .map(|(alloc, p)| Adopted { alloc: *alloc, attempt: p.attempt, instance: None, exit: exit_of(p.stage) })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_behaviour_survives_its_command_line() {
        let reserve = Resources { cpu_milli: 8, memory_bytes: 9 };
        let one = Behaviour {
            version: 1,
            start_ms: 2,
            ready_ms: 3,
            crash_ms: 4,
            hang_ms: 5,
            stop_ms: 6,
            fail_one_in: 7,
            reserve,
        };
        assert_eq!(Behaviour::of(&one.workload()), one);
    }
}
