//! `Sessions`: where requests begin and end. `load` turns the request's cookies into a session, `commit` turns the
//! session into the response's cookie.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use crate::candidates::{self, Candidate, Refusal};
use crate::clock::{Clock, Millis};
use crate::cookie::{CookieWriter, Secure};
use crate::entries::Entries;
use crate::envelope::{Draft, Sealer};
use crate::error::{CommitError, InsertError, IssueError, Rejection, StoreError};
use crate::event::Event;
use crate::key::{KeyId, KeyRing};
use crate::lifetime;
use crate::record::{self, Header, SessionId};
use crate::session::{Placement, Session};
use crate::state::{Limits, Loaded, Origin, Reissue, Stage, State};

/// An answer later than this carries no cookie that only prolongs, because a newer one may have been set meanwhile.
const SLOW: Millis = Millis(500);

/// The sessions of an application: loads them from requests and commits them to responses.
///
/// Cheap to clone; clones share everything. Built by [`Sessions::builder`]. Independent of any web framework; for
/// actix-web there is `SessionMiddleware`.
///
/// ```
/// use sealed_session::{CommitContext, Key, KeyRing, Sessions};
///
/// # fn block_on<F: Future>(f: F) -> F::Output {
/// #     let mut f = std::pin::pin!(f);
/// #     let mut context = std::task::Context::from_waker(std::task::Waker::noop());
/// #     loop { if let std::task::Poll::Ready(out) = f.as_mut().poll(&mut context) { return out } }
/// # }
/// # block_on(async {
/// let sessions = Sessions::builder(KeyRing::new(Key::generate())).build()?;
///
/// let session = sessions.load(["other=1"]).await?; // the request's `Cookie` headers
/// session.insert("user", "ada")?;
/// let set_cookie = sessions.commit(&session, CommitContext::default()).await?.unwrap();
/// assert!(set_cookie.starts_with("__Host-Http-session="));
///
/// let cookie = set_cookie.split(';').next().unwrap();
/// let session = sessions.load([cookie]).await?;
/// assert_eq!(session.get::<String>("user")?.as_deref(), Some("ada"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Sessions {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) sealer: Sealer,
    pub(crate) cookie: CookieWriter,
    pub(crate) limits: Limits,
    pub(crate) issue_empty: bool,
    pub(crate) cache_headers: bool,
    pub(crate) clock: Box<dyn Clock>,
    pub(crate) on_event: Option<EventHook>,
}

pub(crate) type EventHook = Box<dyn Fn(&Event) + Send + Sync>;

/// What [`Sessions::commit`] has to know of the response.
#[derive(Debug, Clone, Copy, Default)]
pub struct CommitContext {
    /// The size of the response head without what the session adds. It decides whether a session moves into a store;
    /// without one it is not looked at.
    pub response_head_bytes: usize,
    /// Whether the request came over HTTPS. Only [`Secure::Auto`](crate::Secure::Auto) looks at it.
    pub secure: bool,
}

/// What a cookie says about itself, without its values.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// The session's id.
    pub id: SessionId,
    /// The key that sealed the cookie.
    pub key_id: KeyId,
    /// Whether that key is retired, so that the next request re-seals the session.
    pub retired_key: bool,
    /// How often a cookie of this id has been issued.
    pub counter: u32,
    /// The birth of the session's id.
    pub created_at: OffsetDateTime,
    /// When the cookie was sealed.
    pub sealed_at: OffsetDateTime,
    /// When the session ends if nobody uses it.
    pub expires_at: OffsetDateTime,
    /// The session's own duration, if it has one.
    pub own_duration: Option<Duration>,
    /// The session's own persistence, if it has one.
    pub own_persistence: Option<bool>,
    /// Whose session it is.
    pub subject: Option<String>,
    /// Where the data is, and name + value in bytes.
    pub placement: Placement,
    /// The keys of the entries, in ascending order.
    pub keys: Vec<String>,
}

/// What a response does about the session's cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// Leaves the browser's cookie as it is.
    Keep,
    /// Seals and sets it, for this reason.
    Issue(Reissue),
    /// Makes the browser forget it.
    Remove,
}

impl Sessions {
    pub(crate) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    #[cfg(feature = "actix")]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// The session of a request with these `Cookie` headers: the one that they carry, or else a new one. Nothing in a
    /// cookie is an error; [`Session::origin`] tells why one was refused.
    ///
    /// # Errors
    /// [`StoreError`] if a session is kept in a store that fails. Without a store there is none.
    #[expect(clippy::unused_async, reason = "a store makes it wait")]
    pub async fn load<H: AsRef<[u8]>>(
        &self,
        cookie_headers: impl IntoIterator<Item = H>,
    ) -> Result<Session, StoreError> {
        Ok(self.open(cookie_headers))
    }

