//! Typed reading of the tree: each reader says what it expected and what it found, at its place.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::problem::{Log, Mark};
use crate::tree::{Kind, Node};

/// A value of the document and its path.
#[derive(Clone, Debug)]
pub(crate) struct Value<'t> {
    pub(crate) path: String,
    pub(crate) node: &'t Node,
}

/// Where a value was, once it is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) mark: Mark,
    pub(crate) path: String,
}

/// A key of a mapping and its value.
#[derive(Clone, Debug)]
pub(crate) struct Member<'t> {
    pub(crate) name: &'t str,
    /// Where the key is.
    pub(crate) mark: Mark,
    pub(crate) value: Value<'t>,
}

/// What a plain scalar looks like to YAML's core schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Look {
    Null,
    Bool(bool),
    Number,
    Text,
}

/// How a scalar reads when it is `plain`, that is neither quoted nor a block.
pub(crate) fn look(text: &str, plain: bool) -> Look {
    if !plain {
        return Look::Text;
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Look::Null,
        "true" | "True" | "TRUE" => Look::Bool(true),
        "false" | "False" | "FALSE" => Look::Bool(false),
        _ if is_number(text) => Look::Number,
        _ => Look::Text,
    }
}

fn is_number(text: &str) -> bool {
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if let Some(hex) = text.strip_prefix("0x") {
        return !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit());
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return digits(octal);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).map_or((unsigned, None), |(m, e)| (m, Some(e)));
    let mantissa_ok = match mantissa.split_once('.') {
        None => digits(mantissa),
        Some((whole, "")) => digits(whole),
        Some((whole, fraction)) => (whole.is_empty() || digits(whole)) && digits(fraction),
    };
    mantissa_ok && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
}

/// At most this much of a value is quoted in a message.
const QUOTE: usize = 60;

/// A text in quotes for a message, cut where it is long, without control characters.
pub(crate) fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(QUOTE).flat_map(char::escape_debug).collect();
    if text.chars().nth(QUOTE).is_some() {
        short.push('…');
    }
    format!("\"{short}\"")
}

impl<'t> Value<'t> {
    pub(crate) const fn new(path: String, node: &'t Node) -> Self {
        Self { path, node }
    }

    pub(crate) const fn mark(&self) -> Mark {
        self.node.mark
    }

    /// Where it is.
    pub(crate) fn place(&self) -> Place {
        Place { mark: self.node.mark, path: self.path.clone() }
    }

    /// Records an error at this value.
    pub(crate) fn error(&self, log: &mut Log<'_>, what: impl Into<String>, remedy: impl Into<String>) {
        log.error(self.node.mark, &self.path, what, remedy);
    }

    /// True for a value that is not there: `key:` or `key: null`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.node.kind, Kind::Scalar(s) if look(&s.text, s.plain) == Look::Null)
    }

    /// What is here, in words.
    pub(crate) fn found(&self) -> String {
        match &self.node.kind {
            Kind::List(_) => "a list".into(),
            Kind::Map(_) => "a mapping".into(),
            Kind::Scalar(s) => match look(&s.text, s.plain) {
                Look::Null => "nothing".into(),
                Look::Bool(b) => format!("the boolean {b}"),
                Look::Number => format!("the number {}", s.text),
                Look::Text if s.text.is_empty() => "an empty text".into(),
                Look::Text => format!("the text {}", quoted(&s.text)),
            },
        }
    }

    /// Records that something else was expected here.
    pub(crate) fn wrong(&self, log: &mut Log<'_>, expected: &str, remedy: impl Into<String>) {
        self.error(log, format!("expected {expected}, found {}", self.found()), remedy);
    }

    /// The text of any scalar that is not null, whatever it looks like.
    pub(crate) fn scalar(&self, log: &mut Log<'_>, expected: &str, remedy: &str) -> Option<&'t str> {
        match &self.node.kind {
            Kind::Scalar(s) if !self.is_null() => self.without_nul(log, &s.text),
            Kind::Scalar(_) | Kind::List(_) | Kind::Map(_) => {
                self.wrong(log, expected, remedy);
                None
            }
        }
    }

    /// A text; a number or boolean must be quoted to be one, as Compose has it.
    pub(crate) fn text(&self, log: &mut Log<'_>, remedy: &str) -> Option<&'t str> {
        let Kind::Scalar(s) = &self.node.kind else {
            self.wrong(log, "a text", remedy);
            return None;
        };
        match look(&s.text, s.plain) {
            Look::Text => self.without_nul(log, &s.text),
            Look::Number | Look::Bool(_) => {
                self.wrong(log, "a text", format!("put it in quotes: \"{}\"", s.text));
                None
            }
            Look::Null => {
                self.wrong(log, "a text", remedy);
                None
            }
        }
    }

    /// No argument, variable or path of an operating system can hold a NUL.
    fn without_nul(&self, log: &mut Log<'_>, text: &'t str) -> Option<&'t str> {
        if text.contains('\0') {
            self.error(log, "the text holds a NUL character", "remove it");
            return None;
        }
        Some(text)
    }

    /// A whole number from `least` to `most`, quoted or not.
    pub(crate) fn number(&self, log: &mut Log<'_>, least: u32, most: u32) -> Option<u32> {
        let remedy = format!("write a number from {least} to {most}");
        let expected = "a whole number";
        let text = self.scalar(log, expected, &remedy)?;
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits {
            self.wrong(log, expected, remedy);
            return None;
        }
        match text.parse::<u32>() {
            Ok(n) if (least..=most).contains(&n) => Some(n),
            Ok(_) | Err(_) => {
                self.error(log, format!("{text} is not between {least} and {most}"), remedy);
                None
            }
        }
    }

    /// A boolean; after interpolation it may be a quoted one.
    pub(crate) fn boolean(&self, log: &mut Log<'_>) -> Option<bool> {
        let remedy = "write true or false";
        if let Kind::Scalar(s) = &self.node.kind
            && let Look::Bool(b) = look(&s.text, true)
        {
            return Some(b);
        }
        self.wrong(log, "a boolean", remedy);
        None
    }

    /// The items of a list.
    pub(crate) fn list(&self, log: &mut Log<'_>, remedy: &str) -> Option<Vec<Self>> {
        let Kind::List(items) = &self.node.kind else {
            self.wrong(log, "a list", remedy);
            return None;
        };
        Some(self.items(items))
    }

    /// The items as values.
    pub(crate) fn items(&self, items: &'t [Node]) -> Vec<Self> {
        items.iter().enumerate().map(|(i, node)| Self::new(format!("{}[{i}]", self.path), node)).collect()
    }

    /// The keys of a mapping, not checked against any table.
    pub(crate) fn map(&self, log: &mut Log<'_>, remedy: &str) -> Option<Vec<Member<'t>>> {
        let Kind::Map(entries) = &self.node.kind else {
            self.wrong(log, "a mapping", remedy);
            return None;
        };
        let path = |key: &str| {
            if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) }
        };
        Some(
            entries
                .iter()
                .map(|e| Member { name: &e.key, mark: e.mark, value: Value::new(path(&e.key), &e.value) })
                .collect(),
        )
    }
}
