//! Packets that nobody should send, clients that nobody should answer, and addresses that somebody else has.

use std::time::Duration;

use dunlin_dns::{DnsServer, Network};
use dunlin_gossip::rng::Seed;
use dunlin_test_host::wait::until_true;

use crate::wire::*;

#[tokio::test]
async fn garbage_is_survived_and_answered_with_no_more_than_it_was() {
    let (server, at) = server().await;
    let mut rng = Seed(11).rng();
    let socket = client().await;
    let templates = [
        Query::of(WEB, A).bytes(),
        Query::of(WEB, SRV).edns(Edns::default()).bytes(),
        Query::of("dunlin.internal", ANY)
            .edns(Edns { options: vec![0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8], ..Edns::default() })
            .bytes(),
        // A name that points at itself, one that never ends, and counts that promise everything.
        [&[0xab, 0xcd, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[0xc0, 12, 0, 1, 0, 1]].concat(),
        [&[0xab, 0xcd, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[63; 400]].concat(),
        vec![0xab, 0xcd, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ];
    for round in 0..4_000 {
        let mut bytes = templates[round % templates.len()].clone();
        for _ in 0..rng.below(6) {
            let at = usize::try_from(rng.below(bytes.len() as u64)).unwrap();
            bytes[at] = u8::try_from(rng.below(256)).unwrap();
        }
        bytes.truncate(usize::try_from(rng.below(bytes.len() as u64 + 1)).unwrap().max(bytes.len() / 2));
        socket.send_to(&bytes, at).await.unwrap();
        // What was answered is read now and then, so that neither side's queue overflows.
        if round % 16 == 0 {
            let mut buffer = [0; 4_096];
            while socket.try_recv(&mut buffer).is_ok() {}
        }
    }
    for garbage in [&b""[..], &[0xff; 11], &[0xff; 600], &[0; 12], &[0; 1_501]] {
        socket.send_to(garbage, at).await.unwrap();
    }
    assert_eq!(udp(at, &Query::of(WEB, A)).await.shape(), (0, [2, 0, 0]));
    assert!(server.answers().ignored > 0, "{:?}", server.answers());
}

#[tokio::test]
async fn answers_are_never_answered() {
    let (server, at) = server().await;
    let socket = client().await;
    let before = server.answers().all();
    socket.send_to(&Query::of(WEB, A).flags(QR).bytes(), at).await.unwrap();
    // The next question's answer is the first that comes.
    assert_eq!(exchange(&socket, at, &Query::of(WEB, A).bytes()).await.shape(), (0, [2, 0, 0]));
    assert_eq!(server.answers().all(), before + 1);
}

#[tokio::test]
async fn strangers_are_refused_with_no_more_bytes_than_they_sent() {
    let mut config = config();
    config.allow = vec!["192.0.2.0/24".parse::<Network>().unwrap()];
    let (server, at) = started(config).await;
    for query in [Query::of(WEB, A), Query::of(WEB, SRV).edns(Edns::default()), Query::of("example.org", A).flags(RD)] {
        let reply = udp(at, &query).await;
        assert_eq!(reply.shape(), (5, [0, 0, 0]));
        assert!(reply.bytes.len() <= query.bytes().len());
    }
    // A name that points into the header: written out it is longer than it was.
    let sly = [1, 205, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 192, 0, 0, 1, 0, 1];
    let reply = exchange(&client().await, at, &sly).await;
    assert_eq!((reply.code(), reply.bytes.len()), (5, 12));
    assert_eq!(server.answers().disallowed, 4);
    assert_eq!(server.answers().with_code("refused"), 4);
}

#[tokio::test]
async fn a_taken_address_is_named_with_the_remedy() {
    let (_server, at) = server().await;
    let mut second = config();
    second.listen = vec![at];
    let error = DnsServer::start(second).unwrap_err().to_string();
    assert!(error.contains(&at.to_string()) && error.contains("--dns"), "{error}");
    let mut own = config();
    own.listen = vec!["127.0.0.1:0".parse().unwrap()];
    let (first, at) = started(own).await;
    first.stop(Duration::from_secs(5)).await;
    let mut again = config();
    again.listen = vec![at];
    let (_second, at) = started(again).await;
    assert_eq!(udp(at, &Query::of(WEB, A)).await.code(), 0, "a stopped server leaves its address");
}

#[tokio::test]
async fn a_wildcard_socket_answers_from_the_address_that_was_asked() {
    for (listen, ask) in [("0.0.0.0:0", "127.0.0.2"), ("[::]:0", "::1"), ("[::]:0", "127.0.0.2")] {
        let mut config = config();
        config.listen = vec![listen.parse().unwrap()];
        let Ok(server) = DnsServer::start(config) else { continue };
        let at = std::net::SocketAddr::new(ask.parse().unwrap(), server.addresses()[0].port());
        let any = if at.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let Ok(socket) = tokio::net::UdpSocket::bind(any).await else { continue };
        // A connected socket hears nobody else.
        socket.connect(at).await.unwrap();
        socket.send(&Query::of("dunlin.internal", SOA).bytes()).await.unwrap();
        let mut buffer = [0; 512];
        let answered = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await;
        assert!(answered.is_ok_and(|read| read.is_ok()), "{listen} asked at {ask}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_know_its_zone_yet_sends_clients_to_the_next_one() {
    let mut config = config();
    config.knows_zone = false;
    let (server, at) = started(config).await;
    for query in [Query::of(WEB, A), Query::of(WEB, SRV), Query::of("no.shop.dunlin.internal", A)] {
        assert_eq!(udp(at, &query).await.shape(), (2, [0, 0, 0]), "{}", query.name);
    }
    assert_eq!(udp(at, &Query::of("example.org", A)).await.code(), 5);
    server.knows_zone();
    assert_eq!(udp(at, &Query::of(WEB, A)).await.shape(), (0, [2, 0, 0]));
    assert_eq!(udp(at, &Query::of("no.shop.dunlin.internal", A)).await.code(), 3);
}

#[tokio::test]
async fn answers_are_timed_by_the_way_that_they_took() {
    let (server, at) = server().await;
    let socket = client().await;
    for _ in 0..3 {
        exchange(&socket, at, &Query::of(WEB, A).bytes()).await;
    }
    let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
    send_tcp(&mut stream, &Query::of(WEB, SRV).bytes()).await;
    assert!(read_tcp(&mut stream).await.is_some());
    // An answer may arrive before it is counted.
    let all = || {
        let answers = server.answers();
        [&answers.udp_times, &answers.tcp_times, &answers.forwarded_times].map(|times| times.count())
    };
    until_true("all to be counted", Duration::from_secs(10), async || all() == [3, 1, 0]).await;
    assert!(server.answers().udp_times.nanos > 0);
}
