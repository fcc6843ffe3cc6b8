//! What can be typed. Every option here is used; every command has an example in its help.

mod ask;
mod dns;
mod node;
mod rollout;
mod run;
mod sim;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use ask::{Explain, Plan, Whatif};
pub(crate) use dns::{BenchServer, Dns, DnsQuery};
pub(crate) use node::{Labels, Node, OrderOptions};
pub(crate) use rollout::{History, Rollback, Rollout, RolloutStatus};
pub(crate) use run::Run;
pub(crate) use sim::{Sim, SimFlock, SimInit, SimPlace, SimSweep};

/// Run workloads on a flock of hosts that has no master.
#[derive(Debug, Parser)]
#[command(
    name = "dunlin",
    version,
    max_term_width = 100,
    after_help = "Begin with:\n  dunlin demo                                  see it work on this machine\n  \
                  dunlin init && dunlin agent                  the first node of a new cluster\n  \
                  dunlin deploy -f compose.yaml --wait         run something\n\n\
                  Exit codes: 0 done, 1 failed, 2 bad usage or bad input, 3 timed out waiting."
)]
pub(crate) struct Typed {
    /// The agent's data directory, where its socket is [default: /var/lib/dunlin as root, else ~/.local/share/dunlin]
    #[arg(long, global = true, env = "DUNLIN_DATA_DIR", value_name = "D")]
    pub(crate) data_dir: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands, in the order in which people meet them.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A real cluster on this machine: a workload, a killed node, names that follow
    #[command(after_help = "Examples:\n  dunlin demo\n  dunlin demo --nodes 3 --json\n  dunlin demo --hold")]
    Demo(Demo),
    /// Make a new cluster: its CA, its id, its first node; prints the join command
    #[command(after_help = "Examples:\n  dunlin init\n  dunlin init --name oslo --data-dir /srv/dunlin")]
    Init(Init),
    /// Run this host's node
    #[command(
        after_help = "Examples:\n  dunlin agent\n  dunlin agent --join 192.0.2.7:7400 --token-file token.txt\n  \
                      dunlin agent --zone cellar --label disk=ssd --cpus 2 --memory 2G"
    )]
    Agent(Box<Agent>),
    /// Run what a Compose file says
    #[command(
        after_help = "Examples:\n  dunlin deploy -f compose.yaml\n  dunlin deploy -f compose.yaml --stack shop --wait\n  \
                      dunlin deploy -f compose.yaml --ack all\n  dunlin deploy -f compose.yaml --activate"
    )]
    Deploy(Deploy),
    /// Run one program to its end, somewhere: its output here, its exit code as this command's
    #[command(
        after_help = "Examples:\n  dunlin run -- echo hello\n  dunlin run --rm --image alpine -- cat /etc/os-release\n  dunlin run -d \
                      --name migrate -e DB=db.shop -m 512M -- ./migrate --all\n  dunlin run --node oslo -- df -h\n\n\
                      Without --detach it waits, prints what the program prints, and exits with its exit code; 128 and the\n\
                      signal's number where a signal ended it. Ctrl-C ends the waiting, not the program: `dunlin rm \
                      default/NAME`\ndoes. Codes of this command itself are those of all others: 1 failed, 2 bad input."
    )]
    Run(Box<Run>),
    /// What deploying a Compose file would do: where its replicas would go, what would move, what does not fit
    #[command(
        after_help = "Examples:\n  dunlin plan -f compose.yaml\n  dunlin plan -f compose.yaml --stack shop --json"
    )]
    Plan(Plan),
    /// What would move, and what would find no place, if nodes went, came, or were labelled otherwise
    #[command(
        after_help = "Examples:\n  dunlin whatif --lose zone=b\n  dunlin whatif --lose node=oslo,bergen\n  dunlin whatif \
                      --drain node=oslo --add like=bergen,2\n  dunlin whatif --label oslo:disk=ssd --json"
    )]
    Whatif(Whatif),
    /// Why a replica is where it is, and why not elsewhere: each node's place, score, or the rule that keeps it off
    #[command(after_help = "Example:\n  dunlin explain shop/web.3")]
    Explain(Explain),
    /// Replicas: where they are and how they are
    #[command(after_help = "Examples:\n  dunlin ps\n  dunlin ps shop/web\n  dunlin ps --json")]
    Ps(Ps),
    /// Stacks
    #[command(after_help = "Example:\n  dunlin stacks --json")]
    Stacks(Listing),
    /// Services
    #[command(after_help = "Example:\n  dunlin services")]
    Services(Listing),
    /// Nodes, their state and their room
    #[command(after_help = "Example:\n  dunlin nodes")]
    Nodes(Listing),
    /// What happened, as this node saw it
    #[command(after_help = "Examples:\n  dunlin events\n  dunlin events --follow")]
    Events(Events),
    /// Output of a service's replicas, from whichever node they run on
    #[command(after_help = "Examples:\n  dunlin logs shop/web\n  dunlin logs -f web.2 --tail 100")]
    Logs(Logs),
    /// Change how many replicas a service has
    #[command(after_help = "Example:\n  dunlin scale shop/web=5")]
    Scale(Scale),
    /// How services get from one revision to the next: status, history, pause, resume, promote
    #[command(subcommand)]
    Rollout(Rollout),
    /// Go back to an earlier revision of a service
    #[command(after_help = "Examples:\n  dunlin rollback shop/web\n  dunlin rollback shop/web --to 5f2a91c0")]
    Rollback(Rollback),
    /// Stop a stack, or one service of it, and forget it
    #[command(after_help = "Examples:\n  dunlin rm shop\n  dunlin rm default/migrate")]
    Rm(Rm),
    /// Concurrent writes that differ, and which of them is in force; `resolve` settles one
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  dunlin conflicts\n  dunlin conflicts resolve shop/web --keep 2"
    )]
    Conflicts(Conflicts),
    /// What is done to a node from elsewhere
    #[command(subcommand)]
    Node(Node),
    /// The cluster's authority, by which nodes know each other
    #[command(subcommand)]
    Ca(Ca),
    /// Tokens that let new nodes join
    #[command(subcommand)]
    Token(Token),
    /// How this node sees itself and the flock
    #[command(after_help = "Example:\n  dunlin status --json")]
    Status(Listing),
    /// What goes wrong on this node, with what to do about it; exits 1 if something fails
    #[command(after_help = "Example:\n  dunlin doctor")]
    Doctor(Listing),
    /// What names answer and why; all of them as a zone file; a server to measure
    #[command(subcommand)]
    Dns(Dns),
    /// Run the same code on thousands of virtual nodes
    #[command(subcommand)]
    Sim(Sim),
    /// A completion script for a shell
    #[command(after_help = "Example:\n  dunlin completions bash > /etc/bash_completion.d/dunlin")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// A small HTTP server to try things with: answers with who it is; `/health` says ok
    #[command(after_help = "Example:\n  PORT=8080 dunlin hello")]
    Hello,
    /// Internal: ends a demo's processes when the demo ends, however it ends
    #[command(hide = true)]
    DemoGuard {
        /// The demo's directory
        dir: PathBuf,
    },
    /// Internal: parent of one workload
    #[command(hide = true)]
    Keep {
        /// As the agent gives them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

/// `dunlin demo`
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// How many nodes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(3..=20))]
    pub(crate) nodes: u8,
    /// Keep it running until Ctrl-C, to look around
    #[arg(long)]
    pub(crate) hold: bool,
    /// Print one JSON document instead of the story
    #[arg(long)]
    pub(crate) json: bool,
}

