//! The full path: one message, one answer, by hickory's types. It takes every message there can be.
//!
//! RFC 8906 section 8 is its list of cases; `tests/rfc8906.rs` goes through it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use dunlin_gossip::rng::Rng;
use dunlin_names::{Answer, Fqdn, MAX_PAYLOAD, MIN_PAYLOAD, Zone};
use hickory_proto::op::{Message, MessageType, Metadata, OpCode, Query, ResponseCode, emit_message_parts};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{DNSClass, Record, RecordType};
use hickory_proto::serialize::binary::BinEncoder;

use crate::cookie::{Cookies, Judged};
use crate::forward::Forwarder;
use crate::gate::Network;
use crate::records;
use crate::tally::{Tally, add};

const HEADER: usize = 12;
/// Additional records of a question: an OPT and some signature; more is refused before anything is decoded.
const MOST_ADDITIONAL: u8 = 8;

/// What all threads and connections share.
pub(crate) struct Shared {
    pub(crate) zone: ArcSwap<Zone>,
    /// What the zone says is so; until then it is only the beginning.
    pub(crate) knows_zone: AtomicBool,
    pub(crate) allow: Vec<Network>,
    pub(crate) cookies: Cookies,
    pub(crate) forwarder: OnceLock<Arc<Forwarder>>,
    /// Questions that made the full path panic: a fault of ours, and survived.
    pub(crate) panics: AtomicU64,
}

impl Shared {
    pub(crate) fn allows(&self, client: IpAddr) -> bool {
        self.allow.iter().any(|network| network.contains(client))
    }
}

/// Where a message came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    pub(crate) is_tcp: bool,
}

/// What is to be done about a message.
pub(crate) enum Reply {
    /// This is the answer.
    Send(Vec<u8>),
    /// It is asked elsewhere, for this asker.
    Ask(Box<Asker>),
    /// Nothing.
    Nothing,
}

/// The sections of an answer.
#[derive(Default)]
pub(crate) struct Sections {
    pub(crate) code: ResponseCode,
    pub(crate) authoritative: bool,
    pub(crate) authentic: bool,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    pub(crate) additionals: Vec<Record>,
}

impl Sections {
    pub(crate) fn error(code: ResponseCode) -> Self {
        Self { code, ..Self::default() }
    }

    fn negative(code: ResponseCode, soa: &dunlin_names::Record) -> Self {
        let authorities = records::record(soa).into_iter().collect();
        Self { code, authoritative: true, authorities, ..Self::default() }
    }
}

/// Who asked what, and how the answer must look.
#[derive(Debug)]
pub(crate) struct Asker {
    pub(crate) head: Metadata,
    pub(crate) query: Option<Query>,
    /// The question had an OPT record: the flag DO, and the cookie for the answer.
    edns: Option<(bool, Option<Vec<u8>>)>,
    /// Bytes that the client takes.
    room: usize,
    offers_recursion: bool,
}

/// Answers one message; whatever goes wrong inside stays inside.
pub(crate) fn reply(shared: &Shared, message: &[u8], client: Client, rng: &mut Rng, tally: &Tally) -> Reply {
    let answer = std::panic::AssertUnwindSafe(|| judge(shared, message, client, rng, tally));
    std::panic::catch_unwind(answer).unwrap_or_else(|_| {
        add(&shared.panics);
        Reply::Send(bare(message, ResponseCode::ServFail))
    })
}

fn judge(shared: &Shared, message: &[u8], client: Client, rng: &mut Rng, tally: &Tally) -> Reply {
    // An answer is never answered: two servers would talk for ever.
    let Some(header) = message.get(..HEADER).filter(|header| header[2] & 0x80 == 0) else {
        add(&tally.ignored);
        return Reply::Nothing;
    };
    let fail = |code: ResponseCode| {
        tally.count(0, u16::from(code));
        Reply::Send(bare(message, code))
    };
    if header[2] & 0x78 != 0 {
        return fail(ResponseCode::NotImp);
    }
    // Counts are looked at before anything of that size is made: one question, no answers, a few others.
    let questions = u16::from_be_bytes([header[4], header[5]]);
    if questions > 1 || header[6..10] != [0; 4] || header[10] != 0 || header[11] > MOST_ADDITIONAL {
        return fail(ResponseCode::FormErr);
    }
    let Ok(mut request) = Message::from_vec(message) else { return fail(ResponseCode::FormErr) };
    let is_allowed = shared.allows(client.address);
    let query = request.queries.pop();
    let (edns, room, early) = edns(shared, &request, client, is_allowed);
    let offers_recursion = shared.forwarder.get().is_some();
    let asker = Asker { head: request.metadata, query, edns, room, offers_recursion };
    let sections = match early {
        Some(code) => Sections::error(code),
        None => match sections(shared, &asker, is_allowed, rng, tally) {
            Some(sections) => sections,
            None => return Reply::Ask(Box::new(asker)),
        },
    };
    let code = sections.code;
    match asker.finish(sections, tally) {
        // A name that points into the header is longer in the answer than in the question.
        Some(bytes) if !is_allowed && bytes.len() > message.len() => Reply::Send(bare(message, code)),
        Some(bytes) => Reply::Send(bytes),
        None => fail(ResponseCode::ServFail),
    }
}

