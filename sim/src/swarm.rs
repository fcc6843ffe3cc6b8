//! Swarm testing: each seed draws a scenario of its own. Whole kinds of fault are switched off, the others get wildly
//! different rates, so that no kind hides another (Groce et al., "Swarm Testing", ISSTA 2012).
//!
//! A run has two phases, as in TigerBeetle's simulator. In the first faults rage and only what must hold at every moment is
//! demanded. Then a core is drawn, its faults end, all others stand still for good, and within bounded time the core must
//! keep every promise by itself. Drawing must never look at anything but the seed.

mod apart;

use apart::{differ, lone, priorities};
use dunlin_core::cron::parse;
use dunlin_core::face::RolloutOrder;
use dunlin_gossip::model::{
    Canary, Cron, FailureAction, Job, Missed, Overlap, Promotion, Resources, RolloutPolicy, UpdateOrder, UpdatePolicy,
};
use dunlin_gossip::rng::{Ratio, Rng, Seed};
use dunlin_gossip::time::Duration;
use dunlin_gossip::wire::WireVersion;

use crate::net::{Conditions, preset};
use crate::queue::{MS, Nanos, SECOND};
use crate::scenario::{
    Action, Count, Crash, Cut, DiskFate, Files, Limits, Order, Scenario, ServiceLine, Spoil, Start, Step, Target,
    Zones, policy,
};
use crate::workload::Behaviour;

/// The first write.
const FIRST: Nanos = 12 * SECOND;
/// The core has so long to come to terms, and in addition the time of a rollout. A flock that lost half of its members waits 30 s before it takes over, and the
/// longest silence in between is that of a sync.
const SETTLE: Nanos = 120 * SECOND;

/// What operators say: a process that does not end after so long is killed, and one is probed so often.
const GRACE_MS: u64 = 5_000;
const PROBED_WITHIN_MS: u64 = 2_000;

/// Kinds of fault that are switched on and off as a whole.
const KINDS: &[Kind] = &[
    Kind::Agents,
    Kind::Hosts,
    Kind::Processes,
    Kind::OldDisks,
    Kind::LostDisks,
    Kind::Partition,
    Kind::OneWay,
    Kind::Pairs,
    Kind::FlipFlop,
    Kind::Swizzle,
    Kind::Walls,
    Kind::Loss,
    Kind::Syncs,
    Kind::FullDisks,
    Kind::SlowDisks,
    Kind::Clocks,
    Kind::Stalls,
    Kind::Slowness,
    Kind::Drivers,
    Kind::Operators,
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Agents,
    Hosts,
    Processes,
    OldDisks,
    LostDisks,
    Partition,
    OneWay,
    Pairs,
    FlipFlop,
    Swizzle,
    Walls,
    Loss,
    Syncs,
    FullDisks,
    SlowDisks,
    Clocks,
    Stalls,
    Slowness,
    Drivers,
    Operators,
}

/// What the swarm tries, for listings.
pub(crate) const ABOUT: &str =
    "every seed draws hosts, network, services and faults of its own; in the end a core must settle without the rest";

/// The scenario of a seed, with at most so many hosts.
#[must_use]
pub(crate) fn draw(seed: u64, most_hosts: u32) -> Scenario {
    let mut draw = Draw { rng: Seed(seed).split("swarm").rng(), steps: Vec::new() };
    let mut scenario = draw.scenario(seed, most_hosts.max(1));
    differ(&mut scenario, Seed(seed).split("hosts that differ").rng());
    scenario
}

struct Draw {
    rng: Rng,
    steps: Vec<Step>,
}

