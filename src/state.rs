//! A session within one request: what was loaded, what it is now, and what that asks of the response.
//!
//! No method sets a "changed" flag. What has to be done follows from comparing the header and the entries now with
//! those loaded.

use crate::clock::Millis;
use crate::entries::Entries;
use crate::envelope;
use crate::error::{InsertError, Rejection};
use crate::key::KeyId;
use crate::lifetime::{self, Due, Terms};
use crate::record::{self, Header, Place, SessionId, Times};

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
}

/// What bounds a session, as numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) terms: Terms,
    pub(crate) rolling: bool,
    /// Tells the sessions of one `Sessions` from those of another.
    pub(crate) home: u64,
    /// Length of the cookie's name.
    pub(crate) name_len: usize,
    /// The most that name + value may come to, and the longest plaintext that respects it.
    pub(crate) max_name_value: usize,
    pub(crate) max_plaintext: usize,
}

/// How far a session has come in its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Open,
    Destroyed,
    Committed,
}

/// What the handler asked for beside the configured renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewal {
    Auto,
    Skip,
    Touch,
}

/// What was loaded from the request's cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loaded {
    pub(crate) header: Header,
    pub(crate) due: Option<Due>,
    /// The key that had sealed it.
    pub(crate) key_id: KeyId,
    /// False: that key is retired.
    pub(crate) by_primary: bool,
}

/// Why the cookie has to be issued again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reissue {
    /// It has not.
    No,
    /// Nothing but its times or its key changes, so an answer that is late may leave it out.
    Mere,
    /// Its data changes, or the handler asked for it.
    Wanted,
}

/// A session's state, reached only through [`Session::with`].
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) stage: Stage,
    pub(crate) header: Header,
    pub(crate) entries: Entries,
    pub(crate) loaded: Option<Loaded>,
    pub(crate) origin: Origin,
    /// When the request came.
    pub(crate) now: Millis,
    /// How many cookies of our name the request carried.
    pub(crate) cookies: usize,
    /// Whether the refused cookie is to be removed from the browser.
    pub(crate) remove_refused: bool,
    pub(crate) renewal: Renewal,
}

impl State {
    pub(crate) fn new(origin: Origin, terms: &Terms, now: Millis) -> Self {
        let header = Header {
            id: SessionId::random(),
            counter: 0,
            times: lifetime::birth(terms, now),
            persistent: None,
            place: Place::Cookie,
            subject: None,
            generation: 0,
        };
        Self {
            stage: Stage::Open,
            header,
            entries: Entries::default(),
            loaded: None,
            origin,
            now,
            cookies: 0,
            remove_refused: false,
            renewal: Renewal::Auto,
        }
    }

    pub(crate) fn resumed(loaded: Loaded, entries: Entries, now: Millis) -> Self {
        Self {
            stage: Stage::Open,
            header: loaded.header.clone(),
            entries,
            loaded: Some(loaded),
            origin: Origin::Resumed,
            now,
            cookies: 0,
            remove_refused: false,
            renewal: Renewal::Auto,
        }
    }

    /// The times that are sealed at `now` if the cookie is issued. A request that skips renewal changes none of them,
    /// also if it writes: polling must not keep a session from becoming idle.
    pub(crate) fn sealed_times(&self, limits: &Limits, now: Millis) -> Times {
        let times = &self.header.times;
        let used = match (self.renewal, &self.loaded) {
            (Renewal::Skip, _) => return *times,
            (Renewal::Touch, _) => lifetime::touch(times, self.now),
            (Renewal::Auto, _) if limits.rolling => lifetime::touch(times, self.now),
            (Renewal::Auto, Some(Loaded { header, due: Some(Due::Extend), .. }))
                if header.times == *times =>
            {
                lifetime::extend(times, &limits.terms, self.now)
            }
            (Renewal::Auto, _) => *times,
        };
        lifetime::reseal(&used, &limits.terms, now)
    }

    pub(crate) fn reissue(&self, limits: &Limits) -> Reissue {
        let Some(loaded) = &self.loaded else { return Reissue::Wanted };
        let changed = self.header != loaded.header || self.entries.changed();
        if changed || self.renewal == Renewal::Touch {
            Reissue::Wanted
        } else if self.use_prolongs(limits) || !loaded.by_primary {
            Reissue::Mere
        } else {
            Reissue::No
        }
    }

    /// Whether this use of the session is written down, for its duration or its idle limit.
    pub(crate) fn use_prolongs(&self, limits: &Limits) -> bool {
        let due = self.loaded.as_ref().is_some_and(|loaded| loaded.due.is_some());
        self.renewal == Renewal::Auto && (due || limits.rolling)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.header.subject.is_none() && self.entries.is_empty()
    }

    /// When the session ends if this request is its last use.
    pub(crate) fn end(&self, limits: &Limits) -> Millis {
        let times = match self.reissue(limits) {
            Reissue::No => self.header.times,
            Reissue::Mere | Reissue::Wanted => self.sealed_times(limits, self.now),
        };
        lifetime::first_end(&times, &limits.terms, self.now).0
    }

    pub(crate) fn plaintext_len(&self) -> usize {
        record::encoded_len(self.header.subject.as_deref(), self.entries.iter())
    }

    pub(crate) fn check_open(&self) -> Result<(), InsertError> {
        match self.stage {
            Stage::Open => Ok(()),
            Stage::Destroyed => Err(InsertError::Destroyed),
            Stage::Committed => Err(InsertError::Committed),
        }
    }

    pub(crate) fn renew(&mut self, terms: &Terms) {
        let own = self.header.times.own.then_some(self.header.times.duration);
        self.header.id = SessionId::random();
        self.header.counter = 0;
        self.header.times = lifetime::birth(terms, self.now);
        if let Some(duration) = own {
            self.header.times.duration = duration;
            self.header.times.own = true;
        }
    }

    /// Sets one entry, if the session still fits its cookie with it.
    pub(crate) fn set(&mut self, key: &str, bytes: Vec<u8>, limits: &Limits) -> Result<(), InsertError> {
        self.check_open()?;
        self.check_fit(key, &bytes, limits)?;
        self.entries.set(key, bytes);
        Ok(())
    }

    pub(crate) fn check_fit(&self, key: &str, bytes: &[u8], limits: &Limits) -> Result<(), InsertError> {
        let others = self.entries.iter().filter(|(other, _)| *other != key);
        let with = others.chain([(key, bytes.into())]);
        limits.check(record::encoded_len(self.header.subject.as_deref(), with))
    }
}

impl Limits {
    pub(crate) fn check(&self, plaintext: usize) -> Result<(), InsertError> {
        if plaintext <= self.max_plaintext {
            return Ok(());
        }
        Err(InsertError::TooLarge { size: self.name_value(plaintext), limit: self.max_name_value })
    }

    pub(crate) fn name_value(&self, plaintext: usize) -> usize {
        self.name_len + envelope::sealed_len(plaintext)
    }
}
