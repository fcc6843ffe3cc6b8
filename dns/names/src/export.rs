//! The zone as a zone file (RFC 1035 section 5), for other servers, for comparing, and for looking at.
//!
//! What depends on who asks or on chance has no place in one: names with `rr` are left out, and ports below `nearest` and
//! label selections.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use crate::answer::{Data, Record, TYPES, Wanted};
use crate::name::Fqdn;
use crate::quick::{SOA_MINIMUM, SOA_TIMERS};
use crate::zone::{Service, Zone, slot_label};

impl Zone {
    /// Every record of the zone, the SOA first, then by name.
    #[must_use]
    pub fn export(&self) -> Vec<Record> {
        let mut names: BTreeSet<Fqdn> = BTreeSet::from([self.origin.clone(), self.origin.prefixed(&["ns"])]);
        names.extend(self.node_names.keys().map(|name| self.node_fqdn(name)));
        for held in self.services.iter() {
            self.export_service(held, &mut names);
        }
        let mut out = vec![self.soa()];
        for name in &names {
            let Some(labels) = name.within(&self.origin) else { continue };
            let found = self.find(labels);
            for wanted in TYPES.iter().filter(|wanted| **wanted != Wanted::Soa) {
                out.extend(self.records(name, &found, *wanted).0);
            }
        }
        out
    }

    fn export_service(&self, held: &Service, names: &mut BTreeSet<Fqdn>) {
        let base = [held.service(), held.stack()];
        let mut put = |front: &[&str]| names.insert(self.origin.prefixed(&base).prefixed(front));
        put(&[]);
        put(&["nearest"]);
        for instance in held.instances.iter() {
            let slot = slot_label(self, instance.slot);
            put(&[&slot]);
            for port in &instance.ports {
                let protocol = alloc::format!("_{}", port.protocol.as_str());
                for label in [alloc::format!("_{}", port.name), alloc::format!("_{}", port.inner)] {
                    put(&[&label, &protocol]);
                    put(&[&label, &protocol, &slot]);
                }
            }
            let labels = self.nodes.get(&instance.node).map(|host| &host.labels);
            for (key, value) in labels.into_iter().flatten().filter(|(k, v)| is_plain(k) && is_plain(v)) {
                put(&[value, key]);
            }
        }
        for instance in held.instances.iter() {
            for port in &instance.ports {
                let service = alloc::format!("_{}", held.service());
                let protocol = alloc::format!("_{}", port.protocol.as_str());
                names.insert(self.origin.prefixed(&[&service, &protocol, held.stack()]));
            }
            if let Some(host) = self.nodes.get(&instance.node) {
                names.insert(self.origin.prefixed(&[held.service(), held.stack(), &host.name, "node"]));
            }
        }
    }
}

/// A text that can be a label as it is.
fn is_plain(text: &str) -> bool {
    (1..64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// A line of a zone file.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} IN {}", self.name, self.ttl, self.data)
    }
}

/// The type and the content, as in a zone file.
impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V4(v4)) => write!(f, "A {v4}"),
            Self::Address(IpAddr::V6(v6)) => write!(f, "AAAA {v6}"),
            Self::Srv { priority, weight, port, target } => write!(f, "SRV {priority} {weight} {port} {target}"),
            Self::Service { is_https, priority, port, target, hint } => {
                let kind = if *is_https { "HTTPS" } else { "SVCB" };
                let family = if hint.is_ipv4() { "ipv4hint" } else { "ipv6hint" };
                write!(f, "{kind} {priority} {target} port={port} {family}={hint}")
            }
            Self::Soa { primary, serial } => {
                let [refresh, retry, expire] = SOA_TIMERS;
                let person = primary.to_string().replacen("ns.", "hostmaster.", 1);
                write!(f, "SOA {primary} {person} {serial} {refresh} {retry} {expire} {SOA_MINIMUM}")
            }
            Self::Ns(host) => write!(f, "NS {host}"),
            Self::Ptr(host) => write!(f, "PTR {host}"),
            Self::Txt(texts) => {
                f.write_str("TXT")?;
                texts.iter().try_for_each(|text| write!(f, " \"{}\"", quoted(text)))
            }
        }
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes().take(255) {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b' '..=b'~' => out.push(char::from(byte)),
            other => out.push_str(&alloc::format!("\\{other:03}")),
        }
    }
    out
}
