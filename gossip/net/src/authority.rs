//! The cluster's authority and what it certifies: made, handed from member to member, kept on disk, never shown.
//!
//! Every member holds the authority's key, since every member can admit. An authority's serial number is the time at which it
//! was made, and the greatest one is in force: nodes that never met agree on which that is. The file `keys/cluster` holds all
//! of it and changes as one piece, so that a crash leaves either the old or the new.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dunlin_gossip::id::{ClusterId, hex};
use dunlin_gossip::model::CertificateInfo;
use dunlin_gossip::time::Wall;
use dunlin_gossip::wire::codec;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::keys::{
    FOLDER, KeyError, NodeKeys, certificate_key, damaged, key_pair, malformed, node_id, random, read, write,
};

/// Validity of an authority in years; it is changed by hand, never by time.
const AUTHORITY_YEARS: u64 = 10;
/// Authorities that are trusted besides the one in force, at most; the oldest go first.
const MAX_PREVIOUS: usize = 4;
/// How long a certificate is good unless it is said.
pub const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3_600);

/// The cluster's authority. Every member holds its key, since every member can admit.
#[derive(Clone)]
pub struct Authority {
    certificate: Arc<[u8]>,
    key: Arc<KeyPair>,
    serial: u64,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("fingerprint", &hex(&self.fingerprint()[..8])).finish_non_exhaustive()
    }
}

impl Authority {
    fn generate(cluster: ClusterId, serial: u64) -> Result<Self, KeyError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(malformed("a new key"))?;
        let mut params = params(&name(cluster, serial), Duration::from_secs(AUTHORITY_YEARS * 31_556_952));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(SerialNumber::from(serial));
        let certificate = params.self_signed(&key).map_err(malformed("the authority"))?;
        Ok(Self { certificate: certificate.der().as_ref().into(), key: Arc::new(key), serial })
    }

    pub(crate) fn from_parts(certificate: &[u8], key: &[u8]) -> Result<Self, KeyError> {
        let key = key_pair(key, "the authority's key")?;
        if certificate_key(certificate)? != key.subject_public_key_info() {
            return Err(KeyError::Malformed { what: "the authority", detail: "its key belongs to another".into() });
        }
        let serial = serial_of(certificate)?;
        Ok(Self { certificate: certificate.into(), key: Arc::new(key), serial })
    }

    /// Its certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// When it was made, in milliseconds since 1970; of two authorities of a cluster the greater is in force.
    #[must_use]
    pub const fn serial(&self) -> u64 {
        self.serial
    }

    /// SHA-256 of its certificate; what a join token carries.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.certificate).into()
    }

    pub(crate) fn key_der(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.key.serialize_der())
    }

    /// A certificate (DER) for the node that owns this public key (DER subject public key info), good for so long.
    ///
    /// # Errors
    /// If the bytes are no P-256 key.
    pub fn certify(&self, public_key: &[u8], lifetime: Duration) -> Result<Vec<u8>, KeyError> {
        let subject = SubjectPublicKeyInfo::from_der(public_key).map_err(malformed("the public key"))?;
        if subject.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
            return Err(KeyError::Malformed { what: "the public key", detail: "it is not ECDSA P-256".into() });
        }
        let mut params = params(&node_id(public_key).to_string(), lifetime);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(&self.certificate[..]), &*self.key)
            .map_err(malformed("the authority"))?;
        let certificate = params.signed_by(&subject, &issuer).map_err(malformed("the public key"))?;
        Ok(certificate.der().as_ref().to_vec())
    }
}