type Edns = Option<(bool, Option<Vec<u8>>)>;

/// Of a request: what the answer's OPT record says, how many bytes the client takes, and an error that comes before all
/// others.
fn edns(shared: &Shared, request: &Message, client: Client, is_allowed: bool) -> (Edns, usize, Option<ResponseCode>) {
    let tcp = usize::from(u16::MAX);
    let Some(edns) = &request.edns else {
        return (None, if client.is_tcp { tcp } else { MIN_PAYLOAD.into() }, None);
    };
    let room = if client.is_tcp { tcp } else { edns.max_payload().clamp(MIN_PAYLOAD, MAX_PAYLOAD).into() };
    if edns.version() > 0 {
        return (Some((edns.flags().dnssec_ok, None)), room, Some(ResponseCode::BADVERS));
    }
    let cookie = match edns.option(EdnsCode::Cookie) {
        Some(EdnsOption::Unknown(_, bytes)) => match shared.cookies.judge(bytes, client.address) {
            Judged::Malformed => return (Some((false, None)), room, Some(ResponseCode::FormErr)),
            // Who may not ask is not given more bytes than it sent.
            Judged::Unproved(part) | Judged::Proved(part) => is_allowed.then_some(part),
        },
        Some(_) | None => None,
    };
    let cookie = cookie.map(|part| shared.cookies.option(part, client.address));
    (Some((edns.flags().dnssec_ok, cookie)), room, None)
}

/// What is answered; none if it is to be asked elsewhere.
fn sections(shared: &Shared, asker: &Asker, is_allowed: bool, rng: &mut Rng, tally: &Tally) -> Option<Sections> {
    let Some(query) = &asker.query else {
        // Without a question, a cookie is all that can be asked for (RFC 7873 section 5.4).
        let has_cookie = asker.edns.as_ref().is_some_and(|(_, cookie)| cookie.is_some());
        return Some(Sections::error(if has_cookie { ResponseCode::NoError } else { ResponseCode::FormErr }));
    };
    if !is_allowed {
        add(&tally.disallowed);
        return Some(Sections::error(ResponseCode::Refused));
    }
    match query.query_type() {
        RecordType::OPT => return Some(Sections::error(ResponseCode::FormErr)),
        // Zone transfers are not offered.
        RecordType::AXFR | RecordType::IXFR => return Some(Sections::error(ResponseCode::Refused)),
        _ => {}
    }
    if !matches!(query.query_class(), DNSClass::IN | DNSClass::ANY) {
        return Some(Sections::error(ResponseCode::Refused));
    }
    let fqdn = Fqdn::from_labels(query.name().iter());
    let zone = shared.zone.load();
    if !shared.knows_zone.load(Ordering::Acquire) && fqdn.within(zone.origin()).is_some() {
        return Some(Sections::error(ResponseCode::ServFail));
    }
    let answer = zone.answer(&fqdn, records::wanted(query.query_type()), rng);
    Some(match answer {
        Answer::Found { answers, additional } => {
            let mut answers: Vec<Record> = answers.iter().filter_map(records::record).collect();
            // In the letters in which it was asked, so that the name is sent once.
            for record in answers.iter_mut().filter(|record| record.name == *query.name()) {
                record.name = query.name().clone();
            }
            let additionals = additional.iter().filter_map(records::record).collect();
            Sections { authoritative: true, answers, additionals, ..Sections::default() }
        }
        Answer::NoData(soa) => Sections::negative(ResponseCode::NoError, &soa),
        Answer::NoName(soa) => Sections::negative(ResponseCode::NXDomain, &soa),
        // Who does not want recursion is not told what others asked for, either.
        Answer::NotOurs if asker.head.recursion_desired && shared.forwarder.get().is_some() => return None,
        Answer::NotOurs => Sections::error(ResponseCode::Refused),
    })
}

impl Asker {
    /// The client sets the flag DO.
    pub(crate) fn wants_dnssec(&self) -> bool {
        self.edns.as_ref().is_some_and(|(dnssec_ok, _)| *dnssec_ok)
    }

