//! Key pairs: made, kept on disk, never shown; and the form of key files.
//!
//! Two files under the data directory's `keys/`: `node` holds what this host is (its two secret keys), `cluster` holds what
//! it belongs to (authority and own certificate) and appears as one piece, so that a crash during a join leaves nothing half
//! done. Files are written beside, synced, renamed; only their owner may read them. No secret ever reaches a log.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use dunlin_gossip::id::{NodeId, hex};
use hkdf::Hkdf;
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _, SubjectPublicKeyInfo};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls_pki_types::PrivatePkcs8KeyDer;
use sha2::{Digest as _, Sha256};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// The folder in the data directory.
pub(crate) const FOLDER: &str = "keys";
/// First line of each key file, without its version.
const MAGIC: &str = "dunlin keys ";
/// The version that this program writes.
const VERSION: u32 = 1;

/// What went wrong with keys. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The operating system refused.
    #[error("{path}: {source}; check the data directory's owner, mode and free space")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what was written.
    #[error(
        "{path} is damaged ({what}); restore it from a backup, or start this node anew with an empty data directory"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// In what way.
        what: &'static str,
    },
    /// A newer program wrote it.
    #[error("{path} was written by a newer dunlin (key format {found}); use that version or a later one")]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A foreign key or certificate is malformed.
    #[error("{what} is malformed: {detail}")]
    Malformed {
        /// What.
        what: &'static str,
        /// How.
        detail: String,
    },
    /// The operating system has no randomness.
    #[error("the operating system gave no randomness")]
    Entropy,
}

/// Fills an array from the operating system's generator.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError::Entropy)?;
    Ok(bytes)
}

/// The node id that belongs to a public key (its DER subject public key info).
#[must_use]
pub fn node_id(public_key: &[u8]) -> NodeId {
    let [id, _] = halves(Sha256::digest(public_key).into());
    NodeId(id)
}

fn halves(digest: [u8; 32]) -> [[u8; 16]; 2] {
    let mut out = [[0; 16]; 2];
    out[0].copy_from_slice(&digest[..16]);
    out[1].copy_from_slice(&digest[16..]);
    out
}

/// The public key (DER subject public key info) inside a certificate.
///
/// # Errors
/// If the bytes are no certificate.
pub fn certificate_key(certificate: &[u8]) -> Result<Vec<u8>, KeyError> {
    let malformed = |detail: String| KeyError::Malformed { what: "the certificate", detail };
    let (rest, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|e| malformed(e.to_string()))?;
    if !rest.is_empty() {
        return Err(malformed("bytes after its end".into()));
    }
    Ok(parsed.public_key().raw.to_vec())
}

pub(crate) fn malformed(what: &'static str) -> impl Fn(rcgen::Error) -> KeyError {
    move |error| KeyError::Malformed { what, detail: error.to_string() }
}

pub(crate) fn key_pair(pkcs8: &[u8], what: &'static str) -> Result<KeyPair, KeyError> {
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8), &rcgen::PKCS_ECDSA_P256_SHA256)
        .map_err(malformed(what))
}

/// A node's two secret keys: one signs (TLS), one seals packets. Cheap to clone.
#[derive(Clone)]
pub struct NodeKeys {
    tls: Arc<KeyPair>,
    seal: StaticSecret,
    public: Arc<[u8]>,
    id: NodeId,
}

impl fmt::Debug for NodeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeKeys").field("id", &self.id).finish_non_exhaustive()
    }
}

impl NodeKeys {
    /// New keys, hence a new identity.
    ///
    /// # Errors
    /// Only if the system has no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let tls = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(malformed("a new key"))?;
        let seal = Zeroizing::new(random::<32>()?);
        Ok(Self::assemble(tls, StaticSecret::from(*seal)))
    }

    fn assemble(tls: KeyPair, seal: StaticSecret) -> Self {
        let public: Arc<[u8]> = tls.subject_public_key_info().into();
        let id = node_id(&public);
        Self { tls: Arc::new(tls), seal, public, id }
    }

    /// The keys that the data directory holds, or none.
    ///
    /// # Errors
    /// If the file is unreadable, damaged or of a newer version.
    pub fn load(data: &Path) -> Result<Option<Self>, KeyError> {
        let path = data.join(FOLDER).join("node");
        let Some([tls, seal]) = read(&path, ["tls", "seal"])? else { return Ok(None) };
        let seal: [u8; 32] =
            seal.as_slice().try_into().map_err(|_| damaged(&path, "its sealing key has another length"))?;
        let tls = key_pair(&tls, "the node's key").map_err(|_| damaged(&path, "its TLS key cannot be read"))?;
        Ok(Some(Self::assemble(tls, StaticSecret::from(seal))))
    }

    /// Writes the keys, whole and synced, readable for their owner only.
    ///
    /// # Errors
    /// If the disk refuses; then the old file, if any, still stands.
    pub fn save(&self, data: &Path) -> Result<(), KeyError> {
        let seal = Zeroizing::new(self.seal.to_bytes());
        write(data, "node", [("tls", self.tls.serialized_der()), ("seal", seal.as_slice())])
    }

    /// The identity.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// The TLS public key, DER subject public key info.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        &self.public
    }

    /// The public half of the sealing key.
    #[must_use]
    pub fn seal_key(&self) -> [u8; 32] {
        PublicKey::from(&self.seal).to_bytes()
    }

    pub(crate) fn seal_secret(&self) -> StaticSecret {
        self.seal.clone()
    }

    pub(crate) fn tls_key(&self) -> PrivatePkcs8KeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.tls.serialized_der().to_vec())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.tls.sign(message).map_err(malformed("a signature"))
    }

    /// A secret for one purpose that is the same after each restart (stateless reset, connection ids).
    pub(crate) fn derive<const N: usize>(&self, purpose: &str) -> Zeroizing<[u8; N]> {
        let mut out = Zeroizing::new([0; N]);
        let kdf = Hkdf::<Sha256>::new(Some(b"dunlin local secret"), self.tls.serialized_der());
        if kdf.expand(purpose.as_bytes(), out.as_mut_slice()).is_err() {
            unreachable!("HKDF-SHA256 gives up to 8160 bytes");
        }
        out
    }
}

