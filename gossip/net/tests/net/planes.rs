//! Packets, links and requests between real endpoints on loopback.

use std::net::UdpSocket;

use crate::flock::{DEADLINE, admitted, enrol, flock, founder, loopback, start, two};
use dunlin_gossip::face::{FrameClass, PeerChange};
use dunlin_gossip::limits::{MAX_FRAME, MAX_PACKET};
use dunlin_net::{NetError, NetEvent, NodeKeys};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test]
async fn packets_go_both_ways_from_the_first_one_on() {
    let mut nodes = flock(2).await;
    let (a, b) = two(&mut nodes);
    a.net.send_packet(b.id(), vec![7; MAX_PACKET]);
    assert_eq!(b.packet().await, (a.id(), vec![7; MAX_PACKET]));
    b.net.send_packet(a.id(), b"pong".to_vec());
    assert_eq!(a.packet().await, (b.id(), b"pong".to_vec()));
}

#[tokio::test]
async fn a_closed_port_is_a_refusal_and_the_endpoint_lives_on() {
    let mut nodes = flock(2).await;
    let gone = NodeKeys::generate().unwrap();
    let closed = UdpSocket::bind(loopback(9)).unwrap().local_addr().unwrap();
    let (a, b) = two(&mut nodes);
    a.net.peer(&admitted(&gone, &enrol(&a.credentials, &gone), vec![closed]));
    for _ in 0..3 {
        a.net.send_packet(gone.id(), b"there?".to_vec());
        let refused = |e| if let NetEvent::Refused { node } = e { Some(node) } else { None };
        assert_eq!(a.until("Refused", refused).await, gone.id());
    }
    a.net.dial(gone.id());
    let (link, reason) = a.link_down().await;
    assert!(link.is_none() && reason.contains("nobody listens"), "{reason}");
    a.net.send_packet(b.id(), b"still here".to_vec());
    assert_eq!(b.packet().await.1, b"still here");
    a.net.dial(b.id());
    a.link_up().await;
}

#[tokio::test]
async fn an_ipv6_wildcard_serves_ipv4_peers_and_sees_their_refusals() {
    let wildcard = std::net::SocketAddr::from(([0; 16], 0));
    if UdpSocket::bind(wildcard).is_err() {
        let test = "an_ipv6_wildcard_serves_ipv4_peers_and_sees_their_refusals";
        dunlin_test_host::left_out(test, "this host has no IPv6");
        return;
    }
    let mut b = flock(1).await.remove(0);
    let (keys, gone) = (NodeKeys::generate().unwrap(), NodeKeys::generate().unwrap());
    let mut a = start(keys.clone(), enrol(&b.credentials, &keys), wildcard, 1).await;
    let closed = UdpSocket::bind(loopback(9)).unwrap().local_addr().unwrap();
    let reachable = std::net::SocketAddr::from(([127, 0, 0, 1], a.net.local_addr().port()));
    b.net.peer(&admitted(&a.keys, &a.credentials, vec![reachable]));
    a.net.peer(&b.admitted());
    a.net.peer(&admitted(&gone, &enrol(&b.credentials, &gone), vec![closed]));
    b.net.send_packet(a.id(), b"ping".to_vec());
    assert_eq!(a.packet().await, (b.id(), b"ping".to_vec()));
    a.net.send_packet(b.id(), b"pong".to_vec());
    assert_eq!(b.packet().await, (a.id(), b"pong".to_vec()));
    a.net.dial(b.id());
    a.link_up().await;
    a.net.send_packet(gone.id(), b"there?".to_vec());
    let refused = |e| if let NetEvent::Refused { node } = e { Some(node) } else { None };
    assert_eq!(a.until("Refused", refused).await, gone.id());
}

