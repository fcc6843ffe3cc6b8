//! YAML with places: every value knows its file, line and key, and every refusal names them and the remedy.

use std::collections::BTreeMap;

use dunlin_gossip::rng::Ratio;
use saphyr::{LoadableYamlNode as _, MarkedYaml, Scalar, YamlData};
use serde_json::Value as Json;

use super::Count;
use crate::queue::{MS, Nanos, SECOND};

/// Finds a file that a scenario names: under which path, and what it says.
pub(super) type Reader<'a> = &'a dyn Fn(&str) -> Result<(String, String), String>;

/// Deeper than a specification of a service ever is.
const MOST_DEEP: usize = 32;

/// One value and where it stands.
pub(super) struct Value<'a> {
    file: &'a str,
    reader: Reader<'a>,
    key: String,
    node: MarkedYaml<'a>,
}

/// A mapping whose keys must all be taken.
pub(super) struct Map<'a> {
    file: &'a str,
    key: String,
    line: usize,
    entries: BTreeMap<String, Value<'a>>,
}

/// The file's only document, as a mapping.
pub(super) fn document<'a>(file: &'a str, text: &'a str, reader: Reader<'a>) -> Result<Map<'a>, String> {
    let mut documents = MarkedYaml::load_from_str(text)
        .map_err(|e| format!("{file}:{}: this is not YAML: {}", e.marker().line(), e.info()))?;
    let node = documents.pop().filter(|_| documents.is_empty());
    let node =
        node.ok_or_else(|| format!("{file}:1: a scenario is one YAML document with keys like name, hosts, timeline"))?;
    Value { file, reader, key: String::new(), node }.map()
}

/// For texts that stand alone.
pub(super) fn no_files(name: &str) -> Result<(String, String), String> {
    Err(format!("{name}: no file can be named here; name it in a scenario file"))
}

/// A text that is one value.
pub(super) fn value<'a>(place: &'a str, text: &'a str) -> Result<Value<'a>, String> {
    let mut documents = MarkedYaml::load_from_str(text).map_err(|e| format!("{place}: {text}: {}", e.info()))?;
    let node =
        documents.pop().filter(|_| documents.is_empty()).ok_or_else(|| format!("{place}: {text:?} says nothing"))?;
    Ok(Value { file: place, reader: &no_files, key: text.to_owned(), node })
}

impl<'a> Value<'a> {
    fn line(&self) -> usize {
        self.node.span.start.line()
    }

    /// A refusal of this value.
    pub(super) fn refuse(&self, why: &str) -> String {
        format!("{}:{}: {}: {why}", self.file, self.line(), self.key)
    }

    pub(super) fn map(self) -> Result<Map<'a>, String> {
        let line = self.line();
        let refusal = self.refuse("must be a mapping of keys to values");
        let Self { file, reader, key, node } = self;
        let YamlData::Mapping(mapping) = node.data else { return Err(refusal) };
        let mut entries = BTreeMap::new();
        for (name, node) in mapping {
            let Some(text) = scalar_text(&name) else { return Err(refusal) };
            let path = if key.is_empty() { text.clone() } else { format!("{key}.{text}") };
            entries.insert(text, Value { file, reader, key: path, node });
        }
        Ok(Map { file, key, line, entries })
    }

    /// The values of a list.
    pub(super) fn items(&self) -> Result<Vec<Self>, String> {
        Self { file: self.file, reader: self.reader, key: self.key.clone(), node: self.node.clone() }.list()
    }

    pub(super) fn list(self) -> Result<Vec<Self>, String> {
        let refusal = self.refuse("must be a list");
        let Self { file, reader, key, node } = self;
        let YamlData::Sequence(items) = node.data else { return Err(refusal) };
        let place = |(index, node)| Self { file, reader, key: format!("{key}[{index}]"), node };
        Ok(items.into_iter().enumerate().map(place).collect())
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self.node.data, YamlData::Sequence(_))
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self.node.data, YamlData::Mapping(_))
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.node.data, YamlData::Value(Scalar::Null))
    }

    pub(super) fn text(&self) -> Result<String, String> {
        scalar_text(&self.node).ok_or_else(|| self.refuse("must be a single value"))
    }

    /// The file that this value names: under which path it was found, and what it says.
    pub(super) fn file(&self) -> Result<(String, String), String> {
        (self.reader)(&self.text()?).map_err(|why| self.refuse(&why))
    }

    pub(super) fn number(&self) -> Result<u64, String> {
        self.text()?.parse().map_err(|_| self.refuse("must be a whole number"))
    }

    /// `200us`, `5ms`, `3s`, `2m`.
    pub(super) fn time(&self) -> Result<Nanos, String> {
        let text = self.text()?;
        let parsed = parse_time(&text);
        parsed.ok_or_else(|| self.refuse("must be a time such as 200us, 5ms, 3s or 2m"))
    }

    /// A time, and whether it lies ahead: `2s`, `-2s`.
    pub(super) fn signed_time(&self) -> Result<(bool, Nanos), String> {
        let text = self.text()?;
        let (ahead, amount) = text.strip_prefix('-').map_or((true, text.as_str()), |rest| (false, rest));
        parse_time(amount)
            .map(|time| (ahead, time))
            .ok_or_else(|| self.refuse("must be a time such as 5ms or 3s, or -3s for backwards"))
    }

    /// `true` or `false`.
    pub(super) fn yes_or_no(&self) -> Result<bool, String> {
        match self.node.data {
            YamlData::Value(Scalar::Boolean(yes)) => Ok(yes),
            _ => Err(self.refuse("must be true or false")),
        }
    }

    /// `100KiB/s`, `1MiB/s`, in bytes a second.
    pub(super) fn rate(&self) -> Result<u64, String> {
        let text = self.text()?;
        let parsed = [("KiB/s", 10), ("MiB/s", 20), ("GiB/s", 30)].iter().find_map(|(unit, shift)| {
            let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
            number.checked_mul(1 << shift)
        });
        parsed.ok_or_else(|| self.refuse("must be a rate such as 100KiB/s or 1MiB/s; 0KiB/s for no bound"))
    }

    /// `5%` or `0.5%`.
    pub(super) fn ratio(&self) -> Result<Ratio, String> {
        let refusal = || self.refuse("must be a share such as 5% or 0.5%, at most 100%");
        let text = self.text()?;
        let digits = text.strip_suffix('%').ok_or_else(refusal)?;
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        let scale = u32::try_from(part.len()).ok().and_then(|len| 10_u32.checked_pow(len)).ok_or_else(refusal)?;
        let whole: u32 = whole.parse().map_err(|_| refusal())?;
        let part: u32 = if part.is_empty() { 0 } else { part.parse().map_err(|_| refusal())? };
        let num = whole.checked_mul(scale).and_then(|n| n.checked_add(part)).ok_or_else(refusal)?;
        let den = scale.checked_mul(100).filter(|den| num <= *den).ok_or_else(refusal)?;
        if num == 0 {
            return Ok(Ratio::ZERO);
        }
        Ok(Ratio::new(num, den))
    }

    /// `3`, `2/host` or `10%`.
    pub(super) fn count(&self) -> Result<Count, String> {
        let text = self.text()?;
        let parsed = if let Some(n) = text.strip_suffix("/host") {
            n.parse().map(Count::PerHost)
        } else if let Some(n) = text.strip_suffix('%') {
            n.parse().map(Count::Percent)
        } else {
            text.parse().map(Count::Fixed)
        };
        parsed.map_err(|_| self.refuse("must be a number such as 3, 2/host or 10% (of the hosts)"))
    }

    /// As JSON, for what a type reads by itself. Texts in quotes stay texts.
    pub(super) fn json(&self) -> Result<Json, String> {
        plain(&self.node, MOST_DEEP).ok_or_else(|| self.refuse("must be made of lists, mappings and single values"))
    }

    /// `64MiB`, `2GiB`.
    pub(super) fn bytes(&self) -> Result<u64, String> {
        let text = self.text()?;
        let parsed = [("MiB", 20), ("GiB", 30)].iter().find_map(|(unit, shift)| {
            let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
            number.checked_mul(1 << shift)
        });
        parsed.ok_or_else(|| self.refuse("must be an amount such as 64MiB or 2GiB"))
    }
}

