//! Signals by name, as Compose files write them.

use std::str::FromStr;

use nix::sys::signal::Signal;

/// The number of `SIGTERM`, `TERM` or `15`.
#[must_use]
pub(super) fn number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return Signal::try_from(number).ok().map(|signal| signal as i32);
    }
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    Signal::from_str(&full).ok().map(|signal| signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_spellings() {
        assert_eq!(number("SIGTERM"), Some(15));
        assert_eq!(number("int"), Some(2));
        assert_eq!(number("9"), Some(9));
        assert_eq!(number("SIGWHAT"), None);
        assert_eq!(number("0"), None);
        assert_eq!(number(""), None);
    }
}
