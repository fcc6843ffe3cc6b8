//! The node: one state machine that composes gossip, placement, allocations and names, and does no I/O.
//!
//! The life of a deploy, from write to healthy answer: a [`Request::Deploy`](face::Request) is checked against the flock
//! and written as one batch of records. Every node that holds the batch puts it in force in its [`View`](view::View) and
//! looks for replicas that nobody claims. A node that comes first on a replica's ladder ([`place`], [`claim`]) admits it if
//! it fits, puts its claim on disk, and only then tells its driver to start it. When it runs, or its health check passes,
//! the allocation's record says so to everybody, and names point to it.
//!
//! Reading order: [`face`], [`view`], `engine`, `takeover`, [`place`], [`claim`], `rollout`, `drain`, `share`, `orders`, [`majority`], `allocation`, `boot`, `request`,
//! [`query`].
//!
//! This crate must never read a clock, touch a file, a socket or a process, or decide by anything that two nodes with the
//! same knowledge could see differently.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod ack;
mod admit;
mod allocation;
mod attention;
mod boot;
pub mod claim;
mod counts;
pub mod cron;
mod drain;
mod edit;
mod engine;
pub mod face;
mod holddown;
mod isolation;
mod job;
mod leave;
mod log;
pub mod majority;
mod names;
pub mod never;
mod orders;
pub mod place;
mod preempt;
pub mod query;
mod request;
mod rollout;
mod schedule;
mod settle;
mod share;
mod single;
pub mod skip;
mod takeover;
mod tokens;
pub mod view;
mod wave;

pub use boot::Base;
pub use counts::Counts;
pub use engine::Node;
