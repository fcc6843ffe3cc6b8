//! Who may ask, and how often: an allow-list of networks, and a bucket of tokens for each client that asks by UDP.
//!
//! Whoever is not on the list is REFUSED with no more bytes than it sent. A client over its rate is answered "ask again by
//! TCP" every other time and not at all otherwise: a forged address gets less than was sent in its name, and a real client
//! gets through. This host is never limited.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Instant;

use dunlin_gossip::hash::hash64_with;

/// Clients whose rates are remembered, by each thread; one more takes the place of another.
const CLIENTS: usize = 4_096;
/// How many seconds' worth may come at once.
const BURST_SECONDS: u64 = 1;

/// A network, as `10.0.0.0/8`; without a length, one address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    address: IpAddr,
    length: u8,
}

impl Network {
    /// From an address and the length of its prefix; none if that is longer than the address.
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let most = if address.is_ipv4() { 32 } else { 128 };
        (length <= most).then_some(Self { address, length })
    }

    /// Networks that are nobody's on the Internet: this host, private ones (RFC 1918, RFC 6598, RFC 4193), links.
    #[must_use]
    pub fn private() -> Vec<Self> {
        let texts = [
            "127.0.0.0/8",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "169.254.0.0/16",
            "100.64.0.0/10",
            "::1",
            "fc00::/7",
            "fe80::/10",
        ];
        texts.iter().filter_map(|text| text.parse().ok()).collect()
    }

    /// Bits of the prefix.
    #[must_use]
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// True if an address lies in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(net), IpAddr::V4(at)) => {
                let differ = net.to_bits() ^ at.to_bits();
                differ.leading_zeros() >= u32::from(self.length)
            }
            (IpAddr::V6(net), IpAddr::V6(at)) => {
                (net.to_bits() ^ at.to_bits()).leading_zeros() >= u32::from(self.length)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text} is no network: expected ADDRESS or ADDRESS/LENGTH, as 192.0.2.0/24");
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let length = length.map_or(Ok(whole), |length| length.parse().map_err(|_| wrong()))?;
        Self::new(address, length).ok_or_else(wrong)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// What becomes of a client's next datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It is answered.
    Answer,
    /// It is told to ask by TCP.
    Slip,
    /// Nothing is sent.
    Drop,
}

/// Buckets of one thread.
#[derive(Debug)]
pub(crate) struct Buckets {
    /// Questions a second; none: no limit.
    rate: Option<u64>,
    seed: u64,
    start: Instant,
    table: Vec<Bucket>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    client: u64,
    /// In thousandths.
    tokens: u64,
    /// Milliseconds since the start.
    at: u64,
    refused: u32,
}

impl Buckets {
    pub(crate) fn new(rate: Option<u32>, seed: u64) -> Self {
        let rate = rate.map(u64::from);
        let table = if rate.is_some() { vec![Bucket::default(); CLIENTS] } else { Vec::new() };
        Self { rate, seed, start: Instant::now(), table }
    }

    /// Takes a token for a datagram that came now.
    pub(crate) fn take(&mut self, client: IpAddr, now: Instant) -> Verdict {
        let Some(rate) = self.rate.filter(|_| !client.is_loopback()) else { return Verdict::Answer };
        let client = match client {
            IpAddr::V4(v4) => hash64_with(&v4.octets(), self.seed),
            // One customer has a /64.
            IpAddr::V6(v6) => hash64_with(&v6.octets()[..8], self.seed),
        };
        let now = u64::try_from(now.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX);
        let full = rate * BURST_SECONDS * 1_000;
        let at = usize::try_from(client % CLIENTS as u64).unwrap_or(0);
        let bucket = &mut self.table[at];
        if bucket.client != client {
            *bucket = Bucket { client, tokens: full, at: now, refused: 0 };
        }
        bucket.tokens = full.min(bucket.tokens.saturating_add(now.saturating_sub(bucket.at).saturating_mul(rate)));
        bucket.at = now;
        if let Some(left) = bucket.tokens.checked_sub(1_000) {
            bucket.tokens = left;
            return Verdict::Answer;
        }
        bucket.refused = bucket.refused.wrapping_add(1);
        if bucket.refused.is_multiple_of(2) { Verdict::Slip } else { Verdict::Drop }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn networks_contain_what_begins_as_they_do() {
        let holds = |net: &str, at: &str| net.parse::<Network>().unwrap().contains(at.parse().unwrap());
        assert!(holds("10.0.0.0/8", "10.255.0.1") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("0.0.0.0/0", "203.0.113.9") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("2001:db8::/32", "2001:db8:ffff::1") && !holds("2001:db8::/33", "2001:db8:ffff::1"));
        assert!(holds("192.0.2.1", "192.0.2.1") && !holds("192.0.2.1", "192.0.2.2"));
        for wrong in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "host/8", "10.0.0.0/"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
        assert_eq!(Network::private().len(), 9);
    }

    #[test]
    fn a_client_over_its_rate_slips_and_drops_while_others_are_answered() {
        let mut buckets = Buckets::new(Some(10), 1);
        let (loud, quiet, here) =
            ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap(), "127.0.0.1".parse().unwrap());
        let now = Instant::now();
        let verdicts: Vec<Verdict> = (0..14).map(|_| buckets.take(loud, now)).collect();
        assert!(verdicts[..10].iter().all(|v| *v == Verdict::Answer));
        assert_eq!(verdicts[10..], [Verdict::Drop, Verdict::Slip, Verdict::Drop, Verdict::Slip]);
        assert_eq!(buckets.take(quiet, now), Verdict::Answer);
        assert!((0..100).all(|_| buckets.take(here, now) == Verdict::Answer));
        assert_eq!(buckets.take(loud, now + Duration::from_millis(100)), Verdict::Answer);
        assert_ne!(buckets.take(loud, now + Duration::from_millis(100)), Verdict::Answer);
    }
}
