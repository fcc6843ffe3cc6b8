//! Recorded churn: which machine was away when. From the text of a file to outages; three kinds of file are told apart by what they
//! say, never by their names. Nothing here reads a file or draws anything.
//!
//! - A table of outages: columns that begin with `down_start` and `down_end`.
//! - A table of sessions: columns that begin with `up_start` and `up_end`; what lies between is an outage.
//! - JSON `{"metadata": {"gap_seconds": G}, "data": [n, ...]}`: so many machines are there in each tick; the last go first.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::decimal::scaled;

/// From when to when, in milliseconds of the file's own time.
type Span = (u64, u64);

/// Outages of machines.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outages {
    /// Of each machine, in the order in which the file names them: ascending, apart from each other.
    pub(super) machines: Vec<Vec<Span>>,
}

/// Reads a file of any of the three kinds.
pub(super) fn read(file: &str, text: &str) -> Result<Outages, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let machines = if text.trim_start().starts_with('{') { counted(file, text)? } else { table(file, text)? };
    if machines.iter().all(Vec::is_empty) {
        return Err(format!("{file}:1: nobody is ever away in this file; a recording of churn has outages"));
    }
    Ok(Outages { machines: machines.into_iter().map(joined).collect() })
}

/// Ascending and apart: outages of one machine may overlap in what people wrote down.
fn joined(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut joined: Vec<Span> = Vec::new();
    for (start, end) in spans.into_iter().filter(|(start, end)| start < end) {
        match joined.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => joined.push((start, end)),
        }
    }
    joined
}

#[derive(Deserialize)]
struct Counted {
    metadata: Gap,
    data: Vec<u32>,
}

#[derive(Deserialize)]
struct Gap {
    gap_seconds: u64,
}

fn counted(file: &str, text: &str) -> Result<Vec<Vec<Span>>, String> {
    let read: Counted = serde_json::from_str(text).map_err(|e| {
        let (line, kind) = (e.line(), "{\"metadata\": {\"gap_seconds\": G}, \"data\": [n, ...]}");
        format!("{file}:{line}: {e}; a count of machines is written as {kind}")
    })?;
    let most = read.data.iter().max().copied().unwrap_or(0);
    if read.metadata.gap_seconds == 0 || most > 100_000 {
        return Err(format!("{file}:1: gap_seconds must be at least 1, and no count above 100000"));
    }
    let gap = read.metadata.gap_seconds.saturating_mul(1_000);
    let away = |machine: u32| {
        let ticks = (0_u64..).zip(&read.data).filter(|(_, there)| **there <= machine);
        ticks.map(|(tick, _)| (tick.saturating_mul(gap), (tick + 1).saturating_mul(gap))).collect()
    };
    Ok((0..most).map(away).collect())
}

/// Where a table's columns are.
struct Columns {
    separator: char,
    machine: Vec<usize>,
    start: (usize, u64),
    end: (usize, u64),
    are_sessions: bool,
}

const HEADER: &str = "the first line must name the columns: `node` or `machine`, and `down_start_s` and `down_end_s`, or `up_start_s` \
                      and `up_end_s` (or _ms, _m, _h)";

fn columns(file: &str, line: usize, header: &str) -> Result<Columns, String> {
    let separator = [',', '\t', ';'].into_iter().find(|separator| header.contains(*separator));
    let separator = separator.ok_or_else(|| format!("{file}:{line}: {HEADER}"))?;
    let names: Vec<String> = cells(header, separator).iter().map(|name| name.to_ascii_lowercase()).collect();
    let place = |name: &str| names.iter().position(|known| known == name);
    let moment = |prefix: &str| {
        let at = names.iter().position(|name| name.starts_with(prefix))?;
        let unit = match names[at][prefix.len()..].trim_start_matches('_') {
            "ms" => 1,
            "" | "s" | "sec" | "seconds" => 1_000,
            "m" | "min" | "minutes" => 60_000,
            "h" | "hours" => 3_600_000,
            _ => return None,
        };
        Some((at, unit))
    };
    let machine = ["node", "machine", "host"].into_iter().find_map(place);
    let (down, up) = (moment("down_start").zip(moment("down_end")), moment("up_start").zip(moment("up_end")));
    let (Some(machine), Some((start, end))) = (machine, down.or(up)) else {
        return Err(format!("{file}:{line}: {HEADER}"));
    };
    // Several systems in one file number their nodes alike.
    let machine = place("system").into_iter().chain([machine]).collect();
    Ok(Columns { separator, machine, start, end, are_sessions: down.is_none() })
}

