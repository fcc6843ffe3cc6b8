//! Who belongs: admissions, removals, and the tokens that lead to admissions.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::NodeName;
use crate::id::NodeId;
use crate::time::Wall;
use crate::wire::codec;

/// A join token's public id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TokenId(pub u64);

/// The payload of a roster record: a node was admitted. Grow-only; removal always wins.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RosterEntry {
    /// Who.
    pub node: NodeId,
    /// Under which name.
    pub name: NodeName,
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// Its static X25519 key for sealed packets.
    pub seal_key: [u8; 32],
    /// Where it was at admission.
    pub addresses: Vec<SocketAddr>,
    /// By whom; none for the first node.
    pub admitted_by: Option<NodeId>,
    /// By which token; none for the first node.
    pub token: Option<TokenId>,
    /// When.
    pub at: Wall,
}

/// How a node ceased to belong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum RemovalKind {
    /// It left by itself.
    Left,
    /// It was down too long; its key may be admitted again.
    Forgotten,
    /// It was removed for good.
    Revoked,
}

/// The payload of a removal record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Removal {
    /// Who.
    pub node: NodeId,
    /// How.
    pub kind: RemovalKind,
    /// By whom.
    pub by: NodeId,
    /// When.
    pub at: Wall,
    /// The limited token by which it had been admitted: the removal voids the admission, and the use stays used.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "codec::tail")]
    pub token: Option<TokenId>,
}

/// The value of a token's register. The secret itself is never replicated.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// SHA-256 of the secret.
    pub secret_hash: [u8; 32],
    /// The node that issued it.
    pub issuer: NodeId,
    /// What it is for, in its maker's words.
    pub label: String,
    /// When made.
    pub created: Wall,
    /// Not good from then on.
    pub expires: Wall,
    /// How many nodes it may admit; none means as many as there are.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "codec::tail")]
    pub uses: Option<u32>,
}
