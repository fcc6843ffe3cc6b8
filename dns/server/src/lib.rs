//! The DNS server inside every node: sockets over an immutable snapshot of the name table.
//!
//! Changes come in through [`DnsServer::apply`], which publishes a new snapshot; a query reads one snapshot from beginning to
//! end and takes no lock. Common questions are answered from packet to packet by [`dunlin_names`], all others by hickory's
//! types (`reply`), names of other zones by resolvers that others run (`forward`). This crate decides nothing about names:
//! [`dunlin_names`] does.

mod cache;
mod cookie;
mod forward;
mod gate;
mod listen;
mod mmsg;
mod records;
mod reply;
mod resolver;
mod tally;
mod tcp;
mod times;
mod udp;

pub use gate::Network;
pub use listen::{DnsConfig, DnsError, DnsServer};
pub use resolver::Upstream;
pub use tally::{DnsAnswers, Forwarded};
pub use times::AnswerTimes;

#[cfg(test)]
mod tests;
