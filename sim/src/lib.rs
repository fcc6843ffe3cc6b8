//! The simulator: virtual time, network, disks, hosts and workloads around the real core of dunlin's nodes.
//!
//! What is real: [`dunlin_core::Node`], the very type that the agent drives, with everything inside it (membership, state,
//! placement, allocations, names). What is simulated: everything that the core reaches only through its inputs and outputs.
//! What is absent: trust (all hosts are honest and admitted), keys and seals (only their bytes are counted). Each smaller
//! divergence stands where it is made, and what real agents were measured to do otherwise in the book's page on the simulator.
//!
//! One seed decides a run: all randomness is split from it by purpose, all numbers are integers, no map has an unspecified
//! order, and no clock is read. Two processes that run one seed arrive at one `trace_hash`.
//!
//! Reading order: `queue`, `event`, `world`, `start`, `deliver` (the simulated shell), `host`, `net`, `disk`, `workload`, `operator`,
//! `fault`, `truth`, `promise`, `invariant`, [`scenario`], `swarm`, [`shrink`], [`story`], `recording`, `chronicle`, `report`,
//! [`figures`], [`sweep`], [`cli`], and beside them [`placing`].
#![forbid(unsafe_code)]

mod answers;
mod chronicle;
pub mod cli;
mod clock;
mod deliver;
mod disk;
mod event;
mod fault;
pub mod figures;
mod host;
mod inside;
mod invariant;
mod measure;
mod net;
mod operator;
mod parting;
pub mod placing;
mod promise;
mod queue;
mod recording;
mod report;
pub mod scenario;
pub mod shrink;
mod start;
pub mod story;
mod swarm;
pub mod sweep;
mod truth;
mod watch;
mod workload;
mod world;

pub use dunlin_core::Counts;
pub use measure::{Quantiles, Sample, Spread};
pub use net::Conditions;
pub use workload::Behaviour;
