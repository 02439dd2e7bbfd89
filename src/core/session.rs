//! What a handler holds: a session, and the keys of its values.

mod csrf;
mod key;
mod label;
mod lifetime;
mod login;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::MutexGuard;
use tokio::time::timeout;

pub use self::key::SessionKey;
use crate::core::clock::Millis;
use crate::core::csrf::Binding;
use crate::core::entries::{Encoded, NotCountable};
use crate::core::error::{CommitError, CsrfError, InsertError, ValueError};
use crate::core::key::KeyId;
use crate::core::record::{LogId, Place, SessionId};
use crate::core::state::{Limits, Origin, Stage, State};
use crate::core::value;

/// Where a session's data is kept, and how large it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Placement {
    /// In the cookie.
    Cookie {
        /// Name + value of the cookie as it would be sealed now.
        bytes: usize,
    },
    /// In a store.
    Store {
        /// Length of the row as it would be sealed now; in an [`Inspection`](crate::Inspection), which has no row, of the cookie.
        bytes: usize,
    },
}

/// What a session asks of its `Sessions`. [`Session`] itself knows neither keys nor a store.
#[async_trait]
pub(crate) trait Backend: Send + Sync {
    fn limits(&self) -> &Limits;
    fn csrf_token(&self, of: &Binding) -> String;
    fn verify_csrf(&self, of: &[Binding], token: &str) -> Result<(), CsrfError>;
    async fn save(self: Arc<Self>, session: &Session) -> Result<(), CommitError>;
    async fn reload(&self, session: &Session) -> Result<(), CommitError>;
    /// The name of a session of this subject where its id must not be revealed; `None` without a list of sessions.
    fn handle(&self, subject: &str, id: SessionId) -> Option<String>;
    /// The subject's new generation, if this process has replaced the generation `of` since then, under the key that had sealed
    /// the session.
    fn own_generation(&self, subject: &str, since: Millis, of: u64, opener: Option<KeyId>) -> Option<u64>;
}

/// A session: typed values under string keys, sealed into the response's cookie when the request is over, or into a
/// row of the store where it has outgrown the cookie.
///
/// Cheap to clone; all clones are the same session. Concurrent requests work on separate copies. Of two overlapping
/// requests that both issue the cookie, for a change or a prolongation, the later response wins. In a store both do: each
/// request's changes are applied to the current state, and the later wins only where both changed the same key.
///
/// Reading is always possible. After [`destroy`](Self::destroy), once the response has left, and where another site's page
/// made the request ([`CrossSite`](crate::CrossSite)), changes are
/// refused: methods that return a `Result` say so, the others do nothing and log a warning.
#[derive(Clone)]
pub struct Session {
    shared: Arc<Shared>,
}

type Gate = tokio::sync::Mutex<()>;

struct Shared {
    /// The id that it was loaded with, which the log can name without the lock.
    #[cfg_attr(not(any(feature = "actix", feature = "tower")), allow(dead_code))]
    first_id: SessionId,
    state: Mutex<State>,
    backend: Arc<dyn Backend>,
    /// With a store: one use of it at a time, or two saves of one session would conflict. Boxed, because a session is
    /// moved when it is made, and most have no gate.
    gate: Option<Box<Gate>>,
}

impl Session {
    #[inline]
    pub(crate) fn new(state: State, backend: Arc<dyn Backend>, has_store: bool) -> Self {
        let gate = has_store.then(|| Box::new(Gate::new(())));
        let first_id = state.header.id;
        Self { shared: Arc::new(Shared { first_id, state: Mutex::new(state), backend, gate }) }
    }

    /// For a session that is asked for when the response has left: nothing that is done to it would come of it.
    #[cfg(any(feature = "actix", feature = "tower"))]
    pub(crate) fn close(&self) {
        self.with(|state| {
            if state.stage == Stage::Open {
                state.stage = Stage::Committed;
            }
        });
    }

    pub(crate) fn gate(&self) -> Option<&Gate> {
        self.shared.gate.as_deref()
    }

    #[cfg(any(feature = "actix", feature = "tower"))]
    pub(crate) fn first_id(&self) -> SessionId {
        self.shared.first_id
    }

