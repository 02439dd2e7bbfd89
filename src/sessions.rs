//! `Sessions`: where requests begin. `load` turns the request's cookies into a session, and reads its row where they
//! lead into the store.

pub(crate) mod builder;
pub(crate) mod commit;
#[cfg(all(feature = "device-binding", any(feature = "actix", feature = "tower")))]
mod device;
mod fetch;
pub(crate) mod flash;
mod inspect;
mod refuse;
#[cfg(any(feature = "actix", feature = "tower"))]
pub(crate) mod scopes;
pub(crate) mod transient;

use std::fmt;
use std::sync::Arc;
#[cfg(any(feature = "actix", feature = "tower"))]
use std::sync::OnceLock;

use tokio::time::Instant;

#[cfg(all(feature = "device-binding", feature = "tower"))]
pub(crate) use self::device::DeviceAnswer;
#[cfg(all(feature = "device-binding", any(feature = "actix", feature = "tower")))]
pub(crate) use self::device::DeviceRequest;
pub use self::inspect::Inspection;
use crate::core::candidates::{self, Candidate, Found};
use crate::core::clock::{ClockSource, Millis};
use crate::core::cookie::{CookieWriter, Secure};
use crate::core::cross_site::{CrossSite, Foreign, Guard, Head};
use crate::core::device::{Binder, DeviceVerdict};
use crate::core::entries::Entries;
use crate::core::envelope::Sealer;
use crate::core::error::{Rejection, StoreError};
use crate::core::event::{Event, EventSink};
use crate::core::key::KeyRing;
use crate::core::measure::{self, About, Answered, Opened};
use crate::core::record::{Device, Header, Place};
use crate::core::session::{Backend, Session};
use crate::core::short_cookie::ShortCookie;
use crate::core::state::{Besides, Limits, Loaded, Origin, Stage, State};
use crate::store::Store;
use crate::store::revocation::{Revoking, Status};
use crate::store::roster::{Roster, RosterProtocol};
use crate::store::rows::{LiveRow, Rows, Visit};

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
/// let set_cookies = sessions.commit(&session, CommitContext::default()).await?; // a header for each
/// assert!(set_cookies[0].starts_with("__Host-Http-session="));
///
/// let cookie = set_cookies[0].split(';').next().unwrap();
/// let session = sessions.load([cookie]).await?;
/// assert_eq!(session.get::<String>("user")?.as_deref(), Some("ada"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Sessions {
    pub(crate) core: Arc<Core>,
}

pub(crate) struct Core {
    pub(crate) sealer: Sealer,
    pub(crate) cookie: CookieWriter,
    pub(crate) guard: Guard,
    pub(crate) flash: ShortCookie,
    pub(crate) limits: Limits,
    pub(crate) issue_empty: bool,
    pub(crate) cache_headers: bool,
    pub(crate) clock: ClockSource,
    pub(crate) sink: EventSink,
    /// If sessions are bound to devices.
    pub(crate) device: Option<Binder>,
    /// With a store.
    pub(crate) rows: Option<Rows>,
    /// With a store, unless it is off.
    pub(crate) revoking: Option<Revoking>,
    /// Likewise: the lists of subjects' sessions.
    pub(crate) roster: Option<Roster>,
    /// Set where another scope has the same cookie.
    #[cfg(any(feature = "actix", feature = "tower"))]
    pub(crate) shared_cookie: OnceLock<scopes::SharedCookie>,
}

/// A request's session, as far as it is known without waiting.
pub(crate) enum Opening {
    Ready(Session),
    /// The cookie leads into the store, or it is time to ask there whether the session has been revoked.
    Referenced(Box<Chosen>),
}

/// The cookie that was chosen, and how it came.
pub(crate) struct Chosen {
    candidate: Candidate,
    /// The device that has proved itself, to which the session is to be bound.
    proved: Option<Device>,
    brought: Brought,
    live: usize,
    ambiguous: bool,
    now: Millis,
}

/// What else under our name the request brings.
#[derive(Default)]
pub(crate) struct Brought {
    cookies: usize,
    besides: Option<Box<Besides>>,
    by: By,
    /// When the request came, if somebody was there to notice.
    arrived: Option<Instant>,
}

