//! Facts: written once, never taken back. Should two nodes state one key, the greater (HLC, bytes) stays.

use crate::wire::Record;

/// True if a record takes the place of the one held.
pub(super) fn supersedes(held: Option<&Record>, record: &Record) -> bool {
    held.is_none_or(|held| (held.hlc(), held.bytes()) < (record.hlc(), record.bytes()))
}
