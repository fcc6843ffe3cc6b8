//! From the lines of a timeline to actions.

use dunlin_gossip::rng::Ratio;
use dunlin_gossip::wire::WireVersion;

use super::action::{Action, Crash, Cut, DiskFate, Files, Order, Spoil, Step, Swallowed, Target};
use super::parse::conditions;
use super::policy;
use super::yaml::{Map, Value};
use crate::net::{Conditions, HostNo};
use crate::queue::{MS, Nanos};

const ACTIONS: &str = "deploy, conflict, double-deploy, scale, rollout, remove, drain, undrain, cordon, uncordon, write-loop, poison, crash-agents, roll, crash-hosts, kill-processes, \
                       hang-processes, restart, partition, mute, deafen, clog, refuse, lossy, flip-flop, swizzle, sever, half-sever, \
                       heal, network, save-disks, fail-syncs, fill-disks, free-disks, slow-disks, jump-clocks, \
                       drift-clocks, pause, slow, hang-drivers, lose-commands, calm";

/// The lines of a timeline, in order.
pub(super) fn timeline(value: Value<'_>, network: &Conditions) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    let mut conditions_now = network.clone();
    for line in value.list()? {
        let mut map: Map<'_> = line.map()?;
        let at_value = map.need("at")?;
        let at = at_value.time()?;
        if steps.last().is_some_and(|last| last.at > at) {
            return Err(at_value.refuse("is earlier than the line before it; write the timeline in order"));
        }
        let (word, value) = map.single(ACTIONS)?;
        let action = action(&word, value, &conditions_now)?;
        if steps.last().is_some_and(|last| matches!(last.action, Action::Calm { .. })) {
            return Err(
                at_value.refuse("comes after `calm`, which is the last line: nothing disturbs the core any more")
            );
        }
        if let Action::Network(now) = &action {
            conditions_now = now.clone();
        }
        steps.push(Step { at, action });
    }
    Ok(steps)
}

fn action(word: &str, value: Value<'_>, network: &Conditions) -> Result<Action, String> {
    let cut = |value: &Value<'_>, how| Ok(Action::Cut { how, hosts: target(value)? });
    let spoil = |value: &Value<'_>, how| Ok(Action::Spoil { how, hosts: target(value)? });
    let crash = |value: &Value<'_>, what| Ok(Action::Crash { what, hosts: target(value)? });
    match word {
        "deploy" => Ok(Action::Deploy { at: place(value)?, files: Files::Different }),
        "conflict" => Ok(Action::Deploy { at: target(&value)?, files: Files::Different }),
        "double-deploy" => Ok(Action::Deploy { at: target(&value)?, files: Files::Same }),
        "remove" => Ok(Action::Remove { at: place(value)? }),
        "scale" => scale(value),
        "rollout" => rollout(value),
        "drain" => drain(value),
        "undrain" => Ok(Action::Order { how: Order::Undrain, hosts: target(&value)? }),
        "cordon" => Ok(Action::Order { how: Order::Cordon, hosts: target(&value)? }),
        "uncordon" => Ok(Action::Order { how: Order::Uncordon, hosts: target(&value)? }),
        "write-loop" => write_loop(value),
        "poison" => poison(value),
        "crash-agents" => crash(&value, Crash::Agents),
        "roll" => roll(value),
        "crash-hosts" => crash(&value, Crash::Hosts),
        "kill-processes" => crash(&value, Crash::Processes),
        "hang-processes" => crash(&value, Crash::Wits),
        "restart" => restart(value),
        "partition" => cut(&value, Cut::Apart),
        "mute" => cut(&value, Cut::Mute),
        "deafen" => cut(&value, Cut::Deaf),
        "clog" => cut(&value, Cut::Clog),
        "refuse" => cut(&value, Cut::Refuse),
        "lossy" => with(value, "loss", |v| v.ratio()).map(|(hosts, loss): (_, Ratio)| {
            let how = Cut::Lossy(loss);
            Action::Cut { how, hosts }
        }),
        "flip-flop" => flip_flop(value),
        "swizzle" => {
            let (hosts, within) = with(value, "within", |v| v.time())?;
            Ok(Action::Cut { how: Cut::Swizzle { within }, hosts })
        }
        "sever" => sever(Cut::Pairs, value),
        "half-sever" => sever(Cut::HalfPairs, value),
        "heal" if value.is_null() => Ok(Action::Heal(None)),
        "heal" => Ok(Action::Heal(Some(target(&value)?))),
        "network" => Ok(Action::Network(conditions(value, network.clone())?)),
        "save-disks" => spoil(&value, Spoil::SaveDisk),
        "fail-syncs" => spoil(&value, Spoil::FailSync),
        "fill-disks" => spoil(&value, Spoil::FillDisk),
        "free-disks" => spoil(&value, Spoil::FreeDisk),
        "slow-disks" => spoiled(with(value, "by", |v| v.time())?, Spoil::SlowDisk),
        "jump-clocks" => spoiled(with(value, "by", jump)?, Spoil::JumpClock),
        "drift-clocks" => spoiled(with(value, "ppm", drift)?, Spoil::DriftClock),
        "pause" => spoiled(with(value, "time", |v| v.time())?, Spoil::Pause),
        "slow" => spoiled(with(value, "times", |v| v.number())?, Spoil::Slow),
        "hang-drivers" => spoiled(with(value, "time", |v| v.time())?, Spoil::HangDrivers),
        "lose-commands" => spoiled(with(value, "time", |v| v.time())?, Spoil::LoseCommands),
        "calm" => Ok(Action::Calm { core: target(&value)? }),
        _ => Err(value.refuse(&format!("is not known; what can happen is {ACTIONS}"))),
    }
}

