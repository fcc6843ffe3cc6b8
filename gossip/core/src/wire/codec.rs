//! The only place that knows bincode: bytes to values and back, with a limit on what a decode may allocate.
//!
//! bincode is unmaintained and pinned (docs/decisions); golden-bytes tests beside each format make a swap an hour's work.

use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::limits::MAX_FRAME;

/// Bytes that are no value of the wanted type. The value is untouched; the writer is at fault, or is newer than we are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecodeError;

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes are not what their kind says; the peer that wrote them is newer or faulty")
    }
}

impl core::error::Error for DecodeError {}

const fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<{ MAX_FRAME }>()
}

/// The canonical bytes of a value (our types hold no unordered maps, so equal values have equal bytes).
///
/// A value that serde cannot express yields empty bytes, which no decoder accepts for a non-empty type.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard()).unwrap_or_default()
}

/// The canonical bytes of a small value, in the given room; empty where they do not fit.
pub(super) fn encode_small<'a, T: Serialize>(value: &T, room: &'a mut [u8]) -> &'a [u8] {
    let used = bincode::serde::encode_into_slice(value, &mut *room, bincode::config::standard()).unwrap_or(0);
    room.get(..used).unwrap_or_default()
}

/// For a field that came later, the last of a record's payload: `deserialize_with` this, and `skip_serializing_if` none. Who
/// does not use it writes the bytes of before; who knows the field reads both. What follows the fields of before and is no such
/// field is an error, so that a limit which cannot be read is never taken for none.
///
/// # Errors
/// As the deserializer's, where there is a value and it cannot be read.
pub fn tail<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let mut began = false;
    match deserializer.deserialize_option(Tail { began: &mut began, value: PhantomData }) {
        // The bytes ended where the field would begin.
        Err(_) if !began => Ok(None),
        read => read,
    }
}

struct Tail<'a, T> {
    began: &'a mut bool,
    value: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Tail<'_, T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or none")
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        *self.began = true;
        Ok(None)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        self.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        *self.began = true;
        T::deserialize(deserializer).map(Some)
    }
}

/// The value that bytes express, all of them.
///
/// # Errors
/// [`DecodeError`] if they are not exactly one value of this type.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (value, used) = bincode::serde::decode_from_slice(bytes, config()).map_err(|_| DecodeError)?;
    if used == bytes.len() { Ok(value) } else { Err(DecodeError) }
}

/// The value at the beginning of bytes, and what follows it: fields that a later version appended.
///
/// # Errors
/// [`DecodeError`] if they do not begin with a value of this type.
pub fn decode_known<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), DecodeError> {
    let (value, used) = bincode::serde::decode_from_slice(bytes, config()).map_err(|_| DecodeError)?;
    Ok((value, bytes.get(used..).unwrap_or_default()))
}
