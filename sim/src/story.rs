//! Stories: scenarios told in ten verbs, short enough to be read like the report of an incident. `flock` begins one; `deploy`,
//! `scale`, `remove`, `crash`, `restart`, `cut`, `heal` and `spoil` are what happens; `settle` ends it, with the promises
//! that must hold then. Everything else is an adverb: `at` which moment, with which `seed`, `start`, `network`, `service`.
//!
//! A story is a scenario: whatever it can say a scenario file can, and a failure that was made small is printed as one
//! ([`tell`]), ready to be kept among the tests. A story must never say anything that depends on who runs it.

use std::sync::Arc;

pub use dunlin_core::face::RolloutOrder;
use dunlin_gossip::model::Resources;
use dunlin_gossip::rng::{Ratio, Seed};
pub use dunlin_gossip::wire::WireVersion;

pub use crate::scenario::{Crash, Cut, DiskFate, Order, Spoil, Start, Swallowed, Target};

use crate::net::{Conditions, HostNo};
use crate::queue::{MS, Nanos, SECOND};
use crate::scenario::{
    Action, Count, Files, Limits, Recorded, Scenario, Step, Zones, conditions_text, read_conditions, read_limits,
    read_node, read_service, read_time, read_waves, service_line, time,
};
use crate::world::World;

/// A moment after everything must have settled, so that what does not last is seen.
const AFTER: Nanos = 10 * SECOND;

/// So many milliseconds.
#[must_use]
pub const fn ms(number: u64) -> u64 {
    number * MS
}

/// So many in a hundred.
#[must_use]
pub const fn percent(number: u32) -> Ratio {
    Ratio::percent(number)
}

/// So many, drawn when it happens.
#[must_use]
pub const fn some(number: u32) -> Target {
    Target::Count(Count::Fixed(number))
}

impl<const N: usize> From<[HostNo; N]> for Target {
    fn from(hosts: [HostNo; N]) -> Self {
        Self::Hosts(hosts.to_vec())
    }
}

/// Where something is deployed: at each of these nodes another version, or, with [`Same`], the same file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deployment(Vec<HostNo>, Files);

/// The same file at each of these nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Same<const N: usize>(pub [HostNo; N]);

impl<const N: usize> From<[HostNo; N]> for Deployment {
    fn from(hosts: [HostNo; N]) -> Self {
        Self(hosts.to_vec(), Files::Different)
    }
}

impl<const N: usize> From<Same<N>> for Deployment {
    fn from(same: Same<N>) -> Self {
        Self(same.0.to_vec(), Files::Same)
    }
}

/// A story that is being told. Moments and services are text as in scenario files; what is wrong with them is said at the end.
#[derive(Clone, Debug)]
pub struct Story {
    scenario: Scenario,
    seed: u64,
    now: Nanos,
    wrong: Option<String>,
}

impl Story {
    /// So many hosts, all rostered, that boot at about the same moment.
    #[must_use]
    pub fn flock(hosts: u32) -> Self {
        let scenario = Scenario {
            name: "story".to_owned(),
            about: "told by a test".to_owned(),
            hosts,
            start: Start::Warm,
            zones: Zones::default(),
            capacity: Resources { cpu_milli: 8_000, memory_bytes: 16 << 30 },
            nodes: Vec::new(),
            skew_ms: 0,
            drift_ppm: 0,
            forget: None,
            rebalance: 0,
            waves: None,
            network: Conditions::default(),
            services: Vec::new(),
            timeline: Vec::new(),
            churn: None,
            settle: 0,
            end: 0,
            limits: Limits::default(),
            may_miss: false,
            recorded: None,
        };
        Self { scenario, seed: 1, now: 0, wrong: None }
    }

    fn understood<T>(&mut self, read: Result<T, String>) -> Option<T> {
        read.map_err(|text| self.wrong.get_or_insert(text).clone()).ok()
    }

    /// With this seed.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The flock begins so.
    #[must_use]
    pub const fn start(mut self, start: Start) -> Self {
        self.scenario.start = start;
        self
    }

