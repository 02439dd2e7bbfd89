//! A session within one request: what was loaded, what it is now, and what that asks of the response.
//!
//! No method sets a "changed" flag. What has to be done follows from comparing the header and the entries now with
//! those loaded.

mod brought;
mod limits;
mod replaced;

use std::sync::Arc;

use tokio::time::Instant;

pub(crate) use self::brought::{Besides, Loaded, LoadedRow, Unproven};
pub(crate) use self::limits::{Limits, StoreLimits};
pub(crate) use self::replaced::Replaced;
use crate::core::clock::Millis;
use crate::core::csrf::Binding;
use crate::core::entries::Entries;
use crate::core::envelope::RowSealer;
use crate::core::error::{CsrfError, InsertError, Rejection};
use crate::core::key::KeyId;
use crate::core::lifetime::{self, Due, SKEW, Terms};
use crate::core::record::{self, Device, DeviceKey, Header, Place, SessionId, Times};

/// Where a session comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// The request carried no cookie of this name.
    New,
    /// The request's cookie was accepted.
    Resumed,
    /// The request's cookie was refused, and this is a new session.
    Rejected(Rejection),
    /// Another site's page made the request: the session is empty, whatever cookie there was, and cannot be changed
    /// ([`CrossSite`](crate::CrossSite)).
    CrossSite,
}

/// How far a session has come in its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Open,
    Destroyed,
    Committed,
    /// Committed and then reloaded: its entries can be changed, for `save`, but no cookie can be issued any more.
    Detached,
    /// Of another site's request: there is nothing in it, and nothing comes of it.
    Foreign,
}

/// What the handler asked for beside the configured renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewal {
    Auto,
    Skip,
    Touch,
}

/// What becomes of the cookie in the browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CookieStep {
    /// It stays as it is.
    Leave,
    /// It is issued for its times or its key alone, so an answer that is late may leave it out.
    Prolong,
    /// It is issued: its data changes, or the handler asked for it.
    Issue,
    /// The browser forgets it.
    Remove,
}

/// A session's state, reached only through [`Session::with`].
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) stage: Stage,
    pub(crate) header: Header,
    pub(crate) entries: Entries,
    pub(crate) loaded: Option<Box<Loaded>>,
    /// The row that the session was loaded from or last written to, whatever its id is now.
    pub(crate) row: Option<Box<LoadedRow>>,
    pub(crate) origin: Origin,
    /// When the session was asked for.
    pub(crate) now: Millis,
    /// When the request came, if somebody was there to notice.
    pub(crate) arrived: Option<Instant>,
    /// How many cookies of our name the request carried.
    pub(crate) cookies: usize,
    /// What of them is remembered beside the one that was taken. Apart, because there seldom is any.
    pub(crate) besides: Option<Box<Besides>>,
    /// Whether the cookie that led to the row is from before the session moved there.
    pub(crate) from_pre_spill_cookie: bool,
    /// Whether [`save`](crate::Session::save) has written it since, so that the cookie has to follow.
    pub(crate) saved: bool,
    /// Whether the refused cookie is to be removed from the browser.
    pub(crate) remove_refused: bool,
    /// The key of the cookie that was issued without asking the store, so that `loaded` is no longer what the browser has.
    pub(crate) issued_under: Option<KeyId>,
    /// Whether this request authenticated the subject, so that the session is a new one whatever became of the former.
    pub(crate) authenticated: bool,
    /// Whether it is worth a cookie though it holds nothing: something was made of its id.
    pub(crate) kept: bool,
    /// Whether the response has removed its cookie, so that its id is nobody's any more.
    pub(crate) cookie_removed: bool,
    /// Whether the response can carry more than cookies: an offer to bind the session to a device.
    pub(crate) can_offer: bool,
    /// Whether this request says how long the session lasts, so that it is no inheritance.
    pub(crate) sets_duration: bool,
    /// The same of whether browsers keep it when they are closed.
    pub(crate) sets_persistence: bool,
    pub(crate) renewal: Renewal,
}

