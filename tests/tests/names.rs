//! Names when nodes go: the last one that is left, and an agent that restarts beside another one.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dunlin_tests::ask;
use dunlin_tests::cluster::{Cluster, PATIENCE, text};
use dunlin_tests::env::{has_namespaces, left_out};
use dunlin_tests::wait::until;

/// One service on every node, and one that only the last node may run.
fn stack(last: &str) -> String {
    let service = |name: &str, deploy: &str| {
        format!(
            "  {name}:\n    command: ${{DUNLIN}} hello\n    ports: [{{target: 8080, name: http}}]\n    stop_grace_period: 1s\n    deploy: {deploy}\n    \
             x-dunlin: {{healthcheck: {{http: {{port: http, path: /health}}, interval: 500ms}}}}\n"
        )
    };
    let away = format!("{{placement: {{constraints: ['node.hostname == {last}']}}}}");
    format!("services:\n{}{}", service("web", "{mode: global}"), service("away", &away))
}

/// Asks a server without pause until it is told to stop, and counts what is not answered.
struct Asker {
    stop: Arc<AtomicBool>,
    counts: Arc<[AtomicU64; 2]>,
    thread: std::thread::JoinHandle<()>,
}

impl Asker {
    fn start(server: SocketAddr) -> Self {
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::<[AtomicU64; 2]>::default());
        let (is_over, counted) = (Arc::clone(&stop), Arc::clone(&counts));
        let thread = std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                counted[0].fetch_add(1, Ordering::Relaxed);
                if ask::addresses_within(server, "web", PATIENCE).is_err() {
                    counted[1].fetch_add(1, Ordering::Relaxed);
                }
                std::thread::park_timeout(Duration::from_millis(10));
            }
        });
        Self { stop, counts, thread }
    }

    /// How many questions were asked, and how many not answered.
    fn stop(self) -> [u64; 2] {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the asker");
        [0, 1].map(|n| self.counts[n].load(Ordering::Relaxed))
    }
}

#[test]
fn the_last_node_that_is_left_answers_rightly_from_what_it_knows() {
    let mut cluster = Cluster::start(4);
    let deployed = cluster.deploy(0, &stack("n4"), &["--wait"]);
    assert!(deployed.status.success(), "{}", text(&deployed.stderr));
    let _rows = cluster.wait_ready(0, 5);
    let (server, all) = (ask::server(&cluster, 0), [0, 1, 2, 3].map(|n: usize| cluster.nodes[n].address));
    let answers = |service: &str, wanted: &[std::net::Ipv4Addr]| {
        until(&format!("{service} to lead to {wanted:?}"), PATIENCE, || {
            let mut found = ask::addresses(server, service).map_err(|error| error.to_string())?;
            found.sort_unstable();
            if found == wanted { Ok(()) } else { Err(format!("{found:?}")) }
        });
    };
    answers("web", &all);
    answers("away", &all[3..]);
    let asker = Asker::start(server);
    (1..4).for_each(|n| cluster.kill_node(n));
    answers("web", &all[..1]);
    until("all others to be held for down", PATIENCE, || {
        let rows = cluster.nodes[0].json(&["nodes"])?;
        let down = rows.as_array().into_iter().flatten().filter(|row| row["state"] == "down").count();
        if down == 3 { Ok(()) } else { Err(rows.to_string()) }
    });
    answers("web", &all[..1]);
    answers("away", &[]);
    // It takes orders too: alone it cannot promise that they survive it.
    let more = stack("n4").replace("  away:", "  later:").replace("n4", "n1");
    let deployed = cluster.deploy(0, &more, &[]);
    assert!(matches!(deployed.status.code(), Some(0 | 3)), "{}", text(&deployed.stderr));
    answers("later", &all[..1]);
    let [asked, unanswered] = asker.stop();
    assert!(asked > 0 && unanswered == 0, "{unanswered} of {asked} questions were not answered");
    // A new agent finds nobody to tell it more, and says what its disk and its keepers say.
    cluster.kill_agent(0);
    cluster.start_agent(0);
    answers("web", &all[..1]);
    answers("later", &all[..1]);
}

/// A shell on a host of the network, which looks a name up through `resolv.conf` again and again.
struct Lookups {
    folder: tempfile::TempDir,
    shell: Child,
}

