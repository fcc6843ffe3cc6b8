//! From a scenario to the text that reads as the same one: for runs that were drawn, and for failures to be replayed.

use std::fmt::Write as _;

use dunlin_gossip::model::{Resources, RolloutPolicy};
use dunlin_gossip::rng::Ratio;
use dunlin_gossip::wire::WireVersion;

use super::action::{Action, Crash, Cut, DiskFate, Order, Spoil, Target};
use super::{Count, Limits, Recorded, Scenario, ServiceLine, Start, Zones};
use crate::net::{Conditions, preset_name};
use crate::queue::{MS, Nanos, SECOND};

impl Scenario {
    /// As a scenario file. Reading it gives an equal scenario.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |key: &str, value: String| {
            let _infallible = writeln!(text, "{key}: {value}");
        };
        line("name", quoted(&self.name));
        line("about", quoted(&self.about));
        line("hosts", self.hosts.to_string());
        line("start", start(self.start));
        if self.zones != Zones::default() {
            let latency = if self.zones.latency.is_empty() {
                String::new()
            } else {
                format!(", latency: {}", table(&self.zones.latency))
            };
            line("zones", format!("{{count: {}{latency}}}", self.zones.count));
        }
        line("capacity", resources(&self.capacity));
        if !self.nodes.is_empty() {
            line("nodes", String::new());
            self.nodes.iter().for_each(|node| line("  - ", node.text()));
        }
        line("skew", time(self.skew_ms * MS));
        line("drift-ppm", self.drift_ppm.to_string());
        if let Some(forget) = self.forget {
            line("forget", time(forget));
        }
        if self.rebalance > 0 {
            line("rebalance", self.rebalance.to_string());
        }
        line("network", conditions(&self.network, &Conditions::default()));
        if let Some(waves) = self.waves {
            line("waves", waves.text());
        }
        line("services", String::new());
        self.services.iter().for_each(|service| line("  - ", service_line(service)));
        line("timeline", String::new());
        let mut network = &self.network;
        for step in &self.timeline {
            line(
                "  - ",
                format!("{{at: {}, {}: {}}}", time(step.at), step.action.word(), action(&step.action, network)),
            );
            if let Action::Network(now) = &step.action {
                network = now;
            }
        }
        if let Some(churn) = &self.churn {
            line("churn", churn.text());
        }
        line("settle", time(self.settle));
        if self.limits != Limits::default() {
            line("limits", format!("{{{}}}", self.limits.text()));
        }
        line("end", time(self.end));
        if self.may_miss {
            line("faults-may-miss", "true".to_owned());
        }
        if let Some(Recorded { seed, trace_hash, breaks }) = &self.recorded {
            let breaks = breaks.join(", ");
            line("recorded", format!("{{seed: {seed}, trace-hash: \"{trace_hash}\", breaks: [{breaks}]}}"));
        }
        text.replace("\n  - : ", "\n  - ")
            .replace("\nnodes: \n", "\nnodes:\n")
            .replace("\nservices: \n", services_head(self))
            .replace("\ntimeline: \n", timeline_head(self))
    }
}

/// An empty list must be written as one.
const fn services_head(scenario: &Scenario) -> &'static str {
    if scenario.services.is_empty() { "\nservices: []\n" } else { "\nservices:\n" }
}

const fn timeline_head(scenario: &Scenario) -> &'static str {
    if scenario.timeline.is_empty() { "\ntimeline: []\n" } else { "\ntimeline:\n" }
}

pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The shortest exact way to write a time.
pub(crate) fn time(nanos: Nanos) -> String {
    match nanos {
        n if n % SECOND == 0 => format!("{}s", n / SECOND),
        n if n % MS == 0 => format!("{}ms", n / MS),
        n => format!("{}us", n / 1_000),
    }
}

fn start(start: Start) -> String {
    match start {
        Start::Warm => "warm".to_owned(),
        Start::Joined => "joined".to_owned(),
        Start::Running => "running".to_owned(),
        Start::Cold { within } => format!("{{cold: {{within: {}}}}}", time(within)),
    }
}

fn latency(conditions: &Conditions) -> String {
    let Some(pairs) = &conditions.pairs else { return table(&conditions.latency) };
    format!("{{file: {}, unit: {}}}", quoted(&pairs.file), pairs.unit.word())
}

fn table(latency: &[Nanos]) -> String {
    if let Some(name) = preset_name(latency) {
        return name.to_owned();
    }
    format!("[{}]", latency.iter().map(|nanos| time(*nanos)).collect::<Vec<_>>().join(", "))
}

/// What differs from an ordinary network.
pub(crate) fn conditions_text(of: &Conditions) -> String {
    conditions(of, &Conditions::default())
}

