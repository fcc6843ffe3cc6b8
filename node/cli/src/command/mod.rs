//! One file a command. Each ends in data, which [`render`](crate::render) prints.

mod agent;
mod ask;
mod conflicts;
pub(crate) mod deploy;
mod dns;
mod doctor;
mod events;
mod hello;
mod init;
mod listing;
mod logs;
mod node;
mod order;
mod rollout;
mod run;
mod sim;
mod sim_compare;
mod sim_figures;
mod sim_flock;
mod sim_init;
mod sim_place;
mod sim_sweep;
mod sim_trace;
mod sim_view;
mod token;
mod write;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::args::{Ca, Command, Typed};
use crate::client::Client;
use crate::failure::Failure;

/// What a command ends with.
pub(crate) type Done = Result<ExitCode, Failure>;

/// Does what was typed.
///
/// # Errors
/// The command's [`Failure`], not yet printed.
pub(crate) fn run(typed: Typed) -> Done {
    let data_dir = typed.data_dir.unwrap_or_else(default_data_dir);
    let client = Client::new(&data_dir);
    match typed.command {
        Command::Demo(args) => crate::demo::run(&args),
        Command::DemoGuard { dir } => crate::demo::guard::run(&dir),
        Command::Init(args) => init::run(&args, &data_dir),
        Command::Agent(args) => agent::run(&args, &data_dir),
        Command::Deploy(args) => deploy::run(&client, &args),
        Command::Run(args) => run::run(&client, &args),
        Command::Plan(args) => ask::plan(&client, &args),
        Command::Whatif(args) => ask::whatif(&client, &args),
        Command::Explain(args) => ask::explain(&client, &args),
        Command::Ps(args) => listing::ps(&client, &args),
        Command::Stacks(args) => listing::stacks(&client, &args),
        Command::Services(args) => listing::services(&client, &args),
        Command::Nodes(args) => listing::nodes(&client, &args),
        Command::Status(args) => listing::status(&client, &args),
        Command::Doctor(args) => doctor::run(&client, &args),
        Command::Events(args) => events::run(&client, &args),
        Command::Logs(args) => logs::run(&client, &args),
        Command::Scale(args) => write::scale(&client, &args),
        Command::Rollout(args) => rollout::run(&client, &args),
        Command::Rollback(args) => rollout::rollback(&client, &args),
        Command::Rm(args) => write::rm(&client, &args),
        Command::Conflicts(args) => conflicts::run(&client, &args),
        Command::Node(args) => node::run(&client, &args),
        Command::Ca(Ca::Rotate { json }) => node::rotate(&client, json),
        Command::Token(args) => token::run(&client, &args),
        Command::Dns(args) => dns::run(&client, &args),
        Command::Sim(args) => sim::run(&client, &args),
        Command::Hello => hello::run(),
        Command::Keep { arguments } => Ok(exit(dunlin_agent::keep::main(arguments))),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Typed::command(), "dunlin", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn exit(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn default_data_dir() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return PathBuf::from("/var/lib/dunlin");
    }
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from);
    home.join(".local/share/dunlin")
}
