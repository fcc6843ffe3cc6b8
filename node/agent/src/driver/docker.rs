//! The container engine: Docker's API, also Podman's, over its unix socket. Each call has its time-out.
//!
//! `DOCKER_HOST=unix://...` names another socket than `/var/run/docker.sock`. An engine may come, go and hang: it is
//! looked for every few seconds, and each call finds out for itself. What carries other labels than this cluster's and
//! node's is never touched, whatever its name.

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, ContainerSummary, ContainerSummaryStateEnum, DeviceMapping, DeviceRequest, HostConfig,
    HostConfigLogConfig, PortBinding, PortMap,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, InspectContainerOptions, InspectNetworkOptions,
    KillContainerOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    StartContainerOptions, WaitContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use bytes::Bytes;
use dunlin_core::face::{Exit, StartFailure, StartSpec};
use dunlin_gossip::id::{ClusterId, NodeId};
use dunlin_gossip::model::{AllocId, Image, Reach, Workload};
use futures_util::{Stream, StreamExt};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::{cgroup, ports};
use crate::gpus::{self, Access, Gpu};
use crate::host;
use crate::resolvers::{ResolvConf, Resolvers};

/// An engine that works answers a call within this, even on a busy host.
const CALL: Duration = Duration::from_secs(30);
/// An engine that does not answer a ping within this, twice in a row, is not there.
const PING: Duration = Duration::from_secs(5);
/// How long a missing image is pulled: less than the core waits for the answer to a start (5 minutes), so that the
/// reason told is ours.
const PULL: Duration = Duration::from_secs(240);
/// Images that are pulled at a time; more only share the line.
const MAX_PULLS: usize = 3;
/// Before an engine that failed is asked again.
const AGAIN: Duration = Duration::from_millis(500);
/// What Docker calls the interface of a network.
const BRIDGE_OPTION: &str = "com.docker.network.bridge.name";
const LABEL: &str = "dunlin.";

/// The engine as one node uses it.
#[derive(Debug)]
pub(super) struct Engine {
    cluster: ClusterId,
    node: NodeId,
    host: String,
    seen: Mutex<Seen>,
    pulls: Semaphore,
    /// The GPUs of this host, by number.
    gpus: Vec<Gpu>,
    resolvers: Arc<Resolvers>,
}

/// What the last look at it showed.
#[derive(Debug, Default)]
struct Seen {
    client: Option<Docker>,
    /// It was silent once; a second time it is gone.
    silent: bool,
    /// How containers of its default network reach this host.
    bridge: Option<IpAddr>,
}

/// A container of this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Found {
    pub(super) alloc: AllocId,
    pub(super) attempt: u32,
    pub(super) id: String,
    pub(super) state: State,
}

/// Where a container stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Made, and not started yet.
    Made,
    /// Started, and not known to have ended.
    Running,
    /// Ended, or on its way out.
    Ended,
}

/// Why a container was not started.
#[derive(Debug)]
pub(super) enum NotStarted {
    /// Its image is not on this node: pull it and try again.
    NoImage,
    /// Trying again would not help.
    Failed(StartFailure),
}

/// The engine's address as the environment has it.
pub(super) fn host_from_environment() -> String {
    let host = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
    host.unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned())
}

