//! Work that is done again and again by the calendar: when it is due, and what becomes of a run that overlaps or was missed.
//!
//! A calendar is held as the sets that its author meant, not as the text that he wrote, so that no version of a parser stands
//! between a record and its meaning. When a calendar is due is for `node/core` to say, which knows time zones.
//!
//! Like everything about a job, none of this is part of the revision: to do it at another time is no other work.

use alloc::string::String;
use core::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Job;
use crate::time::Duration;

/// Work that is done again and again: when, and each time how.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cron {
    /// When a run is due.
    pub calendar: Calendar,
    /// By whose clocks.
    pub zone: ZoneName,
    /// What becomes of a run that comes due while an earlier one is not finished.
    pub overlap: Overlap,
    /// What becomes of a run that nobody could begin when it was due.
    pub missed: Missed,
    /// A run that nobody has begun so long after it was due is not begun any more.
    pub deadline: Option<Duration>,
    /// Of so many runs it is kept how they ended. An older one is never begun again.
    pub history: u16,
    /// How a run is worked off. Runs that were due up to its `since` are not this deploy's.
    pub job: Job,
}

/// What becomes of a run that comes due while an earlier one is not finished.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub enum Overlap {
    /// Both run.
    #[default]
    Allow,
    /// It is skipped.
    Forbid,
    /// The earlier one is stopped.
    Replace,
}

impl Overlap {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Forbid => "forbid",
            Self::Replace => "replace",
        }
    }
}

/// What becomes of a run that nobody could begin when it was due.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub enum Missed {
    /// It is skipped.
    Skip,
    /// Of all that were missed the last is made up for, until the next one is due.
    #[default]
    RunOnce,
}

impl Missed {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::RunOnce => "run-once",
        }
    }
}

impl Cron {
    /// A run that is to be skipped if it was missed can be begun for so long, where nothing else is said.
    pub const GRACE: Duration = Duration::from_secs(60);
    /// Of so many runs it is kept how they ended, where nothing else is said.
    pub const HISTORY: u16 = 5;
    /// And of no more than these.
    pub const MAX_HISTORY: u16 = 100;

    /// Of a calendar by UTC, with all else as where nothing is said.
    #[must_use]
    pub const fn of(calendar: Calendar, job: Job) -> Self {
        Self {
            calendar,
            zone: ZoneName::UTC,
            overlap: Overlap::Allow,
            missed: Missed::RunOnce,
            deadline: None,
            history: Self::HISTORY,
            job,
        }
    }

    /// True if another one is due at the same moments.
    #[must_use]
    pub fn keeps_time_with(&self, other: &Self) -> bool {
        (self.calendar, self.zone) == (other.calendar, other.zone)
    }

    /// How many of the last runs it is kept of; one at least, or nothing would tell which is the last.
    #[must_use]
    pub fn kept(&self) -> usize {
        usize::from(self.history.clamp(1, Self::MAX_HISTORY))
    }

    /// For how long a run can be begun once it is due, in seconds; none while no later one is.
    #[must_use]
    pub fn window_s(&self) -> Option<u64> {
        let stated = self.deadline.map(|deadline| deadline.as_secs().max(1));
        match self.missed {
            Missed::Skip => Some(stated.unwrap_or(Self::GRACE.as_secs())),
            Missed::RunOnce => stated,
        }
    }
}

/// The five fields of cron, as the sets of what they allow: bit n is n.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Calendar {
    /// 0 to 59.
    pub minutes: u64,
    /// 0 to 23.
    pub hours: u32,
    /// Of the month, 1 to 31.
    pub days: u32,
    /// 1 to 12.
    pub months: u16,
    /// 0 (Sunday) to 6.
    pub weekdays: u8,
    /// True if a day of either kind will do: both fields name days. Else a day must be of both.
    pub either: bool,
    /// True if the hours are `*` or `*/n`: what is due by the hour goes on when clocks are put back or forward. Else each time of a day
    /// comes once that day.
    pub floats: bool,
}

/// A field: what its set has in it, or, where it may be a star and at least so many are in it, `*` or `*/n`.
fn field(f: &mut fmt::Formatter<'_>, set: u64, least: u32, most: u32, star: Option<usize>) -> fmt::Result {
    let has = |n: u32| n <= most && set & (1 << n) != 0;
    let steps = |step: &u32| (least..=most).all(|n| has(n) == (n - least).is_multiple_of(*step));
    let count = (least..=most).filter(|n| has(*n)).count();
    let step = (1..=most - least).find(steps).filter(|_| star.is_some_and(|least| count >= least));
    match step {
        Some(1) => return f.write_str("*"),
        Some(step) => return write!(f, "*/{step}"),
        None => {}
    }
    let (mut n, mut comma) = (least, "");
    while n <= most {
        let end = (n..=most).take_while(|n| has(*n)).last();
        match end {
            None => {}
            Some(end) if end < n + 2 => {
                (n..=end).try_for_each(|n| write!(f, "{}{n}", core::mem::replace(&mut comma, ",")))?;
            }
            Some(end) => write!(f, "{}{n}-{end}", core::mem::replace(&mut comma, ","))?,
        }
        n = end.unwrap_or(n) + 1;
    }
    Ok(())
}

