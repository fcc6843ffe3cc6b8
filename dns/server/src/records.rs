//! Our names and records in hickory's types.

use std::net::IpAddr;

use dunlin_names::{Data, Fqdn, Record, SOA_MINIMUM, SOA_TIMERS, Wanted};
use hickory_proto::rr::rdata::svcb::{IpHint, SVCB, SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{A, AAAA, HTTPS, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record as Rr, RecordType};

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
        RecordType::HTTPS => Wanted::Https,
        RecordType::SVCB => Wanted::Svcb,
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
        Data::Srv { priority, weight, port, target } => RData::SRV(SRV::new(*priority, *weight, *port, name(target)?)),
        Data::Service { is_https, priority, port, target, hint } => {
            let hint = match hint {
                IpAddr::V4(v4) => (SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(IpHint(vec![A(*v4)]))),
                IpAddr::V6(v6) => (SvcParamKey::Ipv6Hint, SvcParamValue::Ipv6Hint(IpHint(vec![AAAA(*v6)]))),
            };
            let parameters = vec![(SvcParamKey::Port, SvcParamValue::Port(*port)), hint];
            let svcb = SVCB::new(*priority, name(target)?, parameters);
            if *is_https { RData::HTTPS(HTTPS(svcb)) } else { RData::SVCB(svcb) }
        }
        Data::Soa { primary, serial } => {
            let person = name(primary)?.base_name().prepend_label("hostmaster").ok()?;
            let [refresh, retry, expire] = SOA_TIMERS.map(u32::cast_signed);
            RData::SOA(SOA::new(name(primary)?, person, *serial, refresh, retry, expire, SOA_MINIMUM))
        }
        Data::Ns(host) => RData::NS(NS(name(host)?)),
        Data::Txt(texts) => RData::TXT(TXT::new(texts.iter().map(|text| fitting(text)).collect())),
        Data::Ptr(host) => RData::PTR(PTR(name(host)?)),
    };
    Some(Rr::from_rdata(name(&record.name)?, record.ttl, data))
}

/// As much of a text as one string of a TXT record holds: 255 bytes.
fn fitting(text: &str) -> String {
    let mut end = text.len().min(255);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}