impl Engine {
    pub(super) fn new(
        cluster: ClusterId,
        node: NodeId,
        host: String,
        gpus: Vec<Gpu>,
        resolvers: Arc<Resolvers>,
    ) -> Self {
        if !host.starts_with("unix://") {
            tracing::warn!(host, "DOCKER_HOST names no unix socket: containers do not run on this node");
        }
        Self { cluster, node, host, seen: Mutex::default(), pulls: Semaphore::new(MAX_PULLS), gpus, resolvers }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Two fields, each right by itself.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn client(&self) -> Result<Docker, StartFailure> {
        self.seen().client.clone().ok_or(StartFailure::NoDriver)
    }

    /// True if it answers. One that was there and is merely slow gets a second chance at the next look.
    pub(super) async fn look(&self) -> bool {
        let known = self.client().ok();
        let looked = timeout(PING, async {
            match &known {
                Some(known) => known.ping().await.map(|_| known.clone()),
                None if !self.host.starts_with("unix://") => {
                    Err(Error::UnsupportedURISchemeError { uri: self.host.clone() })
                }
                None => {
                    let new = Docker::connect_with_unix(&self.host, CALL.as_secs(), API_DEFAULT_VERSION)?;
                    new.negotiate_version().await
                }
            }
        });
        let looked = looked.await;
        // It does not move while the engine runs.
        let bridge = match (self.bridge(), &looked) {
            (Some(bridge), _) => Some(bridge),
            (None, Ok(Ok(client))) => bridge(client).await,
            (None, Ok(Err(_)) | Err(_)) => None,
        };
        let mut seen = self.seen();
        let (client, silent) = match looked {
            Ok(answer) => (answer.ok(), false),
            Err(_) if !seen.silent => (known, true),
            Err(_) => (None, true),
        };
        *seen = Seen { client, silent, bridge };
        seen.client.is_some()
    }

    pub(super) fn bridge(&self) -> Option<IpAddr> {
        self.seen().bridge
    }

    /// Makes and starts the container of an attempt; its id. No other container of the allocation may run.
    pub(super) async fn start(&self, spec: &StartSpec) -> Result<String, NotStarted> {
        let Workload::Docker(image) = &spec.workload else { return Err(NotStarted::Failed(StartFailure::NoDriver)) };
        let docker = self.client().map_err(NotStarted::Failed)?;
        if let Some(port) = ports::taken_at(&spec.ports, &[spec.address]) {
            return Err(NotStarted::Failed(StartFailure::PortTaken(port)));
        }
        let name = format!("dunlin-{}-{}", spec.alloc, spec.attempt);
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        let id = match call(docker.create_container(Some(options), self.body(spec, image))).await {
            Ok(made) => made.id,
            Err(error) if status(&error) == Some(404) => return Err(NotStarted::NoImage),
            Err(error) => return Err(NotStarted::Failed(refused(&error, spec))),
        };
        match call(docker.start_container(&id, None::<StartContainerOptions>)).await {
            Ok(()) => Ok(id),
            Err(error) => {
                self.remove(&id).await;
                Err(NotStarted::Failed(refused(&error, spec)))
            }
        }
    }

    /// Fetches an image from its registry. May be dropped at any time: the engine then stops fetching.
    pub(super) async fn pull(&self, image: &str) -> Result<(), StartFailure> {
        let docker = self.client()?;
        let pulled = timeout(PULL, async {
            let _turn = self.pulls.acquire().await;
            let options = CreateImageOptionsBuilder::default().from_image(&reference(image)).build();
            let mut progress = std::pin::pin!(docker.create_image(Some(options), None, None));
            while let Some(step) = progress.next().await {
                step?;
            }
            Ok::<(), Error>(())
        });
        let why = match pulled.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => text(&error),
            Err(_) => format!("no end after {PULL:?}"),
        };
        Err(StartFailure::Other(format!(
            "image {image} is not on this node and could not be pulled ({why}): check its name, or load it here (docker load)"
        )))
    }