/// `3`, `10%`, `2/host`, `[0, 4]`, or `zone-b`.
fn target(value: &Value<'_>) -> Result<Target, String> {
    if value.is_list() {
        return hosts(value.items()?).map(Target::Hosts);
    }
    if let Some(letter) = value.text()?.strip_prefix("zone-") {
        let zone = letter.bytes().next().filter(|b| letter.len() == 1 && b.is_ascii_lowercase());
        let zone = zone.ok_or_else(|| value.refuse("must be a zone such as zone-a, zone-b"))?;
        return Ok(Target::Zone(u32::from(zone - b'a')));
    }
    value.count().map(Target::Count)
}

fn hosts(items: Vec<Value<'_>>) -> Result<Vec<HostNo>, String> {
    items.iter().map(super::parse::small).collect()
}

/// Where an operator says something: nothing for anywhere, or `{at: [3]}`.
fn place(value: Value<'_>) -> Result<Target, String> {
    if value.is_null() {
        return Ok(Target::ONE);
    }
    let mut map = value.map()?;
    let at = target(&map.need("at")?)?;
    map.end("at")?;
    Ok(at)
}

/// `{hosts: ..., NAME: ...}`
fn with<'a, T>(
    value: Value<'a>,
    name: &str,
    read: impl FnOnce(Value<'a>) -> Result<T, String>,
) -> Result<(Target, T), String> {
    let mut map = value.map()?;
    let hosts = target(&map.need("hosts")?)?;
    let read = read(map.need(name)?)?;
    map.end(&format!("hosts, {name}"))?;
    Ok((hosts, read))
}

#[allow(clippy::unnecessary_wraps, reason = "an arm among arms that can fail")]
fn spoiled<T>((hosts, by): (Target, T), how: impl FnOnce(T) -> Spoil) -> Result<Action, String> {
    Ok(Action::Spoil { how: how(by), hosts })
}

fn jump(value: Value<'_>) -> Result<i64, String> {
    let (ahead, time) = value.signed_time()?;
    let ms = i64::try_from(time / MS).map_err(|_| value.refuse("is too far"))?;
    Ok(if ahead { ms } else { -ms })
}

fn drift(value: Value<'_>) -> Result<i64, String> {
    let ppm: Option<i64> = value.text()?.parse().ok().filter(|ppm: &i64| ppm.abs() <= 10_000);
    ppm.ok_or_else(|| value.refuse("must be a number from -10000 to 10000 (millionths)"))
}

fn scale(value: Value<'_>) -> Result<Action, String> {
    let mut map = value.map()?;
    let service = map.need("service")?.text()?;
    let replicas = map.need("replicas")?.count()?;
    let at = map.maybe("at", Target::ONE, |v| target(&v))?;
    map.end("service, replicas, at")?;
    Ok(Action::Scale { service, replicas, at })
}

/// `2`, or `{hosts: 2, deadline: 30s}`.
fn drain(value: Value<'_>) -> Result<Action, String> {
    if !value.is_map() {
        return Ok(Action::Order { how: Order::Drain(None), hosts: target(&value)? });
    }
    let (hosts, deadline) = with(value, "deadline", |v| v.time())?;
    Ok(Action::Order { how: Order::Drain(Some(deadline)), hosts })
}

