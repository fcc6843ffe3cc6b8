//! Stories: what once went wrong, in ten verbs. Each was the smallest that shrinking left of a failing run, and each is about
//! bugs that can still be planted (docs/decisions/0013-planted-bugs.md): with one the story must fail, without it hold.
//!
//! `cargo test -p dunlin-sim --test stories` tells them; with `--features canary` each is told twice, with its bugs and
//! without. A new story comes from `dunlin sim shrink`, which prints it in these words.

use dunlin_gossip::canary::Bug;

/// Defines stories: tests, and a list of them with the bug that each is about.
macro_rules! stories {
    ($($(#[$doc:meta])* $name:ident fails_with $($bug:ident),+ { $story:expr })+) => {
        $(
            $(#[$doc])*
            #[cfg_attr(not(feature = "canary"), test)]
            pub(crate) fn $name() -> Result<(), String> {
                $story
            }
        )+

        /// All of this file.
        #[cfg_attr(not(feature = "canary"), allow(dead_code, reason = "told one by one in a build without planted bugs"))]
        pub(crate) const ALL: &[crate::Told] = &[$((stringify!($name), &[$(crate::Bug::$bug),+], $name)),+];
    };
}

mod claims;
mod crons;
mod disks;
mod drains;
mod jobs;
mod majority;
mod membership;
#[cfg(feature = "canary")]
mod poison;
mod priorities;
mod rollouts;
mod shares;
mod versions;
mod workloads;

/// A story's name, the bugs that it is about, and how it is told.
type Told = (&'static str, &'static [Bug], fn() -> Result<(), String>);

/// All files.
#[cfg(feature = "canary")]
fn all() -> Vec<Told> {
    let early = [membership::ALL, disks::ALL, claims::ALL, drains::ALL, majority::ALL];
    let late = [jobs::ALL, crons::ALL, rollouts::ALL, versions::ALL, workloads::ALL];
    let last = [poison::ALL, priorities::ALL, shares::ALL];
    early.into_iter().chain(late).chain(last).flatten().copied().collect()
}

/// One test for all: what is planted is planted in the whole process.
#[cfg(feature = "canary")]
#[test]
fn each_story_fails_with_its_bug_and_holds_without() {
    use dunlin_gossip::canary::plant;
    let mut wrong = Vec::new();
    for (name, bugs, tell) in all() {
        plant(None);
        if let Err(text) = tell() {
            wrong.push(format!("{name} does not hold: {text}"));
        }
        for bug in bugs {
            plant(Some(*bug));
            match tell() {
                Ok(()) => wrong.push(format!("{name} holds with {}", bug.name())),
                Err(text) => println!("{name}, {}: {}", bug.name(), text.lines().next().unwrap_or_default()),
            }
        }
    }
    plant(None);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[cfg(feature = "canary")]
#[test]
fn there_are_at_least_ten() {
    assert!(all().len() >= 10);
}
