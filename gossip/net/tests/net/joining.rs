//! Newcomers and their tokens.

use crate::flock::{Node, flock, founder, loopback, start};
use dunlin_gossip::time::Wall;
use dunlin_net::{CERTIFICATE_LIFETIME, JoinAttempt, JoinError, JoinRefusal, JoinToken, NetEvent, NodeKeys, join};

fn token(of: &Node) -> JoinToken {
    JoinToken::generate(of.credentials.cluster, of.credentials.authority.fingerprint(), of.id(), Wall(1_000)).unwrap()
}

async fn attempt(node: &mut Node) -> JoinAttempt {
    node.until("Join", |e| if let NetEvent::Join(attempt) = e { Some(attempt) } else { None }).await
}

fn seed(node: &Node) -> Vec<String> {
    vec![node.net.local_addr().to_string()]
}

#[tokio::test]
async fn a_good_token_leads_in_and_the_newcomer_is_served() {
    let mut host = flock(1).await.remove(0);
    let (token, me) = (token(&host), NodeKeys::generate().unwrap());
    let (seeds, expected) = (seed(&host), (token.id, token.secret_hash()));
    let records: Vec<Vec<u8>> = (0..2_000_u32).map(|n| vec![u8::try_from(n % 251).unwrap(); 600]).collect();
    let deciding = async {
        let attempt = attempt(&mut host).await;
        assert_eq!((attempt.token, attempt.secret_hash), expected);
        assert_eq!((attempt.node, attempt.seal_key, attempt.name.as_str()), (me.id(), me.seal_key(), "wader"));
        let certificate = host.credentials.authority.certify(&attempt.public_key, CERTIFICATE_LIFETIME).unwrap();
        attempt.accept(certificate, records.clone());
    };
    let parsed = JoinToken::parse(&token.to_text()).unwrap();
    let joining = join(&seeds, &parsed, &me, "wader", &[]);
    let (joined, ()) = tokio::join!(joining, deciding);
    let joined = joined.unwrap();
    assert_eq!(joined.roster_records, records);
    assert_eq!(joined.credentials.cluster, host.credentials.cluster);
    let mut newcomer = start(me, joined.credentials, loopback(2), 1).await;
    host.net.peer(&newcomer.admitted());
    newcomer.net.peer(&host.admitted());
    newcomer.net.dial(host.id());
    assert_eq!(newcomer.link_up().await.1, host.id());
}

#[tokio::test]
async fn a_wrong_and_an_expired_token_are_told_apart_on_both_sides() {
    let mut host = flock(1).await.remove(0);
    let (token, me, seeds) = (token(&host), NodeKeys::generate().unwrap(), seed(&host));
    for refusal in [JoinRefusal::WrongToken, JoinRefusal::Expired, JoinRefusal::Other("the name is taken".into())] {
        let deciding = async {
            attempt(&mut host).await.refuse(refusal.clone());
            host.rejected().await
        };
        let (joined, event) = tokio::join!(join(&seeds, &token, &me, "wader", &[]), deciding);
        let error = joined.unwrap_err();
        match refusal {
            JoinRefusal::WrongToken => assert!(matches!(error, JoinError::WrongToken { .. }), "{error}"),
            JoinRefusal::Expired => assert!(matches!(error, JoinError::Expired { .. }), "{error}"),
            JoinRefusal::Other(_) => assert!(error.to_string().contains("the name is taken"), "{error}"),
        }
        assert!(event.contains("wader") && event.contains("not admitted"), "{event}");
    }
}

#[tokio::test]
async fn unreachable_seeds_are_listed_with_reasons_and_another_cluster_is_named() {
    let host = flock(1).await.remove(0);
    let (_, other) = founder();
    let me = NodeKeys::generate().unwrap();
    let foreign = JoinToken::generate(other.cluster, other.authority.fingerprint(), host.id(), Wall(1)).unwrap();
    let error = join(&seed(&host), &foreign, &me, "wader", &[]).await.unwrap_err();
    assert!(matches!(error, JoinError::OtherCluster { .. }), "{error}");
    let closed = std::net::UdpSocket::bind(loopback(9)).unwrap().local_addr().unwrap().to_string();
    let error = join(&[closed.clone(), "nonsense".into()], &token(&host), &me, "wader", &[]).await.unwrap_err();
    let JoinError::Unreachable(reasons) = &error else { panic!("{error}") };
    assert_eq!(reasons.len(), 2);
    assert!(error.to_string().contains("nobody listens") && error.to_string().contains("nonsense"), "{error}");
}

#[tokio::test]
async fn who_tries_many_tokens_is_turned_away_and_the_log_tells_it_once() {
    let mut host = flock(1).await.remove(0);
    let (token, me, seeds) = (token(&host), NodeKeys::generate().unwrap(), seed(&host));
    let (mut decided, mut told) = (0, Vec::new());
    let guessing = async {
        loop {
            match join(&seeds, &token, &me, "wader", &[]).await.unwrap_err() {
                JoinError::WrongToken { .. } => {}
                JoinError::Unreachable(reasons) => break reasons,
                other => panic!("{other}"),
            }
        }
    };
    let reasons = tokio::select! {
        reasons = guessing => reasons,
        () = async {
            loop {
                match host.events.recv().await.expect("the network lives") {
                    NetEvent::Join(attempt) => {
                        decided += 1;
                        assert!(decided < 60, "a burst of 30, and one a second");
                        attempt.refuse(JoinRefusal::WrongToken);
                    }
                    NetEvent::Rejected { why, .. } => told.push(why),
                    _ => {}
                }
            }
        } => unreachable!("it goes on for ever"),
    };
    assert!(decided >= 30 && reasons[0].1.contains("too many attempts"), "{decided} {reasons:?}");
    assert!(told.len() < decided, "a flood is told at a bounded rate: {}", told.len());
}
