//! What happens to sessions, told to the hook that `on_event` sets.

use std::fmt;
use std::sync::Arc;

use crate::error::Rejection;
use crate::key::KeyId;
use crate::record::SessionId;

/// Something that happened to a session, told once.
///
/// ```
/// use sealed_session::{Event, Key, KeyRing, Sessions};
///
/// let sessions = Sessions::builder(KeyRing::new(Key::generate()))
///     .on_event(|event| {
///         if let Event::Rejected { reason } = event {
///             eprintln!("session cookie refused: {reason}");
///         }
///     })
///     .build()?;
/// # Ok::<(), sealed_session::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A new session got its first cookie.
    Started {
        /// The session.
        id: SessionId,
        /// Name + value of its cookie in bytes.
        bytes: usize,
    },
    /// A request's cookie was accepted.
    Resumed {
        /// The session.
        id: SessionId,
    },
    /// A request's cookie was refused. Of several that were, the one that came furthest is told.
    Rejected {
        /// Why.
        reason: Rejection,
    },
    /// A request carried several live cookies with different session ids; the newest was taken.
    Ambiguous {
        /// The session that was taken.
        id: SessionId,
        /// How many live cookies there were.
        live: usize,
    },
    /// The session's cookie was issued again with other data, or by `touch`.
    Reissued {
        /// The session.
        id: SessionId,
        /// Name + value of its cookie in bytes.
        bytes: usize,
    },
    /// Use prolonged the session, and its cookie was issued again.
    Extended {
        /// The session.
        id: SessionId,
    },
    /// A session that a retired key had sealed was sealed under the primary.
    Resealed {
        /// The session.
        id: SessionId,
        /// The key that had sealed it.
        from: KeyId,
        /// The key that seals it now.
        to: KeyId,
    },
    /// The session got a new id and a new birth.
    Renewed {
        /// Its former id.
        from: SessionId,
        /// Its id now.
        to: SessionId,
    },
    /// The session moved from its cookie into the store, or started there.
    Spilled {
        /// The session.
        id: SessionId,
        /// The size of its row in bytes.
        bytes: usize,
    },
    /// The entries of a session in the store were written.
    Written {
        /// The session.
        id: SessionId,
        /// The size of its row in bytes.
        bytes: usize,
    },
    /// The session moved from the store back into its cookie, by `renew`. Told after [`Renewed`](Self::Renewed).
    Returned {
        /// The session, by its new id.
        id: SessionId,
        /// Name + value of its cookie in bytes.
        bytes: usize,
    },
    /// A session in the store was gone, or had been ended by another request, when it was to be written. The changes
    /// are lost with it, and the response carried no cookie.
    Lost {
        /// The session.
        id: SessionId,
        /// [`Rejection::Missing`] or [`Rejection::Revoked`].
        reason: Rejection,
    },
    /// Other requests changed the session in the store at the same time, and again at each try, or their changes and
    /// this request's exclude one another. Answered with 503.
    Conflicted {
        /// The session.
        id: SessionId,
    },
    /// Not even the reference to the store fits the budget of the response head, so it was sent over it.
    HeadOverBudget {
        /// The session.
        id: SessionId,
        /// What the response head comes to in bytes, at most.
        bytes: usize,
        /// The configured `response_head_budget`.
        budget: usize,
    },
    /// The store failed. What that cost is another matter: reading the session, writing it, or nothing but an
    /// extension that the next request makes up for.
    StoreFailed {
        /// `load`, `write`, `extend` or `delete`.
        operation: &'static str,
        /// `unavailable`, `timeout`, `full` or `corrupt`.
        kind: &'static str,
        /// The error with its causes.
        error: String,
    },
    /// The store did not say whether the session has been revoked, and it was used all the same, as
    /// [`FailurePolicy::Open`](crate::FailurePolicy::Open) has it.
    Unconfirmed {
        /// The session.
        id: SessionId,
    },
    /// [`Sessions::revoke`](crate::Sessions::revoke) ended the session.
    Revoked {
        /// The session.
        id: SessionId,
    },
    /// [`Sessions::revoke_subject`](crate::Sessions::revoke_subject) ended all sessions of a subject.
    SubjectRevoked,
    /// The ring's file or source had changed, and its keys are used from now on.
    KeysReloaded {
        /// The key that seals now.
        primary: KeyId,
    },
    /// The ring's file or source cannot be read; the ring goes on with the keys that it has. Told at each look.
    KeysFailed {
        /// The error with its causes.
        error: String,
    },
    /// The session was destroyed, or became empty, and its cookie was removed from the browser.
    Ended {
        /// The session.
        id: SessionId,
        /// True for `destroy`, false for a session that became empty.
        destroyed: bool,
    },
}

/// Tells events to the log and to the hook.
#[derive(Clone, Default)]
pub(crate) struct Teller(pub(crate) Option<EventHook>);

pub(crate) type EventHook = Arc<dyn Fn(&Event) + Send + Sync>;

impl Teller {
    pub(crate) fn tell(&self, event: &Event) {
        match event {
            Event::StoreFailed { .. }
            | Event::Lost { .. }
            | Event::Conflicted { .. }
            | Event::Unconfirmed { .. }
            | Event::KeysFailed { .. } => {
                tracing::warn!(target: "sealed_session", ?event);
            }
            _ => tracing::debug!(target: "sealed_session", ?event),
        }
        if let Some(hook) = &self.0 {
            hook(event);
        }
    }
}

impl fmt::Debug for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Teller({})", if self.0.is_some() { "hook" } else { "no hook" })
    }
}