    /// Like [`load`](Self::load), as long as there is nothing to wait for.
    pub(crate) fn open<H: AsRef<[u8]>>(&self, cookie_headers: impl IntoIterator<Item = H>) -> Session {
        let Inner { sealer, cookie, limits, .. } = &*self.inner;
        let now = self.now();
        let found = candidates::choose(cookie_headers, cookie.name(), sealer, &limits.terms, now);
        let mut state = match found.outcome {
            Some(Ok(candidate)) => {
                let id = candidate.header.id;
                self.tell(&Event::Resumed { id });
                if found.ambiguous {
                    self.tell(&Event::Ambiguous { id, live: found.live });
                }
                let Candidate { header, entries, due, key_id, by_primary } = candidate;
                State::resumed(Loaded { header, due, key_id, by_primary }, Entries::new(entries), now)
            }
            Some(Err(Refusal { reason, removable })) => {
                self.tell(&Event::Rejected { reason });
                let mut state = State::new(Origin::Rejected(reason), &limits.terms, now);
                state.remove_refused = removable && found.cookies == 1;
                state
            }
            None => State::new(Origin::New, &limits.terms, now),
        };
        state.cookies = found.cookies;
        Session::new(state, *limits)
    }

    /// Ends the session's part in the request. Returns the value of the `Set-Cookie` header to send, if any. The
    /// session can be read afterwards, but not changed; a second commit does nothing.
    ///
    /// With a `Set-Cookie` the response needs `Cache-Control: no-store`, and `Vary: Cookie` whenever the session was
    /// loaded; the actix-web middleware sees to both.
    ///
    /// # Errors
    /// [`CommitError::Foreign`] for a session that another `Sessions` loaded, [`CommitError::Store`].
    #[expect(clippy::unused_async, reason = "a store makes it wait")]
    pub async fn commit(
        &self,
        session: &Session,
        context: CommitContext,
    ) -> Result<Option<String>, CommitError> {
        self.close(session, context)
    }

    /// Like [`commit`](Self::commit), as long as there is nothing to wait for.
    pub(crate) fn close(
        &self,
        session: &Session,
        context: CommitContext,
    ) -> Result<Option<String>, CommitError> {
        if session.limits().home != self.inner.limits.home {
            return Err(CommitError::Foreign);
        }
        // From here on nobody can change the session, so the clock, which may be anything, is asked without the lock.
        let (action, destroyed) = session.with(|state| {
            let action = self.plan(state);
            let stage = std::mem::replace(&mut state.stage, Stage::Committed);
            (action, stage == Stage::Destroyed)
        });
        let (line, events) = match action {
            Action::Keep => return Ok(None),
            Action::Issue(reissue) => {
                let now = self.now();
                session.with(|state| {
                    if reissue == Reissue::Mere && self.is_late(state, now) {
                        return (None, [None, None]);
                    }
                    let (line, bytes) = self.seal(state, now, context.secure);
                    (Some(line), self.issued(state, reissue, bytes))
                })
            }
            Action::Remove => {
                let id = session.with(|state| state.loaded.as_ref().map(|loaded| loaded.header.id));
                (
                    Some(self.inner.cookie.remove(context.secure)),
                    [id.map(|id| Event::Ended { id, destroyed }), None],
                )
            }
        };
        events.iter().flatten().for_each(|event| self.tell(event));
        Ok(line)
    }

    /// What the response has to do. The one place where that is decided.
    fn plan(&self, state: &State) -> Action {
        match state.stage {
            Stage::Committed => return Action::Keep,
            Stage::Destroyed if state.cookies > 0 => return Action::Remove,
            Stage::Destroyed => return Action::Keep,
            Stage::Open => {}
        }
        if state.is_empty() && !self.inner.issue_empty {
            let removes = state.loaded.is_some() || state.remove_refused;
            return if removes { Action::Remove } else { Action::Keep };
        }
        match state.reissue(&self.inner.limits) {
            Reissue::No => Action::Keep,
            reissue => Action::Issue(reissue),
        }
    }

    /// Whether an answer came so late that a newer cookie may have been set meanwhile, and the session can wait for
    /// the next request to be prolonged.
    fn is_late(&self, state: &State, now: Millis) -> bool {
        let terms = &self.inner.limits.terms;
        let (end, _) = lifetime::first_end(&state.header.times, terms, now);
        let spare = Millis(lifetime::active(&state.header.times, terms).0 / 2);
        now.minus(state.now) > SLOW && end.minus(now) > spare
    }

    /// Seals the session at `now`: the whole `Set-Cookie` value, and how many bytes of it are name + value.
    fn seal(&self, state: &mut State, now: Millis, secure: bool) -> (String, usize) {
        let Inner { sealer, cookie, limits, .. } = &*self.inner;
        state.header.times = state.sealed_times(limits, now);
        state.header.counter = state.header.counter.saturating_add(1);
        let plaintext = state.plaintext_len();
        let mut draft = Draft::with_capacity(plaintext);
        record::encode(&state.header, state.entries.len(), state.entries.iter(), draft.plaintext());

        let (end, _) = lifetime::first_end(&state.header.times, &limits.terms, now);
        let persistent = state.header.persistent.unwrap_or(cookie.persistent());
        let max_age = persistent.then(|| lifetime::max_age(end, now));
        let bytes = limits.name_value(plaintext);
        let line = cookie.set(secure, max_age, bytes, |out| sealer.seal(draft, out));
        (line, bytes)
    }