    fn body(&self, spec: &StartSpec, image: &Image) -> ContainerCreateBody {
        let mut bindings = PortMap::new();
        for port in &spec.ports {
            let key = format!("{}/{}", port.inner, port.protocol.as_str());
            let ip = if port.reach == Reach::Node { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { spec.address };
            let binding = PortBinding { host_ip: Some(ip.to_string()), host_port: Some(port.outer.to_string()) };
            bindings.entry(key).or_default().get_or_insert_default().push(binding);
        }
        // Docker's own default keeps output for ever.
        let log_options = [("max-size", "10m"), ("max-file", "2")];
        let log_config = HostConfigLogConfig {
            typ: Some("json-file".into()),
            config: Some(log_options.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
        };
        let labels = [
            ("cluster", self.cluster.to_string()),
            ("node", self.node.to_string()),
            ("alloc", spec.alloc.to_string()),
            ("epoch", spec.environment.get("DUNLIN_EPOCH").cloned().unwrap_or_default()),
            ("replica", spec.replica.to_string()),
            ("attempt", spec.attempt.to_string()),
        ];
        let names = self.resolvers.of_container(&spec.replica.service.stack);
        let (dns, dns_search, dns_options) = match names {
            Some(ResolvConf { servers, search, options }) => (Some(servers), Some(search), Some(options)),
            None => (None, None, None),
        };
        ContainerCreateBody {
            image: Some(image.image.clone()),
            cmd: image.command.clone(),
            entrypoint: image.entrypoint.clone(),
            working_dir: image.working_dir.clone(),
            env: Some(spec.environment.iter().map(|(key, value)| format!("{key}={value}")).collect()),
            labels: Some(labels.into_iter().map(|(key, value)| (format!("{LABEL}{key}"), value)).collect()),
            exposed_ports: Some(bindings.keys().cloned().collect()),
            stop_signal: Some(spec.stop.signal.clone()),
            host_config: Some(HostConfig {
                port_bindings: Some(bindings),
                log_config: Some(log_config),
                dns,
                dns_search,
                dns_options,
                ..self.bounds(spec)
            }),
            ..ContainerCreateBody::default()
        }
    }

    /// Limits, and the devices that it got.
    fn bounds(&self, spec: &StartSpec) -> HostConfig {
        let some = |amount: u64| i64::try_from(amount).ok().filter(|amount| *amount > 0);
        let quota = some(spec.limits.cpu_milli).and_then(|_| some(cgroup::quota(spec.limits.cpu_milli)));
        let memory = some(spec.limits.memory_bytes);
        let gpus = spec.devices.iter().filter(|(kind, _)| kind == gpus::GPU);
        let gpus = gpus.filter_map(|(_, number)| self.gpus.get(usize::try_from(*number).ok()?));
        let (mut ids, mut nodes) = (Vec::new(), Vec::new());
        for gpu in gpus {
            match &gpu.access {
                Access::Nvidia(number) => ids.push(number.to_string()),
                Access::Amd(_, paths) => nodes.extend(paths.iter().map(|path| path.display().to_string())),
            }
        }
        nodes.sort();
        nodes.dedup();
        let request = DeviceRequest {
            driver: Some("nvidia".into()),
            device_ids: Some(ids),
            capabilities: Some(vec![vec!["gpu".into()]]),
            ..DeviceRequest::default()
        };
        let has_ids = request.device_ids.as_ref().is_some_and(|ids| !ids.is_empty());
        let mapping = |path: String| DeviceMapping {
            path_on_host: Some(path.clone()),
            path_in_container: Some(path),
            cgroup_permissions: Some("rwm".into()),
        };
        HostConfig {
            cpu_period: quota.and_then(|_| some(cgroup::PERIOD_US)),
            cpu_quota: quota,
            memory,
            // No swap beside it: the limit is what it says.
            memory_swap: memory,
            pids_limit: some(spec.pids_limit),
            device_requests: has_ids.then(|| vec![request]),
            devices: (!nodes.is_empty()).then(|| nodes.into_iter().map(mapping).collect()),
            ..HostConfig::default()
        }
    }

    /// Comes back when a container has ended, however long that takes and whether or not the engine restarts meanwhile.
    pub(super) async fn end(&self, id: &str) -> Exit {
        loop {
            if let Ok(docker) = self.client() {
                let mut waiting = std::pin::pin!(docker.wait_container(id, None::<WaitContainerOptions>));
                match waiting.next().await {
                    Some(Ok(ended)) => return exit(ended.status_code),
                    Some(Err(Error::DockerContainerWaitError { code, .. })) => return exit(code),
                    Some(Err(error)) if status(&error) == Some(404) => return Exit::Lost,
                    Some(Err(_)) | None => {}
                }
            }
            sleep(AGAIN).await;
        }
    }

    /// Sends a signal; false if the engine did not take it. A container that has ended or is gone needs none.
    pub(super) async fn signal(&self, id: &str, signal: &str) -> bool {
        let Ok(docker) = self.client() else { return false };
        let options = KillContainerOptionsBuilder::default().signal(signal).build();
        match call(docker.kill_container(id, Some(options))).await {
            Err(error) if !matches!(status(&error), Some(404 | 409)) => {
                tracing::warn!(id, signal, %error, "the engine did not send a signal");
                false
            }
            _ => true,
        }
    }

    /// Ends and removes a container, its anonymous volumes included; false if it may still be there. That one is found
    /// by the next look for containers that nobody claims.
    pub(super) async fn remove(&self, id: &str) -> bool {
        let Ok(docker) = self.client() else { return false };
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match call(docker.remove_container(id, Some(options))).await {
            Err(error) if !matches!(status(&error), Some(404 | 409)) => {
                tracing::warn!(id, %error, "the engine did not remove a container");
                false
            }
            _ => true,
        }
    }

    /// Containers of this node, running or not: all, or an allocation's; by allocation and attempt.
    pub(super) async fn list(&self, alloc: Option<AllocId>) -> Result<Vec<Found>, StartFailure> {
        let docker = self.client()?;
        let mut labels = vec![format!("{LABEL}cluster={}", self.cluster), format!("{LABEL}node={}", self.node)];
        labels.extend(alloc.map(|alloc| format!("{LABEL}alloc={alloc}")));
        let filters = HashMap::from([("label".to_owned(), labels)]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed = call(docker.list_containers(Some(options)));
        let mut found: Vec<Found> =
            listed.await.map_err(|error| StartFailure::Other(unanswered(&error)))?.iter().filter_map(read).collect();
        found.sort_by_key(|found| (found.alloc, found.attempt));
        Ok(found)
    }

    /// How a container ended; none while it runs, and while the engine does not say.
    pub(super) async fn ended(&self, id: &str) -> Option<Exit> {
        let docker = self.client().ok()?;
        match call(docker.inspect_container(id, None::<InspectContainerOptions>)).await {
            Ok(container) => {
                let state = container.state.unwrap_or_default();
                let never_ran = state.started_at.as_deref().is_none_or(|at| at.starts_with("0001-"));
                match state.running {
                    Some(true) => None,
                    _ if never_ran => Some(Exit::Lost),
                    _ => Some(state.exit_code.map_or(Exit::Lost, exit)),
                }
            }
            Err(error) if status(&error) == Some(404) => Some(Exit::Lost),
            Err(error) => {
                tracing::warn!(id, %error, "the engine does not say whether a container runs");
                None
            }
        }
    }

    /// A container's output.
    pub(super) fn output(
        &self,
        id: &str,
        follow: bool,
        tail: Option<usize>,
    ) -> Option<impl Stream<Item = Bytes> + Send + use<>> {
        let docker = self.client().ok()?;
        let tail = tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).follow(follow).tail(&tail).build();
        let pieces = docker.logs(id, Some(options));
        Some(pieces.take_while(|piece| std::future::ready(piece.is_ok())).filter_map(async |piece| {
            // An error ends the output above.
            piece.ok().map(bollard::container::LogOutput::into_bytes)
        }))
    }
}

/// The address of this host in the network that containers get if nobody says another: Docker's name for it, then Podman's.
async fn bridge(docker: &Docker) -> Option<IpAddr> {
    for name in ["bridge", "podman"] {
        if let Ok(network) = call(docker.inspect_network(name, None::<InspectNetworkOptions>)).await {
            let configs = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
            let gateway = configs.into_iter().find_map(|config| config.gateway?.parse().ok());
            // Docker leaves out what it chose by itself.
            let interface = network.options.and_then(|mut options| options.remove(BRIDGE_OPTION));
            return gateway.or_else(|| host::interface_address(&interface?));
        }
    }
    None
}

/// Without a tag the API would pull every one there is.
fn reference(image: &str) -> String {
    let tagged = image.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
    if tagged { image.to_owned() } else { format!("{image}:latest") }
}

pub(super) async fn call<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(CALL, call).await.unwrap_or(Err(Error::RequestTimeoutError))
}

fn exit(code: i64) -> Exit {
    i32::try_from(code).map_or(Exit::Lost, Exit::Code)
}

fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

fn text(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message.clone(),
        other => other.to_string(),
    }
}

