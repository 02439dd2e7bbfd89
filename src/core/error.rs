//! What can go wrong, split by who can act on it.
//!
//! | error | who | when |
//! |---|---|---|
//! | [`KeyError`] | the operator | a key, a key list or a key file is unusable |
//! | [`ConfigError`] | the programmer | `build()` |
//! | [`Rejection`] | nobody; the session starts anew | a cookie is refused |
//! | [`InsertError`], [`ValueError`], [`CsrfError`], [`TransientError`] | the handler | a session method is called |
//! | [`StoreError`], [`CommitError`] | the operator | the store does not answer |
//!
//! `docs/errors.md` lists the messages, what they mean and what helps; a test provokes them and compares.

mod device;
mod forms;
mod keys;
mod store;

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use thiserror::Error;

pub use self::device::DeviceRefusal;
pub use self::forms::{CsrfError, TransientError};
pub use self::keys::KeyError;
pub use self::store::{CommitError, IssueError, RevokeError, StoreError};
use crate::core::browser::MAX_NAME_VALUE_BYTES;

/// The cause of an error, whatever its type.
pub type Source = Box<dyn StdError + Send + Sync>;

/// A contradiction in the configuration, found by `build()`.
#[derive(Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The cookie name is not a token of RFC 6265, section 4.1.1.
    #[error("cookie name {name:?} is not usable: {reason}")]
    Name {
        /// The name given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The name's prefix promises something that another setting breaks (`__Secure-` and `__Host-`: draft RFC 6265bis, section
    /// 4.1.3; `__Http-` and `__Host-Http-`: draft-ietf-httpbis-layered-cookies, section 4.1.3).
    #[error(
        "the prefix {prefix} of cookie name {name:?} makes browsers refuse the cookie unless {needs}; change that setting or the name"
    )]
    Prefix {
        /// The name given.
        name: String,
        /// The prefix that binds.
        prefix: &'static str,
        /// What the prefix asks for.
        needs: &'static str,
    },
    /// `Path` or `Domain` cannot be written into a cookie.
    #[error("cookie {attribute} {value:?} is not usable: {reason}")]
    Attribute {
        /// Which, such as "path" or "domain".
        attribute: &'static str,
        /// The value given.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Browsers refuse this attribute on a cookie that is not always `Secure`.
    #[error("{attribute} needs secure(Secure::Always), but secure is {secure}")]
    NeedsSecure {
        /// The attribute.
        attribute: &'static str,
        /// The setting found.
        secure: &'static str,
    },
    /// A span of time is zero, below a millisecond, or beyond reason.
    #[error("{setting} is {}; it must be from {} to {}{}", span(*value), span(*min), span(*max), instead(setting, *value))]
    OutOfRange {
        /// Which setting.
        setting: &'static str,
        /// The value given.
        value: Duration,
        /// The smallest that is accepted.
        min: Duration,
        /// The largest that is accepted.
        max: Duration,
    },
    /// A number of bytes is too small to work with, or beyond reason.
    #[error("{setting} is {value} bytes; it must be from {min} to {max}")]
    Bytes {
        /// Which setting.
        setting: &'static str,
        /// The value given.
        value: usize,
        /// The smallest that is accepted.
        min: usize,
        /// The largest that is accepted.
        max: usize,
    },
    /// A trusted origin that no browser would send.
    #[error("trusted_origin {value:?} is not usable: {reason}")]
    Origin {
        /// The value given.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A login page that is no path of this origin, or has a query.
    #[error("login path {value:?} is not usable: {reason}")]
    LoginPath {
        /// The value given.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A path for the binding of devices that browsers could not use.
    #[error("device_binding_path {value:?} is not usable: {reason}")]
    DevicePath {
        /// The value given.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A setting that means something only where sessions are bound to devices, and they are not.
    #[error(
        "{setting} is set, but sessions are not bound to devices; add `.device_binding(..)` or leave it out"
    )]
    NeedsDeviceBinding {
        /// Which setting.
        setting: &'static str,
    },
    /// A number is zero, or beyond reason.
    #[error("{setting} is {value}; it must be from {min} to {max}")]
    Count {
        /// Which setting.
        setting: &'static str,
        /// The value given.
        value: usize,
        /// The smallest that is accepted.
        min: usize,
        /// The largest that is accepted.
        max: usize,
    },
    /// A setting that needs the list of a subject's sessions, and another one that there is none.
    #[error(
        "{setting} is set, but `{because}` leaves no list of a subject's sessions; leave one of them out"
    )]
    NeedsRoster {
        /// Which setting.
        setting: &'static str,
        /// The setting that contradicts.
        because: &'static str,
    },
    /// A setting that means something only with a store, and there is none.
    #[error("{setting} is set, but there is no store; add `.store(..)` or leave it out")]
    NeedsStore {
        /// Which setting.
        setting: &'static str,
    },
    /// One span must not be longer than another.
    #[error("{shorter} ({}) must not be longer than {longer} ({})", span(*shorter_value), span(*longer_value))]
    Longer {
        /// The setting that has to be the shorter one.
        shorter: &'static str,
        /// Its value.
        shorter_value: Duration,
        /// The setting that has to be the longer one.
        longer: &'static str,
        /// Its value.
        longer_value: Duration,
    },
}

