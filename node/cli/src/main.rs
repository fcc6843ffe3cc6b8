//! The `dunlin` binary: arguments to command to exit code.
//!
//! What was typed is parsed in [`args`]; each command lives in its own file under [`command`], ends in data, and is printed
//! by [`render`]. Exit codes: 0 done, 1 failed, 2 bad usage or bad input, 3 timed out waiting.
#![deny(unsafe_code)]

mod args;
mod client;
mod command;
mod demo;
mod failure;
mod render;

use std::process::ExitCode;

use clap::Parser as _;

const _: () = assert!(
    !dunlin_gossip::canary::COMPILED_IN,
    "the feature `canary` plants bugs; it is for the simulator's tests only"
);

fn main() -> ExitCode {
    let typed = args::Typed::parse();
    match command::run(typed) {
        Ok(code) => code,
        Err(failure) => {
            failure.print();
            failure.code()
        }
    }
}