/// What differs from the conditions before.
fn conditions(conditions: &Conditions, before: &Conditions) -> String {
    let mut parts = Vec::new();
    let mut part = |differs: bool, key: &str, value: String| {
        if differs {
            parts.push(format!("{key}: {value}"));
        }
    };
    let differs = (&conditions.latency, &conditions.pairs) != (&before.latency, &before.pairs);
    part(differs, "latency", latency(conditions));
    part(conditions.jitter != before.jitter, "jitter", time(conditions.jitter));
    part(conditions.loss != before.loss, "loss", share(conditions.loss));
    part(conditions.duplicate != before.duplicate, "duplicate", share(conditions.duplicate));
    part(conditions.reorder != before.reorder, "reorder", share(conditions.reorder));
    part(conditions.bandwidth != before.bandwidth, "bandwidth", format!("{}KiB/s", conditions.bandwidth / 1024));
    format!("{{{}}}", parts.join(", "))
}

/// Shares are read from decimal digits, so that their denominators are powers of ten, at least a hundred.
fn share(ratio: Ratio) -> String {
    let (mut digits, mut den) = (0, ratio.den / 100);
    while den > 1 {
        den /= 10;
        digits += 1;
    }
    let whole = ratio.den.max(100) / 100;
    if digits == 0 {
        return format!("{}%", u64::from(ratio.num) * 100 / u64::from(ratio.den.max(1)));
    }
    format!("{}.{:0digits$}%", ratio.num / whole, ratio.num % whole)
}

fn resources(of: &Resources) -> String {
    format!("{{cpu-milli: {}, memory: {}MiB}}", of.cpu_milli, of.memory_bytes >> 20)
}

/// A service with what differs from an ordinary one.
pub(crate) fn service_line(service: &ServiceLine) -> String {
    let ordinary = service.usual();
    let b = &service.behaviour;
    let mut parts = vec![format!("name: {}, replicas: {}", service.name, count(service.replicas))];
    if !service.on.is_empty() {
        parts.push(format!("on: {:?}", service.on));
    }
    for (key, ms, usual) in [
        ("start", b.start_ms, ordinary.start_ms),
        ("ready", b.ready_ms, ordinary.ready_ms),
        ("crash-after", b.crash_ms, ordinary.crash_ms),
        ("finish-after", b.finish_ms, ordinary.finish_ms),
        ("hang-after", b.hang_ms, ordinary.hang_ms),
        ("stop", b.stop_ms, ordinary.stop_ms),
    ] {
        if ms != usual {
            parts.push(format!("{key}: {}", time(ms * MS)));
        }
    }
    if b.fail_one_in != ordinary.fail_one_in {
        parts.push(format!("fail-one-in: {}", b.fail_one_in));
    }
    if b.bad_version != ordinary.bad_version {
        parts.push(format!("bad-version: {}", b.bad_version));
    }
    if let Some(spec) = super::model::text(service) {
        parts.push(format!("spec: {spec}"));
        return format!("{{{}}}", parts.join(", "));
    }
    if b.lone {
        parts.push("partition: majority".to_owned());
    }
    if b.reserve.cpu_milli != ordinary.reserve.cpu_milli {
        parts.push(format!("cpu-milli: {}", b.reserve.cpu_milli));
    }
    if b.reserve.memory_bytes != ordinary.reserve.memory_bytes {
        parts.push(format!("memory: {}MiB", b.reserve.memory_bytes >> 20));
    }
    if service.priority != 0 {
        parts.push(format!("priority: {}", service.priority));
    }
    if service.rollout != RolloutPolicy::default() {
        parts.push(format!("rollout: {}", super::policy::text(&service.rollout)));
    }
    if service.parallelism > 0 {
        parts.push(format!("parallelism: {}", service.parallelism));
    }
    if let Some(cron) = &service.cron {
        parts.push(format!("schedule: {}", super::schedule::text(cron)));
    }
    format!("{{{}}}", parts.join(", "))
}

fn count(count: Count) -> String {
    match count {
        Count::Fixed(n) => n.to_string(),
        Count::PerHost(n) => format!("{n}/host"),
        Count::Percent(n) => format!("{n}%"),
    }
}

fn target(target: &Target) -> String {
    match target {
        Target::Count(of) => count(*of),
        Target::Hosts(hosts) => format!("{hosts:?}"),
        Target::Zone(zone) => format!("zone-{}", zone_letter(*zone)),
    }
}

/// Zones are lettered.
pub(super) fn zone_letter(zone: u32) -> char {
    u8::try_from(zone).ok().filter(|zone| *zone < 26).map_or('z', |zone| char::from(b'a' + zone))
}

fn place(at: &Target) -> String {
    if *at == Target::ONE { String::new() } else { format!("{{at: {}}}", target(at)) }
}

