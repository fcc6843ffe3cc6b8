//! The agent: a tokio shell around the node's pure core.
//!
//! One loop owns the core and everything that it decides (`run`); around it stand the disk's thread, the network, the
//! drivers, the name server and the API, each of which speaks with the loop through one bounded channel. The agent
//! decides nothing about placement, membership or names: it carries inputs to the core and does what the core puts out.
//!
//! Reading order: [`settings`], [`setup`], `start`, `run`, [`disk`], [`api`], [`driver`], [`keep`].

mod admit;
pub mod api;
pub mod clock;
mod custody;
pub mod disk;
mod doctor;
pub mod driver;
mod events;
pub mod gpus;
pub mod host;
pub mod keep;
pub mod lock;
mod metrics;
mod names;
mod read;
mod relay;
pub mod resolvers;
mod run;
mod seeds;
pub mod settings;
pub mod setup;
mod sight;
mod start;
mod watch;
mod watchdog;

pub use start::{AgentError, run};