/// Who asks for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum By {
    /// An application that sends cookies and nothing else.
    #[default]
    Itself,
    /// A framework's handler.
    Middleware,
    /// The path that answers browsers about their devices: nobody uses the session.
    Device,
}

/// What [`Sessions::commit`] has to know of the response.
#[derive(Debug, Clone, Copy, Default)]
pub struct CommitContext {
    /// The size of the response head without what the session adds. It decides whether a session moves into a store;
    /// without a store it is ignored.
    pub response_head_bytes: usize,
    /// Whether the request came over HTTPS. Only [`Secure::Auto`](crate::Secure::Auto) looks at it.
    pub secure: bool,
}

impl Core {
    /// The current time, which the ring learns too.
    pub(crate) fn now(&self) -> Millis {
        let now = self.clock.now();
        let ring = self.sealer.ring();
        self.sink.looked(ring, ring.tick(now, self.clock.is_computers()));
        now
    }

    /// The same, where that takes no code of the application.
    fn own_now(&self) -> Option<Millis> {
        self.clock.own().filter(|&now| !self.sealer.ring().has_to_look(now))
    }

    /// The store from now on, if there is one.
    pub(crate) fn visit(&self, now: Millis) -> Option<Visit<'_>> {
        Some(self.rows.as_ref()?.visit(&self.limits, now))
    }

    /// The same, and what ends sessions there, unless that is off.
    pub(crate) fn revoking_at(&self, now: Millis) -> Option<(&Revoking, Visit<'_>)> {
        self.revoking.as_ref().zip(self.visit(now))
    }

    /// The lists of subjects' sessions, if there are any.
    pub(crate) fn roster_at(&self, now: Millis) -> Option<RosterProtocol<'_>> {
        self.roster(self.visit(now)?)
    }

    /// The same, within a visit.
    pub(crate) fn roster<'a>(&'a self, visit: Visit<'a>) -> Option<RosterProtocol<'a>> {
        Some(RosterProtocol { roster: self.roster.as_ref()?, revoking: self.revoking.as_ref()?, visit })
    }

    /// What this process knows of a session; `None`: it is time to ask. Of one that is over: what a login may take up.
    fn known(&self, Loaded { header, key_id, .. }: &Loaded, now: Millis) -> Option<Status> {
        let (Some(revoking), Some(rows)) = (&self.revoking, &self.rows) else { return Some(Status::Alive) };
        match (revoking.status(header.id, header.device.bound().is_some(), now), header.place) {
            (Some(Status::Ended(by)), _) => {
                let by = by.filter(|by| by.place == Place::Cookie);
                // What a login may take up depends on what has been ended since, so that is asked.
                if by.is_none() {
                    measure::question(About::Session, Answered::Memory);
                }
                return Some(Status::Ended(by));
            }
            // Its row is read anyway.
            (_, Place::Store) | (Some(Status::Alive), _) => {}
            (known, Place::Cookie) => return known,
        }
        let subject = header.subject.as_deref().and_then(|subject| rows.sealer.subject_row(*key_id, subject));
        let is_fine = |place| revoking.is_subject_known_revoked(place, header.generation, now) == Some(false);
        if subject.as_ref().is_some_and(|place| !is_fine(place)) {
            return None;
        }
        // What is not known here is asked and counted later.
        if header.place == Place::Cookie {
            measure::question(About::Session, Answered::Memory);
            subject.iter().for_each(|_| measure::question(About::Subject, Answered::Memory));
        }
        Some(Status::Alive)
    }
}

impl Sessions {
    pub(crate) fn new(core: Core) -> Self {
        Self { core: Arc::new(core) }
    }

    #[cfg(any(feature = "actix", feature = "tower"))]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }

    /// The session of a request with these `Cookie` headers: the one that they carry, or else a new one. The content of a
    /// cookie is never an error; [`Session::origin`] says why one was refused.
    ///
    /// # Errors
    /// [`StoreError`] if a session is kept in a store that fails. Without a store it cannot fail.
    pub async fn load<H: AsRef<[u8]>>(
        &self,
        cookie_headers: impl IntoIterator<Item = H>,
    ) -> Result<Session, StoreError> {
        match self.open(cookie_headers) {
            Opening::Ready(session) => Ok(session),
            Opening::Referenced(chosen) => self.fetch(*chosen).await,
        }
    }