impl State {
    #[inline]
    pub(crate) fn new(origin: Origin, terms: &Terms, now: Millis) -> Self {
        let header = Header {
            id: SessionId::NONE,
            counter: 0,
            times: lifetime::birth(terms, now),
            persistent: None,
            place: Place::Cookie,
            subject: None,
            generation: 0,
            authenticated_at: Millis::ZERO,
            device: Device::Free,
        };
        Self::of(header, Entries::default(), origin, now)
    }

    #[inline]
    pub(crate) fn resumed(loaded: Box<Loaded>, entries: Entries, now: Millis) -> Self {
        // One that came empty was issued for its id alone, which is still good for something. In a row it was emptied.
        let (header, in_cookie) = (&loaded.header, loaded.header.place == Place::Cookie);
        let kept = in_cookie && entries.is_empty() && header.subject.is_none();
        let mut state = Self::of(header.clone(), entries, Origin::Resumed, now);
        (state.loaded, state.kept) = (Some(loaded), kept);
        state
    }

    /// A session to which nothing has happened yet.
    #[inline]
    fn of(header: Header, entries: Entries, origin: Origin, now: Millis) -> Self {
        Self {
            stage: Stage::Open,
            header,
            entries,
            loaded: None,
            row: None,
            origin,
            now,
            arrived: None,
            cookies: 0,
            besides: None,
            from_pre_spill_cookie: false,
            saved: false,
            remove_refused: false,
            authenticated: false,
            kept: false,
            cookie_removed: false,
            can_offer: false,
            sets_duration: false,
            sets_persistence: false,
            issued_under: None,
            renewal: Renewal::Auto,
        }
    }

    /// The session's id, drawn now if it has none yet: who reads from nothing, as most visitors do, needs none.
    pub(crate) fn identify(&mut self) -> SessionId {
        if self.header.id == SessionId::NONE {
            self.header.id = SessionId::random();
        }
        self.header.id
    }

    /// The session as the browser has it, with the device as this request proved it; `None`: it has none yet, or will have
    /// another.
    pub(crate) fn in_browser(&self) -> Option<Loaded> {
        let mut known = match (self.issued_under, &self.loaded) {
            (Some(key_id), _) => {
                Loaded { header: self.header.clone(), due: None, key_id, retired_key: false }
            }
            (None, Some(loaded)) if !self.is_renewed() => (**loaded).clone(),
            _ => return None,
        };
        known.header.device = self.header.device.clone();
        Some(known)
    }

    /// The other sessions whose cookies the request carries.
    pub(crate) fn others(&self) -> &[Header] {
        self.besides.as_ref().map_or(&[], |besides| &besides.others)
    }

    /// What the session is to be called, if this request says so.
    pub(crate) fn label(&self) -> Option<&str> {
        self.besides.as_ref()?.label.as_deref()
    }

    /// Whether the request's session is bound to a device, and there was no proof of that. It stays in the browser as it is,
    /// whatever the handler does but log in, or out.
    pub(crate) fn is_unproven(&self) -> bool {
        self.origin == Origin::Rejected(Rejection::Unproven) && !self.authenticated
    }

    /// The session of this subject whose device did not prove itself.
    pub(crate) fn unproven_of(&self, subject: &str) -> Option<&Loaded> {
        let unproven = self.besides.as_ref()?.unproven.as_ref()?;
        let of_subject = unproven.session.header.subject.as_deref() == Some(subject);
        of_subject.then_some(&unproven.session)
    }

    /// Whether the browser keeps a cookie that was refused.
    pub(crate) fn leaves_refused(&self) -> bool {
        self.besides.as_ref().is_some_and(|besides| besides.refused.is_some())
    }

    /// The refused cookie that stays in the browser.
    fn refused(&self) -> Option<Binding> {
        self.besides.as_ref()?.refused.clone().map(Binding::Refused)
    }

