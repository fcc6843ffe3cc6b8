//! Who is alive, and what everyone knows: the pure core of dunlin's gossip.
//!
//! Two protocols in one page. *Membership* is SWIM (Das et al., 2002) with Lifeguard (Dadgar et al., 2018): each node probes a
//! member per period, asks others to probe for it, and spreads what it learns on the same packets. *State* is a set of
//! records, each a mergeable register, kept in a persistent hash trie; new records are pushed over links, and peers whose
//! root hashes differ walk their tries until they have found the difference. [`engine::Gossip`] composes the two.
//!
//! Reading order: [`id`], [`time`], [`hlc`], [`model`], [`paged`], [`wire`], [`state`], `member`, `spread`, [`face`], [`engine`].
//!
//! This crate must never read a clock, open a socket, spawn, sleep, iterate a map of unspecified order, or draw
//! randomness except from the generator that it was given. `no_std` and clippy enforce it.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod canary;
pub mod engine;
pub mod face;
pub mod hash;
pub mod hlc;
pub mod id;
pub mod limits;
mod member;
pub mod model;
pub mod paged;
pub mod renewal;
pub mod rng;
mod spread;
pub mod state;
pub mod time;
pub mod trust;
pub mod wire;