impl Draw {
    fn scenario(&mut self, seed: u64, most_hosts: u32) -> Scenario {
        let hosts = self.hosts(most_hosts);
        let start = match self.rng.below(4) {
            0 => Start::Cold { within: self.rng.range(1..4) * SECOND },
            1 => Start::Joined,
            _ => Start::Warm,
        };
        let zones = self.zones(hosts);
        let network = self.network();
        let mut services = self.services(hosts);
        let rage = self.rng.range(20..70) * SECOND;
        self.writes(&services, rage);
        self.faults(hosts, rage);
        self.versions(hosts, rage, Seed(seed).split("versions").rng());
        priorities(&mut services, Seed(seed).split("priorities").rng());
        self.rollouts(&mut services, rage, Seed(seed).split("rollouts").rng());
        self.jobs(&mut services, Seed(seed).split("jobs").rng());
        self.crons(&mut services, Seed(seed).split("crons").rng());
        lone(&mut services, Seed(seed).split("lone").rng());
        let is_ordered = self.orders(hosts, rage, Seed(seed).split("orders").rng());
        let calm = FIRST + rage;
        // What leaves drained hosts does so slot by slot, like a rollout.
        let settle = SETTLE + rollout(&services) * if is_ordered { 2 } else { 1 };
        let core = if self.rng.below(2) == 0 { hosts } else { self.some(hosts) };
        self.push(calm, Action::Calm { core: fixed(core) });
        let mut timeline = std::mem::take(&mut self.steps);
        timeline.retain(|step| step.at <= calm);
        timeline.sort_by_key(|step| step.at);
        Scenario {
            name: "swarm".to_owned(),
            about: format!("drawn by seed {seed}"),
            hosts,
            start,
            zones,
            capacity: Resources { cpu_milli: 4_000, memory_bytes: 8 << 30 },
            nodes: Vec::new(),
            skew_ms: self.pick(&[0, 0, 50, 500]),
            drift_ppm: self.pick(&[0, 0, 100, 5_000]),
            forget: None,
            rebalance: [0, 0, 6, 60][usize::try_from(Seed(seed).split("rebalance").rng().below(4)).unwrap_or(0)],
            waves: None,
            network,
            services,
            timeline,
            churn: None,
            settle,
            limits: Limits::default(),
            end: calm + settle + 15 * SECOND,
            may_miss: true,
            recorded: None,
        }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let index = usize::try_from(self.rng.below(from.len() as u64)).unwrap_or(0);
        from[index]
    }

    fn push(&mut self, at: Nanos, action: Action) {
        self.steps.push(Step { at, action });
    }

    /// Small flocks break in ways that large ones hide.
    fn hosts(&mut self, most: u32) -> u32 {
        let most = u64::from(most);
        let drawn = match self.rng.below(3) {
            0 => self.rng.range(2..5),
            1 => self.rng.range(4..9),
            _ => self.rng.range(5..most.max(5) + 1),
        };
        u32::try_from(drawn.min(most)).unwrap_or(1)
    }

    /// One to all, small numbers more often.
    fn some(&mut self, hosts: u32) -> u32 {
        let most = if self.rng.below(2) == 0 { hosts.div_ceil(3) } else { hosts };
        1 + u32::try_from(self.rng.below(u64::from(most))).unwrap_or(0)
    }

    fn zones(&mut self, hosts: u32) -> Zones {
        if hosts < 4 || self.rng.below(3) > 0 {
            return Zones::default();
        }
        let latency = self.pick(&["lan", "metro", "wan"]);
        Zones { count: self.pick(&[2, 3]), latency: preset(latency).unwrap_or_default() }
    }

    fn network(&mut self) -> Conditions {
        let latency = self.pick(&["loopback", "lan", "lan", "metro", "wan"]);
        Conditions {
            latency: preset(latency).unwrap_or_default(),
            pairs: None,
            jitter: self.pick(&[0, 0, MS, 10 * MS]),
            loss: share(self.pick(&[0, 0, 0, 1, 5, 15])),
            duplicate: share(self.pick(&[0, 0, 1, 10])),
            reorder: share(self.pick(&[0, 0, 5, 30])),
            bandwidth: self.pick(&[0, 0, 0, 128 << 10, 1 << 20]),
        }
    }

    fn services(&mut self, hosts: u32) -> Vec<ServiceLine> {
        let count = self.rng.range(1..4);
        (0..count)
            .map(|n| {
                let name = ["web", "db", "queue"][usize::try_from(n).unwrap_or(0) % 3].to_owned();
                let replicas = if self.rng.below(2) == 0 { self.rng.range(1..4) } else { u64::from(hosts) };
                let behaviour = Behaviour {
                    version: 0,
                    start_ms: self.pick(&[5, 20, 500]),
                    ready_ms: self.pick(&[0, 50, 400, 2_000]),
                    stop_ms: self.pick(&[0, 5, 1_000, 7_000]),
                    fail_one_in: self.pick(&[0, 0, 0, 10]),
                    reserve: Resources {
                        cpu_milli: self.pick(&[50, 200, 1_000]),
                        memory_bytes: self.pick(&[32 << 20, 256 << 20, 1 << 30]),
                    },
                    ..Behaviour::default()
                };
                ServiceLine {
                    name,
                    replicas: Count::Fixed(u32::try_from(replicas).unwrap_or(1)),
                    behaviour,
                    rollout: RolloutPolicy::default(),
                    parallelism: 0,
                    cron: None,
                    priority: 0,
                    model: None,
                    on: Vec::new(),
                }
            })
            .collect()
    }

