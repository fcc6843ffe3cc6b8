//! TLS for QUIC: mutual, by the cluster's own authority, with the roster as the last word.
//!
//! A member is accepted if and only if its certificate is the authority's *and* the book admits its key. Names in
//! certificates mean nothing; a dialler says whom it expects. A member whose certificate has expired or is by an authority
//! that is trusted no more may ask for a handover and for nothing else. Sessions are never resumed, since a resumed session would skip
//! these checks after a removal. A newcomer has no certificate: it offers the join protocol alone and gets nothing else.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use dunlin_gossip::id::NodeId;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{IdleTimeout, TransportConfig, VarInt};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256};

use crate::authority::Credentials;
use crate::book::{Book, Standing};
use crate::error::NetError;
use crate::keys::{NodeKeys, certificate_key};

/// The protocol of members.
pub(crate) const MEMBER: &[u8] = b"dunlin/1";
/// The protocol of members that need the authority in force.
pub(crate) const HANDOVER: &[u8] = b"dunlin-handover/1";
/// The protocol of newcomers.
pub(crate) const JOIN: &[u8] = b"dunlin-join/1";
/// The TLS alert by which a member turns away a node that was removed.
pub(crate) const REMOVED_ALERT: AlertDescription = AlertDescription::CertificateRevoked;
/// The name under which a newcomer dials (it does not know whom).
pub(crate) const JOIN_NAME: &str = "join.dunlin";
/// Silence after which a connection is gone.
const IDLE: VarInt = VarInt::from_u32(10_000);
/// How often an idle connection says that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Streams that a peer may have open to us at once: its link and its requests.
const MAX_STREAMS: u32 = 64;
/// Bytes in flight per stream and per connection.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The cluster's authorities as roots of trust.
#[derive(Clone)]
pub(crate) struct Anchor {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Anchor").finish_non_exhaustive()
    }
}

impl Anchor {
    /// The authority in force and those that are still trusted.
    pub(crate) fn new(credentials: &Credentials) -> Result<Self, Error> {
        let previous = credentials.previous.iter().map(|certificate| &certificate[..]);
        Self::of(std::iter::once(credentials.authority.certificate()).chain(previous))
    }

    fn of<'a>(certificates: impl Iterator<Item = &'a [u8]>) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots.add(CertificateDer::from(certificate.to_vec()))?;
        }
        Ok(Self { roots: Arc::new(roots), provider: provider() })
    }

    /// Was this certificate made by the authority, and is it valid now?
    pub(crate) fn verify(&self, certificate: &[u8]) -> Result<(), Error> {
        self.verify_at(&CertificateDer::from(certificate), UnixTime::now())
    }

    pub(crate) fn verify_at(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        rustls::client::verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, &[], now, algorithms)
    }
}

/// How much of a certificate is judged during the handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Judge {
    /// The roster admits its key, and an authority that is trusted made it.
    All,
    /// The roster admits its key; for the rest, what the connection is for decides.
    Key,
}

/// Accepts members that the book admits.
#[derive(Debug)]
struct MemberVerifier {
    book: Arc<Book>,
    judge: Judge,
    provider: Arc<CryptoProvider>,
}

impl MemberVerifier {
    fn new(book: &Arc<Book>, judge: Judge) -> Arc<Self> {
        Arc::new(Self { book: Arc::clone(book), judge, provider: provider() })
    }

    fn check(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> Result<NodeId, Error> {
        let made_here = || {
            self.book.anchor().verify_at(certificate, now).map_err(|error| {
                Error::General(format!("the certificate was not accepted by this cluster's authority ({error})"))
            })
        };
        let key = certificate_key(certificate).map_err(|e| Error::General(e.to_string()))?;
        match self.book.standing(&key) {
            Standing::Admitted(node) | Standing::Forgotten(node) if self.judge == Judge::Key => Ok(node),
            Standing::Admitted(node) | Standing::Forgotten(node) => {
                made_here().inspect_err(|_| self.book.note_stale(node))?;
                Ok(node)
            }
            // The alert that this becomes tells the node that it was removed.
            Standing::Removed(_) => Err(Error::InvalidCertificate(CertificateError::Revoked)),
            Standing::Unknown(node) => {
                made_here()?;
                Err(Error::General(format!("the roster here does not admit node {node} (yet, or any more)")))
            }
        }
    }

    fn provider(&self) -> &CryptoProvider {
        &self.provider
    }
}

/// Verifies that the peer holds the certificate's key; the same for all our verifiers.
macro_rules! signatures {
    ($provider:ident) => {
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _cert: &CertificateDer<'_>,
            _dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::General("QUIC has TLS 1.3 only".into()))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.$provider().signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.$provider().signature_verification_algorithms.supported_schemes()
        }
    };
}

