//! `dunlin agent`: what was typed and what the configuration file says, made into complete settings.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use dunlin_agent::resolvers::WorkloadDns;
use dunlin_agent::settings::{PORT, Settings};
use dunlin_agent::setup::SetupError;
use dunlin_agent::{gpus, host};
use dunlin_gossip::model::{DeviceGroup, Further, MAX_DEVICES, Resources, Supply};
use serde::Deserialize;

use super::Done;
use crate::args::Agent;
use crate::failure::{Failure, Kind};

/// Datagrams a second that one client may send to one thread of the DNS server: more than any client of 1,000 names that
/// live for a second needs, and far below what saturates a core. A guess.
const DNS_RATE: u32 = 5_000;
/// Replicas a minute that a node takes for its share. A guess: what starts within ten seconds, one after the other.
const REBALANCE: u32 = 6;
const MOST_REBALANCE: u32 = 6_000;
/// Seconds for which certificates may be good.
const LIFETIMES: RangeInclusive<u64> = 10..=3_650 * 24 * 3_600;

/// The configuration file: the same names as on the command line.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct ConfigFile {
    join: Vec<String>,
    token_file: Option<std::path::PathBuf>,
    name: Option<String>,
    bind: Option<SocketAddr>,
    advertise: Option<SocketAddr>,
    dns: Vec<SocketAddr>,
    dns_allow: Vec<String>,
    dns_rate: Option<u32>,
    dns_forward: Vec<String>,
    workload_dns: Option<String>,
    domain: Option<String>,
    label: Vec<String>,
    zone: Option<String>,
    cpus: Option<String>,
    memory: Option<String>,
    reserve_cpus: Option<String>,
    reserve_memory: Option<String>,
    pids: Option<u64>,
    disk: Option<String>,
    device: Vec<String>,
    ports: Option<String>,
    rebalance: Option<u32>,
    certificate_lifetime: Option<String>,
}

pub(super) fn run(args: &Agent, data_dir: &Path) -> Done {
    let settings = settings(args, data_dir)?;
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("DUNLIN_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,hickory_proto=error")),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    dunlin_agent::run(settings).map_err(|error| match &error {
        dunlin_agent::AgentError::Setup(setup) => refused(setup),
        other => Failure::failed(other.to_string()),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A refusal at the door: what was typed is wrong (exit code 2), or the world is (1).
pub(super) fn refused(error: &SetupError) -> Failure {
    let kind = match error {
        SetupError::NoCluster { .. } | SetupError::NoToken | SetupError::Token(_) | SetupError::OtherCluster { .. } => {
            Kind::Usage
        }
        SetupError::Lock(_)
        | SetupError::Keys(_)
        | SetupError::Disk(_)
        | SetupError::Join(_)
        | SetupError::AlreadyMember { .. }
        | SetupError::KeysMissing { .. }
        | SetupError::Leftover { .. } => Kind::Failed,
    };
    Failure::new(kind, error.to_string(), "")
}

fn workload_dns(text: Option<&String>) -> Result<WorkloadDns, Failure> {
    match text.map(String::as_str) {
        None | Some("auto") => Ok(WorkloadDns::Auto),
        Some("off") => Ok(WorkloadDns::Off),
        Some(text) => text.parse().map(WorkloadDns::At).map_err(|e| {
            Failure::usage(
                format!("workload-dns {text}: {e}"),
                "dunlin agent --workload-dns 172.17.0.1, or auto, or off",
            )
        }),
    }
}

fn settings(args: &Agent, data_dir: &Path) -> Result<Settings, Failure> {
    let file = args.config.as_deref().map(config_file).transpose()?.unwrap_or_default();
    let name = match args.name.as_ref().or(file.name.as_ref()) {
        Some(text) => Some(
            host::named(text).map_err(|e| Failure::usage(format!("name {text}: {e}"), "dunlin agent --name oslo"))?,
        ),
        None => None,
    };
    let bind = args.bind.or(file.bind).unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], PORT)));
    let dns = first_filled(&args.dns, file.dns);
    let dns = if dns.is_empty() { vec![SocketAddr::from(([127, 0, 0, 1], 7453))] } else { dns };
    let found = host::capacity();
    let declared = devices(&first_filled(&args.device, file.device))?;
    // What is declared of a kind stands for what was found of it.
    let is_declared = declared.iter().any(|group| group.kind == gpus::GPU);
    let gpus = if is_declared { Vec::new() } else { gpus::find(Path::new("/")) };
    let declared: Vec<DeviceGroup> = declared.into_iter().filter(|group| group.count > 0).collect();
    let keeper = std::env::current_exe().map_err(|e| Failure::failed(format!("cannot find this binary: {e}")))?;
    Ok(Settings {
        data_dir: data_dir.to_owned(),
        join: first_filled(&args.join, file.join),
        token: token(args, file.token_file.as_deref())?,
        name,
        bind,
        advertise: args.advertise.or(file.advertise),
        dns,
        dns_allow: parsed(&first_filled(&args.dns_allow, file.dns_allow), "--dns-allow 192.0.2.0/24")?,
        dns_rate: Some(args.dns_rate.or(file.dns_rate).unwrap_or(DNS_RATE)).filter(|rate| *rate > 0),
        dns_forward: parsed(&first_filled(&args.dns_forward, file.dns_forward), "--dns-forward 192.0.2.53")?,
        workload_dns: workload_dns(args.workload_dns.as_ref().or(file.workload_dns.as_ref()))?,
        domain: args.domain.clone().or(file.domain).unwrap_or_else(|| "dunlin.internal".to_owned()),
        labels: labels(&first_filled(&args.label, file.label), args.zone.as_ref().or(file.zone.as_ref()))?,
        allocatable: Resources {
            cpu_milli: given(
                ("cpus", milli, found.cpu_milli),
                args.cpus.as_ref().or(file.cpus.as_ref()),
                args.reserve_cpus.as_ref().or(file.reserve_cpus.as_ref()),
            )?,
            memory_bytes: given(
                ("memory", bytes, found.memory_bytes),
                args.memory.as_ref().or(file.memory.as_ref()),
                args.reserve_memory.as_ref().or(file.reserve_memory.as_ref()),
            )?,
        },
        supply: Supply {
            further: Further {
                pids: args.pids.or(file.pids).unwrap_or_else(host::pids),
                disk_bytes: disk(args.disk.as_ref().or(file.disk.as_ref()), data_dir)?,
            },
            devices: declared.into_iter().chain(gpus::groups(&gpus)).collect(),
            ..Supply::default()
        },
        gpus,
        rebalance: args.rebalance.or(file.rebalance).unwrap_or(REBALANCE).min(MOST_REBALANCE),
        ports: ports(args.ports.as_deref().or(file.ports.as_deref()))?,
        certificate_lifetime: lifetime(args.certificate_lifetime.as_deref().or(file.certificate_lifetime.as_deref()))?,
        keeper,
    })
}