impl Lookups {
    fn start(cluster: &Cluster, n: usize, name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let servers = [0, 1].map(|n: usize| format!("nameserver {}\n", cluster.nodes[n].address)).concat();
        let conf = format!("{servers}search shop.dunlin.internal\noptions ndots:1 timeout:1\n");
        std::fs::write(folder.path().join("resolv.conf"), conf).expect("a file");
        let script = format!(
            "mount --bind resolv.conf /etc/resolv.conf || exit 1\n\
             while [ ! -e stop ]; do getent ahostsv4 {name} >> found || date >> failed; echo >> asked; done"
        );
        let prefix = cluster.network.as_ref().expect("a network").prefix(n);
        let mut command = Command::new(&prefix[0]);
        command.args(&prefix[1..]).args(["unshare", "--mount", "sh", "-c", &script]).current_dir(folder.path());
        let shell = command.stdin(Stdio::null()).spawn().expect("a shell");
        Self { folder, shell }
    }

    fn lines(&self, file: &str) -> usize {
        std::fs::read_to_string(self.folder.path().join(file)).unwrap_or_default().lines().count()
    }

    /// Waits for so many more lookups.
    fn more(&self, count: usize) {
        let before = self.lines("asked");
        until("more lookups", PATIENCE, || {
            let asked = self.lines("asked");
            if asked >= before + count { Ok(()) } else { Err(format!("{asked} after {before}")) }
        });
    }
}

impl Drop for Lookups {
    fn drop(&mut self) {
        let _told = std::fs::write(self.folder.path().join("stop"), "");
        let _ended = self.shell.wait();
    }
}

#[test]
fn with_two_name_servers_an_agent_s_restart_costs_no_answer() {
    let test = "with_two_name_servers_an_agent_s_restart_costs_no_answer";
    if !has_namespaces() {
        return left_out(test, "network namespaces need root");
    }
    let mut cluster = Cluster::on_network_with_options(3, &["--dns", "0.0.0.0:53"]);
    let deployed = cluster.deploy(0, &stack("n3"), &["--wait"]);
    assert!(deployed.status.success(), "{}", text(&deployed.stderr));
    let _rows = cluster.wait_ready(0, 4);
    let _rows = cluster.wait_ready(1, 4);
    let lookups = ["web", "away"].map(|name| Lookups::start(&cluster, 2, name));
    let some = || lookups.iter().for_each(|lookup| lookup.more(10));
    some();
    for _ in 0..2 {
        cluster.kill_agent(0);
        some();
        cluster.start_agent(0);
        cluster.wait_for_all_alive();
        some();
    }
    for lookup in &lookups {
        let counts = ["asked", "failed", "found"].map(|file| lookup.lines(file));
        assert!(counts[1] == 0 && counts[2] > 0, "asked, failed, found: {counts:?}");
    }
}

/// How long a client of the test below keeps an answer: its TTL of a second, less what a busy machine takes to give it.
const KEPT: Duration = Duration::from_millis(900);

/// Connects to all that names answer with, as long as an answer may be kept: how often, and how often in vain.
fn client(server: SocketAddr, is_over: &AtomicBool) -> [u64; 2] {
    let (mut tried, mut refused) = (0, 0);
    while !is_over.load(Ordering::Relaxed) {
        let asked = std::time::Instant::now();
        let instances = ask::instances(server, "web").unwrap_or_default();
        while asked.elapsed() < KEPT && !is_over.load(Ordering::Relaxed) {
            for instance in &instances {
                tried += 1;
                refused += u64::from(std::net::TcpStream::connect_timeout(instance, PATIENCE).is_err());
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
    [tried, refused]
}

/// Tells the client that it is over, also where the test fails meanwhile.
struct Told<'a>(&'a AtomicBool);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn who_keeps_an_answer_for_its_ttl_runs_into_no_closed_port() {
    let cluster = Cluster::start(1);
    let web = |version: u32| {
        stack("n1")
            .replace("{mode: global}", "{replicas: 2}")
            .replace("    ports:", &format!("    environment: {{VERSION: 'v{version}'}}\n    ports:"))
    };
    let deploy = |version: u32| {
        let deployed = cluster.deploy(0, &web(version), &["--wait"]);
        assert!(deployed.status.success(), "{}", text(&deployed.stderr));
        let _rows = cluster.wait_ready(0, 3);
    };
    deploy(1);
    let server = ask::server(&cluster, 0);
    let is_over = AtomicBool::new(false);
    let [tried, refused] = std::thread::scope(|scope| {
        let client = scope.spawn(|| client(server, &is_over));
        let told = Told(&is_over);
        deploy(2);
        let scaled = cluster.nodes[0].run(&["scale", "web=1"]);
        assert!(scaled.status.success(), "{}", text(&scaled.stderr));
        let _rows = cluster.wait_ready(0, 2);
        let gone = || match cluster.ps(0)?.iter().filter(|row| row["service"] == "shop/web").count() {
            1 => Ok(()),
            n => Err(format!("{n} of web")),
        };
        until("one of web to be left", PATIENCE, gone);
        drop(told);
        client.join().expect("the client")
    });
    assert!(tried > 0 && refused == 0, "{refused} of {tried} connections were refused");
}
