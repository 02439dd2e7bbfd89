//! What happens to sessions, told to the hook that `on_event` sets.

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
    /// The session was destroyed, or became empty, and its cookie was removed from the browser.
    Ended {
        /// The session.
        id: SessionId,
        /// True for `destroy`, false for a session that became empty.
        destroyed: bool,
    },
}
