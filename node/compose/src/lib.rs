//! From a Compose file's text to the specifications that a cluster keeps.
//!
//! The file is the Compose Specification plus one block of our own, `x-dunlin`. The rule above all others: *nothing is
//! dropped silently*. Each key of the Compose Specification is either used, or refused by name with its place, a reason
//! and a remedy; a key that nobody knows is refused with the nearest one that exists. All problems of a file are found in
//! one pass, since mending one error a run is a waste of a person's time.
//!
//! Reading order: [`problem`] (what is said to the author), `tree` (YAML with places), `interpolate` (`${V:-d}`),
//! `schema` (every key there is), `value` (typed reading), `fields` (what each key means), `parse` (the whole).
//!
//! Chosen where Compose leaves it open or where dunlin differs:
//! - A service without `image` is a process of the host: its arguments are `entrypoint` followed by `command`.
//! - A reservation that is not given is the limit of the same resource, else [`Resources::DEFAULT_REQUEST`]'s share.
//! - A plain scalar keeps its text: `A: 1.10` in `environment` means `1.10`, where Compose makes `1.1` of it.
//! - An unquoted `;`, `|`, `<`, `(` or the like in a string command is refused; Compose drops the rest of the line.
//! - `restart` is the policy if `deploy.restart_policy` states no condition; when both do, they must agree.
//!
//! This crate must never read a file, the environment or a clock: text and variables are given. `no_std` enforces it.
//!
//! [`Resources::DEFAULT_REQUEST`]: dunlin_gossip::model::Resources::DEFAULT_REQUEST
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod fields;
mod interpolate;
mod parse;
pub mod problem;
mod schema;
mod tree;
mod value;
mod words;

pub use parse::{Project, Source, parse};
pub use problem::Problem;
