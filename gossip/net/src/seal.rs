//! Sealed packets: one UDP datagram, authenticated and encrypted for one peer, without any handshake.
//!
//! Layout: first byte, key id (the sender's short id, 8), generation (8), counter (8), ciphertext with its tag (16); the
//! header is authenticated with it. The key is HKDF-SHA256 of the pair's static X25519 secret, salted by the cluster id and
//! bound to the sender and its generation; hence each direction and each boot has its own key, and the counter (the nonce)
//! may begin at zero. A receiver keeps the highest generation of each peer and a window of counters already seen.
//!
//! State changes only after a packet proved authentic. What this never does: know addresses, or speak of meaning.

use std::collections::HashMap;
use std::fmt;

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use dunlin_gossip::id::{ClusterId, Generation, NodeId};
use dunlin_gossip::limits::{MAX_DATAGRAM, MAX_PACKET, SEAL_OVERHEAD};
use hkdf::Hkdf;
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// First byte of a sealed packet, version 1. Its two highest bits are clear, which no QUIC packet of ours has.
pub(crate) const SEALED: u8 = 0x11;
const HEADER: usize = 25;
const TAG: usize = 16;
/// Counters remembered behind the highest one.
const WINDOW: u64 = 2_048;
/// Removed peers whose newest generation is remembered, so that a return does not reopen the door to old packets.
const MAX_RETIRED: usize = 1_024;

const _: () = assert!(HEADER + TAG <= SEAL_OVERHEAD);
const _: () = assert!(MAX_PACKET + HEADER + TAG <= MAX_DATAGRAM);
const _: () = assert!(WINDOW >= 1_024 && WINDOW.is_multiple_of(64));

/// Why a packet was not sealed or not opened. No state changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SealError {
    /// Not in the book.
    #[error("the peer is not in the roster")]
    UnknownPeer,
    /// Larger than `MAX_PACKET`.
    #[error("the packet is larger than {MAX_PACKET} bytes")]
    TooLarge,
    /// Not a sealed packet at all.
    #[error("not a sealed packet")]
    Garbage,
    /// The tag is wrong: another recipient, another cluster, or a forgery.
    #[error("the seal is wrong")]
    Forged,
    /// From an earlier boot of the peer.
    #[error("from an earlier boot of the peer")]
    OldGeneration,
    /// Seen before, or too old to tell.
    #[error("seen before")]
    Replayed,
    /// The peer's public key is one with which no secret can be agreed.
    #[error("the peer's sealing key is unusable")]
    WeakKey,
}

/// An opened packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    /// Its sender.
    pub from: NodeId,
    /// Its content.
    pub bytes: Vec<u8>,
    /// True if it is the newest of its sender so far (its address may be followed).
    pub newest: bool,
}

/// Counters already seen: the highest, and one bit for each of the [`WINDOW`] up to it.
struct Window {
    next: u64,
    bits: [u64; (WINDOW / 64) as usize],
}

impl Window {
    const fn new() -> Self {
        Self { next: 0, bits: [0; (WINDOW / 64) as usize] }
    }

    fn place(counter: u64) -> (usize, u64) {
        let at = counter % WINDOW;
        (usize::try_from(at / 64).unwrap_or(0), 1 << (at % 64))
    }

    fn is_fresh(&self, counter: u64) -> bool {
        let (word, bit) = Self::place(counter);
        counter >= self.next || (self.next - counter <= WINDOW && self.bits[word] & bit == 0)
    }

    /// Remembers a fresh counter; true if it is the highest so far.
    fn mark(&mut self, counter: u64) -> bool {
        let newest = counter >= self.next;
        if newest {
            if counter - self.next >= WINDOW {
                self.bits = [0; (WINDOW / 64) as usize];
            } else {
                for passed in self.next..counter {
                    let (word, bit) = Self::place(passed);
                    self.bits[word] &= !bit;
                }
            }
            self.next = counter.saturating_add(1);
        }
        let (word, bit) = Self::place(counter);
        self.bits[word] |= bit;
        newest
    }
}

struct Sending {
    cipher: ChaCha20Poly1305,
    counter: u64,
}

struct Receiving {
    generation: Generation,
    /// Absent after a removal, until the first packet after the return.
    cipher: Option<ChaCha20Poly1305>,
    window: Window,
}

