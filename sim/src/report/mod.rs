//! What a run has shown.

pub(crate) mod json;
