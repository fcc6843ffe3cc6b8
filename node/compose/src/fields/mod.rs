//! What each key of a service means, one module a theme; [`mod@service`] is where they meet.

mod amounts;
mod deploy;
mod environment;
mod health;
mod job;
mod placing;
mod ports;
mod rollout;
mod schedule;
mod service;
mod waves;
mod workload;

pub(crate) use placing::Places;
pub(crate) use ports::Port;
pub(crate) use service::{Read, service};
pub(crate) use waves::waves;
