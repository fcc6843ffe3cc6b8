//! Stock foca 2.0.0 as the oracle: the same protocol by other people.
//!
//! Its limits: it has no Lifeguard, believes at once that somebody is down, and starts the time of a suspicion only at the
//! member whose probe failed. So single claims are compared below those rules, and flocks by what comes out.

use alloc::vec::Vec;
use core::num::{NonZeroU8, NonZeroUsize};

use bytes::{Buf, BufMut};
use foca::{
    Codec, Config, Foca, Header, Identity, Member, Message, NoCustomBroadcast, Notification, Runtime, State, Timer,
};
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

use super::super::identity::Boot;
use super::super::message::{Claim, Line};
use super::super::{Membership, SwimId};
use super::node;
use crate::engine::Timing;
use crate::face::{MemberReason, MemberState};
use crate::id::Generation;
use crate::rng::Seed;
use crate::time::{Duration, Instant};
use crate::wire::codec::DecodeError;

/// Our identity as foca wants it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Id(pub(super) SwimId);

impl Identity for Id {
    type Addr = u64;

    fn renew(&self) -> Option<Self> {
        self.0.boot.renewed().map(|boot| Self(SwimId { boot, ..self.0 }))
    }

    fn addr(&self) -> u64 {
        self.0.short
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.0.boot > adversary.0.boot
    }
}

/// Everything at a fixed width.
#[derive(Debug)]
pub(super) struct Wide;

fn put(id: Id, buf: &mut impl BufMut) {
    buf.put_u64(id.0.short);
    buf.put_u64(id.0.boot.to_wire());
}

fn get(buf: &mut impl Buf) -> Result<Id, DecodeError> {
    let (short, boot) = (buf.get_u64(), Boot::from_wire(buf.get_u64()));
    boot.map(|boot| Id(SwimId { short, boot })).ok_or(DecodeError)
}

impl Codec<Id> for Wide {
    type Error = DecodeError;

    fn encode_header(&mut self, header: &Header<Id>, mut buf: impl BufMut) -> Result<(), DecodeError> {
        put(header.src, &mut buf);
        buf.put_u16(header.src_incarnation);
        put(header.dst, &mut buf);
        let (kind, other, number) = match &header.message {
            Message::Ping(n) => (0, header.src, *n),
            Message::Ack(n) => (1, header.src, *n),
            Message::PingReq { target, probe_number } => (2, *target, *probe_number),
            Message::IndirectPing { origin, probe_number } => (3, *origin, *probe_number),
            Message::IndirectAck { target, probe_number } => (4, *target, *probe_number),
            Message::ForwardedAck { origin, probe_number } => (5, *origin, *probe_number),
            Message::Announce => (6, header.src, 0),
            Message::Feed => (7, header.src, 0),
            Message::Gossip => (8, header.src, 0),
            Message::Broadcast => (9, header.src, 0),
            Message::TurnUndead => (10, header.src, 0),
        };
        buf.put_u8(kind);
        put(other, &mut buf);
        buf.put_u8(number);
        Ok(())
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Id>, DecodeError> {
        let (src, src_incarnation, dst) = (get(&mut buf)?, buf.get_u16(), get(&mut buf)?);
        let (kind, other, probe_number) = (buf.get_u8(), get(&mut buf)?, buf.get_u8());
        let message = match kind {
            0 => Message::Ping(probe_number),
            1 => Message::Ack(probe_number),
            2 => Message::PingReq { target: other, probe_number },
            3 => Message::IndirectPing { origin: other, probe_number },
            4 => Message::IndirectAck { target: other, probe_number },
            5 => Message::ForwardedAck { origin: other, probe_number },
            6 => Message::Announce,
            7 => Message::Feed,
            8 => Message::Gossip,
            10 => Message::TurnUndead,
            _ => return Err(DecodeError),
        };
        Ok(Header { src, src_incarnation, dst, message })
    }

    fn encode_member(&mut self, member: &Member<Id>, mut buf: impl BufMut) -> Result<(), DecodeError> {
        if buf.remaining_mut() < 19 {
            return Err(DecodeError);
        }
        put(*member.id(), &mut buf);
        buf.put_u16(member.incarnation());
        buf.put_u8(member.state() as u8);
        Ok(())
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<Id>, DecodeError> {
        let (id, incarnation) = (get(&mut buf)?, buf.get_u16());
        let state = [State::Alive, State::Suspect, State::Down].get(usize::from(buf.get_u8())).copied();
        state.map(|state| Member::new(id, incarnation, state)).ok_or(DecodeError)
    }
}

/// What foca wanted done.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    pub(super) sends: Vec<(u64, Vec<u8>)>,
    pub(super) timers: Vec<(Timer<Id>, Duration)>,
    pub(super) down: Vec<u64>,
}

impl Runtime<Id> for Wishes {
    fn notify(&mut self, notification: Notification<'_, Id>) {
        if let Notification::MemberDown(id) = notification {
            self.down.push(id.0.short);
        }
    }