/// Which limit of its [`Lifetime`](crate::Lifetime) a session reached first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum End {
    /// `duration` after the anchor, which activity moves.
    Duration,
    /// `absolute` after the birth, 30 days by default, which nothing moves.
    Absolute,
    /// `idle` after the last sealing.
    Idle,
    /// What its cookie was given when it was sealed, under limits that have been raised since, or by a node with shorter ones.
    Given,
}

/// Why a cookie was refused. The request goes on with a new session whose
/// [`origin()`](crate::Session::origin) carries this.
///
/// # Security
/// Show users no more than "your session has expired, please log in". The distinction between the other reasons is
/// for logs and alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum Rejection {
    /// Not base64url, of an impossible length, or authentic but not a record of this version.
    #[error("malformed: no sealed value; it was cut off or encoded on the way, or is not ours")]
    Malformed,
    /// Sealed with a suite that this version does not know.
    #[error("unknown suite {0}: a newer version of this library sealed it; was it rolled back?")]
    UnknownSuite(u8),
    /// Sealed under a key that is not in the ring.
    #[error(
        "unknown key {0}: it is not in this ring; do all servers have the same keys, was a new key made at this start, or does \
         another application on this host, on whatever port, use this cookie name?"
    )]
    UnknownKey(crate::KeyId),
    /// Sealed under a key that the ring has revoked.
    #[error("revoked key {0}: the ring refuses what it sealed, and its owner has to log in again")]
    RevokedKey(crate::KeyId),
    /// Altered, or sealed for another cookie name or purpose.
    #[error("tampered: the cipher refuses it; it was altered, or made for another cookie name")]
    Tampered,
    /// Authentic, but past its end. A browser drops a cookie with `Max-Age` at its end by itself; with
    /// `persistent(false)` it goes on sending it, and this is seen.
    #[error("expired: its {0} limit has passed")]
    Expired(End),
    /// Authentic, but born or sealed in the future by more than the permitted clock skew.
    #[error("future: it was born or sealed over 60 s ahead of this clock; set the clocks")]
    Future,
    /// A reference to a row that the store does not have, that cannot be read, or for which no store is configured.
    #[error(
        "missing: the session's row is not in the store, or cannot be read; was it evicted, or is this another store?"
    )]
    Missing,
    /// The session was ended on the server: destroyed, or replaced by `renew`.
    #[error("revoked: the session was ended on the server")]
    Revoked,
    /// Bound to a device that has not proved itself lately, or was to be bound by now and is not
    /// (`DeviceBinding`). The browser proves it by itself before its next request; who has a copy cannot.
    #[error(
        "unproven: its device has not proved itself; a browser does so before its next request, and a copy cannot"
    )]
    Unproven,
}

impl Rejection {
    /// A short stable word for logs, metrics and JSON: `malformed`, `unknown_suite`, `unknown_key`,
    /// `revoked_key`, `tampered`, `expired`, `future`, `missing`, `revoked` or `unproven`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownSuite(_) => "unknown_suite",
            Self::UnknownKey(_) => "unknown_key",
            Self::RevokedKey(_) => "revoked_key",
            Self::Tampered => "tampered",
            Self::Expired(_) => "expired",
            Self::Future => "future",
            Self::Missing => "missing",
            Self::Revoked => "revoked",
            Self::Unproven => "unproven",
        }
    }
}

/// A value that is in the session but cannot be read as the type asked for.
#[derive(Error)]
#[error(
    "session key {key:?} does not hold a readable {expected}; a new field needs `#[serde(default)]`, a renamed one `#[serde(alias = \"old\")]`, another type another key"
)]
pub struct ValueError {
    pub(crate) key: String,
    pub(crate) expected: &'static str,
    pub(crate) source: Source,
}

impl ValueError {
    /// The session key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The Rust type that was asked for.
    #[must_use]
    pub fn expected(&self) -> &'static str {
        self.expected
    }
}

