//! Data to text: tables for people, one JSON document for programs.

pub(crate) mod table;
pub(crate) mod waiting;

use serde::Serialize;

use crate::failure::Failure;

/// Prints one JSON document.
///
/// # Errors
/// If standard output is closed or the value cannot be expressed.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Failure::failed(e.to_string()))?;
    print_line(&text)
}

/// Prints a line; a closed pipe (`dunlin ps | head -1`) ends the command quietly as a failure, not a panic.
///
/// # Errors
/// If standard output is closed.
pub(crate) fn print_line(text: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{text}").map_err(|e| Failure::failed(format!("cannot write to standard output: {e}")))
}

/// Milliseconds since the Unix epoch as an age: `3s`, `5m`, `2h`, `4d`.
pub(crate) fn age(since_ms: u64) -> String {
    span(now_ms().saturating_sub(since_ms) / 1_000)
}

/// How long until a time given in milliseconds since 1970, as `in 5m`; or a word for what is past.
pub(crate) fn until(at_ms: u64, past: &str) -> String {
    let left = at_ms.saturating_sub(now_ms()) / 1_000;
    if left == 0 { past.to_owned() } else { format!("in {}", span(left)) }
}

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis();
    u64::try_from(now).unwrap_or(u64::MAX)
}

fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Milliseconds since the Unix epoch as `2026-01-31T12:00:00.000Z` (days to date after Hinnant's `civil_from_days`).
pub(crate) fn clock(ms: u64) -> String {
    let (days, rest) = (ms / 86_400_000, ms % 86_400_000);
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    let (h, m, s, milli) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60, rest % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{milli:03}Z")
}

/// Bytes in the largest unit that leaves at least one: `512MiB`, `2GiB`.
pub(crate) fn bytes(n: u64) -> String {
    match n {
        0..0x400 => format!("{n}B"),
        0x400..0x10_0000 => format!("{}KiB", n >> 10),
        0x10_0000..0x4000_0000 => format!("{}MiB", n >> 20),
        _ => format!("{}.{}GiB", n >> 30, ((n & 0x3fff_ffff) * 10) >> 30),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_the_largest_unit() {
        assert_eq!(bytes(1), "1B");
        assert_eq!(bytes(64 << 20), "64MiB");
        assert_eq!(bytes(3 << 29), "1.5GiB");
    }

    #[test]
    fn dates_are_right() {
        assert_eq!(clock(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(clock(951_782_400_123), "2000-02-29T00:00:00.123Z");
        assert_eq!(clock(1_795_219_199_000), "2026-11-20T23:59:59.000Z");
    }
}