    /// Clocks are off by up to so many milliseconds, and run fast or slow by up to so many millionths.
    #[must_use]
    pub const fn clocks(mut self, skew_ms: u64, drift_ppm: u64) -> Self {
        self.scenario.skew_ms = skew_ms;
        self.scenario.drift_ppm = drift_ppm;
        self
    }

    /// Hosts that came take so many replicas a minute from fuller ones.
    #[must_use]
    pub const fn rebalance(mut self, a_minute: u32) -> Self {
        self.scenario.rebalance = a_minute;
        self
    }

    /// Nodes that are away for so long are forgotten.
    #[must_use]
    pub fn forget(mut self, after: &str) -> Self {
        if let Some(after) = self.understood(read_time(after)) {
            self.scenario.forget = Some(after);
        }
        self
    }

    /// In so many zones.
    #[must_use]
    pub fn zones(mut self, count: u32, latency: &str) -> Self {
        let read = read_conditions(&format!("{{latency: {latency}}}"), &Conditions::default());
        if let Some(conditions) = self.understood(read) {
            self.scenario.zones = Zones { count, latency: conditions.latency };
        }
        self
    }

    /// What each host has.
    #[must_use]
    pub const fn capacity(mut self, cpu_milli: u64, memory_mib: u64) -> Self {
        self.scenario.capacity = Resources { cpu_milli, memory_bytes: memory_mib << 20 };
        self
    }

    /// The flock has such hosts: `{count: 3, zone: a}`, with the keys of scenario files.
    #[must_use]
    pub fn node(mut self, line: &str) -> Self {
        if let Some(node) = self.understood(read_node(line, self.scenario.capacity)) {
            self.scenario.nodes.push(node);
        }
        self
    }

    /// The stack has this service: `{name: web, replicas: 3}`, with the keys of scenario files.
    #[must_use]
    pub fn service(mut self, line: &str) -> Self {
        if let Some(service) = self.understood(read_service(line)) {
            self.scenario.services.push(service);
        }
        self
    }

    /// Its figures may come to this: `{left-out: 2}`, with the keys of scenario files.
    #[must_use]
    pub fn limits(mut self, text: &str) -> Self {
        if let Some(limits) = self.understood(read_limits(text)) {
            self.scenario.limits = limits;
        }
        self
    }

    /// It is about what is refused: what has no effect proves something as well.
    #[must_use]
    pub fn faults_may_miss(mut self) -> Self {
        self.scenario.may_miss = true;
        self
    }

    /// Its deploys go to so many hosts first, and to the others when all was well there for so long: `{first: 2, wait: 5s}`.
    #[must_use]
    pub fn waves(mut self, text: &str) -> Self {
        let waves = read_waves(text);
        self.scenario.waves = self.understood(waves);
        self
    }

    /// The network is like this from this moment on: `{latency: metro, loss: 10%}`.
    #[must_use]
    pub fn network(mut self, text: &str) -> Self {
        let Some(conditions) = self.understood(read_conditions(text, &Conditions::default())) else { return self };
        if self.scenario.timeline.is_empty() && self.now == 0 {
            self.scenario.network = conditions;
            return self;
        }
        self.happens(Action::Network(conditions))
    }

    /// From here on at this moment.
    #[must_use]
    pub fn at(mut self, moment: &str) -> Self {
        if let Some(now) = self.understood(read_time(moment)) {
            self.now = now;
        }
        self
    }

    fn happens(mut self, action: Action) -> Self {
        self.scenario.timeline.push(Step { at: self.now, action });
        self
    }

    /// The stack is deployed at these nodes.
    #[must_use]
    pub fn deploy(self, deployment: impl Into<Deployment>) -> Self {
        let Deployment(hosts, files) = deployment.into();
        self.happens(Action::Deploy { at: Target::Hosts(hosts), files })
    }

