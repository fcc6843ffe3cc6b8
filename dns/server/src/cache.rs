//! Answers of other resolvers, kept as long as they say (RFC 2181 section 8, RFC 2308), and a while longer for when nobody
//! answers (RFC 8767). Bounded in number and bytes; the oldest go first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

/// Answers that are kept, and their bytes on the wire (in memory some times as many).
const MOST: usize = 10_000;
const MOST_BYTES: usize = 4 << 20;
/// The longest that an answer, a "no" and a failure are kept, in seconds, whatever they say. A failure: long enough that a
/// crowd asks once (RFC 2308 section 7).
const LONGEST: u32 = 3_600;
const LONGEST_NO: u32 = 300;
const FAILURE: u32 = 1;
/// How long after its end an answer is still better than none, and the TTL that it is then given (RFC 8767 section 5).
const STALE: Duration = Duration::from_secs(3_600);
pub(crate) const STALE_TTL: u32 = 30;
/// For so long after nobody had a better one, an old answer is told without asking (the failure recheck timer there).
const RECHECK: Duration = Duration::from_secs(30);

/// What was asked. Answers differ by the flags too.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Key {
    /// In lower case.
    pub(crate) name: Name,
    pub(crate) kind: RecordType,
    pub(crate) wants_dnssec: bool,
    pub(crate) checking_disabled: bool,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) message: Message,
    pub(crate) at: Instant,
    until: Instant,
    bytes: usize,
}

impl Kept {
    pub(crate) fn new(message: Message, bytes: usize, now: Instant) -> Self {
        let until = now + Duration::from_secs(lifetime(&message).into());
        Self { message, at: now, until, bytes }
    }

    pub(crate) fn is_fresh(&self, now: Instant) -> bool {
        now < self.until
    }
}

/// An answer, and when somebody was asked for a newer one in vain.
#[derive(Debug)]
struct Entry {
    kept: Arc<Kept>,
    failed: Option<Instant>,
}

/// The answers.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    kept: HashMap<Key, Entry>,
    /// In order of arrival; keys whose answer was replaced stand here once all the same.
    order: VecDeque<Key>,
    bytes: usize,
}

impl Cache {
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// An answer that may be given now.
    pub(crate) fn fresh(&self, key: &Key, now: Instant) -> Option<Arc<Kept>> {
        self.kept.get(key).map(|entry| &entry.kept).filter(|kept| kept.is_fresh(now)).cloned()
    }

    /// An answer for when nobody has a better one.
    pub(crate) fn stale(&self, key: &Key, now: Instant) -> Option<Arc<Kept>> {
        self.kept.get(key).map(|entry| &entry.kept).filter(|kept| now < kept.until + STALE).cloned()
    }

    /// Nobody had a better one, or not in time: the old one is told for a while.
    pub(crate) fn failed(&mut self, key: &Key, now: Instant) {
        if let Some(entry) = self.kept.get_mut(key) {
            entry.failed = Some(now);
        }
    }

    /// The old answer, if it is too early to ask again.
    pub(crate) fn excused(&self, key: &Key, now: Instant) -> Option<Arc<Kept>> {
        let failed = self.kept.get(key)?.failed?;
        self.stale(key, now).filter(|_| now < failed + RECHECK)
    }

    pub(crate) fn put(&mut self, key: Key, kept: Arc<Kept>) {
        if kept.until <= kept.at {
            return;
        }
        // A failure must not take the place of something that can still be told.
        if kept.message.response_code == ResponseCode::ServFail && self.stale(&key, kept.at).is_some() {
            return;
        }
        self.bytes += kept.bytes;
        match self.kept.insert(key.clone(), Entry { kept, failed: None }) {
            Some(old) => self.bytes -= old.kept.bytes,
            None => self.order.push_back(key),
        }
        while self.kept.len() > MOST || self.bytes > MOST_BYTES {
            let Some(oldest) = self.order.pop_front() else { return };
            if let Some(old) = self.kept.remove(&oldest) {
                self.bytes -= old.kept.bytes;
            }
        }
    }
}

/// For how many seconds an answer may be kept.
fn lifetime(message: &Message) -> u32 {
    let soa = message.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    });
    let ttls = message.answers.iter().chain(&message.authorities).map(|record| record.ttl);
    match message.response_code {
        ResponseCode::NoError if !message.answers.is_empty() => ttls.min().unwrap_or(0).min(LONGEST),
        // A "no" without an SOA says nothing about how long it holds (RFC 2308 section 5).
        ResponseCode::NoError | ResponseCode::NXDomain => soa.unwrap_or(0).min(LONGEST_NO),
        _ => FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{MessageType, OpCode};
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::A;

    fn key(name: &str) -> Key {
        let name = Name::from_ascii(name).unwrap();
        Key { name, kind: RecordType::A, wants_dnssec: false, checking_disabled: false }
    }

    fn answer(ttl: u32) -> Message {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.add_answer(Record::from_rdata(Name::root(), ttl, RData::A(A::new(192, 0, 2, 1))));
        message
    }

    #[test]
    fn answers_live_as_long_as_they_say_and_a_while_longer_for_want_of_better() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        cache.put(key("a."), Arc::new(Kept::new(answer(10), 50, now)));
        cache.put(key("zero."), Arc::new(Kept::new(answer(0), 50, now)));
        assert!(cache.fresh(&key("a."), after(9)).is_some() && cache.fresh(&key("a."), after(10)).is_none());
        assert!(cache.stale(&key("a."), after(3_609)).is_some() && cache.stale(&key("a."), after(3_610)).is_none());
        assert!(cache.stale(&key("zero."), now).is_none(), "what may not be kept is not");
        let mut failure = Message::new(1, MessageType::Response, OpCode::Query);
        failure.metadata.response_code = ResponseCode::ServFail;
        cache.put(key("a."), Arc::new(Kept::new(failure.clone(), 12, after(11))));
        assert!(cache.stale(&key("a."), after(11)).is_some_and(|kept| !kept.message.answers.is_empty()));
        cache.put(key("b."), Arc::new(Kept::new(failure, 12, now)));
        assert!(cache.fresh(&key("b."), now).is_some() && cache.fresh(&key("b."), after(1)).is_none());
    }

    #[test]
    fn it_is_bounded_in_number_and_in_bytes() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for n in 0..MOST + 500 {
            cache.put(key(&format!("n{n}.")), Arc::new(Kept::new(answer(60), 50, now)));
        }
        assert_eq!((cache.len(), cache.order.len()), (MOST, MOST));
        assert!(cache.fresh(&key("n0."), now).is_none() && cache.fresh(&key("n10499."), now).is_some());
        for n in 0..200 {
            cache.put(key(&format!("big{n}.")), Arc::new(Kept::new(answer(60), 65_000, now)));
        }
        assert!(cache.bytes <= MOST_BYTES && cache.len() <= MOST_BYTES / 65_000);
    }
}