fn write_loop(value: Value<'_>) -> Result<Action, String> {
    let mut map = value.map()?;
    let at = target(&map.need("at")?)?;
    let time = map.need("time")?.time()?;
    let every_value = map.need("every")?;
    let every: Nanos = every_value.time()?;
    let kib_value = map.need("kib")?;
    let kib = super::parse::small(&kib_value)?;
    if every == 0 {
        return Err(every_value.refuse("must be longer than nothing"));
    }
    if kib > 64 {
        return Err(kib_value.refuse("must be at most 64: a record has its bounds"));
    }
    map.end("at, time, every, kib")?;
    Ok(Action::WriteLoop { at, time, every, kib })
}

fn rollout(value: Value<'_>) -> Result<Action, String> {
    let mut map = value.map()?;
    let service = map.need("service")?.text()?;
    let order = policy::order(&map.need("order")?)?;
    let at = map.maybe("at", Target::ONE, |v| target(&v))?;
    map.end("service, order, at")?;
    Ok(Action::Rollout { service, order, at })
}

fn poison(value: Value<'_>) -> Result<Action, String> {
    let mut map = value.map()?;
    let at = target(&map.need("at")?)?;
    let place_value = map.need("place")?;
    let place = match place_value.text()?.as_str() {
        "read" => Swallowed::Read,
        "act" => Swallowed::Act,
        _ => return Err(place_value.refuse("must be read or act")),
    };
    let first = map.maybe("first", None, |v| v.number().map(Some))?;
    let first = first.map(|first| u32::try_from(first).unwrap_or(u32::MAX));
    map.end("at, place, first")?;
    Ok(Action::Poison { at, place, first })
}

fn roll(value: Value<'_>) -> Result<Action, String> {
    let mut map = value.map()?;
    let hosts = target(&map.need("hosts")?)?;
    let within = map.need("within")?.time()?;
    let down = map.need("down")?.time()?;
    let version = map.maybe("version", None, |v| version(&v).map(Some))?;
    map.end("hosts, within, down, version")?;
    Ok(Action::Crash { what: Crash::InTurn { within, down, version }, hosts })
}

fn version(value: &Value<'_>) -> Result<WireVersion, String> {
    match value.text()?.as_str() {
        "current" => Ok(WireVersion::CURRENT),
        "next" => Ok(WireVersion::NEXT),
        _ => Err(value.refuse("must be current or next")),
    }
}

fn restart(value: Value<'_>) -> Result<Action, String> {
    if !value.is_map() {
        return Ok(Action::Restart { hosts: None, disk: fate(&value)?, version: None });
    }
    let mut map = value.map()?;
    let disk = fate(&map.need("disk")?)?;
    let hosts = map.maybe("hosts", None, |v| target(&v).map(Some))?;
    let version = map.maybe("version", None, |v| version(&v).map(Some))?;
    map.end("disk, hosts, version")?;
    Ok(Action::Restart { hosts, disk, version })
}

fn fate(value: &Value<'_>) -> Result<DiskFate, String> {
    match value.text()?.as_str() {
        "kept-disk" => Ok(DiskFate::Kept),
        "old-disk" => Ok(DiskFate::Old),
        "old-disk-and-clock" => Ok(DiskFate::OldAndSlow),
        "lost-disk" => Ok(DiskFate::Lost),
        _ => Err(value.refuse("must be kept-disk, old-disk, old-disk-and-clock or lost-disk")),
    }
}

fn flip_flop(value: Value<'_>) -> Result<Action, String> {
    let mut map = value.map()?;
    let hosts = target(&map.need("hosts")?)?;
    let on: Nanos = map.need("on")?.time()?;
    let off: Nanos = map.need("off")?.time()?;
    let times_value = map.need("times")?;
    let times = super::parse::small(&times_value)?;
    if times == 0 || times > 1_000 {
        return Err(times_value.refuse("must be from 1 to 1000"));
    }
    map.end("hosts, on, off, times")?;
    Ok(Action::Cut { how: Cut::FlipFlop { on, off, times }, hosts })
}

fn sever(how: Cut, value: Value<'_>) -> Result<Action, String> {
    if !value.is_list() {
        return Ok(Action::Cut { how, hosts: Target::Count(value.count()?) });
    }
    let refusal = value.refuse("must be a number of pairs, or a list such as [[0, 1], [2, 5]]");
    let pair = |item: Value<'_>| match hosts(item.items()?)?.as_slice() {
        [a, b] if a != b => Ok([*a, *b]),
        _ => Err(refusal.clone()),
    };
    let pairs: Vec<[HostNo; 2]> = value.items()?.into_iter().map(pair).collect::<Result<_, _>>()?;
    Ok(Action::Cut { how, hosts: Target::Hosts(pairs.concat()) })
}
