//! Own allocations step by step: driver events and timers in, phases, records and driver commands out.
//!
//! Every step goes through the table in [`state`](super::state). What others must know at once (ready or not, a claim given
//! up) is published with this call's batch; what only people read follows within a second.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::face::{NoticeLevel, PersistSeq};
use dunlin_gossip::model::{AllocId, Endpoint, NodeHeader, Phase, RefusalReason};
use dunlin_gossip::time::{Duration, Instant, Wall};
use dunlin_gossip::wire::RecordId;

use super::env::{device_numbers, environment};
use super::probe::Opinion;
use super::restart::Verdict;
use super::state::{Cue, Next, next};
use super::{Claimed, Health, LAZY, Own, choose_ports};
use crate::engine::Node;
use crate::face::{
    DriverCommand, DriverEvent, EventKind, Exit, Output, Outputs, ProbeOutcome, StartFailure, StartSpec,
};
use crate::names;
use crate::view::{held, offered};

/// A command that is not answered is repeated after this time (beyond a stop's grace).
const RESEND: Duration = Duration::from_secs(30);
/// A start that is not answered after so many repetitions has failed.
const MAX_RESENDS: u32 = 10;
/// How often another dynamic port is tried.
const MAX_PORT_TRIES: usize = 16;
/// What a stop waits at most for the last node to hear that an instance has left the names.
const MAX_NEWS: Duration = Duration::from_secs(2);
/// Longest text that a record carries for people.
const MAX_DETAIL: usize = 200;

impl Node {
    /// The driver says something.
    pub(crate) fn on_driver(&mut self, event: DriverEvent, now: Instant, wall: Wall, out: &mut Outputs) {
        match event {
            DriverEvent::Started { alloc, attempt, instance } => self.on_started(alloc, attempt, instance, now, out),
            DriverEvent::StartFailed { alloc, attempt, failure } => {
                self.on_start_failed(alloc, attempt, failure, now, wall, out);
            }
            DriverEvent::Exited { alloc, attempt, exit } => self.on_exited(alloc, attempt, exit, now, wall, out),
            DriverEvent::Probed { alloc, token, outcome } => self.on_probed(alloc, token, &outcome, now, wall),
            DriverEvent::Used { alloc, used } => self.on_used(alloc, used, now),
            DriverEvent::Adopted(found) => self.on_adopted(found, now, wall, out),
            DriverEvent::Drivers(drivers) => {
                let header = NodeHeader { drivers, ..self.config.header.clone() };
                self.on_host(header, now);
            }
        }
    }

    fn on_started(
        &mut self,
        id: AllocId,
        attempt: u32,
        instance: Option<core::net::IpAddr>,
        now: Instant,
        out: &mut Outputs,
    ) {
        let address = self.config.header.service_address;
        let Some(own) = self.owned.map.get_mut(&id) else { return self.stop_stray(id, now, out) };
        if attempt != own.attempt || own.record.phase != Phase::Starting || !own.step(Cue::Started) {
            return;
        }
        own.started = now;
        own.time_job(now, Duration::ZERO);
        (own.resend, own.resends) = (None, 0);
        own.record.endpoint = Some(Endpoint { instance, node: address, ports: own.record.ports.clone() });
        if own.spec().is_some_and(|s| s.health.is_some()) {
            own.health = Some(Health::begin(now, false));
            self.touched(id, now, false);
        } else {
            own.ready(now);
            self.touched(id, now, true);
        }
        self.ask_health(id, now, out);
    }

    fn on_start_failed(
        &mut self,
        id: AllocId,
        attempt: u32,
        failure: StartFailure,
        now: Instant,
        wall: Wall,
        out: &mut Outputs,
    ) {
        let Some(own) = self.owned.map.get_mut(&id) else { return };
        if own.record.phase == Phase::Stopping {
            self.over(id, now, out);
            return;
        }
        if attempt != own.attempt || own.record.phase != Phase::Starting {
            return;
        }
        let reason = match failure {
            StartFailure::PortTaken(port) => {
                let fixed = own.spec().is_none_or(|s| s.ports.iter().any(|p| p.published == Some(port)));
                own.avoid.insert(port);
                let tries_left = own.avoid.len() <= MAX_PORT_TRIES;
                if !fixed && tries_left && self.other_ports(id, now) {
                    return;
                }
                RefusalReason::PortTaken(port)
            }
            StartFailure::NoDriver => RefusalReason::NoDriver,
            StartFailure::Other(text) => RefusalReason::StartFailed(shorten(&text)),
        };
        self.refuse(id, reason, now, wall);
        self.over(id, now, out);
    }

