//! Constraints, made ready to be held against many nodes. Regular expressions run in linear time and have a bound on their
//! size; one that cannot be read is met by nobody (a deploy with such a one is refused before it is written).

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::Ordering;

use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{Constraint, ConstraintOp, NodeHeader, ServiceSpec};
use regex::{Regex, RegexBuilder};

/// Bytes that a regular expression may take once it is read.
const REGEX_BYTES: usize = 64 << 10;

/// The constraints of a specification.
#[derive(Clone, Debug)]
pub struct Terms<'a> {
    tests: Vec<(&'a Constraint, Test<'a>)>,
}

#[derive(Clone, Debug)]
enum Test<'a> {
    Is(&'a str),
    Finds(Regex),
    OneOf(Vec<&'a str>),
    Version(fn(Ordering) -> bool, &'a str),
    /// It cannot be read.
    Never,
}

impl<'a> Terms<'a> {
    /// Reads the constraints of a specification.
    #[must_use]
    pub fn of(spec: &'a ServiceSpec) -> Self {
        Self { tests: spec.constraints.iter().map(|constraint| (constraint, test(constraint))).collect() }
    }

    /// The first constraint that a node does not meet.
    #[must_use]
    pub fn violated(&self, node: NodeId, header: &NodeHeader) -> Option<&'a Constraint> {
        self.tests.iter().find(|(constraint, test)| !meets(constraint, test, node, header)).map(|(c, _)| *c)
    }
}

/// Why a constraint's value makes no sense; none if it does.
#[must_use]
pub fn unreadable(constraint: &Constraint) -> Option<String> {
    match constraint.op {
        ConstraintOp::Matches | ConstraintOp::MatchesNot => {
            // The last line says what is wrong, those above it show where.
            let last = |e: regex::Error| e.to_string().lines().last().unwrap_or_default().to_string();
            regex(&constraint.value).err().map(last)
        }
        ConstraintOp::Below | ConstraintOp::AtMost | ConstraintOp::Above | ConstraintOp::AtLeast => {
            let is_version = constraint.value.starts_with(|c: char| c.is_ascii_digit());
            (!is_version).then(|| "a version begins with a digit".to_string())
        }
        ConstraintOp::Equal | ConstraintOp::NotEqual | ConstraintOp::In | ConstraintOp::NotIn => None,
    }
}

fn regex(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text).size_limit(REGEX_BYTES).build()
}

fn test(constraint: &Constraint) -> Test<'_> {
    let value = constraint.value.as_str();
    match constraint.op {
        ConstraintOp::Equal | ConstraintOp::NotEqual => Test::Is(value),
        ConstraintOp::Matches | ConstraintOp::MatchesNot => regex(value).map_or(Test::Never, Test::Finds),
        ConstraintOp::In | ConstraintOp::NotIn => Test::OneOf(value.split(',').map(str::trim).collect()),
        ConstraintOp::Below => Test::Version(Ordering::is_lt, value),
        ConstraintOp::AtMost => Test::Version(Ordering::is_le, value),
        ConstraintOp::Above => Test::Version(Ordering::is_gt, value),
        ConstraintOp::AtLeast => Test::Version(Ordering::is_ge, value),
    }
}

/// True if a node meets a constraint.
fn meets(constraint: &Constraint, test: &Test<'_>, node: NodeId, header: &NodeHeader) -> bool {
    let id = (constraint.attribute == "node.id").then(|| node.to_string());
    allows(constraint.op, test, attribute(&constraint.attribute, id.as_deref(), header))
}

/// The constraint at which nothing is left of those before it that speak of the same attribute: no node can meet them all,
/// whatever its labels are. Of regular expressions and versions alone only what is plain to see is found.
#[must_use]
pub fn contradiction<'a>(constraints: impl Iterator<Item = &'a Constraint> + Clone) -> Option<usize> {
    constraints.clone().enumerate().position(|(upto, constraint)| {
        let same = || constraints.clone().take(upto + 1).filter(|other| other.attribute == constraint.attribute);
        values(same()).is_some_and(|left| left.is_empty()) || versions_exclude(same())
    })
}

/// The only values that constraints of one attribute leave; none if they do not name any.
pub(crate) fn values<'a>(constraints: impl Iterator<Item = &'a Constraint> + Clone) -> Option<Vec<&'a str>> {
    let named = |constraint: &'a Constraint| match (constraint.op, test(constraint)) {
        (ConstraintOp::Equal, Test::Is(value)) => Some(Vec::from([value])),
        (ConstraintOp::In, Test::OneOf(values)) => Some(values),
        _ => None,
    };
    let mut left = constraints.clone().find_map(named)?;
    left.sort_unstable();
    left.dedup();
    for constraint in constraints {
        let test = test(constraint);
        left.retain(|value| allows(constraint.op, &test, Some(value)));
    }
    Some(left)
}

/// True if no version is between the bounds.
fn versions_exclude<'a>(constraints: impl Iterator<Item = &'a Constraint> + Clone) -> bool {
    let bound = |ops: [ConstraintOp; 2]| {
        let bounds = constraints.clone().filter(move |c| ops.contains(&c.op));
        bounds.map(|c| (c.value.as_str(), c.op == ConstraintOp::Above || c.op == ConstraintOp::Below))
    };
    bound([ConstraintOp::AtLeast, ConstraintOp::Above]).any(|(low, above)| {
        bound([ConstraintOp::AtMost, ConstraintOp::Below]).any(|(high, below)| match compare(low, high) {
            Ordering::Less => false,
            Ordering::Equal => above || below,
            Ordering::Greater => true,
        })
    })
}

