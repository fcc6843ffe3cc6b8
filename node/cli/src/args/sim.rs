//! What can be typed behind `dunlin sim`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use dunlin_gossip::model::Strategy;

/// `dunlin sim`
#[derive(Debug, Subcommand)]
pub(crate) enum Sim {
    /// Run a scenario; exits 1 if a promise was broken
    #[command(
        after_help = "Examples:\n  dunlin sim run kill-one --nodes 100\n  dunlin sim run lossy --seeds 1..100 --jobs 2\n  \
                      dunlin sim run kill-one --seeds 1..20 --report out\n  dunlin sim run ./my-scenario.yaml --seed 7 --json"
    )]
    Run {
        /// A built-in name (`dunlin sim list`) or a file
        scenario: String,
        /// Instead of the scenario's own number of nodes
        #[arg(long, value_name = "N")]
        nodes: Option<u32>,
        /// One seed
        #[arg(long, default_value_t = 1, value_name = "S", conflicts_with = "seeds")]
        seed: u64,
        /// Many seeds, both ends included
        #[arg(long, value_name = "A..B")]
        seeds: Option<String>,
        /// Where to write a file for each run that broke a promise, for `replay` and `shrink`
        #[arg(long, default_value = ".", value_name = "DIR")]
        traces: PathBuf,
        /// How many seeds at a time
        #[arg(long, default_value_t = 1, value_name = "J")]
        jobs: usize,
        /// Write DIR/report.html, one page to look at offline, and DIR/report.json
        #[arg(long, value_name = "DIR")]
        report: Option<PathBuf>,
        /// One JSON document: an object for one seed, an array for many
        #[arg(long)]
        json: bool,
    },
    /// How soon a flock knows, whom it gives up wrongly, what it says at rest: worlds of any size, beside the goals
    #[command(after_help = "Examples:\n  dunlin sim figures deaths --nodes 1000\n  \
                            dunlin sim figures --nodes 50 --baseline sim/figures.json")]
    Figures {
        /// Only these rows; without names all of them
        #[arg(value_name = "ROW")]
        rows: Vec<String>,
        /// So many nodes in each world
        #[arg(long, default_value_t = 1000, value_name = "N")]
        nodes: u32,
        /// Show what has changed since these were saved
        #[arg(long, value_name = "FILE")]
        baseline: Option<PathBuf>,
        /// Write the values there, for a later `--baseline`
        #[arg(long, value_name = "FILE")]
        save: Option<PathBuf>,
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
    /// Place the tasks of a list on the nodes of a list, by the code that nodes run
    #[command(
        after_help = "Examples:\n  dunlin sim place --nodes nodes.csv --tasks tasks.csv\n  dunlin sim place --nodes \
                      nodes.csv --tasks tasks.csv --demand 130 --seeds 1..5\n  dunlin sim place --nodes nodes.csv \
                      --tasks tasks.csv --demand 95 --departures 600 --json"
    )]
    Place(SimPlace),
    /// Run again what a file has recorded, and say whether it is the same run; exits 1 if a promise was broken
    #[command(after_help = "Example:\n  dunlin sim replay swarm-20-7.trace.yaml")]
    Replay {
        /// A file that `dunlin sim run` or `dunlin sim shrink` has written
        trace: String,
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
    /// Make a recorded failure small: fewer faults, fewer nodes, shorter; told as a story and written beside the file
    #[command(after_help = "Example:\n  dunlin sim shrink swarm-20-7.trace.yaml")]
    Shrink {
        /// A file that `dunlin sim run` has written
        trace: String,
        /// Stop where it is after so many runs
        #[arg(long, default_value_t = 3000, value_name = "N")]
        runs: u64,
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
    /// The built-in scenarios
    List {
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
    /// A built-in scenario's text
    Show {
        /// Its name
        scenario: String,
        /// Of `swarm`: the seed that draws it
        #[arg(long, default_value_t = 1, value_name = "S")]
        seed: u64,
        /// Of `swarm`: at most so many nodes
        #[arg(long, value_name = "N")]
        nodes: Option<u32>,
    },
}

/// `dunlin sim place`
#[derive(Debug, Args)]
pub(crate) struct SimPlace {
    /// A list of nodes: columns cpu_milli, memory_mib, and if there are such sn, gpu, model
    #[arg(long, value_name = "NODES.csv")]
    pub(crate) nodes: PathBuf,
    /// A list of tasks: columns cpu_milli, memory_mib, and if there are such num_gpu, gpu_milli, gpu_spec
    #[arg(long, value_name = "TASKS.csv")]
    pub(crate) tasks: PathBuf,
    /// Draw tasks again, or leave some out, until they ask for so much of all GPUs (cpus, where there are none) [default: the list as it is]
    #[arg(long, value_name = "PCT", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) demand: Option<u32>,
    /// Which of the candidates is best; a service says it with x-dunlin.strategy
    #[arg(long, value_enum, default_value_t = Policy::Apart, value_name = "P")]
    pub(crate) policy: Policy,
    /// How many candidates compete
    #[arg(long, default_value_t = 8, value_name = "K", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) k: u16,
    /// So many decisions on one view, which the next ones do not see; what a node then refuses is decided anew
    #[arg(long, default_value_t = 1, value_name = "B", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) in_flight: u32,
    /// Afterwards so many times a node goes, what it ran is placed elsewhere, and it comes back empty
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u32).range(..=100_000))]
    pub(crate) departures: u32,
    /// One seed
    #[arg(long, default_value_t = 1, value_name = "S", conflicts_with = "seeds")]
    pub(crate) seed: u64,
    /// Many seeds, both ends included
    #[arg(long, value_name = "A..B")]
    pub(crate) seeds: Option<String>,
    /// One JSON document: an object for one seed, an array for many
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which of the candidates is best.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Policy {
    /// Replicas of one service apart, then packed: what services do that say nothing
    Apart,
    /// Packed
    Binpack,
    /// Where most is left
    Spread,
}

impl Policy {
    pub(crate) const fn strategy(self) -> Strategy {
        match self {
            Self::Apart => Strategy::Apart,
            Self::Binpack => Strategy::Binpack,
            Self::Spread => Strategy::Spread,
        }
    }
}
