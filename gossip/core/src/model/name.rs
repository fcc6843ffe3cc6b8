//! Names of stacks, services, nodes and replicas, validated once when they enter.

use alloc::string::String;
use alloc::sync::Arc;
use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

use crate::id::NodeId;
use crate::limits::MAX_NAME;

/// Why a text is no name. The remedy is in the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameError {
    /// Empty.
    Empty,
    /// Longer than [`MAX_NAME`].
    TooLong,
    /// Holds something other than letters, digits, `-`, `_` and `.`, or begins with one of the signs.
    BadCharacter,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a name must not be empty"),
            Self::TooLong => write!(f, "a name has at most {MAX_NAME} characters"),
            Self::BadCharacter => {
                f.write_str("a name consists of letters, digits, '-', '_' and '.', and begins with a letter or digit")
            }
        }
    }
}

impl core::error::Error for NameError {}

fn check(text: &str) -> Result<(), NameError> {
    let first = text.bytes().next().ok_or(NameError::Empty)?;
    if text.len() > MAX_NAME {
        return Err(NameError::TooLong);
    }
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !first.is_ascii_alphanumeric() || !text.bytes().all(inner) {
        return Err(NameError::BadCharacter);
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Eq, Serialize, Deserialize)]
        pub struct $type(Arc<str>);

        // Most names that are compared are copies of one, which share their text.
        impl PartialEq for $type {
            fn eq(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
            }
        }

        impl Hash for $type {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.0.hash(state);
            }
        }

        impl PartialOrd for $type {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $type {
            fn cmp(&self, other: &Self) -> Ordering {
                if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
            }
        }

        impl $type {
            /// Checks and takes a name.
            ///
            /// # Errors
            /// [`NameError`] says what is wrong with the text.
            pub fn new(text: &str) -> Result<Self, NameError> {
                check(text).map(|()| Self(Arc::from(text)))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// A stack: what one Compose project deploys, and the only namespace there is.
    StackName
}
name! {
    /// A service inside its stack.
    ServiceName
}
name! {
    /// What people call a node.
    NodeName
}

/// Who asked for a write, as its node knew them: a user of its host, or a token. Empty where nobody did but the node itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Asker(Arc<str>);

impl Asker {
    /// The text, cut to [`MAX_NAME`] characters; what a terminal would not show becomes `?`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let shown = |c: char| if c.is_control() || c.is_whitespace() { '?' } else { c };
        Self(text.chars().take(MAX_NAME).map(shown).collect::<String>().into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `stack/service`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceKey {
    /// The stack.
    pub stack: StackName,
    /// The service in it.
    pub service: ServiceName,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.stack, self.service)
    }
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which replica of its service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Slot {
    /// A replicated service's number, from 1.
    Number(u32),
    /// A global service's slot, named by its node.
    Node(NodeId),
    /// A slot of a run of a cron service: when the run was due (seconds since 1970), and the slot's number, from 1.
    Run(u64, u32),
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => write!(f, "{n}"),
            Self::Node(node) => write!(f, "{node:?}"),
            Self::Run(time, n) => write!(f, "{time}-{n}"),
        }
    }
}

/// `stack/service.slot`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaKey {
    /// The service.
    pub service: ServiceKey,
    /// The slot in it.
    pub slot: Slot,
}

impl fmt::Display for ReplicaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.service, self.slot)
    }
}

impl fmt::Debug for ReplicaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!(ServiceName::new("web").is_ok());
        assert_eq!(ServiceName::new(""), Err(NameError::Empty));
        assert_eq!(ServiceName::new("-web"), Err(NameError::BadCharacter));
        assert_eq!(ServiceName::new("a b"), Err(NameError::BadCharacter));
        assert_eq!(ServiceName::new(&"x".repeat(64)), Err(NameError::TooLong));
    }

    #[test]
    fn who_asked_fits_a_line() {
        assert_eq!(Asker::new("ann\u{1b}[31m b\n").as_str(), "ann?[31m?b?");
        assert_eq!(Asker::new(&"é".repeat(100)).as_str().chars().count(), MAX_NAME);
    }
}
