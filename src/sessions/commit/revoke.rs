//! Ending sessions that are not the request's own.

use super::completion::run_to_completion;
use crate::core::error::RevokeError;
use crate::core::event::Event;
use crate::core::record::SessionId;
use crate::sessions::{Core, Sessions};
use crate::store::revocation::Revoking;
use crate::store::rows::Visit;

impl Sessions {
    /// Ends the session of this id, wherever it is kept: its cookies are no longer accepted, by this `Sessions` and its
    /// clones from now on, by others within [`Revocation`](crate::Revocation)'s time. An id that never existed is no
    /// error.
    ///
    /// It leaves a mark in the store that lasts for `max_duration`, or twice `active` where that is longer, because only
    /// the session's id is known. Once begun this runs to completion, even if this future is dropped: then in a tokio task.
    ///
    /// # Errors
    /// [`RevokeError::Off`] without a store or with [`Revocation::Off`](crate::Revocation::Off);
    /// [`RevokeError::Store`]: try again. After a timeout the mark may have been written, or be written later.
    pub async fn revoke(&self, id: SessionId) -> Result<(), RevokeError> {
        let sessions = self.clone();
        run_to_completion(async move {
            let (revoking, visit) = sessions.core.revoking()?;
            visit.end_by_id(id, revoking).await?;
            sessions.tell(&Event::Revoked { id });
            Ok(())
        })
        .await
    }

    /// Ends all sessions of a subject under this cookie's name, and no other: for this `Sessions` and its clones from now
    /// on, for others within [`Revocation`](crate::Revocation)'s time. With several names, call it on each `Sessions`.
    /// Sessions that begin afterwards are not affected.
    ///
    /// "Log out everywhere but here" is this, and then [`Session::renew`](crate::Session::renew) in the same request.
    /// That session goes on unless it had been revoked itself by then. So does one that another request of this
    /// `Sessions`, already under way, renews afterwards. With [`max_sessions`](crate::SessionsBuilder::max_sessions) a
    /// session whose place a login has taken since is not kept: [`CommitError::Ended`](crate::CommitError::Ended).
    ///
    /// It leaves one small row per key of the ring in the store, for `max_duration`, or twice `active` where that is
    /// longer. Once begun this runs to completion like [`revoke`](Self::revoke).
    ///
    /// # Errors
    /// Like [`revoke`](Self::revoke); after [`RevokeError::Store`] some sessions may have ended. Until it is called again
    /// successfully, others that go on under a retired key may be missing from [`of`](Self::of).
    ///
    /// ```
    /// use sealed_session::{RevokeError, Session, Sessions};
    ///
    /// async fn change_password(sessions: &Sessions, session: &Session) -> Result<(), RevokeError> {
    ///     if let Some(user) = session.subject() {
    ///         sessions.revoke_subject(&user).await?;
    ///         session.renew();
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub async fn revoke_subject(&self, subject: &str) -> Result<(), RevokeError> {
        let (sessions, subject) = (self.clone(), subject.to_owned());
        run_to_completion(async move {
            let (revoking, visit) = sessions.core.revoking()?;
            revoking.replace_generation(visit, &subject).await?;
            sessions.tell(&Event::SubjectRevoked);
            Ok(())
        })
        .await
    }
}

impl Core {
    pub(super) fn revoking(&self) -> Result<(&Revoking, Visit<'_>), RevokeError> {
        self.revoking_at(self.now()).ok_or(RevokeError::Off)
    }
}
