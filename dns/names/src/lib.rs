//! Names: from what the flock runs to DNS records to answers, without I/O.
//!
//! The node's core says what may be answered with ([`NameChange`]); [`Zone`] keeps it and answers questions. This crate
//! never judges health, reads a clock or touches a socket.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod answer;
mod change;
mod name;
mod zone;

pub use answer::{Answer, Data, Record, Wanted};
pub use change::{Instance, NameChange, restate};
pub use name::{Fqdn, address_of_reverse, reverse};
pub use zone::{RESERVED, Zone};

#[cfg(test)]
mod tests;
