//! Tables that fit the terminal: columns as wide as their content, the last one cut when the line would wrap.

use std::io::IsTerminal as _;

use crate::failure::Failure;

/// A table.
pub(crate) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Prints it; an empty one says so in the given words, on standard error.
    ///
    /// # Errors
    /// If standard output is closed.
    pub(crate) fn print(&self, when_empty: &str) -> Result<(), Failure> {
        if self.rows.is_empty() {
            eprintln!("{when_empty}");
            return Ok(());
        }
        for line in self.lines(terminal_width()) {
            super::print_line(&line)?;
        }
        Ok(())
    }

    fn lines(&self, width: Option<usize>) -> Vec<String> {
        let head: Vec<String> = self.head.iter().map(|&h| h.to_owned()).collect();
        let all: Vec<&Vec<String>> = std::iter::once(&head).chain(&self.rows).collect();
        let columns = self.head.len();
        let wide = |c: usize| all.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(wide).collect();
        let format = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:<w$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            let line = line.trim_end();
            width.map_or_else(|| line.to_owned(), |max| cut(line, max))
        };
        all.into_iter().map(format).collect()
    }
}

fn cut(line: &str, max: usize) -> String {
    if line.chars().count() <= max {
        return line.to_owned();
    }
    let mut short: String = line.chars().take(max.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// The terminal's width; none when standard output is no terminal, where nothing is ever cut.
fn terminal_width() -> Option<usize> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    let asked = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
    asked.or_else(|| {
        let stty = std::process::Command::new("stty").args(["size"]).stdin(std::process::Stdio::inherit()).output();
        let text = String::from_utf8(stty.ok()?.stdout).ok()?;
        text.split_whitespace().nth(1)?.parse().ok().filter(|w| *w > 20)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_long_lines_are_cut() {
        let mut table = Table::new(&["A", "LONGER"]);
        table.row(vec!["wide cell".to_owned(), "x".to_owned()]);
        assert_eq!(table.lines(None), ["A          LONGER", "wide cell  x"]);
        assert_eq!(table.lines(Some(10)), ["A         …", "wide cell…"].map(|s| s.replace("         …", "        …")));
    }
}
