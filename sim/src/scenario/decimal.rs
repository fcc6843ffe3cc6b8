//! Numbers of recorded files, as whole thousandths, millionths and so on: nothing that decides a run may be a float.

/// A number such as `12`, `0.175` or `3.1e-2`, times ten to the power of `digits`, rounded down; none if it is none, is negative, or is
/// too large.
pub(super) fn scaled(text: &str, digits: u32) -> Option<u64> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i64 = exponent.strip_prefix('+').unwrap_or(exponent).parse().ok()?;
    let mantissa = mantissa.strip_prefix('+').unwrap_or(mantissa);
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all: String = format!("{whole}{part}");
    if all.is_empty() || !all.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let places = i64::try_from(part.len()).ok()?;
    let shift = i64::from(digits) + exponent - places;
    let number: u128 = all.parse().ok()?;
    let power = 10_u128.checked_pow(u32::try_from(shift.unsigned_abs().min(60)).ok()?);
    let moved = match (shift >= 0, power) {
        (true, Some(power)) => number.checked_mul(power)?,
        (true, None) if number == 0 => 0,
        (true, None) => return None,
        (false, Some(power)) => number / power,
        (false, None) => 0,
    };
    u64::try_from(moved).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_without_floats() {
        for (text, digits, number) in [
            ("12", 3, Some(12_000)),
            ("0.175", 6, Some(175_000)),
            ("121.42", 3, Some(121_420)),
            ("+3.1e-2", 6, Some(31_000)),
            ("2E3", 0, Some(2_000)),
            (".5", 1, Some(5)),
            ("0.0009", 3, Some(0)),
            ("1e-90", 3, Some(0)),
            ("0e90", 3, Some(0)),
            ("1e90", 3, None),
            ("-1", 3, None),
            ("nan", 3, None),
            ("", 3, None),
            ("1.2.3", 3, None),
        ] {
            assert_eq!(scaled(text, digits), number, "{text}");
        }
    }
}
