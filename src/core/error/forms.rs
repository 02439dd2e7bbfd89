//! What can be wrong with tokens for forms, transient cookies and flash messages.

use thiserror::Error;

use super::{Rejection, Source, debug_in_full};

/// A CSRF token that is none of this session's. Answered with 403.
#[derive(Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CsrfError {
    /// Of another length or alphabet than tokens are.
    #[error(
        "this is no CSRF token, which has 48 characters of base64url; does the form send back what `csrf_token` gave it?"
    )]
    Malformed,
    /// Made under a key that the ring does not have, or has revoked.
    #[error(
        "the CSRF token was made under key {0}, which opens nothing here; do all servers have the same keys?"
    )]
    UnknownKey(crate::KeyId),
    /// The request brought no session's cookie.
    #[error(
        "the request brought no session's cookie, so its CSRF token is of no session; over plain HTTP some clients drop `Secure` ones"
    )]
    NoSession,
    /// The cookie was refused for this reason.
    #[error("the session's cookie was refused ({}), and the CSRF token is not of this one; load the page again", .0.as_str())]
    Rejected(Rejection),
    /// This request has changed the session's id, or ended it.
    #[error(
        "this request has changed the session's id, so no CSRF token from before is of it; verify the token first"
    )]
    IdChanged,
    /// Another site's page has made the request, as the [guard](crate::CrossSite) has it.
    #[error(
        "another site's page made this request, so its CSRF token is of no session; see the guide `cross_site`"
    )]
    CrossSite,
    /// Of another session, or of this one before its id changed.
    #[error(
        "the CSRF token is not of this session: its page is from before a login or logout, or of another user; load the page again"
    )]
    OtherSession,
}

/// A value or a flash message that the browser cannot be given.
#[derive(Error)]
#[non_exhaustive]
pub enum TransientError {
    /// Name and value would come to more than such a cookie may have, which leaves room for the session's.
    #[error(
        "name + value of the cookie would come to {size} bytes, and {limit} are allowed; keep less in it"
    )]
    TooLarge {
        /// What name and value would come to, in bytes.
        size: usize,
        /// The most that is allowed, in bytes.
        limit: usize,
    },
    /// The value cannot be expressed in MessagePack.
    #[error("the value cannot be serialized")]
    Encode {
        /// What the serializer said.
        source: Source,
    },
    /// What is to stand behind the cookie's name cannot.
    #[error("suffix {suffix:?} is not usable; it must be 1 to 64 characters of A-Z a-z 0-9 - _")]
    Suffix {
        /// The suffix given.
        suffix: String,
    },
    /// Another site's page has made the request, so it leaves no message. Answered with 403.
    #[error("another site's page made this request, so it leaves no flash message")]
    CrossSite,
    /// The response has left already.
    #[error(
        "the response has left, so no flash message goes with it any more; leave it before the response is made"
    )]
    Committed,
}

debug_in_full!(CsrfError, TransientError);
