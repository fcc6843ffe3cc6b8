//! The book: the rostered nodes but us, by short id. The ids stand side by side, so that most searches end in the first line of
//! memory that they touch, and what is known of each node beside them.
//!
//! It also says which of two claims about a member is the newer one, SWIM's order of precedence. Never: a member twice, an
//! opinion of its own.

use alloc::vec::Vec;

use super::identity::Boot;
use super::message::Claim;
use crate::face::MemberState;
use crate::id::NodeId;
use crate::rng::Rng;
use crate::time::Instant;

/// What we know of one rostered node.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) node: NodeId,
    /// None until first heard of.
    pub(super) boot: Option<Boot>,
    /// Its last authentic packet or frame in this boot.
    pub(super) heard: Option<Instant>,
    /// Its wall clock minus ours, in milliseconds, as of its last packet.
    pub(super) offset: Option<i32>,
    pub(super) incarnation: u16,
    pub(super) state: MemberState,
    /// The state is what we concluded while we heard nobody at all. Nobody else was told, and anybody's word is better.
    pub(super) alone: bool,
}

impl Peer {
    pub(super) fn new(node: NodeId) -> Self {
        Self { node, boot: None, heard: None, offset: None, incarnation: 0, state: MemberState::Suspect, alone: false }
    }

    /// Of which boot of it we know, and hold it for alive or suspect.
    pub(super) fn active(&self) -> Option<Boot> {
        self.boot.filter(|_| matches!(self.state, MemberState::Alive | MemberState::Suspect))
    }

    /// True if a claim about it is newer than what we hold. Down is final for a boot: it comes back as another one. A
    /// suspicion is contradicted by a higher incarnation, which only the member itself sets.
    pub(super) fn is_overruled_by(&self, boot: Boot, incarnation: u16, claim: Claim) -> bool {
        match self.boot {
            Some(held) if boot < held => return false,
            Some(held) if boot == held => {}
            Some(_) | None => return true,
        }
        match (self.state, claim) {
            (_, Claim::Down) if self.alone => true,
            (MemberState::Suspect | MemberState::Down, Claim::Alive) if self.alone => incarnation >= self.incarnation,
            (MemberState::Down | MemberState::Left, _) => false,
            (MemberState::Alive | MemberState::Suspect, Claim::Down) => true,
            (MemberState::Alive, Claim::Suspect { .. }) => incarnation >= self.incarnation,
            (MemberState::Alive, Claim::Alive) | (MemberState::Suspect, Claim::Alive | Claim::Suspect { .. }) => {
                incarnation > self.incarnation
            }
        }
    }
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// Ascending.
    shorts: Vec<u64>,
    /// In the same order.
    list: Vec<Peer>,
}

impl Book {
    /// Where a node is or would be. Short ids are hashes, so that the place is guessed and the guess widened; a flock of
    /// chosen ids costs a few steps more.
    fn find(&self, short: u64) -> Result<usize, usize> {
        let len = self.shorts.len();
        let guess = usize::try_from((u128::from(short) * len as u128) >> 64).unwrap_or(0);
        let (mut low, mut high, mut reach) = (guess, guess, 4);
        while low > 0 && self.shorts[low - 1] >= short {
            (low, high, reach) = (low.saturating_sub(reach), low, reach * 2);
        }
        if low == high {
            while high < len && self.shorts[high] < short {
                (low, high, reach) = (high + 1, (high + reach).min(len), reach * 2);
            }
            high = (high + 1).min(len);
            low = low.min(high);
        }
        let place = low + self.shorts[low..high].partition_point(|other| *other < short);
        if self.shorts.get(place) == Some(&short) { Ok(place) } else { Err(place) }
    }

    pub(super) fn get(&self, short: u64) -> Option<&Peer> {
        self.list.get(self.find(short).ok()?)
    }

    pub(super) fn get_mut(&mut self, short: u64) -> Option<&mut Peer> {
        let place = self.find(short).ok()?;
        self.list.get_mut(place)
    }

    pub(super) fn contains(&self, short: u64) -> bool {
        self.find(short).is_ok()
    }

