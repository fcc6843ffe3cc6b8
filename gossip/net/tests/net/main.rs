//! Real endpoints on loopback, from outside.

mod flock;
mod joining;
mod planes;
mod trust;