fn name(cluster: ClusterId, serial: u64) -> String {
    format!("dunlin cluster {cluster} authority {serial}")
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn params(common_name: &str, lifetime: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    // A host whose clock stands back must still be able to take part, so validity begins well in the past.
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs((now() + lifetime).as_secs());
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn parsed(certificate: &[u8]) -> Result<x509_parser::certificate::X509Certificate<'_>, KeyError> {
    let bad = |detail: String| KeyError::Malformed { what: "the certificate", detail };
    x509_parser::parse_x509_certificate(certificate).map(|(_, parsed)| parsed).map_err(|e| bad(e.to_string()))
}

fn serial_of(certificate: &[u8]) -> Result<u64, KeyError> {
    let parsed = parsed(certificate)?;
    let [high @ .., _, _, _, _, _, _, _, _] = parsed.raw_serial() else {
        return Ok(parsed.raw_serial().iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
    };
    if high.iter().any(|byte| *byte != 0) {
        return Err(KeyError::Malformed { what: "the authority", detail: "its serial number is too large".into() });
    }
    Ok(parsed.raw_serial().iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

/// Until when a certificate is good.
///
/// # Errors
/// If the bytes are no certificate.
pub fn certificate_end(certificate: &[u8]) -> Result<Wall, KeyError> {
    let seconds = u64::try_from(parsed(certificate)?.validity().not_after.timestamp()).unwrap_or(0);
    Ok(Wall(seconds.saturating_mul(1_000)))
}

/// What this node belongs to: the cluster, its authority, and the own certificate.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its authority that is in force.
    pub authority: Authority,
    /// Certificates (DER) of earlier authorities that are still trusted.
    pub previous: Vec<Arc<[u8]>>,
    /// The own certificate, DER, as it is shown to members.
    pub certificate: Arc<[u8]>,
    /// The one by the authority in force, while the one shown is still by an earlier authority.
    pub next: Option<Arc<[u8]>>,
}

impl Credentials {
    /// A new cluster with this node as its first.
    ///
    /// # Errors
    /// Only if the system has no randomness.
    pub fn create_cluster(me: &NodeKeys) -> Result<Self, KeyError> {
        let cluster = ClusterId(random()?);
        let authority = Authority::generate(cluster, u64::try_from(now().as_millis()).unwrap_or(0))?;
        let certificate = authority.certify(me.public_key(), CERTIFICATE_LIFETIME)?.into();
        Ok(Self { cluster, authority, previous: Vec::new(), certificate, next: None })
    }

    /// What this node says of its certificate.
    #[must_use]
    pub fn info(&self) -> CertificateInfo {
        let shows = if self.next.is_some() { self.shown_by() } else { self.authority.serial };
        let until = certificate_end(&self.certificate).unwrap_or(Wall(0));
        CertificateInfo { holds: self.authority.serial, shows, until }
    }

    fn shown_by(&self) -> u64 {
        let issuer = parsed(&self.certificate).map(|own| own.issuer().as_raw().to_vec()).unwrap_or_default();
        let made_it = |authority: &&Arc<[u8]>| parsed(authority).is_ok_and(|made| made.subject().as_raw() == issuer);
        self.previous.iter().find(made_it).and_then(|authority| serial_of(authority).ok()).unwrap_or(0)
    }

    /// The same with a certificate that begins now.
    ///
    /// # Errors
    /// [`KeyError`]; hardly ever.
    pub fn renewed(&self, me: &NodeKeys, lifetime: Duration) -> Result<Self, KeyError> {
        let certificate = self.authority.certify(me.public_key(), lifetime)?.into();
        Ok(Self { certificate, next: None, ..self.clone() })
    }

    /// The same with a new authority, made here.
    ///
    /// # Errors
    /// Only if the system has no randomness.
    pub fn rotated(&self, me: &NodeKeys, lifetime: Duration) -> Result<Self, KeyError> {
        let serial = u64::try_from(now().as_millis()).unwrap_or(0).max(self.authority.serial + 1);
        self.under(Authority::generate(self.cluster, serial)?, &[], me, lifetime)
    }

    /// The same under an authority that is in force instead of ours; ours and these stay trusted for now.
    ///
    /// # Errors
    /// If it is not this cluster's.
    pub fn under(
        &self,
        authority: Authority,
        previous: &[Arc<[u8]>],
        me: &NodeKeys,
        lifetime: Duration,
    ) -> Result<Self, KeyError> {
        let expected = name(self.cluster, authority.serial);
        let subject = parsed(&authority.certificate)?.subject().to_string();
        if subject != format!("CN={expected}") {
            return Err(KeyError::Malformed { what: "the authority", detail: format!("it is of {subject}") });
        }
        let next = Some(authority.certify(me.public_key(), lifetime)?.into());
        let mut trusted = vec![Arc::from(self.authority.certificate())];
        for other in self.previous.iter().chain(previous) {
            if !trusted.contains(other) && other[..] != authority.certificate[..] {
                trusted.push(Arc::clone(other));
            }
        }
        trusted.truncate(MAX_PREVIOUS);
        Ok(Self { authority, previous: trusted, next, ..self.clone() })
    }

    /// The same, showing the certificate of the authority in force.
    #[must_use]
    pub fn showing(&self) -> Self {
        let certificate = self.next.clone().unwrap_or_else(|| Arc::clone(&self.certificate));
        Self { certificate, next: None, ..self.clone() }
    }

    /// The same, trusting the authority in force alone.
    #[must_use]
    pub fn retired(&self) -> Self {
        Self { previous: Vec::new(), ..self.showing() }
    }

    /// What the data directory holds, or none.
    ///
    /// # Errors
    /// If the file is unreadable, damaged or of a newer version.
    pub fn load(data: &Path) -> Result<Option<Self>, KeyError> {
        let path = data.join(FOLDER).join("cluster");
        let labels = ["cluster", "ca", "ca-key", "certificate", "previous", "next"];
        let Some([cluster, ca, key, certificate, previous, next]) = read(&path, labels)? else {
            return Ok(None);
        };
        let cluster = cluster.as_slice().try_into().map_err(|_| damaged(&path, "its cluster id has another length"))?;
        let authority = Authority::from_parts(&ca, &key).map_err(|_| damaged(&path, "its authority cannot be read"))?;
        let previous: Vec<Arc<[u8]>> =
            codec::decode(&previous).map_err(|_| damaged(&path, "its earlier authorities cannot be read"))?;
        let next = (!next.is_empty()).then(|| next.as_slice().into());
        let certificate = certificate.as_slice().into();
        Ok(Some(Self { cluster: ClusterId(cluster), authority, previous, certificate, next }))
    }

    /// Writes them, whole and synced, readable for their owner only.
    ///
    /// # Errors
    /// If the disk refuses; then the old file, if any, still stands.
    pub fn save(&self, data: &Path) -> Result<(), KeyError> {
        let key = self.authority.key_der();
        let previous = codec::encode(&self.previous);
        write(
            data,
            "cluster",
            [
                ("cluster", &self.cluster.0[..]),
                ("ca", self.authority.certificate()),
                ("ca-key", &key),
                ("certificate", &self.certificate),
                ("previous", &previous),
                ("next", self.next.as_deref().unwrap_or_default()),
            ],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Anchor;

    const DAY: Duration = Duration::from_secs(24 * 3_600);

    #[test]
    fn a_rotation_goes_on_from_the_disk_and_ends_with_one_authority() {
        let dir = tempfile::tempdir().unwrap();
        let me = NodeKeys::generate().unwrap();
        let first = Credentials::create_cluster(&me).unwrap();
        assert_eq!((first.info().holds, first.info().shows), (first.authority.serial(), first.authority.serial()));
        let second = first.rotated(&me, DAY).unwrap();
        assert!(second.authority.serial() > first.authority.serial());
        second.save(dir.path()).unwrap();
        let second = Credentials::load(dir.path()).unwrap().unwrap();
        assert_eq!((second.info().holds, second.info().shows), (second.authority.serial(), first.authority.serial()));
        assert_eq!(second.certificate, first.certificate, "the one that everybody can read is shown");
        let shown = second.showing();
        assert_eq!(shown.info().shows, shown.authority.serial());
        let [old, both, new] = [&first, &shown, &shown.retired()].map(|c| Anchor::new(c).unwrap());
        let [by_old, by_new] = [&first.certificate, &shown.certificate];
        assert!(old.verify(by_old).is_ok() && both.verify(by_old).is_ok() && both.verify(by_new).is_ok());
        assert!(old.verify(by_new).is_err() && new.verify(by_old).is_err() && new.verify(by_new).is_ok());
    }

    #[test]
    fn another_clusters_authority_is_not_taken_over() {
        let me = NodeKeys::generate().unwrap();
        let [mine, theirs] = [(); 2].map(|()| Credentials::create_cluster(&me).unwrap());
        assert!(mine.under(theirs.authority, &[], &me, DAY).is_err());
    }

    #[test]
    fn a_certificate_ends_when_it_was_said() {
        let me = NodeKeys::generate().unwrap();
        let made = Credentials::create_cluster(&me).unwrap().renewed(&me, DAY).unwrap();
        let until = made.info().until.0 / 1_000;
        let left = until - now().as_secs();
        assert!((DAY.as_secs() - 2..=DAY.as_secs()).contains(&left), "{left}");
        let expired = made.renewed(&me, Duration::ZERO).unwrap();
        let anchor = Anchor::new(&expired).unwrap();
        let told = anchor.verify_at(&CertificateDer::from(&expired.certificate[..]), later()).unwrap_err();
        assert!(told.to_string().contains("xpired"), "{told}");
    }

    fn later() -> rustls_pki_types::UnixTime {
        rustls_pki_types::UnixTime::since_unix_epoch(now() + Duration::from_secs(2))
    }
}
