//! The simulator's scenario files against real agents.
//!
//! Two ways: untimed, each step as soon as the flock has settled after the one before, for the promises (`settle`); and by
//! the clock, each step at the file's own moment on a network that behaves as the file says, for the figures (`clock`), which
//! are then held against those of the simulator (`simulate`, `report`).
//!
//! Divergences from the simulated run, on purpose: hosts are network namespaces of one machine; the victims are the last
//! hosts and never the first, at which the harness asks; every flock has been up for long when the clock starts, which is the
//! simulator's start `joined`, or `running` where the file says so.
//!
//! Reading order: `plan`, `flock`, `settle`; `watch`, `counts`, `tell`, `clock`; `simulate`, `report`.

pub mod clock;
pub mod counts;
pub mod flock;
pub mod plan;
pub mod report;
mod settle;
pub mod simulate;
pub mod tell;
pub mod watch;
