//! What errors become on the wire: a status and an empty body. What went wrong goes only to the log.

use actix_web::http::StatusCode;
use actix_web::{Error, HttpResponse, ResponseError};

use crate::core::error::{
    CommitError, CsrfError, InsertError, IssueError, RevokeError, StoreError, TransientError, ValueError,
};
use crate::frameworks::extract::scope_name;
use crate::frameworks::response::{Failure, fail, failure_of, refuse, remove_cookie};
use crate::sessions::scopes::SharedCookie;

/// A handler asks for a session that no middleware provides.
#[derive(Debug, thiserror::Error)]
#[error(
    "a handler asks for the session of scope `{scope}`, but no `SessionMiddleware` provides it; \
     add `.wrap(SessionMiddleware::new(sessions))`, or `SessionMiddleware::scoped` for `Scoped`, to the `App`"
)]
pub(super) struct NotWrapped {
    scope: &'static str,
}

impl NotWrapped {
    /// Logs it at once, because an `Option` of the session would hide it.
    pub(super) fn told<S: 'static>() -> Error {
        told(Self { scope: scope_name::<S>() })
    }
}

/// A mistake of the application, logged before it becomes a response.
pub(super) fn told<E: ResponseError + 'static>(error: E) -> Error {
    tracing::error!(target: "sealed_session", "{error}");
    error.into()
}

impl ResponseError for NotWrapped {
    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status_code())
    }
}

impl ResponseError for SharedCookie {
    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status_code())
    }
}

/// A handler is for logged-in users only, and nobody has logged in.
#[derive(Debug, thiserror::Error)]
#[error("nobody has logged in to this session")]
pub(super) struct NotAuthenticated;

impl ResponseError for NotAuthenticated {
    fn status_code(&self) -> StatusCode {
        StatusCode::UNAUTHORIZED
    }

    /// Nothing went wrong, so nothing is logged.
    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status_code())
    }
}

/// Another site's page asks for a session that is not its own.
#[derive(Debug, thiserror::Error)]
#[error("another site's page made this request, which gets nothing of the session")]
pub(super) struct CrossSiteRequest;

impl ResponseError for CrossSiteRequest {
    fn status_code(&self) -> StatusCode {
        StatusCode::FORBIDDEN
    }

    /// It has been logged already.
    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status_code())
    }
}

impl ResponseError for StoreError {
    fn status_code(&self) -> StatusCode {
        status(Failure::Unavailable)
    }

    fn error_response(&self) -> HttpResponse {
        failure(self, Failure::Unavailable)
    }
}

impl ResponseError for CommitError {
    fn status_code(&self) -> StatusCode {
        status(failure_of(self))
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = failure(self, failure_of(self));
        remove_cookie(self, response.headers_mut());
        response
    }
}

fn kind_of(error: &RevokeError) -> Failure {
    match error {
        RevokeError::Off | RevokeError::Unlisted => Failure::Internal,
        RevokeError::Store(_) => Failure::Unavailable,
    }
}

impl ResponseError for RevokeError {
    fn status_code(&self) -> StatusCode {
        status(kind_of(self))
    }

    fn error_response(&self) -> HttpResponse {
        failure(self, kind_of(self))
    }
}

impl ResponseError for IssueError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Insert(error) => error.status_code(),
            Self::Commit(error) => error.status_code(),
            Self::Destroyed => status(Failure::Internal),
        }
    }

    fn error_response(&self) -> HttpResponse {
        match self {
            Self::Insert(error) => error.error_response(),
            Self::Commit(error) => error.error_response(),
            Self::Destroyed => failure(self, Failure::Internal),
        }
    }
}

impl ResponseError for InsertError {
    fn status_code(&self) -> StatusCode {
        status_unless(matches!(self, Self::CrossSite))
    }

    fn error_response(&self) -> HttpResponse {
        failure_unless(matches!(self, Self::CrossSite), self)
    }
}

impl ResponseError for CsrfError {
    fn status_code(&self) -> StatusCode {
        StatusCode::FORBIDDEN
    }

    fn error_response(&self) -> HttpResponse {
        failure_unless(true, self)
    }
}

impl ResponseError for TransientError {
    fn status_code(&self) -> StatusCode {
        status_unless(matches!(self, Self::CrossSite))
    }

    fn error_response(&self) -> HttpResponse {
        failure_unless(matches!(self, Self::CrossSite), self)
    }
}

impl ResponseError for ValueError {
    fn error_response(&self) -> HttpResponse {
        failure(self, Failure::Internal)
    }
}

fn status(kind: Failure) -> StatusCode {
    kind.pick(StatusCode::INTERNAL_SERVER_ERROR, StatusCode::SERVICE_UNAVAILABLE, StatusCode::FORBIDDEN)
}

fn status_unless(forbidden: bool) -> StatusCode {
    if forbidden { StatusCode::FORBIDDEN } else { status(Failure::Internal) }
}

/// The application's mistake, unless a page did something forbidden.
fn failure_unless(forbidden: bool, error: &dyn std::error::Error) -> HttpResponse {
    if !forbidden {
        return failure(error, Failure::Internal);
    }
    refuse(error);
    HttpResponse::new(StatusCode::FORBIDDEN)
}

fn failure(error: &dyn std::error::Error, kind: Failure) -> HttpResponse {
    let mut response = HttpResponse::new(status(kind));
    fail(error, kind, response.headers_mut());
    response
}
