//! The custody of this node's certificate and of the cluster's authority: renewed before they end, changed step by step.
//!
//! What to do next is decided by [`dunlin_gossip::renewal`] from what nodes say of themselves in their headers; here it is
//! done: a new certificate is on disk before it is shown, and connections that stand do not notice. Keys never leave this
//! process but over a handover to a member, and never reach a log.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use dunlin_core::Node;
use dunlin_core::face::{EventKind, Input, Problem, ProblemKind};
use dunlin_gossip::face::{GossipInput, NoticeLevel};
use dunlin_gossip::id::{NodeId, hex};
use dunlin_gossip::model::{CertificateInfo, NodeHeader};
use dunlin_gossip::renewal::{self, Own, Step};
use dunlin_gossip::time::Instant;
use dunlin_gossip::wire::{Class, Kind, Record};
use dunlin_net::{Authority, Credentials, Handed, HandoverAsked, KeyError, Net, NetError, NodeKeys};
use tokio::sync::mpsc;

use crate::api::call::Rotated;
use crate::clock;
use crate::run::Agent;
use crate::settings::Settings;
use crate::setup::{Membership, SetupError};

/// Between two questions to the same member.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// Between two looks at what is to be done.
const LOOK: std::ops::RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(5);
/// Answers to handovers that wait for the loop.
const QUEUE: usize = 8;

/// Why a change did not happen. What was in force still is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CustodyError {
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error(transparent)]
    Net(#[from] NetError),
}

/// Makes sure that what the disk holds is good for a start: an agent that was away for longer than its certificate was good
/// makes a new one, by the authority as it knows it.
///
/// # Errors
/// If the disk refuses.
pub(crate) fn freshen(membership: Membership, settings: &Settings) -> Result<Membership, SetupError> {
    let Membership { keys, credentials } = membership;
    let lifetime = settings.certificate_lifetime;
    if !renewal::is_due(credentials.info().until, lifetime, clock::wall()) {
        return Ok(Membership { keys, credentials });
    }
    let credentials = credentials.renewed(&keys, lifetime)?;
    credentials.save(&settings.data_dir)?;
    Ok(Membership { keys, credentials })
}

/// What the agent keeps for it.
#[derive(Debug)]
pub(crate) struct Custody {
    keys: NodeKeys,
    data_dir: PathBuf,
    net: Net,
    pub(crate) lifetime: Duration,
    /// Since when the authority in force has been held, in this boot.
    since: Instant,
    asked: BTreeMap<NodeId, Instant>,
    handed: mpsc::Sender<Handed>,
    /// The last failure that was told, so that it is told once.
    told: Option<String>,
}

impl Custody {
    /// And where the authorities come in that members hand over.
    pub(crate) fn new(keys: NodeKeys, settings: &Settings, net: Net) -> (Self, mpsc::Receiver<Handed>) {
        let (handed, coming) = mpsc::channel(QUEUE);
        let (data_dir, lifetime) = (settings.data_dir.clone(), settings.certificate_lifetime);
        let (since, asked) = (clock::now(), BTreeMap::new());
        (Self { keys, data_dir, net, lifetime, since, asked, handed, told: None }, coming)
    }

    /// Between two looks.
    pub(crate) fn pause(&self) -> Duration {
        (self.lifetime / 30).clamp(*LOOK.start(), *LOOK.end())
    }

    /// What is to be done next.
    fn step(&self, node: &Node) -> Option<Step> {
        let credentials = self.net.credentials();
        let trusts_old = !credentials.previous.is_empty();
        let own = Own { info: credentials.info(), trusts_old, lifetime: self.lifetime, since: self.since };
        let others: Vec<_> = node
            .gossip()
            .members()
            .filter(|(id, _)| *id != self.keys.id())
            .map(|(id, state)| {
                let header = node.view().nodes().get(&id).and_then(|known| known.header.as_deref());
                (id, state, header.map_or_else(CertificateInfo::default, |header| header.certificate))
            })
            .collect();
        renewal::step(&own, others.into_iter(), clock::now(), clock::wall())
    }

    /// Puts credentials on disk, then in force.
    fn change(&mut self, to: Credentials) -> Result<(), CustodyError> {
        to.save(&self.data_dir)?;
        self.net.change_credentials(to)?;
        Ok(())
    }

    /// Asks a member for the authority in force there, on a task of its own.
    fn ask(&mut self, peer: NodeId) {
        let now = clock::now();
        self.asked.retain(|_, at| *at + ASK_AGAIN > now);
        if self.asked.contains_key(&peer) {
            return;
        }
        self.asked.insert(peer, now);
        let (net, handed) = (self.net.clone(), self.handed.clone());
        tokio::spawn(async move {
            match net.ask_for_authority(peer).await {
                // The loop that ended needs nothing any more.
                Ok(answer) => drop(handed.send(answer).await),
                Err(why) => tracing::debug!(%peer, %why, "the authority was not handed over"),
            }
        });
    }

