//! The HTTP API under `/v1`, on the unix socket in the data directory: whoever may open the socket may do everything.
//!
//! Requests are bounded in size, number and time; every refusal is one JSON document `{error, kind, remedy}`. Nothing here
//! decides: writes go to the core, reads are its view, and output of other nodes' workloads is relayed.

pub(crate) mod call;
mod orders;
mod routes;
mod single;
mod table;
mod trust;
pub mod types;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::Asker;
use dunlin_net::Net;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::unistd::{Uid, User};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::driver::Drivers;
use crate::settings::Settings;
use call::Door;

/// Clients at a time; the next one waits.
const MAX_CLIENTS: usize = 128;
/// For a request's head.
const HEAD: Duration = Duration::from_secs(10);
/// Pause after the system refuses to accept (out of file descriptors).
const BREATH: Duration = Duration::from_millis(100);

/// Why the socket cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open {}: {source}; {remedy}", .path.display())]
pub struct ApiError {
    path: PathBuf,
    source: io::Error,
    remedy: &'static str,
}

/// What every route can use.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) door: Door,
    pub(crate) net: Net,
    pub(crate) drivers: Arc<Drivers>,
    pub(crate) me: NodeId,
    pub(crate) at: SocketAddr,
}

/// An open socket that nobody serves yet.
pub(crate) struct Api {
    listener: UnixListener,
    path: PathBuf,
    net: Net,
    door: Door,
    me: NodeId,
    at: SocketAddr,
}

/// A served socket.
pub(crate) struct Serving {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Api {
    /// Opens the socket; the data directory's lock says that nobody else uses the one that may lie there.
    pub(crate) fn open(
        settings: &Settings,
        me: NodeId,
        net: Net,
        door: Door,
        at: SocketAddr,
    ) -> Result<Self, ApiError> {
        let path = settings.data_dir.join("dunlin.sock");
        let fail = |source: io::Error| {
            let remedy = match source.kind() {
                io::ErrorKind::InvalidInput => "the path is too long for a socket: choose a shorter --data-dir",
                _ => "check the data directory",
            };
            ApiError { path: path.clone(), source, remedy }
        };
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(fail(error)),
        }
        let listener = UnixListener::bind(&path).map_err(fail)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).map_err(fail)?;
        Ok(Self { listener, path, net, door, me, at })
    }

    /// Begins to answer.
    pub(crate) fn serve(self, drivers: Arc<Drivers>) -> Serving {
        let Self { listener, path, net, door, me, at } = self;
        let context = Arc::new(Context { door, net, drivers, me, at });
        Serving { path, task: tokio::spawn(accept(listener, context)) }
    }
}

impl Serving {
    /// Takes the socket away and ends all conversations.
    pub(crate) fn stop(self) {
        self.task.abort();
        let _gone_already = std::fs::remove_file(&self.path);
    }
}

/// The user of this host who called, by name if the host knows one; the kernel says so, not the caller.
async fn caller(stream: &UnixStream) -> Asker {
    let Ok(credentials) = stream.peer_cred() else { return Asker::default() };
    let uid = credentials.uid();
    let found = tokio::task::spawn_blocking(move || User::from_uid(Uid::from_raw(uid))).await;
    match found {
        Ok(Ok(Some(user))) => Asker::new(&user.name),
        Ok(Ok(None) | Err(_)) | Err(_) => Asker::new(&format!("uid-{uid}")),
    }
}

async fn accept(listener: UnixListener, context: Arc<Context>) {
    let room = Arc::new(Semaphore::new(MAX_CLIENTS));
    let mut clients = tokio::task::JoinSet::new();
    loop {
        while clients.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the API cannot accept a client");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let context = Arc::clone(&context);
        clients.spawn(async move {
            let _permit = permit;
            let by = caller(&stream).await;
            let service = service_fn(|request| routes::answer(Arc::clone(&context), by.clone(), request));
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(64 * 1024);
            if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a client of the API went away");
            }
        });
    }
}
