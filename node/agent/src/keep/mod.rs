//! The keeper: a small process beside each exec allocation, so that agents may come and go.
//!
//! It is parent and subreaper of the workload, owner of its log, its exit record and its control socket. An agent starts
//! it with the attempt's directory as its one argument; everything else, secrets included, is in the `spec` file there:
//!
//! | file | what |
//! |---|---|
//! | `spec` | what to run ([`record::KeepSpec`]), written by the agent |
//! | `lock` | locked for as long as the keeper lives: it inherits the lock as its standard input |
//! | `ctl` | control socket, [`proto`] |
//! | `started`, `exit` | [`record::Started`], [`record::Ended`] |
//! | `keeper.err` | the keeper's own words, should it ever fail |
//!
//! Standard output is its first control connection, so that a start needs no polling.
//!
//! What may run only under a lease has the moment of its end in the specification, and later ones by `Extend`: at that moment a
//! thread kills it, agent alive or not (`lease`). A keeper that knows no leases says none in its status, and its agent ends it.
//!
//! A keeper must never: link to an async runtime's threads, use more than a few pages, put its secrets where others see
//! them, forget a descendant, or wait for an agent. It ends when its workload has ended, and only then.

mod control;
mod lease;
mod log;
pub(crate) mod proto;
pub(crate) mod reap;
pub(crate) mod record;
mod run;
mod slim;

pub(crate) use log::rotated;

use std::path::PathBuf;

/// The body of the hidden `dunlin keep --dir DIR`. Gives the exit code; synchronous on purpose, see the module's essay.
///
/// Call it first of all: it needs a process with one thread, and closes every file but the first three.
pub fn main(args: impl IntoIterator<Item = String>) -> i32 {
    let mut args = args.into_iter();
    let dir = match (args.next().as_deref(), args.next(), args.next()) {
        (Some("--dir"), Some(dir), None) => PathBuf::from(dir),
        _ => {
            complain("usage: dunlin keep --dir DIR (agents call this, not people)");
            return 2;
        }
    };
    match run::run(&dir) {
        Ok(()) => 0,
        Err(error) => {
            complain(&format!("dunlin keep: {}: {error}", dir.display()));
            1
        }
    }
}

fn complain(text: &str) {
    use std::io::Write;
    // There is nobody left to tell if this fails.
    let _nobody = writeln!(std::io::stderr(), "{text}");
}
