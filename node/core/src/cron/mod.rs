//! The calendar: from what an author writes to the moments at which a run is due.
//!
//! - `parse`: the five fields of cron.
//! - [`Dates`]: when a calendar is due, in a time zone.
//! - `tend`: when a node looks at it. What it makes of it is in `view/cron.rs`.
//!
//! The first two are pure functions of a calendar and a moment. The rules of time zones are part of the program and never read from the host: two
//! nodes must come to the same moments, or each runs what the other does not know of.

mod dates;
mod parse;
mod tend;

pub(crate) use dates::is_ever;
pub use dates::{Dates, zone};
pub use parse::{Fault, parse};
pub(crate) use tend::Crons;