    fn writes(&mut self, services: &[ServiceLine], rage: Nanos) {
        self.push(FIRST, Action::Deploy { at: Target::ONE, files: Files::Different });
        for _ in 0..self.rng.below(6) {
            let at = FIRST + self.rng.below(rage / MS) * MS;
            let deploy = Action::Deploy { at: Target::ONE, files: Files::Different };
            match self.rng.below(4) {
                0 => {
                    let service = usize::try_from(self.rng.below(services.len() as u64)).unwrap_or(0);
                    let service = services.get(service).map(|line| line.name.clone()).unwrap_or_default();
                    let replicas = Count::Fixed(u32::try_from(self.rng.range(0..8)).unwrap_or(0));
                    self.push(at, Action::Scale { service, replicas, at: Target::ONE });
                }
                1 => {
                    self.push(at, Action::Remove { at: Target::ONE });
                    let again = at + self.rng.below(3_000) * MS;
                    self.push(again, deploy);
                }
                _ => self.push(at, deploy),
            }
        }
    }

    /// For each kind that is on, some faults at moments of their own; most end before the calm, some do not.
    fn faults(&mut self, hosts: u32, rage: Nanos) {
        let on = self.rng.range(1..7);
        let kinds: Vec<Kind> = KINDS.iter().copied().filter(|_| self.rng.below(KINDS.len() as u64) < on).collect();
        for kind in kinds {
            for _ in 0..self.rng.range(1..5) {
                let at = FIRST + self.rng.below(rage / MS) * MS;
                let lasts = self.pick(&[100, 900, 1_500, 5_000, 20_000, 60_000]) * MS;
                let some = fixed(self.some(hosts));
                self.fault(kind, at, lasts, some);
            }
        }
    }

    /// In one flock of four agents go to the next version of the wire, some of them back. Drawn apart: whatever else a seed
    /// draws stays as it was before there were versions.
    fn versions(&mut self, hosts: u32, rage: Nanos, rng: Rng) {
        let mut rng = std::mem::replace(&mut self.rng, rng);
        for _ in 0..self.pick(&[0, 0, 0, 3]) {
            let at = FIRST + self.rng.below(rage / MS) * MS;
            let version = Some(self.pick(&[WireVersion::NEXT, WireVersion::NEXT, WireVersion::CURRENT]));
            let within = self.pick(&[900, 5_000, 20_000]) * MS;
            let down = self.pick(&[100, 500, 3_000]) * MS;
            let hosts = fixed(self.some(hosts));
            self.push(at, Action::Crash { what: Crash::InTurn { within, down, version }, hosts });
        }
        std::mem::swap(&mut self.rng, &mut rng);
    }

    /// One service of three says how it goes over to a new version, one version may be bad, and people say things about
    /// rollouts. Drawn apart, likewise.
    fn rollouts(&mut self, services: &mut [ServiceLine], rage: Nanos, rng: Rng) {
        let mut rng = std::mem::replace(&mut self.rng, rng);
        for line in services {
            if self.rng.below(3) > 0 {
                continue;
            }
            let update = UpdatePolicy {
                parallelism: self.pick(&[0, 1, 2, 3]),
                delay: Duration::from_millis(self.pick(&[0, 0, 500])),
                order: self.pick(&[UpdateOrder::StopFirst, UpdateOrder::StartFirst]),
                monitor: Duration::from_millis(self.pick(&[0, 2_000, 5_000])),
                max_failure_ppm: 0,
                on_failure: self.pick(&[FailureAction::Retry, FailureAction::Pause, FailureAction::Rollback]),
            };
            let canary = match self.rng.below(3) {
                0 if line.replicas != Count::Fixed(0) => {
                    let promotion = self.pick(&[Promotion::ByHand, Promotion::ByHealth(Duration::from_secs(3))]);
                    Some(Canary { count: 1, promotion })
                }
                _ => None,
            };
            line.rollout = RolloutPolicy { update, rollback: policy::back(update), canary };
            if update.on_failure != FailureAction::Retry {
                line.behaviour.bad_version = self.pick(&[0, 2, 3]);
            }
            for _ in 0..self.rng.below(3) {
                let at = FIRST + self.rng.below(rage / MS) * MS;
                let undo = RolloutOrder::Undo { to: None };
                let order = self.pick(&[RolloutOrder::Pause, RolloutOrder::Resume, RolloutOrder::Promote, undo]);
                self.push(at, Action::Rollout { service: line.name.clone(), order, at: Target::ONE });
            }
        }
        std::mem::swap(&mut self.rng, &mut rng);
    }

