//! Names of other zones: asked of resolvers that others run, once for all who ask at the same time, and kept.
//!
//! It forwards, it does not resolve: no delegation is followed and nothing is validated. Our own zone is never asked
//! elsewhere. A resolver that asks us what we ask it is found by a probe and left out: the loop would feed itself.

use std::collections::HashMap;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use dunlin_gossip::rng::{Rng, Seed};
use dunlin_names::Fqdn;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, Record, RecordType};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::cache::{Cache, Kept, Key, STALE_TTL};
use crate::mmsg::{Peer, send_one};
use crate::reply::{Asker, Sections};
use crate::resolver::{Resolver, Upstream};
use crate::tally::{Forwarded, Tally, add};

/// Questions under way, and askers of one of them.
const MOST_FLIGHTS: usize = 1_024;
const MOST_WAITING: usize = 64;
/// How long clients wait for a better answer than an old one (the client response timer of RFC 8767 section 5): less than
/// the second after which ours ask their next server.
const CLIENTS_WAIT: Duration = Duration::from_millis(800);
/// How often resolvers are asked for one question.
const TRIES: usize = 3;
/// Between two looks for loops, and for a loop to show.
const PROBE_EVERY: Duration = Duration::from_secs(300);
const PROBE_PATIENCE: Duration = Duration::from_secs(2);
/// No such zone exists; that it is asked for at all says who asks.
const PROBE_ZONE: &str = "dunlin-loop-probe";

/// How an answer gets to who asked.
pub(crate) enum Way {
    Udp(Arc<UdpSocket>, Box<Peer>),
    Tcp(mpsc::Sender<Vec<u8>>),
}

impl Way {
    fn send(&self, bytes: Vec<u8>) {
        match self {
            Self::Udp(socket, peer) => {
                if let Err(error) = send_one(socket, &bytes, peer) {
                    tracing::debug!(%error, to = %peer.ip(), "a DNS answer could not be sent");
                }
            }
            // Who does not take its answers does not get more of them.
            Self::Tcp(answers) => drop(answers.try_send(bytes)),
        }
    }
}

/// Resolvers for a zone, or for all that no other group takes.
#[derive(Debug)]
struct Group {
    zone: Option<Fqdn>,
    resolvers: Vec<Arc<Resolver>>,
}

#[derive(Default)]
struct State {
    cache: Cache,
    /// Who waits for what, and since when.
    flights: HashMap<Key, Vec<(Asker, Way, Instant)>>,
}

/// The forwarder.
pub(crate) struct Forwarder {
    /// The longest zones first.
    groups: Vec<Group>,
    state: Mutex<State>,
    rng: Mutex<Rng>,
    runtime: Handle,
    tally: Arc<Tally>,
    hits: AtomicU64,
    misses: AtomicU64,
    stale: AtomicU64,
    failed: AtomicU64,
}