    /// Tries again with other dynamic ports.
    fn other_ports(&mut self, id: AllocId, now: Instant) -> bool {
        let Some(own) = self.owned.map.get(&id) else { return false };
        let Some(spec) = own.spec() else { return false };
        let others = self.owned.map.iter().filter(|(other, _)| **other != id);
        let held = others.flat_map(|(_, o)| o.record.ports.iter().map(|p| (p.protocol, p.outer))).collect();
        let range = &self.config.port_range;
        let Ok(ports) =
            choose_ports((&spec.ports, spec.demand()), &own.record.replica, self.me, range, &held, &own.avoid)
        else {
            return false;
        };
        let Some(own) = self.owned.map.get_mut(&id) else { return false };
        if !own.step(Cue::Again) {
            return false;
        }
        own.record.ports = ports;
        (own.start_at, own.resend) = (now, None);
        self.touched(id, now, true);
        true
    }

    /// A run has ended: it is over, or it is started again, or given up.
    pub(crate) fn on_exited(
        &mut self,
        id: AllocId,
        attempt: u32,
        exit: Exit,
        now: Instant,
        wall: Wall,
        out: &mut Outputs,
    ) {
        let Some(own) = self.owned.map.get_mut(&id) else {
            self.owned.strays.remove(&id);
            out.push(Output::Driver(DriverCommand::Forget { alloc: id }));
            return;
        };
        if own.record.phase == Phase::Stopping {
            self.over(id, now, out);
            return;
        }
        if attempt != own.attempt || !own.may_run() || planted(Bug::ExitIgnored) {
            return;
        }
        let (ran, well) = (now.since(own.started), own.well);
        let policy = own.service.as_ref().map(|s| s.spec.restart.clone());
        let verdict = policy.map_or(Verdict::Exhausted, |policy| own.restarts.ended(&policy, exit, ran, well));
        let verdict = own.job_verdict(verdict, exit);
        let never_ready = !own.record.ready_once;
        let late = own.late_text();
        own.run_over(late + &exit_text(exit));
        let text = own.record.detail.clone();
        let replica = own.record.replica.clone();
        if verdict != Verdict::Final(true) {
            self.hold_against_rollout(id, &text, now, wall);
        }
        let Some(own) = self.owned.map.get_mut(&id) else { return };
        match verdict {
            Verdict::Again(delay) => {
                own.step(Cue::Again);
                own.start_at = now + if planted(Bug::RestartTimerLost) { Duration::MAX } else { delay };
                own.record.restarts = own.record.restarts.saturating_add(1);
                self.touched(id, now, true);
            }
            Verdict::Final(well) => {
                own.step(if well { Cue::EndWell } else { Cue::EndBadly });
                self.touched(id, now, true);
                self.jobs.look(now);
                out.push(Output::Driver(DriverCommand::Forget { alloc: id }));
                self.start_after(id, now, out);
            }
            Verdict::Exhausted => {
                let reason = if never_ready { RefusalReason::NeverReady } else { RefusalReason::RestartsExhausted };
                self.refuse(id, reason, now, wall);
                self.over(id, now, out);
            }
        }
        let level = if exit.is_success() { NoticeLevel::Info } else { NoticeLevel::Warn };
        self.log.replica(level, EventKind::Allocation, self.me, &replica, text);
        self.try_start(id, now, out);
    }