pub(super) fn unanswered(error: &Error) -> String {
    match error {
        Error::RequestTimeoutError => format!("the container engine did not answer within {CALL:?}"),
        other => format!("the container engine refused: {}", text(other)),
    }
}

fn refused(error: &Error, spec: &StartSpec) -> StartFailure {
    let said = text(error);
    let taken = said.contains("port is already allocated") || said.contains("address already in use");
    let port = spec.ports.iter().find(|port| said.contains(&format!(":{}", port.outer)));
    match port {
        Some(port) if taken => StartFailure::PortTaken(port.outer),
        _ => StartFailure::Other(unanswered(error)),
    }
}

fn read(container: &ContainerSummary) -> Option<Found> {
    let labels = container.labels.as_ref()?;
    let label = |name: &str| labels.get(&format!("{LABEL}{name}"));
    Some(Found {
        alloc: AllocId::parse(label("alloc")?)?,
        attempt: label("attempt")?.parse().ok()?,
        id: container.id.clone()?,
        state: match container.state {
            Some(ContainerSummaryStateEnum::CREATED) => State::Made,
            Some(
                ContainerSummaryStateEnum::EXITED
                | ContainerSummaryStateEnum::DEAD
                | ContainerSummaryStateEnum::REMOVING,
            ) => State::Ended,
            _ => State::Running,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_without_a_tag_means_the_latest() {
        assert_eq!(reference("nginx"), "nginx:latest");
        assert_eq!(reference("registry.example:5000/a/web"), "registry.example:5000/a/web:latest");
        for whole in ["nginx:1.29", "registry.example:5000/web:2", "web@sha256:00"] {
            assert_eq!(reference(whole), whole);
        }
    }

    #[tokio::test]
    async fn without_a_unix_socket_there_is_no_engine() {
        for host in ["tcp://127.0.0.1:2375", "unix:///nonexistent/docker.sock"] {
            let engine = Engine::new(
                ClusterId([1; 16]),
                NodeId([2; 16]),
                host.to_owned(),
                Vec::new(),
                Arc::new(Resolvers::new("dunlin.internal")),
            );
            assert!(!engine.look().await);
            assert_eq!(engine.list(None).await, Err(StartFailure::NoDriver));
            assert!(!engine.signal("x", "SIGTERM").await);
        }
    }
}
