//! What goes into a node and what comes out of it: one closed enum each way, and everything that they carry.
//!
//! The agent and the simulator are shells around exactly these types.

mod driver;
mod input;
mod output;
mod request;

pub use driver::{Adopted, DriverCommand, DriverEvent, Exit, ProbeOutcome, StartFailure, StartSpec};
pub use input::{Input, NodeConfig};
pub use output::{Event, EventKind, Output, Outputs};
pub use request::{Ack, Admission, OrderEdit, Problem, ProblemKind, Reply, Request, RequestId, RolloutOrder, Written};