    /// Waits for its turn with the store, if there is one, but not for ever: whoever has it may be a future that nobody polls.
    pub(crate) async fn lock_store_access(
        &self,
        patience: Duration,
    ) -> Result<Option<MutexGuard<'_, ()>>, CommitError> {
        let Some(gate) = self.gate() else { return Ok(None) };
        let turn = timeout(patience, gate.lock()).await;
        turn.map(Some).map_err(|_| CommitError::Conflict)
    }

    pub(crate) fn limits(&self) -> &Limits {
        self.shared.backend.limits()
    }

    /// The only access to the state, so that no lock guard escapes; no application code runs in `f`.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.shared.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The value at `key`, or `None` if there is none.
    ///
    /// # Errors
    /// [`ValueError`] if it is of another type.
    pub fn get<'k, T: DeserializeOwned>(
        &self,
        key: impl Into<SessionKey<'k, T>>,
    ) -> Result<Option<T>, ValueError> {
        let key = key.into().name();
        let Some(encoded) = self.with(|state| state.entries.get(key)) else { return Ok(None) };
        decode(key, &encoded).map(Some)
    }

    /// Sets the value at `key`. Setting the value it already has is no change, and issues no cookie.
    ///
    /// # Errors
    /// [`InsertError::TooLarge`] if the session would outgrow its cookie, [`InsertError::Encode`] if the value cannot
    /// be serialized, [`InsertError::Destroyed`], [`InsertError::Committed`],
    /// [`InsertError::CrossSite`]. The old value stays.
    ///
    /// # Values
    /// They are stored as MessagePack with field names. A struct may gain fields with `#[serde(default)]`, lose fields,
    /// rename them with `#[serde(alias = "old")]`, and be renamed itself. A value that can no longer be read stays an
    /// error of `get` until the session ends, unless you `remove` its key. Like JSON, MessagePack has one `nil`:
    /// `Some(None)` and `Some(())` read back as `None`. Unlike in JSON, a unit struct or a `PhantomData` inside an enum with
    /// `#[serde(untagged)]` does not read back.
    ///
    /// The same bytes are no change; a `HashMap` or a `HashSet` may write its elements in another order each time it was read, so
    /// take a `BTreeMap` or a `BTreeSet`.
    pub fn insert<'k, T: Serialize>(
        &self,
        key: impl Into<SessionKey<'k, T>>,
        value: T,
    ) -> Result<(), InsertError> {
        let key = key.into().name();
        let encode = |source| InsertError::Encode { key: key.to_owned(), source };
        let bytes = value::encode(&value).map_err(encode)?;
        self.with(|state| state.set(key, bytes, self.limits()))
    }

    /// Replaces the value at `key` by what `f` makes of it, and returns that.
    ///
    /// `f` runs without a lock: between clones of one session in several threads use [`increment`](Self::increment)
    /// for counters.
    ///
    /// # Errors
    /// Those of [`insert`](Self::insert), and [`InsertError::Value`] if the value there is of another type.
    pub fn update<'k, T: Serialize + DeserializeOwned>(
        &self,
        key: impl Into<SessionKey<'k, T>>,
        f: impl FnOnce(Option<T>) -> T,
    ) -> Result<T, InsertError> {
        let key = key.into();
        self.with(|state| state.check_writable())?;
        let value = f(self.get(key)?);
        let encode = |source| InsertError::Encode { key: key.name().to_owned(), source };
        let bytes = value::encode(&value).map_err(encode)?;
        self.with(|state| state.set(key.name(), bytes, self.limits()))?;
        Ok(value)
    }

    /// Adds `by` to the integer at `key`, counting a missing one as 0, and returns the sum.
    ///
    /// # Errors
    /// [`InsertError::NotCountable`] if there is no integer at `key` or the sum leaves the range of `i64`;
    /// [`InsertError::TooLarge`], [`InsertError::Destroyed`], [`InsertError::Committed`],
    /// [`InsertError::CrossSite`].
    pub fn increment(&self, key: impl AsRef<str>, by: i64) -> Result<i64, InsertError> {
        let key = key.as_ref();
        let not_countable = |why| InsertError::NotCountable {
            key: key.to_owned(),
            reason: match why {
                NotCountable::NoInteger => "its value is not an integer in the range of i64",
                NotCountable::OutOfRange => "the sum is out of the range of i64",
            },
        };
        self.with(|state| {
            state.check_writable()?;
            let total = state.entries.total(key, by).map_err(not_countable)?;
            state.check_fit(key, value::encode_integer(total).len(), self.limits())?;
            state.entries.add(key, by).map_err(not_countable)
        })
    }

    /// Removes the value at `key`. Returns whether there was one.
    pub fn remove(&self, key: impl AsRef<str>) -> bool {
        self.if_writable("remove", |state| state.remove(key.as_ref())).unwrap_or(false)
    }

    /// Removes the value at `key` and returns it.
    ///
    /// # Errors
    /// [`InsertError::Value`] if it is of another type, in which case it stays; [`InsertError::Destroyed`],
    /// [`InsertError::Committed`], [`InsertError::CrossSite`].
    pub fn take<'k, T: DeserializeOwned>(
        &self,
        key: impl Into<SessionKey<'k, T>>,
    ) -> Result<Option<T>, InsertError> {
        let key = key.into();
        loop {
            let encoded = self.with(|state| {
                state.check_writable()?;
                let encoded = state.entries.get(key.name());
                if encoded.is_none() {
                    state.remove(key.name());
                }
                Ok::<_, InsertError>(encoded)
            })?;
            let Some(encoded) = encoded else { return Ok(None) };
            let value = decode(key.name(), &encoded)?;
            // Decoding runs without the lock. Of several clones, one takes what was read.
            let taken = self.with(|state| {
                state.check_writable()?;
                let is_there =
                    state.entries.get(key.name()).is_some_and(|now| now.bytes() == encoded.bytes());
                Ok::<_, InsertError>(is_there && state.remove(key.name()))
            })?;
            if taken {
                return Ok(Some(value));
            }
        }
    }

    /// Whether there is a value at `key`, of whatever type.
    #[must_use]
    pub fn contains_key(&self, key: impl AsRef<str>) -> bool {
        self.with(|state| state.entries.contains(key.as_ref()))
    }

    /// The keys in ascending order.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.with(|state| state.entries.iter().map(|(key, _)| key.to_owned()).collect())
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.with(|state| state.entries.len())
    }

    /// Whether there are no entries. The subject does not count.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.with(|state| state.entries.is_empty())
    }

    /// Removes all entries. The subject stays; without one the browser's cookie is removed.
    pub fn clear(&self) {
        self.if_writable("clear", |state| {
            state.entries.clear();
            state.kept = false;
        });
    }

    /// Removes the entries for whose keys `keep` returns false. What a parallel request puts into the row of a stored session
    /// stays: it was not there to be asked about.
    pub fn retain(&self, mut keep: impl FnMut(&str) -> bool) {
        let dropped: Vec<String> = self.keys().into_iter().filter(|key| !keep(key)).collect();
        self.if_writable("retain", |state| {
            // Nor is anybody asked about what a login would take up.
            if let Some(besides) = state.besides.as_mut().filter(|_| state.loaded.is_none()) {
                besides.replaced = None;
            }
            for key in &dropped {
                state.remove(key);
            }
        });
    }

    /// Ends the session: its data is gone, the browser's cookie is removed, and later changes in this request are errors.
    /// With a store, a session that was refused because it is over, as after a login in another tab, ends for good as well.
    /// If the browser sent several cookies of this name, with a store the sessions of the first eight end too;
    /// [`formerly`](crate::SessionsBuilder::formerly) says how they come about, and how to remove them.
    ///
    /// It does nothing, and the log says so, once the response has left, as in a stream or a websocket: there
    /// [`Sessions::revoke`](crate::Sessions::revoke) with [`id`](Self::id) ends the session. Nor does it in a request of another site's page
    /// that [`CrossSite::Anonymous`](crate::CrossSite::Anonymous) lets in without its session.
    ///
    /// # Security
    /// With a store the session is ended for good, in other processes within [`Revocation`](crate::Revocation)'s time.
    /// Without one, or with [`Revocation::Off`](crate::Revocation::Off) for a cookie that holds data, even if its session
    /// has since moved into the store, a copy of the cookie stays valid until it expires. So does a session that is bound to a
    /// device, if the request has no proof of that: a thief could log its owner out. This browser forgets it all the same.
    pub fn destroy(&self) {
        self.if_open("destroy", |state| {
            state.stage = Stage::Destroyed;
            // Nobody is to log in and go on with what a session held that is over: here, or where another process knows what took
            // its place.
            if let Some(besides) = &mut state.besides {
                besides.replaced = None;
                let over = besides.over.take().filter(|_| state.loaded.is_none());
                besides.others.extend(over.map(|over| *over));
            }
            state.entries.clear();
            state.header.subject = None;
            state.header.authenticated_at = Millis::ZERO;
        });
    }

    /// All entries as JSON, for display. Bytes appear as arrays of numbers.
    #[must_use]
    pub fn entries(&self) -> BTreeMap<String, serde_json::Value> {
        self.with(|state| {
            state.entries.iter().map(|(key, bytes)| (key.to_owned(), value::to_json(&bytes))).collect()
        })
    }

    /// The session's id.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.with(State::identify)
    }

    /// What stands for the id in logs: put it into your own log lines to match them with the library's. It is known from
    /// the first request on, before anything is saved; a session that is never saved has no lines but yours.
    /// [`renew`](Self::renew) and [`authenticate`](Self::authenticate) change it at once, and the event `renewed` logs
    /// both.
    #[must_use]
    pub fn log_id(&self) -> LogId {
        self.id().log_id()
    }

    /// Where the session comes from, and if its cookie was refused, why.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.with(|state| state.origin)
    }

    /// The size in bytes of name + value of a cookie with the whole session in it, wherever the session is: compared with
    /// the builder's `spill_above` and the 4,096 of browsers.
    #[must_use]
    pub fn cookie_bytes(&self) -> usize {
        self.with(|state| self.limits().name_value(state.whole_len(self.limits())))
    }

    /// Where its data is kept, or would be if this request ended now, and how large it is. The rest of the response head
    /// may still move it into the store.
    #[must_use]
    pub fn placement(&self) -> Placement {
        let limits = self.limits();
        self.with(|state| {
            if state.header.place == Place::Store || state.outgrows_cookie(limits) {
                Placement::Store { bytes: limits.row_len(state.row_key_len(), state.entries.extent()) }
            } else {
                Placement::Cookie { bytes: limits.name_value(state.plaintext_len(limits)) }
            }
        })
    }

    /// Writes a session that is in the store immediately, instead of with the response, merged with what other requests
    /// have written meanwhile; this request's later changes are applied to the result. A session in its cookie can only
    /// be written with the response, so for it this does nothing, even if it moves into the store then. Nor does it for one that
    /// this request gives another id, by `renew`, a login or another subject: that begins with the response.
    ///
    /// Before that the store is asked about the session's user, if it has one and the last answer is older than
    /// [`Revocation`](crate::Revocation) has it: one more round trip. If this future is dropped, it goes on in a tokio task, for
    /// which the next `save` and the response wait; do not keep it without polling it.
    ///
    /// # Errors
    /// [`CommitError::Ended`] if another request has ended it, or if its user or the key of its cookie has been revoked, as
    /// far as [`Revocation`](crate::Revocation) has it asked; [`CommitError::Conflict`], [`CommitError::Store`]. The session
    /// keeps its changes, but for an increment that a clone made meanwhile, if another request has put there what cannot be
    /// counted: that is dropped, and told as a conflict.
    pub async fn save(&self) -> Result<(), CommitError> {
        Arc::clone(&self.shared.backend).save(self).await
    }

    /// Reads a session that is in the store again and applies this request's own changes to it. What is in its cookie
    /// was read when the request arrived; of such a session this only asks whether it is over, as a request with that cookie
    /// would: a stream has to be opened again by the end of the cookie that it came with. Of one that this request gives another id
    /// it reads nothing.
    ///
    /// After the response, in a websocket or a stream, it makes the session's entries writable again: change them and
    /// [`save`](Self::save). What would have to go into the cookie can no longer be changed.
    ///
    /// # Errors
    /// [`CommitError::Ended`] if another request has ended it, or if its user or the key of its cookie has been revoked, as
    /// far as [`Revocation`](crate::Revocation) has it asked, or if its data is in its cookie and that is over;
    /// [`CommitError::Conflict`] if another request's changes conflict with this one's, or with an increment that a clone has
    /// made meanwhile, which is dropped then; [`CommitError::Store`]. Without a store there is nothing to ask, and never an error.
    pub async fn reload(&self) -> Result<(), CommitError> {
        self.shared.backend.reload(self).await
    }

    /// Runs `f` on a session that is not over; otherwise logs that `method` had no effect.
    fn if_writable<R>(&self, method: &'static str, f: impl FnOnce(&mut State) -> R) -> Option<R> {
        self.if_able(method, State::check_writable, f)
    }

    /// Runs `f` on an open session; otherwise logs that `method` had no effect.
    fn if_open<R>(&self, method: &'static str, f: impl FnOnce(&mut State) -> R) -> Option<R> {
        self.if_able(method, State::check_open, f)
    }

    fn if_able<R>(
        &self,
        method: &'static str,
        check: impl FnOnce(&State) -> Result<(), InsertError>,
        f: impl FnOnce(&mut State) -> R,
    ) -> Option<R> {
        let done = self.with(|state| match check(state) {
            Ok(()) => Ok(f(state)),
            Err(reason) => Err((state.header.id, reason)),
        });
        // Whoever receives the log may ask the session.
        done.map_err(|(id, reason)| no_effect(id, method, &reason)).ok()
    }
}

fn decode<T: DeserializeOwned>(key: &str, encoded: &Encoded) -> Result<T, ValueError> {
    value::decode(encoded.bytes()).map_err(|source| ValueError {
        key: key.to_owned(),
        expected: std::any::type_name::<T>(),
        source,
    })
}

fn no_effect(id: SessionId, method: &'static str, reason: &InsertError) {
    let session = (id != SessionId::NONE).then(|| tracing::field::display(id.log_id()));
    tracing::warn!(target: "sealed_session", session, method, %reason, "session method had no effect");
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with(|state| {
            f.debug_struct("Session")
                .field("id", &state.identify())
                .field("stage", &state.stage)
                .field("origin", &state.origin)
                .field("entries", &state.entries.len())
                .finish_non_exhaustive()
        })
    }
}