    /// What to tell of a cookie that was issued: at most a change of the session and a change of its key.
    fn issued(&self, state: &State, reissue: Reissue, bytes: usize) -> [Option<Event>; 2] {
        let id = state.header.id;
        let Some(before) = &state.loaded else { return [Some(Event::Started { id, bytes }), None] };
        let change = if before.header.id != id {
            Some(Event::Renewed { from: before.header.id, to: id })
        } else if reissue == Reissue::Wanted {
            Some(Event::Reissued { id, bytes })
        } else {
            state.use_prolongs(&self.inner.limits).then_some(Event::Extended { id })
        };
        let to = self.keys().primary();
        let resealed = (!before.by_primary).then_some(Event::Resealed { id, from: before.key_id, to });
        [change, resealed]
    }

    /// Makes a session outside of a request and returns its cookie as `name=value`: for tests of handlers, and for
    /// logins that happen elsewhere. The closure may return `()` or a `Result`.
    ///
    /// # Errors
    /// [`IssueError`]: what the closure returned, or that it destroyed the session.
    ///
    /// ```
    /// # use sealed_session::{IssueError, Sessions};
    /// async fn cookie_of_ada(sessions: &Sessions) -> Result<String, IssueError> {
    ///     sessions.issue(|session| session.insert("user", "ada")).await
    /// }
    /// ```
    #[expect(clippy::unused_async, reason = "a store makes it wait")]
    pub async fn issue<O: Outcome>(&self, fill: impl FnOnce(&Session) -> O) -> Result<String, IssueError> {
        let now = self.now();
        let session = Session::new(State::new(Origin::New, &self.inner.limits.terms, now), self.inner.limits);
        fill(&session).into_result()?;
        let line = session.with(|state| {
            let stage = std::mem::replace(&mut state.stage, Stage::Committed);
            (stage == Stage::Open).then(|| {
                let (line, bytes) = self.seal(state, now, true);
                (line, self.issued(state, Reissue::Wanted, bytes))
            })
        });
        let (line, events) = line.ok_or(IssueError::Destroyed)?;
        events.iter().flatten().for_each(|event| self.tell(event));
        let pair = line.split_once(';').map_or(line.as_str(), |(pair, _)| pair);
        Ok(pair.to_owned())
    }

    /// What a cookie's value says about itself, now.
    ///
    /// # Errors
    /// The [`Rejection`] that a request with this cookie would meet.
    pub fn inspect(&self, cookie_value: impl AsRef<[u8]>) -> Result<Inspection, Rejection> {
        let now = self.now();
        let value = cookie_value.as_ref();
        let Inner { sealer, limits, .. } = &*self.inner;
        let candidate =
            candidates::judge(value, sealer, &limits.terms, now).map_err(|refusal| refusal.reason)?;
        let Candidate { header, entries, key_id, by_primary, .. } = candidate;
        let Header { id, counter, times, persistent, subject, .. } = header;
        let (end, _) = lifetime::first_end(&times, &limits.terms, now);
        Ok(Inspection {
            id,
            key_id,
            retired_key: !by_primary,
            counter,
            created_at: times.created_at.to_datetime(),
            sealed_at: times.sealed_at.to_datetime(),
            expires_at: end.to_datetime(),
            own_duration: times.own.then(|| times.duration.to_duration()),
            own_persistence: persistent,
            subject: subject.as_deref().map(str::to_owned),
            placement: Placement::Cookie { bytes: limits.name_len + value.len() },
            keys: entries.iter().map(|(key, _)| key.to_owned()).collect(),
        })
    }

    /// The ring that seals and opens; rotate it here.
    #[must_use]
    pub fn keys(&self) -> &KeyRing {
        self.inner.sealer.ring()
    }

    /// For integrations: whether responses are to get `Vary` and `Cache-Control`, as configured.
    #[must_use]
    pub fn cache_headers(&self) -> bool {
        self.inner.cache_headers
    }

    /// For integrations: the configured [`Secure`]. Only for [`Secure::Auto`] does [`CommitContext::secure`] matter.
    #[must_use]
    pub fn secure(&self) -> Secure {
        self.inner.cookie.secure()
    }

    fn now(&self) -> Millis {
        Millis::of(self.inner.clock.now())
    }

    fn tell(&self, event: &Event) {
        tracing::debug!(target: "sealed_session", ?event);
        if let Some(hook) = &self.inner.on_event {
            hook(event);
        }
    }
}

/// What may come out of the closure of [`Sessions::issue`]: `()` or a `Result` of an [`InsertError`].
pub trait Outcome: sealed::Sealed {
    #[doc(hidden)]
    fn into_result(self) -> Result<(), InsertError>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), InsertError> {
        Ok(())
    }
}

impl<T> Outcome for Result<T, InsertError> {
    fn into_result(self) -> Result<(), InsertError> {
        self.map(drop)
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for () {}
    impl<T> Sealed for Result<T, super::InsertError> {}
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("cookie", &self.inner.cookie)
            .field("keys", self.keys())
            .finish_non_exhaustive()
    }
}
