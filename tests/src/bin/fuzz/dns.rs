//! What comes to a DNS server: messages of a corpus of hostile ones, and changed ones, over real sockets.
//!
//! The laws: the server answers the next honest question whatever came before; nothing panics; an answer is one, to what was
//! asked, and no larger than the RFCs allow to a source that has proved nothing; who may not ask gets no more bytes than it
//! sent; and what UDP answers (mostly by the quick path), TCP answers too (always by the full one), record by record.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::OnceLock;
use std::time::Duration;

use dunlin_dns::{DnsConfig, DnsServer, Network};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{NodeName, Protocol, PublishedPort, Reach, ServiceKey, ServiceName, Slot, StackName};
use dunlin_gossip::rng::{Rng, Seed};
use dunlin_names::{Instance, MAX_PAYLOAD, MIN_PAYLOAD, NameChange};
use hickory_proto::op::Message;
use hickory_proto::rr::Record;

use crate::mutate::mutate;

/// For an answer on this host.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a header.
const HEADER: usize = 12;
/// The flag TC, in the third byte.
const TC: u8 = 0x02;

/// The servers of the process: one for all who ask, one for nobody here.
struct Servers {
    _runtime: tokio::runtime::Runtime,
    open: DnsServer,
    closed: DnsServer,
}

fn servers() -> Result<&'static Servers, String> {
    static SERVERS: OnceLock<Result<Servers, String>> = OnceLock::new();
    SERVERS.get_or_init(start).as_ref().map_err(Clone::clone)
}

fn start() -> Result<Servers, String> {
    let builder = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = builder.map_err(|e| e.to_string())?;
    let _inside = runtime.enter();
    let config = || DnsConfig::new(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))], "dunlin.internal", "c", Seed(1));
    let mut closed = config();
    closed.allow = vec!["192.0.2.0/24".parse::<Network>()?];
    let (open, closed) = (config(), closed);
    let [open, closed] = [open, closed].map(|config| DnsServer::start(config).map_err(|e| e.to_string()));
    let (open, closed) = (open?, closed?);
    let names = names()?;
    open.apply(&names);
    closed.apply(&names);
    drop(_inside);
    Ok(Servers { _runtime: runtime, open, closed })
}

/// Services of 0 to 120 instances of both families, on three nodes.
fn names() -> Result<Vec<NameChange>, String> {
    let mut rng = Seed(2).rng();
    let mut names = Vec::new();
    for n in 1..4 {
        names.push(NameChange::Node {
            node: NodeId([n; 16]),
            name: NodeName::new(&format!("n{n}")).map_err(|e| e.to_string())?,
            address: Some(IpAddr::from([10, 0, 0, n])),
            labels: BTreeMap::from([("zone".to_owned(), "a".to_owned()), ("text".to_owned(), "x".repeat(200))]),
        });
    }
    for n in 0..24_u8 {
        let service = ServiceKey {
            stack: StackName::new("shop").map_err(|e| e.to_string())?,
            service: ServiceName::new(&format!("s{n}")).map_err(|e| e.to_string())?,
        };
        let count = u32::from(n % 4) * if n % 8 == 3 { 40 } else { 1 };
        let instances = (0..count).map(|slot| instance(&mut rng, slot)).collect();
        names.push(NameChange::Service { service, instances });
    }
    Ok(names)
}

fn instance(rng: &mut Rng, slot: u32) -> Instance {
    let draw = rng.next_u64();
    let [a, b, c, ..] = draw.to_be_bytes();
    let address =
        if draw.is_multiple_of(3) { IpAddr::from(u128::from(draw).to_be_bytes()) } else { IpAddr::from([10, a, b, c]) };
    let port = |name: &str, outer| PublishedPort {
        name: name.to_owned(),
        protocol: Protocol::Tcp,
        inner: 80,
        outer,
        reach: Reach::Flock,
    };
    let ports = if draw.is_multiple_of(5) { vec![] } else { vec![port("http", 8_000), port("https", 8_443)] };
    Instance { slot: Slot::Number(slot), node: NodeId([1 + c % 3; 16]), address, ports }
}

