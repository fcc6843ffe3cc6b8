//! Names of other zones: asked of resolvers, once, kept; with resolvers that fail, lie, cut their answers or ask us back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use dunlin_dns::{DnsConfig, DnsServer, Upstream};
use dunlin_test_host::wait::until_true;
use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A as Address, SOA as Soa};
use hickory_proto::rr::{Name, RData, Record};

use crate::wire::*;

/// A resolver that answers as a function says, over UDP and TCP, and counts what it was asked (loop probes aside).
///
/// On threads of its own: an answer that is held back must hold back no task of the server that waits for it.
struct Fake {
    at: SocketAddr,
    asked: Arc<AtomicUsize>,
}

fn fake(answers: impl Fn(&mut Message, bool) + Send + Sync + 'static) -> Fake {
    let (udp, tcp) = loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
            break (udp, tcp);
        }
    };
    let at = udp.local_addr().unwrap();
    let asked = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&asked);
    let answer = Arc::new(move |bytes: &[u8], is_tcp| {
        let mut message = Message::from_vec(bytes).unwrap();
        if !message.queries[0].name().to_string().contains("loop-probe") {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        message.metadata.message_type = MessageType::Response;
        message.metadata.recursion_available = true;
        answers(&mut message, is_tcp);
        message.to_vec().unwrap()
    });
    let answer_tcp = Arc::clone(&answer);
    std::thread::spawn(move || {
        let mut buffer = [0; 2_048];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            let _gone = udp.send_to(&answer(&buffer[..length], false), from);
        }
    });
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = tcp.accept() {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut bytes = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut bytes).unwrap();
            let bytes = answer_tcp(&bytes, true);
            stream.write_all(&u16::try_from(bytes.len()).unwrap().to_be_bytes()).unwrap();
            stream.write_all(&bytes).unwrap();
        }
    });
    Fake { at, asked }
}

fn address(message: &mut Message, ttl: u32, last: u8) {
    let name = message.queries[0].name().clone();
    message.add_answer(Record::from_rdata(name, ttl, RData::A(Address::new(192, 0, 2, last))));
}

fn forwarding(upstreams: &[&str]) -> DnsConfig {
    let mut config = config();
    config.forward = upstreams.iter().map(|text| text.parse::<Upstream>().unwrap()).collect();
    config
}

fn ask(name: &str) -> Query {
    Query::of(name, A).flags(RD)
}

fn first(reply: &Reply) -> String {
    reply.message.answers.first().map_or_else(String::new, |record| record.data.to_string())
}

