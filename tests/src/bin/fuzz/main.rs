//! Fuzzing on the stable toolchain: what comes from wires, what DNS is asked, what lies on disks, and sequences of operations.
//!
//! `cargo run --release -p dunlin-tests --bin fuzz -- wire|dns|disk|ops [--seconds S | --cases N] [--from CASE]`
//!
//! A case is a number: what it does follows from that alone. A case that fails is told with the command that runs it again,
//! and the process exits with 1. There is no guidance by coverage; instead, inputs begin as what real nodes say and write
//! (docs/decisions/0020-fuzzing-on-stable.md says why).

mod disk;
mod dns;
mod mutate;
mod ops;
mod wire;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dunlin_gossip::rng::Seed;

const USAGE: &str = "usage: fuzz wire|dns|disk|ops [--seconds S | --cases N] [--from CASE]\n\
                     example: fuzz wire --seconds 600";
/// Without a limit of its own, so long.
const SECONDS: u64 = 10;

/// One kind of input: what a case does with its seed, and what was wrong.
type Target = fn(Seed) -> Result<(), String>;

struct Wanted {
    name: String,
    target: Target,
    time: Duration,
    cases: u64,
    from: u64,
}

fn wanted(mut arguments: impl Iterator<Item = String>) -> Option<Wanted> {
    let name = arguments.next()?;
    let target: Target = match name.as_str() {
        "wire" => wire::case,
        "dns" => dns::case,
        "disk" => disk::case,
        "ops" => ops::case,
        _ => return None,
    };
    let mut wanted = Wanted { name, target, time: Duration::from_secs(SECONDS), cases: u64::MAX, from: 1 };
    while let Some(option) = arguments.next() {
        let number = arguments.next()?.parse().ok()?;
        match option.as_str() {
            "--seconds" => wanted.time = Duration::from_secs(number),
            "--cases" => (wanted.cases, wanted.time) = (number, Duration::MAX),
            "--from" => wanted.from = number,
            _ => return None,
        }
    }
    Some(wanted)
}

/// What a case says of itself, a panic being one of the ways.
fn run(target: Target, case: u64) -> Result<(), String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| target(Seed(case))));
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("of an unknown kind");
        Err(format!("panic: {text}"))
    })
}

#[allow(clippy::print_stdout, clippy::print_stderr, reason = "this program's output is its report")]
fn main() -> ExitCode {
    let Some(wanted) = wanted(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let Wanted { name, target, time, cases, from } = wanted;
    // What is caught is told below; libraries that panic on damage, and are caught, say nothing.
    std::panic::set_hook(Box::new(|_| {}));
    let began = Instant::now();
    let (mut done, mut slowest) = (0, (Duration::ZERO, 0));
    while done < cases && began.elapsed() < time {
        let case = from + done;
        let begin = Instant::now();
        let outcome = run(target, case);
        slowest = slowest.max((begin.elapsed(), case));
        if let Err(why) = outcome {
            eprintln!("{name}, case {case}: {why}\nagain: fuzz {name} --cases 1 --from {case}");
            return ExitCode::FAILURE;
        }
        done += 1;
    }
    println!(
        "{name}: {done} cases from {from} on in {:.1} s, nothing found; the slowest, {}, took {:.2} s",
        began.elapsed().as_secs_f64(),
        slowest.1,
        slowest.0.as_secs_f64()
    );
    ExitCode::SUCCESS
}
