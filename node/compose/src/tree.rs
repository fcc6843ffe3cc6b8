//! YAML as a tree that knows its places, bounded in size, with anchors and merges resolved.
//!
//! Built from the parser's events with an explicit stack, so depth costs no call stack, and with a budget that aliases are
//! charged to *before* they are copied: a file whose aliases would unfold into gigabytes is refused, not unfolded.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};

use crate::problem::{Log, Mark};

/// Largest text of one file. Real Compose files have at most some 60 KiB.
pub(crate) const MAX_TEXT: usize = 1 << 20;
/// Deepest nesting. Compose itself needs 8.
pub(crate) const MAX_DEPTH: usize = 64;
/// Nodes of the tree, copies by aliases included.
pub(crate) const MAX_NODES: usize = 100_000;
/// Bytes of one key: keys are repeated in the paths of all that is below them.
pub(crate) const MAX_KEY: usize = 256;
/// Bytes of all scalars, copies by aliases included.
pub(crate) const MAX_BYTES: usize = 8 << 20;

/// A value and where it begins.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A scalar as written; what it means follows from who reads it.
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Neither quoted nor a block: only such a scalar can be null, a number or a boolean.
    pub(crate) plain: bool,
}

/// One key of a mapping.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) mark: Mark,
    pub(crate) value: Node,
}

/// What a copy of a subtree costs.
#[derive(Clone, Copy, Default)]
struct Cost {
    nodes: usize,
    bytes: usize,
    depth: usize,
}

fn cost(node: &Node) -> Cost {
    let add = |sum: Cost, part: Cost| Cost {
        nodes: sum.nodes + part.nodes,
        bytes: sum.bytes + part.bytes,
        depth: sum.depth.max(part.depth),
    };
    let inner = match &node.kind {
        Kind::Scalar(scalar) => Cost { bytes: scalar.text.len(), ..Cost::default() },
        Kind::List(items) => items.iter().map(cost).fold(Cost::default(), add),
        Kind::Map(entries) => entries
            .iter()
            .map(|e| {
                let value = cost(&e.value);
                Cost { bytes: value.bytes + e.key.len(), ..value }
            })
            .fold(Cost::default(), add),
    };
    Cost { nodes: inner.nodes + 1, bytes: inner.bytes, depth: inner.depth + 1 }
}

/// A collection that is not closed yet.
enum Open {
    List { mark: Mark, anchor: usize, items: Vec<Node> },
    Map(OpenMap),
}

/// A mapping that is not closed yet.
struct OpenMap {
    mark: Mark,
    anchor: usize,
    entries: Vec<Entry>,
    /// Where each key was first given.
    seen: BTreeMap<String, Mark>,
    merges: Vec<(Mark, Node)>,
    key: Option<Key>,
}

/// A key whose value has not come yet.
struct Key {
    text: String,
    mark: Mark,
    plain: bool,
}

/// Reading cannot go on; what was wrong is in the log.
struct Stop;

struct Builder<'l, 'f> {
    log: &'l mut Log<'f>,
    stack: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    bytes: usize,
    root: Option<Node>,
    documents: usize,
}

