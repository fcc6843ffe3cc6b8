//! What is seen of a running flock from outside: every agent's events as they come, names that are still answered with, and
//! the moments at which all agree. Watching costs the agents little: events are pushed to us, and questions are asked only
//! while something is outstanding, as far as the first agent that is not there yet.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::flock::Flock;
use crate::ask;

/// How long a follower tries to reach an agent that is starting.
const TRIES: u32 = 400;
/// Between two of its tries.
const PAUSE: Duration = Duration::from_millis(25);

/// Milliseconds since 1970: the one clock of all agents here, and of what is done to them.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// An event, as the agent of host `by` told it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Whose event.
    pub by: usize,
    /// When, by the common clock.
    pub at_ms: u64,
    /// `member`, `allocation`, ...
    pub kind: String,
    /// The name of the node that it is about.
    pub node: String,
    /// The replica that it is about.
    pub replica: String,
    /// What happened.
    pub text: String,
}

impl Seen {
    fn read(by: usize, row: &Value) -> Self {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let at_ms = row["at"].as_u64().unwrap_or(0);
        Self { by, at_ms, kind: text("kind"), node: text("node"), replica: text("replica"), text: text("text") }
    }
}

/// Everything that agents have told.
#[derive(Clone, Debug, Default)]
pub struct Events {
    all: Arc<Mutex<Vec<Seen>>>,
    /// The processes that are followed, by host.
    followed: BTreeMap<usize, u32>,
}

impl Events {
    fn list(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows each agent that runs until it ends; those that are followed already are left alone.
    pub fn follow(&mut self, flock: &Flock) {
        for n in flock.up() {
            let node = &flock.cluster.nodes[n];
            let Some(pid) = node.pid().filter(|pid| self.followed.get(&n) != Some(pid)) else { continue };
            self.followed.insert(n, pid);
            let (all, socket) = (self.clone(), node.dir.join("dunlin.sock"));
            std::thread::spawn(move || all.listen(n, &socket));
        }
    }

    fn listen(&self, n: usize, socket: &Path) {
        let tries = std::iter::repeat_with(|| UnixStream::connect(socket)).take(usize::try_from(TRIES).unwrap_or(1));
        let mut reached = tries.filter_map(|tried| tried.map_err(|_| std::thread::park_timeout(PAUSE)).ok());
        let Some(mut stream) = reached.next() else { return };
        let request = "GET /v1/events?follow=true HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        if stream.write_all(request.as_bytes()).is_err() {
            return;
        }
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if let Some(row) = line.strip_prefix("data:").and_then(|data| serde_json::from_str(data).ok()) {
                self.list().push(Seen::read(n, &row));
            } else if line.starts_with(':') && line.ends_with("events missed") {
                self.list().push(Seen::read(n, &serde_json::json!({"kind": "missed", "text": line})));
            }
        }
    }

    /// All, in the order of their time.
    ///
    /// # Panics
    /// If an agent told more than we could hear: what is counted then is not what was.
    #[must_use]
    pub fn all(&self) -> Vec<Seen> {
        let mut all: Vec<Seen> = self.list().clone();
        let missed: Vec<&Seen> = all.iter().filter(|seen| seen.kind == "missed").collect();
        assert!(missed.is_empty(), "events were missed: {missed:?}");
        all.sort_by_key(|seen| seen.at_ms);
        all
    }
}

/// Names that answer with a dead host's address.
#[derive(Debug, Default)]
pub struct Stale {
    since_ms: u64,
    /// Who still answers with which address for which service.
    answering: BTreeSet<(usize, String, Ipv4Addr)>,
    /// How long it took, answer by answer, in milliseconds.
    pub gone: Vec<u64>,
}

impl Stale {
    /// Hosts died: all others that answer with their addresses now are watched.
    pub fn died(&mut self, flock: &Flock, hosts: &[usize], services: &[String], at_ms: u64) {
        self.since_ms = at_ms;
        let dead: Vec<Ipv4Addr> = hosts.iter().map(|n| flock.cluster.nodes[*n].address).collect();
        for by in flock.up() {
            for service in services {
                let found = ask::addresses(ask::server(&flock.cluster, by), service).unwrap_or_default();
                let stale = found.into_iter().filter(|address| dead.contains(address));
                self.answering.extend(stale.map(|address| (by, service.clone(), address)));
            }
        }
    }

    /// True while somebody still answers so.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.answering.is_empty()
    }

    /// Asks everybody again.
    pub fn look(&mut self, flock: &Flock) {
        let asked: BTreeSet<(usize, String)> =
            self.answering.iter().map(|(by, service, _)| (*by, service.clone())).collect();
        for (by, service) in asked {
            // No answer proves nothing: it is asked again.
            let Ok(found) = ask::addresses(ask::server(&flock.cluster, by), &service) else { continue };
            let (after, before) = (now_ms() - self.since_ms, self.answering.len());
            self.answering.retain(|(who, what, address)| (*who, what) != (by, &service) || found.contains(address));
            self.gone.extend(std::iter::repeat_n(after, before - self.answering.len()));
        }
    }

    /// Nobody waits for these answers any more.
    pub fn close(&mut self) {
        self.answering.clear();
    }
}

/// How long it takes until all agree: on who is there, and on the state.
#[derive(Debug, Default)]
pub struct Agreement {
    members_since_ms: Option<u64>,
    state_since_ms: Option<u64>,
    /// From when to when: from a change of who is there to everyone knowing it.
    pub members: Vec<(u64, u64)>,
    /// From a write or a heal to all states being equal.
    pub state: Vec<(u64, u64)>,
}

impl Agreement {
    /// Who is there has changed.
    pub const fn members_changed(&mut self, at_ms: u64) {
        self.members_since_ms = Some(at_ms);
    }

    /// A write, or the end of a partition.
    pub const fn state_changed(&mut self, at_ms: u64) {
        self.state_since_ms = Some(at_ms);
    }

    /// True while something has changed and not all agree.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.members_since_ms.is_some() || self.state_since_ms.is_some()
    }

    /// Looks whether all agree now.
    pub fn look(&mut self, flock: &Flock) {
        if let Some(since) = self.members_since_ms
            && flock.up().into_iter().all(|n| knows_who_is_there(flock, n))
        {
            self.members.push((since, now_ms()));
            self.members_since_ms = None;
        }
        if let Some(since) = self.state_since_ms
            && states_are_equal(flock)
        {
            self.state.push((since, now_ms()));
            self.state_since_ms = None;
        }
    }
}

/// It holds exactly those alive whom it can reach, and nobody in doubt.
fn knows_who_is_there(flock: &Flock, n: usize) -> bool {
    let there = flock.up().into_iter().filter(|other| *other == n || flock.reach(n, *other)).count();
    let Ok(status) = ask::agent(&flock.cluster, n, "status") else { return false };
    let count = |state: &str| status["members"][state].as_u64().and_then(|n| usize::try_from(n).ok());
    count("alive") == Some(there) && count("suspect") == Some(0)
}

fn states_are_equal(flock: &Flock) -> bool {
    let mut first = None;
    flock.up().into_iter().filter(|n| !flock.stands_still(*n)).all(|n| {
        let Ok(status) = ask::agent(&flock.cluster, n, "status") else { return false };
        let hash = status["state_hash"].as_str().unwrap_or_default().to_owned();
        *first.get_or_insert_with(|| hash.clone()) == hash
    })
}