    /// Like [`load`](Self::load), as far as possible without waiting.
    pub(crate) fn open<H: AsRef<[u8]>>(&self, cookie_headers: impl IntoIterator<Item = H>) -> Opening {
        let now = self.now();
        self.take(&mut self.find(cookie_headers, now), now, By::Itself)
    }

    /// What there is among the cookies.
    pub(crate) fn find<H: AsRef<[u8]>>(
        &self,
        cookie_headers: impl IntoIterator<Item = H>,
        now: Millis,
    ) -> Found {
        let Core { sealer, cookie, limits, device, .. } = &*self.core;
        let names = (cookie.name(), device.as_ref().map(Binder::proof_name));
        let mut found = candidates::choose(cookie_headers, names, sealer, &limits.terms, now);
        self.core.sink.looked(sealer.ring(), found.reload.take());
        found
    }

    /// The session of what was found.
    fn take(&self, found: &mut Found, now: Millis, by: By) -> Opening {
        let mut verdict = DeviceVerdict::Fine;
        if let (Some(device), Some(Ok(candidate))) = (&self.core.device, &found.outcome) {
            let judge = |header: &Header| device.judge(header, &found.proofs, now);
            verdict = judge(candidate.header());
            if let Some(besides) = &mut found.besides {
                // Nobody may end a session whose device has not proved itself.
                besides.others.retain(|other| !matches!(judge(other), DeviceVerdict::Unproven(_)));
            }
        }
        self.take_as(verdict, found, now, by)
    }

    /// The same, with the device's verdict known. What was found is large, so it is moved no more often than it has to be.
    pub(crate) fn take_as(&self, verdict: DeviceVerdict, found: &mut Found, now: Millis, by: By) -> Opening {
        let arrived = found.arrived;
        let brought = Brought { cookies: found.cookies, besides: found.besides.take(), by, arrived };
        let Some(outcome) = found.outcome.take() else {
            let state = State::new(Origin::New, &self.core.limits.terms, now);
            return Opening::Ready(self.session(state, brought));
        };
        let candidate = match outcome {
            Ok(candidate) => candidate,
            Err(mut refusal) => {
                refusal.removable &= found.cookies == 1;
                return Opening::Ready(self.reject(refusal, brought, now));
            }
        };
        let (live, ambiguous) = (found.live, found.ambiguous);
        let mut chosen = Chosen { candidate, proved: None, brought, live, ambiguous, now };
        match verdict {
            DeviceVerdict::Unproven(key) => return Opening::Ready(self.unproven(chosen, key)),
            DeviceVerdict::Heals(key) => chosen.proved = Some(Device::Bound(key)),
            DeviceVerdict::Fine => {}
        }
        let known = self.core.known(&chosen.candidate.loaded, now);
        let lacks_proof = || self.core.device.is_some() && by != By::Device && chosen.proved.is_none();
        match (known, chosen.candidate.header().place, &self.core.rows) {
            (Some(Status::Bound), ..) if lacks_proof() => Opening::Ready(self.unproven(chosen, None)),
            (Some(Status::Ended(None)), ..) => Opening::Ready(self.refuse(chosen, Rejection::Revoked)),
            (Some(Status::Alive), Place::Cookie, _) => Opening::Ready(self.resume(chosen, None)),
            (_, Place::Store, None) => Opening::Ready(self.refuse(chosen, Rejection::Missing)),
            _ => Opening::Referenced(Box::new(chosen)),
        }
    }

