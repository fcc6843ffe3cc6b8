//! `${V}` in values: Compose's rules, applied to every value under `services` and to `name`, never to keys.
//!
//! A result that became empty stays a text: `replicas: ${N}` with `N` unset is refused as an empty text, not read as absent.

use alloc::format;
use alloc::string::String;

use crate::problem::{Log, Mark};
use crate::tree::{Kind, Node};
use crate::value::quoted;

/// Looks a variable up.
pub(crate) type Variables<'v> = &'v dyn Fn(&str) -> Option<String>;

/// How deep defaults may hold further variables.
const MAX_NESTING: usize = 8;
/// Bytes that all expansions of a file may produce.
const MAX_EXPANDED: usize = 8 << 20;

const DOLLAR: &str = "write '$$' for a dollar sign that is meant as such";

/// Replaces the variables of all values of a tree.
pub(crate) fn tree(node: &mut Node, path: &str, variables: Variables<'_>, log: &mut Log<'_>) {
    Pass { variables, log, left: MAX_EXPANDED }.node(node, path);
}

struct Pass<'v, 'l, 'f> {
    variables: Variables<'v>,
    log: &'l mut Log<'f>,
    left: usize,
}

/// What is wrong with an expression, and the remedy.
struct Fault {
    what: String,
    remedy: String,
}

fn fault<T>(what: impl Into<String>, remedy: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { what: what.into(), remedy: remedy.into() })
}

impl Pass<'_, '_, '_> {
    /// Depth is bounded by the tree's.
    fn node(&mut self, node: &mut Node, path: &str) {
        let mark = node.mark;
        match &mut node.kind {
            Kind::List(items) => {
                for (i, item) in items.iter_mut().enumerate() {
                    self.node(item, &format!("{path}[{i}]"));
                }
            }
            Kind::Map(entries) => {
                for entry in entries {
                    self.node(&mut entry.value, &format!("{path}.{}", entry.key));
                }
            }
            Kind::Scalar(scalar) if scalar.text.contains('$') => match self.text(&scalar.text, path, mark) {
                Ok(text) => {
                    // What came from a variable is a text; who wants a number or boolean reads it from that.
                    scalar.plain = false;
                    scalar.text = text;
                }
                Err(Fault { what, remedy }) => self.log.broken(mark, path, what, remedy),
            },
            Kind::Scalar(_) => {}
        }
    }

    fn text(&mut self, text: &str, path: &str, mark: Mark) -> Result<String, Fault> {
        let mut rest = text;
        let out = self.template(&mut rest, 0, path, mark)?;
        self.left = self.left.saturating_sub(out.len());
        if self.left == 0 {
            return fault(
                format!("the variables of this file expand to more than {MAX_EXPANDED} bytes"),
                "give the values in files that the service reads",
            );
        }
        Ok(out)
    }

    /// Expands up to the end of the text, or inside braces (`depth > 0`) up to the brace that closes them.
    fn template(&mut self, rest: &mut &str, depth: usize, path: &str, mark: Mark) -> Result<String, Fault> {
        let mut out = String::new();
        let mut braces = 0_usize;
        while let Some(c) = rest.chars().next() {
            match c {
                '}' if depth > 0 && braces == 0 => return Ok(out),
                '$' => {
                    *rest = rest.get(1..).unwrap_or_default();
                    let value = self.variable(rest, depth, path, mark)?;
                    out.push_str(&value);
                    if out.len() > MAX_EXPANDED {
                        return fault("this value expands to too many bytes", "shorten the variables");
                    }
                    continue;
                }
                '{' if depth > 0 => braces += 1,
                '}' if depth > 0 => braces -= 1,
                _ => {}
            }
            out.push(c);
            *rest = rest.get(c.len_utf8()..).unwrap_or_default();
        }
        if depth > 0 { fault("a '${' is never closed", "add the missing '}'") } else { Ok(out) }
    }

    /// What follows a dollar sign.
    fn variable(&mut self, rest: &mut &str, depth: usize, path: &str, mark: Mark) -> Result<String, Fault> {
        if let Some(after) = rest.strip_prefix('$') {
            *rest = after;
            return Ok("$".into());
        }
        if let Some(inner) = rest.strip_prefix('{') {
            if depth >= MAX_NESTING {
                return fault(format!("variables are nested more than {MAX_NESTING} deep"), "nest less deeply");
            }
            *rest = inner;
            return self.braced(rest, depth + 1, path, mark);
        }
        let name = take_name(rest);
        if name.is_empty() {
            return fault(
                format!("'$' is not followed by a variable's name in {}", quoted(&format!("${rest}"))),
                DOLLAR,
            );
        }
        Ok(self.plain(name, path, mark))
    }

    /// What follows `${`, the closing brace included.
    fn braced(&mut self, rest: &mut &str, depth: usize, path: &str, mark: Mark) -> Result<String, Fault> {
        let begin = *rest;
        let name = take_name(rest);
        if name.is_empty() {
            return fault(
                format!("'${{' is not followed by a variable's name in {}", quoted(&format!("${{{begin}"))),
                DOLLAR,
            );
        }
        if let Some(after) = rest.strip_prefix('}') {
            *rest = after;
            return Ok(self.plain(name, path, mark));
        }
        let (empty_counts, after) = rest.strip_prefix(':').map_or((true, *rest), |after| (false, after));
        let operator = after.chars().next();
        let Some(operator @ ('-' | '?' | '+')) = operator else {
            return fault(
                format!("{} is no expression that Compose knows", quoted(&format!("${{{begin}"))),
                "write ${V}, ${V:-default}, ${V-default}, ${V:?message} or ${V:+replacement}",
            );
        };
        *rest = after.get(1..).unwrap_or_default();
        let set = (self.variables)(name).filter(|value| empty_counts || !value.is_empty());
        let wanted = match operator {
            '+' => set.is_some(),
            _ => set.is_none(),
        };
        let word = if wanted { self.template(rest, depth, path, mark)? } else { skip(rest)? };
        *rest = rest.strip_prefix('}').unwrap_or(rest);
        match (operator, set) {
            ('-', Some(value)) | ('?', Some(value)) => Ok(value),
            ('?', None) => {
                let why = if word.is_empty() { String::new() } else { format!(": {word}") };
                fault(format!("the required variable {name} is not set{why}"), format!("set {name} and try again"))
            }
            // '-' without a value, and '+' with or without one: what was expanded, or nothing.
            (_, _) => Ok(word),
        }
    }

    /// `$V` and `${V}`: empty if not set, as Compose has it, and said.
    fn plain(&mut self, name: &str, path: &str, mark: Mark) -> String {
        (self.variables)(name).unwrap_or_else(|| {
            let remedy = format!("set it, or write ${{{name}:-default}}");
            self.log.warn(mark, path, format!("the variable {name} is not set and counts as empty"), remedy);
            String::new()
        })
    }
}

