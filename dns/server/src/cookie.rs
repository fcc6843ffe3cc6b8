//! DNS cookies (RFC 7873): a client that sends back what it was given has proved its address, and is not rate limited.
//!
//! A server cookie is laid out as RFC 9018 says (version, three reserved bytes, time, eight bytes of hash), but hashed with
//! HMAC-SHA-256: only the node that made it has to recognise it. The secret lives as long as the process.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use dunlin_gossip::rng::Rng;
use ring::hmac;

/// Bytes of a client's part.
const CLIENT: usize = 8;
/// Bytes of our part.
const SERVER: usize = 16;
/// The option's lengths with a server's part (RFC 7873 section 4).
const WITH_SERVER: std::ops::RangeInclusive<usize> = 16..=40;
/// How old a cookie may be, and how far ahead of our clock, in seconds (RFC 9018 section 4.3).
const OLDEST: u32 = 3_600;
const AHEAD: u32 = 300;

/// Makes and recognises cookies.
#[derive(Debug)]
pub(crate) struct Cookies {
    key: hmac::Key,
}

/// What a client's cookie is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Judged {
    /// Its length is none that a cookie can have: FORMERR.
    Malformed,
    /// The address is not proved.
    Unproved([u8; CLIENT]),
    /// It was given to that address.
    Proved([u8; CLIENT]),
}

impl Cookies {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let secret: Vec<u8> = (0..4).flat_map(|_| rng.next_u64().to_be_bytes()).collect();
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &secret) }
    }

    pub(crate) fn judge(&self, option: &[u8], from: IpAddr) -> Judged {
        let Some((client, server)) = option.split_first_chunk::<CLIENT>() else { return Judged::Malformed };
        if server.is_empty() {
            return Judged::Unproved(*client);
        }
        if !WITH_SERVER.contains(&option.len()) {
            return Judged::Malformed;
        }
        let time = server.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
        let age = time.map(|time| now().wrapping_sub(time));
        // Serial arithmetic: what is ahead is a huge age.
        let is_fresh = age.is_some_and(|age| age <= OLDEST || age.wrapping_neg() <= AHEAD);
        match time {
            Some(time) if is_fresh && self.server_part(client, time, from) == *server => Judged::Proved(*client),
            Some(_) | None => Judged::Unproved(*client),
        }
    }

    /// The whole option for an answer.
    pub(crate) fn option(&self, client: [u8; CLIENT], to: IpAddr) -> Vec<u8> {
        let mut option = client.to_vec();
        option.extend_from_slice(&self.server_part(&client, now(), to));
        option
    }

    fn server_part(&self, client: &[u8; CLIENT], time: u32, address: IpAddr) -> [u8; SERVER] {
        let mut part = [0; SERVER];
        part[0] = 1;
        part[4..8].copy_from_slice(&time.to_be_bytes());
        let mut context = hmac::Context::with_key(&self.key);
        context.update(client);
        context.update(&part[..8]);
        match address {
            IpAddr::V4(v4) => context.update(&v4.octets()),
            IpAddr::V6(v6) => context.update(&v6.octets()),
        }
        part[8..].copy_from_slice(&context.sign().as_ref()[..8]);
        part
    }
}

/// Seconds since 1970, modulo 2^32.
fn now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    u32::try_from(since & u64::from(u32::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_gossip::rng::Seed;

    #[test]
    fn a_cookie_proves_the_address_that_it_was_given_to_and_no_other() {
        let cookies = Cookies::new(&mut Seed(1).rng());
        let (here, there): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        assert_eq!(cookies.judge(&[7; 8], here), Judged::Unproved([7; 8]));
        let given = cookies.option([7; 8], here);
        assert_eq!(given.len(), 24);
        assert_eq!(cookies.judge(&given, here), Judged::Proved([7; 8]));
        assert_eq!(cookies.judge(&given, there), Judged::Unproved([7; 8]));
        assert_eq!(Cookies::new(&mut Seed(2).rng()).judge(&given, here), Judged::Unproved([7; 8]));
        let mut old = given.clone();
        old[12] ^= 0x80;
        assert_eq!(cookies.judge(&old, here), Judged::Unproved([7; 8]));
        for wrong in [0, 7, 9, 15, 41, 60] {
            assert_eq!(cookies.judge(&vec![7; wrong], here), Judged::Malformed, "{wrong} bytes");
        }
        assert_eq!(cookies.judge(&[7; 40], here), Judged::Unproved([7; 8]));
    }
}
