//! Reads the five fields of cron, and says of everything else what to write instead.
//!
//! What other readers of cron take for granted in different ways (seconds, `L`, `#`, `@every`) is refused rather than guessed.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::model::Calendar;

use super::dates;

/// What is wrong with an expression.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    words: &'static [&'static str],
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Field; 5] = [
    Field { name: "minute", least: 0, most: 59, words: &[] },
    Field { name: "hour", least: 0, most: 23, words: &[] },
    Field { name: "day of the month", least: 1, most: 31, words: &[] },
    Field { name: "month", least: 1, most: 12, words: &MONTHS },
    // 7 is Sunday as well.
    Field { name: "day of the week", least: 0, most: 7, words: &DAYS },
];
const SHORT: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];
const REMEDY: &str = "write minute, hour, day of the month, month and day of the week, as in '30 3 * * 1-5', or @daily";

fn fault(what: impl Into<String>, remedy: impl Into<String>) -> Fault {
    Fault { what: what.into(), remedy: remedy.into() }
}

/// Reads an expression: five fields, or `@hourly` and the like.
///
/// # Errors
/// What is wrong with it; that it never comes due is.
pub fn parse(text: &str) -> Result<Calendar, Fault> {
    let lower = text.trim().to_ascii_lowercase();
    if let Some(fault) = foreign(&lower) {
        return Err(fault);
    }
    let full = SHORT.iter().find(|(short, _)| *short == lower).map_or(lower.as_str(), |(_, full)| full);
    let words: Vec<&str> = full.split_ascii_whitespace().collect();
    let [minute, hour, day, month, weekday] = words.as_slice() else {
        let fields = if words.len() == 1 { "1 field".to_string() } else { format!("{} fields", words.len()) };
        let remedy =
            if words.len() > 5 { "there are no seconds and no years: write the five fields of cron" } else { REMEDY };
        return Err(fault(format!("the expression has {fields} instead of five"), remedy));
    };
    let (mut sets, mut stars) = ([0_u64; 5], [false; 5]);
    for (((word, field), set), star) in
        [minute, hour, day, month, weekday].into_iter().zip(&FIELDS).zip(&mut sets).zip(&mut stars)
    {
        *set = read(word, field)?;
        *star = word.starts_with('*') && !word.contains(',');
    }
    let [minutes, hours, days, months, weekdays] = sets;
    let [_, floats, any_day, _, any_weekday] = stars;
    let narrow = |set: u64| u32::try_from(set).unwrap_or(u32::MAX);
    let calendar = Calendar {
        minutes,
        hours: narrow(hours),
        days: narrow(days),
        months: u16::try_from(months).unwrap_or(u16::MAX),
        weekdays: u8::try_from((weekdays & 0x7f) | (weekdays >> 7)).unwrap_or(u8::MAX),
        either: !any_day && !any_weekday,
        floats,
    };
    if dates::is_ever(&calendar) {
        return Ok(calendar);
    }
    Err(fault("this never comes due: none of these months has such a day", "name a day that there is"))
}

/// What stands in other dialects.
fn foreign(lower: &str) -> Option<Fault> {
    if lower.starts_with("@every") {
        return Some(fault(
            "'@every' counts from when it was started, which no two nodes agree on",
            "write */N, as in '*/15 * * * *'",
        ));
    }
    if lower.starts_with("@reboot") {
        return Some(fault(
            "'@reboot' is of one host, and a flock has none",
            "deploy a job: deploy.mode: replicated-job",
        ));
    }
    if lower.starts_with("tz=") || lower.starts_with("cron_tz=") {
        return Some(fault("a time zone does not belong into the expression", "write {cron: ..., timezone: ...}"));
    }
    let is_unknown = lower.starts_with('@') && SHORT.iter().all(|(short, _)| *short != lower);
    is_unknown.then(|| {
        let known: Vec<&str> = SHORT.iter().map(|(short, _)| *short).collect();
        fault(format!("there is no '{lower}'"), format!("write one of {}, or five fields", known.join(", ")))
    })
}

fn read(text: &str, field: &Field) -> Result<u64, Fault> {
    let mut set = 0;
    for part in text.split(',') {
        set |= range(part, field)?;
    }
    Ok(set)
}

fn range(part: &str, field: &Field) -> Result<u64, Fault> {
    let Field { name, least, most, .. } = field;
    let named = |what: String| format!("{name}: {what}");
    let (range, step) = match part.split_once('/') {
        None => (part, None),
        Some((range, step)) => (range, Some(step)),
    };
    let highest = if field.words.len() == DAYS.len() { 6 } else { *most };
    let (first, last) = match range.split_once('-') {
        _ if range == "*" => (*least, highest),
        None if step.is_some() => {
            let remedy = format!("write {range}-{highest}/N, or */N");
            return Err(fault(named(format!("'{part}' steps from a single value")), remedy));
        }
        None => {
            let value = value(range, field)?;
            (value, value)
        }
        Some((first, last)) => {
            let (first, last) = (value(first, field)?, value(last, field)?);
            // A week may end with its Sunday.
            let last = if last == 0 && first > 0 && *most == 7 { 7 } else { last };
            if first > last {
                let remedy = format!("write {first}-{highest},{least}-{last}");
                return Err(fault(named(format!("'{range}' goes backwards")), remedy));
            }
            (first, last)
        }
    };
    let step = match step.map(|step| (step, step.parse::<u32>())) {
        None => 1,
        Some((_, Ok(step))) if step >= 1 && (step <= last - first || first == last) => step,
        Some((step, Ok(_))) => {
            let what = named(format!("a step of {step} leaves only {first}"));
            return Err(fault(what, format!("write {first}, or a smaller step")));
        }
        Some((step, Err(_))) => return Err(fault(named(format!("'{step}' is no step")), "write a number after '/'")),
    };
    Ok((first..=last).filter(|n| (n - first).is_multiple_of(step)).fold(0, |set, n| set | 1 << n))
}

