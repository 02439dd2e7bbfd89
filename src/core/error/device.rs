//! Why a device is refused.

use thiserror::Error;

/// Why a browser's registration or proof of a device is refused. The browser learns nothing of it: it is told in the log alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum DeviceRefusal {
    /// The request's cookie is of no live session, so there is nothing to bind.
    #[error("the request has no live session")]
    NoSession,
    /// The session was never offered to a device, or belongs to somebody else since.
    #[error("the session was not offered to a device")]
    NotOffered,
    /// The session is bound already, and no session is ever bound to a second key.
    #[error("the session is bound to a device already")]
    Bound,
    /// The request carries none of the headers that make a registration or a proof.
    #[error("there is no proof in the request")]
    Missing,
    /// A header that may come once came several times.
    #[error("there are several proofs in the request")]
    Duplicate,
    /// Far longer than what browsers send.
    #[error("the proof is far longer than browsers send")]
    TooLong,
    /// No compact JWS of the type `dbsc+jwt`.
    #[error("the proof is no JWS of the type dbsc+jwt")]
    Malformed,
    /// Another algorithm than ES256.
    #[error("the proof is signed by another algorithm than ES256")]
    Algorithm,
    /// No key of P-256 with a registration, or any with a refresh.
    #[error("the proof has no key of P-256 where it must, or one where it must not")]
    Key,
    /// A challenge that was not made here, or for something else.
    #[error("the challenge was not made here, or for something else")]
    Challenge,
    /// A challenge whose time is over.
    #[error("the challenge is over")]
    ChallengeExpired,
    /// A challenge of another session or key.
    #[error("the challenge is of another session or key")]
    OtherSession,
    /// What the browser calls its session is not of the session's key.
    #[error("the browser's session is not the one that the cookie is of")]
    OtherKey,
    /// Not signed by the session's key, or in another encoding than 64 bytes of r and s.
    #[error("the signature is not of this key, or no r and s of 64 bytes")]
    Signature,
}

impl DeviceRefusal {
    /// A short stable word for logs and metrics: the variant in snake case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSession => "no_session",
            Self::NotOffered => "not_offered",
            Self::Bound => "bound",
            Self::Missing => "missing",
            Self::Duplicate => "duplicate",
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::Key => "key",
            Self::Challenge => "challenge",
            Self::ChallengeExpired => "challenge_expired",
            Self::OtherSession => "other_session",
            Self::OtherKey => "other_key",
            Self::Signature => "signature",
        }
    }
}