#[tokio::test]
async fn a_second_address_is_used_when_the_first_is_dead() {
    let mut nodes = flock(2).await;
    let closed = UdpSocket::bind(loopback(9)).unwrap().local_addr().unwrap();
    let (a, b) = two(&mut nodes);
    let addresses = vec![closed, b.net.local_addr()];
    a.net.peer(&PeerChange::Removed { node: b.id() });
    a.net.peer(&admitted(&b.keys, &b.credentials, addresses));
    let wait = async {
        loop {
            a.net.send_packet(b.id(), b"x".to_vec());
            if let Ok(event) = tokio::time::timeout(std::time::Duration::from_millis(20), b.packet()).await {
                return event;
            }
        }
    };
    assert_eq!(tokio::time::timeout(DEADLINE, wait).await.unwrap().0, a.id());
    a.net.dial(b.id());
    a.link_up().await;
}

#[tokio::test]
async fn a_link_carries_frames_in_order_and_gives_credit() {
    let mut nodes = flock(2).await;
    let (a, b) = two(&mut nodes);
    a.net.dial(b.id());
    let (at_a, peer, inbound) = a.link_up().await;
    assert!((peer, inbound) == (b.id(), false));
    let (at_b, peer, inbound) = b.link_up().await;
    assert!((peer, inbound) == (a.id(), true));
    for n in 0..100_u8 {
        a.send(at_a, &[n; 1_000]);
    }
    for n in 0..100_u8 {
        assert_eq!(b.frame().await, vec![n; 1_000]);
    }
    let mut credit = 0;
    while credit < 100_000 {
        credit += a
            .until("Credit", |e| match e {
                NetEvent::Credit { link, bytes } => Some((link == at_a, bytes)),
                _ => None,
            })
            .await
            .1;
    }
    assert_eq!(credit, 100_000);
    b.send(at_b, b"");
    b.send(at_b, b"back");
    assert_eq!((a.frame().await, a.frame().await), (Vec::new(), b"back".to_vec()));
    b.net.hangup(at_b, "tree changed");
    assert_eq!(b.link_down().await, (Some(at_b), "tree changed".to_owned()));
    let (link, reason) = a.link_down().await;
    assert!(link == Some(at_a) && reason.contains("tree changed"), "{reason}");
}

#[tokio::test]
async fn packets_pass_while_twenty_megabytes_flow() {
    const FRAMES: usize = 80;
    let mut nodes = flock(2).await;
    let (a, b) = two(&mut nodes);
    a.net.dial(b.id());
    let (link, ..) = a.link_up().await;
    let (net, to) = (a.net.clone(), b.id());
    let bulk = async {
        // Never more under way than the queue holds: one frame a credit.
        let mut open = 8_u64 * MAX_FRAME as u64;
        let mut sent = 0;
        while sent < FRAMES {
            if open >= MAX_FRAME as u64 {
                let content: Vec<u8> = vec![u8::try_from(sent).unwrap(); MAX_FRAME];
                a.net.send_frame(link, content.into(), FrameClass::Sync);
                (open, sent) = (open - MAX_FRAME as u64, sent + 1);
                net.send_packet(to, vec![1; 60]);
            } else {
                let credit = |e| if let NetEvent::Credit { bytes, .. } = e { Some(bytes) } else { None };
                open += a.until("Credit", credit).await;
            }
        }
    };
    let reading = async {
        let (mut frames, mut packets) = (0, 0);
        while frames < FRAMES {
            match b.until("anything", Some).await {
                NetEvent::Frame { bytes, .. } => {
                    assert!(bytes.len() == MAX_FRAME && usize::from(bytes[0]) == frames, "frame {frames} is intact");
                    frames += 1;
                }
                NetEvent::Packet { .. } => packets += 1,
                NetEvent::LinkDown { reason, .. } => panic!("the link died: {reason}"),
                _ => {}
            }
        }
        packets
    };
    let ((), packets) = tokio::time::timeout(DEADLINE * 3, async { tokio::join!(bulk, reading) }).await.unwrap();
    assert!(packets > FRAMES / 2, "{packets} of {FRAMES} packets came through");
}