fn value(text: &str, field: &Field) -> Result<u32, Fault> {
    let Field { name, least, most, words } = field;
    let word = words.iter().zip(*least..).find(|(word, _)| **word == text).map(|(_, n)| n);
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = is_number.then(|| text.parse::<u32>().ok().filter(|n| (least..=most).contains(&n))).flatten();
    word.or(number).ok_or_else(|| {
        let or = words.first().map_or_else(String::new, |first| format!(", or a name, as in {first}"));
        let remedy = match text.bytes().any(|b| matches!(b, b'l' | b'w' | b'#' | b'?')) && !is_number {
            true => format!("L, W, # and ? are not there: write numbers from {least} to {most}{or}"),
            false => format!("write numbers from {least} to {most}{or}"),
        };
        fault(format!("{name}: '{text}' is no {name}"), remedy)
    })
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn what_is_written_is_what_is_meant() {
        for (text, shown) in [
            ("0 3 * * *", "0 3 * * *"),
            ("@daily", "0 0 * * *"),
            ("@Hourly", "0 * * * *"),
            ("*/15 9-17 * * MON-FRI", "*/15 9-17 * * 1-5"),
            ("5,35 0 1,15 jan,jul *", "5,35 0 1,15 1,7 *"),
            ("0 */12 * * *", "0 */12 * * *"),
            ("0 0 */30 * 0", "0 0 */30 * 0"),
            ("0 0 * * sat-sun", "0 0 * * 0,6"),
            ("0 0 * * 5-7", "0 0 * * 0,5,6"),
            ("0 0 * * 7", "0 0 * * 0"),
            ("0 0 13 * 5", "0 0 13 * 5"),
            ("0 0 */2 * 5", "0 0 */2 * 5"),
            ("0 */6 * * *", "0 */6 * * *"),
            ("0 0-23/6 * * *", "0 0,6,12,18 * * *"),
            ("10-50/20 * * * *", "10,30,50 * * * *"),
            ("0 0 29 2 *", "0 0 29 2 *"),
        ] {
            let calendar = parse(text).expect(text);
            assert_eq!(calendar.to_string(), shown, "{text}");
            assert_eq!(parse(shown), Ok(calendar), "{text}");
        }
        assert!(parse("0 0 13 * 5").expect("both").either && !parse("0 0 */2 * 5").expect("a star").either);
        assert!(parse("0 * * * *").expect("a star").floats && !parse("0 0-23 * * *").expect("none").floats);
    }

    #[test]
    fn what_is_refused_says_what_to_write() {
        for (text, what) in [
            ("", "the expression has 0 fields instead of five; write minute"),
            ("5", "1 field instead of five"),
            ("0 0 3 * * *", "6 fields instead of five; there are no seconds"),
            ("60 * * * *", "minute: '60' is no minute; write numbers from 0 to 59"),
            ("0 24 * * *", "hour: '24'"),
            ("0 0 0 * *", "day of the month: '0'"),
            ("0 0 L * *", "L, W, # and ? are not there"),
            ("0 0 ? * 1", "'?' is no day of the month"),
            ("0 0 * * 1#2", "'1#2' is no day of the week"),
            ("0 0 * foo *", "month: 'foo' is no month; write numbers from 1 to 12, or a name, as in jan"),
            ("0 22-2 * * *", "hour: '22-2' goes backwards; write 22-23,0-2"),
            ("0/5 * * * *", "minute: '0/5' steps from a single value; write 0-59/N"),
            ("*/90 * * * *", "minute: a step of 90 leaves only 0; write 0"),
            ("*/0 * * * *", "minute: a step of 0 leaves only 0"),
            ("*/x * * * *", "'x' is no step"),
            ("*/99999999999 * * * *", "is no step"),
            ("1,,2 * * * *", "minute: '' is no minute"),
            ("-5 * * * *", "minute: '' is no minute"),
            ("+5 * * * *", "minute: '+5' is no minute"),
            ("0 0 30 2 *", "this never comes due"),
            ("0 0 31 4,6,9,11 *", "this never comes due"),
            ("@every 5m", "'@every' counts from"),
            ("@reboot", "deploy a job"),
            ("@often", "there is no '@often'; write one of @yearly"),
            ("TZ=UTC 0 0 * * *", "timezone"),
        ] {
            let Fault { what: said, remedy } = parse(text).expect_err(text);
            let said = alloc::format!("{said}; {remedy}");
            assert!(said.contains(what), "{text}: {said}");
        }
    }
}
