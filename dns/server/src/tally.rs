//! Counters of what was asked and answered: each thread has its own, readers add them up.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::times::{AnswerTimes, Times};

/// Types of questions that are counted by name.
pub(crate) const TYPES: [(&str, u16); 11] = [
    ("A", 1),
    ("AAAA", 28),
    ("SRV", 33),
    ("TXT", 16),
    ("PTR", 12),
    ("SOA", 6),
    ("NS", 2),
    ("HTTPS", 65),
    ("SVCB", 64),
    ("ANY", 255),
    ("other", 0),
];
/// Codes of answers that are counted by name.
pub(crate) const CODES: [(&str, u16); 8] = [
    ("noerror", 0),
    ("nxdomain", 3),
    ("refused", 5),
    ("servfail", 2),
    ("formerr", 1),
    ("notimp", 4),
    ("badvers", 16),
    ("other", u16::MAX),
];

/// Sums of what the server did since its start.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DnsAnswers {
    /// Answers by type and code; those that were given.
    pub by: Vec<(&'static str, &'static str, u64)>,
    /// Answers by the quick path, among them.
    pub quick: u64,
    /// Questions from networks that may not ask; they were REFUSED.
    pub disallowed: u64,
    /// Datagrams of clients over their rate: dropped, or told to ask by TCP.
    pub limited: u64,
    /// Messages that no answer is due to, or could not be sent: too short, answers, broken.
    pub ignored: u64,
    /// Questions that made the full path panic, among the ignored: faults of ours, and survived.
    pub panics: u64,
    /// TCP connections that were turned away because there were too many.
    pub turned_away: u64,
    /// What became of questions for other zones.
    pub forwarded: Forwarded,
    /// From reading a datagram to handing over the answers of all that were read with it.
    pub udp_times: AnswerTimes,
    /// From reading a question of a connection to putting its answer into the connection's queue.
    pub tcp_times: AnswerTimes,
    /// From taking a question for another zone to sending its answer, from the cache or from elsewhere.
    pub forwarded_times: AnswerTimes,
}

/// What became of questions for other zones.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Forwarded {
    /// Answered from the cache.
    pub hits: u64,
    /// Asked elsewhere.
    pub misses: u64,
    /// Answered from the cache although too old, since nobody else answered (RFC 8767).
    pub stale: u64,
    /// Nobody answered.
    pub failed: u64,
    /// Answers in the cache now.
    pub cached: u64,
    /// Resolvers that answer, of all that were named.
    pub healthy: u64,
    /// Resolvers that were named.
    pub resolvers: u64,
}

impl DnsAnswers {
    /// Answers with this code.
    #[must_use]
    pub fn with_code(&self, code: &str) -> u64 {
        self.by.iter().filter(|(_, name, _)| *name == code).map(|(.., count)| count).sum()
    }

    /// All answers.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.by.iter().map(|(.., count)| count).sum()
    }
}

/// The counters of one thread.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    by: [[AtomicU64; CODES.len()]; TYPES.len()],
    pub(crate) quick: AtomicU64,
    pub(crate) disallowed: AtomicU64,
    pub(crate) limited: AtomicU64,
    pub(crate) ignored: AtomicU64,
    pub(crate) turned_away: AtomicU64,
    pub(crate) udp_times: Times,
    pub(crate) tcp_times: Times,
    pub(crate) forwarded_times: Times,
}

impl Tally {
    /// Counts an answer.
    pub(crate) fn count(&self, kind: u16, code: u16) {
        let kind = TYPES.iter().position(|(_, number)| *number == kind).unwrap_or(TYPES.len() - 1);
        let code = CODES.iter().position(|(_, number)| *number == code).unwrap_or(CODES.len() - 1);
        add(&self.by[kind][code]);
    }

    /// Adds to a sum.
    pub(crate) fn add_to(&self, sum: &mut DnsAnswers) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        for ((kind, _), counters) in TYPES.iter().zip(&self.by) {
            for ((code, _), counter) in CODES.iter().zip(counters) {
                let count = read(counter);
                match sum.by.iter_mut().find(|(k, c, _)| k == kind && c == code) {
                    Some((.., held)) => *held += count,
                    None if count > 0 => sum.by.push((kind, code, count)),
                    None => {}
                }
            }
        }
        sum.quick += read(&self.quick);
        sum.disallowed += read(&self.disallowed);
        sum.limited += read(&self.limited);
        sum.ignored += read(&self.ignored);
        sum.turned_away += read(&self.turned_away);
        self.udp_times.add_to(&mut sum.udp_times);
        self.tcp_times.add_to(&mut sum.tcp_times);
        self.forwarded_times.add_to(&mut sum.forwarded_times);
    }
}

pub(crate) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
