//! TLS for QUIC: mutual, by the cluster's own authority, with the roster as the last word.
//!
//! A member is accepted if and only if its certificate is the authority's *and* the book admits its key. Names in
//! certificates mean nothing; a dialler says whom it expects. Sessions are never resumed, since a resumed session would skip
//! these checks after a removal. A newcomer has no certificate: it offers the join protocol alone and gets nothing else.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dunlin_gossip::id::NodeId;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{IdleTimeout, TransportConfig, VarInt};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256};

use crate::book::Book;
use crate::error::NetError;
use crate::keys::{Credentials, NodeKeys, certificate_key, node_id};

/// The protocol of members.
pub(crate) const MEMBER: &[u8] = b"dunlin/1";
/// The protocol of newcomers.
pub(crate) const JOIN: &[u8] = b"dunlin-join/1";
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

/// The authority as a root of trust.
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
    pub(crate) fn new(certificate: &[u8]) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(certificate.to_vec()))?;
        Ok(Self { roots: Arc::new(roots), provider: provider() })
    }

    /// Was this certificate made by the authority, and is it valid now?
    pub(crate) fn verify(&self, certificate: &[u8]) -> Result<(), Error> {
        self.verify_at(&CertificateDer::from(certificate), UnixTime::now())
    }

    fn verify_at(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        rustls::client::verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, &[], now, algorithms)
    }
}

/// Accepts members that the book admits.
#[derive(Debug)]
struct MemberVerifier {
    book: Arc<Book>,
}

impl MemberVerifier {
    fn check(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> Result<NodeId, Error> {
        self.book.anchor().verify_at(certificate, now).map_err(|error| {
            Error::General(format!("the certificate was not accepted by this cluster's authority ({error})"))
        })?;
        let key = certificate_key(certificate).map_err(|e| Error::General(e.to_string()))?;
        self.book.admits(&key).ok_or_else(|| {
            Error::General(format!("the roster here does not admit node {} (yet, or any more)", node_id(&key)))
        })
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

impl MemberVerifier {
    fn provider(&self) -> &CryptoProvider {
        &self.book.anchor().provider
    }
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
        if server_name.to_str() == expected_name(found) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::General(format!("another node answers at this address: {found}")))
        }
    }

    signatures!(provider);
}

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
        Anchor::new(authority)?.verify_at(end_entity, now)?;
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

fn chain(credentials: &Credentials) -> Vec<CertificateDer<'static>> {
    let own = CertificateDer::from(credentials.certificate.to_vec());
    vec![own, CertificateDer::from(credentials.authority.certificate().to_vec())]
}

fn config_error(error: impl fmt::Display) -> NetError {
    NetError::Keys(error.to_string())
}

/// What a node's endpoint serves: members and newcomers.
pub(crate) fn server(
    keys: &NodeKeys,
    credentials: &Credentials,
    book: &Arc<Book>,
) -> Result<quinn::ServerConfig, NetError> {
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(config_error)?
        .with_client_cert_verifier(Arc::new(MemberVerifier { book: Arc::clone(book) }))
        .with_single_cert(chain(credentials), PrivateKeyDer::from(keys.tls_key()))
        .map_err(config_error)?;
    tls.alpn_protocols = vec![MEMBER.to_vec(), JOIN.to_vec()];
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).map_err(config_error)?));
    config.transport_config(transport());
    Ok(config)
}

/// How a member dials members.
pub(crate) fn client(
    keys: &NodeKeys,
    credentials: &Credentials,
    book: &Arc<Book>,
) -> Result<quinn::ClientConfig, NetError> {
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(config_error)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(MemberVerifier { book: Arc::clone(book) }))
        .with_client_auth_cert(chain(credentials), PrivateKeyDer::from(keys.tls_key()))
        .map_err(config_error)?;
    tls.alpn_protocols = vec![MEMBER.to_vec()];
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
    tls.enable_sni = true;
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).map_err(config_error)?));
    config.transport_config(transport());
    Ok(config)
}