    /// What a token is of that the browser can bring back: the session, which is issued for it, unless there is nothing in it
    /// and the browser has another cookie that is to stay.
    pub(crate) fn token_binding(&mut self) -> Result<Binding, InsertError> {
        match (self.check_open(), self.refused()) {
            (Ok(()), Some(refused)) if self.is_empty() || self.is_unproven() => return Ok(refused),
            (Ok(()), _) => self.kept = true,
            (Err(InsertError::Committed), _) if self.header.counter > 0 && !self.cookie_removed => {}
            (Err(error), _) => return Err(error),
        }
        Ok(Binding::Session(self.identify()))
    }

    /// What a token may be of that the request brought.
    pub(crate) fn bindings(&self) -> [Binding; 2] {
        let over = self.cookie_removed || self.stage == Stage::Destroyed;
        let id = if over { SessionId::NONE } else { self.header.id };
        [Binding::Session(id), self.refused().unwrap_or(Binding::Session(SessionId::NONE))]
    }

    /// Why a token is none of this session that is well made.
    pub(crate) fn why_no_token(&self) -> CsrfError {
        match self.origin {
            Origin::CrossSite => CsrfError::CrossSite,
            _ if self.stage == Stage::Destroyed || self.is_renewed() => CsrfError::IdChanged,
            Origin::Rejected(reason) => CsrfError::Rejected(reason),
            Origin::New => CsrfError::NoSession,
            Origin::Resumed => CsrfError::OtherSession,
        }
    }

    /// The times that are sealed at `now` if the cookie is issued. A request that skips renewal changes none of them,
    /// also if it writes: polling must not keep a session from becoming idle.
    pub(crate) fn sealed_times(&self, limits: &Limits, now: Millis) -> Times {
        let times = &self.header.times;
        let used = match (self.renewal, self.loaded.as_deref()) {
            (Renewal::Skip, _) => return lifetime::sealed(times, &limits.terms),
            (Renewal::Touch, _) => lifetime::touch(times, self.now),
            (Renewal::Auto, _) if limits.rolling => lifetime::touch(times, self.now),
            (Renewal::Auto, Some(Loaded { header, due: Some(Due::Extend), .. }))
                if header.times == *times =>
            {
                lifetime::extend(times, &limits.terms, self.now)
            }
            (Renewal::Auto, _) => *times,
        };
        lifetime::sealed(&lifetime::reseal(&used, &limits.terms, now), &limits.terms)
    }

    /// What the session asks of its cookie.
    pub(crate) fn cookie_step(&self, limits: &Limits) -> CookieStep {
        let Some(loaded) = &self.loaded else { return CookieStep::Issue };
        // Entries in the store are no part of the cookie.
        let data_changed = self.header.place == Place::Cookie && self.entries.changed();
        if self.header != loaded.header || data_changed || self.renewal == Renewal::Touch {
            CookieStep::Issue
        } else if self.use_prolongs(limits) || self.has_retired_key() {
            CookieStep::Prolong
        } else {
            CookieStep::Leave
        }
    }

    /// Whether this use of the session is written down, for its duration or its idle limit.
    pub(crate) fn use_prolongs(&self, limits: &Limits) -> bool {
        let due = self.loaded.as_ref().is_some_and(|loaded| loaded.due.is_some());
        self.renewal == Renewal::Auto && (due || limits.rolling)
    }

    /// Whether it holds nothing, and nothing was made of its id.
    pub(crate) fn is_empty(&self) -> bool {
        self.header.subject.is_none() && self.entries.is_empty() && !self.kept
    }

    /// When the session ends if this request is its last use.
    pub(crate) fn end(&self, limits: &Limits) -> Millis {
        match self.cookie_step(limits) {
            CookieStep::Leave | CookieStep::Remove => {
                lifetime::end_as_sealed(&self.header.times, &limits.terms, self.now)
            }
            CookieStep::Prolong | CookieStep::Issue => {
                lifetime::first_end(&self.sealed_times(limits, self.now), &limits.terms, self.now).0
            }
        }
    }

