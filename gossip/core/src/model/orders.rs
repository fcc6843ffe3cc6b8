//! What operators order of a node: that it gets no new work, or none at all, which labels it has, and what keeps work off it.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::time::{Duration, Wall};

/// The value of a node's register of orders. Written by any node; none is the same as all empty.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NodeOrders {
    /// Nothing new comes; what runs there stays.
    pub cordoned: bool,
    /// What runs there goes elsewhere, and nothing new comes.
    pub drain: Option<Drain>,
    /// Labels, which stand over those that its agent was started with.
    pub labels: BTreeMap<String, String>,
    /// What keeps work off that does not tolerate it, in order of key and effect.
    pub taints: Vec<Taint>,
}

/// An order to move everything elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Drain {
    /// Since when, by the clock of the node that took the order.
    pub since: Wall,
    /// After this time what is still there stops, though it fits nowhere else; none: it waits for as long as it takes.
    pub deadline: Option<Duration>,
}

impl Drain {
    /// When what is still there stops; none: never.
    #[must_use]
    pub fn until(&self) -> Option<Wall> {
        self.deadline.map(|deadline| self.since.plus(deadline))
    }
}

/// Something about a node that keeps work off it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Taint {
    /// What, as operators call it.
    pub key: String,
    /// What it does.
    pub effect: TaintEffect,
    /// Which of its kind; may be empty.
    pub value: String,
}

/// What a taint does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum TaintEffect {
    /// Nothing new comes.
    NoSchedule,
    /// What runs there stops as well.
    NoExecute,
}

impl TaintEffect {
    /// The word in files, on the command line and in rows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoSchedule => "no-schedule",
            Self::NoExecute => "no-execute",
        }
    }

    /// The effect of this word, or of the one that Kubernetes has for it.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        match word {
            "no-schedule" | "NoSchedule" => Some(Self::NoSchedule),
            "no-execute" | "NoExecute" => Some(Self::NoExecute),
            _ => None,
        }
    }
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let equals = if self.value.is_empty() { "" } else { "=" };
        write!(f, "{}{equals}{}:{}", self.key, self.value, self.effect.as_str())
    }
}

/// The parts of `KEY[=VALUE][:EFFECT]`; none if the effect is none, or a part is empty.
fn parts(text: &str) -> Option<(&str, Option<&str>, Option<TaintEffect>)> {
    let (rest, effect) = match text.rsplit_once(':') {
        Some((rest, effect)) => (rest, Some(TaintEffect::named(effect)?)),
        None => (text, None),
    };
    let (key, value) = rest.split_once('=').map_or((rest, None), |(key, value)| (key, Some(value)));
    (!key.is_empty() && value != Some("")).then_some((key, value, effect))
}

impl Taint {
    /// Reads `KEY[=VALUE][:EFFECT]`; without an effect nothing new comes.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (key, value, effect) = parts(text)?;
        let effect = effect.unwrap_or(TaintEffect::NoSchedule);
        Some(Self { key: key.into(), effect, value: value.unwrap_or_default().into() })
    }
}

/// A taint that a specification puts up with.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Toleration {
    /// Which; none: all of them.
    pub key: Option<String>,
    /// With which value; none: with any.
    pub value: Option<String>,
    /// With which effect; none: with any.
    pub effect: Option<TaintEffect>,
}

impl Toleration {
    /// Reads `KEY[=VALUE][:EFFECT]`, where what is left out may be anything; `*` is any key.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (key, value, effect) = parts(text)?;
        Some(Self { key: (key != "*").then(|| key.into()), value: value.map(Into::into), effect })
    }

    /// True if a taint does not matter to whoever tolerates this.
    #[must_use]
    pub fn covers(&self, taint: &Taint) -> bool {
        self.key.as_ref().is_none_or(|key| *key == taint.key)
            && self.value.as_ref().is_none_or(|value| *value == taint.value)
            && self.effect.is_none_or(|effect| effect == taint.effect)
    }
}

static NONE: NodeOrders = NodeOrders { cordoned: false, drain: None, labels: BTreeMap::new(), taints: Vec::new() };

impl NodeOrders {
    /// No orders.
    #[must_use]
    pub fn none() -> &'static Self {
        &NONE
    }

    /// The first taint with one of these effects that nothing here covers.
    pub fn taint_against<'a>(&'a self, tolerations: &[Toleration], only: Option<TaintEffect>) -> Option<&'a Taint> {
        let matters = |taint: &&Taint| only.is_none_or(|effect| taint.effect == effect);
        self.taints.iter().filter(matters).find(|taint| !tolerations.iter().any(|toleration| toleration.covers(taint)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toleration_covers_what_it_does_not_narrow() {
        let taint = Taint { key: "gpu".into(), value: "broken".into(), effect: TaintEffect::NoExecute };
        let toleration = |key: Option<&str>, value: Option<&str>, effect| Toleration {
            key: key.map(Into::into),
            value: value.map(Into::into),
            effect,
        };
        for covers in [
            toleration(None, None, None),
            toleration(Some("gpu"), None, None),
            toleration(Some("gpu"), Some("broken"), Some(TaintEffect::NoExecute)),
        ] {
            assert!(covers.covers(&taint), "{covers:?}");
        }
        for not in [
            toleration(Some("disk"), None, None),
            toleration(Some("gpu"), Some("old"), None),
            toleration(Some("gpu"), None, Some(TaintEffect::NoSchedule)),
        ] {
            assert!(!not.covers(&taint), "{not:?}");
        }
    }

    #[test]
    fn taints_are_read_as_they_are_written() {
        for (text, written) in [
            ("gpu", "gpu:no-schedule"),
            ("gpu=old:NoExecute", "gpu=old:no-execute"),
            ("a.b/c:no-schedule", "a.b/c:no-schedule"),
        ] {
            assert_eq!(Taint::read(text).map(|taint| alloc::format!("{taint}")).as_deref(), Some(written));
        }
        let all = Toleration { key: None, value: None, effect: Some(TaintEffect::NoExecute) };
        assert_eq!(Toleration::read("*:no-execute"), Some(all));
        for not in ["", "=x", "a=", "a:", "a:often", ":no-execute"] {
            assert_eq!((Taint::read(not), Toleration::read(not)), (None, None), "{not}");
        }
    }

    #[test]
    fn a_taint_matters_by_its_effect() {
        let taint = |key: &str, effect| Taint { key: key.into(), value: String::new(), effect };
        let orders = NodeOrders {
            taints: Vec::from([taint("a", TaintEffect::NoSchedule), taint("b", TaintEffect::NoExecute)]),
            ..NodeOrders::default()
        };
        let key = |only| orders.taint_against(&[], only).map(|taint| taint.key.as_str());
        assert_eq!((key(None), key(Some(TaintEffect::NoExecute))), (Some("a"), Some("b")));
        assert_eq!(alloc::format!("{}", orders.taints[0]), "a:no-schedule");
    }
}
