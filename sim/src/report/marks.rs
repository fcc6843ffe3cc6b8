//! The script of a run as marks on its timeline: what happened, to whom, and until when it went on.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::measure::seconds;
use crate::net::{Conditions, HostNo};
use crate::queue::Nanos;
use crate::scenario::{Action, Crash, Spoil, Step, Target};

/// What kind of thing happens: decides the colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// An operator writes.
    Write,
    /// Something dies or stands still.
    Death,
    /// The network gets worse.
    Cut,
    /// A disk, a clock, a driver gets worse.
    Spoil,
    /// Something gets well again.
    Relief,
}

impl Kind {
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Death => "death",
            Self::Cut => "cut",
            Self::Spoil => "spoil",
            Self::Relief => "relief",
        }
    }
}

/// A line of the timeline as it happened.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Mark {
    /// When, in virtual seconds.
    pub(super) at_s: f64,
    /// Until when it went on, if it did.
    pub(super) until_s: Option<f64>,
    /// The word that scenario files use for it.
    pub(super) action: &'static str,
    /// What stands after that word in a scenario file, with every choice made: which hosts, which pairs.
    pub(super) argument: String,
    #[serde(skip)]
    pub(super) kind: Kind,
}

impl Mark {
    /// For people, in at most so many characters.
    pub(super) fn text(&self, most: usize) -> String {
        let text = if self.argument.is_empty() {
            self.action.to_owned()
        } else {
            format!("{} {}", self.action, self.argument.replace(['{', '}', '"'], ""))
        };
        shortened(&text, most)
    }
}

/// The beginning, and a sign that there is more.
pub(super) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end_matches([',', ' ', '[']))
}

/// Marks of a script.
pub(super) fn marks(script: &[Step], network: &Conditions) -> Vec<Mark> {
    let mark = |(index, step): (usize, &Step)| Mark {
        at_s: seconds(step.at),
        until_s: until(step, script.get(index + 1..).unwrap_or_default()).map(seconds),
        action: step.action.word(),
        argument: step.action.argument(network),
        kind: kind(&step.action),
    };
    script.iter().enumerate().map(mark).collect()
}

const fn kind(action: &Action) -> Kind {
    match action {
        Action::Deploy { .. } | Action::Scale { .. } | Action::Rollout { .. } | Action::Remove { .. } => Kind::Write,
        Action::WriteLoop { .. } | Action::Poison { .. } | Action::Order { .. } => Kind::Write,
        Action::Crash { .. } | Action::Spoil { how: Spoil::Pause(_), .. } => Kind::Death,
        Action::Cut { .. } | Action::Network(_) => Kind::Cut,
        Action::Spoil { how: Spoil::FreeDisk | Spoil::SaveDisk, .. }
        | Action::Restart { .. }
        | Action::Heal(_)
        | Action::Calm { .. } => Kind::Relief,
        Action::Spoil { .. } => Kind::Spoil,
    }
}

/// When what a step did came to its end: by itself, or by the first later step that undoes it for any of its hosts.
fn until(step: &Step, later: &[Step]) -> Option<Nanos> {
    if step.action.lasts() > 0 {
        return Some(step.at + step.action.lasts());
    }
    later.iter().find(|next| undoes(&next.action, &step.action)).map(|next| next.at)
}

fn undoes(next: &Action, action: &Action) -> bool {
    if matches!(next, Action::Calm { .. }) {
        return matches!(kind(action), Kind::Cut | Kind::Death | Kind::Spoil);
    }
    match (action, next) {
        (Action::Cut { .. }, Action::Heal(None)) => true,
        (Action::Cut { hosts, .. }, Action::Heal(Some(healed))) => share(hosts, healed),
        (Action::Crash { what: Crash::Agents | Crash::Hosts, hosts }, Action::Restart { hosts: Some(back), .. }) => {
            share(hosts, back)
        }
        (Action::Spoil { how: Spoil::FillDisk, hosts }, Action::Spoil { how: Spoil::FreeDisk, hosts: freed }) => {
            share(hosts, freed)
        }
        (Action::Network(_), Action::Network(_)) => true,
        _ => false,
    }
}

fn share(some: &Target, others: &Target) -> bool {
    let named = |target: &Target| -> BTreeSet<HostNo> {
        match target {
            Target::Hosts(hosts) => hosts.iter().copied().collect(),
            Target::Count(_) | Target::Zone(_) => BTreeSet::new(),
        }
    };
    !named(some).is_disjoint(&named(others))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::SECOND;
    use crate::scenario::{Cut, DiskFate};

    fn step(at: u64, action: Action) -> Step {
        Step { at: at * SECOND, action }
    }

    #[test]
    fn a_fault_goes_on_until_it_is_undone_for_one_of_its_hosts() {
        let hosts = |list: &[HostNo]| Target::Hosts(list.to_vec());
        let script = [
            step(1, Action::Crash { what: Crash::Hosts, hosts: hosts(&[1, 2]) }),
            step(2, Action::Cut { how: Cut::Mute, hosts: hosts(&[5]) }),
            step(3, Action::Restart { hosts: Some(hosts(&[7])), disk: DiskFate::Kept, version: None }),
            step(4, Action::Restart { hosts: Some(hosts(&[2])), disk: DiskFate::Kept, version: None }),
            step(5, Action::Heal(None)),
            step(6, Action::Spoil { how: Spoil::Pause(2 * SECOND), hosts: hosts(&[1]) }),
        ];
        let ends: Vec<Option<f64>> = marks(&script, &Conditions::default()).iter().map(|mark| mark.until_s).collect();
        assert_eq!(ends, [Some(4.0), Some(5.0), None, None, None, Some(8.0)]);
    }

    #[test]
    fn texts_are_shortened_at_a_host() {
        let script = [step(1, Action::Crash { what: Crash::Hosts, hosts: Target::Hosts((10..60).collect()) })];
        assert_eq!(
            marks(&script, &Conditions::default()).first().map(|mark| mark.text(24)),
            Some("crash-hosts [10, 11, 12…".to_owned())
        );
    }
}