/// `dunlin init`
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// This node's name [default: the host's name]
    #[arg(long, value_name = "N")]
    pub(crate) name: Option<String>,
    /// Address and port at which other nodes will reach this one, for the join command
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) advertise: Option<SocketAddr>,
    /// How long the printed join token is good, in hours
    #[arg(long, default_value_t = 24, value_name = "H")]
    pub(crate) token_hours: u32,
    /// One JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `dunlin agent`. Everything can also stand in a TOML file (`--config`) under the same names; what is typed wins.
#[derive(Debug, Args)]
pub(crate) struct Agent {
    /// A node to join by; repeat for more. Host names are resolved again at each try
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) join: Vec<String>,
    /// The join token; better --token-file or DUNLIN_TOKEN, which other users of the host cannot see
    #[arg(long, env = "DUNLIN_TOKEN", hide_env_values = true, value_name = "T")]
    pub(crate) token: Option<String>,
    /// A file with the join token
    #[arg(long, value_name = "F", conflicts_with = "token")]
    pub(crate) token_file: Option<PathBuf>,
    /// This node's name [default: the one it has, of a new node the host's]
    #[arg(long, value_name = "N")]
    pub(crate) name: Option<String>,
    /// Where to listen for other nodes, UDP [default: 0.0.0.0:7400]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) bind: Option<SocketAddr>,
    /// Where other nodes reach this one [default: the bound address, or this host's address towards the first seed]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) advertise: Option<SocketAddr>,
    /// Where to answer DNS, UDP and TCP; repeat for more [default: 127.0.0.1:7453]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) dns: Vec<SocketAddr>,
    /// A network that may ask for names, besides private ones and this host's own; repeat for more. Others are refused
    #[arg(long, value_name = "NET")]
    pub(crate) dns_allow: Vec<String>,
    /// Datagrams a second from one client (this host excepted) beyond which it must ask by TCP; 0: no limit [default: 5000]
    #[arg(long, value_name = "N")]
    pub(crate) dns_rate: Option<u32>,
    /// A resolver for names of other zones, or of one; repeat for more. Without any they are refused
    #[arg(long, value_name = "[ZONE=]ADDR[:PORT]")]
    pub(crate) dns_forward: Vec<String>,
    /// Where containers find this node's DNS, port 53: an address, `off`, or `auto`, the engine's own network if the port is free
    /// there. They then ask it for all names, which it forwards to --dns-forward or else this host's resolvers [default: auto]
    #[arg(long, value_name = "ADDR|auto|off")]
    pub(crate) workload_dns: Option<String>,
    /// The zone of names [default: dunlin.internal]
    #[arg(long, value_name = "ZONE")]
    pub(crate) domain: Option<String>,
    /// A label of this node; repeat for more
    #[arg(long, value_name = "K=V")]
    pub(crate) label: Vec<String>,
    /// The zone that this node is in; the label `zone`
    #[arg(long, value_name = "Z")]
    pub(crate) zone: Option<String>,
    /// CPUs to give to workloads [default: all that this agent may use]
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Option<String>,
    /// Memory to give to workloads, as 512M or 4G [default: all that this agent may use]
    #[arg(long, value_name = "N")]
    pub(crate) memory: Option<String>,
    /// CPUs of what this agent may use to keep for the host, as 0.5; not with --cpus [default: none]
    #[arg(long, value_name = "N", conflicts_with = "cpus")]
    pub(crate) reserve_cpus: Option<String>,
    /// Memory of what this agent may use to keep for the host, as 512M; not with --memory [default: none]
    #[arg(long, value_name = "N", conflicts_with = "memory")]
    pub(crate) reserve_memory: Option<String>,
    /// Processes to give to workloads [default: what the kernel allows]
    #[arg(long, value_name = "N")]
    pub(crate) pids: Option<u64>,
    /// Disk to give to workloads, as in 100G [default: the data directory's file system]
    #[arg(long, value_name = "N")]
    pub(crate) disk: Option<String>,
    /// Devices to give to workloads; repeat for more. NVIDIA's and AMD's GPUs are found; gpu=0 gives none [default: the GPUs found]
    #[arg(long, value_name = "KIND=COUNT[:MODEL]")]
    pub(crate) device: Vec<String>,
    /// How long this node's certificates are good, as 90d, 12h or 30m; renewed in the last third [default: 90d]
    #[arg(long, value_name = "T")]
    pub(crate) certificate_lifetime: Option<String>,
    /// Range of ports for workloads that leave the choice to the node [default: 20000-32000]
    #[arg(long, value_name = "A-B")]
    pub(crate) ports: Option<String>,
    /// Replicas a minute that this node takes from fuller ones once it has joined, has come back, or is drained no more, until it has
    /// its share; 0: none [default: 6]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=6_000))]
    pub(crate) rebalance: Option<u32>,
    /// A TOML file with the same options
    #[arg(long, value_name = "F")]
    pub(crate) config: Option<PathBuf>,
}