#[tokio::test]
async fn requests_have_streams_of_their_own() {
    let mut nodes = flock(2).await;
    let (a, b) = two(&mut nodes);
    for linked in [false, true] {
        if linked {
            a.net.dial(b.id());
            a.link_up().await;
        }
        let (mut send, mut recv) = a.net.request(b.id(), b"logs web.1".to_vec()).await.unwrap();
        send.write_all(b"question").await.unwrap();
        send.shutdown().await.unwrap();
        let (peer, header, mut back, mut body) = b
            .until("Request", |e| match e {
                NetEvent::Request { peer, header, send, recv } => Some((peer, header, send, recv)),
                _ => None,
            })
            .await;
        assert!(peer == a.id() && header == b"logs web.1");
        let mut question = String::new();
        body.read_to_string(&mut question).await.unwrap();
        assert_eq!(question, "question");
        back.write_all(&vec![5; 300_000]).await.unwrap();
        drop((back, body));
        let mut answer = Vec::new();
        recv.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer.len(), 300_000, "what was written before the drop arrives");
    }
}

#[tokio::test]
async fn a_removed_peer_is_dropped_and_its_packets_are_not_heard() {
    let mut nodes = flock(3).await;
    let [a, b, c] = &mut nodes[..] else { panic!("three nodes") };
    a.net.dial(b.id());
    a.link_up().await;
    b.link_up().await;
    a.net.peer(&PeerChange::Removed { node: b.id() });
    let (told, (link, reason)) = b.expelled_and_link_down().await;
    assert!(link.is_some() && reason.contains("no longer a member"), "{reason}");
    assert_eq!(told, a.id());
    a.link_down().await;
    b.net.send_packet(a.id(), b"ignored".to_vec());
    c.net.send_packet(a.id(), b"heard".to_vec());
    assert_eq!(a.packet().await, (c.id(), b"heard".to_vec()));
    b.net.dial(a.id());
    let (told, (link, reason)) = b.expelled_and_link_down().await;
    assert!(link.is_none() && reason.contains("was removed"), "{reason}");
    assert_eq!(told, a.id(), "whenever it comes back");
    assert!(a.rejected().await.contains("was removed"));
}

#[tokio::test]
async fn who_is_not_known_yet_is_not_told_that_it_was_removed() {
    let mut nodes = flock(2).await;
    let [a, b] = &mut nodes[..] else { panic!("two nodes") };
    let keys = NodeKeys::generate().unwrap();
    let mut unknown = start(keys.clone(), enrol(&a.credentials, &keys), loopback(3), 1).await;
    for peer in [&*a, &*b] {
        unknown.net.peer(&peer.admitted());
    }
    unknown.net.dial(a.id());
    let told = unknown.until("LinkDown", |e| match e {
        NetEvent::LinkDown { reason, .. } => Some(reason),
        NetEvent::Expelled { by } => panic!("{by} says that it was removed"),
        _ => None,
    });
    assert!(told.await.contains("does not admit"));
    a.rejected().await;
    b.net.peer(&PeerChange::Removed { node: unknown.id() });
    unknown.net.dial(b.id());
    assert_eq!(unknown.expelled_and_link_down().await.0, b.id());
}

#[tokio::test]
async fn an_unrostered_or_foreign_node_is_refused_with_the_reason() {
    let mut nodes = flock(1).await;
    let a = &mut nodes[0];
    let keys = NodeKeys::generate().unwrap();
    let mut unknown = start(keys.clone(), enrol(&a.credentials, &keys), loopback(2), 1).await;
    unknown.net.peer(&a.admitted());
    unknown.net.dial(a.id());
    assert!(unknown.link_down().await.1.contains("does not admit"));
    assert!(a.rejected().await.contains("does not admit"));

    let (keys, other) = founder();
    let foreign = start(keys, other, loopback(3), 1).await;
    foreign.net.peer(&a.admitted());
    let refused = foreign.net.request(a.id(), Vec::new()).await;
    assert!(
        matches!(&refused, Err(NetError::Unreachable { why, .. }) if why.contains("not accepted by this cluster's authority")),
        "an entry in the book does not make a foreign certificate good: {refused:?}"
    );
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let nodes = flock(1).await;
    let (keys, credentials) = founder();
    let (sender, _events) = tokio::sync::mpsc::channel(1);
    let (bind, generation) = (nodes[0].net.local_addr(), dunlin_gossip::id::Generation(1));
    let config = dunlin_net::NetConfig { bind, keys, credentials, generation };
    let error = dunlin_net::Net::start(config, sender).await.unwrap_err();
    assert!(matches!(error, NetError::AddressInUse(at) if at == bind), "{error}");
}

