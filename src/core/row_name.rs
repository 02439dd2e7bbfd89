//! What names a row of a store, what names one state of it, and what is left of those before.

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

/// How many states before the present one a row remembers. A driver that repeats a write gives up within seconds; in that
/// time a row that is written more often than this has other writers, whose increments come along all the same.
const REMEMBERED: usize = 4;
/// So many bytes of a revision tell it from the other few.
const PREFIX_LEN: usize = 8;

/// The revisions that a row had before its present one, latest first, each by its first bytes; zero: none. They tell whether a
/// write was applied that somebody has written over since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ancestry(pub(crate) [u8; ANCESTRY_LEN]);

/// Length of an [`Ancestry`] in bytes.
pub(crate) const ANCESTRY_LEN: usize = REMEMBERED * PREFIX_LEN;

impl Ancestry {
    /// That of a row which is written over one of this revision and ancestry.
    pub(crate) fn followed_by(self, revision: Revision) -> Self {
        let mut next = self;
        next.0.copy_within(..ANCESTRY_LEN - PREFIX_LEN, PREFIX_LEN);
        next.0[..PREFIX_LEN].copy_from_slice(&revision.0[..PREFIX_LEN]);
        next
    }

    /// Whether the row has had this revision.
    pub(crate) fn includes(&self, revision: Revision) -> bool {
        self.0.chunks_exact(PREFIX_LEN).any(|known| *known == revision.0[..PREFIX_LEN])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ancestry_knows_the_last_few_and_no_others() {
        let revisions: Vec<Revision> = (1..=6).map(|n| Revision([n; REVISION_LEN])).collect();
        let known = |ancestry: Ancestry| revisions.iter().filter(|r| ancestry.includes(**r)).count();
        let mut ancestry = Ancestry::default();
        assert_eq!(known(ancestry), 0);
        for (before, &revision) in revisions.iter().enumerate() {
            ancestry = ancestry.followed_by(revision);
            assert!(ancestry.includes(revision));
            assert_eq!(known(ancestry), (before + 1).min(REMEMBERED));
        }
        assert!(!ancestry.includes(revisions[1]) && ancestry.includes(revisions[2]));
        assert_eq!(ancestry.0[..PREFIX_LEN], [6; PREFIX_LEN], "latest first");
    }

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