    /// Like [`open`](Self::open), for a request that arrived at this moment and may be another site's; `None`: it is refused.
    #[cfg_attr(not(any(feature = "actix", feature = "tower")), allow(dead_code))]
    pub(crate) fn admit<H: AsRef<[u8]>>(
        &self,
        arrived: Instant,
        head: &impl Head,
        cookie_headers: impl IntoIterator<Item = H>,
    ) -> Option<Opening> {
        let now = self.now();
        let mut found = self.find(cookie_headers, now);
        found.arrived = Some(arrived);
        let Core { limits, guard, .. } = &*self.core;
        let Some(Foreign { reason, origin, host }) = guard.foreign(head) else {
            return Some(self.take(&mut found, now, By::Middleware));
        };
        let named = found
            .outcome
            .and_then(Result::ok)
            .filter(|candidate| !matches!(self.core.known(&candidate.loaded, now), Some(Status::Ended(_))))
            .map(|candidate| candidate.header().id);
        let refused = named.is_some() && guard.policy != CrossSite::Anonymous;
        self.tell(&Event::CrossSite { id: named, refused, reason, origin, host });
        if refused {
            return None;
        }
        let mut state = State::new(Origin::CrossSite, &limits.terms, now);
        state.stage = Stage::Foreign;
        Some(Opening::Ready(self.session(state, Brought::default())))
    }

    fn resume(&self, chosen: Chosen, row: Option<LiveRow>) -> Session {
        let Chosen { candidate, proved, brought, live, ambiguous, now } = chosen;
        let Candidate { mut loaded, entries } = candidate;
        let header = &mut loaded.header;
        let id = header.id;
        if brought.by != By::Device {
            measure::opened(loaded.key_id, Opened::Cookie);
            self.tell(&Event::Resumed { id });
        }
        if ambiguous {
            self.tell(&Event::Ambiguous { id, live });
        }
        let from_pre_spill_cookie = row.is_some() && header.place == Place::Cookie;
        let (seen, entries) = match row {
            // Of a cookie from before the session moved into the store only its owner counts. Only one issued since, by a
            // process that did not know of the move, is newer than the row.
            Some(LiveRow { seen, .. }) if from_pre_spill_cookie && header.counter > seen.counter => {
                (Some(Box::new(seen)), entries)
            }
            Some(LiveRow { seen, entries }) => (Some(Box::new(seen)), Arc::new(entries)),
            None => (None, entries),
        };
        let entries = Entries::new(entries);
        if from_pre_spill_cookie {
            header.place = Place::Store;
        }
        let mut state = State::resumed(loaded, entries, now);
        if let Some(device) = proved {
            state.header.device = device;
        }
        state.row = seen;
        state.from_pre_spill_cookie = from_pre_spill_cookie;
        self.session(state, brought)
    }

    #[inline]
    pub(crate) fn session(&self, mut state: State, brought: Brought) -> Session {
        state.can_offer = brought.by == By::Middleware;
        Brought { cookies: state.cookies, besides: state.besides, arrived: state.arrived, .. } = brought;
        let backend = Arc::clone(&self.core) as Arc<dyn Backend>;
        Session::new(state, backend, self.core.rows.is_some())
    }

    /// The ring that seals and opens; rotate it here.
    #[must_use]
    pub fn keys(&self) -> &KeyRing {
        self.core.sealer.ring()
    }

    /// For integrations: whether responses are to get `Vary` and `Cache-Control`, as configured.
    #[must_use]
    pub fn cache_headers(&self) -> bool {
        self.core.cache_headers
    }

    /// For integrations: the configured [`Secure`]. Only for [`Secure::Auto`] does [`CommitContext::secure`] matter.
    #[must_use]
    pub fn secure(&self) -> Secure {
        self.core.cookie.secure()
    }

    /// For integrations: whether [`CommitContext::response_head_bytes`] is used, as it is with a store.
    #[must_use]
    pub fn counts_response_head(&self) -> bool {
        self.core.rows.is_some()
    }

    /// The store, if there is one.
    #[must_use]
    pub fn store(&self) -> Option<&Arc<dyn Store>> {
        self.core.rows.as_ref().map(|rows| &rows.store)
    }

    pub(crate) fn now(&self) -> Millis {
        self.core.now()
    }

    pub(crate) fn tell(&self, event: &Event) {
        self.core.sink.tell(event);
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("cookie", &self.core.cookie)
            .field("keys", self.keys())
            .finish_non_exhaustive()
    }
}