/// A question with this name, type and class, and what follows it.
fn asks(name: &str, kind: u16, class: u16, counts: [u8; 3], rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xab, 0xcd, 1, 0, 0, 1, 0, counts[0], 0, counts[1], 0, counts[2]];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap_or(63));
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&class.to_be_bytes());
    bytes.extend_from_slice(rest);
    bytes
}

/// An OPT record with these bytes of options, which may lie about their length.
fn opt(payload: u16, version: u8, told: u16, options: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 41];
    bytes.extend_from_slice(&payload.to_be_bytes());
    bytes.extend_from_slice(&[0, version, 0, 0]);
    bytes.extend_from_slice(&told.to_be_bytes());
    bytes.extend_from_slice(options);
    bytes
}

/// A header that promises one question, and what comes instead.
fn raw(rest: &[u8]) -> Vec<u8> {
    [&[0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], rest].concat()
}

/// A service of many instances.
const WEB: &str = "s3.shop.dunlin.internal";
/// The option of a client's cookie.
const COOKIE: [u8; 12] = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];

/// Messages whose names and counts are not what they should be.
fn broken() -> Vec<Vec<u8>> {
    vec![
        // Names that point at themselves, at each other, ahead, into the header, beyond the end, and to half a pointer.
        raw(&[0xc0, 12, 0, 1, 0, 1]),
        raw(&[0xc0, 14, 0xc0, 12, 0, 1, 0, 1]),
        raw(&[0xc0, 18, 0, 1, 0, 1, 1, b'x', 0]),
        raw(&[0xc0, 0, 0, 1, 0, 1]),
        raw(&[0xff, 0xff, 0, 1, 0, 1]),
        raw(&[1, b'a', 0xc0]),
        // Labels of reserved kinds, names without end, beyond 255 bytes, and with nothing in them.
        raw(&[0x41, 1, 0, 0, 1, 0, 1]),
        raw(&[0x80, 1, 0, 0, 1, 0, 1]),
        raw(&[63; 400]),
        raw(&[[1, b'x'].repeat(127), vec![0, 0, 1, 0, 1]].concat()),
        raw(&[[1, b'x'].repeat(128), vec![0, 0, 1, 0, 1]].concat()),
        raw(&[0, 0, 1, 0, 1]),
        // Bytes that are no letters.
        raw(&[3, 0, 0xff, b'.', 4, b's', b'h', b'o', b'p', 0, 0, 1, 0, 1]),
        // Counts that promise everything, or nothing.
        vec![0xab, 0xcd, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        vec![0xab, 0xcd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        asks(WEB, 1, 1, [255, 255, 255], &[]),
    ]
}

/// Messages whose records besides the question are odd.
fn odd() -> Vec<Vec<u8>> {
    vec![
        // OPT records: twice, lying about their length, among the answers, with a name, as a question, of a later version.
        asks(WEB, 1, 1, [0, 0, 2], &[opt(1_232, 0, 0, &[]), opt(4_096, 0, 0, &[])].concat()),
        asks(WEB, 1, 1, [0, 0, 1], &opt(1_232, 0, 0xffff, &COOKIE)),
        asks(WEB, 1, 1, [0, 0, 1], &opt(1_232, 0, 12, &[0, 10, 0xff, 0xff, 1, 2, 3, 4, 5, 6, 7, 8])),
        asks(WEB, 1, 1, [1, 0, 0], &opt(1_232, 0, 0, &[])),
        asks(WEB, 41, 1, [0, 0, 0], &[]),
        asks(WEB, 1, 1, [0, 0, 1], &opt(1_232, 1, 0, &[])),
        asks(WEB, 1, 1, [0, 0, 1], &opt(0, 0, 0, &[])),
        asks(WEB, 33, 1, [0, 0, 1], &opt(0xffff, 0, 0, &[])),
        // Cookies of every length there is room for; client subnets, padding, keepalive, unknown options.
        asks(WEB, 1, 1, [0, 0, 1], &opt(1_232, 0, 4, &[0, 10, 0, 0])),
        asks(WEB, 1, 1, [0, 0, 1], &opt(1_232, 0, 44, &[&[0, 10, 0, 40][..], &[7; 40]].concat())),
        asks(WEB, 1, 1, [0, 0, 1], &opt(1_232, 0, 11, &[0, 8, 0, 7, 0, 9, 255, 255, 1, 2, 3])),
        asks(WEB, 1, 1, [0, 0, 1], &opt(1_232, 0, 500, &[&[0, 12, 1, 0xf0][..], &[0; 496]].concat())),
        asks(WEB, 1, 1, [0, 0, 1], &opt(1_232, 0, 8, &[0, 11, 0, 4, 1, 2, 3, 4])),
        // Signatures: TSIG and SIG(0), both empty.
        asks(WEB, 1, 1, [0, 0, 1], &[0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 0]),
        asks(WEB, 1, 1, [0, 0, 1], &[0, 0, 24, 0, 255, 0, 0, 0, 0, 0, 0]),
        // Transfers, updates, notifications, an answer.
        asks("dunlin.internal", 252, 1, [0, 0, 0], &[]),
        asks("dunlin.internal", 251, 1, [0, 1, 0], &asks("", 6, 1, [0, 0, 0], &[])[HEADER..]),
    ]
}

/// Messages that somebody could send on purpose, and honest ones of every kind.
fn corpus() -> Vec<Vec<u8>> {
    let mut corpus = [broken(), odd()].concat();
    for (at, value) in [(2, 0x28), (2, 0x20), (2, 0x78), (2, 0x81), (2, 0x03), (3, 0x7f), (3, 0xff)] {
        let mut odd = asks(WEB, 1, 1, [0, 0, 0], &[]);
        odd[at] = value;
        corpus.push(odd);
    }
    for class in [0, 2, 3, 4, 254, 255] {
        corpus.push(asks("version.bind", 16, class, [0, 0, 0], &[]));
    }
    let names = [
        "s0.shop",
        "s1.shop",
        "S11.SHOP",
        "s3.shop",
        "nope.shop",
        "shop",
        "",
        "node",
        "n1.node",
        "ns",
        "1.s3.shop",
        "_http._tcp.s3.shop",
        "_s3._tcp.shop",
        "nearest.s11.shop",
        "rr.s11.shop",
        "a.zone.s3.shop",
        "s3.shop.n1.node",
    ];
    for name in names {
        for kind in [1, 28, 33, 16, 2, 6, 64, 65, 255, 0, 999] {
            let whole = format!("{name}.dunlin.internal");
            corpus.push(asks(&whole, kind, 1, [0, 0, 0], &[]));
            corpus.push(asks(&whole, kind, 1, [0, 0, 1], &opt(1_232, 0, 0, &[])));
            corpus.push(asks(&whole, kind, 1, [0, 0, 1], &opt(700, 0, 12, &COOKIE)));
        }
    }
    corpus.push(asks("1.0.0.10.in-addr.arpa", 12, 1, [0, 0, 0], &[]));
    corpus.push(asks("example.org", 1, 1, [0, 0, 0], &[]));
    corpus
}

/// One message: of the corpus as it is, changed, or nothing but noise.
fn message(rng: &mut Rng, seed: u64, corpus: &[Vec<u8>]) -> Vec<u8> {
    if let Some(plain) = usize::try_from(seed).ok().and_then(|case| corpus.get(case.wrapping_sub(1))) {
        return plain.clone();
    }
    if rng.below(50) == 0 {
        let length = rng.below(1_600);
        return (0..length).map(|_| u8::try_from(rng.below(256)).unwrap_or(0)).collect();
    }
    let mut bytes = rng.pick(corpus).cloned().unwrap_or_default();
    let other = rng.pick(corpus).cloned().unwrap_or_default();
    mutate(rng, &mut bytes, &other);
    bytes.truncate(1_600);
    bytes
}

/// Sends a message and then an honest question, and gives what came before the honest question's answer.
fn answers(at: SocketAddr, bytes: &[u8], refuses: bool) -> Result<Vec<Vec<u8>>, String> {
    let told = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(told("a socket"))?;
    socket.connect(at).map_err(told("a socket"))?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(told("a socket"))?;
    socket.send(bytes).map_err(told("sending"))?;
    let mut honest = asks("s1.shop.dunlin.internal", 6, 1, [0, 0, 0], &[]);
    (honest[0], honest[1]) = (0x5e, 0x11);
    socket.send(&honest).map_err(told("sending"))?;
    let mut before = Vec::new();
    let mut buffer = [0; 4_096];
    loop {
        let length = socket.recv(&mut buffer).map_err(told("no answer to an honest question after this one"))?;
        let answer = buffer.get(..length).unwrap_or_default();
        let asked = honest.get(HEADER..).unwrap_or_default();
        let is_honest = answer.starts_with(&[0x5e, 0x11])
            && (refuses || answer.get(HEADER..).is_some_and(|a| a.starts_with(asked)));
        if is_honest {
            return Ok(before);
        }
        before.push(answer.to_vec());
    }
}

/// The most bytes that a client with this question may be sent by UDP.
fn room(question: &[u8]) -> usize {
    let payload = Message::from_vec(question).ok().and_then(|m| m.edns.map(|edns| edns.max_payload()));
    payload.map_or(MIN_PAYLOAD, |payload| payload.clamp(MIN_PAYLOAD, MAX_PAYLOAD)).into()
}

/// One question by TCP; none if the server hangs up, as it does on what needs no answer.
fn by_tcp(at: SocketAddr, bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(at)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
        stream.write_all(&[&length[..], bytes].concat())?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    };
    match ask() {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Err("TCP: no answer, and no end".to_owned()),
        Err(_) => Ok(None),
    }
}

fn sorted(records: &[Record]) -> Vec<String> {
    let mut texts: Vec<String> = records.iter().map(|record| record.to_string().to_lowercase()).collect();
    texts.sort();
    texts
}

/// Code and records, where order and letters' case do not matter.
fn plain(answer: &[u8]) -> Result<(u16, [Vec<String>; 3]), String> {
    let message = Message::from_vec(answer).map_err(|e| format!("an answer that cannot be read: {e}"))?;
    let m = &message;
    // With `rr` one is drawn anew each time.
    let is_drawn = m.queries.first().is_some_and(|query| query.name().to_string().to_lowercase().contains("rr."));
    let records = if is_drawn { Vec::new() } else { sorted(&m.answers) };
    let questions = m.queries.iter().map(|query| query.to_string().to_lowercase()).collect();
    Ok((m.metadata.response_code.into(), [questions, records, sorted(&m.authorities)]))
}

/// One case.
pub(crate) fn case(seed: Seed) -> Result<(), String> {
    static CORPUS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let corpus = CORPUS.get_or_init(corpus);
    let mut rng = seed.rng();
    let bytes = message(&mut rng, seed.0, corpus);
    let servers = servers()?;
    judge(&bytes, servers, rng.below(4) == 0).map_err(|why| format!("{why}; asked {bytes:?}"))
}

fn judge(bytes: &[u8], servers: &Servers, with_tcp: bool) -> Result<(), String> {
    let address = |server: &DnsServer| server.addresses().first().copied().ok_or("it listens nowhere");
    let (open, closed) = (address(&servers.open)?, address(&servers.closed)?);
    let given = answers(open, bytes, false)?;
    if given.len() > 1 {
        return Err(format!("{} answers", given.len()));
    }
    for answer in &given {
        let is_answer = answer.len() >= HEADER && answer[..2] == bytes[..2] && answer[2] & 0x80 != 0;
        if !is_answer {
            return Err(format!("no answer to this: {answer:?}"));
        }
        if answer.len() > room(bytes) {
            return Err(format!("{} bytes, where {} may be sent", answer.len(), room(bytes)));
        }
        plain(answer)?;
    }
    for refusal in answers(closed, bytes, true)? {
        if refusal.len() > bytes.len() {
            return Err(format!("{} bytes for {} to who may not ask", refusal.len(), bytes.len()));
        }
    }
    if with_tcp
        && let [answer] = &given[..]
        && answer[2] & TC == 0
        && let Some(whole) = by_tcp(open, bytes)?
        && plain(answer)? != plain(&whole)?
    {
        return Err(format!("UDP and TCP differ: {answer:?} and {whole:?}"));
    }
    for server in [&servers.open, &servers.closed] {
        if server.answers().panics > 0 {
            return Err("it made the full path panic".to_owned());
        }
    }
    Ok(())
}
