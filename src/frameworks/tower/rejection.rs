//! Why there is no session, and how an extractor responds.

use http::{Response, StatusCode};

use super::failure;
use crate::core::error::StoreError;
use crate::frameworks::response::Failure;

/// Why an extractor, or [`SessionExt`](super::SessionExt), has no session to give. As a response each has an empty body.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SessionRejection {
    /// No layer provides the session; answered with 500. The log names the scope.
    #[error(
        "a handler or a guard asks for a session, but no `SessionLayer` stands around it; \
         `.layer(SessionLayer::new(sessions))`, or `SessionLayer::scoped` for `Scoped`, goes to the `Router` last"
    )]
    NotLayered,
    /// Two scopes have the same cookie, so that they would be one session; answered with 500. The log names both.
    #[error(
        "two scopes have the same cookie, and so would be one session; give one of them a name of its own by `cookie_name`"
    )]
    SharedCookie,
    /// The session is in a store that fails; answered with 503 and `Retry-After`.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another site's page made the request, which gets nothing of the session
    /// ([`CrossSite`](crate::CrossSite)); answered with 403.
    #[error("another site's page made this request, which gets nothing of the session")]
    CrossSite,
    /// The session has no subject, and the handler asks for its [`Subject`](super::Subject); answered with 401.
    #[error("nobody has logged in to this session")]
    NotAuthenticated,
}

crate::core::error::debug_in_full!(SessionRejection);

impl SessionRejection {
    /// The status that it is answered with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotLayered | Self::SharedCookie => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::CrossSite => StatusCode::FORBIDDEN,
            Self::NotAuthenticated => StatusCode::UNAUTHORIZED,
        }
    }

    /// Its response, with an empty body; what went wrong goes only to the log. On axum `into_response` does the same.
    #[must_use]
    pub fn to_response<B: Default>(&self) -> Response<B> {
        match self {
            Self::Store(error) => failure(error, Failure::Unavailable),
            // A missing login need not be logged, and the others have been.
            Self::NotLayered | Self::SharedCookie | Self::CrossSite | Self::NotAuthenticated => {
                let mut response = Response::new(B::default());
                *response.status_mut() = self.status();
                response
            }
        }
    }
}
