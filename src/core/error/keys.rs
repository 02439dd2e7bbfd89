//! What can be wrong with keys.

use std::path::PathBuf;

use thiserror::Error;

use super::{Source, debug_in_full};

/// A key, a list of keys or a key file that cannot be used. No message ever contains key material.
#[derive(Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text is not base64url.
    #[error("a key is 43 characters of base64url (A-Z a-z 0-9 - _), but {found}")]
    Encoding {
        /// What was found instead, and what helps; never the text itself.
        found: String,
    },
    /// The secret given to [`Key::derive_from`](crate::Key::derive_from) is too easy to guess.
    #[error("this secret is too weak to derive a key from: {reason}; use at least 32 random bytes")]
    Weak {
        /// What makes it weak.
        reason: &'static str,
    },
    /// The list of keys has no key in it.
    #[error("the list of keys is empty; it needs at least one, and the first is the primary")]
    Empty,
    /// Two keys of a ring have the same id, usually because one key is listed twice.
    #[error("key {id} is in the ring already; each key may be listed once")]
    Duplicate {
        /// The id that occurs twice.
        id: crate::KeyId,
    },
    /// The environment variable is missing or not Unicode.
    #[error(
        "environment variable {name} is not set or not Unicode; set it to one or more comma-separated keys, the primary first"
    )]
    Environment {
        /// The variable's name.
        name: String,
    },
    /// The key at this place of a list is unusable.
    #[error("key number {number} of the list is unusable")]
    InList {
        /// Counted from 1.
        number: usize,
        /// Why.
        source: Box<KeyError>,
    },
    /// The key file cannot be read or written.
    #[error("cannot {action} the key file {path}")]
    Io {
        /// "read", "create" or the like.
        action: &'static str,
        /// The file, by its absolute path.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// Others can read the key file, or put another one in its place; [`KeyFile`](crate::KeyFile) has the rule.
    #[error("{reason}; if others are kept away by other means, open it with `KeyFile::allow_readable`")]
    Permissions {
        /// The file, or the folder on the way to it.
        path: PathBuf,
        /// What is wrong with it, and what makes it right.
        reason: String,
    },
    /// What should be a key document, or a key file with a document or keys, is neither.
    #[error("{} is not usable: {reason}", file(path.as_ref()))]
    Document {
        /// The file, if it is one.
        path: Option<PathBuf>,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// The text is no key id.
    #[error("a key id is 8 hexadecimal digits, as `sealed-session keys list` shows them")]
    Id,
    /// The ring has no key of this id that could be used so.
    #[error("no key {id} in the ring, or it is revoked; `keys list` shows those that there are")]
    NotInRing {
        /// The id.
        id: crate::KeyId,
    },
    /// The primary cannot be taken away, because something has to seal.
    #[error("key {id} is the primary; {}", instead(action))]
    Primary {
        /// The primary's id.
        id: crate::KeyId,
        /// "retire" or "revoke".
        action: &'static str,
    },
    /// Only the primary can be replaced: what another key has forged would be sealed anew under the fresh one.
    #[error(
        "key {id} is not the primary; revoke it, then each key that has sealed since, and replace the primary last"
    )]
    NotPrimary {
        /// The key's id.
        id: crate::KeyId,
    },
    /// The keys come from a [`KeySource`](crate::KeySource) and can only be changed there.
    #[error("the keys come from {source_name}; change them there, and the ring will follow")]
    ReadOnly {
        /// What [`KeySource::name`](crate::KeySource::name) says.
        source_name: String,
    },
    /// The keys come from an environment variable, and can only be changed there, for the next start.
    #[error(
        "the keys come from the environment variable `{name}`, and the next start would bring them back; change them there and \
         restart, or keep them in a file (`KeyRing::open_or_create`), which a ring can change"
    )]
    ReadOnlyEnvironment {
        /// Its name.
        name: String,
    },
    /// The [`KeySource`](crate::KeySource) failed.
    #[error("the source of the keys failed")]
    Source {
        /// What it said.
        source: Source,
    },
}

/// What to do with a primary. Nothing that it may have forged must be sealed anew in between.
fn instead(action: &str) -> &'static str {
    match action {
        "revoke" => "`replace` it with a fresh key, which revokes it in the same step",
        _ => "rotate to another key first, then retire this one",
    }
}

debug_in_full!(KeyError);

fn file(path: Option<&PathBuf>) -> String {
    path.map_or("the text".into(), |path| format!("the key file {}", path.display()))
}
