//! Domain names in the one form that is compared: lower case, labels without dots, no root label.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A case-folded, fully qualified domain name. Comparing two compares what DNS compares (RFC 4343).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Fqdn(Vec<String>);

impl Fqdn {
    /// From labels, the leftmost first; folds case.
    #[must_use]
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let fold = |label: &[u8]| String::from_utf8_lossy(label).to_ascii_lowercase();
        Self(labels.into_iter().filter(|l| !l.is_empty()).map(fold).collect())
    }

    /// From dotted text; a final dot is allowed.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self::from_labels(text.split('.').map(str::as_bytes))
    }

    /// The labels, leftmost first.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.0
    }

    /// The name as it stands in a packet, without the root's zero; none if a label is longer than 63 bytes or the whole
    /// than 254.
    #[must_use]
    pub fn wire(&self) -> Option<Vec<u8>> {
        let mut wire = Vec::new();
        for label in &self.0 {
            wire.push(u8::try_from(label.len()).ok().filter(|len| (1..64).contains(len))?);
            wire.extend_from_slice(label.as_bytes());
        }
        (wire.len() <= 254).then_some(wire)
    }

    /// The labels left of `zone`; none if this name does not lie in it.
    #[must_use]
    pub fn within(&self, zone: &Self) -> Option<&[String]> {
        self.0.strip_suffix(zone.0.as_slice())
    }

    /// This name with labels in front.
    #[must_use]
    pub fn prefixed(&self, front: &[&str]) -> Self {
        Self(front.iter().map(|l| l.to_ascii_lowercase()).chain(self.0.iter().cloned()).collect())
    }
}

impl fmt::Display for Fqdn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(".");
        }
        for label in &self.0 {
            for letter in label.chars() {
                // What a zone file gives a meaning is escaped (RFC 1035 section 5.1).
                if matches!(letter, '.' | '\\' | '"' | ';' | '(' | ')' | '@' | '$') {
                    f.write_str("\\")?;
                }
                write!(f, "{letter}")?;
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

/// The name under which an address is looked up in reverse (RFC 1035 section 3.5, RFC 3596 section 2.5).
#[must_use]
pub fn reverse(address: IpAddr) -> Fqdn {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            Fqdn::parse(&alloc::format!("{d}.{c}.{b}.{a}.in-addr.arpa"))
        }
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().rev().flat_map(|o| [o & 15, o >> 4]);
            let mut labels: Vec<String> = nibbles.map(|n| alloc::format!("{n:x}")).collect();
            labels.extend(["ip6".to_string(), "arpa".to_string()]);
            Fqdn(labels)
        }
    }
}

/// The address that a complete reverse name stands for.
#[must_use]
pub fn address_of_reverse(name: &Fqdn) -> Option<IpAddr> {
    match name.labels() {
        [d, c, b, a, zone, arpa] if zone == "in-addr" && arpa == "arpa" => {
            let octet = |l: &String| if l.len() > 1 && l.starts_with('0') { None } else { l.parse::<u8>().ok() };
            Some(IpAddr::V4(Ipv4Addr::new(octet(a)?, octet(b)?, octet(c)?, octet(d)?)))
        }
        [nibbles @ .., zone, arpa] if zone == "ip6" && arpa == "arpa" && nibbles.len() == 32 => {
            let mut value: u128 = 0;
            for label in nibbles.iter().rev() {
                if label.len() != 1 {
                    return None;
                }
                value = value << 4 | u128::from(u8::from_str_radix(label, 16).ok()?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(value)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_folded_and_the_root_dot_is_optional() {
        assert_eq!(Fqdn::parse("WEB.Shop.dunlin.Internal."), Fqdn::parse("web.shop.dunlin.internal"));
        assert_eq!(Fqdn::parse("web.shop").to_string(), "web.shop.");
    }

    #[test]
    fn reverse_names_come_back() {
        for text in ["192.0.2.17", "2001:db8::567:89ab", "::1"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(address_of_reverse(&reverse(address)), Some(address));
        }
        assert_eq!(address_of_reverse(&Fqdn::parse("01.0.0.127.in-addr.arpa")), None);
        assert_eq!(address_of_reverse(&Fqdn::parse("0.0.127.in-addr.arpa")), None);
    }
}