#[tokio::test]
async fn names_of_other_zones_are_asked_once_and_kept_in_the_asker_s_letters() {
    let resolver = fake(|message, _| address(message, 60, 1));
    let (server, at) = started(forwarding(&[&resolver.at.to_string()])).await;
    let reply = udp(at, &ask("Example.ORG")).await;
    assert_eq!((reply.shape(), reply.flags(), first(&reply).as_str()), ((0, [1, 0, 0]), QR | RD | RA, "192.0.2.1"));
    assert!(reply.message.answers[0].name.to_string() == "Example.ORG.", "{}", reply.message);
    assert_eq!(udp(at, &ask("example.org")).await.shape(), (0, [1, 0, 0]));
    let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
    send_tcp(&mut stream, &ask("example.org").bytes()).await;
    send_tcp(&mut stream, &ask("other.example.org").bytes()).await;
    assert!(read_tcp(&mut stream).await.is_some() && read_tcp(&mut stream).await.is_some());
    let done = server.answers().forwarded;
    assert_eq!((done.hits, done.misses, done.cached, done.healthy), (2, 2, 2, 1));
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 2);
    // Our own zone is never asked elsewhere, and who does not want recursion is refused.
    assert_eq!(udp(at, &ask("no.shop.dunlin.internal")).await.code(), 3);
    assert_eq!(udp(at, &Query::of("example.org", A)).await.code(), 5);
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_crowd_that_asks_the_same_is_one_question() {
    // Held back until told, or until this test is over either way.
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let resolver = fake(move |message, _| {
        if message.queries[0].name().to_string() == "crowd.example." {
            let _told = held.lock().unwrap().recv();
        }
        address(message, 60, 1);
    });
    let (_server, at) = started(forwarding(&[&resolver.at.to_string()])).await;
    let crowd = client().await;
    for id in 0..40 {
        let mut bytes = ask("crowd.example").bytes();
        bytes[1] = id;
        crowd.send_to(&bytes, at).await.unwrap();
    }
    // Datagrams of one client are taken in order: once this is answered, all of the crowd wait.
    assert_eq!(exchange(&crowd, at, &Query::of(WEB, A).bytes()).await.code(), 0);
    drop(release);
    let mut ids = std::collections::BTreeSet::new();
    let mut buffer = [0; 512];
    while ids.len() < 40 {
        let read = tokio::time::timeout(Duration::from_secs(10), crowd.recv(&mut buffer)).await;
        let length = read.expect("an answer").unwrap();
        ids.insert(Reply::read(buffer[..length].to_vec()).bytes[1]);
    }
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_does_not_exist_is_kept_as_its_soa_says() {
    let resolver = fake(|message, _| {
        message.metadata.response_code = ResponseCode::NXDomain;
        let soa = Soa::new(Name::root(), Name::root(), 1, 1, 1, 1, 60);
        message.add_authority(Record::from_rdata(Name::root(), 3_600, RData::SOA(soa)));
    });
    let (server, at) = started(forwarding(&[&resolver.at.to_string()])).await;
    for _ in 0..3 {
        assert_eq!(udp(at, &ask("no.example")).await.shape(), (3, [0, 1, 0]));
    }
    assert_eq!((server.answers().forwarded.hits, resolver.asked.load(Ordering::SeqCst)), (2, 1));
}

#[tokio::test]
async fn a_cut_answer_is_fetched_whole_and_cut_for_the_asker() {
    let resolver = fake(|message, is_tcp| {
        message.metadata.truncation = !is_tcp;
        (0..if is_tcp { 100 } else { 0 }).for_each(|n| address(message, 60, n));
    });
    let (_server, at) = started(forwarding(&[&resolver.at.to_string()])).await;
    let cut = udp(at, &ask("big.example")).await;
    assert!(cut.flags() & TC != 0 && cut.bytes.len() <= 512);
    let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
    send_tcp(&mut stream, &ask("big.example").bytes()).await;
    assert_eq!(read_tcp(&mut stream).await.expect("an answer").shape().1[0], 100);
}

#[tokio::test]
async fn resolvers_that_fail_are_passed_over_and_zones_go_their_own_way() {
    let failing = fake(|message, _| message.metadata.response_code = ResponseCode::ServFail);
    let lying = fake(|message, _| message.metadata.id ^= 1);
    let good = fake(|message, _| address(message, 60, 1));
    let corp = fake(|message, _| address(message, 60, 2));
    let upstreams =
        [failing.at.to_string(), lying.at.to_string(), good.at.to_string(), format!("corp.example={}", corp.at)];
    let upstreams: Vec<&str> = upstreams.iter().map(String::as_str).collect();
    let (server, at) = started(forwarding(&upstreams)).await;
    assert_eq!(first(&udp(at, &ask("a.example")).await), "192.0.2.1");
    assert_eq!(first(&udp(at, &ask("host.corp.example")).await), "192.0.2.2");
    assert_eq!(first(&udp(at, &ask("notcorp.example")).await), "192.0.2.1");
    assert_eq!(corp.asked.load(Ordering::SeqCst), 1);
    assert_eq!(server.answers().forwarded.resolvers, 4);
}

#[tokio::test]
async fn when_nobody_answers_the_old_answer_is_told_or_the_failure() {
    // The first answer holds for a second; afterwards the resolver fails.
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let resolver = fake(|message, _| {
        if message.queries[0].name().to_string().starts_with("old") && ASKED.fetch_add(1, Ordering::SeqCst) == 0 {
            address(message, 1, 9);
        } else {
            message.metadata.response_code = ResponseCode::ServFail;
        }
    });
    let (server, at) = started(forwarding(&[&resolver.at.to_string()])).await;
    assert_eq!(udp(at, &ask("never.example")).await.code(), 2);
    assert_eq!(first(&udp(at, &ask("old.example")).await), "192.0.2.9");
    until_true("an old answer to be given", Duration::from_secs(20), async || {
        let reply = udp(at, &ask("old.example")).await;
        assert_eq!((reply.code(), first(&reply).as_str()), (0, "192.0.2.9"));
        server.answers().forwarded.stale > 0
    })
    .await;
}

#[tokio::test]
async fn while_resolvers_are_silent_the_old_answer_is_told_and_they_are_not_asked_each_time() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    // Silent from the second question on, until the test is over.
    let (over, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let resolver = fake(move |message, _| {
        if message.queries[0].name().to_string().starts_with("old") && ASKED.fetch_add(1, Ordering::SeqCst) > 0 {
            let _ended = held.lock().unwrap().recv();
        }
        address(message, 1, 9);
    });
    let (server, at) = started(forwarding(&[&resolver.at.to_string()])).await;
    assert_eq!(first(&udp(at, &ask("old.example")).await), "192.0.2.9");
    let old = async || {
        let reply = udp(at, &ask("old.example")).await;
        assert_eq!((reply.code(), first(&reply).as_str()), (0, "192.0.2.9"));
        server.answers().forwarded
    };
    until_true("an old answer to be given", Duration::from_secs(20), async || old().await.stale > 0).await;
    let before = server.answers().forwarded;
    for _ in 0..20 {
        let _answered = old().await;
    }
    let after = server.answers().forwarded;
    assert_eq!((after.misses, after.stale), (before.misses, before.stale + 20));
    drop(over);
}

#[tokio::test]
async fn a_resolver_that_asks_us_back_is_found_and_left_out() {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mirror = socket.local_addr().unwrap();
    let (server, at) = started(forwarding(&[&mirror.to_string()])).await;
    // What it is asked, it asks us.
    tokio::spawn(async move {
        let mut buffer = [0; 2_048];
        while let Ok((length, _)) = socket.recv_from(&mut buffer).await {
            let _gone = socket.send_to(&buffer[..length], at).await;
        }
    });
    let is_found = async || server.answers().forwarded.healthy == 0;
    until_true("the loop to be found", Duration::from_secs(20), is_found).await;
    assert_eq!(udp(at, &ask("example.org")).await.code(), 2, "nobody is left to ask");
    let mut own = config();
    own.listen = vec!["127.0.0.1:0".parse().unwrap()];
    let free = DnsServer::start(own.clone()).unwrap().addresses()[0];
    own.listen = vec![free];
    own.forward = vec![free.to_string().parse().unwrap()];
    let error = DnsServer::start(own).unwrap_err().to_string();
    assert!(error.contains("itself"), "{error}");
}