/// The cells of a row; a separator between quotes separates nothing.
fn cells(row: &str, separator: char) -> Vec<&str> {
    let mut is_quoted = false;
    let parts = row.split(move |c: char| {
        is_quoted ^= c == '"';
        c == separator && !is_quoted
    });
    parts.map(|cell| cell.trim().trim_matches('"').trim()).collect()
}

fn table(file: &str, text: &str) -> Result<Vec<Vec<Span>>, String> {
    let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let (line, header) = lines.next().ok_or_else(|| format!("{file}:1: the file is empty; {HEADER}"))?;
    let columns = columns(file, line, header)?;
    let mut order: BTreeMap<Vec<&str>, usize> = BTreeMap::new();
    let mut machines: Vec<Vec<Span>> = Vec::new();
    for (line, row) in lines {
        let cells = cells(row, columns.separator);
        let moment = |(at, unit): (usize, u64)| -> Result<u64, String> {
            let text = cells.get(at).copied().unwrap_or_default();
            let number = scaled(text, 3).and_then(|thousandths| thousandths.checked_mul(unit)).map(|n| n / 1_000);
            number.ok_or_else(|| format!("{file}:{line}: column {}: {text:?} is no moment; write a number", at + 1))
        };
        let span = (moment(columns.start)?, moment(columns.end)?);
        if span.0 > span.1 {
            return Err(format!("{file}:{line}: ends before it begins; swap the two moments"));
        }
        let key = columns.machine.iter().map(|at| cells.get(*at).copied().unwrap_or_default()).collect();
        let index = *order.entry(key).or_insert(machines.len());
        if index == machines.len() {
            machines.push(Vec::new());
        }
        machines[index].push(span);
    }
    if columns.are_sessions {
        let end = machines.iter().flatten().map(|(_, end)| *end).max().unwrap_or(0);
        return Ok(machines.into_iter().map(|sessions| between(joined(sessions), end)).collect());
    }
    Ok(machines)
}

/// What lies before, between and after sessions.
fn between(sessions: Vec<Span>, end: u64) -> Vec<Span> {
    let (mut gaps, mut from) = (Vec::new(), 0);
    for (up, down) in sessions {
        gaps.push((from, up));
        from = down;
    }
    gaps.push((from, end));
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(text: &str) -> Result<Vec<Vec<Span>>, String> {
        read("t", text).map(|outages| outages.machines)
    }

    #[test]
    fn columns_are_found_by_their_names_wherever_they_stand() {
        let text = "cause,node,down_end_s,system,down_start_s\r\nfan,1,20,a,10\r\n\"fan, disk\",1,90,a,80\r\n";
        assert_eq!(spans(text), Ok(vec![vec![(10_000, 20_000), (80_000, 90_000)]]));
        let text = "# recorded\nnode;down_end_h;down_start_h\nx;2;1\ny;0.5;0.25\nx;1.5;0.5\n";
        let hour = 3_600_000;
        assert_eq!(spans(text), Ok(vec![vec![(hour / 2, 2 * hour)], vec![(hour / 4, hour / 2)]]));
        let text = "system,node,down_start_s,down_end_s\n1,0,1,2\n2,0,3,4\n";
        assert_eq!(spans(text), Ok(vec![vec![(1_000, 2_000)], vec![(3_000, 4_000)]]));
    }

    #[test]
    fn between_sessions_a_machine_is_away() {
        let text = "machine,up_start_s,up_end_s\n7,0,10\n9,5,8\n9,8,9\n7,12,20\n";
        let expected = vec![vec![(10_000, 12_000)], vec![(0, 5_000), (9_000, 20_000)]];
        assert_eq!(spans(text), Ok(expected));
    }

    #[test]
    fn counts_take_the_last_machines_first() {
        let text = r#"{"metadata": {"gap_seconds": 10}, "data": [2, 1, 0, 2]}"#;
        assert_eq!(spans(text), Ok(vec![vec![(20_000, 30_000)], vec![(10_000, 30_000)]]));
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_line() {
        for (text, place) in [
            ("", "t:1: "),
            ("node,from,to\n1,2,3\n", "t:1: "),
            ("node,down_start_s,down_end_s\n1,2,3\n\n1,later,3\n", "t:4: column 2: "),
            ("node,down_start_s,down_end_s\n1,3,2\n", "t:2: "),
            ("node,down_start_s,down_end_s\n1,3\n", "t:2: column 3: "),
            ("node,down_start_s,down_end_s\n", "t:1: "),
            ("{\"metadata\": {},\n \"data\": [1]}", "t:1: "),
            ("{\"metadata\": {\"gap_seconds\": 0}, \"data\": [1, 0]}", "t:1: "),
        ] {
            let refused = spans(text).expect_err(text);
            assert!(refused.starts_with(place), "{text:?}: {refused}");
        }
    }
}
