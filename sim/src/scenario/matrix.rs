//! Recorded latencies: round trips between machines, as a square of numbers. From the text of a file to one-way times between rows;
//! nothing here reads a file. Columns are separated by tabs, commas, semicolons or spaces; a line of names above and columns of
//! names on the left are skipped. What is empty, zero, negative or `nan` off the diagonal is missing: the way back stands in,
//! or the median of all.

use super::decimal::scaled;
use crate::queue::Nanos;

/// One-way times between machines.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Matrix {
    /// The file, as it was found.
    pub file: String,
    /// What its numbers mean.
    pub unit: Unit,
    size: usize,
    /// Row by row; 0 on the diagonal where the file says nothing of it.
    one_way: Vec<Nanos>,
}

/// A unit of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Microseconds.
    Microseconds,
}

impl Unit {
    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Seconds, Self::Milliseconds, Self::Microseconds].into_iter().find(|unit| unit.word() == name)
    }

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Microseconds => "us",
        }
    }

    /// Nanoseconds are so many digits away.
    const fn digits(self) -> u32 {
        match self {
            Self::Seconds => 9,
            Self::Milliseconds => 6,
            Self::Microseconds => 3,
        }
    }
}

impl Matrix {
    /// Machines.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// How long a packet takes between two hosts, which are dealt to the machines in turn; none for two on the same machine of which the
    /// file says nothing.
    #[must_use]
    pub fn one_way(&self, from: u32, to: u32) -> Option<Nanos> {
        let (from, to) = (from as usize % self.size, to as usize % self.size);
        self.one_way.get(from * self.size + to).copied().filter(|time| *time > 0)
    }

    pub(super) fn read(file: &str, text: &str, unit: Unit) -> Result<Self, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let rows: Vec<(usize, &str)> =
            (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#')).collect();
        let separator = ['\t', ',', ';'].into_iter().find(|c| rows.first().is_some_and(|(_, row)| row.contains(*c)));
        let mut cells: Vec<(usize, Vec<&str>)> =
            rows.into_iter().map(|(line, row)| (line, split(row, separator))).collect();
        let is_name = |cell: &&str| !cell.is_empty() && number(cell, unit).is_none() && !is_missing(cell);
        if cells.first().is_some_and(|(_, row)| row.iter().any(&is_name)) {
            cells.remove(0);
        }
        let names = cells.first().map_or(0, |(_, row)| row.iter().take_while(|cell| is_name(cell)).count());
        let size = cells.len();
        if size == 0 {
            return Err(format!("{file}:1: no numbers; a file of latencies has a square of round trips"));
        }
        let mut times: Vec<Option<Nanos>> = Vec::with_capacity(size * size);
        for (line, row) in &cells {
            if row.len() != size + names {
                let found = row.len().saturating_sub(names);
                return Err(format!("{file}:{line}: {found} numbers in a file of {size} lines; it must be a square"));
            }
            for (column, cell) in row.iter().enumerate().skip(names) {
                let time = number(cell, unit).filter(|time| *time > 0);
                if time.is_none() && number(cell, unit).is_none() && !is_missing(cell) {
                    return Err(format!(
                        "{file}:{line}: column {}: {cell:?} is no number; write a round trip",
                        column + 1
                    ));
                }
                times.push(time);
            }
        }
        let one_way = filled(&times, size);
        let one_way =
            one_way.ok_or_else(|| format!("{file}:1: every round trip is missing; one at least must be there"))?;
        Ok(Self { file: file.to_owned(), unit, size, one_way })
    }
}

fn split(row: &str, separator: Option<char>) -> Vec<&str> {
    let cells: Vec<&str> = match separator {
        None => row.split_whitespace().collect(),
        // A tab at the end of a line ends it.
        Some('\t') => row.trim_end().split('\t').map(str::trim).collect(),
        Some(separator) => row.split(separator).map(str::trim).collect(),
    };
    cells.into_iter().map(|cell| cell.trim_matches('"').trim()).collect()
}

fn number(cell: &str, unit: Unit) -> Option<Nanos> {
    scaled(cell, unit.digits())
}

fn is_missing(cell: &str) -> bool {
    cell.is_empty()
        || cell.eq_ignore_ascii_case("nan")
        || cell == "-"
        || cell.strip_prefix('-').is_some_and(|n| scaled(n, 0).is_some())
}

/// One-way times with what is missing made up; none if nothing is there.
fn filled(round_trips: &[Option<Nanos>], size: usize) -> Option<Vec<Nanos>> {
    let at = |a: usize, b: usize| round_trips.get(a * size + b).copied().flatten();
    let pairs = || (0..size).flat_map(|a| (0..size).map(move |b| (a, b)));
    let mut known: Vec<Nanos> = pairs().filter(|(a, b)| a != b).filter_map(|(a, b)| at(a, b)).collect();
    known.sort_unstable();
    let median = known.get(known.len() / 2).copied().or_else(|| at(0, 0))?;
    let time = |(a, b): (usize, usize)| {
        let missing = if a == b { 0 } else { at(b, a).unwrap_or(median) };
        at(a, b).unwrap_or(missing) / 2
    };
    Some(pairs().map(time).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(text: &str, unit: Unit) -> Result<Vec<Nanos>, String> {
        Matrix::read("m", text, unit).map(|matrix| matrix.one_way)
    }

    #[test]
    fn squares_are_read_with_and_without_names() {
        let expected = Ok(vec![0, 1_000_000, 2_000_000, 0]);
        assert_eq!(times("0\t2\t\n4\t0\t\n", Unit::Milliseconds), expected);
        assert_eq!(times("0 2000\n4000 0\n", Unit::Microseconds), expected);
        assert_eq!(times("0;2e-3\r\n0.004;0\r\n", Unit::Seconds), expected);
        assert_eq!(times("from,Here,There\nHere,,2\nThere,4,\n", Unit::Milliseconds), expected);
        assert_eq!(times("region,from,to_a,to_b\nX,X 1,0,2\nX,X 2,4,0\n", Unit::Milliseconds), expected);
    }

    #[test]
    fn the_way_back_stands_in_for_what_is_missing_or_the_median_of_all() {
        let text = "0 0 6\n2 0 0\n-1 nan 0\n";
        let ms = 1_000_000;
        let expected = vec![0, ms, 3 * ms, ms, 0, 3 * ms, 3 * ms, 3 * ms, 0];
        assert_eq!(times(text, Unit::Milliseconds), Ok(expected));
    }

    #[test]
    fn hosts_are_dealt_to_the_machines_in_turn() {
        let matrix = Matrix::read("m", "0.5 8\n6 0\n", Unit::Milliseconds).expect("a square");
        assert_eq!(matrix.one_way(0, 1), Some(4_000_000));
        assert_eq!(matrix.one_way(3, 2), Some(3_000_000));
        assert_eq!(matrix.one_way(0, 2), Some(250_000), "the file says how far a machine is from itself");
        assert_eq!(matrix.one_way(1, 3), None);
    }

    #[test]
    fn what_is_no_square_of_numbers_is_refused_with_its_line() {
        for (text, place) in [
            ("", "m:1: "),
            ("0 1\n", "m:1: "),
            ("0 1\n1\n", "m:2: "),
            ("0,1\n1,x\n", "m:2: column 2: "),
            ("0 0\n0 0\n", "m:1: "),
        ] {
            let refused = times(text, Unit::Seconds).expect_err(text);
            assert!(refused.starts_with(place), "{text:?}: {refused}");
        }
    }
}
