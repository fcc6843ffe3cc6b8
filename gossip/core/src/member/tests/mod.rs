//! Members by hand.

mod flock;
mod oracle;

use alloc::vec::Vec;

use super::message::{Claim, Line};
use super::{Membership, SwimId};
use crate::engine::Timing;
use crate::face::{MemberReason, MemberState};
use crate::id::{Generation, NodeId};
use crate::rng::Seed;
use crate::time::Instant;

fn node(n: u8) -> NodeId {
    NodeId([n; 16])
}

/// A member that holds these others alive.
fn member(n: u8, others: &[u8]) -> Membership {
    let (now, generation) = (Instant::from_millis(1), Generation(7));
    let mut member = Membership::new(node(n), generation, Timing::default(), Seed(u64::from(n)), now);
    let alive: Vec<(NodeId, Generation)> = others.iter().map(|other| (node(*other), generation)).collect();
    member.begin(now, others.iter().map(|other| node(*other)), &alive);
    member
}

/// What it has to say to another.
fn said(by: &mut Membership, to: u8) -> Vec<Vec<u8>> {
    let sends = core::mem::take(&mut by.outbox.sends);
    let said = sends.iter().filter(|send| send.to == node(to));
    let said = said.filter_map(|send| by.outbox.bytes.get(send.range.clone())).map(<[u8]>::to_vec).collect();
    by.outbox.bytes.clear();
    said
}

#[test]
fn who_renews_its_identity_and_then_hears_nobody_finds_the_others_down() {
    let now = Instant::from_millis(2);
    let (mut two, mut three) = (member(2, &[1, 3]), member(3, &[1, 2]));
    let down = Line { id: SwimId::new(node(2), Generation(7)), incarnation: 0, claim: Claim::Down };
    three.apply(now, down, MemberReason::Silence, true);
    two.announce(node(3));
    said(&mut two, 3).iter().for_each(|packet| three.packet(now, node(2), packet, None));
    said(&mut three, 2).iter().for_each(|packet| two.packet(now, node(3), packet, None));
    assert_eq!(two.renewals, 1, "it was told that it is held for dead");
    while let Some(at) = two.next_deadline().filter(|at| *at < Instant::from_millis(30_000)) {
        two.tick(at);
    }
    let states: Vec<_> = two.others().map(|(_, state)| state).collect();
    assert_eq!(states, [MemberState::Down, MemberState::Down]);
}

/// Lets time pass for one that hears nothing.
fn pass(by: &mut Membership, until: u64) {
    while let Some(at) = by.next_deadline().filter(|at| *at < Instant::from_millis(until)) {
        by.tick(at);
    }
}

fn states(of: &Membership) -> Vec<MemberState> {
    of.others().map(|(_, state)| state).collect()
}

#[test]
fn what_was_concluded_alone_is_taken_back_at_the_first_word_and_nobody_renews() {
    let (mut one, mut two, mut three) = (member(1, &[2, 3]), member(2, &[1, 3]), member(3, &[1, 2]));
    for (n, other) in [(2, &mut two), (3, &mut three)] {
        other.gossip();
        said(other, 1).iter().for_each(|packet| one.packet(Instant::from_millis(2), node(n), packet, None));
    }
    pass(&mut one, 9_000);
    assert_eq!(states(&one), [MemberState::Alive; 2], "who hears nobody accuses nobody");
    pass(&mut one, 40_000);
    assert_eq!(states(&one), [MemberState::Down; 2]);
    said(&mut one, 2);
    let now = Instant::from_millis(40_000);
    two.announce(node(1));
    said(&mut two, 1).iter().for_each(|packet| one.packet(now, node(2), packet, None));
    assert_eq!(states(&one), [MemberState::Alive, MemberState::Down]);
    said(&mut one, 2).iter().for_each(|packet| two.packet(now, node(1), packet, None));
    assert_eq!((one.renewals, two.renewals), (0, 0));
    assert_eq!(states(&two), [MemberState::Alive; 2], "it told nobody what it thought");
}

#[test]
fn who_stood_still_gives_suspects_the_time_that_it_missed() {
    let mut one = member(1, &[2, 3]);
    let at = Instant::from_millis;
    let two = SwimId::new(node(2), Generation(7));
    one.apply(at(2), one.line_on(two, 0), MemberReason::Silence, true);
    one.confirm(at(2), node(2).short(), node(3).short(), false);
    one.heard_any = at(100);
    one.tick(at(10_000));
    assert_eq!(states(&one), [MemberState::Suspect, MemberState::Alive]);
    assert!(one.suspicions[&two.short].due >= at(10_000));
}

#[test]
fn two_that_renewed_themselves_unheard_take_each_others_word() {
    let (mut one, mut two) = (member(1, &[2]), member(2, &[1]));
    let now = Instant::from_millis(2);
    one.renew(now);
    two.renew(now);
    one.gossip();
    for _ in 0..2 {
        said(&mut one, 2).iter().for_each(|packet| two.packet(now, node(1), packet, None));
        said(&mut two, 1).iter().for_each(|packet| one.packet(now, node(2), packet, None));
    }
    let held = |by: &Membership, about: u8| by.book.get(node(about).short()).and_then(|peer| peer.boot);
    assert_eq!((held(&one, 2), held(&two, 1)), (Some(two.boot), Some(one.boot)));
}

/// The rumour of its boot has missed the other, who asks the boot that it knows of before giving it up.
#[test]
fn who_asks_an_earlier_boot_hears_of_the_next() {
    let now = Instant::from_millis(2);
    let (mut one, mut two) = (member(1, &[2]), member(2, &[1]));
    two.boot = SwimId::new(node(2), Generation(8)).boot;
    let suspect = one.line_on(SwimId::new(node(2), Generation(7)), 0);
    one.apply(now, suspect, MemberReason::Gossip, true);
    one.ask(now, node(2).short());
    said(&mut one, 2).iter().for_each(|packet| two.packet(now, node(1), packet, None));
    said(&mut two, 1).iter().for_each(|packet| one.packet(now, node(2), packet, None));
    assert_eq!(states(&one), [MemberState::Alive]);
}

#[test]
fn no_cut_or_change_of_a_packet_panics() {
    let (mut one, mut two) = (member(1, &[2, 3]), member(2, &[1, 3]));
    let now = Instant::from_millis(2);
    one.apply(now, one.line_on(SwimId::new(node(3), Generation(7)), 0), MemberReason::Silence, true);
    one.gossip();
    let packet = said(&mut one, 2).remove(0);
    let mut rng = Seed(5).rng();
    for _ in 0..20_000 {
        let mut bad = packet.clone();
        bad.truncate(usize::try_from(rng.below(bad.len() as u64 + 1)).unwrap_or(0));
        if let Some(byte) = rng.below(bad.len() as u64 + 1).try_into().ok().and_then(|at: usize| bad.get_mut(at)) {
            *byte ^= 1 << rng.below(8);
        }
        let suspect = u16::try_from(rng.below(1 << 16)).ok().filter(|n| n % 3 == 0);
        two.packet(now, node(1), &bad, suspect);
        said(&mut two, 1);
    }
}
