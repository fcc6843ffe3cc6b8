//! Health probes: one try each, always answered within its time.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use dunlin_core::face::ProbeOutcome;
use dunlin_gossip::model::{Probe, PublishedPort, Reach};
use nix::sys::signal::Signal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use super::place::Found;
use crate::keep::reap::signal_group;

/// A status line is shorter than this.
const MAX_STATUS_LINE: usize = 1024;
/// What is kept of a command's output, to say what went wrong.
const MAX_OUTPUT: usize = 4096;
/// A reason is one line of at most so many characters.
const MAX_DETAIL: usize = 200;
/// What a command still has to say after its end.
const LAST_WORDS: Duration = Duration::from_millis(20);

/// What is probed.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) ports: Vec<PublishedPort>,
    pub(super) address: IpAddr,
    /// The environment and directory of an exec allocation; none when there is no such thing.
    pub(super) found: Option<Found>,
}

/// Tries once.
pub(super) async fn run(probe: &Probe, target: &Target, patience: Duration) -> ProbeOutcome {
    let tried = match probe {
        Probe::Http { port, path } => timeout(patience, http(target, port, path)).await,
        Probe::Tcp { port } => timeout(patience, tcp(target, port)).await,
        Probe::Command(argv) => command(argv, target, patience).await,
    };
    match tried {
        Ok(Ok(())) => ProbeOutcome::Passed,
        Ok(Err(text)) => ProbeOutcome::Failed(one_line(&text)),
        Err(_) => ProbeOutcome::Failed(format!("no answer within {patience:?}")),
    }
}

async fn connect(target: &Target, port: &str) -> Result<(TcpStream, SocketAddr), String> {
    let published = target.ports.iter().find(|published| published.name == port);
    let published = published.ok_or_else(|| format!("the service has no port named {port:?}: name one in `ports`"))?;
    let ip = if published.reach == Reach::Node { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { target.address };
    let address = SocketAddr::new(ip, published.outer);
    let stream = TcpStream::connect(address).await.map_err(|error| format!("{address}: {error}"))?;
    Ok((stream, address))
}

async fn tcp(target: &Target, port: &str) -> Result<(), String> {
    connect(target, port).await.map(drop)
}

async fn http(target: &Target, port: &str, path: &str) -> Result<(), String> {
    let (mut stream, address) = connect(target, port).await?;
    let broken = |error: std::io::Error| format!("{address}{path}: {error}");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: dunlin-health\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut line = Vec::new();
    while line.len() < MAX_STATUS_LINE && !line.contains(&b'\n') {
        let mut piece = [0; 256];
        let count = stream.read(&mut piece).await.map_err(broken)?;
        if count == 0 {
            break;
        }
        line.extend_from_slice(piece.get(..count).unwrap_or_default());
    }
    match status_code(&line) {
        Some(200..400) => Ok(()),
        Some(code) => Err(format!("{address}{path} answered {code}")),
        None => Err(format!("{address}{path} did not answer in HTTP")),
    }
}

fn status_code(answer: &[u8]) -> Option<u16> {
    let rest = answer.strip_prefix(b"HTTP/1.")?.get(1..)?.strip_prefix(b" ")?;
    std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok()
}

/// Runs a program with the allocation's environment, in its directory; ends it, children included, at the time-out.
async fn command(
    argv: &[String],
    target: &Target,
    patience: Duration,
) -> Result<Result<(), String>, tokio::time::error::Elapsed> {
    let Some(found) = &target.found else {
        return Ok(Err("a command cannot be run inside this allocation: use an http or tcp probe".into()));
    };
    let Some((program, arguments)) = argv.split_first() else { return Ok(Err("the probe's command is empty".into())) };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(&found.spec.environment).current_dir(&found.spec.working_dir);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ok(Err(format!("{program}: {error}"))),
    };
    // Killed with all of its group when this ends, however it ends: before the child is reaped its number is its own.
    let group = Group(child.id());
    let (mut output, mut errors) = (child.stdout.take(), child.stderr.take());
    let mut said = Vec::new();
    let mut complained = Vec::new();
    let ended = timeout(patience, async {
        let read = async {
            tokio::join!(collect(output.as_mut(), &mut said), collect(errors.as_mut(), &mut complained));
        };
        tokio::pin!(read);
        let status = tokio::select! {
            status = child.wait() => {
                // A grandchild may hold the pipes open.
                let _open = timeout(LAST_WORDS, &mut read).await;
                status
            }
            () = &mut read => child.wait().await,
        };
        status.map_err(|error| error.to_string())
    })
    .await;
    drop(group);
    let status = match ended? {
        Ok(status) if status.success() => return Ok(Ok(())),
        Ok(status) => status,
        Err(error) => return Ok(Err(error)),
    };
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("{program} exited with code {code}"),
        (None, Some(signal)) => format!("{program} was killed by signal {signal}"),
        (None, None) => format!("{program} ended in an unknown way"),
    };
    let text = String::from_utf8_lossy(if complained.is_empty() { &said } else { &complained }).into_owned();
    Ok(Err(match text.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("{how}: {}", line.trim()),
        None => how,
    }))
}