#[tokio::test]
async fn garbage_is_counted_and_reported_once() {
    let mut nodes = flock(2).await;
    let (a, b) = two(&mut nodes);
    let stranger = UdpSocket::bind(loopback(8)).unwrap();
    let mut state = 1_u64;
    for n in 0..600_usize {
        let junk: Vec<u8> = (0..n)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                u8::try_from(state >> 56).unwrap()
            })
            .collect();
        stranger.send_to(&junk, a.net.local_addr()).unwrap();
        // Below the receive buffer's size at any moment.
        if n % 50 == 0 {
            b.net.send_packet(a.id(), vec![1]);
            let until = |e| matches!(e, NetEvent::Packet { .. } | NetEvent::Rejected { .. }).then_some(());
            a.until("life", until).await;
        }
    }
    b.net.send_packet(a.id(), b"after".to_vec());
    while a.packet().await.1 != b"after" {}
    assert!(a.net.stats().unopened > 0);
    a.net.dial(b.id());
    a.link_up().await;
}

#[test]
fn a_restarted_peer_resets_old_links_at_once() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (here, there) = (runtime(), runtime());
    let _context = here.enter();
    let (keys, credentials) = founder();
    let mut a = here.block_on(start(keys, credentials.clone(), loopback(1), 1));
    let keys = NodeKeys::generate().unwrap();
    let own = enrol(&credentials, &keys);
    let b = there.block_on(start(keys.clone(), own.clone(), loopback(2), 1));
    let address = b.net.local_addr();
    a.net.peer(&b.admitted());
    b.net.peer(&a.admitted());
    a.net.dial(b.id());
    let (link, ..) = here.block_on(a.link_up());
    // As kill -9 does: nothing is said, the port closes.
    there.shutdown_timeout(DEADLINE);
    drop(b);
    let b = here.block_on(start(keys, own, address, 2));
    b.net.peer(&a.admitted());
    a.send(link, b"are you the same?");
    let (down, reason) = here.block_on(a.link_down());
    assert!(down == Some(link) && reason.contains("restarted"), "{reason}");
}

#[tokio::test]
async fn dialling_oneself_is_told_from_a_clone() {
    let mut nodes = flock(1).await;
    let a = &mut nodes[0];
    a.net.dial(a.id());
    assert!(a.link_down().await.1.contains("yourself"));
    let mut clone = start(a.keys.clone(), a.credentials.clone(), loopback(4), 2).await;
    clone.net.peer(&a.admitted());
    clone.net.dial(a.id());
    assert!(clone.link_down().await.1.contains("runs here"));
    assert!(clone.net.has_twin_at(a.net.local_addr()).await);
    assert!(!clone.net.has_twin_at(clone.net.local_addr()).await, "oneself is no twin");
    assert!(!clone.net.has_twin_at(loopback(9)).await, "nobody is no twin");
}

#[tokio::test]
async fn close_frees_the_port_and_tells_peers() {
    let mut nodes = flock(2).await;
    nodes[0].net.dial(nodes[1].id());
    nodes[0].link_up().await;
    nodes[1].link_up().await;
    let b = nodes.pop().unwrap();
    b.net.close().await;
    let address = b.net.local_addr();
    assert!(nodes[0].link_down().await.1.contains("the agent stops"));
    drop(b);
    let wait = async {
        while UdpSocket::bind(address).is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect("the port is free");
}
