//! What can go wrong where sessions are kept, and what comes of it.

use thiserror::Error;

use super::{InsertError, Source, debug_in_full};

/// A store that does not do what it was asked. Each variant carries its cause.
#[derive(Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It cannot be reached. Where the connection broke, whether it acted is unknown.
    #[error("the session store cannot be reached")]
    Unavailable(#[source] Source),
    /// It cannot be used as it is configured: an address, a file or an option is wrong, or the server does not let this user in,
    /// does not let it do what it has to, or lacks the table. It does not pass by itself.
    #[error("the session store cannot be used as it is configured")]
    Misconfigured(#[source] Source),
    /// It did not answer in time; whether it acted is unknown.
    #[error("the session store did not answer in time")]
    Timeout(#[source] Source),
    /// It has no room left.
    #[error("the session store is full")]
    Full(#[source] Source),
    /// It answered with something that it cannot have been given.
    #[error("the session store holds data that cannot be read")]
    Corrupt(#[source] Source),
}

impl StoreError {
    /// A short stable word for logs and metrics: `unavailable`, `misconfigured`, `timeout`, `full` or `corrupt`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Misconfigured(_) => "misconfigured",
            Self::Timeout(_) => "timeout",
            Self::Full(_) => "full",
            Self::Corrupt(_) => "corrupt",
        }
    }

    /// Whether it is unknown if the store acted. Also where it refuses a user: a driver connects again by itself, and what was sent on
    /// the connection before may have been applied.
    pub(crate) fn leaves_open(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Misconfigured(_) | Self::Timeout(_))
    }
}

/// The session could not be saved, so the response must not pretend that it was. Without a store there is but
/// [`Foreign`](Self::Foreign).
#[derive(Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The store failed. After [`StoreError::Timeout`], [`StoreError::Unavailable`] and [`StoreError::Misconfigured`] the change
    /// may have been applied, or may be later; after the others the session is as it was before, but for what had been written by then.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The session was to be ended and the store failed, so it may go on or not. Send this error *with* the cookie, so that at
    /// least this browser forgets the session.
    #[error("the session could not be ended in the store, so copies of its cookie live on; try again")]
    NotEnded {
        /// The values of the `Set-Cookie` headers that remove the cookie.
        set_cookies: Vec<String>,
        /// What the store said.
        source: StoreError,
    },
    /// Other requests changed the session at the same time, and again at each try until `store_timeout`; or their
    /// changes and this request's exclude one another: an `increment` of what is no integer any more, or more than
    /// `max_stored_bytes` together. The client may try again.
    #[error("other requests changed the session at the same time; try again")]
    Conflict,
    /// The session was ended, by another request, or by `revoke_subject`, `revoke` or `end` in this one, so it can be neither
    /// renewed, saved nor reloaded.
    #[error(
        "the session has been ended, so it can be neither saved, renewed nor reloaded; the user has to log in again, unless this \
         request revoked it, after which `renew` has to come"
    )]
    Ended,
    /// The login would give its subject more sessions than [`max_sessions`](crate::SessionsBuilder::max_sessions), and
    /// [`Overflow::Refuse`](crate::Overflow::Refuse) says that it is refused. The session is as it was before.
    #[error("the subject has as many sessions as `max_sessions` permits; one of them has to end first")]
    TooManySessions,
    /// The session was loaded by another [`Sessions`](crate::Sessions).
    #[error("this session belongs to another `Sessions` value; commit it where it was loaded")]
    Foreign,
}

/// Why [`Sessions::revoke`](crate::Sessions::revoke), [`revoke_subject`](crate::Sessions::revoke_subject),
/// [`of`](crate::Sessions::of) or [`end`](crate::Sessions::end) did not do what they say.
#[derive(Error)]
#[non_exhaustive]
pub enum RevokeError {
    /// There is nothing that could end a session.
    #[error(
        "there is no store, or revocation is off, so nothing on the server can list or end a session; add `.store(..)`, and leave out `.revocation(Revocation::Off)`"
    )]
    Off,
    /// There is no list of a subject's sessions.
    #[error("the sessions of subjects are not listed; leave out `.roster(false)`")]
    Unlisted,
    /// The store failed. Some of the sessions may be revoked already, and after a timeout all of them. Try again.
    #[error("the session could not be revoked, or the list of sessions not be read")]
    Store(#[from] StoreError),
}

/// Why [`Sessions::issue`](crate::Sessions::issue) made no cookie.
#[derive(Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The closure's change was refused.
    #[error(transparent)]
    Insert(#[from] InsertError),
    /// The session could not be saved.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The closure destroyed the session.
    #[error("the closure destroyed the session, so there is no cookie to issue")]
    Destroyed,
}

debug_in_full!(StoreError, CommitError, RevokeError, IssueError);