/// Does a signature by the key of this DER subject public key info stand under the message?
pub(crate) fn verifies(public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let Ok(key) = SubjectPublicKeyInfo::from_der(public_key) else { return false };
    if key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
        return false;
    }
    let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_ASN1, key.der_bytes());
    key.verify(message, signature).is_ok()
}

pub(crate) fn damaged(path: &Path, what: &'static str) -> KeyError {
    KeyError::Damaged { path: path.to_owned(), what }
}

fn sum(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes())[..16])
}

pub(crate) fn write<const N: usize>(data: &Path, name: &str, fields: [(&str, &[u8]); N]) -> Result<(), KeyError> {
    let folder = data.join(FOLDER);
    let mut text = Zeroizing::new(format!("{MAGIC}{VERSION}\n"));
    for (label, bytes) in fields {
        let value = Zeroizing::new(BASE64.encode(bytes));
        text.push_str(&format!("{label} {}\n", *value));
    }
    let check = sum(&text);
    text.push_str(&format!("sum {check}\n"));
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| KeyError::Io { path, source }
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(fail(&folder))?;
    let (path, beside) = (folder.join(name), folder.join(format!("{name}.new")));
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&beside).map_err(fail(&beside))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(fail(&beside))?;
    fs::rename(&beside, &path).map_err(fail(&path))?;
    fs::File::open(&folder).and_then(|f| f.sync_all()).map_err(fail(&folder))
}

/// The fields of a key file in the given order.
pub(crate) fn read<const N: usize>(
    path: &Path,
    labels: [&str; N],
) -> Result<Option<[Zeroizing<Vec<u8>>; N]>, KeyError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(damaged(path, "it is not text")),
        Err(source) => return Err(KeyError::Io { path: path.to_owned(), source }),
    };
    let version = text.lines().next().and_then(|line| line.strip_prefix(MAGIC)).and_then(|v| v.parse::<u32>().ok());
    match version {
        Some(VERSION) => {}
        Some(found) if found > VERSION => return Err(KeyError::Newer { path: path.to_owned(), found }),
        Some(_) | None => return Err(damaged(path, "its first line is not that of a key file")),
    }
    let (body, check) = text.rsplit_once("sum ").ok_or_else(|| damaged(path, "its end is missing"))?;
    if check.trim_end() != sum(body) {
        return Err(damaged(path, "its checksum is wrong"));
    }
    let mut fields: [Zeroizing<Vec<u8>>; N] = std::array::from_fn(|_| Zeroizing::new(Vec::new()));
    for (slot, label) in fields.iter_mut().zip(labels) {
        let value = body.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(' '));
        let bytes = value.and_then(|value| BASE64.decode(value).ok());
        *slot = Zeroizing::new(bytes.ok_or_else(|| damaged(path, "a field is missing"))?);
    }
    Ok(Some(fields))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Credentials;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn keys_survive_the_disk_and_stay_private() {
        let dir = tempfile::tempdir().unwrap();
        assert!(NodeKeys::load(dir.path()).unwrap().is_none());
        let keys = NodeKeys::generate().unwrap();
        let cluster = Credentials::create_cluster(&keys).unwrap();
        keys.save(dir.path()).unwrap();
        cluster.save(dir.path()).unwrap();
        let back = NodeKeys::load(dir.path()).unwrap().unwrap();
        assert_eq!((back.id(), back.seal_key()), (keys.id(), keys.seal_key()));
        assert_eq!(*back.derive::<8>("x"), *keys.derive::<8>("x"));
        let again = Credentials::load(dir.path()).unwrap().unwrap();
        assert_eq!(again.cluster, cluster.cluster);
        assert_eq!(again.authority.fingerprint(), cluster.authority.fingerprint());
        assert_eq!(certificate_key(&again.certificate).unwrap(), keys.public_key());
        let mode = fs::metadata(dir.path().join("keys/node")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn damage_and_newer_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/node");
        NodeKeys::generate().unwrap().save(dir.path()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen("seal ", "seal A", 1)).unwrap();
        assert!(matches!(NodeKeys::load(dir.path()), Err(KeyError::Damaged { .. })));
        fs::write(&path, &text[..text.len() / 2]).unwrap();
        assert!(matches!(NodeKeys::load(dir.path()), Err(KeyError::Damaged { .. })));
        fs::write(&path, text.replacen("keys 1", "keys 2", 1)).unwrap();
        assert!(matches!(NodeKeys::load(dir.path()), Err(KeyError::Newer { found: 2, .. })));
    }

    #[test]
    fn debug_hides_secrets() {
        let keys = NodeKeys::generate().unwrap();
        let cluster = Credentials::create_cluster(&keys).unwrap();
        let shown = format!("{keys:?} {cluster:?}");
        let secret = BASE64.encode(keys.seal.to_bytes());
        assert!(!shown.contains(&secret) && !shown.contains(&hex(&keys.seal.to_bytes())), "{shown}");
    }

    #[test]
    fn signatures_are_checked() {
        let keys = NodeKeys::generate().unwrap();
        let signature = keys.sign(b"a").unwrap();
        assert!(verifies(keys.public_key(), b"a", &signature));
        assert!(!verifies(keys.public_key(), b"b", &signature));
        assert!(!verifies(b"junk", b"a", &signature));
    }
}
