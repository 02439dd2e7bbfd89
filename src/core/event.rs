//! What happens to sessions, reported to the log, to metrics, and to the hook that `on_event` sets.

mod sentence;
mod sink;

pub(crate) use self::sink::EventSink;
use crate::core::cross_site::CrossSiteReason;
use crate::core::error::{DeviceRefusal, Rejection};
use crate::core::key::KeyId;
use crate::core::record::SessionId;

/// Something that happened to a session, reported once.
///
/// # Logs
/// Each event is a `tracing` event of the target `sealed_session` with these stable fields: `event` is
/// [`as_str`](Self::as_str), `session` the [`LogId`](crate::LogId), `former` the one before a renewal, `reason` a word,
/// `bytes` a size, `key` a key id, `operation` and `error` what the store was asked and what it answered, `origin` and
/// `host` those of a request that was refused as another site's. The level is `WARN` for what somebody should look into,
/// `INFO` for new keys, and `DEBUG` for the rest. What may be anybody's is `WARN` once a minute for each reason: a cookie of
/// an unknown key or of a revoked one, and a request that counts as another site's because of plain HTTP or a missing
/// `Origin`. The message is `Display`, a sentence for people. Waiting for the store happens in the spans `session.load` and `session.commit` of
/// that target, which also have the field `session`. Values, keys, subjects and ids are never logged. A hook that logs an
/// event with `{:?}` does not log ids either.
///
/// # Metrics
/// With the feature `metrics`, events are counted and more is measured through the `metrics` facade: `docs/metrics.md`
/// lists all names.
///
/// ```
/// use sealed_session::{Event, Key, KeyRing, Sessions};
///
/// let sessions = Sessions::builder(KeyRing::new(Key::generate()))
///     .on_event(|event| {
///         if let Event::Rejected { reason, .. } = event {
///             eprintln!("session cookie refused: {reason}");
///         }
///     })
///     .build()?;
/// # Ok::<(), sealed_session::ConfigError>(())
/// ```
///
/// Further events may come; what one of them has does not change. Those of devices belong to the feature `device-binding`, which is
/// experimental.
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
    /// A request's cookie was refused. If several were, the one that passed the most checks is reported.
    Rejected {
        /// The session, if the cookie is authentic: with [`Rejection::Expired`], [`Future`](Rejection::Future),
        /// [`Missing`](Rejection::Missing), [`Revoked`](Rejection::Revoked) and [`Unproven`](Rejection::Unproven).
        id: Option<SessionId>,
        /// Why.
        reason: Rejection,
    },
    /// Another site's page made a request that asks for the session and may change something. Reported once per request.
    CrossSite {
        /// The session that its cookie names, if there is one.
        id: Option<SessionId>,
        /// Whether it was answered with 403. Otherwise it got an empty session, which it cannot change.
        refused: bool,
        /// Why it counts as another site's.
        reason: CrossSiteReason,
        /// The beginning of its `Origin`, if it has one. Anybody can write anything there.
        origin: Option<String>,
        /// The host that it is addressed to, likewise.
        host: Option<String>,
    },
    /// A request carried several live cookies with different session ids; the newest was taken.
    Ambiguous {
        /// The session that was taken.
        id: SessionId,
        /// How many live cookies there were.
        live: usize,
    },
    /// The session's cookie was re-issued with changed data, or by `touch`.
    Reissued {
        /// The session.
        id: SessionId,
        /// Name + value of its cookie in bytes.
        bytes: usize,
    },
    /// Use prolonged the session, and its cookie was re-issued.
    Extended {
        /// The session.
        id: SessionId,
    },
    /// A session that a retired key had sealed was re-sealed under the primary.
    Resealed {
        /// The session.
        id: SessionId,
        /// The key that had sealed it.
        from: KeyId,
        /// The key that seals it now.
        to: KeyId,
    },
    /// The session got a new id and a new birth. A login does this too, and is reported after it.
    Renewed {
        /// Its former id.
        from: SessionId,
        /// Its id now.
        to: SessionId,
    },
    /// [`authenticate`](crate::Session::authenticate) took effect: the session has its cookie.
    Authenticated {
        /// The session, by its new id.
        id: SessionId,
        /// Whether the session already was this subject's, who has authenticated again. Otherwise it is a login.
        again: bool,
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
    /// The session moved from the store back into its cookie, by `renew`. Reported after [`Renewed`](Self::Renewed).
    Returned {
        /// The session, by its new id.
        id: SessionId,
        /// Name + value of its cookie in bytes.
        bytes: usize,
    },
    /// A session was over, or gone from the store, when what a request had changed was to be saved. The changes are lost too,
    /// and the response carried no cookie.
    Lost {
        /// The session.
        id: SessionId,
        /// [`Rejection::Missing`], [`Rejection::Revoked`], [`Rejection::Expired`] if the response came after its end, or
        /// [`Rejection::Unproven`] if it was bound to another device meanwhile; in a stream also [`Rejection::RevokedKey`].
        reason: Rejection,
    },
    /// Other requests changed the session in the store at the same time, and again at each retry, or their changes
    /// conflict with this request's. Answered with 503.
    Conflicted {
        /// The session.
        id: SessionId,
    },
    /// Not even the reference to the store fits the budget of the response head, which was therefore exceeded.
    HeadOverBudget {
        /// The session.
        id: SessionId,
        /// The size of the response head in bytes, at most.
        bytes: usize,
        /// The configured `response_head_budget`, less `response_head_reserve`.
        budget: usize,
    },
    /// The store failed. The cost varies: reading the session, writing it, or only an extension that the next request
    /// makes up for.
    StoreFailed {
        /// `load`, `write`, `extend` or `delete`.
        operation: &'static str,
        /// `unavailable`, `misconfigured`, `timeout`, `full` or `corrupt`.
        kind: &'static str,
        /// The error with its causes.
        error: String,
    },
    /// The store did not say whether the session has been revoked, and it was used all the same, as
    /// [`FailurePolicy::Open`](crate::FailurePolicy::Open) permits.
    Unconfirmed {
        /// The session.
        id: SessionId,
    },
    /// The session was ended because its subject began another, exceeding
    /// [`max_sessions`](crate::SessionsBuilder::max_sessions) with [`Overflow::EndOldest`](crate::Overflow::EndOldest).
    Displaced {
        /// The session that ended.
        id: SessionId,
    },
    /// A login was refused, because its subject has as many sessions as
    /// [`max_sessions`](crate::SessionsBuilder::max_sessions) permits, with [`Overflow::Refuse`](crate::Overflow::Refuse).
    LoginRefused {
        /// The session of the request, if there was one; it stays as it was.
        id: Option<SessionId>,
    },
    /// [`Sessions::revoke`](crate::Sessions::revoke) or [`Sessions::end`](crate::Sessions::end) ended the session.
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
    /// The ring's file or source cannot be read; the ring keeps using the keys that it has. Reported at each check.
    KeysFailed {
        /// The error with its causes.
        error: String,
    },
    /// A login asked the browser to bind the session to its device (`DeviceBinding`). Most browsers cannot do this yet.
    DeviceOffered {
        /// The session.
        id: SessionId,
    },
    /// A device has proved itself, and its browser got a proof.
    DeviceProved {
        /// The session.
        id: SessionId,
        /// Whether it was the first time, with a new key.
        registered: bool,
    },
    /// The session's cookie contains its device's key: from now on it is valid only with a proof.
    DeviceBound {
        /// The session.
        id: SessionId,
    },
    /// A browser's registration or proof of a device was refused.
    DeviceRefused {
        /// The session, if there is one.
        id: Option<SessionId>,
        /// Why.
        reason: DeviceRefusal,
    },
    /// The session was destroyed, or became empty, and its cookie was removed from the browser.
    Ended {
        /// The session.
        id: SessionId,
        /// True for `destroy`, false for a session that became empty.
        destroyed: bool,
    },
}