    /// The answer's bytes, at most as many as the client takes; none if hickory cannot write them.
    pub(crate) fn finish(&self, mut sections: Sections, tally: &Tally) -> Option<Vec<u8>> {
        let kind = self.query.as_ref().map_or(0, |query| u16::from(query.query_type()));
        tally.count(kind, u16::from(sections.code));
        let mut head = Metadata::response_from_request(&self.head);
        head.response_code = ResponseCode::from(0, sections.code.low());
        head.authoritative = sections.authoritative;
        head.authentic_data = sections.authentic;
        // Validation is nobody's business where we are the authority (RFC 4035 section 3.1.6).
        head.checking_disabled &= !sections.authoritative;
        head.recursion_available = self.offers_recursion;
        let opt = self.opt(sections.code);
        let room = u16::try_from(self.room.checked_sub(opt.len())?).ok()?;
        // First without a limit: near one, hickory cuts some bytes too early.
        let mut bytes = self.write(&head, &sections, u16::MAX)?;
        if bytes.len() > room.into() && !sections.additionals.is_empty() {
            // What is only helpful is left out without a word (RFC 2181 section 9).
            sections.additionals.clear();
            bytes = self.write(&head, &sections, u16::MAX)?;
        }
        if bytes.len() > room.into() {
            bytes = self.write(&head, &sections, room)?;
        }
        if !opt.is_empty() {
            bytes.extend_from_slice(&opt);
            let count = u16::from_be_bytes([*bytes.get(10)?, *bytes.get(11)?]) + 1;
            bytes.get_mut(10..12)?.copy_from_slice(&count.to_be_bytes());
        }
        Some(bytes)
    }

    /// All but the OPT record, in so many bytes at most; the flag TC tells what did not fit.
    fn write(&self, head: &Metadata, sections: &Sections, most: u16) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::from(MIN_PAYLOAD));
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(most);
        let written = emit_message_parts(
            head,
            &mut self.query.iter(),
            &mut sections.answers.iter(),
            &mut sections.authorities.iter(),
            &mut sections.additionals.iter(),
            None,
            None,
            &mut encoder,
        );
        // What did not fit has left its beginning behind.
        let end = encoder.offset();
        bytes.truncate(end);
        written.ok().map(|_| bytes)
    }

    /// The OPT record of the answer; nothing if the question had none (RFC 6891 section 7).
    fn opt(&self, code: ResponseCode) -> Vec<u8> {
        let Some((dnssec_ok, cookie)) = &self.edns else { return Vec::new() };
        let [high, low] = MAX_PAYLOAD.to_be_bytes();
        let mut opt = vec![0, 0, 41, high, low, code.high(), 0, u8::from(*dnssec_ok) << 7, 0];
        let option = cookie.as_deref().unwrap_or_default();
        let length = u16::try_from(option.len()).unwrap_or(0);
        let total = if option.is_empty() { 0 } else { length + 4 };
        opt.extend_from_slice(&total.to_be_bytes());
        if !option.is_empty() {
            opt.extend_from_slice(&10_u16.to_be_bytes());
            opt.extend_from_slice(&length.to_be_bytes());
            opt.extend_from_slice(option);
        }
        opt
    }
}

/// An answer of a header only, for messages that cannot be read or are none of our business.
fn bare(message: &[u8], code: ResponseCode) -> Vec<u8> {
    let mut out = vec![0; HEADER];
    if let (Some(from), [a, b, c, d, ..]) = (message.get(..4), &mut out[..]) {
        (*a, *b) = (from[0], from[1]);
        *c = 0x80 | (from[2] & 0x79);
        *d = code.low();
    }
    out
}

/// "Ask again by TCP": the header and the question; none if that is not one plain question.
pub(crate) fn slip(message: &[u8]) -> Option<Vec<u8>> {
    let header = message.get(..HEADER).filter(|header| header[2] & 0xf8 == 0 && header[4..6] == [0, 1])?;
    let mut at = HEADER;
    while let label @ 1..64 = *message.get(at)? {
        at += 1 + usize::from(label);
    }
    let mut out = message.get(..at + 5)?.to_vec();
    out[2] = 0x82 | (header[2] & 1);
    out[3] = 0;
    out[6..HEADER].fill(0);
    Some(out)
}

/// True if a message carries a cookie that this server gave to this address.
pub(crate) fn is_proved(shared: &Shared, message: &[u8], from: IpAddr) -> bool {
    let is_plain = message.get(4..HEADER).is_some_and(|counts| *counts == [0, 1, 0, 0, 0, 0, 0, 1]);
    let read = || Message::from_vec(message).ok().filter(|read| read.metadata.message_type == MessageType::Query);
    let Some(read) = is_plain.then(|| std::panic::catch_unwind(read).ok().flatten()).flatten() else { return false };
    let option = read.edns.as_ref().and_then(|edns| edns.option(EdnsCode::Cookie));
    let Some(EdnsOption::Unknown(_, bytes)) = option else { return false };
    read.metadata.op_code == OpCode::Query && matches!(shared.cookies.judge(bytes, from), Judged::Proved(_))
}
