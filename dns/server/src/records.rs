//! Our names and records in hickory's types.

use std::net::IpAddr;

use dunlin_names::{Data, Fqdn, Record, Wanted};
use hickory_proto::rr::rdata::{A, AAAA, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record as Rr, RecordType};

/// Seconds after which a secondary asks again, retries, gives up; nobody transfers the zone, but resolvers print them.
const REFRESH: i32 = 60;
const RETRY: i32 = 10;
const EXPIRE: i32 = 600;
/// How long a "no" may be kept (RFC 2308 section 5): as short as a "yes".
const MINIMUM: u32 = 1;

/// What is asked for, in the table's words.
pub(crate) fn wanted(kind: RecordType) -> Wanted {
    match kind {
        RecordType::A => Wanted::A,
        RecordType::AAAA => Wanted::Aaaa,
        RecordType::SRV => Wanted::Srv,
        RecordType::SOA => Wanted::Soa,
        RecordType::NS => Wanted::Ns,
        RecordType::TXT => Wanted::Txt,
        RecordType::PTR => Wanted::Ptr,
        RecordType::ANY => Wanted::Any,
        _ => Wanted::Other,
    }
}

/// A name of ours; none if it breaks a limit of DNS (a label over 63 bytes, a name over 255).
pub(crate) fn name(fqdn: &Fqdn) -> Option<Name> {
    let mut name = Name::from_labels(fqdn.labels().iter().map(|l| l.as_bytes())).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// A record of ours; none if one of its names breaks a limit of DNS.
pub(crate) fn record(record: &Record) -> Option<Rr> {
    let data = match &record.data {
        Data::Address(IpAddr::V4(v4)) => RData::A(A(*v4)),
        Data::Address(IpAddr::V6(v6)) => RData::AAAA(AAAA(*v6)),
        Data::Srv { port, target } => RData::SRV(SRV::new(0, 1, *port, name(target)?)),
        Data::Soa { primary, serial } => {
            let person = name(&record.name.prefixed(&["hostmaster"]))?;
            RData::SOA(SOA::new(name(primary)?, person, *serial, REFRESH, RETRY, EXPIRE, MINIMUM))
        }
        Data::Ns(host) => RData::NS(NS(name(host)?)),
        Data::Txt(texts) => RData::TXT(TXT::new(texts.clone())),
        Data::Ptr(host) => RData::PTR(PTR(name(host)?)),
    };
    Some(Rr::from_rdata(name(&record.name)?, record.ttl, data))
}
