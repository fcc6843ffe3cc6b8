//! RFC 7766: pipelining, what comes in pieces, silence, crowds.

use std::time::Duration;

use dunlin_names::NameChange;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::wire::*;

#[tokio::test]
async fn many_questions_in_one_segment_are_all_answered_whole() {
    let (server, at) = server().await;
    server.apply(&[NameChange::Service { service: service(), instances: instances(200) }]);
    let mut stream = TcpStream::connect(at).await.unwrap();
    let mut pipelined = Vec::new();
    for id in 0..50_u8 {
        let mut bytes = Query::of(WEB, if id % 2 == 0 { A } else { SRV }).bytes();
        bytes[1] = id;
        pipelined.extend_from_slice(&u16::try_from(bytes.len()).unwrap().to_be_bytes());
        pipelined.extend_from_slice(&bytes);
    }
    stream.write_all(&pipelined).await.unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let reply = read_tcp(&mut stream).await.expect("an answer");
        assert_eq!((reply.shape().1[0], reply.flags() & TC), (200, 0));
        seen.insert(reply.bytes[1]);
    }
    assert_eq!(seen.len(), 50);
}

#[tokio::test]
async fn a_question_may_come_byte_by_byte_and_the_client_may_be_done_asking() {
    let (_server, at) = server().await;
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let bytes = Query::of(WEB, A).bytes();
    for byte in u16::try_from(bytes.len()).unwrap().to_be_bytes().iter().chain(&bytes) {
        stream.write_all(&[*byte]).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    assert_eq!(read_tcp(&mut stream).await.expect("an answer").shape(), (0, [2, 0, 0]));
    assert!(read_tcp(&mut stream).await.is_none(), "then it is over");
}

#[tokio::test]
async fn silence_junk_and_crowds_are_cut_off() {
    let mut config = config();
    config.tcp_idle = Duration::from_millis(200);
    let (server, at) = started(config).await;
    let mut silent = TcpStream::connect(at).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), silent.read_u8()).await.expect("in time");
    assert!(ended.is_err(), "silence ends");
    let mut junk = TcpStream::connect(at).await.unwrap();
    junk.write_all(&[0xff; 40]).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(10), junk.read_u8()).await.expect("in time").is_err());
    let mut crowd = Vec::new();
    while server.answers().turned_away == 0 {
        assert!(crowd.len() < 2_000, "nobody is turned away");
        crowd.push(TcpStream::connect(at).await.unwrap());
        tokio::task::yield_now().await;
    }
    drop(crowd);
    // Those who were turned away have left room for others.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let mut stream = TcpStream::connect(at).await.unwrap();
        send_tcp(&mut stream, &Query::of(WEB, A).bytes()).await;
        if read_tcp(&mut stream).await.is_some_and(|reply| reply.code() == 0) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "never room again");
    }
}
