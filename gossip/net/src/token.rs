//! Join tokens as text: `dunlin1.` and 160 characters that carry the way in.
//!
//! A token names the cluster, proves it (the fingerprint of its authority, so that a newcomer cannot be lured elsewhere), and
//! carries a secret of which the cluster keeps only the hash. A checksum finds a mistyped character before anything is sent.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use dunlin_gossip::id::{ClusterId, NodeId};
use dunlin_gossip::model::TokenId;
use dunlin_gossip::time::Wall;
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use crate::keys::{KeyError, random};

const PREFIX: &str = "dunlin1.";
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const BODY: usize = 112;
const SUM: usize = 8;
/// Characters after the prefix; a multiple of four, so that each character carries six bits of meaning.
const TEXT: usize = (BODY + SUM) / 3 * 4;

const _: () = assert!((BODY + SUM).is_multiple_of(3));

/// Why a text is no usable token.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenError {
    /// It does not begin like one.
    #[error("this is no join token: one begins with '{PREFIX}'; make one with 'dunlin token create' on any member")]
    NotAToken,
    /// A newer program made it.
    #[error("this join token was made by a newer dunlin (format {0}); install that version on this host")]
    Newer(u32),
    /// Something was cut off or added.
    #[error("the join token has {found} characters instead of {}; copy it whole, in one line", TEXT + PREFIX.len())]
    Length {
        /// How many there are.
        found: usize,
    },
    /// A character that no token holds.
    #[error("character {position} of the join token ('{character}') cannot be part of one; copy it again")]
    BadCharacter {
        /// Where, from 1.
        position: usize,
        /// Which.
        character: char,
    },
    /// Exactly one character is wrong.
    #[error("character {position} of the join token is wrong; copy it again")]
    OneWrong {
        /// Where, from 1.
        position: usize,
    },
    /// The checksum is wrong in more than one place.
    #[error("the join token is damaged (several characters are wrong); copy it again")]
    Damaged,
}

/// A join token.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The cluster to which it leads.
    pub cluster: ClusterId,
    /// SHA-256 of the cluster authority's certificate.
    pub fingerprint: [u8; 32],
    /// The node that issued it.
    pub issuer: NodeId,
    /// Its public id.
    pub id: TokenId,
    /// Not good from then on.
    pub expires: Wall,
    secret: [u8; 32],
}

impl Drop for JoinToken {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("cluster", &self.cluster).field("id", &self.id).finish_non_exhaustive()
    }
}

/// The hash under which the cluster knows a token's secret.
pub(crate) fn secret_hash(secret: &[u8; 32]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

impl JoinToken {
    /// A new token with a fresh id and secret.
    ///
    /// # Errors
    /// Only if the system has no randomness.
    pub fn generate(
        cluster: ClusterId,
        fingerprint: [u8; 32],
        issuer: NodeId,
        expires: Wall,
    ) -> Result<Self, KeyError> {
        let id = TokenId(u64::from_be_bytes(random()?));
        Ok(Self { cluster, fingerprint, issuer, id, expires, secret: random()? })
    }

    /// The hash of its secret, which is all that the cluster keeps.
    #[must_use]
    pub fn secret_hash(&self) -> [u8; 32] {
        secret_hash(&self.secret)
    }

    pub(crate) const fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// The text that is handed to an operator. It is a secret.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut body = Zeroizing::new(Vec::with_capacity(BODY + SUM));
        body.extend_from_slice(&self.cluster.0);
        body.extend_from_slice(&self.fingerprint);
        body.extend_from_slice(&self.issuer.0);
        body.extend_from_slice(&self.id.0.to_be_bytes());
        body.extend_from_slice(&self.secret);
        body.extend_from_slice(&self.expires.0.to_be_bytes());
        let sum = checksum(&body);
        body.extend_from_slice(&sum);
        Zeroizing::new(format!("{PREFIX}{}", *Zeroizing::new(BASE64.encode(&*body))))
    }

    /// Reads a token's text; white space around it does not matter.
    ///
    /// # Errors
    /// [`TokenError`] says what is wrong and where.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let (version, body) =
            text.strip_prefix("dunlin").and_then(|t| t.split_once('.')).ok_or(TokenError::NotAToken)?;
        match version.parse::<u32>() {
            Ok(1) => {}
            Ok(newer @ 2..) => return Err(TokenError::Newer(newer)),
            Ok(0) | Err(_) => return Err(TokenError::NotAToken),
        }
        if let Some((at, character)) = body.chars().enumerate().find(|(_, c)| !is_ours(*c)) {
            return Err(TokenError::BadCharacter { position: PREFIX.len() + at + 1, character });
        }
        if body.len() != TEXT {
            return Err(TokenError::Length { found: PREFIX.len() + body.len() });
        }
        match open(body.as_bytes()) {
            Some(bytes) => Self::from_bytes(&bytes).ok_or(TokenError::Damaged),
            None => {
                Err(culprit(body.as_bytes()).map_or(TokenError::Damaged, |position| TokenError::OneWrong { position }))
            }
        }
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (cluster, rest) = bytes.split_first_chunk()?;
        let (fingerprint, rest) = rest.split_first_chunk()?;
        let (issuer, rest) = rest.split_first_chunk()?;
        let (id, rest) = rest.split_first_chunk()?;
        let (secret, rest) = rest.split_first_chunk()?;
        let (expires, _) = rest.split_first_chunk()?;
        Some(Self {
            cluster: ClusterId(*cluster),
            fingerprint: *fingerprint,
            issuer: NodeId(*issuer),
            id: TokenId(u64::from_be_bytes(*id)),
            expires: Wall(u64::from_be_bytes(*expires)),
            secret: *secret,
        })
    }
}

