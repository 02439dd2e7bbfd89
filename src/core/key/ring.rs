//! The ring: where its keys come from, and how they are led through their life.

use std::any::type_name;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::document::{self, Member};
use super::file::KeyFile;
use super::follow::{KeyBacking, Reload, Shared, asked};
use super::{Key, KeyId};
use crate::core::clock::Millis;
use crate::core::error::{KeyError, Source};

/// What a key of a ring may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyState {
    /// Opens, and is the primary from that moment on. In a rolling deploy every node has the key before any seals
    /// with it.
    Pending {
        /// When it begins to seal.
        not_before: OffsetDateTime,
    },
    /// Seals and opens. One key of a ring does.
    Primary,
    /// Opens, and what it opens is re-sealed under the primary.
    Retired {
        /// From this moment on it opens nothing; never, if there is none.
        not_after: Option<OffsetDateTime>,
    },
    /// Opens nothing. The ring knows only its id, to tell what it had sealed from what never was of this ring.
    Revoked,
}

/// A key of a ring, without the key itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyInfo {
    /// Its id.
    pub id: KeyId,
    /// What it may do now.
    pub state: KeyState,
}

/// Where keys come from that are kept elsewhere: a secret manager, a configuration service.
///
/// It is asked in the thread of a request, at most once per [`reload_every`](KeyRing::reload_every), and once more in that
/// time where a cookie names a key that the ring does not know, which anybody's may. So it has to answer at once: from memory, or from a local file. Fetch what is far away in a task of your own.
///
/// ```
/// use sealed_session::{Key, KeyRing, KeySource, Source, Zeroizing};
/// use std::sync::{Arc, RwLock};
///
/// struct Fetched(Arc<RwLock<String>>);
///
/// impl KeySource for Fetched {
///     fn load(&self) -> Result<Zeroizing<String>, Source> {
///         Ok(Zeroizing::new(self.0.read().map_err(|e| e.to_string())?.clone()))
///     }
/// }
///
/// let fetched = Arc::new(RwLock::new(Key::generate().export().to_string()));
/// let ring = KeyRing::from_source(Fetched(fetched))?;
/// # Ok::<(), sealed_session::KeyError>(())
/// ```
pub trait KeySource: Send + Sync + 'static {
    /// The keys as they are now: a key document, or a list as [`KeyRing::parse`] reads it.
    ///
    /// # Errors
    /// Whatever went wrong. The ring goes on with the keys that it has, and an [`Event`](crate::Event) tells it.
    fn load(&self) -> Result<Zeroizing<String>, Source>;

    /// What it is called in errors: the name of its type, unless it has a better one. Without secrets.
    fn name(&self) -> &str {
        let path = type_name::<Self>();
        let path = path.split_once('<').map_or(path, |(path, _)| path);
        path.rsplit("::").next().unwrap_or(path)
    }
}

/// The keys of a deployment, each in its [`KeyState`]: one primary that seals, and any number of others that only open.
/// What a retired key opens is re-sealed under the primary with the next response.
///
/// Clones share their keys: [`rotate`](Self::rotate) on one is seen by all. A ring that comes from a file or from a
/// [`KeySource`] follows it without a restart: it looks every second ([`reload_every`](Self::reload_every)) while
/// requests come in, and at once when a cookie names a key that it does not know. What is changed in a ring that comes
/// from a file is written there, for all processes that use it.
///
/// ```
/// use sealed_session::{Key, KeyRing};
///
/// let (old, new) = (Key::generate(), Key::generate());
/// let ring = KeyRing::new(old.clone());
/// ring.rotate(new.clone())?;
/// assert_eq!(ring.primary(), new.id());
/// assert_eq!(ring.ids(), [new.id(), old.id()]);
/// # Ok::<(), sealed_session::KeyError>(())
/// ```
#[derive(Clone)]
pub struct KeyRing {
    pub(super) shared: Arc<Shared>,
}

impl KeyRing {
    /// A ring with a primary key and no others.
    #[must_use]
    pub fn new(primary: Key) -> Self {
        Self::with(vec![Member::primary(primary)], KeyBacking::Memory)
    }

    /// A ring of these keys: the primary first, the others are retired.
    ///
    /// # Errors
    /// [`KeyError::Empty`] for no key, [`KeyError::Duplicate`] for two keys with one id.
    pub fn from_keys(keys: impl IntoIterator<Item = Key>) -> Result<Self, KeyError> {
        Ok(Self::with(document::listed(keys)?, KeyBacking::Memory))
    }