fn action(action: &Action, network: &Conditions) -> String {
    match action {
        Action::Deploy { at, .. } if action.word() == "deploy" => place(at),
        Action::Remove { at } => place(at),
        Action::Crash { what: Crash::InTurn { within, down, version: of }, hosts } => {
            format!("{{hosts: {}, within: {}, down: {}{}}}", target(hosts), time(*within), time(*down), version(*of))
        }
        Action::Order { how: Order::Drain(Some(deadline)), hosts } => {
            format!("{{hosts: {}, deadline: {}}}", target(hosts), time(*deadline))
        }
        Action::Order { hosts, .. } => target(hosts),
        Action::Deploy { at: hosts, .. } | Action::Crash { hosts, .. } | Action::Calm { core: hosts } => target(hosts),
        Action::Scale { service, replicas, at } => {
            format!("{{service: {service}, replicas: {}, at: {}}}", count(*replicas), target(at))
        }
        Action::Rollout { service, order, at } => {
            format!("{{service: {service}, order: {}, at: {}}}", super::policy::word(*order), target(at))
        }
        Action::Restart { hosts: None, disk, version: None } => fate(*disk).to_owned(),
        Action::Restart { hosts, disk, version: of } => {
            let hosts = hosts.as_ref().map_or_else(String::new, |hosts| format!(", hosts: {}", target(hosts)));
            format!("{{disk: {}{hosts}{}}}", fate(*disk), version(*of))
        }
        Action::Poison { at, place, first } => {
            let first = first.map_or_else(String::new, |first| format!(", first: {first}"));
            format!("{{at: {}, place: {}{first}}}", target(at), place.word())
        }
        Action::WriteLoop { at, time: lasts, every, kib } => {
            format!("{{at: {}, time: {}, every: {}, kib: {kib}}}", target(at), time(*lasts), time(*every))
        }
        Action::Cut { how: Cut::Pairs | Cut::HalfPairs, hosts: Target::Hosts(hosts) } => {
            let pairs = hosts.chunks_exact(2).map(|pair| format!("{pair:?}"));
            format!("[{}]", pairs.collect::<Vec<_>>().join(", "))
        }
        Action::Cut { how, hosts } => cut(*how, &target(hosts)),
        Action::Heal(hosts) => hosts.as_ref().map_or_else(String::new, target),
        Action::Network(now) => conditions(now, network),
        Action::Spoil { how, hosts } => spoil(*how, &target(hosts)),
    }
}

fn version(version: Option<WireVersion>) -> String {
    let word = |version| if version == WireVersion::NEXT { "next" } else { "current" };
    version.map_or_else(String::new, |version| format!(", version: {}", word(version)))
}

const fn fate(disk: DiskFate) -> &'static str {
    match disk {
        DiskFate::Kept => "kept-disk",
        DiskFate::Old => "old-disk",
        DiskFate::OldAndSlow => "old-disk-and-clock",
        DiskFate::Lost => "lost-disk",
    }
}

impl Action {
    /// What stands after its word in a scenario file that begins with such a network.
    pub(crate) fn argument(&self, network: &Conditions) -> String {
        action(self, network)
    }
}

fn cut(how: Cut, hosts: &str) -> String {
    match how {
        Cut::Apart | Cut::Mute | Cut::Deaf | Cut::Clog | Cut::Pairs | Cut::HalfPairs | Cut::Refuse => hosts.to_owned(),
        Cut::Lossy(loss) => format!("{{hosts: {hosts}, loss: {}}}", share(loss)),
        Cut::FlipFlop { on, off, times } => {
            format!("{{hosts: {hosts}, on: {}, off: {}, times: {times}}}", time(on), time(off))
        }
        Cut::Swizzle { within } => format!("{{hosts: {hosts}, within: {}}}", time(within)),
    }
}

fn spoil(how: Spoil, hosts: &str) -> String {
    let with = |name: &str, value: String| format!("{{hosts: {hosts}, {name}: {value}}}");
    match how {
        Spoil::SaveDisk | Spoil::FailSync | Spoil::FillDisk | Spoil::FreeDisk => hosts.to_owned(),
        Spoil::SlowDisk(by) => with("by", time(by)),
        Spoil::JumpClock(ms) => {
            let sign = if ms < 0 { "-" } else { "" };
            with("by", format!("{sign}{}", time(ms.unsigned_abs() * MS)))
        }
        Spoil::DriftClock(ppm) => with("ppm", ppm.to_string()),
        Spoil::Pause(time_of) | Spoil::HangDrivers(time_of) | Spoil::LoseCommands(time_of) => {
            with("time", time(time_of))
        }
        Spoil::Slow(times) => with("times", times.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{names, parse, text};
    use super::*;
    use crate::swarm;

    #[test]
    fn what_is_written_reads_as_the_same_scenario() -> Result<(), String> {
        for name in names() {
            let scenario = parse(name, text(name).unwrap_or_default())?;
            assert_eq!(parse(name, &scenario.text())?, scenario, "{}", scenario.text());
        }
        for seed in 0..200 {
            let scenario = swarm::draw(seed, 20);
            assert_eq!(parse("drawn", &scenario.text())?, scenario, "{}", scenario.text());
        }
        Ok(())
    }

    #[test]
    fn shares_are_written_exactly() {
        for (ratio, written) in
            [(Ratio::percent(7), "7%"), (Ratio::new(5, 1_000), "0.5%"), (Ratio::new(1_234, 10_000), "12.34%")]
        {
            assert_eq!(share(ratio), written);
        }
        assert_eq!(share(Ratio::ZERO), "0%");
    }
}