    fn take(&mut self, handed: &Handed) -> Result<bool, CustodyError> {
        let own = self.net.credentials();
        let order = |authority: &Authority| (authority.serial(), authority.fingerprint());
        let (theirs, mine) = (order(&handed.authority), order(&own.authority));
        let under = match theirs.cmp(&mine) {
            Ordering::Less => return Ok(false),
            Ordering::Equal => own.clone(),
            Ordering::Greater => own.under(handed.authority.clone(), &handed.previous, &self.keys, self.lifetime)?,
        };
        // The flock has finished its change without us: what we show is trusted there no more.
        let is_trusted = under.previous.iter().any(|authority| handed.previous.contains(authority));
        let to = if is_trusted { under } else { under.showing() };
        if to.info() == own.info() {
            return Ok(false);
        }
        self.change(to)?;
        self.since = clock::now();
        Ok(true)
    }

    fn rotate(&mut self) -> Result<Credentials, CustodyError> {
        let rotated = self.net.credentials().rotated(&self.keys, self.lifetime)?;
        self.change(rotated.clone())?;
        self.since = clock::now();
        Ok(rotated)
    }
}

/// An authority's fingerprint as people see it.
pub(crate) fn fingerprint(credentials: &Credentials) -> String {
    hex(&credentials.authority.fingerprint())
}

impl Agent {
    /// Does what is due about certificates.
    pub(crate) fn look_after_certificates(&mut self) {
        // One step leads to the next: what a lone node has to change is changed at once.
        for _ in 0..4 {
            let Some(step) = self.custody.step(&self.node) else { return };
            let before = self.net.credentials();
            let (to, text) = match step {
                Step::Fetch(peer) => return self.custody.ask(peer),
                Step::Renew => {
                    (before.renewed(&self.custody.keys, self.custody.lifetime), "the certificate was renewed")
                }
                Step::Show => (Ok(before.showing()), "a certificate by the new authority is shown from now on"),
                Step::Retire => (Ok(before.retired()), "the old authority is trusted no more"),
            };
            match to.map_err(CustodyError::from).and_then(|to| self.custody.change(to)) {
                Ok(()) => self.credentials_changed(NoticeLevel::Info, text.to_owned()),
                Err(why) => return self.custody_failed(&why),
            }
        }
    }

    fn custody_failed(&mut self, why: &CustodyError) {
        let text = format!("the certificate could not be changed: {why}");
        if self.custody.told.as_ref() != Some(&text) {
            self.tell(NoticeLevel::Error, EventKind::Trust, text.clone());
            self.custody.told = Some(text);
        }
    }

    /// Tells everybody, in the header, what is held and shown.
    fn credentials_changed(&mut self, level: NoticeLevel, text: String) {
        self.custody.told = None;
        self.tell(level, EventKind::Trust, text);
        let own = self.node.view().nodes().get(&self.me).and_then(|known| known.header.as_deref());
        let Some(own) = own.cloned() else { return };
        self.handle(Input::Host(NodeHeader { certificate: self.net.credentials().info(), ..own }));
    }

    /// A member and we do not accept each other's certificates.
    pub(crate) fn on_stale(&mut self, peer: NodeId) {
        self.look_after_certificates();
        self.custody.ask(peer);
    }

    /// A member asks for the authority; who was removed goes with it.
    pub(crate) fn hand_over(&self, asked: HandoverAsked) {
        let removals = self.node.gossip().state().of_kind(Class::GrowOnly, Kind::REMOVAL);
        asked.answer(removals.map(|(_, record)| record.bytes().to_vec()).collect());
    }

    /// A member has handed over its authority.
    pub(crate) fn on_handed(&mut self, handed: &Handed) {
        // First who was removed: from here on none of them gets the authority from us.
        let facts = handed.facts.iter().filter_map(|bytes| Record::read(bytes).ok()).collect();
        self.handle(Input::Gossip(GossipInput::Facts(facts)));
        match self.custody.take(handed) {
            Ok(true) => {
                let by = crate::read::name(&self.node, handed.by);
                let text = format!("the authority in force was taken over from {by}");
                self.credentials_changed(NoticeLevel::Warn, text);
                self.look_after_certificates();
            }
            Ok(false) => {}
            Err(why) => self.custody_failed(&why),
        }
    }

    /// Makes a new authority, because an operator asks for it.
    pub(crate) fn rotate_for_operator(&mut self) -> Result<Rotated, Problem> {
        let from = fingerprint(&self.net.credentials());
        let unavailable = |why: CustodyError| Problem { kind: ProblemKind::Unavailable, text: why.to_string() };
        let rotated = self.custody.rotate().map_err(unavailable)?;
        let text = "a new authority was made; the old one is trusted until all nodes have moved".to_owned();
        self.credentials_changed(NoticeLevel::Warn, text);
        self.look_after_certificates();
        let tokens = self.node.view().tokens().keys().copied().collect();
        Ok(Rotated { from, to: fingerprint(&rotated), tokens })
    }
}
