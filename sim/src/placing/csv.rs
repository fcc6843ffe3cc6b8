//! Lists of nodes and tasks as comma-separated values: columns by name, in any order, extra ones left alone. Whatever is wrong
//! is told with file, line and column.

use std::collections::BTreeMap;

/// Rows that a list may have.
const MAX_ROWS: usize = 2_000_000;

/// A field of a row and where it begins.
#[derive(Clone, Debug)]
struct Field {
    text: String,
    column: usize,
}

/// A list that was read.
#[derive(Debug)]
pub(super) struct Table<'t> {
    file: &'t str,
    columns: BTreeMap<String, usize>,
    rows: Vec<(usize, Vec<Field>)>,
}

/// A row of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'t> {
    table: &'t Table<'t>,
    line: usize,
    fields: &'t [Field],
}

impl<'t> Table<'t> {
    /// Reads a list that must have these columns.
    pub(super) fn read(file: &'t str, text: &str, required: &[&str]) -> Result<Self, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line)).filter(|(_, l)| !l.trim().is_empty());
        let (line, names) =
            lines.next().ok_or_else(|| format!("{file}:1:1: the file is empty; its first line names the columns"))?;
        let mut columns = BTreeMap::new();
        for (at, name) in split(file, line, names)?.into_iter().enumerate() {
            if columns.insert(name.text.trim().to_owned(), at).is_some() {
                return Err(format!("{file}:{line}:{}: a second column {:?}; remove one", name.column, name.text));
            }
        }
        if let Some(missing) = required.iter().find(|name| !columns.contains_key(**name)) {
            let have = columns.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(format!("{file}:{line}:1: there is no column {missing}; the columns are {have}"));
        }
        let mut rows = Vec::new();
        for (line, text) in lines {
            let fields = split(file, line, text)?;
            if fields.len() != columns.len() {
                let column = fields.get(columns.len()).map_or_else(|| text.chars().count() + 1, |extra| extra.column);
                let (has, wants) = (fields.len(), columns.len());
                return Err(format!("{file}:{line}:{column}: {has} fields where the first line names {wants} columns"));
            }
            if rows.len() == MAX_ROWS {
                return Err(format!("{file}:{line}:1: more than {MAX_ROWS} rows; cut the list"));
            }
            rows.push((line, fields));
        }
        if rows.is_empty() {
            return Err(format!("{file}:{line}:1: nothing follows the names of the columns"));
        }
        Ok(Self { file, columns, rows })
    }

    pub(super) fn rows(&'t self) -> impl Iterator<Item = Row<'t>> {
        self.rows.iter().map(move |(line, fields)| Row { table: self, line: *line, fields })
    }
}

impl<'t> Row<'t> {
    fn field(&self, name: &str) -> Option<&'t Field> {
        self.table.columns.get(name).and_then(|at| self.fields.get(*at)).filter(|field| !field.text.trim().is_empty())
    }

    /// A field's text, cut of spaces; none where it is empty or there is no such column.
    pub(super) fn text(&self, name: &str) -> Option<&'t str> {
        self.field(name).map(|field| field.text.trim())
    }

    /// A whole number of at most so much; none as with [`Row::text`].
    pub(super) fn number(&self, name: &str, most: u64) -> Result<Option<u64>, String> {
        let Some(field) = self.field(name) else { return Ok(None) };
        let text = field.text.trim();
        let whole = text.split_once('.').filter(|(_, part)| part.bytes().all(|b| b == b'0')).map_or(text, |(w, _)| w);
        match whole.parse::<u64>() {
            Ok(number) if number <= most => Ok(Some(number)),
            Ok(_) => Err(self.wrong(name, &format!("{text} is more than {most}"))),
            Err(_) => Err(self.wrong(name, &format!("{text:?} is no whole number"))),
        }
    }

    /// What is wrong with a field, and where it stands.
    pub(super) fn wrong(&self, name: &str, what: &str) -> String {
        let column = self.table.columns.get(name).and_then(|at| self.fields.get(*at)).map_or(1, |f| f.column);
        format!("{}:{}:{column}: {name}: {what}", self.table.file, self.line)
    }
}

/// The fields of a line; commas and doubled quotes may stand in quotes.
fn split(file: &str, line: usize, text: &str) -> Result<Vec<Field>, String> {
    let mut fields = Vec::new();
    let mut field = Field { text: String::new(), column: 1 };
    let (mut quoted, mut chars) = (None, text.chars().enumerate().peekable());
    while let Some((at, c)) = chars.next() {
        match (c, quoted) {
            ('"', Some(_)) if chars.peek().is_some_and(|(_, next)| *next == '"') => {
                field.text.push('"');
                chars.next();
            }
            ('"', Some(_)) => quoted = None,
            ('"', None) if field.text.trim().is_empty() => {
                field.text.clear();
                quoted = Some(at + 1);
            }
            (',', None) => {
                let next = Field { text: String::new(), column: at + 2 };
                fields.push(std::mem::replace(&mut field, next));
            }
            (c, _) => field.text.push(c),
        }
    }
    if let Some(column) = quoted {
        return Err(format!("{file}:{line}:{column}: a quote that nothing closes on this line"));
    }
    fields.push(field);
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_name_and_faults_by_place() {
        let table = Table::read("f", "\u{feff}b,\"a\"\r\n1,\"x,\"\"y\"\r\n\r\n 2.0 ,\r\n", &["a"]).expect("it reads");
        let rows: Vec<Row<'_>> = table.rows().collect();
        assert_eq!(rows[0].text("a"), Some("x,\"y"));
        assert_eq!((rows[1].text("a"), rows[1].number("b", 9)), (None, Ok(Some(2))));
        assert_eq!(rows[1].text("none"), None);
        assert_eq!(rows[1].number("b", 1), Err("f:4:1: b: 2.0 is more than 1".to_owned()));
        assert_eq!(rows[0].number("a", 1), Err("f:2:3: a: \"x,\\\"y\" is no whole number".to_owned()));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let fault = |text: &str| Table::read("f", text, &["a"]).map(drop).expect_err("it is wrong");
        assert!(fault("").starts_with("f:1:1: the file is empty"));
        assert!(fault("b\n1\n").starts_with("f:1:1: there is no column a"));
        assert!(fault("a,a\n1,1\n").starts_with("f:1:3: a second column"));
        assert!(fault("a\n").starts_with("f:1:1: nothing follows"));
        assert!(fault("a,b\n1,2,3\n").starts_with("f:2:5: 3 fields"));
        assert!(fault("a,b\n1\n").starts_with("f:2:2: 1 fields"));
        assert!(fault("a\n\"1\n").starts_with("f:2:1: a quote"));
    }
}