    /// A service gets another number of replicas, said at these nodes.
    #[must_use]
    pub fn scale(self, service: &str, replicas: u32, at: impl Into<Vec<HostNo>>) -> Self {
        let (service, replicas) = (service.to_owned(), Count::Fixed(replicas));
        self.happens(Action::Scale { service, replicas, at: Target::Hosts(at.into()) })
    }

    /// Something is said about a service's rollout at these nodes.
    #[must_use]
    pub fn rollout(self, service: &str, order: RolloutOrder, at: impl Into<Vec<HostNo>>) -> Self {
        self.happens(Action::Rollout { service: service.to_owned(), order, at: Target::Hosts(at.into()) })
    }

    /// The stack is removed, said at these nodes.
    #[must_use]
    pub fn remove(self, at: impl Into<Vec<HostNo>>) -> Self {
        self.happens(Action::Remove { at: Target::Hosts(at.into()) })
    }

    /// A stack over which handlers panic is deployed at these nodes.
    #[must_use]
    pub fn poison(self, place: Swallowed, at: impl Into<Vec<HostNo>>) -> Self {
        self.happens(Action::Poison { at: Target::Hosts(at.into()), place, first: None })
    }

    /// The same, on so many nodes first.
    #[must_use]
    pub fn poison_in_waves(self, place: Swallowed, first: u32, at: impl Into<Vec<HostNo>>) -> Self {
        self.happens(Action::Poison { at: Target::Hosts(at.into()), place, first: Some(first) })
    }

    /// A program at each of these nodes writes so many KiB in a loop.
    #[must_use]
    pub fn write_loop(self, at: impl Into<Vec<HostNo>>, time: Nanos, every: Nanos, kib: u32) -> Self {
        self.happens(Action::WriteLoop { at: Target::Hosts(at.into()), time, every, kib })
    }

    /// Something is ordered of these nodes.
    #[must_use]
    pub fn order(self, how: Order, hosts: impl Into<Vec<HostNo>>) -> Self {
        self.happens(Action::Order { how, hosts: Target::Hosts(hosts.into()) })
    }

    /// Agents or whole hosts die, or all processes on them; or [`some`] processes anywhere.
    #[must_use]
    pub fn crash(self, what: Crash, hosts: impl Into<Target>) -> Self {
        self.happens(Action::Crash { what, hosts: hosts.into() })
    }

    /// What is dead starts again.
    #[must_use]
    pub fn restart(self, disk: DiskFate, hosts: impl Into<Vec<HostNo>>) -> Self {
        self.happens(Action::Restart { hosts: Some(Target::Hosts(hosts.into())), disk, version: None })
    }

    /// What is dead starts again, with what was safe, as an agent of this version.
    #[must_use]
    pub fn restart_as(self, version: WireVersion, hosts: impl Into<Vec<HostNo>>) -> Self {
        let hosts = Some(Target::Hosts(hosts.into()));
        self.happens(Action::Restart { hosts, disk: DiskFate::Kept, version: Some(version) })
    }

    /// The network gets worse for these hosts.
    #[must_use]
    pub fn cut(self, how: Cut, hosts: impl Into<Vec<HostNo>>) -> Self {
        self.happens(Action::Cut { how, hosts: Target::Hosts(hosts.into()) })
    }

    /// Cuts around these hosts end; around all, if none is named.
    #[must_use]
    pub fn heal(self, hosts: impl Into<Vec<HostNo>>) -> Self {
        let hosts = hosts.into();
        self.happens(Action::Heal((!hosts.is_empty()).then_some(Target::Hosts(hosts))))
    }

    /// These hosts get worse.
    #[must_use]
    pub fn spoil(self, how: Spoil, hosts: impl Into<Vec<HostNo>>) -> Self {
        self.happens(Action::Spoil { how, hosts: Target::Hosts(hosts.into()) })
    }