/// How durable a write must be before it is answered.
#[derive(Debug, Args)]
pub(crate) struct Durability {
    /// How many nodes must have it on disk, this one included, or `all` [default: one more, where there is one]
    #[arg(long, value_name = "K")]
    pub(crate) ack: Option<String>,
    /// How long to wait, in seconds
    #[arg(long, default_value_t = 60, value_name = "S", value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub(crate) timeout: u32,
}

/// `dunlin deploy`
#[derive(Debug, Args)]
pub(crate) struct Deploy {
    /// The Compose file; `-` reads standard input
    #[arg(short, long, default_value = "compose.yaml", value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The stack's name [default: the file's `name:`, or its folder's name]
    #[arg(long, value_name = "S")]
    pub(crate) stack: Option<String>,
    /// Wait until every replica is ready and every job complete; exits 1 if a job has failed
    #[arg(long)]
    pub(crate) wait: bool,
    /// Act on it everywhere at once, whatever `x-dunlin.waves` of the file says; also where a first wave did not go well
    #[arg(long)]
    pub(crate) activate: bool,
    #[command(flatten)]
    pub(crate) durability: Durability,
    /// One JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `dunlin ps`
#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Only this stack, service or replica: shop, shop/web, web.2
    pub(crate) what: Option<String>,
    /// Also what was lost with its node and runs elsewhere by now
    #[arg(short, long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) listing: Listing,
}

