//! What the mark of a session says of the one that took its place.

use sha2::{Digest as _, Sha256};

use super::Place;

const TAG_LEN: usize = 16;
pub(crate) const REPLACEMENT_LEN: usize = 1 + TAG_LEN;

/// Stands for a subject where only a comparison is needed, in the same room whoever it is: the first bytes of its SHA-256 hash.
/// Always sealed, since whoever sees it could try names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SubjectTag(pub(crate) [u8; TAG_LEN]);

impl SubjectTag {
    pub(crate) fn of(subject: &str) -> Self {
        let hash = Sha256::digest(subject.as_bytes());
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&hash[..TAG_LEN]);
        Self(tag)
    }
}

/// Whose session took the place of one that is over, and where that one had been: the same login with the same cookie, sent again,
/// keeps what it came with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Replacement {
    pub(crate) by: SubjectTag,
    pub(crate) place: Place,
}

impl Replacement {
    pub(crate) fn encode(self) -> [u8; REPLACEMENT_LEN] {
        let mut bytes = [0; REPLACEMENT_LEN];
        bytes[0] = u8::from(self.place == Place::Store);
        bytes[1..].copy_from_slice(&self.by.0);
        bytes
    }

    /// None: not one.
    pub(crate) fn decode([place, tag @ ..]: [u8; REPLACEMENT_LEN]) -> Option<Self> {
        let place = match place {
            0 => Place::Cookie,
            1 => Place::Store,
            _ => return None,
        };
        Some(Self { by: SubjectTag(tag), place })
    }
}
