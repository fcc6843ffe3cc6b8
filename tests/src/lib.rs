//! The harness of the end-to-end tests: clusters of real processes, faults, and waits that say what was missing.

pub mod ask;
pub mod cluster;
pub mod env;
pub mod netns;
pub mod parity;
pub mod web;

pub use dunlin_test_host::wait;
