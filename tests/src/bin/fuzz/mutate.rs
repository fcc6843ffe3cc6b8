//! Changes bytes as faults and enemies do: bits, numbers at their bounds, cuts, repetitions, parts of something else.

use dunlin_gossip::rng::Rng;

/// Numbers at which code likes to go wrong, among them the markers of the codec's variable lengths.
const EDGES: [u8; 10] = [0, 1, 2, 127, 128, 250, 251, 252, 253, 255];
/// No input grows beyond this.
const MOST: usize = 64 * 1024;

fn at(rng: &mut Rng, length: usize) -> usize {
    usize::try_from(rng.below(length.max(1) as u64)).unwrap_or(0)
}

/// One to a few changes.
pub(crate) fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=rng.below(4) {
        once(rng, bytes, other);
    }
    bytes.truncate(MOST);
}

fn once(rng: &mut Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    let place = at(rng, bytes.len());
    match rng.below(8) {
        0 => {
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= 1 << rng.below(8);
            }
        }
        1 => {
            if let (Some(byte), Some(edge)) = (bytes.get_mut(place), rng.pick(&EDGES)) {
                *byte = *edge;
            }
        }
        2 => bytes.truncate(place),
        3 => {
            let number = rng.next_u64().to_le_bytes();
            let length = 1 + at(rng, 8);
            bytes.splice(place..place, number.into_iter().take(length));
        }
        4 => {
            let end = place + at(rng, bytes.len() - place + 1);
            bytes.drain(place..end.min(bytes.len()));
        }
        5 => {
            let end = (place + at(rng, 64)).min(bytes.len());
            let again = bytes.get(place..end).unwrap_or_default().to_vec();
            bytes.splice(place..place, again);
        }
        6 => {
            let from = at(rng, other.len());
            let to = (from + at(rng, 64)).min(other.len());
            let part = other.get(from..to).unwrap_or_default().to_vec();
            let end = (place + part.len()).min(bytes.len());
            bytes.splice(place..end, part);
        }
        _ => {
            let edge = *rng.pick(&[0_u64, 1, 0xff, 0xffff, 0xffff_ffff, u64::MAX]).unwrap_or(&0);
            for (byte, new) in bytes.iter_mut().skip(place).zip(edge.to_be_bytes().into_iter().skip(at(rng, 8))) {
                *byte = new;
            }
        }
    }
}