    /// Length of what its cookie seals: all of it, or a reference.
    pub(crate) fn plaintext_len(&self, limits: &Limits) -> usize {
        match self.header.place {
            Place::Cookie => self.whole_len(limits),
            Place::Store => limits.reference_len(self.header.subject.as_deref(), &self.header.device),
        }
    }

    /// Length of what its cookie would seal if all of it were in there.
    pub(crate) fn whole_len(&self, limits: &Limits) -> usize {
        limits.encoded_len(self.header.subject.as_deref(), &self.header.device, self.entries.extent())
    }

    /// Whether the session is too large for its cookie, of which the response head is not looked at.
    pub(crate) fn outgrows_cookie(&self, limits: &Limits) -> bool {
        limits.stored.is_some_and(|stored| {
            let size = limits.name_value(self.whole_len(limits));
            let grew = self.entries.changed() || self.is_renewed() || self.loaded.is_none();
            let is_large = match stored.spill_above {
                0 => !self.entries.is_empty(),
                above => size > above,
            };
            size > limits.max_name_value || (grew && is_large)
        })
    }

    /// Whether the session has another id than the one that was loaded.
    pub(crate) fn is_renewed(&self) -> bool {
        self.loaded.as_ref().is_some_and(|loaded| loaded.header.id != self.header.id)
    }

    /// The counter of the cookie in which the session's data came; 0: it came from its row, or in none.
    pub(crate) fn issued(&self) -> u32 {
        let in_cookie = self.from_pre_spill_cookie || self.row.is_none();
        self.loaded.as_ref().filter(|_| in_cookie).map_or(0, |loaded| loaded.header.counter)
    }

    /// Whether the row has to become what the session is.
    pub(crate) fn differs_from_row(&self) -> bool {
        let replaces = |row: &LoadedRow| {
            self.issued() > row.counter || row.device.is_none() && self.header.device.bound().is_some()
        };
        self.entries.changed() || self.row.as_deref().is_some_and(replaces)
    }

    /// Whether this request's proof binds the session to its device.
    pub(crate) fn is_being_bound(&self) -> bool {
        let before = self.loaded.as_ref().filter(|loaded| loaded.header.id == self.header.id);
        self.header.device.bound().is_some()
            && before.is_some_and(|loaded| loaded.header.device.bound().is_none())
    }

    /// Whether that is all that this request changes.
    pub(crate) fn changes_device_alone(&self) -> bool {
        let Some(loaded) = self.loaded.as_ref().filter(|_| self.is_being_bound()) else { return false };
        let otherwise = Header { device: loaded.header.device.clone(), ..self.header.clone() };
        otherwise == loaded.header && !self.entries.changed() && self.renewal != Renewal::Touch
    }

    /// The devices that the request is known to come from: the session's, and that of the one that was loaded.
    pub(crate) fn devices(&self) -> [&Device; 2] {
        let own = &self.header.device;
        [own, self.loaded.as_ref().map_or(own, |loaded| &loaded.header.device)]
    }

    /// Leaves it as it came.
    pub(crate) fn unbind(&mut self) {
        self.header.device =
            self.loaded.as_ref().map(|loaded| loaded.header.device.clone()).unwrap_or_default();
    }

    /// The device that the session's row is to name.
    pub(crate) fn row_device(&self) -> Option<Arc<DeviceKey>> {
        let named = self.row.as_ref().and_then(|row| row.device.as_ref());
        named.or(self.header.device.bound()).cloned()
    }

    /// The size of the row that the session makes.
    pub(crate) fn row_len(&self) -> usize {
        RowSealer::sealed_len(record::encoded_row_len(self.row_key_len(), self.entries.extent()))
    }

    /// Length of the key that it names.
    pub(crate) fn row_key_len(&self) -> usize {
        self.row_device().map_or(0, |key| key.0.len())
    }

