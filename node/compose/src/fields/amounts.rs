//! Durations, bytes and processors as Compose writes them, read with integers only.

use alloc::format;

use dunlin_gossip::time::Duration;

use crate::problem::Log;
use crate::value::Value;

/// Longest duration that is taken; beyond it a slip of the unit is likelier than an intention.
const MAX_DURATION_NANOS: u128 = 365 * 24 * 3_600 * 1_000_000_000;

const DURATION: &str = "write a number and a unit (us, ms, s, m, h), as in 30s, 1m30s or 500ms";
const BYTES: &str = "write a number and a unit (b, k, m, g, t), as in 512m or 1.5gb";
const CPUS: &str = "write processors with up to three decimals, as in 0.5 or 2";

/// A decimal number in units of 1/`scale`: digits beyond are cut off. `None` if it is no decimal number.
fn decimal(text: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && !text.contains('.')) || fraction.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let (mut parts, mut divisor) = (0_u128, 1_u128);
    for digit in fraction.bytes().take(18) {
        divisor *= 10;
        parts = parts * 10 + u128::from(digit - b'0');
    }
    whole.checked_mul(scale)?.checked_add(scale.checked_mul(parts)? / divisor)
}

fn parse_duration(text: &str) -> Option<u128> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut sum: u128 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(number_end)?;
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit_end)?;
        let nanos: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60 * 1_000_000_000,
            "h" => 3_600 * 1_000_000_000,
            "d" => 24 * 3_600 * 1_000_000_000,
            "w" => 7 * 24 * 3_600 * 1_000_000_000,
            _ => return None,
        };
        sum = sum.checked_add(decimal(number, nanos)?)?;
        rest = after;
    }
    if text.is_empty() { None } else { Some(sum) }
}

/// A duration of any length up to a year.
pub(crate) fn duration(value: &Value<'_>, log: &mut Log<'_>) -> Option<Duration> {
    let text = value.scalar(log, "a duration", DURATION)?;
    let Some(nanos) = parse_duration(text) else {
        if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
            value.wrong(log, "a duration", format!("add the unit: {text}s"));
        } else {
            value.wrong(log, "a duration", DURATION);
        }
        return None;
    };
    if nanos > MAX_DURATION_NANOS {
        value.error(log, format!("{text} is longer than a year"), DURATION);
        return None;
    }
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

/// A duration of at least a millisecond.
pub(crate) fn positive_duration(value: &Value<'_>, log: &mut Log<'_>) -> Option<Duration> {
    let found = duration(value, log)?;
    if found < Duration::from_millis(1) {
        value.error(log, "the duration is shorter than 1ms", "leave it out for the default, or write a longer one");
        return None;
    }
    Some(found)
}

fn parse_bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let (number, unit) =
        lower.split_at_checked(lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len()))?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let shift = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return None,
    };
    u64::try_from(decimal(number, 1_u128 << shift)?).ok()
}

/// An amount of memory; every unit is a power of 1024, as in Compose.
pub(crate) fn bytes(value: &Value<'_>, log: &mut Log<'_>) -> Option<u64> {
    let text = value.scalar(log, "an amount of memory", BYTES)?;
    let found = parse_bytes(text);
    if found.is_none() {
        value.wrong(log, "an amount of memory", BYTES);
    }
    found
}

/// Processors, in thousandths.
pub(crate) fn cpu_milli(value: &Value<'_>, log: &mut Log<'_>) -> Option<u64> {
    let text = value.scalar(log, "a number of processors", CPUS)?;
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    let found = decimal(text, 1_000).and_then(|n| u64::try_from(n).ok()).filter(|n| *n <= 1_000_000_000);
    let Some(found) = found else {
        value.wrong(log, "a number of processors", CPUS);
        return None;
    };
    if fraction.trim_end_matches('0').len() > 3 {
        value.error(log, format!("{text} is finer than a thousandth of a processor"), CPUS);
        return None;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let good = [
            ("0", 0),
            ("0s", 0),
            ("1s", 1_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5s", 1_500_000_000),
            ("500ms", 500_000_000),
            ("2h3m", 7_380_000_000_000),
            ("10us", 10_000),
            (".5s", 500_000_000),
        ];
        for (text, nanos) in good {
            assert_eq!(parse_duration(text), Some(nanos), "{text}");
        }
        for text in
            ["", "5", "s", "1x", "1s2", "-1s", "1 s", "1..5s", "1.s", "99999999999999999999999999999999999999999s"]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn memory() {
        let good = [
            ("0", 0),
            ("1024", 1024),
            ("64m", 64 << 20),
            ("512M", 512 << 20),
            ("1.5gb", 3 << 29),
            ("1g", 1 << 30),
            ("2GiB", 2 << 30),
            ("10b", 10),
            ("1 k", 1024),
        ];
        for (text, bytes) in good {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for text in ["", "m", "1x", "-1m", "1.5.2m", "1mm", "99999999999p"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn decimals() {
        for (text, milli) in [("0.5", 500), ("2", 2_000), ("0.001", 1), (".25", 250), ("1.0000", 1_000)] {
            assert_eq!(decimal(text, 1_000), Some(milli), "{text}");
        }
        for text in ["", ".", "1.", "1e3", "-1", "1,5", "+1"] {
            assert_eq!(decimal(text, 1_000), None, "{text}");
        }
    }
}
