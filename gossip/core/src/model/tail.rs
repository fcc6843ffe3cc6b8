//! Fields that came later: at the end of a record's payload, and only where they say something.
//!
//! A payload without them has the bytes that it always had, so revisions keep their hashes, and claims, of which there are
//! many, stay small. A tail must stand last in a payload, where the end of the bytes tells that there is none; a type has
//! one tail, which has its own when fields come later still. What else follows a payload is a later version's, and is left.
//!
//! Tokens and removals have [`codec::tail`](crate::wire::codec::tail) instead, and keep it: its bytes are others, and what follows
//! the fields of before and cannot be read is an error there, since a limit must never be taken for none.

use core::fmt;
use core::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What is left out while it is its type's default.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tail<T>(pub T);

/// Stands before a tail that is there.
const PRESENT: u8 = 2;

impl<T: Serialize + Default + PartialEq> Serialize for Tail<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return self.0.serialize(serializer);
        }
        if self.0 == T::default() {
            return serializer.serialize_tuple(0)?.end();
        }
        let mut tuple = serializer.serialize_tuple(2)?;
        tuple.serialize_element(&PRESENT)?;
        tuple.serialize_element(&self.0)?;
        tuple.end()
    }
}

impl<'de, T: Deserialize<'de> + Default + PartialEq> Deserialize<'de> for Tail<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return T::deserialize(deserializer).map(Self);
        }
        deserializer.deserialize_tuple(2, End(PhantomData))
    }
}

struct End<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Default + PartialEq> Visitor<'de> for End<T> {
    type Value = Tail<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the end, or fields that came later")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        // One byte can fail to be read for one reason only: there is none.
        match seq.next_element::<u8>() {
            Err(_) | Ok(None) => Ok(Tail::default()),
            Ok(Some(PRESENT)) => {
                let found = seq.next_element::<T>()?.ok_or_else(|| A::Error::custom("a tail of nothing"))?;
                // One value has one form: hashes are taken over bytes.
                if found == T::default() { Err(A::Error::custom("an empty tail")) } else { Ok(Tail(found)) }
            }
            // What a later version appended, which is not for this one to read.
            Ok(Some(_)) => Ok(Tail::default()),
        }
    }
}

impl<T> core::ops::Deref for Tail<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> core::ops::DerefMut for Tail<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}
