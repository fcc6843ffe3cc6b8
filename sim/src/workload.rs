//! Simulated processes and the driver that runs them. They live on a host, not in its agent: an agent may come and go. So does
//! the keeper of each, which kills it at the end of its lease by the host's clock.
//!
//! How a process behaves is written in its own command line, so that it is part of its revision like any real program's
//! behaviour. Divergence from reality: a start is never half done.

use std::collections::BTreeMap;

use dunlin_core::face::{Adopted, DriverCommand, DriverEvent, Exit, ProbeOutcome, StartFailure, StartSpec};
use dunlin_gossip::model::{AllocId, Exec, ReplicaKey, Resources, Workload};
use dunlin_gossip::rng::Rng;
use dunlin_gossip::time::Instant;

use crate::clock::Clock;
use crate::queue::{MS, Nanos};

/// A keeper that waits for the end of a lease is looked at so often: a clock's rate may change meanwhile.
const KEEPER_LOOKS: Nanos = 500 * MS;
/// From the end of a lease to the end of the process.
const KILL: core::ops::Range<Nanos> = MS..50 * MS;

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
    /// Exits with code 0 after so long: it is a job's.
    pub finish_ms: u64,
    /// Stops answering probes after so long.
    pub hang_ms: u64,
    /// From the signal to the end.
    pub stop_ms: u64,
    /// One in so many starts fails.
    pub fail_one_in: u64,
    /// The version that ends with code 1 as soon as it runs.
    pub bad_version: u64,
    /// One at most may run.
    pub lone: bool,
    /// Nobody asks whether it is well: that it hangs is seen by nobody.
    pub unchecked: bool,
    /// What it reserves, for the overcommit check.
    pub reserve: Resources,
}

impl Behaviour {
    /// True for the version that never runs.
    #[must_use]
    pub const fn is_bad(&self) -> bool {
        self.version != 0 && self.version == self.bad_version
    }

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
            ("bad", self.bad_version),
            ("lone", u64::from(self.lone)),
            ("cpu", self.reserve.cpu_milli),
            ("memory", self.reserve.memory_bytes),
        ];
        let mut argv = vec!["simulated".to_owned()];
        argv.extend(fields.iter().map(|(name, value)| format!("{name}={value}")));
        argv.extend(self.unchecked.then(|| "unchecked=1".to_owned()));
        argv.extend((self.finish_ms > 0).then(|| format!("finish={}", self.finish_ms)));
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
                "finish" => found.finish_ms = value,
                "hang" => found.hang_ms = value,
                "stop" => found.stop_ms = value,
                "fail" => found.fail_one_in = value,
                "bad" => found.bad_version = value,
                "lone" => found.lone = value > 0,
                "unchecked" => found.unchecked = value > 0,
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
    /// When its keeper kills it, by the host's clock.
    lease: Option<Instant>,
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
    /// Its keeper looks whether its lease is over.
    Lease,
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
    pub(crate) fn command(&mut self, command: DriverCommand, now: Nanos, clock: Clock, rng: &mut Rng) -> Vec<Effect> {
        match command {
            DriverCommand::Start(spec) => self.start(*spec, now, clock, rng),
            DriverCommand::Extend { alloc, until } => {
                let lease = self.all.get_mut(&alloc).and_then(|process| process.lease.as_mut());
                lease.into_iter().for_each(|lease| *lease = until.max(*lease));
                Vec::new()
            }
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

    fn start(&mut self, spec: StartSpec, now: Nanos, clock: Clock, rng: &mut Rng) -> Vec<Effect> {
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
        if spec.lease.is_some_and(|lease| lease <= clock.local(now)) {
            let failure = StartFailure::Other("its lease is over".to_owned());
            return vec![Effect::Tell { after: MS, event: DriverEvent::StartFailed { alloc, attempt, failure } }];
        }
        let behaviour = Behaviour::of(&spec.workload);
        let fails = behaviour.fail_one_in > 0 && rng.below(behaviour.fail_one_in) == 0;
        let step = if fails { ProcessStep::FailsToStart } else { ProcessStep::Up };
        let (stage, lease) = (Stage::Starting, spec.lease);
        let process = Process { replica: spec.replica, attempt, behaviour, stage, stopping: false, lease };
        self.all.insert(alloc, process);
        let after = behaviour.start_ms * MS + rng.range(2 * MS..8 * MS);
        let mut effects = vec![Effect::Step { after, alloc, attempt, step }];
        effects.extend(lease.map(|lease| keeper_looks(alloc, attempt, lease, now, clock)));
        effects
    }

    /// Lets a step happen; what an agent that is there hears of it, and what follows.
    pub(crate) fn step(
        &mut self,
        alloc: AllocId,
        attempt: u32,
        step: ProcessStep,
        now: Nanos,
        clock: Clock,
        rng: &mut Rng,
    ) -> Option<(Option<DriverEvent>, Vec<Effect>)> {
        let process = self.all.get_mut(&alloc).filter(|p| p.attempt == attempt)?;
        let step_later = |after, step| Effect::Step { after, alloc, attempt, step };
        match (step, process.stage) {
            (_, Stage::Ended(_)) | (ProcessStep::Up | ProcessStep::FailsToStart, Stage::Running { .. }) => None,
            (ProcessStep::Lease, _) => {
                let lease = process.lease?;
                let effect = if lease <= clock.local(now) {
                    step_later(rng.range(KILL), ProcessStep::End(Exit::Signal(9)))
                } else {
                    keeper_looks(alloc, attempt, lease, now, clock)
                };
                Some((None, vec![effect]))
            }
            (ProcessStep::Ready, _) => process.runs().then(|| (None, Vec::new())),
            (ProcessStep::Hang, _) if process.behaviour.unchecked => None,
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
                let Behaviour { ready_ms, hang_ms, finish_ms, .. } = process.behaviour;
                let crash_ms = if process.behaviour.is_bad() { 1 } else { process.behaviour.crash_ms };
                let ready_at = now + ready_ms * MS;
                process.stage = Stage::Running { ready_at, hangs_at: Nanos::MAX };
                let mut later = vec![step_later(ready_ms * MS, ProcessStep::Ready)];
                if hang_ms > 0 {
                    later.push(step_later(hang_ms * MS, ProcessStep::Hang));
                }
                if crash_ms > 0 {
                    later.push(step_later(crash_ms * MS, ProcessStep::End(Exit::Code(1))));
                }
                if finish_ms > 0 {
                    later.push(step_later(finish_ms * MS, ProcessStep::End(Exit::Code(0))));
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

/// The next look of a keeper at its lease.
fn keeper_looks(alloc: AllocId, attempt: u32, lease: Instant, now: Nanos, clock: Clock) -> Effect {
    let after = clock.world(lease).saturating_sub(now).min(KEEPER_LOOKS);
    Effect::Step { after, alloc, attempt, step: ProcessStep::Lease }
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
            finish_ms: 9,
            hang_ms: 5,
            stop_ms: 6,
            fail_one_in: 7,
            bad_version: 8,
            lone: true,
            unchecked: true,
            reserve,
        };
        assert_eq!(Behaviour::of(&one.workload()), one);
    }
}