    /// In one flock of three one service is a job. Drawn apart, likewise.
    fn jobs(&mut self, services: &mut [ServiceLine], rng: Rng) {
        let mut rng = std::mem::replace(&mut self.rng, rng);
        let index = usize::try_from(self.rng.below(9)).unwrap_or(usize::MAX);
        if let Some(line) = services.get_mut(index) {
            line.behaviour.finish_ms = self.pick(&[100, 1_000, 5_000]);
            line.behaviour.bad_version = 0;
            line.parallelism = self.pick(&[0, 1, 3]);
            line.rollout = RolloutPolicy::default();
        }
        std::mem::swap(&mut self.rng, &mut rng);
    }

    /// In one flock of three one service is due each minute. Drawn apart, likewise.
    fn crons(&mut self, services: &mut [ServiceLine], rng: Rng) {
        let mut rng = std::mem::replace(&mut self.rng, rng);
        let index = usize::try_from(self.rng.below(9)).unwrap_or(usize::MAX);
        if let (Some(line), Ok(calendar)) = (services.get_mut(index), parse("* * * * *")) {
            line.behaviour.finish_ms = self.pick(&[100, 5_000, 30_000, 70_000]);
            line.behaviour.bad_version = 0;
            line.rollout = RolloutPolicy::default();
            line.cron = Some(Cron {
                overlap: self.pick(&[Overlap::Allow, Overlap::Forbid, Overlap::Replace]),
                missed: self.pick(&[Missed::RunOnce, Missed::RunOnce, Missed::Skip]),
                history: self.pick(&[1, 3]),
                ..Cron::of(calendar, Job::default())
            });
        }
        std::mem::swap(&mut self.rng, &mut rng);
    }

    /// In one flock of three hosts are drained and cordoned, and some are not any more later. Drawn apart, like versions.
    fn orders(&mut self, hosts: u32, rage: Nanos, rng: Rng) -> bool {
        let mut rng = std::mem::replace(&mut self.rng, rng);
        let count = self.pick(&[0, 0, 1, 0, 0, 4]);
        for _ in 0..count {
            let at = FIRST + self.rng.below(rage / MS) * MS;
            let deadline = self.pick(&[None, None, Some(0), Some(2 * SECOND), Some(20 * SECOND)]);
            let (order, back) = match self.rng.below(4) {
                0 => (Order::Cordon, Order::Uncordon),
                _ => (Order::Drain(deadline), Order::Undrain),
            };
            let some = fixed(self.some(hosts));
            self.push(at, Action::Order { how: order, hosts: some });
            if self.rng.below(2) == 0 {
                let later = at + self.pick(&[100, 2_000, 20_000]) * MS;
                let some = fixed(self.some(hosts));
                self.push(later, Action::Order { how: back, hosts: some });
            }
        }
        std::mem::swap(&mut self.rng, &mut rng);
        count > 0
    }