    fn send_to(&mut self, to: Id, data: &[u8]) {
        self.sends.push((to.0.short, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Id>, after: Duration) {
        self.timers.push((event, after));
    }
}

pub(super) type Stock = Foca<Id, Wide, ChaCha8Rng, NoCustomBroadcast>;

/// foca with our times.
pub(super) fn stock(id: SwimId, seed: u64) -> Stock {
    let timing = Timing::default();
    let mut config = Config::simple();
    config.probe_period = timing.probe_period;
    config.probe_rtt = timing.probe_rtt;
    config.num_indirect_probes = NonZeroUsize::new(timing.indirect_probes).expect("some");
    config.max_transmissions = NonZeroU8::new(6).expect("some");
    config.suspect_to_down_after = timing.suspicion;
    config.notify_down_members = true;
    Foca::new(Id(id), config, ChaCha8Rng::seed_from_u64(seed), Wide)
}

fn boot(generation: u64, renewals: u16) -> Boot {
    Boot::new(Generation(generation), renewals)
}

fn ours(n: u8, others: &[u8]) -> Membership {
    let now = Instant::from_millis(1);
    let mut membership = Membership::new(node(n), Generation(2), Timing::default(), Seed(1), now);
    membership.begin(now, others.iter().map(|other| node(*other)), &[]);
    membership
}

/// What is held of each: boot, incarnation, state.
type Held = Vec<(u64, Boot, u16, u8)>;

fn held_by_us(membership: &Membership) -> Held {
    let state = |state| match state {
        MemberState::Alive => 0,
        MemberState::Suspect => 1,
        MemberState::Down | MemberState::Left => 2,
    };
    let known = membership.book.iter().filter_map(|peer| Some((peer, peer.boot?)));
    known.map(|(peer, boot)| (peer.node.short(), boot, peer.incarnation, state(peer.state))).collect()
}

fn held_by_foca(foca: &Stock) -> Held {
    let all = foca.iter_membership_state();
    let mut held: Held = all.map(|m| (m.id().0.short, m.id().0.boot, m.incarnation(), m.state() as u8)).collect();
    held.sort_unstable();
    held
}

/// Somebody, which boot of it, under which incarnation, in which state.
fn claims() -> impl Strategy<Value = Vec<(u8, u64, u16, u16, u8)>> {
    prop::collection::vec((2_u8..6, 1_u64..4, 0_u16..2, 0_u16..4, 0_u8..3), 0..60)
}

proptest! {
    /// Alive, suspect, down, incarnations, boots and renewals take precedence over each other as in foca's book.
    #[test]
    fn every_claim_is_judged_as_foca_judges_it(claims in claims()) {
        let mut membership = ours(1, &[2, 3, 4, 5]);
        let mut foca = stock(SwimId { short: node(1).short(), boot: boot(2, 0) }, 1);
        let mut wishes = Wishes::default();
        for (who, generation, renewals, incarnation, state) in claims {
            let id = SwimId { short: node(who).short(), boot: boot(generation, renewals) };
            let (theirs, claim) = match state {
                0 => (State::Alive, Claim::Alive),
                1 => (State::Suspect, Claim::Suspect { by: node(9).short() }),
                _ => (State::Down, Claim::Down),
            };
            let line = Line { id, incarnation, claim };
            membership.apply(Instant::from_millis(1), line, MemberReason::Gossip, true);
            let update = Member::new(Id(id), incarnation, theirs);
            prop_assert!(foca.apply_many(core::iter::once(update), true, &mut wishes).is_ok());
            prop_assert_eq!(held_by_us(&membership), held_by_foca(&foca));
        }
        // And the figures that are kept beside the book.
        let alive = membership.book.iter().filter(|peer| peer.state == MemberState::Alive).count();
        prop_assert_eq!((membership.alive, membership.lost.len()), (alive, membership.book.len() - alive));
        let suspects = membership.book.iter().filter(|p| p.boot.is_some() && p.state == MemberState::Suspect);
        prop_assert!(suspects.map(|p| p.node.short()).eq(membership.suspicions.keys().copied()));
    }

    /// Who is suspected under an incarnation contradicts under the same next one.
    #[test]
    fn a_suspicion_of_us_is_contradicted_as_foca_does(suspicions in prop::collection::vec(0_u16..9, 0..20)) {
        let mut membership = ours(1, &[2]);
        let me = SwimId { short: node(1).short(), boot: boot(2, 0) };
        let mut foca = stock(me, 1);
        let other = Member::alive(Id(SwimId { short: node(2).short(), boot: boot(2, 0) }));
        prop_assert!(foca.apply_many(core::iter::once(other), true, Wishes::default()).is_ok());
        for incarnation in suspicions {
            let claim = Claim::Suspect { by: node(2).short() };
            membership.told(Instant::from_millis(1), node(2).short(), Line { id: me, incarnation, claim }, true);
            let mut wishes = Wishes::default();
            let update = Member::new(Id(me), incarnation, State::Suspect);
            prop_assert!(foca.apply_many(core::iter::once(update), true, &mut wishes).is_ok());
            let (_, packet) = wishes.sends.first().expect("it says so");
            let said = Wide.decode_header(&packet[..]).expect("its own bytes").src_incarnation;
            prop_assert_eq!(membership.incarnation, said);
        }
    }
}