    /// At this moment these hosts are left alone, without the others, or all if none is named; within so much time they must
    /// keep every promise, and then go on keeping it.
    ///
    /// # Errors
    /// The promises that were broken, or what is wrong with the story itself.
    pub fn settle(mut self, within: &str, core: impl Into<Vec<HostNo>>) -> Result<(), String> {
        let core = core.into();
        if !core.is_empty() {
            self = self.happens(Action::Calm { core: Target::Hosts(core) });
        }
        let Some(within) = self.understood(read_time(within)) else { return Err(self.wrong.unwrap_or_default()) };
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        self.scenario.settle = within;
        self.scenario.end = self.scenario.quiet_from().max(self.now) + within + AFTER;
        let mut world = World::new(Arc::new(self.scenario), Seed(self.seed));
        world.run();
        let broken: Vec<String> =
            world.checks.violations.iter().map(|v| format!("{} {}", v.invariant, v.detail)).collect();
        if broken.is_empty() { Ok(()) } else { Err(broken.join("\n")) }
    }
}

/// A scenario as a story: a test for the file in which it belongs.
#[must_use]
pub fn tell(scenario: &Scenario) -> String {
    let mut lines = vec![format!("Story::flock({})", scenario.hosts)];
    let mut say = |line: String| lines.push(format!("    .{line}"));
    if let Some(Recorded { seed, .. }) = &scenario.recorded {
        say(format!("seed({seed})"));
    }
    match scenario.start {
        Start::Warm => {}
        plain @ (Start::Joined | Start::Running) => say(format!("start(Start::{plain:?})")),
        Start::Cold { within } => say(format!("start(Start::Cold {{ within: ms({}) }})", within / MS)),
    }
    if (scenario.skew_ms, scenario.drift_ppm) != (0, 0) {
        say(format!("clocks({}, {})", scenario.skew_ms, scenario.drift_ppm));
    }
    if scenario.zones != Zones::default() {
        let latency = conditions_text(&Conditions { latency: scenario.zones.latency.clone(), ..Conditions::default() });
        let latency = latency.trim_start_matches("{latency: ").trim_end_matches('}').to_owned();
        say(format!("zones({}, {latency:?})", scenario.zones.count));
    }
    let usual = Resources { cpu_milli: 8_000, memory_bytes: 16 << 30 };
    if scenario.capacity != usual {
        say(format!("capacity({}, {})", scenario.capacity.cpu_milli, scenario.capacity.memory_bytes >> 20));
    }
    scenario.nodes.iter().for_each(|line| say(format!("node({:?})", line.text())));
    scenario.services.iter().for_each(|line| say(format!("service({:?})", service_line(line))));
    if let Some(waves) = &scenario.waves {
        say(format!("waves({:?})", waves.text()));
    }
    if scenario.limits != Limits::default() {
        say(format!("limits(\"{{{}}}\")", scenario.limits.text()));
    }
    if scenario.network != Conditions::default() {
        say(format!("network({:?})", conditions_text(&scenario.network)));
    }
    let mut core = Vec::new();
    for Step { at, action } in &scenario.timeline {
        let words = match action {
            Action::Calm { core: Target::Hosts(hosts) } => {
                core.clone_from(hosts);
                say(format!("at({:?})", time(*at)));
                continue;
            }
            action => verb(action),
        };
        say(format!("at({:?}).{words}", time(*at)));
    }
    say(format!("settle({:?}, {core:?})", time(scenario.settle)));
    let body: String = lines.iter().map(|line| format!("    {line}\n")).collect();
    let breaks = scenario.recorded.as_ref().map_or_else(Vec::new, |recorded| recorded.breaks.clone());
    let name = breaks.first().map_or("holds", String::as_str).replace('-', "_");
    format!("#[test]\nfn story_of_{name}() -> Result<(), String> {{\n{body}}}\n")
}