    /// Reads a comma-separated list of keys in base64url, the primary first, the others retired; spaces around a key
    /// are allowed. Or a key document, which [`open_or_create`](Self::open_or_create) describes.
    ///
    /// # Errors
    /// [`KeyError::Empty`], [`KeyError::InList`] with the number of the unusable key, [`KeyError::Duplicate`],
    /// [`KeyError::Document`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        Ok(Self::with(document::parse(text)?, KeyBacking::Memory))
    }

    /// Reads what [`parse`](Self::parse) reads from an environment variable, once. The ring cannot be changed: the next start would
    /// bring the former keys back. To rotate, set the variable to a key document in which the new key is pending until all
    /// servers have it, or keep the keys in a file ([`open_or_create`](Self::open_or_create)).
    ///
    /// # Errors
    /// [`KeyError::Environment`] if it is not set, and those of [`parse`](Self::parse).
    pub fn from_env(name: &str) -> Result<Self, KeyError> {
        let text = std::env::var(name).map_err(|_| KeyError::Environment { name: name.into() })?;
        Self::of_variable(name, &Zeroizing::new(text))
    }

    fn of_variable(name: &str, text: &str) -> Result<Self, KeyError> {
        Ok(Self::with(document::parse(text)?, KeyBacking::Environment(name.to_owned())))
    }

    /// Opens the key file at `path`, and follows its changes. Of several processes that use it, each sees what another
    /// one changed within [`reload_every`](Self::reload_every). It has to be safe from others, as [`KeyFile`] describes.
    ///
    /// # Errors
    /// [`KeyError::Permissions`] if others can read or replace it, [`KeyError::Document`] if it holds neither a key
    /// document nor keys, [`KeyError::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        KeyFile::new(path.as_ref()).open()
    }

    /// Like [`open`](Self::open), but makes the file with a fresh key (mode 0600) if there is none. Of several
    /// processes that start at once, one makes the file and all use it.
    ///
    /// The file is a JSON document. Moments are RFC 3339; of a revoked key the id is enough. One that holds what
    /// [`parse`](Self::parse) reads, such as a bare key of `sealed-session keygen`, is read as well, and becomes a document when
    /// the ring changes it.
    ///
    /// ```json
    /// {"version": 1, "keys": [
    ///   {"key": "<base64url>", "state": "pending", "not_before": "2027-01-01T00:00:00Z"},
    ///   {"key": "<base64url>", "state": "primary"},
    ///   {"key": "<base64url>", "state": "retired", "not_after": "2027-02-01T00:00:00Z"},
    ///   {"id": "1a2b3c4d", "state": "revoked"}
    /// ]}
    /// ```
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_or_create(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        KeyFile::new(path.as_ref()).open_or_create()
    }

    /// The keys of a source, whose changes the ring follows.
    ///
    /// # Errors
    /// [`KeyError::Source`] with what the source said, and those of [`parse`](Self::parse).
    pub fn from_source(source: impl KeySource) -> Result<Self, KeyError> {
        let members = asked(&source)?;
        Ok(Self::with(members, KeyBacking::Source(Box::new(source))))
    }

    /// How often the ring looks whether its file or source has changed; every second by default. It looks when requests
    /// come in, at the file's time of modification first, which costs some microseconds. A
    /// cookie or a row that names a key which the ring does not know makes it look as well: at a file that has changed since, and
    /// at a source once in that time. With `Duration::MAX` it looks for nothing else.
    #[must_use]
    pub fn reload_every(self, interval: Duration) -> Self {
        let mut state = self.state();
        state.interval = Millis::span(interval);
        self.publish(&mut state, None);
        drop(state);
        self
    }

    /// Looks at the file or source now; whether the keys have changed.
    ///
    /// # Errors
    /// What is wrong with it. The ring goes on with the keys that it has.
    pub fn reload(&self) -> Result<bool, KeyError> {
        let mut state = self.state();
        match self.look(&mut state, self.now(), true) {
            None => Ok(false),
            Some(Reload::Changed) => Ok(true),
            Some(Reload::Failed(error)) => Err(error),
        }
    }

    /// Adds a key that only opens, and whose sessions are re-sealed.
    ///
    /// # Errors
    /// [`KeyError::Duplicate`] if the ring has a key of that id, and those of [`rotate`](Self::rotate).
    pub fn add_retired(&self, key: Key) -> Result<(), KeyError> {
        self.change(|members| {
            document::check_new(members, key.id())?;
            members.push(Member::of(key, KeyState::Retired { not_after: None }));
            Ok(())
        })
    }

    /// Makes `key` the primary; the former primary is retired. A key that is in the ring already becomes it.
    ///
    /// Takes effect at once in this process, for all clones. Where several nodes do not share the key file, use
    /// [`schedule`](Self::schedule) on each, so that none seals with a key that another one does not know.
    ///
    /// # Errors
    /// [`KeyError::Duplicate`] if the ring has another key of that id, or has revoked it; [`KeyError::ReadOnly`] if
    /// the keys come from a [`KeySource`], [`KeyError::ReadOnlyEnvironment`] from the environment; [`KeyError::Io`] if they come from a file that cannot be written.
    pub fn rotate(&self, key: Key) -> Result<(), KeyError> {
        self.change(|members| {
            check_usable(members, &key)?;
            document::make_primary(members, key);
            Ok(())
        })
    }

    /// Makes a key of the ring the primary, which is pending or retired so far; the former primary is retired.
    ///
    /// # Errors
    /// [`KeyError::NotInRing`], and those of [`rotate`](Self::rotate).
    pub fn promote(&self, id: KeyId) -> Result<(), KeyError> {
        self.change(|members| {
            let key = document::find(members, id)?.key.clone().ok_or(KeyError::NotInRing { id })?;
            document::make_primary(members, key);
            Ok(())
        })
    }

    /// Adds a key that opens from now on, and becomes the primary at `not_before`, in every process that has it.
    ///
    /// Leave as much time as all nodes need to get the key: the reload interval where they share the key file, the
    /// duration of the deploy where they do not.
    ///
    /// # Errors
    /// [`KeyError::Duplicate`] if the ring has a key of that id, and those of [`rotate`](Self::rotate).
    pub fn schedule(&self, key: Key, not_before: OffsetDateTime) -> Result<(), KeyError> {
        self.change(|members| {
            document::check_new(members, key.id())?;
            members.push(Member::of(key, KeyState::Pending { not_before }));
            Ok(())
        })
    }

    /// Lets a key only open, until `not_after`, or for as long as it is in the ring.
    ///
    /// # Errors
    /// [`KeyError::Primary`] for the primary, [`KeyError::NotInRing`], and those of [`rotate`](Self::rotate).
    pub fn retire(&self, id: KeyId, not_after: Option<OffsetDateTime>) -> Result<(), KeyError> {
        self.change(|members| {
            let member = document::find(members, id)?;
            member.state = match member.state {
                KeyState::Primary => return Err(KeyError::Primary { id, action: "retire" }),
                KeyState::Revoked => return Err(KeyError::NotInRing { id }),
                KeyState::Pending { .. } | KeyState::Retired { .. } => KeyState::Retired { not_after },
            };
            Ok(())
        })
    }

    /// Takes a key's power away: nothing that it has sealed or will seal is accepted any more, by any process, after
    /// its next look at the keys. Sessions that other keys have sealed do not notice. The key itself is forgotten.
    ///
    /// If it is the primary, the pending key whose time comes first becomes it in the same step. Where there is none, and where
    /// that one may have leaked as well, [`replace`](Self::replace) it.
    ///
    /// # Security
    /// What the key had sealed before may be sealed under another one by now: a retired key's sessions are with their next
    /// response, forged ones among them. If it leaked while it was not the primary, or has not been since, revoke each key
    /// that has sealed since as well.
    ///
    /// # Errors
    /// [`KeyError::Primary`] for the primary where none is pending, [`KeyError::NotInRing`], and those of
    /// [`rotate`](Self::rotate).
    pub fn revoke(&self, id: KeyId) -> Result<(), KeyError> {
        self.change(|members| {
            if document::find(members, id)?.state == KeyState::Primary {
                let next = document::next_primary(members);
                document::make_primary(members, next.ok_or(KeyError::Primary { id, action: "revoke" })?);
            }
            *document::find(members, id)? = Member { id, key: None, state: KeyState::Revoked };
            Ok(())
        })
    }

    /// Revokes the primary, which has leaked, and makes `fresh` the primary, in one step, so that no process accepts the one and
    /// seals with the other. After [`rotate`](Self::rotate) and then [`revoke`](Self::revoke) one might: what the leaked key has
    /// forged would be sealed anew in between.
    ///
    /// # Errors
    /// [`KeyError::NotPrimary`] for every other key: [`revoke`](Self::revoke) it, then each key that has sealed since it leaked, and
    /// replace the primary last. Those of [`rotate`](Self::rotate) for `fresh`.
    pub fn replace(&self, leaked: KeyId, fresh: Key) -> Result<(), KeyError> {
        self.change(|members| {
            check_usable(members, &fresh)?;
            if leaked == fresh.id() {
                return Err(KeyError::Duplicate { id: leaked });
            }
            if document::find(members, leaked)?.state != KeyState::Primary {
                return Err(KeyError::NotPrimary { id: leaked });
            }
            document::make_primary(members, fresh);
            *document::find(members, leaked)? = Member { id: leaked, key: None, state: KeyState::Revoked };
            Ok(())
        })
    }

    /// The id of the key that seals.
    #[must_use]
    pub fn primary(&self) -> KeyId {
        self.primary_id()
    }

    /// The ids of the keys that open, the primary first.
    #[must_use]
    pub fn ids(&self) -> Vec<KeyId> {
        self.snapshot().keys.iter().map(Key::id).collect()
    }

    /// All keys with what they may do now, revoked ones included. Retired ones stay for a week after their `not_after`, and open
    /// nothing then.
    #[must_use]
    pub fn list(&self) -> Vec<KeyInfo> {
        let mut members = self.state().members.clone();
        document::settle_to_keep(&mut members, self.now());
        members.iter().map(|member| KeyInfo { id: member.id, state: member.state }).collect()
    }
}

/// Whether a key can become the primary: nothing else goes by its id, and it is not revoked.
fn check_usable(members: &[Member], key: &Key) -> Result<(), KeyError> {
    match members.iter().any(|member| member.id == key.id() && member.key.as_ref() != Some(key)) {
        true => Err(KeyError::Duplicate { id: key.id() }),
        false => Ok(()),
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyRing").field(&self.ids()).finish()
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