/// Texts that say by themselves what is wrong with them.
fn parsed<T: std::str::FromStr<Err = String>>(texts: &[String], example: &str) -> Result<Vec<T>, Failure> {
    texts.iter().map(|text| text.parse().map_err(|wrong: String| Failure::usage(wrong, example))).collect()
}

fn first_filled<T: Clone>(typed: &[T], file: Vec<T>) -> Vec<T> {
    if typed.is_empty() { file } else { typed.to_vec() }
}

fn config_file(path: &Path) -> Result<ConfigFile, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::usage(format!("{}: {e}", path.display()), "name the file with --config F"))?;
    // toml's message carries line, column and key.
    toml::from_str(&text).map_err(|e| Failure::usage(format!("{}: {e}", path.display()), "correct the file"))
}

fn token(args: &Agent, file: Option<&Path>) -> Result<Option<String>, Failure> {
    if let Some(token) = &args.token {
        return Ok(Some(token.trim().to_owned()));
    }
    let Some(path) = args.token_file.as_deref().or(file) else { return Ok(None) };
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::usage(format!("{}: {e}", path.display()), "dunlin token create > FILE on a member"))?;
    Ok(Some(text.trim().to_owned()))
}

fn labels(pairs: &[String], zone: Option<&String>) -> Result<BTreeMap<String, String>, Failure> {
    let mut labels = BTreeMap::new();
    for pair in pairs {
        let (key, value) = pair
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| Failure::usage(format!("label {pair}: expected K=V"), "dunlin agent --label disk=ssd"))?;
        labels.insert(key.to_owned(), value.to_owned());
    }
    if let Some(zone) = zone {
        labels.insert("zone".to_owned(), zone.clone());
    }
    Ok(labels)
}

fn disk(given: Option<&String>, data_dir: &Path) -> Result<u64, Failure> {
    let Some(text) = given else { return Ok(host::disk(data_dir)) };
    bytes(text).ok_or_else(|| Failure::usage(format!("disk {text}: expected an amount"), "--disk 100G"))
}

/// Devices as they are typed: `gpu=4` or `gpu=4:T4`.
fn devices(typed: &[String]) -> Result<Vec<DeviceGroup>, Failure> {
    let mut groups = Vec::new();
    let mut all = 0;
    for text in typed {
        let wrong = |what: &str| Failure::usage(format!("device {text}: {what}"), "--device gpu=4:T4");
        let (kind, rest) = text
            .split_once('=')
            .filter(|(kind, _)| !kind.is_empty())
            .ok_or_else(|| wrong("expected KIND=COUNT[:MODEL]"))?;
        let (count, model) = rest.split_once(':').unwrap_or((rest, ""));
        let count: u32 = count.parse().map_err(|_| wrong("the count is a whole number"))?;
        all += count as usize;
        if all > MAX_DEVICES {
            return Err(wrong(&format!("a node has at most {MAX_DEVICES} devices")));
        }
        groups.push(DeviceGroup { kind: kind.to_owned(), model: model.to_owned(), count });
    }
    Ok(groups)
}