fn verb(action: &Action) -> String {
    let hosts = |target: &Target| match target {
        Target::Hosts(hosts) => format!("{hosts:?}"),
        Target::Count(Count::Fixed(number)) => format!("some({number})"),
        drawn => format!("{drawn:?}"),
    };
    match action {
        Action::Deploy { at, files: Files::Different } => format!("deploy({})", hosts(at)),
        Action::Deploy { at, files: Files::Same } => format!("deploy(Same({}))", hosts(at)),
        Action::Scale { service, replicas, at } => {
            let Count::Fixed(replicas) = replicas else { return format!("scale({service:?}, {replicas:?})") };
            format!("scale({service:?}, {replicas}, {})", hosts(at))
        }
        Action::Rollout { service, order, at } => {
            format!("rollout({service:?}, RolloutOrder::{order:?}, {})", hosts(at))
        }
        Action::Remove { at } => format!("remove({})", hosts(at)),
        Action::Order { how, hosts: of } => format!("order({}, {})", order(*how), hosts(of)),
        Action::Poison { at, place, first: None } => format!("poison(Swallowed::{place:?}, {})", hosts(at)),
        Action::Poison { at, place, first: Some(first) } => {
            format!("poison_in_waves(Swallowed::{place:?}, {first}, {})", hosts(at))
        }
        Action::WriteLoop { at, time, every, kib } => {
            format!("write_loop({}, ms({}), ms({}), {kib})", hosts(at), time / MS, every / MS)
        }
        Action::Crash { what: Crash::InTurn { within, down, version }, hosts: of } => {
            let (within, down, hosts) = (within / MS, down / MS, hosts(of));
            let version = version.map_or_else(|| "None".to_owned(), |version| format!("Some({})", wire(version)));
            format!("crash(Crash::InTurn {{ within: ms({within}), down: ms({down}), version: {version} }}, {hosts})")
        }
        Action::Crash { what, hosts: of } => format!("crash(Crash::{what:?}, {})", hosts(of)),
        Action::Restart { hosts: of, disk: DiskFate::Kept, version: Some(version) } => {
            format!("restart_as({}, {})", wire(*version), of.as_ref().map_or_else(|| "[]".to_owned(), hosts))
        }
        Action::Restart { hosts: of, disk, version: _ } => {
            format!("restart(DiskFate::{disk:?}, {})", of.as_ref().map_or_else(|| "[]".to_owned(), hosts))
        }
        Action::Cut { how, hosts: of } => format!("cut({}, {})", cut(*how), hosts(of)),
        Action::Heal(of) => format!("heal({})", of.as_ref().map_or_else(|| "[]".to_owned(), hosts)),
        Action::Network(conditions) => format!("network({:?})", conditions_text(conditions)),
        Action::Spoil { how, hosts: of } => format!("spoil({}, {})", spoil(*how), hosts(of)),
        Action::Calm { core } => format!("settle({})", hosts(core)),
    }
}

fn order(how: Order) -> String {
    match how {
        Order::Drain(Some(deadline)) => format!("Order::Drain(Some(ms({})))", deadline / MS),
        plain => format!("Order::{plain:?}"),
    }
}

const fn wire(version: WireVersion) -> &'static str {
    if version.0 == WireVersion::NEXT.0 { "WireVersion::NEXT" } else { "WireVersion::CURRENT" }
}

fn cut(how: Cut) -> String {
    match how {
        Cut::Lossy(loss) => format!("Cut::Lossy(percent({}))", u64::from(loss.num) * 100 / u64::from(loss.den.max(1))),
        Cut::FlipFlop { on, off, times } => {
            format!("Cut::FlipFlop {{ on: ms({}), off: ms({}), times: {times} }}", on / MS, off / MS)
        }
        Cut::Swizzle { within } => format!("Cut::Swizzle {{ within: ms({}) }}", within / MS),
        plain => format!("Cut::{plain:?}"),
    }
}

fn spoil(how: Spoil) -> String {
    match how {
        Spoil::SlowDisk(by) => format!("Spoil::SlowDisk(ms({}))", by / MS),
        Spoil::Pause(time) => format!("Spoil::Pause(ms({}))", time / MS),
        Spoil::HangDrivers(time) => format!("Spoil::HangDrivers(ms({}))", time / MS),
        Spoil::LoseCommands(time) => format!("Spoil::LoseCommands(ms({}))", time / MS),
        plain => format!("Spoil::{plain:?}"),
    }
}