    fn fault(&mut self, kind: Kind, at: Nanos, lasts: Nanos, hosts: Target) {
        let end = at + lasts;
        let cut = |how| Action::Cut { how, hosts: hosts.clone() };
        let spoil = |how| Action::Spoil { how, hosts: hosts.clone() };
        let crash = |what| Action::Crash { what, hosts: hosts.clone() };
        let restart = |disk| Action::Restart { hosts: None, disk, version: None };
        match kind {
            Kind::Agents => {
                self.push(at, crash(Crash::Agents));
                self.push(end, restart(DiskFate::Kept));
            }
            Kind::Hosts => {
                self.push(at, crash(Crash::Hosts));
                self.push(end, restart(DiskFate::Kept));
            }
            Kind::Processes => self.push(at, crash(Crash::Processes)),
            Kind::OldDisks => {
                self.push(at, spoil(Spoil::SaveDisk));
                self.push(end, crash(Crash::Hosts));
                let disk = self.pick(&[DiskFate::Old, DiskFate::OldAndSlow]);
                self.push(end + 5 * SECOND, restart(disk));
            }
            Kind::LostDisks => {
                self.push(at, Action::Crash { what: Crash::Hosts, hosts: Target::ONE });
                self.push(end, restart(DiskFate::Lost));
            }
            Kind::Partition => self.cut_for(at, end, cut(Cut::Apart)),
            Kind::OneWay => {
                let how = self.pick(&[Cut::Mute, Cut::Deaf]);
                self.cut_for(at, end, cut(how));
            }
            Kind::Pairs => {
                let pairs = fixed(1 + u32::try_from(self.rng.below(8)).unwrap_or(0));
                self.cut_for(at, end, Action::Cut { how: Cut::Pairs, hosts: pairs });
            }
            Kind::FlipFlop => {
                let (on, off) = (self.pick(&[500, 3_000, 20_000]) * MS, self.pick(&[500, 3_000, 20_000]) * MS);
                self.push(at, cut(Cut::FlipFlop { on, off, times: 3 }));
            }
            Kind::Swizzle => self.push(at, cut(Cut::Swizzle { within: lasts.max(SECOND) })),
            Kind::Walls => self.cut_for(at, end, cut(Cut::Refuse)),
            Kind::Loss => {
                let loss = Ratio::percent(self.pick(&[30, 80]));
                self.cut_for(at, end, cut(Cut::Lossy(loss)));
            }
            Kind::Syncs => self.push(at, spoil(Spoil::FailSync)),
            Kind::FullDisks => {
                self.push(at, spoil(Spoil::FillDisk));
                self.push(end, spoil(Spoil::FreeDisk));
            }
            Kind::SlowDisks => {
                let by = self.pick(&[10, 200, 2_000]) * MS;
                self.push(at, spoil(Spoil::SlowDisk(by)));
            }
            Kind::Clocks => {
                let jump = Spoil::JumpClock(self.pick(&[-200_000, -30_000, -1_000, 1_000, 30_000, 200_000]));
                let drift = Spoil::DriftClock(self.pick(&[-9_000, -500, 500, 9_000]));
                let how = self.pick(&[jump, drift]);
                self.push(at, spoil(how));
            }
            Kind::Stalls => self.push(at, spoil(Spoil::Pause(lasts))),
            Kind::Slowness => {
                let times = self.pick(&[10, 300, 3_000]);
                self.push(at, spoil(Spoil::Slow(times)));
            }
            Kind::Drivers => self.push(at, spoil(Spoil::HangDrivers(lasts.min(20 * SECOND)))),
            Kind::Operators => self.collision(at),
        }
    }

    /// Two or three operators deploy at the same moment.
    fn collision(&mut self, at: Nanos) {
        let files = self.pick(&[Files::Different, Files::Same]);
        let several = fixed(2 + u32::try_from(self.rng.below(2)).unwrap_or(0));
        self.push(at, Action::Deploy { at: several, files });
    }

    fn cut_for(&mut self, at: Nanos, end: Nanos, action: Action) {
        self.push(at, action);
        self.push(end, Action::Heal(None));
    }
}

/// How long a new revision takes at most to go through all slots, one after the other.
fn rollout(services: &[ServiceLine]) -> Nanos {
    let slots = |line: &ServiceLine| match line.replicas {
        Count::Fixed(count) => u64::from(count),
        Count::PerHost(_) | Count::Percent(_) => 0,
    };
    let slot =
        |b: &Behaviour| (b.start_ms + b.finish_ms + b.ready_ms + b.stop_ms.min(GRACE_MS) + PROBED_WITHIN_MS) * MS;
    services.iter().map(|line| slots(line) * slot(&line.behaviour)).max().unwrap_or(0)
}

const fn share(percent: u32) -> Ratio {
    if percent == 0 { Ratio::ZERO } else { Ratio::percent(percent) }
}

const fn fixed(count: u32) -> Target {
    Target::Count(Count::Fixed(count))
}
