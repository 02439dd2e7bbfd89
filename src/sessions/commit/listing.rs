//! The sessions of a subject, listed and ended one by one.

use super::completion::run_to_completion;
use crate::core::error::RevokeError;
use crate::core::event::Event;
use crate::core::session::Session;
use crate::sessions::{Core, Sessions};
use crate::store::roster::{RosterProtocol, SessionSummary};

impl Sessions {
    /// The sessions of a subject under this cookie's name, the most recently used first: "where am I logged in?".
    /// Sessions in cookies are included. The request's own is the one with its [`handle`](crate::Session::handle).
    ///
    /// It costs a round trip for the list and one for the subject, each repeated for every other key of the ring, and one
    /// per session, 32 at a time. At most the 1,000 most recently used sessions are listed. A line is lost if the store
    /// fails in that moment; it comes back when its session is used in another hour. A session that use has prolonged may
    /// still be listed after it is over, for as long as one use prolongs it, and at most an hour.
    ///
    /// # Errors
    /// [`RevokeError::Off`] without a store or with [`Revocation::Off`](crate::Revocation::Off), [`RevokeError::Unlisted`]
    /// with [`roster(false)`](crate::SessionsBuilder::roster), [`RevokeError::Store`].
    ///
    /// ```
    /// use sealed_session::{RevokeError, Session, Sessions};
    ///
    /// async fn my_devices(sessions: &Sessions, session: &Session) -> Result<Vec<String>, RevokeError> {
    ///     let Some(user) = session.subject() else { return Ok(Vec::new()) };
    ///     let listed = sessions.of(&user).await?;
    ///     let line = |device: &sealed_session::SessionSummary| {
    ///         let name = device.label.as_deref().unwrap_or("some browser"); // to be escaped in HTML
    ///         let here = session.handle().as_ref() == Some(&device.handle);
    ///         format!("{name}, last used {}{}", device.seen_at, if here { " (this one)" } else { "" })
    ///     };
    ///     Ok(listed.iter().map(line).collect())
    /// }
    /// ```
    pub async fn of(&self, subject: &str) -> Result<Vec<SessionSummary>, RevokeError> {
        let roster = self.core.listing()?;
        let lines = roster.list(subject).await?;
        Ok(lines.iter().map(|line| roster.summary(subject, line)).collect())
    }

    /// Ends the subject's session with this handle: for this `Sessions` and its clones from now on, for others within
    /// [`Revocation`](crate::Revocation)'s time. Returns false if no listed session has it, or what had it was over
    /// already, as far as its row and its subject's generation say, and ends it all the same: list anew, since a login or `renew`
    /// may have given the session another handle. If its line was lost, it goes
    /// on, and [`revoke_subject`](Self::revoke_subject) ends it with all the others.
    ///
    /// The handle may come from a form: it can end only this subject's sessions, so take the subject from the session,
    /// and never from the request. Once begun this runs to completion like [`revoke`](Self::revoke), and leaves the same
    /// mark.
    ///
    /// # Errors
    /// Like [`of`](Self::of); after [`RevokeError::Store`] the session may have ended.
    pub async fn end(&self, subject: &str, handle: &str) -> Result<bool, RevokeError> {
        let (sessions, subject, handle) = (self.clone(), subject.to_owned(), handle.to_owned());
        run_to_completion(async move {
            let roster = sessions.core.listing()?;
            let Some((id, goes_on)) = roster.find(&subject, &handle).await? else { return Ok(false) };
            let ended = roster.visit.anew().end_by_id(id, roster.revoking).await? && goes_on;
            if ended {
                sessions.tell(&Event::Revoked { id });
            }
            // The session is over. A leftover line goes when somebody looks.
            let _ = roster.anew().remove(&subject, &[id]).await;
            Ok(ended)
        })
        .await
    }
}

impl Sessions {
    /// Whether a login of the subject in this session would be accepted: false only with
    /// [`max_sessions`](crate::SessionsBuilder::max_sessions) and [`Overflow::Refuse`](crate::Overflow::Refuse), if the
    /// subject has as many sessions in use as it may have and this is not one of them. Ask before `authenticate`, to show
    /// a page instead of the login's 403; another login may still come first.
    ///
    /// # Errors
    /// Like [`of`](Self::of).
    pub async fn has_room(&self, subject: &str, session: &Session) -> Result<bool, RevokeError> {
        let own = session.with(|state| match state.unproven_of(subject) {
            Some(unproven) => unproven.header.id,
            None => state.header.id,
        });
        Ok(self.core.listing()?.has_room(subject, own).await?)
    }
}

impl Core {
    fn listing(&self) -> Result<RosterProtocol<'_>, RevokeError> {
        let (_, visit) = self.revoking()?;
        self.roster(visit).ok_or(RevokeError::Unlisted)
    }
}
