//! What each key of a service means, one module a theme; [`mod@service`] is where they meet.

mod amounts;
mod deploy;
mod environment;
mod health;
mod placing;
mod ports;
mod service;
mod workload;

pub(crate) use ports::Port;
pub(crate) use service::{Read, service};