/// Kills a process group when dropped.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            signal_group(leader, Some(Signal::SIGKILL));
        }
    }
}

/// Reads to the end, keeps the last bytes.
async fn collect(from: Option<&mut (impl AsyncRead + Unpin)>, kept: &mut Vec<u8>) {
    let Some(from) = from else { return };
    let mut piece = [0; 1024];
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        kept.extend_from_slice(piece.get(..count).unwrap_or_default());
        let surplus = kept.len().saturating_sub(MAX_OUTPUT);
        kept.drain(..surplus);
    }
}

pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_DETAIL).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_gossip::model::Protocol;
    use tokio::net::TcpListener;

    const SOON: Duration = Duration::from_secs(10);

    fn target(port: u16) -> Target {
        let port = PublishedPort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            inner: port,
            outer: port,
            reach: Reach::Flock,
        };
        Target { ports: vec![port], address: IpAddr::V4(Ipv4Addr::LOCALHOST), found: None }
    }

    async fn answering(answer: &'static [u8]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 512];
                let _count = stream.read(&mut request).await;
                let _sent = stream.write_all(answer).await;
            }
        });
        port
    }

    async fn get(answer: &'static [u8]) -> ProbeOutcome {
        let port = answering(answer).await;
        run(&Probe::Http { port: "http".into(), path: "/".into() }, &target(port), SOON).await
    }

    fn failed_with(outcome: &ProbeOutcome, text: &str) -> bool {
        matches!(outcome, ProbeOutcome::Failed(detail) if detail.contains(text))
    }

    #[tokio::test]
    async fn http_is_judged_by_its_status_line_alone() {
        assert_eq!(get(b"HTTP/1.1 204 No Content\r\n").await, ProbeOutcome::Passed);
        assert_eq!(get(b"HTTP/1.0 302 Found\r\n").await, ProbeOutcome::Passed);
        assert!(failed_with(&get(b"HTTP/1.1 503 Down\r\n").await, "503"));
        assert!(failed_with(&get(b"SSH-2.0-x\r\n").await, "did not answer in HTTP"));
        assert!(failed_with(&get(b"").await, "did not answer in HTTP"));
    }

    #[tokio::test]
    async fn silence_fails_at_the_time_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = target(listener.local_addr().unwrap().port());
        let tcp = run(&Probe::Tcp { port: "http".into() }, &target, SOON).await;
        assert_eq!(tcp, ProbeOutcome::Passed);
        let probe = Probe::Http { port: "http".into(), path: "/".into() };
        assert!(failed_with(&run(&probe, &target, Duration::from_millis(50)).await, "no answer within"));
    }

    #[tokio::test]
    async fn a_port_that_is_not_there_is_said() {
        assert!(failed_with(&run(&Probe::Tcp { port: "x".into() }, &target(1), SOON).await, "no port named"));
    }
}