/// Passes over an expansion that is not wanted (its variables need not be set), up to the brace that closes it.
fn skip(rest: &mut &str) -> Result<String, Fault> {
    let mut braces = 0_usize;
    for (i, c) in rest.char_indices() {
        match c {
            '}' if braces == 0 => {
                *rest = rest.get(i..).unwrap_or_default();
                return Ok(String::new());
            }
            '}' => braces -= 1,
            '{' => braces += 1,
            _ => {}
        }
    }
    fault("a '${' is never closed", "add the missing '}'")
}

fn take_name<'t>(rest: &mut &'t str) -> &'t str {
    let inner = |(i, c): (usize, char)| c == '_' || c.is_ascii_alphabetic() || (i > 0 && c.is_ascii_digit());
    let end = rest.char_indices().find(|&at| !inner(at)).map_or(rest.len(), |(i, _)| i);
    let (name, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
    *rest = after;
    name
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;
    use crate::tree::Scalar;

    fn expand(text: &str) -> Result<String, String> {
        let variables = |name: &str| match name {
            "V" => Some("v".to_string()),
            "W" => Some("w$X".to_string()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let mut log = Log::new("f");
        let scalar = Scalar { text: text.to_string(), plain: true };
        let mut node = Node { mark: Mark { line: 1, column: 1 }, kind: Kind::Scalar(scalar) };
        tree(&mut node, "k", &variables, &mut log);
        if let Some(problem) = log.finish().0.into_iter().next() {
            return Err(problem.what);
        }
        match node.kind {
            Kind::Scalar(s) => Ok(s.text),
            Kind::List(_) | Kind::Map(_) => Err("no scalar".into()),
        }
    }

    #[test]
    fn expressions() {
        let good: &[(&str, &str)] = &[
            ("a$V.b", "av.b"),
            ("${V}x", "vx"),
            ("$$V", "$V"),
            ("$$$V", "$v"),
            ("$W", "w$X"),
            ("[$NO]", "[]"),
            ("${NO:-d}", "d"),
            ("${NO-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${V:-d}", "v"),
            ("${NO:-}", ""),
            ("${NO:-a:b/c-d}", "a:b/c-d"),
            ("${NO:-${V}!}", "v!"),
            ("${NO:-${NO2:-deep}}", "deep"),
            ("${NO:-{\"a\":1}}", "{\"a\":1}"),
            ("${V:-${NO:?never asked}}", "v"),
            ("${V:+r}", "r"),
            ("${NO:+r}", ""),
            ("${EMPTY:+r}", ""),
            ("${EMPTY+r}", "r"),
            ("${V:?e}", "v"),
            ("${EMPTY?e}", ""),
            ("ä${V}ö", "ävö"),
        ];
        for (text, expect) in good {
            assert_eq!(expand(text).as_deref(), Ok(*expect), "{text}");
        }
        let bad: &[(&str, &str)] = &[
            ("$", "'$' is not followed"),
            ("a $1", "'$' is not followed"),
            ("$(x)", "'$' is not followed"),
            ("${}", "'${' is not followed"),
            ("${1}", "'${' is not followed"),
            ("${V", "no expression"),
            ("${V!x}", "no expression"),
            ("${V:x}", "no expression"),
            ("${NO:-x", "never closed"),
            ("${V:-x", "never closed"),
            ("${NO:?give it}", "the required variable NO is not set: give it"),
            ("${EMPTY:?}", "the required variable EMPTY is not set"),
        ];
        for (text, expect) in bad {
            let what = expand(text).expect_err(text);
            assert!(what.contains(expect), "{text}: {what}");
        }
        let deep = "${A:-".repeat(20) + &"}".repeat(20);
        assert!(expand(&deep).expect_err("too deep").contains("nested"));
    }
}