fn is_ours(c: char) -> bool {
    u8::try_from(c).is_ok_and(|b| ALPHABET.contains(&b))
}

fn checksum(body: &[u8]) -> [u8; SUM] {
    let mut out = [0; SUM];
    out.copy_from_slice(&Sha256::digest(body)[..SUM]);
    out
}

/// The decoded bytes if their checksum is right.
fn open(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = Zeroizing::new(BASE64.decode(text).ok()?);
    let (body, sum) = bytes.split_at_checked(BODY)?;
    (checksum(body) == sum).then_some(bytes)
}

/// The position (from 1, in the whole token) of the one wrong character: the place where some other one makes it right.
fn culprit(text: &[u8]) -> Option<usize> {
    let mut trial = Zeroizing::new(text.to_vec());
    for at in 0..text.len() {
        for &candidate in ALPHABET {
            *trial.get_mut(at)? = candidate;
            if open(&trial).is_some() {
                return Some(PREFIX.len() + at + 1);
            }
        }
        *trial.get_mut(at)? = *text.get(at)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken::generate(ClusterId([1; 16]), [2; 32], NodeId([3; 16]), Wall(1_234)).unwrap()
    }

    #[test]
    fn text_round_trips() {
        let token = token();
        let text = token.to_text();
        assert_eq!(text.len(), PREFIX.len() + TEXT);
        assert_eq!(JoinToken::parse(&format!(" {}\n", *text)).unwrap(), token);
        assert!(!format!("{token:?}").contains(&BASE64.encode(token.secret)));
    }

    #[test]
    fn one_changed_character_is_named() {
        let text = token().to_text();
        for at in [PREFIX.len(), PREFIX.len() + 77, text.len() - 1] {
            let mut bad = text.as_bytes().to_vec();
            bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
            let bad = String::from_utf8(bad).unwrap();
            assert_eq!(JoinToken::parse(&bad), Err(TokenError::OneWrong { position: at + 1 }));
        }
        let bad = text.replacen('.', ".#", 1);
        assert_eq!(JoinToken::parse(&bad), Err(TokenError::BadCharacter { position: 9, character: '#' }));
    }

    #[test]
    fn other_texts_are_told_apart() {
        let text = token().to_text();
        assert_eq!(JoinToken::parse("hello"), Err(TokenError::NotAToken));
        assert_eq!(JoinToken::parse("dunlin7.x"), Err(TokenError::Newer(7)));
        assert_eq!(JoinToken::parse(&text[..50]), Err(TokenError::Length { found: 50 }));
        let swapped = format!("{}AAAA{}", &text[..20], &text[24..]);
        assert_eq!(JoinToken::parse(&swapped), Err(TokenError::Damaged));
    }
}
