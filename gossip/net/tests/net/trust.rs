//! Certificates that end, authorities that change, and what somebody with an old one may still do.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dunlin_net::{Credentials, NetEvent, certificate_end};
use dunlin_test_host::wait::until_true;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::flock::{Node, flock};

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Puts a node's new credentials in force.
fn change(node: &mut Node, to: Credentials) {
    node.net.change_credentials(to.clone()).unwrap();
    node.credentials = to;
}

fn wall_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

async fn stale(node: &mut Node) -> dunlin_gossip::id::NodeId {
    node.until("Stale", |e| match e {
        NetEvent::Stale { peer } => Some(peer),
        _ => None,
    })
    .await
}

/// Answers one request for the authority, without facts.
async fn hand_over(node: &mut Node) {
    node.until("Handover", |e| match e {
        NetEvent::Handover(asked) => {
            asked.answer(vec![b"a fact".to_vec()]);
            Some(())
        }
        _ => None,
    })
    .await;
}

#[tokio::test]
async fn a_link_and_a_request_outlive_a_renewal() {
    let mut nodes = flock(2).await;
    let [a, b] = &mut nodes[..] else { panic!("two nodes") };
    a.net.dial(b.id());
    let (link, ..) = a.link_up().await;
    b.link_up().await;
    let (mut send, mut recv) = a.net.request(b.id(), b"ask".to_vec()).await.unwrap();
    let serving = b.until("Request", |e| match e {
        NetEvent::Request { send, recv, .. } => Some((send, recv)),
        _ => None,
    });
    let (mut back, mut body) = serving.await;
    for node in [&mut *a, &mut *b] {
        let renewed = node.credentials.renewed(&node.keys, DAY).unwrap();
        assert_ne!(renewed.certificate, node.credentials.certificate);
        change(node, renewed);
    }
    a.net.send_frame(link, Arc::from(&b"still here"[..]), dunlin_gossip::face::FrameClass::Push);
    assert_eq!(b.frame().await, b"still here");
    send.write_all(b"?").await.unwrap();
    send.shutdown().await.unwrap();
    let (mut asked, mut answer) = (Vec::new(), Vec::new());
    body.read_to_end(&mut asked).await.unwrap();
    back.write_all(&asked).await.unwrap();
    drop((back, body));
    recv.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"?");
    assert_eq!(a.net.stats().links, 1, "nothing was dropped");
}

#[tokio::test]
async fn an_expired_certificate_is_good_for_a_handover_and_nothing_else() {
    let mut nodes = flock(2).await;
    let [a, b] = &mut nodes[..] else { panic!("two nodes") };
    let expired = b.credentials.renewed(&b.keys, Duration::ZERO).unwrap();
    let end = certificate_end(&expired.certificate).unwrap();
    // The end itself still counts, by whole seconds.
    until_true("the certificate expires", Duration::from_secs(10), async || wall_seconds() > end.0 / 1_000).await;
    change(b, expired);
    b.net.dial(a.id());
    let (link, reason) = b.link_down().await;
    assert!(link.is_none() && reason.contains("out of date"), "{reason}");
    assert_eq!(stale(a).await, b.id(), "both sides know that something is to be done");
    assert!(b.net.request(a.id(), b"ask".to_vec()).await.is_ok(), "it is sent before it is judged");
    let served = tokio::time::timeout(
        Duration::from_millis(500),
        a.until("Request", |e| match e {
            NetEvent::Request { .. } => Some(()),
            _ => None,
        }),
    );
    assert!(served.await.is_err(), "but not served");
    a.net.dial(b.id());
    assert!(a.link_down().await.1.contains("not accepted by this cluster's authority"));
    let (handed, ()) = tokio::join!(b.net.ask_for_authority(a.id()), hand_over(a));
    let handed = handed.unwrap();
    assert_eq!((handed.authority.serial(), handed.facts.len()), (a.credentials.authority.serial(), 1));
    let renewed = b.credentials.renewed(&b.keys, DAY).unwrap();
    change(b, renewed);
    b.net.dial(a.id());
    b.link_up().await;
}

#[tokio::test]
async fn an_authority_changes_step_by_step_without_a_moment_of_distrust() {
    let mut nodes = flock(2).await;
    let [a, b] = &mut nodes[..] else { panic!("two nodes") };
    let rotated = a.credentials.rotated(&a.keys, DAY).unwrap();
    change(a, rotated);
    // Only a holds the new one; it still shows what b can read.
    b.net.dial(a.id());
    b.link_up().await;
    a.link_up().await;
    let (handed, ()) = tokio::join!(b.net.ask_for_authority(a.id()), hand_over(a));
    let handed = handed.unwrap();
    let under = b.credentials.under(handed.authority, &handed.previous, &b.keys, DAY).unwrap();
    change(b, under);
    let shown = a.credentials.showing();
    change(a, shown);
    assert!(b.net.request(a.id(), b"over the link".to_vec()).await.is_ok());
    // Once all show the new one the old one goes.
    for node in [&mut *a, &mut *b] {
        let retired = node.credentials.retired();
        change(node, retired);
    }
    assert_eq!(a.credentials.certificate, a.net.credentials().certificate);
    assert_eq!((a.net.stats().links, b.net.stats().links), (1, 1), "the link stands all the time");
}

#[tokio::test]
async fn one_that_was_away_finds_a_new_authority_and_takes_it_over() {
    let mut nodes = flock(2).await;
    let [a, b] = &mut nodes[..] else { panic!("two nodes") };
    let retired = a.credentials.rotated(&a.keys, DAY).unwrap().retired();
    change(a, retired);
    b.net.dial(a.id());
    b.link_down().await;
    let (handed, ()) = tokio::join!(b.net.ask_for_authority(a.id()), hand_over(a));
    let under = b.credentials.under(handed.unwrap().authority, &[], &b.keys, DAY).unwrap().showing();
    change(b, under);
    b.net.dial(a.id());
    b.link_up().await;
}

#[tokio::test]
async fn a_removed_node_gets_no_authority() {
    let mut nodes = flock(2).await;
    let [a, b] = &mut nodes[..] else { panic!("two nodes") };
    // It asks while it is a member, and is removed before the answer.
    let (handed, ()) = tokio::join!(b.net.ask_for_authority(a.id()), async {
        let asked = a.until("Handover", |e| if let NetEvent::Handover(asked) = e { Some(asked) } else { None }).await;
        a.net.peer(&dunlin_gossip::face::PeerChange::Removed { node: b.keys.id() });
        asked.answer(Vec::new());
    });
    assert!(handed.is_err());
    let again = b.net.ask_for_authority(a.id()).await.unwrap_err().to_string();
    assert!(again.contains("removed"), "{again}");
}