/// Reads an amount.
type Read = fn(&str) -> Option<u64>;

/// What to give of a resource: as said, else what was found less what the host keeps.
fn given((what, read, found): (&str, Read, u64), said: Option<&String>, kept: Option<&String>) -> Result<u64, Failure> {
    let amount = |option: &str, text: &String| {
        let example = if what == "cpus" { "1.5" } else { "2G" };
        let wrong = || Failure::usage(format!("{option} {text}: expected an amount"), format!("--{option} {example}"));
        read(text).ok_or_else(wrong)
    };
    let option = format!("reserve-{what}");
    match (said, kept) {
        (Some(_), Some(_)) => Err(Failure::usage(
            format!("{what} and {option}: the first says what to give already"),
            "keep one of the two",
        )),
        (Some(text), None) => amount(what, text),
        (None, Some(text)) => found.checked_sub(amount(&option, text)?).filter(|left| *left > 0).ok_or_else(|| {
            Failure::usage(
                format!("{option} {text}: this agent may use no more than that itself"),
                "keep less for the host",
            )
        }),
        (None, None) => Ok(found),
    }
}

/// `1.5` as 1,500; at most three decimals count.
pub(super) fn milli(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 3 || !part.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part: u64 = format!("{part:0<3}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(part)
}

/// `512M`, `4G`, `1024` (bytes); units are powers of 1,024.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..)?.to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// `90d`, `12h`, `30m`, `20s`.
fn lifetime(text: Option<&str>) -> Result<Duration, Failure> {
    let Some(text) = text else { return Ok(dunlin_net::CERTIFICATE_LIFETIME) };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..) {
        Some("s") => Some(1),
        Some("m") => Some(60),
        Some("h") => Some(3_600),
        Some("d") => Some(24 * 3_600),
        _ => None,
    };
    let seconds = unit.and_then(|unit: u64| digits.parse::<u64>().ok()?.checked_mul(unit));
    match seconds {
        Some(seconds) if LIFETIMES.contains(&seconds) => Ok(Duration::from_secs(seconds)),
        Some(_) => {
            Err(Failure::usage(format!("certificate lifetime {text}: from 10s to 3650d"), "--certificate-lifetime 90d"))
        }
        None => Err(Failure::usage(
            format!("certificate lifetime {text}: expected a number and s, m, h or d"),
            "--certificate-lifetime 90d",
        )),
    }
}

fn ports(text: Option<&str>) -> Result<RangeInclusive<u16>, Failure> {
    let Some(text) = text else { return Ok(20_000..=32_000) };
    let parsed = text.split_once('-').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match parsed {
        Some((a, b)) if 0 < a && a <= b => Ok(a..=b),
        _ => Err(Failure::usage(format!("ports {text}: expected A-B"), "--ports 20000-32000")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_without_floats() {
        assert_eq!(milli("1.5"), Some(1_500));
        assert_eq!(milli("2"), Some(2_000));
        assert_eq!(milli("0.0001"), None);
        assert_eq!(milli("-1"), None);
        assert_eq!(bytes("512M"), Some(512 << 20));
        assert_eq!(bytes("4GiB"), Some(4 << 30));
        assert_eq!(bytes("64"), Some(64));
        assert_eq!(bytes("12x"), None);
        assert!(ports(Some("9-3")).is_err());
        assert_eq!(lifetime(Some("12h")).ok(), Some(Duration::from_secs(12 * 3_600)));
        assert!(["5s", "9999d", "1w", "d", ""].iter().all(|text| lifetime(Some(text)).is_err()));
    }

    #[test]
    fn the_host_keeps_what_it_is_told_to() {
        let cpus = ("cpus", milli as Read, 4_000);
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(given(cpus, None, None).ok(), Some(4_000));
        assert_eq!(given(cpus, text("8").as_ref(), None).ok(), Some(8_000));
        assert_eq!(given(cpus, None, text("0.5").as_ref()).ok(), Some(3_500));
        assert!(given(cpus, None, text("4").as_ref()).is_err());
        assert!(given(cpus, text("1").as_ref(), text("1").as_ref()).is_err());
    }

    #[test]
    fn a_configuration_file_with_an_unknown_key_is_refused() {
        assert!(toml::from_str::<ConfigFile>("zone = \"a\"\nlabel = [\"k=v\"]").is_ok());
        assert!(toml::from_str::<ConfigFile>("zonne = \"a\"").is_err());
    }
}
