//! `dunlin run`, with what people know from `docker run` and is not there.

use clap::Args;

use super::Durability;

/// `dunlin run`
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The stack that it belongs to
    #[arg(long, default_value = "default", value_name = "S")]
    pub(crate) stack: String,
    /// Its name in the stack [default: run- and a number]
    #[arg(long, value_name = "N")]
    pub(crate) name: Option<String>,
    /// An image to run a container of; without one the command is a process of the host that takes it
    #[arg(long, value_name = "I")]
    pub(crate) image: Option<String>,
    /// A variable; without a value it is taken from here. Repeat for more
    #[arg(short, long, value_name = "K[=V]")]
    pub(crate) env: Vec<String>,
    /// The directory in which it runs [default: one of its own]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// CPUs that it reserves and may use, as 0.5
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Option<String>,
    /// Memory that it reserves and may use, as 512M
    #[arg(short, long, value_name = "N")]
    pub(crate) memory: Option<String>,
    /// Only on this node, by its name
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// Only on nodes that meet this, as in node.labels.disk==ssd; repeat for more
    #[arg(long, value_name = "C")]
    pub(crate) constraint: Vec<String>,
    /// Higher goes first, and may end what is lower where nothing has room
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) priority: Option<i32>,
    /// How often it is tried again when it ends badly
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) retries: u32,
    /// It has failed when it is not done after so long, as 10m
    #[arg(long, value_name = "T")]
    pub(crate) max_time: Option<String>,
    /// Print its name and do not wait for its end
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Forget it once it has ended
    #[arg(long, conflicts_with = "detach")]
    pub(crate) rm: bool,
    #[command(flatten)]
    pub(crate) durability: Durability,
    #[command(flatten)]
    pub(crate) foreign: Foreign,
    /// The program and its arguments; an image may have its own
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

/// What `docker run` has and this has not: named, so that it can be refused with what to do instead.
#[derive(Debug, Args)]
pub(crate) struct Foreign {
    #[arg(short, long, hide = true)]
    interactive: bool,
    #[arg(short, long, hide = true)]
    tty: bool,
    #[arg(short, long, hide = true, num_args = 1)]
    user: Option<String>,
    #[arg(short, long, hide = true, num_args = 1)]
    volume: Vec<String>,
    #[arg(long, hide = true, num_args = 1)]
    mount: Vec<String>,
    #[arg(short, long, hide = true, num_args = 1)]
    publish: Vec<String>,
    #[arg(long, hide = true, num_args = 1)]
    network: Option<String>,
    #[arg(long, hide = true, num_args = 1)]
    gpus: Option<String>,
    #[arg(long, hide = true, num_args = 1)]
    entrypoint: Option<String>,
    #[arg(long, hide = true, num_args = 1)]
    env_file: Vec<String>,
    #[arg(long, hide = true, num_args = 1)]
    restart: Option<String>,
    #[arg(long, hide = true, num_args = 1)]
    label: Vec<String>,
    #[arg(long, hide = true)]
    privileged: bool,
}

impl Foreign {
    /// The first of these that was typed, and what to do instead.
    pub(crate) fn first(&self) -> Option<(&'static str, &'static str)> {
        let file = "write a Compose file with deploy.mode: replicated-job, and deploy it";
        let all = [
            (
                self.interactive,
                "--interactive",
                "nobody can type into what runs on a flock: give it its input by arguments or files",
            ),
            (self.tty, "--tty", "there is no terminal on a flock: leave it out"),
            (self.user.is_some(), "--user", "a process runs as its agent does: change the user in the command itself"),
            (
                !self.volume.is_empty(),
                "--volume",
                "volumes are not there yet: a process sees its host's files (with --node)",
            ),
            (
                !self.mount.is_empty(),
                "--mount",
                "volumes are not there yet: a process sees its host's files (with --node)",
            ),
            (!self.publish.is_empty(), "--publish", file),
            (self.network.is_some(), "--network", "every node reaches every other: leave it out"),
            (
                self.gpus.is_some(),
                "--gpus",
                "write a Compose file with x-dunlin.devices and deploy.mode: replicated-job, and deploy it",
            ),
            (self.entrypoint.is_some(), "--entrypoint", file),
            (!self.env_file.is_empty(), "--env-file", "give the variables with --env"),
            (self.restart.is_some(), "--restart", "--retries N says how often it is tried again"),
            (!self.label.is_empty(), "--label", "name it with --name"),
            (self.privileged, "--privileged", "containers have no privileges: run a process without --image"),
        ];
        all.into_iter().find(|(typed, ..)| *typed).map(|(_, name, remedy)| (name, remedy))
    }
}
