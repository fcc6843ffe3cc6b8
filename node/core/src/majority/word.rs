//! What owners and voters say to each other, as bytes: a version, then words through the codec.
//!
//! Words go by packet and may be lost, doubled or overtaken; each one alone is whole. A request names the version of the list
//! under which it is made; an answer names its request's ballot. Words of another version are dropped.

use alloc::vec::Vec;

use dunlin_gossip::id::NodeId;
use dunlin_gossip::limits::MAX_WORD;
use dunlin_gossip::model::{Accepted, Ballot, VoterList};
use dunlin_gossip::wire::codec;
use serde::{Deserialize, Serialize};

/// The version that this release speaks.
const VERSION: u8 = 1;

/// What a lease is on: the hash of a replica's name. Two replicas of one hash exclude each other, which is safe.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct Key(pub(crate) u64);

/// Why a voter does not do what it is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Why {
    /// It booted less than a lease ago, and does not know what it granted before.
    Booted,
    /// This node has an unexpired grant.
    Held(NodeId),
    /// A higher ballot came, of this number.
    Ballot(u64),
    /// Its list of voters is of this version.
    List(u64),
    /// It keeps as many grants as it can.
    Full,
}

/// One word.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Word {
    /// To a voter: may I be next?
    Prepare { list: u64, key: Key, ballot: Ballot },
    /// To a voter: grant it to me, up to this epoch.
    Propose { list: u64, key: Key, ballot: Ballot, bound: u64 },
    /// To a voter: I run it no more.
    Release { key: Key, ballot: Ballot },
    /// From a voter: you may; so high an epoch was granted before.
    Promise { key: Key, ballot: Ballot, bound: u64 },
    /// From a voter: granted, from now on.
    Accept { key: Key, ballot: Ballot },
    /// From a voter: no.
    Refuse { key: Key, ballot: Ballot, why: Why },
    /// To an owner whose node is drained: I would take it.
    Yield { key: Key },
    /// To whoever votes, voted or shall vote: may I change the list that follows this version?
    ListPrepare { version: u64, ballot: Ballot },
    /// To the same: this shall be the list.
    ListPropose { ballot: Ballot, list: VoterList },
    /// You may; I know the list of this version, and have accepted that one after it.
    ListPromise { ballot: Ballot, known: u64, accepted: Option<Accepted> },
    /// The list of this version is on my disk.
    ListAccept { ballot: Ballot, version: u64 },
    /// No; I know the list of this version.
    ListRefuse { ballot: Ballot, known: u64, why: Why },
}

/// Packets that say all this, in order.
pub(crate) fn packets(words: &[Word]) -> Vec<Vec<u8>> {
    let mut packets: Vec<Vec<u8>> = Vec::new();
    for word in words {
        let bytes = codec::encode(word);
        match packets.last_mut().filter(|packet| packet.len() + bytes.len() <= MAX_WORD) {
            Some(packet) => packet.extend_from_slice(&bytes),
            None => {
                let mut packet = Vec::from([VERSION]);
                packet.extend_from_slice(&bytes);
                packets.push(packet);
            }
        }
    }
    packets
}

/// What a packet says; as much of it as can be read.
pub(crate) fn read(packet: &[u8]) -> Vec<Word> {
    let Some((&VERSION, mut rest)) = packet.split_first() else { return Vec::new() };
    let mut words = Vec::new();
    while !rest.is_empty() {
        let Ok((word, after)) = codec::decode_known::<Word>(rest) else { break };
        words.push(word);
        rest = after;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_gossip::id::{Generation, hex};

    const NODE: NodeId = NodeId([0x11; 16]);
    const BALLOT: Ballot = Ballot { number: 9, node: NODE, generation: Generation(7) };
    const KEY: Key = Key(0x0102_0304_0506_0708);

    fn golden(word: Word, expected: &str) {
        let words = [word];
        let packets = packets(&words);
        assert_eq!(packets.iter().map(|packet| hex(packet)).collect::<Vec<_>>(), [expected], "{words:?}");
        assert_eq!(read(&packets[0]), words);
    }

    #[test]
    fn the_bytes_of_words_are_fixed() {
        const B: &str = "091111111111111111111111111111111107";
        const K: &str = "fd0807060504030201";
        golden(Word::Prepare { list: 3, key: KEY, ballot: BALLOT }, &alloc::format!("010003{K}{B}"));
        golden(Word::Propose { list: 3, key: KEY, ballot: BALLOT, bound: 5 }, &alloc::format!("010103{K}{B}05"));
        golden(Word::Release { key: KEY, ballot: BALLOT }, &alloc::format!("0102{K}{B}"));
        golden(Word::Promise { key: KEY, ballot: BALLOT, bound: 5 }, &alloc::format!("0103{K}{B}05"));
        golden(Word::Accept { key: KEY, ballot: BALLOT }, &alloc::format!("0104{K}{B}"));
        golden(Word::Refuse { key: KEY, ballot: BALLOT, why: Why::Booted }, &alloc::format!("0105{K}{B}00"));
        golden(Word::Refuse { key: KEY, ballot: BALLOT, why: Why::List(4) }, &alloc::format!("0105{K}{B}0304"));
        golden(Word::Yield { key: KEY }, &alloc::format!("0106{K}"));
        golden(Word::ListPrepare { version: 2, ballot: BALLOT }, &alloc::format!("010702{B}"));
        let list = VoterList::first(NODE);
        let l = "01011111111111111111111111111111111100";
        golden(Word::ListPropose { ballot: BALLOT, list: list.clone() }, &alloc::format!("0108{B}{l}"));
        let accepted = Some(Accepted { ballot: BALLOT, list });
        golden(Word::ListPromise { ballot: BALLOT, known: 1, accepted }, &alloc::format!("0109{B}0101{B}{l}"));
        golden(Word::ListAccept { ballot: BALLOT, version: 2 }, &alloc::format!("010a{B}02"));
        golden(Word::ListRefuse { ballot: BALLOT, known: 1, why: Why::Full }, &alloc::format!("010b{B}0104"));
    }

    #[test]
    fn words_fill_packets_and_no_cut_panics() {
        let words: Vec<Word> = (0..100).map(|n| Word::Accept { key: Key(n << 40), ballot: BALLOT }).collect();
        let packets = packets(&words);
        assert!(packets.len() > 1 && packets.iter().all(|packet| packet.len() <= MAX_WORD));
        assert_eq!(packets.iter().flat_map(|packet| read(packet)).collect::<Vec<_>>(), words);
        for cut in 0..packets[0].len() {
            let _some = read(&packets[0][..cut]);
        }
        assert_eq!(read(&[2, 6, 1]), [], "another version");
    }
}
