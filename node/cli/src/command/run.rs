//! `dunlin run`: a job of one slot beside what its stack has; its output here, its exit code as one's own.
//!
//! What is typed becomes the text of a Compose file and is read as one, so that a thing means here what it means there and is
//! refused in the same words.

use std::io::{Read as _, Write as _};
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dunlin_agent::api::types::{AddBody, DropBody, WrittenBody};
use dunlin_gossip::model::Service;
use serde_json::{Map, Value, json};

use super::listing::text;
use super::{Done, deploy, write};
use crate::args::Run;
use crate::client::{Client, percent};
use crate::failure::Failure;
use crate::render;

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Once it has ended, output that is still on its way comes with pauses shorter than this.
const REST: Duration = Duration::from_millis(300);
/// Pieces of output that wait for a slow terminal before the reader waits too.
const BACKLOG: usize = 64;
const PIECE: usize = 16 * 1024;

pub(super) fn run(client: &Client, args: &Run) -> Done {
    if let Some((option, remedy)) = args.foreign.first() {
        return Err(Failure::usage(format!("{option} is not there"), remedy));
    }
    let name = args.name.clone().unwrap_or_else(unused_name);
    let specification = specification(args, &name, &|key| std::env::var(key).ok())?;
    let body = AddBody {
        stack: args.stack.clone(),
        name: name.clone(),
        specification,
        ack: write::ack(&args.durability)?,
        timeout_ms: write::timeout_ms(&args.durability),
    };
    let written: WrittenBody = client.post("services", &body, write::timeout(&args.durability))?;
    written.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    let service = format!("{}/{name}", args.stack);
    if args.detach {
        render::print_line(&service)?;
        return Ok(if write::is_kept(&written) { ExitCode::SUCCESS } else { ExitCode::from(3) });
    }
    let code = Following::new(client, &service).until_its_end(written.hlc)?;
    if args.rm {
        let (service, ack) = (service, write::ack(&args.durability)?);
        let body = DropBody { service, ack, timeout_ms: write::timeout_ms(&args.durability) };
        let _written: WrittenBody = client.post("services/remove", &body, write::timeout(&args.durability))?;
    }
    Ok(code)
}

/// A name that nobody else is likely to have; where somebody has, the flock refuses it.
fn unused_name() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mixed = now.as_nanos() ^ (u128::from(std::process::id()) << 20);
    format!("run-{:08x}", mixed & 0xffff_ffff)
}

/// What was typed, as a service.
fn specification(args: &Run, name: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Service, Failure> {
    if args.image.is_none() && args.command.is_empty() {
        return Err(Failure::usage(
            "there is nothing to run",
            "dunlin run -- echo hello, or dunlin run --image alpine -- echo hello",
        ));
    }
    let mut service = Map::new();
    let mut set = |key: &str, value: Option<Value>| value.map(|value| service.insert(key.to_owned(), value));
    set("image", args.image.as_deref().map(verbatim));
    let words: Vec<Value> = args.command.iter().map(|word| verbatim(word)).collect();
    set("command", (!words.is_empty()).then_some(Value::Array(words)));
    set("working_dir", args.workdir.as_deref().map(verbatim));
    let mut environment = Map::new();
    for pair in &args.env {
        let (key, value) = match pair.split_once('=') {
            Some((key, value)) => (key, value.to_owned()),
            None => (
                pair.as_str(),
                variable(pair).ok_or_else(|| {
                    Failure::usage(
                        format!("--env {pair}: there is no such variable here"),
                        format!("--env {pair}=VALUE"),
                    )
                })?,
            ),
        };
        environment.insert(key.to_owned(), verbatim(&value));
    }
    set("environment", (!environment.is_empty()).then_some(Value::Object(environment)));
    let node = args.node.iter().map(|node| format!("node.hostname == {node}"));
    let constraints: Vec<Value> = node.chain(args.constraint.iter().cloned()).map(|c| verbatim(&c)).collect();
    let mut limits = Map::new();
    for (key, amount) in [("cpus", &args.cpus), ("memory", &args.memory)] {
        limits.extend(amount.as_deref().map(|amount| (key.to_owned(), verbatim(amount))));
    }
    set(
        "deploy",
        Some(json!({
            "mode": "replicated-job",
            "resources": {"limits": limits},
            "placement": {"constraints": constraints},
        })),
    );
    let mut job = json!({"backoff_limit": args.retries});
    if let (Some(time), Value::Object(job)) = (&args.max_time, &mut job) {
        job.insert("timeout".to_owned(), verbatim(time));
    }
    set("x-dunlin", Some(json!({"job": job, "priority": args.priority.unwrap_or(0)})));
    let file = json!({"services": {name: service}}).to_string();
    let project = deploy::parse("(typed)", &file, &|_| None)?;
    let read = project.services.into_values().next().ok_or_else(|| Failure::failed("nothing was read"))?;
    Ok(read)
}

/// A text in which nothing is replaced.
fn verbatim(text: &str) -> Value {
    Value::String(text.replace('$', "$$"))
}

/// A piece of an allocation's output.
type Piece = (String, Vec<u8>);

/// A job whose output is printed as it comes.
struct Following<'a> {
    client: &'a Client,
    replica: String,
    /// The allocation that is read, and how much of its output has been printed.
    reading: Option<(String, usize)>,
    pieces: (mpsc::SyncSender<Piece>, mpsc::Receiver<Piece>),
    said: String,
}

