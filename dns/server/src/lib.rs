//! The DNS server inside every node: hickory's listeners over an immutable snapshot of the name table.
//!
//! Changes come in through [`DnsServer::apply`], which publishes a new snapshot; a query reads one snapshot from beginning to
//! end and takes no lock. This crate decides nothing about names: [`dunlin_names`] does.

mod handler;
mod listen;
mod records;

pub use listen::{DnsAnswers, DnsConfig, DnsError, DnsServer};
