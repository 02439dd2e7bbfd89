//! Whose session it is, since when, and under which id.

use std::time::Duration;

use time::OffsetDateTime;

use super::Session;
use crate::core::clock::Millis;
use crate::core::error::InsertError;
use crate::core::record::{Device, DeviceState};

impl Session {
    /// The user has proved who they are just now: call it at each login, and at each re-authentication of the same user.
    /// The session gets a new id and a new birth, and [`authenticated_at`](Self::authenticated_at) is the moment of this
    /// request.
    ///
    /// What an anonymous visitor had in the session stays, and so does what the same user had, an own duration and
    /// persistence included, which count anew; but nothing of a session whose device has not proved itself, which ends. Another user than the one whose session it was begins with an
    /// empty one: the former user's entries, own duration and own persistence are gone, and with them what this request
    /// wrote before, so authenticate first. A session that has been ended meanwhile begins empty too, with what this
    /// request has changed.
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
            let unproven = state.unproven_of(&subject).cloned();
            state.belong_to(subject, self.limits())?;
            if is_another {
                state.header.device = Device::Free;
            }
            if state.loaded.is_none() && unproven.is_some() {
                // It is theirs, and ends with this login as it would have with its device; but nothing of it was loaded.
                state.loaded = unproven;
            }
            state.header.authenticated_at = state.now;
            state.authenticated = true;
            Ok(())
        })
    }

    /// Says whose session this is, where nobody has been authenticated: a user whom the application knows otherwise, or
    /// whom an administrator goes on as. At a login call [`authenticate`](Self::authenticate).
    ///
    /// The subject that is there already changes nothing. Another one implies [`renew`](Self::renew), and that the session
    /// counts as never authenticated; if there was one before, it begins empty, as with `authenticate`. The device that it is bound
    /// to stays: it is the same one.
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

    /// Whose session this is, if [`authenticate`](Self::authenticate) or [`set_subject`](Self::set_subject) said so.
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

    /// Whether the subject was authenticated less than `within` before this request: ask it before what a stolen or
    /// forgotten session must not do, such as changing the e-mail address, and send who is not fresh to authenticate
    /// again (OWASP ASVS 5, 7.5.1 and 7.5.3). What goes on after the response, such as a websocket, is told by this the
    /// moment of its request: compare [`authenticated_at`](Self::authenticated_at) with the clock there.
    #[must_use]
    pub fn is_fresh(&self, within: Duration) -> bool {
        self.with(|state| {
            let at = state.header.authenticated_at;
            at != Millis::ZERO && state.now.minus(at) < Millis::span(within)
        })
    }

    /// Whether the session is bound to the device of its browser. It is told of a session that this request may use: of one whose
    /// device has not proved itself, [`origin`](Self::origin) says `Rejected(Unproven)`, and this that there is none.
    #[must_use]
    pub fn device(&self) -> DeviceState {
        self.with(|state| state.header.device.state())
    }

    /// Gives the session a new id and a new birth, and keeps its data.
    ///
    /// # Security
    /// Call it when a user gains rights, and only then: against session fixation (OWASP ASVS 5, 7.2.4), and because the
    /// absolute limit is counted from the birth. [`authenticate`](Self::authenticate) does it by itself. With a store the old id is ended there; without one, or with
    /// [`Revocation::Off`](crate::Revocation::Off) for a session in a cookie, the old cookie stays valid until it ends.
    pub fn renew(&self) {
        let (subject, since, of) =
            self.with(|state| (state.header.subject.clone(), state.now, state.header.generation));
        let own = subject.and_then(|subject| self.inner.backend.own_generation(&subject, since, of));
        self.if_open("renew", |state| {
            state.renew(&self.limits().terms);
            // "Everywhere but here": whoever revoked the subject's sessions in this request may take this one along.
            state.header.generation = own.unwrap_or(state.header.generation);
        });
    }
}
