//! Whose session it is, since when, and under which id.

use std::time::Duration;

use time::OffsetDateTime;

use super::Session;
use crate::core::clock::Millis;
use crate::core::error::InsertError;
use crate::core::record::{Device, DeviceState};

impl Session {
    /// Records that the user has just proved who they are: call it at each login, and at each re-authentication of the
    /// same user. The session gets a new id and a new birth, and [`authenticated_at`](Self::authenticated_at) is the
    /// moment of this request.
    ///
    /// An anonymous visitor's data stays in the session, and so does the same user's, including a duration and
    /// persistence of its own, which count anew. Nothing stays of a session whose device has not proved itself; it ends if it is this user's.
    /// A different user begins with an empty session: the former user's entries, own duration and own persistence are
    /// gone, and so is what this request wrote before, so authenticate first. A session that has been ended meanwhile
    /// begins empty too, and lasts as configured, but with what this request has set; unless what ended it was a login as the same subject, which happens where a
    /// form is sent twice, or the first answer was lost. Then the second has what its request had loaded, or what its cookie holds,
    /// and from this call on the handler sees it; of what was in the store, only a request that began before the first one's end.
    ///
    /// # Errors
    /// [`InsertError::EmptySubject`], [`InsertError::SubjectTooLong`], [`InsertError::TooLarge`], [`InsertError::Destroyed`],
    /// [`InsertError::Committed`], [`InsertError::CrossSite`]. The session stays as it was.
    ///
    /// # Security
    /// A new id at each authentication is what OWASP ASVS 5 asks for in 7.2.4, against session fixation. The former id is
    /// ended like that of [`renew`](Self::renew).
    ///
    /// ```
    /// # use sealed_session::{InsertError, Session};
    /// use std::time::Duration;
    ///
    /// fn logged_in(session: &Session, user: &str) -> Result<(), InsertError> {
    ///     session.authenticate(user)?;
    ///     assert!(session.is_fresh(Duration::from_secs(300)));
    ///     session.insert("theme", "dark")
    /// }
    /// ```
    pub fn authenticate(&self, subject: impl Into<String>) -> Result<(), InsertError> {
        let subject = subject.into();
        self.with(|state| {
            let is_another = state.header.subject.as_deref().is_some_and(|former| former != subject);
            let unproven = state.unproven_of(&subject).cloned().map(Box::new);
            match state.with_replaced(&subject, self.limits()) {
                Some(mut whole) => {
                    whole.belong_to(subject, self.limits())?;
                    *state = whole;
                }
                None => state.belong_to(subject, self.limits())?,
            }
            if is_another {
                state.header.device = Device::Free;
            }
            if state.loaded.is_none() && unproven.is_some() {
                // The session is theirs, so this login ends it, as it would if the device had proved itself; but nothing
                // of it was loaded.
                state.loaded = unproven;
            }
            // 0 is never.
            state.header.authenticated_at = state.now.max(Millis(1));
            state.authenticated = true;
            Ok(())
        })
    }

    /// Sets whose session this is without an authentication: a user whom the application knows by other means, or whom an
    /// administrator impersonates. At a login call [`authenticate`](Self::authenticate).
    ///
    /// Setting the same subject again changes nothing. A different one implies [`renew`](Self::renew), and the session
    /// counts as never authenticated; if it had a subject before, it begins empty, as with `authenticate`. It stays bound
    /// to its device, which is the same.
    ///
    /// # Errors
    /// [`InsertError::EmptySubject`], [`InsertError::SubjectTooLong`], [`InsertError::TooLarge`], [`InsertError::Destroyed`],
    /// [`InsertError::Committed`], [`InsertError::CrossSite`]. The session stays as it was.
    pub fn set_subject(&self, subject: impl Into<String>) -> Result<(), InsertError> {
        let subject: String = subject.into();
        self.with(|state| {
            state.check_open()?;
            if state.header.subject.as_deref() == Some(subject.as_str()) {
                return Ok(());
            }
            state.belong_to(subject, self.limits())?;
            state.header.authenticated_at = Millis::ZERO;
            state.authenticated = false;
            Ok(())
        })
    }

    /// Whose session this is, if [`authenticate`](Self::authenticate) or [`set_subject`](Self::set_subject) has set it.
    #[must_use]
    pub fn subject(&self) -> Option<String> {
        self.with(|state| state.header.subject.as_deref().map(str::to_owned))
    }

    /// When the subject was last authenticated in this session, by [`authenticate`](Self::authenticate); `None`: never.
    /// [`renew`](Self::renew) keeps it.
    #[must_use]
    pub fn authenticated_at(&self) -> Option<OffsetDateTime> {
        let at = self.with(|state| state.header.authenticated_at);
        (at != Millis::ZERO).then(|| at.to_datetime())
    }

    /// Whether the subject was authenticated less than `within` before this request: check it before anything that a
    /// stolen or forgotten session must not do, such as changing the e-mail address, and have users who are not fresh
    /// authenticate again (OWASP ASVS 5, 7.5.1 and 7.5.3). After the response, as in a websocket, this still goes by the
    /// time of the request: compare [`authenticated_at`](Self::authenticated_at) with the clock there.
    #[must_use]
    pub fn is_fresh(&self, within: Duration) -> bool {
        self.with(|state| {
            let at = state.header.authenticated_at;
            at != Millis::ZERO && state.now.minus(at) < Millis::span(within)
        })
    }

    /// Whether the session is bound to its browser's device, if this request may use it: while the device has not proved
    /// itself, [`origin`](Self::origin) is `Rejected(Unproven)`, and this says that there is none.
    #[must_use]
    pub fn device(&self) -> DeviceState {
        self.with(|state| state.header.device.state())
    }

    /// Gives the session a new id and a new birth, and keeps its data. Once the response has left it does nothing, and the log
    /// says so.
    ///
    /// # Security
    /// Call it when, and only when, a user gains rights: against session fixation (OWASP ASVS 5, 7.2.4), and because the
    /// absolute limit is counted from the birth. [`authenticate`](Self::authenticate) already does it. With a store the
    /// old id is ended there; without one, or with [`Revocation::Off`](crate::Revocation::Off) for a session in a cookie,
    /// the old cookie stays valid until it expires.
    pub fn renew(&self) {
        let (subject, since, of, opener) = self.with(|state| {
            let opener = state.loaded.as_ref().map(|loaded| loaded.key_id);
            (state.header.subject.clone(), state.now, state.header.generation, opener)
        });
        let own = subject.and_then(|subject| self.shared.backend.own_generation(&subject, since, of, opener));
        self.if_open("renew", |state| {
            state.renew(&self.limits().terms);
            // "Everywhere but here": a request that revoked the subject's sessions may keep this one.
            state.header.generation = own.unwrap_or(state.header.generation);
        });
    }
}