/// True if a value meets a constraint. A label that a node does not have equals nothing, matches nothing and has no version.
fn allows(op: ConstraintOp, test: &Test<'_>, actual: Option<&str>) -> bool {
    let holds = match test {
        Test::Is(value) => actual == Some(*value),
        Test::Finds(regex) => actual.is_some_and(|actual| regex.is_match(actual)),
        Test::OneOf(values) => actual.is_some_and(|actual| values.contains(&actual)),
        Test::Version(wanted, value) => actual
            .filter(|actual| actual.starts_with(|c: char| c.is_ascii_digit()))
            .is_some_and(|actual| wanted(compare(actual, value))),
        Test::Never => return false,
    };
    match op {
        ConstraintOp::NotEqual | ConstraintOp::MatchesNot | ConstraintOp::NotIn => !holds,
        ConstraintOp::Equal
        | ConstraintOp::Matches
        | ConstraintOp::In
        | ConstraintOp::Below
        | ConstraintOp::AtMost
        | ConstraintOp::Above
        | ConstraintOp::AtLeast => holds,
    }
}

/// What a node says of an attribute.
pub(crate) fn attribute<'a>(name: &str, id: Option<&'a str>, header: &'a NodeHeader) -> Option<&'a str> {
    match name {
        "node.hostname" => Some(header.name.as_str()),
        "node.id" => id,
        "node.platform.os" => Some(header.platform.os.as_str()),
        "node.platform.arch" => Some(header.platform.arch.as_str()),
        other => other.strip_prefix("node.labels.").and_then(|label| header.labels.get(label)).map(String::as_str),
    }
}

/// Compares versions part by part, numbers as numbers. What is missing counts as 0, and what follows a `-` comes before what
/// lacks it, as in semantic versions: 1.2-rc1 < 1.2 = 1.2.0 < 1.10.
fn compare(a: &str, b: &str) -> Ordering {
    let split = |text: &str| -> (Vec<u64>, Option<String>) {
        let (numbers, rest) = text.split_once('-').map_or((text, None), |(numbers, rest)| (numbers, Some(rest)));
        let number = |part: &str| {
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            part.get(..digits).and_then(|digits| digits.parse().ok()).unwrap_or(0)
        };
        let mut numbers: Vec<u64> = numbers.split('.').map(number).collect();
        while numbers.last() == Some(&0) {
            numbers.pop();
        }
        (numbers, rest.map(ToString::to_string))
    };
    let ((a, pre_a), (b, pre_b)) = (split(a), split(b));
    a.cmp(&b).then_with(|| match (pre_a, pre_b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(a), Some(b)) => a.cmp(&b),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        for (a, b, expected) in [
            ("1.2", "1.10", Ordering::Less),
            ("1.2", "1.2.0", Ordering::Equal),
            ("6.18.5", "5.10", Ordering::Greater),
            ("1.2-rc1", "1.2", Ordering::Less),
            ("1.2-rc1", "1.2-rc2", Ordering::Less),
            ("2", "1.99", Ordering::Greater),
        ] {
            assert_eq!(compare(a, b), expected, "{a} {b}");
            assert_eq!(compare(b, a), expected.reverse(), "{b} {a}");
        }
    }

    #[test]
    fn what_nothing_can_meet_is_found_and_nothing_else() {
        use ConstraintOp::{Above, AtLeast, AtMost, Below, Equal, In, Matches, NotEqual, NotIn};
        let found = |terms: &[(&str, ConstraintOp, &str)]| {
            let constraint = |(attribute, op, value): &(&str, ConstraintOp, &str)| Constraint {
                attribute: attribute.to_string(),
                op: *op,
                value: value.to_string(),
            };
            let all: Vec<Constraint> = terms.iter().map(constraint).collect();
            contradiction(all.iter())
        };
        for never in [
            [("node.id", Equal, "a"), ("node.id", Equal, "b")],
            [("x", Equal, "1"), ("x", NotEqual, "1")],
            [("x", In, "a, b"), ("x", In, "c,d")],
            [("x", In, "a, b"), ("x", NotIn, "b, a, c")],
            [("x", Matches, "^b"), ("x", Equal, "ab")],
            [("x", AtLeast, "2"), ("x", Equal, "1.9")],
            [("x", AtLeast, "2"), ("x", Below, "1.10")],
            [("x", Above, "2"), ("x", AtMost, "2.0")],
        ] {
            assert_eq!(found(&never), Some(1), "{never:?}");
        }
        for some in [
            [("x", Equal, "1"), ("y", NotEqual, "1")],
            [("x", In, "a, b"), ("x", In, "b, c")],
            [("x", AtLeast, "2"), ("x", AtMost, "2.0")],
            [("x", NotEqual, "1"), ("x", NotEqual, "2")],
            [("x", Matches, "^a"), ("x", Matches, "^b|c")],
        ] {
            assert_eq!(found(&some), None, "{some:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let of = |op, value: &str| {
            unreadable(&Constraint { attribute: "node.hostname".to_string(), op, value: value.to_string() })
        };
        assert!(of(ConstraintOp::Matches, "(").is_some());
        assert!(of(ConstraintOp::MatchesNot, "x{1000}{1000}{1000}").is_some());
        assert_eq!(of(ConstraintOp::Matches, "^web-[0-9]+$"), None);
        assert!(of(ConstraintOp::AtLeast, "latest").is_some());
        assert_eq!(of(ConstraintOp::AtLeast, "5.10"), None);
    }
}