impl Forwarder {
    /// Begins to forward, and to look for loops. Only within a tokio runtime.
    pub(crate) fn start(upstreams: &[Upstream], seed: Seed, tally: Arc<Tally>) -> Arc<Self> {
        let mut groups: Vec<Group> = Vec::new();
        for upstream in upstreams {
            let zone = upstream.zone.as_deref().map(Fqdn::parse);
            let resolver = Arc::new(Resolver::new(upstream.address));
            match groups.iter_mut().find(|group| group.zone == zone) {
                Some(group) => group.resolvers.push(resolver),
                None => groups.push(Group { zone, resolvers: vec![resolver] }),
            }
        }
        groups.sort_by_key(|group| std::cmp::Reverse(group.zone.as_ref().map_or(0, |zone| zone.labels().len())));
        let forwarder = Arc::new(Self {
            groups,
            state: Mutex::default(),
            rng: Mutex::new(seed.rng()),
            runtime: Handle::current(),
            tally,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        forwarder.runtime.spawn(watch_for_loops(Arc::downgrade(&forwarder)));
        forwarder
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self) -> u64 {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    fn resolvers(&self) -> impl Iterator<Item = &Arc<Resolver>> {
        self.groups.iter().flat_map(|group| &group.resolvers)
    }

    /// What was done so far.
    pub(crate) fn sum(&self) -> Forwarded {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let now = Instant::now();
        Forwarded {
            hits: read(&self.hits),
            misses: read(&self.misses),
            stale: read(&self.stale),
            failed: read(&self.failed),
            cached: self.state().cache.len() as u64,
            healthy: self.resolvers().filter(|resolver| resolver.is_healthy(now)).count() as u64,
            resolvers: self.resolvers().count() as u64,
        }
    }

    /// Takes a question; its answer goes the given way, at once or later.
    pub(crate) fn ask(self: &Arc<Self>, asker: Asker, way: Way) {
        let Some(query) = &asker.query else { return };
        let key = Key {
            name: query.name().to_lowercase(),
            kind: query.query_type(),
            wants_dnssec: asker.wants_dnssec(),
            checking_disabled: asker.head.checking_disabled,
        };
        let now = Instant::now();
        if self.is_own_probe(&key.name) {
            return self.tell(&asker, &way, Sections::error(ResponseCode::Refused), now);
        }
        let mut state = self.state();
        if let Some(kept) = state.cache.fresh(&key, now) {
            drop(state);
            add(&self.hits);
            let sections = told(&kept, &asker, now, None);
            return self.tell(&asker, &way, sections, now);
        }
        if let Some(kept) = state.cache.excused(&key, now) {
            drop(state);
            add(&self.stale);
            let sections = told(&kept, &asker, now, Some(STALE_TTL));
            return self.tell(&asker, &way, sections, now);
        }
        let is_new = match state.flights.get_mut(&key) {
            Some(waiting) if waiting.len() < MOST_WAITING => {
                waiting.push((asker, way, now));
                return;
            }
            Some(_) => false,
            None => state.flights.len() < MOST_FLIGHTS,
        };
        if !is_new {
            drop(state);
            add(&self.failed);
            return self.tell(&asker, &way, Sections::error(ResponseCode::ServFail), now);
        }
        state.flights.insert(key.clone(), vec![(asker, way, now)]);
        drop(state);
        add(&self.misses);
        let flight = Flight { forwarder: Arc::clone(self), key };
        self.runtime.spawn(flight.run());
    }

    fn tell(&self, asker: &Asker, way: &Way, sections: Sections, since: Instant) {
        if let Some(bytes) = asker.finish(sections, &self.tally) {
            way.send(bytes);
            self.tally.forwarded_times.add(since.elapsed(), 1);
        }
    }

    /// The name is one that we asked a resolver to tell a loop by.
    fn is_own_probe(&self, name: &Name) -> bool {
        let mut labels = name.iter();
        let (Some(number), Some(zone), None) = (labels.next(), labels.next(), labels.next()) else { return false };
        let number = std::str::from_utf8(number).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
        let Some(number) = number.filter(|number| zone == PROBE_ZONE.as_bytes() && *number != 0) else { return false };
        let asked = self.resolvers().find(|resolver| resolver.probe.load(Ordering::Relaxed) == number);
        if let Some(resolver) = asked
            && !resolver.loops.swap(true, Ordering::Relaxed)
        {
            tracing::error!(resolver = %resolver.address,
                "this resolver asks us what we ask it: it is left out; make it forward only our zone to us");
        }
        asked.is_some()
    }

    /// Asks the resolvers for a name, the healthy ones first; an answer, a failure that one of them told, or none.
    async fn fetch(&self, key: &Key) -> Option<Kept> {
        let name = Fqdn::from_labels(key.name.iter());
        let takes = |group: &&Group| group.zone.as_ref().is_none_or(|zone| name.within(zone).is_some());
        let group = self.groups.iter().find(takes)?;
        let now = Instant::now();
        let mut order: Vec<&Arc<Resolver>> =
            group.resolvers.iter().filter(|resolver| !resolver.loops.load(Ordering::Relaxed)).collect();
        order.sort_by_key(|resolver| !resolver.is_healthy(now));
        let mut failure = None;
        for resolver in order.iter().cycle().take(TRIES.min(order.len() * 2)) {
            let id = u16::try_from(self.draw() & 0xffff).unwrap_or(0);
            let Some((message, bytes)) = resolver.ask(key, id).await else { continue };
            let kept = Kept::new(message, bytes, Instant::now());
            match kept.message.response_code {
                ResponseCode::NoError | ResponseCode::NXDomain => return Some(kept),
                _ => failure = Some(kept),
            }
        }
        failure
    }
}

/// A question under way. Whatever happens, its askers are answered and its place is free afterwards.
struct Flight {
    forwarder: Arc<Forwarder>,
    key: Key,
}

impl Flight {
    async fn run(self) {
        let forwarder = &self.forwarder;
        let mut fetch = std::pin::pin!(forwarder.fetch(&self.key));
        let kept = match tokio::time::timeout(CLIENTS_WAIT, &mut fetch).await {
            Ok(kept) => kept,
            Err(_) => {
                self.tell_old();
                fetch.await
            }
        };
        let kept = kept.map(Arc::new);
        let now = Instant::now();
        let mut state = forwarder.state();
        let is_answer =
            |kept: &Kept| matches!(kept.message.response_code, ResponseCode::NoError | ResponseCode::NXDomain);
        let stale = match kept.as_deref() {
            Some(kept) if is_answer(kept) => None,
            _ => state.cache.stale(&self.key, now),
        };
        if stale.is_some() {
            state.cache.failed(&self.key, now);
        }
        if let Some(kept) = &kept {
            state.cache.put(self.key.clone(), Arc::clone(kept));
        }
        let waiting = state.flights.remove(&self.key).unwrap_or_default();
        drop(state);
        for (asker, way, since) in &waiting {
            let sections = match (&stale, &kept) {
                (Some(stale), _) => {
                    add(&forwarder.stale);
                    told(stale, asker, now, Some(STALE_TTL))
                }
                (None, Some(kept)) => told(kept, asker, now, None),
                (None, None) => {
                    add(&forwarder.failed);
                    Sections::error(ResponseCode::ServFail)
                }
            };
            forwarder.tell(asker, way, sections, *since);
        }
    }

    /// Whoever waits gets the old answer, if there is one, and who comes later too: the resolvers take their time.
    fn tell_old(&self) {
        let (forwarder, now) = (&self.forwarder, Instant::now());
        let mut state = forwarder.state();
        let Some(stale) = state.cache.stale(&self.key, now) else { return };
        state.cache.failed(&self.key, now);
        let waiting = state.flights.get_mut(&self.key).map(std::mem::take).unwrap_or_default();
        drop(state);
        for (asker, way, since) in &waiting {
            add(&forwarder.stale);
            forwarder.tell(asker, way, told(&stale, asker, now, Some(STALE_TTL)), *since);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.forwarder.state().flights.remove(&self.key);
    }
}

/// What is told of a kept answer: as much less to live as it was kept.
fn told(kept: &Kept, asker: &Asker, now: Instant, ttl: Option<u32>) -> Sections {
    let age = u32::try_from(now.saturating_duration_since(kept.at).as_secs()).unwrap_or(u32::MAX);
    let question = asker.query.as_ref().map(|query| query.name());
    let aged = |records: &[Record]| {
        let aged = records.iter().filter(|record| record.record_type() != RecordType::OPT).map(|record| {
            let mut record = record.clone();
            record.ttl = ttl.unwrap_or_else(|| record.ttl.saturating_sub(age));
            if let Some(name) = question.filter(|name| **name == record.name) {
                record.name = name.clone();
            }
            record
        });
        aged.collect()
    };
    let message = &kept.message;
    Sections {
        code: message.response_code,
        authoritative: false,
        // Who wants to know whether it was validated says so (RFC 6840 section 5.7).
        authentic: message.authentic_data && (asker.head.authentic_data || asker.wants_dnssec()),
        answers: aged(&message.answers),
        authorities: aged(&message.authorities),
        additionals: aged(&message.additionals),
    }
}

/// Asks each resolver for a name that only a loop would ask us for, now and then, as long as there is a forwarder.
async fn watch_for_loops(forwarder: Weak<Forwarder>) {
    loop {
        let Some(held) = forwarder.upgrade() else { return };
        let mut probes = Vec::new();
        for resolver in held.resolvers().cloned().collect::<Vec<_>>() {
            let number = held.draw() | 1;
            resolver.probe.store(number, Ordering::Relaxed);
            let did_loop = resolver.loops.swap(false, Ordering::Relaxed);
            let id = u16::try_from(held.draw() & 0xffff).unwrap_or(0);
            let Ok(name) = Name::from_ascii(format!("{number:x}.{PROBE_ZONE}.")) else { continue };
            let key = Key { name, kind: RecordType::A, wants_dnssec: false, checking_disabled: false };
            probes.push(tokio::spawn(async move {
                let _whatever_it_says = tokio::time::timeout(PROBE_PATIENCE, resolver.ask(&key, id)).await;
                if did_loop && !resolver.loops.load(Ordering::Relaxed) {
                    tracing::info!(resolver = %resolver.address, "this resolver asks us no more what we ask it");
                }
            }));
        }
        drop(held);
        for probe in probes {
            let _ended = probe.await;
        }
        tokio::time::sleep(PROBE_EVERY).await;
    }
}
