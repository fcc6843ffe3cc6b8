//! Names: from what the flock runs to DNS records to answers, without I/O.
//!
//! The node's core says what may be answered with ([`NameChange`]); [`Zone`] keeps it and answers questions, twice over: in
//! full ([`Zone::answer`]), and for the commonest questions from packet to packet ([`Zone::quick`]). This crate never judges
//! health, reads a clock or touches a socket.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod answer;
mod change;
mod describe;
mod export;
mod find;
mod instances;
mod name;
mod near;
mod packed;
mod quick;
mod table;
mod zone;

pub use answer::{Answer, Data, Record, Wanted};
pub use change::{Instance, NameChange, restate};
pub use describe::Standing;
pub use name::{Fqdn, address_of_reverse, reverse};
pub use quick::{MAX_PAYLOAD, MIN_PAYLOAD, Quick, SOA_MINIMUM, SOA_TIMERS};
pub use zone::{RESERVED, Zone};

/// Time to live of the answers about the flock: what changes within a second must be asked again within a second. What stops
/// waits for it.
pub const TTL: core::time::Duration = core::time::Duration::from_secs(1);

#[cfg(test)]
mod tests;
