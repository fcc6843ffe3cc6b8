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
    /// Write a scenario of a Compose file: its services on so many nodes, and the loss of a zone or a node
    #[command(
        after_help = "Examples:\n  dunlin sim init --from compose.yaml --nodes 30 --zones 3\n  dunlin sim init --from \
                            compose.yaml --cpus 4 --memory 8G --inline --out shop.sim.yaml\n  dunlin sim run shop.sim.yaml"
    )]
    Init(SimInit),
    /// Write a scenario that starts from the flock that runs, or run it at once: try the failure there first
    #[command(
        after_help = "Examples:\n  dunlin sim from-cluster --kill-zone cellar\n  dunlin sim from-cluster --kill n3 --run \
                            --report out\n  dunlin sim from-cluster --out now.sim.yaml --force --json"
    )]
    FromCluster(SimFlock),
    /// A report in eighty columns: of a run that is over, or of a scenario that is run for it
    #[command(after_help = "Examples:\n  dunlin sim view out\n  dunlin sim view kill-one --nodes 30\n  \
                            dunlin sim view zone-outage-20-7.trace.yaml\n  dunlin sim run kill-one --json > a.json; dunlin sim view a.json")]
    View {
        /// A report's folder or `report.json`, what `sim run --json` printed, a recorded run, or a scenario
        #[arg(value_name = "REPORT|TRACE|SCENARIO")]
        what: String,
        /// Of a scenario: so many nodes
        #[arg(long, value_name = "N")]
        nodes: Option<u32>,
        /// Of a scenario: this seed
        #[arg(long, value_name = "S")]
        seed: Option<u64>,
        /// The document itself
        #[arg(long)]
        json: bool,
    },
    /// Two documents of runs side by side, with what became worse marked
    #[command(
        after_help = "Examples:\n  dunlin sim run kill-one --seeds 1..20 --json > before.json\n  (another build) dunlin sim run \
                            kill-one --seeds 1..20 --json > after.json\n  dunlin sim compare before.json after.json --fail-on-worse 10"
    )]
    Compare {
        /// A report's folder, a `report.json`, or what `sim run --json` printed
        a: String,
        /// Another
        b: String,
        /// Exit 1 if a figure is worse by more than so many percent
        #[arg(long, value_name = "PCT")]
        fail_on_worse: Option<f64>,
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
    /// One scenario in flocks of several sizes: how detection, failover and traffic grow, as a table and as curves
    #[command(after_help = "Examples:\n  dunlin sim sweep kill-one --sizes 100,300,1000 --report curves\n  \
                            dunlin sim sweep ./my-scenario.yaml --sizes 10,30,100 --seeds 1..5 --jobs 2 --json")]
    Sweep(SimSweep),
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

/// `dunlin sim init`
#[derive(Debug, Args)]
pub(crate) struct SimInit {
    /// The Compose file
    #[arg(long, value_name = "FILE")]
    pub(crate) from: PathBuf,
    /// On so many nodes
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) nodes: u32,
    /// In so many zones
    #[arg(long, default_value_t = 1, value_name = "Z", value_parser = clap::value_parser!(u32).range(1..=26))]
    pub(crate) zones: u32,
    /// Cpus of each node: 4 or 0.5
    #[arg(long, default_value = "8", value_name = "N")]
    pub(crate) cpus: String,
    /// Memory of each node: 512M, 16G
    #[arg(long, default_value = "16G", value_name = "BYTES")]
    pub(crate) memory: String,
    /// Between nodes
    #[arg(long, value_enum, default_value_t = Latency::Lan, value_name = "L")]
    pub(crate) latency: Latency,
    /// Between nodes of two zones
    #[arg(long, value_enum, default_value_t = Latency::Metro, value_name = "L")]
    pub(crate) zone_latency: Latency,
    /// Put the Compose file's text into the scenario, not its path
    #[arg(long)]
    pub(crate) inline: bool,
    /// Where to write it; `-` for standard output [default: NAME.sim.yaml]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Over a file that is there
    #[arg(long)]
    pub(crate) force: bool,
    /// One JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `dunlin sim from-cluster`
#[derive(Debug, Args)]
pub(crate) struct SimFlock {
    /// These nodes die in the simulation; without any, one on which something runs
    #[arg(long, value_name = "NODE", conflicts_with = "kill_zone")]
    pub(crate) kill: Vec<String>,
    /// All nodes of this zone die
    #[arg(long, value_name = "ZONE")]
    pub(crate) kill_zone: Option<String>,
    /// Where to write it
    #[arg(long, default_value = "flock.sim.yaml", value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Over a file that is there
    #[arg(long)]
    pub(crate) force: bool,
    /// Run it as well
    #[arg(long)]
    pub(crate) run: bool,
    /// With many seeds, both ends included
    #[arg(long, value_name = "A..B", requires = "run")]
    pub(crate) seeds: Option<String>,
    /// And write DIR/report.html and DIR/report.json
    #[arg(long, value_name = "DIR", requires = "run")]
    pub(crate) report: Option<PathBuf>,
    /// One JSON document: what was written, or with --run what came of it
    #[arg(long)]
    pub(crate) json: bool,
}

/// `dunlin sim sweep`
#[derive(Debug, Args)]
pub(crate) struct SimSweep {
    /// A built-in name (`dunlin sim list`) or a file
    pub(crate) scenario: String,
    /// Numbers of nodes, with commas between them
    #[arg(long, default_value = "10,30,100,300", value_name = "N,N,...")]
    pub(crate) sizes: String,
    /// Of each size these seeds, both ends included
    #[arg(long, default_value = "1..3", value_name = "A..B")]
    pub(crate) seeds: String,
    /// How many seeds at a time
    #[arg(long, default_value_t = 1, value_name = "J")]
    pub(crate) jobs: usize,
    /// Write DIR/sweep.html, DIR/sweep.svg and DIR/sweep.json
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// One JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// A table of latencies.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Latency {
    /// 20 to 200 microseconds
    Loopback,
    /// 0.1 to 2 ms
    Lan,
    /// 0.5 to 10 ms
    Metro,
    /// 5 to 150 ms
    Wan,
}

impl Latency {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Lan => "lan",
            Self::Metro => "metro",
            Self::Wan => "wan",
        }
    }
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