    fn on_probed(&mut self, id: AllocId, token: u64, outcome: &ProbeOutcome, now: Instant, wall: Wall) {
        let Some(own) = self.owned.map.get_mut(&id) else { return };
        let Some(check) = own.service.as_ref().and_then(|s| s.spec.health.as_ref()) else { return };
        let Some(health) = own.health.as_mut() else { return };
        let opinion = health.answer(token, *outcome == ProbeOutcome::Passed, check, now);
        match opinion {
            Opinion::Same => {}
            Opinion::Healthy => {
                if own.step(Cue::Pass) {
                    own.ready(now);
                    own.record.detail.clear();
                    own.unhealthy_since = None;
                    self.touched(id, now, true);
                }
            }
            Opinion::Unhealthy => {
                if own.step(Cue::Fail) {
                    own.record.ready = false;
                    if let ProbeOutcome::Failed(why) = outcome {
                        own.record.detail = shorten(why);
                    }
                    own.unhealthy_since = Some(now);
                    let text = own.record.detail.clone();
                    self.touched(id, now, true);
                    self.hold_against_rollout(id, &text, now, wall);
                }
            }
        }
    }

    /// What is due of our allocations.
    pub(crate) fn own_timers(&mut self, now: Instant, wall: Wall, out: &mut Outputs) {
        let due = self.owned.map.iter().filter(|(_, own)| own.deadline().is_some_and(|at| at <= now));
        let due: Vec<AllocId> = due.map(|(id, _)| *id).collect();
        for id in due {
            out.cost += 1;
            self.own_timer(id, now, wall, out);
        }
        let strays = self.owned.strays.iter().filter(|(_, at)| **at <= now);
        let strays: Vec<AllocId> = strays.map(|(id, _)| *id).collect();
        strays.into_iter().for_each(|id| self.stop_stray(id, now, out));
        self.refusal_upkeep(now);
    }

    fn own_timer(&mut self, id: AllocId, now: Instant, wall: Wall, out: &mut Outputs) {
        let Some(own) = self.owned.map.get_mut(&id) else { return };
        if own.publish.is_some_and(|at| at <= now) {
            self.stage_own(id);
        }
        self.job_overdue(id, now, out);
        self.try_start(id, now, out);
        let Some(own) = self.owned.map.get_mut(&id) else { return };
        if let Some(token) = own.health.as_ref().and_then(|h| h.overdue(now)) {
            let late = ProbeOutcome::Failed("the probe was not answered in time".to_string());
            self.on_probed(id, token, &late, now, wall);
        }
        self.ask_health(id, now, out);
        let Some(own) = self.owned.map.get_mut(&id) else { return };
        if own.record.phase == Phase::Unhealthy
            && !own.killing
            && own.unhealthy_since.is_some_and(|at| at + own.patience() <= now)
        {
            own.killing = true;
            self.send_stop(id, now, out);
        } else if own.resend.is_some_and(|at| at <= now) {
            self.resend(id, now, wall, out);
        }
    }

    fn resend(&mut self, id: AllocId, now: Instant, wall: Wall, out: &mut Outputs) {
        let Some(own) = self.owned.map.get_mut(&id) else { return };
        own.resends = own.resends.saturating_add(1);
        if own.record.phase != Phase::Starting {
            self.send_stop(id, now, out);
        } else if own.resends < MAX_RESENDS {
            self.send_start(id, now, out);
        } else {
            let text = "the driver did not answer".to_string();
            self.refuse(id, RefusalReason::StartFailed(text), now, wall);
            self.stop(id, "its driver does not answer", now, out);
        }
    }

    fn ask_health(&mut self, id: AllocId, now: Instant, out: &mut Outputs) {
        let Some(own) = self.owned.map.get_mut(&id) else { return };
        if own.killing || !matches!(own.record.phase, Phase::Running | Phase::Healthy | Phase::Unhealthy) {
            return;
        }
        let Some(check) = own.service.as_ref().and_then(|s| s.spec.health.as_ref()) else { return };
        let Some(health) = own.health.as_mut() else { return };
        let token = self.owned.tokens;
        if !health.ask(token, check, now) {
            return;
        }
        self.owned.tokens += 1;
        let endpoint = own.record.endpoint.as_ref();
        let address = endpoint.map_or(self.config.header.service_address, |e| e.instance.unwrap_or(e.node));
        let ports = own.record.ports.clone();
        let (probe, timeout) = (check.probe.clone(), check.timeout);
        out.push(Output::Driver(DriverCommand::Probe { alloc: id, token, probe, ports, address, timeout }));
    }

