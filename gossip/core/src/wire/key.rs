//! A register's key: a few bytes that lie within others, usually those of the record that named them.
//!
//! A flock holds a record for each replica, and a key of its own beside the bytes in which it stands already would be a
//! tenth of what that costs. So a record's key shares the record's bytes, and keeps them as long as it lives.
//!
//! Never: an order, a hash or a form on the wire that tells where the bytes lie.

use alloc::sync::Arc;
use core::borrow::Borrow;
use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Which register of its class and kind.
#[derive(Clone)]
pub struct Key {
    bytes: Arc<[u8]>,
    start: u16,
    len: u16,
}

impl Key {
    /// The same key as it stands in these bytes, if it does; else itself.
    pub(super) fn within(self, bytes: &Arc<[u8]>, start: usize) -> Self {
        let stands = bytes.get(start..).and_then(|rest| rest.get(..self.len())) == Some(&*self);
        match u16::try_from(start) {
            Ok(start) if stands => Self { bytes: Arc::clone(bytes), start, len: self.len },
            Ok(_) | Err(_) => self,
        }
    }
}

impl From<&[u8]> for Key {
    /// Of what is longer than any key may be by far, only the beginning counts: no reader accepts either.
    fn from(key: &[u8]) -> Self {
        let len = u16::try_from(key.len()).unwrap_or(u16::MAX);
        Self { bytes: Arc::from(key.get(..usize::from(len)).unwrap_or(key)), start: 0, len }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::id::hex(self))
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let start = usize::from(self.start);
        self.bytes.get(start..start + usize::from(self.len)).unwrap_or_default()
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(other)
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes: Arc<[u8]> = Arc::deserialize(deserializer)?;
        let len =
            u16::try_from(bytes.len()).map_err(|_| serde::de::Error::custom("a key of more than 65,535 bytes"))?;
        Ok(Self { bytes, start: 0, len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the bytes lie makes no difference.
    #[test]
    fn a_key_within_a_record_is_the_same_key() {
        let alone = Key::from(&b"shop/web"[..]);
        let record: Arc<[u8]> = Arc::from(&b"\x01shop/web and more"[..]);
        let within = alone.clone().within(&record, 1);
        assert!(Arc::ptr_eq(&within.bytes, &record), "it shares the record's bytes");
        assert_eq!((&within, within.len()), (&alone, 8));
        let elsewhere = alone.clone().within(&record, 2);
        assert!(Arc::ptr_eq(&elsewhere.bytes, &alone.bytes), "what does not stand there is kept apart");
    }
}
