//! From values to places on paper: scales, round numbers for their ticks, and numbers as people write them.

/// A step that is much too small cannot fill the page.
const MAX_TICKS: u32 = 24;

/// A line on which values lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// The values at its ends,
    pub(super) from: f64,
    /// of which the second is larger.
    pub(super) to: f64,
    /// Where these lie on paper.
    pub(super) start: f64,
    pub(super) end: f64,
}

impl Scale {
    /// Where a value lies; what is outside lies at the end.
    pub(super) fn at(&self, value: f64) -> f64 {
        let share = ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0);
        self.start + share * (self.end - self.start)
    }

    /// The multiples of a step on it, and how each is written.
    pub(super) fn ticks(&self, step: f64) -> Vec<(f64, String)> {
        let first = (self.from / step - 1e-6).ceil();
        let all = (0..MAX_TICKS).map(|n| (first + f64::from(n)) * step);
        all.take_while(|v| *v <= self.to + step / 1e6).map(|v| (v, label(v, step))).collect()
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that is not less.
pub(super) fn round_step(least: f64) -> f64 {
    let mut power = 1.0;
    while power > least && power > 1e-9 {
        power /= 10.0;
    }
    while power * 10.0 <= least {
        power *= 10.0;
    }
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|times| times * power).find(|step| *step >= least).unwrap_or(power)
}

/// A tick's label: no more digits than the distance to the next one asks for.
pub(super) fn label(value: f64, step: f64) -> String {
    let mut digits: usize = 0;
    let mut unit = step;
    while digits < 6 && (unit - unit.round()).abs() > 1e-6 {
        unit *= 10.0;
        digits += 1;
    }
    format!("{value:.digits$}")
}

/// Seconds with the digits that matter.
pub(super) fn time(seconds: f64) -> String {
    match seconds {
        s if s < 0.000_001 => "0 s".to_owned(),
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 100.0 => format!("{s:.2} s"),
        s => format!("{s:.0} s"),
    }
}

/// The unit in which bytes up to so many are told, and how many bytes it is.
pub(super) const fn byte_unit(most: u64) -> (&'static str, f64) {
    match most {
        0..0x2800 => ("B", 1.0),
        0x2800..0xa0_0000 => ("KiB", 1024.0),
        0xa0_0000..0x2_8000_0000 => ("MiB", 1_048_576.0),
        _ => ("GiB", 1_073_741_824.0),
    }
}

/// The nearest whole number that is not negative.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "for display; the cast stays in range")]
pub(super) fn rounded(n: f64) -> u64 {
    n.round().max(0.0) as u64
}

/// Bytes for people.
#[allow(clippy::cast_precision_loss, reason = "for display")]
pub(super) fn bytes(n: u64) -> String {
    let (unit, size) = byte_unit(n);
    format!("{:.0} {unit}", n as f64 / size)
}

/// A number, and a word for so many.
pub(super) fn count(n: u64, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{} {many}", grouped(n)) }
}

/// Digits in groups of three.
pub(super) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let labels = |from, to, step| -> Vec<String> {
            let scale = Scale { from, to, start: 0.0, end: 1.0 };
            scale.ticks(step).into_iter().map(|(_, label)| label).collect()
        };
        assert_eq!(labels(0.0, 95.0, 20.0), ["0", "20", "40", "60", "80"]);
        assert_eq!(labels(2.71, 2.8, 0.02), ["2.72", "2.74", "2.76", "2.78", "2.80"]);
        assert_eq!(labels(-2.0, 1.0, 1.0), ["-2", "-1", "0", "1"]);
        let scale = Scale { from: 0.0, to: 95.0, start: 0.0, end: 1.0 };
        assert!((scale.at(200.0) - 1.0).abs() < 1e-9, "outside lies at the end");
    }

    #[test]
    fn steps_are_one_two_or_five() {
        for (least, step) in [(0.9, 1.0), (1.0, 1.0), (3.0, 5.0), (70.0, 100.0), (0.013, 0.02), (600.0, 1_000.0)] {
            assert!((round_step(least) - step).abs() < step / 1e6, "{least}: {}", round_step(least));
        }
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(count(1, "seed", "seeds"), "1 seed");
        assert_eq!((time(0.0123), time(2.5), time(0.000_05)), ("12 ms".into(), "2.50 s".into(), "50 µs".into()));
        assert_eq!(bytes(100_000), "98 KiB");
    }
}