impl<'a> Following<'a> {
    fn new(client: &'a Client, service: &str) -> Self {
        let pieces = mpsc::sync_channel(BACKLOG);
        Self { client, replica: format!("{service}.1"), reading: None, pieces, said: String::new() }
    }

    /// Prints until it has ended; its exit code.
    fn until_its_end(mut self, hlc: u64) -> Done {
        let mut path = format!("allocations?at_least={hlc}");
        loop {
            let rows: Vec<Value> = self.client.get(&path)?;
            "allocations".clone_into(&mut path);
            let own = rows.iter().filter(|row| text(row, "replica") == self.replica);
            let Some(row) =
                own.max_by_key(|row| (row["ended_ms"].is_u64(), row["phase"] != "lost", row["epoch"].as_u64()))
            else {
                return Err(Failure::failed(format!("{} was removed before it had ended", self.replica)));
            };
            self.look(row);
            self.print_for(LOOK)?;
            if row["ended_ms"].is_u64() {
                return self.finish(row);
            }
        }
    }

    /// Begins to read where it runs now, and says why it does not.
    fn look(&mut self, row: &Value) {
        let (id, phase) = (text(row, "id"), text(row, "phase"));
        if matches!(phase.as_str(), "waiting" | "pending" | "starting" | "lost") || id == "-" {
            let why = format!("{} is {phase}: {}", self.replica, text(row, "detail"));
            if phase == "waiting" && text(row, "detail") != "-" && self.said != why {
                eprintln!("{why}");
                self.said = why;
            }
            return;
        }
        if self.reading.as_ref().is_some_and(|(reading, _)| *reading == id) {
            return;
        }
        self.reading = Some((id.clone(), 0));
        let (client, to, path) = (self.client.clone(), self.pieces.0.clone(), self.path(true));
        // It ends with this program: a followed log has no end of its own.
        let _reader = std::thread::spawn(move || {
            let Ok(mut stream) = client.stream(&path) else { return };
            let mut piece = vec![0; PIECE];
            while let Ok(n @ 1..) = stream.read(&mut piece) {
                if to.send((id.clone(), piece.get(..n).unwrap_or_default().to_vec())).is_err() {
                    return;
                }
            }
        });
    }

    fn path(&self, follow: bool) -> String {
        format!("logs?replica={}&follow={follow}", percent(&self.replica))
    }