/// Options of every listing.
#[derive(Debug, Args)]
pub(crate) struct Listing {
    /// One JSON document
    #[arg(long)]
    pub(crate) json: bool,
    /// Wait until this node holds the write whose reply carried this stamp
    #[arg(long, value_name = "HLC")]
    pub(crate) at_least: Option<u64>,
}

/// `dunlin events`
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Go on until Ctrl-C
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// One JSON document; with --follow one a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// `dunlin logs`
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// A service or one replica: shop/web, web, web.2
    pub(crate) what: String,
    /// Go on until Ctrl-C
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only the last lines
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<usize>,
}

/// `dunlin scale`
#[derive(Debug, Args)]
pub(crate) struct Scale {
    /// Which service, and how many
    #[arg(value_name = "SERVICE=N")]
    pub(crate) what: String,
    #[command(flatten)]
    pub(crate) durability: Durability,
    /// One JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `dunlin rm`
#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Which stack; or which service, with its stack
    #[arg(value_name = "STACK[/SERVICE]")]
    pub(crate) stack: String,
    #[command(flatten)]
    pub(crate) durability: Durability,
    /// One JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `dunlin conflicts`
#[derive(Debug, Args)]
pub(crate) struct Conflicts {
    #[command(flatten)]
    pub(crate) listing: Listing,
    #[command(subcommand)]
    pub(crate) command: Option<ConflictCommand>,
}

/// What can be done about conflicts.
#[derive(Debug, Subcommand)]
pub(crate) enum ConflictCommand {
    /// Keep one version of a service or stack, for good and everywhere
    Resolve(Resolve),
}

/// `dunlin conflicts resolve`
#[derive(Debug, Args)]
pub(crate) struct Resolve {
    /// What is in conflict, as listed: shop/web, web, or the whole stack shop
    pub(crate) what: String,
    /// Which version stays: its number or name in the list, or `in-force`
    #[arg(long, value_name = "VERSION")]
    pub(crate) keep: String,
    #[command(flatten)]
    pub(crate) durability: Durability,
    /// One JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `dunlin ca`
#[derive(Debug, Subcommand)]
pub(crate) enum Ca {
    /// Replace the authority: all nodes move to a new one, then the old one is trusted no more
    #[command(
        after_help = "No connection is dropped. Tokens name the old authority and become worthless; make new ones.\n\
                      `dunlin status` tells how far it has come.\n\nExample:\n  dunlin ca rotate"
    )]
    Rotate {
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
}

/// `dunlin token`
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token and print the join command
    #[command(
        after_help = "Uses are counted from admissions, by every node for itself: nodes that cannot hear each other may each \
                      admit up to the limit.\n\nExamples:\n  dunlin token create --label attic --hours 1\n  dunlin token \
                      create --uses 3"
    )]
    Create {
        /// What it is for
        #[arg(long, default_value = "")]
        label: String,
        /// How long it is good
        #[arg(long, default_value_t = 24, value_name = "H")]
        hours: u32,
        /// How many nodes it may admit; without it, as many as show it
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        uses: Option<u32>,
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
    /// Tokens, without their secrets
    Ls(Listing),
    /// Make a token worthless
    Rm {
        /// Its id, from `dunlin token ls`
        id: String,
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
}