    /// Claims up to this persist request are on disk: what they claim may start.
    pub(crate) fn claims_durable(&mut self, upto: PersistSeq, now: Instant, out: &mut Outputs) {
        let mut durable = Vec::new();
        for (id, own) in &mut self.owned.map {
            if matches!(own.claimed, Claimed::Asked(seq) if seq <= upto) {
                own.claimed = Claimed::Durable;
                durable.push(*id);
            }
        }
        durable.into_iter().for_each(|id| self.try_start(id, now, out));
    }

    /// Starts an allocation if its claim is durable, its turn has come, and it fits next to what runs.
    pub(crate) fn try_start(&mut self, id: AllocId, now: Instant, out: &mut Outputs) {
        let running = self.owned.running();
        let gives = offered(&self.config.header);
        let Some(own) = self.owned.map.get_mut(&id) else { return };
        let ready = own.record.phase == Phase::Pending && own.claimed == Claimed::Durable && own.start_at <= now;
        if !ready || !own.after.is_empty() || self.failed || !self.start.is_adopted() {
            return;
        }
        if own.service.is_none() {
            self.stop(id, "its revision is not known here any more", now, out);
            return;
        }
        if own.is_leased() && self.lease_of(id, now).is_none() {
            let Some(own) = self.owned.map.get_mut(&id) else { return };
            own.start_at = now + LAZY;
            return;
        }
        let Some(own) = self.owned.map.get_mut(&id) else { return };
        if !self.owned.strays.is_empty() || !gives.holds(&running.plus(&held(&own.record))) {
            own.start_at = now + LAZY;
            return;
        }
        own.step(Cue::Start);
        own.attempt = own.attempt.saturating_add(1);
        own.resends = 0;
        self.touched(id, now, false);
        self.send_start(id, now, out);
    }

    fn send_start(&mut self, id: AllocId, now: Instant, out: &mut Outputs) {
        let Some(own) = self.owned.map.get_mut(&id) else { return };
        let Some(service) = own.service.clone() else { return };
        own.resend = Some(now + RESEND);
        let Some(own) = self.owned.map.get(&id) else { return };
        let lease = self.lease_end(own);
        let spec = &service.spec;
        out.push(Output::Driver(DriverCommand::Start(Box::new(StartSpec {
            alloc: id,
            attempt: own.attempt,
            replica: own.record.replica.clone(),
            node: self.me,
            workload: spec.workload.clone(),
            environment: environment(id, &own.record, spec, &self.config.header),
            ports: own.record.ports.clone(),
            address: self.config.header.service_address,
            limits: spec.limits,
            pids_limit: spec.demand().pids_limit,
            devices: device_numbers(&own.record, &self.config.header),
            stop: spec.stop.clone(),
            lease,
        }))));
    }

    pub(crate) fn send_stop(&mut self, id: AllocId, now: Instant, out: &mut Outputs) {
        let Some(own) = self.owned.map.get_mut(&id) else { return };
        let stop = own.stop_policy();
        own.resend = (!planted(Bug::StopSentOnce)).then_some(now + stop.grace + RESEND);
        out.push(Output::Driver(DriverCommand::Stop { alloc: id, stop }));
    }

    /// Ends what runs here and is not ours; asked for again until the driver confirms it.
    pub(crate) fn stop_stray(&mut self, id: AllocId, now: Instant, out: &mut Outputs) {
        let stop = Own::default_stop();
        self.owned.strays.insert(id, now + stop.grace + RESEND);
        out.push(Output::Driver(DriverCommand::Stop { alloc: id, stop }));
    }

    /// Gives an allocation up for good. What runs counts against our room until the driver confirms its end. It leaves the
    /// names at once, and is told to end when nobody should still have an answer with it, if others can be answered with.
    pub(crate) fn stop(&mut self, id: AllocId, why: &str, now: Instant, out: &mut Outputs) {
        let Some(own) = self.owned.map.get(&id) else { return };
        let serves = own.service.as_ref().is_some_and(|service| service.mode.job().is_none());
        let is_named = serves && own.record.ready && own.record.endpoint.is_some();
        let lingers = is_named && names::has_other(&self.view, &own.record.replica.service, (self.me, id));
        let linger = if lingers && !planted(Bug::SignalAtOnce) { self.linger() } else { Duration::ZERO };
        self.stop_after(id, why, linger, now, out);
    }

