//! How records travel: links with their queues, the tree that they form, riders on packets, and what is fresh.
//!
//! Fast: a new record goes down the tree at once, and small urgent ones ride on packets to members without a link. Sure:
//! peers whose roots differ walk (the engine decides when). Here is the machinery; never a merge, never a protocol
//! decision about members.

pub(crate) mod fresh;
pub(crate) mod links;
pub(crate) mod pace;
pub(crate) mod riders;
pub(crate) mod tree;