impl ClientCertVerifier for MemberVerifier {
    /// A newcomer has none; the endpoint refuses it everything but joining.
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity, now).map(|_| ClientCertVerified::assertion())
    }

    signatures!(provider);
}

impl ServerCertVerifier for MemberVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = self.check(end_entity, now)?;
        let name = server_name.to_str();
        if name == ANY_MEMBER || name == expected_name(found) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::General(format!("another node answers at this address: {found}")))
        }
    }

    signatures!(provider);
}

/// The TLS name under which a member is dialled of which only the address is known.
pub(crate) const ANY_MEMBER: &str = "member.dunlin";

/// The TLS name under which a node is dialled.
pub(crate) fn expected_name(node: NodeId) -> String {
    format!("n{node}.dunlin")
}

/// Accepts any member of the cluster whose authority has the token's fingerprint.
pub(crate) struct FingerprintVerifier {
    fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
    mismatch: Arc<AtomicBool>,
}

impl fmt::Debug for FingerprintVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FingerprintVerifier").finish_non_exhaustive()
    }
}

impl FingerprintVerifier {
    fn provider(&self) -> &CryptoProvider {
        &self.provider
    }
}

impl ServerCertVerifier for FingerprintVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = intermediates.iter().find(|c| <[u8; 32]>::from(Sha256::digest(c)) == self.fingerprint);
        let Some(authority) = authority else {
            self.mismatch.store(true, Ordering::Relaxed);
            return Err(Error::General("this host belongs to another cluster than the token".into()));
        };
        Anchor::of(std::iter::once(&authority[..]))?.verify_at(end_entity, now)?;
        Ok(ServerCertVerified::assertion())
    }

    signatures!(provider);
}

fn transport() -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(u64::from(CONNECTION_WINDOW))
        .initial_rtt(Duration::from_millis(100))
        .initial_mtu(1_200)
        .mtu_discovery_config(None)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::from(IDLE)));
    Arc::new(config)
}

/// The certificates that this node shows; they change while it runs, and connections that stand do not notice.
#[derive(Debug)]
pub(crate) struct Shown(RwLock<Pair>);

#[derive(Clone, Debug)]
struct Pair {
    to_members: Arc<CertifiedKey>,
    /// By the authority in force, which is the one that tokens name.
    to_newcomers: Arc<CertifiedKey>,
}

impl Shown {
    pub(crate) fn new(keys: &NodeKeys, credentials: &Credentials) -> Result<Arc<Self>, NetError> {
        Ok(Arc::new(Self(RwLock::new(Pair::new(keys, credentials)?))))
    }

    pub(crate) fn change(&self, keys: &NodeKeys, credentials: &Credentials) -> Result<(), NetError> {
        let pair = Pair::new(keys, credentials)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = pair;
        Ok(())
    }

    fn pair(&self) -> Pair {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Pair {
    fn new(keys: &NodeKeys, credentials: &Credentials) -> Result<Self, NetError> {
        let key =
            provider().key_provider.load_private_key(PrivateKeyDer::from(keys.tls_key())).map_err(config_error)?;
        let certified = |certificate: &[u8]| {
            let chain = [certificate, credentials.authority.certificate()];
            let chain = chain.into_iter().map(|c| CertificateDer::from(c.to_vec())).collect();
            let certified = CertifiedKey::new(chain, Arc::clone(&key));
            certified.keys_match().map_err(config_error)?;
            Ok::<_, NetError>(Arc::new(certified))
        };
        let to_members = certified(&credentials.certificate)?;
        let to_newcomers =
            credentials.next.as_ref().map_or_else(|| Ok(Arc::clone(&to_members)), |next| certified(next))?;
        Ok(Self { to_members, to_newcomers })
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let joins = hello.alpn().is_some_and(|mut protocols| protocols.any(|protocol| protocol == JOIN));
        let Pair { to_members, to_newcomers } = self.pair();
        Some(if joins { to_newcomers } else { to_members })
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.pair().to_members)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn config_error(error: impl fmt::Display) -> NetError {
    NetError::Keys(error.to_string())
}

/// What a node's endpoint serves: members and newcomers.
pub(crate) fn server(shown: &Arc<Shown>, book: &Arc<Book>) -> Result<quinn::ServerConfig, NetError> {
    // A certificate that is out of date is good for a handover; `serve` sees to it that it is good for nothing else.
    let verifier = MemberVerifier::new(book, Judge::Key);
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(config_error)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::clone(shown) as Arc<dyn ResolvesServerCert>);
    tls.alpn_protocols = vec![MEMBER.to_vec(), HANDOVER.to_vec(), JOIN.to_vec()];
    tls.max_early_data_size = 0;
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).map_err(config_error)?));
    config.transport_config(transport());
    Ok(config)
}