/// The tree of a text, or none if it cannot be read at all; the log says why.
pub(crate) fn read(text: &str, log: &mut Log<'_>) -> Option<Node> {
    if text.len() > MAX_TEXT {
        let what = format!("the file has {} bytes, more than the {MAX_TEXT} that are read", text.len());
        log.error(Mark { line: 1, column: 1 }, "", what, "split it into several stacks");
        return None;
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    log.ends_at(last_line(text));
    let mut builder =
        Builder { log, stack: Vec::new(), anchors: BTreeMap::new(), nodes: 0, bytes: 0, root: None, documents: 0 };
    for event in Parser::new_from_str(text) {
        let done = match event {
            Ok((event, span)) => builder.event(event, span),
            Err(error) => {
                let path = builder.path();
                let what = format!("this is not valid YAML: {}", error.info());
                let remedy = "look at indentation, quotes and colons here and on the line above";
                builder.log.error(place(error.marker()), &path, what, remedy);
                Err(Stop)
            }
        };
        if done.is_err() {
            return None;
        }
    }
    builder.root
}

/// The number of a text's last line; a lone carriage return ends a line, too (YAML 1.2, section 5.4).
fn last_line(text: &str) -> u32 {
    let pairs = text.matches("\r\n").count();
    let breaks = text.matches(['\n', '\r']).count() - pairs;
    u32::try_from(breaks).unwrap_or(u32::MAX).saturating_add(1)
}

fn place(marker: &Marker) -> Mark {
    let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Mark { line: small(marker.line().max(1)), column: small(marker.col().saturating_add(1)) }
}

impl Builder<'_, '_> {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        let mark = place(&span.start);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return self.stop(mark, "a second YAML document begins here", "keep one document a file");
                }
                Ok(())
            }
            Event::Alias(id) => self.alias(id, mark),
            Event::Scalar(text, style, anchor, tag) => self.scalar(&text, style, anchor, tag.as_ref(), mark, &span),
            Event::SequenceStart(anchor, tag) => {
                self.tag(tag.as_ref(), mark)?;
                self.open(Open::List { mark, anchor, items: Vec::new() }, mark)
            }
            Event::MappingStart(anchor, tag) => {
                self.tag(tag.as_ref(), mark)?;
                let (entries, seen, merges) = (Vec::new(), BTreeMap::new(), Vec::new());
                self.open(Open::Map(OpenMap { mark, anchor, entries, seen, merges, key: None }), mark)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
        }
    }

    fn stop(&mut self, mark: Mark, what: impl Into<String>, remedy: impl Into<String>) -> Result<(), Stop> {
        let path = self.path();
        self.log.error(mark, &path, what, remedy);
        Err(Stop)
    }

    /// The path of what is being read, as [`Problem::key`](crate::Problem::key) has it.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.stack {
            match open {
                Open::List { items, .. } => path.push_str(&format!("[{}]", items.len())),
                Open::Map(OpenMap { key: Some(key), .. }) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(&key.text);
                }
                Open::Map(_) => {}
            }
        }
        path
    }

    /// True for a tag that makes a text of the scalar. Compose's own tags, and foreign ones, are refused.
    fn tag(&mut self, tag: Option<&Cow<'_, Tag>>, mark: Mark) -> Result<bool, Stop> {
        let Some(tag) = tag else { return Ok(false) };
        if tag.is_yaml_core_schema() && matches!(tag.suffix.as_str(), "str" | "int" | "float" | "bool" | "null") {
            return Ok(tag.suffix == "str");
        }
        if tag.is_yaml_core_schema() && matches!(tag.suffix.as_str(), "map" | "seq") {
            return Ok(false);
        }
        let what = format!("the YAML tag {tag} is not supported");
        self.stop(mark, what, "remove it, and write the value that is meant").map(|()| false)
    }

    fn charge(&mut self, cost: Cost, mark: Mark) -> Result<(), Stop> {
        self.nodes = self.nodes.saturating_add(cost.nodes);
        self.bytes = self.bytes.saturating_add(cost.bytes);
        let remedy = "use fewer or smaller anchors, or split the file into several stacks";
        if self.nodes > MAX_NODES {
            return self.stop(mark, format!("the file holds more than {MAX_NODES} values"), remedy);
        }
        if self.bytes > MAX_BYTES {
            return self.stop(mark, format!("the values of the file have more than {MAX_BYTES} bytes"), remedy);
        }
        if self.stack.len().saturating_add(cost.depth) > MAX_DEPTH {
            return self.stop(mark, format!("values are nested more than {MAX_DEPTH} deep"), "nest less deeply");
        }
        Ok(())
    }

    fn open(&mut self, open: Open, mark: Mark) -> Result<(), Stop> {
        if let Some(Open::Map(OpenMap { key: None, .. })) = self.stack.last() {
            return self.stop(mark, "a key must be a text, not a list or mapping", "write a plain key");
        }
        self.charge(Cost { nodes: 1, bytes: 0, depth: 1 }, mark)?;
        self.stack.push(open);
        Ok(())
    }

    fn alias(&mut self, id: usize, mark: Mark) -> Result<(), Stop> {
        let Some(node) = self.anchors.get(&id) else {
            return self.stop(mark, "an alias is used inside its own anchor", "write the value out");
        };
        let cost = cost(node);
        self.charge(cost, mark)?;
        let node = self.anchors.get(&id).cloned();
        let Some(node) = node else { return Ok(()) };
        self.put(node, mark)
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Cow<'_, Tag>>,
        mark: Mark,
        span: &Span,
    ) -> Result<(), Stop> {
        let is_text = self.tag(tag, mark)?;
        self.charge(Cost { nodes: 1, bytes: text.len(), depth: 1 }, mark)?;
        let plain = style == ScalarStyle::Plain && !is_text;
        let mark = match self.stack.last() {
            // A value that is not there has no place of its own: its key's is where the reader looks.
            Some(Open::Map(OpenMap { key: Some(key), .. })) if plain && span.is_empty() => key.mark,
            _ => mark,
        };
        let node = Node { mark, kind: Kind::Scalar(Scalar { text: text.to_string(), plain }) };
        self.remember(anchor, &node)?;
        self.put(node, mark)
    }

    /// Anchored nodes are kept twice, so they are charged twice.
    fn remember(&mut self, anchor: usize, node: &Node) -> Result<(), Stop> {
        if anchor != 0 {
            self.charge(Cost { depth: 0, ..cost(node) }, node.mark)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Stop> {
        let (node, anchor) = match self.stack.pop() {
            None => return Ok(()),
            Some(Open::List { mark, anchor, items }) => (Node { mark, kind: Kind::List(items) }, anchor),
            Some(Open::Map(map)) => {
                let (mark, anchor) = (map.mark, map.anchor);
                (Node { mark, kind: Kind::Map(self.merge(map)?) }, anchor)
            }
        };
        self.remember(anchor, &node)?;
        let mark = node.mark;
        self.put(node, mark)
    }

    /// Adds what `<<` names: a key of the mapping itself wins, then the earlier of several merged mappings.
    fn merge(&mut self, map: OpenMap) -> Result<Vec<Entry>, Stop> {
        let OpenMap { mut entries, mut seen, merges, .. } = map;
        for (mark, merged) in merges {
            let sources = match merged.kind {
                Kind::List(items) => items,
                Kind::Map(_) | Kind::Scalar(_) => vec![merged],
            };
            for source in sources {
                let Kind::Map(found) = source.kind else {
                    let what = "'<<' merges mappings, and this is none";
                    self.stop(mark, what, "name an anchor of a mapping, as in '<<: *base'")?;
                    continue;
                };
                for entry in found {
                    if !seen.contains_key(&entry.key) {
                        seen.insert(entry.key.clone(), entry.mark);
                        entries.push(entry);
                    }
                }
            }
        }
        Ok(entries)
    }

    /// Gives a finished node to what is open: as an item, as a key, or as the value of the key before it.
    fn put(&mut self, node: Node, mark: Mark) -> Result<(), Stop> {
        let map = match self.stack.last_mut() {
            None => {
                self.root = Some(node);
                return Ok(());
            }
            Some(Open::List { items, .. }) => {
                items.push(node);
                return Ok(());
            }
            Some(Open::Map(map)) => map,
        };
        let Some(key) = map.key.take() else {
            let Kind::Scalar(Scalar { text, plain }) = node.kind else {
                return self.stop(mark, "a key must be a text, not a list or mapping", "write a plain key");
            };
            if text.len() > MAX_KEY {
                return self.stop(mark, format!("a key has more than {MAX_KEY} bytes"), "shorten it");
            }
            map.key = Some(Key { text, mark, plain });
            return Ok(());
        };
        if key.plain && key.text == "<<" {
            map.merges.push((key.mark, node));
        } else if let Some(first) = map.seen.get(&key.text) {
            let what = format!("the key '{}' is given twice, first at {first}", key.text);
            let path = self.path();
            let path = if path.is_empty() { key.text } else { format!("{path}.{}", key.text) };
            self.log.error(key.mark, &path, what, "keep one of the two");
        } else {
            map.seen.insert(key.text.clone(), key.mark);
            map.entries.push(Entry { key: key.text, mark: key.mark, value: node });
        }
        Ok(())
    }
}
