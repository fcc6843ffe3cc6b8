//! Tokens with a limit of uses: counted from admissions, by every node for itself.

use dunlin_core::face::{Ack, ProblemKind, Reply, Request};
use dunlin_core::query;
use dunlin_gossip::model::{RosterEntry, Token, TokenId};
use dunlin_gossip::time::{Duration, Wall};

use crate::flock::{self, Flock};
use crate::{refused, written};

const HOUR_MS: u64 = 3_600_000;

fn make(flock: &mut Flock, uses: u32) {
    let now = flock.wall().0;
    let reply = ask_for(flock, uses, now + HOUR_MS);
    written(&reply);
    flock.until("all know the token", 5, |f| f.hosts.iter().all(|h| !rows_of(h).is_empty()));
}

fn ask_for(flock: &mut Flock, uses: u32, expires: u64) -> Reply {
    let created = flock.wall();
    let token = Token {
        id: TokenId(1),
        secret_hash: [7; 32],
        issuer: flock::id(0),
        label: String::new(),
        created,
        expires: Wall(expires),
        uses: Some(uses),
    };
    let id = flock.request(0, Request::CreateToken(token));
    flock.reply(id)
}

fn rows_of(host: &flock::Host) -> Vec<query::TokenRow> {
    host.node.as_ref().map(query::tokens).unwrap_or_default()
}

/// How often it was used, as a node knows.
fn used(flock: &Flock, at: usize) -> usize {
    rows_of(&flock.hosts[at]).first().map_or(0, |row| row.used)
}

fn check(flock: &mut Flock, at: usize, who: usize) -> Reply {
    let node = flock::id(who);
    let id = flock.request(at, Request::CheckToken { id: TokenId(1), secret_hash: [7; 32], node });
    flock.reply(id)
}

fn newcomer(who: usize) -> RosterEntry {
    RosterEntry { token: Some(TokenId(1)), ..flock::entry(who) }
}

fn admit(flock: &mut Flock, at: usize, who: usize) -> Reply {
    let id = flock.request(at, Request::Admit(newcomer(who)));
    flock.reply(id)
}

fn is_used_up(reply: &Reply) {
    let (kind, text) = refused(reply);
    assert_eq!(kind, ProblemKind::TooMany);
    assert!(text.contains("and was; make one with `dunlin token create`"), "{text}");
}

#[test]
fn a_token_admits_as_many_as_it_says_wherever_they_knock() {
    let mut flock = Flock::new(2);
    make(&mut flock, 2);
    assert!(matches!(admit(&mut flock, 0, 5), Reply::Admitted(_)));
    assert!(matches!(admit(&mut flock, 1, 6), Reply::Admitted(_)));
    flock.until("both know of both", 5, |f| used(f, 0) == 2 && used(f, 1) == 2);
    is_used_up(&check(&mut flock, 0, 7));
    is_used_up(&admit(&mut flock, 1, 7));
    assert_eq!(check(&mut flock, 1, 5), Reply::TokenGood, "who was let in by it and asks again uses nothing up");
}

#[test]
fn two_at_the_door_at_once_are_one_too_many() {
    let mut flock = Flock::new(2);
    make(&mut flock, 1);
    // Neither is on disk when the other asks.
    let first = flock.request(0, Request::Admit(newcomer(5)));
    let second = flock.request(0, Request::Admit(newcomer(6)));
    assert!(matches!(flock.reply(first), Reply::Admitted(_)));
    is_used_up(&flock.reply(second));
}

#[test]
fn a_removed_node_gives_no_use_back() {
    let mut flock = Flock::new(2);
    make(&mut flock, 1);
    assert!(matches!(admit(&mut flock, 0, 5), Reply::Admitted(_)));
    flock.until("the other knows", 5, |f| used(f, 1) == 1);
    for _again in 0..2 {
        let timeout = Duration::from_secs(5);
        let id = flock.request(1, Request::RemoveNode { node: flock::id(5), ack: Ack::Nodes(2), timeout });
        written(&flock.reply(id));
        flock.until("both know", 5, |f| (0..2).all(|n| used(f, n) == 1));
        is_used_up(&check(&mut flock, 0, 6));
    }
}

#[test]
fn halves_that_do_not_hear_each_other_admit_up_to_the_limit_each_and_tell_it_afterwards() {
    let mut flock = Flock::new(2);
    make(&mut flock, 1);
    flock.cut.insert((0, 1));
    flock.cut.insert((1, 0));
    assert!(matches!(admit(&mut flock, 0, 5), Reply::Admitted(_)));
    assert!(matches!(admit(&mut flock, 1, 6), Reply::Admitted(_)));
    flock.cut.clear();
    flock.until("both know of both", 60, |f| used(f, 0) == 2 && used(f, 1) == 2);
    is_used_up(&check(&mut flock, 0, 7));
}

#[test]
fn a_limit_without_sense_is_refused() {
    let mut flock = Flock::new(1);
    let now = flock.wall().0;
    let reply = ask_for(&mut flock, 0, now + HOUR_MS);
    assert!(refused(&reply).1.contains("at least 1"));
    let reply = ask_for(&mut flock, 1, now + 721 * HOUR_MS);
    assert!(refused(&reply).1.contains("720 hours at most"));
}

#[test]
fn a_token_is_good_until_it_ends_or_is_removed() {
    let mut flock = Flock::new(2);
    let token = |n: u64, expires: u64| Token {
        id: TokenId(n),
        secret_hash: [7; 32],
        issuer: flock::id(0),
        label: "test".to_string(),
        created: Wall(0),
        expires: Wall(expires),
        uses: None,
    };
    let now = flock.wall().0;
    // The last one ended more than a day ago: nobody keeps it.
    for token in [token(1, u64::MAX), token(2, now), token(3, now - 25 * 3_600_000)] {
        let id = flock.request(0, Request::CreateToken(token));
        written(&flock.reply(id));
    }
    let mut check = |n: u64, secret: u8| {
        let id =
            flock.request(1, Request::CheckToken { id: TokenId(n), secret_hash: [secret; 32], node: flock::id(9) });
        flock.reply(id)
    };
    assert_eq!(check(1, 7), Reply::TokenGood);
    for (reply, word) in [(check(1, 8), "secret"), (check(2, 7), "expired"), (check(3, 7), "unknown")] {
        let (kind, text) = refused(&reply);
        assert_eq!(kind, ProblemKind::Denied);
        assert!(text.contains(word), "{text}");
    }
    let id = flock.request(1, Request::RemoveToken(TokenId(1)));
    written(&flock.reply(id));
    let id = flock.request(1, Request::CheckToken { id: TokenId(1), secret_hash: [7; 32], node: flock::id(9) });
    assert_eq!(refused(&flock.reply(id)).0, ProblemKind::Denied);
}