    /// Whether a retired key had sealed some of what was loaded.
    pub(crate) fn has_retired_key(&self) -> bool {
        self.loaded.as_ref().is_some_and(|loaded| loaded.retired_key)
            || self.row.as_ref().is_some_and(|row| row.retired_key)
    }

    /// How long a row has to be kept for a cookie with these times: longer than any node takes it for alive.
    pub(crate) fn row_end(&self, limits: &Limits, now: Millis) -> Millis {
        let times = &self.header.times;
        // A clock that was set back since the request came is set right again while the cookie lives.
        lifetime::first_end(times, &limits.terms, now.max(times.anchor)).0.plus(SKEW)
    }

    /// Whether the header can be changed, for which a cookie has to be issued.
    pub(crate) fn check_open(&self) -> Result<(), InsertError> {
        match self.stage {
            Stage::Open => Ok(()),
            Stage::Destroyed => Err(InsertError::Destroyed),
            Stage::Committed | Stage::Detached => Err(InsertError::Committed),
            Stage::Foreign => Err(InsertError::CrossSite),
        }
    }

    /// Whether entries can be changed.
    pub(crate) fn check_writable(&self) -> Result<(), InsertError> {
        if self.stage == Stage::Detached { Ok(()) } else { self.check_open() }
    }

    pub(crate) fn renew(&mut self, terms: &Terms) {
        let own = lifetime::own_duration(&self.header.times, self.now);
        self.header.id = SessionId::random();
        self.header.counter = 0;
        // Decided anew when it is committed.
        self.header.place = Place::Cookie;
        self.header.times = lifetime::birth(terms, self.now);
        if let Some(duration) = own {
            self.header.times.duration = duration;
            self.header.times.own = true;
        }
    }

    /// Makes it this subject's session, under a new id. Another subject than the one that is there gets nothing of that
    /// one's, nor ever will: its entries are those of a session for which none were loaded, so no row comes under them.
    pub(crate) fn belong_to(&mut self, subject: String, limits: &Limits) -> Result<(), InsertError> {
        self.check_open()?;
        if subject.is_empty() {
            return Err(InsertError::EmptySubject);
        }
        let former = self.header.subject.as_deref();
        let is_another = former.is_some_and(|former| former != subject);
        let nothing = Entries::default();
        let entries = if is_another { &nothing } else { &self.entries };
        limits.check_subject(&subject, &self.header.device, entries)?;
        if is_another {
            self.entries = nothing;
            // What the former user wished for, too, and what was said of it before the login.
            (self.sets_duration, self.sets_persistence) = (false, false);
            self.header.times.own = false;
            self.header.persistent = None;
            if let Some(besides) = &mut self.besides {
                besides.label = None;
                // Nothing is left of what was taken up.
                let taken = besides.replaced.take().map(|replaced| replaced.session.header.id);
                self.loaded.take_if(|loaded| Some(loaded.header.id) == taken);
            }
        }
        // The generation stays: the commit asks for that of another subject, and whoever comes back has theirs still.
        self.header.subject = Some(subject.into());
        self.renew(&limits.terms);
        Ok(())
    }

    /// Sets one entry, if the session still fits its place with it.
    pub(crate) fn set(&mut self, key: &str, bytes: Vec<u8>, limits: &Limits) -> Result<(), InsertError> {
        self.check_writable()?;
        let row_key = self.row_key_len();
        let Header { subject, device, .. } = &self.header;
        let present = self.entries.extent();
        self.entries.set_if(key, bytes, |extent| {
            limits.check_extent((subject.as_deref(), device, row_key), extent, present)
        })
    }

    /// Whether the session still fits its place with a value of this length at `key`.
    pub(crate) fn check_fit(&self, key: &str, value_len: usize, limits: &Limits) -> Result<(), InsertError> {
        let row_key = self.row_key_len();
        let Header { subject, device, .. } = &self.header;
        let extent = self.entries.extent_with(key, value_len);
        limits.check_extent((subject.as_deref(), device, row_key), extent, self.entries.extent())
    }
}