/// How a member dials members.
pub(crate) fn client(shown: &Arc<Shown>, book: &Arc<Book>) -> Result<quinn::ClientConfig, NetError> {
    member_client(shown, book, Judge::All, MEMBER)
}

/// How a member dials one from which it needs the authority in force.
pub(crate) fn heir(shown: &Arc<Shown>, book: &Arc<Book>) -> Result<quinn::ClientConfig, NetError> {
    member_client(shown, book, Judge::Key, HANDOVER)
}

fn member_client(
    shown: &Arc<Shown>,
    book: &Arc<Book>,
    judge: Judge,
    protocol: &[u8],
) -> Result<quinn::ClientConfig, NetError> {
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(config_error)?
        .dangerous()
        .with_custom_certificate_verifier(MemberVerifier::new(book, judge))
        .with_client_cert_resolver(Arc::clone(shown) as Arc<dyn ResolvesClientCert>);
    tls.alpn_protocols = vec![protocol.to_vec()];
    finish_client(tls)
}

/// How a newcomer dials; the flag is set if a host of another cluster answers.
pub(crate) fn newcomer(fingerprint: [u8; 32]) -> Result<(quinn::ClientConfig, Arc<AtomicBool>), NetError> {
    let mismatch = Arc::new(AtomicBool::new(false));
    let verifier = FingerprintVerifier { fingerprint, provider: provider(), mismatch: Arc::clone(&mismatch) };
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(config_error)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    tls.alpn_protocols = vec![JOIN.to_vec()];
    Ok((finish_client(tls)?, mismatch))
}

fn finish_client(mut tls: rustls::ClientConfig) -> Result<quinn::ClientConfig, NetError> {
    tls.resumption = Resumption::disabled();
    tls.enable_early_data = false;
    tls.enable_sni = true;
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).map_err(config_error)?));
    config.transport_config(transport());
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dials once and lets what the server may say about resumption arrive.
    async fn visit(endpoint: &quinn::Endpoint, config: &quinn::ClientConfig, node: NodeId, at: std::net::SocketAddr) {
        let connecting = endpoint.connect_with(config.clone(), at, &expected_name(node)).unwrap();
        let Err(connecting) = connecting.into_0rtt() else { panic!("early data would be sent, which can be replayed") };
        let connection = connecting.await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        connection.close(VarInt::from_u32(0), b"seen");
    }

    #[tokio::test]
    async fn no_session_is_resumed_and_no_early_data_is_taken() {
        let keys = NodeKeys::generate().unwrap();
        let credentials = Credentials::create_cluster(&keys).unwrap();
        let book = Arc::new(Book::new(Anchor::new(&credentials).unwrap()));
        let entry = dunlin_gossip::model::RosterEntry {
            node: keys.id(),
            name: dunlin_gossip::model::NodeName::new("n").unwrap(),
            certificate: credentials.certificate.to_vec(),
            seal_key: keys.seal_key(),
            addresses: Vec::new(),
            admitted_by: None,
            token: None,
            at: dunlin_gossip::time::Wall(0),
        };
        book.admit(&entry, &[]).unwrap();
        let shown = Shown::new(&keys, &credentials).unwrap();
        let loopback = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let host = quinn::Endpoint::server(server(&shown, &book).unwrap(), loopback).unwrap();
        let at = host.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            while let Some(incoming) = host.accept().await {
                incoming.await.unwrap().closed().await;
            }
        });
        // A client that would love to resume and to send early.
        let mut tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(MemberVerifier::new(&book, Judge::All))
            .with_client_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesClientCert>);
        tls.alpn_protocols = vec![MEMBER.to_vec()];
        tls.resumption = Resumption::in_memory_sessions(8);
        tls.enable_early_data = true;
        let eager = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let endpoint = quinn::Endpoint::client(loopback).unwrap();
        for _ in 0..3 {
            visit(&endpoint, &eager, keys.id(), at).await;
        }
        serving.abort();
    }
}
