//! One query, one answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use dunlin_gossip::rng::Rng;
use dunlin_names::{Answer, Fqdn, Zone};
use hickory_proto::op::{Edns, Header, HeaderCounts, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Record};
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use crate::records;

/// What we accept in one UDP datagram (RFC 9715 recommends at most 1400 against fragmentation).
const MAX_PAYLOAD: u16 = 1_232;

/// Answers from the current snapshot.
pub(crate) struct Handler {
    pub(crate) zone: Arc<ArcSwap<Zone>>,
    pub(crate) rng: Mutex<Rng>,
    pub(crate) tally: Arc<Tally>,
}

/// Answers by their code, since the start.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) no_error: AtomicU64,
    pub(crate) no_name: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) other: AtomicU64,
}

impl Tally {
    fn count(&self, code: ResponseCode) {
        let counter = match code {
            ResponseCode::NoError => &self.no_error,
            ResponseCode::NXDomain => &self.no_name,
            ResponseCode::Refused => &self.refused,
            _ => &self.other,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The sections of a response.
#[derive(Default)]
struct Sections {
    code: ResponseCode,
    authoritative: bool,
    answers: Vec<Record>,
    soa: Option<Record>,
    additional: Vec<Record>,
}

impl Sections {
    fn error(code: ResponseCode) -> Self {
        Self { code, ..Self::default() }
    }

    fn negative(code: ResponseCode, soa: &dunlin_names::Record) -> Self {
        Self { code, authoritative: true, soa: records::record(soa), ..Self::default() }
    }
}

impl Handler {
    fn sections(&self, request: &Request) -> Sections {
        if request.metadata.op_code != OpCode::Query {
            return Sections::error(ResponseCode::NotImp);
        }
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return Sections::error(ResponseCode::BADVERS);
        }
        let Ok(info) = request.request_info() else {
            return Sections::error(ResponseCode::FormErr);
        };
        if !matches!(info.query.query_class(), DNSClass::IN | DNSClass::ANY) {
            return Sections::error(ResponseCode::Refused);
        }
        let fqdn = Fqdn::from_labels(info.query.original().name().iter());
        let zone = self.zone.load();
        let answer = {
            let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
            zone.answer(&fqdn, records::wanted(info.query.query_type()), &mut rng)
        };
        match answer {
            Answer::Found { answers, additional } => Sections {
                authoritative: true,
                answers: answers.iter().filter_map(records::record).collect(),
                additional: additional.iter().filter_map(records::record).collect(),
                ..Sections::default()
            },
            Answer::NoData(soa) => Sections::negative(ResponseCode::NoError, &soa),
            Answer::NoName(soa) => Sections::negative(ResponseCode::NXDomain, &soa),
            Answer::NotOurs => Sections::error(ResponseCode::Refused),
        }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut reply: R) -> ResponseInfo {
        let sections = self.sections(request);
        self.tally.count(sections.code);
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = sections.code;
        metadata.authoritative = sections.authoritative;
        let edns = request.edns.as_ref().map(|_| our_edns(sections.code));
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &edns {
            builder.edns(edns);
        }
        let response = builder.build(metadata, &sections.answers, &[], &sections.soa, &sections.additional);
        match reply.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, to = %request.src(), "a DNS answer could not be sent");
                metadata.response_code = ResponseCode::ServFail;
                Header { metadata, counts: HeaderCounts::default() }.into()
            }
        }
    }
}

fn our_edns(code: ResponseCode) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_PAYLOAD).set_version(0).set_rcode_high(code.high());
    edns
}