/// A change that the session refuses. It keeps its old value.
#[derive(Error)]
#[non_exhaustive]
pub enum InsertError {
    /// The session would not fit into its place any more: its cookie, or with a store the row there. Of a store's
    /// sessions only the subject has to fit the cookie.
    #[error("{}", too_large(*size, *limit))]
    TooLarge {
        /// What name and value of the cookie would come to, or the row, in bytes.
        size: usize,
        /// The most that is allowed, in bytes.
        limit: usize,
    },
    /// The value cannot be expressed in MessagePack.
    #[error("the value for session key {key:?} cannot be serialized")]
    Encode {
        /// The session key.
        key: String,
        /// What the serializer said.
        source: Source,
    },
    /// The value that is there cannot be read (`update`, `take`).
    #[error(transparent)]
    Value(#[from] ValueError),
    /// `increment` on something that is no integer, or past the range of `i64`.
    #[error("session key {key:?} cannot be incremented: {reason}")]
    NotCountable {
        /// The session key.
        key: String,
        /// What is in the way.
        reason: &'static str,
    },
    /// `set_duration` with a span that is zero or longer than `max_duration`.
    #[error("a session's own duration must be from 1 ms to {} (`max_duration`), not {}", span(*max), span(*duration))]
    Duration {
        /// The span given.
        duration: Duration,
        /// The configured maximum.
        max: Duration,
    },
    /// `authenticate` or `set_subject` with an empty string. To log out, `destroy` the session.
    #[error("a subject must not be empty; to log out call `destroy`")]
    EmptySubject,
    /// `authenticate` or `set_subject` with a string that does not fit the cookie even where that holds nothing else. A
    /// store does not help: the subject is always in the cookie.
    #[error(
        "the subject is too long: with it alone name + value of the cookie would come to {size} bytes, and browsers keep \
         {limit}; use a short id of the user"
    )]
    SubjectTooLong {
        /// What name and value of the cookie would come to, in bytes.
        size: usize,
        /// The most that is allowed, in bytes.
        limit: usize,
    },
    /// The session was destroyed earlier in this request.
    #[error(
        "the session was destroyed in this request, so nothing can be put into it; before a login leave `destroy` out: \
         `authenticate` gives a new id, and begins empty for another user"
    )]
    Destroyed,
    /// Another site's page has made the request, so it may neither begin nor change a session
    /// ([`CrossSite`](crate::CrossSite)). Answered with 403.
    #[error(
        "this request counts as another site's, so it may neither begin nor change a session; if the page is yours, name its origin \
         by `trusted_origin`, or your own where a proxy rewrites `Host`, and use HTTPS or http://localhost; the log's event \
         `cross_site` (level DEBUG) has what was compared"
    )]
    CrossSite,
    /// The response has left already, and this change can no longer reach the browser.
    #[error(
        "the session was committed with the response; change it before the response is made, or, in a stream, after `reload` of a session in the store (`spill_above(0)` puts all there)"
    )]
    Committed,
}

/// What a span of zero was meant to say.
fn instead(setting: &str, value: Duration) -> &'static str {
    match setting {
        "active" if value.is_zero() => "; for a session that use never prolongs call `fixed()`",
        "absolute" if value.is_zero() => {
            "; for a session that nothing but its duration ends call `without_absolute()`"
        }
        "idle" if value.is_zero() => "; for no idle limit leave it out",
        _ => "",
    }
}

fn too_large(size: usize, limit: usize) -> String {
    if limit <= MAX_NAME_VALUE_BYTES {
        format!(
            "name + value of the cookie would come to {size} bytes, and browsers keep {limit}; keep less in the session, \
             or add a `.store(..)`, which takes all but the subject"
        )
    } else {
        format!(
            "the session's row would come to {size} bytes, and `max_stored_bytes` is {limit}; keep less in the session, \
             or raise that"
        )
    }
}

/// A span of time in the largest unit that it is a multiple of.
fn span(span: Duration) -> String {
    let millis = span.as_millis();
    let units = [(86_400_000, "days"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms")];
    let whole = |(unit, _): &(u128, _)| millis > *unit && millis.is_multiple_of(*unit);
    match units.into_iter().find(whole) {
        _ if Duration::from_millis(millis as u64) != span => format!("{span:?}"),
        Some((unit, name)) => format!("{} {name}", millis / unit),
        None => format!("{millis} ms"),
    }
}

/// `Debug` as the message with its causes, because that is what a `main` prints that returns the error, and `unwrap`.
macro_rules! debug_in_full {
    ($($error:ty),+ $(,)?) => {$(
        impl std::fmt::Debug for $error {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&$crate::core::error::in_full(self))
            }
        }
    )+};
}
pub(crate) use debug_in_full;

debug_in_full!(ConfigError, ValueError, InsertError);

/// An error with its causes, in one line.
pub(crate) fn in_full(error: &dyn StdError) -> String {
    let (mut line, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        let text = error.to_string();
        // Some errors tell their cause themselves.
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Duration => "duration",
            Self::Absolute => "absolute",
            Self::Idle => "idle",
            Self::Given => "former",
        })
    }
}
