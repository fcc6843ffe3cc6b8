//! The simulator: virtual time, network, disks, hosts and workloads around the real core of dunlin's nodes.
//!
//! What is real: [`dunlin_core::Node`], the very type that the agent drives, with everything inside it (membership, state,
//! placement, allocations, names). What is simulated: everything that the core reaches only through its inputs and outputs.
//! What is absent: trust (all hosts are honest and admitted), keys and seals (only their bytes are counted), bandwidth, and
//! the time that a node's own computing takes. Each smaller divergence stands where it is made.
//!
//! One seed decides a run: all randomness is split from it by purpose, all numbers are integers, no map has an unspecified
//! order, and no clock is read. Two processes that run one seed arrive at one `trace_hash`.
//!
//! Reading order: `queue`, `event`, `world`, `deliver` (the simulated shell), `host`, `net`, `disk`, `workload`, `operator`,
//! `fault`, `truth`, `invariant`, [`scenario`], [`cli`].
#![forbid(unsafe_code)]

mod answers;
pub mod cli;
mod clock;
mod deliver;
mod disk;
mod event;
mod fault;
mod host;
mod inside;
mod invariant;
mod measure;
mod net;
mod operator;
mod queue;
mod report;
pub mod scenario;
mod truth;
mod workload;
mod world;

pub use measure::{Quantiles, Spread};
pub use net::Conditions;
pub use workload::Behaviour;