/// As cron writes it; what was written otherwise and means the same is shown so.
impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Two numbers are easier to read than the step between them, unless the star means something.
        let short = Some(3);
        let (days, weekdays) = (u64::from(self.days), u64::from(self.weekdays));
        let both = days & 0xffff_fffe != 0xffff_fffe && weekdays & 0x7f != 0x7f;
        let of_days = if both { Some(1) } else { short }.filter(|_| !self.either);
        field(f, self.minutes, 0, 59, short)?;
        f.write_str(" ")?;
        field(f, self.hours.into(), 0, 23, self.floats.then_some(1))?;
        f.write_str(" ")?;
        field(f, days, 1, 31, of_days)?;
        f.write_str(" ")?;
        field(f, self.months.into(), 1, 12, short)?;
        f.write_str(" ")?;
        field(f, weekdays, 0, 6, of_days)
    }
}

/// The name of a time zone, as `Europe/Berlin`. Whether there is such a zone is for `node/core` to say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ZoneName([u8; Self::MAX]);

impl ZoneName {
    /// Bytes of the longest; the longest there is has 32.
    pub const MAX: usize = 40;
    /// The one without daylight saving time.
    pub const UTC: Self = {
        let mut bytes = [0; Self::MAX];
        (bytes[0], bytes[1], bytes[2]) = (b'U', b'T', b'C');
        Self(bytes)
    };

    /// Takes a name; none if it is empty, too long, or not of the letters that such names have.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let is_fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'+');
        let mut bytes = [0; Self::MAX];
        bytes
            .get_mut(..text.len())
            .filter(|_| !text.is_empty() && text.bytes().all(is_fine))?
            .copy_from_slice(text.as_bytes());
        Some(Self(bytes))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|b| *b == 0).unwrap_or(Self::MAX);
        self.0.get(..end).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

impl fmt::Display for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ZoneName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ZoneName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).ok_or_else(|| D::Error::custom("no name of a time zone"))
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn calendars_are_shown_as_cron_writes_them() {
        let every = Calendar {
            minutes: (1 << 60) - 1,
            hours: (1 << 24) - 1,
            days: ((1 << 31) - 1) << 1,
            months: ((1 << 12) - 1) << 1,
            weekdays: (1 << 7) - 1,
            either: false,
            floats: true,
        };
        assert_eq!(format!("{every}"), "* * * * *");
        let some = Calendar { minutes: 1 | 1 << 15 | 1 << 30 | 1 << 45, hours: 0b1110, weekdays: 0b11_1110, ..every };
        assert_eq!(format!("{}", Calendar { floats: false, ..some }), "*/15 1-3 * * 1-5");
        assert_eq!(format!("{}", Calendar { floats: false, either: true, ..every }), "* 0-23 1-31 * 0-6");
        assert_eq!(format!("{}", Calendar { days: 0b1010, ..every }), "* * 1,3 * *");
    }

    #[test]
    fn names_of_zones_are_checked() {
        for name in ["UTC", "America/Argentina/ComodRivadavia", "Etc/GMT+12"] {
            assert_eq!(ZoneName::new(name).map(|zone| format!("{zone}")).as_deref(), Some(name));
        }
        assert_eq!(ZoneName::new("UTC"), Some(ZoneName::UTC));
        assert_eq!(
            [ZoneName::new(""), ZoneName::new(&"x".repeat(41)), ZoneName::new("a b"), ZoneName::new("ä")],
            [None; 4]
        );
    }

    #[test]
    fn how_long_a_run_can_be_begun() {
        let calendar =
            Calendar { minutes: 1, hours: 1, days: 2, months: 2, weekdays: 127, either: false, floats: false };
        let cron = Cron::of(calendar, Job::default());
        assert_eq!(cron.window_s(), None);
        assert_eq!(Cron { missed: Missed::Skip, ..cron }.window_s(), Some(60));
        let deadline = Some(Duration::from_millis(10));
        assert_eq!(Cron { deadline, ..cron }.window_s(), Some(1));
        assert_eq!((Cron { history: 0, ..cron }.kept(), Cron { history: 999, ..cron }.kept()), (1, 100));
    }
}