struct Peer {
    node: NodeId,
    public: [u8; 32],
    shared: Option<Zeroizing<[u8; 32]>>,
    sending: Option<Sending>,
    receiving: Option<Receiving>,
}

/// Seals for peers and opens what they sealed.
pub struct Sealer {
    me: NodeId,
    secret: StaticSecret,
    cluster: ClusterId,
    generation: Generation,
    peers: HashMap<u64, Peer>,
    /// What was received from removed peers, without keys.
    retired: HashMap<u64, Receiving>,
    /// Where counters begin: past every counter used for a removed peer, so that a return reuses no nonce.
    first_counter: u64,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("me", &self.me).field("peers", &self.peers.len()).finish_non_exhaustive()
    }
}

impl Sealer {
    /// A sealer without peers.
    #[must_use]
    pub fn new(me: NodeId, secret: StaticSecret, cluster: ClusterId, generation: Generation) -> Self {
        Self { me, secret, cluster, generation, peers: HashMap::new(), retired: HashMap::new(), first_counter: 0 }
    }

    /// Admits a peer under its public key. The same key again changes nothing.
    pub fn admit(&mut self, node: NodeId, public: [u8; 32]) {
        let id = node.short();
        if self.peers.get(&id).is_some_and(|p| p.node == node && p.public == public) {
            return;
        }
        self.remove(node);
        let receiving = self.retired.remove(&id);
        self.peers.insert(id, Peer { node, public, shared: None, sending: None, receiving });
    }

    /// Forgets a peer and its keys.
    pub fn remove(&mut self, node: NodeId) {
        let Some(peer) = self.peers.remove(&node.short()) else { return };
        self.first_counter = self.first_counter.max(peer.sending.map_or(0, |s| s.counter));
        if self.retired.len() >= MAX_RETIRED {
            self.retired.clear();
        }
        if let Some(received) = peer.receiving {
            self.retired.insert(node.short(), Receiving { cipher: None, ..received });
        }
    }

    /// Seals a packet for a peer.
    ///
    /// # Errors
    /// If the peer is unknown or the packet too large.
    pub fn seal(&mut self, to: NodeId, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
        if bytes.len() > MAX_PACKET {
            return Err(SealError::TooLarge);
        }
        let peer = self.peers.get_mut(&to.short()).filter(|p| p.node == to).ok_or(SealError::UnknownPeer)?;
        if peer.sending.is_none() {
            let cipher = derive(agree(&self.secret, peer)?, self.cluster, self.me, self.generation);
            peer.sending = Some(Sending { cipher, counter: self.first_counter });
        }
        let sending = peer.sending.as_mut().ok_or(SealError::UnknownPeer)?;
        let header = header(self.me, self.generation, sending.counter);
        let nonce = nonce(sending.counter);
        sending.counter += 1;
        let sealed = sending.cipher.encrypt(&nonce, Payload { msg: bytes, aad: &header });
        let mut out = Vec::with_capacity(HEADER + bytes.len() + TAG);
        out.extend_from_slice(&header);
        out.extend_from_slice(&sealed.map_err(|_| SealError::TooLarge)?);
        Ok(out)
    }

    /// Opens a sealed packet.
    ///
    /// # Errors
    /// Says why it is not accepted.
    pub fn open(&mut self, datagram: &[u8]) -> Result<Opened, SealError> {
        let (head, body) = datagram.split_at_checked(HEADER).ok_or(SealError::Garbage)?;
        if head.first() != Some(&SEALED) || body.len() < TAG || datagram.len() > MAX_DATAGRAM {
            return Err(SealError::Garbage);
        }
        let (id, generation, counter) = (word(head, 1), Generation(word(head, 9)), word(head, 17));
        if generation > Generation::MAX {
            return Err(SealError::Garbage);
        }
        let peer = self.peers.get_mut(&id).ok_or(SealError::UnknownPeer)?;
        if peer.receiving.as_ref().is_some_and(|r| generation < r.generation) {
            return Err(SealError::OldGeneration);
        }
        let payload = Payload { msg: body, aad: head };
        let from = peer.node;
        if let Some(known) = peer.receiving.as_ref().filter(|r| r.generation == generation) {
            if !known.window.is_fresh(counter) {
                return Err(SealError::Replayed);
            }
            if let Some(cipher) = &known.cipher {
                let bytes = cipher.decrypt(&nonce(counter), payload).map_err(|_| SealError::Forged)?;
                let newest = peer.receiving.as_mut().is_some_and(|r| r.window.mark(counter));
                return Ok(Opened { from, bytes, newest });
            }
        }
        let cipher = derive(agree(&self.secret, peer)?, self.cluster, from, generation);
        let bytes = cipher.decrypt(&nonce(counter), payload).map_err(|_| SealError::Forged)?;
        let known = peer.receiving.take().filter(|r| r.generation == generation);
        let mut window = known.map_or_else(Window::new, |r| r.window);
        let newest = window.mark(counter);
        peer.receiving = Some(Receiving { generation, cipher: Some(cipher), window });
        Ok(Opened { from, bytes, newest })
    }
}