    /// As [`stop`](Self::stop), where each moment that it runs on may be one too many.
    pub(crate) fn stop_at_once(&mut self, id: AllocId, why: &str, now: Instant, out: &mut Outputs) {
        self.stop_after(id, why, Duration::ZERO, now, out);
    }

    /// The longest that somebody keeps an answer with an instance which has just left the names here: until the last node
    /// has heard of it, and the TTL.
    fn linger(&self) -> Duration {
        dunlin_names::TTL + self.gossip.spread_time().saturating_mul(2).min(MAX_NEWS)
    }

    fn stop_after(&mut self, id: AllocId, why: &str, linger: Duration, now: Instant, out: &mut Outputs) {
        let Some(own) = self.owned.map.get_mut(&id) else { return };
        let replica = own.record.replica.clone();
        match next(own.record.phase, Cue::Stop) {
            Next::Ignored => return,
            Next::Over => self.over(id, now, out),
            Next::Phase(phase) => {
                if own.record.phase == phase {
                    return;
                }
                own.record.phase = phase;
                own.record.ready = false;
                own.record.detail = String::from(why);
                (own.health, own.resends) = (None, 0);
                own.resend = Some(now + linger);
                self.touched(id, now, true);
                if linger.is_zero() {
                    self.send_stop(id, now, out);
                }
            }
        }
        self.log.replica(NoticeLevel::Info, EventKind::Claim, self.me, &replica, alloc::format!("given up: {why}"));
    }

    /// Nothing of an allocation is left: its record goes, and what waited for its room may start.
    pub(crate) fn over(&mut self, id: AllocId, now: Instant, out: &mut Outputs) {
        let Some(own) = self.owned.map.remove(&id) else { return };
        debug_assert_eq!(next(own.record.phase, Cue::Gone), Next::Over);
        let before = self.view.set_allocation(self.me, id, None);
        self.names.allocation(self.me, before.as_deref(), None);
        if !planted(Bug::ClaimLeftBehind) {
            self.owned.staged.insert(RecordId::allocation(self.me, id), None);
        }
        if own.attempt > 0 {
            out.push(Output::Driver(DriverCommand::Forget { alloc: id }));
        }
        self.mark_leaving(&own.record.replica.service);
        self.lease_over(&own.record.replica);
        self.schedule.mark(own.record.replica);
        self.schedule.sweep(now);
        self.start_after(id, now, out);
    }

    /// What waited for this allocation's end may start.
    fn start_after(&mut self, id: AllocId, now: Instant, out: &mut Outputs) {
        let waiting = self.owned.map.iter_mut().filter(|_| !planted(Bug::SuccessorForgotten));
        let next: Vec<AllocId> = waiting.filter_map(|(next, own)| own.after.remove(&id).then_some(*next)).collect();
        next.into_iter().for_each(|id| self.try_start(id, now, out));
    }
}

impl Own {
    /// Goes where a cue leads; false if it means nothing now.
    pub(crate) fn step(&mut self, cue: Cue) -> bool {
        match next(self.record.phase, cue) {
            Next::Phase(phase) => {
                self.record.phase = phase;
                true
            }
            Next::Over | Next::Ignored => false,
        }
    }

    fn ready(&mut self, now: Instant) {
        self.ready_at.get_or_insert(now);
        self.record.ready = true;
        self.record.ready_once = true;
        self.well = true;
    }

    /// What a run leaves behind when it ends.
    fn run_over(&mut self, detail: String) {
        self.record.ready = false;
        self.record.detail = detail;
        (self.health, self.unhealthy_since, self.resend) = (None, None, None);
        (self.killing, self.well) = (false, false);
    }
}

fn exit_text(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => alloc::format!("exited with code {code}"),
        Exit::Signal(signal) => alloc::format!("ended by signal {signal}"),
        Exit::Lost => "ended while nobody watched".to_string(),
    }
}

fn shorten(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_DETAIL).collect()
}
