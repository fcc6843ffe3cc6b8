//! `dunlin logs`: the output of a service's replicas, each line marked when there are several.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::ExitCode;
use std::sync::mpsc;

use serde_json::Value;

use super::Done;
use super::listing::{matches, text};
use crate::args::Logs;
use crate::client::Client;
use crate::failure::Failure;
use crate::render;

/// Lines that wait for a slow terminal before the reader waits too.
const BACKLOG: usize = 1_024;

pub(super) fn run(client: &Client, args: &Logs) -> Done {
    let rows: Vec<Value> = client.get("allocations")?;
    let replicas: BTreeSet<String> = rows
        .iter()
        .filter(|r| !text(r, "node").eq("-"))
        .map(|r| text(r, "replica"))
        .filter(|r| matches(r, &args.what))
        .collect();
    if replicas.is_empty() {
        return Err(Failure::usage(format!("nothing runs that is called {}", args.what), "dunlin ps lists what runs"));
    }
    let marked = replicas.len() > 1;
    let (lines, print) = mpsc::sync_channel(BACKLOG);
    let readers: Vec<_> = replicas
        .into_iter()
        .map(|replica| {
            let (client, lines) = (client.clone(), lines.clone());
            let path = path(&replica, args);
            std::thread::spawn(move || {
                read(&client, &path, &if marked { format!("{replica} | ") } else { String::new() }, &lines)
            })
        })
        .collect();
    drop(lines);
    for line in print {
        render::print_line(&line)?;
    }
    for reader in readers {
        reader.join().map_err(|_| Failure::failed("a reader of logs ended badly"))??;
    }
    Ok(ExitCode::SUCCESS)
}

fn path(replica: &str, args: &Logs) -> String {
    let tail = args.tail.map_or_else(String::new, |n| format!("&tail={n}"));
    format!("logs?replica={replica}&follow={}{tail}", args.follow)
}

fn read(client: &Client, path: &str, mark: &str, lines: &mpsc::SyncSender<String>) -> Result<(), Failure> {
    let mut stream = BufReader::new(client.stream(path)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        let n = stream.read_until(b'\n', &mut line).map_err(|e| Failure::failed(format!("logs ended early: {e}")))?;
        if n == 0 || lines.send(format!("{mark}{}", String::from_utf8_lossy(line.trim_ascii_end()))).is_err() {
            return Ok(());
        }
    }
}