impl Event {
    /// A short stable word for logs and metrics: the variant in snake case, such as `started` or `store_failed`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Resumed { .. } => "resumed",
            Self::Rejected { .. } => "rejected",
            Self::CrossSite { .. } => "cross_site",
            Self::Ambiguous { .. } => "ambiguous",
            Self::Reissued { .. } => "reissued",
            Self::Extended { .. } => "extended",
            Self::Resealed { .. } => "resealed",
            Self::Renewed { .. } => "renewed",
            Self::Authenticated { .. } => "authenticated",
            Self::Spilled { .. } => "spilled",
            Self::Written { .. } => "written",
            Self::Returned { .. } => "returned",
            Self::Lost { .. } => "lost",
            Self::Conflicted { .. } => "conflicted",
            Self::HeadOverBudget { .. } => "head_over_budget",
            Self::StoreFailed { .. } => "store_failed",
            Self::Unconfirmed { .. } => "unconfirmed",
            Self::Displaced { .. } => "displaced",
            Self::LoginRefused { .. } => "login_refused",
            Self::Revoked { .. } => "revoked",
            Self::SubjectRevoked => "subject_revoked",
            Self::KeysReloaded { .. } => "keys_reloaded",
            Self::KeysFailed { .. } => "keys_failed",
            Self::DeviceOffered { .. } => "device_offered",
            Self::DeviceProved { .. } => "device_proved",
            Self::DeviceBound { .. } => "device_bound",
            Self::DeviceRefused { .. } => "device_refused",
            Self::Ended { .. } => "ended",
        }
    }

    /// Whether somebody should look into it.
    fn is_warning(&self) -> bool {
        match self {
            Self::StoreFailed { .. }
            | Self::Lost { .. }
            | Self::Conflicted { .. }
            | Self::Unconfirmed { .. }
            | Self::CrossSite { refused: true, .. }
            | Self::HeadOverBudget { .. }
            | Self::KeysFailed { .. } => true,
            Self::Rejected { reason, .. } => *reason == Rejection::Missing,
            Self::DeviceRefused { reason, .. } => *reason == DeviceRefusal::Signature,
            _ => false,
        }
    }

    /// Whether somebody should look into it if it is not just anybody's cookie or request, which may name any key.
    fn may_be_anybodys(&self) -> bool {
        matches!(
            self,
            Self::Rejected { reason: Rejection::UnknownKey(_) | Rejection::RevokedKey(_), .. }
                | Self::CrossSite { reason: CrossSiteReason::PlainHttp | CrossSiteReason::Unnamed, .. }
        )
    }

    /// The session that the event is about.
    fn session(&self) -> Option<SessionId> {
        match *self {
            Self::Started { id, .. }
            | Self::Resumed { id }
            | Self::Ambiguous { id, .. }
            | Self::Reissued { id, .. }
            | Self::Extended { id }
            | Self::Resealed { id, .. }
            | Self::Renewed { to: id, .. }
            | Self::Authenticated { id, .. }
            | Self::Spilled { id, .. }
            | Self::Written { id, .. }
            | Self::Returned { id, .. }
            | Self::Lost { id, .. }
            | Self::Conflicted { id }
            | Self::HeadOverBudget { id, .. }
            | Self::Unconfirmed { id }
            | Self::Displaced { id }
            | Self::Revoked { id }
            | Self::DeviceOffered { id }
            | Self::DeviceProved { id, .. }
            | Self::DeviceBound { id }
            | Self::Ended { id, .. } => Some(id),
            Self::Rejected { id, .. }
            | Self::CrossSite { id, .. }
            | Self::LoginRefused { id }
            | Self::DeviceRefused { id, .. } => id,
            Self::StoreFailed { .. }
            | Self::SubjectRevoked
            | Self::KeysReloaded { .. }
            | Self::KeysFailed { .. } => None,
        }
    }

    /// The session's former id.
    fn former(&self) -> Option<SessionId> {
        match *self {
            Self::Renewed { from, .. } => Some(from),
            _ => None,
        }
    }

    /// What distinguishes events of one kind: why, or where.
    fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Rejected { reason, .. } | Self::Lost { reason, .. } => Some(reason.as_str()),
            Self::StoreFailed { kind, .. } => Some(kind),
            Self::CrossSite { refused, .. } => Some(if *refused { "refused" } else { "anonymous" }),
            Self::Authenticated { again, .. } => Some(if *again { "again" } else { "login" }),
            Self::DeviceProved { registered, .. } => {
                Some(if *registered { "registration" } else { "refresh" })
            }
            Self::DeviceRefused { reason, .. } => Some(reason.as_str()),
            Self::Ended { destroyed, .. } => Some(if *destroyed { "destroyed" } else { "emptied" }),
            _ => None,
        }
    }

    fn bytes(&self) -> Option<usize> {
        match *self {
            Self::Started { bytes, .. }
            | Self::Reissued { bytes, .. }
            | Self::Spilled { bytes, .. }
            | Self::Written { bytes, .. }
            | Self::Returned { bytes, .. }
            | Self::HeadOverBudget { bytes, .. } => Some(bytes),
            _ => None,
        }
    }

    fn key(&self) -> Option<KeyId> {
        match *self {
            Self::Rejected { reason: Rejection::UnknownKey(key) | Rejection::RevokedKey(key), .. } => {
                Some(key)
            }
            Self::Resealed { to: key, .. } | Self::KeysReloaded { primary: key } => Some(key),
            _ => None,
        }
    }

    fn origin(&self) -> (Option<&str>, Option<&str>) {
        match self {
            Self::CrossSite { origin, host, .. } => (origin.as_deref(), host.as_deref()),
            _ => (None, None),
        }
    }

    fn error(&self) -> Option<&str> {
        match self {
            Self::StoreFailed { error, .. } | Self::KeysFailed { error } => Some(error),
            _ => None,
        }
    }
}