    /// Prints what comes, until nothing has come for so long.
    fn print_for(&mut self, pause: Duration) -> Result<(), Failure> {
        loop {
            match self.pieces.1.recv_timeout(pause) {
                Ok((id, piece)) => {
                    if let Some((reading, printed)) = &mut self.reading
                        && *reading == id
                    {
                        *printed += piece.len();
                        print(&piece)?;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    /// It has ended: what of its output has not come yet, and its exit code.
    fn finish(&mut self, row: &Value) -> Done {
        self.print_for(REST)?;
        let printed = self.reading.as_ref().filter(|(id, _)| *id == text(row, "id")).map_or(0, |(_, printed)| *printed);
        let mut whole = Vec::new();
        match self.client.stream(&self.path(false)).map(|mut stream| stream.read_to_end(&mut whole)) {
            Ok(Ok(_)) => print(whole.get(printed..).unwrap_or_default())?,
            Ok(Err(_)) | Err(_) => eprintln!("warning: the end of the output of {} cannot be read", self.replica),
        }
        let (phase, detail) = (text(row, "phase"), text(row, "detail"));
        let code = row["exit_code"].as_i64().and_then(|code| u8::try_from(code & 0xff).ok());
        if phase == "exited" {
            return Ok(ExitCode::SUCCESS);
        }
        match code {
            Some(code) if code != 0 => Ok(ExitCode::from(code)),
            Some(_) | None => Err(Failure::failed(format!("{} has failed: {detail}", self.replica))),
        }
    }
}

fn print(piece: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(piece).and_then(|()| out.flush()).map_err(|e| Failure::failed(format!("output: {e}")))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use dunlin_gossip::model::{Job, Mode, Workload};

    use super::*;
    use crate::args::{Command, Typed};

    fn typed(words: &str) -> Run {
        let words = ["dunlin", "run"].into_iter().chain(words.split_whitespace());
        let Command::Run(run) = Typed::try_parse_from(words).expect("it parses").command else { panic!("not run") };
        *run
    }

    fn service(words: &str) -> Result<Service, String> {
        specification(&typed(words), "x", &|key| (key == "HERE").then(|| "there".to_owned()))
            .map_err(|e| format!("{e:?}"))
    }

    #[test]
    fn what_is_typed_is_a_job_of_one_slot() {
        let found =
            service("-e A=$B=c -e HERE --cpus 0.5 -m 64M --node n1 --retries 2 --max-time 10m -- echo $HOME -x")
                .expect("fine");
        let Workload::Exec(exec) = &found.spec.workload else { panic!("{found:?}") };
        assert_eq!(exec.argv, ["echo", "$HOME", "-x"]);
        assert_eq!((found.spec.environment["A"].as_str(), found.spec.environment["HERE"].as_str()), ("$B=c", "there"));
        assert_eq!((found.spec.limits.cpu_milli, found.spec.reservation.memory_bytes), (500, 64 << 20));
        assert_eq!(found.spec.constraints[0].to_string(), "node.hostname==n1");
        let timeout = Some(Duration::from_secs(600));
        assert_eq!(found.mode, Mode::Job(Job { backoff_limit: 2, timeout, ..Job::default() }));
        let image = service("--image alpine:3").expect("an image has its own command");
        assert!(matches!(image.spec.workload, Workload::Docker(image) if image.command.is_none()));
        // What follows the program is its own.
        assert!(
            matches!(service("cat --rm -it").expect("fine").spec.workload, Workload::Exec(exec) if exec.argv.len() == 3)
        );
    }

    #[test]
    fn what_is_wrong_or_not_there_is_said() {
        assert!(service("").expect_err("nothing").contains("nothing to run"));
        assert!(service("-e NOWHERE -- true").expect_err("unset").contains("--env NOWHERE"));
        assert!(service("--cpus many -- true").expect_err("no number").contains("limits.cpus"));
        for (words, option) in
            [("-it -- sh", "--interactive"), ("-v /a:/b -- sh", "--volume"), ("-p 80:80 -- sh", "--publish")]
        {
            assert_eq!(typed(words).foreign.first().map(|(option, _)| option), Some(option));
        }
        assert!(typed("--rm -- true").foreign.first().is_none());
    }
}