fn agree<'a>(secret: &StaticSecret, peer: &'a mut Peer) -> Result<&'a [u8; 32], SealError> {
    if peer.shared.is_none() {
        let shared = secret.diffie_hellman(&PublicKey::from(peer.public));
        if !shared.was_contributory() {
            return Err(SealError::WeakKey);
        }
        peer.shared = Some(Zeroizing::new(shared.to_bytes()));
    }
    peer.shared.as_deref().ok_or(SealError::WeakKey)
}

fn derive(shared: &[u8; 32], cluster: ClusterId, sender: NodeId, generation: Generation) -> ChaCha20Poly1305 {
    let mut key = Zeroizing::new([0; 32]);
    let kdf = Hkdf::<Sha256>::new(Some(&cluster.0), shared);
    let info: [&[u8]; 3] = [b"dunlin seal 1", &sender.0, &generation.0.to_be_bytes()];
    if kdf.expand_multi_info(&info, key.as_mut_slice()).is_err() {
        unreachable!("HKDF-SHA256 gives up to 8160 bytes");
    }
    ChaCha20Poly1305::new(Key::from_slice(key.as_slice()))
}

fn header(sender: NodeId, generation: Generation, counter: u64) -> [u8; HEADER] {
    let mut out = [0; HEADER];
    out[0] = SEALED;
    out[1..9].copy_from_slice(&sender.short().to_be_bytes());
    out[9..17].copy_from_slice(&generation.0.to_be_bytes());
    out[17..25].copy_from_slice(&counter.to_be_bytes());
    out
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::from(bytes)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let slice = bytes.get(at..at + 8).and_then(|s| s.try_into().ok());
    u64::from_be_bytes(slice.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_gossip::id::hex;

    const CLUSTER: ClusterId = ClusterId([7; 16]);

    fn node(seed: u8, generation: u64) -> (Sealer, NodeId, [u8; 32]) {
        let secret = StaticSecret::from([seed; 32]);
        let public = PublicKey::from(&secret).to_bytes();
        let id = NodeId([seed; 16]);
        (Sealer::new(id, secret, CLUSTER, Generation(generation)), id, public)
    }

    fn pair() -> (Sealer, Sealer, NodeId, NodeId) {
        let ((mut a, ida, pa), (mut b, idb, pb)) = (node(1, 1_000), node(2, 2_000));
        a.admit(idb, pb);
        b.admit(ida, pa);
        (a, b, ida, idb)
    }

    #[test]
    fn golden_vector() {
        let (mut a, mut b, ida, idb) = pair();
        let packet = a.seal(idb, b"dunlin").unwrap();
        assert_eq!(hex(&packet), GOLDEN);
        assert_eq!(b.open(&packet).unwrap(), Opened { from: ida, bytes: b"dunlin".to_vec(), newest: true });
    }

    const GOLDEN: &str =
        "11010101010101010100000000000003e8000000000000000012e89649eccc2ca07c88861954f04b751fc2ab9b2bd9";

    #[test]
    fn a_full_packet_fits_the_datagram() {
        let (mut a, mut b, _, idb) = pair();
        let packet = a.seal(idb, &[9; MAX_PACKET]).unwrap();
        assert!(packet.len() <= MAX_DATAGRAM);
        assert_eq!(b.open(&packet).unwrap().bytes.len(), MAX_PACKET);
        assert_eq!(a.seal(idb, &[9; MAX_PACKET + 1]), Err(SealError::TooLarge));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let (mut a, mut b, _, idb) = pair();
        let packet = a.seal(idb, b"a few bytes of content").unwrap();
        for bit in 0..packet.len() * 8 {
            let mut bad = packet.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(b.open(&bad).is_err(), "bit {bit}");
        }
        for len in 0..packet.len() {
            assert!(b.open(&packet[..len]).is_err(), "cut to {len}");
        }
        assert!(b.open(&packet).is_ok(), "refusals changed no state");
    }

    #[test]
    fn replays_are_refused_and_reorder_is_not() {
        let (mut a, mut b, _, idb) = pair();
        let packets: Vec<_> = (0..3_000_u32).map(|n| a.seal(idb, &n.to_be_bytes()).unwrap()).collect();
        assert!(b.open(&packets[2_500]).unwrap().newest);
        assert_eq!(b.open(&packets[0]), Err(SealError::Replayed), "older than the window");
        assert!(!b.open(&packets[1_000]).unwrap().newest);
        assert_eq!(b.open(&packets[1_000]), Err(SealError::Replayed));
        assert!(b.open(&packets[2_999]).unwrap().newest);
        assert!(!b.open(&packets[2_998]).unwrap().newest);
        for seen in [1_000, 2_500, 2_998, 2_999] {
            assert_eq!(b.open(&packets[seen]), Err(SealError::Replayed), "{seen}");
        }
    }

    #[test]
    fn the_window_equals_a_set_of_seen_counters() {
        let mut window = Window::new();
        let mut seen = std::collections::BTreeSet::new();
        let mut state = 1_u64;
        for _ in 0..50_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let top = seen.last().copied().unwrap_or(0_u64);
            let counter = (top + (state >> 33) % 40).saturating_sub((state >> 40) % 3_000);
            let expected = !seen.contains(&counter) && (seen.is_empty() || counter + WINDOW > top);
            assert_eq!(window.is_fresh(counter), expected, "{counter} at {top}");
            if expected {
                assert_eq!(window.mark(counter), seen.is_empty() || counter > top);
                seen.insert(counter);
            }
        }
    }

    #[test]
    fn wrong_recipient_and_wrong_cluster_are_refused() {
        let (mut a, _, ida, idb) = pair();
        let (mut c, _, _) = node(3, 1);
        let pa = PublicKey::from(&StaticSecret::from([1; 32])).to_bytes();
        c.admit(ida, pa);
        assert_eq!(c.open(&a.seal(idb, b"x").unwrap()), Err(SealError::Forged));
        let mut other = Sealer::new(idb, StaticSecret::from([2; 32]), ClusterId([8; 16]), Generation(1));
        other.admit(ida, pa);
        assert_eq!(other.open(&a.seal(idb, b"x").unwrap()), Err(SealError::Forged));
    }

    #[test]
    fn old_boots_and_removed_peers_are_refused() {
        let (mut a, mut b, ida, idb) = pair();
        let old = a.seal(idb, b"old").unwrap();
        let (mut reborn, _, pa) = node(1, 1_001);
        reborn.admit(idb, PublicKey::from(&StaticSecret::from([2; 32])).to_bytes());
        assert!(b.open(&reborn.seal(idb, b"new").unwrap()).is_ok());
        assert_eq!(b.open(&old), Err(SealError::OldGeneration));
        b.remove(ida);
        let later = reborn.seal(idb, b"later").unwrap();
        assert_eq!(b.open(&later), Err(SealError::UnknownPeer));
        b.admit(ida, pa);
        assert!(b.open(&later).is_ok(), "a return is heard again");
        assert_eq!(b.open(&later), Err(SealError::Replayed), "but what was seen before it stays seen");
        assert_eq!(b.open(&old), Err(SealError::OldGeneration));
    }

    #[test]
    fn a_return_reuses_no_nonce() {
        let (mut a, _, _, idb) = pair();
        let pb = PublicKey::from(&StaticSecret::from([2; 32])).to_bytes();
        let first = a.seal(idb, b"x").unwrap();
        a.remove(idb);
        a.admit(idb, pb);
        assert_ne!(a.seal(idb, b"x").unwrap(), first);
    }

    #[test]
    fn a_weak_key_seals_nothing() {
        let (mut a, _, _, idb) = pair();
        a.remove(idb);
        a.admit(idb, [0; 32]);
        assert_eq!(a.seal(idb, b"x"), Err(SealError::WeakKey));
    }
}