fn parse_time(text: &str) -> Option<Nanos> {
    let units = [("us", 1_000), ("ms", MS), ("s", SECOND), ("m", 60 * SECOND)];
    units.iter().find_map(|(unit, nanos)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*nanos)
    })
}

fn scalar_text(node: &MarkedYaml<'_>) -> Option<String> {
    match &node.data {
        YamlData::Value(Scalar::String(text)) => Some(text.to_string()),
        YamlData::Value(Scalar::Integer(number)) => Some(number.to_string()),
        YamlData::Value(Scalar::Boolean(yes)) => Some(yes.to_string()),
        _ => None,
    }
}

/// The values of a node of the file; none if a key is no single value, or something is nested without end.
fn plain(node: &MarkedYaml<'_>, depth: usize) -> Option<Json> {
    let depth = depth.checked_sub(1)?;
    Some(match &node.data {
        YamlData::Value(Scalar::Null) => Json::Null,
        YamlData::Value(Scalar::Boolean(yes)) => Json::Bool(*yes),
        YamlData::Value(Scalar::Integer(number)) => Json::from(*number),
        YamlData::Value(Scalar::String(text)) => Json::from(text.to_string()),
        YamlData::Sequence(items) => Json::Array(items.iter().map(|item| plain(item, depth)).collect::<Option<_>>()?),
        YamlData::Mapping(mapping) => {
            let entry = |(key, value)| Some((scalar_text(key)?, plain(value, depth)?));
            Json::Object(mapping.iter().map(entry).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

impl<'a> Map<'a> {
    /// Every key and its value, in the order of keys.
    pub(super) fn all(self) -> impl Iterator<Item = (String, Value<'a>)> {
        self.entries.into_iter()
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Value<'a>> {
        self.entries.remove(name)
    }

    pub(super) fn need(&mut self, name: &str) -> Result<Value<'a>, String> {
        let (file, line) = (self.file, self.line);
        let path = if self.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.key) };
        self.take(name).ok_or_else(|| format!("{file}:{line}: {path}: is missing; a scenario needs it"))
    }

    /// Applies `read` to a key that may be absent.
    pub(super) fn maybe<T>(
        &mut self,
        name: &str,
        default: T,
        read: impl FnOnce(Value<'a>) -> Result<T, String>,
    ) -> Result<T, String> {
        self.take(name).map_or(Ok(default), read)
    }

    /// The only key that is left, for mappings that say one thing.
    pub(super) fn single(mut self, known: &str) -> Result<(String, Value<'a>), String> {
        let place = format!("{}:{}: {}", self.file, self.line, self.key);
        match (self.entries.pop_first(), self.entries.is_empty()) {
            (Some(only), true) => Ok(only),
            _ => Err(format!("{place}: must say exactly one thing; one of {known}")),
        }
    }

    /// Refuses what nobody took.
    pub(super) fn end(self, known: &str) -> Result<(), String> {
        self.entries
            .values()
            .next()
            .map_or(Ok(()), |value| Err(value.refuse(&format!("is not known; keys here are {known}"))))
    }
}