    /// Adds a node that is not there.
    pub(super) fn insert(&mut self, short: u64, peer: Peer) {
        if let Err(place) = self.find(short) {
            self.shorts.insert(place, short);
            self.list.insert(place, peer);
        }
    }

    pub(super) fn remove(&mut self, short: u64) -> Option<Peer> {
        let place = self.find(short).ok()?;
        self.shorts.remove(place);
        Some(self.list.remove(place))
    }

    /// All, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.list.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// The member at a place of the table.
    pub(super) fn at(&self, place: usize) -> Option<&Peer> {
        self.list.get(place)
    }

    /// Those behind a node that is not in the table, then those before it: ids are hashes, and the table is a ring of them.
    pub(super) fn behind(&self, short: u64) -> impl Iterator<Item = &Peer> {
        let (Ok(place) | Err(place)) = self.find(short);
        let (before, after) = self.list.split_at(place);
        after.iter().chain(before)
    }

    /// Members from a random place on, each once, around the table.
    pub(super) fn around<'a>(&'a self, rng: &mut Rng) -> impl Iterator<Item = &'a Peer> + use<'a> {
        let begin = usize::try_from(rng.below(self.list.len() as u64)).unwrap_or(0);
        let (before, after) = self.list.split_at(begin);
        after.iter().chain(before)
    }
}

/// The order of probes: through the whole table in random strides that meet every place once, then in others. So each member
/// has its turn within a round (SWIM's round robin, section 4.3), and no list of all members has to be kept and shuffled.
#[derive(Debug, Default)]
pub(super) struct Strides {
    place: usize,
    stride: usize,
    /// Of how many places, and how many of them are still to come.
    round: usize,
    left: usize,
}

impl Strides {
    /// The next place of so many. A table that has grown or shrunk begins a new round.
    pub(super) fn next(&mut self, places: usize, rng: &mut Rng) -> Option<usize> {
        if places == 0 {
            return None;
        }
        if self.left == 0 || self.round != places {
            let mut draw = || usize::try_from(rng.below(places as u64)).unwrap_or(0);
            let begin = draw();
            let mut stride = draw() + 1;
            while common_divisor(stride, places) != 1 {
                stride = draw() + 1;
            }
            *self = Self { place: begin, stride, round: places, left: places };
        }
        let place = self.place;
        self.place = (self.place + self.stride) % places;
        self.left -= 1;
        Some(place)
    }
}

/// Euclid's.
const fn common_divisor(mut a: usize, mut b: usize) -> usize {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seed;

    #[test]
    fn a_place_is_found_whatever_the_ids() {
        let mut rng = Seed(1).rng();
        let spread = |rng: &mut Rng, _: u64| rng.next_u64();
        let crowded = |rng: &mut Rng, n: u64| (1 << 63) + n * 5 + rng.below(3);
        let ends = |rng: &mut Rng, n: u64| {
            if n.is_multiple_of(2) { rng.below(9) } else { u64::MAX - rng.below(9) }
        };
        for make in [spread, crowded, ends] {
            let mut book = Book::default();
            for size in 0..300 {
                let short = make(&mut rng, size);
                let near = [0, 1, short.wrapping_sub(1), short, short.wrapping_add(1), 1 << 63, u64::MAX];
                for wanted in near {
                    assert_eq!(book.find(wanted), book.shorts.binary_search(&wanted));
                }
                if let Err(place) = book.find(short) {
                    book.shorts.insert(place, short);
                }
            }
        }
    }

    #[test]
    fn strides_meet_every_place_once_a_round() {
        let (mut rng, mut strides) = (Seed(2).rng(), Strides::default());
        assert_eq!(strides.next(0, &mut rng), None);
        for places in [1, 2, 3, 12, 97, 360, 1_000] {
            for _round in 0..3 {
                let mut seen: Vec<usize> = (0..places).filter_map(|_| strides.next(places, &mut rng)).collect();
                seen.sort_unstable();
                assert!(seen.into_iter().eq(0..places), "{places}");
            }
        }
        assert!(strides.next(7, &mut rng).is_some_and(|place| place < 7), "it has shrunk in the middle of a round");
    }
}
