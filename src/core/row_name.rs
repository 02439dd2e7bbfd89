//! What names a row of a store, and what names one state of it.

use std::fmt;

use base64::Engine as _;
use base64::display::Base64Display;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::core::random;

/// Length of a [`RowKey`] in bytes.
pub const ROW_KEY_LEN: usize = 32;
/// Length of a [`Revision`] in bytes.
pub const REVISION_LEN: usize = 16;

/// Names a row: a SHA-256 hash, from which nothing can be told of the session. `Display` writes 43 characters of
/// base64url.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey([u8; ROW_KEY_LEN]);

impl RowKey {
    /// The hash of what is unique to the row, set apart by its kind.
    pub(crate) fn hash(kind: &str, unique: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"sealed-session/1 ");
        hash.update(kind.as_bytes());
        hash.update([0]);
        hash.update(unique);
        Self(hash.finalize().into())
    }

    /// The key with these bytes, for tests of stores.
    #[must_use]
    pub fn from_bytes(bytes: [u8; ROW_KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// Its bytes, of any value.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; ROW_KEY_LEN] {
        &self.0
    }
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Base64Display::new(&self.0, &URL_SAFE_NO_PAD).fmt(f)
    }
}

impl fmt::Debug for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RowKey({}..)", URL_SAFE_NO_PAD.encode(&self.0[..3]))
    }
}

/// Names one state of a row: 128 random bits, chosen by the writer and compared for equality alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Revision([u8; REVISION_LEN]);

impl Revision {
    /// A fresh one, from the operating system.
    #[must_use]
    pub fn random() -> Self {
        Self(random::from_system())
    }

    /// The revision with these bytes, as they were stored.
    #[must_use]
    pub fn from_bytes(bytes: [u8; REVISION_LEN]) -> Self {
        Self(bytes)
    }

    /// Its bytes, of any value.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; REVISION_LEN] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_keys_and_revisions_tell_nothing_more_than_they_must() {
        let key = RowKey::hash("row", b"id");
        assert_eq!(key.to_string().len(), 43);
        assert_ne!(key, RowKey::hash("other", b"id"));
        assert_ne!(key, RowKey::hash("row", b"other"));
        assert!(format!("{key:?}").len() < 20);
        assert_ne!(Revision::random(), Revision::random());
    }
}
